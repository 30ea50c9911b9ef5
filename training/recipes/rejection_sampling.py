"""Completions that the rewards approve of, as examples to fine-tune on.

    python -m training.recipes.rejection_sampling RUN_DIR

Papers: Llama 2 (arXiv:2307.09288), section 3.2.3: the best of k by a reward model; DeepSeek-R1 (arXiv:2501.12948), section 2.3.3:
correct answers by rules and judge, mixed with demonstrations. Departures: any sum of rewards may choose; the best n of a prompt above a
threshold are kept; what the length limit cut is dropped unless asked for.

Samples and their rewards go to sampled.jsonl, one line per prompt. Batches follow from the order of the prompts and their seeds from
that: a run that was stopped and started again keeps what an unbroken one would have kept.
The examples go to dataset/demonstrations.jsonl; the worker freezes them as a dataset version.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from training.recipes.arguments import RejectionSamplingArguments
from training.recipes.data import as_text, read_demonstrations, read_rankings
from training.recipes.generate import SHOWN_SAMPLES, batch_seed, load_sampler, read_prompts
from training.recipes.models import load_tokenizer
from training.recipes.rewards import make_rewards, read_completion, weighted_sum
from training.recipes.run_folder import RunFailed, RunFolder, drop_partial_line, finite, main
from training.recipes.sampling import Settings, split_reasoning, written_ahead

Row = dict[str, Any]

# Why a completion is not kept, in the order in which it is asked.
REASONS = ("empty", "cut", "repeated", "unscored", "below", "beyond", "known")


def rejection_sampling(folder: RunFolder, arguments: RejectionSamplingArguments) -> None:
    # Data: the prompts, and those that an earlier attempt has sampled
    prompts = read_prompts(folder)[: arguments.num_prompts]
    output = folder.path / "sampled.jsonl"
    drop_partial_line(output)
    done = {line["prompt_id"] for line in read_lines(output)}

    # Sample and score
    if any(prompt["prompt_id"] not in done for prompt in prompts):
        sample(folder, arguments, prompts, output, done)

    # Keep
    dropped: Counter[str] = Counter()
    mixed = mixed_in(folder, arguments) if (folder.data / "demonstrations.parquet").is_file() else {}
    splits = {row["prompt_id"]: row["split"] for row in mixed.values()}
    examples, scores = dict(mixed), []
    by_id = {prompt["prompt_id"]: prompt for prompt in prompts}
    for line in read_lines(output):
        prompt = by_id[line["prompt_id"]]
        for candidate in choose(line["candidates"], arguments, dropped):
            row = example(folder, prompt, candidate, splits)
            if examples.setdefault(identity(row), row) is row:
                scores.append(candidate["score"])
            else:
                dropped["known"] += 1
    if not scores:
        counted = ", ".join(f"{reason}: {dropped[reason]}" for reason in REASONS if dropped[reason])
        raise RunFailed(
            "no_data", f"No completion was kept ({counted}). Lower the threshold, or sample more of each prompt."
        )

    # Save
    write_examples(folder.path / "dataset", examples.values())
    sampled = sum(len(line["candidates"]) for line in read_lines(output))
    metrics = {
        "sampled_prompts": len(prompts),
        "sampled": sampled,
        "kept": len(scores),
        "kept_share": len(scores) / sampled,
        "kept_reward": sum(scores) / len(scores),
        "mixed_in": len(mixed),
    }
    folder.event("metrics", step=len(prompts), metrics=finite(metrics))
    folder.save_result(metrics, left_out={reason: dropped[reason] for reason in REASONS if dropped[reason]})


def sample(
    folder: RunFolder, arguments: RejectionSamplingArguments, prompts: list[Row], output: Path, done: set[Any]
) -> None:
    sampler = load_sampler(folder, arguments)
    ahead = written_ahead(load_tokenizer(folder, folder.model()))
    rewards = make_rewards(folder, arguments.rewards, arguments)
    for start in range(0, len(prompts), arguments.batch_size):
        batch = prompts[start : start + arguments.batch_size]
        if any(prompt["prompt_id"] not in done for prompt in batch):
            settings = Settings(
                num_generations=1 if arguments.temperature == 0 else arguments.num_generations,
                temperature=arguments.temperature,
                top_p=arguments.top_p,
                max_new_tokens=arguments.max_completion_length,
                seed=batch_seed(arguments.seed, folder.number, start),
            )
            sampled_NK = sampler([prompt["prompt"] for prompt in batch], settings)
            completions = [
                read_completion(
                    prompt["prompt"],
                    ahead + one.text,
                    reference=prompt["answer"],
                    tokens=one.tokens,
                    finished=one.stopped,
                )
                for prompt, sampled_K in zip(batch, sampled_NK, strict=True)
                for one in sampled_K
            ]
            values = {name: reward(completions) for name, reward in rewards.items()}
            sums = weighted_sum(values, arguments.rewards)
            candidates = [
                {
                    "text": one.completion,
                    "tokens": one.tokens,
                    "finished": one.finished,
                    "rewards": {name: told[at] for name, told in values.items()},
                    "score": sums[at],
                    "sampling": settings.record(),
                }
                for at, one in enumerate(completions)
            ]
            write_batch(output, batch, candidates, done)
            means = {f"rewards/{name}/mean": mean(told) for name, told in [*values.items(), ("sum", sums)]}
            told = {name: value for name, value in means.items() if value is not None}
            folder.event("metrics", step=start + len(batch), metrics=finite(told))
            for prompt, one in list(zip(batch, candidates[:: settings.num_generations], strict=True))[:SHOWN_SAMPLES]:
                if start == 0:
                    folder.event("sample", step=0, prompt=prompt["prompt"], before=None, after=one["text"])
        folder.event("progress", step=start + len(batch), total=len(prompts))


def mean(values: list[float | None]) -> float | None:
    told = [value for value in values if value is not None]
    return sum(told) / len(told) if told else None


def write_batch(output: Path, batch: list[Row], candidates: list[Row], done: set[Any]) -> None:
    each = len(candidates) // len(batch)
    lines = [
        json.dumps(
            {"prompt_id": prompt["prompt_id"], "candidates": candidates[at * each : (at + 1) * each]},
            ensure_ascii=False,
        )
        for at, prompt in enumerate(batch)
        if prompt["prompt_id"] not in done
    ]
    with output.open("ab", buffering=0) as file:
        file.write("".join(f"{line}\n" for line in lines).encode("utf-8", "replace"))


def read_lines(path: Path) -> Iterator[Row]:
    if path.exists():
        with path.open("rb") as file:
            yield from map(json.loads, file)


def choose(candidates: list[Row], arguments: RejectionSamplingArguments, dropped: Counter[str]) -> list[Row]:
    """The best of a prompt's completions, best first; of equals the one that was sampled first. Counts the others."""
    good: list[Row] = []
    for one in candidates:
        reasoning, answer = split_reasoning(one["text"])
        if not answer:
            dropped["empty"] += 1
        elif not one["finished"] and not arguments.keep_unfinished:
            dropped["cut"] += 1
        elif any((reasoning, answer) == (other["reasoning"], other["completion"]) for other in good):
            dropped["repeated"] += 1
        elif one["score"] is None:
            dropped["unscored"] += 1
        elif one["score"] <= arguments.threshold:
            dropped["below"] += 1
        else:
            good.append({**one, "reasoning": reasoning, "completion": answer})
    good.sort(key=lambda one: -one["score"])
    dropped["beyond"] += len(good[arguments.keep :])
    return good[: arguments.keep]


