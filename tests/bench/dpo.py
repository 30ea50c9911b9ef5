"""DPO on whole rankings against TRL's DPOTrainer on the expanded pairs of the same rankings.

As in tests/bench/reward.py; each side also computes the reference's log-probabilities once for what it trains on, as one epoch does.
"""

import tempfile
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoTokenizer
from trl import DPOConfig, DPOTrainer

from tests.bench.figures import Figure
from tests.bench.reward import CASES, Case, encoded, pairs, settings, speedup, stepper
from tests.recipes.tiny import save_tiny_model
from training.recipes.dpo import ListwiseDPOTrainer
from training.recipes.listwise import RankingCollator
from training.recipes.models import load_causal_lm
from training.recipes.packing import breadth


def run() -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        path = save_tiny_model(Path(folder, "model"), hidden=384, layers=6)
        return [measure(path, case) for case in CASES]


def measure(path: Path, case: Case) -> Figure:
    tokenizer = AutoTokenizer.from_pretrained(path)
    location = {"location": f"folder:{path}"}
    rows, model = case.rankings(), load_causal_lm(location)
    # Neither trainer's own pass over the dataset is timed: `before` below repeats it for each batch.
    config = DPOConfig(**settings(path), precompute_ref_log_probs=True)
    expanded = DPOTrainer(
        load_causal_lm(location),
        args=config,
        train_dataset=Dataset.from_list([pair for row in rows for pair in pairs(row)]),
        processing_class=tokenizer,
    )
    whole = ListwiseDPOTrainer(
        model,
        args=config,
        data_collator=RankingCollator(tokenizer.pad_token_id, "drop", breadth(model)),
        train_dataset=encoded(rows, tokenizer),
        processing_class=tokenizer,
    )

    def expanded_reference(batch: Any) -> None:
        expanded.compute_ref_log_probs(expanded.model, batch)

    @torch.no_grad()
    def whole_reference(batch: Any) -> None:
        with whole.compute_loss_context_manager():
            whole.log_probs(whole.model, batch)

    return speedup(
        "dpo",
        case,
        stepper(expanded, case.k * (case.k - 1) // 2, case.pairs_at_once, expanded_reference),
        stepper(whole, 1, before=whole_reference),
        "TRL DPOTrainer on all pairs",
    )
