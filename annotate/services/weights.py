"""What each annotator's rankings weigh in a dataset version."""

from statistics import fmean

from annotate import jobs
from annotate.models import DatasetVersion, Membership

DIGITS = 4  # beyond them processors may differ
UNKNOWN = ""


def reliability_weights(version: DatasetVersion) -> dict[str, float]:
    """{pseudonym: weight 0 to 1} of everybody who ranked a task that somebody else ranked too, as of the version's time.

    The weight is how far an annotator is from a coin (annotate.quality.reliability). It is estimated from all ordinary rankings
    of the project, whatever the version leaves out. The key "" holds what everybody else weighs, of whom nothing is known: the
    mean of the others. Beats the version's lease, hence raises Fenced and Cancelled.
    """
    # numpy and scipy are for the worker alone.
    from annotate.quality.reading import Filters, read_rankings
    from annotate.quality.reliability import comparisons_of, estimate, weights

    rankings = read_rankings(
        project=version.project_id,
        as_of=version.as_of,
        filters=Filters(),
        criteria=[],
        beat=lambda _share: jobs.beat(version),
    )
    reliability, _strengths = estimate(comparisons_of(rankings))
    members = dict(Membership.objects.filter(pk__in=reliability).values_list("pk", "pseudonym"))
    found = {members[pk]: weight for pk, weight in weights(reliability).items() if pk in members}
    found[UNKNOWN] = fmean(found.values()) if found else 1.0
    return {name: round(weight, DIGITS) for name, weight in sorted(found.items())}


def weight_of(annotator: str, role: str, weights: dict[str, float] | None) -> float:
    """A reviewer's decision weighs 1, as everything does without `weights`."""
    if weights is None or role == "adjudicator":
        return 1.0
    return weights.get(annotator, weights[UNKNOWN])
