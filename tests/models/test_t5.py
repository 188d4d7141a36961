import dataclasses

import numpy as np
import pytest

import tinytensor as tt
from models import pretrained
from models.generate import generate
from models.pretrained import t5 as published
from models.t5 import T5, T5Config, relative_position_bucket, shift_right
from nn import Attention, Dropout, shapes_only
from tests.helpers import assert_close
from tinytensor import ops

SMALL = dict(vocab_size=23, layers=2, heads=3, head_width=4, width=8, hidden=20, buckets=8, max_distance=10)
V1_1 = dict(activation="gelu_tanh", gated=True, tied=False)
CONFIGS = {"v1.0": T5Config(**SMALL), "v1.1": T5Config(**SMALL, decoder_layers=3, **V1_1)}


def randomized(config: T5Config, seed: int = 0, scale: float = 0.3) -> T5:
    """A T5 whose weights are large enough for every part to matter, gains included."""
    with tt.random.seeded(seed) as draw:
        model = T5(config)
    for parameter in model.parameters():
        parameter.data += np.float32(scale) * draw.standard_normal(parameter.shape, dtype=np.float32)
    return model


def some_batch(config: T5Config, padded: bool = True, seed: int = 1) -> dict:
    """Three inputs and outputs; padded ones end early."""
    draw = np.random.default_rng(seed)
    ids, targets = draw.integers(2, config.vocab_size, (3, 14)), draw.integers(1, config.vocab_size, (3, 11))
    mask = np.ones((3, 14), bool)
    if padded:
        mask[0, 9:] = mask[2, 2:] = False
        targets[1, 4:] = targets[2, 10:] = -100
    return {"ids": np.where(mask, ids, 0), "mask": mask, "targets": targets}


# ---- relative positions

BOTH_WAYS = [8, 12, 16, 23, 32, 46, 64, 91]  # the first distance of buckets 8, 9, ... to either side
BACKWARD = [16, 19, 21, 24, 27, 31, 35, 40, 46, 52, 59, 67, 77, 87, 99, 113]  # of buckets 16, 17, ...


def test_buckets_are_the_published_ones_for_every_distance_to_300():
    distances = np.arange(-300, 301)
    far = lambda d, exact, firsts: d if d < exact else exact - 1 + sum(first <= d for first in firsts)
    both = [far(abs(d), 8, BOTH_WAYS) + 16 * (d > 0) for d in distances]
    np.testing.assert_array_equal(relative_position_bucket(distances, both_ways=True), both)
    backward = [far(max(0, -d), 16, BACKWARD) for d in distances]
    np.testing.assert_array_equal(relative_position_bucket(distances, both_ways=False), backward)


@pytest.mark.parity
@pytest.mark.parametrize("both_ways", [True, False])
@pytest.mark.parametrize("buckets, max_distance", [(32, 128), (8, 20), (64, 256)])
def test_buckets_are_those_of_transformers(both_ways, buckets, max_distance):
    torch = pytest.importorskip("torch")
    t5 = pytest.importorskip("transformers.models.t5.modeling_t5")
    distances = np.arange(-300, 301)
    theirs = t5.T5Attention._relative_position_bucket(torch.tensor(distances), both_ways, buckets, max_distance)
    np.testing.assert_array_equal(relative_position_bucket(distances, both_ways, buckets, max_distance), theirs.numpy())


def test_only_distances_matter_not_places():
    model = randomized(CONFIGS["v1.0"])
    bias = model.encoder.positions(9, 9).data
    for t in range(9):
        for s in range(9):
            bucket = relative_position_bucket(s - t, True, 8, 10)
            np.testing.assert_array_equal(bias[:, t, s], model.encoder.positions.weight.data[bucket])
    causal = model.decoder.positions(9, 9).data
    np.testing.assert_array_equal(model.decoder.positions(2, 9).data, causal[:, -2:])  # the last queries alone


# ---- sizes


