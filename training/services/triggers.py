"""What starts pipelines by themselves: schedules and new rankings, held back by a cool-down and a budget.

A schedule's time that finds an obstacle is skipped; new rankings wait until the obstacle is gone. Each firing holds the
trigger's row, so that two beats at once start one run.
"""

import logging
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError
from django.core.exceptions import ValidationError
from django.db import InterfaceError, OperationalError, transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate.models import Project, Ranking, RankingTask, User, record
from training.definitions import InvalidPipeline
from training.models import Pipeline, PipelineRun, Run, Trigger

from .pipelines import PipelineBusy, newest_ranking, start_pipeline

logger = logging.getLogger("podium.pipelines")

BUDGET_DAYS = 7
Skip = Trigger.Skip


@dataclass(frozen=True)
class Standing:
    """Where a trigger stands now. `obstacle` is what would hold it back at this moment; `free_at` is when a cool-down ends."""

    trigger: Trigger
    obstacle: Trigger.Skip | None
    free_at: datetime | None
    hours_used: float
    new_rankings: int
    next_times: list[datetime] = field(default_factory=list)

    @property
    def obstacle_now(self) -> str:
        words = {
            Skip.RUNNING: _("a pipeline of the project is running"),
            Skip.COOL_DOWN: _("it rests after the last run"),
            Skip.BUDGET: _("its hours of training are used up"),
            Skip.PROJECT: _("the project is not active"),
        }
        return words[self.obstacle] if self.obstacle else ""


def next_times(cron: str, zone: str, *, after: datetime | None = None, count: int = 3) -> list[datetime]:
    """The schedule's next times, aware, in its own zone. Raises ValidationError naming `cron` or `time_zone`.

    Days on which the clocks change are treated as Debian's cron does: a time that does not exist comes right after the gap, and
    one that exists twice comes once.
    """
    if zone not in available_timezones():
        raise ValidationError({"time_zone": _("There is no such time zone.")})
    if len(cron.split()) != 5:
        raise ValidationError({"cron": _("Five fields: minute, hour, day of the month, month, day of the week.")})
    now = (after or timezone.now()).astimezone(ZoneInfo(zone))
    try:
        times = CronSim(cron, now)
        return [next(times) for _number in range(count)]
    except StopIteration as error:
        raise ValidationError({"cron": _("There is no such day.")}) from error
    except (CronSimError, AssertionError, ValueError, OverflowError) as error:
        reason = _("This is no schedule: %(why)s. An example: 30 3 * * 1-5, at 3:30 from Monday to Friday.")
        raise ValidationError({"cron": reason % {"why": str(error) or cron}}) from error


@transaction.atomic
def add_trigger(
    *,
    pipeline: Pipeline,
    kind: str,
    user: User,
    cron: str = "",
    time_zone: str = "",
    rankings: int | None = None,
    cool_down_hours: float = 0,
    budget_hours: float | None = None,
) -> Trigger:
    """Raises ValidationError naming the field: `cron`, `time_zone`, `rankings`, `cool_down_hours` or `budget_hours`."""
    first = None
    if kind == Trigger.Kind.SCHEDULE:
        (first,) = next_times(cron, time_zone, count=1)
        rankings = None
    else:
        cron = time_zone = ""
        if not rankings or rankings < 1:
            raise ValidationError({"rankings": _("Say how many new rankings start it, 1 or more.")})
    if not 0 <= cool_down_hours <= 24 * 365:
        raise ValidationError({"cool_down_hours": _("This is a number of hours, 0 or more.")})
    if budget_hours is not None and not 0 < budget_hours <= 24 * BUDGET_DAYS * 1000:
        raise ValidationError({"budget_hours": _("This is a number of hours above 0, or empty.")})
    trigger = Trigger.objects.create(
        pipeline=pipeline,
        kind=kind,
        cron=cron,
        time_zone=time_zone,
        next_at=first,
        rankings=rankings,
        counted_from=newest_ranking(pipeline.project),
        cool_down_hours=cool_down_hours,
        budget_hours=budget_hours,
        created_by=user,
    )
    _record(user, "trigger.added", trigger)
    return trigger


