"""Distillation: each loss against its formula, shards that add up, students made of teachers, and a run that learns."""

import numpy as np
import pytest

import tinytensor as tt
from models import GPT, T5, GPTConfig, T5Config
from models.t5 import shift_right
from tests.helpers import assert_close, tensor
from tests.train.test_compress import command, lines_of, trained  # noqa: F401
from tinytensor.gradcheck import gradcheck
from train import checkpoint
from train.compression.distill import (
    Distillation,
    DistillConfig,
    TeacherWritten,
    alternate_layers,
    attention_scores,
    cosine_loss,
    layer_pairs,
    make_student,
    soft_loss,
    square_loss,
    trace,
    written_by,
)
from train.objectives import Objective


def gpt(seed=1, **changes) -> GPT:
    tt.manual_seed(seed)
    return GPT(GPTConfig(**dict(vocab_size=23, context=12, layers=4, heads=4, width=16, init_std=0.3) | changes))


def batch(seed=0, rows=4):
    ids = np.random.default_rng(seed).integers(0, 23, (rows, 13))
    return {"ids": ids[:, :-1], "targets": ids[:, 1:]}


def log_softmax(x):
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_the_soft_loss_is_the_divergence_at_a_temperature(temperature):
    s, t = tensor(2, 3, 5), tensor(2, 3, 5, seed=1, grad=False)
    p, q = (log_softmax(x.data / temperature) for x in (t, s))
    expected = (np.exp(p) * (p - q)).sum() * temperature**2
    assert_close(soft_loss(s, t, temperature).data, expected, 1e-12)
    assert soft_loss(t, t, temperature).item() == pytest.approx(0, abs=1e-12)
    gradcheck(lambda s: soft_loss(s, t, temperature), [s])


def test_the_cosine_loss_looks_at_directions_only():
    s, t = tensor(2, 3, 5), tensor(2, 3, 5, seed=1, grad=False)
    cosine = (s.data * t.data).sum(-1) / np.linalg.norm(s.data, axis=-1) / np.linalg.norm(t.data, axis=-1)
    assert_close(cosine_loss(s, t).data, (1 - cosine).sum(), 1e-9)
    assert cosine_loss(tt.Tensor(t.data * 3), t).item() == pytest.approx(0, abs=1e-9)
    gradcheck(lambda s: cosine_loss(s, t), [s])


def test_padding_has_no_say():
    s, t = tensor(2, 3, 5), tensor(2, 3, 5, seed=1, grad=False)
    mask = np.array([[True, True, False], [True, False, False]])
    other = tt.Tensor(np.where(mask[..., None], s.data, 9.0))
    soft = lambda x, y, mask: soft_loss(x, y, 2.0, mask)
    for loss in (soft, cosine_loss, square_loss):
        assert_close(loss(s, t, mask).data, loss(other, t, mask).data, 1e-12)


def test_a_trace_holds_the_streams_and_scores_of_every_layer():
    model, data = gpt(), batch()
    found = trace(model, data)
    assert [x.shape for x in found.streams] == [(4, 12, 16)] * 4
    assert_close(model.norm(found.streams[-1]).data @ model.output_table.data.T, found.scores.data, 1e-5)
    q, k = (found.heads[0][1].data[:, :, n * 16 : (n + 1) * 16].reshape(4, 12, 4, 4) for n in (0, 1))
    assert_close(attention_scores(*found.heads[0]).data, np.einsum("bthd,bshd->bhts", q, k) / 2, 1e-5)
    assert_close(found.inputs.data, (model.token_embedding(data["ids"]) + model.position_embedding.weight).data, 0)


ALL = dict(soft=1.0, hard=0.5, hidden=0.3, attention=0.2, embedding=0.1)


