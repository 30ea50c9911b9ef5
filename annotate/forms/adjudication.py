"""A reviewer's decision: a place for each answer, without a script too."""

import time
import uuid
from typing import Any

from django import forms
from django.core import signing
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from annotate.models import Project, Ranking

SALT = "annotate.adjudication"


def new_token() -> str:
    """Names one opening of the review page and holds when it was: the same form sent twice is one decision."""
    return signing.dumps([str(uuid.uuid4()), time.time()], salt=SALT)


class DecisionForm(forms.Form):
    """`cleaned_data["places"]` is {letter: dense rank}, all 1 when all are bad; "seconds" how long the page was open."""

    token = forms.CharField(widget=forms.HiddenInput)
    revises = forms.UUIDField(required=False, widget=forms.HiddenInput)
    verdict = forms.ChoiceField(label=gettext_lazy("Answer"), choices=Ranking.Verdict.choices)
    comment = forms.CharField(
        label=gettext_lazy("Note"),
        required=False,
        max_length=5000,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text=gettext_lazy("Why, for whoever reads the decision later. Optional."),
    )

    def __init__(self, *args: Any, project: Project, shown: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.project, self.shown = project, shown
        numbers = [(place, str(place)) for place in range(1, len(shown) + 1)]
        for letter in shown:
            self.fields[f"place_{letter}"] = forms.TypedChoiceField(
                label=_("Place of answer %(letter)s") % {"letter": letter},
                choices=[("", "–"), *numbers],
                coerce=int,
                empty_value=None,
                required=False,
            )

    def clean_token(self) -> uuid.UUID:
        try:
            token, opened = signing.loads(self.cleaned_data["token"], salt=SALT)
        except signing.BadSignature:
            raise ValidationError(_("This page is out of date. Reload it, then decide.")) from None
        self.cleaned_data["seconds"] = max(0.0, time.time() - opened)
        return uuid.UUID(token)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if cleaned.get("verdict") == Ranking.Verdict.ALL_BAD:
            if not self.project.allow_all_bad:
                raise ValidationError(_("This project asks for an order; “all bad” is not an answer here."))
            cleaned["places"] = dict.fromkeys(self.shown, 1)
            return cleaned
        chosen = {letter: cleaned.get(f"place_{letter}") or 0 for letter in self.shown}
        missing = [letter for letter, place in chosen.items() if not place]
        if missing:
            raise ValidationError(_("These answers have no place yet: %(letters)s.") % {"letters": ", ".join(missing)})
        used = sorted(set(chosen.values()))
        if not self.project.allow_ties and len(used) < len(chosen):
            raise ValidationError(_("This project allows no ties: give each answer a place of its own."))
        cleaned["places"] = {letter: used.index(place) + 1 for letter, place in chosen.items()}
        return cleaned
