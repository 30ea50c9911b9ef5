"""Looks at a policy while it optimises a reward: what the reward and the watchdog say of it, how far it has moved, what it writes.

Every `watch_steps` steps the policy answers the same held-out prompts, once each, from the same random numbers. The answers are
scored by the rewards that it optimises (the proxy) and by the watchdog, a reward model that learned from other rankings;
training/recipes/stopping.py decides from the scores whether the run goes on, and which look's weights are the run's result.

Paper: Gao, Schulman and Hilton, "Scaling laws for reward model overoptimization" (arXiv:2210.10760).
The divergence from the reference is exact for each token's distribution and sampled over prefixes only (arXiv:2504.10637), so that it
is never negative. Training sees nothing of a look: its random state is put back, and a look changes no weight.

A look leaves `trainer/watch/look-STEP.json`, and weights in `trainer/watch/step-STEP/` while they may become the result; those
that a resumed attempt will come to again are forgotten.
Shapes: N completions, T tokens of prompt and completion, V tokens of the vocabulary.
"""

import contextlib
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, concatenate_datasets
from peft import PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from training.recipes import ranks
from training.recipes.arguments import RolloutArguments
from training.recipes.models import load_causal_lm
from training.recipes.rewards import reward_model
from training.recipes.run_folder import Messages, RunFolder, finite
from training.recipes.sampling import Sampled, Settings, TransformersSampler
from training.recipes.stopping import Look, Rule, Values, Verdict, judge, threshold_for
from training.recipes.training import own_randomness

RewardFunction = Callable[..., list[float | None]]

ROLE = "watchdog"
SHOWN = 4  # prompts whose answers the run's page shows
FEW_PROMPTS = 16
AT_ONCE = 32
LOGITS = 2**25  # at once: 128 MiB in float32


