"""The quality pages, over reports that the worker's own task has made of simulated people."""

import csv
import io
from datetime import timedelta
from urllib.parse import urlencode
from xml.etree import ElementTree

import numpy as np
import pytest
from django.urls import reverse
from django.utils import timezone

from annotate import tasks
from annotate.models import Membership, QualityReport, Ranking, Source
from tests.annotate.rows import rank
from tests.annotate.simulation import crowd, simulate, store
from tests.conftest import make_task, make_user, signed_in

pytestmark = pytest.mark.django_db

# Two careful people, one who puts A on top, one who leaves everything as it is shown.
NOISE, TOWARDS_A, STRAIGHT = [0.3, 0.4, 0.4, 0.4], [0, 0, 0.9, 0], [0, 0, 0, 0.9]
SVG = {"s": "http://www.w3.org/2000/svg"}


def build():
    for report in QualityReport.objects.filter(state="queued"):
        tasks.build_quality_report(report.pk)
        report.refresh_from_db()
        assert (report.state, report.error) == ("succeeded", "")


def page(user, project, name="quality", query="", **options):
    return signed_in(user).get(reverse(name, args=[project.slug]) + query, **options)


def built(user, project, name="quality", query=""):
    """The page once its report is there."""
    page(user, project, name, query)
    build()
    response = page(user, project, name, query)
    assert response.status_code == 200
    return text_of(response)


def text_of(response):
    """Its HTML, spaces that do not break like any others."""
    return response.content.decode().replace("\u00a0", " ")


def rows_of(response):
    return list(csv.DictReader(io.StringIO(b"".join(response).decode())))


@pytest.fixture
def ranked(project):
    rankings = simulate(crowd(NOISE, TOWARDS_A, STRAIGHT), tasks=24)
    rankings.seconds[rankings.annotator == 1] = 2.0
    rankings.created[:] *= 360  # so that they took 24 days
    store(rankings, project)
    return rankings


@pytest.fixture
def members(ranked, project):
    return list(Membership.objects.filter(user__username__startswith="person-").select_related("user").order_by("pk"))


def test_it_says_what_to_do_while_nothing_has_been_ranked(alice, project):
    for name in ("quality", "leaderboard"):
        html = page(alice, project, name).content.decode()
        assert "Nothing has been ranked yet" in html
    assert reverse("project_settings", args=[project.slug]) in page(alice, project).content.decode()
    assert not QualityReport.objects.exists()


def test_the_first_visit_asks_for_the_report_and_waits_for_it(rita, project, ranked):
    html = page(rita, project).content.decode()
    assert "The numbers are being worked out." in html
    assert 'hx-trigger="every 2s"' in html
    report = QualityReport.objects.get()
    assert (report.state, report.created_by) == ("queued", rita)
    fragment = page(rita, project, headers={"HX-Request": "true"})
    assert "HX-Refresh" not in fragment
    assert b"<html" not in fragment.content
    build()
    assert page(rita, project, headers={"HX-Request": "true"})["HX-Refresh"] == "true"
    assert "every 2s" not in page(rita, project).content.decode()
    assert QualityReport.objects.count() == 1


def test_a_report_that_failed_says_so_and_can_be_tried_again(alice, project, ranked):
    page(alice, project)
    QualityReport.objects.update(state="failed", error="The disk was full.")
    assert "could not be worked out. The disk was full." in page(alice, project).content.decode()
    signed_in(alice).post(reverse("quality", args=[project.slug]))
    assert "The numbers were" not in built(alice, project)


def test_every_part_is_drawn_named_and_backed_by_a_table(alice, project, ranked):
    html = built(alice, project)
    for title in (
        *("Krippendorff’s α", "Agreement over time", "Agreement of each two people", "How often each letter is on top"),
        *("How often the longer answer wins", "Pace", "Answers left in the order shown", "Tasks people disagree on"),
    ):
        assert title in html
    assert "style=" not in html
    start = html.index("<main")
    for drawn in html[start:].split("<figure")[1:]:
        assert 'role="img"' in drawn
        assert "<table" in drawn
    assert html.count("<svg") > html.count('role="img"') == 6  # the others are the bars in the annotators' table
    first = QualityReport.objects.get().results["disagreement"][0]["task"]
    assert reverse("task", args=[project.slug, first]) in html


