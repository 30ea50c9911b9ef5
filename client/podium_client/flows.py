"""What the client does, written once for programs that wait and for programs that await.

A flow is a generator: it yields the steps that reach outside (a request, a pause, work on the disk) and is sent their results,
and knows neither threads nor event loops. A transport takes the steps. `operation` and `listing` turn a method that is a flow
into one that gives its result on the handles of a Podium, and into one to be awaited on those of an AsyncPodium:

    class Run(Bound[M]):
        @operation
        def cancel(self) -> Flow["Run[M]"]: ...

    Run[Sync].cancel() -> Run[Sync]            Run[Async].cancel() -> Coroutine[Any, Any, Run[Async]]
"""

from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from dataclasses import dataclass
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self, cast, overload

from typing_extensions import TypeVar

if TYPE_CHECKING:
    from .model import Bound
    from .wire import Request, Response

P = ParamSpec("P")
T = TypeVar("T")


class Sync:
    """Handles of a Podium: their methods give results."""


class Async:
    """Handles of an AsyncPodium: their methods are awaited."""


M = TypeVar("M", default=Sync)


@dataclass(frozen=True)
class Send:
    """A request whose answer is read whole; gives a Response, or raises Unreachable."""

    request: "Request"


@dataclass(frozen=True)
class Fetch:
    """A request whose answer is streamed: `receive(head, piece)` gets the pieces of one that is 200 or 206.

    Gives a Response, with a body only where it is an error; raises Unreachable when it breaks off.
    """

    request: "Request"
    receive: "Callable[[Response, bytes], None]"


@dataclass(frozen=True)
class Sleep:
    seconds: float


@dataclass(frozen=True)
class Work:
    """Something that blocks: disk, hashing. Gives what it returns."""

    function: Callable[[], Any]


@dataclass(frozen=True)
class Emit(Generic[T]):
    """An item for whoever iterates."""

    item: T


Step = Send | Fetch | Sleep | Work
Flow = Generator[Step, Any, T]
ItemFlow = Generator[Step | Emit[T], Any, None]


def work(function: Callable[[], T]) -> Flow[T]:
    return cast(T, (yield Work(function)))


class operation(Generic[P, T]):
    """A method that is a flow, called as its handle's transport does things."""

    def __init__(self, flow: Callable[Concatenate[Any, P], Flow[T]]) -> None:
        self.flow = flow
        update_wrapper(cast(Callable[..., Any], self), flow)

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> Self: ...
    @overload
    def __get__(self, instance: "Bound[Sync]", owner: type[Any]) -> Callable[P, T]: ...
    @overload
    def __get__(self, instance: "Bound[Async]", owner: type[Any]) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, instance: Any, owner: type[Any]) -> Any:
        if instance is None:
            return self

        def call(*args: P.args, **kwargs: P.kwargs) -> Any:
            return instance.session.run(self.flow(instance, *args, **kwargs))

        return update_wrapper(call, self.flow)


class listing(Generic[P, T]):
    """A method that is a flow of items, iterated as its handle's transport does things."""

    def __init__(self, flow: Callable[Concatenate[Any, P], ItemFlow[T]]) -> None:
        self.flow = flow
        update_wrapper(cast(Callable[..., Any], self), flow)

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> Self: ...
    @overload
    def __get__(self, instance: "Bound[Sync]", owner: type[Any]) -> Callable[P, Iterator[T]]: ...
    @overload
    def __get__(self, instance: "Bound[Async]", owner: type[Any]) -> Callable[P, AsyncIterator[T]]: ...
    def __get__(self, instance: Any, owner: type[Any]) -> Any:
        if instance is None:
            return self

        def call(*args: P.args, **kwargs: P.kwargs) -> Any:
            return instance.session.items(self.flow(instance, *args, **kwargs))

        return update_wrapper(call, self.flow)
