"""How a policy would order whole rankings: by its implicit reward β (log π − log π_ref), or by its own likelihood.

Shapes: N completions, T tokens, V tokens of the vocabulary.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer

from training.recipes import ranks
from training.recipes.data import as_text, encode, read_rankings
from training.recipes.listwise import Agreement, agreement
from training.recipes.run_folder import RunFolder


def held_out_rankings(folder: RunFolder, tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[dict[str, Any]]:
    """The test rankings with a pair to order, encoded. Says nothing of what it leaves out: that is for whoever loads what is learned."""
    rows = [
        {**row, **encode(tokenizer, row["prompt"], [as_text(one) for one in row["completions"]])}
        for row in read_rankings(folder)
        if row["split"] == "test" and row["verdict"] == "ranked" and len(set(row["ranks"])) > 1
    ]
    return [row for row in rows if max(map(len, row["ids"])) <= max_length]


class RankingJudge:
    """Measures a trainer's policy on whole rankings. Made before the policy learns: it is its own reference.

    `per_token` scores by the mean log-probability of a completion's tokens, and needs no reference. `size` is how many completions
    pass through the model at once.
    """

    def __init__(
        self,
        folder: RunFolder,
        trainer: Trainer,
        rankings: list[dict[str, Any]],
        size: int,
        *,
        beta: float = 1.0,
        per_token: bool = False,
    ) -> None:
        self.trainer, self.rankings, self.size = trainer, rankings, size
        self.beta, self.per_token = beta, per_token
        self.reference_N = torch.zeros(())
        if not per_token:
            self.reference_N = kept_tensor(folder.path / "reference.safetensors", "rankings", self.log_probs)

    def measure(self) -> dict[str, float]:
        """Held-out accuracy with its interval; empty without a ranking to order."""
        flat = (self.beta * (self.log_probs() - self.reference_N)).tolist()
        scores = []
        for row in self.rankings:
            scores.append(flat[: len(row["ids"])])
            flat = flat[len(row["ids"]) :]
        agreed: Agreement | None = agreement(
            scores, [row["ranks"] for row in self.rankings], [row["prompt_id"] for row in self.rankings]
        )
        metrics = agreed.metrics("eval") if agreed else {}
        if self.per_token:
            metrics.pop("eval_confidence", None)  # a margin per token is no logit of a preference
        return metrics

    @torch.no_grad()
    def log_probs(self) -> torch.Tensor:
        """(N,): for each completion the sum over its tokens, or with `per_token` their mean."""
        model = self.trainer.model
        was_training = model.training
        model.eval()
        completions = [(ids, row["prompt_length"]) for row in self.rankings for ids in row["ids"]]
        log_probs: list[float] = []
        with (
            self.trainer.accelerator.autocast()
        ):  # as in training, so that policy and reference differ by learning alone
            for start in range(0, len(completions), self.size):
                log_probs += self._of_batch(model, completions[start : start + self.size])
        model.train(was_training)
        return torch.tensor(log_probs)

    def _of_batch(self, model: PreTrainedModel, completions: list[tuple[list[int], int]]) -> list[float]:
        width = max(len(ids) for ids, _ in completions)
        ids_NT = torch.tensor([ids + [0] * (width - len(ids)) for ids, _ in completions])
        mask_NT = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids, _ in completions])
        device = model.device
        logits_NTV = model(input_ids=ids_NT.to(device), attention_mask=mask_NT.to(device), use_cache=False).logits
        reduction = "mean" if self.per_token else "sum"
        return [
            -cross_entropy(
                logits_TV[length - 1 : len(ids) - 1].float(),
                torch.tensor(ids[length:], device=device),
                reduction=reduction,
            ).item()
            for logits_TV, (ids, length) in zip(logits_NTV, completions, strict=True)
        ]


def kept_tensor(file: Path, name: str, compute: Callable[[], torch.Tensor]) -> torch.Tensor:
    """What `compute` gave at the first attempt of a run, from `file`. The next attempts need not compute it."""
    kept = load_file(file) if file.is_file() else {}
    if name not in kept:
        kept[name] = compute()
        if ranks.is_first():
            partial = file.with_suffix(".partial")
            save_file(kept, partial)
            partial.rename(file)
    return kept[name]
