"""Dataset versions that are not frozen from rankings: their files, their page and what they are downloaded as."""

import json

import pytest
from django.core.files.storage import default_storage
from django.urls import reverse

from annotate.services.datasets import NothingToFreeze, register_version, store_examples, verify
from tests.conftest import signed_in


def example(number=1, **changes):
    return {
        "demonstration": f"{number:032x}",
        "prompt_id": f"hash {number}",
        "prompt": [{"role": "user", "content": f"How much is {number} + {number}?"}],
        "completion": f"<answer>{2 * number}</answer>",
        "reasoning": "I add them.",
        "annotator": "",
        "split": "test" if number % 4 == 0 else "train",
        "provenance": {"run": 7, "rewards": {"accuracy": 1.0}},
        **changes,
    }


def made(project, rows, **changes):
    ticks: list[None] = []
    stored = store_examples(iter(rows), tick=lambda: ticks.append(None))
    assert ticks
    return register_version(project=project, stored=stored, user=None, **{"origin": "run:7", "left_out": {}, **changes})


@pytest.fixture
def owned(project, alice):
    project.created_by = alice
    project.save()
    return project


def test_a_made_version_is_numbered_hashed_and_whole(owned, alice):
    version = made(owned, [example(number) for number in range(1, 5)], note="sampled")
    assert (version.number, version.origin, version.note, version.created_by) == (1, "run:7", "sampled", alice)
    assert (version.counts["train_demonstrations"], version.counts["test_demonstrations"]) == (3, 1)
    assert version.counts["rankings"] == 0
    assert verify(version)
    default_storage.delete(f"{version.folder}/rankings.parquet")
    assert not verify(version)


def test_its_page_shows_where_the_examples_come_from_and_what_was_left_out(owned, alice):
    version = made(owned, [example()], left_out={"Cut by the longest length": 1234})
    html = signed_in(alice).get(reverse("dataset", args=[owned.slug, version.number])).content.decode()
    for words in (
        "How much is 1 + 1?",
        "I add them.",
        "&quot;accuracy&quot;: 1.0",
        "run:7",
        "Cut by the longest length",
        "1,234",
    ):
        assert words in html
    assert "No run has trained on this version yet" in html
    assert reverse("run_new", args=[owned.slug, "sft"]) in html
    assert reverse("run_new", args=[owned.slug, "dpo"]) not in html, "there is no ranking to learn from"


def test_what_a_model_wrote_is_downloaded_with_its_reasoning(owned, alice):
    version = made(owned, [example()])
    address = reverse("dataset_download", args=[owned.slug, version.number])
    file = signed_in(alice).get(address, {"shape": "sft", "format": "jsonl", "split": "train"})
    (row,) = map(json.loads, file.getvalue().splitlines())
    assert row["prompt"] == example()["prompt"]
    assert row["completion"][0]["content"] == "<think>\nI add them.\n</think>\n\n<answer>2</answer>"
    for shape in ("ranking", "preference"):
        empty = signed_in(alice).get(address, {"shape": shape, "format": "jsonl"})
        assert empty.getvalue() == b""


def test_no_row_makes_no_version(owned):
    with pytest.raises(NothingToFreeze):
        made(owned, [])
    assert not owned.dataset_versions.exists()


@pytest.mark.parametrize("changes", [{"completion": 5}, {"prompt": "How?"}, {"prompt": [{"role": 1}]}, {"split": None}])
def test_a_row_that_does_not_fit_makes_no_version(owned, changes):
    with pytest.raises((ValueError, TypeError)):
        made(owned, [example(), example(2, **changes)])
    with pytest.raises(KeyError):
        made(owned, [{name: value for name, value in example().items() if name != "prompt_id"}])
    assert not owned.dataset_versions.exists()
