"""Import and export: rows a second and peak memory, beside what Postgres and pyarrow do bare, in the same run."""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
from django.conf import settings
from django.db import connection

from annotate.models import (
    Completion,
    DatasetVersion,
    Import,
    Membership,
    Project,
    Prompt,
    RankingTask,
    TaskCompletion,
    User,
)
from tests.bench.figures import Figure

PROMPTS = int(os.environ.get("BENCH_PROMPTS", "100000"))
PAIRS = int(os.environ.get("BENCH_PAIRS", "200000"))
ROUNDS = 2
COMPLETIONS = 4
PAIRS_OF_A_RANKING = COMPLETIONS * (COMPLETIONS - 1) // 2
TABLES = [model._meta.db_table for model in (Prompt, Completion, RankingTask, TaskCompletion)]
WORDS = [
    "alder",
    "bridge",
    "copper",
    "delta",
    "ember",
    "fjord",
    "glass",
    "harbour",
    "island",
    "juniper",
    "kelp",
    "lantern",
]


def run() -> list[Figure]:
    user = User.objects.create(username="bench")
    project = Project.objects.create(slug="bench", name="Bench", created_by=user)
    with tempfile.TemporaryDirectory(dir=settings.PODIUM_HOME) as folder:
        return [*measure_import(project, Path(folder)), *measure_export(project, Path(folder))]


def measure_import(project: Project, folder: Path) -> list[Figure]:
    """A JSONL file by the command, against a bare COPY of the very rows that it made, into the same empty tables."""
    file = folder / "rows.jsonl"
    write_rows(file)
    seconds, bare, peaks = [], [], []
    for number in range(ROUNDS):
        empty()
        peaks.append(peak_of("import_prompts", project.slug, str(file)))
        job = Import.objects.latest("pk")
        assert job.tasks_added == PROMPTS, job.error
        seconds.append(lasted(job))
        bare.append(copy_seconds(folder, keep=number == ROUNDS - 1))
    rows = PROMPTS * (2 + 2 * COMPLETIONS)
    copy = (
        f"COPY of the same {rows:,} rows (prompts, completions, tasks and task completions of {PROMPTS:,} prompts), "
        "from a file, into the same tables with their indexes and foreign keys, in one transaction"
    )
    return [
        Figure.from_rounds("import_rows_per_s", [rows / one for one in seconds], "table rows/s"),
        Figure.from_rounds("import_prompts_per_s", [PROMPTS / one for one in seconds], "prompts/s with 4 completions"),
        Figure.from_rounds(
            "import_ratio_to_copy",
            [ours / floor for ours, floor in zip(seconds, bare, strict=True)],
            "× its time",
            copy,
        ),
        Figure.from_rounds("import_peak_mb", peaks, "MB"),
    ]


def lasted(job: Import | DatasetVersion) -> float:
    assert job.started_at
    assert job.finished_at
    return (job.finished_at - job.started_at).total_seconds()


def write_rows(file: Path) -> None:
    chance = random.Random(1)
    with file.open("w") as stream:
        for number in range(PROMPTS):
            texts = [" ".join(chance.choices(WORDS, k=length)) for length in (30, 120, 100, 80, 110)]
            row = {"prompt": f"{number} {texts[0]}", "completions": texts[1:]}
            stream.write(json.dumps(row) + "\n")


def empty() -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {', '.join(TABLES)} CASCADE")


def copy_seconds(folder: Path, *, keep: bool) -> float:
    """Write the tables' rows to files, empty the tables, and time a bare COPY of those files."""
    parameters = connection.get_connection_params()
    parameters = {
        name: parameters[name] for name in ("dbname", "user", "password", "host", "port") if name in parameters
    }
    with psycopg.connect(**parameters) as bare:
        for table in TABLES:
            with (folder / table).open("wb") as stream, bare.cursor().copy(f"COPY {table} TO STDOUT") as copy:
                for data in copy:
                    stream.write(data)
        bare.execute(f"TRUNCATE {', '.join(TABLES)} CASCADE")
        bare.commit()
        began = time.perf_counter()
        for table in TABLES:
            with (folder / table).open("rb") as stream, bare.cursor().copy(f"COPY {table} FROM STDIN") as copy:
                while data := stream.read(256 * 1024):
                    copy.write(data)
        bare.commit()
        seconds = time.perf_counter() - began
        if not keep:
            bare.execute(f"TRUNCATE {', '.join(TABLES)} CASCADE")
    return seconds


