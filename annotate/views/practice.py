"""Practice on the ranking page: what it says before, beside and after each task, and worked examples for the guidelines."""

from itertools import groupby
from typing import Any

from django.http import HttpResponse
from django.shortcuts import render

from annotate.access import ProjectRequest
from annotate.models import Assignment, Completion, KnownOrder, Membership, Ranking, RankingTask
from annotate.services.assignments import load_shown
from annotate.services.known import Ranks, ranks_of_known, strict_pairs, worked_examples
from annotate.services.rankings import letters
from annotate.services.serving import must_practise, read_practice
from annotate.text import render_markdown

DIFFERENCES_SHOWN = 12


def is_practice(assignment: Assignment) -> bool:
    return assignment.task.purpose == RankingTask.Purpose.PRACTICE


def describe_practice(membership: Membership, assignment: Assignment | None) -> dict[str, Any] | None:
    """What the ranking page says of the practice task on it. Asks the database only for whoever is in practice."""
    if assignment is None or not must_practise(membership) or not is_practice(assignment):
        return None
    practice = read_practice(membership=membership)
    return {
        "number": len(practice.done) + 1,
        "total": practice.total,
        "percent": round(100 * practice.score),
        "needed": membership.project.practice_threshold,
        "is_first": not practice.done and assignment.draft is None,
        "again": membership.resumed_at is not None,
    }


def practice_feedback(request: ProjectRequest, assignment: Assignment) -> HttpResponse:
    """What a submitted practice task taught: the known order beside theirs, and how practice goes on."""
    membership = request.membership
    # Read anew: the submission may have ended practice, or one before it in another tab.
    membership.refresh_from_db(fields=["qualified_at", "paused_at", "pause_reason"])
    known = KnownOrder.objects.get(task=assignment.task_id)
    ranking = Ranking.objects.current().get(assignment=assignment)
    given = dict(ranking.ranked_completions.values_list("completion_id", "rank"))
    right = ranks_of_known(known)
    letter_of = dict(zip(assignment.shown_order, letters(len(assignment.shown_order)), strict=True))
    all_bad = ranking.verdict == Ranking.Verdict.ALL_BAD
    differing = [] if all_bad else differences(right, given, letter_of)
    shown = load_shown(assignment)
    text_of = {pk: text for pk, (text, _thought) in zip(assignment.shown_order, shown.completions, strict=True)}
    practice = read_practice(membership=membership)
    context = {
        "project": membership.project,
        "membership": membership,
        "number": len(practice.done),
        "total": practice.total,
        "percent": round(100 * practice.score),
        "needed": membership.project.practice_threshold,
        "all_bad": all_bad,
        "given": places(given, letter_of, text_of),
        "known": places(right, letter_of, text_of),
        "pairs": len(strict_pairs(right)),
        "differing": differing[:DIFFERENCES_SHOWN],
        "differ": len(strict_pairs(right)) if all_bad else len(differing),
        "more": max(len(differing) - DIFFERENCES_SHOWN, 0),
        "explanation": render_markdown(known.explanation) if known.explanation.strip() else "",
        "conversation": [
            {"role": message["role"], "html": render_markdown(message["content"])} for message in shown.messages
        ],
        "answers": [
            {"letter": letter_of[pk], "place": right[pk], "html": render_markdown(text_of[pk])}
            for pk in sorted(right, key=lambda completion: (right[completion], letter_of[completion]))
        ],
    }
    return render(request, "annotate/practice.html#feedback", context)


def places(ranks: Ranks, letter_of: dict[int, str], text_of: dict[int, str]) -> list[list[dict[str, str]]]:
    """Letters and texts by place, best first."""
    ordered = sorted(ranks, key=lambda completion: (ranks[completion], letter_of[completion]))
    return [
        [{"letter": letter_of[one], "text": text_of[one]} for one in place]
        for _rank, place in groupby(ordered, key=ranks.__getitem__)
    ]


def differences(right: Ranks, given: Ranks, letter_of: dict[int, str]) -> list[dict[str, Any]]:
    """The pairs that were ordered otherwise, or tied: the letter that is better by the known order, the one that is worse."""
    return [
        {"better": letter_of[better], "worse": letter_of[worse], "tied": given[better] == given[worse]}
        for better, worse in strict_pairs(right)
        if given[better] >= given[worse]
    ]


def describe_examples(membership: Membership) -> list[dict[str, Any]]:
    """Worked examples for the guidelines: prompt, answers by place, explanation, all rendered."""
    examples = worked_examples(membership=membership)
    wanted = {pk for known in examples for pk in ranks_of_known(known)}
    texts = dict(Completion.objects.filter(pk__in=wanted).values_list("pk", "text"))
    return [
        {
            "prompt": str(known.task.prompt),
            "conversation": [
                {"role": message["role"], "html": render_markdown(message["content"])}
                for message in known.task.prompt.messages
            ],
            "answers": [
                {"place": rank, "html": render_markdown(texts[pk])}
                for pk, rank in sorted(ranks_of_known(known).items(), key=lambda item: (item[1], item[0]))
            ],
            "explanation": render_markdown(known.explanation) if known.explanation.strip() else "",
        }
        for known in examples
    ]
