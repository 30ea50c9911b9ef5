"""PPO's arithmetic. A completion is an episode, a token is an action; the episode ends with the completion's last token.

Papers: PPO (arXiv:1707.06347), GAE (arXiv:1506.02438), Ziegler et al. (arXiv:1909.08593) for the penalty and its controller.
Shapes: B completions, T tokens. A mask is 1 on a completion's tokens and 0 on the padding to their right; a completion that must not
count has a mask of zeros.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

Total = Callable[[torch.Tensor], torch.Tensor]
SAME = 1e-10  # a variance below this is rounding
PENALTY_ERROR = 0.2  # the controller takes a divergence for at most this share above or below its target


def here(totals: torch.Tensor) -> torch.Tensor:
    """The total over all processes where there is one."""
    return totals


def token_rewards(
    scores_B: torch.Tensor, log_ratios_BT: torch.Tensor, mask_BT: torch.Tensor, coefficient: float
) -> torch.Tensor:
    """What each token earns, (B, T): −β·log π(a|s)/π_ref(a|s), and on the last token the completion's score, too.

    Ziegler et al., equation 2. The sum over a completion estimates score − β·KL.
    """
    rewards_BT = -coefficient * log_ratios_BT
    last_B = mask_BT.sum(1).long().clamp(min=1) - 1
    rewards_BT[torch.arange(len(last_B), device=last_B.device), last_B] += scores_B
    return rewards_BT * mask_BT


def gae(
    rewards_BT: torch.Tensor, values_BT: torch.Tensor, mask_BT: torch.Tensor, gamma: float, lam: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Advantages and returns, (B, T) each: GAE, equations 11 to 16. `values_BT` are V(s) before each token.

    δ_t = r_t + γ·V(s_t+1) − V(s_t);  A_t = δ_t + γλ·A_t+1;  return_t = A_t + V(s_t).  Nothing comes after the last token.
    """
    values_BT = values_BT * mask_BT
    advantages_BT = torch.zeros_like(values_BT)
    next_values_B = next_advantages_B = torch.zeros_like(values_BT[:, 0])
    for t in reversed(range(values_BT.size(1))):
        deltas_B = rewards_BT[:, t] + gamma * next_values_B - values_BT[:, t]
        next_advantages_B = (deltas_B + gamma * lam * next_advantages_B) * mask_BT[:, t]
        next_values_B = values_BT[:, t]
        advantages_BT[:, t] = next_advantages_B
    return advantages_BT, advantages_BT + values_BT


def moments(values_BT: torch.Tensor, mask_BT: torch.Tensor, total: Total = here) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance (of the population) over the tokens that count, (0, 0) where none does."""
    values_BT = values_BT * mask_BT
    sum_, count = total(torch.stack([values_BT.sum(), mask_BT.sum().to(values_BT.dtype)]))
    mean = sum_ / count.clamp(min=1)
    variance = total(((values_BT - mean) ** 2 * mask_BT).sum()) / count.clamp(min=1)
    return mean, variance


def whiten(
    values_BT: torch.Tensor, mask_BT: torch.Tensor, shift_mean: bool = True, total: Total = here
) -> torch.Tensor:
    """Scaled to variance 1 and, unless told otherwise, shifted to mean 0, over the tokens that count; (B, T)."""
    mean, variance = moments(values_BT, mask_BT, total)
    whitened_BT = (values_BT - mean) * torch.rsqrt(variance + 1e-8)
    return (whitened_BT if shift_mean else whitened_BT + mean) * mask_BT


def policy_loss(
    log_probs_BT: torch.Tensor, old_log_probs_BT: torch.Tensor, advantages_BT: torch.Tensor, epsilon: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """−min(r·A, clip(r, 1 − ε, 1 + ε)·A) with r = π/π_old, and where clipping held the gradient back; (B, T) each.

    PPO, equation 7.
    """
    ratios_BT = torch.exp(log_probs_BT - old_log_probs_BT)
    free_BT = -ratios_BT * advantages_BT
    clipped_BT = -ratios_BT.clamp(1 - epsilon, 1 + epsilon) * advantages_BT
    return torch.max(free_BT, clipped_BT), clipped_BT > free_BT


def value_loss(
    values_BT: torch.Tensor, old_values_BT: torch.Tensor, returns_BT: torch.Tensor, cliprange: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """½·max((V − R)², (clip(V, V_old − c, V_old + c) − R)²), and where clipping held the gradient back; (B, T) each."""
    near_BT = old_values_BT + (values_BT - old_values_BT).clamp(-cliprange, cliprange)
    free_BT, clipped_BT = (values_BT - returns_BT) ** 2, (near_BT - returns_BT) ** 2
    return 0.5 * torch.max(free_BT, clipped_BT), clipped_BT > free_BT


def explained_variance(
    values_BT: torch.Tensor, returns_BT: torch.Tensor, mask_BT: torch.Tensor, total: Total = here
) -> float:
    """1 − Var(R − V)/Var(R): 1 for a critic that knows the returns, 0 for one that says the same always; nan if the returns agree."""
    unexplained, variance = (moments(each, mask_BT, total)[1] for each in (returns_BT - values_BT, returns_BT))
    return (1 - unexplained / variance).item() if variance > SAME else float("nan")


@dataclass
class Penalty:
    """The coefficient β of the divergence in the reward. With a target it adapts: Ziegler et al., section 2.2.

    `target` in nats per completion, `horizon` in completions: after so many, a divergence 20 % off has moved β by some 20 %.
    """

    coefficient: float
    target: float | None = None
    horizon: int = 10_000

    def update(self, divergence: float, completions: int) -> None:
        """After a batch of `completions` whose mean divergence was this."""
        if self.target is not None:
            error = min(max(divergence / self.target - 1, -PENALTY_ERROR), PENALTY_ERROR)
            self.coefficient *= 1 + error * completions / self.horizon
