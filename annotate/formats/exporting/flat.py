"""Rankings laid flat, so that a pair, a label or a conversation is an index into arrays and no text is copied.

Shapes: R rankings of a batch, C their completions one after the other, M the messages of their prompts, N rows that leave.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

# Parquet stores such a column as it is; each text stands in it once, however many rows share it.
TEXT = pa.dictionary(pa.int32(), pa.string())
MESSAGES = pa.list_(pa.struct([("role", TEXT), ("content", TEXT)]))


class Pairs(NamedTuple):
    ranking: "Array"  # (N,) index into the rankings
    chosen: "Array"  # (N,) index into the completions
    rejected: "Array"  # (N,)


class Flat:
    """A batch of stored rankings, or of ideal answers, which are one completion each and have no ranks."""

    def __init__(self, batch: pa.RecordBatch, *, keeps_reasoning: bool) -> None:
        self.batch, self.keeps_reasoning = batch, keeps_reasoning
        is_ranked = "ranks" in batch.schema.names
        self.sizes = pc.list_value_length(batch["ranks"]).to_numpy() if is_ranked else np.ones(len(batch), np.int64)
        self.starts = np.concatenate([[0], np.cumsum(self.sizes)])  # (R + 1,)
        self.ranks = batch["ranks"].flatten().to_numpy() if is_ranked else np.ones(len(batch), np.int32)  # (C,)

    @cached_property
    def prompt_starts(self) -> "Array":
        """(R + 1,) where each prompt's messages begin, and at last M."""
        return np.concatenate([[0], np.cumsum(pc.list_value_length(self.batch["prompt"]).to_numpy())])

    @cached_property
    def roles(self) -> pa.Array:
        """(M,)"""
        return self.batch["prompt"].flatten().field("role")

    @cached_property
    def contents(self) -> pa.Array:
        """(M,)"""
        return self.batch["prompt"].flatten().field("content")

    @cached_property
    def answers(self) -> "Mapping[str, pa.Array]":
        """`completion` and `reasoning`, (C,) each; of rankings `source`, too."""
        if "completions" not in self.batch.schema.names:
            return {name: self.batch[name] for name in ("completion", "reasoning")}
        answers = self.batch["completions"].flatten()
        return {name: answers.field(name) for name in ("completion", "reasoning", "source")}

    @cached_property
    def texts(self) -> pa.Array:
        """(C,)"""
        texts, reasoning = self.answers["completion"], self.answers["reasoning"]
        if not self.keeps_reasoning:
            return texts
        thought = pc.binary_join_element_wise("<think>\n", reasoning, "\n</think>\n\n", texts, "")
        return pc.if_else(pc.equal(reasoning, ""), texts, thought)

    @cached_property
    def ranking(self) -> "Array":
        """(C,) which ranking each completion is of."""
        return np.repeat(np.arange(len(self.sizes)), self.sizes)

    @cached_property
    def is_ordered(self) -> "Array":
        """(R,) false for "all bad", whose ranks say nothing."""
        return np.asarray(pc.equal(self.batch["verdict"], "ranked").to_numpy(zero_copy_only=False))

    @cached_property
    def questions(self) -> pa.Array:
        """(R,) each prompt's last message."""
        return self.contents.take(pa.array(self.prompt_starts[1:] - 1))

    def by_size(self) -> list[tuple["Array", "Array"]]:
        """For each number K of completions: (the rankings with so many (n,), their ranks (n, K))."""
        found = []
        for size in np.unique(self.sizes):
            rankings = np.flatnonzero(self.sizes == size)
            found.append((rankings, self.ranks[self.starts[rankings, None] + np.arange(size)]))
        return found

    def pairs(self) -> Pairs:
        """Every two completions of different ranks, ranking by ranking, the best with each below it first; ties and "all bad" give none."""
        parts = []
        for rankings, ranks in self.by_size():
            ordered = self.is_ordered[rankings]
            rankings, ranks = rankings[ordered], ranks[ordered]
            order = np.argsort(ranks, axis=1, kind="stable")
            first, second = np.triu_indices(ranks.shape[1], 1)
            better, worse = order[:, first], order[:, second]
            differ = np.take_along_axis(ranks, better, 1) != np.take_along_axis(ranks, worse, 1)
            row = np.broadcast_to(rankings[:, None], differ.shape)[differ]
            parts.append((row, self.starts[row] + better[differ], self.starts[row] + worse[differ]))
        ranking, chosen, rejected = (np.concatenate([[], *column]).astype(np.int64) for column in zip(*parts, strict=True)) if parts else (np.zeros(0, np.int64),) * 3  # fmt: skip
        if len(parts) > 1:
            order = np.argsort(ranking, kind="stable")
            return Pairs(ranking[order], chosen[order], rejected[order])
        return Pairs(ranking, chosen, rejected)

    def labels(self, desirable: str) -> "Array":
        """(C,) 1 good, 0 bad, -1 neither, as the method `kto` judges by place (training.recipes.unpaired.by_rank)."""
        labels = np.full(len(self.ranks), -1, dtype=np.int8)
        for rankings, ranks in self.by_size():
            if desirable == "best":
                good, bad = ranks == ranks.min(1, keepdims=True), ranks == ranks.max(1, keepdims=True)
                good, bad = good & ~bad, bad & ~good
            else:
                above = (ranks[:, None, :] < ranks[:, :, None]).sum(2)
                level = (ranks[:, None, :] == ranks[:, :, None]).sum(2)
                twice = 2 * above + level + 1  # twice its place; ties share the mean of theirs
                good, bad = twice < ranks.shape[1] + 1, twice > ranks.shape[1] + 1
            found = np.where(good, 1, np.where(bad, 0, -1))
            found[~self.is_ordered[rankings]] = 0
            labels[self.starts[rankings, None] + np.arange(ranks.shape[1])] = found
        return labels

    def best(self) -> "Array":
        """Of each ranking that prefers anything the first completion on its first place, (N,)."""
        prefers = np.zeros(len(self.sizes), dtype=bool)
        for rankings, ranks in self.by_size():
            prefers[rankings] = self.is_ordered[rankings] & (ranks.max(1) > 1)
        at_top = np.flatnonzero((self.ranks == 1) & prefers[self.ranking])
        return at_top[np.unique(self.ranking[at_top], return_index=True)[1]]

    def text(self, values: pa.Array, at: "Array") -> pa.Array:
        """(N,) values[at]. What no row takes is left out: it would be compressed for nothing."""
        used, at = np.unique(at, return_inverse=True)
        if len(used) < len(values):
            values = values.take(pa.array(used))
        return pa.DictionaryArray.from_arrays(pa.array(at, pa.int32()), values)

    def messages(self, rankings: "Array | None", completions: "Array | None") -> pa.Array:
        """(N,) conversations: the rankings' prompts, each followed by a completion as the assistant's turn; either may be missing."""
        if rankings is not None:
            before = self.prompt_starts[rankings + 1] - self.prompt_starts[rankings]
        else:
            before = np.zeros_like(completions)
        lengths = before + (completions is not None)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        at = np.arange(offsets[-1])
        if rankings is not None:
            at += np.repeat(self.prompt_starts[rankings] - offsets[:-1], lengths)
        role = at.copy()
        if completions is not None:
            role[offsets[1:] - 1] = len(self.roles)
            at[offsets[1:] - 1] = len(self.contents) + completions
        roles = pa.concat_arrays([self.roles, pa.array(["assistant"])])
        contents = pa.concat_arrays([self.contents, self.texts]) if completions is not None else self.contents
        turns = pa.StructArray.from_arrays(
            [self.text(roles, role), self.text(contents, at)], fields=list(MESSAGES.value_type)
        )
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), turns, type=MESSAGES)