@pytest.mark.parametrize("config", [DistillConfig(), DistillConfig(cosine=0.0, **ALL)])
def test_the_losses_of_shards_add_up_to_that_of_the_batch(config):
    """So that workers may share a batch: see train/objectives."""
    student = gpt(2, layers=2, width=16 if config.cosine else 8)
    model, data = Distillation(student, gpt(), config), batch()
    counts = model.counts(data)
    whole = model.loss(data)
    whole.backward()
    gradients = {name: p.grad.copy() for name, p in model.named_parameters()}
    model.zero_grad()
    total = 0.0
    for rows in (slice(0, 1), slice(1, 4)):
        part = model.loss({name: array[rows] for name, array in data.items()}, counts)
        part.backward()
        total += part.item()
    assert total == pytest.approx(whole.item(), rel=1e-5)
    for name, p in model.named_parameters():
        assert_close(p.grad, gradients[name], 1e-4)


def test_an_encoder_decoder_follows_its_teacher_at_the_tokens_of_the_output():
    tt.manual_seed(0)
    config = T5Config(vocab_size=23, layers=2, heads=2, head_width=4, width=8, hidden=16)
    teacher, student = T5(config), T5(config)
    ids = np.random.default_rng(0).integers(2, 23, (3, 7))
    targets = np.where(np.arange(5) < [[5], [3], [4]], ids[:, :5], -100)
    data = {"ids": ids, "mask": ids > 4, "targets": targets}
    model = Distillation(student, teacher, DistillConfig(soft=1.0, hard=0.0, cosine=0.0))
    said = (m(ids, shift_right(targets, 0), data["mask"]) for m in (teacher, student))
    p, q = (log_softmax(logits.data.astype(float) / 2) for logits in said)
    expected = ((np.exp(p) * (p - q)).sum(-1) * (targets != -100)).sum() * 4 / 12
    assert model.loss(data).item() == pytest.approx(expected, rel=1e-4)
    model = Distillation(student, teacher, DistillConfig(hidden=1.0, attention=1.0, embedding=1.0))
    model.loss(data).backward()
    assert all(p.grad is not None for p in student.parameters())


def test_a_student_that_is_its_teacher_has_nothing_to_learn_from_it():
    teacher = gpt()
    config = DistillConfig(soft=1.0, hard=0.0, cosine=1.0, hidden=1.0, attention=1.0, embedding=1.0)
    model = Distillation(make_student(teacher, 4), teacher, config)
    assert model.loss(batch()).item() == pytest.approx(0, abs=1e-4)


def test_only_student_and_projections_are_trained_and_evaluation_is_the_students_own():
    student, teacher = gpt(2, layers=2, width=8), gpt()
    model = Distillation(student, teacher, DistillConfig(cosine=0, **ALL))
    names = {name.split(".")[0] for name, _ in model.named_parameters()}
    assert names == {"student", "hidden", "embedding"}
    model.loss(batch()).backward()
    assert all(p.grad is not None for p in model.parameters())
    assert all(p.grad is None for p in teacher.parameters())
    assert model.eval().loss(batch()).item() == student.loss(batch()).item()


def test_the_student_begins_as_every_other_layer_of_its_teacher():
    assert alternate_layers(12, 6) == [0, 2, 4, 7, 9, 11]
    assert alternate_layers(4, 2) == [0, 3] and alternate_layers(3, 1) == [2]
    teacher = gpt()
    student = make_student(teacher, 2, keep=0.5)
    assert student.config.layers == 2 and teacher.config.layers == 4
    assert_close(student.blocks[1].attention.qkv.weight.data, teacher.blocks[3].attention.qkv.weight.data, 0)
    assert student.blocks[0].feed_forward.into.weight.shape == (32, 16)
    student.token_embedding.weight.data += 1  # a copy
    assert np.abs(teacher.token_embedding.weight.data).mean() < 0.5
    with pytest.raises(ValueError, match="a student of 5 layers cannot be made of a teacher's 4"):
        make_student(teacher, 5)


def test_the_layers_followed_are_spread_over_the_teacher():
    assert layer_pairs(2, 4) == [(0, 1), (1, 3)]
    assert layer_pairs(4, 12) == [(0, 2), (1, 5), (2, 8), (3, 11)]  # TinyBERT's, of 4 and 12 layers


