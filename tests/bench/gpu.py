"""Training on a GPU in bfloat16: tokens per second, the share of the device's arithmetic that they use, and TRL's own trainers on the
same data in the same run. Needs a CUDA device; elsewhere it says so and measures nothing.

    make bench ONLY=gpu
    python -m tests.bench.gpu MODEL_FOLDER      the same at a toy's size, wherever it is started: does every path still run?

SmolLM2-135M-Instruct, prompts of some 256 and answers of some 128 tokens; SFT 32 examples, reward and DPO 8 rankings of 4 completions,
GRPO 8 prompts of 8 completions a step. TRL takes the pairs of the same rankings. Steps of both are interleaved, optimiser included.

Model FLOPs: 6 for each token and weight of the layers and of the head (reward has none), 2 more for the reference of DPO and GRPO, 2 more
for GRPO's sampling; and twice as many × layers × width × length for attention. Tokens count as they pass through the model, so a saving shows in the ratio
to TRL, not in the utilisation.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoTokenizer, PreTrainedModel
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

from tests.bench.figures import Figure
from tests.bench.reward import Case, encoded, pairs
from training.recipes.arguments import SMOLLM2
from training.recipes.dpo import ListwiseDPOTrainer
from training.recipes.grpo import OnlineGRPOTrainer
from training.recipes.listwise import RankingCollator
from training.recipes.models import load_causal_lm, make_reward_model, resolve
from training.recipes.packing import breadth
from training.recipes.reward import ListwiseRewardTrainer
from training.recipes.sft import FiniteSFTTrainer

# Dense bfloat16 operations per second, as their makers state them.
PEAK = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10": 125e12,
}


@dataclass(frozen=True)
class Size:
    rounds: int = 8
    rankings: int = 8
    examples: int = 32
    prompts: int = 8
    generations: int = 8
    new_tokens: int = 128
    prompt_words: int = 170
    answer_words: tuple[int, int] = (75, 90)


TOY = Size(
    rounds=1, rankings=1, examples=2, prompts=1, generations=2, new_tokens=4, prompt_words=5, answer_words=(3, 5)
)
Step = Callable[[int], int]  # takes the n-th step, and says how many tokens passed through the model


def run() -> list[Figure]:
    if not torch.cuda.is_available():
        print("gpu: this group needs a CUDA device, and there is none here. Nothing was measured.", flush=True)
        return []
    print(f"on one {torch.cuda.get_device_name()}, bfloat16", flush=True)
    return measure(Path(resolve({"location": f"pypi:{SMOLLM2}"})), Size())


def measure(path: Path, size: Size) -> list[Figure]:
    figures = []
    for method in (sft, reward, dpo, grpo):
        with tempfile.TemporaryDirectory() as folder:
            figures += method(path, size, settings(Path(folder)))
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return figures


def settings(folder: Path) -> dict[str, Any]:
    on_gpu = torch.cuda.is_available()
    return {
        "output_dir": str(folder), "use_cpu": not on_gpu, "bf16": on_gpu, "gradient_checkpointing": False, "report_to": "none",
        "disable_tqdm": True, "dataloader_pin_memory": on_gpu, "save_strategy": "no", "logging_strategy": "no",
    }  # fmt: skip


def sft(path: Path, size: Size, given: dict[str, Any]) -> list[Figure]:
    tokenizer = AutoTokenizer.from_pretrained(path)
    rows = rankings(size, size.examples * (size.rounds + 1), 2)
    ids = [one["ids"][0] for one in encoded(rows, tokenizer)]
    data = Dataset.from_list([{"input_ids": one, "labels": one} for one in ids])
    make = lambda kind: kind(  # noqa: E731
        load(path), args=SFTConfig(**given, max_length=None), train_dataset=data, processing_class=tokenizer
    )
    ours, theirs = make(FiniteSFTTrainer), make(SFTTrainer)
    return compare(
        "sft", size, ours.model, stepper(ours, size.examples), stepper(theirs, size.examples), head=True, of="TRL SFTTrainer"
    )  # fmt: skip


def reward(path: Path, size: Size, given: dict[str, Any]) -> list[Figure]:
    tokenizer = AutoTokenizer.from_pretrained(path)
    rows, config = rankings(size, size.rankings * (size.rounds + 1), 4), RewardConfig(**given)
    model = make_reward_model({"location": f"folder:{path}"})
    ours = ListwiseRewardTrainer(
        model,
        args=config,
        data_collator=RankingCollator(tokenizer.pad_token_id, "drop", breadth(model)),
        train_dataset=encoded(rows, tokenizer),
        processing_class=tokenizer,
    )
    theirs = RewardTrainer(
        make_reward_model({"location": f"folder:{path}"}),
        args=config,
        train_dataset=expanded(rows),
        processing_class=tokenizer,
    )
    return compare(
        "reward", size, ours.model, stepper(ours, size.rankings), stepper(theirs, 6 * size.rankings), head=False,
        of="TRL RewardTrainer on all pairs",
    )  # fmt: skip


def dpo(path: Path, size: Size, given: dict[str, Any]) -> list[Figure]:
    tokenizer = AutoTokenizer.from_pretrained(path)
    rows = rankings(size, size.rankings * (size.rounds + 1), 4)
    config, model = DPOConfig(**given, precompute_ref_log_probs=True), load(path)
    ours = ListwiseDPOTrainer(
        model,
        args=config,
        data_collator=RankingCollator(tokenizer.pad_token_id, "drop", breadth(model)),
        train_dataset=encoded(rows, tokenizer),
        processing_class=tokenizer,
    )
    theirs = DPOTrainer(load(path), args=config, train_dataset=expanded(rows), processing_class=tokenizer)

    @torch.no_grad()
    def reference(batch: Any) -> None:
        with ours.accelerator.autocast():
            ours.log_probs(ours.model, batch)

    return compare(
        "dpo", size, ours.model, stepper(ours, size.rankings, reference),
        stepper(theirs, 6 * size.rankings, lambda batch: theirs.compute_ref_log_probs(theirs.model, batch)), head=True,
        of="TRL DPOTrainer on all pairs", passes=8,
    )  # fmt: skip


def grpo(path: Path, size: Size, given: dict[str, Any]) -> list[Figure]:
    """Whole steps of `train`, sampling included; every completion is as long as it may be."""
    tokenizer = AutoTokenizer.from_pretrained(path)
    rows = rankings(size, size.prompts * (size.rounds + 1), 2)
    data = Dataset.from_list([{"prompt": row["prompt"]} for row in rows])
    batch = size.prompts * size.generations
    prompt = len(tokenizer.apply_chat_template(rows[0]["prompt"], add_generation_prompt=True)["input_ids"])
    config = GRPOConfig(
        **given, per_device_train_batch_size=batch, num_generations=size.generations, max_completion_length=size.new_tokens,
        generation_kwargs={"min_new_tokens": size.new_tokens}, max_steps=1, beta=0.04,
    )  # fmt: skip
    length = lambda *, completion_ids, **_: [float(sum(ids) % 7) for ids in completion_ids]  # noqa: E731
    trainers = [
        kind(model=load(path), args=config, reward_funcs=[length], train_dataset=data, processing_class=tokenizer)
        for kind in (OnlineGRPOTrainer, GRPOTrainer)
    ]

    def steps(trainer: Any) -> Step:
        def step(number: int) -> int:
            trainer.train()
            return batch * (prompt + size.new_tokens)

        return step

    ours, theirs = map(steps, trainers)
    return compare("grpo", size, trainers[0].model, ours, theirs, head=True, of="TRL GRPOTrainer", passes=10)


def compare(
    name: str, size: Size, model: PreTrainedModel, ours: Step, theirs: Step, *, head: bool, of: str, passes: int = 6
) -> list[Figure]:  # fmt: skip
    """The first round warms up and does not count. `passes` are operations for each weight and token."""
    ratios, rates, used = [], [], []
    for number in range(size.rounds + 1):
        seconds, tokens = timed(ours, number)
        baseline, _ = timed(theirs, number)
        ratios.append(baseline / seconds)
        rates.append(tokens / seconds)
        if peak := peak_operations():
            used.append(operations(model, tokens, size, head, passes) / seconds / peak)
    figures = [
        Figure.from_rounds(f"gpu_{name}_tokens_per_s", rates[1:], "tokens/s"),
        Figure.from_rounds(f"gpu_{name}_ratio_to_trl", ratios[1:], "x", of),
    ]
    if used:
        figures.append(Figure("gpu_" + name + "_mfu", 100 * statistics.median(used[1:]), "%"))
    return figures


def timed(step: Step, number: int) -> tuple[float, int]:
    began = time.perf_counter()
    tokens = step(number)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began, tokens


def operations(model: PreTrainedModel, tokens: int, size: Size, head: bool, passes: int) -> float:
    config, embedding = model.config.get_text_config(), model.get_input_embeddings().weight.numel()
    weights = model.base_model.num_parameters() - embedding + (embedding if head else 0)
    length = 1.6 * (size.prompt_words + sum(size.answer_words) / 2)  # tokens of a text, about
    attention = 2 * passes * config.num_hidden_layers * config.hidden_size * length
    return float(tokens * (passes * weights + attention))


def peak_operations() -> float | None:
    if not torch.cuda.is_available():
        return None
    name = torch.cuda.get_device_name()
    return next((peak for part, peak in PEAK.items() if all(word in name for word in part.split())), None)


def stepper(trainer: Any, batch_size: int, before: Callable[[Any], None] | None = None) -> Step:
    """An optimiser step on the n-th batch of the trainer's dataset, in the precision that `train` would set up."""
    model = trainer.accelerator.prepare_model(trainer.model)
    optimizer = trainer.create_optimizer()
    trainer.current_gradient_accumulation_steps = 1

    def step(number: int) -> int:
        first = number * batch_size
        batch = trainer.data_collator([trainer.train_dataset[at] for at in range(first, first + batch_size)])
        batch = {name: value.to(trainer.model.device) for name, value in batch.items()}
        kept = batch["ranking"] >= 0 if "ranking" in batch else batch.get("attention_mask", batch["input_ids"] >= 0)
        if before:
            before(batch)
        trainer.training_step(model, batch)
        optimizer.step()
        optimizer.zero_grad()
        return int(kept.sum())

    return step


def load(path: Path) -> PreTrainedModel:
    return load_causal_lm({"location": f"folder:{path}"})


def rankings(size: Size, count: int, k: int) -> list[dict[str, Any]]:
    case = Case("gpu", k, count - 1, size.prompt_words, size.answer_words)
    return case.rankings()


def expanded(rows: list[dict[str, Any]]) -> Dataset:
    return Dataset.from_list([pair for row in rows for pair in pairs(row)])


if __name__ == "__main__":
    for figure in measure(Path(sys.argv[1]), TOY):
        print(figure)
