import copy
import threading
import tracemalloc

import numpy as np
import pytest

import tinytensor as tt
from models import GPT, GPTConfig
from nn import Dropout, Embedding, LayerNorm, Linear, Module, Parameter, evaluating, shapes_only
from tests.helpers import tensor
from tinytensor import Tensor


class Leaf(Module):
    def __init__(self, *shape: int):
        self.weight = Parameter(np.zeros(shape, np.float32))


class Tree(Module):
    """Parts of every kind, and things that are none."""

    def __init__(self):
        self.scale = Parameter(np.ones(2, np.float32))
        self.first = Leaf(2, 3)
        self.stack = [Leaf(1), Leaf(1), Linear(2, 1)]
        self.named = {"left": Leaf(4), "right": [Parameter(np.zeros(5, np.float32))]}
        self.pair = (Leaf(6), None)
        self.absent = None
        self.plain = Tensor([1.0], requires_grad=True)
        self.numbers = [1, 2, {"three": 3}]


NAMES = [
    "scale", "first.weight", "stack.0.weight", "stack.1.weight", "stack.2.weight", "stack.2.bias",
    "named.left.weight", "named.right.0", "pair.0.weight",
]  # fmt: skip


def test_parameters_are_found_in_attributes_lists_tuples_and_dicts():
    assert sorted(name for name, _ in Tree().named_parameters()) == sorted(NAMES)


def test_parameters_come_in_order_of_definition():
    model = Linear(2, 3)
    assert [name for name, _ in model.named_parameters()] == ["weight", "bias"]
    assert [p.shape for p in model.parameters()] == [(3, 2), (3,)]


def test_parts_added_or_replaced_later_are_found():
    model = Tree()
    model.first = Leaf(9)
    model.stack.append(Leaf(1))
    state = model.state_dict()
    assert state["first.weight"].shape == (9,) and "stack.3.weight" in state
    model.scale = None
    assert "scale" not in model.state_dict()


def test_modules_have_dotted_names():
    names = [name for name, _ in Tree().named_modules()]
    assert names == ["", "first", "stack.0", "stack.1", "stack.2", "named.left", "pair.0"]
    assert [name for name, _ in Tree().named_children()] == names[1:]


def test_a_shared_parameter_counts_once_under_its_first_name():
    class Tied(Module):
        def __init__(self):
            self.table = Embedding(5, 2)
            self.head = Linear(2, 5, bias=False)
            self.head.weight = self.table.weight
            self.again = self.table

    model = Tied()
    assert [name for name, _ in model.named_parameters()] == ["table.weight"]
    assert model.parameter_count() == 10 and len(model.parameters()) == 1


def test_the_gradients_of_a_shared_parameter_add_up():
    layer = Linear(2, 2, bias=False)
    x = Tensor([[1.0, 2.0]])
    (layer(x) + layer(x)).sum().backward()
    assert layer.weight.grad.tolist() == [[2, 4], [2, 4]]


def test_a_module_without_a_computation_says_so():
    with pytest.raises(NotImplementedError, match="Tree does not say what it computes; define __call__"):
        Tree()(1)


def test_a_model_can_be_deep_copied_and_its_copy_trains_apart():
    model = Linear(2, 2)
    twin = copy.deepcopy(model)
    twin.weight.data[:] = 7
    twin(Tensor([[1.0, 2.0]])).sum().backward()
    assert (abs(model.weight.data) < 1).all() and model.weight.grad is None and twin.weight.grad is not None


# ---- weights in and out


def test_the_state_holds_the_parameters_own_arrays():
    model = Linear(2, 3)
    assert model.state_dict()["weight"] is model.weight.data


def test_loading_copies_into_the_parameters_without_replacing_their_arrays():
    model, other = Tree(), Tree()
    for array in other.state_dict().values():
        array += np.arange(array.size, dtype=np.float32).reshape(array.shape) + 1
    arrays = model.state_dict()
    model.load_state_dict({name: array.astype(np.float64) for name, array in other.state_dict().items()})
    for name, array in model.state_dict().items():
        assert array is arrays[name] and array.dtype == np.float32
        np.testing.assert_array_equal(array, other.state_dict()[name])
    model.scale.data[:] = -1
    assert other.scale.data[0] != -1


