"""Facts, and questions with numbered passages: what is right is found again from the texts alone."""

import random
import re
from collections import Counter
from itertools import islice

import pytest

from models.chat import cited
from train.data.stories import facts


@pytest.fixture(scope="module")
def made():
    return list(islice(facts.requests(random.Random(3)), 3000))


def pattern(form: str, of_question: bool) -> re.Pattern:
    """What a form of FORMS can be recognized by: its {a} and {x}, and of what is told the answer."""
    what = {"a": r"[A-Z]\w+", "x": r"\w+", "answer": r"[\w ]+?"}
    parts = [re.escape(part) if n % 2 == 0 else f"(?P<{part}>{what[part]})"
             for n, part in enumerate(re.split(r"\{(\w+)\}", form))]  # fmt: skip
    return re.compile("".join(parts), 0 if of_question else re.IGNORECASE)


TOLD, ASKED = ([(kind, pattern(form, bool(n))) for kind, forms in facts.FORMS.items() for form in forms[n]]
               for n in (0, 1))  # fmt: skip


def read(text: str, forms: list) -> dict[tuple, str]:
    """(kind, a, x) -> the answer, of everything that a text can mean."""
    found = {}
    for kind, form in forms:
        if match := form.fullmatch(text):
            groups = match.groupdict()
            if groups["a"] in facts.NAMES and groups["x"] in facts.THINGS:
                found[kind, groups["a"], groups["x"]] = groups.get("answer", "")
    return found


def test_the_right_reply_is_what_reading_the_passages_finds(made):
    always = {fact.key: fact.answer for fact in facts.known()}
    for one in made:
        *passages, question = one["request"].split("\n")
        (key,) = read(question, ASKED)
        tell = {n: text[key] for n, passage in enumerate(passages, 1)
                if key in (text := read(re.sub(rf" \[{n}\]$", "", passage), TOLD))}  # fmt: skip
        assert len(tell) <= 1, one
        answer = next(iter(tell.values()), "" if passages else always.get(key, ""))
        assert answer.lower() == one["answer"].lower() and next(iter(tell), 0) == one["source"]
        assert (one["right"] == facts.UNKNOWN) == (not answer)
        if answer:
            assert answer.lower() in one["right"].lower() and cited(one["right"]) == list(tell)


def test_the_place_of_the_passage_that_tells_is_balanced(made):
    with_three = [one for one in made if one["request"].count("\n") == facts.PASSAGES]
    places = Counter(one["source"] for one in with_three if one["source"])
    total = places.total()
    for number in range(1, facts.PASSAGES + 1):  # 4 deviations of a fair die
        assert abs(places[number] / total - 1 / 3) < 4 * (2 / 9 / total) ** 0.5
    for name, share in facts.SHARES.items():
        assert abs(sum(one["share"] == name for one in made) / len(made) - share) < 0.035  # 4 of the largest share


def test_known_facts_are_asked_about_only_as_they_are(made):
    keys = {fact.key for fact in facts.known()}
    assert len(keys) == 20 and facts.known() == facts.known()
    for one in made:
        *passages, question = one["request"].split("\n")
        (key,) = read(question, ASKED)
        assert (key in keys) == one["share"].startswith("known")
        assert bool(passages) == (one["share"] in ("told", "untold", "known, told"))


def test_a_passage_can_say_otherwise_than_what_is_known():
    draw = random.Random(5)
    for fact in facts.known():
        swapped = facts.other(fact, draw)
        one = facts.request(fact, draw, 3, True, swapped)
        assert swapped.answer != fact.answer == facts.KNOWN[fact.key].answer
        assert one["answer"] == swapped.answer and fact.answer not in one["right"]
