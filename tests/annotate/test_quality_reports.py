"""Reports from real rows: asked for, computed by the worker's own task, stored as JSON that says what was in them."""

import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import numpy as np
import pytest
from django.db import connection, transaction
from django.utils import timezone

from annotate import jobs, tasks
from annotate.models import Membership, Project, Prompt, QualityReport, Ranking, RankingTask, Source
from annotate.quality import overview
from annotate.quality.leaders import APART, NOTHING, ONE_SIDED
from annotate.quality.reading import Filters, read_rankings
from annotate.quality.report import build_report, compute
from annotate.services.reports import latest_report, request_report
from tests.annotate.simulation import crowd, simulate, store

pytestmark = pytest.mark.django_db
INTERVAL = {"value", "low", "high", "n", "why"}


def built(report):
    tasks.build_quality_report(report.pk)
    report.refresh_from_db()
    return report


def computed(project, kind="quality", **filters):
    report = built(request_report(project=project, kind=kind, filters=filters, refresh=True))
    assert (report.error, report.state) == ("", "succeeded")
    return report.results


def read(project, *, criteria=(), **options):
    options.setdefault("filters", Filters())
    options.setdefault("as_of", timezone.now())
    return read_rankings(project=project.pk, criteria=list(criteria), **options)


def stored(project, rankings, **options):
    store(rankings, project, **options)
    return rankings


def age(project):
    """As if the finished reports were an hour old."""
    hour = timedelta(hours=1)
    for report in project.quality_reports.all():
        QualityReport.objects.filter(pk=report.pk).update(as_of=report.as_of - hour)


def test_what_is_read_is_what_was_stored(project):
    simulated = simulate(crowd([0.5, 0.5, 2.0]), tasks=8, overlap=2, ties_within=0.8)
    simulated.ratings["Clarity"] = np.where(simulated.ranks > 0, 6 - simulated.ranks, 0).astype(np.int8)
    simulated.all_bad[3] = True
    stored(project, simulated)
    found = read(project, criteria=["Clarity", "Helpfulness"])
    assert (len(found), found.total) == (16, 16)
    order = np.argsort(found.ids)
    for name in ("ids", "all_bad", "shown"):
        assert getattr(found, name)[order].tolist() == getattr(simulated, name).tolist()
    assert not found.ranks[order][3].any()
    assert (found.ranks[order] == simulated.ranks)[~simulated.all_bad].all()
    assert found.task_ids[found.task][order].tolist() == simulated.task_ids[simulated.task].tolist()
    assert found.memberships[found.annotator][order].tolist() == simulated.memberships[simulated.annotator].tolist()
    assert found.completions.tolist() == simulated.completions.tolist()
    assert (found.ratings["Clarity"][order] == simulated.ratings["Clarity"]).all()
    assert not found.ratings["Helpfulness"].any()
    # Six characters are a word: "words " repeated, and the prompt's six-character words after its number.
    assert found.words.tolist() == simulated.words.tolist()
    assert found.prompt_words.tolist() == pytest.approx([31.0] * 8)


def test_only_current_rankings_of_ordinary_tasks_by_annotators_are_read(project):
    simulated = stored(project, simulate(crowd([0.5, 0.5]), tasks=6))
    rows = Ranking.objects.order_by("pk")
    taken_back, imported, decision = rows[0], rows[1], rows[2]
    Ranking.objects.filter(pk=taken_back.pk).update(is_current=False, withdrawn_at=timezone.now())
    Ranking.objects.filter(pk=imported.pk).update(role=Ranking.Role.IMPORTED, assignment=None)
    Ranking.objects.filter(pk=decision.pk).update(role=Ranking.Role.ADJUDICATOR)
    known = simulated.task_ids[-2:].tolist()
    RankingTask.objects.filter(pk=known[0]).update(purpose="gold")
    RankingTask.objects.filter(pk=known[1]).update(purpose="practice")
    assert read(project).ids.tolist() == [row.pk for row in rows[3:8]]


def test_a_report_has_what_was_current_at_its_time(project):
    simulated = stored(project, simulate(crowd([0.5]), tasks=3))
    then = timezone.now()
    Ranking.objects.filter(pk=simulated.ids[0]).update(is_current=False, withdrawn_at=then + timedelta(seconds=1))
    Ranking.objects.filter(pk=simulated.ids[1]).update(created_at=then + timedelta(seconds=1))
    assert read(project, as_of=then).ids.tolist() == [simulated.ids[0], simulated.ids[2]]


