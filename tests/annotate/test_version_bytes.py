"""The same content gives the same bytes, whatever ids it has, in which order it came and how it is read."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from annotate.models import (
    Assignment,
    Completion,
    Demonstration,
    Membership,
    Project,
    Prompt,
    RankedCompletion,
    Ranking,
    RankingTask,
    Source,
    TaskCompletion,
    completion_hash,
    content_hash,
)
from annotate.services.datasets import Filters
from tests.annotate.rows import build, files_of
from tests.conftest import make_user

pytestmark = pytest.mark.django_db

# What a release of pyarrow writes is its own affair; what a change of ours does to it has to be meant.
GOLDEN = {"26.0.1": "25ffbdf59146a638a00093a8192990420913374d7ba72b155911c386f829e451"}
START = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = ("annotator-00000001", "annotator-00000002", "annotator-00000003")


def put_in(project, people, *, turned):
    """Five prompts with three answers of two sources, each ranked by three people; `turned` inserts them from the last to the first."""

    def ordered(values):
        return list(reversed(values)) if turned else list(values)

    sources = {
        name: Source.objects.create(project=project, name=name, kind="import") for name in ordered(["Äpfel", "zebra"])
    }
    for number in ordered(range(5)):
        messages = [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": f"Why does the sky above house {number} look so very blue today? ÄÖ"},
        ]
        prompt = Prompt.objects.create(
            project=project, messages=messages, content_hash=content_hash(messages), tags=[f"t{number % 2}"]
        )
        completions = {}
        for index in ordered(range(3)):
            text = f"Because of {index % 2}, {number}." if index < 2 else f"Because of 0, {number}."
            completions[index] = Completion.objects.create(
                prompt=prompt,
                source=sources["zebra" if index == 2 else "Äpfel"],
                text=text,
                reasoning="Hm." * (index == 1),
                content_hash=completion_hash(text, "Hm." * (index == 1)),
            )
        task = RankingTask.objects.create(project=project, prompt=prompt, content_hash=uuid.uuid4().hex, overlap=3)
        TaskCompletion.objects.bulk_create(
            TaskCompletion(task=task, completion=completions[index]) for index in ordered(range(3))
        )
        for person in ordered(range(3)):
            put_ranking(task, people[person], completions, number, person, ordered)
        for text in ordered(["Ideal.", "Better."]):
            ideal = Completion.objects.create(
                prompt=prompt, source=sources["zebra"], text=text, content_hash=completion_hash(text)
            )
            written = Demonstration.objects.create(completion=ideal, project=project, author=people[0])
            Demonstration.objects.filter(pk=written.pk).update(created_at=START)


def put_ranking(task, user, completions, number, person, ordered):
    assignment = Assignment.objects.create(
        project=task.project, task=task, annotator=user, state="submitted", lease_until=START, shown_order=[]
    )
    ranking = Ranking.objects.create(
        uid=uuid.uuid5(uuid.NAMESPACE_URL, f"{number} {person}"),
        project=task.project,
        task=task,
        assignment=assignment,
        annotator=user,
        token=uuid.uuid4(),
        reasons=["clear", "brief"] if person == 0 else [],
        comment="“Well.”" * (number == 3),
        seconds=number + 0.5,
    )
    Ranking.objects.filter(pk=ranking.pk).update(created_at=START + timedelta(minutes=number, microseconds=person))
    ranks = [[1, 2, 2], [2, 1, 3], [1, 3, 2]][person]
    RankedCompletion.objects.bulk_create(
        RankedCompletion(
            ranking=ranking, completion=completions[index], rank=ranks[index], ratings={"Clarity": 4} if index else {}
        )
        for index in ordered(range(3))
    )


@pytest.fixture
def twins(alice):
    """Two projects with the same content, inserted in opposite orders."""
    projects = []
    for turned in (False, True):
        project = Project.objects.create(slug=f"twin-{turned}".lower(), name="Twin", created_by=alice)
        people = [make_user(f"{'b' if turned else 'a'}{number}") for number in range(3)]
        for number in reversed(range(3)) if turned else range(3):
            Membership.objects.create(project=project, user=people[number], role="annotator", pseudonym=NAMES[number])
        projects.append((project, people, turned))
    return projects


CHOICES: dict[str, dict[str, Any]] = {
    "plain": {},
    "ideal": {"filters": Filters(ideal_on_top=True, weights="reliability")},
    "consensus": {"filters": Filters(decisions="consensus", weights="reliability"), "stratify_by": "source"},
    "screened": {"filters": Filters(drop_duplicates=True, languages=("en",), min_agreement=-0.5), "stratify_by": "tag"},
}


def test_the_same_content_in_another_order_and_under_other_ids_gives_the_same_bytes(twins, alice, storage):
    found = []
    for project, people, turned in twins:
        # A uid is taken once, so the first project's rankings go before the second one's come.
        RankedCompletion.objects.all().delete()
        Ranking.objects.all().delete()
        put_in(project, people, turned=turned)
        found.append(
            {
                name: build(project, alice, test_fraction=0.4, as_of=START + timedelta(days=1), **options)
                for name, options in CHOICES.items()
            }
        )
    first, second = found
    for name in CHOICES:
        assert first[name].state == "succeeded", first[name].error
        assert files_of(first[name], storage) == files_of(second[name], storage), name
        assert first[name].counts == second[name].counts
        assert first[name].statistics == second[name].statistics
    assert len({version.content_hash for version in first.values()}) == len(CHOICES)
    assert first["plain"].content_hash == GOLDEN[pa.__version__]


def test_how_many_are_read_at_once_does_not_show(twins, alice, storage, monkeypatch):
    project, people, turned = twins[0]
    put_in(project, people, turned=turned)
    whole = build(project, alice)
    monkeypatch.setattr("annotate.formats.versions.assembling.READ", 4)
    assert build(project, alice, as_of=whole.as_of).content_hash == whole.content_hash
    # So little that each ranking comes alone, by its size.
    monkeypatch.setattr("annotate.formats.versions.assembling.READ_BYTES", 100)
    assert build(project, alice, as_of=whole.as_of).content_hash == whole.content_hash
