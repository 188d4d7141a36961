import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.backend.cpu.reference import DTYPES, assert_close, normal, quick
from tinytensor.backend import cpu

ADAMW = {"lr": 1e-2, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "weight_decay": 0.1}


def adamw_reference(p, g, m, v, step, *, lr, beta1, beta2, eps, weight_decay, grad_scale=1.0):
    g = grad_scale * g
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    p = p * (1 - lr * weight_decay) - lr * (m / (1 - beta1**step)) / (np.sqrt(v / (1 - beta2**step)) + eps)
    return p, m, v


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [0, 1, 17, 100_001])
def test_adamw_is_its_formula_over_several_steps(size, dtype):
    p, m, v = normal(1, size, dtype), np.zeros(size, dtype), np.zeros(size, dtype)
    want = [a.astype(np.float64) for a in (p, m, v)]
    for step in range(1, 5):
        g = normal(1 + step, size, dtype)
        want = adamw_reference(want[0], g.astype(np.float64), *want[1:], step, **ADAMW, grad_scale=0.5)
        cpu.adamw(p, g, m, v, **ADAMW, step=step, grad_scale=0.5)
        for got, w in zip((p, m, v), want):
            assert_close(got, w)


@quick
@given(momentum=st.sampled_from([0.0, 0.9]), nesterov=st.booleans(), weight_decay=st.sampled_from([0.0, 0.1]),
       seed=st.integers(0, 99))
def test_sgd_is_its_formula_over_several_steps(momentum, nesterov, weight_decay, seed):
    p, velocity = normal(seed, 9), np.zeros(9) if momentum else None
    want, u = p.copy(), np.zeros(9)
    for step in range(3):
        g = normal(seed + step, 9)
        h = 0.5 * g + weight_decay * want
        u = momentum * u + h
        want = want - 0.1 * (h + momentum * u if nesterov else u)
        cpu.sgd(p, g, velocity, lr=0.1, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay, grad_scale=0.5)
        assert_close(p, want)


@pytest.mark.parametrize("dtype", DTYPES)
def test_squared_norm_is_the_sum_of_squares(dtype):
    for size in (0, 1, 300_001):
        x = normal(1, size, dtype)
        got = cpu.squared_norm(x)
        assert isinstance(got, float)
        np.testing.assert_allclose(got, np.sum(x.astype(np.float64) ** 2), rtol=1e-5 if dtype == np.float32 else 1e-12)


def test_the_gradient_is_left_alone():
    p, g, m, v = normal(1, 9), normal(2, 9), np.zeros(9), np.zeros(9)
    before = g.copy()
    cpu.adamw(p, g, m, v, **ADAMW, step=1)
    cpu.sgd(p, g, m, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1)
    cpu.squared_norm(g)
    assert (g == before).all()


@pytest.mark.parity
def test_optimizers_match_torch():
    torch = pytest.importorskip("torch")
    start = normal(1, 50)
    makers = {
        "adamw": lambda p: torch.optim.AdamW([p], lr=1e-2, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1),
        "sgd": lambda p: torch.optim.SGD([p], lr=1e-2, momentum=0.9, nesterov=True, weight_decay=0.1),
    }
    for name, make in makers.items():
        theirs = torch.tensor(start, requires_grad=True)
        optimizer = make(theirs)
        p, m, v = start.copy(), np.zeros(50), np.zeros(50)
        for step in range(1, 6):
            g = normal(step, 50)
            theirs.grad = torch.tensor(g)
            optimizer.step()
            if name == "adamw":
                cpu.adamw(p, g, m, v, **ADAMW, step=step)
            else:
                cpu.sgd(p, g, m, lr=1e-2, momentum=0.9, nesterov=True, weight_decay=0.1)
            assert_close(p, theirs.detach().numpy())