def test_filters_narrow_by_time_annotator_and_tag(project):
    start = timezone.now() - timedelta(days=2)
    simulated = stored(project, simulate(crowd([0.5, 0.5]), tasks=5), start=start)
    third = start + timedelta(minutes=3)
    assert len(read(project, filters=Filters(since=third))) == 7
    assert len(read(project, filters=Filters(until=third))) == 3
    someone = int(simulated.memberships[1])
    assert read(project, filters=Filters(annotators=(someone,))).memberships.tolist() == [someone]
    Prompt.objects.filter(tasks=simulated.task_ids[2]).update(tags=["maths"])
    assert read(project, filters=Filters(tag="maths")).task_ids.tolist() == [simulated.task_ids[2]]


def test_of_too_many_rankings_whole_tasks_are_drawn_the_same_each_time(project):
    stored(project, simulate(crowd([0.5] * 3), tasks=60))
    drawn = read(project, limit=90)
    assert drawn.total == 180
    assert 60 <= len(drawn) <= 120
    assert np.bincount(drawn.task).tolist() == [3] * len(drawn.task_ids)
    assert read(project, limit=90).ids.tolist() == drawn.ids.tolist()


def test_a_quality_report_has_every_part(project):
    project.criteria = ["Clarity"]
    project.save()
    simulated = simulate(crowd([0.3, 0.3, 0.3, 30.0], straight=[0, 0, 0, 0.5]), tasks=30)
    simulated.ratings["Clarity"] = np.where(simulated.ranks > 0, 6 - simulated.ranks, 0).astype(np.int8)
    simulated.seconds[5] = 0.5
    simulated.all_bad[0] = True
    stored(project, simulated)
    found = computed(project)
    json.dumps(found, allow_nan=False)
    assert found["counts"] == {
        "rankings": 120, "tasks": 30, "annotators": 4, "all_bad": 1, "total": 120, "compared_tasks": 30,
    }  # fmt: skip
    for one in (found["alpha"], found["tau"], *found["alpha_over_time"], *found["criteria"], *found["pairs"]):
        assert set(one) >= INTERVAL
        assert one["low"] < one["value"] < one["high"]
    assert found["criteria"][0]["criterion"] == "Clarity"
    assert len(found["pairs"]) == 6
    noisy = found["annotators"][3]
    assert noisy["membership"] == simulated.memberships[3]
    assert noisy["reliability"] < 0.6 < 0.75 < min(one["reliability"] for one in found["annotators"][:3])
    assert noisy["tau"]["high"] < found["annotators"][0]["tau"]["low"]
    assert noisy["straight"]["p_adjusted"] < 0.05
    assert [letter["letter"] for letter in found["position"]] == list("ABCD")
    assert sum(letter["wins"] for letter in found["position"]) == 119
    assert found["task_lists"]["too_fast"] == [simulated.ids[5]]
    assert found["task_lists"]["all_bad"] == [simulated.ids[0]]
    assert set(found["task_lists"]["straight"]) <= set(simulated.ids[simulated.annotator == 3].tolist())
    worst = [one["agreement"] for one in found["disagreement"]]
    assert worst == sorted(worst)
    assert {one["task"] for one in found["disagreement"]} == set(simulated.task_ids.tolist())


@pytest.mark.parametrize("kind", ["quality", "leaderboard"])
def test_progress_only_ever_grows(project, kind):
    stored(project, simulate(crowd([0.5, 0.5]), tasks=4))
    heard: list[float] = []
    compute(QualityReport(project=project, kind=kind, as_of=timezone.now()), beat=heard.append)
    assert len(heard) > 2
    assert heard == sorted(heard)
    assert 0 < heard[0] < heard[-1] < 1


def test_gold_tasks_are_counted_apart(project):
    simulated = stored(project, simulate(crowd([0.5, 0.5]), tasks=4))
    RankingTask.objects.filter(pk=simulated.task_ids[0]).update(purpose="gold")
    Ranking.objects.filter(task=simulated.task_ids[0]).update(accuracy=0.5)
    found = computed(project)
    assert found["counts"]["rankings"] == 6
    assert [one["gold"] for one in found["annotators"]] == [{"seen": 1, "accuracy": 0.5}] * 2


def test_a_project_without_rankings_has_a_report_that_says_so(project):
    found = computed(project)
    assert found["counts"]["rankings"] == 0
    assert (found["alpha"]["value"], found["alpha"]["why"]) == (None, overview.NOT_TWICE)
    assert found["annotators"] == found["position"] == found["pairs"] == []
    assert computed(project, kind="leaderboard")["why"] == NOTHING


