"""A model cut over ranks: each has a part of every large matrix (tensor parallelism), or some of the experts.

Shoeybi et al. 2019, arXiv:1909.08053. A feed-forward network and an attention are each two products. The first is cut
by its outputs, so a rank has some of the neurons, or some of the heads (those of q, of k and of v); the second is cut
by its inputs, so that what a rank has of those is all it needs. The sum over ranks stands once behind the second, its
mirror image once before the first. The table of tokens is cut by its rows: an id is looked up by the rank that has it,
and a vector is compared with each rank's tokens by that rank (ops.cut_cross_entropy). Norms, and whatever is small, all
ranks have alike; as their gradients are alike too, so they stay.

Experts (GShard, Lepikhin et al. 2020, arXiv:2006.16668) are not cut: each lives on one rank. Here ranks read different
texts, so the seats of an expert travel to it, and back, by an exchange of all with all.

A model file knows nothing of this. The model is built whole; `plan` says which parameters are cut and where, and `cut`
makes of it the model of one rank:

    cuts = plan(model, tensor=2)                    id of a parameter -> Cut
    own = cut(model, cuts, {"tensor": group})       same loss(batch) at all ranks of the group, same gradients, in part

Dropout of what all have alike is drawn from the common stream, which must be the same on all ranks; inside, where each
has heads or neurons of its own, from one of the rank's own.
"""

import contextlib
import copy
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from nn.attention import Attention
from nn.compression.surgery import first_layers, part_of, projections, replace_modules, stretches
from nn.experts import Networks, Stacked
from nn.layers import Embedding, Linear
from nn.module import Module, Parameter
from nn.transformer import FeedForward
from tinytensor import Tensor, backend, ops, random
from tinytensor.distributed import Communicator, share
from tinytensor.ops import collective


@dataclass(frozen=True)
class Cut:
    """How a parameter is cut: rank r of the group has, along `axis`, what is at the places parts[r]."""

    axis: int
    parts: list[np.ndarray]
    group: str = "tensor"  # or "experts"
    table: bool = False  # whether these are rows for tokens


def plan(model: Module, tensor: int = 1, experts: int = 1) -> dict[int, Cut]:
    """id of each parameter that is cut -> how. ValueError for a model that cannot be cut over so many ranks.

    tensor: ranks that share each matrix; experts: those that share out the experts.
    """
    return (_cut_matrices(model, tensor) if tensor > 1 else {}) | (_cut_experts(model, experts) if experts > 1 else {})


def _cut_experts(model: Module, ranks: int) -> dict[int, Cut]:
    found = [module for module in model.modules() if isinstance(module, Networks)]
    layers = [layer for module in found for layer in (module.gate, module.into, module.out) if layer]
    plain = all(type(layer) is Stacked for layer in layers)
    if not (found and plain):
        name, what = type(model).__name__, "others" if found else "none"
        raise ValueError(f"--experts-over {ranks} shares out plain experts, and this {name} has {what}; leave it out")
    if odd := [module.experts for module in found if module.experts % ranks]:
        raise ValueError(f"{odd[0]} experts cannot be shared equally by --experts-over {ranks}; change one of them")
    rows = lambda n: [np.arange(n)[share(n, rank, ranks)] for rank in range(ranks)]
    return {id(p): Cut(0, rows(len(p)), "experts") for module in found for p in module.parameters()}


def _cut_matrices(model: Module, tensor: int) -> dict[int, Cut]:
    cuts: dict[int, Cut] = {}
    found = [module for module in model.modules() if isinstance(module, (Attention, FeedForward))]
    known = {Attention, FeedForward, Linear, Embedding}
    parts = [part for module in found for part in (module, *_layers(module), module.out)]
    odd = {type(part) for part in parts} - known
    if odd or not found:
        what = f"has a {min(kind.__name__ for kind in odd)}" if odd else "has neither"
        name = type(model).__name__
        raise ValueError(f"--tensor cuts plain attention and feed-forward layers, and this {name} {what}; leave it out")
    for module in found:
        heads = isinstance(module, Attention)
        what, n = ("heads", module.kv_heads) if heads else ("hidden", len(module.into.weight))
        if n % tensor:
            raise ValueError(f"{what} {n} of a layer cannot be shared equally by --tensor {tensor}; change one of them")
        _cut_pair(cuts, module, [share(n, rank, tensor) for rank in range(tensor)])
    vocabularies = {vars(module)["config"].vocab_size for module in model.modules() if "config" in vars(module)}
    inside = {id(part) for part in parts}
    for module in model.modules():
        table = type(module) in (Embedding, Linear) and id(module) not in inside
        if table and len(module.weight) in vocabularies and len(module.weight) >= tensor:
            rows = np.arange(len(module.weight))
            shares = [rows[share(len(rows), rank, tensor)] for rank in range(tensor)]
            cuts[id(module.weight)] = Cut(0, shares, table=True)
    return cuts


