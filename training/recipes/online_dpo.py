"""Online direct preference optimisation: two answers to each prompt, and DPO on the pair that the rewards make of them.

    python -m training.recipes.online_dpo RUN_DIR

Paper: Direct Language Model Alignment from Online AI Feedback (arXiv:2402.04792); the feedback is any rewards, a judge included.
Departures: see training/recipes/online.py. Where both answers have the same reward TRL takes the first as the better one, which over
many samples is half a win for each. IPO's log-ratios are those of whole completions, as TRL has it here.

On TRL's experimental OnlineDPOTrainer, which stops at what follows; what mends it leans on `_generate`, `_forward`,
`_calculate_rewards_from_functions` and `stats` (all private):
- it has no evaluation: held-out prompts are answered twice, with random numbers of their own;
- padding counts in its KL and entropy, and reaches the reward functions as tokens;
- several batches a step are summed, not averaged;
- what has been measured since the last chart point was lost with a save: it is saved along.
With these a run resumes exactly: sampling draws from torch's random state, which transformers saves and restores.
Shapes: B prompts, 2B completions (the first of all prompts, then the second of all), T tokens.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch.nn.functional import softplus
from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer

from training.recipes.arguments import OnlineDPOArguments
from training.recipes.listwise import agreement
from training.recipes.online import run_online
from training.recipes.run_folder import RunFolder, main
from training.recipes.training import FiniteLoss, own_randomness


class EvaluatingOnlineDPOTrainer(FiniteLoss, OnlineDPOTrainer):
    """Takes the datasets of online.load_prompts and the functions of online.reward_functions."""

    reward_funcs: list[Any]
    control: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.accelerator.gradient_accumulation_steps = self.args.gradient_accumulation_steps
        self.measured: dict[str, list[float]] = {}

    def _forward(self, model: Any, prompt_ids: Any, prompt_mask: Any, ids_2BT: Any, mask_2BT: Any, *rest: Any) -> Any:
        return super()._forward(model, prompt_ids, prompt_mask, ids_2BT, mask_2BT, *rest) * mask_2BT

    def _calculate_rewards_from_functions(
        self, prompts: list[Any], completions: list[Any], completion_ids_list: list[list[int]], **columns: Any
    ) -> torch.Tensor:
        """The weighted sum, (2B,). Measures each reward by itself."""
        ended = [self._until_the_end(ids) for ids in completion_ids_list]
        columns["log_metric"] = self._measure
        functions = self.reward_funcs
        try:
            self.reward_funcs = [self._measured(function) for function in functions]
            sums: torch.Tensor = super()._calculate_rewards_from_functions(prompts, completions, ended, **columns)
        finally:
            self.reward_funcs = functions
        self._measure("reward", sums.mean().item())
        self._measure("completions/mean_length", sum(map(len, ended)) / len(ended))
        return sums

    def _until_the_end(self, ids: list[int]) -> list[int]:
        end = next((at for at, token in enumerate(ids) if token in self.eos_token_ids), len(ids) - 1)
        return ids[: end + 1]

    def _measured(self, function: Callable[..., list[float | None]]) -> Callable[..., list[float | None]]:
        def measuring(**given: Any) -> list[float | None]:
            values = function(**given)
            told = [value for value in values if value is not None]
            if told:
                self._measure(f"rewards/{function.__name__}/mean", sum(told) / len(told))
            return values

        return measuring

    def _measure(self, name: str, value: float) -> None:
        self.measured.setdefault(name, []).append(value)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            logs |= {name: sum(values) / len(values) for name, values in self.measured.items()}
            self.measured = {}
        super().log(logs, start_time)

    @torch.no_grad()
    def evaluate(
        self, eval_dataset: Dataset | None = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Mean rewards of two answers to each held-out prompt, and how often the policy's implicit reward orders them as the
        rewards do, with an interval."""
        rows = eval_dataset or self.eval_dataset
        training, self.measured = self.measured, {}
        self.model.eval()
        scores, ranks, losses = [], [], []
        with own_randomness(self.args.seed), self.accelerator.autocast():
            for start in range(0, len(rows), self.args.per_device_eval_batch_size):
                batch = rows[start : start + self.args.per_device_eval_batch_size]
                implicit_B2, reward_B2 = self._two_answers(batch)
                scores += implicit_B2.tolist()
                ranks += [[1 + (one < other), 1 + (other < one)] for one, other in reward_B2.tolist()]
                margins_B = (implicit_B2[:, 0] - implicit_B2[:, 1]) * (reward_B2[:, 0] - reward_B2[:, 1]).sign()
                losses += softplus(-margins_B).tolist()
        metrics = {name: sum(values) / len(values) for name, values in self.measured.items()}
        self.measured = training
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
        agreed = agreement(scores, ranks, rows["prompt_id"])
        metrics |= agreed.metrics(metric_key_prefix) if agreed else {}
        metrics[f"{metric_key_prefix}_loss"] = sum(losses) / len(losses)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _two_answers(self, batch: dict[str, list[Any]]) -> tuple[torch.Tensor, torch.Tensor]:
        """(implicit rewards, rewards), both (B, 2)."""
        prompts = batch["prompt"]
        prompt_ids, prompt_mask, ids_2BT, mask_2BT, _ = self._generate(self.model, prompts)
        log_probs_2B = self._forward(self.model, prompt_ids, prompt_mask, ids_2BT, mask_2BT).sum(1)
        if self.ref_model is not None:
            reference_2B = self._forward(self.ref_model, prompt_ids, prompt_mask, ids_2BT, mask_2BT).sum(1)
        else:
            with self.model.disable_adapter():
                reference_2B = self._forward(self.model, prompt_ids, prompt_mask, ids_2BT, mask_2BT).sum(1)
        rewards_2B = self._calculate_rewards_from_functions(
            2 * prompts,
            [[] for _ in 2 * prompts],
            ids_2BT.tolist(),
            **{name: 2 * values for name, values in batch.items() if name != "prompt"},
        )
        pairs = (self.beta * (log_probs_2B - reference_2B), rewards_2B)
        return pairs[0].view(2, -1).T, pairs[1].view(2, -1).T

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        measured = {"stats": self.stats, "measured": self.measured}
        Path(output_dir, f"measured_{self.args.process_index}.json").write_text(json.dumps(measured))

    def _load_rng_state(self, checkpoint: str | None) -> None:
        super()._load_rng_state(checkpoint)
        if checkpoint and (file := Path(checkpoint, f"measured_{self.args.process_index}.json")).is_file():
            measured = json.loads(file.read_text())
            self.stats, self.measured = measured["stats"], measured["measured"]


def online_dpo(folder: RunFolder, arguments: OnlineDPOArguments) -> None:
    run_online(
        folder,
        arguments,
        EvaluatingOnlineDPOTrainer,
        OnlineDPOConfig,
        max_new_tokens=arguments.max_completion_length,
        remove_unused_columns=False,
    )


if __name__ == "__main__":
    main("online_dpo", online_dpo)
