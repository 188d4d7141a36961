import json

import numpy as np
import pytest

import tinytensor as tt
from models import GPT, GPTConfig
from models.inputs import MarkedInputs
from models.tokenizers import ByteLevelBPE, Characters
from tests.train.test_finetune import COLOURS, run
from train import checkpoint, finetune
from train.__main__ import main
from train.data.stories import tasks
from train.tasks import TASKS
from train.tasks.task import text_or_pair

TOKENIZER = Characters.train("abcdefghijklmnopqrstuvwxyz MBST.'?,")


def begin(folder, task, examples, held_out, tokenizer=TOKENIZER, **options):
    folder.mkdir()
    with tt.random.seeded(0):
        model = GPT(GPTConfig(vocab_size=tokenizer.vocab_size, context=96, layers=1, heads=2, width=32, init_std=0.08))
    settings = dict(lr=3e-3, min_lr=0.0, schedule="linear", workers=1, batch=8) | options.pop("settings", {})
    config = finetune.FineTuneConfig(**({"epochs": 1} | options))
    return finetune.begin(folder, (model, tokenizer), task, examples, held_out, config, settings)


def test_texts_stand_between_marks_behind_the_vocabulary():
    inputs = MarkedInputs(TOKENIZER, 9, 50)
    a, b = TOKENIZER.encode("abc"), TOKENIZER.encode("de")
    assert inputs.text("abc")["ids"].tolist() == [50, *a, 52]
    assert inputs.text("abc", "de")["ids"].tolist() == [50, *a, 51, *b, 52]
    assert len(inputs.text("abc" * 9)["ids"]) == 9 and inputs.text("abc" * 9)["ids"][-1] == 52
    both = text_or_pair(inputs, {"text": "abc", "pair": "de"}, "classify", both_orders=True)["ids"].tolist()
    assert both == [[50, *a, 51, *b, 52], [50, *b, 51, *a, 52]]
    assert "<start>" not in TOKENIZER.special
    with pytest.raises(ValueError, match="both orders were asked for, but 'abc' has no pair"):
        text_or_pair(inputs, {"text": "abc"}, "classify", both_orders=True)


def test_equal_seeds_begin_with_equal_weights(tmp_path):
    task = TASKS["classify"].of(COLOURS)
    first, same, other = (
        begin(tmp_path / name, task, COLOURS[:8], COLOURS[8:16], settings={"seed": seed}).model.state_dict()
        for name, seed in (("first", 1), ("same", 1), ("other", 2))
    )
    assert all((first[name] == same[name]).all() for name in first)
    assert any((first[name] != other[name]).any() for name in first)


def test_a_rule_about_one_word_is_learned_and_the_folder_answers_like_the_trained_model(tmp_path):
    train, held_out = COLOURS[:24], COLOURS[24:]
    trainer = begin(tmp_path / "run", TASKS["classify"].of(train), train, held_out, epochs=25)
    run(trainer)
    assert trainer.report.scores["accuracy"] >= 0.75  # chance is 1/2
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    losses = [line["val_loss"] for line in lines if "val_loss" in line]
    assert losses[-1] < losses[0] / 2
    tuned = finetune.load(tmp_path / "run")
    assert tuned.answers(held_out) == trainer.report.answers


@pytest.mark.parametrize("name, both", [("sentiment", False), ("coherence", True), ("roles", False), ("next", False)])
def test_every_set_of_the_stories_trains_and_its_folder_answers_the_same(name, both, tmp_path):
    train, held_out = tasks.examples(name, 16, seed=1), tasks.examples(name, 9, seed=2)
    task = TASKS[tasks.SETS[name][0]].of(train, held_out)
    if both:
        task = type(task)(**vars(task) | {"both_orders": True})
    tokenizer = ByteLevelBPE.train([example.get("text", "") for example in train], 300)
    trainer = begin(tmp_path / "run", task, train, held_out, tokenizer)
    run(trainer)
    assert finetune.load(tmp_path / "run").answers(held_out) == trainer.report.answers


def test_a_frozen_body_stays_as_it_was_and_costs_no_language_loss(tmp_path):
    trainer = begin(tmp_path / "run", TASKS["classify"].of(COLOURS), COLOURS[:8], COLOURS[:8], frozen=True)
    before = {name: p.data.copy() for name, p in trainer.model.named_parameters()}
    run(trainer)
    for name, parameter in trainer.model.named_parameters():
        assert name.startswith("out.") or (parameter.data == before[name]).all()
    assert trainer.model.body.own_loss() is None
    assert np.abs(trainer.model.out.bias.data).max() > 0


def test_adapters_learn_while_the_body_stays_and_the_folder_answers_with_them_merged(tmp_path):
    train, held_out = COLOURS[:24], COLOURS[24:]
    task = TASKS["classify"].of(train)
    settings = dict(lr=1e-2)
    trainer = begin(tmp_path / "run", task, train, held_out, epochs=25, lora=4, settings=settings)
    before = {name: p.data.copy() for name, p in trainer.model.named_parameters() if not p.requires_grad}
    assert {name.rpartition(".")[2] for name in before} == {"weight", "bias"}
    assert not any(name.startswith("out.") for name in before)
    run(trainer)
    for name, parameter in trainer.model.named_parameters():
        assert name not in before or (parameter.data == before[name]).all()
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    losses = [line["val_loss"] for line in lines if "val_loss" in line]
    assert losses[-1] < losses[0] - 0.3
    tuned = finetune.load(tmp_path / "run")
    assert not any(name.endswith((".a", ".b")) for name, _ in tuned.model.named_parameters())
    assert tuned.answers(held_out) == trainer.report.answers


def test_the_command_fine_tunes_a_run_on_files_of_pairs_in_both_orders(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("the cat sat on the mat. the dog sat on the log.\n" * 60)
    tiny = "--layers 1 --heads 2 --width 16 --context 64 --batch 4 --workers 1"
    assert main(f"gpt --data text.txt --out gpt {tiny} --steps 5".split()) == 0
    pairs = [(a, b) for a in ("cat", "dog") for b in ("cat", "dog")]
    rows = [f"the {a} sat\tthe {b} sat\t{'same' if a == b else 'other'}" for a, b in pairs]
    (tmp_path / "pairs.tsv").write_text("\n".join(["text\tpair\tlabel", *rows * 3]) + "\n")
    command = "finetune gpt --task classify --data pairs.tsv --held-out pairs.tsv --both-orders --epochs 1 --workers 1"
    assert main(f"{command} --out tuned --language-loss 0.25".split()) == 0
    assert "accuracy" in capsys.readouterr().out
    tuned = finetune.load(tmp_path / "tuned")
    assert tuned.task.both_orders and checkpoint.read_config(tmp_path / "tuned")["body"] == "gpt"
    one, other = tuned.model.eval(), [{"text": a, "pair": b} for a, b in (("the cat", "a dog"), ("a dog", "the cat"))]
    scores = [one(tuned.pad([row.arrays for row in tuned.task.rows(example, tuned.inputs)])).data for example in other]
    np.testing.assert_allclose(*scores, atol=1e-5)
    assert main(["finetune", "gpt", "--task", "roles", "--both-orders"]) == 2
    assert "--both-orders is for tasks about pairs, not for tag" in capsys.readouterr().err
