import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.backend.cpu.reference import DTYPES, assert_close, normal, quick, scattered
from tinytensor.backend import cpu


@quick
@given(rows=st.integers(1, 600), n=st.integers(0, 40), C=st.integers(1, 5), seed=st.integers(0, 99))
def test_embedding_gradient_adds_up_the_rows_of_each_id(rows, n, C, seed):
    weight, dy = normal(seed, (rows, C)), normal(seed + 1, (n, C))
    ids = np.random.default_rng(seed).integers(0, rows, n)
    assert (cpu.embedding(weight, ids) == weight[ids]).all()
    want = np.zeros((rows, C))
    np.add.at(want, ids, dy)
    assert_close(cpu.embedding_backward(dy, ids, rows), want)
    out = np.full((rows, C), 9.0)
    assert cpu.embedding_backward(scattered(dy), scattered(ids), rows, out=out) is out
    assert_close(out, want)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "n"), [(65, 1024), (5000, 512)])
def test_many_ids_are_summed_as_few_are(rows, n, dtype):
    dy = normal(1, (n, 384), dtype)                        # large enough for the sorted sums
    ids = np.random.default_rng(1).integers(0, rows, n)
    want = np.zeros((rows, 384))
    np.add.at(want, ids, dy.astype(np.float64))
    assert_close(cpu.embedding_backward(dy, ids, rows), want)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [3, 5000])
def test_ids_may_have_any_shape(rows, dtype):
    weight = normal(1, (rows, 4), dtype)
    for shape in [(), (0,), (2, 3), (2, 0, 3)]:
        ids = np.full(shape, 2)
        y = cpu.embedding(weight, ids)
        assert y.shape == (*shape, 4) and y.dtype == dtype
        dweight = cpu.embedding_backward(y, ids, rows)
        assert dweight.dtype == dtype
        assert_close(dweight[2], y.reshape(-1, 4).sum(0))
        assert not dweight[:2].any() and not dweight[3:].any()