@pytest.mark.parametrize(
    "preset, count",
    [("t5-small", 60_506_624), ("t5-base", 222_903_552), ("t5-large", 737_668_096), ("t5-3b", 2_851_598_336),
     ("t5-11b", 11_307_321_344), ("t5-v1.1-small", 76_961_152), ("t5-v1.1-base", 247_577_856),
     ("t5-v1.1-large", 783_150_080), ("t5-v1.1-xl", 2_849_757_184), ("t5-v1.1-xxl", 11_135_332_352)],
)  # fmt: skip
def test_presets_have_the_published_number_of_parameters(preset, count):
    with shapes_only():
        assert T5(T5Config.preset(preset)).parameter_count() == count


@pytest.mark.parametrize(
    "field, value, message",
    [("layers", 0, "layers must be at least 1, not 0"),
    ("decoder_layers", -1, "decoder_layers must be at least 0, not -1"),
     ("dropout", 1.0, r"dropout must be less than 1, not 1.0"), ("buckets", 7, "buckets must be an even number, not 7"),
     ("max_distance", 4, "max_distance 4 must be more than half of the 8 buckets"),
     ("activation", "gelu_new", "activation must be one of gelu, gelu_tanh"),
     ("eos_id", 23, "eos_id 23 is outside the vocabulary of 23 tokens")],
)  # fmt: skip
def test_bad_shapes_are_named(field, value, message):
    with pytest.raises(ValueError, match=message):
        T5Config(**(SMALL | {field: value}))


def test_an_unknown_preset_is_named_and_a_known_one_can_be_changed():
    assert T5Config.preset("t5-small", dropout=0.1) == T5Config(dropout=0.1)
    with pytest.raises(ValueError, match="unknown preset 't5'; choose from t5-small, t5-base"):
        T5Config.preset("t5")


def test_ids_and_masks_of_the_wrong_shape_are_named():
    model = T5(CONFIGS["v1.0"])
    with pytest.raises(ValueError, match=r"T5 reads input ids of shape \(B, T\) with at least one token, not \(3,\)"):
        model(np.array([1, 2, 3]), np.array([[0]]))
    with pytest.raises(ValueError, match=r"output ids of shape .*, not \(1, 0\)"):
        model(np.array([[1, 2, 3]]), np.zeros((1, 0), int))
    with pytest.raises(ValueError, match=r"mask has shape \(1, 2\), expected \(1, 3\) to match the ids"):
        model(np.array([[1, 2, 3]]), np.array([[0]]), np.ones((1, 2), bool))


# ---- how it starts


def test_first_weights_have_the_published_sizes():
    config = T5Config(vocab_size=500, layers=2, heads=4, head_width=32, width=64, hidden=256, **V1_1)
    C, D, inner, F = 64, 32, 128, 256
    stds = {
        "embedding.weight": 1.0, "head.weight": C**-0.5, "cross.q.weight": (C * D) ** -0.5,
        "cross.kv.weight": C**-0.5, "attention.out.weight": inner**-0.5, "cross.out.weight": inner**-0.5,
        "gate.weight": C**-0.5, "into.weight": C**-0.5, "feed_forward.out.weight": F**-0.5,
        "positions.weight": C**-0.5,
    }  # fmt: skip
    for name, parameter in T5(config).named_parameters():
        if "norm" in name:
            assert (parameter.data == 1).all(), name
            continue
        parts = np.split(parameter.data, 3) if name.endswith("qkv.weight") else [parameter.data]
        expected = [(C * D) ** -0.5, C**-0.5, C**-0.5] if len(parts) == 3 else \
            [next(std for ending, std in stds.items() if name.endswith(ending))]
        for part, std in zip(parts, expected):
            assert abs(part.std() / std - 1) < 5 / np.sqrt(2 * part.size), name  # five standard errors


# ---- what it computes


@pytest.mark.parametrize("name", CONFIGS)
def test_its_gradient_is_that_of_finite_differences(name):
    tiny = dict(vocab_size=5, layers=1, decoder_layers=1, heads=2, head_width=2, width=4, hidden=3)
    model = randomized(dataclasses.replace(CONFIGS[name], **tiny, buckets=4, max_distance=6))
    for parameter in model.parameters():
        parameter.data = parameter.data.astype(np.float64)
    batch = {"ids": np.array([[2, 3, 4, 0], [4, 2, 3, 1]]), "mask": np.array([[1, 1, 1, 0], [1, 1, 1, 1]], bool),
             "targets": np.array([[3, 4, 1], [2, 1, -100]])}  # fmt: skip
    tt.gradcheck(lambda *_: model.loss(batch), model.parameters())


