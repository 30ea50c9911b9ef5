"""Background jobs whose truth is a row: an import, a dataset version, a training run.

A job is claimed by a conditional update, so that a message delivered twice, or a second worker, finds nothing to do.
While it works, its holder renews the lease with its token; a holder whose update touches no row has been fenced off and must
stop. `reap` gives the jobs of dead workers back. The broker's message is only a wake-up: losing it delays, never loses.
"""

import logging
import uuid
from datetime import timedelta
from typing import Any, TypeVar, cast

from celery import Task
from django.db import models, transaction
from django.db.models import Case, F, Q, Value, When
from django.db.models.functions import Coalesce, Now
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from kombu.exceptions import OperationalError as BrokerAway

logger = logging.getLogger("podium.jobs")

LEASE = timedelta(seconds=60)
# A message lives twice as long, so that a queue behind a long run holds two copies of each at most.
RESEND_AFTER = timedelta(seconds=60)
INTERRUPTED_TOO_OFTEN = "It was interrupted, and this was the last attempt. Look at its log, then retry."
WORKER_LOST = "The worker stopped answering, and this was the last attempt. Look at the worker's log, then retry."

J = TypeVar("J", bound="Job")


class Job(models.Model):
    """Columns and transitions that every background job has."""

    class State(models.TextChoices):
        DRAFT = "draft", _("Not started")
        QUEUED = "queued", _("Queued")
        RUNNING = "running", _("Running")
        SUCCEEDED = "succeeded", _("Succeeded")
        FAILED = "failed", _("Failed")
        CANCELLED = "cancelled", _("Cancelled")

    ACTIVE = (State.QUEUED, State.RUNNING)
    ENDED = (State.SUCCEEDED, State.FAILED, State.CANCELLED)

    state = models.CharField(max_length=10, choices=State, default=State.QUEUED)
    attempt = models.PositiveSmallIntegerField(default=0)
    max_attempts = models.PositiveSmallIntegerField(default=3)
    lease_token = models.UUIDField(null=True, editable=False)
    lease_until = models.DateTimeField(null=True, editable=False)
    cancel_requested = models.BooleanField(default=False)
    progress = models.FloatField(default=0, help_text="Share done, 0 to 1")
    progress_note = models.CharField(max_length=200, blank=True)
    error = models.TextField(blank=True, help_text="Why it failed, in words for the person who started it")
    queued_at = models.DateTimeField(default=timezone.now)
    woken_at = models.DateTimeField(null=True, editable=False, help_text="When its message was last sent again")
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        abstract = True

    @property
    def is_active(self) -> bool:
        return self.state in self.ACTIVE

    def announcement(self) -> tuple[str, dict[str, Any]] | None:
        """What webhooks are told of its end, if anything: the kind of event and the payload."""
        return None


class Fenced(Exception):
    """Another worker holds this job now, or it is no longer running: stop without writing anything."""


class Cancelled(Exception):
    """Somebody asked this job to stop."""


def claim(model: type[J], pk: int, *, lease: timedelta = LEASE) -> J | None:
    """Take the job if it is free and return it with a fresh lease token; None if there is nothing to take."""
    token = uuid.uuid4()
    free = Q(state=Job.State.QUEUED) | Q(state=Job.State.RUNNING, lease_until__lt=Now())
    model._default_manager.filter(free, pk=pk, cancel_requested=False, attempt__lt=F("max_attempts")).update(
        state=Job.State.RUNNING,
        attempt=F("attempt") + 1,
        lease_token=token,
        lease_until=Now() + lease,
        started_at=Coalesce("started_at", Now()),
        error="",
    )
    return model._default_manager.filter(pk=pk, lease_token=token).first()


def _held(job: Job) -> models.QuerySet[Any]:
    return type(job)._default_manager.filter(pk=job.pk, state=Job.State.RUNNING, lease_token=job.lease_token)


def beat(job: Job, *, lease: timedelta = LEASE, **changes: Any) -> None:
    """Renew the lease and write `changes` (progress, progress_note, …).

    Raises Fenced if the lease is no longer ours, Cancelled if somebody asked the job to stop.
    """
    if not _held(job).update(lease_until=Now() + lease, **changes):
        raise Fenced(f"{type(job).__name__} {job.pk}")
    if type(job)._default_manager.filter(pk=job.pk, cancel_requested=True).exists():
        raise Cancelled(f"{type(job).__name__} {job.pk}")


def announce_end(job: Job) -> None:
    """Tell webhooks that the job has ended, in the transaction that ended it. `job` is its row as it is then."""
    from annotate.models import Project  # these know jobs
    from annotate.services.webhooks import announce

    if job.state in Job.ENDED and (told := job.announcement()):
        kind, payload = told
        # As it is now: a job is long, and the project's row at hand as old as its start.
        announce(Project.objects.get(pk=cast(Any, job).project_id), kind, state=job.state, **payload)


