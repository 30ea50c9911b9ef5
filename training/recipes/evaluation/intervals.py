"""A figure with its uncertainty: {"value", "low", "high", "n", "why"}, 95 %, as quality reports keep theirs.

Prompts are what is drawn from the world, so n counts prompts, and resampling draws prompts with all that hangs on them (cluster
bootstrap: Davison and Hinkley 1997, section 3.8).

Shapes: P prompts, M figures, B resamples.
"""

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from training.recipes.listwise import wilson

Array: TypeAlias = npt.NDArray[Any]
Interval: TypeAlias = dict[str, Any]

SEED = 20240229
RESAMPLES = 1000
AT_ONCE = 50  # resamples held in memory
LOW, HIGH = 2.5, 97.5


def share(value: float, n: int) -> Interval:
    """A share seen in n prompts, with its score interval: Wilson (1927). Half a success counts as one half."""
    return interval(value, *wilson(value, n), n=n)


def means(values_PM: Array) -> list[Interval]:
    """The mean of each column over the prompts, with its percentile interval; none with fewer than two prompts."""
    n = len(values_PM)
    drawn_BM = np.concatenate([weights_bP @ values_PM / n for weights_bP in resamples(n)])
    return [percentiles(value, drawn_B, n) for value, drawn_B in zip(values_PM.mean(axis=0), drawn_BM.T, strict=True)]


def percentiles(value: float, drawn_B: Array, n: int) -> Interval:
    low, high = np.percentile(drawn_B, (LOW, HIGH)) if n > 1 else (np.nan, np.nan)
    return interval(value, low, high, n=n)


def resamples(n: int) -> Iterator[Array]:
    """How often each of n prompts is drawn, (AT_ONCE, n) at a time, the same ones whenever they are asked for."""
    random = np.random.default_rng(SEED)
    for _ in range(RESAMPLES // AT_ONCE):
        yield random.multinomial(n, np.full(n, 1 / n), size=AT_ONCE).astype(float)


def interval(value: float, low: float, high: float, *, n: int) -> Interval:
    return {"value": rounded(value), "low": rounded(low), "high": rounded(high), "n": int(n), "why": ""}


def undefined(why: str, *, n: int = 0) -> Interval:
    """A figure that cannot be computed, and why, in a sentence that the page translates."""
    return {"value": None, "low": None, "high": None, "n": int(n), "why": why}


def rounded(value: Any, digits: int = 6) -> float | None:
    """A plain float for JSON; None where there is none."""
    return round(float(value), digits) if np.isfinite(value) else None
