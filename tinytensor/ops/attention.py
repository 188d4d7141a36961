"""Attention: every position asks all others a question and takes a mixture of their answers.

Scaled dot-product attention of Vaswani et al. 2017 (arXiv:1706.03762), section 3.2.1. One fused kernel does scores,
mask, softmax, dropout and mixture, and one its gradient, so no (T, S) array passes through the graph.
"""

import math

import numpy as np

from tinytensor import random
from tinytensor.backend import array_module, backend_of, beside, is_float
from tinytensor.ops.basic import check_alike
from tinytensor.tensor import Tensor, raw, record


def plain_attention(q, k, v, **how):
    """What `attention` computes, on NumPy arrays: the tests hold every kernel against these lines."""
    return plain_probabilities(q, k, **how) @ v  # (B, H, T, D); zeros where nothing is seen


def plain_probabilities(q, k, *, causal=False, window=None, mask=None, bias=0.0, scale=None):
    """How much each query looks at each key; every row adds up to 1."""
    T, S, D = q.shape[-2], *k.shape[-2:]
    scale = D**-0.5 if scale is None else scale
    seen = np.tri(T, S, S - T, dtype=bool) if causal else np.ones((T, S), bool)
    seen = seen if window is None else seen & ~np.tri(T, S, S - T - window, dtype=bool)
    seen = seen if mask is None else seen & mask
    scores = np.where(seen, q @ k.swapaxes(-1, -2) * scale + bias, -np.inf)  # (B, H, T, S)
    highest = scores.max(axis=-1, keepdims=True, initial=np.finfo(scores.dtype).min)
    weights = np.exp(scores - highest)  # the highest becomes 1, so that nothing overflows
    return weights / np.maximum(weights.sum(axis=-1, keepdims=True), 1)


def attention(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False, window: int | None = None, mask=None,
              bias: Tensor | None = None, scale: float | None = None, dropout: float = 0.0,
              recompute: bool = False) -> Tensor:
    """softmax(q @ k^T * scale + bias, where masked -inf) @ v

    q: (B, H, T, D); k, v: (B, H, S, D).  Returns (B, H, T, D).
    causal: position t sees positions 0 .. t + S - T (the last query is level with the last key).
    window: with causal, only the last `window` of those (GPT-3's locally banded layers).
    mask: boolean, broadcast to (B, H, T, S), True where attention is allowed. A query that may attend to nothing
    gets zeros.   bias: added to the scores, broadcast to (B, H, T, S) (T5's relative positions).
    scale: 1/sqrt(D) by default.   dropout: the share of the probabilities to drop.
    recompute: keep no (T, S) array between forward and backward; memory then grows with T, not with T * S.
    Gradient, with P the probabilities, O the output and dP = dO @ v^T:
        dS = P * (dP - sum(dO * O)),   dq = dS @ k * scale,   dk = dS^T @ q * scale,   dv = P^T @ dO,   dbias = dS
    """
    _check(q.data, k.data, v.data, causal, window, mask, bias, dropout)
    if q.shape[2] == 1 and not dropout and not any(isinstance(t, Tensor) and t.requires_grad for t in (q, k, v, bias)):
        return Tensor(_one_query(q.data, k.data, v.data, window, mask, bias, scale))
    y, backward = _attend(q.data, k.data, v.data, causal, window, mask, bias, scale, dropout, recompute)
    return record("attention", y, (q, k, v, bias), backward)


