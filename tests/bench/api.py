"""The API's hot reads: requests per second through gunicorn as production runs it, against bare ninja views.

The bare views answer with the same bytes, from memory, without token, middleware and database. Both servers stand side by side
and are asked in turns by one client over CONNECTIONS connections that stay open.
"""

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.bench.figures import Figure
from tests.bench.web import drop_project, fill_project, setup

SLUG = "bench-api"
CONNECTIONS = 8
SECONDS = 1.5
ROUNDS = 5
PROMPTS = 20_000


def reads(run: int) -> dict[str, str]:
    at = f"/api/v1/projects/{SLUG}"
    return {
        "prompts": f"{at}/prompts?limit=50",
        "rankings": f"{at}/rankings?limit=50",
        "project": at,
        "run": f"{at}/runs/{run}",
    }


def fill() -> tuple[str, int]:
    """A project with PROMPTS prompts, each ranked once; the token of a researcher, and a run's id."""
    from django.db import connection

    from annotate.models import Membership, User
    from annotate.services.tokens import create_token
    from training.models import Run

    drop_project(SLUG)
    project = fill_project(SLUG, PROMPTS)
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH tasks AS (
                SELECT t.id, u.id AS annotator FROM annotate_rankingtask t
                JOIN annotate_user u ON u.username = 'bench-' || (t.id %% 64) WHERE t.project_id = %(project)s
            ), assigned AS (
                INSERT INTO annotate_assignment (project_id, task_id, annotator_id, state, lease_until, shown_order, token,
                    opened_at, ended_at)
                SELECT %(project)s, id, annotator, 'submitted', now(), '{}', gen_random_uuid(), now(), now() FROM tasks
                RETURNING id, task_id, annotator_id, token
            ), ranked AS (
                INSERT INTO annotate_ranking (uid, project_id, task_id, assignment_id, annotator_id, token, revision, is_current,
                    verdict, reasons, comment, seconds, created_at)
                SELECT gen_random_uuid(), %(project)s, task_id, id, annotator_id, token, 1, true, 'ranked', '{}', '', 12.5, now()
                FROM assigned RETURNING id, task_id
            )
            INSERT INTO annotate_rankedcompletion (ranking_id, completion_id, rank, ratings)
            SELECT r.id, c.completion_id, 1 + c.completion_id %% 4, '{}'
            FROM ranked r JOIN annotate_taskcompletion c ON c.task_id = r.task_id
            """,
            {"project": project.pk},
        )
        # Hashes as real ones are: progress is estimated from them.
        cursor.execute(
            "UPDATE annotate_rankingtask SET content_hash = md5(id::text) || md5(id::text), submitted = 1 WHERE project_id = %s",
            [project.pk],
        )
        cursor.execute("VACUUM ANALYZE")
    reader, _ = User.objects.get_or_create(username="bench-researcher")
    Membership.objects.create(project=project, user=reader, role="researcher")
    figures = {f"eval_figure_{number}": number / 7 for number in range(20)}
    run = Run.objects.create(
        project=project,
        method="dpo",
        state="succeeded",
        arguments={f"argument_{number}": number for number in range(40)},
        result={"metrics": figures},
        created_by=reader,
    )
    return create_token(user=reader, name="bench", scopes=["read"], days=1)[1], run.pk


@contextmanager
def server(application: str, **more: str) -> Iterator[int]:
    """The address of gunicorn as the demo and the image start it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        application,
        "--bind",
        f"127.0.0.1:{port}",
        "--worker-class",
        "gthread",
    ]
    command += ["--workers", "2", "--threads", "8", "--preload", "--no-control-socket", "--log-level", "error"]
    process = subprocess.Popen(command, env={**os.environ, "LOG_LEVEL": "ERROR", **more})
    try:
        end = time.monotonic() + 30
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


