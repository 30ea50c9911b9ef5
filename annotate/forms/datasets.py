from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import Exists, OuterRef
from django.utils.translation import gettext_lazy as _

from annotate.models import Project, Ranking
from annotate.services.datasets import Filters


def _moment(label: Any, help_text: Any = "") -> forms.DateTimeField:
    return forms.DateTimeField(
        label=label,
        help_text=help_text,
        required=False,
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
    )


class DatasetForm(forms.Form):
    """What goes into a new version."""

    note = forms.CharField(label=_("Note"), required=False, max_length=200, help_text=_("What this version is for."))
    test_fraction = forms.FloatField(
        label=_("Share kept for testing"),
        initial=0.1,
        min_value=0,
        max_value=0.5,
        help_text=_(
            "0 to 0.5, of the prompts. A prompt is never on both sides; a small project may get an empty test side."
        ),
        widget=forms.NumberInput(attrs={"step": "any"}),
    )
    decisions = forms.ChoiceField(
        label=_("Decided tasks"),
        required=False,
        choices=[
            ("raw", _("Everybody’s rankings, no decisions")),
            ("decided", _("The decision alone, no rankings")),
        ],
        help_text=_("A reviewer decides where people disagree."),
    )
    weights = forms.ChoiceField(
        label=_("Weights"),
        required=False,
        choices=[
            ("equal", _("Everybody’s rankings weigh the same")),
            ("reliability", _("By each annotator’s reliability")),
        ],
        help_text=_("Estimated from all rankings until then. Training multiplies the loss of a ranking by its weight."),
    )
    ideal_on_top = forms.BooleanField(
        label=_("Ideal answers on top"),
        required=False,
        help_text=_("An ideal answer counts as better than all the answers that its author ranked."),
    )
    as_of = _moment(_("As of"), _("Left empty: everything up to this moment. Times are in UTC."))
    since = _moment(_("Ranked from"))
    until = _moment(_("Ranked before"))
    exclude_annotators = forms.MultipleChoiceField(
        label=_("Leave out annotators"), required=False, widget=forms.CheckboxSelectMultiple
    )
    min_seconds = forms.FloatField(
        label=_("Shortest time"),
        required=False,
        min_value=0,
        help_text=_("Seconds. Rankings that were made faster are left out."),
        widget=forms.NumberInput(attrs={"step": "any"}),
    )
    exclude_all_bad = forms.BooleanField(label=_("Leave out “all bad”"), required=False)
    tags = forms.CharField(
        label=_("Tags"),
        required=False,
        max_length=500,
        help_text=_("Only prompts with one of these tags, separated by commas."),
    )
    min_rankings = forms.IntegerField(
        label=_("Rankings per prompt, at least"), required=False, min_value=1, max_value=1000, initial=1
    )
    known_tasks = forms.BooleanField(
        label=_("Take gold and practice tasks in"),
        required=False,
        help_text=_("Their order is known; without this they are left out."),
    )

    def __init__(self, *args: Any, project: Project, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["ideal_on_top"].initial = project.ideal_on_top
        # Whoever has ranked, whatever their role is now, and also when they have left.
        ranked = Ranking.objects.filter(project=project, annotator=OuterRef("user"))
        names = project.memberships.filter(Exists(ranked)).order_by("pseudonym").values_list("pseudonym", flat=True)
        annotators = self.fields["exclude_annotators"]
        if isinstance(annotators, forms.MultipleChoiceField):
            annotators.choices = [(name, name) for name in names]

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if data.get("since") and data.get("until") and data["since"] >= data["until"]:
            raise ValidationError({"until": _("Must be later than the time from which rankings count.")})
        return data

    def filters(self) -> Filters:
        data = self.cleaned_data
        return Filters(
            since=data["since"],
            until=data["until"],
            exclude_annotators=tuple(data["exclude_annotators"]),
            min_seconds=data["min_seconds"] or 0,
            exclude_all_bad=data["exclude_all_bad"],
            tags=tuple(tag.strip() for tag in data["tags"].split(",") if tag.strip()),
            min_rankings=data["min_rankings"] or 1,
            decisions=data["decisions"] or "raw",
            weights=data["weights"] or "equal",
            ideal_on_top=data["ideal_on_top"],
            known_tasks=data["known_tasks"],
        )
