"""Convolution along one axis: the same small linear map applied at every place, to a window of neighbours.

Over the characters of a word it finds pieces (prefixes, endings, whole short words) wherever they stand; the largest
answer over all places says how surely a piece occurs at all (Kim et al. 2016, arXiv:1508.06615). ELMo reads words so.
"""

import numpy as np

from tinytensor.backend import array_module, backend_of
from tinytensor.ops.basic import add_up, check_alike, check_fits
from tinytensor.tensor import Tensor, record


def conv1d(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: int = 1, padding: int | str = 0,
           dilation: int = 1, groups: int = 1) -> Tensor:
    """y[n, t, o] = sum over k, c of x[n, t + k, c] * weight[o, c, k]  + bias[o],   at every t where the window fits.

    x: (N, T, C); weight: (O, C, K), as torch.nn.Conv1d's; bias: (O,).  Returns (N, T - K + 1, O).
    stride: windows begin at every stride-th place.   dilation: a window's places are so far apart.
    padding: zeros before and after x; "valid" (none), or "same": as many as keep its length.
    groups: so many equal parts of the channels and of the outputs, each with each; weight is (O, C / groups, K).
    dL/dweight = dL/dy^T @ windows,   dL/dbias = sum(dL/dy),   dL/dx adds up what each window of dL/dy @ weight covers
    """
    before, after = _padding(padding, weight.shape[-1], stride, dilation)
    _check("conv1d", x, weight, bias, groups, max(1, 1 + (weight.shape[-1] - 1) * dilation - before - after))
    xp, T, kernel, how = x.xp, x.shape[1], weight.data, (stride, dilation)
    inputs = xp.pad(x.data, [(0, 0), (before, after), (0, 0)]) if before or after else x.data
    parts = list(zip(xp.split(inputs, groups, axis=2), xp.split(kernel, groups)))
    y = xp.concatenate([_convolve(*part, *how) for part in parts], axis=2)
    if bias is not None:
        y += bias.data

    def backward(g):
        pieces = [_gradients(one, *part, *how) for one, part in zip(xp.split(g, groups, axis=2), parts)]
        dw, dx = xp.concatenate([dw for dw, _ in pieces]), xp.concatenate([dx for _, dx in pieces], axis=2)
        return dw, dx[:, before : before + T], None if bias is None else add_up(g, (0, 1))

    return record("conv1d", y, (weight, x, bias), backward)


