"""Large models made small, and prompts that nobody wrote: on runs of a few seconds."""

import re
import types

import numpy as np
import pytest
import safetensors.numpy

from models import GPT, GPTConfig
from models.score import score
from nn.compression import is_quantized, storage
from tests.helpers import assert_close
from tests.train.test_compress import command, trained  # noqa: F401
from train import checkpoint
from train.compression.compare import source_of
from train.tour import paradox, unicorn
from train.tour.paradox import Experiment, Result
from train.trainer import TrainConfig

FAST = dict(batch=4, lr=0.01, warmup=2, workers=1)


@pytest.fixture(scope="module")
def experiment(trained):  # noqa: F811
    return Experiment(source_of(trained), TrainConfig(**FAST), [16, 8], seconds=0.4, recovery=0.5, limit=2)


def test_wide_models_are_cut_until_they_fit_the_narrow_ones_room(experiment):
    assert list(experiment.gone) == [8, 16] and experiment.gone[8] == {8: 0} and experiment.gone[16][16] == 0
    gone = experiment.gone[16][8]
    room = experiment.file_size(experiment.fresh(8, 0), 0)
    sizes = [experiment.file_size(experiment.fresh(16, 0), notches) for notches in (gone - 1, gone)]
    assert sizes[1] <= room < sizes[0]


def test_all_train_for_the_same_seconds_and_what_is_left_takes_the_same_room(experiment):
    results = list(experiment.results(seed=3))
    assert [one.width for one in results] == [8, 16]
    for one in results:
        assert one.steps > 3 and one.points[-1][0] == 0.4
        assert all(seconds <= 0.4 for seconds, _ in one.points)
        assert one.small.keys() == {width for width in (8, 16) if width <= one.width}
    narrow, wide = results
    assert wide.small[8][0] <= narrow.small[8][0]
    loss, best = experiment.best
    assert loss == min(narrow.small[8][1], wide.small[8][1])
    assert is_quantized(best)
    assert len(safetensors.numpy.save(storage.state(best))) <= narrow.small[8][0]


def test_training_ends_by_the_clock_whatever_a_step_takes(experiment, monkeypatch):
    now = iter(np.arange(0, 1000, 0.01))  # every look at the clock is 10 ms after the last
    monkeypatch.setattr(paradox, "time", types.SimpleNamespace(monotonic=lambda: float(next(now))))
    steps, points = experiment.train(experiment.fresh(8, 0), 0, 0.496, experiment.config)
    assert steps == 50 and [round(seconds, 6) for seconds, _ in points] == [0.25]  # after 25; that after 50 is too late


def test_the_learning_rate_follows_the_clock(experiment, monkeypatch):
    rates = []
    plain = paradox.Timed.rate

    def rate(self, step):
        rates.append((self.spent / self.seconds, plain(self, step)))
        return rates[-1][1]

    monkeypatch.setattr(paradox.Timed, "rate", rate)
    experiment.train(experiment.fresh(8, 0), 0, 0.3, experiment.config)
    shares, lrs = map(np.array, zip(*rates))
    config = experiment.config
    schedule = TrainConfig(lr=config.lr, steps=1000, warmup=50).learning_rates()
    expected = [schedule(int(1000 * share)) for share in shares]
    assert_close(lrs, np.array(expected), 1e-12)
    assert lrs.max() > 0.9 * config.lr and lrs[-1] < 0.3 * config.lr


def test_two_workers_keep_one_time(trained):  # noqa: F811
    config = TrainConfig(**FAST | dict(workers=2, worker_kind="threads"))
    experiment = Experiment(source_of(trained), config, [8], seconds=0.4, limit=2)
    (one,) = experiment.results(seed=0)
    seconds = [seconds for seconds, _ in one.points]
    assert seconds == sorted(set(seconds))


