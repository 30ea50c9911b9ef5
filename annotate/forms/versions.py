"""What a version is called, and which one it is compared with."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from annotate.models import DatasetVersion
from annotate.services.version_names import check_tag


class NameForm(forms.Form):
    """A version's note and tag."""

    note = forms.CharField(label=_("Note"), required=False, max_length=200, help_text=_("What this version is for."))
    tag = forms.CharField(
        label=_("Tag"),
        required=False,
        max_length=60,
        help_text=_("A short name for scripts, such as “release-1”. One version of the project has it at a time."),
    )
    moves = forms.BooleanField(required=False, widget=forms.HiddenInput)

    def clean_tag(self) -> str:
        tag: str = self.cleaned_data["tag"]
        if tag:
            try:
                check_tag(tag)
            except ValidationError as error:
                raise ValidationError(error.message_dict["tag"]) from error
        return tag


class CompareForm(forms.Form):
    """Another version to compare with, by its number."""

    other = forms.TypedChoiceField(label=_("Compare with"), coerce=int)

    def __init__(self, *args: Any, version: DatasetVersion, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        others = (
            DatasetVersion.objects.filter(
                project_id=version.project_id, state=DatasetVersion.State.SUCCEEDED, origin=""
            )
            .exclude(pk=version.pk)
            .order_by("-number")
        )
        other = self.fields["other"]
        if isinstance(other, forms.ChoiceField):
            other.choices = [(one.number, _name(one)) for one in others]
        earlier = others.filter(number__lt=version.number).first()
        parent = version.parent if version.parent and not version.parent.origin else None
        other.initial = (parent or earlier or version).number


def _name(version: DatasetVersion) -> str:
    return " · ".join(filter(None, (f"v{version.number}", version.tag, version.note)))
