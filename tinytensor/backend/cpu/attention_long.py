"""Attention over long inputs, block by block: memory grows with T, not with T S, and no more than two blocks at a time.

Online softmax (Milakov & Gimelshein 2018, arXiv:1805.02867) over blocks (FlashAttention: Dao et al. 2022,
arXiv:2205.14135). A row of the softmax need not be seen whole: its maximum, the sum of its exponentials and their
product with the values are kept, and mended where a later block brings a higher maximum. `plain_blocks` is all of it.

`attention` does the same with less:

- Blocks that no query of theirs may see, by the causal rule or a window, are left out.
- No maximum is subtracted until a strip of rows turns out to need one. A sum of exponentials in [eps^2, 1 / eps^2] has
  lost nothing; a strip with another is done again with care, as is the rest of its head.
- Kept for backward are two numbers a row, m, what was subtracted, and l, the sum. Backward makes every block again,
      E = exp(logits - m),   dS = E * (dy / l v^T - delta / l),   delta = sum(dy * y)
  where -m and -delta / l are one more column of q and dy / l, next to ones in k and v: to subtract them costs nothing.
"""

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from tinytensor.backend.cpu.arrays import AVX512
from tinytensor.backend.cpu.dropout import keep_mask, mask_stream, survivor_scale

LONG = 2**23  # logits of a head: above this many they are made again, not kept (a context of 2048 has 2^22)
ROWS, KEYS = 256, 256  # of a block: 256 KB of float32, so that two of them stay in the L2 cache
# Powers of 2 take half the time of exp with AVX-512, and twice as long elsewhere.
POWER, UNIT = (np.exp2, 1 / math.log(2)) if AVX512 else (np.exp, 1.0)  # exp(z) is POWER(z * UNIT)


def plain_blocks(q, k, v, keys):
    """softmax(q k^T) v of one head, q (T, D), k and v (S, D), over blocks of `keys` keys."""
    top, total, y = np.full(len(q), -np.inf), np.zeros(len(q)), np.zeros((len(q), v.shape[1]))
    for j in range(0, len(k), keys):
        z = q @ k[j : j + keys].T  # (T, keys)
        higher = np.maximum(top, z.max(axis=1))
        mend, e = np.exp(top - higher), np.exp(z - higher[:, None])
        total = total * mend + e.sum(axis=1)
        y = y * mend[:, None] + e @ v[j : j + keys]
        top = higher
    return y / total[:, None]


class Sight:
    """What is added to the logits of a block of one head, -inf where a query must not look, and which blocks there are.
    Logits are in the UNIT of POWER.

    The options are those of attention.
    """

    def __init__(self, T, S, causal, window, mask, bias):
        self.T, self.S, self.causal, self.window = T, S, causal, window
        self.mask, self.bias = (a if a is None else four_axes(a) for a in (mask, bias))
        self.bias_shape = None if bias is None else bias.shape

    def strips(self) -> Iterator[tuple[slice, list[slice]]]:
        """Rows, and the blocks of keys that any of them may see."""
        offset = self.S - self.T  # query t stands at key t + offset
        for start in range(0, self.T, ROWS):
            stop = min(start + ROWS, self.T)
            last = max(0, min(self.S, stop + offset)) if self.causal else self.S
            first = 0 if self.window is None else max(0, start + offset - self.window + 1)
            yield slice(start, stop), [slice(j, min(j + KEYS, last)) for j in range(first, last, KEYS)]

    def add(self, z, head, i, j) -> None:
        """z (rows, keys) += what stands there."""
        rows, keys = z.shape
        ahead = i.start + self.S - self.T - j.start  # how far the first query stands behind the first key
        if self.causal and keys - 1 > ahead:
            np.copyto(z, -np.inf, where=beyond(rows, keys, ahead))
        if self.window is not None and ahead + rows - 1 >= self.window:
            np.copyto(z, -np.inf, where=~beyond(rows, keys, ahead - self.window))
        if self.bias is not None:
            z += part(self.bias, head, i, j)[0, 0] * UNIT
        if self.mask is not None:
            z += np.where(part(self.mask, head, i, j)[0, 0], 0, -np.inf).astype(z.dtype)


