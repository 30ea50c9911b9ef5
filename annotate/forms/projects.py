"""Projects' settings and members."""

from typing import TYPE_CHECKING, Any, NamedTuple

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import Q
from django.utils.functional import Promise
from django.utils.text import slugify
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from annotate.models import Membership, Project, User

if TYPE_CHECKING:
    ProjectModelForm = forms.ModelForm[Project]
else:
    ProjectModelForm = forms.ModelForm

CRITERIA_MAX = 8
LINES_MAX, LINE_LENGTH = 20, 60
NOT_SLUGS = {"new"}
LABELS = {
    "name": gettext_lazy("Name"),
    "description": gettext_lazy("Description"),
    "guidelines": gettext_lazy("Guidelines"),
    "state": gettext_lazy("State"),
    "criteria": gettext_lazy("Criteria"),
    "reasons": gettext_lazy("Reasons"),
    "completions_per_task": gettext_lazy("Answers per prompt"),
    "allow_ties": gettext_lazy("Ties"),
    "allow_all_bad": gettext_lazy("“All bad”"),
    "require_ratings": gettext_lazy("Ratings are required"),
    "ask_comment": gettext_lazy("Comment"),
    "ideal_on_top": gettext_lazy("Ideal answers stand on top"),
    "overlap": gettext_lazy("People per task"),
    "shared_percent": gettext_lazy("Shared tasks, in percent"),
    "shared_overlap": gettext_lazy("People per shared task"),
    "daily_limit": gettext_lazy("Rankings per person and day"),
    "total_limit": gettext_lazy("Rankings per person in all"),
    "lease_minutes": gettext_lazy("Minutes that a task is kept"),
    "practice_tasks": gettext_lazy("Practice tasks"),
    "practice_threshold": gettext_lazy("Needed to pass, in percent"),
    "gold_percent": gettext_lazy("Gold tasks, in percent"),
    "gold_window": gettext_lazy("Gold tasks that count"),
    "gold_threshold": gettext_lazy("Paused below, in percent"),
    "adjudicate_below": gettext_lazy("Adjudicate below an agreement of"),
}
WIDGETS = {"guidelines": forms.Textarea(attrs={"rows": 12}), "description": forms.Textarea(attrs={"rows": 2})}


class Group(NamedTuple):
    """One part of the settings, under its own heading."""

    key: str
    title: Promise
    intro: Promise
    names: tuple[str, ...]


GROUPS = (
    Group(
        "basics",
        gettext_lazy("Basics"),
        gettext_lazy("What the project is called, and what its people are asked to do."),
        ("name", "description", "guidelines", "completions_per_task"),
    ),
    Group(
        "page",
        gettext_lazy("Ranking page"),
        gettext_lazy("What may be answered beside the order. The preview shows it."),
        ("allow_ties", "allow_all_bad", "criteria", "require_ratings", "reasons", "ask_comment", "ideal_on_top"),
    ),
    Group(
        "people",
        gettext_lazy("Who ranks what"),
        gettext_lazy("How often a task is ranked, and how much one person does."),
        ("overlap", "shared_percent", "shared_overlap", "daily_limit", "total_limit", "lease_minutes"),
    ),
    Group(
        "quality",
        gettext_lazy("Quality"),
        gettext_lazy("Practice and gold tasks have an order that an admin knows. They are added under Quality."),
        (
            "practice_tasks",
            "practice_threshold",
            "gold_percent",
            "gold_window",
            "gold_threshold",
            "adjudicate_below",
        ),
    ),
)


class LinesField(forms.CharField):
    """A list of short names, one a line."""

    def __init__(self, *, lines_max: int = LINES_MAX, **kwargs: Any) -> None:
        self.lines_max = lines_max
        widget = forms.Textarea(attrs={"rows": 4})
        super().__init__(required=False, max_length=LINES_MAX * (LINE_LENGTH + 2), widget=widget, **kwargs)

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def clean(self, value: Any) -> Any:
        lines = [line.strip() for line in super().clean(value).splitlines() if line.strip()]
        if len(lines) > self.lines_max:
            raise ValidationError(_("At most %(count)s lines.") % {"count": self.lines_max})
        for line in lines:
            if len(line) > LINE_LENGTH:
                raise ValidationError(
                    _("“%(line)s…” is longer than %(length)s characters.") % {"line": line[:20], "length": LINE_LENGTH}
                )
            if lines.count(line) > 1:
                raise ValidationError(_("“%(line)s” stands there twice.") % {"line": line})
        return lines

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(initial != [line.strip() for line in (data or "").splitlines() if line.strip()])


