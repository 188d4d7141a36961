"""Talkers that learn from preferences: the optimum that is known, runs that go on bit for bit, and what is refused."""

import itertools
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

import tinytensor as tt
from benchmarks.assistants import divergence
from models import GPT, GPTConfig
from nn import evaluating
from tests.helpers import assert_close
from tinytensor import Tensor, no_grad
from train import finetune
from train.__main__ import main
from train.data.stories.dialogues import preferences
from train.overwrite import check_ours
from train.preference.dpo import Dpo
from train.preference.estimators import dpo_losses
from train.preference.ppo import Judge, Phases, Ppo, PPOConfig, per_phase
from train.preference.replies import drawn, reply_log_probs, token_log_probs
from train.preference.rewarder import Rewarder
from train.preference.rollouts import Rollouts
from train.report import Report
from train.resume import load_trainer
from train.tasks.chat import Talker
from train.trainer import TrainConfig, Trainer

# ---- a world small enough to count all replies: 5 tokens, of which the last ends a reply, and replies of at most 2

END, LONGEST, BETA = 4, 2, 0.5
REPLIES = [(END,), *itertools.product(range(END), range(END + 1))]


@pytest.fixture
def policy():
    tt.manual_seed(5)
    return GPT(GPTConfig(vocab_size=END + 1, context=4, layers=1, heads=2, width=16, init_std=0.1))


def rewards() -> dict[tuple, float]:
    draw = np.random.default_rng(1)
    return {reply: float(value) for reply, value in zip(REPLIES, draw.normal(0, 0.6, len(REPLIES)))}


def rows_of(replies: list[tuple]) -> tuple[np.ndarray, np.ndarray]:
    """ids and targets (N, 3) of replies to the prompt 0."""
    ids, targets = np.zeros((len(replies), 3), int), np.full((len(replies), 3), -100)
    for row, reply in enumerate(replies):
        ids[row, 1 : 1 + len(reply)], targets[row, : len(reply)] = reply, reply
    return ids, targets


def distribution(gpt: GPT) -> np.ndarray:
    """The probability of every reply."""
    with evaluating(gpt), no_grad():
        chances = np.exp(reply_log_probs(gpt, *rows_of(REPLIES)).data.astype(float))
    assert chances.sum() == pytest.approx(1, abs=1e-5)
    return chances


def optimum(gpt: GPT) -> np.ndarray:
    """q * exp(r / beta), made to add up to 1: what is best for E r - beta KL(p || q)."""
    best = distribution(gpt) * np.exp(np.array(list(rewards().values())) / BETA)
    return best / best.sum()


class Counted(Judge):
    """Knows the reward of every reply."""

    def __init__(self, reference: GPT):
        self.reference, self.rewarder = reference, lambda prompts, texts: np.array([rewards()[text] for text in texts])

    def text(self, ids):
        return tuple(int(i) for i in ids)


class OnePrompt:
    """Inputs that say nothing but 0."""

    max_length = 4

    def room(self, longest):
        return LONGEST

    def prompt(self, messages, room):
        return [0]


@pytest.mark.slow
def test_ppo_reaches_the_policy_that_is_known_to_be_best(policy, tmp_path):
    start, best = distribution(policy), optimum(policy)
    assert np.abs(start - best).sum() / 2 > 0.2
    config = PPOConfig(phases=120, rollouts=512, epochs=1, kl=BETA, lam=1.0, critic="shared", unfinished=0.0)
    training = TrainConfig(steps=120 * per_phase(config, 256), batch=256, lr=3e-3, min_lr=1e-5, warmup=5, workers=1,
                           schedule="linear", weight_decay=0.0, eval_every=10_000, save_every=10_000)  # fmt: skip
    reference = GPT(policy.config)
    reference.load_state_dict(policy.state_dict())
    model = Ppo(Talker(policy, LONGEST, "shared"), config, Counted(reference), [])
    rollouts = Rollouts([{"messages": [{}]}], OnePrompt(), config, 0, np.zeros)
    phases = Phases(rollouts, training, None, None)
    phases.check = lambda rows, what: None
    trainer = Trainer(model, phases, [1], [1], training, tmp_path, Report(tmp_path, training.steps))
    for phase in range(config.phases):
        with evaluating(model):
            rollouts.write(model, phase, 0, 1)
        learn(trainer, phase, per_phase(config, 256))
    distance = np.abs(distribution(policy) - best).sum() / 2
    assert distance < 0.02, distance