@transaction.atomic
def pause_trigger(*, trigger: Trigger, user: User) -> None:
    """Twice is once."""
    locked = _locked(trigger.pk)
    if locked.paused_at is None:
        locked.paused_at = timezone.now()
        locked.save(update_fields=["paused_at"])
        _record(user, "trigger.paused", locked)


@transaction.atomic
def resume_trigger(*, trigger: Trigger, user: User) -> None:
    """A schedule goes on with its next time; what it missed is not made up for. Rankings of the meantime count."""
    locked = _locked(trigger.pk)
    if locked.paused_at is not None:
        locked.paused_at = None
        if locked.kind == Trigger.Kind.SCHEDULE:
            (locked.next_at,) = next_times(locked.cron, locked.time_zone, count=1)
        locked.save(update_fields=["paused_at", "next_at"])
        _record(user, "trigger.resumed", locked)


@transaction.atomic
def delete_trigger(*, trigger: Trigger, user: User) -> None:
    """The runs that it started stay."""
    locked = Trigger.objects.select_for_update().filter(pk=trigger.pk).first()
    if locked:
        _record(user, "trigger.deleted", locked)
        locked.delete()


def _locked(pk: int) -> Trigger:
    return Trigger.objects.select_for_update(of=("self",)).select_related("pipeline__project").get(pk=pk)


def _record(user: User, verb: str, trigger: Trigger) -> None:
    pipeline = trigger.pipeline
    when = (
        f"{trigger.cron} {trigger.time_zone}"
        if trigger.kind == Trigger.Kind.SCHEDULE
        else f"{trigger.rankings} rankings"
    )
    details = {"name": pipeline.name, "kind": trigger.kind, "when": when}
    record(user, verb, f"trigger:{trigger.pk}", project=pipeline.project, **details)


def due_triggers() -> list[int]:
    """Those that may have to fire now; `fire` looks closer, under the row's lock."""
    open_ones = Trigger.objects.filter(paused_at=None, pipeline__archived_at=None)
    due = Q(kind=Trigger.Kind.SCHEDULE, next_at__lte=timezone.now()) | Q(kind=Trigger.Kind.RANKINGS)
    return list(open_ones.filter(due).order_by("pk").values_list("pk", flat=True))


@transaction.atomic
def fire(*, pk: int) -> PipelineRun | None:
    """Start the trigger's pipeline if it is due and nothing is in its way. Whoever comes second finds nothing to do."""
    rows = Trigger.objects.select_for_update(of=("self",), skip_locked=True).select_related("pipeline__project")
    trigger = rows.filter(pk=pk, paused_at=None, pipeline__archived_at=None).first()
    now = timezone.now()
    if trigger is None or not _is_due(trigger, now):
        return None
    if trigger.kind == Trigger.Kind.SCHEDULE:
        (trigger.next_at,) = next_times(trigger.cron, trigger.time_zone, after=now, count=1)
    skipped, error, started = obstacle(trigger, now), "", None
    if skipped is None:
        try:
            started = start_pipeline(pipeline=trigger.pipeline, user=None, trigger=trigger)
        except PipelineBusy:
            skipped = Skip.RUNNING
        except InvalidPipeline as refusal:
            skipped, error = Skip.REFUSED, str(refusal)
        except (OperationalError, InterfaceError):  # the database is away: the next beat tries again
            raise
        except Exception:
            reference = uuid.uuid4().hex[:8]
            logger.exception("trigger %s could not start its pipeline, reference %s", trigger.pk, reference)
            skipped, error = Skip.REFUSED, _("Something went wrong on our side; the log has it as %s.") % reference
    if started:
        trigger.fired_at = now
    elif skipped:
        trigger.skipped_at, trigger.skipped_because, trigger.skipped_error = now, skipped, error
    trigger.save(update_fields=["next_at", "fired_at", "skipped_at", "skipped_because", "skipped_error"])
    return started


