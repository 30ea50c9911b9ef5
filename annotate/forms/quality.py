"""What a report is about: read from the address, so that each view of it can be linked to."""

from collections.abc import Mapping
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import Exists, OuterRef
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from annotate.models import Membership, Project, Ranking


def _moment(label: Any) -> forms.DateTimeField:
    return forms.DateTimeField(
        label=label,
        required=False,
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
    )


def _name(membership: Membership, is_admin: bool) -> str:
    return membership.user.username if is_admin else membership.pseudonym


class FilterForm(forms.Form):
    since = _moment(_("Ranked from"))
    until = _moment(_("Ranked before"))
    tag = forms.CharField(label=_("Tag of the prompt"), required=False, max_length=60)

    def __init__(self, *args: Any, project: Project, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.project = project

    def clean_tag(self) -> str:
        tag: str = self.cleaned_data["tag"]
        if tag and not self.project.prompts.filter(tags__contains=[tag]).exists():
            raise ValidationError(_("No prompt of this project has the tag “%(tag)s”."), params={"tag": tag})
        return tag

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if data.get("since") and data.get("until") and data["since"] >= data["until"]:
            raise ValidationError({"until": _("Must be later than the time from which rankings count.")})
        return data

    def filters(self) -> dict[str, Any]:
        """As a report keeps them: only what was chosen, times as ISO 8601 in UTC."""
        data = self.cleaned_data
        chosen = {
            "since": data["since"] and data["since"].isoformat(),
            "until": data["until"] and data["until"].isoformat(),
            "annotators": sorted(map(int, data.get("annotators") or ())),
            "criterion": data.get("criterion"),
            "tag": data["tag"],
        }
        return {name: value for name, value in chosen.items() if value}


class QualityForm(FilterForm):
    annotators = forms.MultipleChoiceField(label=_("Annotators"), required=False, widget=forms.CheckboxSelectMultiple)

    def __init__(self, *args: Any, project: Project, is_admin: bool, **kwargs: Any) -> None:
        super().__init__(*args, project=project, **kwargs)
        # Whoever has ranked, whatever their role is now, and also when they have left.
        ranked = Ranking.objects.filter(project=project, annotator=OuterRef("user"))
        people = project.memberships.filter(Exists(ranked)).select_related("user")
        field = self.fields["annotators"]
        if isinstance(field, forms.MultipleChoiceField):
            named = {str(member.pk): _name(member, is_admin) for member in people}
            choices = sorted(named.items(), key=lambda choice: choice[1].casefold())
            field.choices = choices


class LeaderboardForm(FilterForm):
    criterion = forms.ChoiceField(label=pgettext_lazy("criterion", "By"), required=False)

    field_order = ("criterion", "tag", "since", "until")

    def __init__(self, *args: Any, project: Project, **kwargs: Any) -> None:
        super().__init__(*args, project=project, **kwargs)
        field = self.fields["criterion"]
        if isinstance(field, forms.ChoiceField):
            field.choices = [("", _("The rankings")), *((name, name) for name in project.criteria)]


class ListForm(QualityForm):
    """Which rankings are listed: those behind one number of a report."""

    list = forms.ChoiceField(label=_("List"))
    annotator = forms.ChoiceField(label=_("Annotator"), required=False)
    other = forms.ChoiceField(label=_("and"), required=False)

    def __init__(self, *args: Any, lists: Mapping[str, Any], project: Project, is_admin: bool, **kwargs: Any) -> None:
        super().__init__(*args, project=project, is_admin=is_admin, **kwargs)
        people = getattr(self.fields["annotators"], "choices", [])
        for name, choices in (("list", [*lists.items()]), ("annotator", people), ("other", people)):
            field = self.fields[name]
            if isinstance(field, forms.ChoiceField):
                field.choices = choices

    def people(self) -> tuple[int, ...]:
        """Membership ids."""
        chosen = (self.cleaned_data["annotator"], self.cleaned_data["other"])
        return tuple(int(pk) for pk in chosen if pk)
