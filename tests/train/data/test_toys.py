import numpy as np
import pytest

from train.data.toys import TOYS, examples


@pytest.mark.parametrize("name", TOYS)
def test_no_input_is_seen_twice_and_the_same_seed_gives_the_same(name):
    train, held_out = examples(name, 300, 100, seed=3)
    assert (len(train), len(held_out)) == (300, 100)
    assert len({example["input"] for example in train + held_out}) == 400
    assert examples(name, 300, 100, seed=3) == (train, held_out) != examples(name, 300, 100, seed=4)
    assert {example["task"] for example in train} == {name}


def test_targets_are_the_right_answers():
    for example in examples("reverse", 50, 1)[0]:
        assert example["target"] == "".join(reversed(example["input"])) and 3 <= len(example["input"]) <= 10
    for example in examples("sort", 50, 1)[0]:
        assert list(example["target"]) == sorted(example["input"]) and 3 <= len(example["input"]) <= 10
    for example in examples("add", 50, 1)[0]:
        a, b = map(int, example["input"].split("+"))
        assert int(example["target"]) == a + b and 100 <= a < 1000 > b >= 100


def test_most_texts_to_reverse_have_a_letter_twice_so_that_letters_alone_do_not_tell_places():
    texts = [example["input"] for example in examples("reverse", 400, 1)[0]]
    assert np.mean([len(set(text)) < len(text) for text in texts]) > 0.8


def test_what_cannot_be_made_is_named():
    with pytest.raises(ValueError, match="there is no toy task 'multiply'; choose from reverse, sort, add"):
        examples("multiply", 1, 1)
    with pytest.raises(ValueError, match="add: 0 examples and 1 held out must be at least 1"):
        examples("add", 0, 1)
    with pytest.raises(ValueError, match="and 200000 together"):
        examples("add", 200_000, 1)
