"""ELMo: the whole model against an independent one, its files, its states, its loss, and the scalar mix."""

import json

import numpy as np
import pytest

import tinytensor as tt
from models import ELMo, ELMoConfig
from nn import ScalarMix, shapes_only
from tests.helpers import assert_close, tensor
from tests.models.published_elmo import PublishedELMo, make_files
from tinytensor import Tensor, gradcheck

BATCHES = [
    [["The", "cat", "sat", "on", "the", "mat", "."], ["naïve", "Ünïcödé"], ["x" * 60 + "é"]],
    [["a"], ["b", "c", "d"]],
    [["The", "cat"], ["b", "c"], ["sat"], ["a", "new", "row"]],
]
TINY = dict(
    vocab_size=30, width=6, hidden=10, char_width=3, filters="1x4,2x5", highways=1, dropout=0.0, softmax="full"
)


def compare(elmo, published, tolerance, stateful):
    for sentences in BATCHES:
        layers, mask = elmo(sentences, stateful=stateful)
        if not stateful:
            published.states.clear()
        for row, expected in enumerate(published(sentences)):
            T = expected.shape[1]
            assert mask[row].sum() == T and mask[row, :T].all()
            for layer, values in zip(layers, expected):
                assert_close(layer.data[row, :T], values, tolerance)
                assert not layer.data[row, T:].any()


@pytest.mark.parametrize(
    "options",
    [
        {},
        dict(skip=False),
        dict(highways=1, layers=3),
        dict(highways=0),
        dict(project=False),
        dict(cell_clip=None, proj_clip=None),
        dict(hidden=6),  # as many cells as outputs: no projection
    ],
    ids=str,
)
def test_files_of_the_published_format_give_what_the_independent_implementation_gives(tmp_path, options):
    pytest.importorskip("h5py")
    files = make_files(tmp_path, **options)
    elmo, published = ELMo.from_pretrained(*files), PublishedELMo(*files)
    compare(elmo, published, 1e-5, stateful=True)
    compare(elmo, published, 1e-5, stateful=False)
    elmo.reset()
    published.states.clear()
    compare(elmo, published, 1e-5, stateful=True)


def test_in_float64_it_agrees_to_rounding(tmp_path):
    pytest.importorskip("h5py")
    files = make_files(tmp_path)
    elmo = ELMo.from_pretrained(*files)
    for parameter in elmo.parameters():
        parameter.data = parameter.data.astype(np.float64)
    compare(elmo, PublishedELMo(*files), 1e-6, stateful=True)  # the forget bias plus 1 was rounded to float32


def test_what_was_written_reads_back_the_same(tmp_path):
    pytest.importorskip("h5py")
    elmo = ELMo(ELMoConfig(**TINY)).eval()
    files = tmp_path / "options.json", tmp_path / "weights.hdf5"
    elmo.save_pretrained(*files)
    again = ELMo.from_pretrained(*files)
    for one, other in zip(elmo(BATCHES[0])[0], again(BATCHES[0])[0]):
        assert_close(one.data, other.data, 1e-6)
    compare(again, PublishedELMo(*files), 1e-5, stateful=True)


def test_published_files_lack_a_softmax_and_may_be_given_a_new_one(tmp_path):
    pytest.importorskip("h5py")
    files = make_files(tmp_path)
    with pytest.raises(ValueError, match="this ELMo has no softmax"):
        ELMo.from_pretrained(*files).loss(stretch(ELMoConfig(**TINY)))
    assert ELMo.from_pretrained(*files, vocab_size=11).softmax.weight.shape == (11, 6)


