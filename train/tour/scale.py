"""Training a GPT on many GPUs, on paper: what each of them holds, sends and waits for.

Four ways to cut the work, which combine (Narayanan et al. 2021, arXiv:2104.04473); d x t x p GPUs in all:

    data       d copies of the model read a share of the batch each; once a step they sum their gradients, and with
               ZeRO (Rajbhandari et al. 2019, arXiv:1910.02054) share the optimizer's state (stage 1), the gradients (2)
               and the weights (3)
    tensor     t GPUs have a part of every matrix and sum what a layer writes (Shoeybi et al. 2019, arXiv:1909.08053)
    pipeline   p GPUs in a row have L/p layers each; a copy's share of the batch comes as m micro-batches, one behind
               the other. At its ends a GPU waits: (p-1)/(vm) of the time, with v separate chunks of layers on each
    experts    a mixture's experts lie on e of the d copies; tokens travel there and back (GShard, arXiv:2006.16668)

What is sent takes a latency for each hop, and its bytes over the bandwidth (the alpha-beta model): of M bytes in a ring
of n, an all-reduce sends 2 M (n-1)/n in 2 (n-1) hops, a reduce-scatter, an all-gather and an all-to-all half of that.
Nothing is taken to overlap. Attention is counted dense and whole, as in the papers, also where a band or half would do.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

from models.gpt import GPTConfig
from train.tables import markdown


@dataclass(frozen=True)
class Model:
    """A GPT and its batch. With `experts`, every `every`-th feed-forward network is a choice of `top` among them.

    capacity: places that are kept for each token's choice. Empty ones are computed and sent, too.
    """

    config: GPTConfig
    batch: int  # sequences in a step, of all copies
    experts: int = 1
    top: int = 1
    every: int = 2
    capacity: float = 1.25

    @property
    def chosen(self) -> int:
        """The layers that have experts."""
        return self.config.layers // self.every if self.experts > 1 else 0

    @property
    def tokens(self) -> int:
        return self.batch * self.config.context

    def block(self) -> tuple[int, int, int]:
        """(parameters of a layer that tensor ranks cut, that all of them have, of the network that experts replace)."""
        C, F, b = self.config.width, self.config.hidden or 4 * self.config.width, int(self.config.bias)
        return 4 * C * C + 3 * b * C, (2 + 4 * b) * C, 2 * C * F + b * F

    def ends(self, tensor: int = 1) -> int:
        """Those of one rank's tables and of the last norm. Ranks share a padded vocabulary, a multiple of 128 each."""
        c, each = self.config, 128 * tensor
        V = c.vocab_size if tensor == 1 else -(-c.vocab_size // each) * each
        tables = V // tensor * c.width * (1 if c.tied else 2)
        return tables + c.context * c.width + (0 if c.post_norm else (1 + c.bias) * c.width)

    def flops(self, again: bool) -> float:
        """Of a step: 2 operations a weight and token forward, 4 backward; 2 again where forward is done anew."""
        c, s = self.config, self.config.context
        attention, network = 4 * c.width**2 + 2 * s * c.width, 2 * c.width * (c.hidden or 4 * c.width)
        routed = self.chosen * (self.top * self.capacity * network + c.width * self.experts)
        layers = c.layers * attention + (c.layers - self.chosen) * network + routed
        return 2 * self.tokens * ((4 if again else 3) * layers + 3 * c.vocab_size * c.width)


@dataclass(frozen=True)
class Bytes:
    """Of one number each. Usual: bfloat16, with gradients, weights and AdamW's two moments in float32."""

    weight: int = 2
    gradient: int = 4
    state: int = 12
    activation: int = 2


@dataclass(frozen=True)
class Machine:
    """GPUs in boxes. A GPU computes flops * width / (width + knee) operations a second: small matrices are slower."""

    flops: float
    knee: float
    memory: float  # bytes of a GPU
    near: float  # bytes a second between two GPUs of a box
    far: float  # from box to box
    latency: float  # seconds a hop
    box: int  # GPUs in one
    stream: float  # bytes a second from a GPU's own memory


# flops and knee of an A100 are fitted to two rows of PUBLISHED; flops of a V100 is what its paper says that Megatron-LM
# reached on one. All bandwidths and latencies are assumed.
MACHINES = {
    "a100": Machine(190e12, 330, 80e9, 235e9, 22e9, 2e-6, 8, 1.3e12),
    "v100": Machine(39e12, 0, 32e9, 120e9, 6.25e9, 10e-6, 16, 0.7e12),
}


@dataclass(frozen=True)
class Cut:
    """Who does what."""

    data: int = 1
    tensor: int = 1
    pipeline: int = 1
    experts: int = 1  # ranks, of the data ranks, among which a layer's experts are shared out
    micro: int = 1  # sequences in a micro-batch
    chunks: int = 1
    zero: int = 1
    again: bool = True  # keep what goes into a layer only, and do its forward again

    @property
    def gpus(self) -> int:
        return self.data * self.tensor * self.pipeline

    def batches(self, model: Model) -> int:
        """m, the micro-batches of one copy."""
        return model.batch // (self.data * self.micro)


def divide(n: int, what: str, flag: str, ranks: int) -> None:
    """Refuse parts that are not equal."""
    if n % ranks:
        around = [next((i for i in order if n % i == 0), n) for order in (range(ranks, 0, -1), range(ranks, n))]
        would = " or ".join(map(str, dict.fromkeys(around)))
        raise ValueError(f"{n} {what} cannot be cut into equal parts by {flag} {ranks}; {would} would do")


def check(model: Model, cut: Cut) -> None:
    """Refuse what cannot be cut so."""
    for flag, n, most in ("--top", model.top, model.experts), ("--every", model.every, model.config.layers):
        if n > most:
            raise ValueError(f"{flag} {n} is more than there are; take {most} at most, or more experts and layers")
    divide(model.config.heads, "heads", "--tensor", cut.tensor)
    divide(model.config.layers, "layers", "--pipeline", cut.pipeline)
    divide(model.experts, "experts", "--experts-over", cut.experts)
    divide(cut.data, "copies of the model", "--experts-over", cut.experts)
    divide(model.config.layers // cut.pipeline, "layers of a stage", "--chunks", cut.chunks)
    if cut.chunks > 1 and (cut.pipeline == 1 or cut.batches(model) % cut.pipeline):
        why = f"a --pipeline whose stages divide {cut.batches(model)} micro-batches, and {cut.pipeline} is none"
        raise ValueError(f"--chunks {cut.chunks} needs {why}; leave it out")
    copies = f"{cut.data} copies x --micro-batch {cut.micro} ="
    divide(model.batch, "sequences of --batch", copies, cut.data * cut.micro)


def parameters(model: Model, cut: Cut) -> tuple[int, int]:
    """(parameters of the first stage's GPU but for its experts, those of its experts)."""
    L, stage, C, b = model.config.layers, cut.pipeline, model.config.width, int(model.config.bias)
    matrices, whole, network = model.block()
    chosen, E = model.chosen, model.experts
    shared = (L * matrices + (L - chosen) * network) // cut.tensor + L * whole + chosen * C * (E - b)
    routed = chosen * E * (network // cut.tensor + b * C) // cut.experts
    return shared // stage + model.ends(cut.tensor), routed // stage


def memory(model: Model, cut: Cut, size: Bytes = Bytes()) -> dict[str, float]:
    """Bytes on a GPU of the first stage, which has the most micro-batches under way (1F1B)."""
    c, t, p, v, m = model.config, cut.tensor, cut.pipeline, cut.chunks, cut.batches(model)
    dense, experts = parameters(model, cut)
    held = lambda stage: dense / (cut.data if cut.zero >= stage else 1) + experts / (
        cut.data // cut.experts if cut.zero >= stage else 1)  # fmt: skip
    # Of a layer (Korthikanti et al. 2022, arXiv:2205.05198), in numbers of two bytes.
    s, tokens = c.context, cut.micro * c.context * c.width / 2
    layer = tokens * (10 + 24 / t + 5 * c.heads * s / (c.width * t))
    alive = c.layers / p * min(m, p + (p - 1) / v if v > 1 else p)
    kept = alive * 2 * tokens + layer if cut.again else alive * layer
    logits = cut.micro * s * c.vocab_size / t * 4 if p == 1 else 0
    return {"weights": size.weight * held(3), "gradients": size.gradient * held(2), "optimizer": size.state * held(1),
            "activations": size.activation * kept + logits}  # fmt: skip


@dataclass(frozen=True)
class Traffic:
    """What a GPU sends in a step: `calls` times `each` bytes, in so many hops; near, within a box, or far."""

    what: str
    calls: float
    each: float
    hops: int
    near: bool

    @property
    def bytes(self) -> float:
        return self.calls * self.each

    def seconds(self, machine: Machine) -> float:
        return self.calls * (self.hops * machine.latency + self.each / (machine.near if self.near else machine.far))


def traffic(model: Model, cut: Cut, size: Bytes = Bytes(), box: int = 8) -> list[Traffic]:
    """All of a step. Neighbours in a box share tensors; pipelines are laid out next, copies last."""
    c, t, p, d, e, m = model.config, cut.tensor, cut.pipeline, cut.data, cut.experts, cut.batches(model)
    ring = lambda n: (n - 1) / n
    hidden = size.activation * cut.micro * c.context * c.width  # a micro-batch between two layers
    passes = 3 if cut.again else 2  # forward, forward again, backward: two sums each, and one at either end
    sums = m * (2 * passes * c.layers / p + (2 if p == 1 else 1))
    found = [Traffic("tensor", sums, 2 * hidden * ring(t), 2 * (t - 1), t <= box)]
    found.append(Traffic("pipeline", 2 * m * cut.chunks * (p > 1), hidden / t, 1, t * p <= box))
    routed = model.top * model.capacity * hidden * ring(e)
    found.append(Traffic("experts", 2 * passes * m * model.chosen / p, routed, e - 1, t * p * e <= box))
    for what, n, count in zip(("gradients", "experts' gradients"), (d, d // e), parameters(model, cut)):
        near = t * p * d <= box
        scatters, gathers = ((2, 0), (1, 1), (m, 1), (m, 2 * m))[cut.zero]  # 0: the gathering is of gradients
        found.append(Traffic(what, scatters, size.gradient * count * ring(n), n - 1, near))
        found.append(Traffic("weights", gathers, size.weight * count * ring(n), n - 1, near))
    return [one for one in found if one.bytes]


def step(model: Model, cut: Cut, machine: Machine, size: Bytes = Bytes()) -> dict[str, float]:
    """Seconds, by cause."""
    width, by = model.config.width, {}
    by["compute"] = model.flops(cut.again) / cut.gpus / (machine.flops * width / (width + machine.knee))
    for one in traffic(model, cut, size, machine.box):
        by[one.what] = by.get(one.what, 0) + one.seconds(machine)
    filled = sum(by.get(what, 0) for what in ("compute", "tensor", "experts", "pipeline"))
    by["bubble"] = filled * (cut.pipeline - 1) / (cut.chunks * cut.batches(model))
    dense, experts = parameters(model, cut)
    mine = dense / cut.data + experts * cut.experts / cut.data if cut.zero else dense + experts
    by["optimizer"] = mine * (size.weight + size.gradient + 2 * size.state) / machine.stream
    return by


def tflops(model: Model, cut: Cut, machine: Machine, size: Bytes = Bytes()) -> float:
    """Each GPU's, as papers count: what is done again counts."""
    return model.flops(cut.again) / cut.gpus / sum(step(model, cut, machine, size).values()) / 1e12


def cuts(model: Model, gpus: int, given: dict, box: int) -> Iterator[Cut]:
    """Cuts for so many GPUs that leave what is `given` as it is."""
    divisors = lambda n: [i for i in range(1, n + 1) if n % i == 0]
    choose = lambda name, usual: [given[name]] if name in given else usual
    tensors = choose("tensor", [t for t in divisors(model.config.heads) if t <= box])
    for t, p in itertools.product(tensors, choose("pipeline", divisors(model.config.layers))):
        if gpus % (t * p) == 0:
            d = gpus // (t * p)
            micros = choose("micro", [b for b in (1, 2, 4, 8, 16, 32) if b * d <= model.batch] or [1])
            chunks = choose("chunks", [v for v in divisors(model.config.layers // p) if v <= (8 if p > 1 else 1)])
            ranks = choose("experts", divisors(math.gcd(d, model.experts)))
            forwards, stages = choose("again", [False, True]), [given.get("zero", 1)]
            for how in itertools.product(ranks, micros, chunks, stages, forwards):
                yield Cut(d, t, p, *how)


def search(model: Model, gpus: int, machine: Machine, given: dict) -> list[Cut]:
    """The cuts that fit into memory, the fastest first; ValueError if there are none."""
    copy = Cut(tensor=given.get("tensor", 1), pipeline=given.get("pipeline", 1))
    check(model, copy)
    divide(model.experts, "experts", "--experts-over", given.get("experts", 1))
    if gpus % copy.gpus:
        would = f"--gpus {gpus // copy.gpus * copy.gpus or copy.gpus} would do"
        raise ValueError(f"{gpus} GPUs are no whole copies of --tensor x --pipeline = {copy.gpus}; {would}")
    found, wrong = {}, []
    for cut in cuts(model, gpus, given, machine.box):
        try:
            check(model, cut)
            found[cut] = sum(memory(model, cut).values())
        except ValueError as error:
            wrong.append(error)
    if not found:
        raise wrong[0]
    if (least := min(found.values())) > machine.memory:
        needed = f"{least / 1e9:,.0f} GB of each of {gpus} GPUs, which have {machine.memory / 1e9:.0f}"
        raise ValueError(f"the smallest of these cuts takes {needed}; take more --gpus, or leave some flags out")
    fitting = [cut for cut in found if found[cut] <= machine.memory]
    return sorted(fitting, key=lambda cut: sum(step(model, cut, machine).values()))


MEMORY, COPY, FITTED = "from memory, not checked", "from a copy of the paper", "a speed is fitted to it; "


@dataclass(frozen=True)
class Row:
    """A run that was published: TFLOP/s of each GPU, and how we know them."""

    name: str
    shape: tuple[int, int, int]  # layers, heads, width
    cut: Cut
    batch: int
    published: float | None
    known: str = MEMORY
    machine: str = "a100"
    context: int = 2048
    size: Bytes = Bytes()


def _a100(name: str, shape: tuple, tensor: int, pipeline: int, chunks: int, gpus: int, *others) -> Row:
    return Row(name, shape, Cut(gpus // (tensor * pipeline), tensor, pipeline, chunks=chunks, zero=0), *others)


HALF = Bytes(gradient=2)
MEGATRON = (72, 32, 3072)
# Narayanan et al. 2021 (it prints no chunks; here the fewest above one that divide), what it says of GPT-3, and of ZeRO
# alone; Shoeybi et al. 2019, in shares of one GPU's 39 TFLOP/s; T-NLG of 2020, whose speed is not known.
PUBLISHED = (
    _a100("1.7B", (24, 24, 2304), 1, 1, 1, 32, 512, 137, FITTED + MEMORY),
    _a100("3.6B", (30, 32, 3072), 2, 1, 1, 64, 512, 138),
    _a100("7.5B", (36, 32, 4096), 4, 1, 1, 128, 512, 142),
    _a100("18.4B", (40, 48, 6144), 8, 1, 1, 256, 1024, 135),
    _a100("39.1B", (48, 64, 8192), 8, 2, 2, 512, 1536, 138),
    _a100("76.1B", (60, 80, 10240), 8, 4, 3, 1024, 1792, 140),
    _a100("145.6B", (80, 96, 12288), 8, 8, 2, 1536, 2304, 148, COPY),
    _a100("310.1B", (96, 128, 16384), 8, 16, 2, 1920, 2160, 155),
    _a100("529.6B", (105, 128, 20480), 8, 35, 3, 2520, 2520, 163),
    _a100("1008B", (128, 160, 25600), 8, 64, 2, 3072, 3072, 163, FITTED + COPY),
    _a100("GPT-3, a cut of ours", (96, 96, 12288), 8, 8, 2, 1024, 1536, 140, COPY),
    Row("GPT-3, ZeRO-3 alone", (96, 96, 12288), Cut(1536, zero=3), 1536, 44, COPY, size=HALF),
    Row("Megatron-LM 2.5B", (54, 20, 1920), Cut(1, 2, micro=8, zero=0), 8, 0.95 * 39, machine="v100", context=1024),
    Row("Megatron-LM 4.2B", (64, 24, 2304), Cut(1, 4, micro=8, zero=0), 8, 0.82 * 39, machine="v100", context=1024),
    Row("Megatron-LM 8.3B", MEGATRON, Cut(1, 8, micro=8, zero=0), 8, 0.77 * 39, machine="v100", context=1024),
    Row("Megatron-LM 8.3B", MEGATRON, Cut(64, 8, micro=8, zero=0), 512, 15100 / 512, COPY, "v100", 1024, HALF),
    Row("T-NLG", (78, 28, 4256), Cut(64, 4, micro=8), 512, None, machine="v100", context=1024, size=HALF),
)


def predicted(row: Row) -> tuple[Model, float, float]:
    """(the model, TFLOP/s of a GPU, those if the gradients were summed while backward goes on)."""
    layers, heads, width = row.shape
    model = Model(GPTConfig(51200, row.context, layers, heads, width), row.batch)
    check(model, row.cut)
    seconds = step(model, row.cut, MACHINES[row.machine], row.size)
    work, hidden = model.flops(row.cut.again) / row.cut.gpus / 1e12, seconds.get("gradients", 0)
    return model, work / sum(seconds.values()), work / (sum(seconds.values()) - hidden)


def table() -> str:
    """PUBLISHED beside what is predicted."""
    lines = [("run", "GPUs", "data x tensor x pipeline", "batch", "parameters", "a GPU's", "GB", "TFLOP/s", "hidden",
              "published", "apart", "this figure")]  # fmt: skip
    for row in PUBLISHED:
        model, speed, hidden = predicted(row)
        held = sum(memory(model, row.cut, row.size).values()) / 1e9
        known = (f"{row.published:.0f}", f"{speed / row.published - 1:+.0%}", row.known) if row.published else "---"
        ways = f"{row.cut.data} x {row.cut.tensor} x {row.cut.pipeline}"
        counts = f"{sum(parameters(model, Cut())):.3e}", f"{parameters(model, row.cut)[0]:.2e}"
        lines.append((row.name, f"{row.cut.gpus:,} {row.machine}", ways, f"{row.batch:,}", *counts, f"{held:.0f}",
                      f"{speed:.0f}", f"{hidden:.0f}", *known))  # fmt: skip
    notes = ["TFLOP/s of a GPU, with what is done again; hidden: if gradients were summed while backward goes on.",
             "Two speeds of an A100 are fitted, to the rows that say so; all other figures are predicted."]  # fmt: skip
    return "\n".join([markdown(lines), "", *notes])


def described(model: Model, cut: Cut, machine: Machine) -> str:
    """What a GPU holds, and what takes its time."""
    held, seconds, sent = memory(model, cut), step(model, cut, machine), {}
    for one in traffic(model, cut, box=machine.box):
        sent[one.what] = sent.get(one.what, 0) + one.bytes
    lines = [("a step", "seconds", "share", "GB sent")]
    for what, took in seconds.items():
        share, gigabytes = took / sum(seconds.values()), f"{sent[what] / 1e9:,.2f}" if what in sent else "-"
        lines.append((what, f"{took:.3f}", f"{share:.1%}", gigabytes))
    sizes = ", ".join(f"{what} {size / 1e9:.1f}" for what, size in held.items())
    return f"GB of a GPU: {sizes}\n\n{markdown(lines)}"
