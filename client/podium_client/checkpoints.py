"""Weights: promoted, and talked to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .errors import NotFound
from .flows import Flow, M, operation
from .model import InProject
from .transports import Session
from .waiting import is_active, succeeded, until
from .wire import get, post

Messages = str | Sequence[Mapping[str, str]]


@dataclass(frozen=True, kw_only=True)
class Reply(InProject[M]):
    """What a checkpoint answers."""

    id: int
    checkpoint: int = 0
    state: str
    text: str = ""
    reasoning: str = ""
    tokens: int = 0
    sampling: dict[str, Any] = field(default_factory=dict)
    error: str = ""

    @operation
    def refresh(self) -> Flow["Reply[M]"]:
        return self._now()

    @operation
    def wait(self, timeout: float | None = None) -> Flow["Reply[M]"]:
        """As it ended. Raises JobFailed, WaitedTooLong."""
        return self.ended(timeout)

    @operation
    def cancel(self) -> Flow["Reply[M]"]:
        request = post("projects", self.project, "replies", self.id, "cancel", again=True)
        return self._same((yield from self.session.ask(request)))

    def ended(self, timeout: float | None) -> Flow["Reply[M]"]:
        seen = self
        if is_active(self):
            seen = yield from until(
                self._now, lambda now: not is_active(now), timeout=timeout, what="The reply", slowest=1.0
            )
        return succeeded(seen, "The reply")

    def _now(self) -> Flow["Reply[M]"]:
        return self._same((yield from self.session.ask(get("projects", self.project, "replies", self.id))))


@dataclass(frozen=True, kw_only=True)
class Checkpoint(InProject[M]):
    id: int
    name: str
    kind: str = ""
    is_adapter: bool = False
    is_promoted: bool = False
    parent: str | None = None
    run: int | None = None
    output: str = ""
    metrics: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""
    size: int = 0
    created_at: datetime | None = None

    @operation
    def promote(self, note: str = "") -> Flow["Checkpoint[M]"]:
        """From here on it answers the project's prompts."""
        request = post("projects", self.project, "checkpoints", self.id, "promote", body={"note": note})
        return self._same((yield from self.session.ask(request)))

    @operation
    def chat(
        self,
        messages: Messages,
        *,
        temperature: float | None = None,
        top_p: float | None = None,
        max_new_tokens: int | None = None,
        seed: int | None = None,
        wait: bool = True,
        timeout: float | None = None,
    ) -> Flow[Reply[M]]:
        """What it answers to a conversation, which ends with a message of the user: {"role": …, "content": …} each, or one text.

        Raises JobFailed, WaitedTooLong. What is left out of the sampling is the server's to choose.
        """
        turns = (
            [{"role": "user", "content": messages}] if isinstance(messages, str) else [dict(one) for one in messages]
        )
        given = {"temperature": temperature, "top_p": top_p, "max_new_tokens": max_new_tokens, "seed": seed}
        sampling = {name: value for name, value in given.items() if value is not None}
        request = post(
            *("projects", self.project, "checkpoints", self.id, "replies"),
            body={"messages": turns, "sampling": sampling},
            once=True,
        )
        reply: Reply[M] = Reply.read((yield from self.session.ask(request)), session=self.session, project=self.project)
        return (yield from reply.ended(timeout)) if wait else reply


def find_checkpoint(session: Session, project: str, wanted: int | str) -> Flow[dict[str, Any]]:
    """By its id or its name; of none the promoted one."""

    def is_it(one: dict[str, Any]) -> bool:
        return bool(one["is_promoted"] if wanted == "" else one["id"] == wanted or one["name"] == wanted)

    found = yield from session.find(get("projects", project, "checkpoints"), is_it)
    if found is None:
        which = f"checkpoint “{wanted}”" if wanted != "" else "promoted checkpoint"
        raise NotFound(404, "Not found", f"The project {project} has no {which}.")
    return found
