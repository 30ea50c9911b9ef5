"""What of a dataset version leaves, how, and where to."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy

from annotate.formats.exporting import SHAPES

SHAPE_LABELS = {
    "preference": gettext_lazy("Pairs: prompt, chosen, rejected"),
    "preference-implicit": gettext_lazy("Pairs of whole conversations"),
    "preference-conversational": gettext_lazy("Pairs, always as messages"),
    "ranking": gettext_lazy("Whole rankings, with everything that is known of them"),
    "unpaired": gettext_lazy("Single answers, good or bad"),
    "sft": gettext_lazy("Answers to imitate: ideal ones and the best of each ranking"),
    "reward-bench": gettext_lazy("Pairs as RewardBench has them, with the models’ names"),
    "hh": gettext_lazy("Pairs of dialogues in plain text, as Anthropic’s HH"),
    "ultrafeedback": gettext_lazy("Pairs with scores, as UltraFeedback"),
    "argilla": gettext_lazy("Records for Argilla"),
}
SHAPE_CHOICES = [(name, SHAPE_LABELS[name]) for name in SHAPES]


class ExportForm(forms.Form):
    """The choices of a download; its address is the form's, so it is never submitted to a page."""

    shape = forms.ChoiceField(choices=SHAPE_CHOICES, label=gettext_lazy("Shape"))
    format = forms.ChoiceField(
        label=gettext_lazy("File"),
        choices=[
            ("jsonl", gettext_lazy("JSON Lines")),
            ("jsonl.gz", gettext_lazy("JSON Lines, compressed")),
            ("csv", gettext_lazy("CSV, for spreadsheets")),
            ("parquet", gettext_lazy("Parquet")),
            ("folder", gettext_lazy("A folder with a card, as on the Hugging Face hub (zip)")),
        ],
    )
    split = forms.ChoiceField(
        label=gettext_lazy("Side"),
        choices=[
            ("train", gettext_lazy("Training")),
            ("test", gettext_lazy("Test")),
            ("all", gettext_lazy("Both")),
        ],
    )
    reasoning = forms.ChoiceField(
        label=gettext_lazy("Thoughts before an answer"),
        choices=[
            ("auto", gettext_lazy("As usual: only in what a run made")),
            ("keep", gettext_lazy("With them, between <think> and </think>")),
            ("drop", gettext_lazy("Without them")),
        ],
    )
    desirable = forms.ChoiceField(
        label=gettext_lazy("Good single answers"),
        choices=[
            ("middle", gettext_lazy("Above the ranking’s middle")),
            ("best", gettext_lazy("On the best place alone")),
        ],
    )
    shard_rows = forms.ChoiceField(
        label=gettext_lazy("Rows of a Parquet file"),
        choices=[
            ("", gettext_lazy("All in one file")),
            ("10000", "10,000"),
            ("100000", "100,000"),
            ("1000000", "1,000,000"),
        ],
    )
    license = forms.RegexField(
        label=gettext_lazy("Licence of a folder"),
        regex=r"[a-z0-9][a-z0-9.+\-]*",
        required=False,
        max_length=60,
        widget=forms.TextInput(attrs={"pattern": "[a-z0-9][a-z0-9.+\\-]*", "placeholder": "cc-by-4.0"}),
    )


class PublicationForm(forms.Form):
    """`cleaned_data` is what `start_publication` takes, which checks the rest."""

    repository = forms.CharField(
        label=gettext_lazy("Repository"),
        help_text=gettext_lazy("OWNER/NAME. It is made if it is not there; if it is, its data is replaced."),
        max_length=200,
    )
    shape = forms.ChoiceField(choices=SHAPE_CHOICES, label=gettext_lazy("Shape"))
    license = forms.CharField(
        label=gettext_lazy("Licence"),
        help_text=gettext_lazy("As the hub names it, such as cc-by-4.0. Empty: none is given."),
        required=False,
        max_length=60,
    )
    is_private = forms.BooleanField(
        label=gettext_lazy("Private: only who the owner lets in sees it"), required=False, initial=True
    )

    def add_errors(self, messages: dict[str, list[Any]]) -> None:
        for field, texts in messages.items():
            for text in texts:
                self.add_error(field if field in self.fields else None, text)
