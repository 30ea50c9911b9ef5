"""Trying a checkpoint: what it answers to a conversation.

A worker keeps the checkpoint loaded while more is asked of it, and lets go of it as soon as something else waits.
"""

import json
import logging
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.files.storage import default_storage
from django.db import transaction
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from annotate.jobs import Cancelled, Fenced, Job, beat, claim, finish, release, request_cancel, wake
from annotate.models import User
from training import process
from training.models import Checkpoint, Reply, Run
from training.process import Child, started
from training.recipes.arguments import METHODS, InvalidArguments

from .failures import failure_by_exit_code
from .folders import missing_weights, model_of

logger = logging.getLogger("podium.replies")

MODULE = "training.recipes.reply"
ROLES = ("system", "user", "assistant")
MAX_CHARACTERS = 200_000
# Name → default, least, most.
SAMPLING: dict[str, tuple[float, float, float]] = {
    "temperature": (0.7, 0, 5),
    "top_p": (0.95, 0.01, 1),
    "max_new_tokens": (256, 1, 4096),
    "seed": (0, 0, 2**31 - 1),
}
WHOLE = ("max_new_tokens", "seed")
POLL_SECONDS = 0.05
WORKER_STOPPED = gettext_noop("The worker was stopped; another one will answer")


@transaction.atomic
def ask(*, checkpoint: Checkpoint, messages: list[dict[str, str]], sampling: dict[str, Any], user: User) -> Reply:
    """Queue a question to a language model. InvalidArguments names what is wrong with the conversation or the sampling.

    Without a seed each question has one of its own, which the reply tells.
    """
    from training.tasks import reply as reply_task

    errors = {**_wrong_messages(messages), **_wrong_sampling(sampling)}
    if checkpoint.kind != Checkpoint.Kind.CAUSAL_LM:
        errors["checkpoint"] = _("Only a language model answers.")
    elif missing := missing_weights(checkpoint):
        errors["checkpoint"] = _("Its weights are gone: %(path)s is not there.") % {"path": missing}
    elif checkpoint.location.startswith("hub:") and not settings.HUB_ENABLED:
        errors["checkpoint"] = _("This server downloads nothing from the model hub (HUB_ENABLED).")
    if errors:
        raise InvalidArguments(errors)
    chosen = {name: sampling.get(name, default) for name, (default, _least, _most) in SAMPLING.items()}
    if "seed" not in sampling:
        chosen["seed"] = secrets.randbelow(2**31)
    reply = Reply.objects.create(
        project=checkpoint.project, checkpoint=checkpoint, messages=messages, sampling=chosen, created_by=user
    )
    wake(reply_task, reply.pk)
    return reply


def cancel_reply(*, reply: Reply) -> None:
    request_cancel(reply)


def _wrong_messages(messages: list[dict[str, str]]) -> dict[str, str]:
    if not messages or messages[-1].get("role") != "user":
        return {"messages": _("Must end with a message of the user.")}
    if any(one.get("role") not in ROLES or not str(one.get("content", "")).strip() for one in messages):
        return {"messages": _("Each needs a role (%(roles)s) and a content.") % {"roles": ", ".join(ROLES)}}
    if sum(len(one["content"]) for one in messages) > MAX_CHARACTERS:
        return {"messages": _("Longer than %(most)d characters in all.") % {"most": MAX_CHARACTERS}}
    return {}


def _wrong_sampling(sampling: dict[str, Any]) -> dict[str, str]:
    errors = {f"sampling.{name}": _("There is no such setting.") for name in sampling if name not in SAMPLING}
    for name, (_default, least, most) in SAMPLING.items():
        value = sampling.get(name, least)
        wrong_kind = isinstance(value, bool) or not isinstance(value, int if name in WHOLE else int | float)
        if wrong_kind or not least <= value <= most:
            reason = (
                _("A whole number from %(least)g to %(most)g.") if name in WHOLE else _("From %(least)g to %(most)g.")
            )
            errors[f"sampling.{name}"] = reason % {"least": least, "most": most}
    return errors


def answer(pk: int, *, shutting_down: Callable[[], bool]) -> None:
    """Take the reply if it is free; answer it, and what else is asked of the same checkpoint while nothing else waits."""
    reply = claim(Reply, pk)
    if reply is None:
        return
    with _folder() as (folder, lock):
        model = {"model": model_of(reply.checkpoint)}
        (folder / "args.json").write_text(json.dumps(model), encoding="utf-8")
        command = process.recipe_command(MODULE, folder)
        with started(command, log=folder / "log.txt", lock=lock) as child:
            while reply and _answer(reply, folder, child, shutting_down):
                reply = _next(reply.checkpoint_id, child, shutting_down)


@contextmanager
def _folder() -> Iterator[tuple[Path, int]]:
    folder = Path(default_storage.path(f"replies/{secrets.token_hex(8)}"))
    folder.mkdir(parents=True)
    lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield folder, lock
    finally:
        os.close(lock)
        shutil.rmtree(folder, ignore_errors=True)


def _answer(reply: Reply, folder: Path, child: Child, shutting_down: Callable[[], bool]) -> bool:
    """End the claimed reply. Returns whether the process can be asked more."""
    asked, said = (folder / f"{name}-{reply.pk}.json" for name in ("ask", "said"))
    partial = asked.with_suffix(".partial")
    partial.write_text(json.dumps({"messages": reply.messages, "sampling": reply.sampling}), encoding="utf-8")
    partial.rename(asked)
    next_beat = 0.0
    try:
        while not said.exists():
            if child.poll() is not None:
                _fail(reply, _last_words(folder) or failure_by_exit_code(child.process.returncode).message)
                return False
            if shutting_down():
                release(reply, note=WORKER_STOPPED)
                return False
            if time.monotonic() >= next_beat:
                next_beat = time.monotonic() + settings.RUN_BEAT_SECONDS
                beat(reply)
            time.sleep(POLL_SECONDS)
        found = json.loads(said.read_bytes())
        if "error" in found:
            _fail(reply, found["error"])
        else:
            texts = {name: found[name].replace("\0", "\ufffd") for name in ("text", "reasoning")}
            finish(reply, Job.State.SUCCEEDED, tokens=found["tokens"], **texts)
    except Cancelled:
        finish(reply, Job.State.CANCELLED)
        return False  # it may still be writing
    except Fenced:
        logger.warning("reply %s: another worker holds it now", reply.pk)
        return False
    return True


def _next(checkpoint: int, child: Child, shutting_down: Callable[[], bool]) -> Reply | None:
    """The next question to the same checkpoint, if one comes before the time is up and nothing else waits for this worker."""
    end = time.monotonic() + settings.REPLY_IDLE_SECONDS
    while time.monotonic() < end and child.poll() is None and not shutting_down():
        queued = Reply.objects.filter(state=Job.State.QUEUED)
        for pk in queued.filter(checkpoint=checkpoint).order_by("pk").values_list("pk", flat=True)[:1]:
            if reply := claim(Reply, pk):
                return reply
        methods = [name for name, method in METHODS.items() if method.queue == "generate"]
        waits = Run.objects.filter(state=Job.State.QUEUED, method__in=methods)
        if queued.exclude(checkpoint=checkpoint).exists() or waits.exists():
            return None
        time.sleep(0.2)
    return None


def _last_words(folder: Path) -> str:
    with suppress(OSError, ValueError, KeyError):
        return str(json.loads((folder / "events.jsonl").read_bytes().splitlines()[-1])["message"])
    return ""


def _fail(reply: Reply, error: str) -> None:
    finish(reply, Job.State.FAILED, error=error[:2000])
