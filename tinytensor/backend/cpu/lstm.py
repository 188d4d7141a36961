"""The LSTM over a whole sequence as one kernel: one layer, one direction, every step, forward and backward.

A step needs the state that the step before left, so the steps cannot be done at once; but what does not touch the
state can. The products of all inputs with w_x are one matrix product before the loop, and in backward the gradients of
all gates are kept, so that dx, dw_x, dw_h and dw_proj are one product each after it. Inside the loop remain, per step,
one product with w_h and a dozen short passes over the gates, which stay in the cache.

That one product has the few rows of a batch. BLAS first copies the left matrix into its own order, all of it, and then
the right one piece by piece, each just before it is multiplied; but in memory's order of rows it takes the two for
their transposes. So the large w_h is quicker on the left: w_h @ h.T takes 0.75 to 0.85 of the time of h @ w_h.T for 8
and 16 rows, 256 -> 1024; and with AVX-512 nothing needs to be copied (small_matmul). For that, gates and cells stand as
columns here: (4H, B) and (H, B).

LSTM: Hochreiter & Schmidhuber 1997; forget gate: Gers et al. 2000; projection: Sak et al. 2014 (arXiv:1402.1128).
"""

import numpy as np

from tinytensor.backend.cpu.arrays import small_matmul


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
    driven = np.empty((T * B, 4 * H + 16), x.dtype)[:, :4 * H]  # 16: rows a power of two apart share cache lines
    np.matmul(x.reshape(T * B, inputs), w_x.T, out=driven)
    np.subtract(0 if bias is None else -bias, driven, out=driven)  # with the minus sign that the sigmoids want
    padded = padding(mask, T, reverse)
    gates, c, tanh_c = (np.empty((n, rows, B), x.dtype) for n, rows in ((T, 4 * H), (T + 1, H), (T, H)))
    h = np.empty((T + 1, B, P), x.dtype)
    h[0], c[0] = h0, c0.T
    column = np.array(h0.T, x.dtype, order="C")  # h of one step, (P, B)
    m, m_column = (h[1:], column) if w_proj is None else (np.empty((T, B, H), x.dtype), np.empty((H, B), x.dtype))
    # sigmoid(a) = 1 / (1 + exp(-a)), and tanh(g) = 2 sigmoid(2 g) - 1: one exponential serves all four gates.
    with np.errstate(over="ignore"):  # exp(-a) is infinite where the sigmoid is 0, as 1 / (1 + exp(-a)) needs it there
        for t in range(T):
            a = small_matmul(w_h, column, gates[t])
            np.subtract(driven[t * B : (t + 1) * B].T, a, out=a)
            i, f, g, o = split(a)
            g += g
            np.exp(a, out=a)
            a += 1
            np.divide(1, a, out=a)
            g *= 2
            g -= 1
            np.multiply(i, g, out=tanh_c[t])
            np.multiply(f, c[t], out=c[t + 1])
            c[t + 1] += tanh_c[t]
            if cell_clip is not None:
                np.clip(c[t + 1], -cell_clip, cell_clip, out=c[t + 1])
            np.tanh(c[t + 1], out=tanh_c[t])
            np.multiply(o, tanh_c[t], out=m_column)
            if w_proj is not None:
                m[t] = m_column.T
                small_matmul(w_proj, m_column, column)
                if proj_clip is not None:
                    np.clip(column, -proj_clip, proj_clip, out=column)
            if (rows := padded[t]) is not None:
                column[:, rows], c[t + 1][:, rows] = h[t, rows].T, c[t][:, rows]
            h[t + 1] = column.T
    y = by_row(h[1:], reverse).copy()  # (B, T, P)
    if mask is not None:
        y *= mask[:, :, None]
    saved = x, gates, h, c, tanh_c, m, w_x, w_h, bias is not None, w_proj, mask, reverse, cell_clip, proj_clip
    return y, h[T].copy(), c[T].T.copy(), saved


