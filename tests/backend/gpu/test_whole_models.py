"""Whole models and runs on the GPU's path: a stand-in for CuPy that refuses NumPy, and the emulator's kernels."""

import json
import re

import numpy as np
import pytest

import tinytensor as tt
from models import GPT, T5, BERTConfig, BERTForPreTraining, ELMo, ELMoConfig, GPTConfig, T5Config, XLNet, XLNetConfig
from models.generate import generate
from nn import LayerNorm
from tests.backend.gpu import emulator
from tests.backend.gpu.reference import assert_close, normal
from tinytensor import Tensor, backend, ops
from tinytensor.backend.gpu import launch
from train import precision
from train.__main__ import main
from train.trainer import TrainConfig


def test_the_stand_in_refuses_numpy_arrays(cuda):
    x = backend.to_device(np.ones(3, np.float32), "cuda")
    assert backend.device_of(x + 1) == backend.device_of(cuda.exp(x)) == "cuda"
    with pytest.raises(TypeError, match="mixed with a NumPy array"):
        x + np.ones(3, np.float32)
    with pytest.raises(TypeError, match="mixed with a NumPy array"):
        x[:] = np.ones(3, np.float32)


def gradients(model, batch):
    model.zero_grad()
    with tt.random.seeded(6):
        loss = model.loss(batch)
    loss.backward()
    return loss.item(), {
        name: backend.to_numpy(p.grad) for name, p in model.named_parameters() if p.grad is not None
    }


def check_model(model, batch):
    """The same loss and gradients on both devices, from a batch that stays on the CPU."""
    loss, right = gradients(model, batch)
    on_gpu_loss, got = gradients(model.to("cuda"), batch)
    assert all(p.device == "cuda" for p in model.parameters())
    assert on_gpu_loss == pytest.approx(loss, rel=1e-5)
    assert got.keys() == right.keys()
    for name in right:
        assert_close(got[name], right[name], factor=3)


TINY = dict(vocab_size=23, context=12, layers=2, heads=2, width=16)


def gpt_batch():
    ids = np.random.default_rng(1).integers(0, 23, (3, 12))
    targets = np.roll(ids, -1, axis=1)
    targets[0, :4] = -100
    return {"ids": ids, "targets": targets}


def test_gpt_has_the_same_loss_and_gradients_on_both_devices(cuda):
    check_model(GPT(GPTConfig(**TINY)), gpt_batch())


def test_bert_has_the_same_loss_and_gradients_on_both_devices(cuda):
    shape = dict(vocab_size=23, context=12, layers=1, heads=2, width=16, hidden=32)
    config = BERTConfig(**shape, dropout=0.0, attention_dropout=0.0)
    draw = np.random.default_rng(2).integers
    ids, mask = draw(0, 23, (3, 12)), np.arange(12) < np.array([12, 7, 9])[:, None]
    targets = np.where(draw(0, 3, (3, 12)) == 0, ids, -100)
    batch = {"ids": ids, "token_types": draw(0, 2, (3, 12)), "mask": mask, "targets": targets, "next": draw(0, 2, 3)}
    check_model(BERTForPreTraining(config), batch)


def test_t5_has_the_same_loss_and_gradients_on_both_devices(cuda):
    config = T5Config(vocab_size=23, layers=1, heads=2, head_width=8, width=16, hidden=32)
    draw = np.random.default_rng(3).integers
    mask = np.arange(9) < np.array([9, 5])[:, None]
    check_model(T5(config), {"ids": draw(2, 23, (2, 9)), "mask": mask, "targets": draw(2, 23, (2, 6))})


@pytest.mark.parametrize("top", [1, 2])
def test_experts_have_the_same_loss_and_gradients_on_both_devices(cuda, top):
    """With tokens dropped; and a product with empty rows on the GPU, without them on the CPU."""
    more = dict(experts=3, top=top, capacity=2, balance=0.5, z_loss=0.1, balance_over="block")
    check_model(GPT(GPTConfig(**TINY, **more)), gpt_batch())


def test_experts_write_the_same_text_on_both_devices(cuda):
    model, starts = GPT(GPTConfig(**TINY, experts=3, init_std=0.5)), np.array([[1, 2, 3], [4, 5, 6]])
    texts = [generate(model.to(device), starts, 8, temperature=0).tolist() for device in ("cpu", "cuda")]
    assert texts[0] == texts[1] and not model.steps_alike


