"""A token for scripts."""

import uuid
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from annotate.models import ApiToken, Project, User
from annotate.services.tokens import DAYS_MAX


class TokenForm(forms.Form):
    """`cleaned_data` is what `create_token` takes."""

    name = forms.CharField(
        max_length=80, label=_("Name"), help_text=_("What it is for, so that you can tell it later.")
    )
    scopes = forms.MultipleChoiceField(
        choices=ApiToken.Scope.choices,
        widget=forms.CheckboxSelectMultiple,
        initial=[ApiToken.Scope.READ],
        label=_("What it may do"),
        help_text=_("Never more than you may do yourself."),
    )
    project = forms.ModelChoiceField(
        Project.objects.none(), required=False, empty_label=_("All my projects"), label=_("Project")
    )
    once = forms.CharField(max_length=40, required=False, widget=forms.HiddenInput, initial=lambda: str(uuid.uuid4()))
    days = forms.IntegerField(
        min_value=1, max_value=DAYS_MAX, initial=90, label=_("Days that it works"), help_text=_("1 to 366.")
    )

    def __init__(self, user: User, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices: Any = self.fields["project"]
        choices.queryset = Project.objects.of(user).order_by("name")
