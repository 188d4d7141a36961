"""ERNIE-GEN from nothing, from a BERT, and taught a task with noise and smoothed labels."""

import json

import numpy as np
import pytest

import tinytensor as tt
from models import BERTConfig, BERTForPreTraining
from models.ernie_gen import ERNIEGen, ERNIEGenConfig
from models.t5 import shift_right
from models.tokenizers import WordPiece
from tests.helpers import assert_close
from tests.train.test_finetune import run
from train import checkpoint, finetune, recipes
from train.__main__ import main
from train.commands.ernie_gen import wordpiece
from train.finetune import FineTuneConfig
from train.tasks import Text2Text
from train.trainer import TrainConfig

LETTERS = "abcdefgh"
EXAMPLES = [
    {"input": f"{task}: {a} {b} {c}", "target": a if task == "first" else f"{c} {b}"}
    for task in ("first", "back") for a in LETTERS for b in LETTERS for c in LETTERS
]  # fmt: skip
TOKENIZER = wordpiece([" ".join(example.values()) for example in EXAMPLES], 60)
QUICK = ["--stories", "60000", "--steps", "2", "--workers", "1", "--batch", "2", "--eval-batches", "1"]


def small(**changes) -> ERNIEGen:
    marks = dict(pad_id=0, start_id=2, eos_id=3, attn_id=5)
    shape = dict(vocab_size=60, context=32, layers=2, heads=4, width=64, dropout=0.0, attention_dropout=0.0)
    with tt.random.seeded(0):
        return ERNIEGen(ERNIEGenConfig(**(shape | marks | dict(init_std=0.05) | changes)))


def begin(folder, model, examples, held_out, tokenizer=TOKENIZER, **options):
    folder.mkdir()
    settings = dict(lr=2e-3, workers=1, batch=32)
    task, config = Text2Text.of(examples, held_out), FineTuneConfig(**({"epochs": 1} | options))
    return finetune.begin(folder, (model, tokenizer), task, examples, held_out, config, settings)


def test_it_learns_tasks_with_noise_and_smoothed_labels_and_its_folder_answers_so(tmp_path):
    order = np.random.default_rng(0).permutation(len(EXAMPLES))
    train, held_out = [EXAMPLES[i] for i in order[:-64]], [EXAMPLES[i] for i in order[-64:]]
    trainer = begin(tmp_path / "run", small(), train, held_out, epochs=8, noise=0.3, label_smoothing=0.1)
    run(trainer)
    assert trainer.report.scores["exact_match"] >= 0.7  # chance is 1/8 and 1/64
    assert finetune.load(tmp_path / "run").answers(held_out) == trainer.report.answers


@pytest.mark.parametrize("name", ["ernie-gen", "t5"])
def test_noise_is_in_what_is_read_in_training_and_nowhere_else(name, tmp_path):
    from tests.train.tasks.test_text2text import Bytes, tiny

    model, tokenizer = (small(), TOKENIZER) if name == "ernie-gen" else (tiny(), Bytes())
    trainer = begin(tmp_path / "a", model, EXAMPLES, EXAMPLES[:32], tokenizer, noise=0.5, label_smoothing=0.1)
    objective, rows, model = trainer.objective, trainer.train_data, trainer.model
    batches = [objective.training_batch(rows, n) for n in range(8)]
    right = [shift_right(batch["targets"], model.config.start_id) for batch in batches]
    asked = [batch["targets"][:, :-1] >= 0 for batch in batches]
    wrong = np.concatenate([(a["read"] != b)[:, 1:][where] for a, b, where in zip(batches, right, asked)])
    V = tokenizer.vocab_size
    assert abs(wrong.mean() - 0.5 * (V - 1) / V) < 4 * 0.5 / np.sqrt(len(wrong))
    assert all((batch["read"][:, 0] == model.config.start_id).all() for batch in batches)
    np.testing.assert_array_equal(objective.training_batch(rows, 3)["read"], batches[3]["read"])
    assert "read" not in objective.evaluation_batch(rows, np.arange(4))
    clean = {key: array for key, array in batches[0].items() if key != "read"}
    model.eval()
    losses = [model.loss(batch).item() for batch in (batches[0], clean, clean | {"read": right[0]})]
    assert losses[1] == losses[2] != losses[0]
    model.train()
    smooth, nats = model.loss(clean).item(), losses[1]
    log_p = model.scores(clean).log_softmax().data
    evenly = -log_p[clean["targets"] >= 0].mean()
    assert_close(smooth, 0.9 * nats + 0.1 * evenly, 1e-5)


