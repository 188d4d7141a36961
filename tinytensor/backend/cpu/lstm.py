"""The LSTM over a whole sequence as one kernel: one layer, one direction, every step, forward and backward.

A step needs the state that the step before left, so the steps cannot be done at once; but what does not touch the
state can. The products of all inputs with w_x are one matrix product before the loop, and in backward the gradients of
all gates are kept, so that dx, dw_x, dw_h and dw_proj are one product each after it. Inside the loop remain, per step,
one product with w_h and a dozen short passes over (B, 4H), which stay in the cache.

That one product is of few rows, and BLAS would spend half of its time on copying the weight into its own order, again
at every step. Cut into blocks of columns small enough for the routines that BLAS keeps for small matrices, which do not
copy, it takes half as long (83 us instead of 157 for 16 rows, 256 -> 1024): see `column_blocks`.

LSTM: Hochreiter & Schmidhuber 1997; forget gate: Gers et al. 2000; projection: Sak et al. 2014 (arXiv:1402.1128).
"""

import numpy as np

SMALL_PRODUCT = 1_000_000  # multiplications up to which OpenBLAS copies nothing


def lstm(x, w_x, w_h, bias, w_proj, h0, c0, mask, *, reverse=False, cell_clip=None, proj_clip=None):
    """y, h_n, c_n, saved = lstm(...).  Per step, with h and c the state, and gates in PyTorch's order:

    i, f, g, o = split(x @ w_x.T + h @ w_h.T + bias);   c = clip(sigmoid(f) * c + sigmoid(i) * tanh(g), +-cell_clip)
    m = sigmoid(o) * tanh(c);   h = m, or with a projection clip(m @ w_proj.T, +-proj_clip);   y = h

    x: (B, T, I); w_x: (4H, I); w_h: (4H, P); bias: (4H,) or None; w_proj: (P, H) or None (P is H then);
    h0: (B, P); c0: (B, H).  Returns y (B, T, P), and the last state h_n, c_n.
    mask: (B, T) booleans or None. Where it is False the state stands still and y is 0.
    reverse: from the last step to the first. A row with its padding at the end is read backwards from its own end.
    """
    B, T, inputs = x.shape
    H, P = c0.shape[1], h0.shape[1]
    x = np.ascontiguousarray(by_step(x, reverse))  # (T, B, I)
    gates = (x.reshape(T * B, inputs) @ w_x.T).reshape(T, B, 4 * H)
    if bias is not None:
        gates += bias
    padded = padding(mask, T, reverse)
    h, c = np.empty((T + 1, B, P), x.dtype), np.empty((T + 1, B, H), x.dtype)
    h[0], c[0] = h0, c0
    tanh_c = np.empty((T, B, H), x.dtype)
    m = h[1:] if w_proj is None else np.empty((T, B, H), x.dtype)
    # sigmoid(a) = tanh(a / 2) / 2 + 1 / 2, so one tanh serves all four gates: halve, tanh, halve and shift all but g.
    scale = np.repeat(np.array([0.5, 0.5, 1, 0.5], x.dtype), H)
    shift = 1 - scale
    recurrent = np.empty((B, 4 * H), x.dtype)
    times_w_h, times_w_proj = column_blocks(w_h.T, B), None if w_proj is None else column_blocks(w_proj.T, B)
    for t in range(T):
        a = gates[t]
        a += times_w_h(h[t], recurrent)
        a *= scale
        np.tanh(a, out=a)
        a *= scale
        a += shift
        i, f, g, o = split(a)
        np.multiply(i, g, out=tanh_c[t])
        np.multiply(f, c[t], out=c[t + 1])
        c[t + 1] += tanh_c[t]
        if cell_clip is not None:
            np.clip(c[t + 1], -cell_clip, cell_clip, out=c[t + 1])
        np.tanh(c[t + 1], out=tanh_c[t])
        np.multiply(o, tanh_c[t], out=m[t])
        if w_proj is not None:
            times_w_proj(m[t], h[t + 1])
            if proj_clip is not None:
                np.clip(h[t + 1], -proj_clip, proj_clip, out=h[t + 1])
        if (rows := padded[t]) is not None:
            h[t + 1, rows], c[t + 1, rows] = h[t, rows], c[t, rows]
    y = by_row(h[1:], reverse).copy()  # (B, T, P)
    if mask is not None:
        y *= mask[:, :, None]
    saved = x, gates, h, c, tanh_c, m, w_x, w_h, bias is not None, w_proj, mask, reverse, cell_clip, proj_clip
    return y, h[T].copy(), c[T].copy(), saved


