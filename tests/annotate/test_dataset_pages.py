"""Dataset versions as researchers look at them: rows, figures, filters, differences, tags, origins."""

import csv
import io
import json
from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone
from kombu.exceptions import OperationalError as BrokerAway

from annotate.formats.versions.frozen import frozen
from annotate.models import AuditEvent, Completion, DatasetVersion, RankedCompletion, Ranking
from annotate.services.datasets import Filters
from annotate.tasks import compare_versions
from tests.annotate.rows import build, demonstrate, rank
from tests.conftest import make_task, make_user, signed_in

MINUTES = timedelta(minutes=1)


def url(name, *args):
    return reverse(name, args=["tides", *args])


def open_page(user, name, *args, **query):
    page = signed_in(user).get(url(name, *args), query)
    assert page.status_code == 200, page.content.decode()
    return page


def at(ranking, moment):
    Ranking.objects.filter(pk=ranking.pk).update(created_at=moment)
    return ranking


def test_rows_are_shown_as_people_saw_them_the_best_first(project, bob, rita):
    task = make_task(project, "Is **this** safe?", ["<script>alert(1)</script>", "Second", "Third"])
    Completion.objects.filter(text="Second").update(reasoning="First I think.")
    ranking = rank(task, bob, [3, 1, 1], reasons=["clearer"], comment="Close.")
    RankedCompletion.objects.filter(ranking=ranking, rank=3).update(ratings={"Clarity": 2})
    rank(make_task(project, "Other?", ["Yes", "No"]), bob, [1, 1], verdict="all_bad")
    demonstrate(project, bob, "Ideal?", "An ideal answer.")
    build(project, rita)
    page = open_page(rita, "dataset_rows", 1)
    rows = {row["key"]: row for row in page.context["rows"]}
    answers = rows[ranking.uid.hex]["answers"]
    assert [(one["place"], one["is_tie"]) for one in answers] == [(1, True), (1, True), (3, False)]
    html = page.content.decode()
    for shown in ("<strong>this</strong>", "First I think.", "clearer", "Close.", "Clarity: 2", "All bad"):
        assert shown in html
    assert "<script>alert" not in html
    assert "bob" not in html
    assert "An ideal answer." in open_page(rita, "dataset_rows", 1, kind="answers").content.decode()


def test_any_page_of_either_side_is_read_alone(project, bob, rita, monkeypatch):
    for number in range(23):
        rank(make_task(project, f"Question {number}?", ["Yes", "No"]), bob, [1, 2])
    monkeypatch.setattr("annotate.formats.versions.freezing.CHUNK", 4)
    version = build(project, rita, test_fraction=0.4)
    with frozen(version, "rankings.parquet") as file:
        assert len(file.begins) == 7
        whole = list(file.at(range(23)))
        uids = [row["ranking"] for row in whole]
        assert file.find([*uids[::5], "f" * 32, "0" * 32]) == {uid: uids.index(uid) for uid in uids[::5]}
    for split in ("all", "train", "test"):
        wanted = [row["ranking"] for row in whole if split in ("all", row["split"])]
        shown = []
        for number in range(1, 4):
            page = open_page(rita, "dataset_rows", 1, split=split, page=number)
            if page.context["page"].number == number:
                shown += [row["key"] for row in page.context["rows"]]
        assert shown == wanted
    assert open_page(rita, "dataset_rows", 1, page="99999999999999999999").context["page"].number == 3


def test_each_filter_says_what_it_dropped_and_left(project, bob, rita):
    for number, seconds in enumerate((1, 20, 30)):
        rank(make_task(project, f"Question {number}?"), bob, [1, 2, 3, 4], seconds=seconds)
    version = build(project, rita, filters=Filters(min_seconds=5, tags=()))
    page = open_page(rita, "dataset", 1)
    told = [(step["label"], step["value"], step["dropped"], step["left"]) for step in page.context["steps"]]
    assert told == [("Shortest time", "5", 1, 2)]
    assert page.context["total"] == 3
    # As versions of before have it.
    counts = {**version.counts, "dropped": {"min_seconds": 1}}
    counts.pop("steps")
    DatasetVersion.objects.update(counts=counts, statistics={})
    older = open_page(rita, "dataset", 1)
    assert [(step["label"], step["dropped"], step["left"]) for step in older.context["steps"]] == [
        ("Shortest time", 1, 2)
    ]
    assert "built before statistics were kept" in older.content.decode()