class SettingsForm(ProjectModelForm):
    criteria = LinesField(
        lines_max=CRITERIA_MAX,
        label=LABELS["criteria"],
        help_text=gettext_lazy("One a line. Each answer is rated by each of them, from 1 to 5, after the ranking."),
    )
    reasons = LinesField(
        label=LABELS["reasons"], help_text=gettext_lazy("One a line. They can be ticked after the ranking.")
    )

    class Meta:
        model = Project
        fields = tuple(name for group in GROUPS for name in group.names)
        labels = LABELS
        widgets = WIDGETS

    def groups(self) -> list[tuple[Group, list[forms.BoundField]]]:
        return [(group, [self[name] for name in group.names]) for group in GROUPS]

    def wrong(self) -> list[forms.BoundField]:
        """The fields that have to be looked at again, in the order of the page."""
        return [field for _group, fields in self.groups() for field in fields if field.errors]

    def clean(self) -> dict[str, Any]:
        """What each setting needs of the others; a complaint stands at the field that would be changed first."""
        cleaned = super().clean() or {}
        value = cleaned.get
        if value("require_ratings") and value("criteria") == []:
            self.add_error(
                "require_ratings", _("There are no criteria to rate by. Name some, or do not require ratings.")
            )
        overlap, shared_overlap = value("overlap"), value("shared_overlap")
        if value("shared_percent") and overlap and shared_overlap and shared_overlap <= overlap:
            self.add_error(
                "shared_overlap",
                _("Shared tasks are ranked by more people than the others: more than %(overlap)s.")
                % {"overlap": overlap},
            )
        for name in ("daily_limit", "total_limit"):
            if value(name) == 0:
                self.add_error(name, _("Leave it empty where there is no limit."))
        daily, total = value("daily_limit"), value("total_limit")
        if daily and total and daily > total:
            self.add_error("daily_limit", _("That is more than one person may rank in all."))
        if value("adjudicate_below") is not None and overlap == 1 and value("shared_percent") == 0:
            self.add_error(
                "adjudicate_below",
                _(
                    "Only tasks that several people rank can disagree. Ask for two people per task, or share some tasks."
                ),
            )
        return cleaned


class StateForm(forms.Form):
    state = forms.ChoiceField(choices=Project.State.choices)


class ProjectForm(ProjectModelForm):
    slug = forms.CharField(
        required=False,
        max_length=60,
        label=gettext_lazy("Address"),
        help_text=gettext_lazy("The last part of the project’s web address; made from the name when left empty."),
    )

    class Meta:
        model = Project
        fields = ("name", "slug", "description", "guidelines", "overlap", "completions_per_task")
        labels = LABELS
        widgets = WIDGETS

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        slug = slugify(cleaned.get("slug") or cleaned.get("name", ""))[:60].strip("-")
        if not slug or slug in NOT_SLUGS:
            self.add_error("slug", _("Give an address of letters, digits and hyphens."))
        elif Project.objects.filter(slug=slug).exists():
            self.add_error("slug", _("Another project has the address “%(slug)s”.") % {"slug": slug})
        cleaned["slug"] = slug
        return cleaned


class MemberForm(forms.Form):
    """`cleaned_data["person"]` is the User."""

    person = forms.CharField(max_length=254, label=gettext_lazy("User name or e-mail address"))
    role = forms.ChoiceField(choices=Membership.Role.choices, label=gettext_lazy("Role"))

    def clean_person(self) -> User:
        given = self.cleaned_data["person"]
        found = list(User.objects.filter(Q(username=given) | Q(email__iexact=given), is_active=True)[:2])
        if not found:
            raise ValidationError(_("Nobody with this user name or e-mail address has an account."))
        if len(found) > 1:
            raise ValidationError(_("Several people have this e-mail address. Give the user name."))
        return found[0]


class RoleForm(forms.Form):
    role = forms.ChoiceField(choices=Membership.Role.choices, label=gettext_lazy("Role"))


class SettleForm(forms.Form):
    decision = forms.ChoiceField(choices=[("reopen", "reopen"), ("close", "close")])
    resolution = forms.CharField(required=False, max_length=200)
