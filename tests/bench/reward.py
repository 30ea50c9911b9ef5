"""Training a reward model on whole rankings against TRL's RewardTrainer on the expanded pairs of the same rankings.

A Llama of 14 million parameters made in code (a run's time is in the matrix products of its layers, whatever their size; it
leaves room for several rounds), prompts of some 40 and answers of some 120 tokens, one ranking a step, optimiser included.
Steps of both are interleaved; a figure is the median of the rounds' ratios.
"""

import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoTokenizer
from trl import RewardConfig, RewardTrainer

from tests.bench.figures import Figure
from tests.recipes.tiny import WORDS, save_tiny_model
from training.recipes.data import encode
from training.recipes.listwise import RankingCollator, pairs_of
from training.recipes.models import bf16_is_fast, make_reward_model
from training.recipes.reward import ListwiseRewardTrainer

ROUNDS = {4: 5, 8: 3}


def run() -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        path = save_tiny_model(Path(folder, "model"), hidden=384, layers=6)
        return [measure(path, k) for k in (4, 8)]


def measure(path: Path, k: int) -> Figure:
    tokenizer = AutoTokenizer.from_pretrained(path)
    rows = [ranking(number, k) for number in range(ROUNDS[k] + 1)]
    config = RewardConfig(**settings(path))
    expanded = RewardTrainer(
        make_reward_model({"location": f"folder:{path}"}),
        args=config,
        train_dataset=Dataset.from_list([pair for row in rows for pair in pairs(row)]),
        processing_class=tokenizer,
    )
    whole = ListwiseRewardTrainer(
        make_reward_model({"location": f"folder:{path}"}),
        args=config,
        data_collator=RankingCollator(tokenizer.pad_token_id, "drop"),
        train_dataset=encoded(rows, tokenizer),
        processing_class=tokenizer,
    )
    return speedup(
        "reward", k, stepper(expanded, k * (k - 1) // 2), stepper(whole, 1), "TRL RewardTrainer on all pairs"
    )


def speedup(name: str, k: int, expanded: Callable[[int], None], whole: Callable[[int], None], against: str) -> Figure:
    """Both take step number n on ranking n. The first round warms up and does not count."""
    ratios, seconds = [], []
    for number in range(ROUNDS[k] + 1):
        began = time.perf_counter()
        expanded(number)
        between = time.perf_counter()
        whole(number)
        seconds.append(time.perf_counter() - between)
        ratios.append((between - began) / seconds[-1])
    rate, ratio = 1 / statistics.median(seconds[1:]), statistics.median(ratios[1:])
    print(f"{name} K={k}: {rate:.2f} rankings/s on whole rankings, {ratio:.2f} times those on pairs", flush=True)
    return Figure.from_rounds(f"{name}_speedup_k{k}", ratios[1:], "x", against)


def stepper(trainer: Any, batch_size: int, before: Callable[[Any], None] | None = None) -> Callable[[int], None]:
    """One optimiser step on the n-th batch of the trainer's dataset."""
    optimizer = trainer.create_optimizer()
    trainer.current_gradient_accumulation_steps = 1  # what `train` would set

    def step(number: int) -> None:
        first = number * batch_size
        batch = trainer.data_collator([trainer.train_dataset[at] for at in range(first, first + batch_size)])
        if before:
            before(batch)
        trainer.training_step(trainer.model, batch)
        optimizer.step()
        optimizer.zero_grad()

    return step


def settings(path: Path) -> dict[str, Any]:
    on_gpu = torch.cuda.is_available()
    return {
        "output_dir": str(path.parent / "out"),
        "use_cpu": not on_gpu,
        "bf16": bf16_is_fast(),
        "gradient_checkpointing": False,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": on_gpu,
    }


def ranking(number: int, k: int) -> dict[str, Any]:
    choose = random.Random(number)
    text = lambda words: " ".join(choose.choice(WORDS) for _ in range(words))  # noqa: E731
    return {
        "prompt": [{"role": "user", "content": text(5)}],
        "completions": [text(choose.randint(28, 33)) for _ in range(k)],
        "ranks": choose.sample(range(1, k + 1), k),
    }


def pairs(row: dict[str, Any]) -> list[dict[str, Any]]:
    answers = [[{"role": "assistant", "content": text}] for text in row["completions"]]
    return [
        {"prompt": row["prompt"], "chosen": answers[winner], "rejected": answers[loser]}
        for winner, loser, _ in pairs_of(row["ranks"], ties="drop")
    ]


def encoded(rows: list[dict[str, Any]], tokenizer: Any) -> Dataset:
    return Dataset.from_list(
        [{**encode(tokenizer, row["prompt"], row["completions"]), "ranks": row["ranks"], "weight": 1.0} for row in rows]
    )
