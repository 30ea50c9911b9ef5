"""What the ranking page posts."""

import json
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from annotate.formats.importing.reading import parse_json
from annotate.formats.importing.shapes import NUL_ESCAPE
from annotate.models import Flag, Project, Ranking
from annotate.models.projects import RATING_MAX
from annotate.services.rankings import Ratings

DRAFT_BYTES = 64 * 1024


class RankingForm(forms.Form):
    """A weak order of exactly the `shown` letters, within what the project allows.

    `cleaned_data["places"]` is a list of places, best first, each a list of letters; empty when all are bad.
    `cleaned_data["ratings"]` is {letter: {criterion: 1 to 5}}, with what was rated alone.
    """

    token = forms.UUIDField(label=gettext_lazy("Opening of the task"))
    verdict = forms.ChoiceField(label=gettext_lazy("Answer"), choices=Ranking.Verdict.choices)
    places = forms.CharField(label=gettext_lazy("Order"), required=False, max_length=2000)
    comment = forms.CharField(label=gettext_lazy("Comment"), required=False, max_length=5000)
    reasons = forms.MultipleChoiceField(label=gettext_lazy("Reasons"), required=False)
    ratings = forms.CharField(label=gettext_lazy("Ratings"), required=False, max_length=20_000)

    def __init__(self, data: Any, *, project: Project, shown: str) -> None:
        super().__init__(data)
        self.project, self.shown = project, shown
        self.fields["reasons"].choices = [(reason, reason) for reason in project.reasons]  # type: ignore[attr-defined]

    def clean_verdict(self) -> str:
        verdict: str = self.cleaned_data["verdict"]
        if verdict == Ranking.Verdict.ALL_BAD and not self.project.allow_all_bad:
            raise ValidationError(_("This project asks for an order; “all bad” is not an answer here."))
        return verdict

    def clean_ratings(self) -> Ratings:
        return read_ratings(self.cleaned_data["ratings"], self.shown, self.project.criteria)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        # Whoever says that nothing is acceptable has said it of each answer.
        if self.project.require_ratings and cleaned.get("verdict") == Ranking.Verdict.RANKED and "ratings" in cleaned:
            check_all_rated(cleaned["ratings"], self.shown, self.project.criteria)
        if cleaned.get("verdict") == Ranking.Verdict.ALL_BAD:
            cleaned["places"] = []
        elif "places" in cleaned:
            cleaned["places"] = read_places(cleaned["places"], self.shown)
            if not self.project.allow_ties and any(len(place) > 1 for place in cleaned["places"]):
                raise ValidationError(_("This project allows no ties: give each answer a place of its own."))
        return cleaned

    @property
    def problem(self) -> str:
        return first_problem(self)


def first_problem(form: forms.Form) -> str:
    """The first thing that is wrong with a form, in one sentence that names the field as people know it."""
    name, errors = next(iter(form.errors.items()))
    return str(errors[0]) if name == "__all__" else f"{form[name].label}: {errors[0]}"


def read_places(text: str, shown: str) -> list[list[str]]:
    """Parse `[["B"], ["A", "C"]]` and check that each of the `shown` letters has exactly one place."""
    try:
        places = json.loads(text)
    except (ValueError, RecursionError):
        places = None
    well_formed = isinstance(places, list) and all(
        isinstance(place, list) and place and all(isinstance(letter, str) for letter in place) for place in places
    )
    if not well_formed:
        raise ValidationError(_("The order could not be read: it must be a list of places, each a list of letters."))
    placed = [letter for place in places for letter in place]
    for letter in placed:
        if letter not in shown or len(letter) != 1:
            raise ValidationError(_("There is no answer “%(letter)s” in this task.") % {"letter": letter[:20]})
        if placed.count(letter) > 1:
            raise ValidationError(_("Answer %(letter)s has more than one place.") % {"letter": letter})
    missing = [letter for letter in shown if letter not in placed]
    if missing:
        raise ValidationError(_("These answers have no place yet: %(letters)s.") % {"letters": ", ".join(missing)})
    return places  # type: ignore[no-any-return]  # its shape was checked above


