"""Distillation: a small model learns from a large one's opinions instead of from bare answers.

A teacher that gives "mat" 60% and "rug" 30% says more about the language than the one word that came (Hinton et al.
2015, arXiv:1503.02531). What a student may be made to follow, each with its weight in the loss:

    soft        the teacher's probabilities at temperature T:   T^2 KL(teacher || student)
    hard        the true answers, as without a teacher
    cosine      the direction of the last hidden vectors:       1 - cos(student, teacher)
    hidden      every layer's hidden vectors, through learned projections:        mean (h_s W - h_t)^2
    attention   every layer's attention scores, before softmax:                  mean (a_s - a_t)^2
    embedding   what goes into the first layer, through a learned projection

soft, hard and cosine with the weights 5, 2, 1 are DistilBERT's triple loss (Sanh et al. 2019, arXiv:1910.01108); its
student begins as every other layer of the teacher. The last three are TinyBERT's (Jiao et al. 2020, arXiv:1909.10351),
whose student may be narrower. A generator can also be taught by its teacher's writing (Kim & Rush 2016,
arXiv:1606.07947): see `written_by` and TeacherWritten.
"""

import copy
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from models.config import option
from models.contract import Model
from models.generate import generate
from models.schema import NotNegative, Positive, check_fields
from nn import Linear, Module
from nn.compression.prune import prune, shrink
from nn.compression.surgery import keep_layers, stacks
from nn.watch import watch
from tinytensor import Tensor, no_grad, ops, random
from tinytensor.ops.softmax import IGNORED
from train.objectives import Objective
from train.plots import draw_panels
from train.report import Report

ALONE = "-alone"  # in the names of the files of a student's training without its teacher


@dataclass(frozen=True)
class DistillConfig:
    """What the student follows, and how much."""

    temperature: Positive = option(2.0, "T, which flattens the probabilities of teacher and student")
    soft: NotNegative = option(5.0, "weight of the teacher's probabilities")
    hard: NotNegative = option(2.0, "weight of the true answers")
    cosine: NotNegative = option(1.0, "weight of the direction of the last hidden vectors")
    hidden: NotNegative = option(0.0, "weight of every layer's hidden vectors (TinyBERT)")
    attention: NotNegative = option(0.0, "weight of every layer's attention scores (TinyBERT)")
    embedding: NotNegative = option(0.0, "weight of the first layer's inputs (TinyBERT)")

    def __post_init__(self):
        check_fields(self)
        weights = (self.soft, self.hard, self.cosine, self.hidden, self.attention, self.embedding)
        if max(weights) == 0:
            raise ValueError("the weights of the losses must not all be 0")


class Distillation(Module, Model):
    """A student with its teacher looking on, as a model for the Trainer. Only student and projections are trained.

    In evaluation the loss is the student's own.
    """

    def __init__(self, student: Model, teacher: Model, config: DistillConfig):
        self.config, self.student = config, student
        self.teacher = Aside(teacher.eval())
        C, D = student.config.width, teacher.config.width
        if config.cosine and C != D:
            raise ValueError(f"cosine compares vectors of one width, not {C} and {D}; give --hidden 1 --cosine 0")
        project = lambda: Linear(C, D, bias=False, weight_init=lambda shape: np.eye(*shape, dtype=np.float32))
        self.hidden = [project() for _ in stacks(student)[0]] if config.hidden else []
        self.embedding = project() if config.embedding else None

    def counts(self, batch: dict) -> dict[str, int]:
        """Those of the student, and how many tokens and answers there are to agree with the teacher on."""
        real = self.student.real(batch)
        tokens = batch["ids"].size if real is None else int(real.sum())
        return self.student.counts(batch) | {"tokens": tokens, "answers": int(self.student.meaningful(batch).sum())}

    def scores(self, batch: dict) -> Tensor:
        return self.student.scores(batch)

    def right(self, batch: dict):
        return self.student.right(batch)

    def loss(self, batch: dict, counts: dict | None = None) -> Tensor:
        counts = counts or self.divisors(batch)
        if not self.training:
            return self.student.loss(batch, counts)
        with no_grad():
            wanted = trace(self.teacher.model, batch)
        seen = trace(self.student, batch)
        c, tokens = self.config, counts["tokens"]
        real = self.student.real(batch)
        mask = None if real is None else real.reshape(-1, real.shape[-1])  # a row for each text
        pairs = layer_pairs(len(seen.streams), len(wanted.streams))
        right, each, number = self.student.right(batch), self.student.meaningful(batch), next(iter(counts.values()))
        parts = []  # (weight, sum, number of things it is the sum over)
        if c.soft and self.student.answers_are_numbers:
            parts.append((c.soft, squares(seen.scores, wanted.scores), counts["answers"]))
        elif c.soft:
            parts.append((c.soft, soft_loss(seen.scores, wanted.scores, c.temperature, each), counts["answers"]))
        if c.hard and self.student.answers_are_numbers:
            parts.append((c.hard, squares(seen.scores, Tensor(right)), number))
        elif c.hard:
            parts.append((c.hard, ops.cross_entropy(seen.scores, right, reduction="sum"), number))
        if c.cosine:
            parts.append((c.cosine, cosine_loss(seen.streams[-1], wanted.streams[-1], mask), tokens))
        if c.embedding:
            parts.append((c.embedding, square_loss(self.embedding(seen.inputs), wanted.inputs, mask), tokens))
        for project, (own, other) in zip(self.hidden, pairs):
            parts.append((c.hidden, square_loss(project(seen.streams[own]), wanted.streams[other], mask), tokens))
        for own, other in pairs if c.attention else ():
            parts.append((c.attention, attention_loss(seen.heads[own], wanted.heads[other], mask), tokens))
        first, *others = (value * (weight / max(1, number)) for weight, value, number in parts)
        return sum(others, first)


