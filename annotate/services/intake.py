"""Rows into prompts, completions, tasks and rankings, by COPY: as fast as Postgres takes them, and never twice."""

import hashlib
import hmac
import json
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from annotate.formats.importing.shapes import GivenRanking, Known, Row
from annotate.models import (
    Completion,
    Import,
    Project,
    Prompt,
    Ranking,
    RankingTask,
    content_hash,
    imported_user,
)

from .overlap import ENDLESS, overlap_of
from .tables import NewRows, Shadow, Tables

TRIES = 3
TOKENS = uuid.UUID("5a3c1f0e-6d0b-5f57-9a53-2f1c8f6f0b11")
# Names that Podium has given itself say nothing of a person, and stay, so that an export that comes back is the same.
PSEUDONYM = re.compile(r"(?:annotator|left|imported)-[0-9a-f]{8}")


@dataclass
class Added:
    """What a batch added. `duplicates` are rows that added nothing, `single` rows with one completion, hence no task."""

    prompts: int = 0
    completions: int = 0
    tasks: int = 0
    rankings: int = 0
    duplicates: int = 0
    single: int = 0
    without: int = 0


@dataclass(frozen=True)
class Origin:
    """Where rows come from, and what becomes of the preferences that they bring (`Mapping.preferences`)."""

    job: Import | None = None
    lines: Sequence[int] = ()
    preferences: str = "keep"

    def line(self, index: int) -> int:
        return self.lines[index] if self.lines else index + 1


def add_rows(*, project: Project, rows: Sequence[Row], origin: Origin | None = None) -> Added:
    """Store the rows, and a task for each set of two or more completions. What is there already is left as it is.

    Imports into one project take turns, batch by batch. Where another writer adds the same rows meanwhile, the batch is
    tried again and finds them.
    """
    for attempt in range(1, TRIES + 1):
        try:
            with transaction.atomic():
                # Foreign keys to the project need only its key, so nobody else waits for this lock.
                current = Project.objects.select_for_update(no_key=True).get(pk=project.pk)
                return _add(Tables(current), rows, origin or Origin())
        except IntegrityError:
            if attempt == TRIES:
                raise
    raise AssertionError


def count_rows(*, shadow: Shadow, rows: Sequence[Row], origin: Origin) -> Added:
    """What `add_rows` would add, after the rows that were counted before."""
    return _add(shadow, rows, origin)


@dataclass
class Wanted:
    """A task that rows ask for: its prompt, priority and completions, its known order, and whether people are asked."""

    prompt_id: int
    priority: int
    completions: list[int]
    is_open: bool
    known: tuple[str, str, str] | None = None


def _add(tables: Tables, rows: Sequence[Row], origin: Origin) -> Added:
    now = timezone.now()
    project, new, added = tables.project, NewRows(), Added()
    is_new = [False] * len(rows)
    prompts = _add_prompts(tables, rows, new, is_new, now)
    answers, fresh = _add_completions(tables, rows, prompts, new, is_new, now)

    wanted: dict[str, Wanted] = {}
    digests: list[str] = []
    for row, of_row in zip(rows, answers, strict=True):
        if len(of_row) < 2:
            added.single += len(of_row)
            added.without += not of_row
            digests.append("")
            continue
        completions = sorted(of_row)
        digest = content_hash(completions)
        digests.append(digest)
        is_open = origin.preferences != "keep" or not row.rankings
        task = wanted.setdefault(digest, Wanted(prompts[row.content_hash], row.priority, completions, is_open))
        task.known = known_json(row.known, of_row) or task.known

    # A task with a completion that is new is new.
    perhaps = [digest for digest, task in wanted.items() if fresh.isdisjoint(task.completions)]
    there = tables.tasks(perhaps) if perhaps else {}
    made = [digest for digest in wanted if digest not in there]
    ids = there | dict(zip(made, tables.next_ids(RankingTask, len(made)), strict=True))
    for digest in made:
        _add_task(project, ids[digest], digest, wanted[digest], new, now)
    first_of = set(made)
    for index, digest in enumerate(digests):
        if digest in first_of:
            first_of.discard(digest)
            is_new[index] = True
    if origin.preferences != "ignore" and any(row.rankings for row in rows):
        _add_rankings(tables, rows, origin, answers, digests, ids, set(there), new, is_new, now)

    tables.write(new)
    added.prompts, added.completions = len(new.prompts), len(new.completions)
    added.tasks, added.rankings = len(new.tasks), len(new.rankings)
    added.duplicates = is_new.count(False)
    return added


def _add_prompts(
    tables: Tables, rows: Sequence[Row], new: NewRows, is_new: list[bool], now: datetime
) -> dict[str, int]:
    """{content hash: id} of the rows' prompts."""
    firsts: dict[str, int] = {}
    for index, row in enumerate(rows):
        firsts.setdefault(row.content_hash, index)
    found = tables.prompts(list(firsts))
    fresh = [index for digest, index in firsts.items() if digest not in found]
    for pk, index in zip(tables.next_ids(Prompt, len(fresh)), fresh, strict=True):
        row = rows[index]
        is_new[index] = True
        found[row.content_hash] = pk
        messages = json.dumps(row.messages, ensure_ascii=False)
        new.prompts.append(
            (
                pk, tables.project.pk, messages, row.content_hash, row.reference_answer, row.metadata,
                row.tags, now,
            )
        )  # fmt: skip
    return found