def read_ratings(text: str, shown: str, criteria: list[str]) -> Ratings:
    """Parse `{"A": {"Clarity": 4}}`: any of the `shown` letters, rated from 1 to 5 by any of the `criteria`."""
    if not text:
        return {}
    try:
        ratings = parse_json(text)
    except (ValueError, RecursionError):
        ratings = None
    if not isinstance(ratings, dict) or not all(isinstance(rated, dict) for rated in ratings.values()):
        raise ValidationError(
            _("The ratings could not be read: for each answer’s letter there must be a value per criterion.")
        )
    for letter, rated in ratings.items():
        if letter not in shown or len(letter) != 1:
            raise ValidationError(_("There is no answer “%(letter)s” in this task.") % {"letter": letter[:20]})
        for criterion, value in rated.items():
            names = {"letter": letter, "criterion": criterion[:60], "most": RATING_MAX}
            if criterion not in criteria:
                raise ValidationError(_("“%(criterion)s” is no criterion of this project any more.") % names)
            if type(value) is not int or not 1 <= value <= RATING_MAX:
                raise ValidationError(
                    _("Answer %(letter)s, %(criterion)s: a rating is a whole number from 1 to %(most)s.") % names
                )
    return ratings


def check_all_rated(ratings: Ratings, shown: str, criteria: list[str]) -> None:
    """Raises ValidationError that names the first answer which lacks a rating, and the criterion."""
    for letter in shown:
        for criterion in criteria:
            if criterion not in ratings.get(letter, {}):
                names = {"letter": letter, "criterion": criterion}
                raise ValidationError(_("Answer %(letter)s is not rated by “%(criterion)s” yet.") % names)


class UndoForm(forms.Form):
    token = forms.UUIDField(label=gettext_lazy("Ranking"))


class FlagForm(forms.Form):
    reason = forms.ChoiceField(
        label=gettext_lazy("What is wrong"),
        choices=Flag.Reason.choices,
        error_messages={"required": gettext_lazy("Say what is wrong with this task.")},
    )
    comment = forms.CharField(label=gettext_lazy("Comment"), required=False, max_length=5000)


class DemonstrationForm(forms.Form):
    text = forms.CharField(
        label=gettext_lazy("Ideal answer"),
        max_length=200_000,
        strip=False,
        error_messages={"required": gettext_lazy("Write an answer first.")},
    )
    edited_from = forms.CharField(label=gettext_lazy("Start from"), required=False, max_length=1)


class DifferenceForm(forms.Form):
    """Two different ones of the `shown` letters."""

    a = forms.ChoiceField(label=gettext_lazy("First answer"))
    b = forms.ChoiceField(label=gettext_lazy("Second answer"))

    def __init__(self, data: Any, *, shown: str) -> None:
        super().__init__(data)
        for name in ("a", "b"):
            self.fields[name].choices = [(letter, letter) for letter in shown]  # type: ignore[attr-defined]

    def clean_b(self) -> str:
        letter: str = self.cleaned_data["b"]
        if letter == self.cleaned_data.get("a"):
            raise ValidationError(_("Choose two different answers."))
        return letter


def read_draft(body: bytes) -> tuple[str, dict[str, Any]]:
    """(token, draft) of a posted draft. Raises ValidationError, in words, for anything that is not one."""
    if len(body) > DRAFT_BYTES:
        raise ValidationError(_("The draft is larger than 64 kB."))
    try:
        posted = parse_json(body.decode())
        # Half a surrogate pair and 1e999 are JSON, but nothing that the database takes.
        text = json.dumps(posted, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (ValueError, RecursionError):
        raise ValidationError(_("The draft is not JSON.")) from None
    draft = posted.get("draft") if isinstance(posted, dict) else None
    if not isinstance(draft, dict) or NUL_ESCAPE.search(text):
        raise ValidationError(_("The draft must be an object, without NUL characters."))
    places = draft.get("places", [])
    if not isinstance(places, list) or not all(
        isinstance(place, list) and all(isinstance(letter, str) for letter in place) for place in places
    ):
        raise ValidationError(_("The draft’s places must be a list of lists of letters."))
    return forms.UUIDField().clean(posted.get("token")), draft
