"""What a benchmark group returns. A group is a module of this folder with `run() -> list[Figure]`."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One measured figure. `against` says what a ratio was measured against, in the same run."""

    name: str
    value: float
    unit: str
    against: str = ""
    spread: str = ""

    @classmethod
    def from_rounds(cls, name: str, rounds: Sequence[float], unit: str, against: str = "") -> "Figure":
        """The median of several rounds, with their range as the spread."""
        return cls(name, statistics.median(rounds), unit, against, f"{min(rounds):.3g} to {max(rounds):.3g}")
