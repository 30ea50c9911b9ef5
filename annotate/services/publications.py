"""Dataset versions on their way to a Hugging Face hub."""

import errno
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import time
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from annotate import jobs
from annotate.formats.exporting import Export, InvalidExport
from annotate.models import DatasetVersion, Publication, User, record

from .assignments import Refused

logger = logging.getLogger("podium.publications")

REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
# A push that nothing is heard of for so long is given up; it renews the job's lease meanwhile.
LONGEST = 6 * 3600
LEASE = timedelta(minutes=2)
# What the pushing process may know of its worker's environment.
PASSED = (
    "PATH",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "HF_HUB_DISABLE_XET",
)
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")
PROBLEMS = {
    "token": gettext_noop("The hub does not accept the token. Whoever runs this server must set HF_TOKEN anew."),
    "forbidden": gettext_noop(
        "The token may not write there. Choose an owner that it may write for, or ask for the permission."
    ),
    "missing": gettext_noop("The hub knows no such owner, or does not show it to this token."),
    "quota": gettext_noop("The hub has no room left for this account."),
    "busy": gettext_noop("The hub takes no more requests from this account for now. Try again later."),
    "away": gettext_noop("The hub cannot be reached. Try again later."),
    "refused": gettext_noop("The hub refused it."),
    "public": gettext_noop(
        "This repository is there already and everybody may see it. Make it private on the hub, or choose another name."
    ),
    "disk": gettext_noop("The disk is full. Make room, then publish again."),
}


def is_set_up() -> bool:
    return bool(settings.HF_TOKEN)


def check_publication(*, repository: str, shape: str, is_private: bool = True, license: str = "") -> None:
    """Refused without a token; ValidationError names the wrong field."""
    if not is_set_up():
        raise Refused("not_set_up", _("Publishing is not set up here: whoever runs this server must set HF_TOKEN."))
    if not REPOSITORY.fullmatch(repository) or any(part in repository for part in ("--", "..")):
        raise ValidationError(
            {"repository": _("Write it as the hub does: OWNER/NAME, letters, digits, “-”, “_” and “.”.")}
        )
    try:
        Export(shape=shape, format="folder", license=license)
    except InvalidExport as error:
        raise ValidationError({error.field: str(error)}) from error


@transaction.atomic
def start_publication(
    *, version: DatasetVersion, user: User, repository: str, shape: str, is_private: bool = True, license: str = ""
) -> Publication:
    """Queue it. Twice while it is on its way is once. Raises what `check_publication` raises, and Refused while it is
    on its way with another visibility or licence."""
    check_publication(repository=repository, shape=shape, is_private=is_private, license=license)
    # Two presses of the button wait for each other here.
    DatasetVersion.objects.select_for_update(no_key=True).get(pk=version.pk)
    same = version.publications.filter(state__in=Publication.ACTIVE, repository=repository, shape=shape).first()
    if same:
        if (same.is_private, same.license) != (is_private, license):
            raise Refused(
                "on_its_way",
                _("It is on its way there already, with another visibility or licence. Cancel that first, or wait."),
            )
        return same
    publication = Publication.objects.create(
        version=version,
        repository=repository,
        shape=shape,
        is_private=is_private,
        license=license,
        created_by=user,
    )
    record(
        user,
        "dataset.published",
        f"dataset:{version.number}",
        project=version.project,
        repository=repository,
        is_private=is_private,
    )
    return publication


@transaction.atomic
def cancel_publication(*, user: User, publication: Publication) -> None:
    """A queued one is cancelled at once, one that is on its way within seconds, unless the hub has it by then. Twice is once."""
    if publication.is_active and not publication.cancel_requested:
        jobs.request_cancel(publication)


