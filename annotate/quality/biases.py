"""What decides a ranking besides the answers: where they stood, how long they are, how fast it went, whether it is always the same.

The order in which answers are shown is drawn anew for each annotator. So under chance the shown places of a given order are
uniform, whatever the answers are worth, and the tests of position and straight-lining are exact. Length is not drawn: a longer
answer may well be better, hence the comparison with the others who ranked the same tasks.

Shapes: R rankings without the verdict "all bad", K columns, A annotators.
"""

from dataclasses import dataclass
from itertools import combinations
from math import factorial

import numpy as np
from scipy import stats

from .intervals import Array
from .reading import Rankings

WORDS_PER_MINUTE = 1000.0
# Beyond so many rankings the exact distribution is as good as normal.
EXACT = 2000


def holm(p: Array) -> Array:
    """Holm 1979: p values (N,) corrected for so many looks, NaN left out."""
    adjusted = np.full(len(p), np.nan)
    looked = np.flatnonzero(np.isfinite(p))
    order = looked[np.argsort(p[looked], kind="stable")]
    if order.size:
        stepped = p[order] * np.arange(len(order), 0, -1)
        adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1)
    return adjusted


def at_least(count: int, chances: Array) -> float:
    """P(at least `count` successes) of independent trials with the given `chances` (N,): Poisson-binomial."""
    return float(_distribution(count, chances)[1])


def two_sided(count: int, chances: Array) -> float:
    """Twice the smaller tail, at most 1."""
    at_most, at_least = _distribution(count, chances)
    return float(min(1.0, 2 * min(at_most, at_least)))


def _distribution(count: int, chances: Array) -> tuple[float, float]:
    """(P(at most count), P(at least count))."""
    chances = np.asarray(chances, dtype=float)
    if len(chances) and (chances == chances[0]).all():
        return (
            float(stats.binom.cdf(count, len(chances), chances[0])),
            float(stats.binom.sf(count - 1, len(chances), chances[0])),
        )
    if len(chances) > EXACT:
        mean, deviation = chances.sum(), np.sqrt((chances * (1 - chances)).sum())
        return (
            float(stats.norm.cdf((count + 0.5 - mean) / deviation)),
            float(stats.norm.sf((count - 0.5 - mean) / deviation)),
        )
    mass = np.zeros(len(chances) + 1)
    mass[0] = 1
    for chance in chances:
        mass[1:] = mass[1:] * (1 - chance) + mass[:-1] * chance
        mass[0] *= 1 - chance
    return float(mass[: count + 1].sum()), float(mass[count:].sum())


@dataclass(frozen=True)
class Shown:
    """Ranks by shown place: the first column is A."""

    ranks: Array  # (R, K) 0: no such letter
    sizes: Array  # (R,) letters shown
    on_top: Array  # (R, K) bool: alone or shared in the first place
    chance: Array  # (R,) of any letter to be in the first place, if places were drawn


def as_shown(rankings: Rankings) -> Shown:
    ranks = np.zeros_like(rankings.ranks)
    row, column = np.nonzero((rankings.shown > 0) & (rankings.ranks > 0))
    ranks[row, rankings.shown[row, column] - 1] = rankings.ranks[row, column]
    sizes = (ranks > 0).sum(axis=1)
    on_top = ranks == 1
    return Shown(ranks, sizes, on_top, on_top.sum(axis=1) / np.maximum(sizes, 1))


def position_test(shown: Shown) -> tuple[float, float, int]:
    """(χ², p, degrees of freedom): are all letters in the first place as often as chance has it?

    Given how many of n letters share the first place (m), the letters' indicators have variance v = m/n (1 - m/n) and covariance
    -v / (n - 1); summed over rankings with the same n, Σ (observed - expected)² (n - 1) / (n Σ v) is χ² with n - 1 degrees of
    freedom. Without ties this is Pearson's test. The sizes n are added up.
    """
    statistic, freedom = 0.0, 0
    for size in np.unique(shown.sizes[shown.sizes > 1]):
        of_size = shown.sizes == size
        chance = shown.chance[of_size]
        spread = (chance * (1 - chance)).sum()
        if spread > 0:
            excess = shown.on_top[of_size, :size].sum(axis=0) - chance.sum()
            statistic += float((excess**2).sum() * (size - 1) / (size * spread))
            freedom += int(size) - 1
    return statistic, float(stats.chi2.sf(statistic, freedom)) if freedom else float("nan"), freedom


def same_order(shown: Shown) -> tuple[Array, Array]:
    """((R,) whether the order is the shown one, A first; (R,) its probability had the places been drawn).

    A shared place is in order too; a ranking that ties all has none. With ties in groups of g₁, g₂, … of n the probability is
    Π gᵢ! / n!.
    """
    ranks, sizes = shown.ranks, shown.sizes
    rising = ((ranks[:, 1:] >= ranks[:, :-1]) | (ranks[:, 1:] == 0)).all(axis=1)
    untied = ranks.max(axis=1, initial=0) > 1
    factorials = np.array([factorial(n) for n in range(ranks.shape[1] + 1)], dtype=float)
    chance = 1 / factorials[sizes]
    for place in range(1, ranks.shape[1] + 1):
        chance *= factorials[(ranks == place).sum(axis=1)]
    return rising & untied, np.where(untied, chance, 0.0)


