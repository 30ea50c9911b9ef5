"""What two dataset versions have different, and why."""

import json
from collections.abc import Iterator
from typing import Any

from django.core.exceptions import ValidationError
from django.http import Http404, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from annotate.access import ProjectRequest, Role, member_required
from annotate.formats.versions.frozen import FrozenFile, frozen
from annotate.forms.versions import CompareForm
from annotate.models import DatasetVersion
from annotate.services.comparisons import (
    check_comparable,
    comparison_rows,
    differing_settings,
    is_small,
    load_comparison,
    request_comparison,
    store_comparison,
)
from annotate.spreadsheets import csv_file

from .dataset_rows import describe_ranking, finished_version
from .dataset_words import Words

COLUMNS = ("ranks", "completions", "ratings", "verdict", "weight", "split", "annotator")


@require_safe
@member_required(Role.RESEARCHER, Role.ADMIN)
def dataset_compare(request: ProjectRequest, number: int) -> HttpResponseBase:
    """Choose the version to compare this one with."""
    project = request.membership.project
    version = finished_version(project, number)
    form = CompareForm(request.GET or None, version=version)
    if form.is_bound and form.is_valid():
        return redirect("dataset_diff", project.slug, form.cleaned_data["other"], number)
    status = 422 if form.errors else 200
    return render(
        request, "annotate/dataset_diff.html", {"project": project, "version": version, "form": form}, status=status
    )


@require_safe
@member_required(Role.RESEARCHER, Role.ADMIN)
def dataset_diff(request: ProjectRequest, number: int, other: int) -> HttpResponseBase:
    """What version `other` has otherwise than version `number`."""
    project = request.membership.project
    version, base = _both(request, number, other)
    form = CompareForm(initial={"other": number}, version=version)
    context: dict[str, Any] = {"project": project, "version": version, "base": base, "form": form}
    try:
        check_comparable(version, base)
    except ValidationError as error:
        return render(request, "annotate/dataset_diff.html", context | {"refused": error.messages[0]}, status=422)
    summary = load_comparison(version, base)
    try:
        if summary is None and is_small(version, base):
            summary = store_comparison(version, base)
    except FileNotFoundError:
        return render(request, "annotate/dataset_diff.html", context | {"is_lost": True})
    if summary is None:
        context["is_working"] = request_comparison(version, base)
        context["has_failed"] = not context["is_working"]
    if request.htmx:
        response = render(request, "annotate/dataset_diff.html#state", context)
        if not context.get("is_working"):
            response["HX-Refresh"] = "true"
        return response
    if summary is not None:
        context |= {
            "summary": summary,
            "settings": _settings(version, base),
            "changes": _changes(version, base, summary),
        }
    return render(request, "annotate/dataset_diff.html", context)


@require_safe
@member_required(Role.RESEARCHER, Role.ADMIN)
def dataset_diff_rows(request: ProjectRequest, number: int, other: int) -> HttpResponseBase:
    """Every ranking that is not the same, as CSV or JSON Lines."""
    version, base = _both(request, number, other)
    if load_comparison(version, base) is None:
        raise Http404(_("These versions have not been compared yet. Open the page that compares them first."))
    name = f"{version.project.slug}-v{base.number}-to-v{version.number}"
    rows = (row for row, _offset in comparison_rows(version, base))
    if request.GET.get("format", "csv") == "jsonl":
        lines = (json.dumps(row) + "\n" for row in rows)
        response = StreamingHttpResponse(lines, content_type="application/x-ndjson")
        response["Content-Disposition"] = f'attachment; filename="{name}.jsonl"'
        return response
    return csv_file(name, _csv(rows))


def _csv(rows: Iterator[dict[str, Any]]) -> Iterator[list[str]]:
    yield ["ranking", "change", "reasons"]
    for row in rows:
        yield [row["ranking"], row["change"], " ".join(row["reasons"])]


def _both(request: ProjectRequest, number: int, other: int) -> tuple[DatasetVersion, DatasetVersion]:
    versions = request.membership.project.dataset_versions.select_related("project")
    return get_object_or_404(versions, number=other), get_object_or_404(versions, number=number)


def _settings(version: DatasetVersion, base: DatasetVersion) -> list[tuple[str, str, str]]:
    """(label, in base, in the version) of all that was chosen differently."""
    words = Words(version)
    return [
        (words.label(name), words.value(name, before), words.value(name, after))
        for name, (before, after) in differing_settings(version, base).items()
    ]


def _changes(version: DatasetVersion, base: DatasetVersion, summary: dict[str, Any]) -> list[dict[str, Any]]:
    """The three kinds of change; of each the reasons, most frequent first, and the first rows as people see them."""
    words = Words(version)
    with frozen(version, "rankings.parquet") as new, frozen(base, "rankings.parquet") as old:
        kinds = (("removed", old, base, version), ("added", new, version, base), ("changed", new, version, base))
        return [
            {
                "change": change,
                "count": summary[change]["count"],
                "has_it": has_it,
                "lacks_it": lacks_it,
                "reasons": [
                    {
                        "text": _column(reason) if change == "changed" else _reason(reason, lacks_it, words),
                        "count": found["count"],
                        "rows": _changed(old, new, found["first"])
                        if change == "changed"
                        else [describe_ranking(row) for row in file.at(found["first"])],
                    }
                    for reason, found in sorted(summary[change]["reasons"].items(), key=lambda one: -one[1]["count"])
                ],
            }
            for change, file, has_it, lacks_it in kinds
        ]


def _changed(old: FrozenFile, new: FrozenFile, places: list[list[int]]) -> list[dict[str, Any]]:
    before, after = (file.at([pair[side] for pair in places]) for side, file in ((0, old), (1, new)))
    return [
        {
            **describe_ranking(now),
            "changes": [
                (_column(name), _value(name, then[name]), _value(name, now[name]))
                for name in COLUMNS
                if then[name] != now[name]
            ],
        }
        for then, now in zip(before, after, strict=True)
    ]


def _reason(reason: str, lacking: DatasetVersion, words: Words) -> str:
    number = {"number": lacking.number}
    known = {
        "later": _("Came after the moment of v%(number)s"),
        "withdrawn": _("Revised or taken back by the moment of v%(number)s"),
        "deleted": _("No longer in the database"),
        "consensus": _("Made of all the rankings of its task"),
        "merged": _("In v%(number)s it went into one ranking with the others of its task"),
        "unknown": _("v%(number)s lacks it though nothing drops it: something it depends on has changed since"),
    }
    if reason in known:
        return known[reason] % number
    return _("Dropped in v%(number)s by “%(filter)s”") % {**number, "filter": words.step(reason)}


def _column(name: str) -> str:
    known = {
        "ranks": _("Places"),
        "completions": _("Answers"),
        "ratings": _("Ratings"),
        "verdict": _("Verdict"),
        "weight": _("Weight"),
        "split": _("Side"),
        "annotator": _("Annotator"),
    }
    return known.get(name, name)


def _value(name: str, value: Any) -> str:
    if name == "completions":
        return "; ".join(one["completion"][:60] for one in value)
    if name == "ratings":
        return "; ".join(", ".join(f"{one['criterion']} {one['rating']}" for one in rated) or "–" for rated in value)
    if name == "ranks":
        return " ".join(map(str, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
