"""Dataset versions: what they freeze, that they never change, and their page."""

import io
import json
from datetime import UTC, datetime, timedelta

import pyarrow.parquet as pq
import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError
from django.db.models.functions import Repeat
from django.urls import reverse
from django.utils import timezone
from psycopg.errors import DiskFull

from annotate import jobs
from annotate.models import (
    Completion,
    DatasetVersion,
    Membership,
    Prompt,
    RankedCompletion,
    Ranking,
)
from annotate.services.datasets import Filters, create_version, verify
from annotate.services.rankings import undo_last
from annotate.tasks import build_dataset_version
from tests.annotate.rows import build, demonstrate, files_of, rank, rankings_of
from tests.conftest import make_task, make_user, signed_in


def test_a_version_holds_each_ranking_whole(project, bob, storage):
    task = make_task(project)
    ranking = rank(task, bob, [2, 1, 3, 2], reasons=["clearer"], comment="Close.")
    RankedCompletion.objects.filter(ranking=ranking, rank=1).update(ratings={"Quality": 5, "Clarity": 2})
    version = build(project, bob, note="First")
    assert (version.state, version.error, version.number) == ("succeeded", "", 1)
    (row,) = rankings_of(version, storage)
    pseudonym = Membership.objects.get(user=bob).pseudonym
    # In the order of their content, which tells nothing of when they came.
    stored = list(task.completions.order_by("content_hash"))
    numbers = [int(completion.text.removesuffix(".")[-1]) for completion in stored]
    assert sorted(numbers) == [1, 2, 3, 4]
    assert row == {
        "ranking": ranking.uid.hex,
        "prompt_id": task.prompt.content_hash,
        "prompt": [{"role": "user", "content": "Why is the sky blue?"}],
        "completions": [
            {"completion": f"Why is the sky blue? Answer {number}.", "reasoning": "", "source": "imported"}
            for number in numbers
        ],
        "ranks": [[2, 1, 3, 2][number - 1] for number in numbers],
        "ratings": [
            [{"criterion": "Clarity", "rating": 2}, {"criterion": "Quality", "rating": 5}] if number == 2 else []
            for number in numbers
        ],
        "verdict": "ranked",
        "annotator": pseudonym,
        "role": "annotator",
        "weight": 1.0,
        "reasons": ["clearer"],
        "comment": "Close.",
        "seconds": 30.0,
        "created": ranking.created_at,
        "split": row["split"],
    }
    counts = version.counts
    assert (counts["rankings"], counts["pairs"], counts["ties"], counts["all_bad"]) == (1, 5, 1, 0)
    assert verify(version)


def test_all_bad_has_no_order_and_no_pairs(project, bob, storage):
    rank(make_task(project), bob, [1, 1, 1, 1], verdict="all_bad")
    version = build(project, bob)
    assert rankings_of(version, storage)[0]["ranks"] == [1, 1, 1, 1]
    assert (version.counts["all_bad"], version.counts["pairs"], version.counts["ties"]) == (1, 0, 0)


def test_the_same_input_gives_the_same_bytes_whatever_happened_since(project, bob, storage):
    for number in range(20):
        rank(make_task(project, f"Question {number}?"), bob, [1, 2, 3, 4])
    demonstration = demonstrate(project, bob, "Question 1?", "An ideal answer.")
    first = build(project, bob)
    before = files_of(first, storage)

    last = Ranking.objects.current().latest("created_at")
    undo_last(membership=Membership.objects.get(user=bob), token=last.token)
    demonstration.withdrawn_at = timezone.now()
    demonstration.save()
    rank(make_task(project, "A later question?"), bob, [4, 3, 2, 1])
    second = build(project, bob)
    same = build(project, bob, as_of=first.as_of)

    assert files_of(first, storage) == before == files_of(same, storage)
    assert same.content_hash == first.content_hash != second.content_hash
    assert verify(first)
    assert verify(second)
    assert (second.counts["rankings"], second.counts["demonstrations"]) == (20, 0)