@transaction.atomic
def finish(job: Job, state: Job.State, *, error: str = "", **changes: Any) -> None:
    """End the job, once: Fenced if another holder has it, so that a result is never written twice."""
    if state == Job.State.SUCCEEDED:
        changes["progress"] = 1
    if not _held(job).update(
        state=state, error=error, lease_token=None, lease_until=None, finished_at=Now(), **changes
    ):
        raise Fenced(f"{type(job).__name__} {job.pk}")
    job.refresh_from_db()
    announce_end(job)


@transaction.atomic
def release(job: Job, *, note: str = "", counts: bool = False) -> None:
    """Give the job back before the lease ends (the worker is shutting down); one more attempt makes up for this one.

    With `counts` none does, so that a job that nobody asked to stop is not repeated without end: its last attempt fails it.
    """
    used_up = Q(attempt__gte=F("max_attempts")) if counts else Q(pk=None)
    released = _held(job).update(
        state=_cancelled_or(Case(When(used_up, then=Value(Job.State.FAILED)), default=Value(Job.State.QUEUED))),
        max_attempts=F("max_attempts") + (0 if counts else 1),
        error=Case(When(used_up, then=Value(INTERRUPTED_TOO_OFTEN)), default=Value("")),
        lease_token=None,
        lease_until=None,
        woken_at=None,
        progress_note=note,
        finished_at=Case(When(used_up | Q(cancel_requested=True), then=Now()), default=None),
    )
    if released:
        announce_end(type(job)._default_manager.get(pk=job.pk))


@transaction.atomic
def request_cancel(job: Job) -> None:
    """A queued job is cancelled at once; a running one is asked to stop and its holder ends it."""
    queued = Q(state=Job.State.QUEUED)
    active = type(job)._default_manager.filter(pk=job.pk, state__in=Job.ACTIVE)
    asked = active.update(
        cancel_requested=True,
        state=Case(When(queued, then=Value(Job.State.CANCELLED)), default=F("state")),
        finished_at=Case(When(queued, then=Now()), default=F("finished_at")),
    )
    job.refresh_from_db()
    if asked:
        announce_end(job)


def _cancelled_or(state: Case | Job.State) -> Case:
    otherwise = state if isinstance(state, Case) else Value(state)
    return Case(When(cancel_requested=True, then=Value(Job.State.CANCELLED)), default=otherwise)


def wake(task: "Task[Any, Any]", pk: int, **options: Any) -> None:
    """Send the wake-up once the transaction commits. A broker that is away is no error: `reap` sends it again.

    What is no job, so that nothing sends it again, is sent with `expires=None`: it waits behind a long run.
    """
    options.setdefault("expires", 2 * RESEND_AFTER.total_seconds())

    def send() -> None:
        try:
            task.apply_async((pk,), **options)
        except (BrokerAway, OSError) as error:
            logger.warning("broker is away, %s(%s) will be sent again: %s", task.name, pk, error)

    transaction.on_commit(send)


def reap(model: type[J], task: "Task[Any, Any]", **options: Any) -> list[int]:
    """Give back the jobs of dead workers, fail those out of attempts, and wake queued ones whose message may be lost."""
    used_up = Q(attempt__gte=F("max_attempts"))
    ends = used_up | Q(cancel_requested=True)
    with transaction.atomic():
        # One that is locked just now has somebody who sees to it.
        lost = model._default_manager.filter(state=Job.State.RUNNING, lease_until__lt=Now())
        lost_pks = list(lost.select_for_update(skip_locked=True, of=("self",)).values_list("pk", flat=True))
        model._default_manager.filter(pk__in=lost_pks).update(
            state=_cancelled_or(Case(When(used_up, then=Value(Job.State.FAILED)), default=Value(Job.State.QUEUED))),
            error=Case(When(used_up, then=Value(WORKER_LOST)), default=F("error"), output_field=models.TextField()),
            finished_at=Case(When(ends, then=Now()), default=None),
            lease_token=None,
            lease_until=None,
            woken_at=None,
        )
        for job in model._default_manager.filter(pk__in=lost_pks, state__in=Job.ENDED):
            announce_end(job)
    queued = model._default_manager.filter(
        Q(woken_at=None) | Q(woken_at__lte=Now() - RESEND_AFTER),
        state=Job.State.QUEUED,
        queued_at__lte=Now() - timedelta(seconds=5),
    )
    stale = list(queued.order_by("queued_at").values_list("pk", flat=True))
    model._default_manager.filter(pk__in=stale).update(woken_at=Now())
    for pk in stale:
        wake(task, pk, **options)
    return stale
