import numpy as np
import pytest

from models.tokenizers import ByteLevelBPE, Characters, WordPiece
from tinytensor import random
from train.data import stories
from train.data.documents import SentenceEncoder
from train.objectives.masked import Masked, MaskedConfig


@pytest.fixture(scope="module")
def tokenizer() -> WordPiece:
    return WordPiece.train([stories.corpus(60_000).text], 400)


@pytest.fixture(scope="module")
def tokens(tokenizer) -> np.ndarray:
    return SentenceEncoder(tokenizer).encode_array(stories.corpus(60_000).text)


def masked(tokenizer, **changes) -> Masked:
    return Masked(tokenizer, 64, 16, MaskedConfig(**changes))


def chi_square(counts, expected) -> float:
    counts, expected = np.asarray(counts, float), np.asarray(expected, float)
    return float(((counts - expected) ** 2 / expected).sum())


def many(objective: Masked, tokens: np.ndarray, batches: int = 60) -> list[dict]:
    return [objective.training_batch(tokens, i) for i in range(batches)]


@pytest.mark.parametrize("whole_words", [False, True])
def test_eighty_percent_are_masked_ten_random_and_ten_kept(whole_words, tokenizer, tokens):
    """A chi-square test against the published shares; by chance 13.8 (2 degrees of freedom) is passed once in 1000."""
    objective = masked(tokenizer, whole_words=whole_words)
    counts, V = np.zeros(3), tokenizer.vocab_size
    for batch in many(objective, tokens):
        asked = batch["targets"] != -100
        seen, truth = batch["ids"][asked], batch["targets"][asked]
        masks = seen == objective.tokenizer.mask_id
        counts += masks.sum(), (~masks & (seen != truth)).sum(), (seen == truth).sum()
    # A random token may be the right one or [MASK] itself, each once in V times.
    shares = np.array([0.8 + 0.1 / V, 0.1 - 0.2 / V, 0.1 + 0.1 / V])
    assert counts.sum() > 5000
    assert chi_square(counts, counts.sum() * shares) < 13.8


def test_random_tokens_are_drawn_evenly_from_the_whole_vocabulary(tokenizer):
    objective, V = masked(tokenizer), tokenizer.vocab_size
    with random.seeded(1) as draw:
        ids = np.full((100, 2000), 50)
        seen = objective.replace(ids, np.ones(ids.shape, bool), draw)
    strange = np.bincount(seen[(seen != 50) & (seen != objective.tokenizer.mask_id)], minlength=V)
    others = np.delete(strange, [50, objective.tokenizer.mask_id])
    assert others.sum() > 19_000
    mean, deviation = len(others) - 1, np.sqrt(2 * (len(others) - 1))  # of chi-square with that many degrees
    assert chi_square(others, np.full(len(others), others.mean())) < mean + 4 * deviation


@pytest.mark.parametrize("whole_words", [False, True])
def test_every_place_of_a_text_is_as_likely_as_every_other(whole_words, tokenizer, tokens):
    objective = masked(tokenizer, whole_words=whole_words)
    row = np.array([[tokenizer.tokens.index(token) for token in ("[CLS]", *["a"] * 40, "[SEP]")]])
    with random.seeded(2) as draw:
        times = sum(objective.choose(row, np.ones(row.shape, bool), draw)[0].astype(int) for _ in range(2000))
    assert times[0] == times[-1] == 0
    assert times.sum() == 2000 * 6  # round(42 * 0.15)
    assert chi_square(times[1:-1], np.full(40, 300)) < 39 + 4 * np.sqrt(78)


def test_fifteen_percent_of_each_text_are_chosen_rounded_as_published(tokenizer, tokens):
    for batch in many(masked(tokenizer), tokens, 20):
        lengths, chosen = batch["mask"].sum(axis=1), (batch["targets"] != -100).sum(axis=1)
        assert chosen.tolist() == [max(1, round(n * 0.15)) for n in lengths.tolist()]
    most = many(masked(tokenizer, max_predictions=4), tokens, 5)
    assert max((batch["targets"] != -100).sum(axis=1).max() for batch in most) == 4
    assert (masked(tokenizer).budget(10), masked(tokenizer).budget(30), masked(tokenizer).budget(3)) == (2, 4, 1)


@pytest.mark.parametrize(
    "changes", [{}, {"whole_words": True}, {"pairs": "none"}, {"pairs": "order", "masking": "static"}]
)
def test_special_tokens_and_padding_are_never_masked(changes, tokenizer, tokens):
    objective = masked(tokenizer, **changes)
    for batch in many(objective, tokens, 30):
        asked = batch["targets"] != -100
        assert batch["mask"][asked].all()
        assert not objective.is_special[batch["targets"][asked]].any()
        original = np.where(asked, batch["targets"], batch["ids"])
        assert (original[:, 0] == tokenizer.tokens.index("[CLS]")).all()
        assert ((original == tokenizer.tokens.index("[PAD]")) == ~batch["mask"]).all()
        lengths = batch["mask"].sum(axis=1)
        assert (original[np.arange(len(original)), lengths - 1] == tokenizer.tokens.index("[SEP]")).all()


