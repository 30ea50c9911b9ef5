"""Completions judged good or bad one by one, for KTO: by their place in a ranking, or by the ratings they were given."""

from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from training.recipes.arguments import KTOArguments
from training.recipes.data import as_text, encode, note_left_out, read_rankings
from training.recipes.run_folder import RunFailed, RunFolder

Row = dict[str, Any]


def load_unpaired(
    folder: RunFolder, tokenizer: PreTrainedTokenizerBase, arguments: KTOArguments
) -> tuple[Dataset, Dataset]:
    """(train, test), one row per judged completion, shuffled by the seed: {"prompt_ids", "completion_ids", "KL_completion_ids",
    "label", "weight", "prompt"}.

    Left out, and counted in notes: completions that are neither good nor bad, and those over `max_length` tokens. Weights are the
    annotators', divided by their mean over the training rows.
    """
    from_ratings = arguments.desirable == "ratings"
    parts: dict[str, list[Row]] = {"train": [], "test": []}
    neither = too_long = worthless = 0
    for row in read_rankings(folder, ["ratings"] if from_ratings else []):
        if from_ratings:
            labels = by_ratings(row, arguments.criterion, arguments.threshold)
        else:
            labels = by_rank(row, arguments.desirable)
        neither += labels.count(None)
        if row["weight"] <= 0 and row["split"] == "train":
            worthless += 1
            continue
        encoded = encode(tokenizer, row["prompt"], [as_text(one) for one in row["completions"]])
        length = encoded["prompt_length"]
        for ids, label in zip(encoded["ids"], labels, strict=True):
            if label is None:
                continue
            if len(ids) > arguments.max_length:
                too_long += 1
                continue
            parts[row["split"]].append(
                {"prompt_ids": ids[:length], "completion_ids": ids[length:], "label": label, "weight": row["weight"],
                 "prompt": row["prompt"]}
            )  # fmt: skip
    reason = "were not rated by the criterion" if from_ratings else "are neither among the good nor among the bad"
    note_left_out(folder, neither, reason, noun="completions")
    note_left_out(folder, too_long, f"are longer than {arguments.max_length} tokens", noun="completions")
    note_left_out(folder, worthless, "have weight 0")
    desirable = sum(row["label"] for row in parts["train"])
    folder.note(f"Learning from {desirable} good and {len(parts['train']) - desirable} bad completions.")
    if not desirable or desirable == len(parts["train"]):
        raise RunFailed(
            "no_data", f"No {'bad' if desirable else 'good'} completion is left to train on; both are needed."
        )
    if not parts["test"]:
        folder.note("No completion is held out, so there is no held-out loss.")
    mean_weight = sum(row["weight"] for row in parts["train"]) / len(parts["train"])
    for name, rows in parts.items():
        for row in rows:
            row["weight"] /= mean_weight
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(arguments.seed))
        parts[name] = mismatched([rows[at] for at in order], arguments.per_device_train_batch_size)
    return Dataset.from_list(parts["train"]), Dataset.from_list(parts["test"])


def by_rank(row: Row, desirable: str) -> list[bool | None]:
    """For each completion whether it is good, bad (False), or neither. In a ranking that says 'all bad' all are bad.

    best: the best place is good, the worst bad. middle: good above the ranking's middle place, bad below; ties share the mean of
    their places. A ranking of ties throughout says nothing.

    >>> by_rank({"verdict": "ranked", "ranks": [1, 2, 2, 3]}, "middle")
    [True, None, None, False]
    """
    ranks = row["ranks"]
    if row["verdict"] == "all_bad":
        return [False] * len(ranks)
    if len(set(ranks)) == 1:
        return [None] * len(ranks)
    if desirable == "best":
        return [None if min(ranks) < rank < max(ranks) else rank == min(ranks) for rank in ranks]
    places = [sum(other < rank for other in ranks) + (ranks.count(rank) + 1) / 2 for rank in ranks]
    middle = (len(ranks) + 1) / 2
    return [None if place == middle else place < middle for place in places]


def by_ratings(row: Row, criterion: str, threshold: float) -> list[bool | None]:
    """Good from `threshold` on by this criterion, or by the mean of all criteria rated where it is empty; None for what was not
    rated."""
    labels: list[bool | None] = []
    for ratings in row["ratings"]:
        given = [one["rating"] for one in ratings if criterion in ("", one["criterion"])]
        labels.append(sum(given) / len(given) >= threshold if given else None)
    return labels


def mismatched(rows: list[Row], batch_size: int) -> list[Row]:
    """Each row with the completion of the row before it in its batch, for the estimate of the KL divergence."""
    return [
        {**row, "KL_completion_ids": batch[at - 1]["completion_ids"]}
        for batch in (rows[start : start + batch_size] for start in range(0, len(rows), batch_size))
        for at, row in enumerate(batch)
    ]


def class_weights(train: Dataset) -> tuple[float, float]:
    """(desirable, undesirable): the smaller side is weighed up until the two sides' sums of weights stand between 1 : 1 and
    4 : 3, as equation 8 of the KTO paper has it.

    >>> class_weights(Dataset.from_dict({"label": [True, False, False], "weight": [1.0, 1.0, 1.0]}))
    (2.0, 1.0)
    """
    good = sum(weight for label, weight in zip(train["label"], train["weight"], strict=True) if label)
    bad = sum(train["weight"]) - good
    if good < bad:
        return bad / good, 1.0
    return 1.0, max(1.0, 3 / 4 * good / bad)
