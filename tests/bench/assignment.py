"""Who gets what, when: virtual annotators of different pace and hours work through a project by the real services on real Postgres.

Time is simulated, so that hours of work take seconds; leases that run out are ended when the simulated clock says so. `run()` gives
for each policy how long tasks wait for their last ranking, how many are never served when half of the work is done, how evenly the
people are kept busy, and what the policy is for: when the tasks that it puts first are finished.
"""

import heapq
import os
import random
import statistics
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.bench.figures import Figure
from tests.bench.web import fill_project, setup

PEOPLE = int(os.environ.get("BENCH_ANNOTATORS", "40"))
TASKS = int(os.environ.get("BENCH_TASKS", "300"))
LEASE = 30 * 60.0
POLL = 60.0
SEED = 7


@dataclass
class Person:
    """`pace`: seconds that one ranking takes on average. At work from `since` to `until`, simulated seconds.

    `worked`: when they took each task and for how long; `waited`: when they found none and came back a minute later.
    """

    membership: Any
    pace: float
    since: float
    until: float
    worked: list[tuple[float, float]] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)

    def share_of_time(self, until: float) -> tuple[float, float]:
        """Seconds at work with a task, and without one, of what began before `until`."""
        busy = sum(takes for since, takes in self.worked if since < until)
        return busy, POLL * sum(since < until for since in self.waited)


@dataclass
class Story:
    """What happened: the simulated times of each task's rankings, and the tasks in the order in which they were ranked."""

    served: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    order: list[int] = field(default_factory=list)


def make_people(project: Any, rng: random.Random) -> list[Person]:
    """Paces from 30 to 300 seconds a ranking, sessions of half an hour to eight hours that begin at any time of a day."""
    from annotate.models import Membership

    memberships = Membership.objects.filter(project=project).select_related("user", "project").order_by("pk")[:PEOPLE]
    people = []
    for membership in memberships:
        since = rng.uniform(0, 8 * 3600)
        people.append(Person(membership, 30 * 10 ** rng.random(), since, since + rng.uniform(0.5, 8) * 3600))
    return people


def simulate(people: list[Person], rng: random.Random) -> Story:
    """Let them work until nobody finds a task. Whoever leaves keeps their last task until its lease runs out; then they are back the
    next day at the same hour.
    """
    from annotate.models import Assignment

    story = Story()
    events = [(person.since, number) for number, person in enumerate(people)]
    heapq.heapify(events)
    held: dict[int, Any] = {}
    left: list[tuple[float, int]] = []
    while events:
        now, number = heapq.heappop(events)
        while left and left[0][0] <= now:
            _, gone = heapq.heappop(left)
            end_lease(held.pop(gone))
        person = people[number]
        if number in held and now <= person.until:
            task = submit(person, held.pop(number))
            story.served[task].append(now)
            story.order.append(task)
        following = lease(person)
        if following is None:
            # Somebody else's task may come free yet.
            if held:
                wait(person, now)
                heapq.heappush(events, (max(now + POLL, person.since), number))
            continue
        takes = rng.gammavariate(4, person.pace / 4)
        held[number] = following
        if now + takes > person.until:
            heapq.heappush(left, (now + LEASE, number))
            come_back(person)
            heapq.heappush(events, (person.since, number))
        else:
            person.worked.append((now, takes))
            heapq.heappush(events, (now + takes, number))
    if Assignment.objects.filter(project=people[0].membership.project, state="leased").exists():
        raise RuntimeError("somebody still holds a task")
    return story


def wait(person: Person, now: float) -> None:
    if now + POLL <= person.until:
        person.waited.append(now)
    else:
        come_back(person)


def come_back(person: Person) -> None:
    """The next day, at the same hours."""
    person.since, person.until = person.since + 24 * 3600, person.until + 24 * 3600


def lease(person: Person) -> Any:
    from django.db import transaction

    from annotate.services.assignments import lease_next, lock_membership

    with transaction.atomic():
        lock_membership(person.membership)
        return lease_next(membership=person.membership, may_hold=False)


def submit(person: Person, assignment: Any) -> int:
    from django.db import transaction

    from annotate.services.assignments import lock_assignment
    from annotate.services.rankings import letters, submit_ranking

    with transaction.atomic():
        locked = lock_assignment(membership=person.membership, pk=assignment.pk)
        places = [[letter] for letter in letters(len(locked.shown_order))]
        submit_ranking(
            membership=person.membership, assignment=locked, token=locked.token, verdict="ranked", places=places
        )
    return int(locked.task_id)


