"""On which side a prompt is: by its hash, by strata, and as an earlier version has it."""

import pytest
from django.core.files.storage import default_storage

from annotate.models import Prompt, Source, split_of
from annotate.services.datasets import Filters, create_version
from tests.annotate.rows import build, demonstrate, rank, rankings_of
from tests.conftest import make_task

pytestmark = pytest.mark.django_db


def fill(project, user, numbers):
    """A ranked task for each number; nine of ten are of maths, one of physics."""
    for number in numbers:
        task = make_task(project, f"Question {number}?", ["Yes", "No"])
        rank(task, user, [1, 2])
        Prompt.objects.filter(pk=task.prompt_id).update(tags=["physics"] if number % 10 == 0 else ["maths"])


def sides(version, storage):
    found: dict[str, str] = {}
    for row in rankings_of(version, storage):
        assert found.setdefault(row["prompt_id"], row["split"]) == row["split"], "a prompt is on both sides"
    return found


def on_test_side(sides, **of):
    """(on the test side, all) of the prompts of `of`."""
    hashes = set(Prompt.objects.filter(**of).values_list("content_hash", flat=True)) & set(sides)
    return sum(sides[one] == "test" for one in hashes), len(hashes)


def test_without_strata_a_prompts_side_is_that_of_its_hash(project, bob, rita, storage):
    fill(project, bob, range(30))
    found = sides(build(project, rita, test_fraction=0.3), storage)
    assert found == {one: split_of(one, 0.3) for one in found}
    assert set(found.values()) == {"train", "test"}


def test_each_stratum_has_its_share_and_growing_moves_no_prompt(project, bob, rita, storage):
    fill(project, bob, range(30))
    versions = [build(project, rita, test_fraction=0.3, stratify_by="tag")]
    for numbers in (range(30, 70), range(70, 100)):
        fill(project, bob, numbers)
        versions.append(build(project, rita, test_fraction=0.3, stratify_by="tag", parent=versions[-1]))
    before: dict[str, str] = {}
    for version in versions:
        found = sides(version, storage)
        assert {one: found[one] for one in before} == before
        for tag in ("maths", "physics"):
            test, prompts = on_test_side(found, tags=[tag])
            assert abs(test - 0.3 * prompts) <= 1
        assert abs(on_test_side(found)[0] - 0.3 * len(found)) <= 1
        before = found
    assert len(before) == 100
    assert build(project, rita, test_fraction=0.3, stratify_by="tag").counts["test"] == 30


def test_many_small_strata_have_together_what_they_should(project, bob, rita, storage):
    for number in range(20):
        task = make_task(project, f"Question {number}?", ["Yes", "No"])
        rank(task, bob, [1, 2])
        Prompt.objects.filter(pk=task.prompt_id).update(tags=[f"topic {number}"])
    assert build(project, rita, test_fraction=0.1, stratify_by="tag").counts["test"] == 2


def test_sources_are_strata_too(project, bob, rita, storage):
    tuned = Source.objects.create(project=project, name="tuned", kind="checkpoint")
    for number in range(20):
        task = make_task(project, f"Question {number}?", ["Yes", "No"])
        if number < 10:
            task.completions.update(source=tuned)
        rank(task, bob, [1, 2])
    found = sides(build(project, rita, test_fraction=0.2, stratify_by="source"), storage)
    assert on_test_side(found, completions__source=tuned) == (2, 10)
    assert on_test_side(found) == (4, 20)


def test_a_prompt_that_a_version_left_out_comes_back_on_its_side(project, bob, rita, storage):
    fill(project, bob, range(12))
    first = build(project, rita, test_fraction=0.5)
    second = build(project, rita, test_fraction=0.5, parent=first, filters=Filters(tags=("physics",)))
    assert len(sides(second, storage)) == 2
    # By hash alone all of them would be on the training side.
    third = build(project, rita, test_fraction=0, parent=second)
    assert sides(third, storage) == sides(first, storage)
    demonstrate(project, bob, "Question 3?", "An ideal answer.")
    fourth = build(project, rita, test_fraction=0, parent=third)
    asked = Prompt.objects.get(messages__0__content="Question 3?").content_hash
    split = sides(first, storage)[asked]
    assert fourth.counts[f"{split}_demonstrations"] == 1


def test_a_parent_must_be_there_finished_and_of_the_project(project, bob, rita, storage):
    fill(project, bob, range(2))
    failed = build(project, rita, filters=Filters(tags=("none",)))
    with pytest.raises(ValueError, match="parent must be a finished version"):
        create_version(project=project, user=rita, parent=failed)
    parent = build(project, rita)
    for name in ("rankings", "demonstrations"):
        default_storage.delete(f"{parent.folder}/{name}.parquet")
    child = build(project, rita, parent=parent)
    assert (child.state, child.error) == ("failed", f"The files of version {parent.number} are not on the storage.")