@pytest.mark.parametrize("name", CONFIGS)
def test_the_loss_is_the_cross_entropy_of_the_logits(name):
    model, batch = randomized(CONFIGS[name]), some_batch(CONFIGS[name])
    starts = shift_right(batch["targets"], 0)
    assert starts[0].tolist() == [0, *batch["targets"][0, :-1]] and (starts[1, 5:] == 0).all()
    logits = model(batch["ids"], starts, batch["mask"])
    assert_close(model.loss(batch).item(), ops.cross_entropy(logits, batch["targets"]).item(), 1e-5)


def test_losses_of_shards_divided_by_the_whole_count_add_up():
    model, batch = randomized(CONFIGS["v1.0"]), some_batch(CONFIGS["v1.0"])
    assert model.counts(batch) == {"targets": 11 + 4 + 10, "rows": 3}
    shards = [{name: array[rows] for name, array in batch.items()} for rows in (slice(0, 1), slice(1, 3))]
    parts = [model.loss(shard, model.counts(batch)).item() for shard in shards]
    assert_close(sum(parts), model.loss(batch).item(), 1e-6)


@pytest.mark.parametrize("name", CONFIGS)
def test_padding_changes_nothing(name):
    model, batch = randomized(CONFIGS[name]), some_batch(CONFIGS[name])
    starts = shift_right(batch["targets"], 0)
    whole = model(batch["ids"], starts, batch["mask"]).data
    for row in range(3):
        n = batch["mask"][row].sum()
        alone = model(batch["ids"][row : row + 1, :n], starts[row : row + 1]).data
        assert_close(alone[0], whole[row], 2e-5)  # float32, logits of about 10


def test_the_decoder_sees_all_of_the_input_and_only_the_output_so_far():
    model, batch = randomized(CONFIGS["v1.0"]), some_batch(CONFIGS["v1.0"], padded=False)
    ids, starts = batch["ids"], shift_right(batch["targets"], 0)
    before = model(ids, starts).data
    other = ids.copy()
    other[:, -1] = (ids[:, -1] + 1) % 23
    assert (abs(model(other, starts).data - before).max(axis=(0, 2)) > 1e-4).all()
    later = starts.copy()
    later[:, 5] = (starts[:, 5] + 1) % 23
    after = model(ids, later).data
    assert_close(after[:, :5], before[:, :5], 1e-5)
    assert (abs(after[:, 5:] - before[:, 5:]).max(axis=(0, 2)) > 1e-4).all()


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("steps", [[1] * 11, [5, 1, 5], [11]])
def test_cached_steps_give_the_logits_of_the_full_pass(name, steps):
    model, batch = randomized(CONFIGS[name]).eval(), some_batch(CONFIGS[name])
    starts = shift_right(batch["targets"], 0)
    whole = model(batch["ids"], starts, batch["mask"]).data
    cache, at = model.new_cache(3, 11, source=batch["ids"], source_mask=batch["mask"]), 0
    for n in steps:
        logits = model.step(starts[:, at : at + n], cache)
        at += n
        assert_close(logits, whole[:, at - 1], 2e-5)


def test_outputs_may_begin_with_padding():
    model, batch = randomized(CONFIGS["v1.0"]).eval(), some_batch(CONFIGS["v1.0"])
    starts = shift_right(batch["targets"], 0)
    cache = model.new_cache(3, 11, source=batch["ids"], source_mask=batch["mask"])
    mask = np.arange(5) >= np.array([[0], [2], [4]])
    model.step(np.zeros((3, 5), int), cache, mask)
    got = model.step(starts[:, 1:3], cache)
    for row, pad in enumerate([0, 2, 4]):
        text = np.concatenate([np.zeros(5 - pad, int), starts[row, 1:3]])[None]
        alone = model(batch["ids"][row : row + 1], text, batch["mask"][row : row + 1]).data[0, -1]
        assert_close(got[row], alone, 2e-5)