def test_weights_whose_numbers_stand_in_other_files_are_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    options, weights = make_files(tmp_path)
    secret = tmp_path / "secret"
    secret.write_bytes(np.arange(262 * 3, dtype=np.float32).tobytes())
    for kind in ("external", "virtual", "link"):
        own = tmp_path / f"{kind}.hdf5"
        own.write_bytes(weights.read_bytes())
        with h5py.File(own, "a") as file:
            shape = file["char_embed"].shape
            del file["char_embed"]
            if kind == "external":
                file.create_dataset("char_embed", shape, np.float32, external=[(str(secret), 0, secret.stat().st_size)])
            elif kind == "virtual":
                layout = h5py.VirtualLayout(shape, np.float32)
                layout[:] = h5py.VirtualSource(str(weights), "char_embed", shape)
                file.create_virtual_dataset("char_embed", layout)
            else:
                file["char_embed"] = h5py.ExternalLink(str(weights), "char_embed")
        message = "has no dataset char_embed" if kind == "link" else "numbers of 'char_embed' stand in other files"
        with pytest.raises(ValueError, match=message):
            ELMo.from_pretrained(options, own)


@pytest.mark.parametrize(
    ("part", "field", "value", "message"),
    [
        ("lstm", "n_layers", 10**9, r"lstm.n_layers must be at most 10000"),
        ("lstm", "n_layers", 500, "this model has more parameters than there are weights|has no dataset"),
        ("lstm", "dim", 10**8, "does not fit"),
        ("lstm", "projection_dim", None, "lstm.projection_dim must be a whole number, not None"),
        ("lstm", "use_skip_connections", 1, "lstm.use_skip_connections must be true or false, not 1"),
        ("char_cnn", "filters", [[1, 2], [3]], r"char_cnn.filters\[1\] must be a list of 2, not of 1"),
        ("char_cnn", "n_highway", 10**4, "more parameters than there are weights|has no dataset"),
        ("char_cnn", "max_characters_per_token", 10**9, "must be at most 10000"),
    ],
)
def test_options_that_make_no_sense_are_named_before_they_cost_time(tmp_path, part, field, value, message):
    pytest.importorskip("h5py")
    options, weights = make_files(tmp_path)
    table = json.loads(options.read_text())
    table[part][field] = value
    options.write_text(json.dumps(table))
    with pytest.raises(ValueError, match=message):
        ELMo.from_pretrained(options, weights)


def test_bad_files_are_named(tmp_path):
    h5py = pytest.importorskip("h5py")
    options, weights = make_files(tmp_path)
    (tmp_path / "other.json").write_text('{"lstm": {}}')
    with pytest.raises(ValueError, match=r"other.json: lstm.projection_dim is missing"):
        ELMo.from_pretrained(tmp_path / "other.json", weights)
    with pytest.raises(ValueError, match=r"none.json cannot be read: No such file"):
        ELMo.from_pretrained(tmp_path / "none.json", weights)
    with pytest.raises(ValueError, match=r"options.json cannot be read as hdf5"):
        ELMo.from_pretrained(options, options)
    with h5py.File(weights, "a") as file:
        file["char_embed_"] = file["char_embed"][:200]
        file.move("char_embed", "old")
    with pytest.raises(ValueError, match=r"weights.hdf5 has no dataset char_embed, which .*options.json asks for"):
        ELMo.from_pretrained(options, weights)
    with h5py.File(weights, "a") as file:
        file.move("char_embed_", "char_embed")
    with pytest.raises(ValueError, match=r"does not fit .*encoder.embedding.weight is \(201, 3\), expected \(262, 3\)"):
        ELMo.from_pretrained(options, weights)


def test_the_published_model_has_the_published_number_of_weights():
    with shapes_only():
        elmo = ELMo(ELMoConfig.preset("elmo", vocab_size=0))
    published = 93_600_848
    ours_alone = 16 + 4 * 4 * 4096 + 3 + 1  # a row for padded words, a second bias in each LSTM, the mix
    assert elmo.parameter_count() == published + ours_alone
    with shapes_only():
        assert ELMo(ELMoConfig()).softmax.parameter_count() == 407_050_623


# ---- sentences and states


def test_a_sentence_by_itself_does_not_depend_on_what_else_is_in_the_batch():
    elmo = ELMo(ELMoConfig(**TINY)).eval()
    sentence = ["the", "cat", "sat"]
    alone, _ = elmo([sentence])
    together, mask = elmo([["a", "much", "longer", "sentence", "than", "that"], sentence, []])
    for one, other in zip(alone, together):
        assert_close(one.data[0], other.data[1, :3], 1e-6)
        assert not other.data[1, 3:].any() and not other.data[2].any()
    assert mask.sum(axis=1).tolist() == [6, 3, 0]


