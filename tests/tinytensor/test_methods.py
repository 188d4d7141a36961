"""What a Tensor does as a Python object, and among other libraries' arrays."""

import numpy as np
import pytest

import tinytensor as tt
from nn import Linear
from tests.backend.gpu import fake_cupy
from tests.helpers import assert_close, tensor
from tinytensor import Tensor, gradcheck, ops


def test_a_single_value_is_a_number_to_python():
    loss = Tensor(np.array(2.34567), requires_grad=True)
    assert float(loss) == 2.34567 and int(loss) == 2 and f"{loss:.3f}" == "2.346" and f"{loss}" == "2.34567"
    assert list(range(Tensor(3))) == [0, 1, 2] and int(Tensor([[7]])) == 7
    assert f"{Tensor([1.5])}" == repr(Tensor([1.5]))
    with pytest.raises(ValueError, match="size 1"):
        float(Tensor([1.0, 2.0]))
    with pytest.raises(TypeError, match="float"):
        range(loss)


def test_tolist_gives_nested_python_numbers():
    assert Tensor([[1.5, 2.0], [3.0, 4.0]]).tolist() == [[1.5, 2.0], [3.0, 4.0]] and Tensor(3).tolist() == 3


def test_logic_of_booleans_and_bits_of_integers():
    a, b = Tensor([True, True, False]), Tensor([True, False, False])
    assert (~a).tolist() == [False, False, True] and (a & b).tolist() == [True, False, False]
    assert (a | b).tolist() == [True, True, False] and (a ^ b).tolist() == [False, True, False]
    assert (np.array([True, False, True]) & a).tolist() == [True, False, False] and (True ^ a).tolist() == (~a).tolist()
    assert (Tensor([6, 3]) & 5).tolist() == [4, 1] and (~Tensor([0])).tolist() == [-1]


def test_any_and_all_ask_along_axes():
    x = Tensor([[0.0, 1.0], [0.0, 0.0]])
    assert x.any().item() is True and x.all().item() is False
    assert x.any(1).tolist() == [True, False] and x.all(0, keepdims=True).tolist() == [[False, False]]
    assert not Tensor(np.zeros((0, 2))).any().item() and (Tensor([1]) == 1).all().item()


def test_comparisons_take_any_number_as_the_tensors_own_type():
    x = Tensor([0.1, 0.5])
    assert (x == np.float64(0.1)).tolist() == [True, False] == (x == 0.1).tolist()
    assert (x == None).tolist() == [False, False]  # noqa: E711


# ---- NumPy and DLPack


def test_numpy_reads_a_tensor_without_a_copy():
    x = tensor(2, 3)
    assert np.asarray(x) is x.data and np.asarray(x, np.float32).dtype == np.float32
    twin = np.array(x)
    assert twin is not x.data and (twin == x.data).all()
    assert np.array([Tensor(1.0), Tensor(2.0)]).tolist() == [1, 2]
    with pytest.raises(ValueError, match="copy"):
        np.array(x, dtype=np.float32, copy=False)


def test_numpy_gets_a_copy_from_the_gpu_only_when_it_asks_for_one(monkeypatch):
    fake_cupy.install(monkeypatch)
    x = Tensor([1.0, 2.0]).to("cuda")
    with pytest.raises(TypeError, match=r"this tensor is on cuda.*\.numpy\(\) makes one"):
        np.asarray(x)
    assert type(np.array(x)) is np.ndarray and np.array(x).tolist() == [1, 2]


def test_dlpack_shares_memory_both_ways():
    x = Tensor([1.0, 2.0, 3.0])
    there = np.from_dlpack(x)
    assert np.shares_memory(there, x.data) and x.__dlpack_device__() == (1, 0)
    back = tt.from_dlpack(there)
    back.data[0] = 7
    assert x.tolist() == [7, 2, 3]
    with pytest.raises(BufferError, match=r"give tensor\.detach\(\)"):
        np.from_dlpack(Tensor([1.0], requires_grad=True))


@pytest.mark.parity
def test_torch_and_tensors_share_memory():
    torch = pytest.importorskip("torch")
    x = Tensor(np.arange(6.0).reshape(2, 3)[:, ::2])
    theirs = torch.from_dlpack(x)
    theirs += 1
    assert x.tolist() == [[1, 3], [4, 6]]
    ours = tt.from_dlpack(torch.arange(4, dtype=torch.float32)[::2])
    assert ours.tolist() == [0, 2] and ours.dtype == np.float32
    assert (torch.as_tensor(np.asarray(x)) == theirs).all()


# ---- other words


@pytest.mark.parametrize("call, words", [
    (lambda x: x.sum(dim=0), "sum: 'dim' is called 'axis'"), (lambda x: ops.softmax(x, dim=-1), "softmax: 'dim' is"),
    (lambda x: x.mean(0, keepdim=True), "mean: 'keepdim' is called 'keepdims'"),
    (lambda x: x.flip(dims=(0,)), "'dims'"),
    (lambda x: ops.concatenate([x, x], dim=0), "concatenate: 'dim' is called 'axis'"),
    (lambda x: x.topk(1, dim=0), "'axis'"),
])  # fmt: skip
def test_pytorchs_words_for_an_axis_are_answered_with_ours(call, words):
    with pytest.raises(TypeError, match=words):
        call(tensor(2, 3))


