from typing import Any

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext_lazy as _

from annotate.formats.importing.errors import FileError
from annotate.formats.importing.mapping import PREFERENCES, Mapping
from annotate.formats.importing.public import SHAPES
from annotate.formats.importing.reading import kind_of

LISTS = ("completions", "scores")


class ImportForm(forms.Form):
    """A file to look at before it is imported."""

    file = forms.FileField(
        label=_("File"),
        help_text=_("JSON Lines or CSV (either may be gzip-compressed), Parquet, or a zip file of them."),
        max_length=255,
        widget=forms.ClearableFileInput(attrs={"accept": ".jsonl,.ndjson,.json,.csv,.tsv,.gz,.parquet,.zip"}),
        error_messages={"empty": _("The file is empty.")},
    )

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


class MappingForm(forms.Form):
    """How a draft's rows are read, and what becomes of the preferences among them. `columns` are those that the file has."""

    shape = forms.ChoiceField(label=_("Shape of the rows"), required=False)
    prompt = forms.CharField(label=_("Prompt"), required=False, max_length=200)
    completions = forms.CharField(
        label=_("Completions"),
        required=False,
        max_length=2000,
        help_text=_("Several names are separated by commas. A dot reaches into an object: model_a.solution"),
    )
    chosen = forms.CharField(label=_("Better completion"), required=False, max_length=200)
    rejected = forms.CharField(label=_("Worse completion"), required=False, max_length=200)
    scores = forms.CharField(
        label=_("Scores"),
        required=False,
        max_length=2000,
        help_text=_("One for each completion, in the same order; higher is better."),
    )
    reference_answer = forms.CharField(label=_("Reference answer"), required=False, max_length=200)
    source = forms.CharField(label=_("Source of the completions"), required=False, max_length=200)
    tags = forms.CharField(label=_("Tags"), required=False, max_length=200)
    annotator = forms.CharField(label=_("Annotator"), required=False, max_length=200)
    preferences = forms.ChoiceField(
        label=_("Preferences in the file"),
        choices=[
            ("keep", _("Keep them as imported rankings; nobody is asked")),
            ("ask", _("Keep them as imported rankings, and ask people as well")),
            ("ignore", _("Leave them out and ask people")),
        ],
        widget=forms.RadioSelect,
        initial=PREFERENCES[0],
    )
    COLUMNS = (
        "prompt",
        "completions",
        "chosen",
        "rejected",
        "scores",
        "reference_answer",
        "source",
        "tags",
        "annotator",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        shapes = [(name, shape.label) for name, shape in SHAPES.items()]
        self.fields["shape"] = forms.ChoiceField(
            label=_("Shape of the rows"), required=False, choices=[("", _("Recognise it")), *shapes]
        )
        for name in self.COLUMNS:
            self.fields[name].widget.attrs.update(list="columns", autocomplete="off", spellcheck="false")

    @classmethod
    def of(cls, mapping: Mapping) -> "MappingForm":
        """The form that shows this mapping."""
        return cls(initial={**mapping.to_json(), **{name: ", ".join(getattr(mapping, name)) for name in LISTS}})

    @property
    def columns(self) -> list[forms.BoundField]:
        return [self[name] for name in self.COLUMNS]

    @property
    def has_columns(self) -> bool:
        return any(field.value() for field in self.columns)

    def _names(self, field: str) -> tuple[str, ...]:
        return tuple(name.strip() for name in self.cleaned_data[field].split(",") if name.strip())

    def clean_completions(self) -> tuple[str, ...]:
        return self._names("completions")

    def clean_scores(self) -> tuple[str, ...]:
        return self._names("scores")

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = self.cleaned_data
        if bool(data.get("chosen")) != bool(data.get("rejected")):
            missing = "rejected" if data.get("chosen") else "chosen"
            self.add_error(missing, _("Better and worse completion are named together."))
        return data

    def mapping(self) -> Mapping:
        return Mapping(**self.cleaned_data)