def test_long_rows_make_small_row_groups_that_hold_every_row_once(project, bob, storage, monkeypatch):
    for number in range(6):
        rank(make_task(project, question=f"Question {number}?"), bob, [1, 2, 3, 4])
    for number in range(3):
        demonstrate(project, bob, f"Question {number}?", f"{number}" * 40_000)
    whole = build(project, bob)
    Completion.objects.filter(demonstration=None).update(text=Repeat("text", 10_000))
    monkeypatch.setattr("annotate.formats.versions.freezing.CHUNK_BYTES", 100_000)
    version = build(project, bob)
    assert [one["ranking"] for one in rankings_of(version, storage)] == [
        one["ranking"] for one in rankings_of(whole, storage)
    ]
    for name, fewest in (("rankings", 6), ("demonstrations", 2)):
        metadata = pq.read_metadata(storage / version.folder / f"{name}.parquet")
        assert metadata.num_row_groups >= fewest
    assert files_of(build(project, bob), storage) == files_of(version, storage)


def test_deleting_rankings_leaves_versions_as_they_are(project, bob, storage):
    rank(make_task(project), bob, [1, 2, 3, 4])
    version = build(project, bob)
    before = files_of(version, storage)
    Ranking.objects.all().delete()
    Membership.objects.filter(user=bob).delete()
    assert files_of(version, storage) == before
    assert verify(version)


def test_verify_notices_a_changed_or_missing_file(project, bob, storage):
    rank(make_task(project), bob, [1, 2, 3, 4])
    version = build(project, bob)
    path = storage / version.folder / "rankings.parquet"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"x")
    assert not verify(version)
    path.unlink()
    assert not verify(version)
    build(project, bob, as_of=version.as_of)
    assert verify(version)


def test_a_prompt_is_never_on_both_sides_and_keeps_its_side(project, alice, bob, storage):
    for number in range(200):
        task = make_task(project, f"Question {number}?", ["Yes", "No"])
        rank(task, bob, [1, 2])
        rank(task, alice, [2, 1])
    version = build(project, bob, test_fraction=0.2)
    sides: dict[str, set[str]] = {}
    for row in rankings_of(version, storage):
        sides.setdefault(row["prompt_id"], set()).add(row["split"])
    assert all(len(side) == 1 for side in sides.values())
    assert version.counts["train"] + version.counts["test"] == 400
    assert 40 <= version.counts["test"] <= 120
    larger = build(project, bob, test_fraction=0.5)
    test_prompts = {row["prompt_id"] for row in rankings_of(version, storage) if row["split"] == "test"}
    assert test_prompts < {row["prompt_id"] for row in rankings_of(larger, storage) if row["split"] == "test"}
    assert build(project, bob, test_fraction=0).counts["test"] == 0


def test_each_filter_counts_what_it_dropped(project, alice, bob):
    carol = make_user("carol")
    excluded = Membership.objects.create(project=project, user=carol, role="annotator").pseudonym
    tasks = [make_task(project, f"Question {number}?", ["Yes", "No"]) for number in range(4)]
    Prompt.objects.exclude(pk=tasks[3].prompt_id).update(tags=["maths"])
    rank(tasks[0], bob, [1, 2])
    rank(tasks[0], alice, [1, 2])
    rank(tasks[0], carol, [1, 2])
    rank(tasks[1], bob, [1, 2], seconds=1)
    rank(tasks[1], alice, [1, 1], verdict="all_bad")
    rank(tasks[2], bob, [1, 2])
    rank(tasks[3], bob, [1, 2])
    old = rank(tasks[2], alice, [1, 2])
    Ranking.objects.filter(pk=old.pk).update(created_at=datetime(2020, 1, 1, tzinfo=UTC))
    version = build(
        project,
        bob,
        filters=Filters(
            since=timezone.now() - timedelta(days=1),
            until=timezone.now() + timedelta(days=1),
            exclude_annotators=(excluded,),
            min_seconds=2,
            exclude_all_bad=True,
            tags=("maths", "physics"),
            min_rankings=2,
        ),
    )
    assert version.counts["rankings"] == 2
    assert version.counts["dropped"] == {
        "since": 1,
        "exclude_annotators": 1,
        "min_seconds": 1,
        "exclude_all_bad": 1,
        "tags": 1,
        "min_rankings": 1,
    }


