"""Rankings as rows of a dataset version: read by the thousand, put together column by column."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from django.db import connection
from numpy.typing import NDArray

from annotate.models import K_MAX, DatasetVersion
from annotate.services.weights import weight_of

from . import columns
from .consensus import Consensus, Opinion, agree
from .current import WRITTEN_BY_THEN
from .rows import COMPLETION, MESSAGES, RANKINGS, RATINGS, TIME
from .statistics import Statistics

if TYPE_CHECKING:
    from annotate.services.datasets import Filters

Array = NDArray[Any]
# How many rows and bytes are read by one statement; neither shapes a version.
READ = 1000
READ_BYTES = 2 * 1024**2
RANGE = "WHERE k.seq BETWEEN %(first)s AND %(last)s"
DETAILS = f"""
    SELECT {columns.number("k.seq", "int8")}, string_agg(uuid_send(k.uid), ''::bytea), {columns.text("k.content_hash")},
        {columns.number("(r.verdict = 'all_bad')::int", "int4")}, {columns.text("k.annotator")}, {columns.text("k.role")},
        {columns.text("r.comment")}, {columns.number("r.seconds", "float8")}, {columns.moment("r.created_at")},
        {columns.number("k.is_test::int", "int4")}, {columns.number("k.task_id", "int8")},
        jsonb_agg(jsonb_build_array(k.seq, r.reasons)) FILTER (WHERE cardinality(r.reasons) > 0)
    FROM podium_kept k JOIN annotate_ranking r ON r.id = k.ranking_id {RANGE}
"""  # noqa: S608 - built of constants
MESSAGES_READ = f"""
    SELECT {columns.number("k.seq", "int8")}, {columns.number("place", "int8")},
        {columns.text("coalesce(message ->> 'role', '')")}, {columns.text("coalesce(message ->> 'content', '')")}
    FROM podium_kept k JOIN annotate_prompt p ON p.id = k.prompt_id,
        jsonb_array_elements(p.messages) WITH ORDINALITY AS each(message, place) {RANGE}
"""  # noqa: S608 - built of constants
ANSWERS = f"""
    SELECT {columns.number("k.seq", "int8")}, {columns.number("rc.rank", "int4")}, {columns.number("c.id", "int8")},
        {columns.number("c.source_id", "int8")}, string_agg(decode(c.content_hash, 'hex'), ''::bytea),
        {columns.text("c.text")}, {columns.text("c.reasoning")},
        jsonb_agg(jsonb_build_array(k.seq, c.id, rc.ratings)) FILTER (WHERE rc.ratings <> '{{}}')
    FROM podium_kept k JOIN annotate_rankedcompletion rc ON rc.ranking_id = k.ranking_id
    JOIN annotate_completion c ON c.id = rc.completion_id {RANGE}
"""  # noqa: S608 - built of constants
# The last ideal answer to a ranking's prompt by the annotator who made the ranking.
IDEAL = f"""
    SELECT DISTINCT ON (k.seq) k.seq, c.text, c.reasoning, s.name
    FROM podium_kept k
    JOIN annotate_ranking r ON r.id = k.ranking_id
    JOIN annotate_completion c ON c.prompt_id = k.prompt_id
    JOIN annotate_demonstration d ON d.completion_id = c.id AND d.author_id = r.annotator_id
    JOIN annotate_source s ON s.id = c.source_id
    {RANGE} AND k.role = 'annotator' AND {WRITTEN_BY_THEN}
    ORDER BY k.seq, d.created_at DESC, c.content_hash COLLATE "C"
"""  # noqa: S608 - built of constants
MEMBERS = f"""
    SELECT k.seq, f.ranking_id, f.annotator, f.role, f.verdict = 'all_bad', r.seconds, r.created_at, r.reasons,
        rc.completion_id, rc.rank, rc.ratings::text
    FROM podium_kept k
    JOIN podium_found f ON f.task_id = k.task_id AND f.dropped_by IS NULL
    JOIN annotate_ranking r ON r.id = f.ranking_id
    JOIN annotate_rankedcompletion rc ON rc.ranking_id = r.id
    {RANGE} AND k.role = 'consensus' ORDER BY k.seq, f.uid
