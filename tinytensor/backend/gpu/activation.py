"""GELU (Hendrycks & Gimpel 2016), exact and in its tanh form, with its slope taken on the way: cuda/elementwise.cu."""

from tinytensor.backend import array_module
from tinytensor.backend.gpu.arrays import part_size
from tinytensor.backend.gpu.launch import blocks_for, c_name, launch


def gelu(x, approximate, need_slope=True, bias=None):
    """GELU of x + bias and its slope, in one pass: see backend.cpu.gelu.  Returns (y, slope or None)."""
    xp = array_module(x)
    x = xp.ascontiguousarray(x)
    y = xp.empty_like(x)
    slope = xp.empty_like(x) if need_slope else None
    width = x.shape[-1] if x.ndim else 1
    size = part_size(width, x, bias) if x.ndim else 1
    launch("elementwise.cu", f"gelu_forward<{c_name(x)}, {size}, {int(approximate)}>",
           (blocks_for(x.size, 256 * size),), 256, (x, bias, y, slope, x.size, width))
    return y, slope


def gelu_backward(dy, slope, need_bias=False):
    """dx = dy * slope, and dbias = its sum over the rows if needed.  Returns (dx, dbias or None)."""
    dx = dy * slope
    return dx, dx.sum(axis=tuple(range(dx.ndim - 1))) if need_bias else None
