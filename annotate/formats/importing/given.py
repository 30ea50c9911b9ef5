"""Rankings that a file brings along."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _

from annotate.models import RATING_MAX, Ranking
from annotate.numbers import grouped

from .checks import checked_name, checked_text, kind_of_value
from .errors import MAX_EXPLANATION, RowError

MAX_RANKINGS = 100
MAX_REASONS = 50
MAX_CRITERIA = 50
# Ranks may leave places out; they are closed up.
MAX_RANK = 1000
NAME = 240
# Thirty years. Sums of them stay numbers.
MAX_SECONDS = 10**9
YEAR_FROM = 1970

Ratings = tuple[dict[str, int], ...]


@dataclass(frozen=True)
class GivenRanking:
    """One weak order of a row's answers, as the file has it.

    `ranks` belong to the answers in their order: 1 is best, equal ranks are a tie, no rank is left out; all 1 where the
    verdict is all_bad. `ratings` has a {criterion: 1 to 5} for each answer, or is empty. What the file does not say is empty or None.
    """

    ranks: tuple[int, ...]
    verdict: str = "ranked"
    annotator: str = ""
    original: str = ""
    reasons: tuple[str, ...] = ()
    comment: str = ""
    seconds: float | None = None
    created: datetime | None = None
    ratings: Ratings = ()
    role: str = ""


def given_rankings(value: Any, firsts: list[int]) -> list[GivenRanking]:
    """Check a row's `rankings`.

    `firsts[i]` is the place, among the row's different answers, of what the i-th completion says: completions that are
    the same count once and must share a rank. RowError names the field.
    """
    if not isinstance(value, list):
        raise RowError("rankings", _("Must be a list of objects, each with ranks."))
    if len(value) > MAX_RANKINGS:
        raise RowError("rankings", _("Has more than %(most)d rankings.") % {"most": MAX_RANKINGS})
    return [_ranking(one, f"rankings[{number}]", firsts) for number, one in enumerate(value, start=1)]


def _ranking(value: Any, name: str, firsts: list[int]) -> GivenRanking:
    if not isinstance(value, dict):
        raise RowError(name, _("Must be an object with ranks, not %(kind)s.") % {"kind": kind_of_value(value)})
    verdict = value.get("verdict") or Ranking.Verdict.RANKED
    if verdict not in (Ranking.Verdict.RANKED, Ranking.Verdict.ALL_BAD):
        raise RowError(f"{name}.verdict", _("Must be ranked or all_bad."))
    if max(firsts, default=0) < 1:
        raise RowError(name, _("A ranking needs two different completions."))
    ranks = value.get("ranks")
    if ranks is None and verdict == Ranking.Verdict.ALL_BAD:
        ranks = [1] * len(firsts)
    return GivenRanking(
        ranks=_ranks(ranks, f"{name}.ranks", firsts, is_order=verdict == Ranking.Verdict.RANKED),
        verdict=str(verdict),
        annotator=_name(value.get("annotator"), f"{name}.annotator", NAME),
        original=_name(value.get("ranking"), f"{name}.ranking", 64),
        reasons=_reasons(value.get("reasons"), f"{name}.reasons"),
        comment=checked_text(value.get("comment") or "", f"{name}.comment", MAX_EXPLANATION, empty=True),
        seconds=_seconds(value.get("seconds"), f"{name}.seconds"),
        created=_created(value.get("created"), f"{name}.created"),
        ratings=_ratings(value.get("ratings"), f"{name}.ratings", firsts),
        role=_name(value.get("role"), f"{name}.role", 40),
    )


def _ranks(value: Any, name: str, firsts: list[int], *, is_order: bool) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(
        isinstance(rank, int | float) and not isinstance(rank, bool) and rank == rank // 1 and 1 <= rank <= MAX_RANK
        for rank in value
    ):
        raise RowError(name, _("Must be a list of whole numbers from 1 (best), one for each completion."))
    if len(value) != len(firsts):
        reason = _("Has %(ranks)d places for %(completions)d completions.")
        raise RowError(name, reason % {"ranks": len(value), "completions": len(firsts)})
    merged: dict[int, int] = {}
    for first, rank in zip(firsts, value, strict=True):
        if merged.setdefault(first, int(rank)) != rank:
            raise RowError(name, _("Two of the completions are the same, but have different ranks."))
    places = {rank: place for place, rank in enumerate(sorted(set(merged.values())), start=1)}
    if len(places) > 1 and not is_order:
        raise RowError(name, _("Where all are bad, no completion can be better than another: all ranks must be 1."))
    return tuple(places[rank] for rank in merged.values())


def _name(value: Any, name: str, limit: int) -> str:
    """A name; from other programs often a number."""
    if value is None or value == "":
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return checked_name(value, name, limit, empty=True).strip()


def _reasons(value: Any, name: str) -> tuple[str, ...]:
    if not isinstance(value or [], list) or len(value or []) > MAX_REASONS:
        raise RowError(name, _("Must be a list of at most %(most)d words.") % {"most": MAX_REASONS})
    return tuple(dict.fromkeys(_short(one, f"{name}[{number}]") for number, one in enumerate(value or [], start=1)))


def _short(value: Any, name: str) -> str:
    """A reason or criterion, bounded in characters as projects bound theirs."""
    text = checked_name(value, name, NAME)
    if len(text) > 60:
        raise RowError(name, _("Is longer than 60 characters."))
    return text


def _seconds(value: Any, name: str) -> float | None:
    if value is None or value == "":
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 <= number <= MAX_SECONDS:
        raise RowError(name, _("Must be a number of seconds from 0 to %(most)s.") % {"most": grouped(MAX_SECONDS)})
    return number


def _created(value: Any, name: str) -> datetime | None:
    """A time; without a zone it is UTC. A number is seconds since 1970."""
    if value is None or value == "":
        return None
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = datetime.fromtimestamp(value, UTC)
        if isinstance(value, str):
            value = parse_datetime(value.strip())
        if not isinstance(value, datetime):
            raise ValueError
        when = value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise RowError(name, _("Must be a time like 2026-01-31T12:00:00Z.")) from error
    if when.year < YEAR_FROM or when > timezone.now() + timedelta(days=1):
        raise RowError(name, _("Must be a time between 1970 and now."))
    return when


def _ratings(value: Any, name: str, firsts: list[int]) -> Ratings:
    if value is None or value == "" or value == []:
        return ()
    if not isinstance(value, list) or len(value) != len(firsts):
        raise RowError(name, _("Must be a list with one object for each completion."))
    merged: dict[int, dict[str, int]] = {}
    for number, (first, one) in enumerate(zip(firsts, value, strict=True), start=1):
        merged.setdefault(first, {}).update(_rating(one, f"{name}[{number}]"))
    return tuple(merged.values()) if any(merged.values()) else ()


def _rating(value: Any, name: str) -> dict[str, int]:
    """{criterion: rating}, or as in a dataset version a list of {"criterion": …, "rating": …}."""
    if isinstance(value, list) and all(isinstance(one, dict) and {"criterion", "rating"} <= set(one) for one in value):
        pairs = [(one["criterion"], one["rating"]) for one in value]
    elif isinstance(value or {}, dict):
        pairs = list((value or {}).items())
    else:
        raise RowError(name, _('Must be an object like {"Clarity": 4}.'))
    if len(pairs) > MAX_CRITERIA:
        raise RowError(name, _("Has more than %(most)d criteria.") % {"most": MAX_CRITERIA})
    ratings = {}
    for criterion, rating in pairs:
        criterion = _short(criterion, name)
        if rating is None:
            continue
        if isinstance(rating, bool) or not isinstance(rating, int | float) or rating not in range(1, RATING_MAX + 1):
            reason = _("Must be a whole number from 1 to %(most)d.")
            raise RowError(f"{name}.{criterion}", reason % {"most": RATING_MAX})
        ratings[criterion] = int(rating)
    return ratings
