"""The annotation path under load: gunicorn as the demo runs it, real HTTP clients in a process of their own.

`run()` gives cycles per second and latencies of submit-and-next, lost and doubled rankings, SQL statements per cycle, the same for
64 people with overlap 3 and 5 % gold, how the time of the next task grows (growth.py), and the floor: the same writes by bare
psycopg, in turns with the server.
"""

import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from http.client import HTTPConnection
from typing import Any

from tests.bench.figures import Figure

SLUG = "bench-web"
PEOPLE = 64
SECONDS = 6.0
ROUNDS = 3
WORDS = (
    "The sky looks blue because air scatters short waves of light far more strongly than long ones, so that blue reaches "
    "the eye from every direction while red passes straight through. "
)


def setup() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    import django

    django.setup()


def fill_project(slug: str, tasks: int, overlap: int = 1, copies: int = 1) -> Any:
    """A project with PEOPLE annotators and `tasks` tasks of four 120-word answers, made in the database.

    `copies` tasks share a prompt and its answers, which spares gigabytes where only the queue's length matters.
    """
    from django.db import connection

    from annotate.models import Membership, Project, Source, User

    user, _ = User.objects.get_or_create(username="bench-owner")
    project = Project.objects.create(slug=slug, name=slug, created_by=user, overlap=overlap)
    source = Source.objects.create(project=project, name="bench", kind="import")
    people = [User.objects.get_or_create(username=f"bench-{number}")[0] for number in range(PEOPLE)]
    Membership.objects.bulk_create(Membership(project=project, user=person, role="annotator") for person in people)
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH prompts AS (
                INSERT INTO annotate_prompt (project_id, messages, content_hash, reference_answer, metadata, tags, created_at)
                SELECT %(project)s, jsonb_build_array(jsonb_build_object('role', 'user', 'content', 'Why is the sky blue? ' || n)),
                    'bench' || n, '', '{}', '{}', now()
                FROM generate_series(1, %(prompts)s) n RETURNING id
            ), completions AS (
                INSERT INTO annotate_completion (prompt_id, source_id, text, reasoning, sampling, content_hash, created_at)
                SELECT id, %(source)s, %(text)s || id || ' ' || k, '', '{}', 'bench' || k, now()
                FROM prompts, generate_series(1, 4) k RETURNING id, prompt_id
            ), tasks AS (
                INSERT INTO annotate_rankingtask
                    (project_id, prompt_id, content_hash, state, priority, overlap, leased, submitted, created_at)
                SELECT %(project)s, id, 'bench' || id || '-' || copy, 'open', 0, %(overlap)s, 0, 0, now()
                FROM prompts, generate_series(1, %(copies)s) copy RETURNING id, prompt_id
            )
            INSERT INTO annotate_taskcompletion (task_id, completion_id)
            SELECT tasks.id, completions.id FROM tasks JOIN completions USING (prompt_id)
            """,
            {
                "project": project.pk,
                "source": source.pk,
                "prompts": tasks // copies,
                "copies": copies,
                "overlap": overlap,
                "text": WORDS * 4,
            },
        )
    vacuum()
    return project


def vacuum() -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        for table in ("prompt", "completion", "rankingtask", "taskcompletion", "assignment", "ranking"):
            cursor.execute(f"VACUUM ANALYZE annotate_{table}")


def drop_project(slug: str) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM annotate_project WHERE slug = %s", [slug])
        row = cursor.fetchone()
        if row is None:
            return
        tasks = "SELECT id FROM annotate_rankingtask WHERE project_id = %s"
        prompts = "SELECT id FROM annotate_prompt WHERE project_id = %s"
        for statement in (
            "DELETE FROM annotate_rankedcompletion WHERE ranking_id IN (SELECT id FROM annotate_ranking WHERE project_id = %s)",
            "DELETE FROM annotate_ranking WHERE project_id = %s",
            "DELETE FROM annotate_auditevent WHERE project_id = %s",
            "DELETE FROM annotate_assignment WHERE project_id = %s",
            f"DELETE FROM annotate_knownorder WHERE task_id IN ({tasks})",  # noqa: S608
            f"DELETE FROM annotate_taskcompletion WHERE task_id IN ({tasks})",  # noqa: S608
            "DELETE FROM annotate_rankingtask WHERE project_id = %s",
            f"DELETE FROM annotate_completion WHERE prompt_id IN ({prompts})",  # noqa: S608
            "DELETE FROM annotate_prompt WHERE project_id = %s",
            "DELETE FROM annotate_source WHERE project_id = %s",
            "DELETE FROM annotate_membership WHERE project_id = %s",
            "DELETE FROM annotate_project WHERE id = %s",
        ):
            cursor.execute(statement, row)


def session_keys() -> list[str]:
    from django.conf import settings
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.sessions.backends.db import SessionStore

    from annotate.models import User

    keys = []
    for number in range(PEOPLE):
        user = User.objects.get(username=f"bench-{number}")
        session = SessionStore()
        session[SESSION_KEY] = str(user.pk)
        session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
        session[HASH_SESSION_KEY] = user.get_session_auth_hash()
        session.create()
        keys.append(str(session.session_key))
    return keys


class Server:
    """gunicorn, two workers of four threads."""

    def __enter__(self) -> "Server":
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        command = [sys.executable, "-m", "gunicorn", "config.wsgi:application", "--bind", f"127.0.0.1:{self.port}"]
        command += ["--worker-class", "gthread", "--workers", "2", "--threads", "4", "--keep-alive", "30"]
        self.process = subprocess.Popen([*command, "--log-level", "error"], env={**os.environ, "LOG_LEVEL": "ERROR"})
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            except OSError:
                time.sleep(0.1)
        raise RuntimeError("gunicorn did not start")

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)


def floor_cycles(seconds: float) -> float:
    """Bare writes per second by psycopg: INSERT a ranking, count it, take the next row, one transaction."""
    import psycopg
    from django.db import connection

    parameters = connection.get_connection_params()
    for name in ("cursor_factory", "context", "prepare_threshold"):
        parameters.pop(name, None)
    with psycopg.connect(**parameters, autocommit=True) as plain:
        plain.execute("CREATE TEMP TABLE floor_task AS SELECT id, 0 AS leased FROM generate_series(1, 20000) id")
        plain.execute("CREATE INDEX ON floor_task (id) WHERE leased = 0")
        plain.execute("CREATE TABLE IF NOT EXISTS bench_floor (task bigint, ranks int[])")
        took, cycles, task = time.perf_counter(), 0, 0
        while time.perf_counter() - took < seconds:
            with plain.transaction():
                plain.execute("INSERT INTO bench_floor VALUES (%s, %s)", [task, [1, 2, 3, 4]])
                row = plain.execute(
                    "SELECT id FROM floor_task WHERE leased = 0 ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED"
                ).fetchone()
                task = row[0] if row else 0
                plain.execute("UPDATE floor_task SET leased = 1 WHERE id = %s", [task])
            cycles += 1
        plain.execute("DROP TABLE bench_floor")
        return cycles / (time.perf_counter() - took)


def drive(port: int, people: int, seconds: float, keys: list[str], slug: str = SLUG) -> dict[str, Any]:
    """Run the clients in a process of their own: {"latencies": seconds, "took", "acknowledged", "trouble"}."""
    job = json.dumps({"port": port, "people": people, "seconds": seconds, "keys": keys, "slug": slug})
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.web", job], capture_output=True, text=True, check=True, timeout=120
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def annotate_for(job: dict[str, Any], key: str, out: dict[str, Any], lock: threading.Lock) -> None:
    connection = HTTPConnection("127.0.0.1", job["port"], timeout=30)
    page = f"/projects/{job['slug']}/rank"
    connection.request("GET", page, headers={"Cookie": f"sessionid={key}"})
    response = connection.getresponse()
    html = response.read().decode()
    cookie = re.search(r"csrftoken=(\w+)", response.headers.get("Set-Cookie", ""))
    csrf = cookie[1] if cookie else ""
    headers = {
        "Cookie": f"sessionid={key}; csrftoken={csrf}",
        "X-CSRFToken": csrf,
        "HX-Request": "true",
        "Content-Type": "application/x-www-form-urlencoded",
    }
    latencies, acknowledged, trouble = [], 0, 0
    ends = time.perf_counter() + job["seconds"]
    while time.perf_counter() < ends:
        token = re.search(r'data-token="([^"]+)"', html)
        address = re.search(rf"{page}/\d+/submit", html)
        if token is None or address is None:
            trouble += 1
            break
        body = f"token={token[1]}&verdict=ranked&places=%5B%5B%22B%22%5D%2C%5B%22A%22%2C%22D%22%5D%2C%5B%22C%22%5D%5D"
        began = time.perf_counter()
        connection.request("POST", address[0], body, headers)
        response = connection.getresponse()
        html = response.read().decode()
        latencies.append(time.perf_counter() - began)
        acknowledged += response.status == 200
        trouble += response.status != 200
    with lock:
        out["latencies"] += latencies
        out["acknowledged"] += acknowledged
        out["trouble"] += trouble


def client(job: dict[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {"latencies": [], "acknowledged": 0, "trouble": 0}
    lock = threading.Lock()
    threads = [
        threading.Thread(target=annotate_for, args=(job, job["keys"][number], out, lock))
        for number in range(job["people"])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {**out, "took": job["seconds"]}


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def count_statements(project: Any) -> float:
    """SQL statements of one submit with its next task, BEGIN and COMMIT aside."""
    from django.db import connection
    from django.test import Client

    from annotate.models import Assignment, User

    person = User.objects.get(username=f"bench-{PEOPLE - 1}")
    browser = Client(headers={"host": "localhost"})
    browser.force_login(person)
    counts = []
    for _ in range(5):
        browser.get(f"/projects/{project.slug}/rank")
        assignment = Assignment.objects.get(annotator=person, project=project, state="leased")
        order = {"token": str(assignment.token), "verdict": "ranked", "places": '[["B"], ["A", "D"], ["C"]]'}
        statements: list[str] = []

        def count(execute: Any, sql: str, *rest: Any, seen: list[str] = statements) -> Any:
            seen.append(sql)
            return execute(sql, *rest)

        with connection.execute_wrapper(count):
            browser.post(f"/projects/{project.slug}/rank/{assignment.pk}/submit", order)
        counts.append(len(statements))
    return float(statistics.median(counts))


def bench_load() -> list[Figure]:
    from annotate.models import Ranking

    drop_project(SLUG)
    project = fill_project(SLUG, 40_000)
    keys = session_keys()
    results: dict[int, list[dict[str, Any]]] = {1: [], 8: [], 32: []}
    floors = []
    with Server() as server:
        drive(server.port, 8, 2, keys)
        warm_up = Ranking.objects.filter(project=project).count()
        for _ in range(ROUNDS):
            floors.append(floor_cycles(2))
            for people, rounds in results.items():
                rounds.append(drive(server.port, people, SECONDS, keys))
    stored = Ranking.objects.filter(project=project)
    acknowledged = sum(result["acknowledged"] for rounds in results.values() for result in rounds)
    lost = acknowledged - (stored.count() - warm_up)
    doubled = stored.count() - stored.values("task").distinct().count()
    trouble = sum(result["trouble"] for rounds in results.values() for result in rounds)
    figures = []
    for people, rounds in results.items():
        rates = [result["acknowledged"] / result["took"] for result in rounds]
        figures.append(Figure.from_rounds(f"web_cycles_per_s_{people}", rates, "cycles/s"))
        for share, name in ((0.5, "p50"), (0.95, "p95")):
            if (people, name) in ((8, "p50"), (8, "p95"), (32, "p95")):
                values = [1000 * quantile(result["latencies"], share) for result in rounds]
                figures.append(Figure.from_rounds(f"web_{name}_ms_{people}", values, "ms"))
    figures += [
        Figure("web_lost", float(max(0, lost)), "rankings", f"{acknowledged} acknowledged"),
        Figure("web_doubled", float(doubled), "rankings"),
        Figure("web_refused", float(trouble), "requests"),
        Figure("web_sql_per_cycle", count_statements(project), "statements"),
        Figure.from_rounds("web_floor_cycles_per_s", floors, "cycles/s", "bare psycopg, one connection"),
    ]
    return figures


def bench_crowd(tasks: int = 3_000, gold: int = 40) -> list[Figure]:
    """64 people at once, three for each task, every twentieth task gold: what was acknowledged is stored, once."""
    from annotate.models import Ranking, RankingTask

    slug = "bench-crowd"
    drop_project(slug)
    project = fill_project(slug, tasks, overlap=3)
    project.gold_percent, project.gold_threshold = 5, 0
    project.save()
    add_gold(project, gold)
    keys = session_keys()
    results = []
    with Server() as server:
        for _ in range(ROUNDS):
            results.append(drive(server.port, 64, SECONDS, keys, slug))
    stored = Ranking.objects.filter(project=project)
    acknowledged = sum(result["acknowledged"] for result in results)
    doubled = stored.count() - stored.values("task", "annotator").distinct().count()
    wrong = RankingTask.objects.filter(project=project, purpose="ranking").exclude(submitted__lte=3).count()
    share = 100 * stored.filter(task__purpose="gold").count() / max(1, stored.count())
    rates = [result["acknowledged"] / result["took"] for result in results]
    late = [1000 * quantile(result["latencies"], 0.95) for result in results]
    return [
        Figure.from_rounds("web_64_cycles_per_s", rates, "cycles/s", "overlap 3, 5 % gold"),
        Figure.from_rounds("web_64_p95_ms", late, "ms"),
        Figure("web_64_lost", float(abs(acknowledged - stored.count())), "rankings", f"{acknowledged} acknowledged"),
        Figure("web_64_doubled", float(doubled + wrong), "rankings"),
        Figure("web_64_refused", float(sum(result["trouble"] for result in results)), "requests"),
        Figure("web_64_gold_percent", share, "%"),
    ]


def add_gold(project: Any, count: int) -> None:
    """Make gold of the first tasks; their completions are best in the order in which they were stored."""
    from annotate.models import KnownOrder, RankingTask
    from annotate.services.overlap import ENDLESS

    for task in RankingTask.objects.filter(project=project).order_by("pk")[:count]:
        ids = task.completions.order_by("pk").values_list("pk", flat=True)
        KnownOrder.objects.create(task=task, ranks={str(pk): rank for rank, pk in enumerate(ids, 1)})
        RankingTask.objects.filter(pk=task.pk).update(purpose="gold", overlap=ENDLESS)


def run() -> list[Figure]:
    setup()
    from tests.bench.growth import bench_far_in, bench_growth

    return [*bench_load(), *bench_crowd(), *bench_far_in(), *bench_growth()]


if __name__ == "__main__":
    print(json.dumps(client(json.loads(sys.argv[1]))))
