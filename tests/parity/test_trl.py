"""Estimators of learning from preferences against TRL 0.29, where it is installed: later versions have no PPO.

Its advantages and losses are lines within methods of trainers; those lines stand here as functions of torch tensors.
"""

import numpy as np
import pytest

from tests.helpers import assert_close
from tinytensor import Tensor
from train.preference import estimators

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def drawn():
    draw = np.random.default_rng(0)
    mask = np.arange(9) < draw.integers(2, 10, 6)[:, None]
    return draw, mask


@pytest.mark.parametrize("shift", [True, False])
def test_whitening_is_theirs_but_for_the_variance_which_they_divide_by_one_less(drawn, shift):
    trainer = pytest.importorskip("trl.experimental.ppo.ppo_trainer", reason="TRL 0.29 has PPO; it is not installed")
    draw, mask = drawn
    values, n = draw.normal(2, 3, mask.shape), mask.sum()
    theirs = trainer.masked_whiten(torch.tensor(values), torch.tensor(mask), shift_mean=shift).numpy()
    ours, mean = estimators.whiten(values, mask, shift), 0 if shift else values[mask].mean()
    assert_close((ours[mask] - mean) * np.sqrt((n - 1) / n), theirs[mask] - mean, 1e-6)


def their_advantages(rewards, values, gamma, lam):
    """trl/experimental/ppo/ppo_trainer.py of 0.29, "6. compute advantages and returns"."""
    lastgaelam, advantages_reversed, gen_length = 0, [], rewards.shape[1]
    for t in reversed(range(gen_length)):
        nextvalues = values[:, t + 1] if t < gen_length - 1 else 0.0
        delta = rewards[:, t] + gamma * nextvalues - values[:, t]
        lastgaelam = delta + gamma * lam * lastgaelam
        advantages_reversed.append(lastgaelam)
    return torch.stack(advantages_reversed[::-1], axis=1)


def test_advantages_are_theirs(drawn):
    draw, mask = drawn
    rewards, values = draw.normal(size=mask.shape) * mask, draw.normal(size=mask.shape) * mask
    theirs = their_advantages(torch.tensor(rewards), torch.tensor(values), 0.99, 0.95).numpy()
    assert_close(estimators.advantages(rewards, values, mask, 0.99, 0.95)[mask], theirs[mask], 1e-12)


def test_the_losses_of_ppo_and_their_gradients_are_theirs(drawn):
    draw, mask = drawn
    old, advantage, returns, old_values = (draw.normal(size=mask.shape) for _ in range(4))
    new, values = old + draw.normal(0, 0.3, mask.shape), old_values + draw.normal(0, 0.5, mask.shape)
    mb, v = torch.tensor(new, requires_grad=True), torch.tensor(values, requires_grad=True)
    A, R, before = torch.tensor(advantage), torch.tensor(returns), torch.tensor(old_values)
    vpredclipped = torch.clamp(v, before - 0.2, before + 0.2)
    vf_loss = 0.5 * torch.max(torch.square(v - R), torch.square(vpredclipped - R))
    ratio = torch.exp(mb - torch.tensor(old))
    pg_loss = torch.max(-A * ratio, -A * torch.clamp(ratio, 1.0 - 0.2, 1.0 + 0.2))
    (vf_loss + pg_loss).sum().backward()
    x, y = Tensor(new, requires_grad=True), Tensor(values, requires_grad=True)
    policy, value = estimators.policy_losses(x, old, advantage), estimators.value_losses(y, old_values, returns)
    assert_close(policy.data, pg_loss.detach().numpy(), 1e-12)
    assert_close(value.data, vf_loss.detach().numpy(), 1e-12)
    (policy + value).sum().backward()
    assert_close(x.grad, mb.grad.numpy(), 1e-12)
    assert_close(y.grad, v.grad.numpy(), 1e-12)


def test_the_estimates_of_the_divergence_are_theirs(drawn):
    draw, mask = drawn
    logprobs, ref_logprobs = draw.normal(size=mask.shape), draw.normal(size=mask.shape)
    logr = torch.tensor(ref_logprobs) - torch.tensor(logprobs)
    k1, _, k3 = estimators.kl_estimates(logprobs, ref_logprobs)
    assert_close(k1, (-logr).numpy(), 1e-12)
    assert_close(k3, ((logr.exp() - 1) - logr).numpy(), 1e-12)


def test_the_losses_of_dpo_and_of_a_reward_model_are_torchs_log_sigmoid(drawn):
    from train.tasks.reward import ranking_loss

    draw, _ = drawn
    log_probs, reference = draw.normal(-20, 3, (5, 2)), draw.normal(-20, 3, (5, 2))
    p = torch.tensor(log_probs, requires_grad=True)
    logratios = p - torch.tensor(reference)
    losses = -torch.nn.functional.logsigmoid(0.1 * (logratios[:, 0] - logratios[:, 1]))
    losses.sum().backward()
    x = Tensor(log_probs, requires_grad=True)
    ours = estimators.dpo_losses(x, reference, 0.1)
    ours.sum().backward()
    assert_close(ours.data, losses.detach().numpy(), 1e-12)
    assert_close(x.grad, p.grad.numpy(), 1e-12)
    rewards = draw.normal(size=(4, 3))
    r = torch.tensor(rewards)
    pairs = [torch.nn.functional.logsigmoid(r[:, i] - r[:, j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert_close(ranking_loss(Tensor(rewards)).data, -torch.stack(pairs).mean(0).numpy(), 1e-12)
