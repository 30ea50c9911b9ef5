from collections.abc import Iterable
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
    what = forms.CharField(strip=False)

    def __init__(self, *args: Any, tasks: Iterable[int], tags: Iterable[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.chosen: dict[str, dict[str, Any]] = {str(pk): {"pk": pk} for pk in tasks}
        self.chosen.update({f"tag:{tag}": {"prompt__tags__contains": [tag]} for tag in tags})

    def clean_what(self) -> dict[str, Any]:
        """The lookups of the tasks that are meant: one of the prompt's, or all that bear one of its tags."""
        what = self.cleaned_data["what"]
        if what not in self.chosen:
            raise ValidationError(_("This prompt has no task or tag “%(what)s”.") % {"what": what[:60]})
        return self.chosen[what]

    def moved(self, priority: int) -> int:
        """What becomes of this priority."""
        change = self.cleaned_data["change"]
        if change == "raise":
            return min(max(priority, 0) + STEP, PRIORITY_MAX)
        return max(min(priority, 0) - STEP, -PRIORITY_MAX) if change == "lower" else 0
