"""What PPO, GRPO and RLOO share: prompts, rewards and the reference for TRL's online trainers, and the frame that they run in.

A step samples completions from the policy as it is, scores them, and learns from the scores. Sampling, advantages and losses are
TRL's; rewards are those of training/recipes/rewards.

Departures: a run resumes exactly at any step, since the completions that are still to be learned from are saved with it (TRL samples
anew, which is exact only between two samplings), and the order of an epoch's prompts follows from its number. Held-out evaluations draw from random numbers of their own, so that they neither
differ among themselves nor change the training. The reference is the policy that the run started from, also where that is an adapter.

Private parts of TRL's trainers: `_step`, `_buffered_inputs` (the sampled batches), `_save_rng_state` and `_load_rng_state`
(transformers'), `_get_train_sampler`, and that the reference is loaded from `model.config._name_or_path`.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer, set_seed
from trl import GRPOConfig

from training.recipes import ranks
from training.recipes.arguments import OnlineArguments, RolloutArguments
from training.recipes.generate import read_prompts
from training.recipes.models import load_causal_lm, load_tokenizer, lora
from training.recipes.rewards import Reward, make_rewards, read_completion
from training.recipes.run_folder import RunFailed, RunFolder, finite
from training.recipes.sampling import vllm_is_usable, written_ahead
from training.recipes.training import (
    FiniteLoss,
    RunEvents,
    Samples,
    configure,
    last_whole_checkpoint,
    own_randomness,
    save_checkpoint,
    train,
)
from training.recipes.watchdog import Watch, watched_prompts

RewardFunction = Callable[..., list[float | None]]
COMPARING = ("frac_reward_zero_std", "clip_ratio/", "cispo_clip_ratio", "vespo/")


class Online(FiniteLoss):
    """For TRL's online trainers: `class OnlineGRPOTrainer(Online, GRPOTrainer)`."""

    def _get_train_sampler(self, dataset: Dataset | None = None) -> Any:
        sampler = super()._get_train_sampler(dataset)  # type: ignore[misc]
        # TRL's draws the order of an epoch after that of the one before, which a resumed run has not drawn.
        sampler.set_epoch = lambda epoch: sampler.generator.manual_seed(self.args.seed + epoch)  # type: ignore[attr-defined]
        return sampler

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)  # type: ignore[misc]
        torch.save({"step": self._step, "batches": self._buffered_inputs}, self._sampled_file(output_dir))

    def _load_rng_state(self, checkpoint: str | None) -> None:
        super()._load_rng_state(checkpoint)  # type: ignore[misc]
        if checkpoint and self._sampled_file(checkpoint).is_file():
            device = self.accelerator.device  # type: ignore[attr-defined]
            sampled = torch.load(self._sampled_file(checkpoint), map_location=device, weights_only=True)
            self._step, self._buffered_inputs = sampled["step"], sampled["batches"]

    def _sampled_file(self, checkpoint: str) -> Path:
        return Path(checkpoint, f"sampled_{self.args.process_index}.pt")  # type: ignore[attr-defined]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if not self.model.training:  # type: ignore[attr-defined]
            # One completion per prompt has no group, so what compares a group, or learns from it, says nothing.
            logs.pop("eval_loss", None)
            for name in [name for name in self._metrics["eval"] if name.startswith(COMPARING)]:  # type: ignore[attr-defined]
                del self._metrics["eval"][name]  # type: ignore[attr-defined]
        super().log(logs, start_time)  # type: ignore[misc]

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        with own_randomness(self.args.seed):  # type: ignore[attr-defined]
            metrics: dict[str, float] = super().evaluate(*args, **kwargs)  # type: ignore[misc]
        return metrics