def test_states_belong_to_rows_and_stay_where_a_smaller_batch_does_not_reach():
    elmo = ELMo(ELMoConfig(**TINY)).eval()
    a, b = ["first", "row"], ["second", "row", "here"]
    fresh = elmo([b])[0][1].data
    elmo([a, b], stateful=True)
    elmo([a], stateful=True)
    first = elmo([a, b], stateful=True)[0][1].data[1]
    elmo.reset()
    elmo([a, b], stateful=True)
    expected = elmo([a, b], stateful=True)[0][1].data[1]
    assert_close(first, expected, 1e-6)
    assert np.abs(first - fresh[0]).max() > 1e-4
    assert_close(elmo([b])[0][1].data, fresh, 0)


def test_the_same_word_in_two_contexts_gets_one_token_vector_and_two_contextual_ones():
    elmo = ELMo(ELMoConfig(**TINY)).eval()
    layers, _ = elmo([["river", "bank", "water"], ["money", "bank", "loan"]])
    river, money = (np.stack([layer.data[row, 1] for layer in layers]) for row in (0, 1))
    assert_close(river[0], money[0], 1e-7)
    assert np.abs(river[1:] - money[1:]).max(axis=1).min() > 1e-4


def test_words_are_cut_in_the_middle_of_a_character_if_it_must_be():
    elmo = ELMo(ELMoConfig(**TINY)).eval()
    cut = elmo.tokenizer.encode(["x" * 47 + "é"])[1]
    assert cut.tolist() == [259, *[ord("x") + 1] * 47, "é".encode()[0] + 1, 260]
    assert_close(elmo([["y" * 48 + "tail"]])[0][0].data, elmo([["y" * 48 + "another"]])[0][0].data, 0)


def test_leaving_out_needless_padding_changes_no_vector():
    elmo = ELMo(ELMoConfig(**TINY)).eval()
    words = [["a", "bcd", "x" * 60], ["a"]]
    ids = elmo.tokenizer.encode_batch(words)
    short = elmo.encoder(ids[1:]).data[0, :3]  # trimmed to a few characters
    long = elmo.encoder(ids).data[1, :3]  # a long word beside them: nothing is trimmed
    assert elmo.encoder.without_padding(ids[1, :3]).shape == (3, 3 + 2)
    assert_close(short, long, 1e-6)


def test_a_model_in_training_drops_the_inputs_of_every_layer():
    elmo = ELMo(ELMoConfig(**TINY | dict(dropout=0.5)))
    assert np.abs(elmo(BATCHES[1])[0][1].data - elmo(BATCHES[1])[0][1].data).max() > 1e-3
    elmo.eval()
    assert_close(elmo(BATCHES[1])[0][1].data, elmo(BATCHES[1])[0][1].data, 0)


# ---- the language model


def stretch(config, rows=3, T=5, seed=0):
    """A batch of the bidirectional language model: random words of a few letters."""
    draw = np.random.default_rng(seed)
    words = ["".join(draw.choice(list("abcde"), draw.integers(1, 5))) for _ in range(2 * rows * T)]
    characters = ELMo(ELMoConfig(**TINY)).tokenizer.encode_words(words).reshape(2, rows, T, -1)
    targets = draw.integers(0, config.vocab_size, (2, rows, T))
    targets[0, 0, 0] = -100
    return {"ids": characters[0], "targets": targets[0], "back_ids": characters[1], "back_targets": targets[1]}


def test_the_loss_is_the_mean_of_both_directions_cross_entropies():
    elmo = ELMo(ELMoConfig(**TINY))
    batch = stretch(elmo.config)
    x, y = elmo.encoder(batch["ids"]), elmo.encoder(batch["back_ids"])
    forward, backward = elmo.read(x, y, elmo.new_state(3))
    expected = 0
    for vectors, targets in ((forward[-1], batch["targets"]), (backward[-1], batch["back_targets"])):
        logits = vectors.data @ elmo.softmax.weight.data.T + elmo.softmax.bias.data
        log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        rows, steps = np.nonzero(targets != -100)
        expected -= log_p[rows, steps, targets[rows, steps]].mean() / 2
    assert_close(elmo.loss(batch).item(), expected, 1e-5)
    assert elmo.counts(batch) == {"forward": 14, "backward": 15}


