"""What a model whose networks are mixtures of experts (nn/experts.py) has in its config: how many experts, and where.

GPT's and T5's configs begin with these fields; with experts=0 there are none of them, and nothing here is asked.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from models.config import Config, option
from models.schema import Few, FewOrNone, NotNegative, Positive, Share, Whole
from nn import init
from nn.attention import Attention
from nn.experts import ExpertBlock, Experts, Networks, Router, Routing
from nn.transformer import Norm
from tinytensor import Tensor


@dataclass(frozen=True, kw_only=True)
class Mixture(Config):
    """The experts of a model."""

    experts: FewOrNone = option(0, "E, the networks in a mixture, in place of one (0: no mixtures)")
    top: Literal[1, 2] = option(1, "how many of its experts a token goes to: 1, 2")
    every: Few = option(2, "one block in so many has a mixture (2: the second, the fourth, ...; 1: all)")
    capacity: Whole = option(0, "seats of an expert in a row of the batch (0: by the factors)")
    capacity_factor: Positive = option(1.25, "seats in training, times those that equal loads would take")
    eval_capacity_factor: Positive = option(2.0, "the same in evaluation, where fewer tokens should be dropped")
    balance: NotNegative = option(0.01, "weight in the loss of experts' unequal loads")
    balance_over: Literal["block", "stack"] = option("block", "whose loads: of each block, or (transformers' way) of "
                                                     "all together: block, stack")  # fmt: skip
    z_loss: NotNegative = option(0.001, "weight in the loss of the routers' large scores")
    jitter: Share = option(0.01, "how far what a router reads is shaken in training")
    expert_dropout: Share = option(0.0, "share dropped inside the experts (when fine-tuning 0.4 helped Switch)")

    def mixed(self, layer: int) -> bool:
        """Whether the block with this number, from 0, has a mixture: the published code's rule."""
        return self.experts > 0 and layer % self.every == 1 % self.every

    def expert_block(self, attention: Attention, norm: Callable[[], Norm], hidden: int, *, in_turn: bool,
                     weight_init: init.Initializer, output_init: init.Initializer, gated: bool = False,
                     **branches) -> ExpertBlock:  # fmt: skip
        """A block with a mixture.   in_turn: see nn/experts.py.   branches: as Block takes them."""
        seats = dict(seats=self.capacity, factor=self.capacity_factor, eval_factor=self.eval_capacity_factor)
        router = Router(self.width, self.experts, self.top, jitter=self.jitter, in_turn=in_turn, **seats)
        how = dict(dropout=self.expert_dropout, weight_init=weight_init, output_init=output_init)
        networks = Networks(self.experts, self.width, hidden, activation=self.activation, gated=gated, **how)
        return ExpertBlock(attention, Experts(router, networks), norm, **branches)

    def penalty(self, *stacks: list[Routing], counts: dict[str, int]) -> Tensor:
        """What the routers add to the loss: the sum over rows, divided by the number of rows of the whole batch.

        stacks: the routings of each stack of blocks.   Of every block, or of the means over a stack's blocks:
            balance * E * sum over experts of (share of tokens * mean probability) + z_loss * mean of logsumexp^2
        """
        rows = 0.0
        for stack in filter(None, stacks):
            uses, sizes = [routing.use for routing in stack], [routing.size for routing in stack]
            if self.balance_over == "stack":
                mean = lambda values: sum(values[1:], values[0]) / len(values)
                uses, sizes = [tuple(mean(part) for part in zip(*uses))], [mean(sizes)]
            for (shares, p), size in zip(uses, sizes):
                rows = (p * shares).sum(axis=1) * (self.balance * self.experts) + size * self.z_loss + rows
        return rows.sum() / counts["rows"]
