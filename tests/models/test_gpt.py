import copy
import math

import numpy as np
import pytest

import tinytensor as tt
from models import GPT, GPTConfig
from nn import Module, shapes_only
from tests.helpers import assert_close
from tests.nn.test_transformer import Spy
from tinytensor import ops
from train.optim import AdamW, Schedule, clip_grad_norm

SMALL = dict(vocab_size=11, context=8, layers=2, heads=2, width=8)
CONFIGS = {
    "GPT-2's form": GPTConfig(**SMALL),
    "nanoGPT's, without biases and with the exact GELU": GPTConfig(**SMALL, bias=False, activation="gelu"),
}


def randomized(config: GPTConfig, seed: int = 0, scale: float = 0.3) -> GPT:
    """A GPT whose weights are large enough for every part to matter, biases and gains included."""
    with tt.random.seeded(seed) as draw:
        model = GPT(config)
    for parameter in model.parameters():
        parameter.data += np.float32(scale) * draw.standard_normal(parameter.shape, dtype=np.float32)
    return model


def some_ids(config: GPTConfig, batch: int = 3, length: int | None = None, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, config.vocab_size, (batch, length or config.context))


# ---- recorded references, so that the numbers are checked where PyTorch is not installed


def patterned(config: GPTConfig) -> GPT:
    """Weights that any program can repeat: 0.2 sin(1, 2, 3, ...), counted on from parameter to parameter."""
    model, start = GPT(config), 1
    for name, parameter in model.named_parameters():
        wave = 0.2 * np.sin(np.arange(start, start + parameter.size))
        parameter.data[...] = wave.reshape(parameter.shape) + ("norm" in name and name.endswith("weight"))
        start += parameter.size
    return model


def patterned_batch(config: GPTConfig) -> dict:
    ids = np.arange(3 * config.context).reshape(3, -1) ** 2 % config.vocab_size
    return {"ids": ids, "targets": (ids * 3 + 1) % config.vocab_size}


