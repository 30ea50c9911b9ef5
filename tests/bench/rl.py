"""A step of our GRPO against a step of TRL's own GRPOTrainer: the same model, prompts, reward and random numbers.

What ours adds: completions read for the rewards (reasoning, answer, length), our rewards behind TRL's interface, the check of each loss,
the events of each step. A Llama of 14 million parameters made in code, 8 completions of up to 32 tokens a step, optimiser included. Both
sample the same completions, since they start alike and draw the same numbers. Steps are interleaved, and who goes first takes turns.
Without a GPU it is the processor's time that counts, all threads together: it is steadier than the clock where other work goes on.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, PrinterCallback
from trl import GRPOConfig, GRPOTrainer

from tests.bench import watchdog
from tests.bench.figures import Figure
from tests.recipes.planted import PROMPTS, REWARD_FUNCTIONS
from tests.recipes.tiny import make_run, save_tiny_model
from training.recipes.arguments import GRPOArguments
from training.recipes.grpo import OnlineGRPOTrainer
from training.recipes.models import load_causal_lm
from training.recipes.online import load_prompts, reward_functions
from training.recipes.run_folder import RunFolder
from training.recipes.training import RunEvents, configure

ROUNDS = 9
ARGUMENTS = GRPOArguments(
    rewards={"letters": 1.0},
    max_completion_length=32,
    max_length=128,
    num_generations=4,
    steps_per_generation=1,
    beta=0.0,
    learning_rate=1e-4,
)

clock = time.perf_counter if torch.cuda.is_available() else time.process_time


def run() -> list[Figure]:
    with tempfile.TemporaryDirectory() as place:
        model = save_tiny_model(Path(place, "model"), hidden=384, layers=6)
        make_run(Path(place, "run"), "grpo", model, prompts=PROMPTS)
        policy = {"location": f"folder:{model}"}
        folder = RunFolder(Path(place, "run"), {"policy": policy}, reward_functions=REWARD_FUNCTIONS)
        tokenizer = AutoTokenizer.from_pretrained(model)
        training, none = load_prompts(folder, tokenizer, ARGUMENTS.max_prompt_length)
        functions, weights = reward_functions(folder, ARGUMENTS, tokenizer)
        config = configure(GRPOConfig, folder, ARGUMENTS, none.select([]), reward_weights=weights)
        shared = {"args": config, "train_dataset": training, "processing_class": tokenizer}
        plain = GRPOTrainer(load_causal_lm(policy), reward_funcs=[letters], **shared)
        ours = OnlineGRPOTrainer(load_causal_lm(policy), reward_funcs=functions, **shared)
        ours.add_callback(RunEvents(folder))
        for trainer in (plain, ours):
            trainer.remove_callback(PrinterCallback)
        steps = [stepper(plain), stepper(ours)]
        ratios = []
        for number in range(ROUNDS + 1):
            seconds = [0.0, 0.0]
            for which in (0, 1) if number % 2 else (1, 0):
                seconds[which] = steps[which](number)
            ratios.append(seconds[1] / seconds[0])
            print(f"grpo round {number}: {seconds[0]:.2f} s by TRL, {seconds[1]:.2f} s by ours", flush=True)
        same = all(map(torch.equal, plain.model.parameters(), ours.model.parameters()))
    if not same:
        raise RuntimeError("The two did not do the same work: their weights differ.")
    return [
        Figure.from_rounds("grpo_step_ratio_to_trl", ratios[1:], "x", "TRL GRPOTrainer, the same steps"),
        *watchdog.run(),
    ]


def letters(completions: list[Any], **_: Any) -> list[float]:
    return [float(sum(letter.isalpha() for letter in one[0]["content"])) for one in completions]


def stepper(trainer: Any) -> Callable[[int], float]:
    """Takes the n-th step as the training loop does, its log included; returns how long that took in seconds."""
    optimizer = trainer.create_optimizer()
    trainer.current_gradient_accumulation_steps = 1  # what `train` would set
    batches = iter(trainer.get_train_dataloader())

    def step(number: int) -> float:
        torch.manual_seed(number)
        batch = next(batches)
        trainer.model.train()
        began = clock()
        loss = trainer.training_step(trainer.model, batch, None)
        optimizer.step()
        optimizer.zero_grad()
        trainer.state.global_step = number + 1
        trainer.control = trainer.callback_handler.on_step_end(trainer.args, trainer.state, trainer.control)
        trainer.log({"loss": loss.item()})
        return clock() - began

    return step