"""  # noqa: S608 - built of constants
# The most bytes that a ranking can have, without a look at each.
LARGEST = """
    SELECT (
        SELECT coalesce(max(size), 0) FROM (
            SELECT sum(octet_length(c.text) + octet_length(c.reasoning)) AS size
            FROM annotate_taskcompletion tc JOIN annotate_completion c ON c.id = tc.completion_id
            WHERE tc.task_id IN (SELECT task_id FROM podium_kept) GROUP BY tc.task_id
        ) tasks
    ) + (
        SELECT coalesce(max(octet_length(c.text) + octet_length(c.reasoning)), 0)
        FROM annotate_demonstration d JOIN annotate_completion c ON c.id = d.completion_id
        WHERE c.prompt_id IN (SELECT prompt_id FROM podium_prompt WHERE has_ideal)
    ) + (
        SELECT coalesce(max(octet_length(p.messages::text)), 0)
        FROM annotate_prompt p JOIN podium_prompt one ON one.prompt_id = p.id
    )
"""
SIZES = f"""
    SELECT k.seq, octet_length(p.messages::text) + (
        SELECT coalesce(sum(octet_length(c.text) + octet_length(c.reasoning)), 0)
        FROM annotate_completion c WHERE c.prompt_id = k.prompt_id AND (
            c.id IN (SELECT rc.completion_id FROM annotate_rankedcompletion rc WHERE rc.ranking_id = k.ranking_id)
            OR EXISTS (SELECT FROM annotate_demonstration d WHERE d.completion_id = c.id)
        )
    ) FROM podium_kept k JOIN annotate_prompt p ON p.id = k.prompt_id {RANGE} ORDER BY k.seq
"""  # noqa: S608 - built of constants


def read_ranges(total: int) -> Iterator[tuple[int, int]]:
    """First and last `seq` of what fits into READ_BYTES; a ranking larger than that comes alone."""
    with connection.cursor() as cursor:
        cursor.execute(LARGEST)
        largest = max(int(cursor.fetchone()[0]), 1)
    fitting = min(READ_BYTES // largest, READ)
    if fitting > READ // 10:
        yield from ((first, min(first + fitting - 1, total)) for first in range(1, total + 1, fitting))
        return
    for start in range(1, total + 1, READ):
        with connection.cursor() as cursor:
            cursor.execute(SIZES, {"first": start, "last": start + READ - 1})
            sizes = cursor.fetchall()
        first, held = start, 0
        for seq, size in sizes:
            if seq > first and held + size > READ_BYTES:
                yield first, seq - 1
                first, held = seq, 0
            held += size
        yield first, sizes[-1][0]


class Answers(NamedTuple):
    """The completions of N rankings one behind the other, each ranking's in the order of their content."""

    counts: Array  # (N,)
    ranks: Array  # (M,)
    ids: Array  # (M,)
    sources: Array  # (M,) index into the assembler's names
    texts: pa.StringArray
    reasonings: pa.StringArray
    octets: Array  # (M,)


