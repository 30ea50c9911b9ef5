"""A version's rows in a shape, as Arrow tables of a few megabytes each, in the order of the version's files."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from annotate.formats.versions.rows import RANKINGS
from annotate.models import K_MAX, DatasetVersion

from .flat import MESSAGES, TEXT, Flat
from .options import Export, is_plain, is_weighted, keeps_reasoning
from .stored import NOT_YET, Row, stored_batches, stored_rows

WHOLE = RANKINGS.set(RANKINGS.get_field_index("created"), pa.field("created", pa.string()))
NAMES = [f"completion_{number}" for number in range(1, K_MAX + 1)]
RECORDS = pa.schema(
    [
        ("id", pa.string()),
        ("fields", pa.struct([("prompt", pa.string()), *((name, pa.string()) for name in NAMES)])),
        (
            "metadata",
            pa.struct(
                [
                    *(
                        (name, pa.string())
                        for name in ("prompt_id", "annotator", "role", "verdict", "ranks", "sources")
                    ),
                    *((name, pa.string()) for name in ("reasons", "comment", "created", "split")),
                    ("seconds", pa.float64()),
                    ("weight", pa.float64()),
                ]
            ),
        ),
        (
            "suggestions",
            pa.struct(
                [
                    (
                        "ranking",
                        pa.struct([("value", pa.list_(pa.string())), ("agent", pa.string()), ("type", pa.string())]),
                    )
                ]
            ),
        ),
    ]
)
# What a best and a worst answer score in UltraFeedback.
BEST, WORST = 10, 1
# Ranks are small.
COUNTED = 20_000
Columns = dict[str, pa.Array]


def schema_of(version: DatasetVersion, export: Export) -> pa.Schema:
    """Of the tables that `export_tables` gives. Texts that several rows share are dictionaries."""
    if export.shape == "ranking":
        return WHOLE
    if export.shape == "argilla":
        return RECORDS
    prompt = TEXT if is_plain(version, export.shape) else MESSAGES
    answer = TEXT if is_plain(version, export.shape) else MESSAGES
    columns: dict[str, list[tuple[str, pa.DataType]]] = {
        "preference-implicit": [("chosen", MESSAGES), ("rejected", MESSAGES)],
        "unpaired": [("prompt", MESSAGES), ("completion", MESSAGES), ("label", pa.bool_())],
        "sft": [("prompt", MESSAGES), ("completion", MESSAGES)],
        "reward-bench": [
            ("prompt", prompt),
            *((name, TEXT) for name in ("chosen", "rejected", "chosen_model", "rejected_model")),
            ("subset", pa.string()),
            ("id", pa.int64()),
        ],
        "hh": [("chosen", TEXT), ("rejected", TEXT)],
        "ultrafeedback": [
            ("prompt", TEXT),
            ("prompt_id", TEXT),
            *((name, MESSAGES) for name in ("chosen", "rejected", "messages")),
            ("score_chosen", pa.float64()),
            ("score_rejected", pa.float64()),
        ],
    }
    found = columns.get(export.shape, [("prompt", prompt), ("chosen", answer), ("rejected", answer)])
    return pa.schema([*found, *([("weight", pa.float64())] if is_weighted(version) else [])])


def export_tables(version: DatasetVersion, export: Export, split: str) -> Iterator[pa.Table]:
    """Tables of `schema_of`; those without a row are left out."""
    schema = schema_of(version, export)
    tables: Iterator[pa.Table]
    if export.shape == "ranking":
        tables = (_whole(batch) for batch in stored_batches(version, "rankings.parquet", split))
    elif export.shape == "argilla":
        tables = (
            pa.Table.from_pylist([_record(row) for row in rows], schema=RECORDS)
            for rows in stored_rows(version, "rankings.parquet", split)
        )
    elif export.shape == "sft":
        tables = _sft(version, export, split, schema)
    else:
        tables = _derived(version, export, split, schema)
    yield from (table for table in tables if table.num_rows)


def count_rows(version: DatasetVersion, export: Export, split: str) -> int:
    """How many rows `export_tables` gives; from the version's counts where they say it, otherwise its ranks are read."""
    counts, sides = version.counts, ("train", "test") if split == "all" else (split,)
    if export.shape in ("ranking", "argilla"):
        return sum(int(counts[side]) for side in sides)
    if export.shape == "sft":
        return sum(int(counts[f"{side}_{what}"]) for side in sides for what in ("demonstrations", "best"))
    if export.shape != "unpaired":
        return sum(int(counts[f"{side}_pairs"]) for side in sides)
    batches = stored_batches(version, "rankings.parquet", split, columns=["ranks", "verdict"], rows=COUNTED)
    return sum(int((Flat(batch, keeps_reasoning=False).labels(export.desirable) >= 0).sum()) for batch in batches)


