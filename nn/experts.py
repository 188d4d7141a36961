"""A mixture of experts: many feed-forward networks in the place of one, of which each token passes one or two.

The model has many times the parameters, and a token still costs what one network costs. Shazeer et al. 2017
(arXiv:1701.06538); top 2: GShard, Lepikhin et al. 2020 (arXiv:2006.16668); top 1: Switch, Fedus et al. 2021
(arXiv:2101.03961). `plain_experts` is all that happens to a token:

- the router, one matrix, gives it a probability for every expert, and it goes to the most probable (top 2: to two)
- an expert has so many seats in each row of the batch, taken in order; a token that finds none is dropped: it gets 0
  from here, and the residual stream carries it on. Padding takes seats, too, but only what is left where it comes last
- what the expert makes of it is multiplied by the probability (top 2: by the two's, made to add up to 1). That factor
  alone tells the router, by its gradient, whether the choice was good; the choice itself has none

`Experts` does the same for all tokens at once: `dispatch` gathers them by expert into one array (E, S, C), the networks
multiply it expert by expert, `combine` brings the rows back. Nothing in it is of the size tokens x experts x seats.

A router left alone sends everything to the few experts that learned first. So the loss of a model gets two terms more
(`Routing`): one that is least where all experts are used alike, and one that keeps the router's scores small. Both are
means over rows, as seats are given row by row: so rows cut among workers give the sums that the whole batch gives. A
balance over the whole batch, a product of two of its means, would not add up, nor would seats be the same.
"""

import math
from dataclasses import dataclass

import numpy as np

from nn import init
from nn.layers import ACTIVATIONS, Dropout, Linear
from nn.module import Module, Parameter
from nn.transformer import Block, Stream
from tinytensor import Tensor, backend, ops, random
from tinytensor.ops.basic import wide
from tinytensor.ops.sorting import take_along_axis

FEWEST_SEATS = 4  # where they are reckoned, in a short row too: Mesh TensorFlow's number


def plain_experts(x, router, into, out, seats, top=1, in_turn=False):
    """What `Experts` makes of x (B, T, C), on NumPy arrays, token by token: the tests hold it against these lines.

    router: (E, C); into: (E, F, C); out: (E, C, F), with a ReLU between.   in_turn: see `take_seats`.
    """
    (B, T, _), E, y = x.shape, len(router), np.zeros_like(x)
    for row in range(B):
        scores = x[row] @ router.T  # (T, E)
        p = np.exp(scores - scores.max(axis=-1, keepdims=True))
        p /= p.sum(axis=-1, keepdims=True)
        choices = (-p).argsort(axis=-1, kind="stable")[:, :top]
        tokens_first = [(t, choice) for t in range(T) for choice in range(top)]
        free = np.full(E, seats)
        for t, choice in tokens_first if in_turn else sorted(tokens_first, key=lambda one: one[1]):
            e = choices[t, choice]
            if free[e] > 0:
                free[e] -= 1
                gate = p[t, e] if top == 1 else p[t, e] / (p[t, choices[t]].sum() + 1e-9)
                y[row, t] += gate * (out[e] @ np.maximum(into[e] @ x[row, t], 0))
    return y


@dataclass(frozen=True)
class Routing:
    """Where a router sent the tokens of x (B, T, C), k choices each, and what that adds to the loss of each row.

    choices: (k, B, T), experts, the most probable first.   gates: (k, B * T), what each expert's answer counts.
    places: (k, B * T), seats as `dispatch` wants them, -1 for a choice that is dropped.   shape: (E, S), the seats;
    filled: (E,), how many of them are taken.   scores: (B, T, E), before the softmax, and p, after it.
    """

    choices: np.ndarray
    gates: Tensor
    places: np.ndarray
    shape: tuple[int, int]
    filled: np.ndarray
    scores: Tensor
    p: Tensor

    @property
    def use(self) -> tuple:
        """(B, E) each: the share of a row's tokens whose first choice an expert is, and its mean probability.

        The sum of their products, times E, is 1 where all experts are used alike and E where one is used alone. Only
        the second has a gradient: experts that are chosen too often become less probable.
        """
        first = self.choices[0][..., None] == self.p.xp.arange(self.shape[0])  # (B, T, E)
        return first.mean(axis=1, dtype=self.p.dtype), self.p.mean(axis=1)

    @property
    def size(self) -> Tensor:
        """(B,): the mean over a row's tokens of log(sum(exp(scores)))^2 (Zoph et al. 2022, arXiv:2202.08906)."""
        return (ops.logsumexp(self.scores, axis=-1) ** 2).mean(axis=1)

    @property
    def dropped(self) -> float:
        """The share of tokens that found no seat at any expert."""
        return float((self.places < 0).all(axis=0).mean())


