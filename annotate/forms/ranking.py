"""What the ranking page posts."""

import json
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from annotate.formats.reading import parse_json
from annotate.formats.shapes import NUL_ESCAPE
from annotate.models import Flag, Project, Ranking

DRAFT_BYTES = 64 * 1024


class RankingForm(forms.Form):
    """A weak order of exactly the `shown` letters, within what the project allows.

    `cleaned_data["places"]` is a list of places, best first, each a list of letters; empty when all are bad.
    """

    token = forms.UUIDField(label=gettext_lazy("Opening of the task"))
    verdict = forms.ChoiceField(label=gettext_lazy("Answer"), choices=Ranking.Verdict.choices)
    places = forms.CharField(label=gettext_lazy("Order"), required=False, max_length=2000)
    comment = forms.CharField(label=gettext_lazy("Comment"), required=False, max_length=5000)
    reasons = forms.MultipleChoiceField(label=gettext_lazy("Reasons"), required=False)

    def __init__(self, data: Any, *, project: Project, shown: str) -> None:
        super().__init__(data)
        self.project, self.shown = project, shown
        self.fields["reasons"].choices = [(reason, reason) for reason in project.reasons]  # type: ignore[attr-defined]

    def clean_verdict(self) -> str:
        verdict: str = self.cleaned_data["verdict"]
        if verdict == Ranking.Verdict.ALL_BAD and not self.project.allow_all_bad:
            raise ValidationError(_("This project asks for an order; “all bad” is not an answer here."))
        return verdict

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
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
