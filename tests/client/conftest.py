"""A token of Alice's, and clients that use it."""

import os
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from annotate.models import ApiToken
from annotate.services.tokens import create_token
from podium_client import Podium

CLIENT = Path(__file__).parents[2] / "client"


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch) -> Path:
    """Settings and caches of the test alone."""
    for name in ("PODIUM_URL", "PODIUM_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    home: Path = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(CLIENT), os.environ.get("PYTHONPATH", "")]))
    return home


def token_of(user, *scopes: str, **options: Any) -> str:
    _row, token = create_token(
        user=user, name="notebook", scopes=scopes or tuple(ApiToken.Scope.values), days=1, **options
    )
    return token


@pytest.fixture
def podium(live_site, alice) -> Iterator[Podium]:
    with Podium(live_site, token_of(alice)) as client:
        yield client


class Answer:
    """What a server that is not ours says: a proxy, or one that is restarted. `cut` breaks the body off there."""

    def __init__(self, status: int, body: bytes = b"{}", *, cut: int | None = None, **headers: Any) -> None:
        self.status, self.body, self.cut = status, body, cut
        self.headers: dict[str, str] = headers


class Elsewhere:
    """A real HTTP server with answers to give in turn; `asked` is what came: (method, path, headers, body)."""

    def __init__(self, answers: list[Answer]) -> None:
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        elsewhere = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                elsewhere.asked.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                answer = answers.pop(0)
                if answer.status == 0:
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answer.body[: answer.cut])
                self.close_connection = self.close_connection or answer.cut is not None

            do_GET = do_POST = do_HEAD = do_PATCH = do_DELETE = answer

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        Thread(target=self.server.serve_forever, args=[0.02], daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def elsewhere() -> Iterator[Callable[..., Elsewhere]]:
    opened: list[Elsewhere] = []

    def start(*answers: Answer) -> Elsewhere:
        opened.append(Elsewhere(list(answers)))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


@pytest.fixture
def impatient(monkeypatch) -> None:
    """Pauses that nobody has to sit through."""
    monkeypatch.setattr("podium_client.wire.FIRST_PAUSE", 0.01)
