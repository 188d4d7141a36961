import copy

import numpy as np
import pytest

from models import GPT, GPTConfig
from models.generate import beam_search, generate
from nn.narrow import KINDS, ByteCache, HalfCache, remember_in
from tests.backend.cpu.reference import normal
from tests.models.test_gpt import randomized, some_ids

CONFIG = GPTConfig(vocab_size=31, context=40, layers=3, heads=2, width=16)


@pytest.mark.parametrize("kind, error", [(HalfCache, 2**-11), (ByteCache, 0.5 / 127)])
def test_what_comes_back_is_off_by_half_a_step_at_most(kind, error):
    """A step of float16 is 2^-10 of the number itself, one of int8 1 / 127 of the largest in its row."""
    cache = kind(2, 3, 9, 4, np.zeros((5, 4), np.float32))
    new = [normal(seed, (2, 2, 3, 5, 4), np.float32) for seed in (1, 2)]
    new[0][:, :, :, 2] *= 1000  # a long row costs the others nothing
    cache.append(*new[0])
    got = cache.append(*(array[:, :, :2] for array in new[1]))
    for back, first, second in zip(got, *new):
        true = np.concatenate([first, second[:, :, :2]], axis=2)
        assert back.dtype == np.float32 and back.shape == true.shape == (2, 3, 7, 4)
        size = abs(true).max(axis=-1, keepdims=True) if kind is ByteCache else abs(true)
        assert (abs(back - true) <= 1.001 * error * size + 1e-7).all()


@pytest.mark.parametrize("kind, bytes_each", [("float16", 2), ("int8", 1)])
def test_a_narrow_cache_takes_a_half_or_a_quarter_of_the_room(kind, bytes_each):
    layer = remember_in(GPT(CONFIG), kind).new_cache(2, 30).layers[0]
    assert layer.keys.nbytes == layer.values.nbytes == 2 * 30 * 16 * bytes_each


def test_rows_of_zeros_stay_zeros():
    cache = ByteCache(1, 1, 4, 3, np.zeros(1, np.float32))
    assert not any(array.any() for array in cache.append(*np.zeros((2, 1, 1, 2, 3), np.float32)))


@pytest.mark.parametrize("kind, most", [("float32", 0.0), ("float16", 2e-3), ("int8", 4e-2)])
def test_the_next_tokens_scores_are_those_of_float32(kind, most):
    """To about a step of the numbers, next to scores of which the largest is 1: three digits, two digits."""
    model = randomized(CONFIG).eval()
    ids = some_ids(CONFIG, 2, 30)
    caches = [remember_in(copy.deepcopy(model), one).new_cache(2) for one in ("float32", kind)]
    for part in np.split(ids, [20, 21, 22], axis=1):
        exact, narrow = (model.step(part, cache) for cache in caches)
        assert abs(narrow - exact).max() <= most * abs(exact).max()
    assert type(caches[1].layers[0]) is KINDS[kind] and (kind == "float32" or (narrow != exact).any())


@pytest.mark.parametrize("kind", ["float16", "int8"])
def test_rows_are_chosen_with_their_scales(kind):
    """Beams that live on, several samples of one prompt: the texts are those that each prompt gets alone."""
    model = remember_in(randomized(CONFIG).eval(), kind)
    ids = some_ids(CONFIG, 3, 9)
    together = generate(model, ids, 6, temperature=0)
    for row, text in zip(ids, together):
        np.testing.assert_array_equal(generate(model, row, 6, temperature=0), text)
    cache = model.new_cache(3, 12)
    model.step(ids, cache)
    chosen = model.new_cache(2, 12)
    model.step(ids[[2, 0]], chosen)
    last = some_ids(CONFIG, 2, 1, seed=5)
    np.testing.assert_allclose(model.step(last, cache.select([2, 0])), model.step(last, chosen), atol=1e-5)
    assert len(beam_search(model, ids[:1], 5, 3)[0]) == 1


def test_a_full_cache_says_so():
    cache = ByteCache(1, 1, 3, 2, np.zeros(1, np.float32))
    cache.append(*np.ones((2, 1, 1, 2, 2), np.float32))
    with pytest.raises(ValueError, match="the cache holds 3 positions and cannot take number 4"):
        cache.append(*np.ones((2, 1, 1, 2, 2), np.float32))
    assert cache.length == 2


def test_what_makes_no_sense_is_named():
    with pytest.raises(ValueError, match="a cache of int4 is not known; choose from float32, float16, int8"):
        remember_in(GPT(CONFIG), "int4")