@pytest.mark.parametrize("softmax", ["full", "sampled", "adaptive"])
def test_elmo_has_the_same_loss_and_gradients_on_both_devices(cuda, softmax):
    config = ELMoConfig(vocab_size=23, width=8, hidden=12, layers=1, char_width=4, filters="1x4,2x4", highways=1,
                        characters=6, dropout=0.0, softmax=softmax, samples=10)
    draw = np.random.default_rng(4).integers
    batch = {"ids": draw(0, 256, (2, 5, 6)), "targets": draw(0, 23, (2, 5)), "back_ids": draw(0, 256, (2, 5, 6)),
             "back_targets": draw(0, 23, (2, 5))}
    with tt.random.seeded(1):
        model = ELMo(config)
    check_model(model, batch)


def test_xlnet_has_the_same_losses_gradients_and_memory_on_both_devices(cuda):
    config = XLNetConfig(vocab_size=23, layers=2, heads=2, width=16, dropout=0.0, memory=4, init_std=0.1)
    draw = np.random.default_rng(5)
    ids, places = draw.integers(0, 23, (3, 6)), np.stack([draw.permutation(6)[:2] for _ in range(3)])
    turn = draw.permuted(np.tile(np.arange(6), (3, 1)), axis=1)
    batch = {"ids": ids, "places": places, "targets": draw.integers(0, 23, (3, 2)), "mask": ids > 1,
             "token_types": draw.integers(0, 3, (3, 6)), "sees": turn[:, None] < turn[:, :, None],
             "backwards": np.array([False, True, True])}  # fmt: skip
    model = XLNet(config)
    check_model(model.to("cpu"), batch)
    states = []
    for device in ("cpu", "cuda"):
        model.to(device)
        states.append(model.new_state(3))
        losses = [model.loss(batch | states[-1]).item() for _ in range(2)]
        states[-1] = {name: backend.to_numpy(array) for name, array in states[-1].items()} | {"losses": losses}
    assert states[0]["remembered"].tolist() == states[1]["remembered"].tolist() == [4, 4, 4]
    assert_close(states[1]["memory"], states[0]["memory"], factor=3)
    assert states[1]["losses"] == pytest.approx(states[0]["losses"], rel=1e-5)


@pytest.mark.parametrize("family", ["gpt", "xlnet"])
def test_a_model_writes_the_same_text_on_both_devices(cuda, family):
    model = GPT(GPTConfig(**TINY, init_std=0.5))
    if family == "xlnet":
        model = XLNet(XLNetConfig(vocab_size=23, layers=2, heads=2, width=16, init_std=0.5))
    ids = np.array([[1, 2, 3], [4, 5, 6]])
    texts = []
    for device in ("cpu", "cuda"):
        tt.manual_seed(3)
        texts.append(generate(model.to(device), ids, 6))
    assert (texts[0] == texts[1]).all()


def test_beams_and_a_t5s_answers_to_padded_inputs_are_the_same_on_both_devices(cuda):
    model = GPT(GPTConfig(**TINY, init_std=0.5))
    reader = T5(T5Config(vocab_size=23, layers=1, heads=2, head_width=8, width=16, hidden=32))
    source = np.array([[0, 5, 6, 7, 1], [0, 0, 8, 9, 1]])
    written = []
    for device in ("cpu", "cuda"):
        beams = generate(model.to(device), np.array([[1, 2, 3], [4, 5, 6]]), 6, beams=3)
        reads, reader = dict(source=source, source_mask=source != 0, end=1), reader.to(device)
        starts, ways = np.zeros((2, 1), int), ({"temperature": 0}, {"beams": 2})
        answers = [generate(reader, starts, 5, **reads, **how) for how in ways]
        written.append([beams.tolist(), *(answer.tolist() for answer in answers)])
    assert written[0] == written[1]


def test_gpt_drops_out_on_the_gpu_the_same_in_forward_and_backward(cuda):
    """Finite differences through the dropout masks, which a seeded stream repeats."""
    model = GPT(GPTConfig(**TINY, dropout=0.3)).to("cuda")
    batch = gpt_batch()

    def loss():
        with tt.random.seeded(5):
            return model.loss(batch)

    model.zero_grad()
    loss().backward()
    weight = model.blocks[0].feed_forward.into.weight
    direction = backend.to_device(normal(1, weight.shape), "cuda")
    step, start = 3e-3, weight.data.copy()
    ends = []
    for sign in (1, -1):
        weight.data[...] = start + sign * step * direction
        ends.append(loss().item())
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(float((weight.grad * direction).sum()), rel=2e-2)


