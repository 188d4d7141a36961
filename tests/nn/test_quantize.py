"""Quantization: codes are the nearest that can be, layers compute with them exactly, and files hold real integers."""

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

import tinytensor as tt
from models import GPT, GPTConfig
from nn import LSTM, Embedding, Linear, Module
from nn.compression import storage
from nn.compression.integers import decode, encode, find_range, levels
from nn.compression.prune import prune, shrink
from nn.compression.quantize import Quantized, QuantizedEmbedding, QuantizedLinear, quantize, to_integers
from tests.helpers import assert_close

CONFIG = dict(vocab_size=23, context=12, layers=2, heads=4, width=16, init_std=0.3)


def gpt(seed=1, **changes) -> GPT:
    tt.manual_seed(seed)
    return GPT(GPTConfig(**CONFIG | changes))


def batch(seed=0, rows=3):
    ids = np.random.default_rng(seed).integers(0, 23, (rows, 13))
    return {"ids": ids[:, :-1], "targets": ids[:, 1:]}


def values(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


bits = st.integers(2, 8)
symmetries = st.booleans()


@given(bits=bits, symmetric=symmetries, seed=st.integers(0, 99), shift=st.floats(-3, 3))
def test_no_value_is_off_by_more_than_half_a_step(bits, symmetric, seed, shift):
    x = values(5, 17, seed=seed) + np.float32(shift)
    scale, zero = find_range(x, bits, symmetric)
    codes = encode(x, scale, zero, bits, symmetric)
    assert codes.dtype == np.int8
    assert levels(bits, symmetric)[0] <= codes.min() and codes.max() <= levels(bits, symmetric)[1]
    # An affine range is moved so that 0 is one of its values: by up to half a step more at its ends.
    assert (np.abs(decode(codes, scale, zero) - x) <= scale * (0.501 if symmetric else 1.001)).all()


@given(bits=bits, symmetric=symmetries, seed=st.integers(0, 99))
def test_what_can_be_represented_comes_back_as_it_was(bits, symmetric, seed):
    low, high = levels(bits, symmetric)
    codes = np.random.default_rng(seed).integers(low, high + 1, (4, 30), dtype=np.int8)
    codes[:, 0], codes[:, 1] = low, high
    zero = np.zeros((4, 1), np.int8) if symmetric else codes[:, 2:3]
    scale = np.float32(0.125) * np.arange(1, 5, dtype=np.float32)[:, None]
    x = decode(codes, scale, zero)
    found = find_range(x, bits, symmetric)
    assert_close(found[0], scale, 1e-6)
    assert (encode(x, *found, bits, symmetric) == codes).all()


@given(symmetric=symmetries, seed=st.integers(0, 50))
def test_a_range_of_least_squares_is_never_worse_than_the_whole_range(symmetric, seed):
    x = values(6, 512, seed=seed)
    errors = {}
    for ranges in ("minmax", "mse"):
        scale, zero = find_range(x, 4, symmetric, ranges)
        errors[ranges] = np.square(decode(encode(x, scale, zero, 4, symmetric), scale, zero) - x).sum(-1)
    assert (errors["mse"] <= errors["minmax"] * 1.0001).all()
    assert errors["mse"].sum() < 0.9 * errors["minmax"].sum()


def test_a_range_by_percentile_leaves_the_rare_values_out():
    x = values(1, 10_000)
    x[0, 0] = 1000
    scale, _ = find_range(x, 8, True, "percentile")
    assert 3 < scale[0, 0] * 127 < 4  # 99.9% of a normal distribution


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("columns", [48, 50])
def test_a_quantized_layer_computes_what_its_codes_say(bits, symmetric, static, columns):
    """Against float64 arithmetic on the decoded weight and the decoded input."""
    tt.manual_seed(0)
    layer, x = Linear(columns, 20), values(2, 7, columns) + 0.3
    layer.weight.data += 0.01  # so that affine differs from symmetric
    layer.bias.data += values(20, seed=1)
    how = dict(bits=bits, per=16 if bits == 4 else "channel", symmetric=symmetric, ranges="minmax")
    quantized = QuantizedLinear(*to_integers(layer.weight.data, **how), layer.bias)
    quantized.quantize_inputs(x if static else None)
    if static:
        scale, zero = quantized.input_scale.data, quantized.input_zero.data
    else:
        scale, zero = find_range(x, 8)
    x_seen = decode(encode(x, scale, zero, 8, not static), scale, zero).astype(np.float64)
    expected = x_seen @ quantized.floats().T.astype(np.float64) + layer.bias.data
    assert_close(quantized(tt.Tensor(x)).data, expected, 1e-5)
    assert np.abs(expected - layer(tt.Tensor(x)).data).max() < (0.05 if bits == 8 else 0.5)


def test_the_integer_sums_of_a_layer_are_exact():
    """Scales of one: then the whole layer is integer arithmetic, and nothing may be off."""
    codes = np.random.default_rng(0).integers(-127, 128, (30, 1500), dtype=np.int8)
    layer = QuantizedLinear(codes, np.ones((30, 1), np.float32), None, 1500)
    x = np.random.default_rng(1).integers(-127, 128, (4, 1500)).astype(np.float32)
    x[:, 0] = 127  # so that the scale found for the row is 1
    layer.quantize_inputs()
    assert (layer(tt.Tensor(x)).data == x.astype(np.int64) @ codes.astype(np.int64).T).all()


@pytest.mark.parametrize("bits", [8, 4, 3])
def test_an_embedding_reads_its_rows_as_floats(bits):
    tt.manual_seed(0)
    table = Embedding(11, 20)
    how = dict(bits=bits, per=8 if bits <= 4 else "channel", symmetric=True, ranges="minmax")
    quantized = QuantizedEmbedding(*to_integers(table.weight.data, **how))
    ids = np.array([[3, 3], [0, 10]])
    assert_close(quantized(ids).data, quantized.weight.data[ids], 0)
    step = np.abs(table.weight.data).max() / levels(bits, True)[1]
    assert np.abs(quantized.weight.data - table.weight.data).max() < 0.51 * step


@pytest.mark.parametrize(
    ("options", "closeness"),
    [
        (dict(), 0.02),
        (dict(per="tensor"), 0.05),
        (dict(symmetric=False), 0.02),
        (dict(activations="none", ranges="mse"), 0.03),
        (dict(activations="static"), 0.05),
        (dict(activations="static", ranges="percentile"), 0.1),
        (dict(rounding="gptq"), 0.02),
        (dict(bits=4), 0.4),
        (dict(bits=4, symmetric=False, group=8), 0.4),
        (dict(bits=4, rounding="gptq"), 0.4),
        (dict(bits=6, embeddings=False), 0.05),
    ],
)
def test_a_quantized_model_is_close_to_its_original_and_its_file_gives_it_back(options, closeness, tmp_path):
    model, ids = gpt(), batch()["ids"]
    before = model(ids).data
    quantize(model, **options, batches=[batch(1), batch(2)])
    after = model(ids).data
    assert 0 < np.abs(after - before).mean() / np.abs(before).mean() < closeness
    safetensors.numpy.save_file(storage.state(model), tmp_path / "w")
    again = gpt(seed=5)
    storage.load(again, safetensors.numpy.load_file(tmp_path / "w"))
    assert_close(again(ids).data, after, 0)
    cache = again.new_cache(len(ids))
    again.step(ids[:, :4], cache)
    assert_close(again.step(ids[:, 4:], cache), after[:, -1], 0.02)


@pytest.mark.parametrize(("bits", "share"), [(8, 0.27), (4, 0.16)])
def test_the_file_of_a_quantized_model_is_as_small_as_its_integers(bits, share, tmp_path):
    model = gpt(width=128, vocab_size=500, bias=False)
    safetensors.numpy.save_file(storage.state(model), tmp_path / "before")
    quantize(model, bits)
    safetensors.numpy.save_file(storage.state(model), tmp_path / "after")
    arrays = safetensors.numpy.load_file(tmp_path / "after")
    assert arrays["blocks.0.attention.qkv.codes"].dtype == (np.int8 if bits == 8 else np.uint8)
    assert (tmp_path / "after").stat().st_size < share * (tmp_path / "before").stat().st_size


def test_gptq_disturbs_the_outputs_less_than_rounding_to_nearest():
    tt.manual_seed(0)
    layer = Linear(64, 32)

    class Model(Module):
        def __init__(self):
            self.layer = layer

        def loss(self, batch):
            return self.layer(tt.Tensor(batch["x"])).sum()

    mixed = values(16, 64, seed=2)  # inputs that are mixtures of 16 things, as a layer's usually are of a few
    x = (values(500, 16, seed=3) @ mixed + 0.1 * values(500, 64, seed=4)).astype(np.float32)
    exact = layer(tt.Tensor(x)).data
    errors = {}
    for bits in (3, 4, 8):
        for rounding in ("nearest", "gptq"):
            model = Model()
            model.layer = layer
            quantize(model, bits, rounding=rounding, activations="none", batches=[{"x": x}])
            errors[rounding] = np.square(model.layer(tt.Tensor(x)).data - exact).sum()
        assert errors["gptq"] < 0.7 * errors["nearest"]


def test_gptq_is_rounding_to_nearest_where_inputs_are_not_correlated():
    from nn.compression.gptq import gptq

    weight = values(8, 20)
    found = find_range(weight, 4)
    codes, _, _ = gptq(weight, np.eye(20) * 3, None, *found, 4, True, "minmax")
    assert (codes == encode(weight, *found, 4, True)).all()


def test_an_lstm_with_integer_matrices_is_close_to_the_float_one(tmp_path):
    class Model(Module):
        def __init__(self):
            self.lstm = LSTM(12, 8, layers=2, proj_size=6, bidirectional=True)

    tt.manual_seed(0)
    model, x = Model(), tt.Tensor(values(3, 5, 12))
    before, count = model.lstm(x)[0].data, sum(p.data.nbytes for p in model.parameters())
    quantize(model)
    after = model.lstm(x)[0].data
    assert 0 < np.abs(after - before).max() < 0.01
    assert sum(p.data.nbytes for p in model.parameters()) < 0.5 * count
    again = Model()
    storage.load(again, storage.state(model))
    assert_close(again.lstm(x)[0].data, after, 0)


def test_a_gradient_passes_through_a_quantized_layer_as_through_its_floats():
    plain = Linear(6, 4)
    matrix = to_integers(plain.weight.data, bits=8, per="channel", symmetric=True, ranges="minmax")
    layer = QuantizedLinear(*matrix, plain.bias)
    layer.quantize_inputs()
    x = tt.Tensor(values(3, 6), requires_grad=True)
    (layer(x) * tt.Tensor(values(3, 4, seed=1))).sum().backward()
    assert_close(x.grad, values(3, 4, seed=1) @ layer.floats(), 1e-6)


def test_masks_shrunk_layers_and_integers_come_back_from_one_file(tmp_path):
    model, ids = gpt(), batch()["ids"]
    for what in ("heads", "neurons", "rows"):
        prune(model, 0.4, what=what, whole=True)
    shrink(model)
    prune(model, 0.7)
    expected = model(ids).data
    safetensors.numpy.save_file(storage.state(model), tmp_path / "w")
    again = gpt(seed=5)
    storage.load(again, safetensors.numpy.load_file(tmp_path / "w"))
    assert_close(again(ids).data, expected, 0)
    for (name, p), (_, q) in zip(model.named_parameters(), again.named_parameters()):
        assert (p.mask is None) == (q.mask is None), name
        assert p.mask is None or (p.mask == q.mask).all()
    quantize(model)  # what is zero stays zero, so it may come after pruning
    weight = model.blocks[0].feed_forward.into.weight.data
    assert (weight == 0).mean() > 0.65
    third = gpt(seed=6)
    storage.load(third, storage.state(model))
    assert_close(third(ids).data, model(ids).data, 0)


def test_a_sparse_model_is_small_on_disk(tmp_path):
    model = gpt(width=128, vocab_size=100, bias=False)
    safetensors.numpy.save_file(storage.state(model), tmp_path / "before")
    prune(model, 0.9)
    safetensors.numpy.save_file(storage.state(model), tmp_path / "after")
    assert (tmp_path / "after").stat().st_size < 0.22 * (tmp_path / "before").stat().st_size


def test_weights_of_another_model_are_refused_with_names():
    with pytest.raises(ValueError, match=r"do not fit GPT.*missing: blocks.1"):
        storage.load(gpt(), storage.state(gpt(layers=1)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(bits=1), "bits must be 2 to 8, not 1"),
        (dict(per="row"), "per channel or per tensor, not 'row'"),
        (dict(bits=4, group=5), "an even number of neighbours, not 5"),
        (dict(ranges="all"), "unknown way to find ranges 'all'"),
        (dict(activations="some"), "activations 'some' is unknown"),
        (dict(rounding="up"), "unknown rounding 'up'"),
        (dict(activations="static"), "give batches="),
    ],
)
def test_quantize_says_what_is_wrong_before_it_changes_anything(options, message):
    model = gpt()
    with pytest.raises(ValueError, match=message):
        quantize(model, **options)
    assert not any(isinstance(module, Quantized) for module in model.modules())
