"""The built-in stories: the counted entropy is the text's own, and the events say what the text says."""

import math
import pickle
from itertools import islice

import pytest

from train.data.stories import corpus, stories
from train.data.stories.telling import Choices, Teller


class NotThisText(Exception):
    pass


class Reader(Teller):
    """Tells only what the text says, taking its choices from a list and then the first option of each."""

    def __init__(self, text, state, script):
        super().__init__(None)
        self.text, self.script, self.taken, self.branches = text, script, [], []
        self.world, self.length = state

    def choose(self, choices: Choices):
        i = self.script[len(self.taken)] if len(self.taken) < len(self.script) else 0
        if len(self.taken) >= len(self.script):
            self.branches += [[*self.taken, j] for j in range(1, len(choices.options))]
        self.taken.append(i)
        self.nats += math.log(choices.cumulative[-1] / choices.weights[i])
        return choices.options[i]

    def emit(self, text):
        if not self.text.startswith(text, self.length):
            raise NotThisText
        super().emit(text)


def derivations(text):
    """The nats of every way in which the text can be told: an exhaustive search that never looks at the tally."""
    states, found = [(pickle.dumps((Teller(None).world, 0)), 0.0)], []
    while states:
        state, nats = states.pop()
        scripts = [[]]
        while scripts:
            reader = Reader(text, pickle.loads(state), scripts.pop())
            try:
                reader.event()
                told = nats + reader.nats
                if not reader.world.over:
                    states.append((pickle.dumps((reader.world, reader.length)), told))
                elif reader.length == len(text):
                    found.append(told)
            except NotThisText:
                pass
            scripts += reader.branches
    return found


@pytest.mark.parametrize("seed", range(8))
def test_a_story_can_be_told_in_one_way_and_its_nats_are_those_of_that_way(seed):
    for story in islice(stories(seed), 2):
        assert derivations(story.text) == [pytest.approx(story.nats, abs=1e-9)]


def test_equal_seeds_tell_equal_stories_and_others_differ():
    assert corpus(20_000, seed=3) == corpus(20_000, seed=3)
    assert corpus(20_000, seed=3).text != corpus(20_000, seed=4).text


def test_the_corpus_is_its_stories_with_a_blank_line_after_each():
    told = corpus(50_000)
    assert 50_000 <= len(told.text) < 53_000
    assert told.text == "".join(story.text + "\n\n" for story in told.stories)
    assert told.text.split("\n\n")[:-1] == [story.text for story in told.stories]


def test_the_floor_of_any_cut_at_stories_is_the_nats_of_the_stories_between():
    told = corpus(30_000)
    for i, j in [(0, 1), (3, 9), (0, len(told.stories))]:
        nats = sum(story.nats for story in told.stories[i:j])
        start, stop = told.starts[i], told.starts[j]
        assert told.floor(start, stop) == pytest.approx(nats / (stop - start))
    assert told.floor() == pytest.approx(told.nats_per_character)


def test_a_floor_outside_the_text_is_refused():
    with pytest.raises(ValueError, match="wants 0 <= start < stop"):
        corpus(100).floor(5, 5)