def test_indices_masks_and_numbers_made_on_the_cpu_are_moved_by_the_ops(cuda):
    x = Tensor(backend.to_device(normal(1, (4, 5)), "cuda"), requires_grad=True)
    y = x[np.array([0, 2, 2])] * 2.0 + np.ones(5, np.float32)
    z = ops.where(np.arange(5) < 3, y, 0.0)
    z.sum().backward()
    want = np.zeros((4, 5))
    want[0, :3], want[2, :3] = 2, 4
    assert (backend.to_numpy(x.grad) == want).all()


def run_on(device, folder, monkeypatch, *more):
    """The losses of a short run of the command line, from its metrics."""
    out = folder / device
    corpus = folder / "text.txt"
    corpus.write_text("the quick brown fox jumps over the lazy dog. " * 60)
    words = f"gpt --data {corpus} --out {out} --layers 1 --heads 2 --width 16 --context 8 --batch 4 --steps 6".split()
    words += ["--log-every", "1", "--eval-every", "6", "--eval-batches", "2", "--workers", "1", "--dropout", "0"]
    assert main([*words, "--device", device, *more]) in (None, 0)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return out, [line["loss"] for line in lines if "loss" in line], lines


def test_a_run_on_the_gpu_has_the_cpus_loss_curve_and_can_be_resumed(cuda, monkeypatch, tmp_path, capsys):
    _, right, _ = run_on("cpu", tmp_path, monkeypatch)
    out, losses, lines = run_on("cuda", tmp_path, monkeypatch)
    assert losses == pytest.approx(right, rel=1e-4)
    assert lines[0]["peak_bytes"] == 5 << 20
    assert main(["gpt", "--resume", str(out), "--steps", "7"]) in (None, 0)
    said = []
    for device in ("cpu", "cuda"):
        capsys.readouterr()
        for words in (["eval", str(out)], ["sample", str(out), "--tokens", "12", "--prompt", "the"]):
            assert main([*words, "--device", device]) in (None, 0)
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]


@pytest.mark.parametrize("dtype, name, near", [("float16", "__half", 5e-3), ("bfloat16", "__nv_bfloat16", 2e-2)])
def test_a_run_in_16_bits_keeps_float32_weights_and_comes_near_the_same_losses(cuda, monkeypatch, tmp_path, dtype, name,
                                                                                near):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    _, right, _ = run_on("cpu", tmp_path, monkeypatch)
    started = []
    run = launch.run
    monkeypatch.setattr(launch, "run", lambda source, name, *more: started.append(name) or run(source, name, *more))
    out, losses, _ = run_on("cuda", tmp_path, monkeypatch, "--dtype", dtype)
    assert losses == pytest.approx(right, rel=near)
    kernels = [one for one in started if one.startswith(("attention", "norm", "gelu"))]
    types = {re.search(r"<(\w+)", one)[1] for one in kernels}
    assert types == {name}
    assert f"adamw<float, float, {name}>" in started
    from safetensors.numpy import load_file

    weights = load_file(out / "model.safetensors")
    assert {a.dtype for a in weights.values()} == {np.dtype(np.float32)}
    rounded = [np.array_equal(a, a.astype(precision.compute_dtype(dtype))) for a in weights.values() if a.ndim == 2]
    assert not any(rounded)  # what is saved are the master weights, not their copy


def test_a_device_or_precision_that_cannot_be_had_is_refused_with_the_fix():
    for words, what in (
        ({"device": "tpu"}, "device must be one of cpu, cuda, not 'tpu'"),
        ({"dtype": "float16"}, "float16 is slower than float32 on a CPU"),
        ({"device": "cuda", "workers": 2}, "one worker drives the GPU, not 2"),
    ):
        with pytest.raises(ValueError, match=what):
            TrainConfig(**words)


