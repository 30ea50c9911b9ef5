"""Odds ratio preference optimisation: imitation and preference in one training, without a reference.

    python -m training.recipes.orpo RUN_DIR

Paper: ORPO (arXiv:2403.07691), equations 6 and 7. Pairs come from rankings: best against worst, or all.
Departures: annotators' weights, each ranking counting once however many pairs it gives; the imitated part is the chosen completion
alone, averaged over its tokens, as the paper has it (TRL's trainer adds the prompt's tokens).

On TRL's experimental ORPOTrainer, overriding `tokenize_row` (examples are tokenised already), `concatenated_forward` (the imitation
loss) and `odds_ratio_loss` (the weights). Held-out accuracy compares log-probabilities per token, ORPO's implicit reward.
Shapes: B pairs.
"""

from collections.abc import Iterator
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

from training.recipes.arguments import ORPOArguments
from training.recipes.data import as_text, encode, note_left_out, read_rankings
from training.recipes.implicit import RankingJudge, held_out_rankings
from training.recipes.listwise import pairs_of
from training.recipes.models import load_causal_lm, load_tokenizer, lora
from training.recipes.run_folder import RunFailed, RunFolder, finite, main
from training.recipes.training import FiniteLoss, RunEvents, Samples, configure, save_checkpoint, train


class WeighingORPOTrainer(FiniteLoss, ORPOTrainer):
    """Takes what `load_pairs` gives."""

    def tokenize_row(self, feature: dict[str, Any], model: Any = None) -> dict[str, Any]:
        return {}

    def concatenated_forward(self, model: PreTrainedModel, batch: dict[str, Any]) -> tuple[torch.Tensor, ...]:
        chosen_B, rejected_B, chosen_logits, rejected_logits, _, *aux = super().concatenated_forward(model, batch)
        self.weight_B = torch.tensor(batch["weight"], device=chosen_B.device)
        imitation = -(self.weight_B * chosen_B).mean()  # log-probabilities per token
        return chosen_B, rejected_B, chosen_logits, rejected_logits, imitation, *aux

    def odds_ratio_loss(self, chosen_B: torch.Tensor, rejected_B: torch.Tensor) -> tuple[torch.Tensor, ...]:
        losses_B, *metrics = super().odds_ratio_loss(chosen_B, rejected_B)
        return self.weight_B * losses_B, *metrics


def load_pairs(
    folder: RunFolder, tokenizer: PreTrainedTokenizerBase, arguments: ORPOArguments
) -> tuple[Dataset, Dataset]:
    """(train, test), one row per pair: {"chosen_input_ids", "chosen_attention_mask", "chosen_labels", the same for "rejected",
    "weight", "prompt"}. Labels skip the prompt. Weights are shared among a ranking's pairs; their mean over the training pairs is 1.

    Left out, and counted in notes: rankings that say 'all bad', ties throughout, weight 0, and pairs over `max_length` tokens.
    """
    parts: dict[str, list[dict[str, Any]]] = {"train": [], "test": []}
    rankings = all_bad = tied = worthless = too_long = 0
    for row in read_rankings(folder):
        if row["verdict"] != "ranked":
            all_bad += 1
        elif len(set(row["ranks"])) == 1:
            tied += 1
        elif row["weight"] <= 0 and row["split"] == "train":
            worthless += 1
        else:
            rankings += row["split"] == "train"
            encoded = encode(tokenizer, row["prompt"], [as_text(one) for one in row["completions"]])
            pairs = list(chosen_pairs(row["ranks"], arguments.pairs))
            for chosen, rejected in pairs:
                sides = {"chosen": encoded["ids"][chosen], "rejected": encoded["ids"][rejected]}
                if max(map(len, sides.values())) > arguments.max_length:
                    too_long += 1
                    continue
                pair: dict[str, Any] = {"weight": row["weight"] / len(pairs), "prompt": row["prompt"]}
                for side, ids in sides.items():
                    pair[f"{side}_input_ids"] = ids
                    pair[f"{side}_attention_mask"] = [1] * len(ids)
                    pair[f"{side}_labels"] = [-100] * encoded["prompt_length"] + ids[encoded["prompt_length"] :]
                parts[row["split"]].append(pair)
    note_left_out(folder, all_bad, "said that all completions are bad and carry no order")
    note_left_out(folder, tied, "are ties throughout")
    note_left_out(folder, worthless, "have weight 0")
    note_left_out(folder, too_long, f"are longer than {arguments.max_length} tokens", noun="pairs")
    if not parts["train"]:
        raise RunFailed("no_data", "No pair is left to train on.")
    folder.note(f"{rankings} rankings give {len(parts['train'])} pairs to learn from, two texts to encode for each.")
    if not parts["test"]:
        folder.note("No ranking is held out, so there is no held-out accuracy.")
    mean_weight = sum(row["weight"] for row in parts["train"]) / len(parts["train"])
    for rows in parts.values():
        for row in rows:
            row["weight"] /= mean_weight
    return Dataset.from_list(parts["train"]), Dataset.from_list(parts["test"])


def chosen_pairs(ranks: list[int], which: str) -> Iterator[tuple[int, int]]:
    """(chosen, rejected): the first of the best against the last of the worst, or all pairs that are no tie.

    >>> list(chosen_pairs([2, 1, 3], "best_worst"))
    [(1, 2)]
    """
    if which == "best_worst":
        yield ranks.index(min(ranks)), len(ranks) - 1 - ranks[::-1].index(max(ranks))
    else:
        for winner, loser, _ in pairs_of(ranks, ties="drop"):
            yield winner, loser


def orpo(folder: RunFolder, arguments: ORPOArguments) -> None:
    # Data: pairs
    set_seed(arguments.seed)
    tokenizer = load_tokenizer(folder, folder.model())
    training, held_out = load_pairs(folder, tokenizer, arguments)

    # Model
    trainer = WeighingORPOTrainer(
        load_causal_lm(folder.model()),
        args=configure(ORPOConfig, folder, arguments, held_out, remove_unused_columns=False),
        train_dataset=training.remove_columns("prompt"),
        eval_dataset=held_out.remove_columns("prompt") if len(held_out) else None,
        processing_class=tokenizer,
        peft_config=lora(arguments, "CAUSAL_LM"),
    )
    rankings = held_out_rankings(folder, tokenizer, arguments.max_length)
    judge = RankingJudge(folder, trainer, rankings, 2 * arguments.per_device_train_batch_size, per_token=True)
    shown = held_out if len(held_out) else training
    samples = Samples(folder, trainer.model, tokenizer, shown["prompt"])

    # Train
    train(trainer, folder, RunEvents(folder, samples))

    # Measure: how the policy would order the held-out rankings
    metrics: dict[str, Any] = {"examples": len(training), **judge.measure()}
    if len(held_out):
        metrics["eval_loss"] = trainer.evaluate()["eval_loss"]
    samples.show(trainer.state.global_step)

    # Save
    save_checkpoint(trainer, folder)
    folder.event("metrics", step=trainer.state.global_step, metrics=finite(metrics))
    folder.save_result(metrics, is_adapter=arguments.use_peft)


if __name__ == "__main__":
    main("orpo", orpo)
