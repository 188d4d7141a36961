"""Scaled dot-product attention, forward and backward, and the one-query step of decoding.

    y = softmax(scale q k^T + bias) v,   each query over the keys that the causal rule, the window and the mask allow

A strip of query rows of a few heads is worked on at a time: its logits are made, exponentiated, summed and multiplied
with v while they are in the cache, as in FlashAttention (Dao et al. 2022). What that saves:

- Causal strips end at their last row's key, so most of the upper triangle is never computed.
- The probabilities P are never normalized. Row sums l of E = exp(logits) are a product with ones, and the output is
  divided by them: D numbers a row instead of S.
- No maximum is subtracted unless it must be: a strip with a row sum outside [eps^2, 1 / eps^2] is redone with it.
- backward needs dS = P * (dP - delta) with dP = dO v^T and delta = sum(dO * y). Written as
  E * ([dO / l, -delta / l] @ [v, 1]^T) it is one product and one multiplication.

With keep=True the strips of E are kept for backward, T S numbers a head and half of that where causal. With keep=False
backward makes them again from the row sums and maxima (and the dropout mask from its seed), so memory grows with T and
not with T^2. Where heads have more than attention_long.LONG logits, that file does it, better, whatever keep is.
"""

from typing import NamedTuple

import numpy as np

from tinytensor.backend.cpu import attention_long
from tinytensor.backend.cpu.arrays import BLOCK
from tinytensor.backend.cpu.attention_long import four_axes, part
from tinytensor.backend.cpu.dropout import keep_masks, mask_stream, survivor_scale

CAUSAL_STRIP = 64  # query rows in a strip: few, so little above the diagonal
STRIP = 256  # without a triangle more rows mean fewer sums over strips


class Strip(NamedTuple):
    """Query rows, the range of keys that any of them may see, and what to add to the logits of the last keys."""

    rows: slice
    keys: slice
    penalty: np.ndarray | None  # (rows, n), 0 or -inf, for the last n keys


def attention(q, k, v, *, scale, causal=False, window=None, mask=None, bias=None, dropout=0.0, rng=None, keep=True):
    """softmax(scale q k^T + bias) v.  Returns (y, saved).

    q: (B, H, T, D); k, v: (B, H, S, D).  y: (B, H, T, D), a view of (B, T, H, D), so merging the heads copies nothing.
    causal: query t sees keys s <= t + S - T; window: only the last `window` of those.
    mask: booleans that broadcast to (B, H, T, S), True = may attend. Rows with nothing to attend to give zeros.
    bias: numbers that broadcast to (B, H, T, S).  dropout: on the probabilities, drawn from rng.
    """
    B, H, T, _ = q.shape
    S = k.shape[2]
    if T * S > attention_long.LONG:
        return attention_long.attention(q, k, v, scale, causal, window, mask, bias, dropout, rng)
    strips = cut_strips(T, S, causal, window, q.dtype)
    groups = head_groups(B, H, strips)
    seeds = rng.integers(1 << 63, size=B) if dropout else ()
    draws = [mask_stream(seed) for seed in seeds]

    y = np.empty((B, T, H, v.shape[3]), q.dtype).transpose(0, 2, 1, 3)
    inv_sum = np.empty((B, H, T), q.dtype)  # 1 / l, and 0 for a row with nothing to attend to
    shift = None  # (B, H, T): what is subtracted, once any strip needs it
    kept = []  # (E, E after dropout) of each strip, in the order worked
    ones, eps = np.ones(S, q.dtype), np.finfo(q.dtype).eps
    for heads in groups:
        queries, keys, values = np.multiply(q[heads], scale, order="C"), k[heads], v[heads]
        for strip in strips:
            i, j = strip.rows, strip.keys
            with np.errstate(over="ignore"):
                z = strip_logits(queries, keys, strip, heads, mask, bias)
                e = np.exp(z, out=z)
                total = e @ ones[j]
            # Did exp lose something without a shift? A sum overflowed, or is so small that its terms vanished.
            if total.size and not (total.min() > eps**2 and total.max() < eps**-2):
                z = strip_logits(queries, keys, strip, heads, mask, bias)
                m = z.max(axis=3, initial=-np.inf)
                m[m == -np.inf] = 0  # nothing to attend to: exp(-inf - 0) = 0
                z -= m[..., None]
                e = np.exp(z, out=z)
                total = e @ ones[j]
                shift = np.zeros((B, H, T), q.dtype) if shift is None else shift
                shift[heads][:, :, i] = m
                total[total == 0] = np.inf
            r = np.divide(1, total, out=inv_sum[heads][:, :, i])
            dropped = e
            if dropout:
                dropped = e * keep_masks(e.shape, dropout, draws[heads[0]])
                r = r * survivor_scale(dropout)
            if keep:
                kept.append((e, dropped))
            out = np.matmul(dropped, values[:, :, j], out=y[heads][:, :, i])
            out *= r[..., None]
    return y, (q, k, v, y, inv_sum, shift, kept, strips, groups, scale, mask, bias, dropout, seeds)


