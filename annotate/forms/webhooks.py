"""A webhook's address and the events that it is told."""

from typing import Any

from django import forms
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from annotate.addresses import LONGEST, read_address
from annotate.models import Webhook


def _said(label: Any, value: str) -> str:
    return format_html('{} <code class="small">{}</code>', label, value)


class WebhookForm(forms.Form):
    """`cleaned_data` is what `add_webhook` and `change_webhook` take."""

    url = forms.CharField(
        max_length=LONGEST,
        label=_("Address"),
        help_text=_("Where events are posted to, such as https://example.org/podium."),
        widget=forms.URLInput,
    )
    events = forms.MultipleChoiceField(
        choices=lambda: [(value, _said(label, value)) for value, label in Webhook.Event.choices],
        widget=forms.CheckboxSelectMultiple,
        label=_("What it is told"),
    )
    note = forms.CharField(
        max_length=120, required=False, label=_("Note"), help_text=_("What it is for. Only admins see it.")
    )

    def clean_url(self) -> str:
        url = str(self.cleaned_data["url"])
        read_address(url)
        return url