def load_prompts(
    folder: RunFolder, tokenizer: PreTrainedTokenizerBase, max_prompt_length: int
) -> tuple[Dataset, Dataset]:
    """(train, test), one row per prompt: {"prompt": messages, "prompt_id": text, "reference": the answer or ""}.

    Prompts of more than `max_prompt_length` tokens in the chat template are left out, and counted in a note.
    """
    parts: dict[str, list[dict[str, Any]]] = {"train": [], "test": []}
    too_long = 0
    for row in read_prompts(folder):
        ids = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_dict=True)["input_ids"]
        if len(ids) > max_prompt_length:
            too_long += 1
            continue
        kept = {"prompt": row["prompt"], "prompt_id": str(row["prompt_id"]), "reference": row["answer"]}
        parts[row["split"]].append(kept)
    if too_long:
        folder.note(f"{too_long} prompts are longer than {max_prompt_length} tokens and were left out.")
    if not parts["train"]:
        raise RunFailed("no_data", "No prompt is left to train on.")
    if not parts["test"]:
        folder.note("No prompt is held out, so there is no held-out reward.")
    return Dataset.from_list(parts["train"]), Dataset.from_list(parts["test"])


def reward_functions(
    folder: RunFolder, arguments: RolloutArguments, tokenizer: PreTrainedTokenizerBase, *, has_references: bool = False
) -> tuple[list[RewardFunction], list[float]]:
    """TRL's `reward_funcs` and `reward_weights`. It logs each as `rewards/NAME/mean`.

    Rewards of weight 0 are logged as well but no part of the sum, and so is the accuracy where prompts have reference answers.
    """
    named = ({"accuracy": 0.0} if has_references else {}) | arguments.rewards
    rewards = make_rewards(folder, named, arguments)
    weights = {name: weight for name, weight in named.items() if weight}
    measured = {name: reward for name, reward in rewards.items() if name not in weights}
    ahead = written_ahead(tokenizer)
    functions = []
    for name in weights:
        functions.append(_bind(name, rewards[name], measured, tokenizer, ahead, arguments.max_completion_length))
        measured = {}  # the first one measures for all
    return functions, list(weights.values())


def _bind(
    name: str, reward: Reward, measured: dict[str, Reward], tokenizer: PreTrainedTokenizerBase, ahead: str, longest: int
) -> RewardFunction:
    def scored(
        *, prompts: list[Any], completion_ids: list[list[int]], reference: list[str], log_metric: Any, **_: Any
    ) -> list[float | None]:
        completions = [
            read_completion(
                prompt,
                ahead + tokenizer.decode(ids, skip_special_tokens=True),
                reference=answer,
                tokens=len(ids),
                finished=len(ids) < longest or ids[-1] == tokenizer.eos_token_id,
            )
            for prompt, ids, answer in zip(prompts, completion_ids, reference, strict=True)
        ]
        for other, measure in measured.items():
            values = [value for value in measure(completions) if value is not None]
            if values:
                log_metric(f"rewards/{other}/mean", sum(values) / len(values))
        return reward(completions)

    scored.__name__ = name
    return scored


def load_policy(folder: RunFolder, arguments: RolloutArguments) -> PreTrainedModel:
    """The policy, whose configuration says where TRL finds the reference: the very same weights."""
    policy = load_causal_lm(folder.model())
    if "base" in folder.model() and arguments.beta and not arguments.use_peft:
        merged = folder.path / "reference"
        if not merged.is_dir():
            partial = merged.with_suffix(f".partial-{ranks.rank()}")
            policy.save_pretrained(partial)
            try:
                partial.rename(merged)
            except OSError:  # another rank, which has the same, was first
                if not merged.is_dir():
                    raise
                shutil.rmtree(partial)
        policy.config._name_or_path = str(merged)
    return policy


def sampling_settings(arguments: OnlineArguments) -> dict[str, Any]:
    """What TRL's configuration needs beyond what our arguments name alike. Raises RunFailed where vLLM cannot be had."""
    settings: dict[str, Any] = {"num_generations_eval": 1}
    if not arguments.use_vllm:
        return settings
    if not vllm_is_usable():
        raise RunFailed(
            "bad_arguments",
            "use_vllm needs a CUDA device and the package vllm on the machine that trains; without it transformers samples.",
        )
    settings["vllm_max_model_length"] = arguments.max_length
    if arguments.vllm_mode == "server":
        if not (address := os.environ.get("VLLM_SERVER_URL")):
            raise RunFailed("bad_arguments", "vllm_mode is server, but the worker's VLLM_SERVER_URL names none.")
        settings["vllm_server_base_url"] = address
    return settings