def example(folder: RunFolder, prompt: Row, candidate: Row, splits: dict[str, str]) -> Row:
    """A row of the dataset, with where it comes from. A prompt stays on the side where the mixed-in version has it."""
    made = {name: candidate[name] for name in ("rewards", "score", "sampling", "tokens", "finished")}
    return {
        "prompt_id": prompt["content_hash"],
        "prompt": prompt["prompt"],
        "completion": candidate["completion"],
        "reasoning": candidate["reasoning"],
        "annotator": "",
        "split": splits.get(prompt["content_hash"], prompt["split"]),
        "provenance": {"run": folder.number, "checkpoint": folder.names.get("policy", ""), **made},
    }


def mixed_in(folder: RunFolder, arguments: RejectionSamplingArguments) -> dict[tuple[str, str], Row]:
    """What the dataset version adds, each answer to a prompt once."""
    rows: list[Row] = []
    version = folder.names.get("dataset", "")
    if arguments.mix in ("demonstrations", "both"):
        for row in read_demonstrations(folder, ["annotator"]):
            rows.append({**row, "provenance": {"dataset": version, "kind": "demonstration"}})
    if arguments.mix in ("best", "both"):
        for ranking in read_rankings(folder, ["annotator"]):
            if ranking["verdict"] == "ranked" and len(set(ranking["ranks"])) > 1:
                kept = {name: ranking[name] for name in ("prompt_id", "prompt", "annotator", "split")}
                provenance = {"dataset": version, "kind": "best completion", "ranking": ranking["ranking"]}
                rows += [
                    {
                        **kept,
                        "completion": one["completion"],
                        "reasoning": one["reasoning"],
                        "provenance": {**provenance, "source": one["source"]},
                    }
                    for one, rank in zip(ranking["completions"], ranking["ranks"], strict=True)
                    if rank == 1
                ]
    examples: dict[tuple[str, str], Row] = {}
    for row in rows:
        examples.setdefault(identity(row), row)
    return examples


def identity(row: Row) -> tuple[str, str]:
    return row["prompt_id"], as_text(row)


def write_examples(folder: Path, rows: Any) -> None:
    """demonstrations.jsonl: the columns of demonstrations.parquet, and `provenance`."""
    folder.mkdir(exist_ok=True)
    partial = folder / "demonstrations.partial"
    with partial.open("wb") as file:
        for row in rows:
            uid = hashlib.sha256(json.dumps(identity(row)).encode()).hexdigest()[:32]
            file.write(json.dumps({"demonstration": uid, **row}, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
    partial.rename(folder / "demonstrations.jsonl")


if __name__ == "__main__":
    main("rejection_sampling", rejection_sampling)