def conv1d_max(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y[n, o] = max over t of conv1d(x, weight)[n, t, o],  + bias[o].

    x: (N, T, C); weight: (O, C, K); bias: (O,).  Returns (N, O).
    The gradient is conv1d's, of a dL/dy that is 0 but at each maximum (the first, where several are equal).
    """
    _check("conv1d_max", x, weight, bias)
    xp, inputs, kernel = x.xp, x.data, weight.data
    answers = _convolve(inputs, kernel)  # (N, T - K + 1, O)
    shape = answers.shape
    best = answers.argmax(axis=1)[:, None]  # (N, 1, O)
    y = xp.take_along_axis(answers, best, axis=1)[:, 0]
    if bias is not None:
        y += bias.data

    def backward(g):
        places = xp.arange(shape[1])[:, None] == best
        dw, dx = _gradients(places * g[:, None], inputs, kernel)
        return dw, dx, None if bias is None else add_up(g, 0)

    return record("conv1d_max", y, (weight, x, bias), backward)


def _padding(padding: int | str, width: int, stride: int, dilation: int) -> tuple[int, int]:
    """How many zeros go before and after."""
    if min(stride, dilation) < 1:
        raise ValueError(f"conv1d: stride {stride} and dilation {dilation} must be at least 1")
    if padding == "same" and stride == 1:
        before = dilation * (width - 1) // 2
        return before, dilation * (width - 1) - before
    if padding == "valid" or (not isinstance(padding, str) and padding >= 0):
        return (0, 0) if padding == "valid" else (padding, padding)
    raise ValueError(f'conv1d: padding {padding!r} must be a number from 0 on, "valid", or "same" with stride 1')


def _windows(x, width: int, stride: int = 1, dilation: int = 1):
    """x (N, T, C) as (N, places, C, width): each place's window, a view."""
    x = x if x.flags.c_contiguous else x.copy()
    N, T, C = x.shape
    rows, steps, channels = x.strides
    places = (T - (width - 1) * dilation - 1) // stride + 1
    strided = array_module(x).lib.stride_tricks.as_strided
    return strided(x, (N, places, C, width), (rows, steps * stride, channels, steps * dilation))


def _convolve(x, weight, stride: int = 1, dilation: int = 1):
    """conv1d without a bias, as one matrix product over all windows."""
    windows = _windows(x, weight.shape[2], stride, dilation)
    N, places, C, K = windows.shape
    y = backend_of(x).matmul(windows.reshape(N * places, C * K), weight.reshape(len(weight), C * K).T)
    return y.reshape(N, places, len(weight))


def _gradients(g, x, weight, stride: int = 1, dilation: int = 1):
    """dweight and dx of conv1d."""
    windows = _windows(x, weight.shape[2], stride, dilation)
    N, places, C, K = windows.shape
    rows, matmul = g.reshape(N * places, len(weight)), backend_of(x).matmul
    dw = matmul(rows.T, windows.reshape(N * places, C * K)).reshape(weight.shape)
    dwindows = matmul(rows, weight.reshape(len(weight), C * K)).reshape(windows.shape)
    dx = array_module(x).zeros(x.shape, x.dtype)
    for k in range(K):
        dx[:, k * dilation : k * dilation + places * stride : stride] += dwindows[..., k]
    return dw, dx


def _check(name: str, x: Tensor, weight: Tensor, bias: Tensor | None, groups: int = 1, least: int = 0) -> None:
    """least: how many places x must have; the weight's width, if 0."""
    fits = x.ndim == 3 and weight.ndim == 3 and groups >= 1 and x.shape[2] == weight.shape[1] * groups
    if not fits or len(weight) % groups:
        cut = "" if groups == 1 else f" / {groups} groups"
        raise ValueError(f"{name}: x {x.shape} and weight {weight.shape} must be (N, T, C) and (O, C{cut}, K) of one C")
    if x.shape[1] < (width := least or weight.shape[2]):
        raise ValueError(f"{name}: a window of {width} does not fit into {x.shape[1]} places; pad x first")
    check_alike(name, x.data, weight.data)
    check_fits(name, "bias", bias, weight.shape[:1], "weight", weight)


def toeplitz(a: Tensor, rows: int, columns: int) -> Tensor:
    """A matrix that is constant along its diagonals, from its diagonals: y[..., t, s] = a[..., s - t + rows - 1].

    a: (..., rows + columns - 1), the diagonals from the lowest left corner to the upper right one.
    Returns (..., rows, columns), a view, read-only.   dL/da[d] = dL/dy summed along diagonal d
    """
    diagonals = rows + columns - 1
    if rows < 1 or columns < 1 or a.shape[-1] != diagonals:
        raise ValueError(f"toeplitz: {rows} rows and {columns} columns have {diagonals} diagonals, not {a.shape}")
    xp = a.xp
    windows = xp.lib.stride_tricks.sliding_window_view(xp.ascontiguousarray(a.data), columns, axis=-1)

    def backward(g):
        # Row i from below belongs i places to the right. Laid out in rows one element too long and read in rows of the
        # right length, it stands there, and the diagonals have become columns.
        lead = g.shape[:-2]
        laid = xp.zeros((*lead, rows, diagonals + 1), g.dtype)
        laid[..., :columns] = g[..., ::-1, :]
        read = laid.reshape(*lead, rows * (diagonals + 1))[..., : rows * diagonals].reshape(*lead, rows, diagonals)
        return (add_up(read, -2),)

    return record("toeplitz", windows[..., ::-1, :], (a,), backward)


def stretches(a: Tensor, starts, length: int) -> Tensor:
    """A stretch of each row: y[..., i, j] = a[..., i, starts[i] + j], for j from 0 to length - 1.

    a: (..., R, P).   starts: a number, then row i begins at starts - i; or (B, R), and a is (B, H, R, P).
    Returns (..., R, length): in the first case a view, as slanted rows are plain ones with another stride.
    dL/da: dL/dy at the places taken, where no two meet, and 0 elsewhere.
    """
    rows, xp = a.shape[-2], a.xp
    ends = np.array([starts - rows + 1, starts]) if isinstance(starts, int) else starts
    if (wrong := backend_of(a.data).id_outside(ends, a.shape[-1] - length + 1)) is not None:
        raise ValueError(f"stretches: {length} elements from place {wrong} on are not in rows of {a.shape[-1]}")
    if isinstance(starts, int):

        def taken(x):
            part = x[..., starts : starts + length]
            *lead, row, column = part.strides
            return xp.lib.stride_tricks.as_strided(part, part.shape, (*lead, row - column, column))
    else:
        B, H, R, _ = a.shape
        places = (xp.arange(B)[:, None, None, None], xp.arange(H)[:, None, None], xp.arange(R)[:, None],
                  starts[:, None, :, None] + xp.arange(length))  # fmt: skip

    def backward(g):
        da = xp.zeros(a.shape, g.dtype)
        if isinstance(starts, int):
            taken(da)[...] = g
        else:
            da[places] = g
        return (da,)

    return record("stretches", taken(a.data) if isinstance(starts, int) else a.data[places], (a,), backward)
