"""How far rankings of one task agree: mean Kendall's tau-b over their pairs, for many tasks at once.

The tau-b of two weak orders is the product of their unit vectors, which have the sign of each pair of completions. So the mean over
the pairs of n orders is (|S|² - n) / (n (n - 1)), S being the sum of the vectors; annotate.quality.tau says the same of one task.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from django.db import connection
from numpy.typing import NDArray

from annotate.models import K_MAX

Array = NDArray[Any]
TASKS_AT_ONCE = 5000
DIGITS = 9  # beyond them the order of summation shows
FIRST, SECOND = np.triu_indices(K_MAX, 1)
CREATE = "CREATE TEMPORARY TABLE podium_agreement (task_id bigint PRIMARY KEY, agreement float8)"
# The ordinary opinions of then, whatever the version's filters drop: people's and imported ones.
RANKS = """
    SELECT r.task_id, string_agg(rc.rank::text, '' ORDER BY rc.completion_id)
    FROM annotate_ranking r JOIN annotate_rankedcompletion rc ON rc.ranking_id = r.id
    WHERE r.project_id = %(project)s AND r.created_at <= %(as_of)s AND (r.is_current OR r.withdrawn_at > %(as_of)s)
        AND r.role <> 'adjudicator' AND r.verdict = 'ranked'
        AND r.task_id IN (
            SELECT o.task_id FROM annotate_ranking o
            WHERE o.project_id = %(project)s AND o.role <> 'adjudicator' GROUP BY 1 HAVING count(*) > 1
        )
    GROUP BY r.id ORDER BY r.task_id, r.uid
"""


def unit_vectors(ranks: Array) -> tuple[Array, Array]:
    """(vectors (N, pairs), whether it has one (N,)) of ranks (N, K_MAX), 0 where there is no completion.

    An order that ties all has none.
    """
    first, second = ranks[:, FIRST], ranks[:, SECOND]
    signs = np.where((first > 0) & (second > 0), np.sign(first.astype(np.int16) - second), 0).astype(np.float64)
    norms = np.sqrt((signs * signs).sum(axis=1))
    has_order = norms > 0
    return signs / np.where(has_order, norms, 1)[:, None], has_order


def mean_taus(sums: Array, counts: Array) -> Array:
    """Of sums (T, pairs) of `counts` (T,) unit vectors each; nan for less than two."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found = ((sums * sums).sum(axis=1) - counts) / (counts * (counts - 1.0))
    return np.where(counts > 1, np.round(found, DIGITS), np.nan)


def measure(values: dict[str, Any], beat: Callable[[], None]) -> None:
    """Fill `podium_agreement` with the tasks that have one."""
    with connection.cursor() as cursor:
        cursor.execute(CREATE)
    waiting: list[tuple[int, str]] = []
    with connection.chunked_cursor() as cursor:
        cursor.execute(RANKS, values)
        while rows := cursor.fetchmany(TASKS_AT_ONCE):
            waiting += rows
            # The last task may go on in the next rows.
            whole = [row for row in waiting if row[0] != waiting[-1][0]]
            _store(whole)
            waiting = waiting[len(whole) :]
            beat()
    _store(waiting)


def _store(rows: list[tuple[int, str]]) -> None:
    if not rows:
        return
    tasks, number = np.unique(np.array([task for task, _ranks in rows]), return_inverse=True)
    codes = np.array([ranks for _task, ranks in rows], dtype=f"S{K_MAX}").view(np.uint8).reshape(-1, K_MAX)
    vectors, has_order = unit_vectors(np.where(codes > 0, codes - ord("0"), 0))
    sums = np.zeros((len(tasks), vectors.shape[1]))
    np.add.at(sums, number, vectors)
    agreement = mean_taus(sums, np.bincount(number, weights=has_order, minlength=len(tasks)))
    known = ~np.isnan(agreement)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO podium_agreement SELECT * FROM unnest(%s::bigint[], %s::float8[])",
            [tasks[known].tolist(), agreement[known].tolist()],
        )