def test_the_forward_words_see_only_what_stands_before_and_the_backward_ones_only_what_stands_after():
    elmo = ELMo(ELMoConfig(**TINY)).eval()
    before, _ = elmo([["a", "b", "c", "d"]])
    after, _ = elmo([["a", "b", "X", "d"]])
    changed = np.abs(before[2].data - after[2].data)[0]
    assert not changed[:2, :6].any() and changed[2:, :6].any(axis=1).all()
    assert not changed[3:, 6:].any() and changed[:3, 6:].any(axis=1).all()


@pytest.mark.parametrize("softmax", ["full", "adaptive"])
def test_shards_of_a_batch_add_up_to_its_loss_and_gradients(softmax):
    elmo = ELMo(ELMoConfig(**TINY | dict(softmax=softmax)))
    batch = stretch(elmo.config)
    value = elmo.loss(batch)
    value.backward()
    whole = {name: p.grad for name, p in elmo.named_parameters() if p.grad is not None}
    elmo.zero_grad()
    counts, total = elmo.counts(batch), 0
    for rows in (slice(0, 1), slice(1, 3)):
        part = elmo.loss({name: array[rows] for name, array in batch.items()}, counts)
        part.backward()
        total += part.item()
    assert_close(total, value.item(), 1e-5)
    for name, p in elmo.named_parameters():
        if name in whole:
            assert_close(p.grad, whole[name], 1e-5)
    assert {name.partition(".")[0] for name in whole} == {"encoder", "forward", "backward", "softmax"}


def test_a_text_read_in_two_batches_with_carried_states_is_read_as_one():
    """Forwards the second half follows the first; backwards the first half follows the second."""
    elmo = ELMo(ELMoConfig(**TINY))
    batch = stretch(elmo.config, T=8)
    whole = elmo.loss(batch).item()
    state = {name: array.copy() for name, array in elmo.new_state(3).items()}
    first, second = slice(0, 4), slice(4, 8)
    halves = 0
    for ahead, back in ((first, second), (second, first)):
        half = {name: array[:, back if name.startswith("back") else ahead] for name, array in batch.items()}
        halves += elmo.loss(half | state, elmo.counts(batch)).item()
    assert_close(halves, whole, 1e-5)
    assert np.abs(state["state_c"]).min() > 0


@pytest.mark.parametrize("softmax", ["full", "sampled", "adaptive"])
def test_a_few_steps_of_each_softmax_learn_a_repeated_batch(softmax):
    from train.optim import AdamW

    tt.manual_seed(1)
    elmo = ELMo(ELMoConfig(**TINY | dict(softmax=softmax, samples=10, width=8, hidden=16)))
    batch = stretch(elmo.config)
    optimizer = AdamW(elmo.parameters(), lr=0.02)
    elmo.eval()
    before = elmo.loss(batch).item()
    elmo.train()
    for _ in range(100):
        elmo.loss(batch).backward()
        optimizer.step()
        optimizer.zero_grad()
    elmo.eval()
    assert before > 3.0 and elmo.loss(batch).item() < 0.6 * before  # ln 30 = 3.4 at first


def test_the_whole_models_gradient_is_that_of_finite_differences():
    small = dict(width=2, hidden=3, filters="1x2,2x1", vocab_size=5, cell_clip=0.5, proj_clip=0.3)
    elmo = ELMo(ELMoConfig(**TINY | small))
    batch = stretch(elmo.config, rows=2, T=3)
    chosen = ["encoder.projection.weight", "forward.1.weight_ih_l0", "backward.0.weight_hr_l0", "softmax.bias"]
    for index, parameter in enumerate(elmo.parameters()):
        parameter.data = np.random.default_rng(index).normal(0, 0.5, parameter.shape)
    own = dict(elmo.named_parameters())
    gradcheck(lambda *_: elmo.loss(batch), [own[name] for name in chosen])


