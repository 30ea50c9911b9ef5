"""Webhooks: kept, and on the receiving side checked."""

import base64
import hashlib
import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .errors import PodiumError
from .flows import Flow, ItemFlow, M, listing, operation
from .model import InProject
from .wire import Request, get, path, post

TOLERANCE = 5 * 60


class BadSignature(PodiumError):
    """What came is not signed with the webhook's secret, or is too old."""


def verify(secret: str, headers: Mapping[str, str], body: bytes, *, tolerance: float = TOLERANCE) -> str:
    """That Podium sent this, just now: the id of the event, which comes again when a delivery is repeated. Raises BadSignature.

    `headers` are the request's, in any case of letters; `body` its bytes before anything has read them as JSON. The signature is
    that of Standard Webhooks: HMAC-SHA256 over id, time and body (standardwebhooks.com). `tolerance`: seconds that the clocks
    may differ.
    """
    said = {name.lower(): value for name, value in headers.items()}
    try:
        uid, moment = said["webhook-id"], said["webhook-timestamp"]
        signatures = said["webhook-signature"].split()
    except KeyError as error:
        raise BadSignature(f"The header {error.args[0]} is missing.") from error
    if not moment.isascii() or not moment.isdecimal() or abs(time.time() - int(moment)) > tolerance:
        raise BadSignature("It was sent at another time than now.")
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except ValueError as error:
        raise PodiumError("That is no webhook's secret: it should begin with whsec_.") from error
    expected = base64.b64encode(hmac.digest(key, f"{uid}.{moment}.".encode() + body, hashlib.sha256)).decode()
    if not any(hmac.compare_digest(f"v1,{expected}".encode(), one.encode()) for one in signatures):
        raise BadSignature("It is signed with another secret, or was changed on its way.")
    return uid


@dataclass(frozen=True, kw_only=True)
class Delivery(InProject[M]):
    """An event on its way to a webhook. `event` is the header `webhook-id` of each try, `payload` the message's data."""

    id: int
    webhook: int = 0
    event: str = ""
    kind: str = ""
    payload: dict[str, Any] = field(default_factory=dict)
    state: str = ""
    attempts: int = 0
    status: int | None = None
    answer: str = ""
    error: str = ""
    seconds: float | None = None
    created_at: datetime | None = None
    next_at: datetime | None = None
    tried_at: datetime | None = None

    @operation
    def resend(self) -> Flow["Delivery[M]"]:
        return self._same(
            (yield from self.session.ask(post("projects", self.project, "deliveries", self.id, "resend")))
        )


@dataclass(frozen=True, kw_only=True)
class Webhook(InProject[M]):
    """An address that is told what happens in a project. `secret` is there when it was made, and never again."""

    id: int
    url: str
    events: list[str] = field(default_factory=list)
    note: str = ""
    secret: str = field(default="", repr=False)
    paused_at: datetime | None = None
    failing_since: datetime | None = None
    created_by: str | None = None
    created_at: datetime | None = None

    @operation
    def update(
        self,
        *,
        url: str | None = None,
        events: list[str] | None = None,
        note: str | None = None,
        paused: bool | None = None,
    ) -> Flow["Webhook[M]"]:
        given: dict[str, Any] = {"url": url, "events": events, "note": note, "paused": paused}
        body = {name: value for name, value in given.items() if value is not None}
        request = Request("PATCH", path("projects", self.project, "webhooks", self.id), body=body, again=True)
        return self._same((yield from self.session.ask(request)))

    @operation
    def delete(self) -> Flow[None]:
        yield from self.session.ask(Request("DELETE", path("projects", self.project, "webhooks", self.id), again=True))

    @operation
    def rotate_secret(self) -> Flow[str]:
        """A new secret; the one before signs, too, for a day."""
        said = yield from self.session.ask(post("projects", self.project, "webhooks", self.id, "secret"))
        return str(said["secret"])

    @operation
    def test(self) -> Flow[Delivery[M]]:
        """Send it an event that says nothing but that it arrives."""
        request = post("projects", self.project, "webhooks", self.id, "test", once=True)
        said = yield from self.session.ask(request)
        return Delivery.read(said, session=self.session, project=self.project)

    @listing
    def deliveries(self) -> ItemFlow[Delivery[M]]:
        """What was sent or is about to be, newest first."""
        request = get("projects", self.project, "webhooks", self.id, "deliveries")
        return self.session.each(request, lambda raw: Delivery.read(raw, session=self.session, project=self.project))
