"""Learning from whole rankings: each completion passes through the model once, the loss is over all pairs.

A ranking of K completions holds K(K−1)/2 pairs. Expanded to pairs, as TRL's trainers want them, each completion is encoded
K−1 times; kept whole, once. Loss and gradient are the same (tests/recipes/test_listwise.py).

Shapes: B rankings, N completions of all of them, T tokens, P pairs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from datasets import Dataset
from torch.nn.functional import softplus
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from training.recipes import ranks
from training.recipes.packing import cost, pack
from training.recipes.training import FiniteLoss


def pairs_of(ranks: Sequence[int], ties: str) -> list[tuple[int, int, float]]:
    """(winner, loser, weight) for each pair; 1 is the best rank. A tie gives nothing, or with "half" half a win to each.

    >>> pairs_of([2, 1, 2], ties="drop")
    [(1, 0, 1.0), (1, 2, 1.0)]
    """
    pairs = []
    for i, j in combinations(range(len(ranks)), 2):
        if ranks[i] < ranks[j]:
            pairs.append((i, j, 1.0))
        elif ranks[i] > ranks[j]:
            pairs.append((j, i, 1.0))
        elif ties == "half":
            pairs += [(i, j, 0.5), (j, i, 0.5)]
    return pairs


@dataclass
class RankingCollator:
    """Rankings to one padded batch of completions and the pairs among its rows.

    In:  [{"ids": [[1, 2], [1, 3, 4]], "prompt_length": 1, "ranks": [2, 1], "weight": 1.0}]
    Out: {"sizes": [2], "input_ids": [[1, 2, PAD], [1, 3, 4]], "attention_mask": [[1, 1, 0], [1, 1, 1]],
          "completion_mask": [[0, 1, 0], [0, 1, 1]], "winners": [1], "losers": [0], "weights": [1.0], "tied": [False],
          "choices": [0.0, 1.0], "lengths": [1, 2]}

    Pair weights are such that their weighted sum is the mean over each ranking's pairs, then over the rankings. `choices` weighs in
    the same way each completion that wins a pair (Plackett-Luce); `lengths` counts the tokens of each completion.
    `reference` (DPO: K log-probabilities per ranking) passes through, flattened. `sizes` counts each ranking's completions; it comes
    first, since the trainer takes the first length that it finds for the number of examples.
    With `breadth` (packing.py) completions share their prompt's tokens wherever that takes less time.
    """

    pad_token_id: int
    ties: str
    breadth: float | None = None

    def __call__(self, rankings: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        ids: list[torch.Tensor] = []
        completion_mask: list[torch.Tensor] = []
        winners, losers, weights, tied, choices = [], [], [], [], []
        for ranking in rankings:
            first, pairs = len(ids), pairs_of(ranking["ranks"], self.ties)
            total = sum(weight for *_, weight in pairs)
            for winner, loser, weight in pairs:
                winners.append(first + winner)
                losers.append(first + loser)
                weights.append(ranking["weight"] * weight / total / len(rankings))
                tied.append(ranking["ranks"][winner] == ranking["ranks"][loser])
            chosen = {winner for winner, *_ in pairs}
            choices += [
                ranking["weight"] / len(chosen) / len(rankings) if at in chosen else 0.0
                for at in range(len(ranking["ids"]))
            ]
            for one in ranking["ids"]:
                ids.append(torch.tensor(one))
                completion_mask.append((torch.arange(len(one)) >= ranking["prompt_length"]).long())
        encoded = {
            "input_ids": pad_sequence(ids, batch_first=True, padding_value=self.pad_token_id),
            "attention_mask": pad_sequence([torch.ones_like(one) for one in ids], batch_first=True),
            "completion_mask": pad_sequence(completion_mask, batch_first=True),
        }
        if self.breadth is not None:
            packed = pack(rankings, self.pad_token_id)
            if cost(packed["input_ids"], self.breadth) < cost(encoded["input_ids"], self.breadth):
                encoded = packed
        batch = {
            "sizes": torch.tensor([len(ranking["ids"]) for ranking in rankings]),
            **encoded,
            "winners": torch.tensor(winners, dtype=torch.long),
            "losers": torch.tensor(losers, dtype=torch.long),
            "weights": torch.tensor(weights, dtype=torch.float32),
            "tied": torch.tensor(tied, dtype=torch.bool),
            "choices": torch.tensor(choices, dtype=torch.float32),
            "lengths": torch.tensor(
                [len(one) - ranking["prompt_length"] for ranking in rankings for one in ranking["ids"]]
            ),
        }
        if "reference" in rankings[0]:
            batch["reference"] = torch.tensor([one for ranking in rankings for one in ranking["reference"]])
        return batch


class WholeRankings(FiniteLoss):
    """For TRL's trainers of preferences: takes what data.load_rankings gives, and a RankingCollator."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """TRL logs what the trainer has gathered in `_metrics`: here the mean over all ranks."""
        gathered = self._metrics["train" if self.model.training else "eval"]  # type: ignore[attr-defined]
        everywhere = ranks.gather(dict(gathered))
        for name in sorted({name for one in everywhere for name in one}):
            gathered[name] = [value for one in everywhere for value in one.get(name, ())]
        super().log(logs, start_time)  # type: ignore[misc]

    @torch.no_grad()
    def of_all(
        self, dataset: Dataset, values: Callable[[PreTrainedModel, dict[str, torch.Tensor]], torch.Tensor]
    ) -> list[list[float]]:
        """`values(model, batch)`, one number for each completion, of all rankings in the dataset's order. Ranks share the work."""
        model, size = self.model, self.args.per_device_eval_batch_size  # type: ignore[attr-defined]
        model.eval()
        said: list[list[float]] = []
        for start in range(ranks.rank() * size, len(dataset) + ranks.rank() * size, ranks.count() * size):
            mine = [dataset[at] for at in range(start, min(start + size, len(dataset)))]
            # A rank that has none left goes along: sharded weights are gathered by all.
            collated = self.data_collator(mine or [dataset[0]])  # type: ignore[attr-defined]
            batch = {name: value.to(model.device) for name, value in collated.items()}
            with self.accelerator.autocast():  # type: ignore[attr-defined]  # as in training
                flat_N = values(model, batch).tolist()
            part = []
            for ranking in mine:
                part.append(flat_N[: len(ranking["ids"])])
                flat_N = flat_N[len(ranking["ids"]) :]
            said += [one for each in ranks.gather(part) for one in each]
        return said


