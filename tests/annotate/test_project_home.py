"""A project's home: what to do next, how far it is, how fast it goes, who works."""

import hashlib
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from annotate.models import DatasetVersion, Flag, Membership, Project, Ranking, RankingTask, record
from annotate.services.overview import measure_progress
from tests.annotate.known_orders import make_known_tasks
from tests.annotate.rows import build, rank
from tests.conftest import make_task, make_user, signed_in

pytestmark = pytest.mark.django_db


def home(user, project):
    response = signed_in(user).get(f"/projects/{project.slug}/")
    assert response.status_code == 200
    return response


def titles(user, project):
    return [step.title for step in home(user, project).context["next_steps"]]


def age(ranking, **ago):
    Ranking.objects.filter(pk=ranking.pk).update(created_at=timezone.now() - timedelta(**ago))


def test_an_admin_is_told_first_what_keeps_others_from_working(project, alice, bob):
    Project.objects.update(adjudicate_below=0.5, practice_tasks=2, gold_percent=5, overlap=3)
    make_known_tasks(project, 1, purpose="practice")
    _waiting, flagged, disputed = (make_task(project, f"{name}?") for name in ("waiting", "flagged", "disputed"))
    RankingTask.objects.filter(pk=flagged.pk).update(state="flagged")
    Flag.objects.create(project=project, task=flagged, raised_by=bob, reason="no_sense")
    RankingTask.objects.filter(pk=disputed.pk).update(agreement=-0.2)
    Membership.objects.filter(user=bob).update(paused_at=timezone.now(), pause_reason="gold")
    steps = home(alice, project).context["next_steps"]
    assert [step.title for step in steps] == [
        "Settle flags",
        "Adjudicate",
        "Look at who is paused",
        "Add practice tasks",
        "Add gold tasks",
        "Rank answers",
    ]
    assert steps[0].why.startswith("1 task was taken out")
    assert "bob" in steps[2].why
    assert steps[3].why == "The settings ask for 1 more than there is."
    for step in steps:
        assert signed_in(alice).get(step.url).status_code == 200
    assert titles(bob, project) == []
    assert "An admin looks at your work" in home(bob, project).content.decode()


def test_the_loop_goes_on_from_rankings_to_datasets_to_training(project, alice, bob, rita):
    Project.objects.update(overlap=1)
    for number in range(50):
        rank(make_task(project, f"Question {number}?"), bob, [1, 2, 3, 4])
    assert "Freeze a dataset" in titles(alice, project)
    assert titles(rita, project) == ["Freeze a dataset"]
    version = build(project, alice)
    assert "Train a model" in titles(alice, project)
    assert "Train a model" not in titles(rita, project)
    record(alice, "run.started", "run:1", project=project, method="generate")
    assert "Train a model" in titles(alice, project)
    record(alice, "run.started", "run:2", project=project, method="dpo")
    assert not {"Train a model", "Freeze a dataset"} & set(titles(alice, project))
    DatasetVersion.objects.filter(pk=version.pk).update(as_of=timezone.now() - timedelta(days=1))
    assert "Freeze a dataset" in titles(rita, project)


def test_progress_counts_places_and_leaves_closed_tasks_and_known_orders_out(project, bob, alice):
    Project.objects.update(overlap=2)
    project.refresh_from_db()
    ranked = make_task(project, "ranked?")
    rank(ranked, bob, [1, 2, 3, 4])
    make_task(project, "waiting?")
    RankingTask.objects.filter(pk=make_task(project, "closed?").pk).update(state="closed")
    make_known_tasks(project, 2)
    progress = home(alice, project).context["progress"]
    assert (progress.done, progress.asked, progress.percent, progress.is_exact) == (1, 4, 25, True)