def attention_backward(dy, saved, out=None, need_bias=False):
    """(dq, dk, dv, dbias or None) from dy (B, H, T, D).

    out: three arrays to write dq, dk and dv into, such as views of one (B, T, 3, H, D) array.
    dbias has the bias's own shape, summed over what was broadcast.
    """
    if isinstance(saved, attention_long.Saved):
        return attention_long.attention_backward(dy, saved, out, need_bias)
    q, k, v, y, inv_sum, shift, kept, strips, groups, scale, mask, bias, dropout, seeds = saved
    if out is None:
        B, H = q.shape[:2]
        out = (np.empty((B, a.shape[2], H, a.shape[3]), q.dtype).transpose(0, 2, 1, 3) for a in (q, k, v))
    dq, dk, dv = out
    dbias = np.zeros(bias.shape, q.dtype) if need_bias else None
    draws = [mask_stream(seed) for seed in seeds]
    kept = iter(kept)
    # The first strip, with the last rows, often sees every key: it writes dk and dv, and the others add to them.
    writes_all = bool(strips) and strips[0].keys == slice(0, k.shape[2])
    if not writes_all:
        dk[...] = dv[...] = 0
    for heads in groups:
        keys, r = k[heads], inv_sum[heads]
        queries = np.multiply(q[heads], scale, order="C")
        delta = np.vecdot(dy[heads], y[heads]) * r
        factor, column = (r * survivor_scale(dropout), 0) if dropout else (r, -delta)
        do = with_column(dy[heads], factor[..., None], column)
        values = with_column(v[heads], 1, 1)
        for n, strip in enumerate(strips):
            i, j = strip.rows, strip.keys
            e, dropped = next(kept, None) or remade(queries, keys, strip, heads, mask, bias, shift, dropout, draws)
            ds = do[:, :, i] @ values[:, :, j].swapaxes(2, 3)
            if dropout:
                # The mask stands between dP and delta, so they cannot share a product.
                ds *= dropped
                ds -= e * delta[:, :, i, None]
            else:
                ds *= e
            np.matmul(ds, keys[:, :, j], out=dq[heads][:, :, i])
            if n == 0 and writes_all:
                np.matmul(dropped.swapaxes(2, 3), do[:, :, i, :-1], out=dv[heads])
                np.matmul(ds.swapaxes(2, 3), queries[:, :, i], out=dk[heads])
            else:
                dv[heads][:, :, j] += dropped.swapaxes(2, 3) @ do[:, :, i, :-1]
                dk[heads][:, :, j] += ds.swapaxes(2, 3) @ queries[:, :, i]
            if need_bias:
                target = part(four_axes(dbias), heads, i, j)
                shared = tuple(axis for axis in range(4) if target.shape[axis] == 1 and ds.shape[axis] != 1)
                target += ds.sum(axis=shared, keepdims=True) if shared else ds
        dq[heads] *= scale
    return dq, dk, dv, dbias


