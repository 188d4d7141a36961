"""Published fine-tuned models, as `ask` reads them, against `transformers`."""

import json

import numpy as np
import pytest

from models import BERT, BERTConfig
from models.tokenizers import ByteLevelBPE, WordPiece, xlnet
from train import published
from train.__main__ import main

TEXTS = ["the cat sat on the mat", "a red hat", "the hat of the cat was red"]
LABELS = {0: "bad", 1: "fair", 2: "good"}


def tokenizer_of(kind: str):
    if kind == "xlnet":
        return xlnet.train(TEXTS, 40)
    if kind in ("bert", "albert", "distilbert"):
        return WordPiece.train([" ".join(TEXTS)], 40)
    special = ["<s>", "<pad>", "</s>"] if kind == "roberta" else []
    return ByteLevelBPE.train(" ".join(TEXTS), 280, special_tokens=special)


def written(folder, kind: str, ending: str, **changes):
    """(a model of `transformers` in a folder, its tokenizer)."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    from tests.models.pretrained.test_published_checkpoints import KINDS  # which needs both

    config, fields = KINDS[kind][2]
    tokenizer = tokenizer_of(kind)
    name = config.removesuffix("Config") + ending
    torch.manual_seed(1)
    sizes = fields | dict(vocab_size=tokenizer.vocab_size)
    model = getattr(transformers, name)(getattr(transformers, config)(**sizes, **changes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    tokenizer.save(folder)
    return model.eval()


def their_scores(model, arrays: dict) -> np.ndarray:
    import torch

    inputs = {"input_ids": torch.tensor(arrays["ids"][None])}
    if "distil" not in type(model).__name__.lower() and "GPT" not in type(model).__name__:
        inputs["token_type_ids"] = torch.tensor(arrays["token_types"][None])
    with torch.no_grad():
        found = model(**inputs)
    if hasattr(found, "start_logits"):
        return np.stack([found.start_logits[0].numpy(), found.end_logits[0].numpy()])
    return found.logits[0].numpy()


CASES = [(kind, ending) for kind, forms in published.HEADS.items() for ending in forms]


@pytest.mark.parity
@pytest.mark.parametrize("kind, ending", CASES)
def test_the_scores_are_those_of_transformers(kind, ending, tmp_path):
    changes = {} if ending == published.ANSWER else dict(num_labels=3, id2label=LABELS)
    theirs = written(tmp_path, kind, ending, **changes)
    tuned = published.load(tmp_path)
    asked = {published.CLASSIFY: [{"text": text} for text in TEXTS],
             published.TAG: [{"words": text.split()} for text in TEXTS],
             published.ANSWER: [{"question": "what", "context": TEXTS[0]}]}[ending]  # fmt: skip
    rows = tuned.rows(asked)
    together = tuned.model(tuned.pad([row.arrays for row in rows])).data
    answers = tuned.answers(asked)
    for row, ours, answer in zip(rows, together, answers):
        want = their_scores(theirs, row.arrays)
        if ending == published.CLASSIFY:
            assert answer == LABELS[int(want.argmax())]
        if ending == published.TAG:
            ours = ours[: len(want)]
            assert answer == [LABELS[int(i)] for i in want[row.notes].argmax(axis=1)]
        if ending == published.ANSWER:
            open_places = row.arrays["answerable"]
            ours, want = ours[:, : want.shape[1]][:, open_places], want[:, open_places]
        assert abs(ours - want).max() < 1e-5 * abs(want).max()


@pytest.mark.parity
def test_one_output_is_a_number_and_the_command_shows_it(tmp_path, capsys):
    theirs = written(tmp_path, "bert", published.CLASSIFY, num_labels=1)
    want = float(their_scores(theirs, published.load(tmp_path).inputs.text(TEXTS[0], TEXTS[1]))[0])
    assert main(["ask", str(tmp_path), TEXTS[0], TEXTS[1]]) == 0
    assert float(capsys.readouterr().out) == pytest.approx(want, rel=1e-4)


@pytest.mark.parametrize(
    "kind, name, more",
    [("distilbert", "DistilBertForSequenceClassification", {}), ("gpt2", "GPT2ForQuestionAnswering", {}),
     ("bert", "BertForMultipleChoice", {}), ("t5", "T5ForConditionalGeneration", {}),
     ("bert", "BertForSequenceClassification", {"problem_type": "multi_label_classification"})],
)  # fmt: skip
def test_heads_of_other_forms_are_refused_by_name(kind, name, more, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind, "architectures": [name], **more}))
    several = " that gives a text several labels" if more else ""
    with pytest.raises(ValueError, match=f"holds a {name}{several}, whose head is not of our form; ask reads bert's"):
        published.load(tmp_path)


def test_a_folder_without_the_heads_layer_is_refused(tmp_path):
    tokenizer = tokenizer_of("bert")
    BERT(BERTConfig(vocab_size=tokenizer.vocab_size, context=20, layers=1, heads=2, width=8)).save_pretrained(tmp_path)
    tokenizer.save(tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text())
    fields["architectures"] = ["BertForTokenClassification"]
    (tmp_path / "config.json").write_text(json.dumps(fields))
    with pytest.raises(ValueError, match=r"the checkpoint has no classifier.weight"):
        published.load(tmp_path)
