"""The card of a folder: what is in it, how it was made, how far people agreed, and what it is not good for."""

import json
import tomllib
from functools import cache
from importlib.metadata import version as version_of
from typing import Any, NamedTuple

import numpy as np
import pyarrow.compute as pc
from django.conf import settings

from annotate.models import K_MAX, DatasetVersion
from annotate.quality.agreement import alpha_of, coincidences_of, pairs_within, places_of, signs_of, tau_b
from annotate.services.datasets import Filters

from .options import TRAINABLE, Export, is_plain
from .shapes import count_rows
from .stored import stored_batches

# Agreement is measured on so many rankings; of more, whole prompts are drawn, the same ones each time.
MEASURED = 50_000
SIZES = (
    (10**3, "n<1K"),
    (10**4, "1K<n<10K"),
    (10**5, "10K<n<100K"),
    (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"),
    (10**8, "10M<n<100M"),
)
HOLDS = {
    "preference": "a pair of answers to a prompt: `prompt`, `chosen` and `rejected`",
    "preference-conversational": "a pair of answers to a prompt, as messages: `prompt`, `chosen` and `rejected`",
    "preference-implicit": "a pair of whole conversations that differ in their last turn: `chosen` and `rejected`",
    "ranking": "a whole ranking: `completions` and, for each of them, its place in `ranks` (1 is best, equal places are ties)",
    "unpaired": "one answer with a `label`: good (true) or bad (false), by its place in a ranking",
    "sft": "a prompt with an answer to imitate: an ideal answer that a person wrote, or the best one of a ranking",
    "reward-bench": "a pair of answers with the models that they come from, as RewardBench has them",
    "hh": "two dialogues in plain text, `chosen` and `rejected`, as Anthropic's HH has them",
    "ultrafeedback": "a pair of conversations with a score each, as UltraFeedback's binarized form has them",
    "argilla": "a ranking as a record of Argilla: `fields`, `metadata` and a suggestion of an order",
}


class Agreement(NamedTuple):
    alpha: float  # NaN where it is undefined
    tau: float
    tasks: int  # that two people or more ranked
    rankings: int  # of those tasks
    annotators: int  # of the whole version
    is_sample: bool


@cache
def podium_version() -> str:
    return str(tomllib.loads((settings.BASE_DIR / "pyproject.toml").read_text())["project"]["version"])


def card_facts(version: DatasetVersion, export: Export) -> dict[str, Any]:
    """What a card says beside what the version's files hold: a card with the same facts has the same bytes."""
    project = version.project
    return {
        "project": [project.slug, project.name, project.description],
        "version": [version.number, version.tag, version.note, version.as_of.isoformat(), version.test_fraction],
        "parent": version.parent.number if version.parent else None,
        "stratify_by": version.stratify_by,
        "license": export.license,
        "versions": [podium_version(), version_of("pyarrow")],
    }


def write_card(version: DatasetVersion, export: Export, splits: list[str]) -> str:
    """README.md, with the YAML header that the hub and `load_dataset` read."""
    rows = {split: count_rows(version, export, split) for split in splits}
    title = f"{version.project.name}, version {version.number}"
    sections = [
        _header(version, export, title, rows),
        f"# {title}\n",
        version.project.description,
        _contents(version, export, rows),
        _making(version),
        _agreement(measure_agreement(version)),
        _rest(version, export),
    ]
    return "\n".join(section for section in sections if section)


def _header(version: DatasetVersion, export: Export, title: str, rows: dict[str, int]) -> str:
    """JSON is YAML, too: whatever a title holds, it stays one value."""
    files = [{"split": split, "path": f"data/{split}-*.parquet"} for split in rows]
    total = sum(rows.values())
    tags = ["human-feedback", "podium", *(["trl"] if export.shape in TRAINABLE else [])]
    header: dict[str, Any] = {"pretty_name": title}
    if export.license:
        header["license"] = export.license
    if languages := sorted(code for code in version.statistics.get("languages", {}) if len(code) in (2, 3)):
        header["language"] = languages
    header |= {
        "tags": tags if export.shape == "sft" else ["preference", *tags],
        "task_categories": ["text-generation"],
        "size_categories": [next((name for size, name in SIZES if total < size), "n>100M")],
        "configs": [{"config_name": "default", "data_files": files}],
    }
    lines = "".join(f"{name}: {json.dumps(value, ensure_ascii=False)}\n" for name, value in header.items())
    return f"---\n{lines}---\n"


def _contents(version: DatasetVersion, export: Export, rows: dict[str, int]) -> str:
    table = "".join(f"| {split} | {count:,} |\n" for split, count in rows.items())
    text = "Prompts are text." if is_plain(version, export.shape) else "Conversations are lists of messages."
    if export.shape in ("ranking", "hh", "argilla", "ultrafeedback"):
        text = ""
    weighs = " `weight` says how reliable its annotator is, from 0 to 1." if "weights" in version.counts else ""
    return (
        f"## What is in it\n\nA row (shape `{export.shape}`) is {HOLDS[export.shape]}. {text}{weighs}\n\n"
        f"| split | rows |\n|---|---|\n{table}\n"
        'A prompt is in one split only.\n\n```python\nfrom datasets import load_dataset\n\ndata = load_dataset("path/to/this/folder")\n```\n'
    )


def _making(version: DatasetVersion) -> str:
    counts = version.counts
    if version.origin:
        how = f"Its examples were made by {version.origin.replace(':', ' ')} of the project."
    else:
        how = (
            f"People ranked answers blind, in shuffled order; frozen are the rankings as of {version.as_of.isoformat()}: "
            f"{counts['rankings']:,}, of which {counts['all_bad']:,} say that all answers are bad, and "
            f"{counts['demonstrations']:,} ideal answers. Every two answers of a ranking with different places are a pair "
            f"({counts['pairs']:,}); ties ({counts['ties']:,}) and “all bad” are none."
        )
    usual = Filters().to_json()
    set_ = {name: value for name, value in version.filters.items() if value and value != usual.get(name)}
    filters = "".join(f"| `{name}` | `{json.dumps(value, ensure_ascii=False)}` |\n" for name, value in set_.items())
    steps = counts.get("steps") or [
        {"step": name, "dropped": dropped} for name, dropped in counts.get("dropped", {}).items()
    ]
    dropped = "".join(f"| `{one['step']}` | {one['dropped']:,} |\n" for one in steps if one["dropped"])
    facts = {
        "Version": f"{version.number}" + (f", tag `{version.tag}`" if version.tag else ""),
        "Follows version": version.parent.number if version.parent else "",
        "Share kept for testing": version.test_fraction,
        "Both sides hold the same share of each": version.stratify_by,
        "Content hash": f"`{version.content_hash}`",
        "Written by": f"Podium {podium_version()}, pyarrow {version_of('pyarrow')}",
    }
    note = f"> {' '.join(version.note.split())}\n\n" if version.note else ""
    return (
        f"## How it was made\n\n{note}{how}\n\n"
        + "| | |\n|---|---|\n"
        + "".join(f"| {name} | {value} |\n" for name, value in facts.items() if value != "")
        + (f"\n| filter or choice | value |\n|---|---|\n{filters}" if filters else "")
        + (f"\n| step | rankings dropped |\n|---|---|\n{dropped}" if dropped else "")
    )


def _agreement(found: Agreement) -> str:
    text = "## Agreement\n\n"
    if not found.tasks:
        return text + "No task was ranked by two people, so agreement is not known.\n"
    drawn = " (drawn by prompt)" if found.is_sample else ""
    tau = "not defined" if np.isnan(found.tau) else f"{found.tau:.3f}"
    alpha = "not defined" if np.isnan(found.alpha) else f"{found.alpha:.3f}"
    return (
        f"{text}Of {found.tasks:,} tasks that two people or more ranked, with {found.rankings:,} rankings{drawn}. 1 is full agreement, "
        f"0 what chance gives.\n\n| | |\n|---|---|\n| Kendall's τ-b, mean over tasks | {tau} |\n"
        f"| Krippendorff's α, ordinal, over answers' places | {alpha} |\n"
    )


def _rest(version: DatasetVersion, export: Export) -> str:
    license = f"`{export.license}`" if export.license else "None was given. Ask whoever gave you this data."
    return (
        "## Annotators\n\nAnnotators appear under pseudonyms that are theirs within the project, or not at all. Who they are is not in this data.\n\n"
        f"## Licence\n\n{license}\n\n"
        "## Limits\n\n"
        "- A ranking is one person's opinion of the answers that they were shown; it says nothing of answers that were not shown.\n"
        "- The answers come from models and may be wrong, biased or offensive; a preferred one is only better than the others.\n"
        "- Several people may have ranked the same answers, so pairs can repeat and contradict each other; that is the disagreement itself.\n"
        "- Prompts were not searched for personal data.\n"
    )


def measure_agreement(version: DatasetVersion) -> Agreement:
    """Between the people who ranked the same answers; decisions of reviewers and “all bad” do not count."""
    share = MEASURED / max(version.counts["rankings"], 1)
    groups: dict[Any, int] = {}
    tasks: list[int] = []
    ranks: list[list[int]] = []
    annotators: set[str] = set()
    columns = ["prompt_id", "completions", "ranks", "verdict", "annotator", "role"]
    for batch in stored_batches(version, "rankings.parquet", columns=columns):
        annotators.update(pc.unique(batch["annotator"]).to_pylist())
        kept = pc.equal(batch["verdict"], "ranked")
        if "role" in batch.schema.names:
            kept = pc.and_(kept, pc.not_equal(batch["role"], "adjudicator"))
        batch = batch.filter(kept)
        for prompt, answers, places in zip(
            batch["prompt_id"].to_pylist(), batch["completions"], batch["ranks"].to_pylist(), strict=True
        ):
            if int(prompt[:8], 16) < share * 2**32:
                texts = hash(tuple(answers.values.field("completion").to_pylist()))
                tasks.append(groups.setdefault((prompt, texts), len(groups)))
                ranks.append(places + [0] * (K_MAX + 1 - len(places)))
    return _measured(np.array(tasks), np.array(ranks), len(annotators), share < 1)


def _measured(tasks: Any, ranks: Any, annotators: int, is_sample: bool) -> Agreement:
    if not len(tasks):
        return Agreement(np.nan, np.nan, 0, 0, annotators, is_sample)
    order = np.argsort(tasks, kind="stable")
    tasks, ranks = tasks[order], ranks[order]
    sizes = np.bincount(tasks)
    shared = sizes[tasks] > 1
    tasks, ranks = tasks[shared], ranks[shared]
    if not len(tasks):
        return Agreement(np.nan, np.nan, 0, 0, annotators, is_sample)
    first, second = pairs_within(tasks)
    taus = tau_b(signs_of(ranks), first, second)
    known = ~np.isnan(taus)
    sums = np.bincount(tasks[first[known]], taus[known])
    numbers = np.bincount(tasks[first[known]])
    places = places_of(ranks)
    row, column = np.nonzero(places >= 0)
    unit = tasks[row] * places.shape[1] + column
    order = np.argsort(unit, kind="stable")
    values, code = np.unique(places[row, column][order], return_inverse=True)
    _rows, cell, weight = coincidences_of(unit[order], code, len(values))
    pairs = np.bincount(cell, weight, minlength=len(values) ** 2).reshape(len(values), len(values))
    return Agreement(
        float(alpha_of(pairs)),
        float(np.mean(sums[numbers > 0] / numbers[numbers > 0])) if known.any() else float("nan"),
        int((sizes > 1).sum()),
        len(tasks),
        annotators,
        is_sample,
    )
