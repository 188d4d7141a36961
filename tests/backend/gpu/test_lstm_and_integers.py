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


def lstm_of(B, T):
    """Results and gradients of an LSTM on the first B rows and T steps of the same numbers, a row of each for each."""
    inputs, H = 6, 8
    x, h, c = normal(1, (3, 5, inputs))[:B, :T], normal(6, (3, H))[:B], normal(7, (3, H))[:B]
    weights = [normal(2, (4 * H, inputs)), normal(3, (4 * H, H)), normal(4, (4 * H,)), None]
    y, h_n, c_n, saved = gpu.lstm(x, *weights, h, c, None)
    dx, dw_x, *_, dh, dc = gpu.lstm_backward(normal(8, (3, 5, H))[:B, :T], None, None, saved)
    assert dw_x.shape == weights[0].shape
    return [y, h_n, c_n, dx, dh, dc]


def test_a_row_of_an_lstm_does_not_depend_on_the_others(emulated):
    for alone, together in zip(lstm_of(1, 5), lstm_of(3, 5)):
        assert_close(alone, together[:1])  # not to the bit: matrix products add up in other orders


@pytest.mark.parametrize("B, T", [(1, 1), (3, 1), (0, 5)])
def test_a_single_step_a_single_row_and_no_row_are_lstms_too(emulated, B, T):
    y, h_n, c_n, dx, dh, dc = lstm_of(B, T)
    assert y.shape == (B, T, 8) and dx.shape == (B, T, 6) and dh.shape == dc.shape == (B, 8)
    assert (h_n == y[:, -1]).all()
    assert B == 0 or (np.abs(c_n).min() > 0 and np.abs(dx).min() > 0)


def test_a_row_of_an_integer_product_does_not_depend_on_the_others_and_there_may_be_none(emulated):
    x, w, codes = (integers(*what) for what in ((1, (70, 96), -128, 128), (2, (5, 96), -128, 128), (3, (5, 96), -8, 8)))
    scale = np.abs(normal(4, (5, 3)))
    products = (lambda x: gpu.int8_matmul(x, w), lambda x: gpu.int4_matmul(x, gpu.pack_int4(codes), scale))
    for product in products:
        together = product(x)
        for row in (0, 69):
            assert product(x[row : row + 1]).tobytes() == together[row : row + 1].tobytes()
        assert product(x[:0]).shape == (0, 5)


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
