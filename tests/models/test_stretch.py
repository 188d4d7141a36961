import numpy as np
import pytest

import tinytensor as tt
from models import GPT, GPTConfig
from models.stretch import drawn_out, recomputing, stretched
from nn import Rotary
from tests.helpers import assert_close
from tests.models.test_gpt import randomized, some_ids
from tinytensor import Tensor

SMALL = dict(vocab_size=11, context=8, layers=2, heads=2, width=8)


def test_a_table_is_drawn_out_between_its_rows():
    table = np.array([[0.0, 10.0], [2.0, 20.0], [4.0, 0.0]], np.float32)
    want = [[0, 10], [1, 15], [2, 20], [3, 10], [4, 0], [4, 0]]  # the last place is beyond the last row
    np.testing.assert_array_equal(drawn_out(table, 6), want)


@pytest.mark.parametrize("rotary", [0.0, 100.0])
def test_a_stretched_model_reads_longer_texts_and_keeps_its_other_weights(rotary):
    model = randomized(GPTConfig(**SMALL, rotary=rotary)).eval()
    before = {name: array.copy() for name, array in model.state_dict().items()}
    longer = stretched(model, 24)
    assert longer.config.context == 24 and longer(some_ids(longer.config, 2)).shape == (2, 24, 11)
    for name, array in longer.state_dict().items():
        if name != "position_embedding.weight":
            np.testing.assert_array_equal(array, before[name])
    assert GPT(longer.config).load_state_dict(longer.state_dict()) is None  # what a run writes, a run can read


def test_the_slowest_pair_turns_over_the_new_length_as_over_the_old_one():
    model = stretched(GPT(GPTConfig(**SMALL | dict(width=32), rotary=10000.0)), 64)
    old, new = Rotary(16, 10000.0).frequencies, model.rotary.frequencies
    assert_close(new[-1] * 64, old[-1] * 8, 1e-6)
    assert new[0] == old[0] == 1
    assert model.blocks[1].attention.rotary is model.rotary


def test_a_shorter_context_is_no_stretching():
    with pytest.raises(ValueError, match="--context 4 is not longer than the 8 that it has; leave it out"):
        stretched(GPT(GPTConfig(**SMALL)), 4)


def test_recomputing_changes_no_number():
    model, ids = randomized(GPTConfig(**SMALL)), some_ids(GPTConfig(**SMALL))
    first = model(ids).data
    np.testing.assert_array_equal(recomputing(model, True)(ids).data, first)
    assert model.config.recompute and model.blocks[0].attention.recompute


# ---- a GPT with rotary positions


def test_with_rotary_positions_only_distances_count():
    """Padding on the left moves all tokens along; the scores stay, to the rounding of sines and cosines."""
    model = randomized(GPTConfig(**SMALL | dict(context=20), rotary=50.0)).eval()
    ids = some_ids(model.config, 2, 9)
    moved = np.concatenate([np.zeros((2, 7), int), ids], axis=1)
    mask = np.arange(16) >= np.full((2, 1), 7)
    assert_close(model(moved, mask).data[:, 7:], model(ids).data, 2e-4)
    assert not np.allclose(model(ids[:, ::-1].copy()).data[:, -1], model(ids).data[:, -1], atol=1e-2)


def test_with_rotary_positions_a_cache_gives_what_a_whole_pass_gives():
    model = randomized(GPTConfig(**SMALL | dict(context=20), rotary=50.0)).eval()
    ids = some_ids(model.config, 2, 12)
    cache = model.new_cache(2)
    with tt.no_grad():
        got = [model(part, cache=cache).data for part in np.split(ids, [5, 6, 9], axis=1)]
        assert_close(np.concatenate(got, axis=1), model(ids).data, 1e-4)


def test_rotary_attention_is_its_formula():
    """Each pair (x[i], x[i + D / 2]) as a complex number, turned by e^(i place frequency)."""
    model = randomized(GPTConfig(**SMALL, rotary=50.0), scale=0.5)
    attention, x = model.blocks[0].attention, np.random.default_rng(0).standard_normal((1, 6, 8), np.float32)
    q, k, v = np.split(attention.qkv(Tensor(x)).data, 3, axis=-1)
    heads = lambda a: a.reshape(1, 6, 2, 4).swapaxes(1, 2)
    turn = np.exp(1j * np.arange(6)[:, None] * 50.0 ** (-np.arange(2) / 2))
    turned = lambda a: (heads(a)[..., :2] + 1j * heads(a)[..., 2:]) * turn
    scores = (turned(q) @ turned(k).conj().swapaxes(2, 3)).real / 2
    p = np.exp(np.where(np.tri(6, dtype=bool), scores, -np.inf))
    y = (p / p.sum(-1, keepdims=True) @ heads(v)).swapaxes(1, 2).reshape(1, 6, 8)
    assert_close(attention(Tensor(x)).data, attention.out(Tensor(y.astype(np.float32))).data, 1e-5)


def test_no_published_layout_has_rotary_positions(tmp_path):
    with pytest.raises(ValueError, match=r"a published gpt2 always has rotary 0.0, not 100.0"):
        GPT(GPTConfig(**SMALL, rotary=100.0)).save_pretrained(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_heads_that_cannot_turn_are_named():
    with pytest.raises(ValueError, match="rotary positions need an even head width, not 3"):
        GPTConfig(**SMALL | dict(width=6), rotary=100.0)
