"""The formulas of learning from preferences: advantages, divergences, and the losses of PPO and DPO.

Of a reply with T tokens; arrays are (B, T), true in `mask` where a token of a reply stands. Sources: Schulman et al.
2015 (GAE, arXiv:1506.02438) and 2017 (PPO, arXiv:1707.06347), Ziegler et al. 2019 (arXiv:1909.08593), whose program's
choices are named where they differ from the obvious; Rafailov et al. 2023 (DPO, arXiv:2305.18290).
"""

import math

import numpy as np

from tinytensor import Tensor, ops


def token_rewards(log_probs, reference, scores, mask, kl: float) -> np.ndarray:
    """(B, T): what a token earns, -kl * (log p - log p of the reference), and the score at a reply's last one."""
    rewards = np.where(mask, -kl * (log_probs - reference), 0.0)
    rewards[np.arange(len(rewards)), mask.shape[1] - 1 - mask[:, ::-1].argmax(axis=1)] += scores
    return rewards


def whiten(values, mask, shift: bool = True) -> np.ndarray:
    """Values with mean 0 and variance 1 over the mask; with shift=False the mean stays. 0 outside of the mask.

    The variance is the biased one, and 1e-8 stands inside the root, as in Ziegler's program.
    """
    inside = values[mask]
    mean = inside.mean()
    white = (values - mean) / np.sqrt(inside.var() + 1e-8)
    return np.where(mask, white if shift else white + mean, 0.0)


def advantages(rewards, values, mask, gamma: float = 1.0, lam: float = 0.95) -> np.ndarray:
    """Generalized advantage estimates (B, T), 0 outside of the mask.

    d[t] = r[t] + gamma * v[t + 1] - v[t],   A[t] = d[t] + gamma * lam * A[t + 1];   v and A are 0 after the last token
    """
    found, ahead, value_ahead = np.zeros_like(values), np.zeros(len(values)), np.zeros(len(values))
    for t in reversed(range(values.shape[1])):
        d = rewards[:, t] + gamma * value_ahead - values[:, t]
        found[:, t] = np.where(mask[:, t], d + gamma * lam * ahead, 0.0)
        ahead, value_ahead = found[:, t], np.where(mask[:, t], values[:, t], 0.0)
    return found


def kl_estimates(log_probs, reference) -> tuple:
    """(k1, k2, k3) of samples of p: estimates of KL(p || reference), with l = log(reference / p).

    k1 = -l and k3 = e^l - 1 - l are right on average, k3 also varies little and is never below 0; k2 = l^2 / 2 is
    neither, but near where the two are (Schulman 2020, "Approximating KL divergence").
    """
    ratio = reference - log_probs
    return -ratio, ratio**2 / 2, np.exp(ratio) - 1 - ratio


def best_of_n_kl(n: int) -> float:
    """KL of the best of n replies from one reply, ln n - (n - 1) / n: exact where no two rewards are equal, else more
    than it is."""
    return math.log(n) - (n - 1) / n


def next_kl(coefficient: float, measured: float, target: float, episodes: int, horizon: int = 10_000) -> float:
    """The adaptive coefficient (Ziegler et al. 2019, section 2.2): larger where the replies went too far."""
    error = min(max(measured / target - 1, -0.2), 0.2)
    return coefficient * (1 + error * episodes / horizon)


def policy_losses(log_probs: Tensor, old, advantage, clip: float = 0.2) -> Tensor:
    """PPO's loss of each token: max(-A r, -A clip(r, 1 - clip, 1 + clip)),   r = p / p when the reply was written."""
    ratio, advantage = ops.exp(log_probs - Tensor(old)), Tensor(advantage)
    return ops.maximum(-(ratio * advantage), -(ops.clip(ratio, 1 - clip, 1 + clip) * advantage))


def value_losses(values: Tensor, old, returns, clip: float = 0.2) -> Tensor:
    """1/2 max((v - R)^2, (v' - R)^2),   v' being v no further than `clip` from what it was."""
    near, returns = Tensor(old) + ops.clip(values - Tensor(old), -clip, clip), Tensor(returns)
    return ops.maximum((values - returns) ** 2, (near - returns) ** 2) * 0.5


def dpo_losses(log_probs: Tensor, reference, beta: float) -> Tensor:
    """(B, 2), of the better and the worse reply as a whole -> (B,): -log sigmoid(beta * (m[0] - m[1])).

    m = log p - log p of the reference.   d/d log p[0] = -beta * sigmoid(-beta * (m[0] - m[1])) = -d/d log p[1]
    """
    margin = log_probs - Tensor(reference)
    return ops.softplus((margin[:, 1] - margin[:, 0]) * beta)
