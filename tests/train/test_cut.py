"""A model cut over ranks learns what a whole one learns, and its checkpoints are those of a whole one."""

import dataclasses
import functools
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import tinytensor as tt
from models import GPT, T5, BERTConfig, BERTForPreTraining, GPTConfig, T5Config
from nn.parallel import plan
from train import checkpoint, resume
from train.cut import CutLoop, CutTrainer
from train.trainer import TrainConfig, Trainer
from train.watching import log_gradient_norms

linux = pytest.mark.skipif(sys.platform != "linux", reason="processes need Linux")
KINDS = ["threads", pytest.param("processes", marks=linux)]
SHAPE = dict(vocab_size=23, layers=2, heads=4, width=16)
EXPERTS = dict(experts=4, top=2, every=2, capacity=3)


class Silent:
    """A Report that nobody reads."""

    def __init__(self):
        self.losses, self.norms, self.evaluations, self.lines = [], [], [], []

    def advanced(self, step, loss):
        self.losses.append(loss)

    def logged(self, step, loss, lr, norm, rate, peak):
        self.norms.append(norm)

    def evaluated(self, step, loss):
        self.evaluations.append(loss)

    def write(self, **line):
        self.lines.append(line)


class Drawn:
    """An objective whose batches are drawn anew for each number."""

    one_shape = True

    def __init__(self, kind: str):
        self.kind = kind

    def check(self, data, name):
        pass

    def training_batch(self, data, number):
        draw = np.random.default_rng(number)
        batch = {"ids": draw.integers(0, 23, (8, 6)), "targets": draw.integers(0, 23, (8, 6))}
        batch["targets"] = np.where(draw.random((8, 6)) < 0.2, -100, batch["ids"] // 2)  # what can be learned
        return batch | ({"mask": np.ones((8, 6), bool), "next": draw.integers(0, 2, 8)} if self.kind == "bert" else {})

    def evaluation_batch(self, data, key):
        return self.training_batch(data, 1000 + key)

    def evaluation_batches(self, data, limit=None):
        return list(range(5))


def model_of(kind: str, dropout: float = 0.0):
    with tt.random.seeded(3):
        if kind == "gpt":
            return GPT(GPTConfig(**SHAPE, context=6, init_std=0.3))
        if kind == "bert":
            dropouts = dict(dropout=dropout, attention_dropout=0.0)  # the one outside the cut, the other inside
            return BERTForPreTraining(BERTConfig(**SHAPE, context=6, init_std=0.3, **dropouts))
        if kind == "gpt-experts":  # seats are scarce: some tokens are dropped
            return GPT(GPTConfig(**SHAPE, context=6, init_std=0.3, **EXPERTS, jitter=dropout))
        experts = EXPERTS | {"jitter": 0.0} if kind == "t5-experts" else {}
        return T5(T5Config(**SHAPE, head_width=4, hidden=32, **experts))


def train(folder: Path, kind: str, workers: int, tensor: int, worker_kind: str = "threads", dropout: float = 0.0,
          goes_on: bool = False, over: int = 1, **settings):  # fmt: skip
    """The trainer after 20 steps."""
    # Adam divides by the gradient's size: without eps what is 0 but for rounding (keys' biases) would move by chance.
    usual = dict(steps=20, batch=8, eval_every=10, save_every=10, log_every=1, warmup=2, lr=1e-2, clip=0.5, eps=1e-4)
    settings = usual | settings
    config = TrainConfig(workers=workers, tensor=tensor, experts_over=over, worker_kind=worker_kind, **settings)
    folder.mkdir(exist_ok=True)
    make = CutTrainer if config.cuts > 1 else Trainer
    trainer = make(model_of(kind, dropout), Drawn(kind), None, None, config, folder, Silent())
    if goes_on:
        resume.restore(trainer)
    else:
        checkpoint.save_config(folder, kind, trainer.model.config)
    trainer.between = log_gradient_norms
    trainer.train()
    return trainer


def weights(trainer) -> np.ndarray:
    return trainer.flat.data.copy()


def assert_learned_the_same(trainer, other) -> None:
    """Loss, norm and parameters, within float32's rounding."""
    np.testing.assert_allclose(trainer.report.losses, other.report.losses, rtol=2e-5)
    np.testing.assert_allclose(trainer.report.norms, other.report.norms, rtol=2e-4)
    for mine, whole in zip(trainer.report.lines, other.report.lines, strict=True):
        np.testing.assert_allclose(list(mine.values()), list(whole.values()), rtol=2e-4)
    np.testing.assert_allclose(trainer.report.evaluations, other.report.evaluations, rtol=2e-5)
    np.testing.assert_allclose(weights(trainer), weights(other), atol=2e-5)
    assert np.abs(weights(other) - model_weights_before(other)).max() > 0.05


def model_weights_before(trainer) -> np.ndarray:
    kind = trainer.objective.kind
    before = dict(model_of(kind).named_parameters())
    names = {id(p): name for name, p in trainer.model.named_parameters()}
    return np.concatenate([before[names[id(p)]].data.reshape(-1) for p in trainer.flat.parameters])


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """kind -> the trainer of one worker."""
    return functools.cache(lambda kind: train(tmp_path_factory.mktemp("alone"), kind, 1, 1))


MIXES = [  # (models, ranks that share each one's matrices, ranks that its experts live on), of up to 4 ranks in all
    (1, 2, 1), (2, 2, 1), (1, 4, 1), (1, 1, 2), (2, 1, 2), (1, 1, 4), (1, 2, 2)
]  # fmt: skip
OTHERS = [("gpt", (2, 2, 1)), ("bert", (2, 2, 1)), ("bert", (1, 4, 1)), ("t5", (2, 2, 1)), ("t5-experts", (1, 1, 4))]


@pytest.mark.parametrize("worker_kind", KINDS)
@pytest.mark.parametrize("mix", MIXES)
def test_any_mix_of_data_tensor_and_expert_ranks_learns_what_one_worker_learns(tmp_path, alone, mix, worker_kind):
    data, tensor, over = mix
    cut = train(tmp_path / "cut", "gpt-experts", data * tensor * over, tensor, worker_kind, over=over)
    assert_learned_the_same(cut, alone("gpt-experts"))


@pytest.mark.parametrize("kind, mix", OTHERS)
def test_every_kind_of_model_does_so(tmp_path, alone, kind, mix):
    data, tensor, over = mix
    assert_learned_the_same(train(tmp_path / "cut", kind, data * tensor * over, tensor, over=over), alone(kind))


@pytest.mark.parametrize("mix", MIXES)
def test_ranks_hold_what_the_formulas_say(tmp_path, mix):
    """1 / tensor of the cut matrices, 1 / over of the experts, 1 / data of the optimizer's state of those."""
    data, tensor, over = mix
    size = data * tensor * over
    config = TrainConfig(workers=size, tensor=tensor, experts_over=over, worker_kind="threads", batch=8)
    trainer = CutTrainer(model_of("gpt-experts"), Drawn("gpt"), None, None, config, tmp_path, None)
    cuts, found = plan(trainer.model, tensor, over), [None] * size
    table, sizes = trainer.model.token_embedding.weight, {"tensor": tensor, "experts": over}
    own = sum(p.size // sizes[cuts[id(p)].group] if id(p) in cuts else p.size
              for p in trainer.model.parameters() if p is not table)  # fmt: skip

    def work(comm):
        loop = CutLoop(trainer, comm)
        held = loop.flat.data.size, loop.grad.size, sum(array.size for array in loop.optimizer.state.values())
        found[comm.rank] = [*held, loop.flat.grad is loop.grad]

    trainer.comm.run(work)
    for parameters, gradients, state, only in found:
        assert parameters == gradients and only
        assert abs(parameters - own - table.size / tensor) < SHAPE["width"]  # the table's rows may not share out evenly
        assert abs(state - 2 * parameters / data) <= 2


def test_what_shakes_a_router_is_that_of_as_many_data_ranks(tmp_path):
    whole = train(tmp_path / "whole", "gpt-experts", 2, 1, dropout=0.2)
    assert_learned_the_same(train(tmp_path / "cut", "gpt-experts", 2, 1, dropout=0.2, over=2), whole)


@pytest.mark.parametrize("settings", [dict(optimizer="sgd", lr=0.1, clip=0.0), dict(accumulate=2)])
def test_also_by_other_ways_of_training(tmp_path, settings):
    one = train(tmp_path / "one", "gpt", 1, 1, **settings)
    assert_learned_the_same(train(tmp_path / "cut", "gpt", 4, 2, **settings), one)


@pytest.mark.parametrize("data, tensor", [(1, 2), (2, 2), (1, 4)])
def test_dropout_outside_the_cut_is_that_of_as_many_data_ranks(tmp_path, data, tensor):
    whole = train(tmp_path / "whole", "bert", data, 1, dropout=0.2)
    plain = train(tmp_path / "plain", "bert", data, 1)
    assert np.abs(np.subtract(whole.report.losses, plain.report.losses)).max() > 0.01
    assert_learned_the_same(train(tmp_path / "cut", "bert", data * tensor, tensor, dropout=0.2), whole)


@pytest.mark.parametrize("worker_kind", KINDS)
def test_the_same_cut_resumes_bit_for_bit_and_threads_and_processes_agree_to_the_bit(tmp_path, worker_kind):
    train(tmp_path / "stopped", "gpt", 4, 2, worker_kind, steps=10, schedule="constant")
    straight = train(tmp_path / "straight", "gpt", 4, 2, schedule="constant")
    again = train(tmp_path / "stopped", "gpt", 4, 2, worker_kind, goes_on=True, schedule="constant")
    np.testing.assert_array_equal(weights(again), weights(straight))
    assert again.report.losses == straight.report.losses[10:]
    for name in ("m", "v"):
        states = [resume.load_trainer(tmp_path / run)[0]["optimizer"][name] for run in ("straight", "stopped")]
        np.testing.assert_array_equal(*states)


def test_experts_go_on_elsewhere_and_with_the_same_cut_bit_for_bit(tmp_path):
    how = dict(schedule="constant")
    straight = train(tmp_path / "straight", "gpt-experts", 4, 2, over=2, **how)
    train(tmp_path / "stopped", "gpt-experts", 4, 2, over=2, steps=10, **how)
    shutil.copytree(tmp_path / "stopped", tmp_path / "elsewhere")
    again = train(tmp_path / "stopped", "gpt-experts", 4, 2, over=2, goes_on=True, **how)
    np.testing.assert_array_equal(weights(again), weights(straight))
    alone = train(tmp_path / "elsewhere", "gpt-experts", 1, 1, goes_on=True, **how)
    np.testing.assert_allclose(weights(alone), weights(straight), atol=2e-5)


@pytest.mark.parametrize("first, then", [((4, 2), (1, 1)), ((1, 1), (4, 4)), ((2, 2), (4, 2))])
def test_a_run_goes_on_with_any_other_cut(tmp_path, first, then):
    one = train(tmp_path / "one", "gpt", 1, 1, schedule="constant")
    train(tmp_path / "run", "gpt", *first, steps=10, schedule="constant")
    more = train(tmp_path / "run", "gpt", *then, goes_on=True, schedule="constant")
    np.testing.assert_allclose(more.report.losses, one.report.losses[10:], rtol=2e-5)
    np.testing.assert_allclose(weights(more), weights(one), atol=2e-5)


def test_a_checkpoint_of_a_cut_run_is_that_of_a_whole_one(tmp_path):
    train(tmp_path / "cut", "gpt", 4, 2)
    train(tmp_path / "one", "gpt", 1, 1)
    for name in (checkpoint.WEIGHTS["last"], checkpoint.WEIGHTS["best"], checkpoint.TRAINER):
        cut, one = (checkpoint.read_arrays(tmp_path / run / name) for run in ("cut", "one"))
        assert cut.keys() == one.keys() and all(array.dtype == one[key].dtype for key, array in cut.items())
        for key, array in cut.items():
            np.testing.assert_allclose(array, one[key], atol=2e-5, err_msg=key)


def test_what_does_not_go_with_a_cut_is_refused_in_a_sentence(tmp_path):
    config = TrainConfig(workers=2, tensor=2)
    for wrong, sentence in ((dict(optimizer="adafactor"), "adafactor needs whole matrices, which --tensor cuts"),
                            (dict(device="cuda", workers=0), "over workers of a CPU, not cuda")):  # fmt: skip
        with pytest.raises(ValueError, match=sentence):
            CutTrainer(model_of("gpt"), Drawn("gpt"), None, None, dataclasses.replace(config, **wrong), None, None)
    for over, kind, batch, sentence in (
        (2, "gpt", 8, "shares out plain experts, and this GPT has none; leave it out"),
        (3, "gpt-experts", 8, "4 experts cannot be shared equally by --experts-over 3"),
        (4, "gpt-experts", 3, "batch 3 has no rows for some of 4 workers"),
    ):
        with pytest.raises(ValueError, match=sentence):
            train(tmp_path, kind, over, 1, over=over, batch=batch)
    with pytest.raises(ValueError, match="workers 6 must be a multiple of the 4 that share a model's parts"):
        TrainConfig(workers=6, tensor=2, experts_over=2)
    with pytest.raises(ValueError, match="--tensor and --experts-over are for pretraining and finetune; leave"):
        Trainer(model_of("gpt"), Drawn("gpt"), None, None, config, None, None)


def test_a_loss_that_is_no_number_ends_all_ranks_with_a_sentence(tmp_path):
    with pytest.raises(ValueError, match="at step"):
        train(tmp_path / "run", "gpt", 4, 2, lr=1e30, min_lr=1e30, clip=0, schedule="constant")
