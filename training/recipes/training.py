"""What the recipes that train have in common: TRL's configuration, events, resuming, stopping in time."""

import contextlib
import json
import random
import shutil
import signal
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch
from datasets import Dataset
from safetensors import SafetensorError, safe_open
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from training.recipes import arguments as ours
from training.recipes import ranks
from training.recipes.models import bf16_is_fast
from training.recipes.run_folder import INTERRUPTED, Messages, RunFailed, RunFolder, finite
from training.recipes.sampling import Settings, TransformersSampler

SAMPLE_PROMPTS = 3
SAMPLE_TOKENS = 48


def configure(
    config: type[Any], folder: RunFolder, arguments: ours.TrainerArguments, evaluation: Dataset, **extra: Any
) -> Any:
    """TRL's configuration for a method: our arguments bear TRL's names, so each that TRL knows is handed on."""
    known = {field.name for field in fields(config)}
    given = {name: value for name, value in asdict(arguments).items() if name in known}
    bf16 = arguments.bf16 and bf16_is_fast()
    if arguments.bf16 and not bf16:
        folder.note(
            "This processor has no bfloat16 instructions, so the run computes in float32, which is faster here."
        )
    on_gpu = torch.cuda.is_available()
    return config(
        **{**given, "bf16": bf16},
        output_dir=str(extra.pop("output_dir", folder.trainer)),
        per_device_eval_batch_size=arguments.per_device_train_batch_size,
        eval_strategy="steps" if len(evaluation) else "no",
        save_strategy="steps",
        save_total_limit=1,
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        use_cpu=not on_gpu,
        dataloader_pin_memory=on_gpu,
        **extra,
    )


@contextlib.contextmanager
def own_randomness(seed: int) -> Iterator[None]:
    """Random numbers from `seed` inside; those outside go on as if nothing had been drawn."""
    state = random.getstate()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        random.seed(seed)
        yield
    random.setstate(state)


class FiniteLoss:
    """For a trainer: stops at the first loss that is no number, before the optimiser spreads it into the weights."""

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss: torch.Tensor = super().training_step(*args, **kwargs)  # type: ignore[misc]
        if not torch.isfinite(loss):
            raise_nan(self.state.global_step + 1)  # type: ignore[attr-defined]
        return loss


def raise_nan(step: int) -> None:
    raise RunFailed(
        "nan_loss",
        f"The loss was no longer a number at step {step}."
        + (" At the first step the base model itself may be damaged." if step == 1 else ""),
    )


class Stopping(Exception):
    """Raised at a point where the trainer can be saved, after SIGTERM asked the run to stop."""


class Showing(Protocol):
    def show(self, step: int) -> None:
        """Write what the model says now as `sample` events; once for each step."""
        ...


class RunEvents(TrainerCallback):
    """Writes progress, metrics and samples to events.jsonl, and leaves the training loop when asked to.

    Where a run trains twice, the steps of both are counted as one row: `before` is what the first took, `after` how many steps
    are to come for each of this training, and `prefix` goes before the names of its metrics.
    """

    def __init__(
        self, folder: RunFolder, samples: Showing | None = None, *, before: int = 0, after: float = 0, prefix: str = ""
    ) -> None:
        self.folder, self.samples = folder, samples
        self.before, self.after, self.prefix = before, after, prefix
        self.stop = False

    def _progress(self, state: TrainerState) -> None:
        total = self.before + state.max_steps + round(self.after * state.max_steps)
        self.folder.event("progress", step=self.before + state.global_step, total=total)

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        self.stop = True

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._progress(state)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.is_world_process_zero:
            self._progress(state)
        self._leave_together()

    def on_prediction_step(self, *_: Any, **__: Any) -> None:
        self._leave_together()

    def _leave_together(self) -> None:
        """SIGTERM finds the ranks in different steps: all of them leave after the same one."""
        if ranks.any_rank(self.stop):
            raise Stopping

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, Any], **_: Any
    ) -> None:
        if state.is_world_process_zero and "train_runtime" not in logs:
            numbers = {name: value for name, value in logs.items() if isinstance(value, int | float)}
            self.folder.event(
                "metrics", step=self.before + state.global_step, metrics=prefixed(self.prefix, finite(numbers))
            )

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.samples and state.is_world_process_zero:
            self.samples.show(state.global_step)


def prefixed(prefix: str, metrics: dict[str, Any]) -> dict[str, Any]:
    """With `watchdog/`: loss → watchdog/loss, eval_loss → eval_watchdog/loss, so that held-out figures are known as such."""
    return {
        f"eval_{prefix}{name.removeprefix('eval_')}" if name.startswith("eval_") else f"{prefix}{name}": value
        for name, value in metrics.items()
    }


