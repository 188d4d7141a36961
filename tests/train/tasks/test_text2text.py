import json
from collections import Counter

import numpy as np
import pytest

import tinytensor as tt
from models import BERTConfig, BERTForPreTraining
from models.generate.answers import answer
from models.inputs import TextInputs
from models.t5 import T5, T5Config
from models.tokenizers import Bytes, Special, Unigram, WordPiece
from tests.train.test_finetune import run
from train import finetune
from train.finetune import FineTuneConfig
from train.objectives.labelled import Labelled
from train.tasks import TASKS, Row, Tag, Text2Text
from train.tasks.examples import read_examples
from train.tasks.text2text import as_text2text

LETTERS = "abcdefgh"
FIRST_AND_LAST = [
    {"task": task, "input": a + b + c, "target": a if task == "first" else c}
    for task in ("first", "last") for a in LETTERS for b in LETTERS for c in LETTERS
]  # fmt: skip


def tiny(width: int = 32, seed: int = 0) -> T5:
    with tt.random.seeded(seed):
        return T5(T5Config(vocab_size=384, layers=1, heads=2, head_width=16, width=width, hidden=2 * width))


def begin(folder, examples, held_out, task=None, model=None, tokenizer=None, settings=None, **options):
    folder.mkdir()
    settings = settings or dict(lr=5e-3, min_lr=0.0, schedule="linear", workers=1, batch=32, weight_decay=0.0)
    config = FineTuneConfig(**({"epochs": 1} | options))
    task = task or Text2Text.of(examples, held_out)
    pretrained = (model or tiny(), tokenizer or Bytes())
    return finetune.begin(folder, pretrained, task, examples, held_out, config, settings)


def test_two_tasks_are_learned_at_once_and_the_folder_answers_like_the_trained_model(tmp_path):
    draw = np.random.default_rng(0)
    examples = [FIRST_AND_LAST[i] for i in draw.permutation(len(FIRST_AND_LAST))]
    train, held_out = examples[:-64], examples[-64:]
    trainer = begin(tmp_path / "run", train, held_out, epochs=12)
    run(trainer)
    scores = trainer.report.scores
    assert scores["exact_match"] >= 0.7  # chance is 1/8; who does not read the prefix gets 9/16 at most
    assert {"exact_match first", "exact_match last", "token_f1", "rouge_l", "bleu"} <= scores.keys()
    last_line = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()][-2:]
    assert any(line.get("exact_match first") == scores["exact_match first"] for line in last_line)
    tuned = finetune.load(tmp_path / "run")
    assert tuned.answers(held_out) == trainer.report.answers
    asked = ["first: gab", "last: gab"]
    assert answer(tuned.model.body, Bytes(), asked) == tuned.answers([{"input": text} for text in asked])


def test_an_answer_ends_at_the_models_own_end_token_whatever_its_id():
    """Here 1 is a letter's token and 2 the end."""
    tokenizer = Unigram([("<pad>", 0.0), ("\u2581a", -1.0), ("</s>", 0.0), ("b", -1.0), ("<unk>", 0.0)],
                        {"<pad>": Special(0), "</s>": Special(2), "<unk>": Special(4)})  # fmt: skip
    model = T5(T5Config(vocab_size=5, layers=1, heads=1, head_width=4, width=4, hidden=4, eos_id=2))
    writer, inputs = Text2Text(6).make_head(model, 0.0), TextInputs(tokenizer, 8)
    for script, text in (([1, 3, 2, 3], "ab"), ([2, 1], ""), ([1, 1, 1, 1, 1, 1], "a a a a a a")):
        script = script + [0] * 6
        model.step = lambda ids, cache, mask=None, script=script: np.eye(5)[[script.pop(0)]]
        (row,) = Text2Text(6).rows({"input": "ab"}, inputs)
        ids = writer(inputs.pad([row.arrays])).data[0]
        assert Text2Text(6).decode(row, ids) == text


def test_the_task_column_is_a_prefix_and_so_is_what_stands_before_a_colon():
    task, inputs = Text2Text(5), TextInputs(Bytes(), 64)
    (row,) = task.rows({"task": "reverse", "input": "ab", "target": "ba"}, inputs)
    (same,) = task.rows({"input": "reverse: ab", "target": "ba"}, inputs)
    assert row.group == same.group == "reverse"
    np.testing.assert_array_equal(row.arrays["ids"], same.arrays["ids"])
    assert row.arrays["ids"].tolist() == [*(b + 3 for b in b"reverse: ab"), 1]
    assert row.arrays["targets"].tolist() == [ord("b") + 3, ord("a") + 3, 1]
    assert task.rows({"input": "ab"}, inputs)[0].group == ""


