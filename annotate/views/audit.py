"""The audit log: who did what, when."""

import json
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from django.db.models import Q, QuerySet
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import override
from django.views.decorators.http import require_safe

from annotate.access import ProjectRequest, Role, member_required
from annotate.forms.audit import AuditForm
from annotate.models import AuditEvent, Demonstration, Project
from annotate.sentences import people_in, say
from annotate.spreadsheets import csv_file

PAGE = 50
BATCH = 1000


class Entry(NamedTuple):
    event: AuditEvent
    sentence: str
    url: str
    label: str


@require_safe
@member_required(Role.ADMIN)
def audit(request: ProjectRequest) -> HttpResponse:
    project = request.membership.project
    form = AuditForm(request.GET, project=project)
    events: list[AuditEvent] = []
    if form.is_valid():
        events = list(_after(form.entries(), project, request.GET.get("before", ""))[: PAGE + 1])
    query = request.GET.copy()
    query.pop("before", None)
    filters = query.urlencode()
    if len(events) > PAGE:
        query["before"] = str(events[PAGE - 1].pk)
    context = {
        "project": project,
        "membership": request.membership,
        "form": form,
        "is_filtered": form.is_valid() and any(form.cleaned_data.values()),
        "entries": describe(project, events[:PAGE]),
        "filters": filters,
        "older": query.urlencode() if len(events) > PAGE else "",
        "is_first": "before" not in request.GET,
    }
    return render(request, "annotate/audit.html", context)


@require_safe
@member_required(Role.ADMIN)
def audit_csv(request: ProjectRequest) -> HttpResponseBase:
    """Every entry that the page's filters leave, as CSV."""
    project = request.membership.project
    form = AuditForm(request.GET, project=project)
    if not form.is_valid():
        return redirect(f"{reverse('audit', args=[project.slug])}?{request.GET.urlencode()}")
    return csv_file(f"{project.slug}-audit", _rows(form.entries()))


def _after(entries: QuerySet[AuditEvent], project: Project, before: str) -> QuerySet[AuditEvent]:
    """What comes after the entry `before` (its id), the last of the page before; all where there is no such entry."""
    if not (before.isascii() and before.isdigit() and len(before) < 19):
        return entries
    last = AuditEvent.objects.filter(project=project, pk=int(before)).first()
    if last is None:
        return entries
    return entries.filter(Q(at__lt=last.at) | Q(pk__lt=last.pk), at__lte=last.at)


def describe(project: Project, events: list[AuditEvent]) -> list[Entry]:
    people = people_in(events)
    links = links_of(project, events)
    return [Entry(event, say(event, people), *links.get(event.pk, ("", ""))) for event in events]


def links_of(project: Project, events: list[AuditEvent]) -> dict[int, tuple[str, str]]:
    """{event id: (address, words)} of what there is to look at."""

    def address(name: str, *args: object) -> str:
        return reverse(name, args=[project.slug, *args])

    numbers = {event.pk: _number(event.target) for event in events}
    tasks = {event.pk: _task_of(event) for event in events}
    standing = set(project.tasks.filter(pk__in=[pk for pk in tasks.values() if pk]).values_list("pk", flat=True))
    ideal = [numbers[event.pk] for event in events if event.target.startswith("demonstration:")]
    prompts = dict(
        Demonstration.objects.filter(project=project, pk__in=ideal).values_list("pk", "completion__prompt_id")
    )
    links = {}
    for event in events:
        kind, number = event.target.partition(":")[0], numbers[event.pk]
        task = tasks[event.pk]
        if task in standing:
            links[event.pk] = address("task", task), _("Task %(number)s") % {"number": task}
        elif kind == "demonstration" and number in prompts:
            links[event.pk] = address("prompt", prompts[number]), _("Prompt")
        elif kind in ("dataset", "import", "run", "checkpoint", "pipeline", "pipeline_run") and number:
            links[event.pk] = address(kind, number), _("Open it")
        elif kind in ("user", "invitation"):
            links[event.pk] = address("project_members"), _("Members")
        elif kind == "webhook":
            links[event.pk] = address("webhooks"), _("Webhooks")
        elif event.verb == "settings.changed":
            links[event.pk] = address("project_settings"), _("Settings")
    return links


def _number(target: str) -> int:
    number = target.partition(":")[2]
    return int(number) if number.isdigit() else 0


def _task_of(event: AuditEvent) -> int:
    """The task that an entry is about; 0 for none."""
    if event.target.startswith("task:"):
        return _number(event.target)
    task = event.details.get("task")
    return task if event.target.startswith("ranking:") and isinstance(task, int) else 0


def _rows(entries: QuerySet[AuditEvent]) -> Iterator[list[str]]:
    yield ["at", "person", "verb", "target", "sentence", "details"]
    rows = entries.iterator(BATCH)
    while batch := list(islice(rows, BATCH)):
        people = people_in(batch)
        for event in batch:
            who = event.actor.username if event.actor else ""
            details = json.dumps(event.details, ensure_ascii=False, sort_keys=True)
            with override("en"):
                sentence = say(event, people)
            yield [event.at.isoformat(), who, event.verb, event.target, sentence, details]