def test_figures_are_drawn_and_downloaded(project, alice, bob, rita):
    for number in range(4):
        task = make_task(project, f"Question {number}?", ["short", "a much longer answer", "middling"])
        rank(task, bob, [3, 1, 2])
        rank(task, alice, [3, 1, 1])
    build(project, rita)
    page = open_page(rita, "dataset", 1)
    keys = [figure.key for figure in page.context["figures"]]
    assert {"length", "sources", "agreement", "sizes"} <= set(keys)
    for key in keys:
        table = signed_in(rita).get(url("dataset_table", 1), {"table": key})
        assert len(list(csv.reader(io.StringIO(b"".join(table).decode())))) > 1
    drawing = signed_in(rita).get(url("dataset_table", 1), {"table": "length", "format": "svg"})
    assert drawing.content.startswith(b"<svg")
    assert signed_in(rita).get(url("dataset_table", 1), {"table": "moon"}).status_code == 404
    assert page.context["rates"] == {"ties": "16.7\u00a0%", "all_bad": "0.0\u00a0%"}
    lineage = page.context["lineage"]
    assert sorted(one["rankings"] for one in lineage["annotators"]) == [4, 4]
    assert lineage["prompts"] == 4


@pytest.fixture
def two_versions(project, bob, rita):
    """v1 of three rankings; v2 lacks one that was revised and one that was too fast, and has a later one."""
    now = timezone.now()
    tasks = [make_task(project, f"Question {number}?", ["Yes", "No"]) for number in range(4)]
    kept, revised, fast = [at(rank(task, bob, [1, 2]), now - 10 * MINUTES) for task in tasks[:3]]
    Ranking.objects.filter(pk=fast.pk).update(seconds=1)
    build(project, rita, as_of=now - 5 * MINUTES, test_fraction=0)
    Ranking.objects.filter(pk=revised.pk).update(is_current=False, withdrawn_at=now - 4 * MINUTES)
    later = at(rank(tasks[3], bob, [2, 1]), now - 3 * MINUTES)
    demonstrate(project, bob, "Question 0?", "Better.")
    build(project, rita, filters=Filters(min_seconds=5, ideal_on_top=True), test_fraction=0)
    return {"kept": kept, "revised": revised, "fast": fast, "later": later}


def reasons(summary):
    return {
        change: {reason: found["count"] for reason, found in summary[change]["reasons"].items()}
        for change in ("removed", "added", "changed")
    }


def test_what_a_version_has_otherwise_is_told_with_the_reason(two_versions, rita):
    page = open_page(rita, "dataset_diff", 1, 2)
    summary = page.context["summary"]
    assert reasons(summary) == {
        "removed": {"withdrawn": 1, "min_seconds": 1},
        "added": {"later": 1},
        "changed": {"completions": 1, "ranks": 1, "ratings": 1},
    }
    assert summary["demonstrations"] == {"same": 0, "added": 1, "removed": 0}
    html = page.content.decode()
    for words in ("Revised or taken back by the moment of v2", "Dropped in v2 by “Shortest time”", "Question 3?"):
        assert words in html
    assert "Ideal answers on top" in [label for label, *_values in page.context["settings"]]
    lines = b"".join(signed_in(rita).get(url("dataset_diff_rows", 1, 2))).decode()
    found = {row["ranking"]: (row["change"], row["reasons"]) for row in csv.DictReader(io.StringIO(lines))}
    assert found == {
        two_versions["revised"].uid.hex: ("removed", "withdrawn"),
        two_versions["fast"].uid.hex: ("removed", "min_seconds"),
        two_versions["later"].uid.hex: ("added", "later"),
        two_versions["kept"].uid.hex: ("changed", "completions ranks ratings"),
    }
    whole = b"".join(signed_in(rita).get(url("dataset_diff_rows", 1, 2), {"format": "jsonl"}))
    assert sorted(found) == [json.loads(line)["ranking"] for line in whole.splitlines()]