def bradley_terry(scores_N: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Σ w · −log σ(score of the winner − score of the loser): InstructGPT (arXiv:2203.02155), equation 1."""
    margins_P = scores_N[batch["winners"]] - scores_N[batch["losers"]]
    return (batch["weights"] * softplus(-margins_P)).sum()


def pair_metrics(scores_N: torch.Tensor, batch: dict[str, torch.Tensor]) -> dict[str, float]:
    """Accuracy and mean margin over the batch's pairs, ties left out."""
    margins_P = (scores_N[batch["winners"]] - scores_N[batch["losers"]]).detach()[~batch["tied"]]
    if not len(margins_P):
        return {}
    accuracy = (margins_P > 0).float() + 0.5 * (margins_P == 0).float()
    return {"accuracy": accuracy.mean().item(), "margin": margins_P.mean().item()}


@dataclass(frozen=True)
class Agreement:
    """How well scores agree with people on pairs that people did not tie."""

    accuracy: float
    low: float
    high: float
    pairs: int
    confidence: float  # the mean probability given to the side held better; equals the accuracy when calibrated

    def share(self) -> dict[str, float]:
        """The accuracy with its interval, by the ending of their names."""
        return {"": self.accuracy, "_low": self.low, "_high": self.high}

    def metrics(self, prefix: str) -> dict[str, float]:
        return {
            f"{prefix}_accuracy": self.accuracy,
            f"{prefix}_accuracy_low": self.low,
            f"{prefix}_accuracy_high": self.high,
            f"{prefix}_pairs": self.pairs,
            f"{prefix}_confidence": self.confidence,
        }


def agreement(scores: list[list[float]], ranks: list[list[int]], prompts: list[str]) -> Agreement | None:
    """Pairwise accuracy with its 95 % Wilson interval; None without a pair.

    Pairs of one prompt are not independent, so the interval counts prompts, not pairs: it errs on the wide side.
    Equal scores count half.
    """
    right = confidence = 0.0
    pairs = 0
    seen = set()
    for scores_K, ranks_K, prompt in zip(scores, ranks, prompts, strict=True):
        for winner, loser, _ in pairs_of(ranks_K, ties="drop"):
            margin = scores_K[winner] - scores_K[loser]
            right += (margin > 0) + 0.5 * (margin == 0)
            confidence += torch.sigmoid(torch.tensor(abs(margin))).item()
            pairs += 1
            seen.add(prompt)
    if not pairs:
        return None
    low, high = wilson(right / pairs, len(seen))
    return Agreement(right / pairs, low, high, pairs, confidence / pairs)


def wilson(share: float, n: int) -> tuple[float, float]:
    """The 95 % score interval of a share seen in n independent trials: Wilson (1927)."""
    z = 1.959964
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)