def _is_due(trigger: Trigger, now: datetime) -> bool:
    if trigger.kind == Trigger.Kind.SCHEDULE:
        return trigger.next_at is not None and trigger.next_at <= now
    return new_rankings(trigger) >= (trigger.rankings or 1)


def new_rankings(trigger: Trigger) -> int:
    """Annotators' current rankings of ordinary tasks since the pipeline was last started, however it was, or the trigger added."""
    last = _last_run(trigger.pipeline)
    since = max(trigger.counted_from, last.rankings_until if last else 0)
    rows = Ranking.objects.current().filter(
        project=trigger.pipeline.project_id,
        pk__gt=since,
        role=Ranking.Role.ANNOTATOR,
        task__purpose=RankingTask.Purpose.RANKING,
    )
    return rows.count()


def _last_run(pipeline: Pipeline) -> PipelineRun | None:
    return pipeline.runs.order_by("-pk").first()


def obstacle(trigger: Trigger, now: datetime) -> Trigger.Skip | None:
    """What keeps the trigger from starting its pipeline at this moment."""
    project = trigger.pipeline.project
    if project.state != Project.State.ACTIVE:
        return Skip.PROJECT
    if project.pipeline_runs.filter(state=PipelineRun.State.RUNNING).exists():
        return Skip.RUNNING
    free_at = rests_until(trigger)
    if free_at and free_at > now:
        return Skip.COOL_DOWN
    if trigger.budget_hours is not None and hours_used(trigger.pipeline, now) >= trigger.budget_hours:
        return Skip.BUDGET
    return None


def rests_until(trigger: Trigger) -> datetime | None:
    """When the cool-down after the pipeline's last run ends; None where nothing has to rest."""
    last = _last_run(trigger.pipeline)
    if last is None or last.finished_at is None or not trigger.cool_down_hours:
        return None
    return last.finished_at + timedelta(hours=trigger.cool_down_hours)


def hours_used(pipeline: Pipeline, now: datetime) -> float:
    """Hours of training and sampling by the pipeline's runs in the 7 days before `now`, each from its start to its end."""
    since = now - timedelta(days=BUDGET_DAYS)
    runs = Run.objects.filter(stage__pipeline_run__pipeline=pipeline, started_at__isnull=False)
    spans = runs.filter(Q(finished_at=None) | Q(finished_at__gt=since)).values_list("started_at", "finished_at")
    used = [(finished or now) - max(started, since) for started, finished in spans if started]
    return sum(used, timedelta()).total_seconds() / 3600


def standing(trigger: Trigger) -> Standing:
    now = timezone.now()
    rests = rests_until(trigger)
    return Standing(
        trigger=trigger,
        obstacle=obstacle(trigger, now),
        free_at=rests if rests and rests > now else None,
        hours_used=hours_used(trigger.pipeline, now),
        new_rankings=new_rankings(trigger) if trigger.kind == Trigger.Kind.RANKINGS else 0,
        next_times=_shown_times(trigger, now),
    )


def _shown_times(trigger: Trigger, now: datetime) -> list[datetime]:
    if trigger.kind != Trigger.Kind.SCHEDULE or trigger.paused_at:
        return []
    # One that is due already is the first of them.
    return next_times(trigger.cron, trigger.time_zone, after=min(now, (trigger.next_at or now) - timedelta(minutes=1)))


def zones() -> list[str]:
    """Time zones to choose from: places, and UTC."""
    return [
        "UTC",
        *sorted(
            zone for zone in available_timezones() if "/" in zone and not zone.startswith(("Etc/", "posix/", "right/"))
        ),
    ]
