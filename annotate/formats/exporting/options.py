"""What somebody may choose about an export."""

import re
from dataclasses import dataclass

from annotate.models import DatasetVersion

SHAPES = (
    "preference",
    "preference-implicit",
    "preference-conversational",
    "ranking",
    "unpaired",
    "sft",
    "reward-bench",
    "hh",
    "ultrafeedback",
    "argilla",
)
# Shapes that a trainer of TRL takes as they are, and which.
TRAINABLE = {
    "preference": "DPO",
    "preference-implicit": "DPO",
    "preference-conversational": "DPO",
    "unpaired": "KTO",
    "sft": "SFT",
}
FORMATS = ("jsonl", "jsonl.gz", "csv", "parquet", "folder")
SPLITS = ("train", "test", "all")
REASONING = ("auto", "keep", "drop")
DESIRABLE = ("middle", "best")
CONTENT_TYPES = {
    "jsonl": "application/x-ndjson",
    "jsonl.gz": "application/gzip",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
    "folder": "application/zip",
}
SHARD_ROWS = 250_000
# One file per row would be a zip of a million files.
SHARD_ROWS_MIN, SHARD_ROWS_MAX = 100, 100_000_000
LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,59}")


class InvalidExport(ValueError):
    """`field` is what was chosen wrongly."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True)
class Export:
    """How a version's rows leave. InvalidExport for an unknown choice.

    `split` empty means "train", and both for a folder. `reasoning`: "keep" puts `<think>…</think>` before an answer that has some,
    "drop" leaves it out, "auto" keeps it in what a run made and drops it in what people ranked; `ranking` has it in a field of its own
    and `argilla` in none. `desirable`, for `unpaired`: the completions above a ranking's middle place against those below ("middle"),
    or the best place against the worst ("best"). `shard_rows` cuts Parquet into files of so many rows, in a zip; 0: one file, for a
    folder SHARD_ROWS. `license` goes into a folder's card, as the hub names it.
    """

    shape: str = "preference"
    format: str = "jsonl"
    split: str = ""
    reasoning: str = "auto"
    desirable: str = "middle"
    shard_rows: int = 0
    license: str = ""

    def __post_init__(self) -> None:
        if not self.split:
            object.__setattr__(self, "split", "all" if self.format == "folder" else "train")
        for name, known in (
            ("shape", SHAPES),
            ("format", FORMATS),
            ("split", SPLITS),
            ("reasoning", REASONING),
            ("desirable", DESIRABLE),
        ):
            if getattr(self, name) not in known:
                raise InvalidExport(name, f"{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}")
        if self.shard_rows and not SHARD_ROWS_MIN <= self.shard_rows <= SHARD_ROWS_MAX:
            raise InvalidExport(
                "shard_rows",
                f"shard_rows must be 0 or from {SHARD_ROWS_MIN} to {SHARD_ROWS_MAX}, not {self.shard_rows}",
            )
        if self.shard_rows and self.format not in ("parquet", "folder"):
            raise InvalidExport("shard_rows", f"only parquet and folder are cut into files, not {self.format}")
        if self.license and not LICENSE.fullmatch(self.license):
            raise InvalidExport(
                "license", f"license must be a name as the hub has it (cc-by-4.0), not {self.license!r}"
            )

    @property
    def is_zip(self) -> bool:
        return self.format == "folder" or bool(self.shard_rows)

    @property
    def content_type(self) -> str:
        return CONTENT_TYPES["folder" if self.is_zip else self.format]

    @property
    def splits(self) -> tuple[str, ...]:
        return ("train", "test") if self.split == "all" else (self.split,)


def export_name(version: DatasetVersion, export: Export) -> str:
    """The name that the file is downloaded under."""
    name = f"{version.project.slug}-v{version.number}-{export.shape}"
    if export.format == "folder":
        return f"{name}.zip" if export.split == "all" else f"{name}-{export.split}.zip"
    return f"{name}-{export.split}.{export.format}{'.zip' if export.is_zip else ''}"


def is_plain(version: DatasetVersion, shape: str) -> bool:
    """Prompts that are one question are given as text, unless a single one of the version is longer."""
    return shape in ("preference", "reward-bench") and not version.counts["has_turns"]


def is_weighted(version: DatasetVersion) -> bool:
    """Annotators weigh differently: each shape has a column `weight`, which trainers that know no weights pass over."""
    return "weights" in version.counts


def keeps_reasoning(version: DatasetVersion, export: Export) -> bool:
    """What a model wrote for itself is imitated with its reasoning; people ranked the answers alone."""
    return export.reasoning == "keep" or (export.reasoning == "auto" and bool(version.origin))
