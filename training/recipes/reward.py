"""A reward model from whole rankings.

    python -m training.recipes.reward RUN_DIR

Paper: InstructGPT (arXiv:2203.02155), equation 1: Bradley-Terry over all pairs of a ranking, each completion encoded once;
or Plackett-Luce over the whole order (losses.py).
Departures: annotators' weights; a tie is half a win for each side (or left out); Llama 2's centre term
(arXiv:2312.09244, equation 2) keeps scores near zero; the trained scores are scaled to mean 0 and standard deviation 1.

On TRL's RewardTrainer, overriding `_prepare_dataset` and `_set_signature_columns_if_needed` (private) and `compute_loss`.
Shapes: N completions of a batch's rankings, T tokens, P pairs.
"""

import json
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedModel, set_seed
from trl import RewardConfig, RewardTrainer

from training.recipes.arguments import RewardArguments
from training.recipes.data import load_rankings
from training.recipes.listwise import RankingCollator, agreement, bradley_terry, pair_metrics
from training.recipes.losses import plackett_luce
from training.recipes.models import load_tokenizer, lora, make_reward_model
from training.recipes.run_folder import RunFolder, main
from training.recipes.training import FiniteLoss, RunEvents, configure, save_checkpoint, train


class ListwiseRewardTrainer(FiniteLoss, RewardTrainer):
    """Takes what data.load_rankings gives, and a RankingCollator."""

    def __init__(self, *args: Any, loss_type: str = "bradley_terry", **kwargs: Any) -> None:
        self.listwise_loss = {"bradley_terry": bradley_terry, "plackett_luce": plackett_luce}[loss_type]
        super().__init__(*args, **kwargs)

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset

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
        scores_N1 = model(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False
        ).logits
        scores_N: torch.Tensor = scores_N1.squeeze(-1).float()
        return scores_N

    @torch.no_grad()
    def score_all(self, dataset: Dataset) -> list[list[float]]:
        """The scores of each ranking's completions, in the dataset's order."""
        self.model.eval()
        scores = []
        for start in range(0, len(dataset), self.args.per_device_eval_batch_size):
            rankings = [
                dataset[at] for at in range(start, min(start + self.args.per_device_eval_batch_size, len(dataset)))
            ]
            batch = {name: value.to(self.model.device) for name, value in self.data_collator(rankings).items()}
            with self.compute_loss_context_manager():
                flat_N = self.scores(self.model, batch).tolist()
            for ranking in rankings:
                scores.append(flat_N[: len(ranking["ids"])])
                flat_N = flat_N[len(ranking["ids"]) :]
        return scores


def reward(folder: RunFolder, arguments: RewardArguments) -> None:
    # Data: whole rankings
    set_seed(arguments.seed)
    tokenizer = load_tokenizer(folder, folder.model())
    training, held_out = load_rankings(folder, tokenizer, arguments.max_length, arguments.ties)

    # Model: the policy's body with a scalar head
    model = make_reward_model(folder.model())

    # Train
    trainer = ListwiseRewardTrainer(
        model,
        args=configure(RewardConfig, folder, arguments, held_out),
        data_collator=RankingCollator(tokenizer.pad_token_id, arguments.ties),
        train_dataset=training,
        eval_dataset=held_out if len(held_out) else None,
        processing_class=tokenizer,
        peft_config=lora(arguments, "SEQ_CLS"),
        loss_type=arguments.loss_type,
    )
    train(trainer, folder, RunEvents(folder))

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

    # Save
    save_checkpoint(trainer, folder, {"score.json": json.dumps({"mean": mean / deviation})})
    folder.event("metrics", step=trainer.state.global_step, metrics=metrics)
    folder.save_result(metrics, is_adapter=arguments.use_peft)


def scale_scores(model: PreTrainedModel | PeftModel, deviation: float) -> None:
    """Divides all scores by `deviation`, exactly: the head is linear and has no bias."""
    for name, parameter in model.named_parameters():
        if "score" in name.split(".") and parameter.requires_grad:
            parameter.data /= deviation


if __name__ == "__main__":
    main("reward", reward)
