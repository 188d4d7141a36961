import itertools

import numpy as np
import pytest

import tinytensor as tt
from models import GPTConfig
from models.generate import generate
from models.generate.beam import beam_search
from tests.models.generate.test_loop import logits_after, of_transformers, pair  # noqa: F401
from tests.models.test_gpt import SMALL, randomized

TINY = dict(vocab_size=4, context=12, layers=2, heads=2, width=8)


def log_p(model, prompt, text) -> np.ndarray:
    """log p of each token of a text after a prompt, by one full pass."""
    ids = np.concatenate([prompt, text])
    with tt.no_grad():
        logits = model(ids[None]).data[0, len(prompt) - 1 : -1].astype(np.float64)
    logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
    return logits[np.arange(len(text)), text]


@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
def test_enough_beams_find_the_best_of_all_texts(penalty):
    """64 beams hold every text of 4 tokens without end among 3 others: the search is then exhaustive."""
    model, prompt = randomized(GPTConfig(**TINY), scale=0.6), np.array([1, 2])
    texts = [text for n in range(1, 5) for text in itertools.product(range(4), repeat=n)
             if 0 not in text[:-1] and (text[-1] == 0 or n == 4)]  # fmt: skip
    best = {text: log_p(model, prompt, np.array(text)).sum() / len(text) ** penalty for text in texts}
    ranked = sorted(texts, key=best.get, reverse=True)
    options = dict(end=0, length_penalty=penalty, early_stopping="never", returned=3)
    tokens, scores = beam_search(model, prompt[None], 4, 64, **options)
    for row, text in enumerate(ranked[:3]):
        assert tokens[row, : len(text)].tolist() == list(text)
        assert scores[row] == pytest.approx(best[text], abs=1e-4)


def test_one_beam_is_greedy_writing():
    model = randomized(GPTConfig(**SMALL), scale=0.5)
    rows = np.array([[3, 1, 4], [1, 5, 9]])
    tokens, scores = beam_search(model, rows, 5, 1)
    assert tokens.tolist() == generate(model, rows, 5, temperature=0)[:, 3:].tolist()
    for row in range(2):
        assert scores[row] == pytest.approx(log_p(model, rows[row], tokens[row]).mean(), abs=1e-5)


def test_more_beams_find_texts_at_least_as_probable():
    model = randomized(GPTConfig(**SMALL | dict(context=24)), scale=0.5)
    rows = np.random.default_rng(0).integers(0, 11, (6, 3))
    one, many = (beam_search(model, rows, 12, beams)[1] for beams in (1, 12))
    assert (many >= one - 1e-6).all() and (many > one + 1e-3).any()


def test_every_prompt_has_the_beams_it_would_have_alone():
    model = randomized(GPTConfig(**SMALL | dict(context=32)), scale=0.5)
    prompts = [[3, 1, 4], [5], [9, 2, 6, 5, 3]]
    together = generate(model, prompts, 10, beams=3, end=0, length_penalty=0.7)
    for prompt, text in zip(prompts, together):
        alone = generate(model, prompt, 10, beams=3, end=0, length_penalty=0.7)
        assert text[: len(alone)].tolist() == alone.tolist() and (text[len(alone) :] == 0).all()


def test_the_first_token_is_the_most_probable_when_one_is_asked_for():
    model = randomized(GPTConfig(**SMALL), scale=0.5)
    tokens, _ = beam_search(model, np.array([[3, 1, 4]]), 1, 3, returned=3)
    expected = np.argsort(-logits_after(model, [3, 1, 4])[0])[:3]
    assert tokens[:, 0].tolist() == expected.tolist()


@pytest.mark.parametrize(
    "options, message",
    [(dict(beams=0), "keeps at least 1 beam"), (dict(beams=2, returned=3), "returns 1 to all of them, not 3 of 2"),
     (dict(early_stopping="soon"), "early_stopping must be True, False or \"never\"")],
)  # fmt: skip
def test_bad_options_are_named(options, message):
    model = randomized(GPTConfig(**SMALL))
    with pytest.raises(ValueError, match=message):
        beam_search(model, np.array([[3, 1, 4]]), 3, **options)


@pytest.mark.parametrize("options", [dict(temperature=0.5), dict(top_k=5)])
def test_ways_of_drawing_a_token_are_refused_where_none_is_drawn(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} has no meaning in it"):
        generate(randomized(GPTConfig(**SMALL)), np.array([[3, 1, 4]]), 3, beams=4, **options)


@pytest.mark.parity
@pytest.mark.parametrize(
    "options",
    [dict(), dict(num_beams=2), dict(num_beams=7), dict(length_penalty=0.0), dict(length_penalty=2.0),
     dict(length_penalty=-1.0), dict(early_stopping=True), dict(early_stopping="never", length_penalty=1.5),
     dict(early_stopping="never", length_penalty=-0.5), dict(num_return_sequences=4), dict(no_repeat_ngram_size=2),
     dict(repetition_penalty=1.3), dict(eos_token_id=[7, 11, 3]), dict(eos_token_id=None)],
)  # fmt: skip
def test_beam_search_is_that_of_transformers_token_for_token(pair, options):  # noqa: F811
    theirs, ours = pair
    options = dict(num_beams=4, eos_token_id=7) | options
    ids = np.random.default_rng(0).integers(0, 61, (8, 5))
    ids[ids == 7] = 8
    for new in (3, 25):
        expected = of_transformers(theirs, ids, np.ones_like(ids), new, **options)[:, 5:]
        names = {"no_repeat_ngram_size": "no_repeat_ngram", "eos_token_id": "end", "num_beams": "beams",
                 "num_return_sequences": "returned"}  # fmt: skip
        how = {names.get(name, name): tuple(v) if isinstance(v, list) else v for name, v in options.items()}
        tokens, _ = beam_search(ours, ids, new, **how)
        assert tokens.shape == expected.shape
        ends = np.isin(tokens, -1 if how["end"] is None else how["end"])
        after = np.cumsum(ends, axis=1) - ends > 0  # filled up with other tokens there
        np.testing.assert_array_equal(np.where(after, 0, tokens), np.where(after, 0, expected))


@pytest.mark.parity
def test_beam_search_from_unequal_prompts_is_that_of_transformers(pair):  # noqa: F811
    from models.generate import pad_left

    theirs, ours = pair
    draw = np.random.default_rng(0)
    prompts = [draw.integers(8, 61, n).tolist() for n in (5, 1, 3, 12)]
    ids, mask = pad_left(prompts)
    expected = of_transformers(theirs, ids, mask, 20, num_beams=5)[:, 12:]
    tokens, _ = beam_search(ours, ids, 20, 5, mask=mask)
    np.testing.assert_array_equal(tokens, expected)
