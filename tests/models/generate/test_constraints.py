"""What must and must not be written: by rules of our own, and against transformers' logits processors."""

from types import SimpleNamespace

import numpy as np
import pytest

from models import GPTConfig
from models.generate import Constraints, Sampling, answer, generate, stream_text, write
from models.generate.beam import beam_search
from models.generate.constraints import of_texts
from models.tokenizers import Characters
from tests.models.generate.test_loop import of_transformers, pair  # noqa: F401
from tests.models.test_gpt import SMALL, randomized

PROMPT = np.array([[3, 1, 4], [1, 5, 9]])
NOT_OVER = np.zeros(6, bool)


@pytest.fixture(scope="module")
def model():
    return randomized(GPTConfig(**SMALL), scale=0.5)


WAYS = [dict(temperature=0), dict(temperature=1.0, samples=2), dict(beams=3)]


@pytest.mark.parametrize("how", WAYS)
def test_no_text_ends_before_the_least_length(model, how):
    free = generate(model, PROMPT, 5, end=(0, 1, 2, 3, 4, 5), **how)
    texts = generate(model, PROMPT, 5, end=(0, 1, 2, 3, 4, 5), constraints=Constraints(min_new_tokens=4), **how)
    assert (free[:, 3:7] <= 5).any() and (texts[:, 3:7] > 5).all()


@pytest.mark.parametrize("how", WAYS)
def test_bad_words_are_not_written_and_parts_of_them_are(model, how):
    first = generate(model, PROMPT[:1], 2, temperature=0)[0, 3:].tolist()
    texts = generate(model, PROMPT[:1], 5, constraints=Constraints(bad_words=[first, [7]]), **how)[:, 3:]
    for text in texts.tolist():
        assert 7 not in text and first not in [text[n : n + 2] for n in range(len(text))]
    across = Constraints(bad_words=[[4, first[0]]])  # begun by the prompt's last id
    assert generate(model, PROMPT[:1], 1, temperature=0, constraints=across)[0, 3] != first[0]


@pytest.mark.parametrize("how", WAYS)
def test_every_text_begins_as_it_must(model, how):
    texts = generate(model, PROMPT, 4, constraints=Constraints(begin=[9, 9]), **how)
    assert (texts[:, 3:5] == 9).all()


@pytest.mark.parametrize("how", WAYS)
def test_a_function_says_what_may_follow_of_which_prompt(model, how):
    asked = []

    def allowed(prompt: int, text: np.ndarray) -> list[int]:
        asked.append((prompt, text[:3].tolist()))
        return [(text[-1] + 1 + prompt) % 11]

    texts = generate(model, PROMPT, 4, constraints=Constraints(allowed=allowed), **how)
    per = len(texts) // 2
    assert (texts[:per, 3:] == [5, 6, 7, 8]).all() and (texts[per:, 3:] == [0, 2, 4, 6]).all()
    assert {prompt for prompt, text in asked if text == [3, 1, 4]} == {0}


def test_a_function_is_not_asked_about_texts_that_are_over_nor_shown_padding(model):
    seen = []

    def allowed(prompt: int, text: np.ndarray) -> list[int]:
        assert 10 not in text
        seen.append(text.tolist())
        return [10] if prompt == 0 else [6]

    texts = generate(model, [[3, 1, 4], [5]], 3, end=10, constraints=Constraints(allowed=allowed))
    assert texts[0].tolist() == [3, 1, 4, 10, 10, 10] and texts[1].tolist() == [5, 6, 6, 6]
    assert [5, 6, 6] in seen


def test_the_penalty_of_what_was_written_leaves_the_prompt_alone():
    scores, draft = np.array([[2.0, -2.0, 1.0, 3.0]]), SimpleNamespace(ids=np.array([[3, 0, 1]]), prompt=1, prompts=1,
                                                                      mask=None)  # fmt: skip
    got = Constraints(written_penalty=2.0).constrain(scores, draft, [], NOT_OVER[:1])
    assert got.tolist() == [[1.0, -4.0, 1.0, 3.0]]


def test_texts_are_constrained_in_words_too():
    tokenizer = Characters.train("abcdefgh .")
    model = randomized(GPTConfig(vocab_size=tokenizer.vocab_size, context=32, layers=2, heads=2, width=8), scale=0.6)
    free = write(model, tokenizer, "ab", 12, temperature=0)[0]
    rules = of_texts(tokenizer, bad_words=[free[3:5]], begin="hg")
    text = write(model, tokenizer, "ab", 12, temperature=0, constraints=rules)[0]
    assert text.startswith("hg") and free[3:5] not in text and free[3:5] in free
    assert "".join(stream_text(model, tokenizer, "ab", 12, temperature=0, constraints=rules)) == text


def test_an_answer_begins_as_it_must_and_is_as_long():
    from tests.train.test_accumulate import pretrained, tokenizer_of

    model, tokenizer = pretrained("t5"), tokenizer_of("t5")
    rules = of_texts(tokenizer, begin="The cat", min_new_tokens=9)
    said = answer(model, tokenizer, ["a", "b c"], 12, constraints=rules)
    assert all(text.startswith("The cat") for text in said)


