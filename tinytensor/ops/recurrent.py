"""The LSTM: a network that reads a sequence one step at a time and carries what it remembers along.

It was how language models were made before attention (ELMo is two of them). Its state has one size, however long the
text, so its cost grows with the length and not with its square; but a step must wait for the one before. A whole
sequence is one op here, with one node in the graph: the kernel walks the steps, forward and back.
"""

import numpy as np

from tinytensor.backend import backend_of, is_float
from tinytensor.ops.basic import check_alike
from tinytensor.tensor import Tensor, raw, record_many


def plain_lstm_step(x, h, c, w_x, w_h, bias=0.0, w_proj=None, cell_clip=np.inf, proj_clip=np.inf):
    """One step of `lstm` on NumPy arrays, x (B, I): the tests hold the kernels against these lines."""
    i, f, g, o = np.split(x @ w_x.T + h @ w_h.T + bias, 4, axis=-1)  # (B, H) each
    c = np.clip(_sigmoid(f) * c + _sigmoid(i) * np.tanh(g), -cell_clip, cell_clip)
    m = _sigmoid(o) * np.tanh(c)
    h = m if w_proj is None else np.clip(m @ w_proj.T, -proj_clip, proj_clip)
    return h, c


def _sigmoid(a):
    return 1 / (1 + np.exp(-a))


def lstm(x: Tensor, w_x: Tensor, w_h: Tensor, bias: Tensor | None = None, w_proj: Tensor | None = None,
         state: tuple[Tensor, Tensor] | None = None, mask=None, *, reverse: bool = False,
         cell_clip: float | None = None, proj_clip: float | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """One layer of an LSTM in one direction:  y, h_n, c_n  from x and the state (h, c), zeros where none is given.

    i, f, g, o = split(x_t @ w_x^T + h @ w_h^T + bias)              the gates, in PyTorch's order
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)                       clipped to +-cell_clip if given
    h = sigmoid(o) * tanh(c)                                        or that @ w_proj^T, clipped to +-proj_clip if given
    y_t = h

    x: (B, T, I); w_x: (4H, I); w_h: (4H, P); bias: (4H,); w_proj: (P, H), without which P is H; state: (B, P), (B, H).
    mask: (B, T) booleans, False on padding: there the state stands still and y is 0.
    reverse: from the last step to the first; with padding at their ends, rows are read backwards from their own ends.
    Returns y (B, T, P), and the state after the last step taken, (B, P) and (B, H).
    The gradient is that of the steps written out one by one; what was clipped passes none.
    """
    h, c = state or (None, None)
    B, H, P = _sizes(x, w_x, w_h, bias, w_proj, h, c, mask)
    if proj_clip is not None and w_proj is None:
        raise ValueError(f"lstm: proj_clip {proj_clip} clips a projection, but there is no w_proj")
    h0 = x.xp.zeros((B, P), x.dtype) if h is None else h.data
    c0 = x.xp.zeros((B, H), x.dtype) if c is None else c.data
    kernels = backend_of(x.data)
    *outputs, saved = kernels.lstm(x.data, w_x.data, w_h.data, raw(bias), raw(w_proj), h0, c0, mask, reverse=reverse,
                                   cell_clip=cell_clip, proj_clip=proj_clip)
    backward = lambda dy, dh_n, dc_n: kernels.lstm_backward(dy, dh_n, dc_n, saved)
    y, h_n, c_n = record_many("lstm", outputs, (x, w_x, w_h, bias, w_proj, h, c), backward)
    return y, h_n, c_n


def _sizes(x, w_x, w_h, bias, w_proj, h, c, mask) -> tuple[int, int, int]:
    """B, H, P; or one sentence about the first argument that does not fit the others."""
    if x.ndim != 3:
        raise ValueError(f"lstm: x must be (B, T, I), not {x.shape}")
    if w_h.ndim != 2 or w_h.shape[0] % 4:
        raise ValueError(f"lstm: w_h must be (4H, P), four gates of H rows, not {w_h.shape}")
    B, T, inputs = x.shape
    H, P = w_h.shape[0] // 4, w_h.shape[1]
    if w_proj is None and P != H:
        raise ValueError(f"lstm: w_h {w_h.shape} reads an output of {P}, but without w_proj the output has {H}")
    expected = [("w_x", w_x, (4 * H, inputs)), ("bias", bias, (4 * H,)), ("w_proj", w_proj, (P, H)),
                ("the state's h", h, (B, P)), ("the state's c", c, (B, H)), ("mask", mask, (B, T))]
    for name, given, shape in expected:
        if given is not None and given.shape != shape:
            what = f"{name} has shape {given.shape}, expected {shape}"
            raise ValueError(f"lstm: {what} with x {x.shape} and w_h {w_h.shape}")
        if isinstance(given, Tensor):
            check_alike("lstm", x.data, given.data)
    check_alike("lstm", x.data, w_h.data)
    if not is_float(x.dtype):
        raise ValueError(f"lstm: x and the weights are {x.dtype}; convert them with .astype(np.float32)")
    if mask is not None and (isinstance(mask, Tensor) or mask.dtype != bool):
        raise ValueError(f"lstm: the mask must be a plain boolean array, not {mask.dtype}")
    return B, H, P
