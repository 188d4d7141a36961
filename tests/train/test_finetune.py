import json

import numpy as np
import pytest

import tinytensor as tt
from models import BERTConfig, BERTForPreTraining
from models.inputs import TextInputs
from models.tokenizers import WordPiece
from train import finetune
from train.data import stories
from train.data.stories import tasks
from train.objectives.labelled import Labelled, bucketed
from train.tasks import TASKS, Answer, Row, Tag
from train.tasks.answer import place_of


@pytest.fixture(scope="module")
def tokenizer() -> WordPiece:
    return WordPiece.train([stories.corpus(100_000).text], 500)


def tiny(tokenizer, seed: int = 0) -> BERTForPreTraining:
    with tt.random.seeded(seed):
        return BERTForPreTraining(
            BERTConfig(vocab_size=tokenizer.vocab_size, context=64, layers=1, heads=2, width=32, init_std=0.08)
        )


def begin(folder, tokenizer, task, examples, held_out, **options):
    folder.mkdir()
    settings = dict(lr=3e-3, min_lr=0.0, schedule="linear", workers=1, batch=8) | options.pop("settings", {})
    config = finetune.FineTuneConfig(**({"epochs": 1} | options))
    return finetune.begin(folder, (tiny(tokenizer), tokenizer), task, examples, held_out, config, settings)


def run(trainer) -> None:
    trainer.report.start(trainer.progress.step)
    trainer.train()
    trainer.report.close()


COLOURS = [
    {"text": f"{name} had a {colour} {thing}.", "label": "warm" if colour in ("red", "yellow") else "cold"}
    for name in ("Mia", "Ben", "Sue", "Tom")
    for colour in ("red", "yellow", "blue", "green")
    for thing in ("cup", "hat")
]


def test_a_rule_about_one_word_is_learned_and_the_folder_answers_like_the_trained_model(tokenizer, tmp_path):
    train, held_out = COLOURS[:24], COLOURS[24:]
    trainer = begin(tmp_path / "run", tokenizer, TASKS["classify"].of(train), train, held_out, epochs=15)
    run(trainer)
    assert trainer.report.scores["accuracy"] == 1  # chance is 1/2
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    epochs = [line for line in lines if "epoch" in line]
    assert [line["epoch"] for line in epochs] == list(range(1, 16))
    assert epochs[-1]["accuracy"] == epochs[-1]["matthews"] == epochs[-1]["f1"] == 1
    tuned = finetune.load(tmp_path / "run")
    assert tuned.answers(held_out) == trainer.report.answers
    assert tuned.answers([{"text": "Tom had a red hat."}, {"text": "Tom had a blue hat."}]) == ["warm", "cold"]


@pytest.mark.parametrize("name", tasks.SETS)
def test_every_set_of_the_stories_trains_and_its_folder_answers_the_same(name, tokenizer, tmp_path):
    train, held_out = tasks.examples(name, 24, seed=1), tasks.examples(name, 9, seed=2)
    trainer = begin(tmp_path / "run", tokenizer, TASKS[tasks.SETS[name][0]].of(train, held_out), train, held_out)
    run(trainer)
    assert trainer.progress.step == -(-len(trainer.train_data) // 8) >= 3  # long passages come as several rows
    assert finetune.load(tmp_path / "run").answers(held_out) == trainer.report.answers


def test_an_epoch_of_several_batches_to_an_update_has_fewer_updates(tokenizer, tmp_path):
    settings = dict(accumulate=2)
    trainer = begin(tmp_path / "run", tokenizer, TASKS["classify"].of(COLOURS), COLOURS[:24], COLOURS[24:],
                    epochs=3, settings=settings)  # fmt: skip
    assert trainer.config.steps == 5  # 3 epochs of 3 batches, two at a time
    run(trainer)
    epochs = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in epochs if "epoch" in line][-1] == pytest.approx(10 / 3)


def test_a_frozen_body_stays_as_it_was(tokenizer, tmp_path):
    examples = COLOURS[:8]
    trainer = begin(tmp_path / "run", tokenizer, TASKS["classify"].of(examples), examples, examples, frozen=True)
    run(trainer)
    before = {f"body.{name}": p.data for name, p in tiny(tokenizer).body.named_parameters()}
    for name, parameter in trainer.model.named_parameters():
        assert name.startswith("out.") or (parameter.data == before[name]).all()
    assert np.abs(trainer.model.out.bias.data).max() > 0