def peak_of(*command: str) -> float:
    """Run a command of ours in a process of its own; the most memory that it held, in MB."""
    process = subprocess.Popen(
        [sys.executable, "manage.py", *command], cwd=settings.BASE_DIR, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return usage.ru_maxrss / 1024


def measure_export(project: Project, folder: Path) -> list[Figure]:
    """Build a version and export its pairs as Parquet, against a bare server-side cursor over the pairs to Parquet."""
    rankings = -(-PAIRS // PAIRS_OF_A_RANKING)
    fill_rankings(project, rankings)
    pairs = rankings * PAIRS_OF_A_RANKING
    build_peak = peak_of("build_dataset", project.slug)
    version = DatasetVersion.objects.latest("pk")
    assert version.counts["pairs"] == pairs
    exports, bare, peaks = [], [], [build_peak]
    for number in range(2):
        out = folder / f"pairs-{number}.parquet"
        began = time.perf_counter()
        peaks.append(peak_of("export_dataset", project.slug, "1", "--format", "parquet", "--split", "all", str(out)))
        exports.append(time.perf_counter() - began)
        assert pq.read_metadata(out).num_rows == pairs
        bare.append(cursor_seconds(project, folder / "bare.parquet"))
    cursor = (
        f"a bare server-side cursor over (prompt, chosen, rejected) of the same {pairs:,} pairs, written with pyarrow"
    )
    built = lasted(version)
    return [
        Figure("dataset_rankings_per_s", rankings / built, "rankings/s"),
        Figure.from_rounds("export_rows_per_s", [pairs / one for one in exports], "pairs/s, process start included"),
        Figure.from_rounds(
            "export_ratio_to_cursor",
            [(built + ours) / floor for ours, floor in zip(exports, bare, strict=True)],
            "× its time, build included",
            cursor,
        ),
        Figure.from_rounds(
            "export_only_ratio_to_cursor",
            [ours / floor for ours, floor in zip(exports, bare, strict=True)],
            "× its time, of a version that is there",
            cursor,
        ),
        Figure("export_peak_mb", max(peaks), "MB", "", f"build {build_peak:.0f}, export {max(peaks[1:]):.0f}"),
    ]


def fill_rankings(project: Project, count: int) -> None:
    """`count` rankings without ties, by as many people as the tasks need."""
    people = -(-count // PROMPTS)
    users = User.objects.bulk_create(User(username=f"bench-{number}") for number in range(people))
    Membership.objects.bulk_create(Membership(project=project, user=user, role="annotator") for user in users)
    RankingTask.objects.update(overlap=people, submitted=people)
    statements = (
        """
        INSERT INTO annotate_assignment
            (project_id, task_id, annotator_id, state, lease_until, shown_order, token, opened_at)
        SELECT t.project_id, t.id, u.id, 'submitted', now(), '{}', gen_random_uuid(), now()
        FROM annotate_user u, annotate_rankingtask t WHERE u.username LIKE 'bench-%%' LIMIT %s
        """,
        """
        INSERT INTO annotate_ranking (uid, project_id, task_id, assignment_id, annotator_id, token, revision, is_current,
            verdict, reasons, comment, seconds, created_at)
        SELECT gen_random_uuid(), project_id, task_id, id, annotator_id, token, 1, true, 'ranked', '{}', '', 30, now()
        FROM annotate_assignment LIMIT %s
        """,
        """
        INSERT INTO annotate_rankedcompletion (ranking_id, completion_id, rank)
        SELECT r.id, tc.completion_id, row_number() OVER (PARTITION BY r.id ORDER BY md5(tc.completion_id::text || r.id))
        FROM (SELECT id, task_id FROM annotate_ranking LIMIT %s) r JOIN annotate_taskcompletion tc USING (task_id)
        """,
    )
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement, [count])
        cursor.execute("ANALYZE")


def cursor_seconds(project: Project, out: Path) -> float:
    began = time.perf_counter()
    schema = pa.schema([(name, pa.string()) for name in ("prompt", "chosen", "rejected")])
    with connection.chunked_cursor() as cursor, pq.ParquetWriter(out, schema, compression="zstd") as writer:
        cursor.execute(
            """
            SELECT p.messages->0->>'content', better.text, worse.text
            FROM annotate_ranking r
            JOIN annotate_rankingtask t ON t.id = r.task_id
            JOIN annotate_prompt p ON p.id = t.prompt_id
            JOIN annotate_rankedcompletion a ON a.ranking_id = r.id
            JOIN annotate_rankedcompletion b ON b.ranking_id = r.id AND b.rank > a.rank
            JOIN annotate_completion better ON better.id = a.completion_id
            JOIN annotate_completion worse ON worse.id = b.completion_id
            WHERE r.project_id = %s AND r.is_current
            """,
            [project.pk],
        )
        while rows := cursor.fetchmany(2000):
            columns = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
            writer.write_table(pa.table(columns, schema=schema))
    return time.perf_counter() - began
