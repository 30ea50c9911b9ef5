"""A webhook's address and the events that it is told."""

from django import forms
from django.utils.translation import gettext_lazy as _

from annotate.addresses import LONGEST
from annotate.models import Webhook


class WebhookForm(forms.Form):
    """`cleaned_data` is what `add_webhook` and `change_webhook` take; they check the address."""

    url = forms.CharField(
        max_length=LONGEST,
        label=_("Address"),
        help_text=_("Where events are posted to, such as https://example.org/podium."),
        widget=forms.URLInput,
    )
    events = forms.MultipleChoiceField(
        choices=Webhook.Event.choices, widget=forms.CheckboxSelectMultiple, label=_("What it is told")
    )
    note = forms.CharField(
        max_length=120, required=False, label=_("Note"), help_text=_("What it is for. Only admins see it.")
    )
