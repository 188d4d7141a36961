"""Several batches to an update: their gradient is that of the one batch they make up, for whatever is learned.

The batches have unequal numbers of targets, and of rows. In float64, so that what differs is no rounding.
"""

from dataclasses import dataclass

import numpy as np
import pytest

import tinytensor as tt
from models.families import FAMILIES
from models.inputs import FILL
from models.tokenizers import ElmoCharacters
from nn import Dropout
from nn.attention import Attention
from tests.helpers import assert_close
from tests.test_matrix import ROWS, examples_of
from tinytensor.ops.softmax import IGNORED
from train import finetune, recipes
from train.compression.distill import Distillation, DistillConfig, make_student
from train.data import stories
from train.objectives import Objective
from train.tasks import TASKS
from train.trainer import Loop, TrainConfig, Trainer

N = 3  # batches to an update


@dataclass
class Uneven(Objective):
    """The batches of another objective, some with few targets, some with none."""

    objective: Objective

    def check(self, data, what: str) -> None: ...

    def training_batch(self, data, number: int) -> dict[str, np.ndarray]:
        batch = dict(self.objective.training_batch(data, number))
        for name in ("targets", "back_targets", "next"):
            if name in batch and number % N:
                kept = np.random.default_rng(number).random(batch[name].shape) < 0.2 * (number % N == 1)
                batch[name] = np.where(kept, batch[name], IGNORED)
        return batch


@dataclass
class Joined(Objective):
    """N batches of another objective as one, filled up with padding."""

    objective: Objective

    def check(self, data, what: str) -> None: ...

    def training_batch(self, data, number: int) -> dict[str, np.ndarray]:
        batches = [self.objective.training_batch(data, number * N + i) for i in range(N)]
        return {name: joined(name, [batch[name] for batch in batches]) for name in batches[0]}


def joined(name: str, arrays: list[np.ndarray]) -> np.ndarray:
    longest = np.max([array.shape[1:] for array in arrays], axis=0).tolist()
    widths = lambda array: [(0, 0), *((0, most - n) for most, n in zip(longest, array.shape[1:]))]
    return np.concatenate([np.pad(array, widths(array), constant_values=FILL.get(name, 0)) for array in arrays])


def exact(model):
    """In float64 and without dropout, whose chance differs between workers."""
    for parameter in model.parameters():
        parameter.data = parameter.data.astype(np.float64)
    for module in model.modules():
        if isinstance(module, Dropout):
            module.p = 0.0
        if isinstance(module, Attention):
            module.dropout = 0.0
    return model


def gradient(model, objective, data, accumulate: int, workers: int, folder) -> tuple[float, np.ndarray]:
    """(loss, gradient) of one update."""
    config = TrainConfig(batch=4, accumulate=accumulate, workers=workers, worker_kind="threads")
    trainer = Trainer(model, objective, data, data, config, folder, None)
    model.train()

    def work(comm):
        loop = Loop(trainer, comm)
        loss, *_ = loop.gradient(0, comm.rank)
        own = loop.optimizer.parts
        comm.reduce_scatter(loop.grad, own)
        return float(comm.all_reduce(np.array([loss]))[0]), comm.all_gather(loop.grad, own).copy()

    return trainer.comm.run(work)


def assert_accumulates(make, folder, joins=Joined) -> None:
    """make() -> (model, objective, data), the same each time."""
    model, objective, data = make()
    loss, whole = gradient(model, joins(objective), data, 1, 1, folder)
    assert np.abs(whole).max() > 0
    for workers in (1, 3):
        model, objective, data = make()
        got = gradient(model, objective, data, N, workers, folder)
        assert got[0] == pytest.approx(loss, rel=1e-9)
        assert_close(got[1], whole, 1e-9)


TEXT = stories.corpus(30_000).text
TOKENIZERS: dict = {}


def tokenizer_of(family: str):
    """One of the usual kind, learned from TEXT when it is first asked for."""
    recipe = ROWS[family][0]
    if recipe.usual[0] not in TOKENIZERS:
        TOKENIZERS[recipe.usual[0]] = recipe.tokenizers[recipe.usual[0]]([TEXT], 320)
    return TOKENIZERS[recipe.usual[0]]


def pretrained(family: str, **shape):
    record, tokenizer = FAMILIES[family], tokenizer_of(family)
    ids = {name: of(tokenizer) for name, of in record.ids.items()}
    with tt.random.seeded(1):
        return record.model(record.config(**(ROWS[family][1] | ids | {"vocab_size": tokenizer.vocab_size} | shape)))


