"""PPO's arithmetic against cases worked by hand from the papers' formulas."""

import math

import pytest
import torch

from training.recipes.actor_critic import (
    Penalty,
    explained_variance,
    gae,
    moments,
    policy_loss,
    token_rewards,
    value_loss,
    whiten,
)

MASK = torch.tensor(
    [[1.0, 1, 1], [1, 0, 0], [0, 0, 0]]
)  # a whole completion, one of a single token, one that must not count
RUBBISH = 7.0  # what stands on padding must not matter


def close(tensor, expected):
    torch.testing.assert_close(tensor, torch.tensor(expected), rtol=1e-5, atol=1e-6)


def test_each_token_pays_for_its_divergence_and_the_last_one_earns_the_score():
    log_ratios = torch.tensor([[0.5, -0.25, 1.0], [2.0, RUBBISH, RUBBISH], [RUBBISH, RUBBISH, RUBBISH]])
    rewards = token_rewards(torch.tensor([3.0, -1.0, 5.0]), log_ratios, MASK, coefficient=0.1)
    close(rewards, [[-0.05, 0.025, 2.9], [-1.2, 0, 0], [0, 0, 0]])


def test_the_rewards_of_a_completion_sum_to_its_score_less_the_weighted_divergence():
    torch.manual_seed(0)
    log_ratios, mask = torch.randn(4, 6), (torch.arange(6) < torch.tensor([[6], [1], [4], [2]])).float()
    rewards = token_rewards(torch.tensor([1.0, 2, 3, 4]), log_ratios, mask, coefficient=0.3)
    torch.testing.assert_close(rewards.sum(1), torch.tensor([1.0, 2, 3, 4]) - 0.3 * (log_ratios * mask).sum(1))


def test_advantages_follow_the_recursion_of_schulman_2016():
    # γ = 0.9, λ = 0.5. δ = (0.9·0.6 − 0.5, 0.9·0.7 − 0.6, 1 − 0.7) = (0.04, 0.03, 0.3)
    # A = (0.04 + 0.45·0.165, 0.03 + 0.45·0.3, 0.3); a completion of one token: A = r − V = −2 − 0.5
    rewards = torch.tensor([[0.0, 0, 1], [-2, RUBBISH, RUBBISH], [RUBBISH, RUBBISH, RUBBISH]])
    values = torch.tensor([[0.5, 0.6, 0.7], [0.5, RUBBISH, RUBBISH], [RUBBISH, RUBBISH, RUBBISH]])
    advantages, returns = gae(rewards * MASK, values, MASK, gamma=0.9, lam=0.5)
    close(advantages, [[0.11425, 0.165, 0.3], [-2.5, 0, 0], [0, 0, 0]])
    close(returns, [[0.61425, 0.765, 1.0], [-2, 0, 0], [0, 0, 0]])


def test_with_lambda_one_the_return_is_the_discounted_sum_and_with_lambda_zero_the_advantage_is_the_td_error():
    torch.manual_seed(1)
    rewards, values, mask = torch.randn(1, 5), torch.randn(1, 5), torch.ones(1, 5)
    _, returns = gae(rewards, values, mask, gamma=0.8, lam=1.0)
    for t in range(5):
        discounted = sum(0.8**k * rewards[0, t + k].item() for k in range(5 - t))
        assert returns[0, t].item() == pytest.approx(discounted, abs=1e-5)
    advantages, _ = gae(rewards, values, mask, gamma=0.8, lam=0.0)
    following = torch.cat([values[:, 1:], torch.zeros(1, 1)], dim=1)
    torch.testing.assert_close(advantages, rewards + 0.8 * following - values)


def test_padding_changes_no_advantage():
    torch.manual_seed(2)
    rewards, values = torch.randn(1, 4), torch.randn(1, 4)
    alone = gae(rewards, values, torch.ones(1, 4), 0.99, 0.95)
    padded = [torch.cat([each, torch.full((1, 3), RUBBISH)], dim=1) for each in (rewards, values)]
    mask = torch.tensor([[1.0, 1, 1, 1, 0, 0, 0]])
    for one, other in zip(alone, gae(padded[0] * mask, padded[1], mask, 0.99, 0.95), strict=True):
        torch.testing.assert_close(one, other[:, :4])
        assert not other[:, 4:].any()


def test_whitening_counts_no_padding():
    # over 1, 2, 3 and 6: mean 3, variance (4 + 1 + 0 + 9) / 4 = 3.5
    values = torch.tensor([[1.0, 2, 3], [6, RUBBISH, RUBBISH], [RUBBISH, RUBBISH, RUBBISH]])
    mean, variance = moments(values, MASK)
    assert (mean.item(), variance.item()) == (3.0, 3.5)
    scale = 1 / math.sqrt(3.5)
    close(whiten(values, MASK), [[-2 * scale, -scale, 0], [3 * scale, 0, 0], [0, 0, 0]])
    close(whiten(values, MASK, shift_mean=False), [[3 - 2 * scale, 3 - scale, 3], [3 + 3 * scale, 0, 0], [0, 0, 0]])