WATCHED = [
    "token_embedding.weight", "position_embedding.weight", "blocks.0.norm1.weight", "blocks.0.attention.qkv.weight",
    "blocks.1.attention.out.weight", "blocks.1.feed_forward.into.weight", "norm.weight",
]  # fmt: skip
# loss, lengths of the gradients of WATCHED, losses of eight AdamW steps: printed by python -m tests.models.torch_gpt
RECORDED = {
    "GPT-2's form": (
        2.708590497007336,
        [1.20341101, 0.25871594, 0.01864423, 0.1941649, 0.54296585, 1.03188914, 0.23860064],
        [2.7085905, 2.5065143, 2.2859512, 2.13293, 2.0498147, 1.9864525, 1.9316578, 1.8996595],
    ),
    "nanoGPT's, without biases and with the exact GELU": (
        2.3486434947400956,
        [1.17162506, 0.72148587, 0.01439549, 0.24234406, 0.37675508, 0.61644961, 0.08145355],
        [2.3486435, 2.3045811, 2.1398741, 2.0576308, 1.9628132, 1.8992868, 1.8660129, 1.8466987],
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_loss_and_gradients_are_the_recorded_ones(name):
    config = CONFIGS[name]
    model = patterned(config)
    loss = model.loss(patterned_batch(config))
    loss.backward()
    expected_loss, expected_norms, _ = RECORDED[name]
    # float32 here, float64 there: a few thousand roundings of 6e-8 that mostly cancel
    np.testing.assert_allclose(loss.item(), expected_loss, rtol=1e-6)
    parameters = dict(model.named_parameters())
    norms = [np.linalg.norm(parameters[watched].grad) for watched in WATCHED]
    np.testing.assert_allclose(norms, expected_norms, rtol=1e-5)


def losses_of_training(model: GPT, batches, rates, betas, weight_decay: float, clip: float) -> list[float]:
    optimizer = AdamW(model.parameters(), lr=rates[0], betas=betas, weight_decay=weight_decay)
    losses = []
    for batch, rate in zip(batches, rates):
        loss = model.loss(batch)
        loss.backward()
        clip_grad_norm(model.parameters(), clip)
        optimizer.step(rate)
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("name", CONFIGS)
def test_eight_steps_of_adamw_have_the_recorded_losses(name):
    config = CONFIGS[name]
    schedule = Schedule(lr=1e-2, steps=8, warmup=2, min_lr=1e-3)
    rates = [schedule(t) for t in range(8)]
    losses = losses_of_training(patterned(config), [patterned_batch(config)] * 8, rates, (0.9, 0.99), 0.1, 0.5)
    np.testing.assert_allclose(losses, RECORDED[name][2], rtol=1e-5)  # Adam's steps carry the roundings on


# ---- sizes


@pytest.mark.parametrize(
    "preset, count",
    [("toy", 804_096), ("baby", 10_745_088), ("gpt2", 124_439_808), ("gpt2-medium", 354_823_168),
     ("gpt2-large", 774_030_080), ("gpt2-xl", 1_557_611_200), ("gpt", 116_534_784), ("gpt3-125m", 125_226_240),
     ("gpt3-350m", 355_871_744), ("gpt3-760m", 760_300_032), ("gpt3-1.3b", 1_315_723_264),
     ("gpt3-2.7b", 2_651_553_280), ("gpt3-6.7b", 6_658_404_352), ("gpt3-13b", 12_853_386_240),
     ("gpt3-175b", 174_604_259_328)],
)  # fmt: skip
def test_presets_have_the_published_number_of_parameters(preset, count):
    with shapes_only():
        assert GPT(GPTConfig.preset(preset)).parameter_count() == count


@pytest.mark.parametrize(
    "preset, billions",
    [("gpt3-125m", 0.125), ("gpt3-350m", 0.356), ("gpt3-760m", 0.760), ("gpt3-1.3b", 1.316), ("gpt3-2.7b", 2.652),
     ("gpt3-6.7b", 6.659), ("gpt3-13b", 12.853), ("gpt3-175b", 174.600)],
)  # fmt: skip
def test_gpt3_sizes_agree_with_the_papers_table_of_compute(preset, billions):
    """Brown et al. 2020, appendix D: parameters in millions, printed to four or five digits."""
    with shapes_only():
        count = GPT(GPTConfig.preset(preset)).parameter_count()
    assert abs(count / 1e9 / billions - 1) < 2e-3


def test_an_output_table_of_its_own_adds_its_size():
    tied, apart = GPT(GPTConfig(**SMALL)), GPT(GPTConfig(**SMALL, tied=False))
    assert apart.parameter_count() - tied.parameter_count() == 11 * 8
    assert tied.output_table is tied.token_embedding.weight and apart.output_table is apart.head.weight


def test_a_preset_can_be_changed_and_an_unknown_one_is_named():
    assert GPTConfig.preset("gpt2", dropout=0.1) == GPTConfig(dropout=0.1)
    with pytest.raises(ValueError, match="unknown preset 'gpt3'; choose from toy, baby, gpt, gpt2"):
        GPTConfig.preset("gpt3")


@pytest.mark.parametrize(
    "field, value, message",
    [("layers", 0, "layers must be at least 1, not 0"), ("vocab_size", -1, "vocab_size must be at least 1, not -1"),
     ("dropout", 1.0, r"dropout must be less than 1, not 1.0"),
     ("width", 130, "width 130 is not divisible by heads 4; try 128 or 132")],
)  # fmt: skip
def test_bad_shapes_are_named(field, value, message):
    with pytest.raises(ValueError, match=message):
        GPTConfig(**(dict(vocab_size=5, context=4, layers=1, heads=4, width=8) | {field: value}))


# ---- the generations


def test_every_second_block_of_gpt3_sees_a_band_only():
    model = GPT(GPTConfig(**SMALL | dict(layers=4), window=3))
    assert [block.attention.window for block in model.blocks] == [None, 3, None, 3]


def test_a_token_beyond_the_bands_of_all_blocks_is_not_seen():
    """Two banded layers of 3 reach back 4 positions; the dense layers between them are made to pass nothing on."""
    config = GPTConfig(**SMALL | dict(layers=4), window=3)
    model = randomized(config).eval()
    for block in model.blocks[::2]:
        block.attention.out.weight.data[...] = 0
    ids = some_ids(config, 1)
    changed = ids.copy()
    changed[0, 0] = (ids[0, 0] + 1) % config.vocab_size
    differ = (model(ids).data != model(changed).data).any(axis=-1)[0]
    assert differ.tolist() == [True] * 5 + [False] * 3


@pytest.mark.parametrize("changes", [dict(), dict(post_norm=True), dict(window=2)])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(changes, side):
    config = GPTConfig(**SMALL, **changes)
    model, lengths, T = randomized(config).eval(), [8, 3, 1], 8
    ids = some_ids(config)
    mask = np.zeros((3, T), bool)
    for row, n in enumerate(lengths):
        mask[row, T - n :] = True
    mask = mask if side == "left" else mask[:, ::-1]
    together = model(ids, mask).data
    for row in range(3):
        alone = model(ids[row : row + 1, mask[row]]).data[0]
        assert_close(together[row, mask[row]], alone, 1e-5)


@pytest.mark.parametrize("changes", [dict(), dict(post_norm=True), dict(window=2), dict(tied=False, hidden=5)])
def test_a_cache_with_padded_rows_gives_the_logits_of_each_row_alone(changes):
    config = GPTConfig(**SMALL, **changes)
    model = randomized(config).eval()
    ids, mask = some_ids(config), np.array([[True] * 4, [False] * 3 + [True], [False] * 2 + [True] * 2])
    cache = model.new_cache(3, capacity=8)
    logits = [model.step(ids[:, :4], cache, mask), *(model.step(ids[:, t : t + 1], cache) for t in range(4, 8))]
    for row in range(3):
        own = ids[row : row + 1, np.append(mask[row], [True] * 4)]
        alone = model(own).data[0, -5:]
        assert_close([step[row] for step in logits], alone, 1e-5)


def test_a_cache_goes_on_with_the_rows_that_are_selected():
    config = GPTConfig(**SMALL)
    model = randomized(config).eval()
    ids, mask = some_ids(config), np.array([[True] * 4, [False] * 3 + [True], [False] * 2 + [True] * 2])
    cache = model.new_cache(3, capacity=8)
    model.step(ids[:, :4], cache, mask)
    for rows in ([2, 0, 2, 1], [1, 0, 3, 2], [3, 3]):
        cache.select(rows)
        ids, mask = ids[rows], mask[rows]
    later = np.array([[5, 6], [7, 8]])
    got = model.step(later, cache)
    for row in range(2):
        own = np.concatenate([ids[row, :4][mask[row]], later[row]])[None]
        assert_close(got[row], model(own).data[0, -1], 1e-5)


def test_the_loss_of_shards_adds_up_to_that_of_the_batch():
    config = GPTConfig(**SMALL)
    model = randomized(config)
    ids = some_ids(config, 4)
    targets = np.where(np.random.default_rng(0).random(ids.shape) < 0.3, -100, ids[:, ::-1])
    whole = model.loss({"ids": ids, "targets": targets})
    whole.backward()
    expected = [p.grad.copy() for p in model.parameters()]
    model.zero_grad()
    counts = {"targets": int((targets != -100).sum())}
    shards = [model.loss({"ids": ids[rows], "targets": targets[rows]}, counts) for rows in ([0], [1, 2, 3])]
    for shard in shards:
        shard.backward()
    assert_close(sum(shard.item() for shard in shards), whole.item(), 1e-6)
    for parameter, gradient in zip(model.parameters(), expected):
        assert_close(parameter.grad, gradient, 1e-5)


# ---- how it starts


def test_the_first_loss_is_that_of_guessing():
    config = GPTConfig(vocab_size=65, context=64, layers=4, heads=4, width=128)
    ids = some_ids(config, 4)
    loss = GPT(config).loss({"ids": ids, "targets": ids[::-1]}).item()
    assert abs(loss - math.log(65)) < 0.05  # weights of 0.02 make logits of about 0.2


def test_matrices_that_write_to_the_residual_stream_start_smaller():
    model = GPT(GPTConfig(vocab_size=50, context=16, layers=8, heads=4, width=64))
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            expected = 0.02 / math.sqrt(16) if name.endswith("out.weight") else 0.02
            assert abs(parameter.data.std() / expected - 1) < 0.15, name  # 1,024 draws or more: 5 standard errors
        else:
            assert (parameter.data == name.endswith("weight")).all(), name


# ---- what it computes


@pytest.mark.parametrize("name", CONFIGS)
def test_changing_a_token_never_changes_earlier_logits(name):
    model, ids = randomized(CONFIGS[name]), some_ids(CONFIGS[name], 1)
    before = model(ids).data
    for position in range(1, 8):
        changed = ids.copy()
        changed[0, position] = (changed[0, position] + 1) % 11
        after = model(changed).data
        assert_close(after[:, :position], before[:, :position], 1e-6)  # BLAS may sum in another order
        assert abs(after[:, position:] - before[:, position:]).max() > 1e-3


def test_rows_of_a_batch_do_not_see_each_other():
    model, ids = randomized(GPTConfig(**SMALL)), some_ids(GPTConfig(**SMALL))
    whole = model(ids).data
    for row in range(3):
        assert_close(model(ids[row : row + 1]).data[0], whole[row], 1e-5)


def test_the_order_of_tokens_matters():
    model = randomized(GPTConfig(**SMALL))
    assert abs(model(np.array([[1, 2, 3]])).data[0, -1] - model(np.array([[2, 1, 3]])).data[0, -1]).max() > 1e-3


@pytest.mark.parametrize("tied", [True, False])
def test_the_loss_is_the_cross_entropy_of_the_logits(tied):
    config = GPTConfig(**SMALL, tied=tied)
    model, twin = randomized(config), randomized(config)
    ids, targets = some_ids(config), some_ids(config, seed=2)
    targets[0, :5] = -100
    loss, plain = model.loss({"ids": ids, "targets": targets}), ops.cross_entropy(twin(ids), targets)
    assert_close(loss.item(), plain.item(), 1e-6)
    loss.backward()
    plain.backward()
    for (name, a), b in zip(model.named_parameters(), twin.parameters()):
        np.testing.assert_allclose(a.grad, b.grad, atol=2e-6, err_msg=name)


def test_its_gradient_is_that_of_finite_differences():
    config = GPTConfig(vocab_size=5, context=3, layers=1, heads=2, width=4)
    model = randomized(config)
    for parameter in model.parameters():
        parameter.data = parameter.data.astype(np.float64)
    batch = {"ids": some_ids(config, 2), "targets": some_ids(config, 2, seed=2)}
    tt.gradcheck(lambda *_: model.loss(batch), model.parameters())


@pytest.mark.parametrize("steps", [[1] * 8, [5, 1, 1, 1], [3, 4], [8]])
def test_cached_steps_give_the_logits_of_the_full_pass(steps):
    config = GPTConfig(**SMALL)
    model, ids = randomized(config).eval(), some_ids(config)
    cache, start = model.new_cache(3), 0
    for n in steps:
        last = model.step(ids[:, start : start + n], cache)
        start += n
        assert_close(last, model(ids[:, :start]).data[:, -1], 1e-5)  # float32, logits of about 3


def test_dropout_works_in_training_only():
    config = GPTConfig(**SMALL, dropout=0.2)
    model, ids = randomized(config), some_ids(config)
    assert (model(ids).data != model(ids).data).any()
    model.eval()
    np.testing.assert_array_equal(model(ids).data, model(ids).data)
    plain = randomized(GPTConfig(**SMALL))
    assert_close(model(ids).data, plain(ids).data, 1e-6)


def test_dropout_falls_on_the_embeddings():
    model = randomized(GPTConfig(**SMALL, dropout=0.25))
    model.blocks, model.norm = [], Spy()
    zeros = (model.hidden(some_ids(model.config, 500)).data == 0).mean()
    assert abs(zeros - 0.25) < 5 * math.sqrt(0.25 * 0.75 / (500 * 8 * 8))  # five standard deviations


def test_checkpointed_blocks_train_the_same():
    config = GPTConfig(**SMALL, dropout=0.2)
    model = randomized(config)
    batch = {"ids": some_ids(config), "targets": some_ids(config, seed=2)}
    results = []
    for wrap in (False, True):
        if wrap:
            model.blocks = [Checkpointed(block) for block in model.blocks]
        tt.manual_seed(3)
        loss = model.loss(batch)
        loss.backward()
        results.append((loss.item(), [p.grad for p in model.parameters()]))
        model.zero_grad()
    assert results[0][0] == results[1][0]
    for plain, again in zip(results[0][1], results[1][1], strict=True):
        assert_close(again, plain, 1e-6)


class Checkpointed(Module):
    """A block whose second half, the feed-forward network, is computed again in backward."""

    def __init__(self, block):
        self.block = block

    def __call__(self, x, mask=None, cache=None):
        block = self.block
        x = x.add(block.attention(x.normalized(block.norm1)), block.dropout1)
        return x.add(tt.checkpoint(block.feed_forward, x.normalized(block.norm2)), block.dropout2)


# ---- bad input


def test_ids_outside_the_vocabulary_are_named():
    model = GPT(GPTConfig(**SMALL))
    with pytest.raises(ValueError, match=r"id 11 is outside the table of 11 rows \(0\.\.10\)"):
        model(np.array([[0, 11]]))
    with pytest.raises(ValueError, match="id -1 is outside"):
        model(np.array([[-1, 2]]))
    with pytest.raises(ValueError, match="target 11 is outside the 11 classes"):
        model.loss({"ids": np.array([[0, 1]]), "targets": np.array([[1, 11]])})


def test_an_input_longer_than_the_context_is_refused():
    model = GPT(GPTConfig(**SMALL))
    with pytest.raises(ValueError, match="9 tokens are more than the context of 8"):
        model(np.zeros((1, 9), int))
    cache = model.new_cache(1)
    model.step(np.zeros((1, 6), int), cache)
    with pytest.raises(ValueError, match="9 tokens are more than the context of 8"):
        model.step(np.zeros((1, 3), int), cache)


def test_ids_without_a_batch_are_refused():
    with pytest.raises(ValueError, match=r"GPT reads ids of shape \(B, T\), not \(3,\)"):
        GPT(GPTConfig(**SMALL))(np.array([1, 2, 3]))


# ---- against PyTorch and transformers, live


@pytest.mark.parity
@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh"])
@pytest.mark.parametrize("bias", [True, False])
def test_logits_and_gradients_are_those_of_nanogpts_architecture_in_torch(bias, activation):
    pytest.importorskip("torch")
    from tests.models.torch_gpt import TorchGPT, torch_name

    config = GPTConfig(vocab_size=65, context=32, layers=3, heads=4, width=64, bias=bias, activation=activation)
    model = randomized(config, scale=0.05)
    twin = TorchGPT(config).load(model.state_dict())
    batch = {"ids": some_ids(config), "targets": some_ids(config, seed=2)}
    import torch

    logits = twin(torch.tensor(batch["ids"])).detach().numpy()
    assert abs(model(batch["ids"]).data - logits).max() <= 1e-5 * abs(logits).max()
    model.loss(batch).backward()
    twin.loss(batch).backward()
    theirs = dict(twin.named_parameters())
    for name, parameter in model.named_parameters():
        expected = theirs[torch_name(name)].grad.numpy()
        assert abs(parameter.grad - expected).max() <= 1e-5 * max(1, abs(expected).max()), name


@pytest.mark.parity
@pytest.mark.parametrize("bias, activation", [(False, "gelu"), (True, "gelu_tanh")])
def test_fifty_steps_of_adamw_with_clipping_and_the_cosine_schedule_follow_torch(bias, activation):
    pytest.importorskip("torch")
    from tests.models.torch_gpt import TorchGPT, cosine, train

    config = GPTConfig(vocab_size=65, context=32, layers=2, heads=4, width=64, bias=bias, activation=activation)
    model = GPT(config)
    twin = TorchGPT(config).load(copy.deepcopy(model.state_dict()))
    text = np.cumsum(np.random.default_rng(0).integers(0, 4, 4000)) % 65  # something to learn: small steps upward
    starts = np.random.default_rng(1).integers(0, 4000 - 33, (50, 6))
    windows = text[starts[..., None] + np.arange(33)]
    batches = [{"ids": w[:, :-1], "targets": w[:, 1:]} for w in windows]
    schedule = Schedule(lr=3e-3, steps=50, warmup=10, min_lr=3e-4)
    ours = losses_of_training(model, batches, [schedule(t) for t in range(50)], (0.9, 0.99), 0.1, 0.5)
    theirs = train(twin, batches, [cosine(t, 3e-3, 3e-4, 10, 50) for t in range(50)], (0.9, 0.99), 0.1, 0.5)
    assert ours[-1] < ours[0] - 1
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.parity
def test_logits_are_those_of_transformers_gpt2():
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    config = GPTConfig(vocab_size=97, context=24, layers=3, heads=4, width=32)
    model = randomized(config, scale=0.05).eval()
    theirs = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=97, n_positions=24, n_embd=32, n_layer=3, n_head=4)
    ).eval()
    state = {
        "transformer.wte.weight": model.token_embedding.weight,
        "transformer.wpe.weight": model.position_embedding.weight,
        "transformer.ln_f.weight": model.norm.weight, "transformer.ln_f.bias": model.norm.bias,
    }  # fmt: skip
    matrices = {}
    for index, block in enumerate(model.blocks):
        for name, layer in {"ln_1": block.norm1, "ln_2": block.norm2}.items():
            state[f"transformer.h.{index}.{name}.weight"] = layer.weight
            state[f"transformer.h.{index}.{name}.bias"] = layer.bias
        for name, layer in {
            "attn.c_attn": block.attention.qkv, "attn.c_proj": block.attention.out,
            "mlp.c_fc": block.feed_forward.into, "mlp.c_proj": block.feed_forward.out,
        }.items():  # fmt: skip
            matrices[f"transformer.h.{index}.{name}.weight"] = layer.weight  # Conv1D: (in, out)
            state[f"transformer.h.{index}.{name}.bias"] = layer.bias
    weights = {name: torch.tensor(p.data) for name, p in state.items()}
    weights |= {name: torch.tensor(p.data.T.copy()) for name, p in matrices.items()}
    left_out = theirs.load_state_dict(weights, strict=False)
    assert not left_out.unexpected_keys and left_out.missing_keys in ([], ["lm_head.weight"])
    theirs.tie_weights()
    ids = some_ids(config)
    with torch.no_grad():
        logits = theirs(torch.tensor(ids)).logits.numpy()
    assert abs(model(ids).data - logits).max() <= 1e-5 * abs(logits).max()
