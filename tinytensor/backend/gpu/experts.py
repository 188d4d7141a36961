"""The products of many experts, each of its own matrix with the rows that were sent to it: one batched product."""

from tinytensor.backend import array_module


def expert_linear(x, weight, filled):
    """y[e] = x[e] @ weight[e]^T, see backend.cpu. Rows that are empty are multiplied too, and give the same 0."""
    return array_module(x).matmul(x, weight.reshape(len(x), -1, x.shape[2]).swapaxes(1, 2))


def expert_linear_backward(g, x, weight, filled, out=None):
    """(dx, dweight) for g = dL/dy.   out: where to write dweight, if given."""
    xp, matrices = array_module(x), weight.reshape(len(x), -1, x.shape[2])
    dx, dweight = xp.matmul(g, matrices), xp.matmul(g.swapaxes(1, 2), x).reshape(weight.shape)
    if out is None:
        return dx, dweight
    out[...] = dweight
    return dx, out
