import itertools

import numpy as np
import pytest

import tinytensor as tt
from models import GPT, GPTConfig
from models.contract import Writer
from models.generate import generate, pad_left, stream
from models.generate.beam import beam_search
from nn import DecoderCache, KVCache, Module
from tests.models.generate.test_sampling import chi_square_is_fair, filtered
from tests.models.test_gpt import SMALL, randomized

PROMPT = np.array([3, 1, 4])


@pytest.fixture(scope="module")
def model() -> GPT:
    return randomized(GPTConfig(**SMALL), scale=0.5)


def logits_after(model: GPT, ids) -> np.ndarray:
    """The next token's logits by a full pass, without a cache."""
    with tt.no_grad():
        return model(np.atleast_2d(ids)).data[:, -1]


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
    assert chi_square_is_fair(tokens, filtered(logits_after(model, PROMPT)[0], temperature=0.8, top_k=5))


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


# ---- batches, samples, endings

UNEQUAL = [[3, 1, 4], [5], [9, 2, 6, 5, 3]]


@pytest.mark.parametrize("changes", [dict(), dict(post_norm=True), dict(window=3)])
def test_rows_of_unequal_length_write_what_they_would_write_alone(changes):
    model = randomized(GPTConfig(**SMALL | dict(context=32), **changes), scale=0.5)
    together = generate(model, UNEQUAL, 12, temperature=0)
    for row, text in zip(UNEQUAL, together):
        assert generate(model, row, 12, temperature=0).tolist() == text.tolist()


def test_cached_and_uncached_logits_agree_while_writing():
    model = randomized(GPTConfig(**SMALL | dict(context=40)), scale=0.5)
    ids, mask = pad_left(UNEQUAL)
    texts = np.concatenate([ids, np.stack([step.tokens for step in stream(model, ids, 30, mask=mask)], axis=1)], axis=1)
    cache = model.new_cache(3, 40)
    cached = [model.step(ids, cache, mask)] + [model.step(texts[:, t : t + 1], cache) for t in range(5, 35)]
    for row, prompt in enumerate(UNEQUAL):
        with tt.no_grad():
            full = model(texts[row : row + 1, 5 - len(prompt) :]).data[0, len(prompt) - 1 :]
        got = np.stack([step[row] for step in cached])
        assert abs(got - full).max() < 1e-5 * max(1, abs(full).max())
        assert (got.argmax(-1) == full.argmax(-1)).all()


def test_padding_is_on_the_left_and_needed_only_for_unequal_rows():
    ids, mask = pad_left(UNEQUAL, pad=7)
    assert ids.tolist() == [[7, 7, 3, 1, 4], [7, 7, 7, 7, 5], [9, 2, 6, 5, 3]]
    assert mask.tolist() == [[False, False, True, True, True], [False] * 4 + [True], [True] * 5]
    assert pad_left([[1, 2], [3, 4]])[1] is None
    with pytest.raises(ValueError, match="rows of at least one id"):
        pad_left([[1], []])


def test_samples_stand_below_each_other_and_follow_the_models_distribution(model):
    n = 4000
    prompts = np.array([[3, 1, 4], [1, 5, 9]])
    texts = generate(model, prompts, 1, samples=n)
    assert texts.shape == (2 * n, 4)
    for row, prompt in enumerate(prompts):
        mine = texts[row * n : (row + 1) * n]
        np.testing.assert_array_equal(mine[:, :3], np.tile(prompt, (n, 1)))
        assert chi_square_is_fair(mine[:, 3], filtered(logits_after(model, prompt)[0]))


def test_samples_of_unequal_rows_are_those_of_repeated_rows():
    model = randomized(GPTConfig(**SMALL | dict(context=32)), scale=0.5)
    texts = []
    for rows, samples in ((UNEQUAL, 2), ([row for row in UNEQUAL for _ in range(2)], 1)):
        tt.manual_seed(5)
        texts.append([text.tolist() for text in generate(model, rows, 8, samples=samples)])
    assert texts[0] == texts[1]