class Router(Module):
    """x (B, T, C) -> Routing. `weight` (E, C), in float32 at least, also where the model computes in 16 bits.

    seats: an expert's in each row; 0: factor * top * T / E of them, and eval_factor instead in evaluation.
    jitter: in training what it reads (not what the experts read) is multiplied by numbers in [1 - jitter, 1 + jitter].
    in_turn: see `take_seats`.
    """

    def __init__(self, width: int, experts: int, top: int = 1, *, seats: int = 0, factor: float = 1.25,
                 eval_factor: float = 2.0, jitter: float = 0.0, in_turn: bool = False):
        # A tenth of the usual variance, the paper's advice against runs that go astray.
        self.weight = Parameter.make((experts, width), init.truncated_normal(math.sqrt(0.1 / width)))
        self.top, self.seats, self.factors = min(top, experts), seats, (eval_factor, factor)
        self.jitter, self.in_turn = jitter, in_turn

    def seats_for(self, T: int) -> int:
        """How many an expert has in a row of T tokens; it never needs more than T."""
        reckoned = max(FEWEST_SEATS, int(self.factors[self.training] * self.top * T / len(self.weight)))
        return min(T, self.seats or reckoned)

    def __call__(self, x: Tensor) -> Routing:
        dtype, xp, E = wide(x.dtype) or x.dtype, x.xp, len(self.weight)
        x = x.astype(dtype)
        if self.training and self.jitter:
            noise = 1 + self.jitter * (2 * random.generator().random(x.shape, np.float32) - 1)
            x = x * Tensor(backend.beside(x.data, noise).astype(dtype))
        scores = ops.linear(x, self.weight.astype(dtype))
        p = ops.softmax(scores)
        left, choices = p.data, []
        for _ in range(self.top):
            choices.append(left.argmax(axis=-1))
            left = xp.where(choices[-1][..., None] == xp.arange(E), -1, left)
        choices = xp.stack(choices)  # (k, B, T)
        gates = take_along_axis(p, choices.transpose(1, 2, 0), -1)  # (B, T, k)
        if self.top > 1:
            gates = gates / (gates.sum(axis=-1, keepdims=True) + 1e-9)
        gates = gates.reshape(-1, self.top).T
        seats = take_seats(choices, E, self.seats_for(x.shape[1]), self.in_turn)
        return Routing(choices, gates, *seats, scores, p)


def take_seats(choices, experts: int, seats: int, in_turn: bool = False) -> tuple:
    """(places, shape, filled) of a Routing, for choices (k, B, T), where every expert has so many seats in each row.

    All first choices are seated before any second one, in the order of tokens (GShard). in_turn: both choices of a
    token before any of the next one, for stacks where no token may know of later ones: by GShard's order a second
    choice is dropped because of tokens that come after it.
    """
    xp, (k, B, T) = backend.array_module(choices), choices.shape
    queue = choices.transpose(1, 2, 0) if in_turn else choices.transpose(1, 0, 2)  # (B, T, k) or (B, k, T)
    queue = queue.reshape(B, T * k)
    arrived = (queue[..., None] == xp.arange(experts)).cumsum(axis=1, dtype=np.int64)  # (B, T * k, E)
    number = xp.take_along_axis(arrived, queue[..., None], 2)[..., 0] - 1  # in the line before the expert
    taken = xp.minimum(arrived[:, -1], seats)  # (B, E)
    filled = taken.sum(axis=0)
    S = max(1, int(filled.max()))  # which waits for a GPU
    # An expert's seats of all rows are side by side, without gaps: row by row, and behind each other as they came.
    first = taken.cumsum(axis=0) - taken
    places = queue * S + xp.take_along_axis(first, queue, 1) + number
    places = xp.where(number < seats, places, -1).reshape((B, T, k) if in_turn else (B, k, T))
    return places.transpose((2, 0, 1) if in_turn else (1, 0, 2)).reshape(k, B * T), (experts, S), filled


class Stacked(Linear):
    """The matrices of E experts, one below the other: weight (E * outputs, inputs), so it is read as one Linear's.

    It is not called: `Networks` multiplies each expert's rows with its own matrix, whatever has taken this one's place.
    """

    def __init__(self, experts: int, inputs: int, outputs: int, weight_init: init.Initializer):
        super().__init__(inputs, experts * outputs, bias=False, weight_init=weight_init)


class Networks(Module):
    """E feed-forward networks side by side: x (E, S, C) -> (E, S, C), each its own rows. See FeedForward; no biases.

    In a call, filled: (E,), how many of an expert's rows hold a token; the others are 0, and stay so.
    """

    def __init__(self, experts: int, width: int, hidden: int, *, activation: str = "relu", gated: bool = False,
                 dropout: float = 0.0, weight_init: init.Initializer = init.normal(0.02),
                 output_init: init.Initializer = init.normal(0.02)):
        if activation not in ACTIVATIONS:
            raise ValueError(f"unknown activation {activation!r}; choose from {', '.join(ACTIVATIONS)}")
        self.experts, self.hidden = experts, hidden
        self.gate = Stacked(experts, width, hidden, weight_init) if gated else None
        self.into = Stacked(experts, width, hidden, weight_init)
        self.activation, self.dropout = ACTIVATIONS[activation], Dropout(dropout)
        self.out = Stacked(experts, hidden, width, output_init)

    def __call__(self, x: Tensor, filled) -> Tensor:
        times = lambda x, layer: ops.expert_linear(x, layer.weight, filled)
        h = self.activation(times(x, self.gate or self.into))
        h = h * times(x, self.into) if self.gate else h
        return times(self.dropout(h), self.out)


class Experts(Module):
    """x (B, T, C) -> (what the experts make of it (B, T, C), its Routing).   networks: E of them, see Networks."""

    def __init__(self, router: Router, networks: Networks):
        self.router, self.networks = router, networks

    def __call__(self, x: Tensor) -> tuple[Tensor, Routing]:
        B, T, C = x.shape
        routing = self.router(x)
        gathered = ops.dispatch(x.reshape(B * T, C), routing.places, routing.shape)  # (E, S, C)
        answers = self.networks(gathered, routing.filled)
        y = ops.combine(answers, routing.gates.astype(x.dtype), routing.places)
        return y.reshape(B, T, C), routing


class ExpertBlock(Block):
    """A block whose network is a mixture of experts; if the stream has a list of loads, it gets their Routing."""

    def _network(self, x: Stream) -> Stream:
        y, routing = self.feed_forward(self._read(x, self.norm2))
        if x.loads is not None:
            x.loads.append(routing)
        return self._add(x, y, self.norm2, self.dropout2)
