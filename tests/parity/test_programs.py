"""Programs of up to 20 random steps, in PyTorch and here: values and gradients are equal, inputs stay as they were.

A step takes what earlier steps left: the same thing twice, views of it, an input once more. What is shared, strided,
broadcast or used again is where gradients go wrong. Booleans and integers come in as comparisons and places.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import assert_close
from tinytensor import Tensor, checkpoint, grad, ops

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore::RuntimeWarning")]
torch = pytest.importorskip("torch")
f = torch.nn.functional

# What is written the same way for both. a: a tensor with an axis at least, n: one of its axes.
SAME = {
    "exp": lambda a, n: (a * 0.1).exp(), "tanh": lambda a, n: a.tanh(), "sigmoid": lambda a, n: a.sigmoid(),
    "sin": lambda a, n: a.sin(), "cos": lambda a, n: a.cos(), "relu": lambda a, n: a.relu(), "abs": lambda a, n: abs(a),
    "neg": lambda a, n: -a, "power": lambda a, n: a**n, "log": lambda a, n: (a * a + 1).log(),
    "log1p": lambda a, n: (a * a).log1p(), "sqrt": lambda a, n: (a * a + 0.5).sqrt(),
    "exponent": lambda a, n: 2 ** a.tanh(),
    "by": lambda a, n: n / (a * a + 1), "less": lambda a, n: n - a, "clip": lambda a, n: a.clip(-n, 2 - n),
    "mean": lambda a, n: a.mean(n), "prod": lambda a, n: a.tanh().prod(n), "cumsum": lambda a, n: a.cumsum(n),
    "logsumexp": lambda a, n: a.logsumexp(n), "softmax": lambda a, n: a.softmax(n), "all": lambda a, n: a.sum() * a,
    "log_softmax": lambda a, n: a.log_softmax(n), "sort": lambda a, n: a.sort(n)[0],
    "topk": lambda a, n: a.topk(1, n)[0],
    "swap": lambda a, n: a.swapaxes(0, n), "flip": lambda a, n: a.flip(n), "flatten": lambda a, n: a.flatten(n),
    "squeeze": lambda a, n: a.squeeze(), "slice": lambda a, n: a[..., ::2], "new axis": lambda a, n: a[-1:, None],
    "rows": lambda a, n: a[[0, -1, 0]], "first": lambda a, n: a[0], "mask": lambda a, n: a * (a > n),
    "chosen": lambda a, n: a[a > -n], "chosen not": lambda a, n: a[~(a > n) | (a < -n)],
    "repeat": lambda a, n: a.repeat(*[1] * (a.ndim - 1), 2), "rest": lambda a, n: a.split([1, a.shape[n] - 1], n)[1],
    "detach": lambda a, n: a * a.detach(), "itself": lambda a, n: a * a - a,
    "triangle": lambda a, n: a[None].tril(n - 1),
}  # fmt: skip
# name: ours, theirs
APART = {
    "gelu": (lambda a, n: a.gelu(), lambda a, n: f.gelu(a)), "silu": (lambda a, n: a.silu(), lambda a, n: f.silu(a)),
    "softplus": (lambda a, n: a.softplus(), lambda a, n: f.softplus(a)),
    "leaky_relu": (lambda a, n: a.leaky_relu(n / 4), lambda a, n: f.leaky_relu(a, n / 4)),
    "sum": (lambda a, n: a.sum(n, keepdims=True), lambda a, n: a.sum(n, keepdim=True)),
    "var": (lambda a, n: a.var(n, correction=0), lambda a, n: a.var(n, correction=0)),
    "max": (lambda a, n: a.max(n), lambda a, n: a.amax(n)),
    "T": (lambda a, n: a.T, lambda a, n: a.permute(*reversed(range(a.ndim)))),
    "layer_norm": (lambda a, n: ops.layer_norm(a), lambda a, n: f.layer_norm(a, a.shape[-1:])),
    "rms_norm": (lambda a, n: ops.rms_norm(a, eps=0.1), lambda a, n: f.rms_norm(a, a.shape[-1:], eps=0.1)),
    "places": (lambda a, n: a * a.argmax(n, keepdims=True), lambda a, n: a * a.argmax(n, keepdim=True)),
    "gather": (lambda a, n: a.gather(n, a.argsort(n)), lambda a, n: a.gather(n, a.argsort(dim=n, stable=True))),
    "pad": (lambda a, n: ops.pad(a, [(0, 0)] * (a.ndim - 1) + [(n, 1)], 0.5), lambda a, n: f.pad(a, (n, 1), value=0.5)),
    "where": (lambda a, n: ops.where(a < n, a, a * 2), lambda a, n: torch.where(a < n, a, a * 2)),
    "checkpoint": (lambda a, n: checkpoint(lambda b: b.sin() * a, a), lambda a, n: a.sin() * a),
}  # fmt: skip
OF_TWO = {
    "add": (lambda a, b: a + b,) * 2, "sub": (lambda a, b: a - b,) * 2, "mul": (lambda a, b: a * b,) * 2,
    "div": (lambda a, b: a / (b * b + 1),) * 2, "power": (lambda a, b: (a * a + 0.5) ** b.tanh(),) * 2,
    "matmul": (lambda a, b: a @ b,) * 2, "matmul T": (lambda a, b: a @ b.swapaxes(-1, -2),) * 2,
    "maximum": (ops.maximum, torch.maximum), "minimum": (ops.minimum, torch.minimum),
    "where": (lambda a, b: ops.where(a > b, a, b), lambda a, b: torch.where(a > b, a, b)),
    "einsum": (lambda a, b: ops.einsum("...i,...j->...ij", a, b), lambda a, b: torch.einsum("...i,...j->...ij", a, b)),
    "cat": (lambda a, b: ops.concatenate([a, b, a], -1), lambda a, b: torch.cat([a, b, a], -1)),
    "stack": (lambda a, b: ops.stack([a, b], -1), lambda a, b: torch.stack([a, b], -1)),
    "linear": (lambda a, b: ops.linear(a, b[None].flatten(0, -2)), lambda a, b: f.linear(a, b[None].flatten(0, -2))),
}  # fmt: skip
OF_ONE = {name: (step, step) for name, step in SAME.items()} | APART

choice = st.integers(0, 30)
programs = st.lists(st.tuples(st.sampled_from([*OF_ONE, *OF_TWO]), choice, choice, choice), min_size=3, max_size=20)
shapes = st.lists(st.lists(st.integers(1, 3), max_size=3).map(tuple), min_size=1, max_size=3)
LARGEST, MOST_AXES, MOST_ELEMENTS = 1e3, 4, 200  # of what a step may leave to the next


@settings(max_examples=200)
@given(programs, shapes, st.integers(0, 1000))
def test_random_programs_compute_what_torch_computes(program, shapes, seed):
    inputs = [np.random.default_rng([seed, i]).uniform(-2, 2, shape) for i, shape in enumerate(shapes)]
    before = [x.copy() for x in inputs]
    leaves = [Tensor(x.T, requires_grad=True) for x in inputs]
    leaves.append(Tensor(inputs[0][None], requires_grad=True))  # another tensor over the same memory
    twins = [torch.tensor(x.data).requires_grad_() for x in leaves]
    values = list(zip(leaves, twins))
    for name, first, second, n in program:
        (a, b), (c, d) = values[-1 - first % len(values)], values[-1 - second % len(values)]  # 0 is the last one
        if name in OF_ONE and a.ndim:
            mine, right = OF_ONE[name][0](a, n % a.ndim), OF_ONE[name][1](b, n % a.ndim)
        elif name in OF_TWO:
            try:
                right = OF_TWO[name][1](b, d)
            except (RuntimeError, IndexError):  # the shapes do not fit
                with pytest.raises((ValueError, IndexError)):
                    OF_TWO[name][0](a, c)
                continue
            mine = OF_TWO[name][0](a, c)
        else:
            continue
        assert_close(mine.data, right.detach().numpy(), 1e-9)
        assert mine.requires_grad == right.requires_grad
        if 0 < mine.size <= MOST_ELEMENTS and mine.ndim <= MOST_AXES and np.abs(mine.data).max() < LARGEST:
            values.append((mine, right))
    loss, twin = (sum((x * x / 100).sum() for x in side) for side in zip(*values))
    gradients = grad(loss, leaves, retain_graph=True)
    loss.backward()
    for x, mine, right in zip(leaves, gradients, torch.autograd.grad(twin, twins)):
        largest = max(1.0, float(right.abs().max()))
        assert_close(mine / largest, right.numpy() / largest, 1e-9)
        np.testing.assert_array_equal(x.grad, mine)
    for x, was in zip(inputs, before):
        np.testing.assert_array_equal(x, was)