@dataclass(frozen=True)
class CommonOrder:
    letters: str  # "B A=C D", best first
    count: int
    among: int  # rankings with as many letters and the same ties
    p: float  # that any order is met so often, had the places been drawn
    rows: Array  # which rankings


def common_order(shown: Shown) -> CommonOrder | None:
    """The order in letters that was given most often. None without rankings that order anything."""
    ordering = np.flatnonzero(shown.ranks.max(axis=1, initial=0) > 1)
    if not ordering.size:
        return None
    orders, which, counts = np.unique(shown.ranks[ordering], axis=0, return_inverse=True, return_counts=True)
    most = int(np.argmax(counts))
    order, count = orders[most], int(counts[most])
    alike = (np.sort(shown.ranks[ordering], axis=1) == np.sort(order)).all(axis=1)
    size = int((order > 0).sum())
    orders_possible = factorial(size)
    for place in range(1, size + 1):
        orders_possible //= factorial(int((order == place).sum()))
    among = int(alike.sum())
    p = min(1.0, orders_possible * float(stats.binom.sf(count - 1, among, 1 / orders_possible)))
    places = (
        "=".join("ABCDEFGHI"[letter] for letter in np.flatnonzero(order == place))
        for place in range(1, order.max() + 1)
    )
    return CommonOrder(" ".join(places), count, among, p, ordering[which.reshape(-1) == most])


@dataclass(frozen=True)
class LengthPairs:
    """N pairs within rankings, neither tied nor of the same length, the longer answer first."""

    row: Array  # (N,) the ranking
    longer_won: Array  # (N,) bool
    doublings: Array  # (N,) log₂ of the ratio of lengths


def length_pairs(rankings: Rankings) -> LengthPairs:
    words = rankings.words[rankings.task]
    rows, won, doublings = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=bool)], [np.zeros(0)]
    for i, j in combinations(range(words.shape[1]), 2):
        a, b = rankings.ranks[:, i], rankings.ranks[:, j]
        row = np.flatnonzero((a > 0) & (b > 0) & (a != b) & (words[:, i] != words[:, j]))
        first_longer = words[row, i] > words[row, j]
        rows.append(row)
        won.append((a[row] < b[row]) == first_longer)
        doublings.append(np.abs(np.log2(words[row, i] / words[row, j])))
    return LengthPairs(np.concatenate(rows), np.concatenate(won), np.concatenate(doublings))


def length_slopes(pairs: LengthPairs, group: Array, groups: int, cluster: Array) -> tuple[Array, Array]:
    """((groups,) slope b, (groups,) its standard error): log-odds that the longer of two answers wins, per doubling of length.

    P(longer wins) = σ(b log₂ ratio), without intercept, since answers of one length have even odds; by Newton's method, with the
    weak prior b ~ N(0, 3²) so that it is finite where the longer always won. The error allows for pairs of one `cluster` (N,)
    (the task) that depend on each other (sandwich: Liang and Zeger 1986). NaN for groups without pairs.
    """
    x, won = pairs.doublings, pairs.longer_won.astype(float)
    slope = np.zeros(groups)
    for _ in range(50):
        right = 1 / (1 + np.exp(-slope[group] * x))
        score = np.bincount(group, (won - right) * x, groups) - slope / 9
        information = np.bincount(group, right * (1 - right) * x**2, groups) + 1 / 9
        step = np.clip(score / information, -2, 2)
        slope = slope + step
        if np.abs(step).max(initial=0) < 1e-9:
            break
    right = 1 / (1 + np.exp(-slope[group] * x))
    key, inverse = np.unique(cluster.astype(np.int64) * groups + group, return_inverse=True)
    scores = np.bincount(inverse, (won - right) * x)
    spread = np.bincount(key % groups, scores**2, groups) if len(key) else np.zeros(groups)
    information = np.bincount(group, right * (1 - right) * x**2, groups) + 1 / 9
    counted = np.bincount(group, minlength=groups) > 0
    return np.where(counted, slope, np.nan), np.where(counted, np.sqrt(spread) / information, np.nan)


def length_correlations(rankings: Rankings) -> Array:
    """Kendall's τ-b between length and place within each ranking, (R,): 1 if the longest is best; NaN if undefined."""
    words = rankings.words[rankings.task]
    together, untied, unequal = (np.zeros(len(rankings)) for _ in range(3))
    for i, j in combinations(range(words.shape[1]), 2):
        there = (rankings.ranks[:, i] > 0) & (rankings.ranks[:, j] > 0)
        place = np.sign(rankings.ranks[:, j].astype(int) - rankings.ranks[:, i]) * there
        length = np.sign(words[:, i] - words[:, j]) * there
        together += place * length
        untied += place**2
        unequal += length**2
    with np.errstate(invalid="ignore", divide="ignore"):
        return together / np.sqrt(untied * unequal)


def words_shown(rankings: Rankings) -> Array:
    """Words of the prompt and of all completions, (R,)."""
    words: Array = (rankings.words.sum(axis=1) + rankings.prompt_words)[rankings.task]
    return words