def publish(publication: Publication) -> None:
    """Write the claimed publication's folder, push it, and end the job."""
    from annotate.formats.exporting.folder import write_folder

    export = Export(shape=publication.shape, format="folder", license=publication.license)
    version = publication.version
    try:
        if not is_set_up():
            raise PushFailed("token", "")
        os.makedirs(settings.MEDIA_ROOT, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=settings.MEDIA_ROOT, prefix=".publication-") as name:
            folder = Path(name) / "folder"
            beat = _Heart(publication)
            write_folder(version, export, folder, tick=beat)
            jobs.beat(publication, lease=LEASE, progress=0.5, progress_note=_("On its way to the hub"))
            answer = _push(publication, folder, Path(name), beat)
        _end(publication, Publication.State.SUCCEEDED, url=answer["url"], revision=answer["revision"])
    except jobs.Fenced:
        logger.warning("publication %s was taken over by another worker", publication.pk)
    except jobs.Cancelled:
        _end(publication, Publication.State.CANCELLED)
    except PushFailed as failure:
        logger.warning("publication %s failed: %s %s", publication.pk, failure.problem, failure.detail)
        words = [_(PROBLEMS[failure.problem]), *([failure.detail[:500]] if failure.detail else [])]
        _end(publication, Publication.State.FAILED, error=" ".join(words))
    except OSError as error:
        logger.exception("publication %s", publication.pk)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        _end(publication, Publication.State.FAILED, error=_(PROBLEMS["disk"]) if full else str(error))
    except Exception:
        reference = uuid.uuid4().hex[:8]
        logger.exception("publication %s failed, reference %s", publication.pk, reference)
        reason = _("Something went wrong on our side; the log has it as %s.") % reference
        _end(publication, Publication.State.FAILED, error=reason)


class PushFailed(Exception):
    def __init__(self, problem: str, detail: str) -> None:
        super().__init__(problem)
        self.problem, self.detail = problem, detail


class _Heart:
    """Renews the lease now and then, however often it is called."""

    def __init__(self, publication: Publication) -> None:
        self.publication, self.next = publication, 0.0

    def __call__(self) -> None:
        if time.monotonic() >= self.next:
            jobs.beat(self.publication, lease=LEASE)
            self.next = time.monotonic() + 2


def _push(publication: Publication, folder: Path, home: Path, beat: _Heart) -> dict[str, Any]:
    version = publication.version
    message = f"{version.project.name}, version {version.number} ({version.content_hash[:12]})"
    visibility = "private" if publication.is_private else "public"
    command = [sys.executable, "-m", "annotate.hub", str(folder), publication.repository, visibility, message]
    environment = {
        **{name: value for name, value in os.environ.items() if name in PASSED or name.lower() in PROXIES},
        "HF_TOKEN": settings.HF_TOKEN,
        "HF_ENDPOINT": settings.HF_ENDPOINT,
        "HF_HOME": str(home / "hf"),
        "HOME": str(home),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    with (home / "out").open("w+") as out, (home / "err").open("w+") as err:
        process = subprocess.Popen(command, cwd=settings.BASE_DIR, env=environment, stdout=out, stderr=err)
        try:
            ends = time.monotonic() + LONGEST
            while process.poll() is None:
                if time.monotonic() > ends:
                    raise PushFailed("away", "")
                beat()
                try:
                    process.wait(0.5)
                except subprocess.TimeoutExpired:
                    continue
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        out.seek(0)
        err.seek(0)
        said, heard = out.read(), _without_token(err.read())
    try:
        answer: dict[str, Any] = json.loads(said.splitlines()[-1])
    except (ValueError, IndexError) as error:
        raise RuntimeError(f"the push ended with {process.returncode}: {heard[-2000:]}") from error
    if "problem" in answer:
        raise PushFailed(answer["problem"], _without_token(answer["detail"]))
    return answer


def _without_token(text: str) -> str:
    """The hub may say back what it was sent."""
    return text.replace(settings.HF_TOKEN, "•••") if settings.HF_TOKEN else text


def _end(publication: Publication, state: jobs.Job.State, **changes: Any) -> None:
    try:
        jobs.finish(publication, state, **changes)
    except jobs.Fenced:
        logger.warning("publication %s was taken over by another worker", publication.pk)