def run_online(
    folder: RunFolder,
    arguments: RolloutArguments,
    make_trainer: Callable[..., Trainer],
    config: type[Any] = GRPOConfig,
    **settings: Any,
) -> None:
    """`make_trainer` takes what GRPOTrainer takes, by name; `settings` are what the method adds to `config`."""
    # Data: prompts
    set_seed(arguments.seed)
    tokenizer = load_tokenizer(folder, folder.model())
    training, held_out = load_prompts(folder, tokenizer, arguments.max_prompt_length)
    if len(training) < arguments.prompts_per_generation:
        raise RunFailed(
            "no_data",
            f"{len(training)} prompts are left to train on, fewer than the {arguments.prompts_per_generation} that are "
            "sampled at once: take more prompts, a smaller batch, or more completions per prompt.",
        )
    evaluated = held_out.select(range(min(len(held_out), arguments.eval_prompts)))
    if isinstance(arguments, OnlineArguments):
        arguments = replace(arguments, steps_per_generation=arguments.batches_per_generation)
        settings |= sampling_settings(arguments)

    # Policy, reference, and what scores the completions
    has_references = any(row["reference"] for part in (training, held_out) for row in part)
    functions, weights = reward_functions(folder, arguments, tokenizer, has_references=has_references)
    trainer = make_trainer(
        model=load_policy(folder, arguments),
        args=configure(
            config,
            folder,
            arguments,
            evaluated,
            reward_weights=weights,
            eval_on_start=len(evaluated) > 0 and last_whole_checkpoint(folder.trainer) is None,
            **settings,
        ),
        reward_funcs=functions,
        train_dataset=training,
        eval_dataset=evaluated if len(evaluated) else None,
        processing_class=tokenizer,
        peft_config=lora(arguments, "CAUSAL_LM"),
    )
    shown = held_out if len(held_out) else training
    samples = Samples(folder, trainer.model, tokenizer, shown["prompt"])

    # Train, under watch
    watch = None
    if arguments.watch_steps:
        watch = Watch(
            folder, arguments, tokenizer, watched_prompts(folder, arguments, training, held_out), functions, weights
        )
        watch.attach(trainer)
    train(trainer, folder, RunEvents(folder, samples))
    restored = watch is not None and watch.restore()

    # Measure
    metrics: dict[str, Any] = {"training_prompts": len(training)}
    if len(evaluated):
        metrics |= final_metrics(trainer, anew=restored)
    if not restored:
        samples.show(trainer.state.global_step)

    # Save
    save_checkpoint(trainer, folder)
    folder.event("metrics", step=trainer.state.global_step, metrics=finite(metrics))
    shutil.rmtree(folder.path / "reference", ignore_errors=True)
    folder.save_result(metrics, is_adapter=arguments.use_peft, **(watch.outcome() if watch else {}))


def final_metrics(trainer: Trainer, *, anew: bool = False) -> dict[str, float]:
    """The held-out evaluation of the trained policy; the last step may just have made it, unless its weights are not the result."""
    step = trainer.state.global_step
    done = [log for log in trainer.state.log_history if log["step"] == step and "eval_reward" in log]
    measured = done[-1] if done and not anew else trainer.evaluate()
    told = ("eval_reward", "eval_kl", "eval_completions/mean_length", "eval_completions/clipped_ratio")
    return {
        name: value
        for name, value in measured.items()
        if value is not None
        and (
            name in told
            or name.startswith("eval_accuracy")
            or (name.startswith("eval_rewards/") and name.endswith("/mean"))
        )
    }