def test_whole_words_are_masked_whole_and_those_without_room_left_alone(tokenizer, tokens):
    objective = masked(tokenizer, whole_words=True)
    pieces = 0
    for batch in many(objective, tokens, 40):
        asked = batch["targets"] != -100
        original = np.where(asked, batch["targets"], batch["ids"])
        inside = objective.continues[original[:, 1:]] & batch["mask"][:, 1:]
        inside &= ~objective.is_special[original[:, :-1]]  # a text may be cut inside a word
        assert (asked[:, 1:] == asked[:, :-1])[inside].all()  # a piece shares the fate of the one before
        pieces += (inside & asked[:, 1:]).sum()
        lengths = batch["mask"].sum(axis=1).tolist()
        assert all(n <= objective.budget(length) for n, length in zip(asked.sum(axis=1), lengths))
    assert pieces > 300


def test_static_masks_come_again_after_their_duplicates_and_dynamic_ones_do_not(tokenizer, tokens):
    for masking, again in (("static", True), ("dynamic", False)):
        objective = masked(tokenizer, masking=masking, duplicates=2)
        per_pass = len(objective.pairs_of_pass(tokens, 0)[1])
        first, second, third = (objective.training_batch(tokens, 3 + i * per_pass) for i in range(3))
        assert not np.array_equal(first["ids"], second["ids"])
        assert np.array_equal(first["ids"], third["ids"]) == again


def test_batches_depend_on_seed_and_number_alone(tokenizer, tokens):
    one, two = masked(tokenizer), masked(tokenizer)
    for number in (7, 0, 500):
        a, b = one.training_batch(tokens, number), two.training_batch(tokens, number)
        assert all(np.array_equal(a[name], b[name]) for name in a)
    other = Masked(tokenizer, 64, 16, MaskedConfig(), seed=1)
    assert not np.array_equal(other.training_batch(tokens, 7)["ids"], one.training_batch(tokens, 7)["ids"])


def test_evaluation_covers_every_pair_once_with_the_same_masks_each_time(tokenizer, tokens):
    objective = masked(tokenizer)
    groups = objective.evaluation_batches(tokens)
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(objective.pairs_of_pass(tokens, 0)[0])))
    a, b = objective.evaluation_batch(tokens, groups[5]), objective.evaluation_batch(tokens, groups[5])
    assert np.array_equal(a["ids"], b["ids"])
    assert len(objective.evaluation_batches(tokens, 3)) == 3


def test_segments_and_labels_are_those_of_the_pairs(tokenizer, tokens):
    objective = masked(tokenizer)
    batch = objective.training_batch(tokens, 0)
    ends = np.where(batch["targets"] == -100, batch["ids"], 0) == tokenizer.tokens.index("[SEP]")
    assert (ends.sum(axis=1) == 2).all()
    first_end = ends.argmax(axis=1)
    places = np.arange(ends.shape[1])
    assert np.array_equal(batch["token_types"] == 1, (places > first_end[:, None]) & batch["mask"])
    assert set(batch["next"].tolist()) == {0, 1}
    assert "next" not in masked(tokenizer, pairs="none").training_batch(tokens, 0)


def test_bytelevel_words_begin_with_a_space():
    tokenizer = ByteLevelBPE.train([stories.corpus(30_000).text], 400)
    ids = tokenizer.encode(" the astonishment")
    assert tokenizer.continues_word()[ids].tolist() == [False, False, *[True] * (len(ids) - 2)] and len(ids) > 4


def test_what_does_not_fit_is_said(tokenizer, tokens):
    with pytest.raises(ValueError, match=r"this tokenizer has no \[MASK\] or <mask>"):
        Masked(Characters.train(["abc"]), 64, 4)
    with pytest.raises(ValueError, match="a context of 9 is too short for a pair; use at least 11"):
        Masked(tokenizer, 9, 4)
    with pytest.raises(ValueError, match="has 1 documents; a next sentence from elsewhere needs at least two"):
        masked(tokenizer).check(np.array([9, 9, 3, 8, 8, 3]), "training")
    with pytest.raises(ValueError, match="no two sentences to make a pair of"):
        masked(tokenizer, pairs="order").check(np.array([9, 9, 3]), "training")
    with pytest.raises(ValueError, match="pairs must be one of next, order, none, not 'both'"):
        MaskedConfig(pairs="both")
    with pytest.raises(ValueError, match="mask_share must be at most 1, not 2"):
        MaskedConfig(mask_share=2.0)