def test_other_mistakes_keep_pythons_words():
    with pytest.raises(TypeError, match="unexpected keyword argument 'axes'"):
        tensor(2).sum(axes=0)


# ---- gradients as an answer


def test_grad_returns_gradients_and_leaves_grad_alone():
    x, w = tensor(3), tensor(3, seed=1)
    y = x * w
    z = (y * y).sum()
    dx, dy = tt.grad(z, [x, y])
    assert_close(dx, 2 * x.data * w.data**2, 1e-14)
    assert_close(dy, 2 * x.data * w.data, 1e-14)
    assert x.grad is None and w.grad is None and type(dx) is np.ndarray
    dx += 1  # is the caller's own


def test_grad_of_one_input_and_of_the_output_itself():
    x = tensor(2)
    assert tt.grad(x.sum(), x)[0].tolist() == [1, 1]
    assert tt.grad(x * 3, x, np.array([1.0, 2.0]))[0].tolist() == [3, 6]
    y = x.sum()
    assert tt.grad(y, [y, x])[0] == 1


def test_grad_adds_what_arrives_by_several_ways():
    x = tensor(3)
    y = x.exp()
    z = y.sum() + (y * x).sum() + x.sum()
    dx, dy = tt.grad(z, (x, y))
    assert_close(dx, np.exp(x.data) * (2 + x.data) + 1, 1e-14)
    assert_close(dy, 1 + x.data, 1e-14)


def test_grad_of_outputs_of_one_op_and_through_a_checkpoint():
    x = tensor(4)
    first, second = x.split(2)
    middle = tt.checkpoint(lambda a, b: a * b, first, second)
    dx, d1, d2 = tt.grad(middle.sum(), [x, first, second])
    assert_close(d1, second.data, 0), assert_close(d2, first.data, 0), assert_close(dx, np.concatenate([d1, d2]), 0)


def test_grad_leaves_a_parameters_place_for_its_gradient_alone():
    layer = Linear(3, 2)
    layer.weight.gradient_place = np.zeros((2, 3), np.float32)
    x = Tensor(np.ones((4, 3), np.float32))
    (dw,) = tt.grad((layer(x) * layer(x)).sum(), layer.weight)
    assert layer.weight.grad is None and not np.shares_memory(dw, layer.weight.gradient_place)
    (layer(x) * layer(x)).sum().backward()
    assert_close(layer.weight.grad, dw, 1e-6)


def test_grad_says_which_input_has_no_part():
    x, other = tensor(2), tensor(2, seed=1)
    with pytest.raises(ValueError, match="does not depend on input 1; allow_unused=True"):
        tt.grad((x * 2).sum(), [x, other])
    assert tt.grad((x * 2).sum(), [x, other], allow_unused=True)[1] is None
    with pytest.raises(ValueError, match="input 0 does not require a gradient"):
        tt.grad(x.sum(), Tensor([1.0]))


def test_gradients_of_gradients_are_refused():
    x = tensor(2)
    for ask in (lambda y: y.backward(create_graph=True), lambda y: tt.grad(y, x, create_graph=True)):
        with pytest.raises(ValueError, match="gradients of gradients are not recorded"):
            ask(x.sum())


@pytest.mark.parametrize("fn", [
    lambda x: x.exp() * x, lambda x: x.softmax() @ x.T, lambda x: ops.layer_norm(x).gelu(), lambda x: x.sort()[0] ** 2,
    lambda x: tt.checkpoint(lambda a: a.sin() * a, x), lambda x: ops.linear_cross_entropy(x, x, np.arange(3)),
    lambda x: ops.attention(*[x[None, None]] * 3, causal=True),
    lambda x: ops.lstm(x[None], x.repeat(4, 1)[:12, :], x.repeat(4, 1))[0],
    lambda x: ops.conv1d(x[None], x[..., None]), lambda x: ops.einsum("ij,kj->ik", x, x), lambda x: ops.dropout(x, 0.5),
    lambda x: ops.cross_entropy(x, np.arange(3)), lambda x: x.prod(0), lambda x: ops.concatenate(x.split(3, 0)) * x,
])  # fmt: skip
def test_a_graph_left_standing_gives_the_same_gradient_again(fn):
    x = tensor(3, 3)
    y = fn(x).sum()
    y.backward(retain_graph=True)
    once = x.grad.copy()
    y.backward(retain_graph=True)
    assert_close(x.grad, 2 * once, 1e-14)
    assert_close(tt.grad(y, x)[0], once, 1e-14)
    with pytest.raises(RuntimeError, match=r"walked already.*retain_graph=True"):
        y.backward()


def test_a_checkpoint_may_have_several_outputs():
    def fn(x, w):
        y = ops.dropout(x @ w, 0.3)
        return y, y.exp(), x, x > 0

    def total(outputs):
        first, second, third, mask = outputs
        return (first * 2 + second).sum() + (third * mask).sum() * 3

    x, w = tensor(3, 3), tensor(3, 3, seed=1)
    results = []
    for call in (fn, lambda *a: tt.checkpoint(fn, *a)):
        tt.manual_seed(1)
        y = total(call(x, w))
        results.append((y.item(), *tt.grad(y, [x, w])))
    for plain, again in zip(*results):
        assert_close(again, plain, 1e-14)


def test_an_output_of_a_checkpoint_that_is_not_used_does_no_harm():
    gradcheck(lambda x: tt.checkpoint(lambda a: (a.exp(), a.sin()), x)[1], [tensor(3)])
