"""Tensor's operators and methods.

They are attached here so that tensor.py imports no op and the ops can import tensor.py: no circle.
"""

from tinytensor import ops
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
Tensor.__abs__ = ops.abs
Tensor.__matmul__ = ops.matmul
Tensor.__rmatmul__ = lambda a, b: ops.matmul(b, a)
Tensor.__getitem__ = ops.getitem
Tensor.__iter__ = lambda a: (a[i] for i in range(len(a)))

Tensor.__eq__ = lambda a, b: Tensor(a.data == raw(b))
Tensor.__ne__ = lambda a, b: Tensor(a.data != raw(b))
Tensor.__lt__ = lambda a, b: Tensor(a.data < raw(b))
Tensor.__le__ = lambda a, b: Tensor(a.data <= raw(b))
Tensor.__gt__ = lambda a, b: Tensor(a.data > raw(b))
Tensor.__ge__ = lambda a, b: Tensor(a.data >= raw(b))
Tensor.__hash__ = object.__hash__  # comparing elementwise would otherwise take hashing away

Tensor.argmax = lambda a, axis=None: Tensor(a.xp.asarray(a.data.argmax(axis)))
Tensor.argmin = lambda a, axis=None: Tensor(a.xp.asarray(a.data.argmin(axis)))
Tensor.T = property(ops.transpose)

# These are methods under their own names: x.sum() is ops.sum(x).
for op in (ops.sum, ops.mean, ops.var, ops.max, ops.min, ops.logsumexp, ops.softmax, ops.log_softmax, ops.reshape,
           ops.transpose, ops.swapaxes, ops.expand_dims, ops.squeeze, ops.broadcast_to, ops.split, ops.flip, ops.exp,
           ops.log, ops.sqrt, ops.sin, ops.cos, ops.abs, ops.tanh, ops.sigmoid, ops.relu, ops.gelu, ops.silu, ops.clip,
           ops.astype, ops.to):
    setattr(Tensor, op.__name__, op)
