from collections.abc import Sequence
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from annotate.models import PRIORITY_MAX

STEP = 10


class PriorityForm(forms.Form):
    """Ask something earlier or later: one step up or down from where it is, at least from 0, or back to 0."""

    change = forms.ChoiceField(
        choices=[
            ("raise", gettext_lazy("Ask earlier")),
            ("normal", gettext_lazy("As any other")),
            ("lower", gettext_lazy("Ask later")),
        ]
    )
    tag = forms.CharField(required=False, strip=False)

    def __init__(self, *args: Any, tags: Sequence[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.tags = tags

    def clean_tag(self) -> str:
        tag: str = self.cleaned_data["tag"]
        if tag and tag not in self.tags:
            raise ValidationError(_("This prompt does not bear the tag “%(tag)s”.") % {"tag": tag[:60]})
        return tag

    def moved(self, priority: int) -> int:
        """What becomes of this priority."""
        change = self.cleaned_data["change"]
        if change == "raise":
            return min(max(priority, 0) + STEP, PRIORITY_MAX)
        return max(min(priority, 0) - STEP, -PRIORITY_MAX) if change == "lower" else 0