def test_a_row_ends_with_its_end_token_and_writing_ends_with_the_last_row(model):
    rows = np.array([[3, 1, 4], [1, 5, 9], [2, 6, 5]])
    free = generate(model, rows, 20, temperature=0)[:, 3:]
    end = int(free[0, 2])
    text = generate(model, rows, 20, temperature=0, end=end)[:, 3:]
    lengths = [list(row).index(end) + 1 if end in row else 20 for row in free.tolist()]
    assert text.shape[1] == max(lengths) and min(lengths) <= 3
    for row, length in enumerate(lengths):
        assert text[row, :length].tolist() == free[row, :length].tolist()
        assert (text[row, length:] == end).all()
    several = generate(model, rows[0], 20, temperature=0, end=(end, int(free[0, 0])))
    assert several.tolist() == [3, 1, 4, free[0, 0]]


def test_the_caller_may_say_when_a_row_is_done(model):
    until = lambda new: np.array([new.shape[1] >= 3, new.shape[1] >= 5])
    rows = np.array([[3, 1, 4], [1, 5, 9]])
    steps = list(stream(model, rows, 20, temperature=0, until=until))
    assert [step.done.tolist() for step in steps] == [[False] * 2] * 2 + [[True, False]] * 2 + [[True] * 2]
    free = generate(model, rows, 5, temperature=0)[:, 3:]
    tokens = np.stack([step.tokens for step in steps], axis=1)
    assert tokens[0].tolist() == [*free[0, :3], free[0, 2], free[0, 2]] and tokens[1].tolist() == free[1].tolist()


def test_log_probabilities_are_those_of_the_models_own_distribution(model):
    texts, chances = generate(model, np.array([[3, 1, 4], [1, 5, 9]]), 5, temperature=0.5, top_k=3, log_probs=True)
    for text, log_p in zip(texts, chances):
        with tt.no_grad():
            logits = model(text[None]).data[0, 2:-1].astype(np.float64)
        expected = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        np.testing.assert_allclose(log_p, expected[np.arange(5), text[3:]], atol=1e-5)


def test_penalties_change_what_is_written():
    model = randomized(GPTConfig(**SMALL | dict(context=32)), scale=0.5)
    text = generate(model, PROMPT, 24, temperature=0, no_repeat_ngram=2).tolist()
    pairs = list(itertools.pairwise(text))
    assert len(set(pairs)) == len(pairs)
    plain = generate(model, PROMPT, 24, temperature=0).tolist()
    punished = generate(model, PROMPT, 24, temperature=0, repetition_penalty=1e9).tolist()
    assert len(set(punished)) > len(set(plain))


def test_without_sliding_what_does_not_fit_is_refused_before_any_work(model):
    assert generate(model, PROMPT, 5, past_context="fail").shape == (8,)
    with pytest.raises(ValueError, match="a prompt of 3 tokens and 6 new ones are more than the context of 8"):
        generate(model, PROMPT, 6, past_context="fail")


class Echo(Module, Writer):
    """An encoder-decoder that copies its source: each step's most probable token is the source's next one."""

    class config:
        vocab_size = 10

    def __init__(self):
        self.encoded = 0

    def new_cache(self, batch, capacity, source, source_mask):
        self.encoded += 1
        layer = KVCache(batch, 1, capacity, 1, np.zeros(1))
        return DecoderCache([layer], {"source": source, "lengths": source_mask.sum(axis=1)})

    def step(self, ids, cache, mask=None):
        cache.layers[0].append(*(np.zeros((len(ids), 1, ids.shape[1], 1)) for _ in range(2)))
        place = cache.length - 1
        source, rows = cache.memory["source"], np.arange(len(ids))
        wanted = np.where(place < cache.memory["lengths"], source[rows, min(place, source.shape[1] - 1)], 0)
        return np.where(np.arange(10) == wanted[:, None], 3.0, 0.0).astype(np.float32)


SOURCE, SOURCE_MASK = np.array([[5, 6, 7, 8], [9, 4, 1, 1]]), np.array([[True] * 4, [True, True, False, False]])


