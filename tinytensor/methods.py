"""Tensor's operators and methods, one line each.

They are attached here so that tensor.py imports no op and the ops can import tensor.py: no circle.
"""

from __future__ import annotations

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

Tensor.sum = ops.sum
Tensor.mean = ops.mean
Tensor.var = ops.var
Tensor.max = ops.max
Tensor.min = ops.min
Tensor.logsumexp = ops.logsumexp
Tensor.argmax = lambda a, axis=None: Tensor(a.xp.asarray(a.data.argmax(axis)))
Tensor.argmin = lambda a, axis=None: Tensor(a.xp.asarray(a.data.argmin(axis)))

Tensor.reshape = ops.reshape
Tensor.transpose = ops.transpose
Tensor.swapaxes = ops.swapaxes
Tensor.expand_dims = ops.expand_dims
Tensor.squeeze = ops.squeeze
Tensor.broadcast_to = ops.broadcast_to
Tensor.split = ops.split
Tensor.flip = ops.flip
Tensor.T = property(ops.transpose)

Tensor.exp = ops.exp
Tensor.log = ops.log
Tensor.sqrt = ops.sqrt
Tensor.sin = ops.sin
Tensor.cos = ops.cos
Tensor.abs = ops.abs
Tensor.tanh = ops.tanh
Tensor.sigmoid = ops.sigmoid
Tensor.relu = ops.relu
Tensor.gelu = ops.gelu
Tensor.silu = ops.silu
Tensor.clip = ops.clip
Tensor.softmax = ops.softmax
Tensor.log_softmax = ops.log_softmax
Tensor.astype = ops.astype
Tensor.to = ops.to