def test_whitening_one_token_or_none_gives_zeros_not_nan():
    for mask in (torch.tensor([[1.0, 0]]), torch.zeros(1, 2)):
        assert whiten(torch.tensor([[4.0, RUBBISH]]), mask).tolist() == [[0.0, 0.0]]


def test_whitening_over_two_processes_is_whitening_over_all():
    torch.manual_seed(3)
    values, mask = torch.randn(6, 5), (torch.rand(6, 5) > 0.3).float()
    whole = whiten(values, mask)
    # what each total of the first half becomes once the second half's is added, in the order in which they are asked for
    mean, _ = moments(values, mask)
    there = iter(
        [
            torch.stack([(values[3:] * mask[3:]).sum(), mask[3:].sum()]),
            ((values[3:] - mean) ** 2 * mask[3:]).sum(),
        ]
    )
    torch.testing.assert_close(whiten(values[:3], mask[:3], total=lambda mine: mine + next(there)), whole[:3])


def test_the_objective_is_clipped_on_the_side_where_the_policy_has_gone_far_enough():
    # ratios 1.5 and 0.5 with ε = 0.2. A > 0: min(1.5, 1.2) and min(0.5, 0.8). A < 0: min(−1.5, −1.2) and min(−0.5, −0.8)
    log_probs = torch.log(torch.tensor([[1.5, 0.5, 1.5, 0.5, 1.1]]))
    losses, clipped = policy_loss(log_probs, torch.zeros(1, 5), torch.tensor([[1.0, 1, -1, -1, 2]]), epsilon=0.2)
    close(losses, [[-1.2, -0.5, 1.5, 0.8, -2.2]])
    assert clipped.tolist() == [[True, False, False, True, False]]


def test_a_clipped_token_gives_the_policy_no_gradient():
    log_probs = torch.log(torch.tensor([[1.5, 0.5, 1.5, 0.5]])).requires_grad_()
    losses, clipped = policy_loss(log_probs, torch.zeros(1, 4), torch.tensor([[1.0, 1, -1, -1]]), epsilon=0.2)
    losses.sum().backward()
    assert log_probs.grad is not None
    assert log_probs.grad.eq(0).tolist() == clipped.tolist()


def test_the_value_loss_takes_the_worse_of_the_free_and_the_clipped_value():
    # V_old = 0, c = 0.2, R = 1: V = 0.5 → clipped 0.2, max(0.25, 0.64); V = 0.1 → 0.81 both; V = −0.5 → clipped −0.2, max(2.25, 1.44)
    losses, clipped = value_loss(torch.tensor([[0.5, 0.1, -0.5]]), torch.zeros(1, 3), torch.ones(1, 3), cliprange=0.2)
    close(losses, [[0.32, 0.405, 1.125]])
    assert clipped.tolist() == [[True, False, False]]


def test_the_explained_variance_is_one_for_a_perfect_critic_and_zero_for_a_constant_one():
    returns = torch.tensor([[1.0, 2, 3], [6, RUBBISH, RUBBISH], [RUBBISH, RUBBISH, RUBBISH]])
    assert explained_variance(returns, returns, MASK) == 1.0
    assert explained_variance(torch.full((3, 3), 3.0), returns, MASK) == 0.0
    # half the return leaves a quarter of the variance
    assert explained_variance(returns / 2, returns, MASK) == pytest.approx(0.75)
    assert math.isnan(explained_variance(returns, torch.ones(3, 3), MASK))


def test_the_penalty_adapts_by_at_most_a_fifth_of_the_batch_over_the_horizon():
    # Ziegler et al.: β ← β·(1 + clip(KL/target − 1, ±0.2) · completions/horizon)
    penalty = Penalty(0.1, target=6.0, horizon=1000)
    penalty.update(6.6, completions=100)  # 10 % above
    assert penalty.coefficient == pytest.approx(0.1 * (1 + 0.1 * 0.1))
    penalty.update(60, completions=100)  # far above: as if 20 %
    assert penalty.coefficient == pytest.approx(0.101 * 1.02)
    penalty.update(0, completions=500)  # far below
    assert penalty.coefficient == pytest.approx(0.101 * 1.02 * 0.9)


def test_without_a_target_the_penalty_stays():
    penalty = Penalty(0.1)
    penalty.update(100, completions=100)
    assert penalty.coefficient == 0.1
