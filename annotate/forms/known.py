"""The known order of a task's completions."""

from collections.abc import Sequence
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from annotate.models import Completion, RankingTask

EXPLANATION_MAX = 20_000
Purpose = RankingTask.Purpose


class KnownOrderForm(forms.Form):
    """A place for each of the completions, equal places are ties; `ranks` has them as {completion id: place}."""

    purpose = forms.ChoiceField(
        label=gettext_lazy("What it is for"),
        choices=[
            (Purpose.GOLD, gettext_lazy("Gold: hidden among the other tasks")),
            (Purpose.PRACTICE, gettext_lazy("Practice: before somebody’s first real task, explained afterwards")),
        ],
        widget=forms.RadioSelect,
        initial=Purpose.GOLD,
        error_messages={"required": gettext_lazy("Say whether it is gold or practice.")},
    )
    explanation = forms.CharField(
        label=gettext_lazy("Explanation"),
        help_text=gettext_lazy(
            "Markdown. Why this order: shown after a practice task, and with worked examples. Quote the answers: their letters are shuffled for everybody."
        ),
        required=False,
        max_length=EXPLANATION_MAX,
        widget=forms.Textarea(attrs={"rows": 6}),
    )

    def __init__(self, data: Any = None, *, completions: Sequence[Completion], initial: dict[str, Any] | None = None):
        super().__init__(data, initial=initial)
        self.completions = completions
        places = [
            ("", gettext_lazy("Choose…")),
            *((str(place), str(place)) for place in range(1, len(completions) + 1)),
        ]
        for number, completion in enumerate(completions, start=1):
            self.fields[place_name(completion)] = forms.TypedChoiceField(
                label=_("Place of answer %(number)d") % {"number": number},
                choices=places,
                coerce=int,
                error_messages={"required": gettext_lazy("Give this answer a place.")},
            )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        places = [cleaned.get(place_name(completion)) for completion in self.completions]
        if all(places) and len(set(places)) == 1:
            raise ValidationError(_("At least one answer must be better than another: nobody can miss a tie of all."))
        return cleaned

    @property
    def ranks(self) -> dict[int, int]:
        return {completion.pk: self.cleaned_data[place_name(completion)] for completion in self.completions}


def place_name(completion: Completion) -> str:
    return f"place_{completion.pk}"
