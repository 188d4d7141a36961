"""Making runs smaller from the command line, on a run of a few seconds: files, comparisons, and what training keeps."""

import itertools
import json
import re

import numpy as np
import pytest
import safetensors.numpy

import tinytensor as tt
from models import GPT, GPTConfig
from models.gpt_body import GPTBody
from nn.compression.prune import groups, sparsity
from nn.compression.quantize import Quantized
from tests.helpers import assert_close
from train import checkpoint, finetune
from train.__main__ import main
from train.compression import measure
from train.compression.prune import Pruning, gradually
from train.objectives.windows import Causal
from train.resume import restore
from train.trainer import TrainConfig, Trainer

TEXT = "the cat sat on the mat. the dog sat on the log. the hen sat in the pen.\n" * 60
TINY = "--layers 2 --heads 4 --width 16 --context 16 --batch 4 --lr 0.01 --warmup 4 --workers 1".split()  # noqa: SIM905


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small finished run, shared by the tests that only read it."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "text.txt").write_text(TEXT)
    arguments = ["--data", folder / "text.txt", "--out", folder / "run", *TINY, "--steps", 250]
    assert main(["gpt", *map(str, arguments)]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A BERT of a few steps, and one fine-tuned from it: the folders of both."""
    folder = tmp_path_factory.mktemp("bert")
    shape = ["--layers", 2, "--heads", 2, "--width", 16, "--context", 64, "--workers", 1, "--warmup", 2]
    assert command("bert", "--out", folder / "run", "--stories", 60_000, *shape, "--batch", 4, "--steps", 10) == 0
    task = ["--task", "sentiment", "--examples", 60, "--epochs", 1, "--workers", 1]
    assert command("finetune", folder / "run", "--out", folder / "tuned", *task) == 0
    return folder / "run", folder / "tuned"


def lines_of(folder) -> list[dict[str, str]]:
    """The comparison, a dict a line."""
    lines = [line for line in (folder / "comparison.md").read_text().splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines]
    return [dict(zip(rows[0], row)) for row in rows[2:]]


def command(*arguments) -> int:
    return main([str(argument) for argument in arguments])


def test_pruned_heads_and_neurons_leave_a_smaller_run_that_is_used_like_any_other(trained, tmp_path, capsys):
    what = ["--what", "heads", "--what", "neurons", "--amount", 0.5, "--by", "gradient", "--batches", 2]
    assert command("prune", trained, "--out", tmp_path / "small", *what, "--steps", 60, "--limit", 2) == 0
    before, at_once, after = lines_of(tmp_path / "small")
    assert float(after["loss"]) < float(at_once["loss"])
    assert float(after["share"]) < 0.7
    assert int(after["bytes"].replace(",", "")) == (tmp_path / "small" / "model.safetensors").stat().st_size
    model, _ = checkpoint.load_model(tmp_path / "small")
    assert [block.attention.heads for block in model.blocks] == [2, 2]
    assert [len(block.feed_forward.into.weight) for block in model.blocks] == [32, 32]
    capsys.readouterr()
    assert command("eval", tmp_path / "small") == 0
    assert f"{after['loss']} nats per token" in capsys.readouterr().out
    assert before["parameters"] > after["parameters"]


def test_sparse_weights_are_stored_with_their_masks(trained, tmp_path):
    options = ["--amount", 0.8, "--when", "cubic", "--steps", 40, "--limit", 2, "--workers", 2]
    assert command("prune", trained, "--out", tmp_path / "sparse", *options) == 0
    model, _ = checkpoint.load_model(tmp_path / "sparse")
    assert sparsity(model) == pytest.approx(0.8, abs=0.01)
    for group in groups(model, "weights"):
        parameter = group.parts[0][0]
        assert ((parameter.data == 0) == ~parameter.mask).all()
    assert float(lines_of(tmp_path / "sparse")[-1]["share"]) < 0.6


def test_a_pruned_model_that_learns_on_is_resumed_bit_for_bit_in_its_own_shape(trained, tmp_path):
    """Of half the heads and table rows, and with half of the other weights masked."""
    for start, what, out in ((trained, ("heads", "rows"), "small"), (tmp_path / "small", ("weights",), "sparse")):
        options = [word for one in what for word in ("--what", one)] + ["--steps", 2, "--limit", 1]
        assert command("prune", start, "--out", tmp_path / out, *options) == 0
    more = ["--data", trained.parent / "text.txt", "--init", tmp_path / "sparse", "--workers", 1]
    more += ["--batch", 4, "--schedule", "constant"]
    for out, steps in (("straight", 8), ("parts", 4)):
        assert command("gpt", "--out", tmp_path / out, *more, "--steps", steps) == 0
    assert command("gpt", "--resume", tmp_path / "parts", "--steps", 8) == 0
    files = (tmp_path / out / "trainer.safetensors" for out in ("straight", "parts"))
    expected, got = map(safetensors.numpy.load_file, files)
    assert expected.keys() == got.keys() and "model.blocks.0.attention.qkv.weight.mask" in got
    for name, array in expected.items():
        np.testing.assert_array_equal(got[name], array, err_msg=name)
    model, _ = checkpoint.load_model(tmp_path / "parts")
    assert model.blocks[0].attention.heads == 2 and sparsity(model) == pytest.approx(0.5, abs=0.01)


def test_iterative_pruning_masks_more_in_every_round_and_trains_after_each(trained, tmp_path):
    options = ["--amount", 0.75, "--when", "iterative", "--rounds", 2, "--steps", 30, "--limit", 2]
    assert command("prune", trained, "--out", tmp_path / "rounds", *options) == 0
    lines = lines_of(tmp_path / "rounds")
    assert [line["model"] for line in lines[2:]] == ["50% pruned, trained 30 steps", "75% pruned, trained 30 steps"]
    counts = [int(line["parameters"].replace(",", "")) for line in lines]
    masked = (counts[0] - counts[1]) / 0.75  # of the weights that may be: biases and tables stay
    assert counts[2] == pytest.approx(counts[0] - 0.5 * masked, rel=0.01) and counts[3] == counts[1]
    assert float(lines[3]["loss"]) < float(lines[1]["loss"])
    assert (tmp_path / "rounds" / "metrics-round-1.jsonl").exists()


@pytest.mark.parametrize("lora", [0, 2])
def test_a_pruned_model_is_fine_tuned_stopped_resumed_and_asked(bert, lora, tmp_path, monkeypatch, capsys):
    small = tmp_path / "small"
    what = ["--what", "heads", "--what", "rows", "--steps", 1, "--limit", 1]
    assert command("prune", bert[0], "--out", small, *what) == 0
    tune = ["--task", "sentiment", "--examples", 40, "--epochs", 2, "--workers", 1, "--lora", lora]
    assert command("finetune", small, "--out", tmp_path / "straight", *tune) == 0
    train = Trainer.train

    def stopping_after_four(self):
        self.between = lambda loop, step: setattr(self, "stop_asked", step == 3)
        return train(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train", stopping_after_four)
        assert command("finetune", small, "--out", tmp_path / "parts", *tune) == 0
    assert command("finetune", "--resume", tmp_path / "parts") == 0
    files = (tmp_path / out / "trainer.safetensors" for out in ("straight", "parts"))
    expected, got = map(safetensors.numpy.load_file, files)
    assert expected.keys() == got.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(got[name], array, err_msg=name)
    tuned = finetune.load(tmp_path / "parts")
    assert tuned.model.body.blocks[0].attention.heads == 1
    assert tuned.answers([{"text": "Mia lost her kite."}])[0] in tuned.task.labels


def test_a_gpt_without_some_rows_of_its_table_gets_marks_and_keeps_them_out(trained, tmp_path):
    assert command("prune", trained, "--out", tmp_path / "small", "--what", "rows", "--steps", 1, "--limit", 1) == 0
    gpt, _ = checkpoint.load_model(tmp_path / "small")
    table = gpt.token_embedding.weight.data.copy()
    body = GPTBody(gpt)
    weight = body.gpt.token_embedding.weight
    np.testing.assert_array_equal(weight.data[:-3], table)
    assert len(weight) == len(table) + 3 and weight.data[-3:].any(axis=1).all()
    masked = ~weight.mask
    assert 0 < masked.any(axis=1).sum() == masked.all(axis=1).sum() and not weight.data[masked].any()


def test_integers_do_not_learn(trained, tmp_path, capsys):
    assert command("quantize", trained, "--out", tmp_path / "small", "--limit", 1) == 0
    assert command("gpt", "--init", tmp_path / "small", "--data", trained.parent / "text.txt") == 2
    assert "small are integers, which do not learn; name the run it was made from" in capsys.readouterr().err
    assert command("finetune", tmp_path / "small", "--task", "sentiment", "--examples", 4, "--out", tmp_path / "x") == 2
    assert "are integers, which do not learn; name the run" in capsys.readouterr().err
    assert command("gpt", "--resume", tmp_path / "small", "--steps", 900) == 2
    assert "has no trainer.safetensors, so it cannot go on" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
    text = trained.parent / "text.txt"
    assert command("embed", text, "the cat sat on the mat.", "--model", tmp_path / "small", "--top", 1) == 0
    assert capsys.readouterr().out.startswith("1.000  the cat sat on the mat.")


def test_a_run_may_lose_whole_layers(trained, tmp_path):
    out = tmp_path / "shallow"
    assert command("prune", trained, "--out", out, "--what", "layers", "--steps", 10, "--limit", 2) == 0
    assert json.loads((out / "config.json").read_text())["layers"] == 1
    assert len(checkpoint.load_model(out)[0].blocks) == 1


def test_a_quantized_run_holds_integers_and_is_used_like_any_other(trained, tmp_path, capsys):
    out = tmp_path / "quantized"
    options = ["--bits", 4, "--group", 16, "--rounding", "gptq", "--batches", 2, "--limit", 2]
    assert command("quantize", trained, "--out", out, *options) == 0
    arrays = safetensors.numpy.load_file(out / "model.safetensors")
    assert arrays["blocks.0.attention.qkv.codes"].dtype == np.uint8
    before, after = lines_of(out)
    assert abs(float(after["loss"]) - float(before["loss"])) < 0.2
    assert before["parameters"] == after["parameters"]
    model, _ = checkpoint.load_model(out)
    assert any(isinstance(module, Quantized) for module in model.modules())
    capsys.readouterr()
    assert command("sample", out, "--prompt", "the c", "--tokens", 10, "--temperature", 0) == 0
    assert capsys.readouterr().out.startswith("the cat")


def test_a_bert_is_measured_by_its_answers_and_made_smaller(bert, tmp_path):
    options = ["--what", "heads", "--what", "neurons", "--by", "activation", "--steps", 4, "--limit", 2]
    assert command("prune", bert[0], "--out", tmp_path / "pruned", *options) == 0
    model, _ = checkpoint.load_model(tmp_path / "pruned")
    assert [block.attention.heads for block in model.bert.blocks] == [1, 1]
    assert 0 <= float(lines_of(tmp_path / "pruned")[-1]["accuracy"].rstrip("%")) <= 100
    assert command("distill", bert[0], "--out", tmp_path / "student", "--steps", 4, "--limit", 2) == 0
    assert checkpoint.load_model(tmp_path / "student")[0].config.layers == 1


def test_a_fine_tuned_run_is_made_smaller_for_its_task_and_still_answers(bert, tmp_path):
    for name, out, options in (
        ("quantize", "q", []),
        ("prune", "p", ["--what", "neurons", "--steps", 4]),
        ("distill", "d", ["--steps", 4]),
    ):
        assert command(name, bert[1], "--out", tmp_path / out, "--limit", 2, *options) == 0
        tuned = finetune.load(tmp_path / out)
        assert tuned.answers([{"text": "Mia was happy."}])[0] in tuned.task.labels
    assert any(isinstance(module, Quantized) for module in finetune.load(tmp_path / "q").model.modules())
    assert finetune.load(tmp_path / "d").model.body.config.layers == 1


def test_a_fine_tuned_run_knows_its_examples_and_takes_others(bert, tmp_path, capsys):
    assert command("quantize", bert[1], "--out", tmp_path / "own") == 0
    named = ["--task", "sentiment", "--examples", 60]
    assert command("quantize", bert[1], "--out", tmp_path / "named", *named) == 0
    assert [line["loss"] for line in lines_of(tmp_path / "own")] == [
        line["loss"] for line in lines_of(tmp_path / "named")
    ]
    assert command("quantize", tmp_path / "own", "--out", tmp_path / "again", "--bits", 4) == 2
    assert "is quantized already" in capsys.readouterr().err
    (tmp_path / "own/finetune.json").unlink()
    assert command("quantize", tmp_path / "own", "--out", tmp_path / "again") == 2
    assert "own has no finetune.json, which says what a run was fine-tuned on" in capsys.readouterr().err
    assert command("lottery", bert[1], "--out", tmp_path / "out", "--task", "sentiment", "--examples", 60) == 2
    assert "tickets are looked for in what starts from nothing" in capsys.readouterr().err


def test_pictures_of_the_comparison_are_drawn(trained, tmp_path):
    pytest.importorskip("matplotlib")
    out = tmp_path / "q"
    assert command("quantize", trained, "--out", out, "--batches", 1, "--limit", 1) == 0
    assert (out / "comparison.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prune", "--amount", 1.5], "argument --amount: it must be at most 1, not 1.5"),
        (["prune", "--by", "movement"], "use --when cubic"),
        (["prune", "--what", "layers", "--when", "cubic"], "layers and 2:4 patterns go at once; use --when one-shot"),
        (["quantize", "--bits", 9], "bits must be 2 to 8, not 9"),
        (["quantize", "--bits", 4, "--group", 3], "an even number of neighbours"),
        (["quantize", "--limit", 0], "argument --limit: it must be at least 1, not 0"),
        (["prune", "--task", "roles"], "--task is about runs that were fine-tuned for a task, which .* was not"),
        (["distill", "--written", -3], "argument --written: it must be at least 0, not -3"),
    ],
)
def test_what_cannot_be_done_is_said_before_a_folder_is_made(trained, tmp_path, arguments, message, capsys):
    name, *options = arguments
    assert command(name, trained, "--out", tmp_path / "out", *options) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


class Silent:
    """A report that nobody reads."""

    def __getattr__(self, name):
        return lambda *values, **named: None


def trainer(tmp_path, steps=20, workers=1, kind="threads", **settings) -> Trainer:
    tt.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=11, context=8, layers=2, heads=2, width=8))
    config = TrainConfig(steps=steps, batch=4, lr=0.01, workers=workers, worker_kind=kind, **settings)
    data = np.random.default_rng(0).integers(0, 11, 500)
    return Trainer(model, Causal(8, 4), data, data, config, tmp_path, Silent())


@pytest.mark.parametrize("by", ["magnitude", "gradient", "random"])
def test_what_is_masked_follows_the_plan_and_never_comes_back(by, tmp_path):
    one, seen = trainer(tmp_path), []
    batches = [Causal(8, 4).training_batch(one.train_data, 0)]
    pruning = Pruning(one, gradually(0.75, 20), by=by, batches=batches, every=2)

    def between(loop, step):
        pruning(loop, step)
        seen.append([p.mask.copy() for p in one.model.parameters() if p.mask is not None])
        assert all((p.data[~p.mask] == 0).all() for p in one.model.parameters() if p.mask is not None)

    one.between = between
    one.train()
    shares = [1 - np.mean([mask.mean() for mask in masks]) for masks in seen]
    assert shares[1] > 0.2 and shares == sorted(shares) and shares[-1] == pytest.approx(0.75, abs=0.01)
    for before, after in itertools.pairwise(seen):
        assert all(not (b & ~a).any() for a, b in zip(before, after))


def test_movement_keeps_the_weights_that_training_makes_larger(tmp_path):
    """Against the definition, with the gradients of each step taken from the trainer."""
    one = trainer(tmp_path, steps=10)
    pruning = Pruning(one, gradually(0.5, 10, 0), by="movement", every=1)
    weight = one.model.blocks[0].feed_forward.into.weight
    place = one.flat.slices[[p is weight for p in one.flat.parameters].index(True)]
    hidden, scores = weight.data.copy(), np.zeros(weight.shape)

    def between(loop, step):
        scores[...] -= loop.grad[place].reshape(weight.shape) * hidden
        hidden[weight.mask] = weight.data[weight.mask]
        pruning(loop, step)

    one.between = between
    one.train()
    assert_close(pruning.scores[place].reshape(weight.shape), scores, 1e-6)
    assert weight.mask.mean() == pytest.approx(0.5)
    assert scores[weight.mask].min() >= scores[~weight.mask].max()
    assert_close(weight.data, hidden * weight.mask, 0)


@pytest.mark.parametrize("by", ["magnitude", "movement"])
def test_two_processes_prune_as_one_does(by, tmp_path):
    weights = []
    for workers, kind in ((1, "threads"), (2, "threads"), (2, "processes")):
        one = trainer(tmp_path, workers=workers, kind=kind)
        one.between = Pruning(one, gradually(0.6, 20), by=by, every=5)
        one.train()
        weights.append(one.model.blocks[1].attention.qkv.weight.data.copy())
        assert (weights[-1] == 0).mean() == pytest.approx(0.6, abs=0.01)
    assert_close(weights[1], weights[2], 0)
    assert ((weights[0] == 0) == (weights[1] == 0)).mean() > 0.9  # sums in another order may change a close choice


def test_masks_survive_a_checkpoint_and_the_training_that_goes_on_from_it(tmp_path):
    one = trainer(tmp_path, steps=10)
    Pruning(one, lambda step: 0.7)
    one.train()
    two = trainer(tmp_path, steps=20)
    restore(two)
    assert sparsity(two.model) == pytest.approx(0.7, abs=0.01)
    two.train()
    for (_, a), (_, b) in zip(one.model.named_parameters(), two.model.named_parameters()):
        if a.mask is not None:
            assert (a.mask == b.mask).all() and (b.data[~b.mask] == 0).all()
            assert (b.data[b.mask] != a.data[a.mask]).any()


def test_gradual_pruning_ends_at_the_amount_before_the_last_steps():
    for recovery in (0.0, 0.3, 0.75):
        plan = gradually(0.8, 100, recovery)
        path, last = [plan(step) for step in range(101)], round(100 - 100 * recovery)
        assert path == sorted(path) and path[last] == pytest.approx(0.8) and path[-1] == pytest.approx(0.8)
        assert path[0] == 0 and path[last // 2] < 0.8
    with pytest.raises(ValueError, match="from 0 to less than 1: 1"):
        gradually(0.8, 100, 1)


def test_the_weights_that_are_left_are_counted():
    from nn.compression.prune import prune
    from nn.compression.quantize import quantize

    tt.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=11, context=8, layers=1, heads=2, width=8, bias=False))
    total = model.parameter_count()
    prune(model, 0.5)
    assert measure.weight_count(model) == total - 12 * 64 // 2
    assert measure.weight_count(quantize(model, 4)) == total
