import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

from tests.helpers import assert_close, assert_same_as_torch, seeds, tensor
from tinytensor import Tensor, gradcheck, ops

places = array_shapes(min_dims=0, max_dims=3, min_side=0)


@given(rows=st.integers(1, 4), width=st.integers(0, 3), shape=places, seed=seeds)
def test_embedding_reads_rows_and_adds_gradients_up_by_id(rows, width, shape, seed):
    table = tensor(rows, width, seed=seed)
    ids = np.random.default_rng(seed).integers(0, rows, shape)
    assert_close(ops.embedding(table, ids).data, table.data[ids], 0)
    gradcheck(lambda w: ops.embedding(w, ids), [table])


@pytest.mark.parametrize("rows", [256, 257, 1000])
def test_large_tables_get_the_same_gradient(rows):
    table = tensor(rows, 3)
    ids = np.random.default_rng(0).integers(0, rows, (20, 30))
    g = np.random.default_rng(1).standard_normal((20, 30, 3))
    ops.embedding(table, ids).backward(g)
    expected = np.zeros((rows, 3))
    np.add.at(expected, ids, g)
    assert_close(table.grad, expected, 1e-13)


@pytest.mark.parametrize(
    "ids", [[0, 2, 2], Tensor([0, 2, 2]), np.array([0, 2, 2], np.uint8), np.array([2, 2, 0])[::-1]]
)
def test_ids_may_be_a_list_a_tensor_or_any_array_of_integers(ids):
    table = tensor(3, 2)
    ops.embedding(table, ids).sum().backward()
    assert table.grad[:, 0].sum() == 3


def test_ids_outside_the_table_are_named():
    with pytest.raises(ValueError, match=r"embedding: id 5 is outside the table of 3 rows \(0\.\.2\)"):
        ops.embedding(tensor(3, 2), [0, 5])
    with pytest.raises(ValueError, match="embedding: id -1 is outside"):
        ops.embedding(tensor(3, 2), [0, -1])
    with pytest.raises(ValueError, match="ids must be integers, not float64"):
        ops.embedding(tensor(3, 2), [0.0])


@pytest.mark.parity
def test_values_and_gradients_are_torchs():
    torch = pytest.importorskip("torch")
    ids = np.array([[0, 3, 3], [1, 0, 3]])
    theirs = lambda w: torch.nn.functional.embedding(torch.tensor(ids), w)
    assert_same_as_torch(lambda w: ops.embedding(w, ids), theirs, tensor(5, 4))
