import numpy as np
import pytest

import tinytensor as tt
from models import GPT, GPTConfig
from models.generate import Sampling, beam_search, generate, pad_left, stream
from tests.helpers import assert_close
from tests.models.test_gpt import SMALL, randomized

PROMPT = np.array([3, 1, 4])


@pytest.fixture(scope="module")
def model() -> GPT:
    return randomized(GPTConfig(**SMALL), scale=0.5)


def logits_after(model: GPT, ids) -> np.ndarray:
    """The next token's logits by a full pass, without a cache."""
    with tt.no_grad():
        return model(np.atleast_2d(ids)).data[:, -1]


def filtered(logits, temperature=1.0, top_k=None, top_p=None) -> np.ndarray:
    """The distribution to draw from, written out token by token for one row."""
    p = np.exp(logits.astype(np.float64) / temperature - (logits / temperature).max())
    p /= p.sum()
    ranked = sorted(range(len(p)), key=lambda token: -p[token])
    kept = ranked[: top_k or len(p)]
    if top_p is not None:
        mass, nucleus = 0.0, []
        for token in kept:
            if mass >= top_p:
                break
            nucleus.append(token)
            mass += p[token] / p[kept].sum()
        kept = nucleus
    result = np.zeros(len(p))
    result[kept] = p[kept] / p[kept].sum()
    return result


OPTIONS = [
    dict(), dict(temperature=0.5), dict(temperature=3.0), dict(top_k=1), dict(top_k=4), dict(top_k=100),
    dict(top_p=0.3), dict(top_p=0.9), dict(top_p=1.0), dict(top_p=1e-9), dict(temperature=0.7, top_k=6, top_p=0.8),
]  # fmt: skip
LOGITS = np.array([0.3, -1.0, 2.2, 1.9, 0.0, -3.0, 1.0, 0.7], np.float32)


# ---- the distribution


@pytest.mark.parametrize("options", OPTIONS)
def test_probabilities_are_the_filtered_softmax(options):
    rows = np.stack([LOGITS, LOGITS[::-1] * 2, LOGITS - 1000, LOGITS + 1000])
    expected = [filtered(row, **options) for row in rows]
    # A logit of 1000 keeps four digits behind the point in float32, but the float32 numbers are what is compared.
    assert_close(Sampling(**options).probabilities(rows), expected, 1e-6)


@pytest.mark.parametrize("options", OPTIONS)
def test_tokens_are_drawn_from_the_filtered_softmax(options):
    """Chi-square over 50,000 draws: its mean is the degrees of freedom, its variance twice them."""
    n = 50_000
    expected = filtered(LOGITS, **options)
    tokens = Sampling(**options).choose(np.tile(LOGITS, (n, 1)))
    counts = np.bincount(tokens, minlength=len(LOGITS))
    possible = expected > 0
    assert not counts[~possible].any()
    chi_square = (((counts - n * expected) ** 2)[possible] / (n * expected[possible])).sum()
    freedom = possible.sum() - 1
    assert chi_square <= freedom + 5 * np.sqrt(2 * freedom)


def test_the_nucleus_is_the_smallest_that_reaches_p():
    halves = np.array([[0.0, 0.0, -np.inf]], np.float32)
    assert Sampling(top_p=0.5).probabilities(halves).tolist() == [[1, 0, 0]]
    assert Sampling(top_p=0.51).probabilities(halves).tolist() == [[0.5, 0.5, 0]]


def test_rows_are_drawn_independently():
    tokens = Sampling().choose(np.zeros((20_000, 2), np.float32))
    agree = (tokens[1:] == tokens[:-1]).mean()
    assert abs(agree - 0.5) < 5 * 0.5 / np.sqrt(20_000)


def test_temperature_zero_takes_the_most_probable_token():
    rows = np.stack([LOGITS, LOGITS[::-1]])
    assert Sampling(temperature=0).choose(rows).tolist() == [2, 5]
    assert Sampling(temperature=0, top_k=3, top_p=0.5).choose(rows).tolist() == [2, 5]


def test_a_token_with_probability_zero_is_never_drawn():
    logits = np.array([[-np.inf, 0.0, -np.inf]], np.float32)
    assert (Sampling().choose(np.tile(logits, (1000, 1))) == 1).all()


# ---- writing


def test_greedy_writing_is_the_full_pass_again_and_again(model):
    ids = PROMPT
    for _ in range(5):
        ids = np.append(ids, logits_after(model, ids).argmax())
    assert generate(model, PROMPT, 5, temperature=0).tolist() == ids.tolist()


@pytest.mark.parametrize("options", [dict(), dict(temperature=0.8, top_k=5, top_p=0.9)])
def test_the_same_seed_writes_the_same_text(model, options):
    texts = []
    for seed in (1, 1, 2):
        tt.manual_seed(seed)
        texts.append(generate(model, PROMPT, 30, **options).tolist())
    assert texts[0] == texts[1] != texts[2]


