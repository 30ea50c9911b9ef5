"""What a dataset version's page draws, summed up while its rankings are written."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from django.db import connection
from numpy.typing import NDArray

from annotate.models import K_MAX

from .agreeing import FIRST, mean_taus, unit_vectors

Array = NDArray[Any]
# In characters. No completion is longer than the last one.
LENGTHS = (0, *(25 * 2**power for power in range(17)))
BINS = len(LENGTHS) - 1
AGREEMENTS = tuple(round(-1 + step / 10, 1) for step in range(21))
# Sums of more tasks than say enough of a distribution would not fit into bounded memory.
TASKS = 50_000
MEMBERS = "podium_found f WHERE f.dropped_by IS NULL"
ANNOTATORS = f"""
    SELECT annotator, role, count(*) FROM {MEMBERS} GROUP BY 1, 2
    ORDER BY count(*) DESC, annotator COLLATE "C", role COLLATE "C"
"""  # noqa: S608 - built of constants
IMPORTS = """
    SELECT i.job_id, coalesce(j.file_name, ''), count(*)
    FROM podium_found f JOIN annotate_importedranking i ON i.ranking_id = f.ranking_id
    LEFT JOIN annotate_import j ON j.id = i.job_id
    WHERE f.dropped_by IS NULL AND f.role = 'imported' GROUP BY 1, 2 ORDER BY 1
"""
PROMPTS = "SELECT count(DISTINCT prompt_id) FROM podium_kept"


@dataclass
class Statistics:
    chosen: Array = field(default_factory=lambda: np.zeros(BINS, dtype=np.int64))
    rejected: Array = field(default_factory=lambda: np.zeros(BINS, dtype=np.int64))
    sources: dict[str, Array] = field(default_factory=dict)  # name: rankings, wins, ties, losses
    sizes: Array = field(default_factory=lambda: np.zeros(K_MAX + 2, dtype=np.int64))
    pairs: int = 0
    ties: int = 0
    rankings: int = 0
    all_bad: int = 0
    tasks: dict[int, int] = field(default_factory=dict)
    sums: Array = field(default_factory=lambda: np.zeros((1000, len(FIRST)), dtype=np.float32))
    counts: Array = field(default_factory=lambda: np.zeros(1000, dtype=np.int32))

    def add(
        self, ranks: Array, lengths: Array, sources: Array, names: list[str], all_bad: Array
    ) -> tuple[Array, Array]:
        """Rankings (N, K): `ranks` with 0 where there is no completion, `lengths` in characters, `sources` as indexes into
        `names`; `all_bad` (N,). Returns how many pairs each ranking orders and how many it ties, (N,) each."""
        there = ranks > 0
        self.rankings += len(ranks)
        self.all_bad += int(all_bad.sum())
        self.sizes += np.bincount(there.sum(axis=1), minlength=len(self.sizes))
        # None of "all bad" says more of one than of another.
        here = there & ~all_bad[:, None]
        both = here[:, :, None] & here[:, None, :]
        better = both & (ranks[:, :, None] < ranks[:, None, :])
        equal = both & (ranks[:, :, None] == ranks[:, None, :])
        pairs = better.sum(axis=(1, 2))
        ties = (equal.sum(axis=(1, 2)) - here.sum(axis=1)) // 2
        self.pairs += int(pairs.sum())
        self.ties += int(ties.sum())
        bins = np.minimum(np.searchsorted(LENGTHS, lengths, side="right") - 1, BINS - 1)
        self.chosen += np.bincount(bins.ravel(), better.sum(axis=2).ravel(), BINS).astype(np.int64)
        self.rejected += np.bincount(bins.ravel(), better.sum(axis=1).ravel(), BINS).astype(np.int64)
        self._add_sources(there, better, equal, sources, names)
        return pairs, ties

    def _add_sources(self, there: Array, better: Array, equal: Array, sources: Array, names: list[str]) -> None:
        other = sources[:, :, None] != sources[:, None, :]
        figures = [(better & other).sum(axis=2), (equal & other).sum(axis=2), (better & other).sum(axis=1)]
        flat = np.where(there, sources, len(names))
        # A source with two completions in a ranking took part in it once.
        ordered = np.sort(flat, axis=1)
        first = np.concatenate([np.ones((len(ordered), 1), dtype=bool), ordered[:, 1:] != ordered[:, :-1]], axis=1)
        counted = [np.bincount(ordered[first], minlength=len(names) + 1)]
        counted += [np.bincount(flat.ravel(), one.ravel(), len(names) + 1) for one in figures]
        for index, name in enumerate(names):
            figure = np.array([one[index] for one in counted], dtype=np.int64)
            self.sources[name] = self.sources[name] + figure if name in self.sources else figure

    def add_opinions(self, tasks: Array, ranks: Array) -> None:
        """For the agreement within tasks: rankings (N, K_MAX), 0 where there is no completion, of tasks (N,)."""
        vectors, has_order = unit_vectors(ranks)
        numbers = np.array([self._number(task) for task in tasks.tolist()], dtype=np.int64)
        counted = (numbers >= 0) & has_order
        np.add.at(self.sums, numbers[counted], vectors[counted].astype(np.float32))
        np.add.at(self.counts, numbers[counted], 1)

    def _number(self, task: int) -> int:
        number = self.tasks.get(task)
        if number is None:
            if len(self.tasks) >= TASKS:
                return -1
            number = self.tasks[task] = len(self.tasks)
            if number >= len(self.counts):
                self.sums = np.concatenate([self.sums, np.zeros_like(self.sums)])
                self.counts = np.concatenate([self.counts, np.zeros_like(self.counts)])
        return number

    def json(self, languages: dict[str, int] | None) -> dict[str, Any]:
        """What `DatasetVersion.statistics` holds."""
        taus = mean_taus(self.sums.astype(np.float64), self.counts.astype(np.float64))
        tasks = np.histogram(np.clip(taus[~np.isnan(taus)], -1, 1), AGREEMENTS)[0]
        last = int(max(np.flatnonzero(self.chosen + self.rejected), default=0)) + 1
        with connection.cursor() as cursor:
            cursor.execute(ANNOTATORS)
            annotators = cursor.fetchall()
            cursor.execute(IMPORTS)
            imports = cursor.fetchall()
            cursor.execute(PROMPTS)
            prompts = cursor.fetchone()[0]
        return {
            "length": {
                "edges": list(LENGTHS[: last + 1]),
                "chosen": self.chosen[:last].tolist(),
                "rejected": self.rejected[:last].tolist(),
            },
            "agreement": {"edges": list(AGREEMENTS), "tasks": tasks.tolist()},
            "sources": [
                {"source": name, **dict(zip(("rankings", "wins", "ties", "losses"), figure.tolist(), strict=True))}
                for name, figure in sorted(self.sources.items(), key=lambda item: (-item[1][0], item[0]))
                if figure[0]
            ],
            "tie_rate": self.ties / max(self.pairs + self.ties, 1),
            "all_bad_rate": self.all_bad / max(self.rankings, 1),
            "k": {str(size): int(count) for size, count in enumerate(self.sizes) if count},
            "annotators": [{"annotator": name, "role": role, "rankings": count} for name, role, count in annotators],
            "imports": [{"import": pk, "file_name": name, "rankings": count} for pk, name, count in imports],
            "prompts": prompts,
            **({} if languages is None else {"languages": languages}),
        }