def test_weights_that_do_not_fit_are_all_listed_and_change_nothing():
    model = Tree()
    before = {name: array.copy() for name, array in model.state_dict().items()}
    state = {name: array + 1 for name, array in before.items()}
    del state["first.weight"], state["pair.0.weight"]
    state["stack.2.bias"] = np.zeros(7)
    state["scale"] = np.zeros((2, 1))
    state["extra"] = np.zeros(1)
    with pytest.raises(ValueError) as error:
        model.load_state_dict(state)
    assert str(error.value) == (
        "these weights do not fit Tree; missing: first.weight, pair.0.weight; unexpected: extra; "
        "of the wrong shape: scale is (2, 1), expected (2,), stack.2.bias is (7,), expected (1,)"
    )
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_a_long_list_of_names_is_cut_short():
    with pytest.raises(ValueError, match=r"missing: first\.weight, .* and 4 more$"):
        Tree().load_state_dict({})


# ---- modes


def test_train_and_eval_reach_every_part_and_answer_the_module():
    model = Tree()
    model.named["drop"] = Dropout(0.5)
    assert all(module.training for module in model.modules())
    assert model.eval() is model and not any(module.training for module in model.modules())
    assert model.train() is model and all(module.training for module in model.modules())


def test_evaluation_of_one_module_does_not_touch_others():
    Dropout(0.5).eval()
    assert Dropout(0.5).training


def test_frozen_parameters_get_no_gradient():
    model = Linear(2, 2)
    x = Tensor([[1.0, 2.0]], requires_grad=True)
    model.requires_grad_(False)
    model(x).sum().backward()
    assert model.weight.grad is None and model.bias.grad is None and x.grad is not None
    model.requires_grad_()
    model(x).sum().backward()
    assert model.weight.grad is not None


def test_zero_grad_forgets_all_gradients():
    model = Linear(2, 2)
    model(Tensor([[1.0, 2.0]])).sum().backward()
    model.zero_grad()
    assert all(p.grad is None for p in model.parameters())


def test_moving_to_the_device_it_is_on_keeps_the_weights():
    model = Linear(2, 2)
    weight = model.weight.data
    assert model.to("cpu") is model and model.weight.data is weight


# ---- Parameter


def test_a_parameter_needs_a_gradient_and_is_a_leaf():
    parameter = Parameter(np.ones(2, np.float32))
    assert parameter.requires_grad and parameter.node is None and parameter.grad is None


def test_the_first_gradient_goes_to_its_place_and_later_ones_are_added_there():
    parameter = Parameter(np.ones(2, np.float32))
    parameter.gradient_place = place = np.full(2, np.nan, np.float32)
    (parameter * 3.0).sum().backward()
    assert parameter.grad is place and place.tolist() == [3, 3]
    (parameter * 2.0).sum().backward()
    assert parameter.grad is place and place.tolist() == [5, 5]
    parameter.grad = None
    (parameter * 2.0).sum().backward()
    assert parameter.grad is place and place.tolist() == [2, 2]


@pytest.mark.parametrize("place", [False, True])
def test_ops_that_write_into_the_place_give_the_same_gradients_used_once_or_more(place):
    """The embedding, the output table and a linear layer share one table, as in GPT."""
    rng = np.random.default_rng(0)
    table = Parameter(rng.standard_normal((5, 3)))
    ids = np.array([[0, 1, 4], [2, 2, 0]])

    def loss(w):
        x = tt.ops.embedding(w, ids)
        x = tt.ops.linear(x, tt.ops.matmul(w.T, w)) + tt.ops.linear(x, w)[..., :3]
        return tt.ops.linear_cross_entropy(x, w, ids)

    plain = Tensor(table.data, requires_grad=True)
    for _ in range(2):
        loss(plain).backward()
    if place:
        table.gradient_place = np.full((5, 3), np.nan)
    for _ in range(2):
        loss(table).backward()
    np.testing.assert_allclose(table.grad, plain.grad, rtol=1e-13)


