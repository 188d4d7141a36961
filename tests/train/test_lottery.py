"""Lottery tickets: every network of the experiment begins as the hypothesis says it must."""

import numpy as np
import pytest

from nn.compression.prune import sparsity
from tests.helpers import assert_close
from tests.train.test_compress import command, lines_of, trained  # noqa: F401
from train import checkpoint
from train.compression.compare import source_of
from train.compression.lottery import KINDS, Experiment, Outcome
from train.compression.measure import weight_count
from train.trainer import TrainConfig, Trainer


@pytest.fixture(scope="module")
def networks(trained):  # noqa: F811
    """(kind, sparsity) -> the network as it was when its training began, and at which step that was."""
    config = TrainConfig(steps=30, batch=4, lr=0.01, warmup=2, workers=1)
    source = source_of(trained)
    experiment = Experiment(source, config, rounds=2, take=0.5, rewind=6, test_batches=2)
    begun, order, plain = {}, [], experiment.train

    def train(model, seed, step, between=None):
        order.append(({name: p.data.copy() for name, p in model.named_parameters()}, step))
        plain(model, seed, step, between)

    experiment.train = train
    for number, (kind, share, accuracy, network) in enumerate(experiment.results(seed=5)):
        begun[kind, share] = *order[number], accuracy, network
    return experiment, begun


def test_all_networks_are_trained_at_every_sparsity(networks):
    experiment, begun = networks
    assert experiment.sparsities() == [0.5, 0.75]
    assert begun.keys() == {("dense", 0.0), *((kind, s) for kind in KINDS[1:] for s in (0.5, 0.75))}
    for (kind, share), (_, _, _, network) in begun.items():
        assert sparsity(network) == pytest.approx(0 if kind == "small dense" else share, abs=0.01)


def test_the_ticket_begins_with_the_weights_of_the_rewind_step(networks):
    experiment, begun = networks
    seen = {}
    model = experiment.fresh(5)
    assert_close(begun["dense", 0.0][0]["norm.weight"], model.norm.weight.data, 0)

    def remember(loop, step: int) -> None:
        if step == 6:
            seen.update({name: array.copy() for name, array in model.state_dict().items()})

    experiment.train(model, 5, 0, remember)
    for share in (0.5, 0.75):
        for kind in ("ticket", "random mask"):
            weights, step, _, network = begun[kind, share]
            assert step == 6
            for name, p in network.named_parameters():
                expected = seen[name] if p.mask is None else seen[name] * p.mask
                assert_close(weights[name], expected, 0)


def test_the_ticket_keeps_what_was_largest_after_training_and_only_shrinks(networks):
    _, begun = networks
    first, second = (begun["ticket", share][3] for share in (0.5, 0.75))
    for a, b in zip(first.parameters(), second.parameters()):
        assert a.mask is None or not (b.mask & ~a.mask).any()
    pairs = [(a, b) for a, b in zip(first.parameters(), second.parameters()) if a.mask is not None]
    size = np.concatenate([np.abs(a.data[a.mask]) for a, _ in pairs])
    kept = np.concatenate([b.mask[a.mask] for a, b in pairs])
    assert size[kept].min() >= size[~kept].max()


def test_the_controls_share_the_mask_the_shares_or_the_size(networks):
    _, begun = networks
    ticket, again, chance, small = (begun[kind, 0.75][3] for kind in KINDS[1:])
    for a, b, c in zip(*(network.parameters() for network in (ticket, again, chance))):
        if a.mask is not None:
            assert (a.mask == b.mask).all()
            assert a.mask.sum() == c.mask.sum() and (a.mask != c.mask).any()
    first = begun["reinitialised", 0.75][0]["blocks.0.attention.qkv.weight"]
    assert begun["reinitialised", 0.75][1] == 0
    old = begun["ticket", 0.75][0]["blocks.0.attention.qkv.weight"]
    both = (first != 0) & (old != 0)
    assert (first[both] != old[both]).all()
    assert abs(weight_count(small) - weight_count(ticket)) < 0.35 * weight_count(ticket)


def test_means_and_errors_are_over_the_seeds():
    outcome = Outcome()
    for accuracy in (0.5, 0.7, 0.9):
        outcome.add("dense", 0.0, 0.8, 100)
        for kind in KINDS[1:]:
            outcome.add(kind, 0.5, accuracy, 50)
    mean, error = outcome.mean("ticket", 0.5)
    assert mean == pytest.approx(0.7) and error == pytest.approx(0.2 / np.sqrt(3))
    assert "| 50.0% | 50 | 70.00 ± 11.55 |" in outcome.table()
    assert "Dense: 80.00 ± 0.00 with 100 weights" in outcome.table()


def test_the_command_leaves_the_ticket_the_table_and_the_comparison(trained, tmp_path):  # noqa: F811
    out = tmp_path / "lottery"
    options = ["--steps", 20, "--rounds", 1, "--take", 0.5, "--seeds", 2, "--warmup", 2]
    assert command("lottery", trained, "--out", out, *options) == 0
    assert [line["model"].split(",")[0] for line in lines_of(out)] == list(KINDS)
    assert "of 2 seeds" in (out / "lottery.md").read_text()
    assert sparsity(checkpoint.load_model(out)[0]) == pytest.approx(0.5, abs=0.01)


def test_a_network_whose_training_was_stopped_counts_for_nothing(trained, tmp_path, capsys, monkeypatch):  # noqa: F811
    train = Trainer.train

    def stopping_after_four(self):
        self.between = lambda loop, step: setattr(self, "stop_asked", step == 3)
        return train(self)

    monkeypatch.setattr(Trainer, "train", stopping_after_four)
    assert command("lottery", trained, "--out", tmp_path / "out", "--steps", 20, "--rounds", 1) == 2
    assert "stopped after step 4 of 20 of one network; nothing was compared" in capsys.readouterr().err


def test_shares_and_numbers_that_make_no_sense_are_refused(trained, capsys):  # noqa: F811
    for flags, sentence in (
        (["--take", "nan"], "argument --take: it must be a finite number, not nan"),
        (["--seeds", 0], "argument --seeds: it must be at least 1, not 0"),
        (["--limit", 0], "argument --limit: it must be at least 1, not 0"),
    ):
        assert command("lottery", trained, *flags) == 2
        assert sentence in capsys.readouterr().err


def test_a_rewind_beyond_the_training_is_refused(trained, tmp_path, capsys):  # noqa: F811
    assert command("lottery", trained, "--out", tmp_path / "out", "--steps", 20, "--rewind", 20) == 2
    assert "--rewind 20 is not one of the 20 steps" in capsys.readouterr().err