def _layers(module: Attention | FeedForward) -> list[Module]:
    """The layers that are cut by their outputs."""
    return projections(module) if isinstance(module, Attention) else first_layers(module)


def _cut_pair(cuts: dict[int, Cut], module: Attention | FeedForward, shares: list[slice]) -> None:
    """Cut an attention by its heads, given those that have keys and values of their own; a network by its neurons."""
    inner = module.out.weight.shape[1]
    if isinstance(module, Attention):
        D, groups = module.head_width, module.groups
        kv = [stretches(np.arange(own.start, own.stop), D) for own in shares]
        q = [stretches(np.arange(own.start * groups, own.stop * groups), D) for own in shares]
    else:
        kv = q = [np.arange(own.start, own.stop) for own in shares]
    for layer in _layers(module):
        places = q
        if isinstance(module, Attention) and layer is not module.q:
            n = module.kv_heads * module.head_width
            before = inner if layer is module.qkv else 0
            places = [np.concatenate([before + mine, before + n + mine]) for mine in kv]
            if layer is module.qkv:
                places = [np.concatenate(both) for both in zip(q, places)]
        cuts |= {id(parameter): Cut(0, places) for parameter in layer.parameters()}
    cuts[id(module.out.weight)] = Cut(1, q)


def cut(model: Module, cuts: dict[int, Cut], groups: dict[str, Communicator]) -> Module:
    """The model of one rank of each of the groups: a copy that has its part of what is cut."""
    parts = {id(p): _part(p, cuts.get(id(p)), groups) for p in model.parameters()}
    tables = {id(parts[key]): one for key, one in cuts.items() if one.table}
    own, group, over = copy.deepcopy(model, dict(parts)), groups.get("tensor"), groups.get("experts")

    def changed(module: Module) -> Module:
        if over and isinstance(module, Networks):
            module = _as(SharedOut, module, group=over, experts=module.experts // over.size)
        elif not group:
            pass
        elif isinstance(module, Attention):
            module = _as(CutAttention, module, group=group, heads=module.heads // group.size)
            module.qkv, module.q, module.kv = (
                layer and _as(ColumnLinear, layer, group=group) for layer in (module.qkv, module.q, module.kv)
            )
            module.out = _as(RowLinear, module.out, group=group)
        elif isinstance(module, FeedForward):
            module = _as(CutFeedForward, module, group=group)
            module.out = _as(RowLinear, module.out, group=group)
        elif type(module) in (Embedding, Linear) and id(module.weight) in tables:
            places = tables[id(module.weight)].parts
            rows = [slice(int(mine[0]), int(mine[-1]) + 1) for mine in places]
            module = _as(CutEmbedding if type(module) is Embedding else CutHead, module, group=group, rows=rows)
            vars(module)["part"] = vars(module).pop("weight")
        return module

    replace_modules(own, changed)
    return own


def _part(parameter: Parameter, one: Cut | None, groups: dict[str, Communicator]) -> Parameter:
    if one is not None:
        return part_of(parameter, one.parts[groups[one.group].rank], one.axis)
    same = Parameter(parameter.data if 0 in parameter.data.strides else parameter.data.copy(), parameter.requires_grad)
    same.mask = parameter.mask
    return same


def _as(kind: type[Module], module: Module, **more) -> Module:
    """A module of another kind with the parts of this one, and more."""
    new = object.__new__(kind)
    vars(new).update(vars(module), **more)
    return new


@contextlib.contextmanager
def own_stream(group: Communicator, wanted: bool) -> Iterator[None]:
    """Inside this block chance is the rank's own. The common stream begins it, and goes on alike on all ranks."""
    if wanted:
        with random.seeded(int(random.generator().integers(2**62)), group.rank):
            yield
    else:
        yield


class ColumnLinear(Linear):
    """Some of the outputs of a Linear whose input all ranks have alike."""

    group: Communicator

    def __call__(self, x: Tensor) -> Tensor:
        return super().__call__(collective.enter(x, self.group))


class RowLinear(Linear):
    """A Linear of whose inputs each rank has some; the outputs are alike. The bias is added once, to their sum."""

    group: Communicator

    def __call__(self, x: Tensor) -> Tensor:
        y = collective.total(ops.linear(x, self.weight), self.group)
        return y if self.bias is None else y + self.bias


class CutFeedForward(FeedForward):
    """Some of the neurons."""

    group: Communicator

    def __call__(self, x: Tensor) -> Tensor:
        with own_stream(self.group, self.training and self.dropout.p > 0):
            return super().__call__(collective.enter(x, self.group))


class CutAttention(Attention):
    """Some of the heads."""

    group: Communicator

    def __call__(self, x: Tensor, mask=None, bias: Tensor | None = None, *more, **memory) -> Tensor:
        with own_stream(self.group, self.training and self.dropout > 0):
            return super().__call__(x, mask, bias, *more, **memory)

    def attend(self, queries: Tensor, keys_values, mask=None, bias: Tensor | None = None) -> Tensor:
        with own_stream(self.group, self.training and self.dropout > 0):
            return super().attend(queries, keys_values, mask, bias)

    def _how(self, mask, bias: Tensor | None, queries: Tensor | None = None) -> dict:
        """The mask and the bias, which are of all heads, as they are for this rank's."""
        how = super()._how(mask, bias, queries)
        mask, bias = how["mask"], how["bias"]
        if mask is not None and mask.shape[1] > 1:
            how["mask"] = mask[:, share(mask.shape[1], self.group.rank, self.group.size)]
        if bias is not None:
            each = bias.ndim > 2 and bias.shape[-3] > 1
            how["bias"] = collective.part(bias, self.group, -3) if each else collective.enter(bias, self.group)
        return how


class Table(Module):
    """Some rows, `part`, of a table with a row for each token.   rows: those of each rank."""

    part: Parameter
    rows: list[slice]
    group: Communicator

    @property
    def weight(self) -> Tensor:
        """The whole table, for whoever reads it as such: right, but not cheap."""
        return collective.gather(self.part, self.group, 0, self.rows)

    def cross_entropy(self, x: Tensor, targets, bias: Tensor | None = None, reduction="sum", smoothing=0.0) -> Tensor:
        bias = None if bias is None else collective.part(bias, self.group)
        logits = ops.linear(collective.enter(x, self.group), self.part, bias)
        how = dict(reduction=reduction, label_smoothing=smoothing)
        return collective.cut_cross_entropy(logits, targets, self.group, self.rows, **how)


class CutEmbedding(Table, Embedding):
    """A rank looks up the ids that it has; the others are zeros there, until all are added up."""

    def __call__(self, ids) -> Tensor:
        ids, own = backend.beside(self.part.data, backend.as_array(ids)), self.rows[self.group.rank]
        here, never = (ids >= own.start) & (ids < own.stop), self.padding_idx
        if never is not None:
            never %= self.rows[-1].stop
            never = never - own.start if own.start <= never < own.stop else None
        vectors = ops.embedding(self.part, self.part.xp.where(here, ids - own.start, 0), never)
        return collective.total(vectors * here[..., None], self.group)


class CutHead(Table, Linear):
    """Scores of all tokens are made of the whole table; a loss needs only a part."""


class SharedOut(Networks):
    """Some of the experts; their seats come from all ranks and go back there. Dropout is drawn as by CutAttention."""

    group: Communicator

    def __call__(self, x: Tensor, filled) -> Tensor:
        """x (E, S, C), filled (E,), of all experts -> (E, S, C). Other ranks may have other numbers of seats."""
        (E, S, C), n = x.shape, self.group.size
        most = np.zeros(n, int)
        most[self.group.rank] = S
        most = int(self.group.all_gather(most).max())
        x = ops.pad(x, ((0, 0), (0, most - S), (0, 0))).reshape(n, E // n, most, C)
        x = collective.exchange(x, self.group).swapaxes(0, 1).reshape(E // n, n * most, C)
        with own_stream(self.group, self.training and self.dropout.p > 0):
            y = super().__call__(x, x.xp.full(E // n, n * most))  # seats that nobody took are 0, and stay so
        y = collective.exchange(y.reshape(E // n, n, most, C).swapaxes(0, 1), self.group)
        return y.reshape(E, most, C)[:, :S]
