"""Stories about beliefs: what is true in them is found again from their text, and no rule of places answers for it."""

import random
import re
from itertools import islice

import pytest

from train.data.stories import beliefs
from train.tasks import TASKS
from train.tasks.examples import examples_of

KINDS = ("reality", "memory", "belief a", "belief b", "second a", "second b")


def told(world: str, scene: str, count: int = 1200) -> list[beliefs.Story]:
    return list(islice(beliefs.stories(random.Random(f"{world} {scene}"), world, (scene,)), count))


@pytest.fixture(scope="module", params=[(w, s) for w in beliefs.WORLDS for s in beliefs.SCENES], ids=" ".join)
def some(request):
    return told(*request.param)


def understood(story: beliefs.Story) -> dict[str, str]:
    """The answers to all questions, by reading the text: a thought is where one who thinks so last heard the thing was.

    A reader of its own, which shares no line with what makes the stories: it knows the English sentences only.
    """
    a, b = re.match(r"(\w+) and (\w+) ", story.text).groups()
    heard = {"reality": [], "memory": [], "belief a": [], "belief b": [], "second a": [], "second b": []}
    absent = set()
    sentences = re.split(r"(?<=\.) ", story.text)
    for sentence, following in zip(sentences, [*sentences[1:], ""]):
        who = sentence.split()[0]
        me, other = ("a", b) if who == a else ("b", a)
        everybody = ["belief a", "belief b", "second a", "second b"]
        if sentence == f"{who} went out.":
            absent.add(who)
        elif sentence == f"{who} came back.":
            absent.remove(who)
        elif match := re.match(r"\w+ put the \w+ in the (?P<place>[\w ]+)\.$", sentence):
            learn = [*heard]
        elif match := re.search(r" moved the \w+ to the (?P<place>[\w ]+)\.$", sentence):
            unseen = other in absent if story.scene == "room" else following == "The drive told nobody."
            learn = ["reality", f"belief {me}", *([] if unseen else everybody)]
        elif match := re.search(r" saw it (through the window|on the drive), but", sentence):
            learn = [f"belief {me}", f"second {me}"]
        elif match := re.search(r" had put the \w+ in the (?P<place>[\w ]+?)(, but .*)?\.$", sentence):
            learn = ["belief a", "second a"]
        elif match := re.search(r" told \w+ that the \w+ was in the (?P<place>[\w ]+)\.$", sentence):
            learn = everybody
        elif match := re.search(r" (left a note for|wrote to) \w+: the \w+ is in the (?P<place>[\w ]+)\.$", sentence):
            learn = [f"second {me}"]
        elif match := re.search(r" found the \w+ in the (?P<place>[\w ]+?)(, and .*)?\.$", sentence):
            learn = everybody
        else:
            learn = []
        for kind in learn:
            heard[kind].append(match.groupdict().get("place") or heard["reality"][-1])
    return {kind: places[0 if kind == "memory" else -1] for kind, places in heard.items()}


def test_every_answer_is_what_reading_the_story_finds(some):
    for story in some:
        assert {question.kind: question.answer for question in story.questions} == understood(story), story


# p: where the thing was at first.   What a believes, what b thinks that a believes; of the story and of its twin.
BY_HAND = {
    "seen": ("pq", "pq"), "told": ("pq", "pq"), "back before": ("pq", "pq"), "watched in secret": ("pq", "pp"),
    "own hand": ("pq", "pp"), "moved back": ("pq", "pq"), "nothing moved": ("pq", "pq"),
    "told in secret": ("qq", "pq"), "a lost note": ("pp", "qp"), "moved back after words": ("pq", "pq"),
    "found": ("pq", "pq"),
}  # fmt: skip


def test_beliefs_are_those_of_a_table_made_by_hand(some):
    assert BY_HAND.keys() == beliefs.TWINS.keys() == {story.twins for story in some}
    for story in some:
        places = dict(zip(story.places, "pq"))
        answers = {question.kind: places[question.answer] for question in story.questions}
        expected = [pair[story.twin] for pair in BY_HAND[story.twins]]
        assert [answers["belief a"], answers["second b"]] == expected, story


def test_twins_have_the_same_cast_and_questions(some):
    for story, twin in zip(some[::2], some[1::2]):
        assert (story.twins, story.places, story.twin, twin.twin) == (twin.twins, twin.places, 0, 1)
        assert [question[:3] for question in story.questions] == [question[:3] for question in twin.questions]
        assert set(re.findall(r"[A-Z]\w+", story.text)) ^ set(re.findall(r"[A-Z]\w+", twin.text)) <= {"Look", "The"}


def test_the_order_and_number_of_mentions_say_nothing(some):
    first, last = [], []
    for story in some:
        named = re.findall("|".join(story.places), story.text)
        assert named.count(story.places[0]) == named.count(story.places[1])
        first.append(named[0] == story.places[0])
        last.append(named[-1] == story.places[0])
    for places in (first, last):  # 4 deviations of a fair coin
        assert abs(sum(places) / len(some) - 0.5) < 2 / len(some) ** 0.5
    for kind in KINDS:
        answers = [story for story in some for question in story.questions
                   if question.kind == kind and re.search("|".join(story.places), story.text)[0] == question.answer]
        assert abs(len(answers) / len(some) - 0.5) < 2 / len(some) ** 0.5, kind


def test_what_a_believes_is_either_place_equally_often(some):
    believed = [story.questions[KINDS.index("belief a")].answer == story.places[0] for story in some]
    assert abs(sum(believed) / len(some) - 0.5) < 2 / len(some) ** 0.5


def test_the_worlds_share_no_names_and_no_containers():
    one, other = beliefs.WORLDS.values()
    assert not {*one.names, *one.containers, *one.folders} & {*other.names, *other.containers, *other.folders}
    used = [{word for story in told(world, scene, 300) for word in re.findall(r"\w+", story.text)}
            for world in beliefs.WORLDS for scene in beliefs.SCENES]  # fmt: skip
    for absent, rooms, drives in zip((other, one), used[::2], used[1::2]):
        assert not {*absent.names, *absent.containers, *absent.folders} & (rooms | drives)


@pytest.mark.parametrize("name, kind", [(name, kind) for name, (kind, _) in beliefs.SETS.items()])
def test_a_set_is_what_its_kind_of_task_learns_and_right_answers_have_joint_accuracy_1(name, kind):
    found, train, held_out = examples_of(name, examples=60)
    assert found == kind and (len(train), len(held_out)) == (60, 30)
    assert (train, held_out) == examples_of(name, examples=60)[1:]
    task = TASKS[kind].of(train, held_out)
    right = {"choose": lambda e: e["label"], "answer": lambda e: e["answer"],
             "chat": lambda e: e["messages"][-1]["content"]}[kind]  # fmt: skip
    answers = [right(example) for example in held_out]
    assert task.score(held_out, answers)["joint"] == 1
    answers[7] = 1 - answers[7] if kind == "choose" else "nowhere"
    assert task.score(held_out, answers)["joint"] == 4 / 5  # one of 5 stories of 6 questions each
