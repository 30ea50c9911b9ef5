"""Projects' settings and members."""

from typing import TYPE_CHECKING, Any

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import Q
from django.utils.text import slugify
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from annotate.models import Membership, Project, User

if TYPE_CHECKING:
    ProjectModelForm = forms.ModelForm[Project]
else:
    ProjectModelForm = forms.ModelForm

SETTINGS = (
    "name",
    "description",
    "guidelines",
    "overlap",
    "completions_per_task",
    "lease_minutes",
    "allow_ties",
    "allow_all_bad",
    "ask_comment",
    "reasons",
)
LINES_MAX, LINE_LENGTH = 20, 60
NOT_SLUGS = {"new"}


class LinesField(forms.CharField):
    """A list of short names, one a line."""

    widget = forms.Textarea

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(required=False, max_length=LINES_MAX * (LINE_LENGTH + 2), **kwargs)

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def clean(self, value: Any) -> Any:
        lines = [line.strip() for line in super().clean(value).splitlines() if line.strip()]
        if len(lines) > LINES_MAX:
            raise ValidationError(_("At most %(count)s lines.") % {"count": LINES_MAX})
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
    reasons = LinesField(
        label=gettext_lazy("Reasons"), help_text=gettext_lazy("One a line. They can be ticked after the ranking.")
    )

    class Meta:
        model = Project
        fields = ("state", *SETTINGS)
        help_texts = {
            "overlap": gettext_lazy("How many people rank each task. Holds for the tasks that are made from now on."),
            "state": gettext_lazy("Ranking goes on only while the project is active."),
        }
        widgets = {"guidelines": forms.Textarea(attrs={"rows": 12}), "description": forms.Textarea(attrs={"rows": 3})}


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
        widgets = SettingsForm.Meta.widgets

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