def test_the_first_token_follows_the_models_own_distribution(model):
    n = 5_000
    tokens = generate(model, np.tile(PROMPT, (n, 1)), 1, temperature=0.8, top_k=5)[:, -1]
    expected = filtered(logits_after(model, PROMPT)[0], temperature=0.8, top_k=5)
    counts = np.bincount(tokens, minlength=11)
    chi_square = ((counts - n * expected) ** 2 / np.maximum(n * expected, 1e-9))[expected > 0].sum()
    assert not counts[expected == 0].any() and chi_square < 4 + 5 * np.sqrt(8)


@pytest.mark.parametrize("shape", [(3,), (1, 3), (4, 3)])
def test_the_prompt_comes_first_and_the_shape_is_kept(model, shape):
    ids = np.broadcast_to(PROMPT, shape)
    text = generate(model, ids, 6)
    assert text.shape == (*shape[:-1], 9)
    np.testing.assert_array_equal(text[..., :3], ids)
    assert text.min() >= 0 and text.max() < 11


def test_a_list_is_a_prompt_too(model):
    assert generate(model, [3, 1, 4], 2, temperature=0).tolist() == generate(model, PROMPT, 2, temperature=0).tolist()


def test_no_new_tokens_leave_the_prompt_as_it_is(model):
    assert generate(model, PROMPT, 0).tolist() == PROMPT.tolist()


def test_rows_write_what_they_would_write_alone(model):
    rows = np.array([[3, 1, 4], [1, 5, 9]])
    together = generate(model, rows, 12, temperature=0)
    for row, text in zip(rows, together):
        assert generate(model, row, 12, temperature=0).tolist() == text.tolist()


@pytest.mark.parametrize("context, length", [(8, 3), (8, 8), (8, 20), (7, 7), (2, 1), (1, 1)])
def test_past_the_context_it_goes_on_from_the_later_half(context, length):
    config = GPTConfig(vocab_size=11, context=context, layers=2, heads=2, width=8)
    model = randomized(config, scale=0.5)
    prompt = np.random.default_rng(0).integers(0, 11, length)
    window, expected = prompt[-context:], prompt.tolist()
    for _ in range(25):
        if len(window) > context:
            window = window[-max(1, context // 2) :]
        token = logits_after(model, window).argmax()
        window = np.append(window, token)
        expected.append(int(token))
    assert generate(model, prompt, 25, temperature=0).tolist() == expected


def test_the_stream_yields_each_token_as_it_is_chosen(model):
    tokens = [step.tokens for step in stream(model, PROMPT[None], 6, temperature=0)]
    assert np.concatenate(tokens).tolist() == generate(model, PROMPT, 6, temperature=0)[3:].tolist()


def test_dropout_is_off_while_writing_and_the_mode_is_given_back():
    model = randomized(GPTConfig(**SMALL, dropout=0.5), scale=0.5)
    first = generate(model, PROMPT, 10, temperature=0).tolist()
    assert generate(model, PROMPT, 10, temperature=0).tolist() == first and model.training
    writing = stream(model, PROMPT[None], 10)
    next(writing)
    assert not model.training
    writing.close()  # the reader stops listening
    assert model.training
    model.eval()
    generate(model, PROMPT, 2)
    assert not model.training


def test_writing_leaves_no_gradients(model):
    generate(model, PROMPT, 3)
    assert all(p.grad is None for p in model.parameters())


# ---- bad input


@pytest.mark.parametrize(
    "options, message",
    [(dict(temperature=-1), "temperature -1 is not a number >= 0"),
     (dict(temperature=float("nan")), "temperature nan is not"),
     (dict(top_k=0), "top_k 0 leaves nothing to choose from; it must be at least 1"),
     (dict(top_p=0), r"top_p 0 must be in \(0, 1\]"), (dict(top_p=1.5), r"top_p 1\.5 must be in"),
     (dict(top_p=float("nan")), "top_p nan must be in")],
)  # fmt: skip
def test_bad_options_are_named(model, options, message):
    with pytest.raises(ValueError, match=message):
        generate(model, PROMPT, 3, **options)


@pytest.mark.parametrize(
    "ids, message",
    [([], "rows of at least one id"), (np.zeros((0, 3), int), "rows of at least one id"),
     (np.zeros((1, 1, 3), int), r"shape \(1, 1, 3\)"), ([0.5], "not float64"), (["a"], "not <U1"),
     ([1, 11], r"the prompt holds id 11; the model knows ids 0\.\.10"), ([-2, 3], "the prompt holds id -2")],
)  # fmt: skip
def test_bad_prompts_are_named(model, ids, message):
    with pytest.raises(ValueError, match=message):
        generate(model, ids, 3)
