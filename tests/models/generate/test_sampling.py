import numpy as np
import pytest

from models.generate import Sampling
from models.generate.filters import repeating
from models.generate.sampling import log_softmax
from tests.helpers import assert_close


def filtered(logits, temperature=1.0, top_k=None, top_p=None, min_p=None, typical_p=None) -> np.ndarray:
    """The distribution to draw from, written out token by token for one row."""
    p = np.exp(logits.astype(np.float64) / temperature - (logits / temperature).max())
    kept = [token for token in range(len(p)) if p[token] > 0]

    def fewest(ranked, share):
        mass, chosen = 0.0, []
        for token in ranked:
            if mass >= share:
                break
            chosen.append(token)
            mass += p[token] / p[kept].sum()
        return chosen

    by_probability = lambda: sorted(kept, key=lambda token: -p[token])
    kept = by_probability()[: top_k or len(p)]
    if top_p is not None:
        kept = fewest(by_probability(), top_p)
    if min_p is not None:
        kept = [token for token in kept if p[token] >= min_p * max(p[kept])]
    if typical_p is not None:
        share = p / p[kept].sum()
        entropy = -sum(share[token] * np.log(share[token]) for token in kept)
        kept = fewest(sorted(kept, key=lambda token: abs(-np.log(share[token]) - entropy)), typical_p)
    result = np.zeros(len(p))
    result[kept] = p[kept] / p[kept].sum()
    return result


def chi_square_is_fair(tokens: np.ndarray, expected: np.ndarray) -> bool:
    """Whether draws follow a distribution: chi-square's mean is its degrees of freedom, its variance twice that."""
    n = len(tokens)
    counts, possible = np.bincount(tokens, minlength=len(expected)), expected > 0
    chi_square = ((counts - n * expected) ** 2)[possible] / (n * expected[possible])
    freedom = possible.sum() - 1
    return not counts[~possible].any() and chi_square.sum() <= freedom + 5 * np.sqrt(2 * freedom)


OPTIONS = [
    dict(), dict(temperature=0.5), dict(temperature=3.0), dict(top_k=1), dict(top_k=4), dict(top_k=100),
    dict(top_p=0.3), dict(top_p=0.9), dict(top_p=1.0), dict(top_p=1e-9), dict(temperature=0.7, top_k=6, top_p=0.8),
    dict(min_p=0.2), dict(min_p=0.0), dict(min_p=1.0), dict(typical_p=0.2), dict(typical_p=0.8), dict(typical_p=1.0),
    dict(temperature=2.0, top_k=7, top_p=0.95, min_p=0.05, typical_p=0.9),
]  # fmt: skip
LOGITS = np.array([0.3, -1.0, 2.2, 1.9, 0.0, -3.0, 1.0, 0.7], np.float32)


@pytest.mark.parametrize("options", OPTIONS)
def test_probabilities_are_the_filtered_softmax(options):
    rows = np.stack([LOGITS, LOGITS[::-1] * 2, LOGITS - 1000, LOGITS + 1000])
    expected = [filtered(row, **options) for row in rows]
    # A logit of 1000 keeps four digits behind the point in float32, but the float32 numbers are what is compared.
    assert_close(Sampling(**options).probabilities(rows), expected, 1e-6)


@pytest.mark.parametrize("options", OPTIONS)
def test_tokens_are_drawn_from_the_filtered_softmax(options):
    tokens = Sampling(**options).choose(np.tile(LOGITS, (50_000, 1)))
    assert chi_square_is_fair(tokens, filtered(LOGITS, **options))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.99])
def test_the_nucleus_of_a_large_vocabulary_is_found_among_its_candidates_alone(p):
    rows = np.random.default_rng(0).standard_normal((3, 2000)).astype(np.float32) * [[0.1], [1], [4]]
    expected = [filtered(row, top_p=p) for row in rows]
    assert_close(Sampling(top_p=p).probabilities(rows), expected, 1e-9)


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


# ---- penalties

SCORES = np.array([[1.0, -2.0, 0.5, 3.0, -1.0]] * 2, np.float32)
TEXT = np.array([[3, 1, 3, 1], [0, 0, 2, 2]])
MASK = np.array([[True] * 4, [False, False, True, True]])


def test_the_repetition_penalty_makes_every_token_of_the_text_less_probable():
    scores = Sampling(repetition_penalty=2.0).penalize(SCORES, TEXT, MASK, 2)
    assert scores.tolist() == [[1, -4, 0.5, 1.5, -1], [1, -2, 0.25, 3, -1]]  # row 1: token 0 is only padding
    assert SCORES[0].tolist() == [1, -2, 0.5, 3, -1]