class Aside:
    """Holds a model without making it a part of the one that holds it: not trained, not saved."""

    def __init__(self, model: Module):
        self.model = model


# What a model thinks


@dataclass
class Trace:
    """What a model made of a batch on its way. A stream is (B, T, C); heads are (attention layer, its q, k and v)."""

    scores: Tensor | None = None
    inputs: Tensor | None = None
    streams: list[Tensor] = field(default_factory=list)
    heads: list[tuple[Module, Tensor]] = field(default_factory=list)


def trace(model: Module, batch: dict) -> Trace:
    """Run a model and note what goes into its first block, what comes out of each, and what it answers."""
    found, blocks = Trace(), stacks(model)[0]
    attentions = {id(block.attention.qkv): block.attention for block in blocks}

    def see(layer: Module, arguments: tuple, result) -> None:
        if id(layer) in attentions:
            found.heads.append((attentions[id(layer)], result))
            return
        if found.inputs is None:
            found.inputs = arguments[0].full
        found.streams.append(result.full)

    with watch([*blocks, *(block.attention.qkv for block in blocks)], see):
        found.scores = model.scores(batch)
    return found


# The losses: sums over tokens or texts, so that the shards of a batch add up


def wide(x: Tensor) -> Tensor:
    """In 32 bits, where squares and small differences of 16-bit numbers do not get lost; the teacher has that many."""
    return x.astype(np.float32) if x.dtype.itemsize == 2 else x


def soft_loss(student: Tensor, teacher: Tensor, temperature: float, mask=None) -> Tensor:
    """T^2 KL(teacher || student) of probabilities softmax(logits / T), summed over all but the last axis.

    T^2 makes up for the gradient, which shrinks by as much, so that the weight of the loss means the same at every T.
    """
    student, teacher = wide(student), wide(teacher.detach())
    log_p, log_q = (teacher * (1 / temperature)).log_softmax(), (student * (1 / temperature)).log_softmax()
    nats = ((log_p - log_q) * log_p.exp()).sum(axis=-1)
    return _sum(nats, mask) * temperature**2


def squares(student: Tensor, teacher: Tensor) -> Tensor:
    """The sum of (student - teacher)^2, of answers that are numbers."""
    difference = wide(student) - wide(teacher.detach())
    return (difference * difference).sum()


def cosine_loss(student: Tensor, teacher: Tensor, mask=None) -> Tensor:
    """1 - cos(student, teacher), summed over tokens."""
    student, teacher = wide(student), wide(teacher.detach())
    dot = (student * teacher).sum(axis=-1)
    lengths = ((student * student).sum(axis=-1) * (teacher * teacher).sum(axis=-1) + 1e-12).sqrt()
    return _sum(1 - dot / lengths, mask)


def square_loss(student: Tensor, teacher: Tensor, mask=None) -> Tensor:
    """The mean over a vector of (student - teacher)^2, summed over tokens."""
    difference = wide(student) - wide(teacher.detach())
    return _sum((difference * difference).mean(axis=-1), mask)


def attention_loss(student: tuple[Module, Tensor], teacher: tuple[Module, Tensor], mask=None) -> Tensor:
    """The mean over heads and over the keys that a query sees of the squared difference of scores q k / sqrt(D).

    Summed over queries. Where the numbers of heads differ, it is their mean scores that are compared.
    """
    a, b = (attention_scores(layer, wide(qkv)) for layer, qkv in (student, (teacher[0], teacher[1].detach())))
    if a.shape[1] != b.shape[1]:
        a, b = (x.mean(axis=1, keepdims=True) for x in (a, b))
    difference = a - b
    T = a.shape[-1]
    seen = np.tri(T, dtype=a.dtype)[None] if student[0].causal else np.ones((1, T, T), a.dtype)
    if mask is not None:
        seen = seen * np.asarray(mask)[:, None, :]
    share = seen / np.maximum(1, seen.sum(axis=-1, keepdims=True))
    return _sum(((difference * difference).mean(axis=1) * share.astype(a.dtype)).sum(axis=-1), mask)