class Assembler:
    """Puts a version's rankings together and sums up what its counts and statistics say."""

    def __init__(
        self,
        version: DatasetVersion,
        filters: "Filters",
        weights: dict[str, float] | None,
        counts: "Counter[str]",
    ) -> None:
        self.as_of, self.filters, self.weights, self.counts = version.as_of, filters, weights, counts
        self.statistics = Statistics()
        self.has_turns = False
        with connection.cursor() as cursor:
            cursor.execute(
                'SELECT id, name FROM annotate_source WHERE project_id = %s ORDER BY name COLLATE "C"',
                [version.project_id],
            )
            sources = cursor.fetchall()
        self.source_ids = np.array([pk for pk, _name in sources], dtype=np.int64)
        self.names = [name for _pk, name in sources]
        self.by_id = np.argsort(self.source_ids)

    def read(self, first: int, last: int) -> tuple[pa.Table, list[int]]:
        """(rows `first` to `last` of the version, bytes of each one's texts)."""
        bounds = {"first": first, "last": last, "as_of": self.as_of}
        seq, uids, hashes, hash_bytes, bad, *named, seconds, created, is_test, tasks, reasons = columns.read(
            DETAILS, bounds
        )
        seqs = columns.to_numbers(seq, "int8")
        order = np.argsort(seqs)
        count = len(order)
        texts = [columns.to_texts(*named[at : at + 2])[0].take(pa.array(order)) for at in (0, 2, 4)]
        annotators, roles, comments = texts
        all_bad = columns.to_numbers(bad, "int4")[order].astype(bool)
        seconds_ = columns.to_numbers(seconds, "float8")[order]
        moments = columns.to_moments(created)[order]
        tests = columns.to_numbers(is_test, "int4")[order].astype(bool)
        given = {one - first: list(why) for one, why in reasons or []}
        weights = np.ones(count)
        if self.weights is not None:
            pairs = zip(annotators.to_pylist(), roles.to_pylist(), strict=True)
            weights = np.array([weight_of(annotator, role, self.weights) for annotator, role in pairs])
        answers, ratings = self._answers(bounds, count)
        merged = self._merged(bounds) if self.filters.decisions == "consensus" else {}
        if merged:
            comments = _replaced(comments, dict.fromkeys(merged, ""))
            for place, one in merged.items():
                all_bad[place], seconds_[place], weights[place] = one.is_all_bad, one.seconds, one.weight
                moments[place] = int(one.created.timestamp()) * 1_000_000 + one.created.microsecond
                given[place] = one.reasons
            answers, ratings = _with_consensus(answers, ratings, merged)
        self.statistics.add_opinions(
            columns.to_numbers(tasks, "int8")[order], _table(answers.counts, answers.ranks, all_bad)
        )
        ranks = np.where(np.repeat(all_bad, answers.counts), 1, answers.ranks)
        answers = answers._replace(ranks=ranks)
        if self.filters.ideal_on_top:
            answers, ratings, better = self._with_ideals(answers, ratings, bounds)
            all_bad &= ~better
        self._count(answers, all_bad, tests, roles)
        prompts, prompt_octets = self._prompts(bounds, count)
        offsets = columns.offsets_of(answers.counts)
        rows = np.repeat(np.arange(count), answers.counts)
        sizes = prompt_octets + np.bincount(rows, weights=answers.octets, minlength=count)
        completions = pa.StructArray.from_arrays(
            [answers.texts, answers.reasonings, pa.array(self.names, pa.string()).take(pa.array(answers.sources))],
            fields=list(COMPLETION),
        )
        splits = pa.array(["train", "test"]).take(pa.array(tests.astype(np.int8)))
        arrays = {
            "ranking": columns.to_hex(columns.to_digests(uids, 16)[order]),
            "prompt_id": columns.to_texts(hashes, hash_bytes)[0].take(pa.array(order)),
            "prompt": prompts,
            "completions": _lists(offsets, completions, RANKINGS.field("completions").type),
            "ranks": _lists(offsets, pa.array(answers.ranks, pa.int32()), RANKINGS.field("ranks").type),
            "ratings": _lists(offsets, _ratings(ratings, int(offsets[-1])), RANKINGS.field("ratings").type),
            "verdict": pa.array(["ranked", "all_bad"]).take(pa.array(all_bad.astype(np.int8))),
            "annotator": annotators,
            "role": roles,
            "weight": pa.array(weights),
            "reasons": pa.array([given.get(place, []) for place in range(count)], pa.list_(pa.string())),
            "comment": comments,
            "seconds": pa.array(seconds_),
            "created": pa.array(moments, pa.int64()).cast(TIME),
            "split": splits,
        }
        return pa.table(arrays, schema=RANKINGS), [int(size) for size in sizes]

    def _prompts(self, bounds: dict[str, Any], count: int) -> tuple[pa.ListArray, Array]:
        seq, place, *texts = columns.read(MESSAGES_READ, bounds)
        rows = columns.to_numbers(seq, "int8") - bounds["first"]
        order = np.lexsort([columns.to_numbers(place, "int8"), rows])
        (roles, role_octets), (contents, octets) = columns.to_texts(*texts[:2]), columns.to_texts(*texts[2:])
        turns = np.bincount(rows, minlength=count)
        self.has_turns = self.has_turns or bool((turns > 1).any())
        messages = pa.StructArray.from_arrays(
            [roles.take(pa.array(order)), contents.take(pa.array(order))], fields=list(MESSAGES.value_type)
        )
        sizes = np.bincount(rows, weights=octets + role_octets, minlength=count).astype(np.int64)
        return _lists(columns.offsets_of(turns), messages, MESSAGES), sizes

    def _answers(self, bounds: dict[str, Any], count: int) -> tuple[Answers, dict[int, dict[str, int]]]:
        """The answers, and what was rated by the place of each."""
        seq, ranks, ids, sources, hashes, *texts, rated = columns.read(ANSWERS, bounds)
        rows = columns.to_numbers(seq, "int8") - bounds["first"]
        source_ids = columns.to_numbers(sources, "int8")
        names = self.by_id[np.searchsorted(self.source_ids, source_ids, sorter=self.by_id)]
        # Postgres's big-endian bytes, compared as four numbers, have the order of the hex digits.
        digests = np.frombuffer(hashes or b"", ">u8").reshape(-1, 4)
        order = np.lexsort([names, *digests.T[::-1], rows])
        (contents, octets), (reasonings, more) = columns.to_texts(*texts[:2]), columns.to_texts(*texts[2:4])
        places = columns.to_numbers(ids, "int8")[order]
        answers = Answers(
            np.bincount(rows, minlength=count),
            columns.to_numbers(ranks, "int4")[order],
            places,
            names[order],
            contents.take(pa.array(order)),
            reasonings.take(pa.array(order)),
            (octets.astype(np.int64) + more)[order],
        )
        if not rated:
            return answers, {}
        sought = {(row - bounds["first"], pk): ratings for row, pk, ratings in rated}
        both = zip(rows[order].tolist(), places.tolist(), strict=True)
        return answers, {place: sought[key] for place, key in enumerate(both) if key in sought}

    def _merged(self, bounds: dict[str, Any]) -> dict[int, Consensus]:
        """By row: what the rankings of its task say together."""
        opinions: dict[int, dict[int, Opinion]] = defaultdict(dict)
        with connection.cursor() as cursor:
            cursor.execute(MEMBERS, bounds)
            for (
                seq,
                pk,
                annotator,
                role,
                is_bad,
                seconds,
                created,
                reasons,
                completion,
                rank,
                ratings,
            ) in cursor.fetchall():
                one = opinions[seq - bounds["first"]].get(pk)
                if one is None:
                    weight = weight_of(annotator, role, self.weights)
                    one = Opinion(annotator, role, is_bad, weight, seconds, created, reasons)
                    opinions[seq - bounds["first"]][pk] = one
                one.ranks[completion] = rank
                one.ratings[completion] = json.loads(ratings)
        return {row: agree(list(members.values())) for row, members in opinions.items()}

    def _with_ideals(
        self, answers: Answers, ratings: dict[int, dict[str, int]], bounds: dict[str, Any]
    ) -> tuple[Answers, dict[int, dict[str, int]], Array]:
        """Each annotator's ideal answer takes the first place of their ranking alone, the others move down.

        An answer that reads the same becomes it. Also which rankings have one: there nothing was good, but now something is better.
        """
        with connection.cursor() as cursor:
            cursor.execute(IDEAL, bounds)
            ideals = {seq - bounds["first"]: answer for seq, *answer in cursor.fetchall()}
        has_one = np.array([row in ideals for row in range(len(answers.counts))], dtype=bool)
        self.counts["ideal_on_top"] += len(ideals)
        if not ideals:
            return answers, ratings, has_one
        places: list[int] = []
        ranks: list[int] = []
        counts: list[int] = []
        added: list[list[str]] = []
        offsets = columns.offsets_of(answers.counts)
        for row in range(len(answers.counts)):
            own = list(range(offsets[row], offsets[row + 1]))
            given = [int(answers.ranks[place]) for place in own]
            if ideal := ideals.get(row):
                same = [p for p in own if [answers.texts[p].as_py(), answers.reasonings[p].as_py()] == ideal[:2]]
                others = [place for place in own if place not in same]
                used = sorted({int(answers.ranks[place]) for place in others})
                given = [*(used.index(int(answers.ranks[place])) + 2 for place in others), 1]
                own = [*others, same[0] if same else len(answers.texts) + len(added)]
                if not same:
                    added.append(ideal)
            places += own
            ranks += given
            counts.append(len(own))
        taken = pa.array(places)
        new = [pa.array([one[at] for one in added], pa.string()) for at in (0, 1)]
        octets = [len(text.encode()) + len(reasoning.encode()) for text, reasoning, _name in added]
        moved = Answers(
            np.array(counts),
            np.array(ranks, dtype=np.int32),
            np.concatenate([answers.ids, np.zeros(len(added), dtype=np.int64)])[places],
            np.concatenate([answers.sources, [self.names.index(name) for *_texts, name in added]]).astype(np.int64)[
                places
            ],
            pa.concat_arrays([answers.texts, new[0]]).take(taken),
            pa.concat_arrays([answers.reasonings, new[1]]).take(taken),
            np.concatenate([answers.octets, octets]).astype(np.int64)[places],
        )
        return moved, {to: ratings[place] for to, place in enumerate(places) if place in ratings}, has_one

    def _count(self, answers: Answers, all_bad: Array, tests: Array, roles: pa.StringArray) -> None:
        mask = _mask(answers.counts)
        ranks, lengths, sources = (np.zeros(mask.shape, dtype=np.int64) for _ in range(3))
        ranks[mask], sources[mask] = answers.ranks, answers.sources
        lengths[mask] = pc.utf8_length(answers.texts).to_numpy()
        pairs, ties = self.statistics.add(ranks, lengths, sources, self.names, all_bad)
        counts = self.counts
        counts["rankings"] += len(ranks)
        counts["all_bad"] += int(all_bad.sum())
        counts["ranked"] += int((~all_bad).sum())
        counts["pairs"] += int(pairs.sum())
        counts["ties"] += int(ties.sum())
        counts["decisions"] += pc.sum(pc.equal(roles, "adjudicator")).as_py() or 0
        for split, side in (("test", tests), ("train", ~tests)):
            counts[split] += int(side.sum())
            counts[f"{split}_pairs"] += int(pairs[side].sum())
            counts[f"{split}_best"] += int((pairs[side] > 0).sum())


