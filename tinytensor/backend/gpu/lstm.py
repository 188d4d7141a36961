"""The LSTM over a whole sequence, as in backend.cpu.lstm; its products apart, a step is one small kernel or two."""

from tinytensor.backend import array_module, beside
from tinytensor.backend.cpu.lstm import after_the_steps, by_row, by_step
from tinytensor.backend.gpu.cublas import matmul
from tinytensor.backend.gpu.launch import blocks_for, c_name, launch


def lstm(x, w_x, w_h, bias, w_proj, h0, c0, mask, *, reverse=False, cell_clip=None, proj_clip=None):
    """y, h_n, c_n, saved of one layer in one direction: see backend.cpu.lstm."""
    xp = array_module(x)
    B, T, inputs = x.shape
    H, P = c0.shape[1], h0.shape[1]
    x = xp.ascontiguousarray(by_step(x, reverse))  # (T, B, I)
    gates = matmul(x.reshape(T * B, inputs), w_x.T, bias=bias).reshape(T, B, 4 * H)
    start = starter(x, mask, reverse)
    h, c = xp.empty((T + 1, B, P), x.dtype), xp.empty((T + 1, B, H), x.dtype)
    h[0], c[0] = h0, c0
    tanh_c, m = xp.empty((T, B, H), x.dtype), xp.empty((T, B, H), x.dtype)
    for t in range(T):
        states = (h[t], h[t + 1]) if w_proj is None else (None, None)
        start("lstm_forward", B * H, t, (gates[t], matmul(h[t], w_h.T), c[t], c[t + 1], tanh_c[t], m[t], *states),
              (B, H, limit(cell_clip)))
        if w_proj is not None:
            start("lstm_project", B * P, t, (matmul(m[t], w_proj.T), h[t], h[t + 1]), (B, P, limit(proj_clip)))
    y = by_row(h[1:], reverse).copy()  # (B, T, P)
    if mask is not None:
        y *= beside(x, mask)[:, :, None]
    saved = x, gates, h, c, tanh_c, m, w_x, w_h, bias is not None, w_proj, mask, reverse, cell_clip, proj_clip
    return y, h[T].copy(), c[T].copy(), saved


def lstm_backward(dy, dh_n, dc_n, saved):
    """dx, dw_x, dw_h, dbias, dw_proj, dh0, dc0, walking the steps back: see backend.cpu.lstm_backward."""
    x, gates, h, c, tanh_c, _, _, w_h, _, w_proj, mask, reverse, cell_clip, proj_clip = saved
    xp = array_module(x)
    T, B, _ = gates.shape
    H, P = c.shape[2], h.shape[2]
    start = starter(x, mask, reverse)
    if dy is not None:
        dy = xp.ascontiguousarray(by_step(dy, reverse))  # (T, B, P)
    dh = xp.zeros((B, P), x.dtype) if dh_n is None else xp.ascontiguousarray(dh_n)
    dc = xp.zeros((B, H), x.dtype) if dc_n is None else dc_n.copy()
    dgates, dout, rest = xp.empty_like(gates), xp.empty((T, B, P), x.dtype), xp.empty((B, P), x.dtype)
    # Without a projection h is m, which was not clipped.
    clip = limit(None if w_proj is None else proj_clip)
    for t in range(T - 1, -1, -1):
        from_y = None if dy is None else dy[t]
        start("lstm_split", B * P, t, (dh, from_y, h[t + 1], dout[t], rest), (B, P, clip))
        dm = dout[t] if w_proj is None else matmul(dout[t], w_proj)
        start("lstm_backward", B * H, t, (gates[t], tanh_c[t], c[t], c[t + 1], dm, dc, dgates[t]),
              (B, H, limit(cell_clip)))
        dh = matmul(dgates[t], w_h) + rest
    return *after_the_steps(matmul, dgates, dout, saved), dh, dc


def starter(x, mask, reverse):
    """A function that starts one kernel of step t, with the step's column of the mask."""
    kind = c_name(x)
    mask = None if mask is None else array_module(x).ascontiguousarray(by_step(beside(x, mask), reverse))

    def start(name, elements, t, arrays, numbers):
        arguments = (*arrays, None if mask is None else mask[t], *numbers)
        launch("lstm.cu", f"{name}<{kind}>", (blocks_for(elements, 256),), 256, arguments)

    return start


def limit(clip) -> float:
    """The kernels know "no limit" as 0."""
    return 0.0 if clip is None else float(clip)