class Asker:
    """One connection that asks for the same again and again. `answer` holds what has come of the present answer."""

    def __init__(self, port: int, request: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.request, self.answer, self.awaited = request, b"", 0
        self.socket.sendall(request)

    def take(self) -> bool:
        """Read what is there; true when the answer is whole."""
        part = self.socket.recv(1 << 20)
        if not part:
            raise RuntimeError("the server closed the connection")
        self.answer = self.answer + part if self.answer else part
        if not self.awaited:
            head = self.answer.find(b"\r\n\r\n")
            if head < 0:
                return False
            length = self.answer[:head].lower().rpartition(b"content-length: ")[2]
            self.awaited = head + 4 + int(length.split(b"\r\n")[0])
        return len(self.answer) >= self.awaited

    def ask_again(self) -> None:
        self.answer, self.awaited = b"", 0
        self.socket.sendall(self.request)


def request_for(path: str, token: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n".encode()


def ask_once(port: int, request: bytes) -> tuple[bytes, bytes]:
    """(head, body) of one answer."""
    asker = Asker(port, request)
    while not asker.take():
        pass
    asker.socket.close()
    head, _, body = asker.answer.partition(b"\r\n\r\n")
    return head, body


def drive(port: int, request: bytes, seconds: float) -> dict[str, int | float]:
    """Answers within `seconds`, and those that were none of 200."""
    done = wrong = 0
    with selectors.EpollSelector() as selector:
        askers = [Asker(port, request) for _ in range(CONNECTIONS)]
        for asker in askers:
            selector.register(asker.socket, selectors.EVENT_READ, asker)
        began = time.perf_counter()
        while (took := time.perf_counter() - began) < seconds:
            for key, _ in selector.select(1):
                if key.data.take():
                    done += 1
                    wrong += not key.data.answer.startswith(b"HTTP/1.1 200")
                    key.data.ask_again()
        for asker in askers:
            asker.socket.close()
    return {"rate": done / took, "wrong": wrong}


def drive_apart(port: int, request: bytes, seconds: float) -> float:
    """Requests per second, by a client in a process of its own."""
    job = json.dumps([port, request.decode(), seconds])
    done = subprocess.run([sys.executable, "-m", "tests.bench.api", job], capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    if result["wrong"]:
        raise RuntimeError(f"{result['wrong']} answers were no success")
    return float(result["rate"])


def run() -> list[Figure]:
    setup()
    token, run_id = fill()
    figures = []
    with tempfile.TemporaryDirectory() as folder, server("config.wsgi", API_REQUESTS_PER_MINUTE="2000000000") as ours:
        asked = {name: request_for(path, token) for name, path in reads(run_id).items()}
        for name, request in asked.items():
            head, body = ask_once(ours, request)
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"{name}: {head.decode()} {body[:500].decode()}")
            Path(folder, f"{name}.json").write_bytes(body)
        with server("tests.bench.bare", BARE_ANSWERS=folder) as bare:
            for name, request in asked.items():
                if ask_once(bare, request)[1] != Path(folder, f"{name}.json").read_bytes():
                    raise RuntimeError(f"{name}: the bare view's answer is another")
                rates: dict[int, list[float]] = {ours: [], bare: []}
                for port in (ours, bare):
                    drive_apart(port, request, 0.5)
                for _ in range(ROUNDS):
                    for port, found in rates.items():
                        found.append(drive_apart(port, request, SECONDS))
                ratios = [mine / its for mine, its in zip(rates[ours], rates[bare], strict=True)]
                size = Path(folder, f"{name}.json").stat().st_size
                figures += [
                    Figure.from_rounds(f"api_ratio_{name}", ratios, "×", f"bare ninja view, the same {size:,} bytes"),
                    Figure.from_rounds(f"api_per_s_{name}", rates[ours], "requests/s"),
                    Figure.from_rounds(f"api_bare_per_s_{name}", rates[bare], "requests/s"),
                ]
    return figures


if __name__ == "__main__":
    given_port, given_request, given_seconds = json.loads(sys.argv[1])
    print(json.dumps(drive(given_port, given_request.encode(), given_seconds)))
