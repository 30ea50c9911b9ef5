"""Which words differ: between two shown answers, and between an ideal answer and the one it started from."""

from dataclasses import dataclass

from django.http import HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from annotate.access import ProjectRequest
from annotate.differences import Difference, TooLong, compare_texts
from annotate.forms.ranking import DemonstrationForm, DifferenceForm, first_problem
from annotate.models import Assignment
from annotate.numbers import grouped
from annotate.services.assignments import load_shown
from annotate.services.rankings import letters

from .ranking import in_words, my_assignment, ranking_script, refusal


@require_GET
@never_cache
@ranking_script
@in_words
def rank_difference(request: ProjectRequest, pk: int) -> HttpResponse:
    assignment = my_assignment(membership=request.membership, pk=pk)
    texts = shown_texts(assignment)
    form = DifferenceForm(request.GET, shown="".join(texts))
    if not form.is_valid():
        return refusal("invalid", first_problem(form), 422)
    first, second = form.cleaned_data["a"], form.cleaned_data["b"]
    return show_difference(request, {name_of(first): texts[first], name_of(second): texts[second]})


@require_POST
@ranking_script
@in_words
def rank_demonstration_difference(request: ProjectRequest, pk: int) -> HttpResponse:
    assignment = my_assignment(membership=request.membership, pk=pk)
    form = DemonstrationForm(request.POST)
    if not form.is_valid():
        return refusal("invalid", first_problem(form), 422)
    texts, start = shown_texts(assignment), form.cleaned_data["edited_from"]
    if start not in texts:
        return refusal("from_nothing", _("You started from nothing, so all of this answer is yours."), 422)
    return show_difference(request, {name_of(start): texts[start], _("Yours"): form.cleaned_data["text"]}, as_edit=True)


def name_of(letter: str) -> str:
    return _("Answer %(letter)s") % {"letter": letter}


def shown_texts(assignment: Assignment) -> dict[str, str]:
    """{letter: text} of the answers as they are shown, reasoning left out."""
    texts = [text for text, _reasoning in load_shown(assignment).completions]
    return dict(zip(letters(len(texts)), texts, strict=True))


@dataclass(frozen=True)
class Piece:
    """A stretch of a column; `mark` is "del" for what only the first text has, "ins" for what only the second has."""

    text: str
    mark: str = ""
    folded: bool = False

    @property
    def words(self) -> int:
        return len(self.text.split())


def show_difference(request: ProjectRequest, texts: dict[str, str], *, as_edit: bool = False) -> HttpResponse:
    """The fragment that a dialog shows, for two texts by their names: side by side, or the second as an edit of the first."""
    (first, second), names = texts.values(), list(texts)
    try:
        difference = compare_texts(first, second)
    except TooLong as too_long:
        message = ngettext(
            "These answers are too long to be compared: one has %(words)s word.",
            "These answers are too long to be compared: one has %(words)s words.",
            too_long.words,
        )
        return refusal("too_long", message % {"words": grouped(too_long.words)}, 422)
    columns = [(names[1], pieces(difference, "del ins"))]
    if not as_edit:
        columns = [(names[0], pieces(difference, "del")), (names[1], pieces(difference, "ins"))]
    context = {
        "columns": columns,
        "lengths": [(names[0], difference.first_words), (names[1], difference.second_words)],
        "percent": int(100 * difference.shared),
        "is_none": difference.is_none,
    }
    return render(request, "annotate/difference.html", context)


def pieces(difference: Difference, marks: str) -> list[Piece]:
    """What a column shows that has `marks`: what only the first text has, what only the second has, or both."""
    column = []
    for part in difference.parts:
        if part.kind == "equal":
            column.append(Piece(part.first if marks == "del" else part.second, folded=part.folded))
            continue
        for text, mark in ((part.first, "del"), (part.second, "ins")):
            if text and mark in marks:
                words = text.rstrip()
                column += [Piece(words, mark), Piece(text[len(words) :])]
    return column