def test_an_encoder_decoder_reads_its_source_once_and_has_no_longest_text():
    model = Echo()
    texts = generate(model, [[2], [2]], 9, temperature=0, end=0, source=SOURCE, source_mask=SOURCE_MASK)
    assert texts.tolist() == [[2, 5, 6, 7, 8, 0], [2, 9, 4, 0, 0, 0]] and model.encoded == 1
    samples = generate(model, [[2], [2]], 1, samples=3, temperature=0, source=SOURCE, source_mask=SOURCE_MASK)
    assert samples[:, 1].tolist() == [5, 5, 5, 9, 9, 9]


def test_beams_of_an_encoder_decoder_take_their_source_along():
    model = Echo()
    tokens, _ = beam_search(
        model, np.array([[2], [2]]), 9, 3, end=0, source=SOURCE, source_mask=SOURCE_MASK, returned=2
    )
    assert tokens[[0, 2], :5].tolist() == [[5, 6, 7, 8, 0], [9, 4, 0, 0, 0]] and model.encoded == 1


# ---- transformers


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """transformers' GPT-2 and ours with the same weights."""
    from tests.models.pretrained.test_gpt_folders import theirs_and_folder

    folder = tmp_path_factory.mktemp("gpt2")
    config = GPTConfig(vocab_size=61, context=64, layers=2, heads=4, width=32)
    theirs = theirs_and_folder("gpt2", folder, config)
    theirs.save_pretrained(folder)
    return theirs, GPT.from_pretrained(folder)


def of_transformers(model, ids, mask, new, **options) -> np.ndarray:
    import torch

    config = pytest.importorskip("transformers").GenerationConfig(max_new_tokens=new, pad_token_id=0, **options)
    with torch.no_grad():
        return model.generate(torch.tensor(ids), attention_mask=torch.tensor(mask.astype(int)),
                              generation_config=config).numpy()  # fmt: skip


@pytest.mark.parity
@pytest.mark.parametrize(
    "options",
    [dict(), dict(repetition_penalty=1.5), dict(no_repeat_ngram_size=2), dict(eos_token_id=7),
     dict(repetition_penalty=1.2, no_repeat_ngram_size=3, eos_token_id=[7, 11])],
)  # fmt: skip
def test_greedy_writing_is_that_of_transformers_token_for_token(pair, options):
    theirs, ours = pair
    ids = np.random.default_rng(0).integers(0, 61, (6, 5))
    expected = of_transformers(theirs, ids, np.ones_like(ids), 40, **options)
    names = {"no_repeat_ngram_size": "no_repeat_ngram", "eos_token_id": "end"}
    how = {names.get(name, name): tuple(v) if isinstance(v, list) else v for name, v in options.items()}
    got = generate(ours, ids, 40, temperature=0, **how)
    assert got.shape == expected.shape
    ended = np.cumsum(np.isin(got[:, 5:], how.get("end", -1)), axis=1) - np.isin(got[:, 5:], how.get("end", -1)) > 0
    np.testing.assert_array_equal(np.where(ended, 0, got[:, 5:]), np.where(ended, 0, expected[:, 5:]))


@pytest.mark.parity
def test_greedy_writing_from_unequal_prompts_is_that_of_transformers(pair):
    theirs, ours = pair
    draw = np.random.default_rng(0)
    prompts = [draw.integers(0, 61, n).tolist() for n in (5, 1, 3, 12)]
    ids, mask = pad_left(prompts)
    expected = of_transformers(theirs, ids, mask, 30)
    for row, text in enumerate(generate(ours, prompts, 30, temperature=0)):
        assert text.tolist() == expected[row, mask.shape[1] - len(prompts[row]) :].tolist()


# ---- bad input


@pytest.mark.parametrize(
    "ids, message",
    [([], "rows of at least one id"), (np.zeros((0, 3), int), "rows of at least one id"),
     (np.zeros((1, 1, 3), int), r"shape \(1, 1, 3\)"), ([0.5], "not float64"), (["a"], "not <U1"),
     ([1, 11], r"the prompt holds id 11; the model knows ids 0\.\.10"), ([-2, 3], "the prompt holds id -2")],
)  # fmt: skip
def test_bad_prompts_are_named(model, ids, message):
    with pytest.raises(ValueError, match=message):
        generate(model, ids, 3)


def test_no_beams_are_refused(model):
    with pytest.raises(ValueError, match="beams must be at least 1, not 0"):
        generate(model, [1, 2], 3, beams=0)
