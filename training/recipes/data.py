"""A dataset version's files, read into what the trainers take. docs/architecture.md has the columns."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, disable_progress_bars
from transformers import PreTrainedTokenizerBase

from training.recipes.run_folder import Messages, RunFailed, RunFolder

Row = dict[str, Any]

disable_progress_bars()


def load_rankings(
    folder: RunFolder, tokenizer: PreTrainedTokenizerBase, max_length: int, ties: str
) -> tuple[Dataset, Dataset]:
    """(train, test), one row per ranking: {"ids": K token lists, "prompt_length", "ranks", "weight", "prompt_id", "prompt"}.

    Left out, and counted in notes: rankings whose verdict is that all are bad, those without a pair to learn from, and those
    with a completion over `max_length` tokens. Weights are divided by their mean over the training rankings.
    """
    rows = read_rankings(folder)
    ranked = [row for row in rows if row["verdict"] == "ranked"]
    note_left_out(folder, len(rows) - len(ranked), "said that all completions are bad and carry no order")
    told = [row for row in ranked if ties == "half" or len(set(row["ranks"])) > 1]
    note_left_out(folder, len(ranked) - len(told), "are ties throughout")
    encoded = [
        {**row, **encode(tokenizer, row["prompt"], [as_text(one) for one in row["completions"]])} for row in told
    ]
    fitting = [row for row in encoded if max(map(len, row["ids"])) <= max_length]
    note_left_out(folder, len(encoded) - len(fitting), f"are longer than {max_length} tokens")

    train = [row for row in fitting if row["split"] == "train"]
    test = [row for row in fitting if row["split"] == "test"]
    if not train:
        raise RunFailed("no_data", "No ranking is left to train on.")
    if not test:
        folder.note("No ranking is held out, so there is no held-out accuracy.")
    mean_weight = sum(row["weight"] for row in train) / len(train)
    if mean_weight <= 0:
        raise RunFailed("no_data", "Every training ranking has weight 0.")
    return _dataset(train, mean_weight), _dataset(test, mean_weight)


def _dataset(rows: list[Row], mean_weight: float) -> Dataset:
    kept = ("ids", "prompt_length", "ranks", "prompt_id", "prompt")
    return Dataset.from_list(
        [{**{name: row[name] for name in kept}, "weight": row["weight"] / mean_weight} for row in rows]
    )


def load_demonstrations(
    folder: RunFolder, tokenizer: PreTrainedTokenizerBase, max_length: int, train_on: str
) -> tuple[Dataset, Dataset]:
    """(train, test), one row per distinct prompt and answer: {"input_ids", "labels", "prompt"}; labels skip the prompt.

    `train_on` is demonstrations, best (the completions at rank 1 of a ranking that is no tie throughout), or both.
    """
    answers: dict[tuple[str, str], Row] = {}
    if train_on in ("demonstrations", "both"):
        for row in read_demonstrations(folder):
            answers.setdefault((row["prompt_id"], as_text(row)), row)
    if train_on in ("best", "both"):
        for row in read_rankings(folder):
            if row["verdict"] == "ranked" and len(set(row["ranks"])) > 1:
                for completion, rank in zip(row["completions"], row["ranks"], strict=True):
                    if rank == 1:
                        answers.setdefault((row["prompt_id"], as_text(completion)), row)
    parts: dict[str, list[Row]] = {"train": [], "test": []}
    too_long = 0
    for (_, text), row in answers.items():
        encoded = encode(tokenizer, row["prompt"], [text])
        ids, length = encoded["ids"][0], encoded["prompt_length"]
        if len(ids) > max_length:
            too_long += 1
            continue
        labels = [-100] * length + ids[length:]
        parts[row["split"]].append({"input_ids": ids, "labels": labels, "prompt": row["prompt"]})
    note_left_out(folder, too_long, f"are longer than {max_length} tokens", noun="examples")
    if not parts["train"]:
        wanted = {"demonstrations": "demonstration", "best": "ranking", "both": "demonstration or ranking"}[train_on]
        raise RunFailed("no_data", f"The dataset has no {wanted} to train on.")
    if not parts["test"]:
        folder.note("No example is held out, so there is no held-out loss.")
    return Dataset.from_list(parts["train"]), Dataset.from_list(parts["test"])


def read_rankings(folder: RunFolder, more: list[str] | None = None) -> list[Row]:
    """The rankings with the columns that every method needs, and those in `more`."""
    columns = ["ranking", "prompt_id", "prompt", "completions", "ranks", "verdict", "weight", "split", *(more or [])]
    rows = _read(folder.data / "rankings.parquet", columns)
    for row in rows:
        if len(row["completions"]) != len(row["ranks"]) or len(row["ranks"]) < 2:
            raise RunFailed("bad_dataset", f"Ranking {row['ranking']} does not rank each of two or more completions.")
    return rows


def read_demonstrations(folder: RunFolder, more: Sequence[str] = ()) -> list[Row]:
    """`more` names further columns to read."""
    columns = ["prompt_id", "prompt", "completion", "reasoning", "split", *more]
    return _read(folder.data / "demonstrations.parquet", columns)


def _read(path: Path, columns: list[str]) -> list[Row]:
    if not path.is_file():
        raise RunFailed("no_data", f"The run has no {path.name}.")
    try:
        table = pq.read_table(path)
        missing = [name for name in columns if name not in table.column_names]
        if missing:
            raise RunFailed("bad_dataset", f"{path.name} lacks the columns {', '.join(missing)}.")
        rows: list[Row] = table.select(columns).to_pylist()
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise RunFailed("bad_dataset", f"{path.name} is no readable Parquet file: {error}") from error
    for row in rows:
        if row["split"] not in ("train", "test") or any(value is None for value in row.values()):
            raise RunFailed(
                "bad_dataset", f"{path.name}: the row of prompt {row['prompt_id']} has empty or unknown values."
            )
    return rows


def as_text(answer: Row) -> str:
    """What the assistant wrote: reasoning comes back between the tags that it was parted from."""
    if answer["reasoning"]:
        return f"<think>\n{answer['reasoning']}\n</think>\n\n{answer['completion']}"
    return str(answer["completion"])


def encode(tokenizer: PreTrainedTokenizerBase, prompt: Messages, texts: list[str]) -> Row:
    """{"ids": prompt and completion for each text, "prompt_length": tokens that all of them share with the prompt}."""
    render: Callable[..., list[int]] = lambda messages, **settings: tokenizer.apply_chat_template(  # noqa: E731
        messages, return_dict=True, **settings
    )["input_ids"]
    prompt_ids = render(prompt, add_generation_prompt=True)
    ids = [render([*prompt, {"role": "assistant", "content": text}]) for text in texts]
    return {"ids": ids, "prompt_length": min(_shared(prompt_ids, one) for one in ids)}


def _shared(prompt_ids: list[int], ids: list[int]) -> int:
    """Some templates render a prompt alone differently, so the completion starts where the two part."""
    return next((at for at, (a, b) in enumerate(zip(prompt_ids, ids, strict=False)) if a != b), len(prompt_ids))


def note_left_out(folder: RunFolder, count: int, reason: str, noun: str = "rankings") -> None:
    if count:
        folder.note(f"{count} {noun} {reason} and were left out.")
