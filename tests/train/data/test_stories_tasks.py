import re

import pytest

from train.data import stories
from train.data.stories import tasks


@pytest.mark.parametrize("name", tasks.SETS)
def test_equal_seeds_give_equal_examples_and_different_seeds_different_ones(name):
    some = tasks.examples(name, 50, seed=1)
    assert len(some) == 50
    assert some == tasks.examples(name, 50, seed=1)
    assert some[:25] == tasks.examples(name, 25, seed=1)
    fresh = [e for e in tasks.examples(name, 50, seed=2) if e not in some]
    assert len(fresh) == 50


def test_a_feeling_is_that_of_what_happened_last():
    for example in tasks.examples("sentiment", 300, seed=3):
        last = re.split(r"(?<=[.!])\s", example["text"])[-1]
        if "took" in last or "grabbed" in last:
            assert example["label"] == "cross"
        if "mended" in last or "lent" in last:
            assert example["label"] == "happy"
        if last.endswith(("broke.", "tore.", "gone!")) or "could not find" in last:
            assert example["label"] == "sad"
    labels = [e["label"] for e in tasks.examples("sentiment", 300, seed=3)]
    assert all(labels.count(label) >= 15 for label in ("happy", "sad", "cross", "scared"))


def test_half_of_the_pairs_follow_as_the_story_has_them():
    told = [story.text for _, story in zip(range(400), stories.stories(4))]
    examples = tasks.examples("coherence", 300, seed=4)
    follows = [e for e in examples if e["label"] == "follows"]
    assert 120 <= len(follows) <= 180  # 150 +- 3.5 deviations of a fair coin
    joined = lambda e: (e["text"] + " " + e["pair"], e["text"] + "\n" + e["pair"])
    assert all(any(text in story for text in joined(e) for story in told) for e in follows)
    others = [e for e in examples if e["label"] != "follows"]
    assert not any(text in story for e in others for text in joined(e) for story in told)


def test_tags_cover_the_words_of_each_mention_and_no_others():
    for example in tasks.examples("roles", 200, seed=5):
        assert len(example["words"]) == len(example["tags"])
        before = "O"
        for word, tag in zip(example["words"], example["tags"]):
            assert not tag.startswith("I-") or before[2:] == tag[2:]
            if word in (".", ",", "!", "?"):
                assert tag == "O"
            before = tag
    first = tasks.examples("roles", 1, seed=1)[0]
    assert (first["words"][:7], first["tags"][:7]) == (
        ["Now", "Sue", "fell", "and", "hurt", "her", "nose"], ["O", "B-doer", "O", "O", "O", "B-doer", "O"],
    )  # fmt: skip


def test_answers_stand_where_the_example_says():
    examples = tasks.examples("questions", 500, seed=6)
    for e in examples:
        if e["answer"]:
            assert e["context"][e["start"] : e["start"] + len(e["answer"])] == e["answer"]
        else:
            assert e["start"] == -1
    missing = sum(not e["answer"] for e in examples) / len(examples)
    assert 0.22 < missing < 0.42


def test_who_questions_are_answered_by_who_did_it():
    asked = 0
    for e in tasks.examples("questions", 1500, seed=7):
        if e["answer"] and (match := re.match(r"Who took the (\w+) away\?", e["question"])):
            asked += 1
            sentence = re.search(rf"(\w+) (?:took|grabbed|wanted) [^.]*{match[1]}", e["context"])
            if sentence and sentence[1][0].isupper() and sentence[1] not in ("He", "She", "It"):
                assert sentence[1] == e["answer"]
    assert asked >= 20


def test_no_question_is_about_one_person_twice():
    for e in tasks.examples("questions", 1500, seed=9):
        names = re.findall(r"[A-Z]\w+", e["question"])[1:]  # behind Who, What, Where, How
        assert len(set(names)) == len(names), e["question"]


def test_the_right_choice_is_the_storys_next_sentence():
    told = [story.text for _, story in zip(range(300), stories.stories(8))]
    for e in tasks.examples("next", 200, seed=8):
        right = e["choices"][e["label"]]
        assert any(e["text"] + gap + right in story for gap in " \n" for story in told)
        assert len(e["choices"]) == 4


def test_an_unknown_set_is_named():
    with pytest.raises(ValueError, match="no task 'irony'; choose from sentiment, coherence"):
        tasks.examples("irony", 5, seed=1)
    with pytest.raises(ValueError, match="0 examples of roles are too few"):
        tasks.examples("roles", 0, seed=1)
