"""Scaled dot-product attention, see backend.cpu.attention: what the kernels in cuda/attention_*.cu are given.

float16 and bfloat16 run on the tensor cores, if the GPU is an A100 or newer and heads are not wider than 128; all else
runs on the plain ones. A few queries against many keys, as in decoding, take a kernel that splits the keys. Nothing of
size T x S is ever in memory: backward makes the probabilities again from one number a row, and the dropout mask from
its seed.
"""

from typing import NamedTuple

import numpy as np

from tinytensor.backend import array_module, beside
from tinytensor.backend.cpu.attention import four_axes
from tinytensor.backend.gpu.arrays import address, part_size, wide_dtype
from tinytensor.backend.gpu.launch import Abilities, abilities, blocks_for, c_name, launch
from tinytensor.backend.gpu.layers import draw_seed, dropout_threshold, seed_arguments

TENSOR_CORE_WIDTHS = (32, 64, 96, 128)
PLAIN_WIDTHS = (32, 64, 128, 256)
FEW_QUERIES = 4  # up to here the decoding kernel reads the keys for each
KEYS_PER_SPLIT = 256
BLOCKS_WANTED = 512  # enough to keep every GPU's multiprocessors reading


class Rules(NamedTuple):
    """Who may attend to whom, as the kernels are told it."""

    causal: bool
    window: int | None
    limits: object  # (B,) int32: keys from here on are padding; or None
    mask: object  # booleans that broadcast to (B, H, T, S), or None
    bias: object  # numbers that broadcast to (B, H, T, S), or None
    threshold: int  # dropout's share of 65536
    seed: object  # see layers.draw_seed

    def arguments(self, q, k) -> tuple:
        """RULE_PARAMETERS in attention_rules.cuh."""
        (_, H, T, _), S = q.shape, k.shape[2]
        return (H, T, S, int(self.causal), self.window or 0, self.limits,
                self.bias, *broadcast_strides(self.bias), self.mask, *broadcast_strides(self.mask),
                self.threshold, *seed_arguments(self.seed))

    def extras(self) -> bool:
        """Whether there is something to do element by element."""
        return self.bias is not None or self.mask is not None or self.threshold > 0


class Plan(NamedTuple):
    """Which kernel computes, and how large its tiles are."""

    name: str
    file: str
    rows: int  # of the tile that a block owns
    threads: int
    shared_bytes: int


def attention(q, k, v, *, scale, causal=False, window=None, mask=None, bias=None, dropout=0.0, rng=None, keep=True):
    """softmax(scale q k^T + bias) v, see backend.cpu.attention.  Returns (y, saved).

    dropout: with a seed drawn from rng.   keep: of no importance here; the probabilities are never kept.
    """
    mask = None if mask is None else four_axes(beside(q, mask))
    # Padding: whole tiles of keys can be left out.
    padding = mask is not None and mask.shape[1:] == (1, 1, k.shape[2]) and k.shape[2]
    limits = last_true(mask[:, 0, 0], len(q)) if padding else None
    rules = Rules(causal, window, limits, mask, None if bias is None else four_axes(bias), dropout_threshold(dropout),
                  draw_seed(rng) if dropout else 0)
    q, k, v = (readable(a) for a in (q, k, v))
    y, log_sums = forward(q, k, v, scale, rules)
    return y, (q, k, v, y, log_sums, scale, rules, None if bias is None else bias.shape)


def attention_backward(dy, saved, out=None, need_bias=False):
    """(dq, dk, dv, dbias or None) from dy (B, H, T, D): see backend.cpu.attention_backward."""
    q, k, v, y, log_sums, scale, rules, bias_shape = saved
    xp = array_module(q)
    (B, H, T, D), S, wide = q.shape, k.shape[2], log_sums.dtype
    dy = readable(dy)
    dq, dk, dv = out if out is not None else (empty_heads(a) for a in (q, k, v))
    delta = xp.empty((B, H, T), wide)
    size = 16 // q.dtype.itemsize
    lanes = next(lanes for lanes in (4, 8, 16, 32) if lanes * size >= D or lanes == 32)  # that read a row at once
    launch("attention_backward.cu", f"attention_delta<{c_name(q)}, {size}, {lanes}>",
           (blocks_for(T * lanes, 128), H, B), 128, (dy, y, delta, *strides(dy), *strides(y), H, T, D))
    summed = xp.zeros((B, H, T, D), wide)  # dq is added up over the tiles of keys
    dbias = xp.zeros(rules.bias.shape, wide) if need_bias else None
    if S > 0:
        plan = backward_plan(q, rules, abilities())
        own_k, own_v = (a if writable(a) else empty_heads(a) for a in (dk, dv))
        launch(plan.file, plan.name, (blocks_for(S, plan.rows), H, B), plan.threads,
               (q, k, v, dy, log_sums, delta, summed, own_k, own_v, dbias, *strides(q), *strides(k), *strides(v),
                *strides(dy), *strides(own_k), *strides(own_v), *broadcast_strides(dbias), D, float(scale),
                *rules.arguments(q, k)), plan.shared_bytes)
        if own_k is not dk:
            dk[...] = own_k
        if own_v is not dv:
            dv[...] = own_v
    round_to(dq, summed)
    return dq, dk, dv, None if dbias is None else dbias.reshape(bias_shape).astype(q.dtype, copy=False)


