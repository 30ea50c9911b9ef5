"""Simulated annotators of known ability and bias, in memory and in the database."""

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from django.utils import timezone

from annotate.models import (
    K_MAX,
    Assignment,
    Completion,
    Membership,
    Project,
    Prompt,
    RankedCompletion,
    Ranking,
    RankingTask,
    Source,
    TaskCompletion,
    User,
    content_hash,
)
from annotate.quality.reading import Rankings


@dataclass
class Crowd:
    """One entry per annotator."""

    noise: np.ndarray  # standard deviation of what they add to a completion's true strength
    towards_a: np.ndarray  # share of rankings in which they put A first whatever it says
    straight: np.ndarray  # share in which they give the order shown


def crowd(noise: Any, towards_a: Any = 0.0, straight: Any = 0.0) -> Crowd:
    noise = np.atleast_1d(np.asarray(noise, dtype=float))
    return Crowd(noise, np.broadcast_to(towards_a, noise.shape), np.broadcast_to(straight, noise.shape))


def simulate(
    people: Crowd,
    *,
    tasks: int = 100,
    size: int = 4,
    overlap: int | None = None,
    strengths: np.ndarray | None = None,
    ties_within: float = 0.0,
    seed: int = 1,
) -> Rankings:
    """Each task's completions have normal strengths; each annotator ranks what they see of them; places are shuffled."""
    random = np.random.default_rng(seed)
    strengths = random.normal(size=(tasks, size)) if strengths is None else strengths
    count = len(people.noise)
    task, annotator, ranks, shown = [], [], [], []
    for index in range(tasks):
        for who in sorted(random.choice(count, overlap or count, replace=False)):
            order = random.permutation(size)  # order[0] is shown as A
            seen = strengths[index] + random.normal(scale=people.noise[who], size=size)
            if random.random() < people.towards_a[who]:
                seen[order[0]] = seen.max() + 1
            if random.random() < people.straight[who]:
                seen[order] = -np.arange(size)
            if ties_within:
                seen = np.round(seen / ties_within)
            _values, rank = np.unique(-seen, return_inverse=True)
            place = np.empty(size, dtype=int)
            place[order] = np.arange(1, size + 1)
            task.append(index)
            annotator.append(who)
            ranks.append(np.pad(rank + 1, (0, K_MAX - size)))
            shown.append(np.pad(place, (0, K_MAX - size)))
    number = len(task)
    columns = np.arange(1, size + 1)
    return Rankings(
        ids=np.arange(1, number + 1),
        task=np.array(task),
        annotator=np.array(annotator),
        all_bad=np.zeros(number, dtype=bool),
        seconds=np.full(number, 60.0),
        created=np.arange(number) * 60.0,
        ranks=np.array(ranks, dtype=np.int8),
        shown=np.array(shown, dtype=np.int8),
        task_ids=np.arange(1, tasks + 1),
        memberships=np.arange(1, count + 1),
        completions=np.pad(np.arange(tasks)[:, None] * size + columns, ((0, 0), (0, K_MAX - size))),
        sources=np.tile(np.pad(columns, (0, K_MAX - size)), (tasks, 1)),
        words=np.pad(random.integers(20, 200, (tasks, size)).astype(float), ((0, 0), (0, K_MAX - size))),
        prompt_words=np.full(tasks, 30.0),
        total=number,
    )


def store(rankings: Rankings, project: Project, *, start: datetime | None = None) -> None:
    """Write simulated rankings as people would have made them, and put the database's ids into them.

    Sources are named "source 1", "source 2", …; a completion has as many words of five letters as `words` says.
    """
    start = start or timezone.now() - timedelta(days=30)
    users = User.objects.bulk_create(User(username=f"person-{index}") for index in range(len(rankings.memberships)))
    members = Membership.objects.bulk_create(
        Membership(project=project, user=user, role=Membership.Role.ANNOTATOR) for user in users
    )
    numbers = np.unique(rankings.sources[rankings.sources > 0]).tolist()
    sources = {
        number: Source.objects.create(project=project, name=f"source {number}", kind=Source.Kind.IMPORT)
        for number in numbers
    }
    overlap = int(np.bincount(rankings.task).max())
    for task_index in range(len(rankings.task_ids)):
        messages = [
            {"role": "user", "content": f"{task_index:05d} " + "prompt" * int(rankings.prompt_words[task_index])}
        ]
        prompt = Prompt.objects.create(project=project, messages=messages, content_hash=content_hash(messages))
        there = np.flatnonzero(rankings.sources[task_index])
        completions = Completion.objects.bulk_create(
            Completion(
                prompt=prompt,
                source=sources[int(rankings.sources[task_index, column])],
                text="words " * int(rankings.words[task_index, column]),
                content_hash=content_hash([task_index, int(column)]),
            )
            for column in there
        )
        ids = [completion.pk for completion in completions]
        task = RankingTask.objects.create(
            project=project, prompt=prompt, content_hash=content_hash(ids), overlap=max(overlap, 1)
        )
        TaskCompletion.objects.bulk_create(TaskCompletion(task=task, completion=one) for one in completions)
        rankings.task_ids[task_index] = task.pk
        rankings.completions[task_index, : len(ids)] = ids
    _store_rankings(rankings, project, users, start)
    rankings.memberships[:] = [member.pk for member in members]


def _store_rankings(rankings: Rankings, project: Project, users: list[User], start: datetime) -> None:
    ends = [start + timedelta(seconds=float(seconds)) for seconds in rankings.created]
    sizes = rankings.sizes
    assignments = Assignment.objects.bulk_create(
        Assignment(
            project=project,
            task_id=int(rankings.task_ids[rankings.task[row]]),
            annotator=users[rankings.annotator[row]],
            state=Assignment.State.SUBMITTED,
            lease_until=ends[row],
            shown_order=_shown_order(rankings, row),
        )
        for row in range(len(rankings))
    )
    stored = Ranking.objects.bulk_create(
        Ranking(
            project=project,
            task_id=assignment.task_id,
            assignment=assignment,
            annotator=assignment.annotator,
            token=uuid.uuid4(),
            verdict=Ranking.Verdict.ALL_BAD if rankings.all_bad[row] else Ranking.Verdict.RANKED,
            seconds=float(rankings.seconds[row]),
        )
        for row, assignment in enumerate(assignments)
    )
    for row, ranking in enumerate(stored):
        ranking.created_at = ends[row]
    Ranking.objects.bulk_update(stored, ["created_at"], batch_size=1000)
    rankings.ids[:] = [ranking.pk for ranking in stored]
    RankedCompletion.objects.bulk_create(
        RankedCompletion(
            ranking=ranking,
            completion_id=int(rankings.completions[rankings.task[row], column]),
            rank=1 if rankings.all_bad[row] else int(rankings.ranks[row, column]),
            ratings={
                name: int(values[row, column]) for name, values in rankings.ratings.items() if values[row, column]
            },
        )
        for row, ranking in enumerate(stored)
        for column in range(sizes[row])
    )


def _shown_order(rankings: Rankings, row: int) -> list[int]:
    places = rankings.shown[row, : rankings.sizes[row]]
    return [int(rankings.completions[rankings.task[row], column]) for column in np.argsort(places)]
