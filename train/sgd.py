"""Plain gradient descent, with or without momentum (Polyak 1964; nesterov: Sutskever et al. 2013)."""

from tinytensor import backend
from train.optim import Optimizer, Parameters, Stretch


class SGD(Optimizer):
    """Gradient descent, with momentum if asked for, and decay of matrices added to the gradient.

    g = g + weight_decay * p,   u = momentum * u + g,   p = p - lr * u   (nesterov: p - lr * (g + momentum * u))
    """

    def __init__(self, parameters: Parameters, lr: float = 0.1, momentum: float = 0.0, nesterov: bool = False,
                 weight_decay: float = 0.0, rank: int = 0, size: int = 1):
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be a share in [0, 1), not {momentum}")
        if nesterov and not momentum:
            raise ValueError("nesterov looks ahead along the momentum, which is 0; give a momentum, such as 0.9")
        super().__init__(parameters, lr, weight_decay, rank, size)
        self.momentum, self.nesterov = momentum, nesterov
        if momentum:
            self._make_state("velocity")

    def update_stretch(self, stretch: Stretch, grad, grad_scale: float) -> None:
        part = stretch.part
        backend.backend_of(grad).sgd(
            self.flat.data[part], grad[part], self.state["velocity"][stretch.own] if self.momentum else None,
            lr=stretch.lr, momentum=self.momentum, nesterov=self.nesterov, weight_decay=stretch.weight_decay,
            grad_scale=grad_scale, decayed=stretch.decayed, copy=self.flat.rounded_part(part),
        )
