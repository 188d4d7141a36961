"""How every kernel walks an array, multiplies matrices, picks and adds up rows, and gets its memory.

NumPy makes one pass over memory per operation. Ten passes over an array that does not fit the cache cost ten trips to
memory; ten passes over a block that does, block after block, cost one. That is all "fusing" means in this folder.
"""

import ctypes
from math import gcd, prod

import numpy as np

# Elements in a block: small enough to stay in the L2 or L3 cache, large enough that NumPy's microsecond a call is lost.
BLOCK = 128 * 1024

# Up to this number of rows a product is faster row by row, as in decoding a few texts at once: BLAS would rearrange the
# whole matrix before it multiplies a few rows with it.
FEW_ROWS = 4

# np.add.at(dweight, ids, dy) says an embedding's gradient in one line and took 1.3 to 11 times as long over the shapes
# measured. A product with a one-hot matrix is faster while it is small (half the time for 384 ids of 65), and slower
# once it is not (5 times for 1024 ids of 1024). Sorting with add.reduceat is level on few ids and takes 1.2 to 3 times
# as long on many. So up to this number of multiplications the one-hot product is taken.
ONE_HOT_WORK = 16 << 20

# Whether this processor has AVX-512, as NumPy tells: by the name of the code that it chose for exp2.
EXP2 = np.lib.introspect.opt_func_info("^exp2$", "float32").get("exp2", {}).get("ff", {}).get("current", "")
AVX512 = EXP2.startswith(("AVX512", "X86_V4"))

# OpenBLAS copies both matrices into an order of its own before it multiplies them. With AVX-512 it leaves that out for
# products of up to a million multiplications; half of that is where they are as fast in whatever order they come.
AT_ONCE = 1 << 19

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8  # names of malloc.h


def as_rows(x):
    """x (..., C) as a C-contiguous (N, C): a view where possible."""
    return np.ascontiguousarray(x).reshape(prod(x.shape[:-1]), x.shape[-1])


def row_blocks(rows, width, elements=BLOCK):
    """Slices that cut `rows` rows of `width` elements into blocks of about `elements` elements; none if width is 0."""
    step = max(8, elements // max(width, 1) // 8 * 8)
    return [slice(start, min(start + step, rows)) for start in range(0, rows if width else 0, step)]


def flat_blocks(size):
    """Slices that cut `size` elements into blocks."""
    return [slice(start, min(start + BLOCK, size)) for start in range(0, size, BLOCK)]


def scale_rows(x, factors, out=None):
    """x (N, C) times factors (N,), row by row."""
    return np.multiply(x, factors[:, None], out=out)


def matmul(a, b, out=None, bias=None):
    """a @ b (+ bias), in `out` if given.   a: (..., N, K), b: (..., K, M) -> (..., N, M), as np.matmul has it"""
    flat = a.ndim == b.ndim == 2 and out is None
    if flat and 1 < len(a) <= FEW_ROWS and b.flags.f_contiguous:  # b: a weight.T
        y = (a[:, None] @ b)[:, 0]
    elif flat and len(a) > FEW_ROWS and a.flags.c_contiguous and b.flags.c_contiguous:  # a gradient times a weight
        y = small_matmul(a, b, np.empty((len(a), b.shape[1]), np.result_type(a, b)))
    else:
        y = np.matmul(a, b, out=out)
    return y if bias is None else np.add(y, bias, out=y)


def small_matmul(a, b, out):
    """a @ b into out, for a small b, all in memory's order of rows.   a: (M, K), b: (K, N), out: (M, N)

    With AVX-512, of so many rows at once as OpenBLAS multiplies without copying them: for 1024 x 256 and 16 columns it
    takes three quarters of the time, for 8 half, for 4 a third; for 384 x 512 and 128 nine tenths.
    """
    (M, K), N = a.shape, b.shape[1]
    rows = gcd(M, 1 << (max(1, AT_ONCE // max(1, K * N)).bit_length() - 1))  # a power of two
    if not AVX512 or rows < 8:
        return np.matmul(a, b, out=out)
    np.matmul(a.reshape(M // rows, rows, K), b, out=out.reshape(M // rows, rows, N))
    return out


def column_sums(x, dtype=None):
    """The sum of the rows of x (N, C).  Returns (C,)"""
    return x.sum(axis=0, dtype=dtype)


def embedding(weight, ids):
    """y = weight[ids].  weight: (V, C); ids: integers of any shape.  Returns (*ids.shape, C)."""
    if weight.flags.f_contiguous:  # np.take would first copy the whole table
        return np.ascontiguousarray(weight[ids])
    return np.take(weight, ids, axis=0)


def id_outside(ids, count, ignored=None):
    """One of the ids that are neither in [0, count) nor `ignored`; None if there is none."""
    wrong = (ids < 0) | (ids >= count)
    if ignored is not None:
        wrong &= ids != ignored
    return int(ids[wrong][0]) if wrong.any() else None


def embedding_backward(dy, ids, rows, out=None):
    """dweight[i] = the sum of dy where ids == i.  dy: (*ids.shape, C).  Returns (rows, C), in `out` if given.

    ids must be in [0, rows).
    """
    dy, ids = as_rows(dy), np.asarray(ids).reshape(-1)
    if out is None:
        out = np.empty((rows, dy.shape[1]), dy.dtype)
    if rows * dy.size <= ONE_HOT_WORK:
        one_hot = np.zeros((rows, ids.size), dy.dtype)
        one_hot[ids, np.arange(ids.size)] = 1
        return np.matmul(one_hot, dy, out=out)
    out[...] = 0
    add_rows(out, ids, dy)
    return out


def add_rows(table, ids, rows):
    """table[ids[n]] += rows[n] for every n, where ids may repeat.

    Sorted by id, the rows to add up stand together, and a product with ones adds up a run in one call.
    """
    order = np.argsort(ids, kind="stable")
    ids, rows = ids[order], rows[order]
    starts = np.flatnonzero(np.diff(ids, prepend=ids[:1] - 1))  # prepend: the first row starts a run too
    stops = np.append(starts[1:], ids.size)
    sums, ones = np.empty((starts.size, rows.shape[1]), rows.dtype), np.ones(ids.size, rows.dtype)
    for total, start, stop in zip(sums, starts.tolist(), stops.tolist()):
        np.dot(ones[start:stop], rows[start:stop], out=total)
    table[ids[starts]] += sums


def tune_malloc():
    """Make glibc keep freed memory in the process: True; on any other C library False, with nothing changed.

    By default glibc maps every array over 128 KB afresh and unmaps it when it is freed, so each pass over a new array
    pays a page fault and a zeroed page per 4 KB: 119 us instead of 24 for 0.4 MB. Told to keep what it has, it makes a
    fresh array nearly as cheap as a reused one, and the kernels need no buffers of their own.
    The price is that the process holds its largest size until it ends. Call it once, before the first large array.
    """
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018  only glibc has it
        mallopt = libc.mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS; Windows
        return False
    return all([
        mallopt(M_MMAP_MAX, 0),  # large arrays come from the heap, not from mmap
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1),  # the heap does not shrink
        mallopt(M_TOP_PAD, 64 << 20),  # and grows 64 MB at a time
        mallopt(M_ARENA_MAX, 1),  # threads share the heap, and so the memory it kept
    ])
