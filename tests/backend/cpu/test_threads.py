from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tests.backend.cpu.reference import normal
from tinytensor.backend import cpu


def everything(seed):
    """One call of every kernel that allocates its result, from the same seed."""
    x, w, b, dy = (normal(seed + i, s, np.float32) for i, s in enumerate([(300, 96), (96,), (96,), (300, 96)]))
    ids = np.random.default_rng(seed).integers(0, 300, 300)
    table = normal(seed, (300, 96), np.float32)
    q, k, v, dq = (normal(seed + i, (2, 3, 100, 8), np.float32) for i in range(4))
    drop = dict(dropout=0.1, rng=np.random.default_rng(seed))
    y, saved = cpu.normalize(x, dy, w, b, 1e-5, centre=True, **drop)[1:]
    z, slope = cpu.gelu(y, False)
    loss, head = cpu.linear_cross_entropy(z, table, ids, ignore_index=-100)
    a, kept = cpu.attention(q, k, v, scale=1.0, causal=True, dropout=0.1, rng=np.random.default_rng(seed), keep=False)
    return [y, z, slope, loss, a, cpu.softmax(x), cpu.embedding_backward(dy, ids, 300),
            *cpu.normalize_backward(dy, dy, saved), *cpu.linear_cross_entropy_backward(loss, head)[:2],
            *cpu.attention_backward(dq, kept)[:3]]


def test_two_threads_at_once_get_what_one_thread_gets():
    seeds = list(range(8))
    alone = [everything(seed) for seed in seeds]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(everything, seeds))
    for one, two in zip(alone, together):
        assert all((a == b).all() for a, b in zip(one, two))