def test_the_other_way_round_it_is_the_reverse(two_versions, rita):
    assert reasons(open_page(rita, "dataset_diff", 2, 1).context["summary"]) == {
        "removed": {"later": 1},
        "added": {"withdrawn": 1, "min_seconds": 1},
        "changed": {"completions": 1, "ranks": 1, "ratings": 1},
    }


def test_row_groups_that_lie_otherwise_are_no_difference(project, bob, rita, monkeypatch):
    for number in range(17):
        rank(make_task(project, f"Question {number}?", ["Yes", "No"]), bob, [1, 2])
    build(project, rita)
    monkeypatch.setattr("annotate.formats.versions.freezing.CHUNK", 3)
    build(project, rita, test_fraction=0.5)
    summary = open_page(rita, "dataset_diff", 1, 2).context["summary"]
    with frozen(DatasetVersion.objects.get(number=2), "rankings.parquet") as file:
        moved = [row["ranking"] for row in file.at(range(17)) if row["split"] == "test"]
    assert 0 < summary["changed"]["count"] <= len(moved)
    assert summary["same"] + summary["changed"]["count"] == 17
    assert set(reasons(summary)["changed"]) == {"split"}


def test_consensus_is_told_apart_from_what_was_deleted(project, alice, bob, rita):
    task = make_task(project, texts=["Yes", "No"])
    rank(task, bob, [1, 2])
    gone = rank(make_task(project, "Gone?", ["Yes", "No"]), bob, [1, 2])
    rank(task, alice, [1, 2])
    build(project, rita)
    gone.delete()
    build(project, rita, filters=Filters(decisions="consensus"))
    assert reasons(open_page(rita, "dataset_diff", 1, 2).context["summary"]) == {
        "removed": {"merged": 2, "deleted": 1},
        "added": {"consensus": 1},
        "changed": {},
    }


def test_large_versions_are_compared_by_a_worker(two_versions, rita, monkeypatch):
    monkeypatch.setattr("annotate.services.comparisons.AT_ONCE_ROWS", 0)

    def is_away(*args):
        raise BrokerAway("no such socket")

    monkeypatch.setattr(compare_versions, "delay", is_away)
    assert 'hx-trigger="every 2s"' in open_page(rita, "dataset_diff", 1, 2).content.decode()
    asked = []
    monkeypatch.setattr(compare_versions, "delay", lambda *args: asked.append(args))
    for _again in range(2):
        page = open_page(rita, "dataset_diff", 1, 2)
        assert 'hx-trigger="every 2s"' in page.content.decode()
    ((pk, base),) = asked
    compare_versions(pk, base)
    fragment = signed_in(rita).get(url("dataset_diff", 1, 2), headers={"HX-Request": "true"})
    assert fragment.headers["HX-Refresh"] == "true"
    assert open_page(rita, "dataset_diff", 1, 2).context["summary"]["removed"]["count"] == 2


def test_a_comparison_that_fails_says_so(two_versions, rita, storage, monkeypatch):
    monkeypatch.setattr("annotate.services.comparisons.AT_ONCE_ROWS", 0)
    monkeypatch.setattr(compare_versions, "delay", lambda *args: compare_versions(*args))
    (storage / DatasetVersion.objects.get(number=1).folder / "rankings.parquet").write_bytes(b"no Parquet")
    assert "could not be worked out" in open_page(rita, "dataset_diff", 1, 2).content.decode()