def _add_completions(
    tables: Tables, rows: Sequence[Row], prompts: dict[str, int], new: NewRows, is_new: list[bool], now: datetime
) -> tuple[list[list[int]], set[int]]:
    """The ids of each row's answers, in their order, and those among them that are new."""
    names = {answer.source for row in rows for answer in row.answers}
    sources = tables.sources(names) if names else {}
    added = {row[0] for row in new.prompts}
    known = [pk for pk in prompts.values() if pk not in added]
    there = tables.completions(known) if known else {}
    ids = iter(tables.next_ids(Completion, sum(len(row.answers) for row in rows)))
    fresh: set[int] = set()
    answers = []
    for index, row in enumerate(rows):
        prompt_id = prompts[row.content_hash]
        of_row = []
        for answer in row.answers:
            key = (prompt_id, sources[answer.source], answer.content_hash)
            pk = there.get(key)
            if pk is None:
                pk = there[key] = next(ids)
                fresh.add(pk)
                is_new[index] = True
                new.completions.append(
                    (pk, *key[:2], answer.text, answer.reasoning, answer.sampling, answer.content_hash, now)
                )
            of_row.append(pk)
        answers.append(of_row)
    return answers, fresh


def _add_task(project: Project, pk: int, digest: str, task: Wanted, new: NewRows, now: datetime) -> None:
    purpose, overlap = str(RankingTask.Purpose.RANKING), overlap_of(project, digest)
    if task.known:
        purpose, overlap = task.known[0], ENDLESS
        new.known.append((pk, *task.known[1:], now))
    state = RankingTask.State.OPEN if task.is_open or task.known else RankingTask.State.CLOSED
    new.tasks.append(
        (pk, project.pk, task.prompt_id, digest, str(state), purpose, task.priority, overlap, 0, 0, now)
    )  # fmt: skip
    new.pairs += [(pk, completion_id) for completion_id in task.completions]


def _add_rankings(
    tables: Tables,
    rows: Sequence[Row],
    origin: Origin,
    answers: Sequence[Sequence[int]],
    digests: Sequence[str],
    tasks: dict[str, int],
    there: set[str],
    new: NewRows,
    is_new: list[bool],
    now: datetime,
) -> None:
    """`there` are the tasks that had been there before, hence may have some of the rankings."""
    given: dict[uuid.UUID, tuple[int, GivenRanking, str]] = {}
    asked = []
    for index, (row, of_row, digest) in enumerate(zip(rows, answers, digests, strict=True)):
        for one in row.rankings if digest else ():
            annotator = pseudonym(tables.project, one.annotator)
            token = token_of(tables.project, digest, of_row, one, annotator)
            given.setdefault(token, (index, one, annotator))
            if digest in there:
                asked.append(token)
    known = tables.tokens(asked) if asked else set()
    fresh = {token: one for token, one in given.items() if token not in known}
    named = {token: uid for token, (_index, one, _name) in fresh.items() if (uid := uuid_of(one.original))}
    taken = tables.uids(list(named.values())) if named else set()
    user = imported_user() if fresh else None
    for pk, (token, (index, one, annotator)) in zip(tables.next_ids(Ranking, len(fresh)), fresh.items(), strict=True):
        uid = named.get(token, token)
        if uid in taken:
            uid = token
        taken.add(uid)
        is_new[index] = True
        new.rankings.append(
            (
                pk, token, uid, tables.project.pk, tasks[digests[index]], user and user.pk, str(Ranking.Role.IMPORTED), 1,
                True, one.verdict, list(one.reasons), one.comment, one.seconds or 0.0, min(one.created or now, now),
            )
        )  # fmt: skip
        ratings = one.ratings or ({},) * len(one.ranks)
        new.ranked += [
            (pk, completion, rank, json.dumps(rated, ensure_ascii=False) if rated else "{}")
            for completion, rank, rated in zip(answers[index], one.ranks, ratings, strict=True)
        ]
        job = origin.job.pk if origin.job else None
        new.origins.append((pk, job, origin.line(index), annotator, one.original[:64]))


def pseudonym(project: Project, name: str) -> str:
    """What an imported annotator is called: names in foreign files may be e-mail addresses. Empty stays empty."""
    if not name or PSEUDONYM.fullmatch(name):
        return name
    key = f"{project.pk} {name}".encode()
    return f"imported-{hmac.new(settings.SECRET_KEY.encode(), key, hashlib.sha256).hexdigest()[:8]}"


def token_of(project: Project, task: str, answers: Sequence[int], one: GivenRanking, annotator: str) -> uuid.UUID:
    """The same for the same ranking whenever it comes, in whatever order its completions are listed."""
    ranks = [rank for _pk, rank in sorted(zip(answers, one.ranks, strict=True))]
    return uuid.uuid5(TOKENS, json.dumps([project.pk, task, annotator, ranks, one.verdict, one.original]))


def uuid_of(original: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(original)
    except ValueError:
        return None


def known_json(known: Known | None, completions: list[int]) -> tuple[str, str, str] | None:
    """(purpose, ranks as JSON, explanation) of a known order of these completions."""
    if known is None:
        return None
    ranks = dict(sorted(zip(map(str, completions), known.ranks, strict=True)))
    return known.purpose, json.dumps(ranks), known.explanation