class Watch(TrainerCallback):
    """`prompts` has the columns prompt and reference; `functions` and `weights` are the trainer's reward_funcs and reward_weights."""

    def __init__(
        self,
        folder: RunFolder,
        arguments: RolloutArguments,
        tokenizer: PreTrainedTokenizerBase,
        prompts: Dataset,
        functions: Sequence[RewardFunction],
        weights: Sequence[float],
    ) -> None:
        self.folder, self.arguments, self.tokenizer = folder, arguments, tokenizer
        rows = prompts.select(range(min(len(prompts), arguments.watch_prompts)))
        self.prompts: list[Messages] = list(rows["prompt"])
        self.references: list[str] = list(rows["reference"])
        self.functions, self.weights = list(functions), list(weights)
        self.digest = hashlib.sha256(json.dumps(self.prompts).encode()).hexdigest()
        self.watchdog = reward_model.load(folder, ROLE) if ROLE in folder.inputs else None
        self.looks: list[Look] = []
        self.texts: list[list[str]] = []  # of each look, of the shown prompts
        self.rule = Rule(float("inf"), arguments.patience, arguments.max_kl)
        self.seconds = 0.0
        self._other_reference: Any = None

    def attach(self, trainer: Trainer) -> None:
        """Before `train`, which adds the callback that ends a step on SIGTERM: a look comes before it."""
        self.trainer = trainer
        trainer.add_callback(self)

    # What the trainer calls

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        began = time.perf_counter()
        looks = 1 + -(-state.max_steps // self.arguments.watch_steps)
        threshold = threshold_for(looks, len(self.prompts), self.rule.patience, self.arguments.watch_false_alarms)
        self.rule = Rule(threshold, self.arguments.patience, self.arguments.max_kl)
        self._recall(state.global_step)
        self.seconds += time.perf_counter() - began
        if state.global_step % self.arguments.watch_steps == 0:
            self._look(state, control)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.global_step % self.arguments.watch_steps == 0:
            self._look(state, control)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._look(state, control)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Weights that no attempt can need any more go: a later one starts from this save, or from a newer one."""
        kept = self.verdict.kept
        for path in self.place.glob("step-*"):
            if kept is None or path.name != f"step-{self.looks[kept].step}":
                shutil.rmtree(path, ignore_errors=True)

    # What the recipe asks for

    @property
    def verdict(self) -> Verdict:
        return judge(self.looks, self.rule)

    def restore(self) -> bool:
        """Puts the kept weights into the trainer's model; False where those of the last step are the kept ones."""
        kept = self.verdict.kept
        if kept is None or self.looks[kept].step == self.trainer.state.global_step:
            return False
        path = self._weights(self.looks[kept].step)
        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        if isinstance(model, PeftModel):
            set_peft_model_state_dict(model, load_file(path / "adapter_model.safetensors"))
        else:
            model.load_state_dict(load_causal_lm({"location": f"folder:{path}"}).state_dict())
        return True

    def outcome(self) -> dict[str, Any]:
        """For result.json: why the run ended, in a sentence and in numbers that the page makes a sentence of."""
        numbers = self.numbers()
        return {"stop_reason": sentence(numbers), "watch": numbers}

    def numbers(self) -> dict[str, Any]:
        verdict, last = self.verdict, self.looks[-1]
        best = last if verdict.kept is None else self.looks[verdict.kept]
        return finite(
            {
                "reason": verdict.reason,
                "step": last.step,
                "kept_step": best.step,
                "has_watchdog": self.watchdog is not None,
                "proxy_at_kept": float(best.proxy.mean()),
                "proxy_at_end": float(last.proxy.mean()),
                "watchdog_at_kept": None if best.watchdog is None else float(best.watchdog.mean()),
                "watchdog_at_end": None if last.watchdog is None else float(last.watchdog.mean()),
                "fall": verdict.fall,
                "threshold": self.rule.threshold,
                "patience": self.rule.patience,
                "kl": last.kl,
                "max_kl": self.rule.max_kl,
                "prompts": len(self.prompts),
                "seconds": round(self.seconds, 1),
            }
        )

    # A look

    def _look(self, state: TrainerState, control: TrainerControl) -> None:
        if any(look.step == state.global_step for look in self.looks) or self.verdict.reason:
            control.should_training_stop |= bool(self.verdict.reason)
            return
        began = time.perf_counter()
        # Every rank decides by what the first one saw: a judge may tell each of them something else.
        look, texts, metrics = ranks.gather(self._measure(state.global_step))[0]
        self.looks.append(look)
        self.texts.append(texts)
        verdict = self.verdict
        if state.is_world_process_zero:
            self._remember(look, texts, metrics)
            self._tell(look, verdict, metrics)
        if verdict.kept == len(self.looks) - 1:
            self._save(look.step)
        if verdict.reason:
            control.should_training_stop = True
            self.folder.note(sentence(self.numbers()))
        self.seconds += time.perf_counter() - began

    def _measure(self, step: int) -> tuple[Look, list[str], dict[str, float]]:
        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        was_training = model.training
        model.eval()
        with own_randomness(self.arguments.seed), torch.no_grad():
            sampled = self._sample(model)
            proxy = self._proxy(sampled)
            watchdog = self._watchdog(sampled)
            kl, entropy = self._divergence(model, sampled)
        model.train(was_training)
        ids = [one.ids for one in sampled]
        metrics = {
            "watch/proxy": float(proxy.mean()),
            **({} if watchdog is None else {"watch/watchdog": float(watchdog.mean())}),
            "watch/kl": kl,
            "watch/length": float(np.mean([one.tokens for one in sampled])),
            "watch/distinct_2": distinct(ids, 2),
            "watch/repetition": float(np.mean([repetition(one) for one in ids])),
            "watch/entropy": entropy,
        }
        return Look(step, proxy, watchdog, kl), [one.text for one in sampled[:SHOWN]], metrics

    def _sample(self, model: Any) -> list[Sampled]:
        """One answer to each prompt, from the same random numbers at every look.

        Without gradients there is room for more at once than in training, which takes less time.
        """
        sampler = TransformersSampler(model, self.tokenizer)
        size = self.arguments.per_device_train_batch_size * self.arguments.batches_per_generation
        size = min(4 * size, max(size, AT_ONCE))
        sampled: list[Sampled] = []
        for first in range(0, len(self.prompts), size):
            settings = Settings(
                num_generations=1,
                temperature=self.arguments.temperature,
                top_p=self.arguments.top_p,
                max_new_tokens=self.arguments.max_completion_length,
                seed=self.arguments.seed + first,
            )
            sampled += [one[0] for one in sampler(self.prompts[first : first + size], settings)]
        return sampled

    def _proxy(self, sampled: list[Sampled]) -> Values:
        """The weighted rewards of each completion, by the very functions that the trainer calls."""
        given = [
            function(
                prompts=self.prompts,
                completion_ids=[one.ids for one in sampled],
                reference=self.references,
                log_metric=lambda *_: None,
            )
            for function in self.functions
        ]
        return np.array(
            [
                sum(weight * value for weight, value in zip(self.weights, values, strict=True) if value is not None)
                for values in zip(*given, strict=True)
            ],
            dtype=np.float64,
        )

    def _watchdog(self, sampled: list[Sampled]) -> Values | None:
        if self.watchdog is None:
            return None
        return np.array(self.watchdog.score(self.prompts, [one.text for one in sampled]), dtype=np.float64)

    def _divergence(self, model: Any, sampled: list[Sampled]) -> tuple[float, float]:
        prompts = [
            self.tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True)["input_ids"]
            for prompt in self.prompts
        ]
        reference, without_training = self._reference(model)
        return divergence(
            model,
            reference,
            list(zip(prompts, [one.ids for one in sampled], strict=True)),
            temperature=self.arguments.temperature,
            without_training=without_training,
        )

    def _reference(self, model: Any) -> tuple[Any, Callable[[], contextlib.AbstractContextManager[Any]]]:
        """The policy before training, and the context in which it is that: its adapter is switched off, or it is another model."""
        if isinstance(model, PeftModel):
            return model, model.disable_adapter
        reference = getattr(self.trainer, "ref_model", None) or self._other_reference
        if reference is None:  # with β = 0 the trainer needs none
            reference = self._other_reference = load_causal_lm(self.folder.model()).to(model.device).eval()
        return reference, contextlib.nullcontext

    # What a look leaves behind

    @property
    def place(self) -> Path:
        return self.folder.trainer / "watch"

    def _weights(self, step: int) -> Path:
        return self.place / f"step-{step}"

    def _save(self, step: int) -> None:
        partial = self.place / "partial"
        saves = self.trainer.args.should_save  # of several processes one alone, and no other may delete what it writes
        if saves:
            shutil.rmtree(partial, ignore_errors=True)
        self.trainer.save_model(str(partial))
        if saves:
            shutil.rmtree(self._weights(step), ignore_errors=True)
            partial.rename(self._weights(step))

    def _remember(self, look: Look, texts: list[str], metrics: dict[str, float]) -> None:
        if not ranks.is_first():
            return
        self.place.mkdir(parents=True, exist_ok=True)
        watchdog = None if look.watchdog is None else look.watchdog.tolist()
        content = {
            "step": look.step,
            "proxy": look.proxy.tolist(),
            "watchdog": watchdog,
            "kl": look.kl,
            "texts": texts,
            "prompts": self.digest,
        }
        partial = self.place / "look.partial"
        partial.write_text(json.dumps(content, ensure_ascii=False))
        partial.rename(self.place / f"look-{look.step}.json")

    def _recall(self, step: int) -> None:
        """The looks up to the step that this attempt starts from; those beyond it will be taken again.

        A run that repeats an earlier one may find other prompts by now: looks at those do not compare, and it begins anew.
        """
        known = {path: int(path.stem.rpartition("-")[2]) for path in self.place.glob("*-*")}
        undone = [path for path, at in known.items() if at > step or step == 0]
        if ranks.is_first():
            for path in undone:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        looks = [path for path in known if path not in undone and path.name.startswith("look-")]
        found = [json.loads(path.read_text()) for path in looks]
        self.looks, self.texts = [], []
        for one in sorted((one for one in found if one["prompts"] == self.digest), key=lambda one: one["step"]):
            watchdog = None if one["watchdog"] is None else np.array(one["watchdog"])
            self.looks.append(Look(one["step"], np.array(one["proxy"]), watchdog, one["kl"]))
            self.texts.append(one["texts"])

    def _tell(self, look: Look, verdict: Verdict, metrics: dict[str, float]) -> None:
        first, kept = self.looks[0], -1 if verdict.kept is None else verdict.kept
        metrics |= {
            "watch/proxy_error": error_of(look.proxy - first.proxy),
            "watch/kept_step": self.looks[kept].step,
        }
        if look.watchdog is not None and first.watchdog is not None:
            metrics |= {
                "watch/watchdog_error": error_of(look.watchdog - first.watchdog),
                "watch/fall": verdict.fall,
                "watch/threshold": self.rule.threshold,
            }
        self.folder.event("metrics", step=look.step, metrics=finite(metrics))
        for at, prompt in enumerate(self.prompts[:SHOWN]):
            places = {"before": 0, "kept": kept, "after": -1}
            self.folder.event(
                "sample",
                step=look.step,
                prompt=prompt,
                kept_step=self.looks[kept].step,
                scores={name: self._scores(place, at) for name, place in places.items()},
                **{name: self.texts[place][at] for name, place in places.items()},
            )

    def _scores(self, place: int, at: int) -> dict[str, float]:
        look = self.looks[place]
        scores = {"proxy": float(look.proxy[at])}
        return scores if look.watchdog is None else {**scores, "watchdog": float(look.watchdog[at])}