def test_one_without_capitals_is_measured_without_them(tmp_path):
    """As where it began from an uncased BERT: what it can write is held against what it could have written."""
    examples = [{"input": name, "target": name} for name in ("Mia", "Tom", "Ben", "Ann")] * 8
    words = WordPiece.train([" ".join(e["input"] for e in examples)], 60)
    trainer = begin(tmp_path / "a", small(attn_id=4), examples, examples[:4], words, epochs=60)
    run(trainer)
    assert trainer.report.answers[0] == "mia" and trainer.report.scores["exact_match"] == 1


def test_noise_is_refused_for_what_has_a_head(tmp_path):
    bert = BERTForPreTraining(BERTConfig(vocab_size=60, context=32, layers=1, heads=1, width=8))
    for option in ("noise", "label_smoothing"):
        flag = option.replace("_", "-")
        with pytest.raises(ValueError, match=f"--{flag} 0.5 is for what writes its answers, and a bert has a head"):
            begin(tmp_path / option, bert, EXAMPLES, EXAMPLES, **{option: 0.5})


def test_sources_and_targets_that_are_too_long_share_the_context(tmp_path):
    long = [{"input": "a " * 100, "target": "b " * 100}, {"input": "a", "target": "b " * 100}]
    trainer = begin(tmp_path / "a", small(), long, long)
    first, second = (row.arrays for row in trainer.train_data)
    assert len(first["ids"]) == 24 and len(first["targets"]) == 7  # 24 + 7 + the last [ATTN] = 32
    assert len(second["ids"]) == 3 and len(second["targets"]) == 23
    assert first["targets"][-1] == second["targets"][-1] == 3
    run(trainer)


@pytest.mark.parametrize("published", [False, True])
def test_it_begins_from_a_bert_with_its_weights_and_its_tokenizer(published, tmp_path, capsys):
    if published:
        words = WordPiece.train(["Mia met Tom and Ben. " * 5], 60)
        with tt.random.seeded(1):
            bert = BERTForPreTraining(BERTConfig(vocab_size=60, context=64, layers=2, heads=2, width=16))
        bert.save_pretrained(tmp_path / "bert")
        words.save(tmp_path / "bert")
    else:
        shape = ["--layers", "2", "--heads", "2", "--width", "16", "--context", "64", "--vocab-size", "320"]
        assert main(["bert", "--out", str(tmp_path / "bert"), *QUICK, *shape]) == 0
    begun = ["ernie-gen", "--init", str(tmp_path / "bert"), "--out", str(tmp_path / "run")]
    assert main([*begun, *QUICK, "--lr", "0", "--min-lr", "0"]) == 0
    (bert, words), (model, own) = (checkpoint.load_model(tmp_path / name) for name in ("bert", "run"))
    assert type(model) is ERNIEGen and own.tokens == words.tokens and model.config.attn_id == words.mask_id
    theirs, ours = bert.state_dict(), model.state_dict()
    for name, array in ours.items():
        same = array[:2] if name.endswith("token_type.weight") else array
        np.testing.assert_array_equal(same, theirs[name], err_msg=name)
    assert ours["bert.embeddings.token_type.weight"].shape == (4, 16)
    tune = ["finetune", str(tmp_path / "run"), "--task", "questions", "--examples", "24", "--epochs", "1"]
    assert main([*tune, "--out", str(tmp_path / "tuned"), "--workers", "1", "--noise", "0.5"]) == 0
    assert json.loads((tmp_path / "tuned" / "finetune.json").read_text())["noise"] == 0.5


def test_what_it_cannot_begin_from_is_named(tmp_path, capsys):
    tokens = tmp_path / "tokenizer.json"
    WordPiece.train(["a b c"], 60, ("[PAD]", "[UNK]", "[CLS]", "[SEP]")).save(tokens)
    out = ["--out", str(tmp_path / "a")]
    assert main(["ernie-gen", "--tokenizer", str(tokens), *out, *QUICK]) == 2
    assert "an ERNIE-GEN needs [ATTN] or [MASK], [SEP] and [PAD]; this WordPiece lacks one" in capsys.readouterr().err
    assert main(["ernie-gen", "--share", "0.9", *out, *QUICK]) == 2
    assert "tokens would be taken out" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_capitals_are_kept_and_there_is_an_attn():
    tokenizer = wordpiece(["Mia met Tom."] * 3, 60)
    assert tokenizer.decode(tokenizer.encode("Mia met Tom.")) == "Mia met Tom."
    config = recipes.FAMILIES["ernie-gen"].ids
    assert {name: of(tokenizer) for name, of in config.items()} == dict(pad_id=0, eos_id=3, start_id=2, attn_id=5)
    made = recipes.OBJECTIVES["infilling"]
    objective = made.make(small().config, TrainConfig(), made.settings(), TOKENIZER)
    assert objective.one_shape and objective.marks == (2, 3) and len(objective.continues) == TOKENIZER.vocab_size
