"""The built-in stories: the counted entropy is the text's own, and the events say what the text says."""

import math
import pickle
import random
import re
from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.stories import n_gram_loss
from train.data.stories import corpus, stories
from train.data.stories.telling import THINGS, Choices, Teller

PRONOUNS = {"she", "her", "he", "him", "his", "it", "its", "they", "them", "their"}
GIVING = {"give", "lend", "return", "drop", "swap"}


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

@pytest.mark.parametrize("seed", range(6))
def test_a_story_can_be_told_in_one_way_and_its_nats_are_those_of_that_way(seed):
    story = next(stories(seed))
    assert derivations(story.text) == [pytest.approx(story.nats, abs=1e-9)]


class Recorder(Teller):
    """Keeps, beside the tally, the entropy each choice had and how often each option was taken."""

    def choose(self, choices: Choices):
        before = self.nats
        option = super().choose(choices)
        total, key = sum(choices.weights), tuple(map(str, choices.options))
        surprises = [(weight / total, math.log(total / weight)) for weight in choices.weights]
        mean = sum(p * nats for p, nats in surprises)
        self.record["expected"] += mean
        self.record["variance"] += sum(p * (nats - mean) ** 2 for p, nats in surprises)
        self.taken[key][str(option)] += 1
        self.counted[key] += self.nats - before
        return option


@pytest.fixture(scope="module")
def recorded():
    Recorder.record, Recorder.taken, Recorder.counted = Counter(), defaultdict(Counter), Counter()
    draw, nats = random.Random(11).random, 0.0
    for _ in range(300):
        teller = Recorder(draw)
        while not teller.world.over:
            teller.event()
        nats += teller.nats
    return nats, Recorder


def test_the_nats_are_the_entropy_of_the_choices_within_sampling_error(recorded):
    nats, seen = recorded                    # their difference is a sum of independent surprises around zero
    assert abs(nats - seen.record["expected"]) < 4 * math.sqrt(seen.record["variance"])


def test_the_nats_agree_with_the_frequencies_of_the_words_and_forms_chosen(recorded):
    _, seen = recorded
    estimate = counted = 0.0
    for key, taken in seen.taken.items():
        n = taken.total()
        if n >= 200 and len(key) > 1:
            plug_in = -sum(count * math.log(count / n) for count in taken.values())
            estimate += plug_in + (len(taken) - 1) / 2          # Miller and Madow's correction of the bias
            counted += seen.counted[key]
    assert counted > 15_000
    assert estimate == pytest.approx(counted, rel=0.01)


def test_a_five_gram_model_stays_far_above_the_floor(told):
    split = told.starts[-40]
    loss = n_gram_loss(told.text[:split], told.text[split:], order=5)
    assert loss > 2.5 * told.floor(split)


@pytest.fixture(scope="module")
def told():
    return corpus(400_000, seed=5)


def test_equal_seeds_tell_equal_stories_and_others_differ():
    assert corpus(20_000, seed=3) == corpus(20_000, seed=3)
    assert corpus(20_000, seed=3).text != corpus(20_000, seed=4).text


def test_the_corpus_is_its_stories_with_a_blank_line_after_each(told):
    assert 400_000 <= len(told.text) < 404_000
    assert told.text.split("\n\n")[:-1] == [story.text for story in told.stories]
    assert all(told.text.startswith(story.text, start) for story, start in zip(told.stories, told.starts))


def test_the_alphabet_is_small_and_the_lengths_are_those_of_short_stories(told):
    assert set(told.text) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPRSTUVWZ\n !\"',.?YQ")
    assert len(set(told.text)) <= 60
    assert 400 < len(told.text) / len(told.stories) < 800


def test_the_floor_between_two_stories_is_the_nats_told_there(told):
    for i, j in [(0, 1), (3, 9), (0, len(told.stories))]:
        nats = sum(story.nats for story in told.stories[i:j])
        start, stop = told.starts[i], told.starts[j]
        assert told.floor(start, stop) * (stop - start) == pytest.approx(nats)
    assert told.floor() == pytest.approx(told.nats_per_character)


@given(cuts=st.lists(st.integers(0, 400_000), min_size=3, max_size=3, unique=True).map(sorted))
def test_the_nats_of_two_pieces_add_up_to_those_of_both(told, cuts):
    start, middle, stop = cuts
    nats = told.floor(start, middle) * (middle - start) + told.floor(middle, stop) * (stop - middle)
    assert told.floor(start, stop) * (stop - start) == pytest.approx(nats)


def test_bad_sizes_and_ranges_are_refused():
    with pytest.raises(ValueError, match="wants 0 <= start < stop"):
        corpus(100).floor(5, 5)
    with pytest.raises(ValueError, match="at least 1 character, not 0"):
        corpus(0)


def test_events_cover_the_text_and_mentions_name_what_stands_there(told):
    for story in told.stories[:100]:
        ends = [0] + [event.end for event in story.events]
        assert all(story.text[end:event.start] in ("", " ", "\n") for end, event in zip(ends, story.events))
        assert ends[-1] == len(story.text)
        for event in story.events:
            for role, name, start, end in event.mentions:
                words = story.text[start:end].lower()
                assert event.start <= start < end <= event.end
                assert (role == "cause" or words.endswith(name.lower())
                        or words in PRONOUNS)


def test_things_are_given_only_by_who_has_them_and_questions_are_answered_truly(told):
    asked = 0
    for story in told.stories:
        holder = {}
        for event in story.events:
            a, b, x, y = (event.cast.get(role) for role in "abxy")
            if event.kind in GIVING | {"use", "put", "lose", "break", "refuse", "kept"}:
                assert holder[x] == a
            if event.kind in ("take", "hide", "want"):
                assert holder[x] == b
            if event.kind.startswith("answer"):
                asked += 1
                assert holder[x] == (a if event.kind == "answer me" else b)
            if event.kind in ("own", "bring", "find", "pick", "take", "fetch"):
                holder[x] = a
            elif event.kind in GIVING | {"find again"}:
                holder[x] = b
                holder[y] = a
            elif event.kind in ("put", "lose", "hide"):
                holder[x] = None
        assert {x: person for x, person in holder.items() if x} == story.holders
    assert asked > 20


def test_verbs_articles_and_pronouns_agree(told):
    many, one = ("|".join(THINGS[number].options) for number in ("many", "one"))
    assert not re.search(rf"\b({many}|They|they) (was|is)\b|\b({one}|[Ss]he|[Hh]e|it) (were|are)\b", told.text)
    assert not re.search(r"\b[Aa] ([aeiou]|honest)|\b[Aa]n (?!honest)[^aeiou]", told.text)
    for story in told.stories:
        if "boy" not in story.people.values():
            assert not re.search(r"\b([Hh]e|[Hh]is|him)\b", story.text)
        if "girl" not in story.people.values():
            assert not re.search(r"\b([Ss]he|[Hh]er)\b", story.text)
