"""Is a gradient right? Compare it with finite differences, in float64, element by element."""

from collections.abc import Callable, Sequence

import numpy as np

from tinytensor.tensor import Tensor


def gradcheck(fn: Callable[..., Tensor | Sequence[Tensor]], inputs: Sequence[Tensor], eps: float = 1e-6,
              tolerance: float = 1e-6) -> None:
    """Raise AssertionError if the gradients of fn(*inputs) are not those of finite differences.

    fn: returns a Tensor, or several. To check all outputs in one go they are summed with fixed random weights, giving
    L; then each dL/dx from backward() is compared with (L(x + eps) - L(x - eps)) / (2 eps). The error of the formula
    is of order eps^2 and its rounding of order 1e-16/eps, so float64 gives about ten right digits.
    inputs: float64 tensors; those with requires_grad are checked. Their `grad` is replaced.
    tolerance: how far a gradient may be off, relative to the largest of 1 and its own size.
    """
    for index, x in enumerate(inputs):
        if x.dtype != np.float64:
            raise ValueError(f"gradcheck needs float64 inputs; input {index} is {x.dtype}")
        x.grad = None
    weights: list[np.ndarray] = []

    def loss() -> Tensor:
        """The one number L, its weights drawn at the first call."""
        outputs = fn(*inputs)
        outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
        if not weights:
            draw = np.random.default_rng(0)
            weights.extend(draw.uniform(0.5, 1.5, y.shape) * draw.choice([-1, 1], y.shape) for y in outputs)
        return sum((y * weight).sum() for y, weight in zip(outputs, weights))

    value = loss()
    if value.requires_grad:
        value.backward()
    for index, x in enumerate(inputs):
        if not x.requires_grad:
            continue
        numeric = np.empty(x.shape)
        original = x.data
        for place in np.ndindex(*x.shape):
            sides = []
            for step in (eps, -eps):
                x.data = original.copy()
                x.data[place] += step
                sides.append(loss().item())
            numeric[place] = (sides[0] - sides[1]) / (2 * eps)
        x.data = original
        analytic = np.zeros(x.shape) if x.grad is None else x.grad
        if analytic.shape != x.shape:
            raise AssertionError(f"gradient of input {index} has shape {analytic.shape}, the input has {x.shape}")
        error = np.abs(analytic - numeric) / np.maximum(1, np.abs(numeric))
        if error.size and not error.max() <= tolerance:
            worst = np.unravel_index(np.nanargmax(error) if not np.isnan(error).all() else 0, error.shape)
            worst = tuple(int(i) for i in worst)
            said = f"backward() says {analytic[worst]:.8g}, finite differences say {numeric[worst]:.8g}"
            off = f"is off by {error[worst]:.2e} at {worst}"
            raise AssertionError(f"gradient of input {index}, shape {x.shape}, {off}: {said}")