def round_to(dq, summed) -> None:
    """dq[...] = summed, which is contiguous, and may be wider."""
    (B, H, T, D), size = dq.shape, part_size(dq.shape[3], dq, summed)
    if dq.strides[3] != dq.dtype.itemsize:
        dq[...] = summed
        return
    if any(step % size for step, n in zip(strides(dq), dq.shape) if n > 1):
        size = 1
    grid = blocks_for(T * D // size, 256), H, B
    launch("attention_backward.cu", f"attention_round<{c_name(dq)}, {size}>", grid, 256,
           (summed, dq, *strides(dq), H, T, D))


def attention_step(q, k, v, *, scale, lengths=None, bias=None):
    """Decoding, forward only: see backend.cpu.attention_step."""
    limits = None if lengths is None else array_module(q).asarray(lengths, np.int32)
    rules = Rules(False, None, limits, None, None if bias is None else four_axes(bias), 0, 0)
    y, _ = forward(*(readable(a) for a in (q, k, v)), scale, rules)
    return y


def forward(q, k, v, scale, rules):
    """(y, log_sums) by whichever kernel suits."""
    (B, H, T, D), S = q.shape, k.shape[2]
    y, log_sums = empty_heads(q), array_module(q).empty((B, H, T), wide_dtype(q))
    if T <= FEW_QUERIES and S > T:
        decode(q, k, v, y, log_sums, scale, rules)
        return y, log_sums
    plan = forward_plan(q, rules, scale, abilities())
    launch(plan.file, plan.name, (blocks_for(T, plan.rows), H, B), plan.threads,
           (q, k, v, y, log_sums, *strides(q), *strides(k), *strides(v), *strides(y), D, float(scale),
            *rules.arguments(q, k)), plan.shared_bytes)
    return y, log_sums


def decode(q, k, v, y, log_sums, scale, rules):
    """Fill y and log_sums, the keys split over as many blocks as keep the GPU busy."""
    xp = array_module(q)
    (B, H, T, D), S = q.shape, k.shape[2]
    D_tile = tile_width(D, PLAIN_WIDTHS)
    splits = max(1, min(blocks_for(S, KEYS_PER_SPLIT), blocks_for(BLOCKS_WANTED, max(1, B * H * T))))
    out = xp.empty((B, H, T, splits, D), log_sums.dtype)
    highest, sums = (xp.empty((B, H, T, splits), log_sums.dtype) for _ in range(2))
    launch("attention_decode.cu", f"attention_decode<{c_name(q)}, {D_tile}>", (splits, H, B * T), 128,
           (q, k, v, out, highest, sums, *strides(q), *strides(k), *strides(v), D, float(scale), B,
            *rules.arguments(q, k)))
    base_two = int(on_tensor_cores(q, abilities()))  # as backward's kernel takes log_sums
    launch("attention_decode.cu", f"attention_join<{c_name(q)}>", (T, H, B), blocks_for(D, 32) * 32,
           (out, highest, sums, y, log_sums, *strides(y), D, splits, rules.threshold, base_two))


def on_tensor_cores(q, gpu: Abilities) -> bool:
    return q.dtype.itemsize == 2 and q.shape[3] <= TENSOR_CORE_WIDTHS[-1] and gpu.tensor_cores


def forward_plan(q, rules, scale, gpu: Abilities) -> Plan:
    if not on_tensor_cores(q, gpu):
        return plain_plan("forward", q, gpu, 1)
    T, D = q.shape[2:]
    D_tile = tile_width(D, TENSOR_CORE_WIDTHS)
    # Two strips of queries to a warp halve the reads of K and V from shared memory; short sequences would not fill
    # them. Wide heads have no registers left for that: they get more warps.
    warps, strips = (4, 1) if T <= 64 else (4, 2) if D_tile <= 64 else (8, 1)
    queries = warps * 16 * strips
    # A scale below 0 would turn the running maximum upside down: it is multiplied in first, as with extras.
    name = f"attention_forward<{c_name(q)}, {D_tile}, {warps}, {strips}, {int(rules.extras() or scale <= 0)}>"
    return Plan(name, "attention_forward.cu", queries, warps * 32, (queries + 128) * D_tile * 2)


def backward_plan(q, rules, gpu: Abilities) -> Plan:
    """Large tiles where a block's shared memory has room for them, as on an A100 or H100."""
    if not on_tensor_cores(q, gpu):
        return plain_plan("backward", q, gpu, 2)._replace(rows=32)
    S, D = q.shape[2:]
    D_tile, extras = tile_width(D, TENSOR_CORE_WIDTHS), rules.extras()
    few = extras and D_tile > 64
    warps = 8 if D_tile == 128 or (D_tile == 96 and not few) or (D_tile == 64 and S > 64) else 4
    large, small = tensor_core_backward(q, D_tile, warps, extras), tensor_core_backward(q, D_tile, 4, True)
    return large if large.shared_bytes <= gpu.shared_memory else small


def tensor_core_backward(q, D_tile, warps, extras) -> Plan:
    keys, queries = warps * 16, 32 if extras and D_tile > 64 else 64  # as many queries as the registers have room for
    name = f"attention_backward<{c_name(q)}, {D_tile}, {warps}, {int(extras)}>"
    return Plan(name, "attention_backward.cu", keys, warps * 32,
                ((2 * keys + 4 * queries) * D_tile + queries * keys) * 2 + 4 * queries * 4)


def plain_plan(way: str, q, gpu: Abilities, tiles: int) -> Plan:
    """As many queries to a tile as registers and shared memory have room for.

    tiles: of queries, each with one of sums beside it; to them come 32 rows of keys and 32 of values.
    """
    size, wide = q.dtype.itemsize, wide_dtype(q).itemsize
    D_tile = tile_width(q.shape[3], PLAIN_WIDTHS if wide < 8 else PLAIN_WIDTHS[:-1])
    bytes_for = lambda rows: (64 + tiles * rows) * (D_tile + 4) * size + tiles * rows * 36 * wide
    most = 64 if D_tile * wide <= 512 else 32
    rows = next((rows for rows in (64, 32, 16) if rows <= most and bytes_for(rows) <= gpu.shared_memory), 16)
    name = f"attention_plain_{way}<{c_name(q)}, {D_tile}, {rows}>"
    return Plan(name, "attention_plain.cu", rows, 128, bytes_for(rows))


def check_head_width(D: int, dtype) -> None:
    """ValueError if this GPU has no room for training with heads of D numbers, so that it can be said before."""
    dtype, gpu = np.dtype(dtype), abilities()
    needed = lambda dtype: max(plan.shared_bytes for plan in training_plans(np.empty((1, 1, 65, D), dtype), gpu))
    if (most := needed(dtype)) <= gpu.shared_memory:
        return
    narrower = ", or --dtype bfloat16" if dtype.itemsize > 2 and needed(np.float16) <= gpu.shared_memory else ""
    raise ValueError(f"training with heads of {D} numbers in {dtype.name} takes {most >> 10} KB of shared memory, and "
                     f"this GPU has at most {gpu.shared_memory >> 10} KB for a block; take narrower heads{narrower}")


def training_plans(q, gpu: Abilities) -> list[Plan]:
    rules = Rules(False, None, None, None, None, 0, 0)
    return [plan for extras in (rules, rules._replace(threshold=1))
            for plan in (forward_plan(q, extras, 1.0, gpu), backward_plan(q, extras, gpu))]


def tile_width(D, widths):
    """The narrowest tile that holds a head."""
    if D > widths[-1]:
        raise ValueError(f"attention on the GPU is written for heads of at most {widths[-1]} numbers, not {D}")
    return next(width for width in widths if width >= D)


def readable(a):
    """The array in a form the kernels can read: rows of contiguous numbers that begin at multiples of 16 bytes."""
    size, xp = a.dtype.itemsize, array_module(a)
    aligned = address(a) % 16 == 0 and all(s % 16 == 0 for s, n in zip(a.strides[:3], a.shape[:3]) if n > 1)
    if a.strides[3] == size and aligned and a.shape[3] * size % 16 == 0:
        return a
    *lead, D = a.shape
    step = 16 // size
    padded = xp.zeros((*lead, -(-D // step) * step), a.dtype)[..., :D]
    padded[...] = a
    return padded


def writable(a):
    """Whether the kernels can write into it."""
    size = a.dtype.itemsize
    return a.strides[3] == size and (size > 2 or (a.shape[3] % 8 == 0 and all(s % 4 == 0 for s in a.strides[:3])))


def empty_heads(a):
    """An empty array like a (B, H, T, D), in memory (B, T, H, D), with rows of at least a multiple of 8 numbers."""
    B, H, T, D = a.shape
    return array_module(a).empty((B, T, H, -(-D // 8) * 8), a.dtype)[..., :D].swapaxes(1, 2)


def strides(a) -> tuple:
    """The steps from batch entry to batch entry, head to head and row to row, in elements."""
    return tuple(step // a.dtype.itemsize for step in a.strides[:3])


def broadcast_strides(a) -> tuple:
    """The four steps of an array that broadcasts to (B, H, T, S), in elements; 0 along axes of length 1."""
    if a is None:
        return (0, 0, 0, 0)
    return tuple(0 if n == 1 else step // a.dtype.itemsize for n, step in zip(a.shape, a.strides))


def last_true(mask, batch):
    """(B,) int32: one more than the last True of each row of (B or 1, S), S >= 1."""
    xp = array_module(mask)
    ends = (mask * xp.arange(1, mask.shape[1] + 1, dtype=np.int32)).max(axis=1)
    return xp.ascontiguousarray(xp.broadcast_to(ends.astype(np.int32), (batch,)))
