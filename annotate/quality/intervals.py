"""A figure with its uncertainty, by resampling tasks.

Rankings of one task are not independent of each other (they judge the same answers), so tasks are drawn, with all of their
rankings (cluster bootstrap: Davison and Hinkley 1997, section 3.8). Intervals are 95 % percentile intervals.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Interval: TypeAlias = dict[str, Any]
# Called from time to time with the share that is done, 0 to 1.
Beat: TypeAlias = Callable[[float], None]

SEED = 20240229
LOW, HIGH = 2.5, 97.5
# Drawing costs tasks × replicates; with more tasks fewer replicates tell as much.
DRAWS = 20_000_000
REPLICATES_MIN, REPLICATES_MAX = 200, 1000


def interval(value: float, replicates: Array | None = None, *, n: int) -> Interval:
    """`replicates` (B,) are the figure in each resample, NaN where it was undefined; with n < 2 no interval is given."""
    low = high = None
    if replicates is not None and n > 1:
        defined = replicates[np.isfinite(replicates)]
        if defined.size >= REPLICATES_MIN // 2:
            low, high = (rounded(bound) for bound in np.percentile(defined, (LOW, HIGH)))
    return {"value": rounded(value), "low": low, "high": high, "n": int(n), "why": ""}


def undefined(why: str, *, n: int = 0) -> Interval:
    """A figure that cannot be computed, and why, in a sentence that the page translates."""
    return {"value": None, "low": None, "high": None, "n": int(n), "why": why}


def rounded(value: Any, digits: int = 6) -> float | None:
    """A plain float for JSON; None where there is none."""
    return round(float(value), digits) if np.isfinite(value) else None


def unheard(share: float) -> None:
    """For whoever does not want to hear how far it is."""


class Bootstrap:
    """Resamples of `tasks` tasks, the same ones each time they are asked for."""

    def __init__(self, tasks: int) -> None:
        self.tasks = tasks
        self.replicates = int(np.clip(DRAWS // max(tasks, 1), REPLICATES_MIN, REPLICATES_MAX))

    def weights(self) -> Iterator[Array]:
        """For each replicate how often each task was drawn, (tasks,) float."""
        random = np.random.default_rng(SEED)
        for _ in range(self.replicates):
            drawn = random.integers(0, self.tasks, self.tasks)
            yield np.bincount(drawn, minlength=self.tasks).astype(float)

    def sums(self, task: Array, group: Array, values: list[Array], groups: int) -> Array:
        """Sums of each of `values` (N,) by group in each replicate, (len(values), B, groups)."""
        result = np.empty((len(values), self.replicates, groups))
        for replicate, weight in enumerate(self.weights()):
            drawn = weight[task]
            for row, value in enumerate(values):
                result[row, replicate] = np.bincount(group, weights=drawn * value, minlength=groups)
        return result


def mean_intervals(
    task: Array, group: Array, value: Array, groups: int, bootstrap: Bootstrap, why: str
) -> list[Interval]:
    """The mean of `value` (N,) within each group, with its interval; n counts the group's tasks. `why`: for empty groups."""
    if not value.size:
        return [undefined(why) for _ in range(groups)]
    key, inverse = np.unique(task.astype(np.int64) * groups + group, return_inverse=True)
    totals, counts = np.bincount(inverse, weights=value), np.bincount(inverse).astype(float)
    task, group = key // groups, key % groups
    drawn_totals, drawn_counts = bootstrap.sums(task, group, [totals, counts], groups)
    with np.errstate(invalid="ignore", divide="ignore"):
        replicates = drawn_totals / drawn_counts
    tasks = np.bincount(group, minlength=groups)
    total = np.bincount(group, weights=totals, minlength=groups)
    count = np.bincount(group, weights=counts, minlength=groups)
    return [
        interval(total[index] / count[index], replicates[:, index], n=int(tasks[index]))
        if tasks[index]
        else undefined(why)
        for index in range(groups)
    ]
