"""Requests, answers, and when a request is sent again. Nothing here does any I/O."""

import json
import random
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from itertools import count
from typing import Any, BinaryIO
from urllib.parse import quote

from .errors import KINDS, ApiError, BadAnswer, PodiumError, ServerFault, Unreachable
from .flows import Emit, Flow, ItemFlow, Send, Sleep, T

RETRIES = 5
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 16.0
# A server that asks for more patience than this is asked again by whoever runs the program.
PATIENCE = 120.0
AWAY = (502, 503, 504)
SAFE = ("GET", "HEAD")
PAGE = 200


@dataclass(frozen=True)
class Upload:
    """A form with a file. `open` gives the file from its start, once for each try."""

    name: str
    open: Callable[[], BinaryIO]
    fields: Mapping[str, str]


@dataclass(frozen=True)
class Request:
    """`once`: the server does it once, however often it comes with this request's key. `again`: twice is the same as once."""

    method: str
    path: str
    query: Mapping[str, str | int] = field(default_factory=dict)
    body: Any = None
    upload: Upload | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    once: bool = False
    again: bool = False

    @property
    def may_be_repeated(self) -> bool:
        return self.method in SAFE or self.once or self.again


@dataclass(frozen=True)
class Response:
    status: int
    headers: Mapping[str, str]
    body: bytes = b""

    def json(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError as error:
            start = self.body[:80].decode("utf-8", "replace")
            raise BadAnswer(
                f"The server did not answer with JSON but with “{start}”. Is this Podium's address?"
            ) from error


def path(*parts: object) -> str:
    return "".join(f"/{quote(str(part), safe='')}" for part in parts)


def get(*parts: object, query: Mapping[str, object] | None = None) -> Request:
    return Request("GET", path(*parts), query=_said(query or {}))


def post(*parts: object, body: Any = None, once: bool = False, again: bool = False) -> Request:
    return Request("POST", path(*parts), body={} if body is None else body, once=once, again=again)


def _said(query: Mapping[str, object]) -> dict[str, str | int]:
    """Without what was left out; times as ISO 8601."""
    said: dict[str, str | int] = {}
    for name, value in query.items():
        if value is None or value == "":
            continue
        said[name] = (
            value.isoformat() if isinstance(value, datetime) else value if isinstance(value, int) else str(value)
        )
    return said


def encode(body: Any) -> bytes:
    """JSON as the server reads it; times as ISO 8601."""

    def plain(value: Any) -> Any:
        if isinstance(value, date):
            return value.isoformat()
        raise TypeError(f"there is no word for a {type(value).__name__}, {str(value)[:60]!r}")

    try:
        return json.dumps(body, default=plain, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        raise PodiumError(f"This cannot be sent as JSON: {error}.") from error


class Caller:
    """Flows of whole calls: with what a request that failed in passing needs to be sent again."""

    retries: int

    def call(self, request: Request) -> Flow[Response]:
        """The answer, once it is no error: what can be repeated is, with growing pauses."""
        if request.once:
            request = replace(request, headers={**request.headers, "Idempotency-Key": str(uuid.uuid4())})
        for attempt in count(1):
            pause = growing_pause(attempt)
            try:
                response: Response = yield Send(request)
            except Unreachable as error:
                if attempt > self.retries or (error.was_sent and not request.may_be_repeated):
                    raise
            else:
                if response.status < 300:
                    return response
                pause = max(pause, _asked_pause(response))
                if attempt > self.retries or pause > PATIENCE or not is_worth_repeating(request, response):
                    raise problem(response)
            yield Sleep(pause)
        raise AssertionError("count() ended")

    def ask(self, request: Request) -> Flow[Any]:
        """The answer's JSON; None where it has no body."""
        response = yield from self.call(request)
        return response.json() if response.body else None

    def each(self, request: Request, read: Callable[[dict[str, Any]], T]) -> ItemFlow[T]:
        """What all pages of a list hold."""
        cursor: str | None = ""
        while cursor is not None:
            items, cursor = yield from self._page(request, cursor)
            for item in items:
                yield Emit(read(item))

    def find(self, request: Request, is_it: Callable[[dict[str, Any]], bool]) -> Flow[dict[str, Any] | None]:
        """The first of a list that is meant."""
        cursor: str | None = ""
        while cursor is not None:
            items, cursor = yield from self._page(request, cursor)
            for item in items:
                if is_it(item):
                    return item
        return None

    def _page(self, request: Request, cursor: str) -> Flow[tuple[list[dict[str, Any]], str | None]]:
        query = {**request.query, "limit": PAGE, **({"cursor": cursor} if cursor else {})}
        page = yield from self.ask(replace(request, query=query))
        return page["items"], page.get("next") or None


def is_worth_repeating(request: Request, response: Response) -> bool:
    return response.status == 429 or (response.status in AWAY and request.may_be_repeated)


def growing_pause(attempt: int) -> float:
    """Grows with each try, and differs between programs that were refused together."""
    most = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(attempt - 1, 20))
    return most / 2 + random.random() * most / 2  # noqa: S311 - no secret


def _asked_pause(response: Response) -> float:
    asked = response.headers.get("retry-after", "").strip()
    if asked.isdecimal():
        return float(asked)
    try:
        moment = parsedate_to_datetime(asked)
    except ValueError:
        return 0.0
    left = (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return float(max(0.0, left))


def problem(response: Response) -> ApiError:
    """The error that an answer is."""
    kind = KINDS.get(response.status, ServerFault if response.status >= 500 else ApiError)
    if 300 <= response.status < 400:
        place = response.headers.get("location", "another address")
        return kind(response.status, "Moved", f"The server sends on to {place}: use that address if it is yours.")
    try:
        said = json.loads(response.body)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        return kind(response.status, "The server refused", f"The server answered {response.status} without saying why.")
    errors = {
        str(name): [str(text) for text in texts] if isinstance(texts, list) else [str(texts)]
        for name, texts in (said.get("errors") or {}).items()
    }
    return kind(response.status, str(said.get("title", "")), str(said.get("detail", "")), errors)
