"""The product of two matrices: CuPy's, or cuBLAS's own. CuPy refuses it for a CUDA graph (graph.py), and multiplies
stacks of bfloat16 matrices by a kernel that is meant for integers.

cuBLAS thinks in columns. A matrix stored row by row is to it the transposed matrix, so it is asked for b^T a^T, whose
columns are the rows of a b.
"""

import ctypes
from functools import cache

import numpy as np

from tinytensor.backend import array_module
from tinytensor.backend.gpu.arrays import add_bias, address, as_rows, row_step, rows_are_whole
from tinytensor.backend.gpu.launch import capture

# dtype -> the numbers of its type and of the type computed in (library_types.h, cublas_api.h), and the latter in C.
TYPES = {"float64": (1, 70, ctypes.c_double), "float32": (0, 68, ctypes.c_float), "float16": (2, 68, ctypes.c_float),
         "bfloat16": (14, 68, ctypes.c_float)}
AS_IT_IS, TRANSPOSED = 0, 1
USUAL_ALGORITHM = -1
WORKSPACE = 32 << 20  # what NVIDIA recommends for an H100


def matmul(a, b, out=None, bias=None):
    """a @ b (+ bias), in `out` if given.   a: (..., N, K), b: (..., K, M) -> (..., N, M), as np.matmul has it

    bias: (M,), added to each row.   out may be float32 where a and b are narrower: a gradient goes to its place without
    a copy, or a rounding.
    """
    if a.ndim == 1:
        return matmul(a[None], b, bias=bias)[..., 0, :]
    if b.ndim == 1:
        return matmul(a, b[:, None])[..., 0]
    y = stacked(a, b) if max(a.ndim, b.ndim) > 2 and a.dtype.name in TYPES else of_two(a, b, out)
    if bias is not None:
        add_bias(y if y.ndim == 2 else as_rows(y), bias)
    return y


def of_two(a, b, out):
    """a @ b of matrices."""
    xp = array_module(a)
    easy = all(x is None or x.flags.c_contiguous or x.flags.f_contiguous for x in (a, b, out))
    if easy and not capture.recorder and (out is None or out.dtype == a.dtype):
        return xp.matmul(a, b, out=out)  # of others CuPy would make copies
    follow()
    y = xp.empty((a.shape[0], b.shape[1]), a.dtype) if out is None or not rows_are_whole(out) else out
    if y.size and a.shape[1]:
        product(a, b, y)
    else:
        y[...] = 0
    if out is not None and y is not out:
        out[...] = y
    return y if out is None else out


def stacked(a, b):
    """a @ b of many matrices, by one call."""
    lead, (N, K), M = np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2:], b.shape[-1]
    y = array_module(a).empty((*lead, N, M), a.dtype)
    if not y.size or not K:
        y[...] = 0
        return y
    (a, how_a, step_a, apart_a), (b, how_b, step_b, apart_b) = in_stacks(a, lead), in_stacks(b, lead)
    follow()
    number, compute, scalar = TYPES[y.dtype.name]
    one, zero = scalar(1), scalar(0)
    matrices = lambda array, step, apart: (ctypes.c_void_p(address(array)), number, step, ctypes.c_longlong(apart))
    check(library().cublasGemmStridedBatchedEx(
        handle(), how_b, how_a, M, N, K, ctypes.byref(one), *matrices(b, step_b, apart_b),
        *matrices(a, step_a, apart_a), ctypes.byref(zero), *matrices(y, M, N * M), y.size // (N * M), compute,
        USUAL_ALGORITHM))
    return y


def in_stacks(a, lead):
    """(the matrices, AS_IT_IS or TRANSPOSED, elements from row to row, elements from matrix to matrix)."""
    xp, (rows, columns) = array_module(a), a.shape[-2:]
    if a.size == rows * columns:  # the same for all
        return *operand(a.reshape(rows, columns)), 0
    a = xp.broadcast_to(a, (*lead, rows, columns))
    turned = a.swapaxes(-1, -2)
    if turned.flags.c_contiguous:
        return turned, TRANSPOSED, rows, rows * columns
    return xp.ascontiguousarray(a), AS_IT_IS, columns, rows * columns


def product(a, b, y) -> None:
    """y = a @ b by cuBLAS."""
    (a, how_a, step_a), (b, how_b, step_b) = operand(a), operand(b)
    _, compute, scalar = TYPES[y.dtype.name]
    one, zero = scalar(1), scalar(0)
    matrix = lambda array, step: (ctypes.c_void_p(address(array)), TYPES[array.dtype.name][0], step)
    check(library().cublasGemmEx(
        handle(), how_b, how_a, y.shape[1], y.shape[0], a.shape[1], ctypes.byref(one), *matrix(b, step_b),
        *matrix(a, step_a), ctypes.byref(zero), *matrix(y, operand(y)[2]), compute, USUAL_ALGORITHM))


def operand(a):
    """(the matrix, AS_IT_IS or TRANSPOSED, elements from row to row or column to column), copied if need be."""
    if rows_are_whole(a):
        return a, AS_IT_IS, row_step(a)
    if rows_are_whole(a.T):
        return a, TRANSPOSED, row_step(a.T)
    return array_module(a).ascontiguousarray(a), AS_IT_IS, a.shape[1]


def follow() -> None:
    """Use CuPy's current stream."""
    import cupy

    ours, current = ctypes.c_void_p(), cupy.cuda.get_current_stream()
    check(library().cublasGetStream_v2(handle(), ctypes.byref(ours)))
    if (ours.value or 0) != current.ptr:
        use(current)


def use(stream) -> None:
    """Send the products that follow to this stream. The workspace is ours, or cuBLAS would ask for memory meanwhile."""
    check(library().cublasSetStream_v2(handle(), ctypes.c_void_p(stream.ptr)))
    space = workspace()
    check(library().cublasSetWorkspace_v2(handle(), ctypes.c_void_p(address(space)), ctypes.c_size_t(space.nbytes)))


@cache
def library():
    """The library that CuPy computes with, which knows where to find it and loads it for its own first handle."""
    import cupy

    cupy.cuda.device.get_cublas_handle()
    return ctypes.CDLL(f"libcublas.so.{cupy.cuda.runtime.runtimeGetVersion() // 1000}")


@cache
def handle() -> ctypes.c_void_p:
    """A handle of our own: CuPy goes on changing the stream of its own."""
    made = ctypes.c_void_p()
    check(library().cublasCreate_v2(ctypes.byref(made)))
    return made


@cache
def workspace():
    import cupy

    return cupy.empty(WORKSPACE, "uint8")


def check(status: int) -> None:
    if status:
        raise RuntimeError(f"cuBLAS answers with error {status}")
