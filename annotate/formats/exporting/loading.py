"""The lines of Python that load what was downloaded."""

from annotate.models import DatasetVersion

from .options import TRAINABLE, Export, export_name, is_plain

CONVERSATIONS = ("prompt", "chosen", "rejected", "completion", "messages")
COLUMNS = {
    "preference-implicit": ("chosen", "rejected"),
    "ranking": ("prompt", "completions", "ranks", "ratings", "reasons"),
    "unpaired": ("prompt", "completion"),
    "sft": ("prompt", "completion"),
    "reward-bench": ("prompt",),
    "hh": (),
    "ultrafeedback": ("chosen", "rejected", "messages"),
    "argilla": ("fields", "metadata", "suggestions"),
}


def loading_lines(version: DatasetVersion, shape: str, format: str, split: str = "") -> str:
    """The lines that load a downloaded export, and give it to TRL where TRL has a trainer for its shape."""
    export = Export(shape=shape, format=format, split=split)
    name = export_name(version, export)
    if shape == "argilla" and format in ("jsonl", "jsonl.gz"):
        return _argilla_lines(name)
    options = ", keep_default_na=False" if format == "csv" else ""
    loader = {"jsonl": "json", "jsonl.gz": "json"}.get(format, format)
    source = f'"{loader}", data_files="{name}"'
    lines = ["from datasets import load_dataset"]
    if format == "folder":
        lines = ["import zipfile", *lines, f'zipfile.ZipFile("{name}").extractall("{name[:-4]}")']
        source = f'"{name[:-4]}"'
    lines.append(f'data = load_dataset({source}, split="train"{options})')
    nested = () if is_plain(version, shape) else COLUMNS.get(shape, ("prompt", "chosen", "rejected"))
    if format == "csv" and nested:
        lines.insert(0, "import json")
        lines.append(f"data = data.map(lambda row: {{name: json.loads(row[name]) for name in {list(nested)}}})")
    if shape in TRAINABLE:
        trainer = f"{TRAINABLE[shape]}Trainer"
        at = next(at for at, line in enumerate(lines) if line.startswith("from datasets")) + 1
        lines.insert(at, f"from trl import {trainer}")
        lines.append(f'{trainer}("your-model", train_dataset=data).train()')
    return "\n".join(lines)


def _argilla_lines(name: str) -> str:
    opened = (
        f'gzip.open("{name}", "rt", encoding="utf-8")' if name.endswith(".gz") else f'open("{name}", encoding="utf-8")'
    )
    return "\n".join(
        [
            *(["import gzip"] if name.endswith(".gz") else []),
            "import json",
            "import argilla as rg",
            f"rows = [json.loads(line) for line in {opened}]",
            'names = sorted({name for row in rows for name in row["fields"]} - {"prompt"})',
            "settings = rg.Settings(",
            '    fields=[rg.TextField("prompt"), *(rg.TextField(name, required=False) for name in names)],',
            '    questions=[rg.RankingQuestion("ranking", values=names, required=False)],',
            "    allow_extra_metadata=True,",
            ")",
            'data = rg.Dataset("your-dataset", settings=settings).create()',
            "data.records.log([rg.Record.from_dict(row) for row in rows])",
        ]
    )