def test_whoever_stands_out_does_so_in_words_with_the_rankings_a_click_away(alice, project, members):
    html = built(alice, project)
    start = html.index("Worth a look. None of it proves carelessness")
    remarks = html[start : html.index("<table", start)]
    assert "puts the answer shown first on top" in remarks
    assert "leaves the answers as they are shown" in remarks
    assert "ranks faster than anybody reads, in 100 %" in remarks
    assert "person-0" not in remarks
    assert f"list=as_shown&amp;annotator={members[3].pk}" in remarks


def test_researchers_see_pseudonyms_and_admins_names(alice, rita, project, members):
    for_admin, for_researcher = built(alice, project), built(rita, project)
    for member in members:
        assert member.user.username in for_admin
        assert member.user.username not in for_researcher
        assert member.pseudonym in for_researcher
    assert reverse("member_pause", args=[project.slug, members[0].pk]) in for_admin
    assert "member" not in for_researcher
    answer = page(rita, project, "quality_table", "?table=annotators")
    assert {row["annotator"] for row in rows_of(answer)} == {member.pseudonym for member in members}
    listed = page(rita, project, "quality_tasks", f"?list=all&annotator={members[0].pk}").content.decode()
    assert members[0].pseudonym in listed
    assert members[0].user.username not in listed


def test_a_refresh_takes_in_what_has_come_since(alice, project, ranked):
    built(alice, project)
    task = make_task(project)
    for member in project.memberships.filter(user__username__startswith="person-")[:2]:
        rank(task, member.user, [1, 2, 3, 4])
    assert "2 rankings have come since" in page(alice, project).content.decode()
    response = signed_in(alice).post(reverse("quality", args=[project.slug]))
    assert response.status_code == 302
    html = page(alice, project).content.decode()
    assert "worked out anew" in html
    assert "96 rankings" in html
    build()
    assert "98 rankings" in page(alice, project).content.decode()


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("?since=yesterday", "Enter a valid date/time."),
        ("?since=2026-02-01&until=2026-01-01", "Must be later"),
        ("?annotators=0", "Select a valid choice. 0 is not one"),
        ("?annotators=1%20OR%201", "is not one of the available choices"),
        ("?tag=nowhere", "has the tag “nowhere”"),
    ],
)
def test_it_names_the_filter_that_is_wrong(alice, bob, project, query, said):
    rank(make_task(project), bob, [1, 2, 3, 4])
    response = page(alice, project, query=query)
    assert response.status_code == 422
    assert said in response.content.decode()
    assert not QualityReport.objects.exists()