@pytest.mark.parametrize(
    "rules, message",
    [(dict(min_new_tokens=-1), "min_new_tokens must not be negative: -1"),
     (dict(written_penalty=0), "written_penalty 0 must be above 0"), (dict(bad_words=[[]]), "an empty bad word"),
     (dict(bad_words=[[3, 11]]), r"hold id 11; the model knows ids 0\.\.10"), (dict(begin=[-1]), "hold id -1"),
     (dict(allowed=lambda prompt, text: []), "leave no token to write at place 1"),
     (dict(allowed=lambda prompt, text: [6], bad_words=[[6]]), "leave no token to write at place 1")],
)  # fmt: skip
@pytest.mark.parametrize("how", WAYS)
def test_what_cannot_be_kept_is_said(model, rules, message, how):
    with pytest.raises(ValueError, match=message):
        generate(model, PROMPT, 3, constraints=Constraints(**rules), **how)


# ---- transformers


@pytest.mark.parity
@pytest.mark.parametrize("written", [0, 2, 5])
def test_each_rule_is_their_logits_processor(written):
    torch, theirs = pytest.importorskip("torch"), pytest.importorskip("transformers")
    draw = np.random.default_rng(written)
    ids, scores = draw.integers(0, 9, (6, 4 + written)), draw.standard_normal((6, 20)).astype(np.float32)
    words = [[3], [int(ids[0, -1]), 5], [*ids[1, -2:].tolist(), 7], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]]
    only = lambda number, text: [int(text[-1]) + 1, number + 8]
    draft = SimpleNamespace(ids=ids, prompt=4, prompts=6, mask=None)
    device = dict(device="cpu")
    for rules, processor in (
        (dict(min_new_tokens=3), theirs.MinNewTokensLengthLogitsProcessor(4, 3, [7, 11], **device)),
        (dict(bad_words=words), theirs.NoBadWordsLogitsProcessor(words)),
        (dict(allowed=only), theirs.PrefixConstrainedLogitsProcessor(only, num_beams=1)),
        (dict(begin=[13]), theirs.ForcedBOSTokenLogitsProcessor(13) if written == 0 else None),
        (dict(written_penalty=1.7), theirs.RepetitionPenaltyLogitsProcessor(1.7, prompt_ignore_length=4)),
    ):
        got = Constraints(**rules).constrain(scores, draft, [7, 11], NOT_OVER)
        where = ids[:, 3:] if "begin" in rules else ids  # theirs forces the token behind a single one
        want = scores if processor is None else processor(torch.tensor(where), torch.tensor(scores.copy())).numpy()
        np.testing.assert_allclose(got, want, rtol=1e-6, err_msg=str(rules))


def next_ones(number: int, text) -> list[int]:
    """About half of the tokens, others for each text."""
    return [int(i) for i in range(61) if (i * 7 + number + int(text[-1])) % 3]


RULES = [
    dict(min_new_tokens=12), dict(bad_words_ids=[[5], [7, 9], [11, 2, 3], [30], [40], [50]]),
    dict(prefix_allowed_tokens_fn=next_ones), dict(min_new_tokens=6, bad_words_ids=[[20], [21], [22]]),
    dict(min_new_tokens=20, prefix_allowed_tokens_fn=next_ones, repetition_penalty=1.3),
]  # fmt: skip


@pytest.mark.parity
@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize("rules", RULES)
def test_what_is_written_under_rules_is_that_of_transformers_token_for_token(pair, rules, beams):  # noqa: F811
    import torch
    from transformers import GenerationConfig

    theirs, ours = pair
    ids, ends = np.random.default_rng(0).integers(0, 61, (6, 5)), [7, 8, 9, 12, 14, 16, 18]
    settings = {name: value for name, value in rules.items() if name != "prefix_allowed_tokens_fn"}
    config = GenerationConfig(max_new_tokens=25, pad_token_id=0, eos_token_id=ends, num_beams=beams, **settings)
    with torch.no_grad():
        expected = theirs.generate(
            torch.tensor(ids), attention_mask=torch.ones(ids.shape), generation_config=config,
            prefix_allowed_tokens_fn=rules.get("prefix_allowed_tokens_fn"),
        ).numpy()[:, 5:]  # fmt: skip
    constraints = Constraints(rules.get("min_new_tokens", 0), rules.get("bad_words_ids", ()),
                              allowed=rules.get("prefix_allowed_tokens_fn"))  # fmt: skip
    how = dict(repetition_penalty=rules.get("repetition_penalty", 1.0), end=tuple(ends), constraints=constraints)
    got = beam_search(ours, ids, 25, beams, **how)[0] if beams > 1 else generate(
        ours, ids, 25, temperature=0, **how)[:, 5:]  # fmt: skip
    over = lambda a: np.cumsum(np.isin(a, ends), axis=1) - np.isin(a, ends) > 0
    assert got.shape == expected.shape
    np.testing.assert_array_equal(np.where(over(got), 0, got), np.where(over(expected), 0, expected))


def test_without_rules_nothing_changes(model):
    plain = generate(model, PROMPT, 5, temperature=0)
    assert (generate(model, PROMPT, 5, temperature=0, constraints=Constraints()) == plain).all()
    assert Sampling().repetition_penalty == Constraints().written_penalty == 1
