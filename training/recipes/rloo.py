"""REINFORCE leave-one-out: each completion is judged against the mean of the others for the same prompt.

    python -m training.recipes.rloo RUN_DIR

Paper: Back to Basics (arXiv:2402.14740), equation 8. The divergence from the reference is summed over the completion and taken off its
reward; probabilities are those of whole completions, and their ratio is clipped as PPO's is.
Departures: see training/recipes/online.py.

On TRL's RLOOTrainer, which does all of it; the frame and the private parts are those of training/recipes/online.py.
"""

from trl import RLOOConfig, RLOOTrainer

from training.recipes.arguments import RLOOArguments
from training.recipes.online import Online, run_online
from training.recipes.run_folder import RunFolder, main


class OnlineRLOOTrainer(Online, RLOOTrainer):
    pass


def rloo(folder: RunFolder, arguments: RLOOArguments) -> None:
    run_online(folder, arguments, OnlineRLOOTrainer, RLOOConfig)


if __name__ == "__main__":
    main("rloo", rloo)