def attention_step(q, k, v, *, scale, lengths=None, bias=None):
    """Decoding: a few queries q (B, H, T, D) against a cache k, v (B, H, S, D), forward only.  Returns y like q.

    lengths (B,): how many keys of each row of the batch are valid (all if None).  bias broadcasts to (B, H, T, S).
    """
    z = (q * scale) @ k.swapaxes(2, 3)
    if bias is not None:
        z += bias
    if lengths is not None:
        z += np.where(np.arange(k.shape[2]) < np.asarray(lengths)[:, None], 0, -np.inf).astype(z.dtype)[:, None, None]
    m = z.max(axis=3, keepdims=True, initial=-np.inf)
    m[m == -np.inf] = 0
    e = np.exp(np.subtract(z, m, out=z), out=z)
    total = e.sum(axis=3, keepdims=True)
    total[total == 0] = 1
    y = e @ v
    y /= total
    return y


def cut_strips(T, S, causal, window, dtype):
    """The strips of a (T, S) matrix of logits, the last rows first."""
    if not causal:
        return [Strip(slice(start, min(start + STRIP, T)), slice(0, S), None) for start in range(0, T, STRIP)][::-1]
    offset = S - T  # query t stands at key t + offset
    strips = []
    for start in range(0, T, CAUSAL_STRIP):
        stop = min(start + CAUSAL_STRIP, T)
        last = max(0, min(S, stop + offset))
        first = 0 if window is None else min(last, max(0, start + offset - window + 1))
        # Without a window only the square at the diagonal has keys that some rows see and others do not.
        left = first if window is not None else max(first, min(last, start + offset))
        distance = np.arange(start, stop)[:, None] + offset - np.arange(left, last)
        seen = (distance >= 0) & (distance < (S + T if window is None else window))
        strips.append(Strip(slice(start, stop), slice(first, last), np.where(seen, 0, -np.inf).astype(dtype)))
    return strips[::-1]


def head_groups(B, H, strips):
    """Index pairs (batch, heads) that cut B x H heads into groups whose largest strip has about BLOCK elements."""
    largest = max(((s.rows.stop - s.rows.start) * (s.keys.stop - s.keys.start) for s in strips), default=1)
    fit = max(1, BLOCK // max(largest, 1))
    if fit >= H:
        step = fit // max(H, 1)
        return [np.s_[b:b + step, :] for b in range(0, B, step)]
    return [np.s_[b:b + 1, h:h + fit] for b in range(B) for h in range(0, H, fit)]


def strip_logits(queries, keys, strip, heads, mask, bias):
    """scale q k^T + bias for one strip, -inf where a query must not look."""
    i, j = strip.rows, strip.keys
    z = queries[:, :, i] @ keys[:, :, j].swapaxes(2, 3)
    if bias is not None:
        z += part(four_axes(bias), heads, i, j)
    if strip.penalty is not None:
        z[..., z.shape[3] - strip.penalty.shape[1]:] += strip.penalty
    if mask is not None:
        z += np.where(part(four_axes(mask), heads, i, j), 0, -np.inf).astype(z.dtype)
    return z


def remade(queries, keys, strip, heads, mask, bias, shift, dropout, draws):
    """(E, E after dropout) of one strip once more, as forward had them."""
    z = strip_logits(queries, keys, strip, heads, mask, bias)
    if shift is not None:
        z -= shift[heads][:, :, strip.rows, None]
    e = np.exp(z, out=z)
    return e, e * keep_masks(e.shape, dropout, draws[heads[0]]) if dropout else e


def with_column(a, factor, column):
    """[a * factor, column] along the last axis, contiguous."""
    wide = np.empty((*a.shape[:3], a.shape[3] + 1), a.dtype)
    np.multiply(a, factor, out=wide[..., :-1])
    wide[..., -1] = column
    return wide
