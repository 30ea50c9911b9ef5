"""A reward model from whole rankings.

    python -m training.recipes.reward RUN_DIR

Paper: InstructGPT (arXiv:2203.02155), equation 1: Bradley-Terry over all pairs of a ranking, each completion encoded once;
or Plackett-Luce over the whole order (losses.py).
Departures: annotators' weights; a tie is half a win for each side (or left out); Llama 2's centre term
(arXiv:2312.09244, equation 2) keeps scores near zero; the trained scores are scaled to mean 0 and standard deviation 1.

With `watchdog` two models learn from disjoint halves of the prompts (docs/training.md, 'The watchdog').

On TRL's RewardTrainer, overriding `_prepare_dataset` and `_set_signature_columns_if_needed` (private) and `compute_loss`.
Shapes: N completions of a batch's rankings, T tokens, P pairs.
"""

import hashlib
import json
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed
from trl import RewardConfig, RewardTrainer

from training.recipes.arguments import RewardArguments
from training.recipes.data import load_rankings
from training.recipes.listwise import RankingCollator, WholeRankings, agreement, bradley_terry, pair_metrics
from training.recipes.losses import plackett_luce
from training.recipes.models import load_tokenizer, lora, make_reward_model
from training.recipes.packing import model_inputs, sharing
from training.recipes.run_folder import RunFailed, RunFolder, main
from training.recipes.training import RunEvents, configure, prefixed, save_checkpoint, train

WATCHDOG = "watchdog"  # the name of the second result
FEW = 100  # rankings in a half, under which a note warns


