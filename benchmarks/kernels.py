"""Every CPU kernel, forward and backward, against the same work in PyTorch eager, on one thread each.

    OPENBLAS_NUM_THREADS=1 python benchmarks/kernels.py [name ...]        only the kernels whose name contains one

Ours and theirs take turns in one process, with malloc tuned for both; the table holds the median of each and their
ratio (below 1: ours is faster). Three shapes: a worker's half of nanoGPT's small and baby batches, and a GPT-2 head.

Tried on a shared AVX2 machine with 512 KB of L2 and left out: exp2 for exp (2.5 times slower without AVX-512); tanh in
GELU (twice the time of exp); blocks of 32K elements (5 to 30% slower against PyTorch) or 512K (no better); row scaling
by einsum and gains tiled 8 times (slower than broadcasting); attention strips of 16 or 32 rows (2 to 30% slower).
"""

import os
import sys

os.environ["OPENBLAS_NUM_THREADS"] = "1"                   # read when NumPy is first imported

from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tinytensor.backend import cpu

# name: (batch, context, layers' width, heads, vocabulary), the batch halved as each of two workers sees it
SHAPES = {"small": (6, 64, 128, 4, 65), "baby": (4, 256, 384, 6, 65), "large": (2, 256, 768, 12, 50257)}


def randn(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape, np.float32)


def autograd(function, inputs, dy):
    """A call that runs function on leaves and sends dy back, as PyTorch's training does."""
    leaves = [torch.from_numpy(a.copy()).requires_grad_() for a in inputs]
    dy = torch.from_numpy(np.asarray(dy).copy())

    def run():
        for leaf in leaves:
            leaf.grad = None
        function(*leaves).backward(dy)
    return run


def layer_norm(B, T, C, H, V):
    x, w, b, dy = randn(B * T, C), randn(C), randn(C), randn(B * T, C)
    return (lambda: cpu.normalize_backward(None, dy, cpu.normalize(x, None, w, b, 1e-5, centre=True)[2]),
            autograd(lambda x, w, b: F.layer_norm(x, (C,), w, b, 1e-5), [x, w, b], dy))


def add_layer_norm(B, T, C, H, V):
    x, r, w, dy = randn(B * T, C), randn(B * T, C), randn(C), randn(B * T, C)

    def theirs(x, r, w):
        total = x + r
        return total + F.layer_norm(total, (C,), w)
    return (lambda: cpu.normalize_backward(dy, dy, cpu.normalize(x, r, w, None, 1e-5, centre=True)[2]),
            autograd(theirs, [x, r, w], dy))


def rms_norm(B, T, C, H, V):
    x, w, dy = randn(B * T, C), randn(C), randn(B * T, C)
    return (lambda: cpu.normalize_backward(None, dy, cpu.normalize(x, None, w, None, 1e-5, centre=False)[2]),
            autograd(lambda x, w: F.rms_norm(x, (C,), w, 1e-5), [x, w], dy))


def gelu_exact(B, T, C, H, V, approximate=False):
    x, dy = randn(B * T, 4 * C), randn(B * T, 4 * C)
    return (lambda: cpu.gelu_backward(dy, cpu.gelu(x, approximate)[1]),
            autograd(lambda x: F.gelu(x, approximate="tanh" if approximate else "none"), [x], dy))


def gelu_tanh(*shape):
    return gelu_exact(*shape, approximate=True)


def dropout(B, T, C, H, V):
    x, dy, rng = randn(B * T, C), randn(B * T, C), np.random.default_rng(0)
    return (lambda: cpu.dropout_backward(dy, cpu.dropout(x, 0.2, rng)[1], 0.2),
            autograd(lambda x: F.dropout(x, 0.2), [x], dy))


def softmax(B, T, C, H, V):
    x, dy = randn(B * T, V), randn(B * T, V)
    return (lambda: cpu.softmax_backward(dy, cpu.softmax(x)), autograd(lambda x: F.softmax(x, -1), [x], dy))


def cross_entropy(B, T, C, H, V):
    z, t, d = randn(B * T, V), np.arange(B * T) % V, np.full(B * T, 1 / (B * T), np.float32)
    return (lambda: cpu.cross_entropy_backward(d, cpu.cross_entropy(z, t, ignore_index=-100)[1]),
            autograd(lambda z: F.cross_entropy(z, torch.from_numpy(t), reduction="none"), [z], d))