def test_what_cannot_be_compared_is_refused_in_words(two_versions, project, rita, storage):
    client = signed_in(rita)
    assert "differs in nothing from itself" in client.get(url("dataset_diff", 1, 1)).content.decode()
    assert client.get(url("dataset_diff", 1, 7)).status_code == 404
    assert client.get(url("dataset_diff_rows", 1, 2)).status_code == 404
    assert client.get(url("dataset_compare", 2), {"other": "7"}).status_code == 422
    chosen = client.get(url("dataset_compare", 2), {"other": "1"})
    assert chosen.headers["Location"] == url("dataset_diff", 1, 2)
    (storage / DatasetVersion.objects.get(number=1).folder / "rankings.parquet").unlink()
    for name, args in (("dataset_diff", (1, 2)), ("dataset_rows", (1,)), ("dataset", (1,))):
        assert "not on the storage" in open_page(rita, name, *args).content.decode()


def test_a_tag_is_moved_once_that_was_confirmed(two_versions, project, rita):
    client = signed_in(rita)
    assert client.post(url("dataset_name", 1), {"note": "First", "tag": "stable"}).status_code == 302
    for _again in range(2):
        asked = client.post(url("dataset_name", 2), {"note": "Second", "tag": "stable"})
        assert asked.status_code == 409
        assert "Version 1 (First) has the tag “stable”" in asked.content.decode()

    def tags():
        return list(project.dataset_versions.order_by("number").values_list("tag", flat=True))

    assert tags() == ["stable", ""]
    for _again in range(2):
        done = client.post(url("dataset_name", 2), {"note": "Second", "tag": "stable", "moves": "on"})
        assert done.status_code == 302
    assert tags() == ["", "stable"]
    assert client.get(url("dataset_tagged", "stable")).headers["Location"] == url("dataset", 2)
    for wrong in ("other", "a/b", "\0"):
        assert client.get(url("dataset_tagged", wrong)).status_code == 404
    assert not open_page(rita, "datasets", tag="\0").context["page"].object_list
    (listed,) = open_page(rita, "datasets", tag="stable").context["page"]
    assert listed.number == 2
    client.post(url("dataset_name", 2), {"note": "Second", "tag": ""})
    assert tags() == ["", ""]
    told = AuditEvent.objects.filter(verb__startswith="dataset.", target="dataset:2").order_by("pk")
    assert [event.verb for event in told][-3:] == ["dataset.noted", "dataset.tagged", "dataset.untagged"]


def test_a_tag_that_could_not_stand_in_an_address_is_refused(project, bob, rita):
    rank(make_task(project), bob, [1, 2, 3, 4])
    build(project, rita)
    for tag in ("two words", "a/b", "-first", "ä", "x" * 61):
        answer = signed_in(rita).post(url("dataset_name", 1), {"note": "", "tag": tag})
        assert answer.status_code == 422
        assert "errorlist" in answer.content.decode()
    assert not project.dataset_versions.exclude(tag="").exists()


def test_many_annotators_are_cut_on_the_page(project, rita):
    task = make_task(project, texts=["Yes", "No"])
    for number in range(3):
        rank(task, make_user(f"person{number}"), [1, 2])
    version = build(project, rita)
    many = [{"annotator": f"a{number}", "role": "annotator", "rankings": number} for number in range(60)]
    DatasetVersion.objects.filter(pk=version.pk).update(statistics={**version.statistics, "annotators": many})
    page = open_page(rita, "dataset", 1)
    assert (len(page.context["lineage"]["annotators"]), page.context["lineage"]["more_annotators"]) == (50, 10)
    assert "10 more are in the API’s answer." in page.content.decode()


def test_a_task_knows_which_versions_hold_its_rankings(two_versions, rita, storage):
    def told(ranking):
        page = open_page(rita, "task_versions", ranking.task_id)
        return [(version.number, count) for version, count in page.context["holding"]]

    assert told(two_versions["kept"]) == [(2, 1), (1, 1)]
    assert told(two_versions["fast"]) == told(two_versions["revised"]) == [(1, 1)]
    assert (
        url("task_versions", two_versions["kept"].task_id)
        in open_page(rita, "task", two_versions["kept"].task_id).content.decode()
    )
    (storage / DatasetVersion.objects.get(number=2).folder / "rankings.parquet").unlink()
    assert told(two_versions["later"]) == []
