"""What Llama's attention has beside GPT's: positions as rotations, and keys and values that several heads share.

Rotary positions (Su et al. 2021, arXiv:2104.09864): queries and keys are turned by angles that grow with their place,
so that their product depends on how far apart they stand, not on where. Each pair (x[i], x[i + D/2]) is a point in the
plane, turned by place * base^(-2i/D): the first pairs turn fast and tell neighbours apart, the last ones slowly.

Grouped queries (Ainslie et al. 2023, arXiv:2305.13245): H heads ask, and only G of them, H / G times fewer, have keys
and values of their own. What a decoder must remember is smaller by as much.
"""

import numpy as np

from tinytensor import Tensor, backend, ops
from tinytensor.tensor import record


class Rotary:
    """Turns (B, H, T, D) by the places of the T tokens; layers may share one.   base: how slow the last pairs are."""

    def __init__(self, head_width: int, base: float = 10000.0):
        if head_width % 2 or not base > 0:
            raise ValueError(f"rotary positions need an even head width, not {head_width}, and a base above 0")
        # In float32, place by place, as the published models computed them.
        self.frequencies = 1 / np.float32(base) ** (np.arange(0, head_width, 2, dtype=np.float32) / head_width)
        self._table = self._turns(0)

    def _turns(self, longest: int) -> np.ndarray:
        """(2, longest, D / 2): cos and sin of each place's angles."""
        angles = np.arange(longest, dtype=np.float32)[:, None] * self.frequencies
        return np.stack([np.cos(angles), np.sin(angles)])

    def __call__(self, x: Tensor, at, longest: int) -> Tensor:
        """at: the places, a slice or (T,), all below `longest`."""
        if (table := self._table).shape[1] < longest:
            table = self._table = self._turns(longest)
        return rotate(x, *backend.beside(x.data, table)[:, at].astype(x.dtype))


def rotate(x: Tensor, cos, sin) -> Tensor:
    """(a, b) -> (a cos - b sin, b cos + a sin), where a and b are the halves of the last axis.

    x: (..., T, D); cos, sin: raw (T, D / 2).   dL/dx = dL/dy, turned back
    """
    half, xp = x.shape[-1] // 2, x.xp

    def turned(x, sin):
        a, b = x[..., :half], x[..., half:]
        return xp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)

    return record("rotate", turned(x.data, sin), (x,), lambda g: (turned(g, -sin),))


def group_size(heads: int, kv_heads: int, query_init=None) -> int:
    """How many heads share the keys and values of each of `kv_heads`."""
    if not 1 <= kv_heads <= heads or heads % kv_heads:
        raise ValueError(f"{heads} heads cannot share the keys and values of {kv_heads}; give a divisor of {heads}")
    if kv_heads < heads and query_init:
        raise ValueError("query_init is for heads with keys of their own; leave it out, or kv_heads")
    return heads // kv_heads


def repeated(x: Tensor, times: int) -> Tensor:
    """(B, G, S, D) -> (B, G * times, S, D), each head as often in a row."""
    (B, G, S, D) = x.shape
    return x.expand_dims(2).broadcast_to((B, G, times, S, D)).reshape(B, G * times, S, D)


def grouped_attention(q: Tensor, k: Tensor, v: Tensor, *, causal: bool, window, mask, bias, **how) -> Tensor:
    """ops.attention of q (B, H, T, D) to k and v (B, G, S, D), where H / G heads in a row share one of the G."""
    (B, H, T, D), G = q.shape, k.shape[1]
    if T == 1 and bias is None and window is None and (mask is None or mask.shape[1] == 1):
        # The queries of a group stand for as many positions, all of which see every key: nothing is copied.
        return ops.attention(q.reshape(B, G, H // G, D), k, v, mask=mask, **how).reshape(q.shape)
    k, v = repeated(k, H // G), repeated(v, H // G)
    return ops.attention(q, k, v, causal=causal, window=window, mask=mask, bias=bias, **how)
