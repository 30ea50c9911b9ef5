"""Supervised fine-tuning on demonstrations and on the completions ranked best.

    python -m training.recipes.sft RUN_DIR

Paper: InstructGPT (arXiv:2203.02155), step 1. The loss is over the completion's tokens alone.
Departures: completions that people ranked best count as demonstrations when asked for; an answer given twice to the same prompt
counts once. Examples longer than max_length are left out rather than cut: a cut answer teaches the model not to end.

On TRL's SFTTrainer, with examples that are tokenised already.
"""

from typing import Any

from transformers import set_seed
from trl import SFTConfig, SFTTrainer

from training.recipes.arguments import SFTArguments
from training.recipes.data import load_demonstrations
from training.recipes.models import load_causal_lm, load_tokenizer, lora
from training.recipes.run_folder import RunFolder, finite, main
from training.recipes.training import FiniteLoss, RunEvents, Samples, configure, evaluate, save_checkpoint, train


class FiniteSFTTrainer(FiniteLoss, SFTTrainer):
    pass


def sft(folder: RunFolder, arguments: SFTArguments) -> None:
    # Data
    set_seed(arguments.seed)
    tokenizer = load_tokenizer(folder, folder.model())
    training, held_out = load_demonstrations(folder, tokenizer, arguments.max_length, arguments.train_on)

    # Model
    trainer = FiniteSFTTrainer(
        load_causal_lm(folder.model()),
        args=configure(SFTConfig, folder, arguments, held_out),
        train_dataset=training.remove_columns("prompt"),
        eval_dataset=held_out.remove_columns("prompt") if len(held_out) else None,
        processing_class=tokenizer,
        peft_config=lora(arguments, "CAUSAL_LM"),
    )
    shown = held_out if len(held_out) else training
    samples = Samples(folder, trainer.model, tokenizer, shown["prompt"])

    # Train
    train(trainer, folder, RunEvents(folder, samples))

    # Measure
    metrics: dict[str, Any] = {"examples": len(training)}
    if len(held_out):
        metrics |= evaluate(trainer)
    samples.show(trainer.state.global_step)

    # Save
    save_checkpoint(trainer, folder)
    folder.event("metrics", step=trainer.state.global_step, metrics=finite(metrics))
    folder.save_result(metrics, is_adapter=arguments.use_peft)


if __name__ == "__main__":
    main("sft", sft)