def pretraining(family: str, wrap=lambda model: model, shape=(), **settings):
    """What makes (model, objective, data)."""
    model, tokenizer = exact(pretrained(family, **dict(shape))), tokenizer_of(family)
    objective = recipes.OBJECTIVES[FAMILIES[family].objective]
    made = objective.make(model.config, TrainConfig(batch=4), objective.settings(**settings), tokenizer)
    return exact(wrap(model)), Uneven(made), objective.encoder(tokenizer).encode_array(TEXT)


def test_gpt(tmp_path):
    assert_accumulates(lambda: pretraining("gpt", shape={"context": 12}), tmp_path)


@pytest.mark.parametrize("family, pairs", [("bert", "next"), ("bert", "none"), ("roberta", "none"), ("albert", "order"),
                                           ("distilbert", "none")])  # fmt: skip
def test_masked_words_and_next_sentences(family, pairs, tmp_path):
    assert_accumulates(lambda: pretraining(family, pairs=pairs), tmp_path)


@pytest.mark.parametrize("objective", ["spans", "next", "prefix", "deshuffle"])
def test_t5(objective, tmp_path):
    assert_accumulates(lambda: pretraining("t5", objective=objective, context=16), tmp_path)


@pytest.mark.parametrize("softmax", ["full", "adaptive"])
def test_elmo_which_carries_its_state_from_batch_to_batch(softmax, tmp_path):
    """The one batch is a longer text, cut for the gradient: the sums of its parts by the number of all targets."""
    make = lambda: pretraining("elmo", shape={"softmax": softmax}, context=6)
    model, objective, data = make()
    batches = [objective.training_batch(data, number) for number in range(N)]
    sums = {"forward": "targets", "backward": "back_targets"}
    numbers = {part: sum(int((batch[name] != IGNORED).sum()) for batch in batches) for part, name in sums.items()}
    state, total = model.new_state(4), 0.0
    for batch in batches:
        loss = model.loss(batch | state, numbers)
        loss.backward()
        total += loss.item()
    whole = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    for workers in (1, 3):
        model, objective, data = make()
        loss, got = gradient(model, objective, data, N, workers, tmp_path)
        assert loss == pytest.approx(total, rel=1e-9)
        ordered = sorted(model.named_parameters(), key=lambda named: named[1].ndim < 2)
        expected = [whole.get(name, np.zeros(p.shape)).reshape(-1) for name, p in ordered]
        assert_close(got, np.concatenate(expected), 1e-9)


@pytest.mark.parametrize("family, settings", [("gpt", {}), ("bert", {"pairs": "next"}), ("t5", {"context": 16})])
def test_distillation(family, settings, tmp_path):
    weights = dict(cosine=0.5, hidden=0.3, attention=0.2) if family == "gpt" else dict(cosine=0.5)
    teacher = exact(pretrained(family))

    def wrap(model):
        with tt.random.seeded(2):
            return Distillation(make_student(model, 1), teacher, DistillConfig(**weights))

    assert_accumulates(lambda: pretraining(family, wrap, **settings), tmp_path)


@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize("family", ["gpt", "bert", "elmo", "t5", "roberta"])
def test_fine_tuning(family, kind, tmp_path):
    """Ten examples are batches of 4, 4 and 2."""
    if family != "t5" and (kind == "text2text" or (TASKS[kind].talks and family != "gpt")):
        return

    def make():
        return tuning(tmp_path, family, kind, examples_of(kind, 10))

    assert_accumulates(make, tmp_path)


@pytest.mark.parametrize("kind", ["classify", "tag"])
def test_adapters(kind, tmp_path):
    assert_accumulates(lambda: tuning(tmp_path, "bert", kind, examples_of(kind, 10), lora=2), tmp_path)


def tuning(folder, family: str, kind: str, examples: list[dict], **options):
    tokenizer = ElmoCharacters() if family == "elmo" else tokenizer_of(family)
    settings, config = dict(batch=4, workers=1), finetune.FineTuneConfig(head_dropout=0.0, **options)
    task = TASKS[kind].of(examples)
    trainer = finetune.begin(folder, (pretrained(family), tokenizer), task, examples, examples, config, settings)
    return exact(trainer.model), trainer.objective, trainer.train_data