def learn(trainer: Trainer, phase: int, steps: int) -> None:
    """The steps of one phase."""
    from train.trainer import Loop

    if phase == 0:
        trainer.loop = Loop(trainer, trainer.comm)
        trainer.model.train()
    for step in range(phase * steps, (phase + 1) * steps):
        trainer.loop.step(step, trainer.schedule(step))


@pytest.mark.slow
def test_dpo_reaches_it_too_where_people_prefer_by_these_rewards(policy):
    best, r = optimum(policy), np.array(list(rewards().values()))
    first, second = np.array(list(itertools.combinations(range(len(REPLIES)), 2))).T
    pairs = np.stack([first, second], axis=1)
    ids, targets = (array[pairs] for array in rows_of(REPLIES))  # (N, 2, 3)
    chance = 1 / (1 + np.exp(r[second] - r[first]))  # that the first is preferred (Bradley & Terry)
    with no_grad():
        reference = np.log(distribution(policy))[pairs].astype(np.float32)
    model = Dpo(Talker(policy, LONGEST), BETA)
    from train.optim import AdamW

    optimizer = AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    for step in range(600):
        optimizer.lr = 3e-3 * (1 - step / 600)
        logs = model.margins({"ids": ids, "targets": targets})
        forth, back = (dpo_losses(logs[:, order], reference[:, order], BETA) for order in ([0, 1], [1, 0]))
        loss = (forth * Tensor(chance.astype(np.float32)) + back * Tensor((1 - chance).astype(np.float32))).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    distance = np.abs(distribution(policy) - best).sum() / 2
    assert distance < 0.02, distance


def test_temperature_divides_all_scores(policy):
    ids, targets = rows_of(REPLIES)
    with no_grad():
        hidden = policy.hidden(ids)
        logits = policy(ids).data.astype(float) / 0.7
        expected = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        found = token_log_probs(policy, hidden, targets, 0.7).data
    inside = targets != -100
    expected = np.take_along_axis(expected, np.maximum(targets, 0)[..., None], -1)[..., 0]
    assert_close(found[inside], expected[inside], 1e-5)
    assert (found[~inside] == 0).all()


