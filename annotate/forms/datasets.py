from collections.abc import Iterator
from dataclasses import fields
from datetime import datetime
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db import connection
from django.db.models import Exists, OuterRef
from django.forms import BoundField
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from annotate.models import DatasetVersion, Project, Ranking
from annotate.services.datasets import EARLIEST, LATEST, Filters
from annotate.services.version_names import check_tag

# As many are offered; the API and the command take any.
OFFERED = 200
TAGS = """
    SELECT tag FROM (SELECT unnest(tags) AS tag FROM annotate_prompt WHERE project_id = %s) one
    GROUP BY tag ORDER BY count(*) DESC, tag LIMIT %s
"""


def _check_moment(moment: datetime) -> None:
    if not EARLIEST <= moment < LATEST:
        raise ValidationError(_("Must be from 1970 to 9998."))


def _moment(label: Any, help_text: Any = "") -> forms.DateTimeField:
    return forms.DateTimeField(
        label=label,
        help_text=help_text,
        required=False,
        validators=[_check_moment],
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
    )


class DatasetForm(forms.Form):
    """What goes into a new version."""

    note = forms.CharField(label=_("Note"), required=False, max_length=200, help_text=_("What this version is for."))
    tag = forms.CharField(
        label=_("Tag"),
        required=False,
        max_length=60,
        help_text=_("A name for scripts, such as “latest”. A version that has it loses it to this one."),
    )
    parent = forms.TypedChoiceField(
        label=_("Follows"),
        required=False,
        coerce=int,
        empty_value=None,
        help_text=_("Prompts of that version stay on their side, for training or for testing."),
    )
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
    stratify_by = forms.ChoiceField(
        label=_("Same share of each"),
        required=False,
        choices=[("", _("Does not matter")), *DatasetVersion.Stratum.choices],
        help_text=_("So that each tag, or source, is kept for testing as often as the others."),
    )
    decisions = forms.ChoiceField(
        label=_("Decided tasks"),
        required=False,
        choices=[
            ("raw", _("Everybody’s rankings, no decisions")),
            ("decided", _("The decision alone, no rankings")),
            ("consensus", _("The decision, and elsewhere one ranking made of all of a task’s")),
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
    roles = forms.MultipleChoiceField(
        label=_("Only rankings by"),
        required=False,
        choices=[
            ("annotator", _("Annotators")),
            ("adjudicator", _("Reviewers")),
            ("imported", _("Imports")),
        ],
        widget=forms.CheckboxSelectMultiple,
    )
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
    min_agreement = forms.FloatField(
        label=_("Least agreement"),
        required=False,
        min_value=-1,
        max_value=1,
        help_text=_("-1 to 1, of a task’s rankings (Kendall’s τ). Tasks with one ranking are left out."),
        widget=forms.NumberInput(attrs={"step": "any"}),
    )
    min_gold_accuracy = forms.FloatField(
        label=_("Least accuracy on gold tasks"),
        required=False,
        min_value=0,
        max_value=1,
        help_text=_("0 to 1. Annotators who answered no gold task are left out."),
        widget=forms.NumberInput(attrs={"step": "any"}),
    )
    known_tasks = forms.BooleanField(
        label=_("Take gold and practice tasks in"),
        required=False,
        help_text=_("Their order is known; without this they are left out."),
    )
    exclude_all_bad = forms.BooleanField(label=_("Leave out “all bad”"), required=False)
    sources = forms.MultipleChoiceField(
        label=_("Only with an answer from"), required=False, widget=forms.CheckboxSelectMultiple
    )
    criterion = forms.CharField(
        label=_("Rated by"),
        required=False,
        max_length=60,
        help_text=_("Only rankings in which an answer was rated by this criterion."),
    )
    min_rating = forms.IntegerField(
        label=_("Least rating"),
        required=False,
        min_value=0,
        max_value=5,
        help_text=_("The best one that an answer of the ranking was given, 1 to 5."),
    )
    min_length = forms.IntegerField(
        label=_("Shortest answer"), required=False, min_value=0, max_value=10**9, help_text=_("Characters.")
    )
    max_length = forms.IntegerField(
        label=_("Longest answer"),
        required=False,
        min_value=0,
        max_value=10**9,
        help_text=_("Characters. Rankings with an answer outside of these bounds are left out."),
    )
    tags = forms.CharField(
        label=_("Tags"),
        required=False,
        max_length=500,
        help_text=_("Only prompts with one of these tags, separated by commas."),
    )
    languages = forms.CharField(
        label=_("Languages"),
        required=False,
        max_length=500,
        help_text=_("Of the question, as codes separated by commas: en, de, zh."),
    )
    drop_duplicates = forms.BooleanField(
        label=_("One of prompts that are nearly the same"),
        required=False,
        help_text=_("Those that differ in a few words or in punctuation count as one."),
    )
    min_rankings = forms.IntegerField(
        label=_("Rankings per prompt, at least"), required=False, min_value=1, max_value=1000, initial=1
    )
    held_out = forms.ChoiceField(
        label=_("Nothing that leaks"),
        required=False,
        help_text=_("Prompts for training that share 13 words in a row with these are left out."),
    )
    GROUPS = (
        (_("When and by whom"), "as_of known_tasks"),
        (_("Answers and what was said of them"), "exclude_all_bad max_length"),
        (_("Prompts"), "tags held_out"),
    )

    def __init__(self, *args: Any, project: Project, start: DatasetVersion | None = None, **kwargs: Any) -> None:
        """`start`: the version whose choices are offered first, and which this one follows."""
        super().__init__(*args, **kwargs)
        self.project = project
        self.fields["ideal_on_top"].initial = project.ideal_on_top
        self.versions = {
            version.number: version
            for version in project.dataset_versions.filter(state=DatasetVersion.State.SUCCEEDED).order_by("-number")[
                :OFFERED
            ]
        }
        named = [(number, _version_name(version)) for number, version in self.versions.items()]
        with connection.cursor() as cursor:
            cursor.execute(TAGS, [project.pk, OFFERED])
            tags = [tag for (tag,) in cursor.fetchall()]
        # Whoever has ranked, whatever their role is now, and also when they have left.
        ranked = Ranking.objects.filter(project=project, annotator=OuterRef("user"))
        names = project.memberships.filter(Exists(ranked)).order_by("pseudonym").values_list("pseudonym", flat=True)
        sources = project.sources.order_by("name").values_list("name", flat=True)[:OFFERED]
        offered: dict[str, list[tuple[Any, Any]]] = {
            "parent": [("", _("No version")), *named],
            "exclude_annotators": [(name, name) for name in names],
            "sources": [(name, name) for name in sources],
            "held_out": [
                ("", _("Do not look")),
                *(
                    (f"version:{number}", _("The test side of %(version)s") % {"version": name})
                    for number, name in named
                ),
                *((f"tag:{tag}", _("Prompts with the tag %(tag)s") % {"tag": tag}) for tag in tags),
            ],
        }
        for name, choices in offered.items():
            field = self.fields[name]
            if isinstance(field, forms.ChoiceField):
                field.choices = choices
        if start:
            self._start_from(start)

    def _start_from(self, version: DatasetVersion) -> None:
        filters = Filters.from_json(version.filters)
        for one in fields(filters):
            value = getattr(filters, one.name)
            if one.name in ("tags", "languages"):
                value = ", ".join(value)
            # What is left empty asks for nothing.
            self.initial[one.name] = value if isinstance(value, bool) else value or None
        self.initial["parent"] = version.number
        for name in ("test_fraction", "stratify_by"):
            self.initial[name] = getattr(version, name)

    def first_fields(self) -> Iterator[BoundField]:
        """What everybody should look at."""
        for field in self:
            if field.name == "as_of":
                return
            yield field

    def groups(self) -> Iterator[tuple[Any, list[BoundField], bool]]:
        """(title, fields, whether something is set or wrong there) of what may be left out."""
        names = list(self.fields)
        for title, bounds in self.GROUPS:
            first, last = bounds.split()
            group = [self[name] for name in names[names.index(first) : names.index(last) + 1]]
            # A project may have nobody and nothing to choose among.
            group = [field for field in group if field.errors or getattr(field.field, "choices", True)]
            is_set = any(field.value() not in (None, "", [], (), False, 0, 1) for field in group)
            yield title, group, is_set or any(field.errors for field in group)

    def clean_tag(self) -> str:
        tag: str = self.cleaned_data["tag"]
        if tag:
            try:
                check_tag(tag)
            except ValidationError as error:
                raise ValidationError(error.message_dict["tag"]) from error
        return tag

    def clean_as_of(self) -> datetime | None:
        moment: datetime | None = self.cleaned_data["as_of"]
        if moment and moment > timezone.now():
            raise ValidationError(_("Must not be in the future."))
        return moment

    def clean_languages(self) -> tuple[str, ...]:
        codes = _parted(self.cleaned_data["languages"].lower())
        if wrong := [code for code in codes if not (code.isascii() and code.isalpha() and len(code) in (2, 3))]:
            raise ValidationError(_("“%(code)s” is no code of a language."), params={"code": wrong[0]})
        return codes

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if data.get("since") and data.get("until") and data["since"] >= data["until"]:
            raise ValidationError({"until": _("Must be later than the time from which rankings count.")})
        if data.get("max_length") and data["max_length"] < (data.get("min_length") or 0):
            raise ValidationError({"max_length": _("Must not be less than the shortest.")})
        if data.get("decisions") == "consensus" and data.get("ideal_on_top"):
            raise ValidationError(
                {"ideal_on_top": _("Not with one ranking made of all: each ideal answer leads its author’s own.")}
            )
        return data

    def options(self) -> dict[str, Any]:
        """What `create_version` takes, beside the project and the person."""
        data = self.cleaned_data
        names = ("note", "tag", "test_fraction", "stratify_by", "as_of")
        parent = self.versions[data["parent"]] if data["parent"] else None
        return {**{name: data[name] for name in names}, "parent": parent, "filters": self.filters()}

    def filters(self) -> Filters:
        """Fields that are left empty are as if nobody had asked."""
        changes = {one.name: self.cleaned_data[one.name] for one in fields(Filters)}
        changes["tags"] = _parted(changes["tags"])
        kept: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in changes.items()
            if value not in (None, "")
        }
        return Filters(**kept)


def _parted(text: str) -> tuple[str, ...]:
    return tuple(one.strip() for one in text.split(",") if one.strip())


def _version_name(version: DatasetVersion) -> str:
    return " · ".join(filter(None, [str(version), version.tag, version.note[:60]]))
