"""Losses over whole rankings: DPO's kin over all pairs, and Plackett-Luce over the whole order.

Pairwise losses follow TRL's DPOTrainer by name and formula (tests/recipes/test_losses.py compares loss and gradient on expanded pairs).
ε, the label smoothing, is for `robust` and `exo_pair`. Of its kinds, left out are: `aot` and `aot_unpaired`, which compare sorted batches rather than pairs and so would
mix rankings with one another; and `sft`, which compares nothing.

Shapes: N completions of a batch's rankings, P pairs. Log-ratios are log π(y|x) − log π_ref(y|x), summed over a completion's tokens.
"""

import math
from collections.abc import Callable

import torch
from torch.nn.functional import logsigmoid, relu, softplus

PairLoss = Callable[[torch.Tensor, torch.Tensor, float, float], torch.Tensor]

DISCOPOP_TAU = 0.05  # TRL's default, and the paper's
# Their log-ratios are means over a completion's tokens, as TRL has it.
PER_TOKEN = {"ipo", "sigmoid_norm"}


def sigmoid(chosen_P: torch.Tensor, rejected_P: torch.Tensor, beta: float, epsilon: float) -> torch.Tensor:
    """DPO (arXiv:2305.18290), equation 7."""
    return softplus(-beta * (chosen_P - rejected_P))


def hinge(chosen_P: torch.Tensor, rejected_P: torch.Tensor, beta: float, epsilon: float) -> torch.Tensor:
    """SLiC (arXiv:2305.10425), with the margin 1/β in log-ratios as in RSO (arXiv:2309.06657)."""
    return relu(1 - beta * (chosen_P - rejected_P))


def ipo(chosen_P: torch.Tensor, rejected_P: torch.Tensor, beta: float, epsilon: float) -> torch.Tensor:
    """IPO (arXiv:2310.12036), equation 17; log-ratios per token."""
    return (chosen_P - rejected_P - 1 / (2 * beta)) ** 2


def robust(chosen_P: torch.Tensor, rejected_P: torch.Tensor, beta: float, epsilon: float) -> torch.Tensor:
    """Robust DPO (arXiv:2403.00409): unbiased when a share ε of the preferences is flipped, 0 ≤ ε < ½."""
    margins_P = beta * (chosen_P - rejected_P)
    return ((1 - epsilon) * softplus(-margins_P) - epsilon * softplus(margins_P)) / (1 - 2 * epsilon)


def exo_pair(chosen_P: torch.Tensor, rejected_P: torch.Tensor, beta: float, epsilon: float) -> torch.Tensor:
    """EXO (arXiv:2402.00856), equation 16: the reverse KL to preferences smoothed by ε > 0."""
    margins_P = beta * (chosen_P - rejected_P)
    won_P, lost_P = logsigmoid(margins_P), logsigmoid(-margins_P)
    return won_P.exp() * (won_P - math.log1p(-epsilon)) + lost_P.exp() * (lost_P - math.log(epsilon))


def nca_pair(chosen_P: torch.Tensor, rejected_P: torch.Tensor, beta: float, epsilon: float) -> torch.Tensor:
    """NCA (arXiv:2402.05369) over pairs: keeps the chosen's likelihood from falling along with the rejected's."""
    return softplus(-beta * chosen_P) + 0.5 * softplus(beta * chosen_P) + 0.5 * softplus(beta * rejected_P)


def bco_pair(chosen_P: torch.Tensor, rejected_P: torch.Tensor, beta: float, epsilon: float) -> torch.Tensor:
    """BCO (arXiv:2404.04656) over pairs, without its running shift, as TRL has it."""
    return softplus(-beta * chosen_P) + softplus(beta * rejected_P)


def sppo_hard(chosen_P: torch.Tensor, rejected_P: torch.Tensor, beta: float, epsilon: float) -> torch.Tensor:
    """SPPO (arXiv:2405.00675), equation 4.7, with the win probability 1 for the chosen."""
    return (chosen_P - 0.5 / beta) ** 2 + (rejected_P + 0.5 / beta) ** 2


def apo_zero(chosen_P: torch.Tensor, rejected_P: torch.Tensor, beta: float, epsilon: float) -> torch.Tensor:
    """APO (arXiv:2408.06266), equation 7: for chosen answers that are better than the model's own."""
    return torch.sigmoid(-beta * chosen_P) + torch.sigmoid(beta * rejected_P)


def apo_down(chosen_P: torch.Tensor, rejected_P: torch.Tensor, beta: float, epsilon: float) -> torch.Tensor:
    """APO (arXiv:2408.06266), equation 8: for chosen answers that are worse than the model's own."""
    return torch.sigmoid(beta * chosen_P) + torch.sigmoid(-beta * (chosen_P - rejected_P))


def discopop(chosen_P: torch.Tensor, rejected_P: torch.Tensor, beta: float, epsilon: float) -> torch.Tensor:
    """DiscoPOP (arXiv:2406.08414), equation 5."""
    margins_P = beta * (chosen_P - rejected_P)
    logistic_P = softplus(-margins_P) * torch.sigmoid(-margins_P / DISCOPOP_TAU)
    # One exponential instead of a product: exp(−margin) alone overflows where its factor is 0.
    return logistic_P + torch.exp(logsigmoid(margins_P / DISCOPOP_TAU) - margins_P)


PAIR_LOSSES: dict[str, PairLoss] = {
    "sigmoid": sigmoid,
    "sigmoid_norm": sigmoid,
    "hinge": hinge,
    "ipo": ipo,
    "robust": robust,
    "exo_pair": exo_pair,
    "nca_pair": nca_pair,
    "bco_pair": bco_pair,
    "sppo_hard": sppo_hard,
    "apo_zero": apo_zero,
    "apo_down": apo_down,
    "discopop": discopop,
}


def preference_loss(
    loss_type: str,
    log_ratios_N: torch.Tensor,
    lengths_N: torch.Tensor,
    batch: dict[str, torch.Tensor],
    beta: float,
    label_smoothing: float,
) -> torch.Tensor:
    """The loss of a batch of rankings, given each completion's log-ratio and its length in tokens. `batch` is a RankingCollator's."""
    if loss_type == "plackett_luce":
        return plackett_luce(beta * log_ratios_N, batch)
    if loss_type in PER_TOKEN:
        log_ratios_N = log_ratios_N / lengths_N
    chosen_P, rejected_P = log_ratios_N[batch["winners"]], log_ratios_N[batch["losers"]]
    return (batch["weights"] * PAIR_LOSSES[loss_type](chosen_P, rejected_P, beta, label_smoothing)).sum()


def plackett_luce(scores_N: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """−log p of each ranking under Plackett-Luce, as the mean over its choices: DPO (arXiv:2305.18290), appendix A.3.

    A ranking is read as choices: the best among all, then the best among those left, and so on to the last two. Each choice is made
    from the completion itself and the losers of its pairs. Ties, with ties="half", are Breslow's (1974): each of the tied is chosen from
    all of them and all below; with "drop" from itself and those below. Two completions give Bradley-Terry's loss.
    """
    meets_NN = torch.eye(len(scores_N), dtype=torch.bool, device=scores_N.device)
    meets_NN[batch["winners"], batch["losers"]] = True
    field_N = scores_N.expand(len(scores_N), -1).masked_fill(~meets_NN, -math.inf).logsumexp(dim=1)
    return (batch["choices"] * (field_N - scores_N)).sum()