# ---- whole runs


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A folder with a GPT, a talker and a reward model made of it."""
    folder = tmp_path_factory.mktemp("runs")
    shape = ["--layers", "1", "--heads", "2", "--width", "16", "--vocab-size", "300", "--context", "128"]
    quick = ["--workers", "1", "--examples", "24", "--epochs", "1", "--batch", "8"]
    pretrained = ["--stories", "60000", "--steps", "4", "--batch", "4", "--workers", "1", "--out", folder / "gpt"]
    run(["gpt", *pretrained, *shape])
    run(["finetune", folder / "gpt", "--task", "chat", "--out", folder / "chat", *quick])
    run(["reward", folder / "gpt", "--out", folder / "reward", *quick])
    return folder


def run(words: list, status: int = 0) -> None:
    assert main([str(word) for word in words]) == status


def ppo(runs: Path, out: Path, *more) -> list:
    return ["ppo", runs / "chat", "--reward", runs / "reward", "--examples", 24, "--phases", 2, "--rollouts", 8,
            "--batch", 4, "--epochs", 2, "--workers", 1, "--out", out, *more]  # fmt: skip


def dpo(runs: Path, out: Path, *more) -> list:
    return ["dpo", runs / "chat", "--examples", 24, "--batch", 8, "--workers", 1, "--out", out, *more]


def weights(run: Path) -> dict[str, np.ndarray]:
    parts, _ = load_trainer(run)
    return {f"{part}.{name}": array for part, arrays in parts.items() for name, array in arrays.items()}


@pytest.mark.parametrize("command", [ppo, dpo])
def test_a_run_that_was_stopped_goes_on_bit_for_bit(runs, command, tmp_path, monkeypatch, capsys):
    run(command(runs, tmp_path / "whole"))
    advanced = Report.advanced

    def stop(self, step, loss):
        advanced(self, step, loss)
        if step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Report, "advanced", stop)
    run(command(runs, tmp_path / "parts"))
    assert "stopped after step 4" in capsys.readouterr().out
    monkeypatch.setattr(Report, "advanced", advanced)
    run([command.__name__, "--resume", tmp_path / "parts"])
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    for name, array in whole.items():
        np.testing.assert_array_equal(parts[name], array, err_msg=name)
    check_ours(tmp_path / "whole")  # --overwrite would take it


def test_what_it_leaves_behind_talks(runs, tmp_path, capsys, monkeypatch):
    run(ppo(runs, tmp_path / "ppo", "--critic", "separate", "--ptx", 0.1))
    tuned = finetune.load(tmp_path / "ppo")
    assert tuned.task.critic == "separate" and tuned.model.critic is not None
    example = {"messages": [{"role": "user", "content": "Who is it?"}]}
    assert isinstance(tuned.answers([example])[0], str)
    lines = [json.loads(line) for line in (tmp_path / "ppo" / "metrics.jsonl").read_text().splitlines()]
    told = [line for line in lines if "kl" in line]
    assert [line["step"] for line in told] == [4, 8] and told[0]["kl"] == pytest.approx(0, abs=1e-4)
    assert {"reward", "gold", "entropy", "length", "clip_fraction", "value_loss"} <= told[0].keys()
    assert all(0 < line["rollout_share"] < 1 for line in told)
    typed = iter(["Who is it?", "/regenerate", "/foo", "/save " + str(tmp_path / "said.json"), "/reset", "/regenerate"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(typed, None) or exec("raise EOFError"))
    run(["chat", tmp_path / "ppo", "--best-of", 3, "--reward", runs / "reward", "--tokens", 5])
    said = capsys.readouterr().out
    assert "/foo is unknown" in said and "nothing was said yet" in said
    messages = json.loads((tmp_path / "said.json").read_text())["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant"]


@pytest.fixture(scope="module")
def judge(runs) -> Path:
    """A reward model that began as the talker, and read its replies."""
    quick = ["--workers", 1, "--examples", 24, "--epochs", 1, "--batch", 8]
    run(["reward", runs / "chat", "--out", runs / "judge", *quick])
    return runs / "judge"


def test_a_reward_model_of_a_talker_keeps_what_it_read_and_goes_on_with_it(runs, judge):
    lines = (judge / "preferences.jsonl").read_text().splitlines()
    assert len(lines) == 24 and len((judge / "held-out.jsonl").read_text().splitlines()) == 20
    check_ours(judge)
    before = json.loads((judge / "metrics.jsonl").read_text().splitlines()[-1])["step"]
    run(["reward", "--resume", judge, "--epochs", 2])
    assert json.loads((judge / "metrics.jsonl").read_text().splitlines()[-1])["step"] == 2 * before
    tuned, talker = finetune.load(judge), finetune.load(runs / "chat")
    assert tuned.model.body.config == talker.model.config
    said = [{"role": "user", "content": "Who is it?"}]
    ids = tuned.inputs.judged(said, "It is Mia.")["ids"]
    assert tuned.inputs.tokenizer.decode(ids.tolist()) == "<|user|>Who is it?<|end|><|assistant|>It is Mia.<|end|>"


def test_a_critic_begins_as_the_reward_model_in_the_rewards_unit(runs, judge):
    talker, rewarder = finetune.load(runs / "chat").model, Rewarder.of(judge, preferences(20, 9))
    talker = Talker(talker.body, 9, "separate")
    rewarder.teach(talker)
    said, reply = [{"role": "user", "content": "Who is it?"}], "It is Mia."
    ids = rewarder.tuned.inputs.judged(said, reply)["ids"][None]
    with no_grad():
        foretold = talker.value(talker.critic.hidden(ids)).data[0, -1, 0]
    assert foretold == pytest.approx(rewarder([said], [reply])[0], abs=1e-4)
    plain, untaught = Rewarder.of(runs / "reward", preferences(20, 9)), Talker(talker.body, 9, "separate")
    plain.teach(untaught)  # it reads other marks
    assert (untaught.value.weight.data == 0).all()


def test_how_far_replies_are_from_another_talkers_does_not_depend_on_the_others_beside_them(runs):
    tuned, other = finetune.load(runs / "chat"), finetune.load(runs / "chat")
    other.model.body.token_embedding.weight.data[:] *= 1.5
    asked = [[{"role": "user", "content": text}] for text in ("Who is it?", "Where did Mia go with her dog?")]
    prompts, replies = drawn(tuned, asked, 2, seed=3)
    each, own = [prompt for prompt in prompts for _ in range(2)], [ids for some in replies for ids in some]
    together = divergence(tuned, other, each, own)
    alone = [divergence(tuned, other, [prompt], [ids])[0] for prompt, ids in zip(each, own)]
    assert_close(together, alone, 1e-3)  # sums of up to 64 float32 log-probabilities
    assert (divergence(tuned, tuned, each, own) == 0).all() and np.abs(together).max() > 0.01
    ids = np.concatenate([each[0], own[0]])
    scores = tuned.model.body(ids[None, :-1]).data[0, len(each[0]) - 1 :].astype(float)
    others = other.model.body(ids[None, :-1]).data[0, len(each[0]) - 1 :].astype(float)
    nats = [z - np.log(np.exp(z).sum(axis=1, keepdims=True)) for z in (scores, others)]
    places = np.arange(len(own[0])), own[0]
    assert together[0] == pytest.approx((nats[0] - nats[1])[places].sum(), abs=1e-3)


def test_rewards_have_mean_0_and_deviation_1_over_good_and_bad_replies(judge):
    examples = preferences(20, 9)
    pairs = [(example["messages"], reply) for example in examples for reply in example["replies"]]
    rewards = Rewarder.of(judge, examples)(*zip(*pairs))
    assert rewards.mean() == pytest.approx(0, abs=1e-4) and rewards.std() == pytest.approx(1, abs=1e-4)


def test_two_workers_of_either_kind_write_and_learn_the_same(runs, tmp_path):
    for kind in ("threads", "processes"):
        run(ppo(runs, tmp_path / kind, "--workers", 2, "--worker-kind", kind, "--target-kl", 1))
    one, other = weights(tmp_path / "threads"), weights(tmp_path / "processes")
    for name, array in one.items():
        np.testing.assert_array_equal(other[name], array, err_msg=name)


@pytest.mark.parametrize("words, sentence", [
    (["ppo", "gpt", "--reward", "reward"], "no fine-tuned model"),
    (["ppo", "reward", "--reward", "reward"], "was fine-tuned for reward, not to talk"),
    (["ppo", "chat"], "say what judges the replies"),
    (["ppo", "chat", "--reward", "chat"], "was fine-tuned for chat, and tells no rewards"),
    (["ppo", "chat", "--reward", "reward", "--rollouts", "9", "--batch", "4"], "must be a multiple of --batch 4"),
    (["dpo"], "say which talker to begin with"),
    (["dpo", "--resume", "chat"], "is no run of dpo"),
    (["chat", "chat", "--best-of", "2"], "go together"),
    (["chat", "reward"], "was fine-tuned for reward, not to talk"),
])  # fmt: skip
def test_what_makes_no_sense_is_refused_in_a_sentence(runs, words, sentence, tmp_path, capsys, monkeypatch):
    words = [str(runs / word) if word in ("gpt", "chat", "reward") and i else word for i, word in enumerate(words)]
    out = ["--out", tmp_path / "out"] if words[0] != "chat" and "--resume" not in words else []
    run([*words, *out], 2)
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1 and not (tmp_path / "out").exists()