def linear_cross_entropy(B, T, C, H, V):
    x, w, d = randn(B * T, C), randn(V, C) * 0.02, np.full(B * T, 1 / (B * T), np.float32)
    t = np.random.default_rng(0).integers(0, V, B * T)
    return (lambda: cpu.linear_cross_entropy_backward(d, cpu.linear_cross_entropy(x, w, t, ignore_index=-100)[1]),
            autograd(lambda x, w: F.cross_entropy(x @ w.T, torch.from_numpy(t), reduction="none"), [x, w], d))


def embedding(B, T, C, H, V):
    w, ids, dy = randn(V, C), np.random.default_rng(0).integers(0, V, B * T), randn(B * T, C)

    def ours():
        cpu.embedding(w, ids)
        cpu.embedding_backward(dy, ids, V)
    return ours, autograd(lambda w: F.embedding(torch.from_numpy(ids), w), [w], dy)


def attention_causal(B, T, C, H, V, causal=True, p=0.0, keep=True):
    D = C // H
    qkv, dy = randn(B, T, 3, H, D), randn(B, T, H, D).transpose(0, 2, 1, 3)
    q, k, v = (qkv[:, :, i].transpose(0, 2, 1, 3) for i in range(3))
    rng = np.random.default_rng(0)

    def ours():
        _, saved = cpu.attention(q, k, v, scale=D**-0.5, causal=causal, dropout=p, rng=rng, keep=keep)
        dqkv = np.empty_like(qkv)
        cpu.attention_backward(dy, saved, out=[dqkv[:, :, i].transpose(0, 2, 1, 3) for i in range(3)])

    def theirs(qkv):
        q, k, v = qkv.unbind(2)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal, dropout_p=p)
    return ours, autograd(theirs, [qkv], dy)


def attention_causal_recomputed(*shape):
    return attention_causal(*shape, keep=False)


def attention_full(*shape):
    return attention_causal(*shape, causal=False)


def attention_causal_dropout(*shape):
    return attention_causal(*shape, p=0.2)


def adamw(B, T, C, H, V):
    layers = {128: 4, 384: 6, 768: 4}[C]
    tensors = [randn(V, C), randn(T, C)] + [randn(n, C) for _ in range(layers) for n in (3 * C, C, 4 * C, 4 * C)]
    size = sum(t.size for t in tensors)
    p, g, m, v = randn(size), randn(size), np.zeros(size, np.float32), np.zeros(size, np.float32)
    theirs = [torch.from_numpy(t.copy()).requires_grad_() for t in tensors]
    for t in theirs:
        t.grad = torch.ones_like(t)
    optimizer = torch.optim.AdamW(theirs, lr=1e-3, weight_decay=0.1)

    def ours():
        cpu.squared_norm(g)
        cpu.adamw(p, g, m, v, lr=1e-3, beta1=0.9, beta2=0.99, eps=1e-8, weight_decay=0.1, step=5, grad_scale=0.9)

    def their_step():
        torch.nn.utils.clip_grad_norm_(theirs, 1.0)
        optimizer.step()
    return ours, their_step


KERNELS = [layer_norm, add_layer_norm, rms_norm, gelu_exact, gelu_tanh, dropout, softmax, cross_entropy,
           linear_cross_entropy, embedding, attention_causal, attention_full, attention_causal_dropout,
           attention_causal_recomputed, adamw]


def race(ours, theirs, seconds=1.0):
    """Median seconds of each over at least 5 turns, and over about `seconds` of turns."""
    times = [], []
    end = perf_counter() + seconds
    while len(times[0]) < 7 or (perf_counter() < end and len(times[0]) < 200):
        for run, taken in zip((ours, theirs), times):
            start = perf_counter()
            run()
            taken.append(perf_counter() - start)
    return [median(taken[2:]) for taken in times]


def main():
    torch.set_num_threads(1)
    cpu.tune_malloc()
    wanted = sys.argv[1:]
    print(f"{'kernel':30}" + "".join(f"{name:>26}" for name in SHAPES))
    print(f"{'':30}" + f"{'ours ms   torch ms  ratio':>26}" * len(SHAPES))
    for kernel in KERNELS:
        if wanted and not any(word in kernel.__name__ for word in wanted):
            continue
        line = f"{kernel.__name__:30}"
        for shape in SHAPES.values():
            ours, theirs = race(*kernel(*shape))
            line += f"{ours * 1e3:9.3f} {theirs * 1e3:9.3f} {ours / theirs:6.2f}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