def test_everybody_who_has_ranked_can_be_left_out(project, bob, rita, charlie):
    """Whatever became of them since."""
    former = Membership.objects.create(project=project, user=charlie, role="annotator")
    task = make_task(project)
    rank(task, bob, [1, 2, 3, 4])
    rank(task, charlie, [1, 2, 3, 4])
    Membership.objects.filter(user=bob).update(role="researcher")
    Membership.objects.filter(user=charlie).update(left_at=timezone.now())
    page = signed_in(rita).get(reverse("datasets", args=[project.slug]))
    offered = [value for value, _ in page.context["form"].fields["exclude_annotators"].choices]
    assert sorted(offered) == sorted([former.pseudonym, Membership.objects.get(user=bob).pseudonym])


def test_filters_survive_their_json():
    filters = Filters(since=datetime(2025, 1, 1, tzinfo=UTC), exclude_annotators=("a",), min_seconds=2.5, tags=("x",))
    assert Filters.from_json(json.loads(json.dumps(filters.to_json()))) == filters
    with pytest.raises(ValueError, match="unknown filters: order_by"):
        Filters.from_json({"order_by": "password"})


def test_who_left_keeps_one_pseudonym_and_no_name(project, alice, bob, storage):
    for number in range(2):
        rank(make_task(project, f"Question {number}?"), bob, [1, 2, 3, 4])
    Membership.objects.filter(user=bob).delete()
    names = {row["annotator"] for row in rankings_of(build(project, alice), storage)}
    assert len(names) == 1
    assert "bob" not in names.pop()


def test_nothing_to_freeze_fails_and_says_why(project, bob):
    empty = build(project, bob)
    assert empty.state == "failed"
    assert "no rankings yet" in empty.error
    rank(make_task(project), bob, [1, 2, 3, 4], seconds=1)
    strict = build(project, bob, filters=Filters(min_seconds=5))
    assert strict.state == "failed"
    assert "min_seconds: 1" in strict.error


