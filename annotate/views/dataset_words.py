"""A dataset version's filters, choices and origins, in the words of the form that builds one."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from annotate.figures import percent
from annotate.forms.datasets import DatasetForm
from annotate.models import DatasetVersion, Import
from annotate.services.datasets import Filters

# Filters that say how a version takes what it takes, rather than what it leaves out.
CHOSEN = ("decisions", "weights", "ideal_on_top")
LISTED = 50


def steps_in_words(version: DatasetVersion) -> tuple[list[dict[str, Any]], int]:
    """The filters that were set or dropped something, in their order, with how many rankings each dropped and left; and of how
    many rankings they began."""
    counts, words = version.counts, Words(version)
    nothing = Filters().to_json()
    steps = counts.get("steps")
    if steps is None:
        # Versions of before tell what each dropped, in no order.
        left = counts["rankings"] + sum(counts["dropped"].values())
        steps = []
        for name in version.filters:
            dropped = counts["dropped"].get(name, 0)
            left -= dropped
            steps.append({"step": name, "dropped": dropped, "left": left})
    total = steps[0]["left"] + steps[0]["dropped"] if steps else counts["rankings"]
    said = [
        {**step, "label": words.step(name), "value": words.chosen(name, version.filters.get(name))}
        for step in steps
        for name in (step["step"],)
        if step["dropped"] or (name not in CHOSEN and _is_set(version.filters.get(name), nothing.get(name)))
    ]
    return said, total


def _is_set(value: Any, default: Any) -> bool:
    """JSON has lists where the filters have tuples."""
    return value not in (None, "", [], ()) and _plain(value) != _plain(default)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value


def choices_in_words(version: DatasetVersion) -> list[tuple[str, str]]:
    words = Words(version)
    filters = Filters.from_json(version.filters).to_json()
    return [(words.label(name), words.value(name, filters[name])) for name in CHOSEN]


def rates(version: DatasetVersion) -> dict[str, str]:
    return {
        name: percent(version.statistics[f"{key}_rate"], 1)
        for name, key in (("ties", "tie"), ("all_bad", "all_bad"))
        if version.statistics.get(f"{key}_rate") is not None
    }


class Words:
    """The build form's labels, and values as it offers them."""

    # Where the form's label says how to let something in.
    STEPS: Mapping[str, Any] = {
        "known_tasks": gettext_lazy("Gold and practice tasks"),
        "decisions": gettext_lazy("Decisions of reviewers"),
    }
    UNLIMITED = frozenset({"min_length", "max_length", "min_rating", "min_seconds", "min_gold_accuracy"})
    OTHERS: Mapping[str, Any] = {"stratify_by": gettext_lazy("Same share of each"), "parent": gettext_lazy("Follows")}

    def __init__(self, version: DatasetVersion) -> None:
        self._fields = DatasetForm(project=version.project).fields

    def step(self, name: str) -> str:
        return str(self.STEPS.get(name) or self.label(name))

    def chosen(self, name: str, value: Any) -> str:
        """The value of a filter that is set; one that is only set or not needs none."""
        return "" if isinstance(value, bool) else self.value(name, value)

    def label(self, name: str) -> str:
        if name in self.OTHERS:
            return str(self.OTHERS[name])
        field = self._fields.get(name)
        return str(field.label) if field and field.label else name.replace("_", " ").capitalize()

    def value(self, name: str, value: Any) -> str:
        if isinstance(value, bool):
            return _("Yes") if value else _("No")
        if value in (None, "", [], ()) or (value == 0 and name in self.UNLIMITED):
            return "–"
        choices: Mapping[Any, Any] = dict(getattr(self._fields.get(name), "choices", []))
        if isinstance(value, list | tuple):
            return ", ".join(str(choices.get(one, one)) for one in value)
        if name in ("since", "until", "as_of"):
            moment = datetime.fromisoformat(value) if isinstance(value, str) else value
            return _("%(moment)s UTC") % {"moment": date_format(moment, "Y-m-d H:i:s")}
        return str(choices.get(value, value))


def lineage(version: DatasetVersion) -> dict[str, Any]:
    """Whose rankings, of which sources and imports; the longest lists are cut."""
    statistics = version.statistics
    jobs = [one["import"] for one in statistics.get("imports", [])]
    there = set(Import.objects.filter(project_id=version.project_id, pk__in=jobs).values_list("pk", flat=True))
    annotators = sorted(statistics.get("annotators", []), key=lambda one: -one["rankings"])
    return {
        "is_known": bool(statistics),
        "prompts": statistics.get("prompts"),
        "annotators": annotators[:LISTED],
        "more_annotators": max(0, len(annotators) - LISTED),
        "sources": sorted(statistics.get("sources", []), key=lambda one: -one["rankings"])[:LISTED],
        "imports": [{**one, "is_there": one["import"] in there} for one in statistics.get("imports", [])],
        "children": list(version.children.order_by("number").only("number", "tag", "note", "project")),
    }
