"""Integer products: equal to int64 arithmetic to the last bit, at the largest values and lengths too."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import assert_close
from tinytensor.backend.cpu import int4_matmul, int8_matmul, pack_int4, unpack_int4, weight_matmul

sizes = st.integers(1, 40)


def codes(*shape, low=-128, high=127, seed=0):
    return np.random.default_rng(seed).integers(low, high + 1, shape, dtype=np.int8)


@given(n=st.integers(0, 9), m=sizes, k=st.sampled_from([1, 7, 64, 1023, 1024, 1025, 2500]), seed=st.integers(0, 99))
def test_the_int8_product_is_exact(n, m, k, seed):
    x, w = codes(n, k, seed=seed), codes(m, k, seed=seed + 1)
    y = int8_matmul(x, w)
    assert y.dtype == np.int32
    assert (y == x.astype(np.int64) @ w.astype(np.int64).T).all()
    assert (int8_matmul(x, np.asfortranarray(w)) == y).all()


@pytest.mark.parametrize("k", [1024, 1025, 100_000])
def test_the_int8_product_is_exact_where_every_value_is_the_largest(k):
    x = np.full((3, k), -128, np.int8)
    assert (int8_matmul(x, x[:2]) == 128 * 128 * k).all()
    x[:, ::2] = 127  # the largest sums of odd products
    assert (int8_matmul(x, x) == x.astype(np.int64) @ x.astype(np.int64).T).all()


def test_the_int8_product_is_exact_when_the_weights_take_several_blocks():
    x, w = codes(5, 1500), codes(700, 1500, seed=1)
    for layout in (w, np.asfortranarray(w)):
        assert (int8_matmul(x, layout) == x.astype(np.int64) @ w.astype(np.int64).T).all()


@pytest.mark.parametrize("rows", [1, 5, 40])
@pytest.mark.parametrize("layout", [np.ascontiguousarray, np.asfortranarray])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats_times_integers_are_floats_times_what_the_integers_stand_for(rows, layout, dtype):
    random = np.random.default_rng(0)
    x, w = random.standard_normal((rows, 1536)).astype(dtype), codes(712, 1536, low=-8, high=7)
    for G, stored in ((1, w), (48, pack_int4(w))):
        scale = random.uniform(0.01, 0.02, (712, G)).astype(np.float32)
        expected = x.astype(np.float64) @ (w * np.repeat(scale, 1536 // G, axis=1).astype(np.float64)).T
        y = weight_matmul(x, layout(stored), layout(scale))
        assert y.dtype == dtype
        # sums of 1536 products of float32, in another order
        assert_close(y / np.abs(expected).max(), expected / np.abs(expected).max(), 2e-6)


@given(rows=st.integers(0, 5), half=st.integers(1, 30), seed=st.integers(0, 99))
def test_unpacking_gives_back_what_was_packed(rows, half, seed):
    values = codes(rows, 2 * half, low=-8, high=7, seed=seed)
    packed = pack_int4(values)
    assert packed.shape == (rows, half) and packed.dtype == np.uint8
    assert (unpack_int4(packed) == values).all()


def test_the_even_element_lies_in_the_low_four_bits():
    assert pack_int4(np.array([[1, -1, -8, 7]], np.int8)).tolist() == [[0xF1, 0x78]]


@given(n=st.integers(0, 9), m=sizes, groups=st.integers(1, 4), length=st.sampled_from([2, 32, 64]),
       seed=st.integers(0, 99))  # fmt: skip
def test_the_int4_product_sums_each_group_exactly(n, m, groups, length, seed):
    x, w = codes(n, groups * length, seed=seed), codes(m, groups * length, low=-8, high=7, seed=seed + 1)
    # Powers of two as scales: then float32 rounds nothing and the whole sum must be exact.
    scale = 2.0 ** codes(m, groups, low=-3, high=3, seed=seed + 2)
    scale32, packed = scale.astype(np.float32), pack_int4(w)
    y = int4_matmul(x, packed, scale32)
    by_columns = int4_matmul(x, np.asfortranarray(packed), np.asfortranarray(scale32))
    sums = np.einsum("ngk,mgk->nmg", x.reshape(n, groups, length).astype(np.int64),
                     w.reshape(m, groups, length).astype(np.int64))  # fmt: skip
    assert (y == (sums * scale).sum(-1)).all() and (by_columns == y).all()


def test_the_int4_product_takes_any_scale():
    x, w = codes(6, 128), codes(900, 128, low=-8, high=7)
    scale = np.random.default_rng(0).uniform(0.01, 0.02, (900, 4)).astype(np.float32)
    expected = x.astype(np.float64) @ (w * np.repeat(scale, 32, axis=1).astype(np.float64)).T
    assert_close(int4_matmul(x, pack_int4(w), scale) / np.abs(expected).max(), expected / np.abs(expected).max(), 1e-6)
