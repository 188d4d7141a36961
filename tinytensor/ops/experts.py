"""What a mixture of experts is made of: tokens gathered by expert, a product for each expert, and the way back.

A token's place is the number of a seat: expert e's S seats are e * S to e * S + S - 1, and -1 is no seat at all. With
the places (k, N) of N tokens' k choices nothing of size (tokens, experts, seats) is ever made: rows are copied.
nn/experts.py says who gets which seat.
"""

from tinytensor.backend import array_module, backend_of
from tinytensor.ops.basic import check_alike, wide
from tinytensor.tensor import Tensor, record


def dispatch(x: Tensor, places, shape: tuple[int, int]) -> Tensor:
    """y[place] = x[token], for every choice of every token that found a place; 0 on seats that stay empty.

    x: (N, C); places: (k, N) integers; shape: (E, S).  Returns (E, S, C).
    dL/dx[token] = the sum of dL/dy over the places of the token
    """
    seats, C = shape[0] * shape[1], x.shape[-1]
    check_places("dispatch", places, len(x), seats)
    y = x.xp.zeros((seats + 1, C), x.dtype)  # on the last row sit those without a seat
    for place in places:
        y[place] = x.data
    backward = lambda g: (sum(seated(g.reshape(seats, C), place) for place in places),)
    return record("dispatch", y[:seats].reshape(*shape, C), (x,), backward)


def combine(y: Tensor, gates: Tensor, places) -> Tensor:
    """The sum over a token's choices of gate * y[place]; a choice without a place adds nothing.

    y: (E, S, C); gates, places: (k, N).  Returns (N, C).
    dL/dy[place] = gate * dL/dout[token],   dL/dgate = dL/dout[token] . y[place], 0 without a place
    """
    E, S, C = y.shape
    check_places("combine", places, gates.shape[1], E * S)
    check_alike("combine", y.data, gates.data)
    rows, shares, xp = y.data.reshape(E * S, C), gates.data, y.xp
    out = sum(share[:, None] * seated(rows, place) for share, place in zip(shares, places))

    def backward(g):
        dy = xp.zeros((E * S + 1, C), g.dtype)
        for share, place in zip(shares, places):
            dy[place] = share[:, None] * g
        dgates = [(g * seated(rows, place)).sum(axis=-1, dtype=wide(g.dtype)) for place in places]
        return dy[: E * S].reshape(E, S, C), xp.stack(dgates).astype(shares.dtype, copy=False)

    return record("combine", out, (y, gates), backward)


def expert_linear(x: Tensor, weight: Tensor, filled) -> Tensor:
    """y[e] = x[e] @ weight[e]^T: a matrix for every expert, multiplied with the rows on its seats.

    x: (E, S, K), the first filled[e] of each expert's rows taken, the others 0; weight: (E * M, K), the matrices one
    below the other; filled: (E,) integers.  Returns (E, S, M), whose rows are 0 where x's are empty.
    dL/dx[e] = dL/dy[e] @ weight[e],   dL/dweight[e] = dL/dy[e]^T @ x[e]
    """
    if weight.ndim != 2 or x.ndim != 3 or len(weight) % max(1, len(x)) or x.shape[2] != weight.shape[1]:
        raise ValueError(f"expert_linear: x {x.shape} = (E, S, K) and weight {weight.shape} = (E * M, K) do not fit")
    check_alike("expert_linear", x.data, weight.data)
    kernels, a, w = backend_of(x.data), x.data, weight.data

    def backward(g):
        dx, dweight = kernels.expert_linear_backward(g, a, w, filled, out=weight.gradient_buffer())
        return dweight, dx

    return record("expert_linear", kernels.expert_linear(a, w, filled), (weight, x), backward)  # as in `linear`


def seated(rows, place):
    """rows[place], and zeros for those without a place."""
    xp = array_module(rows)
    return xp.where((place >= 0)[:, None], rows[place], rows.dtype.type(0))


def check_places(name: str, places, tokens: int, seats: int) -> None:
    if places.dtype.kind != "i" or places.ndim != 2 or places.shape[1] != tokens:
        raise ValueError(f"{name}: places must be integers (k, {tokens}), not {places.dtype} {places.shape}")
    if seats < 1:
        raise ValueError(f"{name}: there are no seats; every expert needs at least one")
    if (wrong := backend_of(places).id_outside(places, seats, -1)) is not None:
        raise ValueError(f"{name}: place {wrong} is outside the {seats} seats (0..{seats - 1}; -1: none)")