class ListwiseRewardTrainer(WholeRankings, RewardTrainer):
    def __init__(self, *args: Any, loss_type: str = "bradley_terry", **kwargs: Any) -> None:
        self.listwise_loss = {"bradley_terry": bradley_terry, "plackett_luce": plackett_luce}[loss_type]
        super().__init__(*args, **kwargs)

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = ["ids", "prompt_length", "ranks", "weight"]

    def compute_loss(
        self,
        model: PreTrainedModel,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> Any:
        scores_N = self.scores(model, inputs)
        loss = self.listwise_loss(scores_N, inputs)
        if self.args.center_rewards_coefficient:
            sums_P = scores_N[inputs["winners"]] + scores_N[inputs["losers"]]
            loss = loss + self.args.center_rewards_coefficient * (inputs["weights"] * sums_P**2).sum()
        metrics = self._metrics["train" if self.model.training else "eval"]
        for name, value in pair_metrics(scores_N, inputs).items():
            metrics[name].append(value)
        metrics["mean_reward"].append(scores_N.mean().item())
        return (loss, {"scores": scores_N}) if return_outputs else loss

    def scores(self, model: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """One score per completion: the head's output at its last token, (N,)."""
        places = {"places": (inputs["row"], inputs["end"])} if "end" in inputs else {}
        scores_N1 = model(**model_inputs(inputs), use_cache=False, **places).logits
        scores_N: torch.Tensor = scores_N1.squeeze(-1).float()
        return scores_N

    def score_all(self, dataset: Dataset) -> list[list[float]]:
        """The scores of each ranking's completions, in the dataset's order."""
        return self.of_all(dataset, self.scores)


def reward(folder: RunFolder, arguments: RewardArguments) -> None:
    # Data: whole rankings; with a watchdog in two halves that have no prompt in common
    tokenizer = load_tokenizer(folder, folder.model())
    training, held_out = load_rankings(folder, tokenizer, arguments.max_length, arguments.ties)
    halves = split_in_halves(folder, training) if arguments.watchdog else {"": training}

    # Train a model on each, one after the other: a resumed attempt finds the first one's last save and passes it by
    metrics: dict[str, dict[str, Any]] = {}
    scores: dict[str, list[list[float]]] = {}
    steps = 0
    for output, rankings in halves.items():
        to_come = 0 if output or not arguments.watchdog else len(halves[WATCHDOG]) / len(rankings)
        events = RunEvents(folder, before=steps, after=to_come, prefix=f"{output}/" if output else "")
        metrics[output], scores[output], taken = train_one(
            folder, arguments, tokenizer, rankings, held_out, events, output
        )
        steps += taken
    if arguments.watchdog and len(held_out):
        alike = agreement(scores[""], [order_of(one) for one in scores[WATCHDOG]], held_out["prompt_id"])
        metrics[""] |= (
            {f"eval_watchdog_agreement{name}": value for name, value in alike.share().items()} if alike else {}
        )

    # Save what was measured
    outputs = {output: found for output, found in metrics.items() if output}
    folder.save_result(metrics[""], is_adapter=arguments.use_peft, **({"outputs": outputs} if outputs else {}))


def split_in_halves(folder: RunFolder, training: Dataset) -> dict[str, Dataset]:
    """{"": what the reward model learns from, "watchdog": the rest}. A prompt is on the same side whatever else there is, so a
    watchdog has seen none of the rankings that any reward model of the project learned from.

    Raises RunFailed when one of the halves is empty.
    """
    sides: dict[str, list[int]] = {"": [], WATCHDOG: []}
    for at, prompt in enumerate(training["prompt_id"]):
        sides[side_of(prompt)].append(at)
    fewest = min(map(len, sides.values()))
    if not fewest:
        raise RunFailed(
            "no_data",
            "There are too few rankings for two halves: all of their prompts fall into one. Rank more prompts.",
        )
    if fewest < FEW:
        folder.note(
            f"Only {len(sides[''])} rankings teach the reward model and {len(sides[WATCHDOG])} the watchdog. With so few, "
            "both may be wrong more often than they tell."
        )
    return {output: training.select(chosen) for output, chosen in sides.items()}


def side_of(prompt: str) -> str:
    """By a hash with a salt of its own: the split into training and held-out prompts goes by another."""
    return WATCHDOG if hashlib.sha256(f"watchdog {prompt}".encode()).digest()[0] % 2 else ""


def order_of(scores: list[float]) -> list[int]:
    """Ranks by score, 1 for the highest; equal scores share theirs."""
    return [1 + sum(other > one for other in scores) for one in scores]


def train_one(
    folder: RunFolder,
    arguments: RewardArguments,
    tokenizer: PreTrainedTokenizerBase,
    training: Dataset,
    held_out: Dataset,
    events: RunEvents,
    output: str,
) -> tuple[dict[str, Any], list[list[float]], int]:
    """Trains, measures and saves one model; gives its metrics, its scores of the held-out rankings and the steps it took."""
    # Model: the policy's body with a scalar head; the watchdog's begins elsewhere
    set_seed(arguments.seed + bool(output))
    model = make_reward_model(folder.model())
    breadth = sharing(folder, model, arguments.max_length) if arguments.share_prompts else None

    # Train
    saves = folder.trainer / output
    trainer = ListwiseRewardTrainer(
        model,
        args=configure(RewardConfig, folder, arguments, held_out, output_dir=saves),
        data_collator=RankingCollator(tokenizer.pad_token_id, arguments.ties, breadth),
        train_dataset=training,
        eval_dataset=held_out if len(held_out) else None,
        processing_class=tokenizer,
        peft_config=lora(arguments, "SEQ_CLS"),
        loss_type=arguments.loss_type,
    )
    train(trainer, folder, events)

    # Measure, and scale the scores to mean 0 and standard deviation 1 on the training completions
    train_scores, test_scores = trainer.score_all(training), trainer.score_all(held_out)
    metrics: dict[str, Any] = {}
    for prefix, dataset, scores in (("train", training, train_scores), ("eval", held_out, test_scores)):
        agreed = agreement(scores, dataset["ranks"], dataset["prompt_id"]) if len(dataset) else None
        metrics |= agreed.metrics(prefix) if agreed else {}
    flat = torch.tensor([score for ranking in train_scores for score in ranking], dtype=torch.float64)
    mean, deviation = flat.mean().item(), max(flat.std().item(), 1e-8)
    scale_scores(trainer.model, deviation)
    metrics |= {"score_mean_before": mean, "score_deviation_before": deviation}

    # Save; an attempt that passes this model by has said the rest before
    steps = trainer.state.global_step
    if not folder.checkpoint(output).is_dir():
        folder.event("metrics", step=events.before + steps, metrics=prefixed(events.prefix, metrics))
    save_checkpoint(trainer, folder, {"score.json": json.dumps({"mean": mean / deviation})}, output)
    return metrics, test_scores, steps


def scale_scores(model: PreTrainedModel | PeftModel, deviation: float) -> None:
    """Divides all scores by `deviation`, exactly: the head is linear and has no bias."""
    for name, parameter in model.named_parameters():
        if "score" in name.split(".") and parameter.requires_grad:
            parameter.data /= deviation


if __name__ == "__main__":
    main("reward", reward)