def test_means_and_errors_stand_in_the_table():
    small = {4: lambda seed: {4: (50, 3.0 + seed)}, 8: lambda seed: {8: (90, 2.5)}}
    results = [Result(width, 100 * width, 10 + seed, [(1.0, 2.0 + seed)], small[width](seed))
               for seed in (0, 1) for width in (8, 4)]  # fmt: skip
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in paradox.table(results).splitlines()]
    assert lines[0][4:] == ["in 50 bytes", "in 90 bytes"]
    assert lines[2] == ["4", "400", "10", "2.5000 ± 0.5000", "3.5000 ± 0.5000", "-"]
    assert lines[3] == ["8", "800", "10", "2.5000 ± 0.5000", "-", "2.5000 ± 0.0000"]  # too wide for the room of 4


def test_the_command_leaves_table_picture_and_a_run_that_opens(trained, tmp_path, capsys):  # noqa: F811
    pytest.importorskip("matplotlib")
    out = tmp_path / "paradox"
    flags = ["--widths", 8, 16, "--seconds", 0.3, "--seeds", 2, "--limit", 2, "--out", out, "--workers", 1]
    assert command("tour", "paradox", trained, *flags) == 0
    said = capsys.readouterr().out
    assert len(re.findall(r"^seed [01]  width (?:8|16)  \d+ steps", said, re.M)) == 4
    assert "| 16" in (out / "paradox.md").read_text() and (out / "paradox.png").stat().st_size > 10_000
    model, _ = checkpoint.load_model(out)
    assert is_quantized(model)
    assert command("eval", out) == 0


@pytest.mark.parametrize(("flags", "sentence"), [
    (["--seconds", 0], "argument --seconds: it must be more than 0, not 0"),
    (["--seconds", "nan"], "argument --seconds: it must be a finite number, not nan"),
    (["--recovery", -1], "argument --recovery: it must be more than 0"),
    (["--bits", 1], "bits"),
    (["--seeds", 0], "argument --seeds: it must be at least 1"),
    (["--widths", 10], "10"),
    (["--widths", 0], "width"),
])  # fmt: skip
def test_what_makes_no_sense_is_refused_before_anything_is_made(trained, tmp_path, flags, sentence, capsys):  # noqa: F811
    assert command("tour", "paradox", trained, "--out", tmp_path / "out", *flags) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and sentence in error and not (tmp_path / "out").exists()


def test_a_run_goes_on_from_the_beginning_of_its_held_out_text(trained, capsys):  # noqa: F811
    said = []
    for _ in range(2):
        assert command("tour", "unicorn", trained, "--tries", 2, "--tokens", 30, "--seed", 1) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] and said[0].count("\ntry ") == 2
    model, tokenizer = checkpoint.load_model(trained)
    prompt = unicorn.own_prompt(trained, tokenizer)
    assert prompt.endswith(".") and f":\n{prompt}\n" in said[0]
    perplexity = np.exp(-score(model, tokenizer.encode(prompt)).log_probs.mean())
    assert f"of perplexity {perplexity:,.1f}:" in said[0]


def test_a_published_folder_gets_the_unicorns(trained, tmp_path, capsys):  # noqa: F811
    pytest.importorskip("regex")
    from models.tokenizers import ByteLevelBPE

    tokenizer = ByteLevelBPE.train([unicorn.PROMPT] * 3, 300)
    GPT(GPTConfig(vocab_size=tokenizer.vocab_size, context=256, layers=1, heads=2, width=8)).save_pretrained(
        tmp_path, tokenizer)  # fmt: skip
    assert command("tour", "unicorn", tmp_path, "--tries", 1, "--tokens", 5) == 0
    said = capsys.readouterr().out
    assert "a herd of unicorns living in a remote, previously unexplored valley" in said and "try 1, perplexity" in said


def test_what_cannot_go_on_is_refused(trained, tmp_path, capsys):  # noqa: F811
    assert command("tour", "unicorn", trained, "--prompt", "") == 2
    assert "too short" in capsys.readouterr().err
    assert command("tour", "unicorn", tmp_path / "none") == 2
    assert "is not a folder" in capsys.readouterr().err
