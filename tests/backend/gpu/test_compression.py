"""Pruning, quantization, adapters and distillation do on the GPU's path what they do on the CPU.

Masks, codes, scales and adapters must be on the model's own device, which CuPy's stand-in insists on; what goes into a
file must come back as NumPy arrays.
"""

import numpy as np
import pytest

import tinytensor as tt
from models import GPT, T5, ELMo, ELMoConfig, GPTConfig, T5Config
from nn import evaluating
from nn.compression import qat, storage
from nn.compression.lora import LoRALinear, add_adapters, merge
from nn.compression.prune import prune, shrink
from nn.compression.quantize import quantize
from tests.backend.gpu.reference import assert_close
from tests.backend.gpu.test_whole_models import check_model
from tinytensor import backend
from train.compression.distill import Distillation, DistillConfig, make_student

IDS = np.random.default_rng(0).integers(2, 23, (3, 9))


def gpt():
    with tt.random.seeded(1):
        model = GPT(GPTConfig(vocab_size=23, context=12, layers=2, heads=2, width=16, init_std=0.3))
    return model, {"ids": IDS, "targets": np.roll(IDS, -1, axis=1)}


def t5():
    with tt.random.seeded(1):
        model = T5(T5Config(vocab_size=23, layers=1, heads=2, head_width=8, width=16, hidden=32))
    return model, {"ids": IDS, "targets": IDS[:, :6], "mask": IDS > 4}


def elmo():
    config = ELMoConfig(vocab_size=23, width=8, hidden=12, layers=1, char_width=4, filters="1x4,2x4", highways=1,
                        characters=6, dropout=0.0)
    draw = np.random.default_rng(4).integers
    with tt.random.seeded(1):
        model = ELMo(config)
    return model, {"ids": draw(0, 256, (2, 5, 6)), "targets": draw(0, 23, (2, 5)),
                   "back_ids": draw(0, 256, (2, 5, 6)), "back_targets": draw(0, 23, (2, 5))}


def loss_of(model, batch):
    with evaluating(model), tt.no_grad():
        return model.loss(batch).item()


def on_both(family, change, rel=1e-5):
    """(model, file) of each device: change(model, batch) there, then equal losses, also of what its file gives back."""
    done, losses = [], []
    for device in ("cpu", "cuda"):
        model, batch = family()
        model.to(device)
        with tt.random.seeded(5):
            change(model, batch)
        assert {p.device for p in model.parameters()} == {device}
        assert {backend.device_of(p.mask) for p in model.parameters() if p.mask is not None} <= {device}
        arrays = storage.state(model)
        assert {type(array) for array in arrays.values()} == {np.ndarray}
        again, _ = family()
        storage.load(again.to(device), arrays)
        losses.append(loss_of(model, batch))
        assert loss_of(again, batch) == pytest.approx(losses[-1], rel=1e-6)
        done.append((model, arrays))
    assert losses[1] == pytest.approx(losses[0], rel=rel)
    return done


@pytest.mark.parametrize("what, by", [
    ("weights", "magnitude"), ("weights", "activation"), ("2:4", "gradient"), ("neurons", "activation"),
    ("heads", "gradient"), ("rows", "activation"), ("weights", "random")])
def test_pruning_masks_the_same_on_both_devices_and_shrinking_changes_no_answer(cuda, what, by):
    def change(model, batch):
        prune(model, 0.5, what, by, batches=[batch])
        before = loss_of(model, batch)
        assert loss_of(shrink(model), batch) == pytest.approx(before, rel=1e-5)

    (_, right), (_, got) = on_both(gpt, change)
    assert got.keys() == right.keys()
    for name, array in right.items():
        assert_close(got[name], array, dtype=np.dtype(np.float32))


def test_a_t5_loses_heads_and_an_elmo_weights_on_the_gpu(cuda):
    heads = lambda model, batch: shrink(prune(model, 0.5, "heads"))
    for (model, _) in on_both(t5, heads):
        assert [block.attention.heads for block in (*model.encoder.blocks, *model.decoder.blocks)] == [1, 1]
    on_both(elmo, lambda model, batch: prune(model, 0.5))


def test_layers_go_by_how_much_they_change_the_stream_on_the_gpu_too(cuda):
    batch = gpt()[1]
    left = [prune(gpt()[0].to(device), 0.5, "layers", "activation", batches=[batch]) for device in ("cpu", "cuda")]
    assert [len(model.blocks) for model in left] == [1, 1]
    assert loss_of(left[1], batch) == pytest.approx(loss_of(left[0], batch), rel=1e-5)


@pytest.mark.parametrize("how", [
    dict(bits=8), dict(bits=8, symmetric=False, activations="static", ranges="percentile"),
    dict(bits=4, group=8, ranges="mse"), dict(bits=4, group=8, symmetric=False, activations="static"),
    dict(bits=8, rounding="gptq", activations="none"), dict(bits=3, group=8, rounding="gptq")])
def test_quantized_models_answer_the_same_on_both_devices(cuda, how):
    # A value halfway between two integers may fall to either side of it.
    on_both(gpt, lambda model, batch: quantize(model, batches=[batch], **how), rel=2e-3)


def test_quantized_lstms_answer_the_same_on_both_devices(cuda):
    on_both(elmo, lambda model, batch: quantize(model, 8), rel=2e-3)


@pytest.mark.parametrize("bits", [8, 3])
def test_a_model_is_trained_as_if_quantized_on_the_gpu(cuda, bits):
    model, batch = gpt()
    check_model(qat.prepare(model, bits, [batch], group=8), batch)
    on_both(gpt, lambda model, batch: qat.finish(qat.prepare(model, bits, [batch], group=8)), rel=2e-3)


def test_adapters_are_trained_and_merged_on_the_gpu(cuda):
    model, batch = gpt()
    with tt.random.seeded(2):
        add_adapters(model.to("cuda"), rank=2)
    with tt.random.seeded(3):
        for layer in (module for module in model.modules() if isinstance(module, LoRALinear)):
            change = tt.random.generator().standard_normal(layer.b.shape).astype(np.float32)
            layer.b.data += layer.b.xp.asarray(change)
    check_model(model.to("cpu"), batch)
    adapted = loss_of(model, batch)
    assert loss_of(merge(model), batch) == pytest.approx(adapted, rel=1e-5)


def test_a_student_follows_its_teacher_on_the_gpu(cuda):
    teacher, batch = gpt()
    config = DistillConfig(hidden=1.0, attention=1.0, embedding=1.0)
    losses, sizes = [], []
    for device in ("cpu", "cuda"):
        teacher.to(device)
        both = Distillation(make_student(teacher, 1, keep=0.5), teacher, config).to(device)
        loss = both.loss(batch)
        loss.backward()
        losses.append(loss.item())
        sizes.append([float((p.grad * p.grad).sum()) for p in both.parameters() if p.grad is not None])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert len(sizes[1]) == len(sizes[0]) > 0
    assert sizes[1] == pytest.approx(sizes[0], rel=1e-3)


def test_published_folders_are_written_from_the_gpu(cuda, tmp_path):
    for family, kind in ((gpt, GPT), (t5, T5)):
        model, batch = family()
        right = loss_of(model, batch)
        model.to("cuda").save_pretrained(tmp_path / kind.__name__)
        again = kind.from_pretrained(tmp_path / kind.__name__)
        assert loss_of(again, batch) == pytest.approx(right, rel=1e-5)
