"""Group relative policy optimisation: several completions for each prompt, each judged against the others of its group.

    python -m training.recipes.grpo RUN_DIR

Papers: DeepSeekMath (arXiv:2402.03300), equations 3 and 4, and DeepSeek-R1 (arXiv:2501.12948). Variants of the loss are TRL's: dapo
(arXiv:2503.14476), dr_grpo (arXiv:2503.20783), bnpo, cispo (arXiv:2506.13585), sapo (arXiv:2511.20347), luspo (arXiv:2602.05261),
vespo (arXiv:2602.10693); GSPO (arXiv:2507.18071) is the loss grpo with ratios of whole sequences.
Departures: see training/recipes/online.py. The gradient of the KL penalty is TRL's unbiased one (`use_bias_correction_kl`).

On TRL's GRPOTrainer, which does all of it; the frame and the private parts are those of training/recipes/online.py.
"""

from typing import Any

from trl import GRPOConfig, GRPOTrainer

from training.recipes.arguments import GRPOArguments
from training.recipes.online import Online, run_online
from training.recipes.run_folder import RunFolder, main


class OnlineGRPOTrainer(Online, GRPOTrainer):
    pass


def grpo(folder: RunFolder, arguments: GRPOArguments) -> None:
    settings: dict[str, Any] = {}
    if arguments.loss_type == "vespo":
        settings["vllm_importance_sampling_mode"] = "token_truncate"  # its loss takes no other
    run_online(folder, arguments, OnlineGRPOTrainer, GRPOConfig, **settings)


if __name__ == "__main__":
    main("grpo", grpo)