def _whole(batch: pa.RecordBatch) -> pa.Table:
    columns = {name: batch[name] for name in batch.schema.names}
    for name, value in NOT_YET.items():
        if name not in columns:
            values = [[[] for _ in ranks] if value == [] else value for ranks in batch["ranks"].to_pylist()]
            columns[name] = pa.array(values, WHOLE.field(name).type)
    columns["created"] = pa.array([time.isoformat() for time in batch["created"].to_pylist()], pa.string())
    return pa.table({name: columns[name] for name in WHOLE.names}, schema=WHOLE)


def _derived(version: DatasetVersion, export: Export, split: str, schema: pa.Schema) -> Iterator[pa.Table]:
    """Rows of single completions or of pairs of them."""
    make: Callable[[Flat], Columns] = {
        "preference": lambda flat: _preference(flat, is_plain(version, export.shape)),
        "preference-conversational": lambda flat: _preference(flat, False),
        "preference-implicit": _implicit,
        "unpaired": lambda flat: _unpaired(flat, export.desirable),
        "hh": _hh,
        "ultrafeedback": _ultrafeedback,
        "reward-bench": lambda flat: _reward_bench(flat, version),
    }[export.shape]
    count = 0
    # A ranking's own columns are few; `comment`, say, is not even read.
    columns = ["prompt", "completions", "ranks", "verdict", "weight"]
    columns += {"ultrafeedback": ["prompt_id", "ratings"]}.get(export.shape, [])
    for batch in stored_batches(version, "rankings.parquet", split, columns=columns):
        made = make(Flat(batch, keeps_reasoning=keeps_reasoning(version, export)))
        rankings = made.pop("ranking")
        if is_weighted(version):
            made["weight"] = batch["weight"].take(rankings)
        if "id" in schema.names:
            made["id"] = pa.array(np.arange(count, count + len(rankings)))
            count += len(rankings)
        yield pa.table(made, schema=schema)


def _preference(flat: Flat, plain: bool) -> Columns:
    pairs = flat.pairs()
    if plain:
        return {
            "ranking": pa.array(pairs.ranking),
            "prompt": flat.text(flat.questions, pairs.ranking),
            "chosen": flat.text(flat.texts, pairs.chosen),
            "rejected": flat.text(flat.texts, pairs.rejected),
        }
    return {
        "ranking": pa.array(pairs.ranking),
        "prompt": flat.messages(pairs.ranking, None),
        "chosen": flat.messages(None, pairs.chosen),
        "rejected": flat.messages(None, pairs.rejected),
    }


def _implicit(flat: Flat) -> Columns:
    pairs = flat.pairs()
    return {
        "ranking": pa.array(pairs.ranking),
        "chosen": flat.messages(pairs.ranking, pairs.chosen),
        "rejected": flat.messages(pairs.ranking, pairs.rejected),
    }


def _unpaired(flat: Flat, desirable: str) -> Columns:
    labels = flat.labels(desirable)
    judged = np.flatnonzero(labels >= 0)
    rankings = flat.ranking[judged]
    return {
        "ranking": pa.array(rankings),
        "prompt": flat.messages(rankings, None),
        "completion": flat.messages(None, judged),
        "label": pa.array(labels[judged] == 1),
    }


def _hh(flat: Flat) -> Columns:
    """Dialogues as Anthropic's HH has them; it has no system's turns, so ours stand before the first one, unnamed."""
    pairs = flat.pairs()
    names = {"user": "\n\nHuman: ", "assistant": "\n\nAssistant: ", "system": ""}
    turns = [names[role] + text for role, text in zip(flat.roles.to_pylist(), flat.contents.to_pylist(), strict=True)]
    starts = flat.prompt_starts
    prompts = ["".join(turns[start:end]) for start, end in itertools.pairwise(starts)]
    dialogues = pc.binary_join_element_wise(
        pa.array(prompts, pa.string()).take(pa.array(flat.ranking)), flat.texts, "\n\nAssistant: "
    )
    return {
        "ranking": pa.array(pairs.ranking),
        "chosen": flat.text(dialogues, pairs.chosen),
        "rejected": flat.text(dialogues, pairs.rejected),
    }