def _mask(counts: Array) -> Array:
    """(N, K): where a ranking has a completion."""
    mask: Array = np.arange(max(counts, default=0))[None, :] < counts[:, None]
    return mask


def _table(counts: Array, ranks: Array, all_bad: Array) -> Array:
    """(N, K_MAX) with 0 where there is no completion or no order."""
    table = np.zeros((len(counts), K_MAX), dtype=np.int64)
    table[np.arange(K_MAX)[None, :] < counts[:, None]] = ranks
    table[all_bad] = 0
    return table


def _with_consensus(
    answers: Answers, ratings: dict[int, dict[str, int]], merged: dict[int, Consensus]
) -> tuple[Answers, dict[int, dict[str, int]]]:
    ranks, offsets, rated = answers.ranks.copy(), columns.offsets_of(answers.counts), dict(ratings)
    for row, one in merged.items():
        for place in range(offsets[row], offsets[row + 1]):
            completion = int(answers.ids[place])
            ranks[place] = one.ranks[completion]
            rated[place] = one.ratings[completion]
    return answers._replace(ranks=ranks), rated


def _replaced(texts: pa.StringArray, changes: dict[int, str]) -> pa.StringArray:
    return pa.array([changes.get(place, text) for place, text in enumerate(texts.to_pylist())], pa.string())


def _ratings(ratings: dict[int, dict[str, int]], count: int) -> pa.ListArray:
    """A list for each of `count` completions: what was rated, by the criterion's name."""
    sizes = np.zeros(count, dtype=np.int32)
    rated = [one for place in sorted(ratings) for one in sorted(ratings[place].items())]
    for place, given in ratings.items():
        sizes[place] = len(given)
    flat = pa.StructArray.from_arrays(
        [pa.array([name for name, _rating in rated], pa.string()), pa.array([one for _n, one in rated], pa.int32())],
        fields=list(RATINGS.value_type),
    )
    return _lists(columns.offsets_of(sizes), flat, RATINGS)


def _lists(offsets: Array, values: pa.Array, kind: pa.ListType) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values, type=kind)
