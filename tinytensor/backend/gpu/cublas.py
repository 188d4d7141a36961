"""The product of two matrices: CuPy's, or for a CUDA graph (graph.py) cuBLAS's own, because CuPy refuses it there.

cuBLAS thinks in columns. A matrix stored row by row is to it the transposed matrix, so it is asked for b^T a^T, whose
columns are the rows of a b.
"""

import ctypes
from functools import cache

from tinytensor.backend import array_module
from tinytensor.backend.gpu.arrays import address
from tinytensor.backend.gpu.launch import capture

# dtype -> the numbers of its type and of the type computed in (library_types.h, cublas_api.h), and the latter in C.
TYPES = {"float64": (1, 70, ctypes.c_double), "float32": (0, 68, ctypes.c_float), "float16": (2, 68, ctypes.c_float),
         "bfloat16": (14, 68, ctypes.c_float)}
AS_IT_IS, TRANSPOSED = 0, 1
USUAL_ALGORITHM = -1
WORKSPACE = 32 << 20  # what NVIDIA recommends for an H100


def matmul(a, b, out=None):
    """a @ b, in `out` if given.   a: (N, K), b: (K, M) -> (N, M)"""
    xp = array_module(a)
    if not capture.recorder:
        return xp.matmul(a, b, out=out)
    y = xp.empty((a.shape[0], b.shape[1]), a.dtype) if out is None or not rows_are_whole(out) else out
    if y.size and a.shape[1]:
        product(a, b, y)
    else:
        y[...] = 0
    if out is not None and y is not out:
        out[...] = y
    return y if out is None else out


def product(a, b, y) -> None:
    """y = a @ b by cuBLAS."""
    (a, how_a, step_a), (b, how_b, step_b) = operand(a), operand(b)
    number, compute, scalar = TYPES[y.dtype.name]
    one, zero = scalar(1), scalar(0)
    matrix = lambda array, step: (ctypes.c_void_p(address(array)), number, step)
    check(library().cublasGemmEx(
        handle(), how_b, how_a, y.shape[1], y.shape[0], a.shape[1], ctypes.byref(one), *matrix(b, step_b),
        *matrix(a, step_a), ctypes.byref(zero), *matrix(y, operand(y)[2]), compute, USUAL_ALGORITHM))


def operand(a):
    """(the matrix, AS_IT_IS or TRANSPOSED, elements from row to row or column to column), copied if need be."""
    (rows, columns), size = a.shape, a.dtype.itemsize
    if rows_are_whole(a):
        return a, AS_IT_IS, max(columns, a.strides[0] // size if rows > 1 else 0)
    if rows_are_whole(a.T):
        return a, TRANSPOSED, max(rows, a.strides[1] // size if columns > 1 else 0)
    return array_module(a).ascontiguousarray(a), AS_IT_IS, columns


def rows_are_whole(a) -> bool:
    """Whether each row is contiguous and behind the one before."""
    (rows, columns), size = a.shape, a.dtype.itemsize
    return (columns == 1 or a.strides[1] == size) and (rows == 1 or a.strides[0] >= columns * size)


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
