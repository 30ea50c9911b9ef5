"""Completions for prompts: K each, in batches, one line of completions.jsonl per prompt.

    python -m training.recipes.generate RUN_DIR

Reads data/prompts.jsonl ({"prompt_id": 7, "prompt": [messages]}). Batches follow from the order of the prompts, and
their seeds from that, the run's number and the argument `seed`: a run that was stopped and started again writes what an unbroken
one would have written, and another run with the same arguments writes something new.
Empty completions and repetitions for the same prompt cannot be ranked: they are left out and counted.
"""

import hashlib
import json
import time
from typing import Any

import torch

from training.recipes.arguments import EvaluateArguments, GenerateArguments, RejectionSamplingArguments
from training.recipes.models import bf16_is_fast, load_causal_lm, load_tokenizer, resolve
from training.recipes.run_folder import RunFailed, RunFolder, drop_partial_line, main
from training.recipes.sampling import (
    Sampled,
    Sampler,
    Settings,
    TransformersSampler,
    VllmSampler,
    split_reasoning,
    vllm_is_usable,
)

SHOWN_SAMPLES = 3


def generate(folder: RunFolder, arguments: GenerateArguments) -> None:
    # Data: the prompts, and those that an earlier attempt has answered
    prompts = read_prompts(folder)[: arguments.num_prompts]
    output = folder.path / "completions.jsonl"
    drop_partial_line(output)
    answered = {json.loads(line)["prompt_id"] for line in output.open("rb")} if output.exists() else set()

    # Model
    sampler = load_sampler(folder, arguments)
    greedy = arguments.temperature == 0
    if greedy and arguments.num_generations > 1:
        folder.note("Temperature 0 always gives the same completion, so each prompt gets one.")

    # Sample
    tokens = seconds = finished = kept = 0.0
    dropped = {"empty": 0, "repeated": 0}
    for start in range(0, len(prompts), arguments.batch_size):
        batch = prompts[start : start + arguments.batch_size]
        if any(row["prompt_id"] not in answered for row in batch):
            settings = Settings(
                num_generations=1 if greedy else arguments.num_generations,
                temperature=arguments.temperature,
                top_p=arguments.top_p,
                max_new_tokens=arguments.max_new_tokens,
                seed=batch_seed(arguments.seed, folder.number, start),
            )
            began = time.perf_counter()
            sampled_NK = sampler([row["prompt"] for row in batch], settings)
            seconds += time.perf_counter() - began
            lines = b""
            shown = SHOWN_SAMPLES if start == 0 else 0
            for row, sampled_K in zip(batch, sampled_NK, strict=True):
                tokens += sum(one.tokens for one in sampled_K)
                completions = usable(sampled_K, settings, dropped)
                kept += len(completions)
                finished += sum(one["finish"] == "stop" for one in completions)
                if completions and shown:
                    shown -= 1
                    folder.event(
                        "sample", step=0, prompt=row["prompt"], before=None, after=completions[0]["completion"]
                    )
                if row["prompt_id"] not in answered:
                    record = {"prompt_id": row["prompt_id"], "completions": completions}
                    lines += json.dumps(record, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
            with output.open("ab", buffering=0) as file:
                file.write(lines)
        folder.event("progress", step=min(start + len(batch), len(prompts)), total=len(prompts))

    # Save
    for reason, count in dropped.items():
        if count:
            folder.note(f"{count} {reason} completions were left out: they cannot be ranked.")
    metrics = {
        "prompts": len(prompts),
        "completions": sum(len(json.loads(line)["completions"]) for line in output.open("rb")),
        "finished_share": finished / kept if kept else None,
        "tokens_per_second": tokens / seconds if seconds else None,
    }
    folder.event("metrics", step=len(prompts), metrics=metrics)
    folder.save_result(metrics)


def batch_seed(seed: int, run: int, start: int) -> int:
    """The seed of the batch that begins at prompt `start`. 31 bits, the range of the argument itself."""
    digest = hashlib.sha256(f"{seed} {run} {start}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def read_prompts(folder: RunFolder) -> list[dict[str, Any]]:
    """{"prompt_id", "prompt": messages, "answer": the reference answer or "", "tags", "split": "train" | "test", "content_hash"} for each."""
    file = folder.data / "prompts.jsonl"
    if not file.is_file():
        raise RunFailed("no_data", "The run has no prompts: data/prompts.jsonl is missing.")
    prompts = []
    # Bytes, whose lines end at \n alone: str.splitlines would also cut at U+2028 inside a prompt.
    for number, line in enumerate(file.open("rb"), start=1):
        try:
            row = json.loads(line)
            messages = [dict(message) for message in row["prompt"]]
            answer, split = str(row.get("answer") or ""), row.get("split", "train")
            prompts.append(
                {
                    "prompt_id": row["prompt_id"],
                    "prompt": messages,
                    "answer": answer,
                    "tags": [str(tag) for tag in row.get("tags", [])],
                    "split": split,
                    "content_hash": str(row.get("content_hash") or row["prompt_id"]),
                }
            )
        except (ValueError, KeyError, TypeError) as error:
            raise RunFailed("bad_dataset", f"Line {number} of data/prompts.jsonl is no prompt: {error!r}") from error
    if not prompts:
        raise RunFailed("no_data", "There is no prompt to answer.")
    return prompts


def load_sampler(
    folder: RunFolder,
    arguments: GenerateArguments | EvaluateArguments | RejectionSamplingArguments,
    role: str = "policy",
) -> Sampler:
    model = folder.model(role)
    tokenizer = load_tokenizer(folder, model)
    if vllm_is_usable():
        if "base" not in model:
            return VllmSampler(resolve(model), tokenizer, bf16=arguments.bf16)
        merged = folder.path / "merged" / role
        load_causal_lm(model).save_pretrained(merged)
        tokenizer.save_pretrained(merged)
        return VllmSampler(str(merged), tokenizer, bf16=arguments.bf16)
    policy = load_causal_lm(model, torch.bfloat16 if arguments.bf16 and bf16_is_fast() else torch.float32)
    return TransformersSampler(policy.to("cuda" if torch.cuda.is_available() else "cpu").eval(), tokenizer)


def usable(sampled_K: list[Sampled], settings: Settings, dropped: dict[str, int]) -> list[dict[str, Any]]:
    """The completions that can be ranked, as completions.jsonl holds them. Adds the others to `dropped`."""
    completions: list[dict[str, Any]] = []
    for one in sampled_K:
        reasoning, answer = split_reasoning(one.text)
        if not answer:
            dropped["empty"] += 1
        elif any(answer == other["completion"] for other in completions):
            dropped["repeated"] += 1
        else:
            finish = "stop" if one.stopped else "length"
            completions.append(
                {"completion": answer, "reasoning": reasoning, "sampling": settings.record(), "finish": finish}
            )
    return completions


if __name__ == "__main__":
    main("generate", generate)