def test_filters_narrow_the_report_and_every_link_of_it(alice, project, members):
    one, other = members[0].pk, members[1].pk
    html = built(alice, project, query=f"?annotators={other}&annotators={one}")
    assert "48 rankings · 24 tasks · 2 annotators" in html
    assert "person-3</label>" in html.replace(" </label>", "</label>").replace("\n", "")
    assert f"annotators={one}&amp;annotators={other}&amp;list=all" in html
    assert QualityReport.objects.get().filters == {"annotators": sorted([one, other])}
    later = (timezone.now() + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M")
    assert "No ranking passes these filters" in built(alice, project, query=f"?since={later}")


def test_one_annotator_per_task_leads_to_the_overlap(alice, project):
    store(simulate(crowd([0.3, 0.4, 0.5]), tasks=9, overlap=1), project)
    html = built(alice, project)
    assert "No task was ranked by two people." in html
    assert "Raise the overlap (now 1) or the share of tasks that more people rank (now 0 %)" in html
    assert "How often each letter is on top" in html


def test_a_number_that_cannot_be_known_says_why(alice, project, ranked):
    stranger = make_user("solo")
    Membership.objects.create(project=project, user=stranger, role="annotator")
    rank(make_task(project), stranger, [1, 2, 3, 4])
    assert "Ranked no task that others have ranked" in built(alice, project)


def test_every_figure_is_a_file(rita, project, ranked):
    built(rita, project)
    for table in ("annotators", "pairs", "agreement", "position", "length", "pace", "straight"):
        answer = page(rita, project, "quality_table", f"?table={table}")
        assert answer["Content-Disposition"] == f'attachment; filename="tides-quality-{table}.csv"'
        assert len(rows_of(answer)) >= 2, table
        drawn = page(rita, project, "quality_table", f"?table={table}&format=svg").content
        figure = ElementTree.fromstring(drawn)  # noqa: S314 - our own
        assert figure.findtext("s:title", "", SVG), table
        assert figure.findtext("s:desc", "", SVG), table


def test_a_file_that_is_not_there_is_not_found(rita, project, ranked):
    assert page(rita, project, "quality_table", "?table=annotators").status_code == 404
    built(rita, project)
    for query in ("", "?table=secrets", "?table=disagreement&format=svg", "?table=annotators&annotators=0"):
        assert page(rita, project, "quality_table", query).status_code == 404, query


def listed(user, project, **query):
    return text_of(page(user, project, "quality_tasks", f"?{urlencode(query)}"))


def test_the_rankings_behind_a_number_are_those_and_no_others(alice, project, members, ranked):
    built(alice, project)
    last = members[3]
    as_shown = np.array([(np.diff(row[np.argsort(place)]) >= 0).all() for row, place in orders_of(ranked, 3)])
    html = listed(alice, project, list="as_shown", annotator=last.pk)
    assert f"{as_shown.sum()} rankings" in html
    assert html.count("A &gt; B &gt; C &gt; D") == as_shown.sum()
    html = listed(alice, project, list="first", annotator=members[2].pk)
    on_top = sum(row[np.argmin(place)] == 1 for row, place in orders_of(ranked, 2))
    assert f"{on_top} rankings" in html
    assert "24 rankings" in listed(alice, project, list="too_fast", annotator=members[1].pk)
    html = listed(alice, project, list="pair", annotator=members[0].pk, other=members[1].pk)
    assert "48 rankings" in html
    assert "Page 1" not in html
    html = listed(alice, project, list="all")
    assert "96 rankings" in html
    assert "Page 1 of 2" in html
    assert "annotator=&" not in html
    first = Ranking.objects.latest("created_at")
    assert reverse("task", args=[project.slug, first.task_id]) in html


def orders_of(rankings, annotator):
    mine = rankings.annotator == annotator
    return [(row[:4], place[:4]) for row, place in zip(rankings.ranks[mine], rankings.shown[mine], strict=True)]


def test_all_bad_and_gold_have_lists_of_their_own(alice, bob, project, ranked):
    task = make_task(project, "Bad?")
    rank(task, bob, [1, 1, 1, 1], verdict="all_bad")
    gold = make_task(project, "Gold?")
    gold.purpose = "gold"
    gold.save()
    rank(gold, bob, [2, 1, 3, 4], accuracy=0.75)
    html = listed(alice, project, list="all_bad")
    assert "Bad?" in html
    assert "1 ranking<" in html
    for kind in ("gold", "gold_wrong"):
        html = listed(alice, project, list=kind)
        assert "Gold?" in html
        assert "75 %" in html
    assert "Gold?" not in listed(alice, project, list="all")


def test_a_list_that_is_none_is_refused(alice, project, ranked):
    strange = Membership.objects.create(
        project=type(project).objects.create(slug="other", name="Other", created_by=alice),
        user=make_user("elsewhere"),
        role="annotator",
    )
    for query in ("", "?list=secrets", f"?list=all&annotator={strange.pk}", "?list=all&annotator=x"):
        response = page(alice, project, "quality_tasks", query)
        assert response.status_code == 422, query
        assert "names no list of rankings" in response.content.decode()
    assert page(alice, project, "quality_tasks", "?list=as_shown").status_code == 404
    assert page(alice, project, "quality_tasks", "?list=pair").status_code == 404


def test_many_annotators_are_compared_in_a_table_instead_of_a_matrix(alice, project):
    store(simulate(crowd(np.full(31, 0.5)), tasks=2, overlap=31), project)
    html = built(alice, project)
    start = html.index('id="figure-pairs"')
    figure = html[start : html.index("</figure>", start)]
    assert "<svg" not in figure
    assert "365 more lines are in the CSV file" in figure
    shares = [float(row["tau"]) for row in rows_of(page(alice, project, "quality_table", "?table=pairs"))]
    assert len(shares) == 465
    assert shares == sorted(shares)


def test_the_leaderboard_puts_the_stronger_source_first_with_its_uncertainty(rita, project):
    strengths = np.tile([0.0, 1.5, -1.5], (30, 1))
    store(simulate(crowd([0.5, 0.5]), tasks=30, size=3, strengths=strengths), project)
    Source.objects.filter(name="source 2").update(name="=2+3")
    html = built(rita, project, "leaderboard")
    assert html.index("=2+3") < html.index("source 1") < html.index("source 3")
    assert "=2+3 is best, beyond chance." in html
    assert "Who won against whom" in html
    rows = rows_of(page(rita, project, "leaderboard_table", "?table=standings"))
    assert [row["source"] for row in rows] == ["'=2+3", "source 1", "source 3"]
    assert float(rows[0]["rating_low"]) > float(rows[1]["rating_high"])
    assert rows[0]["rank"] == "1"
    drawn = page(rita, project, "leaderboard_table", "?table=matrix&format=svg")
    assert drawn["Content-Type"] == "image/svg+xml"
    assert "=2+3" in drawn.content.decode()


def test_sources_that_were_never_compared_are_not_ranked(alice, bob, project):
    for names in (("red", "blue"), ("green", "white")):
        for question in range(3):
            task = make_task(project, f"{names[0]} {question}?", ["one", "two"])
            for name, completion in zip(names, task.completions.order_by("pk"), strict=True):
                completion.source = Source.objects.get_or_create(
                    project=project, name=name, defaults={"kind": Source.Kind.IMPORT}
                )[0]
                completion.save()
            rank(task, bob, [1, 2])
    html = built(alice, project, "leaderboard")
    assert "These sources cannot be ranked together" in html
    groups = html[html.index("These groups stand apart") :]
    assert "<li>red, blue</li>" in groups
    assert "<li>green, white</li>" in groups
    assert "Add tasks that show answers from two groups side by side" in groups
    assert "is best" not in html
    rows = rows_of(page(alice, project, "leaderboard_table", "?table=standings"))
    assert {row["rating"] for row in rows} == {""}


def test_a_leaderboard_of_one_source_says_what_it_needs(alice, bob, project):
    rank(make_task(project), bob, [1, 2, 3, 4])
    html = built(alice, project, "leaderboard")
    assert "No two sources were compared" in html
    assert page(alice, project, "leaderboard", "?criterion=Beauty").status_code == 422


def test_the_leaderboard_goes_by_a_criterion_s_ratings(alice, bob, project):
    project.criteria = ["Clarity"]
    project.save()
    store(simulate(crowd([0.3, 0.3]), tasks=6, size=2), project)
    for ranking in Ranking.objects.all():
        for ranked in ranking.ranked_completions.select_related("completion__source"):
            ranked.ratings = {"Clarity": 5 if ranked.completion.source.name == "source 2" else 2}
            ranked.save()
    html = built(alice, project, "leaderboard", "?criterion=Clarity")
    assert "By the ratings for “Clarity”" in html
    assert "source 2 won every comparison" in html