def test_two_workers_learn_what_one_does(tokenizer, tmp_path):
    weights, scores = [], []
    for workers, kind, tensor in ((1, "threads", 1), (2, "threads", 1), (2, "processes", 1), (2, "threads", 2)):
        settings = dict(workers=workers, worker_kind=kind, tensor=tensor)
        trainer = begin(tmp_path / f"{workers}{kind}{tensor}", tokenizer, TASKS["classify"].of(COLOURS), COLOURS[:16],
                        COLOURS[16:], settings=settings)  # fmt: skip
        for module in trainer.model.modules():  # chance differs between shards
            if hasattr(module, "p"):
                module.p = 0.0
            if hasattr(module, "dropout") and isinstance(module.dropout, float):
                module.dropout = 0.0
        run(trainer)
        weights.append(trainer.model.out.weight.data.copy())
        scores.append(trainer.report.scores)
    assert scores == [scores[0]] * 4
    np.testing.assert_allclose(weights[1], weights[0], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(weights[3], weights[0], rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(weights[1], weights[2])


# ---- batches


def test_an_epoch_serves_every_row_once_and_in_another_order_than_the_last():
    lengths = np.random.default_rng(0).integers(3, 60, 101)
    rows = [Row({"ids": np.full(n, i), "mask": np.ones(n, bool)}) for i, n in enumerate(lengths)]
    inputs = TextInputs(WordPiece.train(["a b"], 20), 64)
    objective = Labelled(inputs.pad, batch=8, seed=5)
    orders = []
    for epoch in range(2):
        served = [objective.training_batch(rows, 13 * epoch + i)["ids"].max(axis=1) for i in range(13)]
        orders.append(np.concatenate(served).tolist())
        assert sorted(orders[-1]) == list(range(101))
    assert orders[0] != orders[1]
    again = Labelled(inputs.pad, batch=8, seed=5)
    assert (again.training_batch(rows, 17)["ids"] == objective.training_batch(rows, 17)["ids"]).all()


def test_batches_of_like_lengths_have_little_padding():
    draw = np.random.default_rng(1)
    lengths = draw.integers(5, 100, 2000)
    padded = lambda batches: sum(lengths[b].max() * len(b) for b in batches) / lengths.sum()
    shuffled = draw.permutation(2000)
    assert padded([shuffled[i : i + 16] for i in range(0, 2000, 16)]) > 1.6
    assert padded(bucketed(lengths, 16, draw)) < 1.08


# ---- from examples to arrays and back


def test_words_that_fall_to_pieces_are_tagged_at_their_first_piece():
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "mia", "run", "##s"]
    tokenizer = WordPiece({token: i for i, token in enumerate(tokens)})
    example = {"words": ["Mia", "runs", "Mia"], "tags": ["B-x", "O", "B-x"]}
    (row,) = Tag.of([example]).rows(example, TextInputs(tokenizer, 16))
    assert row.arrays["ids"].tolist() == [2, 5, 6, 7, 5, 3]
    assert row.arrays["tags"].tolist() == [-100, 0, 1, -100, 0, -100]
    (row,) = Tag.of([example]).rows(example, TextInputs(tokenizer, 5))  # the last word does not fit
    assert row.arrays["tags"].tolist() == [-100, 0, 1, -100, -100]
    scores = np.eye(2)[[0, 0, 1, 1, 0]]
    assert Tag.of([example]).answer(example, [Tag.of([example]).decode(row, scores)]) == ["B-x", "O", "O"]


def test_a_word_that_the_tokenizer_drops_keeps_its_place(tokenizer):
    example = {"words": ["Mia", "\u200b", "ran"], "tags": ["B-x", "O", "I-x"]}
    (row,) = Tag.of([example]).rows(example, TextInputs(tokenizer, 16))
    unknown = row.notes[1]
    assert len(row.notes) == 3 and row.arrays["ids"][unknown] == tokenizer.unk_id
    assert (row.arrays["tags"] != -100).sum() == 3


def test_an_answer_without_a_place_is_the_first_that_the_passage_has():
    for start in ({}, {"start": None}, {"start": ""}, {"start": 4}, {"start": "4"}):
        assert place_of({"question": "q", "context": "the cat, the cat", "answer": "cat"} | start) == (4, 7)


def test_a_long_passage_is_read_in_overlapping_pieces_and_the_best_answer_wins(tokenizer):
    story = next(stories.stories(1)).text
    at = story.rindex(" ") + 1
    example = {"question": "What?", "context": story, "answer": story[at:-1], "start": at}
    rows = Answer.of([example]).rows(example, TextInputs(tokenizer, 32))
    assert len(rows) > 3
    holding = [row for row in rows if tuple(row.arrays["span"]) != (0, 0)]
    assert holding == rows[-1:]
    first, last = holding[0].arrays["span"]
    context, offsets = holding[0].notes
    assert context[offsets[first][0] : offsets[last][1]] == example["answer"]
    covered = {place for row in rows for place in row.notes[1].values()}
    assert covered == set(tokenizer.encode_with_offsets(story)[1])
    scores = [np.zeros((2, len(row.arrays["mask"]))) for row in rows]
    scores[-1][0, first] = scores[-1][1, last] = 4
    scores[0][:, 0] = 9  # the first piece is sure that it has no answer
    task = Answer()
    assert task.answer(example, [task.decode(r, s) for r, s in zip(rows, scores)]) == example["answer"]
    scores[-1][:, 0] = 5
    assert task.answer(example, [task.decode(r, s) for r, s in zip(rows, scores)]) != example["answer"]


@pytest.mark.parametrize(
    "kind, example, message",
    [("classify", {"label": "x"}, "an example of classify needs 'text'"),
     ("tag", {"words": ["a"], "tags": ["O", "O"]}, "has 1 words but 2 tags"),
     ("answer", {"question": "q", "context": "abc", "answer": "d"}, "the context does not say 'd'"),
     ("choose", {"text": "t", "choices": ["a", "b"], "label": 2}, "the label 2 is none of the choices"),
     ("choose", {"text": "t", "choices": ["a", "b"], "label": "b"}, "'label' of .* must be a whole number, not 'b'"),
     ("classify", {"text": "t", "label": 1.5}, "'label' of .* must be a text or a whole number, not 1.5"),
     ("classify", {"text": "t", "pair": 3, "label": "x"}, "'pair' of an example of classify must be a text, not 3"),
     ("answer", {"question": "q", "context": "abc", "answer": "b", "start": "?"}, "'start' of .* a whole number"),
     ("regress", {"text": "t", "score": "much"}, "the score 'much' is not a number")],
)  # fmt: skip
def test_what_is_wrong_with_an_example_is_named(kind, example, message, tokenizer):
    fine = {"classify": [{"text": "t", "label": "y"}, {"text": "t", "label": "x"}]}.get(kind, [])
    with pytest.raises(ValueError, match=message):
        TASKS[kind].of([*fine, example]).rows(example, TextInputs(tokenizer, 32))