def _ultrafeedback(flat: Flat) -> Columns:
    pairs, scores = flat.pairs(), _scores(flat)
    chosen = flat.messages(pairs.ranking, pairs.chosen)
    return {
        "ranking": pa.array(pairs.ranking),
        "prompt": flat.text(flat.questions, pairs.ranking),
        "prompt_id": flat.text(flat.batch["prompt_id"], pairs.ranking),
        "chosen": chosen,
        "rejected": flat.messages(pairs.ranking, pairs.rejected),
        "messages": chosen,
        "score_chosen": pa.array(scores[pairs.chosen]),
        "score_rejected": pa.array(scores[pairs.rejected]),
    }


def _scores(flat: Flat) -> Any:
    """(C,) from 1 to 10: twice the mean rating where a ranking rated all of its completions, otherwise spread evenly over its places."""
    scores = np.zeros(len(flat.ranks))
    for rankings, ranks in flat.by_size():
        worst = np.maximum(ranks.max(1, keepdims=True), 2)
        spread = BEST - (BEST - WORST) * (ranks - 1) / (worst - 1)
        scores[flat.starts[rankings, None] + np.arange(ranks.shape[1])] = spread
    if "ratings" not in flat.batch.schema.names:
        return scores
    rated = flat.batch["ratings"].flatten()
    given = pc.list_value_length(rated).to_numpy()
    sums = np.zeros(len(scores))
    np.add.at(sums, np.repeat(np.arange(len(given)), given), rated.flatten().field("rating").to_numpy())
    for rankings, ranks in flat.by_size():
        at = flat.starts[rankings, None] + np.arange(ranks.shape[1])
        all_rated = (given[at] > 0).all(1)
        scores[at[all_rated]] = 2 * sums[at[all_rated]] / given[at[all_rated]]
    return scores


def _reward_bench(flat: Flat, version: DatasetVersion) -> Columns:
    """Its answers are texts; its prompts are, too, except in sets of several turns."""
    pairs, plain = flat.pairs(), is_plain(version, "reward-bench")
    return {
        "ranking": pa.array(pairs.ranking),
        "prompt": flat.text(flat.questions, pairs.ranking) if plain else flat.messages(pairs.ranking, None),
        "chosen": flat.text(flat.texts, pairs.chosen),
        "rejected": flat.text(flat.texts, pairs.rejected),
        "chosen_model": flat.text(flat.answers["source"], pairs.chosen),
        "rejected_model": flat.text(flat.answers["source"], pairs.rejected),
        "subset": pa.array([version.project.slug] * len(pairs.ranking), pa.string()),
    }


def _sft(version: DatasetVersion, export: Export, split: str, schema: pa.Schema) -> Iterator[pa.Table]:
    """Ideal answers, then the best completion of each ranking."""
    keeps = keeps_reasoning(version, export)
    for file in ("demonstrations.parquet", "rankings.parquet"):
        columns = ["prompt", "completion", "reasoning", "completions", "ranks", "verdict", "weight"]
        for batch in stored_batches(version, file, split, columns=columns):
            flat = Flat(batch, keeps_reasoning=keeps)
            chosen = flat.best() if "completions" in batch.schema.names else np.arange(len(batch))
            rankings = flat.ranking[chosen]
            made = {"prompt": flat.messages(rankings, None), "completion": flat.messages(None, chosen)}
            if is_weighted(version):
                ones = pa.array(np.ones(len(chosen)))
                made["weight"] = batch["weight"].take(pa.array(rankings)) if "ranks" in batch.schema.names else ones
            yield pa.table(made, schema=schema)


def _record(row: Row) -> Row:
    """A ranking as Argilla's `Record.from_dict` reads it: a suggestion of an order, best first. Ties are in `metadata.ranks` alone."""
    turns = row["prompt"]
    prompt = (
        turns[0]["content"] if len(turns) == 1 else "\n\n".join(f"{one['role']}: {one['content']}" for one in turns)
    )
    order = [name for _rank, name in sorted(zip(row["ranks"], NAMES, strict=False), key=lambda pair: pair[0])]
    ranked = {"value": order, "agent": row["annotator"], "type": "human"}
    return {
        "id": row["ranking"],
        "fields": {
            "prompt": prompt,
            **dict(zip(NAMES, (one["completion"] for one in row["completions"]), strict=False)),
        },
        "metadata": {
            **{name: row[name] for name in ("prompt_id", "annotator", "verdict", "comment", "split", "seconds")},
            **{name: row.get(name, NOT_YET[name]) for name in ("role", "weight")},
            "ranks": ",".join(map(str, row["ranks"])),
            "sources": ",".join(one["source"] for one in row["completions"]),
            "reasons": ",".join(row["reasons"]),
            "created": row["created"].isoformat(),
        },
        "suggestions": {"ranking": ranked} if row["verdict"] == "ranked" else {},
    }
