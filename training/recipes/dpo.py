"""Direct preference optimisation from whole rankings.

    python -m training.recipes.dpo RUN_DIR

Paper: DPO (arXiv:2305.18290), equation 7, over all pairs of a ranking, or one of the losses of losses.py. Each completion's
log-probability is computed once for the policy, and once in the whole run for the reference, which is the policy as it was before
training.
Departures: annotators' weights; a tie may be half a win for each side.

On TRL's DPOTrainer, overriding `_prepare_dataset`, `_set_signature_columns_if_needed`, `_precompute_ref_logps` and `_compute_loss`
(all private) and calling its fused language-model head (`model(…, labels=…, fused_lm_head=True).log_probs`).
Shapes: N completions of a batch's rankings, T tokens, P pairs.
"""

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, set_seed
from trl import DPOConfig, DPOTrainer

from training.recipes import ranks
from training.recipes.arguments import DPOArguments
from training.recipes.data import load_rankings
from training.recipes.listwise import RankingCollator, WholeRankings, agreement, pair_metrics
from training.recipes.losses import preference_loss
from training.recipes.models import load_causal_lm, load_tokenizer, lora
from training.recipes.packing import model_inputs, sharing, sum_completions
from training.recipes.run_folder import RunFolder, main
from training.recipes.training import RunEvents, Samples, configure, save_checkpoint, train


class ListwiseDPOTrainer(WholeRankings, DPOTrainer):
    """With precompute_ref_log_probs=True, as here, TRL asks for the reference's log-probabilities while the model is still the untrained
    policy (LoRA: its adapter does nothing yet)."""

    def __init__(self, *args: Any, reference_file: Path | None = None, **kwargs: Any) -> None:
        self.reference_file = reference_file  # keeps them between attempts
        super().__init__(*args, **kwargs)

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = ["ids", "prompt_length", "ranks", "weight", "reference"]

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        kept = load_file(self.reference_file) if self.reference_file and self.reference_file.is_file() else {}
        if name not in kept:
            kept[name] = torch.tensor([one for ranking in self.log_probs_all(dataset) for one in ranking])
            if self.reference_file and ranks.is_first():
                partial = self.reference_file.with_suffix(".partial")
                save_file(kept, partial)
                partial.rename(self.reference_file)
        flat_N = kept[name].tolist()
        reference, first = [], 0
        for ids in dataset["ids"]:
            reference.append(flat_N[first : first + len(ids)])
            first += len(ids)
        return dataset.add_column("reference", reference)

    def _compute_loss(self, model: PreTrainedModel, inputs: dict[str, torch.Tensor], return_outputs: bool) -> Any:
        log_probs_N = self.log_probs(model, inputs)
        log_ratios_N = log_probs_N - inputs["reference"]
        loss = preference_loss(
            self.loss_types[0], log_ratios_N, inputs["lengths"], inputs, self.beta, self.label_smoothing
        )
        rewards_N = self.beta * log_ratios_N.detach()
        metrics = self._metrics["train" if self.model.training else "eval"]
        for name, value in pair_metrics(rewards_N, inputs).items():
            metrics[{"accuracy": "rewards/accuracies", "margin": "rewards/margins"}[name]].append(value)
        metrics["rewards/mean"].append(rewards_N.mean().item())
        metrics["logps/mean"].append(log_probs_N.mean().item())
        return (loss, {"rewards": rewards_N}) if return_outputs else loss

    def log_probs(self, model: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Each completion's log-probability given its prompt, summed over its tokens, (N,)."""
        labels_NT = inputs["input_ids"].masked_fill(inputs["completion_mask"] == 0, -100)
        output = model(**model_inputs(inputs), labels=labels_NT, fused_lm_head=True)
        return sum_completions(output.log_probs.float(), inputs)

    def log_probs_all(self, dataset: Dataset) -> list[list[float]]:
        """The log-probabilities of each ranking's completions, in the dataset's order."""
        return self.of_all(dataset, self.log_probs)


def dpo(folder: RunFolder, arguments: DPOArguments) -> None:
    # Data: whole rankings
    set_seed(arguments.seed)
    tokenizer = load_tokenizer(folder, folder.model())
    training, held_out = load_rankings(folder, tokenizer, arguments.max_length, arguments.ties)

    # Model, and the reference's log-probabilities while it is untrained
    model = load_causal_lm(folder.model())
    breadth = sharing(folder, model, arguments.max_length) if arguments.share_prompts else None
    trainer = ListwiseDPOTrainer(
        model,
        args=configure(DPOConfig, folder, arguments, held_out, precompute_ref_log_probs=True),
        data_collator=RankingCollator(tokenizer.pad_token_id, arguments.ties, breadth),
        train_dataset=training,
        eval_dataset=held_out if len(held_out) else None,
        processing_class=tokenizer,
        peft_config=lora(arguments, "CAUSAL_LM"),
        reference_file=folder.path / "reference.safetensors",
    )
    shown = held_out if len(held_out) else training
    samples = Samples(folder, trainer.model, tokenizer, shown["prompt"])

    # Train
    train(trainer, folder, RunEvents(folder, samples))

    # Measure
    metrics: dict[str, Any] = {}
    for prefix, dataset in (("train", trainer.train_dataset), ("eval", trainer.eval_dataset)):
        if dataset is None:
            continue
        rewards = [
            [arguments.beta * (policy - reference) for policy, reference in zip(policies, references, strict=True)]
            for policies, references in zip(trainer.log_probs_all(dataset), dataset["reference"], strict=True)
        ]
        agreed = agreement(rewards, dataset["ranks"], dataset["prompt_id"])
        metrics |= agreed.metrics(prefix) if agreed else {}
    samples.show(trainer.state.global_step)

    # Save
    save_checkpoint(trainer, folder)
    folder.event("metrics", step=trainer.state.global_step, metrics=metrics)
    folder.save_result(metrics, is_adapter=arguments.use_peft)


if __name__ == "__main__":
    main("dpo", dpo)
