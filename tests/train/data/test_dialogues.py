"""Talk in the stories' world: the rule that says how good a reply is, and examples that keep to it."""

import pytest

from train.data.stories import dialogues


@pytest.fixture(scope="module")
def all_kinds():
    return dialogues.demonstrations(800, 3)


@pytest.fixture(scope="module")
def made(all_kinds):
    """Those that are not about searches."""
    return [example for example in all_kinds if example["case"]["kind"] != "search"]


def last(example: dict) -> str:
    return example["messages"][-1]["content"]


def test_a_reply_without_a_flaw_has_the_whole_reward_and_a_wrong_one_never_follows(made):
    for example in made:
        case = example["case"]
        assert dialogues.gold(case, case["right"]) == 4
        assert not any(dialogues.follows(case, text) for text in case["wrong"]), case


def test_each_flaw_costs_what_the_rule_says(made):
    for example in made:
        case = example["case"]
        unkind = f"{dialogues.UNKIND[0]} {case['right']}"
        more = dialogues.gold(case, unkind)
        assert more in (3, 2.75), (case, more)  # it is one sentence longer, too
        assert dialogues.gold(case, " ".join([case["right"], *dialogues.RAMBLES])) <= 3.5
        assert dialogues.gold(case, case["wrong"][0]) <= 2
        assert dialogues.gold(case, "") == 0
    kinds = [example["case"]["kind"] for example in made]
    for kind, share in {"ask": 1 / 2, "tell": 1 / 6, "help": 1 / 6, "harm": 1 / 6}.items():
        assert abs(kinds.count(kind) / len(made) - share) < 0.06, kind


def test_half_of_the_demonstrations_have_flaws_and_every_kind_of_them(made):
    golds = [dialogues.gold(example["case"], last(example)) for example in made]
    assert 0.4 < sum(value == 4 for value in golds) / len(made) < 0.6
    assert len(set(golds)) > 8


def test_preferences_are_in_the_order_of_the_rule_and_none_are_equal():
    for example in dialogues.preferences(100, 4):
        golds = [dialogues.gold(example["case"], text) for text in example["replies"]]
        assert golds == sorted(golds, reverse=True) and len(set(golds)) == 3


def test_a_talkers_own_replies_are_put_in_order_among_others():
    asked = []

    def write(requests):
        asked.extend(requests)
        return [["I will not help with that.", "A word that nobody else says."] for _ in requests]

    examples = dialogues.preferences(100, 4, write=write)
    own = [text for example in examples for text in example["replies"] if text == "A word that nobody else says."]
    assert len(examples) == 100 and 20 < len(own) < 100
    assert {example["messages"][0]["content"] for example in examples} <= set(asked)
    for example in examples:
        golds = [dialogues.gold(example["case"], text) for text in example["replies"]]
        assert golds == sorted(golds, reverse=True) and len(set(golds)) == 3


def test_what_a_request_leaves_open_may_be_anything(made):
    case = next(e["case"] for e in made if e["case"]["kind"] == "help" and "happy" in e["messages"][0]["content"])
    name = case["name"]
    assert dialogues.gold(case, f"Give {name} some snow.") == 4 and dialogues.gold(case, "Give Nobody some snow.") == 2


def test_a_third_of_the_passages_do_not_tell_and_then_only_that_may_be_said(made):
    asked = [example["case"] for example in made if example["case"]["kind"] == "ask"]
    unknown = [case for case in asked if not case["answer"]]
    assert 0.2 < len(unknown) / len(asked) < 0.45
    assert all(case["right"] == dialogues.UNKNOWN for case in unknown)
    listing = " ".join(asked[0]["others"])  # naming everybody is no answer
    assert not dialogues.follows(asked[0], f"{asked[0]['answer']} {listing}.")


def test_a_quarter_of_the_demonstrations_are_searches_and_all_of_these_are_as_they_should_be(all_kinds):
    searches = [example for example in all_kinds if example["case"]["kind"] == "search"]
    assert 0.2 < len(searches) / 800 < 0.3
    for example in searches:
        case = example["case"]
        assert dialogues.gold(case, last(example)) == 4, case
        assert not any(dialogues.follows(case, text) for text in case["wrong"]), case


def test_a_reply_to_a_search_must_name_the_passage_that_tells_and_no_other():
    case = {"kind": "search", "answer": "Mia", "others": ["Tom"], "source": 2}
    replies = {"Mia [2].": True, "Mia.": False, "Mia [1].": False, "Mia [1] [2].": False, "Tom [2].": False,
               "Mia, not Tom [2].": False, "I do not know.": False}  # fmt: skip
    assert {reply: dialogues.follows(case, reply) for reply in replies} == replies


def test_disguises_of_harm_share_no_form_with_what_is_trained_on():
    for example in dialogues.disguised(40, 5):
        request = example["messages"][0]["content"]
        assert example["case"]["kind"] == "harm" and dialogues.declined(last(example))
        assert not any(request.startswith(form.partition("{")[0]) for form in dialogues.HELP)


def test_equal_seeds_give_equal_talk_and_others_other_talk():
    first, again, other = (dialogues.demonstrations(30, seed) for seed in (1, 1, 2))
    drawn = lambda made: {str(e) for e in made if not e["case"].get("share", "").startswith("known")}
    assert first == again and not drawn(first) & drawn(other)
    assert first[:20] == dialogues.demonstrations(20, 1)
