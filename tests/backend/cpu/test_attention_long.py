"""What holds of attention holds of it in blocks: the tests of the one, with blocks so small that there are many."""

import math

import numpy as np
import pytest

from tests.backend.cpu.reference import DTYPES, assert_close, normal
from tests.backend.cpu.test_attention import *  # noqa: F403 (all its tests run here once more)
from tests.backend.cpu.test_attention import check, packed, reference
from tinytensor.backend import cpu
from tinytensor.backend.cpu import attention_long as blocked


@pytest.fixture(autouse=True, scope="module", params=[(np.exp, 1.0), (np.exp2, 1 / math.log(2))], ids=["exp", "exp2"])
def small_blocks(request):
    power, unit = request.param  # one of the two is this CPU's
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"LONG": -1, "ROWS": 5, "KEYS": 7, "POWER": power, "UNIT": unit}.items():
            patch.setattr(blocked, name, value)
        yield


@pytest.mark.parametrize("rows, keys", [(1, 1), (1, 1000), (64, 3), (37, 37), (1000, 1000)])
@pytest.mark.parametrize("window", [None, 1, 17])
def test_blocks_of_any_size_give_the_same(rows, keys, window, monkeypatch):
    monkeypatch.setattr(blocked, "ROWS", rows)
    monkeypatch.setattr(blocked, "KEYS", keys)
    for T, S in ((37, 37), (10, 75), (75, 10)):
        q, k, v, dy = (normal(i, (1, 2, n, 3), np.float64) for i, n in enumerate((T, S, S, T)))
        check(q, k, v, dy, 0.7, True, causal=True, window=window)


def test_without_keeping_memory_grows_with_the_context_and_not_with_its_square():  # here, with keep=True as well
    def saved_bytes(T):
        q, k, v, _ = packed(1, 1, T, 2, 8, np.float32)
        _, saved = cpu.attention(q, k, v, scale=0.5, causal=True)
        return sum(part.nbytes for part in saved if isinstance(part, np.ndarray))

    assert saved_bytes(400) == 2 * saved_bytes(200)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_plain_blocks_are_the_softmax_seen_whole(dtype):
    q, k, v = (normal(i, (1, 1, 20, 3), dtype) for i in range(3))
    q *= 30  # so that maxima move from block to block
    want = reference(q, k, v, 1.0)[0, 0]
    assert_close(blocked.plain_blocks(q[0, 0], k[0, 0], v[0, 0], blocked.KEYS).astype(dtype), want)
    assert_close(cpu.attention(q, k, v, scale=1.0)[0][0, 0], want)


def test_a_head_that_needs_care_leaves_the_others_as_they_are():
    q, k, v, _ = packed(1, 2, 40, 3, 4, np.float32)
    calm, _ = cpu.attention(q, k, v, scale=0.5, causal=True)
    q[1, 1, 20:] *= 1000
    y, saved = cpu.attention(q, k, v, scale=0.5, causal=True)
    np.testing.assert_array_equal(y[0], calm[0])
    np.testing.assert_array_equal(y[1, ::2], calm[1, ::2])
    assert not saved.top[0].any() and saved.top[1, 1, 20:].all()
    assert_close(y, reference(q, k, v, 0.5, causal=True), 1000)  # logits of 1,000 are rounded to 1e-4
