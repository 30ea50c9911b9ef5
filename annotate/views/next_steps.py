"""What a person does next in a project, most pressing first."""

from typing import NamedTuple

from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from annotate.jobs import Job
from annotate.models import AuditEvent, DatasetVersion, Membership, Project, RankingTask
from annotate.services.adjudication import waiting
from annotate.services.assignments import has_task
from annotate.services.overview import has_rankings_since
from annotate.services.projects import Count, bounded_count
from annotate.services.webhooks import host_of, standing

ENOUGH_TO_TRAIN = 50
Purpose = RankingTask.Purpose


class Step(NamedTuple):
    url: str
    title: str
    why: str


def next_steps(membership: Membership, counts: dict[str, Count]) -> list[Step]:
    steps = [*_people_wait(membership, counts)] if membership.is_admin else []
    if has_task(membership=membership):
        steps.append(_step(membership, "rank", _("Rank answers"), _("Tasks are waiting.")))
    if membership.is_admin:
        steps += _queue_is_empty(membership, counts)
    if membership.may_read_data:
        steps += _model_waits(membership, counts)
    return steps


def _step(membership: Membership, url_name: str, title: str, why: str, anchor: str = "") -> Step:
    return Step(reverse(url_name, args=[membership.project.slug]) + anchor, title, why)


def _people_wait(membership: Membership, counts: dict[str, Count]) -> list[Step]:
    """What keeps others from ranking, or their rankings from counting."""
    project, steps = membership.project, []
    if counts["flags"]:
        words = ngettext(
            "%(count)s task was taken out of the queue by whoever was to rank it.",
            "%(count)s tasks were taken out of the queue by whoever was to rank them.",
            counts["flags"].value,
        )
        steps.append(_step(membership, "flags", _("Settle flags"), words % {"count": counts["flags"]}))
    if undecided := bounded_count(waiting(project).order_by()):
        words = ngettext(
            "People disagree about %(count)s task.", "People disagree about %(count)s tasks.", undecided.value
        )
        steps.append(_step(membership, "adjudication", _("Adjudicate"), words % {"count": undecided}))
    by_itself = (Membership.PauseReason.GOLD, Membership.PauseReason.PRACTICE)
    paused = project.memberships.present().filter(paused_at__isnull=False, pause_reason__in=by_itself)
    names = list(paused.order_by("-paused_at").values_list("user__username", flat=True)[:4])
    if names:
        named = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
        why = _("Too few of their answers were as known: %(names)s.") % {"names": named}
        steps.append(_step(membership, "project_members", _("Look at who is paused"), why))
    steps += _known_tasks_missing(membership)
    failed = standing(project).exclude(paused_at=None).exclude(failing_since=None)
    if hosts := sorted({host_of(webhook) for webhook in failed}):
        why = _("It failed for days and is told nothing any more: %(hosts)s.") % {"hosts": ", ".join(hosts)}
        steps.append(_step(membership, "webhooks", _("Look at a webhook"), why))
    return steps


def _known_tasks_missing(membership: Membership) -> list[Step]:
    project, steps = membership.project, []
    known = project.tasks.exclude(purpose=Purpose.RANKING).filter(state=RankingTask.State.OPEN)
    if project.practice_tasks:
        missing = project.practice_tasks - known.filter(purpose=Purpose.PRACTICE)[: project.practice_tasks].count()
        if missing > 0:
            words = ngettext(
                "The settings ask for %(count)s more than there is.",
                "The settings ask for %(count)s more than there are.",
                missing,
            )
            steps.append(_step(membership, "known_tasks", _("Add practice tasks"), words % {"count": missing}))
    if project.gold_percent and not known.filter(purpose=Purpose.GOLD).exists():
        why = _("The settings ask for gold tasks, and there are none.")
        steps.append(_step(membership, "known_tasks", _("Add gold tasks"), why))
    return steps


def _queue_is_empty(membership: Membership, counts: dict[str, Count]) -> list[Step]:
    steps = []
    if not counts["prompts"]:
        steps.append(_step(membership, "imports", _("Import prompts"), _("The project has no prompts yet.")))
    elif not counts["tasks"]:
        why = _("No prompt has two answers to compare yet. Let a model write them.")
        steps.append(_step(membership, "runs", _("Write answers"), why))
    elif not counts["open_tasks"] and not counts["flags"]:
        why = _("Everything is ranked. Let the model answer the prompts anew.")
        steps.append(_step(membership, "runs", _("Write new answers"), why))
    if counts["members"].value < 2:
        steps.append(_step(membership, "project_members", _("Invite people"), _("You are the only member."), "#invite"))
    return steps


def _model_waits(membership: Membership, counts: dict[str, Count]) -> list[Step]:
    project = membership.project
    versions = DatasetVersion.objects.filter(project=project).exclude(state__in=[Job.State.FAILED, Job.State.CANCELLED])
    latest = versions.order_by("-number").first()
    if latest is None and counts["rankings"].value >= ENOUGH_TO_TRAIN:
        return [_step(membership, "datasets", _("Freeze a dataset"), _("There are enough rankings to train on."))]
    if latest is None or latest.state != Job.State.SUCCEEDED:
        return []
    if membership.is_admin and not _was_trained_since(project, latest):
        why = _("Nothing was trained since dataset %(number)s was frozen.") % {"number": latest.number}
        return [_step(membership, "runs", _("Train a model"), why)]
    if has_rankings_since(project, latest.as_of, ENOUGH_TO_TRAIN):
        why = _("Fifty rankings and more are newer than dataset %(number)s.") % {"number": latest.number}
        return [_step(membership, "datasets", _("Freeze a dataset"), why)]
    return []


def _was_trained_since(project: Project, version: DatasetVersion) -> bool:
    started = AuditEvent.objects.filter(project=project, verb="run.started", at__gt=version.as_of)
    # Said in full, so that the index without rankings serves.
    return started.exclude(verb__startswith="ranking.").exclude(details__method="generate").exists()