def test_padded_targets_do_not_count():
    task, inputs = Text2Text(5), TextInputs(Bytes(), 64)
    rows = [task.rows({"input": "a" * n, "target": "b" * n}, inputs)[0] for n in (1, 3)]
    batch = inputs.pad([row.arrays for row in rows])
    assert batch["targets"].tolist() == [[101, 1, -100, -100], [101, 101, 101, 1]]
    assert batch["mask"].sum(axis=1).tolist() == [2, 4] and tiny().counts(batch) == {"targets": 6, "rows": 2}


def test_a_cap_mixes_tasks_in_proportion_up_to_so_many_examples():
    groups = ["big"] * 300 + ["middle"] * 40 + ["small"] * 10
    rows = [Row({"ids": i, "mask": np.ones(3, bool)}, group=group) for i, group in enumerate(groups)]
    objective = Labelled(lambda arrays: {"ids": np.array([a["ids"] for a in arrays])}, 10, seed=1, cap=40)
    assert objective.steps_per_epoch(rows) == 9  # 40 + 40 + 10 examples
    epochs = []
    for epoch in range(8):
        batches = [objective.training_batch(rows, 9 * epoch + step)["ids"] for step in range(9)]
        ids = np.concatenate(batches)
        assert len(set(ids.tolist())) == 90
        assert Counter(rows[i].group for i in ids) == {"big": 40, "middle": 40, "small": 10}
        epochs.append({i for i in ids.tolist() if i < 300})
    assert len(set.union(*epochs)) > 150  # other ones of the large task each time: 200 of 300 are expected
    again = Labelled(objective.pad, 10, seed=1, cap=40)
    np.testing.assert_array_equal(again.training_batch(rows, 71)["ids"], batches[8])
    assert objective.steps_per_epoch(rows[:320]) == 6  # of other rows, other steps: 40 + 20 examples
    assert objective.steps_per_epoch(rows) == 9
    assert Labelled(objective.pad, 10, seed=1).steps_per_epoch(rows) == 35


def test_other_tasks_become_texts_to_read_and_to_write(tmp_path):
    examples = [{"text": "Mia was glad.", "label": "happy"}, {"text": "Ben wept.", "label": "sad"}]
    task = TASKS["classify"].of(examples)
    assert as_text2text(task, examples)[1] == {"input": "classify: Ben wept.", "target": "sad"}
    trainer = begin(tmp_path / "run", examples, examples, task)
    assert trainer.report.tuned.task == Text2Text(6)
    run(trainer)
    assert 0 <= trainer.report.scores["exact_match"] <= 1


def test_sentinels_and_pieces_of_unigram_work_as_bytes_do(tmp_path):
    texts = [f"{a} likes {b}" for a in ("Mia", "Ben", "Sue") for b in ("tea", "milk", "cake", "pie")]
    tokenizer = Unigram.train(texts, 60, extra_ids=5)
    with tt.random.seeded(0):
        model = T5(T5Config(vocab_size=60, layers=1, heads=2, head_width=16, width=32, hidden=64))
    examples = [{"input": text, "target": text.split()[0]} for text in texts]
    trainer = begin(tmp_path / "run", examples, examples, model=model, tokenizer=tokenizer, epochs=60)
    run(trainer)
    assert trainer.report.scores["exact_match"] == 1


def test_what_makes_no_sense_is_named(tmp_path):
    examples = [{"input": "a", "target": "b"}]
    with pytest.raises(ValueError, match="--frozen trains the head only, and a T5 has none"):
        begin(tmp_path / "a", examples, examples, frozen=True)
    bert = BERTForPreTraining(BERTConfig(vocab_size=60, context=16, layers=1, heads=1, width=8))
    words = WordPiece.train(["a b c"], 60)
    with pytest.raises(ValueError, match=r"a model that reads and writes \(t5, switch, ernie-gen\), not bert"):
        begin(tmp_path / "b", examples, examples, model=bert, tokenizer=words)
    with pytest.raises(ValueError, match="an example of text2text needs 'target'; this one has 'input'"):
        Text2Text.of([{"input": "a"}])
    with pytest.raises(ValueError, match="an input is empty"):
        answer(tiny(), Bytes(), ["a", ""])


def test_files_hold_inputs_and_targets(tmp_path):
    (tmp_path / "a.tsv").write_text("input\ttarget\nreverse: ab\tba\n")
    (tmp_path / "b.jsonl").write_text('{"task": "reverse", "input": "ab", "target": "ba"}\n')
    assert read_examples(tmp_path / "a.tsv", "text2text") == [{"input": "reverse: ab", "target": "ba"}]
    assert read_examples(tmp_path / "b.jsonl", "text2text")[0]["task"] == "reverse"


def test_tags_with_spaces_between_are_read_and_written_as_a_list_of_them():
    examples = [{"words": "Mia left", "tags": "B-person O"}, {"words": ["Mia", "left"], "tags": ["B-person", "O"]}]
    texts = as_text2text(Tag.of(examples), examples)
    assert texts[0] == texts[1] == {"input": "tag: Mia left", "target": "B-person O"}