def test_layers_too_wide_for_a_gpu_are_refused_before_training(cuda, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(emulator, "gpu", emulator.GAMES)
    (text := tmp_path / "text.txt").write_text("the quick brown fox jumps over the lazy dog. " * 60)
    words = f"gpt --data {text} --out {tmp_path / 'run'} --layers 1 --heads 1 --width 256 --context 8 --device cuda"
    assert main(words.split()) == 2
    assert "this GPU has at most 99 KB for a block; take narrower heads, or --dtype bf" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="normalization on the GPU takes rows of at most 8192, not 8200"):
        precision.to_gpu(LayerNorm(8200), "float32")


def test_running_out_of_memory_says_what_was_asked_for_what_was_free_and_what_to_turn_down(cuda):
    what = r"Out of memory allocating 9 bytes\): 3 MB are in use .* 1,026 MB of 8,192 MB are free; turn down --batch"
    error = cuda.cuda.memory.OutOfMemoryError("Out of memory allocating 9 bytes.")
    assert re.search(what, precision.lack_of_memory(error))


def test_a_command_that_runs_out_of_memory_on_the_gpu_says_the_same(cuda, monkeypatch, capsys):
    def run(args):
        raise cuda.cuda.memory.OutOfMemoryError("Out of memory allocating 9 bytes.")

    monkeypatch.setattr("train.commands.score.main", run)
    assert main(["score", "anything", "--text", "a", "--device", "cuda"]) == 2
    assert "1,026 MB of 8,192 MB are free; turn down --batch" in capsys.readouterr().err


def test_the_loss_scale_halves_on_overflow_and_doubles_after_long_success():
    scale = precision.LossScale(8.0)
    assert scale.overflowed() and scale.value == 4
    for _ in range(precision.LossScale.PATIENCE):
        scale.succeeded()
    assert scale.value == 8
    for _ in range(3):
        assert scale.overflowed()
    assert scale.value == 1 and not scale.overflowed()


@pytest.mark.parametrize(
    "words",
    [
        "t5 --layers 1 --heads 2 --head-width 8 --width 16 --hidden 32",
        "bert --pairs none --layers 1 --heads 2 --width 16 --context 16 --dropout 0 --attention-dropout 0",
        "elmo --layers 1 --width 8 --hidden 12 --char-width 4 --filters 1x4,2x4 --dropout 0",
    ],
)
def test_other_families_train_on_the_gpu_with_the_cpus_losses(cuda, tmp_path, words):
    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox jumps over the lazy dog. it sleeps and the fox runs away from it. " * 100)
    curves = []
    for device in ("cpu", "cuda"):
        run = ["--data", str(text), "--out", str(tmp_path / device), "--device", device, "--workers", "1"]
        run += ["--steps", "2", "--batch", "2", "--log-every", "1", "--eval-every", "2", "--eval-batches", "1"]
        assert main([*words.split(), *run]) in (None, 0)
        lines = map(json.loads, (tmp_path / device / "metrics.jsonl").read_text().splitlines())
        curves.append([line[name] for line in lines for name in ("loss", "val_loss") if name in line])
    assert len(curves[0]) == 3 and curves[1] == pytest.approx(curves[0], rel=1e-4)


def test_a_bert_is_fine_tuned_on_the_gpu(cuda, tmp_path):
    text, examples = tmp_path / "text.txt", tmp_path / "examples.tsv"
    text.write_text("the fox runs and the dog sleeps. " * 200)
    examples.write_text("text\tlabel\n" + "the fox runs\tyes\nthe dog sleeps\tno\n" * 12)
    words = "--pairs none --layers 1 --heads 2 --width 16 --context 16 --dropout 0 --attention-dropout 0"
    words = f"{words} --steps 1 --batch 2 --eval-batches 1 --workers 1"
    body = tmp_path / "body"
    assert main(["bert", "--data", str(text), "--out", str(body), *words.split()]) in (None, 0)
    curves = []
    for device in ("cpu", "cuda"):
        out = tmp_path / device
        words = ["finetune", str(body), "--task", "classify", "--data", str(examples), "--out", str(out)]
        words += ["--head-dropout", "0"]
        words += f"--epochs 1 --batch 4 --log-every 1 --workers 1 --device {device}".split()
        assert main(words) in (None, 0)
        lines = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
        curves.append([line["loss"] for line in lines if "loss" in line])
    assert curves[1] == pytest.approx(curves[0], rel=1e-4)
