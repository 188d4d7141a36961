"""models.load and from_pretrained: runs, published folders, and what neither is."""

import json
import shutil

import numpy as np
import pytest

import models
from models import BERT, GPT, T5, BERTForPreTraining, GPTConfig
from models.tokenizers import Characters
from train import checkpoint
from train.__main__ import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    (folder / "text.txt").write_text("the cat sat on the mat. the dog sat on the log.\n" * 60)
    short = "--workers 1 --steps 2 --eval-batches 1 --batch 2"
    small = f"{short} --context 48 --layers 1 --heads 2 --width 16 --vocab-size 300"
    own = f"{small} --tokenizer bpe --data {folder}/text.txt"
    for name, more in (("gpt", own), ("bert", f"{small} --stories 30000"),
                       ("t5", f"{small} --stories 30000 --head-width 8"), ("elmo", f"{short} --stories 20000")):
        assert main([name, "--out", str(folder / name), *more.split()]) == 0
    prune = ["prune", str(folder / "gpt"), "--what", "heads", "--steps", "1", "--limit", "1", "--workers", "1"]
    assert main([*prune, "--out", str(folder / "pruned")]) == 0
    return folder


@pytest.mark.parametrize("name", ["gpt", "bert", "t5", "elmo", "pruned"])
def test_a_run_is_opened_as_the_commands_open_it(folder, name):
    ours, tokenizer = models.load(str(folder / name))
    theirs, same = checkpoint.load_model(folder / name)
    assert type(ours) is type(theirs) and not ours.training and tokenizer.vocab_size == same.vocab_size
    for key, array in theirs.state_dict().items():
        np.testing.assert_array_equal(ours.state_dict()[key], array)


def test_a_class_opens_the_runs_of_its_family(folder):
    text = np.array([[1, 2, 3]])
    whole, _ = models.load(folder / "gpt", "best")
    np.testing.assert_array_equal(GPT.from_pretrained(folder / "gpt")(text).data, whole(text).data)
    assert GPT.from_pretrained(str(folder / "gpt"), dropout=0.1).config.dropout == 0.1
    assert GPT.from_pretrained(folder / "pruned")(text).shape == whole(text).shape
    pretrained = BERTForPreTraining.from_pretrained(folder / "bert")
    np.testing.assert_array_equal(BERT.from_pretrained(folder / "bert")(text).hidden.data, pretrained(text).hidden.data)
    with pytest.raises(ValueError, match="gpt is the run of a gpt, not read as T5: "):
        T5.from_pretrained(folder / "gpt")


def test_a_published_folder_is_opened_by_its_own_name(tmp_path):
    gpt, tokenizer = GPT(GPTConfig(vocab_size=9, context=8, layers=1, heads=1, width=8)), Characters.train("abcdefghi")
    gpt.eval().save_pretrained(tmp_path / "gpt2", tokenizer)
    found, same = models.load(tmp_path / "gpt2")
    np.testing.assert_allclose(found(np.array([[1, 2]])).data, gpt(np.array([[1, 2]])).data, atol=1e-6)
    assert same.decode([0, 1]) == tokenizer.decode([0, 1])


def test_what_is_neither_is_named(folder, tmp_path):
    with pytest.raises(ValueError, match=r"config.json"):
        models.load(tmp_path)
    for said, sentence in (({"family": "finetuned"}, "fine-tuned for a task; use it with: python -m train ask"),
                           ({"family": "rnn"}, "holds the run of a 'rnn'; known are gpt, "),
                           ({"model_type": "llama"}, "holds a published 'llama'; known are ")):  # fmt: skip
        (tmp_path / "config.json").write_text(json.dumps(said))
        with pytest.raises(ValueError, match=sentence):
            models.load(tmp_path)
    shutil.copytree(folder / "gpt", tmp_path / "cut")
    (tmp_path / "cut" / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"cut has no model.safetensors"):
        models.load(tmp_path / "cut")
