"""How the rows of a file are read: which shape they have, and what its columns are called."""

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

PREFERENCES = ("keep", "ask", "ignore")


@dataclass(frozen=True)
class Mapping:
    """The file's own names for what Podium reads, where it does not use known ones.

    A dot reaches into an object: `answer.text`. Completions named here come from a source of that column's name. `shape` is the
    name of a public shape, empty to have it recognised. `preferences`: what becomes of those that the file has: "keep" stores
    them as imported rankings and asks nobody, "ask" asks people as well, "ignore" takes the completions alone and asks people.
    """

    shape: str = ""
    prompt: str = ""
    completions: tuple[str, ...] = ()
    chosen: str = ""
    rejected: str = ""
    scores: tuple[str, ...] = ()
    reference_answer: str = ""
    source: str = ""
    tags: str = ""
    annotator: str = ""
    preferences: str = "keep"

    @cached_property
    def names_columns(self) -> bool:
        """Whether any column is named; a row of Podium's own names needs no look at each."""
        return any((
            self.prompt, self.completions, self.chosen, self.rejected, self.scores,
            self.reference_answer, self.source, self.tags, self.annotator,
        ))  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Mapping":
        lists = {name: tuple(value.get(name, ())) for name in ("completions", "scores")}
        return cls(**{**value, **lists})