@torch.no_grad()
def divergence(
    model: Any,
    reference: Any,
    rows: Sequence[tuple[Sequence[int], Sequence[int]]],
    *,
    temperature: float = 1.0,
    without_training: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext,
) -> tuple[float, float]:
    """(KL(model ‖ reference) in nats per completion, the model's entropy in nats per token) over rows of (prompt, completion).

    At each token of a completion the distributions over the whole vocabulary are compared, and a completion's tokens are summed.
    """
    divergence = entropy = 0.0
    longest = max(len(prompt) + len(ids) for prompt, ids in rows)
    size = max(1, LOGITS // (longest * model.config.vocab_size))
    for first in range(0, len(rows), size):
        some = rows[first : first + size]
        ids_NT = pad_sequence([torch.tensor([*prompt, *ids]) for prompt, ids in some], batch_first=True)
        starts_N1 = torch.tensor([[len(prompt)] for prompt, _ in some])
        ends_N1 = torch.tensor([[len(prompt) + len(ids)] for prompt, ids in some])
        places_T = torch.arange(ids_NT.shape[1])
        # The logits at a place foretell the next token.
        foretelling_NT = (places_T >= starts_N1 - 1) & (places_T < ends_N1 - 1)
        inputs = [tensor.to(model.device) for tensor in (ids_NT, (places_T < ends_N1).long(), foretelling_NT)]
        ours_MV = log_probs(model, *inputs, temperature=temperature)
        with without_training():
            theirs_MV = log_probs(reference, *inputs, temperature=temperature)
        probabilities_MV = ours_MV.exp()
        divergence += (probabilities_MV * (ours_MV - theirs_MV)).sum().item()
        entropy -= (probabilities_MV * ours_MV).sum().item()
    tokens = sum(len(ids) for _, ids in rows)
    return max(0.0, divergence / len(rows)), entropy / max(tokens, 1)


def log_probs(
    model: Any, ids_NT: torch.Tensor, attention_NT: torch.Tensor, foretelling_NT: torch.Tensor, *, temperature: float
) -> torch.Tensor:
    """Of each token of the vocabulary at each of the M places that foretell a token of a completion, (M, V)."""
    logits_NTV = model(input_ids=ids_NT, attention_mask=attention_NT, use_cache=False).logits
    log_probs_MV: torch.Tensor = (logits_NTV[foretelling_NT].float() / temperature).log_softmax(-1)
    return log_probs_MV


def error_of(differences: Values) -> float:
    """The standard error of their mean."""
    return float(differences.std(ddof=1) / len(differences) ** 0.5) if len(differences) > 1 else 0.0


def distinct(completions: Sequence[Sequence[int]], n: int) -> float:
    """Different n-grams of tokens among all n-grams of all completions (Li et al. 2016); 1 where there is none."""
    grams = [gram for one in completions for gram in zip(*(one[at:] for at in range(n)), strict=False)]
    return len(set(grams)) / len(grams) if grams else 1.0


def repetition(ids: Sequence[int], n: int = 4) -> float:
    """The share of a completion's n-grams of tokens that stood in it before (Welleck et al. 2020)."""
    return 1 - distinct([ids], n)


def sentence(numbers: dict[str, Any]) -> str:
    """Why the run ended and which weights it keeps, in English. training/watching.py says the same in the reader's language."""
    kept = f"The weights of step {numbers['kept_step']} are kept."
    if numbers["reason"] == "over_optimised":
        return (
            f"Stopped at step {numbers['step']}: since step {numbers['kept_step']} the reward rose from "
            f"{numbers['proxy_at_kept']:.2f} to {numbers['proxy_at_end']:.2f} while the watchdog fell from "
            f"{numbers['watchdog_at_kept']:.2f} to {numbers['watchdog_at_end']:.2f}, beyond its noise at {numbers['patience']} "
            f"looks in a row. {kept}"
        )
    if numbers["reason"] == "divergence":
        return (
            f"Stopped at step {numbers['step']}: the policy has moved {numbers['kl']:.1f} nats from the reference, and "
            f"{numbers['max_kl']:g} are allowed. {kept}"
        )
    if numbers["has_watchdog"]:
        return f"Ran to its last step, {numbers['step']}: the watchdog did not fall beyond its noise. {kept}"
    return f"Ran to its last step, {numbers['step']}, without a watchdog. {kept}"


def watched_prompts(folder: RunFolder, arguments: RolloutArguments, training: Dataset, held_out: Dataset) -> Dataset:
    """The held-out prompts; of too few the first training prompts fill up."""
    wanted = min(arguments.watch_prompts, FEW_PROMPTS)
    if len(held_out) >= wanted:
        return held_out
    added = training.select(range(min(len(training), wanted - len(held_out))))
    folder.note(
        f"Only {len(held_out)} prompts are held out, so the looks at the policy take {len(added)} training prompts, too."
    )
    return concatenate_datasets([held_out, added]) if len(held_out) else added