# ---- the scalar mix


def test_the_mix_starts_as_the_average_of_the_layers_and_weighs_them_by_a_softmax():
    mix, layers = ScalarMix(3), [Tensor(tensor(2, 4, 5, seed=n).data.astype(np.float32)) for n in range(3)]
    assert_close(mix(layers).data, sum(layer.data for layer in layers) / 3, 1e-6)
    mix.weights.data[...], mix.gamma.data[...] = [1.0, 2.0, -1.0], 0.5
    shares = np.exp(mix.weights.data) / np.exp(mix.weights.data).sum()
    assert_close(mix(layers).data, 0.5 * sum(s * layer.data for s, layer in zip(shares, layers)), 1e-6)


def test_the_mixs_layer_norm_has_one_mean_and_variance_for_all_unmasked_elements():
    mix, x = ScalarMix(1, layer_norm=True), Tensor(tensor(2, 4, 5).data.astype(np.float32) * 3 + 1)
    mask = np.arange(4) < np.array([[4], [1]])
    y = mix([x], mask).data
    words = x.data[mask]
    assert_close(y[mask], (words - words.mean()) / words.std(), 1e-5)
    assert not y[~mask].any()


def test_the_mixs_gradients_are_those_of_finite_differences():
    mask = np.arange(3) < np.array([[3], [2]])
    for norm in (False, True):
        mix = ScalarMix(2, layer_norm=norm)

        def mixed(weights, gamma, *layers, mix=mix):
            mix.weights, mix.gamma = weights, gamma
            return mix(layers, mask)

        gradcheck(mixed, [tensor(2), tensor(1, seed=3), tensor(2, 3, 2), tensor(2, 3, 2, seed=1)])


def test_the_mixs_penalty_is_l2_times_the_squared_raw_weights():
    mix = ScalarMix(3, l2=0.1)
    mix.weights.data[...] = [1.0, -2.0, 3.0]
    assert_close(mix.penalty().item(), 1.4, 1e-6)


def test_the_mix_drops_in_training_only_and_counts_its_layers():
    mix, layers = ScalarMix(2, dropout=0.5), [Tensor(np.ones((1, 50, 4), np.float32))] * 2
    assert 50 < (mix(layers).data == 0).sum() < 150
    assert mix.eval()(layers).data.min() == 1
    with pytest.raises(ValueError, match="1 layers were given, expected 2"):
        mix(layers[:1])


def test_the_models_own_mix_takes_its_layers_and_mask():
    elmo = ELMo(ELMoConfig(**TINY)).eval()
    layers, mask = elmo(BATCHES[0])
    assert_close(elmo.mix(layers, mask).data, sum(layer.data for layer in layers) / 3, 1e-6)


# ---- what makes no sense


@pytest.mark.parametrize(
    "changes, sentence",
    [
        (dict(width=20), "width 20 is more than the 10 hidden cells"),
        (dict(filters="1x4,2"), "filters '1x4,2' must be like 1x32,2x32,3x64"),
        (dict(filters="9x4", characters=8), "a filter 9 wide does not fit into words of 8 characters"),
        (dict(char_projection=False), "without char_projection the 9 filters must be the width, 6"),
        (dict(softmax="fast"), "softmax must be one of full, sampled, adaptive"),
        (dict(dropout=1.0), r"dropout must be less than 1, not 1.0"),
        (dict(layers=0), "layers must be at least 1, not 0"),
        (dict(cell_clip=-1.0), "cell_clip must be at least 0, not -1.0"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        ELMoConfig(**TINY | changes)


def test_other_mistakes_are_named():
    with pytest.raises(ValueError, match="unknown preset 'huge'; choose from toy, elmo-small, elmo-medium, elmo"):
        ELMoConfig.preset("huge")
    with pytest.raises(ValueError, match="this one is empty"):
        ELMo(ELMoConfig(**TINY))([])
    with pytest.raises(ValueError, match=r"cutoffs '4,x' must be whole numbers"):
        ELMo(ELMoConfig(**TINY | dict(softmax="adaptive", cutoffs="4,x")))
