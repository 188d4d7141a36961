"""Conversations from files, as messages and as hh-rlhf has them; the reward model's loss; what a talker learns from."""

import gzip
import json

import numpy as np
import pytest

from tests.helpers import assert_close
from tinytensor import Tensor
from tinytensor.gradcheck import gradcheck
from train.tasks import Chat, Reward, conversations
from train.tasks.examples import read_examples
from train.tasks.reward import ranking_loss

HH = {"chosen": "\n\nHuman: Who is it?\n\nAssistant: Who knows?\n\nHuman: You.\n\nAssistant: It is Mia.",
      "rejected": "\n\nHuman: Who is it?\n\nAssistant: Who knows?\n\nHuman: You.\n\nAssistant: Go away."}  # fmt: skip
MESSAGES = [{"role": "user", "content": "Who is it?"}, {"role": "assistant", "content": "Who knows?"},
            {"role": "user", "content": "You."}]  # fmt: skip


def test_a_pair_of_hh_rlhf_is_a_prompt_and_two_replies():
    assert conversations.preference(HH, "line 1") == {"messages": MESSAGES, "replies": ["It is Mia.", "Go away."]}
    assert conversations.demonstration(HH, "line 1")["messages"] == [
        *MESSAGES, {"role": "assistant", "content": "It is Mia."}]  # fmt: skip


def test_pairs_that_differ_before_their_replies_and_empty_replies_are_passed_over_and_counted(tmp_path, capsys):
    differ = HH | {"rejected": HH["rejected"].replace("You.", "I?")}
    empty = HH | {"chosen": HH["chosen"].replace("It is Mia.", "").rstrip(" ")}
    with gzip.open(tmp_path / "a.jsonl.gz", "wt") as file:
        file.write("".join(json.dumps(one) + "\n" for one in (HH, differ, empty)))
    assert len(read_examples(tmp_path / "a.jsonl.gz", "reward")) == 2  # an empty reply can be better than a rude one
    assert "note: 1 of 3 examples" in capsys.readouterr().out
    assert len(read_examples(tmp_path / "a.jsonl.gz", "chat")) == 2
    assert "note: 1 of 3 examples" in capsys.readouterr().out


@pytest.mark.parametrize("line, sentence", [
    ({"chosen": "Hello", "rejected": "Bye"}, 'must begin with "\\n\\nHuman: "'),
    ({"messages": "hi", "replies": ["a", "b"]}, "must be a list of messages"),
    ({"messages": MESSAGES, "replies": ["a"]}, "at least two texts, the best first"),
    ({"messages": MESSAGES[:2], "replies": ["a", "b"]}, "must end with one of the user"),
])  # fmt: skip
def test_what_is_no_preference_is_named_with_its_line(tmp_path, line, sentence):
    (tmp_path / "a.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(ValueError) as error:
        read_examples(tmp_path / "a.jsonl", "reward")
    assert sentence in str(error.value) and "line 1" in str(error.value)


def test_the_ranking_loss_is_the_mean_over_pairs_of_minus_log_sigmoid():
    rewards = np.random.default_rng(0).normal(size=(4, 3))
    pairs = [(0, 1), (0, 2), (1, 2)]
    expected = np.mean([-np.log(1 / (1 + np.exp(rewards[:, j] - rewards[:, i]))) for i, j in pairs], axis=0)
    assert_close(ranking_loss(Tensor(rewards)).data, expected, 1e-12)
    assert_close(ranking_loss(Tensor(np.zeros((2, 4)))).data, np.full(2, np.log(2)), 1e-12)
    assert_close(ranking_loss(Tensor(rewards + 5)).data, expected, 1e-9)  # only differences count
    gradcheck(ranking_loss, [Tensor(rewards, requires_grad=True)])


def test_the_scores_of_a_reward_model_count_pairs_and_bests():
    task = Reward(3)
    said = [[3.0, 2.0, 1.0], [1.0, 2.0, 0.0]]
    assert task.score([{}, {}], said) == {"pair_accuracy": pytest.approx(5 / 6), "best_accuracy": 0.5}
    with pytest.raises(ValueError, match=r"same number of replies, at least 2, not \[2, 3\]"):
        Reward.of([{"replies": ["a", "b"]}, {"replies": ["a", "b", "c"]}])


def test_a_t5_cannot_tell_the_best_reply_by_its_place():
    example = {"messages": MESSAGES, "replies": ["the right one", "a wrong one"]}
    source, target = Reward(2).as_text(example)
    assert source.endswith("choice 0: a wrong one choice 1: the right one") and target == "1"


def test_a_conversation_asked_about_ends_with_the_user():
    with pytest.raises(ValueError, match=r"a conversation has 1, 3, 5 \.\.\. texts, not 2"):
        Chat().example(["a", "b"])
    assert Chat().example(["a", "b", "c"])["messages"][1] == {"role": "assistant", "content": "b"}
    with pytest.raises(ValueError, match="ends with the assistant's reply"):
        Chat.of([{"messages": MESSAGES}])
