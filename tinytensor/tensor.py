"""The Tensor and the graph it remembers: who made each value, and how a gradient goes back through it.

Every op computes its value and calls `record(name, value, parents, backward)`. That leaves behind a Node: links to the
nodes of the parents, and a function that turns the gradient of the output into one gradient per parent. `backward()`
walks those nodes from the youngest to the oldest. A node is always younger than its parents, so by the time it is
reached every gradient that flows into it has arrived: no recursion, no separate sorting pass, and each node lets go
of what it saved as soon as it has been used, so memory falls while the walk goes on.

This file knows nothing of any particular op. The ops live in tinytensor/ops, and methods.py gives Tensor its operators.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from tinytensor import backend


class _Mode(threading.local):
    """What this thread does: record the graph, look for NaN, leave the graph that it walks standing."""

    recording = True
    anomaly = False
    retaining = False


_mode = _Mode()
_clock = itertools.count()  # next() on it is atomic, so nodes of different threads never share an age


@contextlib.contextmanager
def no_grad() -> Iterator[None]:
    """Inside this block nothing is recorded: values only, no graph, no memory kept for gradients."""
    before, _mode.recording = _mode.recording, False
    try:
        yield
    finally:
        _mode.recording = before


@contextlib.contextmanager
def enable_grad() -> Iterator[None]:
    """Inside this block the graph is recorded, even within `no_grad()`."""
    before, _mode.recording = _mode.recording, True
    try:
        yield
    finally:
        _mode.recording = before


@contextlib.contextmanager
def detect_anomaly() -> Iterator[None]:
    """Inside this block the first op to produce NaN or an infinity, forward or backward, raises FloatingPointError."""
    before, _mode.anomaly = _mode.anomaly, True
    try:
        yield
    finally:
        _mode.anomaly = before


def recording() -> bool:
    """Whether this thread records the graph, so that what a gradient will need must be kept."""
    return _mode.recording


def retaining() -> bool:
    """Whether the graph that is being walked may be walked again, so that an op must not use up what it saved."""
    return _mode.retaining


@dataclass(eq=False, slots=True)
class Node:
    """One recorded op: what turns its outputs' gradients into its parents', and the edges along which those go on.

    edges: one per parent; None (needs no gradient), a leaf Tensor, or a pair (Node, index of its output).
    outputs: the shape of each, or the array itself where it is small (for tinytensor/draw.py).
    """

    SMALL: ClassVar[int] = 6  # numbers

    name: str
    edges: Sequence
    backward: Callable | None
    outputs: Sequence
    age: int = field(default_factory=_clock.__next__)

    def __lt__(self, other: Node) -> bool:
        return self.age > other.age  # heapq pops the smallest: here the youngest


class Tensor:
    """An array that can be differentiated.

    data: a NumPy or CuPy array. A list or a number becomes float32 (integers and booleans keep their kind); an array
    keeps its dtype and is not copied.
    requires_grad: whether `backward()` should leave a gradient here. Only floats can have one.
    grad: after `backward()`, on the tensors made by hand (the leaves): a raw array of the same shape, else None.
    """

    __slots__ = ("__weakref__", "data", "grad", "node", "output", "requires_grad")
    __array_ufunc__ = None  # so that `array + tensor` asks the Tensor, instead of making an array of Tensors

    def __init__(self, data, requires_grad: bool = False):
        if isinstance(data, Tensor):
            raise ValueError("Tensor(...) was given a Tensor; use .detach() for one that shares its data")
        if not backend.is_array(data):
            data = np.asarray(data)
            if data.dtype == np.float64:
                data = data.astype(np.float32)
        if data.dtype.kind not in "iub" and not backend.is_float(data.dtype):
            raise ValueError(f"Tensor holds numbers, not {data.dtype}; convert the data first")
        if requires_grad and not backend.is_float(data.dtype):
            raise ValueError(f"only floating-point tensors can require a gradient; this one is {data.dtype}")
        self.data = data
        self.grad = None
        self.requires_grad = requires_grad
        self.node: Node | None = None
        self.output = 0

    shape = property(lambda self: self.data.shape)
    dtype = property(lambda self: self.data.dtype)
    ndim = property(lambda self: self.data.ndim)
    size = property(lambda self: self.data.size)

    @property
    def xp(self):
        """The module the data comes from: numpy or cupy."""
        return backend.array_module(self.data)

    @property
    def device(self) -> str:
        """"cpu" or "cuda"."""
        return backend.device_of(self.data)

    def __len__(self) -> int:
        if self.ndim == 0:
            raise TypeError("a 0-d tensor has no length")
        return self.shape[0]

    def __bool__(self) -> bool:
        return bool(self.data)

    def item(self) -> float | int | bool:
        """The value of a one-element tensor as a Python number."""
        return self.data.item()

    def numpy(self) -> np.ndarray:
        """The data as a NumPy array (copied from the GPU where it lives there)."""
        return backend.to_numpy(self.data)

    def detach(self) -> Tensor:
        """A tensor that shares the data and knows nothing of the graph."""
        return Tensor(self.data)

    def __repr__(self) -> str:
        body = np.array2string(self.numpy(), precision=4, threshold=40, edgeitems=3, prefix="Tensor(")
        grad = ", requires_grad=True" if self.requires_grad else ""
        return f"Tensor({body}, shape={self.shape}, dtype={self.dtype}{grad})"

    def backward(self, grad=None, retain_graph: bool = False, create_graph: bool = False) -> None:
        """Add the gradient of this value, with respect to every leaf it was computed from, to the leaves' `grad`.

        grad: dL/d(this), of the same shape; may be left out (1) for a single-element tensor.
        The graph is let go of on the way, and a second call raises RuntimeError; retain_graph leaves it standing.
        """
        walk(self, starting_gradient(self, grad, create_graph), retain_graph)

    def gradient_buffer(self):
        """Where an op may write the first gradient of this tensor, so that it need not be copied; None: nowhere."""
        return None

    def accumulate(self, gradient) -> None:
        """Add to `grad`. The first one is copied: an op may hand the same array to several parents."""
        if self.grad is None:
            self.grad = self.xp.array(gradient, dtype=self.dtype)
        else:
            self.grad += gradient


def raw(value):
    """The array behind a Tensor; anything else as it is."""
    return value.data if isinstance(value, Tensor) else value


def starting_gradient(root: Tensor, grad, create_graph: bool = False):
    """What a walk from this value begins with, checked: `grad` as an array of its shape and dtype, 1 by default."""
    if create_graph:
        raise ValueError("create_graph=True: gradients of gradients are not recorded here; a gradient is a plain array")
    if not root.requires_grad:
        raise RuntimeError("backward() on a tensor that was not computed from anything that requires a gradient")
    if grad is None:
        if root.size != 1:
            raise ValueError(f"backward() without a gradient needs a single value, not shape {root.shape}")
        return root.xp.ones_like(root.data)
    grad = backend.beside(root.data, raw(grad)).astype(root.dtype, copy=False)
    if grad.shape != root.shape:
        raise ValueError(f"backward() was given a gradient of shape {grad.shape} for a value of {root.shape}")
    return grad


def walk(root: Tensor, gradient, retain: bool = False, wanted: dict | None = None) -> None:
    """Carry dL/d(root) back along the edges to every leaf. It knows no op: each node says what its parents get.

    retain: leave the graph standing.   wanted: leaves and pairs (Node, index of its output), to be given what arrives
    there; without it each leaf adds that to its `grad`.
    """
    waiting: list[Node] = []  # a heap, the youngest node first
    arrived: dict[Node, list] = {}  # what has reached each node that waits: one gradient (or None) per output
    _mode.retaining = retain

    def send(gradient, edge) -> None:
        if isinstance(edge, Tensor):
            if edge.node is None:
                edge.accumulate(gradient) if wanted is None else found(edge, gradient)
                return
            edge = (edge.node, edge.output)  # a leaf at first, computed since: see checkpoint
        node, output = edge
        if node not in arrived:
            arrived[node] = [None] * len(node.outputs)
            heapq.heappush(waiting, node)
        grads = arrived[node]
        grads[output] = gradient if grads[output] is None else grads[output] + gradient

    def found(place, gradient) -> None:
        if gradient is not None and place in wanted:  # copied, as by Tensor.accumulate
            wanted[place] = gradient.copy() if wanted[place] is None else wanted[place] + gradient

    send(gradient, root)
    while waiting:
        node = heapq.heappop(waiting)
        if node.backward is None:
            raise RuntimeError("this graph has been walked already and let go of; compute the value again, or keep it "
                               "the first time: backward(retain_graph=True)")
        arriving = arrived.pop(node)
        if wanted is not None:
            for output, gradient in enumerate(arriving):
                found((node, output), gradient)
        grads = node.backward(*arriving)
        if _mode.anomaly:
            _check_gradients(node, grads)
        for gradient, edge in zip(grads, node.edges):
            if edge is not None and gradient is not None:
                send(gradient, edge)
        if not retain:
            node.backward, node.edges = None, ()


def record(name: str, data, parents: Sequence, backward: Callable) -> Tensor:
    """The result of the op `name` as a Tensor that remembers how it was made.

    parents: the op's inputs; whatever is not a Tensor (None, a number) takes no part.
    backward: maps dL/d(data) to a list with one raw gradient (or None) per parent. It should close over raw arrays, not
    Tensors, so that only what the gradient needs stays in memory.
    """
    return record_many(name, (data,), parents, backward)[0]


def record_many(name: str, arrays: Sequence, parents: Sequence, backward: Callable) -> list[Tensor]:
    """Like `record` for an op with several outputs: `backward` takes one gradient (or None) per output."""
    if _mode.anomaly:
        _check_values(name, arrays, parents)
    node = None  # where no gradient will be asked for
    if _mode.recording:
        edges, needed = [], False
        for parent in parents:
            if isinstance(parent, Tensor) and parent.requires_grad:
                edges.append(parent if parent.node is None else (parent.node, parent.output))
                needed = True
            else:
                edges.append(None)
        if needed:
            node = Node(name, edges, backward, [a if a.size <= Node.SMALL else a.shape for a in arrays])
    outputs = []
    for index, array in enumerate(arrays):
        out = Tensor.__new__(Tensor)  # without the checks of Tensor(data): an op's result needs none
        out.data = np.asarray(array) if isinstance(array, np.generic) else array
        out.grad, out.requires_grad, out.node, out.output = None, node is not None, node, index
        outputs.append(out)
    return outputs


def _check_values(name: str, arrays: Sequence, parents: Sequence) -> None:
    for array in arrays:
        if backend.is_float(array.dtype) and (wrong := _not_finite(array)):
            inputs = ", ".join(str(p.shape) for p in parents if isinstance(p, Tensor))
            raise FloatingPointError(f"{name} produced {wrong}; its inputs have shapes {inputs}")


def _check_gradients(node: Node, grads: Sequence) -> None:
    for index, gradient in enumerate(grads):
        if gradient is not None and (wrong := _not_finite(gradient)):
            where = f"for its input {index}, of shape {gradient.shape}"
            raise FloatingPointError(f"the gradient of {node.name} produced {wrong} {where}")


def _not_finite(array) -> str | None:
    """What is among the numbers and should not be, if anything."""
    xp = backend.array_module(array)
    if bool(xp.isfinite(array).all()):
        return None
    return "NaN" if bool(xp.isnan(array).any()) else "an infinity"