def test_rows_of_a_cache_can_be_chosen_anew():
    model, batch = randomized(CONFIGS["v1.0"]).eval(), some_batch(CONFIGS["v1.0"])
    starts = shift_right(batch["targets"], 0)
    cache = model.new_cache(3, 11, source=batch["ids"], source_mask=batch["mask"])
    model.step(starts[:, :3], cache)
    rows = [2, 2, 0]
    whole = model(batch["ids"][rows], starts[rows], batch["mask"][rows]).data
    assert_close(model.step(starts[rows, 3:5], cache.select(rows)), whole[:, 4], 2e-5)


def test_dropout_works_in_training_only_and_everywhere():
    model, batch = randomized(dataclasses.replace(CONFIGS["v1.0"], dropout=0.2)), some_batch(CONFIGS["v1.0"])
    assert model.loss(batch).item() != model.loss(batch).item()
    model.eval()
    assert model.loss(batch).item() == model.loss(batch).item() == randomized(CONFIGS["v1.0"]).loss(batch).item()
    shares = [module.p for module in model.modules() if isinstance(module, Dropout)]
    shares += [module.dropout for module in model.modules() if isinstance(module, Attention)]
    # per stack: embedding and final norm share one; per block: branches, inside the network, and each attention
    assert shares == [0.2] * (2 + 2 * (2 + 1 + 1) + 2 * (2 + 1 + 2))


# ---- recorded references, so that the numbers are checked where transformers is not installed


def patterned(config: T5Config) -> T5:
    """Weights that any program can repeat: 0.2 sin(1, 2, 3, ...), counted on from parameter to parameter."""
    model, start = T5(config), 1
    for name, parameter in model.named_parameters():
        wave = 0.2 * np.sin(np.arange(start, start + parameter.size))
        parameter.data[...] = wave.reshape(parameter.shape) + ("norm" in name)
        start += parameter.size
    return model


def patterned_batch(config: T5Config) -> dict:
    ids = np.arange(3 * 14).reshape(3, -1) ** 2 % config.vocab_size
    targets = np.arange(3 * 11).reshape(3, -1) ** 2 % 19 + 1
    mask = np.arange(14) < np.array([[14], [9], [3]])
    return {"ids": ids, "mask": mask, "targets": np.where(np.arange(11) < np.array([[11], [6], [2]]), targets, -100)}