def lstm_backward(dy, dh_n, dc_n, saved):
    """dx, dw_x, dw_h, dbias, dw_proj, dh0, dc0 from the gradients of y, h_n and c_n, each of which may be None.

    Back-propagation through time, from the last step taken to the first:

    dh = dy + what the next step left;   dm = dh @ w_proj;   dc = dc + dm * o * (1 - tanh(c)^2)
    do = dm * tanh(c) * o (1 - o);   di = dc * g * i (1 - i);   dg = dc * i * (1 - g^2);   df = dc * c_prev * f (1 - f)
    for the step before:   dc = dc * f;   dh = [di df dg do] @ w_h

    A clipped element passes no gradient on.
    """
    x, gates, h, c, tanh_c, _, _, w_h, _, w_proj, mask, reverse, cell_clip, proj_clip = saved
    T, _, B = gates.shape
    H, P = c.shape[1], h.shape[2]
    padded = padding(mask, T, reverse)
    if dy is not None:
        dy = np.ascontiguousarray(by_step(dy if mask is None else dy * mask[:, :, None], reverse))  # (T, B, P)
    w_h, w_proj = (None if w is None else np.ascontiguousarray(w.T) for w in (w_h, w_proj))  # from here on, turned
    dh, dc, d, work = (np.zeros((rows, B), x.dtype) for rows in (P, H, 4 * H, H))
    if dh_n is not None:
        dh[...] = dh_n.T
    if dc_n is not None:
        dc[...] = dc_n.T
    di, df, dg, do = split(d)
    dgates = np.empty((T, B, 4 * H), x.dtype)
    dm, dprojected = (dh, None) if w_proj is None else (np.empty((H, B), x.dtype), np.empty((T, B, P), x.dtype))
    for t in range(T - 1, -1, -1):
        if dy is not None:
            dh += dy[t].T
        rows = padded[t]
        if rows is not None:  # their gradients pass by this step unchanged
            kept_h, kept_c = dh[:, rows], dc[:, rows]
            dh[:, rows], dc[:, rows] = 0, 0
        if w_proj is not None:
            if proj_clip is not None:
                dh *= np.abs(h[t + 1].T) < proj_clip
            dprojected[t] = dh.T
            small_matmul(w_proj, dh, dm)
        a = gates[t]
        i, f, g, o = split(a)
        slopes(a, d)
        np.multiply(dm, tanh_c[t], out=work)
        do *= work
        work *= tanh_c[t]  # dc += dm o (1 - tanh^2), as (dm - dm tanh tanh) o
        np.subtract(dm, work, out=work)
        work *= o
        dc += work
        if cell_clip is not None:
            dc *= np.abs(c[t + 1]) < cell_clip
        d[:3 * H].reshape(3, H, B)[...] *= dc
        di *= g
        df *= c[t]
        dg *= i
        dc *= f
        dgates[t] = d.T
        small_matmul(w_h, d, dh)
        if rows is not None:
            dh[:, rows], dc[:, rows] = kept_h, kept_c
    return *after_the_steps(np.matmul, dgates, dprojected, saved), dh.T.copy(), dc.T.copy()


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
    """The four gates in (4H, B), as views."""
    H = len(a) // 4
    return a[:H], a[H : 2 * H], a[2 * H : 3 * H], a[3 * H :]


def slopes(gates, out):
    """a - a^2 of the gates that are sigmoids, 1 - g^2 of g, which is a tanh; (4H, B) both."""
    H = len(gates) // 4
    np.multiply(gates, gates, out=out)
    for some in (slice(2 * H), slice(3 * H, 4 * H)):
        np.subtract(gates[some], out[some], out=out[some])
    np.subtract(1, out[2 * H : 3 * H], out=out[2 * H : 3 * H])


def padding(mask, T, reverse):
    """For each of the T steps taken, which rows are padding there: (B,) booleans, or None where no row is."""
    if mask is None:
        return [None] * T
    return [rows if rows.any() else None for rows in by_step(~mask, reverse)]
