"""Training a reward model on whole rankings against TRL's RewardTrainer on the expanded pairs of the same rankings.

A Llama of 14 million parameters made in code (a run's time is in the matrix products of its layers, whatever their size; it
leaves room for several rounds), prompts of some 40 and answers of some 120 tokens, or prompts of 512 and answers of 96; one ranking a
step, optimiser included. Completions share their prompt's tokens where that pays off, as in a run. Steps of both are interleaved; a
figure is the median of the rounds' ratios.
"""

import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
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
from training.recipes.packing import breadth
from training.recipes.reward import ListwiseRewardTrainer


@dataclass(frozen=True)
class Case:
    """Rankings of `k` completions, and how often they are measured. Words have four tokens each, the space after them included."""

    name: str
    k: int
    rounds: int
    prompt_words: int = 5
    answer_words: tuple[int, int] = (28, 33)
    pairs_at_once: int = 28  # of one step of TRL's; fewer where all would take ten gigabytes

    def rankings(self) -> list[dict[str, Any]]:
        return [ranking(number, self) for number in range(self.rounds + 1)]


CASES = (
    Case("k4", 4, 5),
    Case("k8", 8, 3),
    Case("k4_prompt512", 4, 3, prompt_words=123, answer_words=(22, 26), pairs_at_once=7),
    Case("k8_prompt512", 8, 2, prompt_words=123, answer_words=(22, 26), pairs_at_once=7),
)


def run() -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        path = save_tiny_model(Path(folder, "model"), hidden=384, layers=6)
        return [measure(path, case) for case in CASES]


def measure(path: Path, case: Case) -> Figure:
    tokenizer = AutoTokenizer.from_pretrained(path)
    rows, model = case.rankings(), make_reward_model({"location": f"folder:{path}"})
    config = RewardConfig(**settings(path))
    expanded = RewardTrainer(
        make_reward_model({"location": f"folder:{path}"}),
        args=config,
        train_dataset=Dataset.from_list([pair for row in rows for pair in pairs(row)]),
        processing_class=tokenizer,
    )
    whole = ListwiseRewardTrainer(
        model,
        args=config,
        data_collator=RankingCollator(tokenizer.pad_token_id, "drop", breadth(model)),
        train_dataset=encoded(rows, tokenizer),
        processing_class=tokenizer,
    )
    pairs_each = case.k * (case.k - 1) // 2
    return speedup(
        "reward",
        case,
        stepper(expanded, pairs_each, case.pairs_at_once),
        stepper(whole, 1),
        "TRL RewardTrainer on all pairs",
    )


def speedup(
    name: str, case: Case, expanded: Callable[[int], None], whole: Callable[[int], None], against: str
) -> Figure:
    """Both take step number n on ranking n. The first round warms up and does not count."""
    ratios, seconds = [], []
    for number in range(case.rounds + 1):
        began = time.perf_counter()
        expanded(number)
        between = time.perf_counter()
        whole(number)
        seconds.append(time.perf_counter() - between)
        ratios.append((between - began) / seconds[-1])
    rate, ratio = 1 / statistics.median(seconds[1:]), statistics.median(ratios[1:])
    print(f"{name} {case.name}: {rate:.2f} rankings/s on whole rankings, {ratio:.2f} times those on pairs", flush=True)
    return Figure.from_rounds(f"{name}_speedup_{case.name}", ratios[1:], "x", against)


def stepper(
    trainer: Any, batch_size: int, at_once: int = 28, before: Callable[[Any], None] | None = None
) -> Callable[[int], None]:
    """One optimiser step on the n-th batch of the trainer's dataset, in parts of `at_once` examples."""
    optimizer = trainer.create_optimizer()
    trainer.current_gradient_accumulation_steps = 1  # what `train` would set

    def step(number: int) -> None:
        end = (number + 1) * batch_size
        for first in range(number * batch_size, end, at_once):
            batch = trainer.data_collator([trainer.train_dataset[at] for at in range(first, min(first + at_once, end))])
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


def ranking(number: int, case: Case) -> dict[str, Any]:
    choose = random.Random(number)
    text = lambda words: " ".join(choose.choice(WORDS) for _ in range(words))  # noqa: E731
    return {
        "prompt": [{"role": "user", "content": text(case.prompt_words)}],
        "completions": [text(choose.randint(*case.answer_words)) for _ in range(case.k)],
        "ranks": choose.sample(range(1, case.k + 1), case.k),
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