WATCHED = [
    "embedding.weight", "encoder.positions.weight", "encoder.blocks.0.attention.qkv.weight",
    "encoder.blocks.1.feed_forward.into.weight", "encoder.norm.weight", "decoder.positions.weight",
    "decoder.blocks.0.norm1.weight", "decoder.blocks.1.cross.kv.weight", "decoder.blocks.1.cross.q.weight",
    "decoder.blocks.1.feed_forward.out.weight",
]  # fmt: skip
# loss and the lengths of the gradients of WATCHED, of transformers' T5ForConditionalGeneration in float64
RECORDED = {
    "v1.0": (
        3.130427733097655,
        [0.245000587, 0.003439533, 0.056839362, 0.148311146, 0.011333136,
         0.007630838, 0.009882488, 0.024944549, 0.037967821, 0.189591144],
    ),
    "v1.1": (
        3.19438501551674,
        [1.550234925, 0.047240105, 0.513576976, 0.163550348, 0.073579614,
         0.243160249, 0.192973139, 0.816228506, 0.207776324, 0.321781905],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_loss_and_gradients_are_the_recorded_ones(name):
    model = patterned(CONFIGS[name])
    for parameter in model.parameters():  # in float64, so that no machine's way of adding up float32 matters
        parameter.data = parameter.data.astype(np.float64)
    loss = model.loss(patterned_batch(CONFIGS[name]))
    loss.backward()
    expected_loss, expected_norms = RECORDED[name]
    assert_close(loss.item(), expected_loss, 1e-7)
    parameters = dict(model.named_parameters())  # transformers' norms and softmax are float32 even so
    np.testing.assert_allclose([np.linalg.norm(parameters[n].grad) for n in WATCHED], expected_norms, rtol=1e-5)


# ---- published folders


def twin(model: T5, folder):
    """The same weights in transformers, by way of a folder."""
    transformers = pytest.importorskip("transformers")
    model.save_pretrained(folder)
    return transformers.T5ForConditionalGeneration.from_pretrained(folder).eval()


def their_loss_and_gradients(theirs, batch: dict, gated: bool):
    """(loss, logits, gradients by our published names)"""
    import torch

    ids, mask, targets = (torch.tensor(batch[name]) for name in ("ids", "mask", "targets"))
    out = theirs(input_ids=ids, attention_mask=mask.long(), labels=targets)
    out.loss.backward()
    grads = {name: p.grad.numpy() for name, p in theirs.named_parameters() if p.grad is not None}
    return out.loss.item(), out.logits.detach().numpy(), grads


@pytest.mark.parity
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("padded", [False, True])
def test_logits_loss_and_every_gradient_are_those_of_transformers(name, padded, tmp_path):
    config = CONFIGS[name]
    model, batch = randomized(config), some_batch(config, padded)
    loss, logits, grads = their_loss_and_gradients(twin(model, tmp_path), batch, config.gated)
    ours = model.loss(batch)
    ours.backward()
    assert_close(ours.item(), loss, 1e-5)
    counted = batch["targets"] != -100
    got = model(batch["ids"], shift_right(batch["targets"], 0), batch["mask"]).data
    assert abs(got - logits)[counted].max() <= 1e-4
    mine = published.names(config.gated).write({n: p.grad for n, p in model.named_parameters()})
    assert mine.keys() == grads.keys()
    for published_name, gradient in mine.items():
        np.testing.assert_allclose(gradient, grads[published_name], atol=1e-4, rtol=1e-4, err_msg=published_name)


@pytest.mark.parity
@pytest.mark.parametrize("name", CONFIGS)
def test_the_recorded_numbers_are_those_of_transformers(name, tmp_path):
    config = CONFIGS[name]
    theirs = twin(patterned(config), tmp_path).double()
    loss, _, grads = their_loss_and_gradients(theirs, patterned_batch(config), config.gated)
    ours = published.names(config.gated)
    joined = [np.concatenate([grads[part] for part in ours.published(watched)[0]]) for watched in WATCHED]
    norms = [float(np.linalg.norm(gradient)) for gradient in joined]
    assert (loss, norms) == (pytest.approx(RECORDED[name][0], rel=1e-7), pytest.approx(RECORDED[name][1], rel=1e-6))


@pytest.mark.parity
@pytest.mark.parametrize("name", CONFIGS)
def test_folders_of_transformers_come_back_with_every_weight(name, tmp_path):
    model = randomized(CONFIGS[name])
    theirs = twin(model, tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")  # since transformers 5 it says tie_word_embeddings whatever the model
    again = T5.from_pretrained(tmp_path / "theirs")
    assert again.config == dataclasses.replace(model.config) and not again.training
    for (parameter, a), b in zip(model.named_parameters(), again.parameters(), strict=True):
        np.testing.assert_array_equal(a.data, b.data, err_msg=parameter)


@pytest.mark.parametrize("name", CONFIGS)
def test_saving_and_loading_a_folder_gives_the_same_model(name, tmp_path):
    model, batch = randomized(CONFIGS[name]).eval(), some_batch(CONFIGS[name])
    model.save_pretrained(tmp_path)
    again = T5.from_pretrained(tmp_path, dropout=0.1)
    assert again.config == dataclasses.replace(model.config, dropout=0.1)
    assert again.loss(batch).item() == model.loss(batch).item()


def test_the_files_of_v1_0_have_a_matrix_to_be_ignored_and_copies_of_the_embedding(tmp_path):
    model = randomized(CONFIGS["v1.0"])
    model.save_pretrained(tmp_path)
    arrays = pretrained.read_weights(tmp_path)
    shared = arrays["shared.weight"]
    arrays["decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"] = np.ones((8, 3), np.float32)
    arrays |= {f"{name}.weight": shared for name in ("encoder.embed_tokens", "decoder.embed_tokens", "lm_head")}
    pretrained.write_folder(tmp_path, pretrained.read_config(tmp_path), arrays)
    assert T5.from_pretrained(tmp_path).config == model.config
    arrays["decoder.embed_tokens.weight"] = shared + 1
    pretrained.write_folder(tmp_path, pretrained.read_config(tmp_path), arrays)
    with pytest.raises(ValueError, match=r"embed_tokens\.weight differs from its shared\.weight"):
        T5.from_pretrained(tmp_path)


@pytest.mark.parametrize("says", [{"scale_decoder_outputs": True}, {"tie_word_embeddings": True}, {}])
def test_an_output_table_of_its_own_that_is_scaled_is_loaded_with_the_scale_in_it(says, tmp_path):
    model = randomized(CONFIGS["v1.0"])
    model.save_pretrained(tmp_path)
    fields, arrays = pretrained.read_config(tmp_path), pretrained.read_weights(tmp_path)
    fields = {name: value for name, value in fields.items() if "tie_" not in name and "scale_" not in name} | says
    head = np.random.default_rng(0).standard_normal((23, 8)).astype(np.float32)
    pretrained.write_folder(tmp_path, fields, arrays | {"lm_head.weight": head})
    again = T5.from_pretrained(tmp_path)
    assert not again.config.tied
    assert_close(again.head.weight.data, head / np.sqrt(np.float32(8)), 1e-6)


def test_a_v1_1_file_without_an_output_table_uses_the_embedding_unscaled(tmp_path):
    model = randomized(CONFIGS["v1.1"])
    model.save_pretrained(tmp_path)
    arrays = pretrained.read_weights(tmp_path)
    del arrays["lm_head.weight"]
    pretrained.write_folder(tmp_path, pretrained.read_config(tmp_path), arrays)
    again = T5.from_pretrained(tmp_path)
    np.testing.assert_array_equal(again.head.weight.data, again.embedding.weight.data)


def test_what_t5_cannot_read_is_named(tmp_path):
    model = T5(CONFIGS["v1.0"])
    model.save_pretrained(tmp_path)
    fields, arrays = pretrained.read_config(tmp_path), pretrained.read_weights(tmp_path)
    for change, message in [
        ({"feed_forward_proj": "gated-tanh"}, "feed_forward_proj must be one of gelu, gelu_new"),
        ({"decoder_start_token_id": 3}, "decoder_start_token_id is 3; T5 starts from padding, 0"),
        ({"model_type": "bart"}, "model_type is 'bart'; this model reads 't5' and 'mt5'"),
    ]:
        pretrained.write_folder(tmp_path, fields | change, arrays)
        with pytest.raises(ValueError, match=message):
            T5.from_pretrained(tmp_path)


# ---- writing


def written(ids: np.ndarray, eos: int = 1) -> list[list[int]]:
    """Rows without their first token, up to their end."""
    rows = [row[1:].tolist() for row in ids]
    return [row[: row.index(eos) + 1] if eos in row else row for row in rows]


@pytest.mark.parity
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_greedy_and_beam_outputs_are_those_of_transformers_token_for_token(name, seed, tmp_path):
    torch = pytest.importorskip("torch")
    config = dataclasses.replace(CONFIGS[name], decoder_layers=0)  # transformers 5 cannot cache where they differ
    model, batch = randomized(config, seed).eval(), some_batch(config, seed=seed)
    theirs = twin(model, tmp_path)
    inputs = dict(input_ids=torch.tensor(batch["ids"]), attention_mask=torch.tensor(batch["mask"]).long())
    starts, source = np.zeros((3, 1), int), dict(source=batch["ids"], source_mask=batch["mask"])
    for beams in (1, 4):
        expected = theirs.generate(**inputs, max_new_tokens=20, num_beams=beams, do_sample=False).numpy()
        ours = generate(model, starts, 20, beams=beams, end=1, **(dict(temperature=0) if beams == 1 else {}), **source)
        assert written(ours) == written(expected)
        assert len({tuple(row) for row in written(ours)}) > 1


def test_beams_of_one_text_are_those_of_trying_everything():
    model, batch = randomized(dataclasses.replace(CONFIGS["v1.0"], vocab_size=4), 3).eval(), np.array([[2, 3, 3, 2, 1]])
    texts = [[a, b, c] for a in (0, 2, 3) for b in (0, 2, 3) for c in range(4)]  # of three tokens, whatever the last
    texts += [[1], *([a, 1] for a in (0, 2, 3))]

    def score(text):
        log_p = ops.log_softmax(model(batch, np.array([[0, *text[:-1]]]))).data[0]
        return sum(log_p[i, token] for i, token in enumerate(text)) / len(text)

    ours = generate(model, np.zeros((1, 1), int), 3, beams=40, end=1, source=batch)
    assert written(ours) == [max(texts, key=score)]
