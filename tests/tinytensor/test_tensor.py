import copy
import gc
import itertools
import threading
import tracemalloc
import weakref

import numpy as np
import pytest

import tinytensor as tt
from tests.helpers import gradient, tensor
from tinytensor import Tensor
from tinytensor.tensor import record, record_many

# ---- what a Tensor holds


@pytest.mark.parametrize("data", [1.5, [1.5, 2.0], [[1.0]], [], np.float64(2), (1.0, 2.0)])
def test_numbers_and_lists_become_float32(data):
    assert Tensor(data).dtype == np.float32


@pytest.mark.parametrize("data, kind", [([1, 2], "i"), (True, "b"), ([False], "b"), (7, "i")])
def test_integers_and_booleans_keep_their_kind(data, kind):
    assert Tensor(data).dtype.kind == kind


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8, np.uint16, np.bool_])
def test_an_array_keeps_its_dtype_and_is_not_copied(dtype):
    array = np.ones((2, 3), dtype)
    assert Tensor(array).data is array


@pytest.mark.parametrize("data", ["text", [1j], [None], np.array(["a"]), [10**30]])
def test_what_is_not_numbers_is_refused(data):
    with pytest.raises(ValueError, match="Tensor holds numbers"):
        Tensor(data)


def test_a_tensor_of_a_tensor_is_refused():
    with pytest.raises(ValueError, match=r"use \.detach\(\)"):
        Tensor(Tensor([1.0]))


def test_only_floats_can_require_a_gradient():
    with pytest.raises(ValueError, match="only floating-point tensors can require a gradient; this one is int64"):
        Tensor(np.arange(3), requires_grad=True)


def test_shape_size_and_length_are_those_of_the_array():
    x = tensor(2, 3, 4)
    assert (x.shape, x.ndim, x.size, len(x), x.device) == ((2, 3, 4), 3, 24, 2, "cpu")


def test_a_0d_tensor_has_no_length_and_no_rows():
    with pytest.raises(TypeError, match="0-d"):
        len(Tensor(1.0))
    with pytest.raises(TypeError, match="0-d"):
        iter(Tensor(1.0))


def test_iterating_gives_the_rows_with_their_gradients():
    x = tensor(3, 2)
    rows = list(x)
    assert [row.shape for row in rows] == [(2,)] * 3
    (rows[0] * 2 + rows[2] * 5).sum().backward()
    np.testing.assert_array_equal(x.grad, [[2, 2], [0, 0], [5, 5]])


def test_repr_shows_values_shape_dtype_and_whether_it_needs_a_gradient():
    assert repr(Tensor([1.0, 2.5], requires_grad=True)) == (
        "Tensor([1.  2.5], shape=(2,), dtype=float32, requires_grad=True)"
    )


def test_the_value_of_one_element_is_a_python_number():
    assert type(Tensor([[2.5]]).item()) is float and Tensor([[2.5]]).item() == 2.5
    assert bool(Tensor(0.0)) is False and bool(Tensor(3)) is True


def test_detach_shares_the_data_and_forgets_the_graph():
    x = tensor(3)
    y = (x * 2).detach()
    assert not y.requires_grad and y.node is None
    z = x.detach()
    assert z.data is x.data


def test_a_leaf_can_be_deep_copied():
    x = tensor(3)
    twin = copy.deepcopy(x)
    twin.data[0] = 99
    assert x.data[0] != 99 and twin.requires_grad


# ---- operators


