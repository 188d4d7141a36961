"""Collectives as ops: their values and gradients, over threads, are those of one rank that has everything."""

import numpy as np
import pytest

from tests.helpers import assert_close
from tinytensor import Tensor, gradcheck, ops
from tinytensor.distributed import share
from tinytensor.ops import collective
from tinytensor.threads import Threads

sizes = pytest.mark.parametrize("size", [1, 2, 3])


def tensor(*shape, seed=0) -> Tensor:
    return Tensor(np.random.default_rng(seed).standard_normal(shape), requires_grad=True)


def checked(size: int, fn, *inputs: Tensor) -> list[np.ndarray]:
    """What fn(group, *inputs) gives at each rank, its gradients held against finite differences at all ranks alike.

    fn makes of what all ranks have alike what all have alike.
    """

    def work(group):
        own = [Tensor(x.data.copy(), requires_grad=True) for x in inputs]
        gradcheck(lambda *arrays: fn(group, *arrays), own)
        answers[group.rank] = fn(group, *own).data

    answers = [None] * size
    Threads(size).run(work)
    return answers


@sizes
def test_a_product_cut_by_outputs_and_one_cut_by_inputs_are_the_whole_products(size):
    x, into, out = tensor(4, 3), tensor(6, 3, seed=1), tensor(2, 6, seed=2)

    def cut(group, x, into, out):
        h = ops.tanh(ops.linear(collective.enter(x, group), collective.part(into, group)))
        return collective.total(ops.linear(h, collective.part(out, group, 1)), group)

    whole = np.tanh(x.data @ into.data.T) @ out.data.T
    for answer in checked(size, cut, x, into, out):
        assert_close(answer, whole, 1e-13)


@sizes
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_parts_that_are_gathered_are_the_whole(size, axis):
    x = tensor(5, 4, 7)
    parts = [share(x.shape[axis], rank, size) for rank in range(size)]
    back = lambda group, x: collective.gather(collective.part(x, group, axis) * 2.0, group, axis, parts)
    for answer in checked(size, back, x):
        assert_close(answer, 2 * x.data, 0)


@sizes
def test_parts_of_equal_length_need_not_be_named(size):
    x = tensor(2 * size, 3)
    for answer in checked(size, lambda group, x: collective.gather(collective.part(x, group), group), x):
        assert_close(answer, x.data, 0)


@sizes
def test_an_exchange_is_a_transposition_over_ranks_and_undoes_itself(size):
    x = tensor(size * size, 2)

    def swapped(group, x):
        once = collective.exchange(collective.part(x, group), group)
        assert_close(collective.exchange(once, group).data, collective.part(x, group).data, 0)
        return collective.gather(once * (1.0 + group.rank), group)

    shown = x.data.reshape(size, size, 2).swapaxes(0, 1) * (1 + np.arange(size))[:, None, None]
    for answer in checked(size, swapped, x):
        assert_close(answer, shown.reshape(x.shape), 0)


def test_an_exchange_needs_a_row_for_each_rank():
    with pytest.raises(ValueError, match=r"x \(3, 2\) must have a row for each of 2 ranks"):
        Threads(2).run(lambda group: collective.exchange(tensor(3, 2), group))


@sizes
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("reduction", ["sum", "mean", "none"])
def test_cross_entropy_of_classes_in_parts_is_that_of_all(size, reduction, smoothing):
    logits, targets = tensor(2, 4, 7), np.array([[0, 6, -100, 3], [2, -100, 5, 6]])
    parts = [share(7, rank, size) for rank in range(size)]

    def cut(group, x):
        own = collective.part(x, group, -1)
        return collective.cut_cross_entropy(own, targets, group, parts, **how)

    how = dict(reduction=reduction, label_smoothing=smoothing)
    whole = ops.cross_entropy(logits, targets, **how).data
    for answer in checked(size, cut, logits):
        assert_close(answer, whole, 1e-13)


def test_scores_far_apart_do_not_overflow():
    logits = Tensor(np.array([[1e4, 0, -1e4, 5]]), requires_grad=True)
    parts = [slice(0, 2), slice(2, 4)]

    def cut(group):
        own = collective.part(logits, group, -1)
        assert collective.cut_cross_entropy(own, np.array([3]), group, parts).item() == 9995

    Threads(2).run(cut)


def test_a_target_outside_all_classes_is_refused():
    def cut(group):
        collective.cut_cross_entropy(tensor(1, 2), np.array([4]), group, [slice(0, 2), slice(2, 4)])

    with pytest.raises(ValueError, match="target 4 is outside the 4 classes"):
        Threads(2).run(cut)
