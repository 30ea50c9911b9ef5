"""Who takes a flow's steps: one transport for programs that wait, one for programs that await. Both are thin on purpose."""

import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import ExitStack
from typing import Any

import anyio
import anyio.to_thread
import httpx2

from ._version import VERSION
from .bars import Bars
from .errors import Unreachable
from .flows import Emit, Fetch, Flow, ItemFlow, Send, Sleep, Step, T, Work
from .settings import Settings
from .wire import Caller, Request, Response, encode

# The request cannot have reached the server.
NEVER_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError)


class Session(Caller, ABC):
    """What both have in common: how a request is put, and how an answer is read."""

    def __init__(self, settings: Settings, *, timeout: float, retries: int, progress: bool | None) -> None:
        self.url, self.retries, self.bars = settings.url, retries, Bars(progress)
        self._options: dict[str, Any] = {
            "base_url": f"{settings.url}/api/v1",
            "headers": {"Authorization": f"Bearer {settings.token}", "User-Agent": f"podium-client/{VERSION}"},
            "timeout": httpx2.Timeout(timeout, connect=min(timeout, 10.0)),
            "follow_redirects": False,
        }

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}>"

    @abstractmethod
    def run(self, flow: Flow[Any]) -> Any: ...

    @abstractmethod
    def items(self, flow: ItemFlow[Any]) -> Any: ...

    @abstractmethod
    def close(self) -> Any: ...


def _put(request: Request, opened: ExitStack) -> dict[str, Any]:
    """A request as httpx2 takes it."""
    said: dict[str, Any] = {"method": request.method, "url": request.path, "headers": dict(request.headers)}
    if request.query:
        said["params"] = dict(request.query)
    if request.upload:
        file = request.upload.open()
        opened.callback(getattr(file, "close", lambda: None))
        said["files"] = {"file": (request.upload.name, file, "application/octet-stream")}
        said["data"] = dict(request.upload.fields)
        # The same bytes in each try: a server that compares what came with one key sees one request.
        boundary = request.headers.get("Idempotency-Key") or str(uuid.uuid4())
        said["headers"]["Content-Type"] = f"multipart/form-data; boundary={boundary}"
    elif request.body is not None:
        said["content"] = encode(request.body)
        said["headers"]["Content-Type"] = "application/json"
    return said


def _head(response: httpx2.Response, body: bytes = b"") -> Response:
    return Response(response.status_code, {name.lower(): value for name, value in response.headers.items()}, body)


def _unreachable(url: str, error: httpx2.RequestError) -> Unreachable:
    if isinstance(error, httpx2.TimeoutException):
        text = f"{url} did not answer in time."
    else:
        text = f"{url} cannot be reached: {error or type(error).__name__}."
    return Unreachable(text, was_sent=not isinstance(error, NEVER_SENT))


class SyncSession(Session):
    def __init__(self, settings: Settings, **options: Any) -> None:
        super().__init__(settings, **options)
        self._client = httpx2.Client(**self._options)

    def run(self, flow: Flow[T]) -> T:
        result, error = None, None
        while True:
            try:
                step = flow.throw(error) if error else flow.send(result)
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]
            try:
                result, error = self._take(step), None
            except BaseException as raised:  # the flow decides, and cleans up
                error = raised

    def items(self, flow: ItemFlow[T]) -> Iterator[T]:
        result, error = None, None
        try:
            while True:
                try:
                    step = flow.throw(error) if error else flow.send(result)
                except StopIteration:
                    return
                if isinstance(step, Emit):
                    result, error = None, None
                    yield step.item
                    continue
                try:
                    result, error = self._take(step), None
                except BaseException as raised:
                    error = raised
        finally:
            flow.close()

    def _take(self, step: Step) -> Any:
        match step:
            case Send(request):
                return self._send(request)
            case Fetch():
                return self._fetch(step)
            case Sleep(seconds):
                return time.sleep(seconds)
            case Work(function):
                return function()

    def _send(self, request: Request) -> Response:
        with ExitStack() as opened:
            try:
                response = self._client.request(**_put(request, opened))
            except httpx2.RequestError as error:
                raise _unreachable(self.url, error) from error
        return _head(response, response.content)

    def _fetch(self, fetch: Fetch) -> Response:
        with ExitStack() as opened:
            try:
                with self._client.stream(**_put(fetch.request, opened)) as response:
                    head = _head(response)
                    if response.status_code not in (200, 206):
                        return _head(response, response.read())
                    for piece in response.iter_raw():
                        fetch.receive(head, piece)
                    return head
            except httpx2.RequestError as error:
                raise _unreachable(self.url, error) from error

    def close(self) -> None:
        self._client.close()


class AsyncSession(Session):
    def __init__(self, settings: Settings, **options: Any) -> None:
        super().__init__(settings, **options)
        self._client = httpx2.AsyncClient(**self._options)

    def run(self, flow: Flow[T]) -> Coroutine[Any, Any, T]:
        return self._run(flow)

    async def _run(self, flow: Flow[T]) -> T:
        result, error = None, None
        while True:
            try:
                step = flow.throw(error) if error else flow.send(result)
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]
            try:
                result, error = await self._take(step), None
            except BaseException as raised:  # the flow decides, and cleans up
                error = raised

    async def items(self, flow: ItemFlow[T]) -> AsyncIterator[T]:
        result, error = None, None
        try:
            while True:
                try:
                    step = flow.throw(error) if error else flow.send(result)
                except StopIteration:
                    return
                if isinstance(step, Emit):
                    result, error = None, None
                    yield step.item
                    continue
                try:
                    result, error = await self._take(step), None
                except BaseException as raised:
                    error = raised
        finally:
            flow.close()

    async def _take(self, step: Step) -> Any:
        match step:
            case Send(request):
                return await self._send(request)
            case Fetch():
                return await self._fetch(step)
            case Sleep(seconds):
                return await anyio.sleep(seconds)
            case Work(function):
                return await anyio.to_thread.run_sync(function)

    async def _send(self, request: Request) -> Response:
        with ExitStack() as opened:
            try:
                response = await self._client.request(**_put(request, opened))
            except httpx2.RequestError as error:
                raise _unreachable(self.url, error) from error
        return _head(response, response.content)

    async def _fetch(self, fetch: Fetch) -> Response:
        with ExitStack() as opened:
            try:
                async with self._client.stream(**_put(fetch.request, opened)) as response:
                    head = _head(response)
                    if response.status_code not in (200, 206):
                        return _head(response, await response.aread())
                    async for piece in response.aiter_raw():
                        await anyio.to_thread.run_sync(fetch.receive, head, piece)
                    return head
            except httpx2.RequestError as error:
                raise _unreachable(self.url, error) from error

    async def close(self) -> None:
        await self._client.aclose()