@lru_cache(maxsize=64)  # there are but a few such blocks
def beyond(rows: int, keys: int, ahead: int) -> np.ndarray:
    """(rows, keys): whether key s stands behind query t, which stands at t + ahead among the keys."""
    return np.arange(keys) > np.arange(rows)[:, None] + ahead


class Saved(NamedTuple):
    """What backward needs."""

    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    y: np.ndarray
    top: np.ndarray  # m, (B, H, T)
    inv_sum: np.ndarray  # 1 / l, and 0 for a row with nothing to attend to
    sight: Sight
    scale: float
    dropout: float
    seeds: np.ndarray | tuple  # of the dropout masks, one for each row of the batch


def attention(q, k, v, scale, causal, window, mask, bias, dropout, rng):
    """softmax(scale q k^T + bias) v, as the shorter attention.   Returns (y, saved)."""
    B, H, T, _ = q.shape
    sight = Sight(T, k.shape[2], causal, window, mask, bias)
    seeds, eps = rng.integers(1 << 63, size=B) if dropout else (), np.finfo(q.dtype).eps
    streams = [mask_stream(seed) for seed in seeds]
    y = np.empty((B, T, H, v.shape[3]), q.dtype).transpose(0, 2, 1, 3)
    top, inv_sum = np.empty((2, B, H, T), q.dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        for head in heads_of(B, H):
            one_q, one_k, one_v = (np.ascontiguousarray(a[head][0, 0]) for a in (q, k, v))
            attend, careful = _Strip(one_q * (scale * UNIT), turned(one_k), one_v, sight, head, dropout), False
            draws = streams[head[0].start] if dropout else None
            for i, blocks in sight.strips():
                before = draws.bit_generator.state if dropout else None
                out, total, shift = attend(i, blocks, draws, careful)
                # Did exp lose something without a shift? A sum overflowed, or is so small that its terms vanished.
                if not careful and not (total.min() > eps**2 and total.max() < eps**-2):
                    careful = True
                    if dropout:
                        draws.bit_generator.state = before
                    out, total, shift = attend(i, blocks, draws, careful)
                total[total == 0] = np.inf
                r = np.divide(1, total, out=inv_sum[head][0, 0, i])
                top[head][0, 0, i] = shift
                np.multiply(out, (r * survivor_scale(dropout))[:, None], out=y[head][0, 0, i])
    return y, Saved(q, k, v, y, top, inv_sum, sight, scale, dropout, seeds)


class _Strip:
    """One head's forward pass over the blocks of keys that a strip of rows may see."""

    def __init__(self, q, k_turned, v, sight, head, dropout):
        self.q, self.k_turned, self.v, self.sight, self.head, self.dropout = q, k_turned, v, sight, head, dropout
        self.room, self.ones = np.empty(ROWS * KEYS, q.dtype), np.ones(KEYS, q.dtype)

    def __call__(self, i, blocks, draws, careful):
        """(sum of e v, sum of e, what was subtracted from the logits) of the rows i.   careful: subtract maxima"""
        queries, (out, total, top) = self.q[i], self._nothing(i)
        for number, j in enumerate(blocks):
            z = self.room[: len(queries) * (j.stop - j.start)].reshape(len(queries), -1)
            np.matmul(queries, self.k_turned[:, j], out=z)
            self.sight.add(z, self.head, i, j)
            if careful:
                higher = z.max(axis=1)
                higher[higher == -np.inf] = np.finfo(z.dtype).min  # nothing in sight: exp(-inf - that) is 0
                if number:
                    np.maximum(top, higher, out=higher)
                    mend = POWER(top - higher)
                    total *= mend
                    out *= mend[:, None]
                z -= higher[:, None]
                top = higher
            e = POWER(z, out=z)
            total += e @ self.ones[: e.shape[1]]
            if self.dropout:
                e *= keep_mask(e.shape, self.dropout, draws)
            out += e @ self.v[j]
        return out, total, top

    def _nothing(self, i):
        rows, dtype = i.stop - i.start, self.q.dtype
        return np.zeros((rows, self.v.shape[1]), dtype), np.zeros(rows, dtype), np.zeros(rows, dtype)


def attention_backward(dy, saved: Saved, out=None, need_bias=False):
    """(dq, dk, dv, dbias or None) from dy (B, H, T, D), as that of the shorter attention."""
    q, k, v = saved.q, saved.k, saved.v
    B, H = q.shape[:2]
    if out is None:
        out = [np.empty((B, a.shape[2], H, a.shape[3]), q.dtype).transpose(0, 2, 1, 3) for a in (q, k, v)]
    dbias = np.zeros(saved.sight.bias_shape, q.dtype) if need_bias else None
    streams = [mask_stream(seed) for seed in saved.seeds]
    for head in heads_of(B, H):
        draws = streams[head[0].start] if streams else None
        gradients = _head_backward(dy, saved, head, draws, None if dbias is None else four_axes(dbias))
        for whole, one in zip(out, gradients):
            whole[head][0, 0] = one
    return *out, dbias


def _head_backward(dy, saved, head, draws, dbias):
    """(dq, dk, dv) of one head, which adds its part to dbias, if any."""
    q, k, v, dy, y = (np.ascontiguousarray(a[head][0, 0]) for a in (saved.q, saved.k, saved.v, dy, saved.y))
    dropout, r = saved.dropout, saved.inv_sum[head][0, 0]
    q = q * (saved.scale * UNIT)
    delta = np.vecdot(dy, y) * r
    dy = dy * (r * survivor_scale(dropout))[:, None]
    wide_q, k_turned = widened(q, -saved.top[head][0, 0]), turned(widened(k, 1))
    wide_dy, v_turned = widened(dy, 0 if dropout else -delta), turned(widened(v, 1))
    dq, dk, dv = (np.zeros_like(a) for a in (q, k, v))
    room = np.empty((2, ROWS * KEYS), q.dtype)
    for i, blocks in saved.sight.strips():
        for j in blocks:
            size = (i.stop - i.start, j.stop - j.start)
            e, ds = (half[: size[0] * size[1]].reshape(size) for half in room)
            np.matmul(wide_q[i], k_turned[:, j], out=e)
            saved.sight.add(e, head, i, j)
            POWER(e, out=e)
            np.matmul(wide_dy[i], v_turned[:, j], out=ds)
            if dropout:  # the mask stands between dy v^T and delta, so they cannot share a product
                kept = keep_mask(size, dropout, draws)
                ds *= kept
                ds -= delta[i, None]
                ds *= e
                e *= kept
            else:
                ds *= e
            dq[i] += ds @ k[j]
            dk[j] += ds.T @ q[i]
            dv[j] += e.T @ dy[i]
            if dbias is not None:
                target = part(dbias, head, i, j)[0, 0]
                shared = tuple(axis for axis in (0, 1) if target.shape[axis] == 1 and ds.shape[axis] != 1)
                target += ds.sum(axis=shared, keepdims=True) if shared else ds
    dq *= saved.scale
    dk /= UNIT
    return dq, dk, dv


def heads_of(B, H):
    """An index for each head, with all four axes left."""
    return [np.s_[b : b + 1, h : h + 1] for b in range(B) for h in range(H)]


def widened(a, column):
    """[a, column] along the last axis."""
    wide = np.empty((len(a), a.shape[1] + 1), a.dtype)
    wide[:, :-1], wide[:, -1] = a, column
    return wide


def turned(a):
    """a.T (D, S) with its rows in order in memory; 16: rows a power of two apart would share cache lines."""
    room = np.empty((a.shape[1], len(a) + 16), a.dtype)[:, : len(a)]
    room[...] = a.T
    return room


def four_axes(a):
    """a with leading axes of length 1, so that it has four."""
    return a.reshape((1,) * (4 - a.ndim) + a.shape)


def part(a, heads, rows, keys):
    """a[heads][rows, keys] for an array that broadcasts to (B, H, T, S)."""
    return a[tuple(slice(None) if n == 1 else s for n, s in zip(a.shape, (*heads, rows, keys)))]
