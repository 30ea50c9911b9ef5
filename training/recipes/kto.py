"""Kahneman-Tversky optimisation from completions judged good or bad one by one.

    python -m training.recipes.kto RUN_DIR

Paper: KTO (arXiv:2402.01306), equations 7 and 8; apo_zero_unpaired is APO's (arXiv:2408.06266) without pairs.
Where judgements come from: the places of a ranking, or ratings (unpaired.py). 'All bad' makes every completion a bad one.
Departures: annotators' weights; a completion that two people judged counts twice. Batches are the same in every epoch, as TRL has it:
the divergence is estimated from each prompt with its neighbour's completion, and the reference's share of that is computed once.

On TRL's KTOTrainer, overriding `_prepare_dataset`, `_set_signature_columns_if_needed`, `_precompute_ref_logps` and `_compute_loss`
(all private), the last to weigh examples: its two class weights may be tensors. Shapes: B examples.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedModel, set_seed
from trl import KTOConfig, KTOTrainer
from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference

from training.recipes.arguments import KTOArguments
from training.recipes.implicit import RankingJudge, held_out_rankings, kept_tensor
from training.recipes.models import load_causal_lm, load_tokenizer, lora
from training.recipes.run_folder import RunFolder, finite, main
from training.recipes.training import FiniteLoss, RunEvents, Samples, configure, save_checkpoint, train
from training.recipes.unpaired import class_weights, load_unpaired


class WeighingCollator(DataCollatorForUnpairedPreference):
    """TRL's, with each example's weight as "weight", (B,)."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = super().torch_call(examples)
        return {**batch, "weight": torch.tensor([example["weight"] for example in examples])}


class WeighingKTOTrainer(FiniteLoss, KTOTrainer):
    """Takes what unpaired.load_unpaired gives, and a WeighingCollator."""

    desirable_weight: Any
    undesirable_weight: Any

    def __init__(self, *args: Any, reference_file: Path, **kwargs: Any) -> None:
        self.reference_file = reference_file
        super().__init__(*args, **kwargs)

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        if "weight" not in self._signature_columns:
            self._signature_columns.append("weight")

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        def reference() -> torch.Tensor:
            parts = []
            for start in range(0, len(dataset), batch_size):
                examples = [dataset[at] for at in range(start, min(start + batch_size, len(dataset)))]
                batch = {key: value.to(self.model.device) for key, value in self.data_collator(examples).items()}
                log_probs, kl_log_probs = self.compute_ref_log_probs(self.model, batch)
                parts.append(
                    torch.stack((log_probs, log_probs if kl_log_probs is None else kl_log_probs)).float().cpu()
                )
            return torch.cat(parts, dim=1)

        log_probs, kl_log_probs = kept_tensor(self.reference_file, name, reference).tolist()
        return dataset.add_column("ref_logps", log_probs).add_column("ref_KL_logps", kl_log_probs)

    def _compute_loss(self, model: PreTrainedModel, inputs: dict[str, torch.Tensor], return_outputs: bool) -> Any:
        weight_B, good_B = inputs["weight"], inputs["label"].bool()
        rest = {name: value for name, value in inputs.items() if name != "weight"}
        plain = self.desirable_weight, self.undesirable_weight
        self.desirable_weight, self.undesirable_weight = plain[0] * weight_B[good_B], plain[1] * weight_B[~good_B]
        try:
            return super()._compute_loss(model, rest, return_outputs)
        finally:
            self.desirable_weight, self.undesirable_weight = plain


def kto(folder: RunFolder, arguments: KTOArguments) -> None:
    # Data: completions, each good or bad
    set_seed(arguments.seed)
    tokenizer = load_tokenizer(folder, folder.model())
    training, held_out = load_unpaired(folder, tokenizer, arguments)
    if arguments.balance:
        desirable, undesirable = class_weights(training)
        arguments = replace(arguments, desirable_weight=desirable, undesirable_weight=undesirable)
        folder.note(f"Good completions weigh {desirable:.3g}, bad ones {undesirable:.3g}.")

    # Model, and the reference's log-probabilities while it is untrained
    trainer = WeighingKTOTrainer(
        load_causal_lm(folder.model()),
        args=configure(KTOConfig, folder, arguments, held_out, precompute_ref_log_probs=True),
        data_collator=WeighingCollator(tokenizer.pad_token_id),
        train_dataset=training,
        eval_dataset=held_out if len(held_out) else None,
        processing_class=tokenizer,
        peft_config=lora(arguments, "CAUSAL_LM"),
        reference_file=folder.path / "reference.safetensors",
    )
    rankings = held_out_rankings(folder, tokenizer, arguments.max_length)
    judge = RankingJudge(folder, trainer, rankings, arguments.per_device_train_batch_size, beta=arguments.beta)
    shown = held_out if len(held_out) else training
    samples = Samples(folder, trainer.model, tokenizer, shown["prompt"])

    # Train
    train(trainer, folder, RunEvents(folder, samples))

    # Measure: how the policy would order the held-out rankings
    metrics: dict[str, Any] = {"examples": len(training), **judge.measure()}
    if len(held_out):
        metrics["eval_loss"] = trainer.evaluate()["eval_loss"]
    samples.show(trainer.state.global_step)

    # Save
    save_checkpoint(trainer, folder)
    folder.event("metrics", step=trainer.state.global_step, metrics=finite(metrics))
    folder.save_result(metrics, is_adapter=arguments.use_peft)


if __name__ == "__main__":
    main("kto", kto)
