from collections import Counter, defaultdict
from itertools import islice

import numpy as np
import pytest

from train.data.pictures import UNSEEN, parse, scenes
from train.data.questions import FORMS, KINDS, NUMBERS, ask, askable, examination

SCENE = parse("in the park: a big girl in red at 40 200, a small blue ball at 100 60, a small red dog at 150 180, "
              "a big white dog at 210 190")  # fmt: skip


def told(form: str, scene=SCENE) -> dict[str, str]:
    return {question.text: question.answer for some in askable(scene, form).values() for question in some}


def test_the_right_answers_about_a_scene():
    pairs = told("is there a red ball")
    assert pairs["Is there a white dog?"] == pairs["Is there a small red dog?".replace("small ", "")] == "yes"
    assert pairs["Is there a red ball?"] == "no"
    assert "Is there a yellow kite?" not in pairs  # neither yellow nor a kite is there: too easy
    assert "Is there a girl in red?" not in pairs and ("red", "girl") in UNSEEN
    assert told("is there a ball") | {"Is there a ball?": "yes", "Is there a kite?": "no"} == told("is there a ball")
    assert told("how many balls")["How many dogs are there?"] == "two"
    assert told("how many balls")["How many kites are there?"] == "none"
    assert told("how many are red")["How many things are white?"] == "one"
    assert told("what colour") == {"What colour is the ball?": "blue"}  # there are two dogs, and the girl is unseen
    assert told("what is red") == {"What is blue?": "ball", "What is white?": "dog"}
    assert told("big or small") == {"Is the ball big or small?": "small"}
    other = parse("on the beach: a big green kite at 60 60, a small red dog at 150 180, a big green ball at 80 220")
    assert told("where", other) == {"Where is this?": "on the beach"}
    assert told("of one colour", other)["Are the kite and the ball of one colour?"] == "yes"
    assert told("of one colour", other)["Are the kite and the dog of one colour?"] == "no"
    assert told("as big as", other)["Is the ball as big as the kite?"] == "yes"
    assert told("is it to the left", other)["Is the kite to the left of the dog?"] == "yes"
    assert told("is it to the left", other)["Is the dog above the kite?"] == "no"
    assert "Is the kite to the left of the ball?" not in told("is it to the left", other)  # too near to say
    assert told("what is to the left", other)["What is above the dog?"] == "kite"
    assert "What is to the right of the kite?" not in told("what is to the left", other)


def test_more_of_one_than_of_another():
    scene = parse("in the town: a big red dog at 40 200, a small blue ball at 100 60, a small red dog at 150 180")
    found = told("more balls than kites", scene)
    assert found == {"Are there more dogs than balls?": "yes", "Are there more balls than dogs?": "no"}


def test_answers_of_a_form_are_about_equally_frequent_and_so_are_forms():
    """Within a third: what is asked of one scene depends on what else there is to ask. 1,200 scenes give some 1,400
    questions of a form, so that chance adds a few hundredths where there are two answers, a tenth where eight."""
    asked = defaultdict(Counter)
    chance = np.random.default_rng(0)
    for scene in islice(scenes(9), 1200):
        for question in ask(scene, 16, chance):
            asked[question.form][question.answer] += 1
    sizes = [sum(asked[form].values()) for form in FORMS]
    assert min(sizes) > np.mean(sizes) / 1.8
    for form, (_, _, answers) in FORMS.items():
        even = sum(asked[form].values()) / len(answers)
        assert set(asked[form]) == set(answers)
        assert 0.66 * even < min(asked[form].values()) <= max(asked[form].values()) < 1.45 * even, form


def test_nothing_that_is_learned_is_about_a_pair_that_is_kept_back():
    names = {f"{colour} {kind}" for colour, kind in UNSEEN} | {f"{kind} in {colour}" for colour, kind in UNSEEN}
    chance = np.random.default_rng(0)
    for scene in islice(scenes(9), 300):
        for question in ask(scene, 16, chance):
            assert not any(name in question.text for name in names), question


@pytest.mark.parametrize("unseen", [False, True])
def test_an_examination_has_as_many_questions_of_every_form_with_all_answers_alike(unseen):
    found = [*examination(10, 7, unseen=unseen)]
    assert found == [*examination(10, 7, unseen=unseen)]
    for form, (kind, _, answers) in FORMS.items():
        some = [(scene, question) for scene, question in found if question.form == form]
        assert len(some) == 10 and {question.kind for _, question in some} == {kind}
        counts = Counter(question.answer for _, question in some)
        assert max(counts.values()) - min(counts.values()) <= 1 and set(counts) == set(answers)
        for scene, question in some:
            assert question in askable(scene, form, unseen)[question.answer]
            assert unseen == any(thing.pair in UNSEEN for thing in scene.things) or question.answer in ("no", "none")
    assert set(KINDS) == {"exists", "count", "attribute", "compare", "relation"} and len(NUMBERS) == 5
