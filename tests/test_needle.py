"""The texts of the needle test: told once, where it is said, and asked for at the end."""

import re

import pytest

from benchmarks.needle import NEEDLES, Texts
from models.tokenizers import ByteLevelBPE
from tinytensor.ops.softmax import IGNORED
from train.data import stories
from train.data.stories.facts import NAMES, THINGS


@pytest.fixture(scope="module")
def texts():
    return Texts(ByteLevelBPE.train(stories.corpus(300_000).text, 1024), 1, 200_000)


@pytest.mark.parametrize("length", [256, 1500])
def test_each_needle_is_told_once_in_its_part_and_nothing_else_mentions_its_thing(texts, length):
    for _ in range(20):
        ids, answers = texts.text(length, NEEDLES)
        assert len(ids) == length and sorted(part for part, _, _ in answers) == [*range(NEEDLES)]
        text = texts.tokenizer.decode(ids)
        hay, *questions = text.split("\nWho has the ")
        told = {thing: (name, at.start()) for at in re.finditer(r"(\w+) has the (\w+)\.", hay)
                for name, thing in [at.groups()]}  # fmt: skip
        assert len(told) == len(questions) == NEEDLES and {*told} <= {*THINGS}
        found = []
        for question, (part, place, answer) in zip(questions, answers):
            thing, name = question.split()
            found.append((told[thing][1], part))
            assert told[thing][0] == name in NAMES and texts.tokenizer.decode(answer) == f" {name}"
            assert ids[place : place + len(answer)] == answer
            assert hay.count(f" {thing}") == 1
        assert [part for _, part in sorted(found)] == [*range(NEEDLES)]


def test_to_learn_only_the_answers_are_targets_and_needles_are_asked_for_again(texts):
    batch = texts.batch(128, 2, 4)
    again = 0
    for ids, targets in zip(batch["ids"], batch["targets"]):
        (places,) = (targets != IGNORED).nonzero()
        assert (targets[places] == ids[places + 1]).all()
        names = texts.tokenizer.decode(targets[places].tolist()).split()
        assert len(names) == 6 and {*names} <= {*NAMES}
        asked = texts.tokenizer.decode(ids.tolist()).split("\nWho has the ")[1:]
        again += len(asked) - len({*asked})
    assert again >= 4 * 4  # six questions about two needles