def test_a_large_project_is_estimated_from_a_sample(project, alice):
    make_task(project)
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO annotate_rankingtask
                (project_id, prompt_id, content_hash, state, priority, overlap, leased, submitted, created_at)
            SELECT project_id, prompt_id, encode(sha256(n::text::bytea), 'hex'), 'open', 0, 3, 0, CASE WHEN n %% 4 = 0 THEN 3 ELSE 0 END,
                created_at
            FROM annotate_rankingtask, generate_series(1, 20000) n WHERE project_id = %s""",
            [project.pk],
        )
    assert hashlib.sha256(b"1").hexdigest() in set(project.tasks.values_list("content_hash", flat=True))
    progress = measure_progress(project, sample=5000)
    assert not progress.is_exact
    assert progress.asked == pytest.approx(60_000, rel=0.05)
    assert progress.percent == pytest.approx(25, abs=2)
    plan_of = (
        "EXPLAIN SELECT content_hash FROM annotate_rankingtask WHERE project_id = %s ORDER BY content_hash LIMIT 5000"
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE annotate_rankingtask")
        cursor.execute(plan_of, [project.pk])
        assert "task_unique" in str(cursor.fetchall())


def test_the_effort_that_is_left_is_reckoned_from_the_median(project, alice, bob):
    for number, seconds in enumerate((10, 60, 3000)):
        rank(make_task(project, f"{number}?"), bob, [1, 2, 3, 4], seconds=seconds)
    assert home(alice, project).context["effort"] is None
    for number in range(30):
        make_task(project, f"more {number}?")
    assert home(alice, project).context["effort"] == {"time": "30 minutes", "seconds": "60"}
    Project.objects.update(overlap=1)
    RankingTask.objects.filter(submitted=0).update(overlap=4)
    assert home(alice, project).context["effort"]["time"] == "2 hours"
    assert "takes 60 seconds" in home(alice, project).content.decode()


def test_rankings_are_counted_per_day_and_per_person(project, alice, bob, rita):
    dora = make_user("dora")
    Membership.objects.create(project=project, user=dora, role="annotator")
    for number, (person, ago) in enumerate(((bob, 0), (bob, 0), (bob, 3), (dora, 8), (dora, 20))):
        age(rank(make_task(project, f"{number}?"), person, [1, 2, 3, 4]), days=ago)
    context = home(alice, project).context
    days = list(context["activity"].days.values())
    assert len(days) == 14
    assert (days[-1], days[-4], days[-9], sum(days)) == (2, 1, 1, 4)
    assert [(person.name, person.work.today, person.work.week) for person in context["people"]] == [
        ("bob", 2, 3),
        ("dora", 0, 0),
    ]
    assert context["roles"] == ["1 admin", "2 annotators", "1 researcher"]
    page = home(rita, project)
    assert [person.name for person in page.context["people"]] == [
        Membership.objects.get(user=person, project=project).pseudonym for person in (bob, dora)
    ]
    assert "dora" not in page.content.decode()


def test_an_annotator_sees_their_own_work_and_nobody_else_s(project, alice, bob):
    dora = make_user("dora")
    Membership.objects.create(project=project, user=dora, role="annotator")
    rank(make_task(project, "1?"), bob, [1, 2, 3, 4])
    rank(make_task(project, "2?"), dora, [1, 2, 3, 4])
    rank(make_task(project, "3?"), dora, [1, 2, 3, 4])
    page = home(bob, project)
    assert (page.context["mine"].today, page.context["mine"].week) == (1, 1)
    for hidden in ("people", "activity", "chart", "effort"):
        assert hidden not in page.context
    assert "dora" not in page.content.decode()


def test_the_page_costs_the_same_number_of_statements_whoever_has_ranked(project, alice, bob):
    def statements():
        with CaptureQueriesContext(
            connection,
        ) as queries:
            home(alice, project)
        return len(queries)

    rank(make_task(project, "0?"), bob, [1, 2, 3, 4])
    few = statements()
    for number in range(1, 8):
        person = make_user(f"person-{number}")
        Membership.objects.create(project=project, user=person, role="annotator")
        rank(make_task(project, f"{number}?"), person, [1, 2, 3, 4])
    assert statements() == few