@pytest.mark.parametrize(
    "fn",
    [
        lambda a: a + 3, lambda a: 3 + a, lambda a: a - 3, lambda a: 3 - a, lambda a: a * 3, lambda a: 3 * a,
        lambda a: a / 3, lambda a: 3 / a, lambda a: -a, lambda a: a**3, lambda a: abs(a), lambda a: a**-1,
        lambda a: a + np.float64(3), lambda a: np.float64(3) * a, lambda a: np.float64(3) - a,
        lambda a: np.float64(3) / a, lambda a: a ** np.float64(2), lambda a: a.clip(np.float64(-0.5), np.float64(0.5)),
        lambda a: a + np.ones(3), lambda a: np.ones(3) / a, lambda a: np.ones(3) - a, lambda a: a * [1.0, 2.0, 3.0],
        lambda a: a * np.arange(3), lambda a: a * Tensor([1, 2, 3]), lambda a: a + Tensor([True, False, True]),
        lambda a: a @ np.ones((3, 2)), lambda a: np.ones((2, 3)) @ a, lambda a: a @ Tensor(np.ones((3, 2), np.int64)),
        lambda a: a.mean(), lambda a: a.var(), lambda a: a.sum() * np.float64(2), lambda a: a.max() - np.float64(1),
        lambda a: a.sigmoid(), lambda a: a.gelu(), lambda a: a.silu(), lambda a: a.softmax(), lambda a: a.logsumexp(),
        lambda a: tt.ops.where(a > 0, a, 0.0), lambda a: tt.ops.maximum(a, 0.25), lambda a: tt.ops.minimum(0.25, a),
        lambda a: tt.ops.mse_loss(a, [1, 2, 3]), lambda a: tt.ops.binary_cross_entropy(a, np.array([0, 1, 1])),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_float32_stays_float32_and_the_value_is_numpys_in_float64(fn):
    x = np.array([0.5, -1.25, 2.0])
    single, double = Tensor(x.astype(np.float32), requires_grad=True), Tensor(x, requires_grad=True)
    low, high = fn(single), fn(double)
    assert low.dtype == np.float32 and high.dtype == np.float64
    low.sum().backward()
    high.sum().backward()
    assert single.grad.dtype == np.float32
    np.testing.assert_allclose(low.data, high.data, rtol=1e-6, atol=1e-6)  # a few roundings of float32 (6e-8)
    np.testing.assert_allclose(single.grad, double.grad, rtol=1e-6, atol=1e-6)


def test_comparisons_give_boolean_tensors():
    x = Tensor([1.0, 2.0, 3.0])
    for got, expected in [
        (x == 2, [0, 1, 0]), (x != 2, [1, 0, 1]), (x < 2, [1, 0, 0]), (x <= 2, [1, 1, 0]),
        (x > 2, [0, 0, 1]), (x >= Tensor([3.0, 2.0, 1.0]), [0, 1, 1]),
    ]:  # fmt: skip
        assert got.dtype == bool and got.data.tolist() == [bool(e) for e in expected]


def test_tensors_hash_by_identity():
    x, y = Tensor([1.0]), Tensor([1.0])
    assert len({x, y, x}) == 2


def test_a_numpy_array_on_the_left_asks_the_tensor():
    x = tensor(3)
    for y in (np.ones(3) + x, np.ones(3) * x, np.ones(3) - x, np.ones(3) / x, np.ones((2, 3)) @ x):
        assert isinstance(y, Tensor) and y.requires_grad


def test_different_float_dtypes_do_not_mix():
    with pytest.raises(ValueError, match="add: float32 and float64 do not mix"):
        Tensor([1.0]) + tensor(1)


def test_a_memory_mapped_array_is_an_array_like_any_other(tmp_path):
    np.arange(4, dtype=np.float32).tofile(tmp_path / "a")
    mapped = Tensor(np.memmap(tmp_path / "a", np.float32))
    np.testing.assert_array_equal((mapped + Tensor([1.0] * 4)).data, [1, 2, 3, 4])


def test_moving_to_the_device_it_is_on_keeps_the_graph():
    x = tensor(3)
    (x * 2).to("cpu").sum().backward()
    np.testing.assert_array_equal(x.grad, [2, 2, 2])


def test_an_unknown_device_is_named():
    with pytest.raises(ValueError, match="unknown device 'tpu'; choose from cpu, cuda"):
        tensor(3).to("tpu")


# ---- backward


def test_the_gradient_of_a_value_used_twice_is_the_sum():
    x = tensor(3)
    y = x * 3
    (y * y + y).sum().backward()
    np.testing.assert_allclose(x.grad, 18 * x.data + 3)


def test_a_diamond_of_paths_is_walked_once_per_node():
    x = Tensor(np.array(1.0), requires_grad=True)
    calls = []

    def double(a):
        return record("op", a.data * 2, [a], lambda g: (calls.append(1), [g * 2])[1])

    y = x
    for _ in range(20):  # 2^20 paths
        y = double(y) + double(y)
    y.backward()
    assert len(calls) == 40 and x.grad == 4.0**20


def test_gradients_of_several_backward_calls_add_up():
    x = tensor(3)
    (x * 2).sum().backward()
    (x * 5).sum().backward()
    np.testing.assert_array_equal(x.grad, [7, 7, 7])


def test_the_first_gradient_is_a_copy():
    x, y = tensor(3), tensor(3, seed=1)
    z = x + y
    start = np.ones(3)
    z.backward(start)
    x.grad += 1
    assert y.grad.tolist() == start.tolist() == [1, 1, 1]


def test_backward_of_a_leaf_gives_it_the_gradient_itself():
    x = tensor(3)
    x.backward(np.array([1.0, 2.0, 3.0]))
    assert x.grad.tolist() == [1, 2, 3]


@pytest.mark.parametrize("grad", [[1.0, 2.0], np.array([1, 2]), Tensor([1.0, 2.0])])
def test_the_starting_gradient_may_be_a_list_an_array_or_a_tensor(grad):
    x = tensor(2)
    (x * 3).backward(grad)
    assert x.grad.tolist() == [3, 6]


def test_backward_without_a_gradient_needs_a_single_value():
    with pytest.raises(ValueError, match=r"needs a single value, not shape \(3,\)"):
        (tensor(3) * 2).backward()


def test_a_starting_gradient_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"gradient of shape \(2,\) for a value of \(3,\)"):
        (tensor(3) * 2).backward(np.ones(2))


def test_backward_of_a_constant_is_refused():
    with pytest.raises(RuntimeError, match="not computed from anything that requires a gradient"):
        (tensor(3, grad=False) * 2).sum().backward()


def test_a_graph_is_walked_only_once():
    y = (tensor(3) * 2).sum()
    y.backward()
    with pytest.raises(RuntimeError, match="walked already"):
        y.backward()


def test_a_shared_part_that_was_walked_already_is_refused():
    x = tensor(3)
    y = x * 2
    (y * 3).sum().backward()
    with pytest.raises(RuntimeError, match="walked already"):
        (y * 5).sum().backward()


def test_a_walk_that_failed_leaves_nothing_behind_in_the_rest_of_the_graph():
    x = tensor(3)
    y = x * 2

    def fail(g):
        raise KeyError

    z = record("op", y.data, [y], fail)
    with pytest.raises(KeyError):
        (z + y * 3).sum().backward()  # y has received the gradient 3 when z fails
    x.grad = None
    (y * 5).sum().backward()
    assert x.grad.tolist() == [10, 10, 10]


def test_constants_get_no_gradient():
    x, c = tensor(3), tensor(3, grad=False)
    (x * c).sum().backward()
    assert c.grad is None and x.grad is not None


def test_the_gradients_of_an_op_with_several_outputs_arrive_together():
    x = tensor(2)
    seen = []

    def backward(a, b):
        seen.append((a, b))
        return ((0 if a is None else a) + (0 if b is None else 2 * b),)

    first, second = record_many("op", [x.data + 1, x.data + 2], [x], backward)
    (first * 3 + second * 5).sum().backward()
    assert len(seen) == 1 and x.grad.tolist() == [13, 13]


def test_an_output_that_was_not_used_gets_no_gradient():
    x = tensor(2)
    seen = []
    _, second = record_many("op", [x.data, x.data], [x], lambda a, b: (seen.append(a), [b])[1])
    second.sum().backward()
    assert seen == [None] and x.grad.tolist() == [1, 1]


# ---- graphs 100,000 ops deep

DEEP = 100_000


def chain(x: Tensor, length: int = DEEP) -> Tensor:
    for _ in range(length):
        x = x + 1.0
    return x


def test_a_deep_graph_is_walked():
    x = Tensor(np.array(0.0), requires_grad=True)
    y = chain(x)
    y.backward()
    assert y.item() == DEEP and x.grad == 1


def test_a_deep_graph_that_was_not_walked_can_be_let_go_of():
    x = Tensor(np.array(0.0), requires_grad=True)
    y = chain(x)
    first = weakref.ref(y)
    del y
    assert first() is None


def test_a_deep_graph_of_wide_ops_is_walked_and_let_go_of():
    def deep():
        x = tensor(2)
        y = x
        for _ in range(DEEP // 10):
            first, second = y.reshape(2, 1).split(1)
            y = tt.ops.concatenate([second, first]).reshape(2)
        return x, y

    x, y = deep()
    (y * np.array([1.0, 2.0])).sum().backward()
    assert x.grad.tolist() == [1, 2]  # an even number of exchanges
    x, y = deep()
    del x, y


# ---- memory


def test_what_an_op_saved_is_released_as_the_walk_passes_it():
    x = tensor(4)
    alive = []

    def watch(a):
        saved = Tensor(a.data.copy())  # stands for the arrays that an op keeps
        ref = weakref.ref(saved)
        before = list(alive)

        def backward(g):
            assert all(younger() is None for younger in alive[len(before) + 1 :]), "a younger op still holds its arrays"
            assert all(older() is not None for older in before)
            return [g * saved.data]

        alive.append(ref)
        return record("op", saved.data * 1, [a], backward)

    y = x
    for _ in range(10):
        y = watch(y)
    y.sum().backward()
    assert [ref() for ref in alive] == [None] * 10


def test_memory_falls_while_the_walk_goes_on():
    size, ops = 100_000, 20
    x = Tensor(np.full(size, 0.5), requires_grad=True)
    levels = []

    def probe(a):
        return record("op", a.data, [a], lambda g: (levels.append(tracemalloc.get_traced_memory()[0]), [g])[1])

    tracemalloc.start()
    try:
        y = probe(x)
        for _ in range(ops):
            y = probe((-y).exp())
        y = y.sum()
        full = tracemalloc.get_traced_memory()[0]
        y.backward()
    finally:
        tracemalloc.stop()
    array = size * 8
    assert full >= ops * array  # exp keeps its output
    assert all(later < sooner for sooner, later in itertools.pairwise(levels[1:]))
    assert levels[-1] < full - (ops - 3) * array


def test_a_graph_that_was_not_walked_is_freed_without_the_garbage_collector():
    def build_and_drop() -> weakref.ref:
        x = tensor(3)
        y = tt.ops.layer_norm((x.softmax() @ tensor(3, 2)).gelu()).max() + x.split(3)[0].sum()
        y = y + tt.checkpoint(lambda a: a.exp() + x, x).sum()
        return weakref.ref(x)

    gc.collect()
    gc.disable()
    try:
        assert build_and_drop()() is None
    finally:
        gc.enable()


# ---- no_grad


def test_no_grad_records_nothing():
    x = tensor(3)
    with tt.no_grad():
        y = x * 2
    assert not y.requires_grad and y.node is None
    assert (x * 2).requires_grad


def test_enable_grad_records_within_no_grad():
    x = tensor(3)
    with tt.no_grad(), tt.enable_grad():
        assert (x * 2).requires_grad


def test_no_grad_ends_when_its_block_raises():
    with pytest.raises(KeyError), tt.no_grad():
        raise KeyError
    assert (tensor(3) * 2).requires_grad


def test_no_grad_works_as_a_decorator():
    @tt.no_grad()
    def f(x):
        return x * 2

    assert not f(tensor(3)).requires_grad


def test_no_grad_holds_in_its_own_thread_only():
    seen = []
    with tt.no_grad():
        thread = threading.Thread(target=lambda: seen.append((tensor(3) * 2).requires_grad))
        thread.start()
        thread.join()
    assert seen == [True]


# ---- anomaly mode


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
class TestAnomaly:
    def test_names_the_op_that_first_produced_an_infinity(self):
        x = Tensor([1.0, 0.0], requires_grad=True)
        with tt.detect_anomaly(), pytest.raises(FloatingPointError, match=r"^log produced an infinity; .* \(2,\)"):
            (x.log() * 2).sum()

    def test_names_the_op_that_first_produced_nan(self):
        x = Tensor([[1.0, -1.0]])
        with tt.detect_anomaly(), pytest.raises(FloatingPointError, match=r"^sqrt produced NaN; .* \(1, 2\)"):
            x.sqrt().softmax()

    def test_names_the_op_whose_gradient_was_the_first(self):
        x = Tensor([4.0, 0.0], requires_grad=True)
        with tt.detect_anomaly():
            y = (x.sqrt() * 2).sum()
            with pytest.raises(FloatingPointError, match=r"^the gradient of sqrt produced an infinity .* input 0"):
                y.backward()

    @pytest.mark.parametrize(
        "name, op",
        [
            ("add", lambda a: a + a), ("mul", lambda a: a * a), ("maximum", lambda a: tt.ops.maximum(a, 0.0)),
            ("max", lambda a: a.max()), ("sum", lambda a: a.sum()), ("reshape", lambda a: a.reshape(1, 2)),
            ("getitem", lambda a: a[1:]), ("split", lambda a: a.split(2)), ("softmax", lambda a: a.softmax()),
            ("gelu", lambda a: a.gelu()), ("layer_norm", lambda a: tt.ops.layer_norm(a)),
            ("add_layer_norm", lambda a: tt.ops.add_layer_norm(a, a)), ("matmul", lambda a: a @ a),
            ("embedding", lambda a: tt.ops.embedding(a.reshape(2, 1), [1])),
            ("cross_entropy", lambda a: tt.ops.cross_entropy(a.reshape(1, 2), [0])),
            ("checkpoint", lambda a: tt.checkpoint(lambda b: b, a)),
        ],
    )  # fmt: skip
    def test_every_family_goes_by_its_own_name(self, name, op):
        x = Tensor(np.array([1.0, np.nan]), requires_grad=True)
        if name in ("embedding", "cross_entropy"):
            x.reshape(2, 1)
            name = "reshape"  # the op before it is the first
        with tt.detect_anomaly(), pytest.raises(FloatingPointError, match=f"^{name} produced NaN"):
            op(x)

    def test_looks_at_nothing_outside_its_block(self):
        with tt.detect_anomaly():
            pass
        assert not np.isfinite(Tensor([0.0]).log().data).any()

    def test_lets_finite_values_pass(self):
        x = tensor(3, 4)
        with tt.detect_anomaly():
            (tt.ops.layer_norm(x).softmax() + x.argmax(1).data[:, None]).sum().backward()
        assert np.isfinite(x.grad).all()


# ---- threads


def test_graphs_of_several_threads_do_not_disturb_each_other():
    results = [None] * 4

    def work(index):
        x = tensor(50, seed=index)
        for _ in range(20):
            (got,) = gradient(lambda a: (a.exp() * a.sin()).softmax() * a, x)
        results[index] = got

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, got in enumerate(results):
        (alone,) = gradient(lambda a: (a.exp() * a.sin()).softmax() * a, tensor(50, seed=index))
        np.testing.assert_array_equal(got, alone)