def attention_scores(attention: Module, qkv: Tensor) -> Tensor:
    """(B, H, T, T) from q, k and v side by side, (B, T, 3 H D)."""
    if attention.groups > 1 or attention.rotary:
        raise ValueError("attention scores are compared of heads with keys of their own, without rotary positions")
    (B, T, _), H, D = qkv.shape, attention.heads, attention.head_width
    q, k = (qkv[:, :, n * H * D : (n + 1) * H * D].reshape(B, T, H, D).swapaxes(1, 2) for n in (0, 1))
    return (q * D**-0.5) @ k.swapaxes(2, 3)


def _sum(values: Tensor, mask=None) -> Tensor:
    """Over the tokens that are no padding."""
    return values.sum() if mask is None else (values * np.asarray(mask, values.dtype)).sum()


class TaughtReport(Report):
    """Draws what the student follows apart from its held-out loss: they are other things, in other units."""

    def draw(self, path: Path) -> bool:
        lines, alone = ([vars(said) for _, said in report.lines()] for report in (self, self.alone()))
        taken = lambda lines, name: [(line["step"], line[name]) for line in lines if line[name] is not None]
        held_out = {"taught": taken(lines, "val_loss"), "alone": taken(alone, "val_loss")}
        panels = [({"taught": taken(lines, "loss")}, "what is followed, in all"),
                  ({name: points for name, points in held_out.items() if points}, "held-out loss")]  # fmt: skip
        return draw_panels(path, panels, "step", f"{path.parent.name}: a student's training and its held-out loss")

    def alone(self) -> Report:
        """Of the same student that learned without the teacher."""
        return Report(self.path.parent, self.steps, metrics=f"metrics{ALONE}.jsonl")


# The student


def layer_pairs(student: int, teacher: int) -> list[tuple[int, int]]:
    """Which layer of the teacher each of the student's follows: evenly spread, the last one the last."""
    return [(layer, (layer + 1) * teacher // student - 1) for layer in range(student)]


def alternate_layers(teacher: int, student: int) -> list[int]:
    """Which of the teacher's layers the student begins as: evenly spread, with the first and the last.

    12 -> 6 gives 0, 2, 4, 7, 9, 11, DistilBERT's choice.
    """
    if not 1 <= student <= teacher:
        raise ValueError(f"a student of {student} layers cannot be made of a teacher's {teacher}")
    return np.rint(np.linspace(0, teacher - 1, student)).astype(int).tolist() if student > 1 else [teacher - 1]


def make_student(teacher: Module, layers: int, keep: float = 1.0) -> Module:
    """A copy of some of the teacher's layers, with the share `keep` of their neurons, those of the largest weights."""
    student = copy.deepcopy(teacher)
    keep_layers(student, [(blocks, alternate_layers(len(blocks), layers)) for blocks in stacks(student)])
    if keep < 1:
        shrink(prune(student, 1 - keep, "neurons"))
    return student


def written_by(teacher: Module, starts: np.ndarray, seed: int, temperature: float = 1.0, rows: int = 64) -> np.ndarray:
    """What a GPT writes after each of `starts` (N, k), up to its context: one long text for the student to read.

    The student then learns the teacher's language rather than the world's, which is simpler (Kim & Rush 2016).
    """
    count = teacher.config.context - starts.shape[1]
    write = lambda some: generate(teacher, some.astype(int), count, temperature=temperature).reshape(-1)
    with random.seeded(seed):
        return np.concatenate([write(starts[i : i + rows]) for i in range(0, len(starts), rows)])


class TeacherWritten(Objective):
    """An objective whose targets are what the teacher, an encoder-decoder, answers to the inputs of another."""

    def __init__(self, objective: Objective, teacher: Module):
        self.objective, self.teacher, self.one_shape = objective, teacher, objective.one_shape
        self.check, self.evaluation_batches = objective.check, objective.evaluation_batches
        self.evaluation_batch = objective.evaluation_batch

    def training_batch(self, data, number: int) -> dict[str, np.ndarray]:
        batch, config = self.objective.training_batch(data, number), self.teacher.config
        rows, length = batch["targets"].shape
        start = np.full((rows, 1), config.start_id)
        reads = dict(source=batch["ids"], source_mask=batch.get("mask"))
        written = generate(self.teacher, start, length, end=config.eos_id, temperature=0, **reads)[:, 1:]
        targets = np.full((rows, length), IGNORED)
        targets[:, : written.shape[1]] = written
        over = np.cumsum(targets == config.eos_id, axis=1) - (targets == config.eos_id) > 0  # behind the first end
        targets[over] = IGNORED
        return batch | {"targets": targets}
