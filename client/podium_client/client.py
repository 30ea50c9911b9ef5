"""Where everything starts: a server and a token."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from .flows import Async, Flow, ItemFlow, M, Sync, listing, operation
from .model import Bound, Data
from .projects import Project
from .runs import Method
from .settings import find_settings
from .transports import AsyncSession, Session, SyncSession
from .wire import RETRIES, get, post


@dataclass(frozen=True, kw_only=True)
class Me(Data):
    """Who the token acts as, and what it may."""

    username: str
    token: str = ""
    scopes: list[str] = field(default_factory=list)
    expires_at: datetime | None = None


class _Operations(Bound[M]):
    """What can be asked of a server. Its address and token: see find_settings.

    `timeout`: seconds without a byte from the server. `retries`: how often what failed in passing is sent again. `progress`: bars
    on the standard error; None shows them where that is a terminal. `allow_insecure`: send the token over http:// to other machines.
    """

    _transport: type[Session]

    def __init__(
        self,
        url: str = "",
        token: str = "",
        *,
        timeout: float = 60.0,
        retries: int = RETRIES,
        progress: bool | None = None,
        allow_insecure: bool = False,
    ) -> None:
        settings = find_settings(url, token, allow_insecure=allow_insecure)
        super().__init__(session=self._transport(settings, timeout=timeout, retries=retries, progress=progress))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.session.url}>"

    @operation
    def me(self) -> Flow[Me]:
        return Me.read((yield from self.session.ask(get("me"))))

    @listing
    def projects(self) -> ItemFlow[Project[M]]:
        return self.session.each(get("projects"), lambda raw: Project.read(raw, session=self.session))

    @operation
    def project(self, slug: str) -> Flow[Project[M]]:
        return Project.read((yield from self.session.ask(get("projects", slug))), session=self.session)

    @operation
    def create_project(
        self,
        slug: str,
        name: str = "",
        *,
        description: str = "",
        overlap: int | None = None,
        completions_per_task: int | None = None,
    ) -> Flow[Project[M]]:
        """A project whose admin the token's owner is. `overlap`: how many people rank each task."""
        given = {"overlap": overlap, "completions_per_task": completions_per_task}
        body: dict[str, Any] = {"slug": slug, "name": name or slug, "description": description}
        body |= {key: value for key, value in given.items() if value is not None}
        return Project.read((yield from self.session.ask(post("projects", body=body, once=True))), session=self.session)

    @operation
    def methods(self) -> Flow[list[Method]]:
        """What can be run, with arguments and defaults."""
        return [Method.read(one) for one in (yield from self.session.ask(get("methods")))]


class Podium(_Operations[Sync]):
    """A server, for programs that wait: `with Podium() as podium: …`."""

    _transport = SyncSession

    def close(self) -> None:
        self.session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncPodium(_Operations[Async]):
    """A server, for programs that await: `async with AsyncPodium() as podium: …`."""

    _transport = AsyncSession

    async def close(self) -> None:
        await self.session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
