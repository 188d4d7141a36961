"""The formulas of learning from preferences, each against another way to compute it."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import assert_close
from tinytensor import Tensor
from tinytensor.gradcheck import gradcheck
from train.preference import estimators


def replies(seed: int, rows: int = 4, T: int = 9):
    draw = np.random.default_rng(seed)
    starts, lengths = draw.integers(0, 3, rows), draw.integers(1, T - 2, rows)
    places = np.arange(T)
    mask = (places >= starts[:, None]) & (places < (starts + lengths)[:, None])
    return draw, mask


@given(st.integers(0, 1000), st.floats(0.5, 1.0), st.floats(0.0, 1.0))
def test_advantages_are_the_discounted_sum_of_all_later_errors(seed, gamma, lam):
    draw, mask = replies(seed)
    rewards, values = draw.normal(size=mask.shape) * mask, draw.normal(size=mask.shape)
    found = estimators.advantages(rewards, values, mask, gamma, lam)
    for row in range(len(mask)):
        places = np.flatnonzero(mask[row])
        v = [*values[row, places], 0.0]
        d = [rewards[row, t] + gamma * v[i + 1] - v[i] for i, t in enumerate(places)]
        for i, t in enumerate(places):
            assert_close(found[row, t], sum((gamma * lam) ** (j - i) * d[j] for j in range(i, len(d))), 1e-9)
    assert (found[~mask] == 0).all()


def test_with_lambda_1_advantage_and_value_are_the_reward_still_to_come():
    draw, mask = replies(1)
    rewards, values = draw.normal(size=mask.shape) * mask, draw.normal(size=mask.shape)
    returns = estimators.advantages(rewards, values, mask, 1.0, 1.0) + values
    later = np.cumsum(rewards[:, ::-1], axis=1)[:, ::-1]
    assert_close(returns[mask], later[mask], 1e-12)


@pytest.mark.parametrize("shift", [True, False])
def test_whitened_values_have_variance_1_and_their_mean_or_none(shift):
    draw, mask = replies(2)
    values = draw.normal(3, 5, mask.shape)
    white = estimators.whiten(values, mask, shift)
    assert white[mask].var() == pytest.approx(1, abs=1e-6)
    assert white[mask].mean() == pytest.approx(0 if shift else values[mask].mean(), abs=1e-9)
    assert (white[~mask] == 0).all()


def test_the_score_stands_at_the_last_token_of_a_reply():
    mask = np.array([[0, 1, 1, 0], [1, 1, 1, 1]], bool)
    rewards = estimators.token_rewards(np.full((2, 4), -1.0), np.full((2, 4), -3.0), np.array([5.0, 7.0]), mask, 0.1)
    assert_close(rewards, [[0, -0.2, 4.8, 0], [-0.2, -0.2, -0.2, 6.8]], 1e-12)


def test_the_estimates_of_the_divergence_are_right_on_average_but_for_the_second():
    draw = np.random.default_rng(0)
    p, q = draw.dirichlet(np.ones(5)), draw.dirichlet(np.ones(5))
    exact = float((p * np.log(p / q)).sum())
    k1, k2, k3 = (float((p * k).sum()) for k in estimators.kl_estimates(np.log(p), np.log(q)))
    assert k1 == pytest.approx(exact) and k3 == pytest.approx(exact) and abs(k2 - exact) > 0.05
    assert (estimators.kl_estimates(np.log(p), np.log(q))[2] >= 0).all()


@pytest.mark.parametrize("n, expected", [(1, 0.0), (2, 0.1931), (4, 0.6363), (16, 1.8351)])
def test_the_divergence_of_the_best_of_n(n, expected):
    assert estimators.best_of_n_kl(n) == pytest.approx(expected, abs=1e-4)
    u = (np.arange(200_000) + 0.5) / 200_000  # the best of n uniform rewards has density n u^(n - 1)
    density = n * u ** (n - 1)
    assert float((density * np.log(density)).mean()) == pytest.approx(expected, abs=1e-3)


def test_the_adaptive_coefficient_moves_towards_the_target_and_never_by_more_than_a_fifth_a_horizon():
    assert estimators.next_kl(0.1, 6.0, 6.0, 512) == 0.1
    assert estimators.next_kl(0.1, 60.0, 6.0, 10_000) == pytest.approx(0.12)
    assert estimators.next_kl(0.1, 5.4, 6.0, 500) == pytest.approx(0.1 * (1 - 0.1 * 0.05))


def test_losses_and_their_gradients_are_those_of_the_formulas():
    draw, mask = replies(3)
    old, advantage = draw.normal(size=mask.shape), draw.normal(size=mask.shape)
    new = old + draw.normal(0, 0.3, mask.shape)
    r = np.exp(new - old)
    losses = estimators.policy_losses(Tensor(new), old, advantage)
    assert_close(losses.data, np.maximum(-advantage * r, -advantage * np.clip(r, 0.8, 1.2)), 1e-12)
    gradcheck(lambda x: estimators.policy_losses(x, old, advantage), [Tensor(new, requires_grad=True)])
    losses = estimators.value_losses(Tensor(new), old, advantage)
    near = np.clip(new, old - 0.2, old + 0.2)
    assert_close(losses.data, 0.5 * np.maximum((new - advantage) ** 2, (near - advantage) ** 2), 1e-12)
    gradcheck(lambda x: estimators.value_losses(x, old, advantage), [Tensor(new, requires_grad=True)])


def test_the_loss_and_gradient_of_dpo_are_those_of_the_paper():
    draw = np.random.default_rng(4)
    log_probs, reference = Tensor(draw.normal(-20, 3, (5, 2)), requires_grad=True), draw.normal(-20, 3, (5, 2))
    losses = estimators.dpo_losses(log_probs, reference, 0.1)
    margin = 0.1 * ((log_probs.data - reference)[:, 0] - (log_probs.data - reference)[:, 1])
    assert_close(losses.data, [-math.log(1 / (1 + math.exp(-m))) for m in margin], 1e-12)
    losses.sum().backward()
    slope = -0.1 / (1 + np.exp(margin))
    assert_close(log_probs.grad, np.stack([slope, -slope], axis=1), 1e-12)