def test_the_presence_penalty_counts_what_was_written_after_the_prompt():
    sampling = Sampling(presence_penalty=0.5)
    assert sampling.penalize(SCORES, TEXT, MASK, 3).tolist() == [[1, -2.5, 0.5, 3, -1], [1, -2, 0, 3, -1]]
    assert sampling.penalize(SCORES, TEXT, MASK, 4).tolist() == SCORES.tolist()


def test_no_ngram_is_written_twice():
    scores = Sampling(no_repeat_ngram=2).penalize(SCORES, TEXT, MASK, 2)
    assert (scores == -np.inf).tolist() == [[False, False, False, True, False], [False, False, True, False, False]]


@pytest.mark.parametrize(
    "text, n, banned",
    [([1, 2, 3, 1, 2], 3, [3]), ([1, 2, 3, 1, 2], 2, [3]), ([1, 2, 1, 3, 1], 2, [2, 3]), ([1, 2, 3], 1, [1, 2, 3]),
     ([1, 2], 3, []), ([1, 1, 1], 3, [1]), ([1, 2, 3, 4], 2, [])],
)  # fmt: skip
def test_tokens_that_would_repeat_a_run_are_found(text, n, banned):
    assert sorted(repeating(np.array(text), n).tolist()) == banned


def test_it_is_said_when_every_token_would_repeat():
    with pytest.raises(ValueError, match="every token would repeat 1 in a row"):
        Sampling(no_repeat_ngram=1).penalize(np.zeros((1, 2)), np.array([[0, 1]]), None, 0)


def test_log_softmax_is_the_logarithm_of_the_softmax():
    expected = np.log(filtered(LOGITS))
    assert_close(log_softmax(np.stack([LOGITS, LOGITS + 1000])), [expected, expected], 1e-4)


# ---- transformers


@pytest.mark.parity
@pytest.mark.parametrize("options", OPTIONS)
def test_filters_leave_what_transformers_leaves(options):
    torch = pytest.importorskip("torch")
    process = pytest.importorskip("transformers").generation.logits_process
    kinds = {"temperature": process.TemperatureLogitsWarper, "top_k": process.TopKLogitsWarper,
             "top_p": process.TopPLogitsWarper, "min_p": process.MinPLogitsWarper,
             "typical_p": process.TypicalLogitsWarper}  # fmt: skip
    rows = np.random.default_rng(0).standard_normal((4, 300)).astype(np.float32) * [[0.3], [1], [2], [5]]
    scores = torch.tensor(rows)
    for name, kind in kinds.items():
        if name in options and not (name == "typical_p" and options[name] == 1):
            scores = kind(options[name])(None, scores)
    assert_close(Sampling(**options).probabilities(rows), scores.softmax(-1).numpy(), 1e-6)


@pytest.mark.parity
@pytest.mark.parametrize("n", [1, 2, 3])
def test_penalties_are_those_of_transformers(n):
    torch = pytest.importorskip("torch")
    process = pytest.importorskip("transformers").generation.logits_process
    draw = np.random.default_rng(0)
    ids, scores = draw.integers(0, 12, (5, 9)), draw.standard_normal((5, 12)).astype(np.float32)
    theirs = process.RepetitionPenaltyLogitsProcessor(1.3)(torch.tensor(ids), torch.tensor(scores))
    theirs = process.NoRepeatNGramLogitsProcessor(n)(torch.tensor(ids), theirs).numpy()
    ours = Sampling(repetition_penalty=1.3, no_repeat_ngram=n).penalize(scores, ids, None, 3)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


# ---- bad options


@pytest.mark.parametrize(
    "options, message",
    [(dict(temperature=-1), "temperature must be at least 0, not -1"),
     (dict(temperature=float("nan")), "temperature must be a finite number, not nan"),
     (dict(top_k=0), "top_k must be at least 1, not 0"),
     (dict(top_p=0), r"top_p must be more than 0, not 0"), (dict(top_p=1.5), r"top_p must be at most 1, not 1\.5"),
     (dict(top_p=float("nan")), "top_p must be a finite number, not nan"),
     (dict(typical_p=0.0), r"typical_p must be more than 0, not 0\.0"),
     (dict(min_p=-0.1), r"min_p must be at least 0, not -0\.1"),
     (dict(repetition_penalty=0), "repetition_penalty must be more than 0"),
     (dict(presence_penalty=float("inf")), "presence_penalty must be a finite number, not inf"),
     (dict(no_repeat_ngram=0), "no_repeat_ngram must be at least 1, not 0")],
)  # fmt: skip
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**options)
