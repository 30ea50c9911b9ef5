"""Forms of the pages about pipelines and their triggers."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from training.definitions import LONGEST
from training.models import Trigger
from training.services.triggers import next_times, zones


class PipelineForm(forms.Form):
    name = forms.CharField(label=_("Name"), max_length=80, help_text=_("What people call it here."))
    definition = forms.CharField(
        label=_("Definition"),
        max_length=LONGEST,
        strip=False,
        help_text=_("The stages as TOML; the documentation lists what a stage can say."),
        widget=forms.Textarea(
            attrs={"rows": 24, "spellcheck": "false", "autocapitalize": "off", "class": "code", "wrap": "off"}
        ),
    )


class TriggerForm(forms.Form):
    """What both kinds have."""

    cool_down_hours = forms.FloatField(
        label=_("Rest after a run, in hours"),
        min_value=0,
        max_value=24 * 365,
        initial=0,
        widget=forms.NumberInput(attrs={"step": "any"}),
        help_text=_(
            "It starts nothing for so long after the end of the pipeline's last run, however that was started."
        ),
    )
    budget_hours = forms.FloatField(
        label=_("Hours of training in 7 days, at most"),
        required=False,
        min_value=0.01,
        max_value=100_000,
        widget=forms.NumberInput(attrs={"step": "any"}),
        help_text=_(
            "Once the pipeline's runs of the last 7 days have taken so long, it starts nothing more. What is under way goes on. Empty: no limit."
        ),
    )

    def values(self) -> dict[str, Any]:
        return dict(self.cleaned_data)


class ScheduleForm(TriggerForm):
    cron = forms.CharField(
        label=_("When"),
        max_length=100,
        initial="30 3 * * *",
        help_text=_(
            "Minute, hour, day of the month, month, day of the week (0 and 7 are Sunday), as cron has them: “30 3 * * 1-5” is half past three from Monday to Friday."
        ),
    )
    time_zone = forms.ChoiceField(
        label=_("Time zone"), initial="UTC", choices=lambda: [(zone, zone.replace("_", " ")) for zone in zones()]
    )
    field_order = ("cron", "time_zone")

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if "cron" in data and "time_zone" in data:
            try:
                self.next_times = next_times(data["cron"], data["time_zone"])
            except ValidationError as error:
                self.add_error(None, error)
        return data


class NewRankingsForm(TriggerForm):
    rankings = forms.IntegerField(
        label=_("New rankings"),
        min_value=1,
        max_value=10_000_000,
        initial=100,
        help_text=_(
            "Annotators' rankings since the pipeline was last started. Gold and practice tasks, imports and decisions do not count."
        ),
    )
    field_order = ("rankings",)


TRIGGER_FORMS: dict[str, type[TriggerForm]] = {
    Trigger.Kind.SCHEDULE: ScheduleForm,
    Trigger.Kind.RANKINGS: NewRankingsForm,
}
