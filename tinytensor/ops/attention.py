"""Attention: every position asks all others a question and takes a mixture of their answers.

Scaled dot-product attention of Vaswani et al. 2017 (arXiv:1706.03762), section 3.2.1. One fused kernel does scores,
mask, softmax, dropout and mixture, and one its gradient, so no (T, S) array passes through the graph.
"""

from __future__ import annotations

import math

from tinytensor import random
from tinytensor.backend import backend_of, beside
from tinytensor.ops.elementwise import check_alike
from tinytensor.tensor import Tensor, record


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    causal: bool = False,
    window: int | None = None,
    mask=None,
    bias: Tensor | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
    recompute: bool = False,
) -> Tensor:
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
    _check(q.shape, k.shape, v.shape, mask, bias)
    for name, other in (("k", k), ("v", v), ("bias", bias)):
        if other is not None:
            check_alike(f"attention: q and {name}", q.data, _raw(other))
    _check_options(causal, window, dropout)
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    kernels = backend_of(q.data)
    if q.shape[2] == 1 and not dropout and not any(isinstance(t, Tensor) and t.requires_grad for t in (q, k, v, bias)):
        return Tensor(_one_query(kernels, q, k, v, window, _raw(mask), _raw(bias), scale))
    y, saved = kernels.attention(
        q.data,
        k.data,
        v.data,
        scale=scale,
        causal=causal,
        window=window,
        mask=_raw(mask),
        bias=_raw(bias),
        dropout=dropout,
        rng=random.generator() if dropout else None,
        keep=not recompute,
    )
    need_bias = isinstance(bias, Tensor) and bias.requires_grad
    return record(y, (q, k, v, bias), lambda dy: kernels.attention_backward(dy, saved, need_bias=need_bias))


def _one_query(kernels, q: Tensor, k: Tensor, v: Tensor, window: int | None, mask, bias, scale: float):
    """What decoding asks for at every step: one query that may see all keys, or the last `window` of them."""
    if window is not None and window < k.shape[2]:
        k, v = k[:, :, -window:], v[:, :, -window:]
        mask, bias = (a if a is None or a.shape[-1] == 1 else a[..., -window:] for a in (mask, bias))
    if mask is not None:
        closed = q.xp.where(beside(q.data, mask), 0, -q.xp.inf).astype(q.dtype)
        bias = closed if bias is None else bias + closed
    return kernels.attention_step(q.data, k.data, v.data, scale=scale, bias=bias)


def self_attention(
    qkv: Tensor,
    heads: int,
    *,
    causal: bool = False,
    window: int | None = None,
    mask=None,
    bias: Tensor | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
    recompute: bool = False,
) -> Tensor:
    """Attention whose queries, keys and values come side by side from one matrix product; see `attention`.

    qkv: (B, T, 3 * C), the three side by side, each made of H heads of width D = C / H.  Returns (B, T, C).
    scale: 1/sqrt(D) by default.
    The three gradients are written into one array, so neither splitting nor joining costs a copy.
    """
    if qkv.ndim != 3 or heads < 1 or qkv.shape[-1] % (3 * heads):
        raise ValueError(f"self_attention: qkv {qkv.shape} must be (B, T, 3 * C), with C divisible by {heads} heads")
    B, T, packed = qkv.shape
    width = packed // 3
    _check_options(causal, window, dropout)
    q, k, v = unpack_heads(qkv.data, 3, heads)
    _check(q.shape, k.shape, v.shape, mask, bias)
    if bias is not None:
        check_alike("self_attention: qkv and bias", qkv.data, _raw(bias))
    kernels = backend_of(qkv.data)
    y, saved = kernels.attention(
        q,
        k,
        v,
        scale=1 / math.sqrt(width // heads) if scale is None else scale,
        causal=causal,
        window=window,
        mask=_raw(mask),
        bias=_raw(bias),
        dropout=dropout,
        rng=random.generator() if dropout else None,
        keep=not recompute,
    )
    xp = qkv.xp
    need_bias = isinstance(bias, Tensor) and bias.requires_grad

    def backward(dy):
        dqkv = xp.empty((B, T, packed), dy.dtype)
        dy = dy.reshape(B, T, heads, width // heads).swapaxes(1, 2)
        *_, dbias = kernels.attention_backward(dy, saved, out=unpack_heads(dqkv, 3, heads), need_bias=need_bias)
        return dqkv, dbias

    return record(y.swapaxes(1, 2).reshape(B, T, width), (qkv, bias), backward)


def unpack_heads(packed, parts: int, heads: int) -> list:
    """Views of a (B, T, parts * C) array: `parts` arrays of shape (B, H, T, D)."""
    B, T, width = packed.shape
    split = packed.reshape(B, T, parts, heads, width // (parts * heads))
    return [split[:, :, part].swapaxes(1, 2) for part in range(parts)]


def _raw(value):
    return value.data if isinstance(value, Tensor) else value


def _check_options(causal: bool, window: int | None, dropout: float) -> None:
    if window is not None and not (causal and window >= 1):
        raise ValueError(f"attention: window={window} must be at least 1 (the last positions seen), with causal=True")
    if not 0 <= dropout < 1:
        raise ValueError(f"attention: dropout={dropout} is not a share in [0, 1)")


def _check(q: tuple, k: tuple, v: tuple, mask, bias) -> None:
    if len(q) != 4 or k != v or q[:2] != k[:2] or q[3] != k[3]:
        raise ValueError(f"attention: q {q}, k {k} and v {v} must be (B, H, T, D) and twice (B, H, S, D)")
    scores = (*q[:3], k[2])
    for name, value in (("mask", mask), ("bias", bias)):
        if value is None:
            continue
        shape = value.shape
        fits = len(shape) <= 4 and all(n in (1, full) for n, full in zip(reversed(shape), reversed(scores)))
        if not fits:
            raise ValueError(f"attention: {name} has shape {shape}, which does not broadcast to (B, H, T, S) {scores}")
    if mask is not None and _raw(mask).dtype != bool:
        raise ValueError(f"attention: mask must be boolean (True where allowed), not {_raw(mask).dtype}")
