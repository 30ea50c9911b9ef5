"""How many people rank each task: the project's overlap, or for a share of its tasks the larger shared one."""

import hashlib
import time

from django.db import connection, transaction

from annotate.models import Project, User, record

BATCH = 2_000
# So many people may have a task with a known order that its counts never run out.
ENDLESS = 32767
SETTINGS = frozenset({"overlap", "shared_percent", "shared_overlap"})
# Of the task's own content, so that a task stays shared or not whatever becomes of the settings; salted, so that the share has
# nothing to do with any other choice by hash. In Python and in SQL alike: a number from 0 to 99.
SALT = "overlap "
NUMBER = (
    f"(('x' || left(encode(sha256(convert_to('{SALT}' || t.content_hash, 'UTF8')), 'hex'), 8))::bit(32)::bigint %% 100)"
)
WANTED = f"""greatest(t.leased + t.submitted,
            CASE WHEN {NUMBER} < p.shared_percent THEN p.shared_overlap ELSE p.overlap END)"""


def overlap_of(project: Project, content_hash: str) -> int:
    """How many people are to rank the task with this content hash."""
    number = int(hashlib.sha256(f"{SALT}{content_hash}".encode()).hexdigest()[:8], 16) % 100
    return project.shared_overlap if number < project.shared_percent else project.overlap


def apply_overlap(*, project: Project, actor: User | None, seconds: float = float("inf")) -> bool:
    """Bring the tasks that are not closed to the overlap of the project's stored settings; none goes below its taken places.

    In batches, each a transaction of its own, so that nobody who ranks waits for more than one. Doing it twice is doing it once.
    Returns whether it came to the end within `seconds`.
    """
    after: str | None = ""
    changed = 0
    ends = time.monotonic() + seconds
    while after is not None and time.monotonic() < ends:
        after, count = _apply_batch(project, after)
        changed += count
    if changed:
        record(actor, "tasks.overlap_changed", f"project:{project.pk}", project=project, tasks=changed)
    return after is None


@transaction.atomic
def _apply_batch(project: Project, after: str) -> tuple[str | None, int]:
    """Returns the last content hash looked at, None at the end, and how many tasks were changed."""
    with connection.cursor() as cursor:
        # Walked by the index on content hashes; locked in the order of ids, as everywhere.
        cursor.execute(
            f"""
            WITH batch AS (
                SELECT id, content_hash FROM annotate_rankingtask
                WHERE project_id = %(project)s AND content_hash > %(after)s ORDER BY content_hash LIMIT %(size)s
            ), locked AS (
                SELECT t.id FROM annotate_rankingtask t JOIN annotate_project p ON p.id = t.project_id
                WHERE t.id IN (SELECT id FROM batch) AND t.state <> 'closed' AND t.purpose = 'ranking'
                    AND t.overlap <> {WANTED}
                ORDER BY t.id FOR UPDATE OF t
            ), changed AS (
                UPDATE annotate_rankingtask t SET overlap = {WANTED}, agreement = NULL, compared_at = NULL
                FROM locked, annotate_project p WHERE t.id = locked.id AND p.id = t.project_id RETURNING t.id
            )
            SELECT (SELECT max(content_hash) FROM batch), (SELECT count(*) FROM batch), (SELECT count(*) FROM changed)
            """,  # noqa: S608  # constants of this file
            {"project": project.pk, "after": after, "size": BATCH},
        )
        last, found, changed = cursor.fetchone()
    return (last if found == BATCH else None), changed