def lstm_backward(dy, dh_n, dc_n, saved):
    """dx, dw_x, dw_h, dbias, dw_proj, dh0, dc0 from the gradients of y, h_n and c_n, each of which may be None.

    Back-propagation through time, from the last step taken to the first:

    dh = dy + what the next step left;   dm = dh @ w_proj;   dc = dc + dm * o * (1 - tanh(c)^2)
    do = dm * tanh(c) * o (1 - o);   di = dc * g * i (1 - i);   dg = dc * i * (1 - g^2);   df = dc * c_prev * f (1 - f)
    for the step before:   dc = dc * f;   dh = [di df dg do] @ w_h

    A clipped element passes no gradient on.
    """
    x, gates, h, c, tanh_c, _, _, w_h, _, w_proj, mask, reverse, cell_clip, proj_clip = saved
    T, B, _ = gates.shape
    H, P = c.shape[2], h.shape[2]
    padded = padding(mask, T, reverse)
    if dy is not None:
        dy = by_step(dy if mask is None else dy * mask[:, :, None], reverse)  # (T, B, P)
    dh = np.zeros((B, P), x.dtype) if dh_n is None else dh_n.copy()
    dc = np.zeros((B, H), x.dtype) if dc_n is None else dc_n.copy()
    dgates = np.empty_like(gates)
    dprojected = None if w_proj is None else np.empty((T, B, P), x.dtype)
    dm, work = np.empty((B, H), x.dtype), np.empty((B, H), x.dtype)
    times_w_h, times_w_proj = column_blocks(w_h, B), None if w_proj is None else column_blocks(w_proj, B)
    for t in range(T - 1, -1, -1):
        if dy is not None:
            dh += dy[t]
        rows = padded[t]
        if rows is not None:  # their gradients pass by this step unchanged
            kept_h, kept_c = dh[rows], dc[rows]
            dh[rows], dc[rows] = 0, 0
        if w_proj is None:
            dm = dh
        else:
            if proj_clip is not None:
                dh *= np.abs(h[t + 1]) < proj_clip
            dprojected[t] = dh
            times_w_proj(dh, dm)
        i, f, g, o = split(gates[t])
        d = np.multiply(gates[t], gates[t], out=dgates[t])
        di, df, dg, do = split(d)  # first the slopes: a - a^2 of a sigmoid, 1 - g^2 of the tanh
        np.subtract(gates[t, :, :2 * H], d[:, :2 * H], out=d[:, :2 * H])
        np.subtract(1, dg, out=dg)
        np.subtract(o, do, out=do)
        np.multiply(dm, tanh_c[t], out=work)
        do *= work
        np.multiply(work, tanh_c[t], out=work)  # dc += dm o (1 - tanh^2), as (dm - dm tanh tanh) o
        np.subtract(dm, work, out=work)
        work *= o
        dc += work
        if cell_clip is not None:
            dc *= np.abs(c[t + 1]) < cell_clip
        d.reshape(B, 4, H)[:, :3] *= dc[:, None]
        di *= g
        df *= c[t]
        dg *= i
        dc *= f
        times_w_h(d, dh)
        if rows is not None:
            dh[rows], dc[rows] = kept_h, kept_c
    return *after_the_steps(np.matmul, dgates, dprojected, saved), dh, dc


def after_the_steps(matmul, dgates, dprojected, saved):
    """dx, dw_x, dw_h, dbias, dw_proj: one product each, over all steps; on either backend, by its own matmul."""
    x, _, h, _, _, m, w_x, _, has_bias, w_proj, _, reverse, _, _ = saved
    rows = lambda a: a.reshape(-1, a.shape[-1])  # (T, B, ...) -> (T * B, ...)
    flat = rows(dgates)
    dx = by_row(matmul(flat, w_x).reshape(x.shape), reverse).copy()
    dw_proj = None if w_proj is None else matmul(rows(dprojected).T, rows(m))
    return dx, matmul(flat.T, rows(x)), matmul(flat.T, rows(h[:-1])), flat.sum(axis=0) if has_bias else None, dw_proj


def by_step(a, reverse):
    """(B, T, ...) as a view (T, B, ...), in the order in which the steps are taken."""
    return (a[:, ::-1] if reverse else a).swapaxes(0, 1)


def by_row(a, reverse):
    """The inverse of by_step."""
    return (a[::-1] if reverse else a).swapaxes(0, 1)


def split(a):
    """The four gates in (B, 4H), as views."""
    H = a.shape[1] // 4
    return a[:, :H], a[:, H : 2 * H], a[:, 2 * H : 3 * H], a[:, 3 * H :]


def padding(mask, T, reverse):
    """For each of the T steps taken, which rows are padding there: (B,) booleans, or None where no row is."""
    if mask is None:
        return [None] * T
    return [rows if rows.any() else None for rows in by_step(~mask, reverse)]


def column_blocks(w, rows):
    """A function times(a, out): out = a @ w for a (rows, K), with w (K, N) laid out for many products of few rows.

    w becomes (blocks, K, N / blocks), each block at most 64 columns (wider ones were no faster) and the product with it
    at most SMALL_PRODUCT. Where no such width divides N, as for many rows, w stays in one piece.
    """
    K, N = w.shape
    widths = (n for n in range(64, 15, -1) if N % n == 0 and rows * K * n <= SMALL_PRODUCT)
    width = next(widths, N)
    blocks = np.ascontiguousarray(w.reshape(K, N // width, width).swapaxes(0, 1))

    def times(a, out):
        np.matmul(a, blocks, out=out.reshape(rows, N // width, width).swapaxes(0, 1))
        return out

    return times
