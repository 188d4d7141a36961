"""Tensor's operators and methods.

They are attached here so that tensor.py imports no op and the ops can import tensor.py: no circle.
"""

import operator

from tinytensor import exchange, ops
from tinytensor.backend import beside
from tinytensor.ops.basic import is_number, plain
from tinytensor.tensor import Tensor, raw

Tensor.__add__ = ops.add
Tensor.__radd__ = lambda a, b: ops.add(a, b)
Tensor.__sub__ = ops.sub
Tensor.__rsub__ = lambda a, b: ops.sub(b, a)
Tensor.__mul__ = ops.mul
Tensor.__rmul__ = lambda a, b: ops.mul(a, b)
Tensor.__truediv__ = ops.div
Tensor.__rtruediv__ = lambda a, b: ops.div(b, a)
Tensor.__neg__ = ops.neg
Tensor.__pow__ = ops.power
Tensor.__rpow__ = lambda a, b: ops.power(b, a)
Tensor.__abs__ = ops.abs
Tensor.__matmul__ = ops.matmul
Tensor.__rmatmul__ = lambda a, b: ops.matmul(b, a)
Tensor.__getitem__ = ops.getitem
Tensor.__iter__ = lambda a: (a[i] for i in range(len(a)))


def without_gradient(operate):
    """One of Python's operators for a Tensor and what is compared or joined with it."""
    return lambda a, b: Tensor(operate(a.data, plain(b) if is_number(b) else beside(a.data, raw(b))))


for operate in (operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge):
    setattr(Tensor, f"__{operate.__name__}__", without_gradient(operate))
Tensor.__and__ = Tensor.__rand__ = without_gradient(operator.and_)
Tensor.__or__ = Tensor.__ror__ = without_gradient(operator.or_)
Tensor.__xor__ = Tensor.__rxor__ = without_gradient(operator.xor)
Tensor.__invert__ = lambda a: Tensor(~a.data)
Tensor.__hash__ = object.__hash__  # comparing elementwise would otherwise take hashing away

Tensor.__float__ = lambda a: float(a.item())
Tensor.__int__ = lambda a: int(a.item())
Tensor.__index__ = lambda a: operator.index(a.item())
Tensor.__format__ = lambda a, spec: format(a.item() if a.ndim == 0 else repr(a), spec)
Tensor.tolist = lambda a: a.numpy().tolist()
Tensor.__array__ = exchange.as_numpy
Tensor.__dlpack__ = exchange.dlpack
Tensor.__dlpack_device__ = lambda a: a.data.__dlpack_device__()

Tensor.T = property(ops.transpose)

# These are methods under their own names: x.sum() is ops.sum(x).
for op in (ops.sum, ops.mean, ops.var, ops.std, ops.prod, ops.cumsum, ops.max, ops.min, ops.argmax, ops.argmin,
           ops.any, ops.all, ops.logsumexp, ops.softmax, ops.log_softmax, ops.sort, ops.argsort, ops.topk, ops.gather,
           ops.reshape, ops.flatten, ops.transpose, ops.swapaxes, ops.expand_dims, ops.squeeze, ops.broadcast_to,
           ops.repeat, ops.split, ops.chunk, ops.flip, ops.tril, ops.triu, ops.exp, ops.log, ops.log1p, ops.sqrt,
           ops.sin, ops.cos, ops.abs, ops.tanh, ops.sigmoid, ops.relu, ops.leaky_relu, ops.gelu, ops.silu,
           ops.softplus, ops.clip, ops.astype, ops.to):
    setattr(Tensor, op.__name__, op)