def end_lease(assignment: Any) -> None:
    from annotate.services.assignments import give_back

    give_back(task_id=assignment.task_id, assignment_id=assignment.pk)


def gini(values: list[float]) -> float:
    """0: all have the same; towards 1: one has everything."""
    ordered = sorted(values)
    total = sum(ordered)
    weighted = sum(rank * value for rank, value in enumerate(ordered, 1))
    return 2 * weighted / (len(ordered) * total) - (len(ordered) + 1) / len(ordered) if total else 0.0


def figures_of(name: str, people: list[Person], story: Story, first: set[int]) -> list[Figure]:
    from annotate.models import RankingTask

    project = people[0].membership.project
    wanted = dict(RankingTask.objects.filter(project=project).values_list("pk", "overlap"))
    short = [task for task, overlap in wanted.items() if len(story.served[task]) != overlap]
    half = set(story.order[: len(story.order) // 2])
    spans = [max(times) - min(times) for task, times in story.served.items() if wanted[task] > 1]
    # Until nine tenths of the work are done; at the very end everybody waits for the leases of those who left.
    times = sorted(now for served in story.served.values() for now in served)
    shares = [person.share_of_time(times[len(times) * 9 // 10]) for person in people]
    with_a_task = [busy / (busy + without) for busy, without in shares if busy + without]
    prefix = f"assignment_{name}"
    figures = [
        Figure(f"{prefix}_not_filled", float(len(short)), "tasks", f"{len(wanted)} tasks, {len(story.order)} rankings"),
        Figure(f"{prefix}_never_served_at_half", 100 * (1 - len(half) / len(wanted)), "%"),
        Figure(f"{prefix}_longest_wait", max(spans) / statistics.fmean(spans), "ratio", "mean time from first to last"),
        Figure(f"{prefix}_gini_of_work", gini(with_a_task), "", "share of each one's time at work with a task"),
        Figure(f"{prefix}_least_busy", 100 * min(with_a_task), "%", "of their time at work with a task"),
    ]
    if first:
        last = max(number for number, task in enumerate(story.order, 1) if task in first)
        done = 100 * last / len(story.order)
        against = f"all work; at best {100 * sum(wanted[task] for task in first) / len(story.order):.0f} %"
        figures.append(Figure(f"{prefix}_first_ones_done", done, "%", against))
    return figures


def put_first(project: Any) -> set[int]:
    """A tenth of the tasks, spread, has a higher priority."""
    from annotate.models import RankingTask
    from annotate.services.queue import set_priorities

    urgent = list(RankingTask.objects.filter(project=project).order_by("pk").values_list("pk", flat=True))[5::10]
    set_priorities(project=project, priorities=dict.fromkeys(urgent, 10))
    return set(urgent)


def score(project: Any) -> set[int]:
    """Each task has another score; returns the tenth about which models disagree most."""
    from annotate.models import RankingTask
    from annotate.services.queue import order_by_disagreement

    rng = random.Random(SEED)
    ids = RankingTask.objects.filter(project=project).order_by("pk").values_list("pk", flat=True)
    scores = {pk: rng.random() for pk in ids}
    order_by_disagreement(project=project, scores=scores)
    return set(sorted(scores, key=lambda pk: -scores[pk])[: len(scores) // 10])


def share(project: Any) -> set[int]:
    """A fifth of the tasks is ranked by three people, the others by one."""
    from annotate.services.overlap import apply_overlap

    project.overlap, project.shared_percent, project.shared_overlap = 1, 20, 3
    project.save()
    apply_overlap(project=project, actor=None)
    return set()


POLICIES: dict[str, Callable[[Any], set[int]]] = {
    "least_ranked": lambda project: set(),
    "priority": put_first,
    "disagreement": score,
    "shares": share,
}


def run() -> list[Figure]:
    setup()
    figures = []
    for name, prepare in POLICIES.items():
        project = fill_project(f"bench-{name.replace('_', '-')}", TASKS, overlap=3)
        first = prepare(project)
        rng = random.Random(SEED)
        people = make_people(project, rng)
        figures += figures_of(name, people, simulate(people, rng), first)
    return figures