@pytest.mark.parametrize(
    "answers",
    [
        {"tasks": 1, "size": 2},
        {"tasks": 3, "size": 9},
        {"tasks": 3, "ties_within": 1e9},
        {"tasks": 3, "overlap": 1},
    ],
    ids=["one pair", "nine answers", "all tied", "nobody twice"],
)
@pytest.mark.parametrize("all_bad", [False, True], ids=["ranked", "all bad"])
def test_whatever_people_answer_a_report_comes_of_it(project, answers, all_bad):
    simulated = simulate(crowd([0.5, 0.5]), **answers)
    simulated.all_bad[:] = all_bad
    stored(project, simulated)
    json.dumps(computed(project), allow_nan=False)
    if all_bad:
        assert computed(project, kind="leaderboard")["why"] == NOTHING


def test_tasks_of_different_size_stand_in_one_report(project):
    strengths = np.zeros((6, 9))
    simulated = simulate(crowd([0.5, 0.5]), tasks=6, size=9, strengths=strengths)
    for task, size in enumerate((2, 3, 4, 5, 7, 9)):
        for matrix in (simulated.sources, simulated.completions, simulated.words):
            matrix[task, size:] = 0
        for row in np.flatnonzero(simulated.task == task):
            for matrix in (simulated.ranks, simulated.shown):
                matrix[row, size:] = 0
                matrix[row, :size] = matrix[row, :size].argsort().argsort() + 1
    stored(project, simulated)
    found = computed(project)
    assert [letter["n"] for letter in found["position"]] == [12, 12, 10, 8, 6, 4, 4, 2, 2]
    assert sum(letter["expected"] for letter in found["position"]) == pytest.approx(12)
    assert found["alpha"]["n"] == 6


def test_one_annotator_alone_has_no_agreement_but_paces_and_positions(project):
    stored(project, simulate(crowd([0.5]), tasks=6))
    found = computed(project)
    assert found["alpha"]["why"] == overview.NOT_TWICE
    (only,) = found["annotators"]
    assert (only["tau"]["value"], only["reliability"]) == (None, None)
    assert only["median_seconds"] == 60
    assert only["position"]["p"] is not None


def test_a_leaderboard_names_sources_best_first(project):
    strengths = np.random.default_rng(0).normal(size=(40, 4)) * 0.3 + np.array([0, 2, 1, -1])
    stored(project, simulate(crowd([0.5, 0.5]), tasks=40, strengths=strengths))
    found = computed(project, kind="leaderboard")
    assert [one["name"] for one in found["sources"]] == ["source 2", "source 3", "source 1", "source 4"]
    first, *_rest, last = found["sources"]
    assert (first["rank_low"], last["rank_high"], first["tasks"]) == (1, 4, 40)
    assert first["wins"] + first["losses"] + first["ties"] == 40 * 2 * 3
    assert found["matrix"][0][3]["wins"] + found["matrix"][3][0]["wins"] == found["matrix"][0][3]["n"] == 80
    assert found["connected"]


def test_a_leaderboard_by_a_criterion_counts_ratings(project):
    simulated = simulate(crowd([0.5, 0.5]), tasks=10)
    simulated.ratings["Clarity"] = np.pad(np.tile([2, 5, 1, 1], (20, 1)), ((0, 0), (0, 5))).astype(np.int8)
    stored(project, simulated)
    found = computed(project, kind="leaderboard", criterion="Clarity")
    assert [one["name"] for one in found["sources"]][:2] == ["source 2", "source 1"]
    assert found["note"] == ONE_SIDED
    assert found["sources"][0]["unbounded"] == "above"


def test_sources_that_never_met_are_not_ranked(project):
    simulated = stored(project, simulate(crowd([0.5]), tasks=10, size=2))
    other = Source.objects.create(project=project, name="elsewhere", kind="import")
    for task in RankingTask.objects.filter(pk__in=simulated.task_ids[5:].tolist()):
        task.completions.update(source=other)
    found = computed(project, kind="leaderboard")
    assert (found["connected"], found["why"]) == (False, APART)
    assert [len(group) for group in found["components"]] == [2, 1]
    assert {one["rating"]["value"] for one in found["sources"]} == {None}
    assert {one["rating"]["why"] for one in found["sources"]} == {APART}


