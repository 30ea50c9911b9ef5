"""What admins decide about flagged tasks, and about tasks that they take out themselves."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from annotate.models import Flag


class TaskStateForm(forms.Form):
    """`flag` and `close` need a reason; `reopen` none."""

    action = forms.ChoiceField(choices=[(action, action) for action in ("flag", "close", "reopen")])
    reason = forms.ChoiceField(
        label=gettext_lazy("What is wrong"), choices=[("", "–"), *Flag.Reason.choices], required=False
    )
    comment = forms.CharField(label=gettext_lazy("What you found (optional)"), required=False, max_length=200)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if cleaned.get("action") in ("flag", "close") and not cleaned.get("reason"):
            raise ValidationError({"reason": _("Say what is wrong with this task.")})
        return cleaned