class Samples:
    """The same few prompts answered greedily before, during and after training, so that people see what changes."""

    def __init__(
        self, folder: RunFolder, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[Messages]
    ) -> None:
        self.folder, self.model = folder, model
        self.sampler = TransformersSampler(model, tokenizer)
        distinct = {json.dumps(prompt): prompt for prompt in prompts}
        self.prompts = list(distinct.values())[:SAMPLE_PROMPTS]
        self.before = self._answer()
        self.shown_at = -1

    def show(self, step: int) -> None:
        if step != self.shown_at and not ranks.share_weights():
            self.shown_at = step
            for prompt, before, after in zip(self.prompts, self.before, self._answer(), strict=True):
                self.folder.event("sample", step=step, prompt=prompt, before=before, after=after)

    def _answer(self) -> list[str]:
        was_training = self.model.training
        self.model.eval()
        settings = Settings(num_generations=1, temperature=0, top_p=1, max_new_tokens=SAMPLE_TOKENS, seed=0)
        texts = [sampled[0].text for sampled in self.sampler(self.prompts, settings)]
        self.model.train(was_training)
        return texts


def train(trainer: Trainer, folder: RunFolder, events: RunEvents) -> None:
    """Trains from the last whole checkpoint, or from the start. After SIGTERM: saves, and exits with 75."""
    trainer.add_callback(events)
    saves = Path(trainer.args.output_dir)
    checkpoint = last_whole_checkpoint(saves)
    if checkpoint:
        folder.note(f"Resumed from step {checkpoint.name.rpartition('-')[2]}.")
    # A step that has begun is finished first: cut in half it could not be resumed exactly.
    leave_at_once = signal.signal(signal.SIGTERM, events.request_stop)
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except Stopping:
        ranks.wait()
        if not is_whole(saves / f"checkpoint-{trainer.state.global_step}"):
            trainer._save_checkpoint(trainer.model, trial=None)
        ranks.wait()
        folder.note(f"Stopped at step {trainer.state.global_step}; the run can go on from here.")
        sys.exit(INTERRUPTED)
    signal.signal(signal.SIGTERM, leave_at_once)
    if ranks.any_rank(events.stop):
        sys.exit(INTERRUPTED)


def evaluate(trainer: Trainer) -> dict[str, float]:
    """The held-out figures of the model as it is, without those that tell how fast they were found."""
    clock = ("_runtime", "_per_second", "_num_tokens")
    return {name: value for name, value in trainer.evaluate().items() if not name.endswith(clock) and name != "epoch"}


def last_whole_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that can be resumed from. A kill may leave a newer one half-written: it is deleted."""
    steps = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)
    whole = next((checkpoint for checkpoint in steps if is_whole(checkpoint)), None)
    ranks.wait()
    if ranks.is_first():
        for checkpoint in steps[: steps.index(whole) if whole else None]:
            shutil.rmtree(checkpoint)
    return whole


def is_whole(checkpoint: Path) -> bool:
    """The trainer writes its state last; weights and optimiser are opened in case the disk lost what came before."""
    try:
        json.loads((checkpoint / "trainer_state.json").read_text())
        for file in checkpoint.glob("*.safetensors"):
            with safe_open(file, framework="pt"):
                pass
    except (OSError, ValueError, SafetensorError):
        return False
    # One process and DDP save optimizer.pt, FSDP optimizer.bin or a folder, DeepSpeed global_stepN/ with the schedule in it.
    saved = [file for name in ("optimizer.pt", "optimizer.bin", "scheduler.pt") if (file := checkpoint / name).exists()]
    sharded = [*checkpoint.glob("optimizer_*"), *checkpoint.glob("global_step*")]
    return all(map(zipfile.is_zipfile, saved)) and (len(saved) == 2 or bool(sharded))


def save_checkpoint(trainer: Trainer, folder: RunFolder, files: dict[str, str] | None = None, output: str = "") -> None:
    """Weights (LoRA: the adapter alone), tokenizer, configuration and `files`, as the checkpoint of this `output`.

    Raises RunFailed when the weights are no longer numbers: the last step of all may have spoilt them.
    """
    if not all(torch.isfinite(parameter).all() for parameter in trainer.model.parameters()):
        raise_nan(trainer.state.global_step)
    with folder.saving_checkpoint(output) as path:
        trainer.save_model(str(path))
        ranks.wait()
        (path / "training_args.bin").unlink(missing_ok=True)  # a pickle; args.json says the same
        (path / "README.md").unlink(missing_ok=True)  # an empty model card that names this machine's paths
        for name, content in (files or {}).items() if ranks.is_first() else ():
            (path / name).write_text(content)
