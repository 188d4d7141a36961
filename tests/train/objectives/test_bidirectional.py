"""The bidirectional objective: rows go on where they were, targets stand beside their words, all words count once."""

import numpy as np
import pytest

from models.tokenizers import ElmoCharacters, Words
from models.tokenizers.words import END, START, UNKNOWN
from train.objectives.bidirectional import Bidirectional

TEXT = "\n".join(f"word{n % 7} other{n % 5} rare{n}." for n in range(60))
WORDS = Words.train([TEXT], 16)
TOKENS = WORDS.encode_array(TEXT)
SPELLING = ElmoCharacters().encode_words(WORDS.tokens).astype(np.int16)


def objective(context=6, batch=4) -> Bidirectional:
    return Bidirectional(context, batch, SPELLING, WORDS.vocab_size)


def places(characters: np.ndarray) -> np.ndarray:
    """Characters (..., 50) back to word ids."""
    by_spelling = {row.tobytes(): id for id, row in enumerate(SPELLING)}
    rows = characters.reshape(-1, 50)
    return np.array([by_spelling[row.tobytes()] for row in rows]).reshape(characters.shape[:-1])


def target(word: int, mark: int) -> int:
    return -100 if word == mark else word if word < WORDS.vocab_size else UNKNOWN


def test_each_row_goes_on_where_it_was_and_the_backward_rows_go_back():
    batches = [objective().training_batch(TOKENS, number) for number in range(5)]
    ahead = np.concatenate([places(batch["ids"]) for batch in batches], axis=1)
    back = np.concatenate([places(batch["back_ids"]) for batch in reversed(batches)], axis=1)
    N = len(TOKENS)
    for row in range(4):
        start = row * N // 4
        np.testing.assert_array_equal(ahead[row], TOKENS[np.arange(start, start + 30) % N])
        end = (2 * row + 1) * N // 8 + 6
        np.testing.assert_array_equal(back[row], TOKENS[np.arange(end - 30, end) % N])


def test_targets_are_the_neighbours_and_rare_words_count_as_unknown():
    batch = objective().training_batch(TOKENS, 3)
    N = len(TOKENS)
    for row in range(4):
        for t in range(6):
            ahead = TOKENS[(row * N // 4 + 18 + t + 1) % N]
            back = TOKENS[((2 * row + 1) * N // 8 - 18 + t - 1) % N]
            assert batch["targets"][row, t] == target(ahead, START)
            assert batch["back_targets"][row, t] == target(back, END)
    assert (batch["targets"] == UNKNOWN).any() and (batch["targets"] == -100).any()


def test_after_a_round_a_row_has_read_all_of_the_text():
    N, context = len(TOKENS), 6
    rounds = -(-N // context)
    seen = set()
    for number in range(rounds):
        seen |= set(places(objective(context, 1).training_batch(TOKENS, number)["ids"]).ravel().tolist())
    assert seen == set(TOKENS.tolist())


def test_the_evaluation_counts_every_word_of_the_text_once_in_each_direction():
    job = objective()
    ahead, back = [], []
    for key in job.evaluation_batches(TOKENS):
        batch = job.evaluation_batch(TOKENS, key)
        ahead += batch["targets"][batch["targets"] != -100].tolist()
        back += batch["back_targets"][batch["back_targets"] != -100].tolist()
    after, before = np.roll(TOKENS, -1), np.roll(TOKENS, 1)
    assert ahead == [target(word, START) for word in after if word != START]
    assert back == [target(word, END) for word in before if word != END]


def test_a_limited_evaluation_takes_that_many_batches_spread_over_the_text():
    keys = Bidirectional(1, 2, SPELLING, 16).evaluation_batches(TOKENS, limit=3)
    assert [len(key) for key in keys] == [2, 2, 2]
    assert keys[0][0] == 0 and keys[-1][-1] > 0.9 * len(TOKENS) - 8


def test_a_text_no_longer_than_a_window_is_refused():
    with pytest.raises(ValueError, match="the held-out part has 6 words, no more than one window of 6"):
        objective().check(TOKENS[:6], "held-out")