def test_what_the_teacher_writes_begins_with_the_prompts_and_repeats_with_the_seed():
    starts = batch()["ids"][:, :3]
    text = written_by(gpt(), starts, seed=3)
    assert text.shape == (4 * 12,)
    assert (text.reshape(4, 12)[:, :3] == starts).all()
    assert (text == written_by(gpt(), starts, seed=3)).all()


def test_a_teacher_that_reads_and_writes_gives_its_own_answers_as_targets():
    tt.manual_seed(3)
    teacher = T5(T5Config(vocab_size=9, layers=1, heads=2, head_width=4, width=8, hidden=16)).eval()
    ids = np.random.default_rng(0).integers(2, 9, (6, 7))
    data = {"ids": ids, "mask": ids > 2, "targets": ids[:, :5]}

    class Fixed(Objective):
        one_shape = True

        def training_batch(self, data, number):
            return data

    objective = TeacherWritten(Fixed(), teacher)
    targets = objective.training_batch(data, 0)["targets"]
    assert objective.one_shape and targets.shape == (6, 5)
    logits = teacher(ids, shift_right(targets, 0), data["mask"]).data
    kept = targets != -100
    assert (logits.argmax(-1) == targets)[kept].all()  # each the most probable after those before it
    ends = targets == 1
    assert kept[:, 0].all() and (kept[:, 1:] == (kept & ~ends)[:, :-1]).all()  # all of them up to the first end


def test_cosine_needs_vectors_of_one_width():
    with pytest.raises(ValueError, match="vectors of one width, not 8 and 16"):
        Distillation(gpt(width=8), gpt(), DistillConfig())


@pytest.mark.parametrize("options", [dict(temperature=0), dict(soft=-1), dict(soft=0, hard=0, cosine=0)])
def test_a_config_that_makes_no_sense_is_refused(options):
    with pytest.raises(ValueError, match=r"temperature must be more than 0|soft must be at least 0|must not all be 0"):
        DistillConfig(**options)


def test_a_student_taught_by_the_command_is_a_run_of_its_own(trained, tmp_path):  # noqa: F811
    out = tmp_path / "student"
    options = ["--layers", 1, "--steps", 60, "--workers", 2, "--hidden", 1]
    assert command("distill", trained, "--out", out, *options) == 0
    teacher, alone, taught = lines_of(out)
    assert alone["parameters"] == taught["parameters"] < teacher["parameters"]
    assert float(taught["loss"]) < 1.6  # ln(17 characters) = 2.8
    model, _ = checkpoint.load_model(out)
    assert model.config.layers == len(model.blocks) == 1


def test_a_student_may_be_narrower_and_read_its_teachers_writing(trained, tmp_path):  # noqa: F811
    options = ["--width", 8, "--cosine", 0, "--hidden", 1, "--written", 20, "--no-alone", "--steps", 20]
    assert command("distill", trained, "--out", tmp_path / "narrow", *options) == 0
    model, _ = checkpoint.load_model(tmp_path / "narrow")
    assert model.config.width == 8 and len(lines_of(tmp_path / "narrow")) == 2


@pytest.mark.parity
def test_soft_and_cosine_losses_are_those_of_torch():
    torch = pytest.importorskip("torch")
    s, t = tensor(6, 9), tensor(6, 9, seed=1, grad=False)
    a, b = torch.tensor(s.data, requires_grad=True), torch.tensor(t.data)
    F = torch.nn.functional
    theirs = F.kl_div(F.log_softmax(a / 2, -1), F.softmax(b / 2, -1), reduction="sum") * 4
    theirs = theirs + torch.nn.CosineEmbeddingLoss(reduction="sum")(a, b, torch.ones(6))
    ours = soft_loss(s, t, 2.0) + cosine_loss(s, t)
    assert_close(ours.data, theirs.detach().numpy(), 1e-9)
    ours.backward()
    theirs.backward()
    assert_close(s.grad, a.grad.numpy(), 1e-9)
