"""The LSTM over a sequence, and products of small integers, under the CUDA emulator."""

import numpy as np
import pytest

from tests.backend.gpu.reference import assert_close, normal, wide
from tinytensor.backend import cpu, gpu


@pytest.mark.parametrize("projection, reverse, clips, padded", [
    (False, False, False, False), (False, True, False, True), (True, False, True, True), (True, True, True, False)])
def test_the_lstm_and_all_its_gradients_equal_float64(emulated, projection, reverse, clips, padded):
    B, T, inputs, H = 3, 5, 6, 8
    P = 4 if projection else H
    arrays = [normal(1, (B, T, inputs)), normal(2, (4 * H, inputs)), normal(3, (4 * H, P)), normal(4, (4 * H,)),
              normal(5, (P, H)) if projection else None, normal(6, (B, P)), normal(7, (B, H))]
    mask = np.arange(T) < np.array([5, 2, 3])[:, None] if padded else None
    options = dict(reverse=reverse, cell_clip=0.8 if clips else None, proj_clip=0.5 if clips else None)
    *got, saved = gpu.lstm(*arrays, mask, **options)
    *want, right = cpu.lstm(*map(wide, arrays), mask, **options)
    for g, w in zip(got, want):
        assert_close(g, w)
    gradients = [normal(8, (B, T, P)), normal(9, (B, P)), normal(10, (B, H))]
    for given in (gradients, [gradients[0], None, None], [None, *gradients[1:]]):
        for g, w in zip(gpu.lstm_backward(*given, saved), cpu.lstm_backward(*map(wide, given), right)):
            assert (g is None) == (w is None)
            if g is not None:
                assert_close(g, w, factor=3)


def integers(seed, shape, low, high):
    return np.random.default_rng(seed).integers(low, high, shape).astype(np.int8)


@pytest.mark.parametrize("N, M, K", [(1, 5, 64), (70, 65, 200), (3, 130, 33)])
def test_int8_products_are_exact(emulated, N, M, K):
    x, w = integers(1, (N, K), -128, 128), integers(2, (M, K), -128, 128)
    y = gpu.int8_matmul(x, w)
    assert y.dtype == np.int32
    assert (y == x.astype(np.int64) @ w.T.astype(np.int64)).all()


@pytest.mark.parametrize("N, M, K, G", [(1, 5, 64, 1), (70, 65, 256, 8), (3, 66, 96, 3), (2, 3, 40, 2)])
def test_int4_products_are_exact_within_a_group(emulated, N, M, K, G):
    x, codes, scale = integers(1, (N, K), -128, 128), integers(2, (M, K), -8, 8), np.abs(normal(3, (M, G)))
    packed = gpu.pack_int4(codes)
    assert (packed == cpu.pack_int4(codes)).all()
    assert (gpu.unpack_int4(packed) == codes).all()
    assert_close(gpu.int4_matmul(x, packed, scale), cpu.int4_matmul(x, packed, scale))