def test_a_full_disk_fails_the_version_in_words(project, bob, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    rank(make_task(project), bob, [1, 2, 3, 4])
    monkeypatch.setattr("annotate.services.datasets._store", full)
    version = build(project, bob)
    assert version.state == "failed"
    assert "The disk is full" in version.error


def test_a_full_disk_of_the_database_fails_the_version_in_words(project, bob, monkeypatch):
    rank(make_task(project), bob, [1, 2, 3, 4])

    def full(*args):
        raise OperationalError("could not write") from DiskFull("No space left on device")

    monkeypatch.setattr("annotate.formats.versions.freezing.freeze", full)
    version = build(project, bob)
    assert version.state == "failed"
    assert "The disk of the database is full" in version.error


def test_cancel_stops_a_build_and_leaves_no_files(project, bob, storage, monkeypatch):
    rank(make_task(project), bob, [1, 2, 3, 4])
    version = create_version(project=project, user=bob)
    real = jobs.beat

    def cancelled_meanwhile(job, **changes):
        jobs.request_cancel(version)
        real(job, **changes)

    monkeypatch.setattr(jobs, "beat", cancelled_meanwhile)
    build_dataset_version(version.pk)
    version.refresh_from_db()
    assert version.state == "cancelled"
    assert not list(storage.rglob("*.parquet"))


def test_versions_are_numbered_per_project(project, bob):
    rank(make_task(project), bob, [1, 2, 3, 4])
    assert [build(project, bob).number for _ in range(3)] == [1, 2, 3]


def test_a_researcher_builds_a_version_on_the_page(project, bob, rita):
    rank(make_task(project, "Is <b>this</b> safe?"), bob, [1, 2, 3, 4])
    client = signed_in(rita)
    url = reverse("datasets", args=[project.slug])
    assert "No version yet" in client.get(url, {"from": "9" * 5000}).content.decode()
    response = client.post(url, {"note": "Weekly", "test_fraction": "0.2", "min_seconds": "1", "min_rankings": "1"})
    assert response.status_code == 302, response.content.decode()
    address = reverse("dataset", args=[project.slug, 1])
    assert response.headers["Location"] == address
    page = client.get(address)
    assert 'hx-trigger="every 2s"' in page.content.decode()
    version = DatasetVersion.objects.get()
    assert (version.test_fraction, version.created_by, version.filters["min_seconds"]) == (0.2, rita, 1)
    build_dataset_version(version.pk)
    fragment = client.get(address, headers={"HX-Request": "true"})
    assert fragment.headers["HX-Refresh"] == "true"
    html = client.get(address).content.decode()
    version.refresh_from_db()
    assert version.content_hash in html
    assert "Is &lt;b&gt;this&lt;/b&gt; safe?" in html
    assert "tides-v1-preference-train.jsonl" in html
    assert "Shortest time" in html
    assert "bob" not in html
    assert "Weekly" in client.get(url).content.decode()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("test_fraction", "0.6"),
        ("test_fraction", "nan"),
        ("min_seconds", "-1"),
        ("since", "yesterday"),
        ("since", "0001-01-01T00:00+14:00"),
        ("as_of", "1969-12-31T23:59"),
        ("as_of", "2999-01-01T00:00"),
        ("exclude_annotators", "bob"),
    ],
)
def test_the_form_refuses_impossible_values(project, rita, field, value):
    data = {"test_fraction": "0.1", field: value}
    response = signed_in(rita).post(reverse("datasets", args=[project.slug]), data)
    assert response.status_code == 422
    assert "errorlist" in response.content.decode()
    assert not DatasetVersion.objects.exists()


@pytest.mark.parametrize(("person", "status"), [("alice", 200), ("bob", 403), ("rita", 200), ("charlie", 404)])
def test_researchers_and_admins_see_datasets(request, project, alice, bob, person, status):
    rank(make_task(project), bob, [1, 2, 3, 4])
    version = build(project, alice)
    client = signed_in(request.getfixturevalue(person))
    for name, args in (("datasets", []), ("dataset", [version.number]), ("dataset_download", [version.number])):
        assert client.get(reverse(name, args=[project.slug, *args])).status_code == status


def test_the_commands_build_and_export(project, bob, tmp_path):
    rank(make_task(project), bob, [1, 2, 3, 4])
    out = io.StringIO()
    call_command("build_dataset", project.slug, note="By command", test_fraction=0.0, stdout=out)
    assert "v1 of tides: 1 rankings (1 train, 0 test), 6 pairs" in out.getvalue()
    assert DatasetVersion.objects.get().content_hash in out.getvalue()
    path = tmp_path / "pairs.jsonl"
    call_command("export_dataset", project.slug, 1, path)
    assert len(path.read_text().splitlines()) == 6
    with pytest.raises(CommandError, match="exists already"):
        call_command("export_dataset", project.slug, 1, path)
    with pytest.raises(CommandError, match="no finished dataset version 2"):
        call_command("export_dataset", project.slug, 2, path)
    with pytest.raises(CommandError, match=r"from 0 to 0\.5, not 0\.7"):
        call_command("build_dataset", project.slug, test_fraction=0.7)
    with pytest.raises(CommandError, match="until now"):
        call_command("build_dataset", project.slug, "--as-of", "2999-01-01")
    with pytest.raises(CommandError, match="since must be from 1970"):
        call_command("build_dataset", project.slug, "--since", "0001-01-01T00:00:00+14:00")
    with pytest.raises(CommandError, match="they dropped min_seconds: 1"):
        call_command("build_dataset", project.slug, min_seconds=60.0)