# ---- how it looks


def test_the_layout_for_inference_changes_no_value_and_no_later_training():
    config = GPTConfig(vocab_size=11, context=8, layers=2, heads=2, width=8, dropout=0.1)
    model = GPT(config)
    plain = copy.deepcopy(model).eval()
    assert model.for_inference() is model and not model.training
    ids = np.arange(8)[None]
    np.testing.assert_allclose(model(ids).data, plain(ids).data, rtol=1e-5, atol=1e-6)
    for (name, ours), theirs in zip(model.named_parameters(), plain.parameters()):
        assert ours.data.flags.f_contiguous, name
        np.testing.assert_array_equal(ours.data, theirs.data)
    for one in (model, plain):
        one.loss({"ids": ids, "targets": ids}).backward()
    for ours, theirs in zip(model.parameters(), plain.parameters()):
        np.testing.assert_allclose(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)


def test_repr_shows_the_tree_with_shapes_and_counts():
    class Model(Module):
        def __init__(self):
            self.scale = Parameter(np.ones((2, 2), np.float32))
            self.layers = [Linear(2, 3), Linear(2, 3), LayerNorm(3), Linear(2, 3)]
            self.other = [Linear(2, 3)]

    assert repr(Model()).splitlines() == [
        "Model(scale (2, 2))  [46]",
        "  layers.0 .. layers.1: Linear(weight (3, 2), bias (3,))  [9 each]",
        "  layers.2: LayerNorm(weight (3,), bias (3,))  [6]",
        "  layers.3: Linear(weight (3, 2), bias (3,))  [9]",
        "  other.0: Linear(weight (3, 2), bias (3,))  [9]",
    ]


# ---- shapes only


def test_a_model_of_175_billion_parameters_is_counted_without_memory():
    tracemalloc.start()
    try:
        with shapes_only():
            model = GPT(GPTConfig(context=2048, layers=96, heads=96, width=12288))
        count = model.parameter_count()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 174_604_259_328  # 96 (12 C^2 + 13 C) + (V + T + 2) C, the formula of Brown et al.'s GPT-3
    assert peak < 5e6


def test_shapes_only_draws_nothing_and_ends_with_its_block():
    state = str(tt.random.generator().bit_generator.state)
    with pytest.raises(KeyError), shapes_only():
        Linear(3, 3)
        raise KeyError
    assert str(tt.random.generator().bit_generator.state) == state
    assert Linear(3, 3).weight.data.any()


def test_weights_cannot_be_loaded_where_there_is_no_memory():
    with shapes_only():
        model = Linear(2, 3)
    with pytest.raises(ValueError, match=r"this Linear was built under shapes_only\(\) and has no memory"):
        model.load_state_dict(Linear(2, 3).state_dict())


def test_a_tensor_that_is_no_parameter_does_not_train():
    class Buffer(Module):
        def __init__(self):
            self.mask = tensor(3)

    assert Buffer().parameters() == []


def test_evaluating_leaves_every_part_as_it_was_also_when_several_threads_are_inside():
    """They leave in another order than they came; whoever is inside never sees dropout at work."""
    model = Tree()
    model.stack[0].eval()
    before = [part.training for part in model.modules()]
    assert len(set(before)) == 2
    inside, leave = [threading.Event() for _ in range(3)], [threading.Event() for _ in range(3)]
    seen = []

    def work(number):
        with evaluating(model if number != 1 else model.first):
            inside[number].set()
            leave[number].wait()
            seen.append(model.first.training)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread, event in zip(threads, inside):
        thread.start()
        event.wait()
    for number in (0, 2, 1):
        leave[number].set()
        threads[number].join()
    assert seen == [False] * 3
    assert [part.training for part in model.modules()] == before


def test_moving_keeps_gradients():
    layer = Linear(2, 2)
    layer.weight.grad = np.ones((2, 2), np.float32)
    assert (layer.to("cpu").weight.grad == 1).all()