def test_the_same_question_is_queued_once(project, alice):
    first = request_report(project=project, kind="quality", filters={"annotators": ["3", 2], "tag": ""}, user=alice)
    again = request_report(project=project, kind="quality", filters={"annotators": [2, 3]}, refresh=True)
    assert (first.pk, first.filters, first.created_by) == (again.pk, {"annotators": [2, 3]}, alice)
    assert request_report(project=project, kind="leaderboard", filters={"annotators": [2, 3]}).pk != first.pk


def test_a_report_holds_until_people_have_ranked_since(project):
    simulated = stored(project, simulate(crowd([0.5, 0.5]), tasks=4))
    report = built(request_report(project=project, kind="quality"))
    assert request_report(project=project, kind="quality").pk == report.pk
    age(project)
    Ranking.objects.filter(pk=simulated.ids[-1]).update(created_at=timezone.now())
    newer = request_report(project=project, kind="quality")
    assert newer.pk != report.pk
    assert latest_report(project=project, kind="quality") == report
    built(newer)
    assert list(project.quality_reports.values_list("pk", flat=True)) == [newer.pk]


@pytest.mark.django_db(transaction=True)
def test_a_report_that_stands_is_shown_while_an_import_holds_the_project(project):
    stored(project, simulate(crowd([0.5, 0.5]), tasks=4))
    report = built(request_report(project=project, kind="quality"))

    def ask():
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET lock_timeout = '2s'")
            return request_report(project=project, kind="quality").pk
        finally:
            connection.close()

    with transaction.atomic(), ThreadPoolExecutor(1) as thread:
        Project.objects.select_for_update(no_key=True).get(pk=project.pk)
        assert thread.submit(ask).result() == report.pk


def test_reports_of_other_questions_are_forgotten_after_a_month(project):
    for tag, days in (("maths", 29), ("physics", 31)):
        report = built(request_report(project=project, kind="quality", filters={"tag": tag}))
        QualityReport.objects.filter(pk=report.pk).update(finished_at=timezone.now() - timedelta(days=days))
    newest = built(request_report(project=project, kind="leaderboard"))
    assert [report.filters for report in project.quality_reports.order_by("pk")] == [{"tag": "maths"}, newest.filters]


def test_an_old_report_holds_while_nobody_ranks(project):
    stored(project, simulate(crowd([0.5, 0.5]), tasks=4))
    report = built(request_report(project=project, kind="quality"))
    Ranking.objects.update(created_at=timezone.now() - timedelta(days=9))
    age(project)
    assert request_report(project=project, kind="quality").pk == report.pk
    assert request_report(project=project, kind="quality", refresh=True).pk != report.pk


@pytest.mark.parametrize("filters", [{"colour": "red"}, {"since": "yesterday"}, {"annotators": ["everybody"]}])
def test_a_filter_that_cannot_be_read_is_refused(project, filters):
    with pytest.raises(ValueError, match=r"colour|yesterday|everybody"):
        request_report(project=project, kind="quality", filters=filters)


def test_a_report_that_fails_says_where_to_look_and_is_not_repeated_by_itself(project):
    report = QualityReport.objects.create(
        project=project, kind="quality", filters={"since": "garbage"}, as_of=timezone.now()
    )
    built(report)
    assert report.state == "failed"
    assert "the log has it as" in report.error
    assert "garbage" not in report.error


def test_a_cancelled_report_ends_as_cancelled(project):
    report = request_report(project=project, kind="quality")
    held = jobs.claim(QualityReport, report.pk)
    assert held is not None
    jobs.request_cancel(report)
    build_report(held)
    report.refresh_from_db()
    assert report.state == "cancelled"
    assert request_report(project=project, kind="quality").pk != report.pk


def test_the_reaper_gives_back_a_report_whose_worker_died(project):
    report = request_report(project=project, kind="quality")
    jobs.claim(QualityReport, report.pk)
    past = timezone.now() - timedelta(minutes=1)
    QualityReport.objects.filter(pk=report.pk).update(lease_until=past, queued_at=past)
    tasks.reap_jobs()
    assert built(report).state == "succeeded"


def test_whoever_left_keeps_their_place_in_the_figures(project):
    simulated = stored(project, simulate(crowd([0.5, 0.5]), tasks=4))
    Membership.objects.filter(pk=simulated.memberships[0]).update(left_at=timezone.now())
    assert computed(project)["counts"]["annotators"] == 2


def test_another_project_s_rankings_are_not_in_it(project, alice):
    stored(project, simulate(crowd([0.5, 0.5]), tasks=4))
    other = type(project).objects.create(slug=uuid.uuid4().hex, name="Other", created_by=alice)
    assert computed(other)["counts"]["rankings"] == 0
