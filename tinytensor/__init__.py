"""tinytensor: Tensors that remember how they were made, and the differentiable ops that make them.

Reading order: tensor.py (the graph and backward), ops/ (one family a file), backend/ (the arrays and fused kernels).
"""

from tinytensor import methods as _methods  # attaches the operators to Tensor
from tinytensor import ops, random
from tinytensor.draw import draw
from tinytensor.exchange import from_dlpack
from tinytensor.gradcheck import gradcheck
from tinytensor.gradients import grad
from tinytensor.ops import checkpoint
from tinytensor.random import manual_seed
from tinytensor.tensor import Tensor, detect_anomaly, enable_grad, no_grad

__version__ = "0.2.0"
