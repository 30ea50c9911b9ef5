"""How the time of the next task grows: from 1,000 to 1,000,000 tasks, and for somebody who has ranked much that waits for others."""

import statistics
import time
from typing import Any

from tests.bench.figures import Figure
from tests.bench.web import drop_project, fill_project, vacuum


def next_seconds(project: Any, times: int) -> list[float]:
    """Seconds to lease and render the next task, each after the last was submitted in the database."""
    from django.db.models import F
    from django.test import Client

    from annotate.models import Assignment, RankingTask, User

    person = User.objects.get(username="bench-0")
    browser = Client(headers={"host": "localhost"})
    browser.force_login(person)
    took = []
    for _ in range(times):
        began = time.perf_counter()
        response = browser.get(f"/projects/{project.slug}/rank")
        took.append(time.perf_counter() - began)
        if response.status_code != 200:
            raise RuntimeError(f"the ranking page answered {response.status_code}")
        mine = Assignment.objects.filter(annotator=person, project=project, state="leased")
        RankingTask.objects.filter(pk__in=mine.values("task_id")).update(
            leased=F("leased") - 1, submitted=F("submitted") + 1
        )
        mine.update(state="submitted")
    return took


def bench_growth(tasks: int = 1_000_000) -> list[Figure]:
    """The next task at 1,000 and at 1,000,000 tasks, in turns; and for somebody with 20,000 behind them that wait for others."""
    names = ("bench-small", "bench-large")
    for name in names:
        drop_project(name)
    small, large = fill_project(names[0], 1_000), fill_project(names[1], tasks, copies=200)
    ratios = []
    next_seconds(small, 5), next_seconds(large, 5)
    for _ in range(5):
        ratios.append(statistics.median(next_seconds(large, 30)) / statistics.median(next_seconds(small, 30)))
    return [
        Figure.from_rounds("web_next_ratio_1m_over_1k", ratios, "ratio", "median time of the next task at 1,000 tasks")
    ]


def bench_far_in(done: int = 20_000, tasks: int = 100_000) -> list[Figure]:
    """The next task for somebody who has ranked the first `done` of `tasks`, all of which wait for two more people."""
    from django.db import connection

    from annotate.models import User

    name, fresh = "bench-overlap", "bench-fresh"
    for slug in (name, fresh):
        drop_project(slug)
    project, new = fill_project(name, tasks, overlap=3, copies=20), fill_project(fresh, 1_000, overlap=3)
    person = User.objects.get(username="bench-0")
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH done AS (
                SELECT id FROM annotate_rankingtask WHERE project_id = %(project)s ORDER BY id LIMIT %(done)s
            ), all_ranked_once AS (
                UPDATE annotate_rankingtask SET submitted = 1 WHERE project_id = %(project)s
            )
            INSERT INTO annotate_assignment
                (project_id, task_id, annotator_id, state, lease_until, shown_order, token, opened_at)
            SELECT %(project)s, id, %(annotator)s, 'submitted', now(), '{}', gen_random_uuid(), now() FROM done
            """,
            {"project": project.pk, "annotator": person.pk, "done": done},
        )
    vacuum()
    next_seconds(new, 5), next_seconds(project, 5)
    ratios = []
    for _ in range(5):
        ratios.append(statistics.median(next_seconds(project, 30)) / statistics.median(next_seconds(new, 30)))
    return [
        Figure.from_rounds("web_next_ratio_20k_done_over_new", ratios, "ratio", "median time of a newcomer's next task")
    ]
