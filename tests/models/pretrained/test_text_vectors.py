"""Folders in sentence-transformers' layout: what they say is followed, or refused by name."""

import json

import numpy as np
import pytest

import tinytensor as tt
from models import BERTConfig, BERTForPreTraining
from models.pretrained.text_vectors import TextVectors, text_vectors
from models.tokenizers import WordPiece
from train.__main__ import main
from train.embedding import normalized

TEXTS = ["red cup", "A very long text about a red cup and a blue hat!", "Blue hat?", "cup " * 30]
LONGEST = 12


def written(folder, steps=("Transformer", "Pooling", "Normalize"), model="", pooling=None, reading=None, more=None):
    """Such a folder around a small BERT: old names unless pooling says otherwise."""
    tokenizer = WordPiece.train([" ".join(TEXTS)], 60)
    with tt.random.seeded(1):
        config = BERTConfig(vocab_size=tokenizer.vocab_size, context=40, layers=2, heads=2, width=8, init_std=0.5)
        bert = BERTForPreTraining(config).bert
    bert.save_pretrained(folder / model)
    tokenizer.save(folder / model)
    (folder / "1_Pooling").mkdir(exist_ok=True)
    paths = {"Transformer": model, "Pooling": "1_Pooling"}
    listed = [{"idx": i, "name": str(i), "path": paths.get(step, f"{i}_{step}"),
               "type": f"sentence_transformers.models.{step}"} for i, step in enumerate(steps)]  # fmt: skip
    write(folder / "modules.json", listed)
    write(folder / "1_Pooling/config.json", pooling or {"pooling_mode_mean_tokens": True})
    write(folder / model / "sentence_bert_config.json", {"max_seq_length": LONGEST} if reading is None else reading)
    for name, table in (more or {}).items():
        write(folder / name, table)
    return folder


def write(path, value) -> None:
    path.write_text(json.dumps(value))


def test_what_a_folder_says_is_read(tmp_path):
    assert text_vectors(tmp_path) == TextVectors(tmp_path)
    assert text_vectors(written(tmp_path / "a")) == TextVectors(tmp_path / "a", "mean", True, 12)
    older = written(tmp_path / "b", ["Transformer", "Pooling"], "0_Transformer", {"pooling_mode_cls_token": True}, {})
    assert text_vectors(older) == TextVectors(older / "0_Transformer", "cls", False, 0)
    prompts = {"prompts": {"query": "find: ", "passage": "text: "}, "default_prompt_name": None}
    more = {"config_sentence_transformers.json": prompts, "tokenizer_config.json": {"model_max_length": 9}}
    newer = written(tmp_path / "c", pooling={"pooling_mode": "max"}, reading={"do_lower_case": True}, more=more)
    how = TextVectors(newer, "max", True, 9, True, "text: ", "find: ")
    assert text_vectors(newer) == how
    assert how.prepared(["ΌΣ"]) == ["text: όσ"] and how.prepared(["A"], query=True) == ["find: a"]


@pytest.mark.parametrize(
    "changes, message",
    [(dict(steps=["Transformer", "Pooling", "Dense"]), r"has the steps Transformer, Pooling, Dense; embed"),
     (dict(steps=["CLIPModel"]), r"modules.json has the steps CLIPModel; embed takes Transformer, Pooling"),
     (dict(pooling={"pooling_mode": "lasttoken"}), r"asks for the pooling lasttoken; embed has mean, cls, max"),
     (dict(pooling={"pooling_mode_mean_sqrt_len_tokens": True}), r"pooling_mode_mean_sqrt_len_tokens; embed"),
     (dict(pooling={"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}), r"pooling mean \+ max; embed"),
     (dict(reading={"max_seq_length": 0}), r"sentence_bert_config.json: max_seq_length"),
     (dict(reading={"transformer_task": "fill-mask"}), r"sentence_bert_config.json: transformer_task must be one of"),
     (dict(more={"modules.json": {"a": 1}}), r"modules.json"),
     (dict(pooling={"pooling_mode": "mean", "include_prompt": False},
           more={"config_sentence_transformers.json": {"prompts": {"query": "find: "}}}), r"include_prompt must be")],
)  # fmt: skip
def test_what_is_not_followed_is_refused_by_name(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        text_vectors(written(tmp_path, **changes))


@pytest.mark.parity
@pytest.mark.parametrize("steps", [("Transformer", "Pooling"), ("Transformer", "Pooling", "Normalize")])
@pytest.mark.parametrize("pool", ["mean", "cls", "max"])
def test_the_vectors_are_those_of_an_independent_computation(pool, steps, tmp_path):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    folder = written(tmp_path / "model", steps, pooling={"pooling_mode": pool})
    (tmp_path / "notes.txt").write_text("\n".join(TEXTS))
    assert main(["embed", str(tmp_path / "notes.txt"), "--model", str(folder), "--out", str(tmp_path / "v.npz")]) == 0
    found = np.load(tmp_path / "v.npz")
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), pad_token="[PAD]")
    inputs = tokenizer([*found["texts"]], padding=True, truncation=True, max_length=LONGEST, return_tensors="pt")
    assert inputs["input_ids"].shape[1] == LONGEST  # some of them are longer
    with torch.no_grad():
        hidden = transformers.AutoModel.from_pretrained(folder).eval()(**inputs).last_hidden_state.numpy()
    mask = inputs["attention_mask"].numpy()[..., None]
    want = {"mean": (hidden * mask).sum(1) / mask.sum(1), "cls": hidden[:, 0],
            "max": np.where(mask, hidden, -np.inf).max(1)}[pool]  # fmt: skip
    assert abs(found["vectors"] - (normalized(want) if "Normalize" in steps else want)).max() < 1e-5
