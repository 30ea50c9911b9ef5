from typing import Any

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext_lazy as _

from annotate.formats.errors import FileError
from annotate.formats.mapping import Mapping
from annotate.formats.reading import kind_of


class ImportForm(forms.Form):
    """A file, and the names of its columns where they are not known ones."""

    file = forms.FileField(
        label=_("File"),
        help_text=_("JSON Lines, CSV (either may be gzip-compressed) or Parquet."),
        max_length=255,
        widget=forms.ClearableFileInput(attrs={"accept": ".jsonl,.ndjson,.json,.csv,.tsv,.gz,.parquet"}),
        error_messages={"empty": _("The file is empty.")},
    )
    prompt_column = forms.CharField(label=_("Prompt"), required=False, max_length=200)
    completion_columns = forms.CharField(
        label=_("Completions"),
        required=False,
        max_length=1000,
        help_text=_("Several names are separated by commas. A dot reaches into an object: model_a.solution"),
    )
    reference_column = forms.CharField(label=_("Reference answer"), required=False, max_length=200)
    source_column = forms.CharField(label=_("Source of the completions"), required=False, max_length=200)

    def clean_file(self) -> "UploadedFile[bytes]":
        file: UploadedFile[bytes] = self.cleaned_data["file"]
        try:
            kind_of(file.name or "")
        except FileError as error:
            raise ValidationError(str(error)) from error
        if (file.size or 0) > settings.UPLOAD_LIMIT_BYTES:
            raise ValidationError(
                _(
                    "The file has %(size)s, and %(limit)s at most can be uploaded. Import it with manage.py import_prompts."
                )
                % {"size": filesizeformat(file.size or 0), "limit": filesizeformat(settings.UPLOAD_LIMIT_BYTES)}
            )
        return file

    def clean_completion_columns(self) -> tuple[str, ...]:
        return tuple(name.strip() for name in self.cleaned_data["completion_columns"].split(",") if name.strip())

    def mapping(self) -> Mapping:
        data: dict[str, Any] = self.cleaned_data
        return Mapping(
            prompt=data["prompt_column"],
            completions=data["completion_columns"],
            reference_answer=data["reference_column"],
            source=data["source_column"],
        )