def self_attention(qkv: Tensor, heads: int, *, causal: bool = False, window: int | None = None, mask=None,
                   bias: Tensor | None = None, scale: float | None = None, dropout: float = 0.0,
                   recompute: bool = False) -> Tensor:
    """Attention whose queries, keys and values come side by side from one matrix product; see `attention`.

    qkv: (B, T, 3 * C), the three side by side, each made of H heads of width D = C / H.  Returns (B, T, C).
    scale: 1/sqrt(D) by default.
    The three gradients are written into one array, so neither splitting nor joining costs a copy.
    """
    if qkv.ndim != 3 or heads < 1 or qkv.shape[-1] % (3 * heads):
        raise ValueError(f"self_attention: qkv {qkv.shape} must be (B, T, 3 * C), with C divisible by {heads} heads")
    (B, T, packed), C, xp = qkv.shape, qkv.shape[2] // 3, qkv.xp
    q, k, v = unpack_heads(qkv.data, 3, heads)
    _check(q, k, v, causal, window, mask, bias, dropout)
    y, gradients = _attend(q, k, v, causal, window, mask, bias, scale, dropout, recompute)

    def backward(dy):
        dqkv = xp.empty((B, T, packed), dy.dtype)
        *_, dbias = gradients(dy.reshape(B, T, heads, C // heads).swapaxes(1, 2), out=unpack_heads(dqkv, 3, heads))
        return dqkv, dbias

    return record("self_attention", y.swapaxes(1, 2).reshape(B, T, C), (qkv, bias), backward)


def unpack_heads(packed, parts: int, heads: int) -> list:
    """Views of a (B, T, parts * C) array: `parts` arrays of shape (B, H, T, D)."""
    B, T, width = packed.shape
    split = packed.reshape(B, T, parts, heads, width // (parts * heads))
    return [split[:, :, part].swapaxes(1, 2) for part in range(parts)]


def _attend(q, k, v, causal, window, mask, bias, scale, dropout, recompute) -> tuple:
    """y from raw q, k and v, and what makes the gradients of q, k, v and the bias from that of y, in `out` if given."""
    kernels = backend_of(q)
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    rng = random.generator() if dropout else None
    y, saved = kernels.attention(q, k, v, scale=scale, causal=causal, window=window, mask=raw(mask), bias=raw(bias),
                                 dropout=dropout, rng=rng, keep=not recompute)
    need_bias = isinstance(bias, Tensor) and bias.requires_grad
    return y, lambda dy, out=None: kernels.attention_backward(dy, saved, out=out, need_bias=need_bias)


def _one_query(q, k, v, window, mask, bias, scale):
    """What decoding asks for at every step: one query that may see all keys, or the last `window` of them."""
    mask, bias = raw(mask), raw(bias)
    if window is not None and window < k.shape[2]:
        k, v = k[:, :, -window:], v[:, :, -window:]
        mask, bias = (a if a is None or a.shape[-1] == 1 else a[..., -window:] for a in (mask, bias))
    if mask is not None:
        xp = array_module(q)
        closed = xp.where(beside(q, mask), 0, -xp.inf).astype(q.dtype)
        bias = closed if bias is None else bias + closed
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    return backend_of(q).attention_step(q, k, v, scale=scale, bias=bias)


def _check(q, k, v, causal, window, mask, bias, dropout) -> None:
    if q.ndim != 4 or k.shape != v.shape or q.shape[:2] != k.shape[:2] or q.shape[3] != k.shape[3]:
        shapes = f"q {q.shape}, k {k.shape} and v {v.shape}"
        raise ValueError(f"attention: {shapes} must be (B, H, T, D) and twice (B, H, S, D)")
    scores = (*q.shape[:3], k.shape[2])
    for name, value in (("mask", mask), ("bias", bias)):
        shape = () if value is None else value.shape
        if len(shape) > 4 or any(n not in (1, full) for n, full in zip(reversed(shape), reversed(scores))):
            raise ValueError(f"attention: {name} has shape {shape}, which does not broadcast to (B, H, T, S) {scores}")
    if mask is not None and mask.dtype != bool:
        raise ValueError(f"attention: mask must be boolean (True where allowed), not {mask.dtype}")
    if not is_float(q.dtype):
        raise ValueError(f"attention: q is {q.dtype}; scores are floats: convert with .astype(np.float32)")
    for name, other in (("k", k), ("v", v), ("bias", raw(bias))):
        if other is not None:
            check_alike(f"attention: q and {name}", q, other)
    if window is not None and not (causal and window >= 1):
        raise ValueError(f"attention: window={window} must be at least 1 (the last positions seen), with causal=True")
    if not 0 <= dropout < 1:
        raise ValueError(f"attention: dropout={dropout} is not a share in [0, 1)")
