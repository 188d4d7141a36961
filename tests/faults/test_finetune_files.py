"""Files of examples with something wrong in them, for every kind of task: JSON lines and TSV."""

import json
import random
from functools import partial
from pathlib import Path

import pytest

from models.chat import MARKS, ChatInputs
from models.files import read_text
from models.inputs import TextInputs
from models.tokenizers import ByteLevelBPE, WordPiece
from models.tokenizers.added import with_special
from tests.faults.harness import changed, flipped, outcome, trials
from train.tasks import TASKS
from train.tasks.examples import examples_of, read_examples

pytestmark = pytest.mark.slow
EXAMPLES = {
    "classify": {"text": "a glad cat", "pair": "a sad dog", "label": "good"},
    "regress": {"text": "a glad cat", "pair": "a sad dog", "score": 1.5},
    "tag": {"words": ["the", "cat", "sat"], "tags": ["O", "B-x", "O"]},
    "answer": {"question": "who sat?", "context": "the cat sat", "answer": "the cat", "start": 0},
    "choose": {"text": "the cat", "choices": ["sat", "ran"], "label": 1},
    "text2text": {"input": "cat", "target": "tac", "task": "reverse"},
    "chat": {"messages": [{"role": "user", "content": "who?"}, {"role": "assistant", "content": "the cat"}]},
    "reward": {"messages": [{"role": "user", "content": "who?"}], "replies": ["the cat", "a dog"]},
    "draw": {"caption": "a red ball", "program": r"\fill[red] (1,2) circle (3);", "start": ""},
}


def used(kind: str, path: Path, inputs: TextInputs) -> None:
    """What fine-tuning does before the first step, and what a model's answers are compared with."""
    _, examples, held_out = examples_of(kind, path)
    task = TASKS[kind].of(examples, held_out)
    for example in held_out:
        task.rows(example, inputs)
        task.as_text(example)
    for example in read_examples(path, kind):
        task.rows({name: value for name, value in example.items() if name in task.asks}, inputs)
    scores = {"classify": "good", "regress": 1.0, "tag": ["O"], "answer": "the cat", "choose": 0, "text2text": "tac",
              "chat": "the cat", "reward": [1.0, 0.0], "draw": ""}
    answers = [scores[kind]] * len(held_out)
    if kind != "tag":
        task.score(held_out, answers)


def written(kind: str, suffix: str, draw: random.Random) -> bytes:
    """Twenty examples of which some, or the bytes they are written in, are damaged."""
    examples = [dict(EXAMPLES[kind]) for _ in range(20)]
    if kind == "classify":
        examples[0]["label"] = "bad"
    if suffix == ".tsv":
        words = lambda value: isinstance(value, list) and all(isinstance(word, str) for word in value)
        flat = lambda value: " ".join(value) if words(value) else str(value)
        rows = [[*EXAMPLES[kind]], *([flat(value) for value in example.values()] for example in examples)]
        row = draw.choice(rows)
        row[draw.randrange(len(row))] = draw.choice(["", "\t", "x" * 10**5, "nan", "1e999", "-1", '"', "\u2028", "\r"])
        data = "\n".join("\t".join(row) for row in rows).encode()
    else:
        for _ in range(draw.choice([1, 1, 5])):
            at = draw.randrange(len(examples))
            examples[at] = changed(examples[at], draw)
        data = "\n".join(json.dumps(example) for example in examples).encode()
    return flipped(data, draw) if draw.random() < 0.3 else data


def test_damaged_examples_are_used_or_refused_in_a_sentence(tmp_path):
    text, refused, well = [read_text(Path(__file__))], 0, 0
    inputs = TextInputs(WordPiece.train(text, 300), 32)
    talk = ChatInputs(with_special(ByteLevelBPE.train(text, 300), MARKS, 300), 64)
    for draw in trials(500, 6):
        kind, suffix = draw.choice([*EXAMPLES]), draw.choice([".jsonl", ".tsv"])
        path = tmp_path / f"examples{suffix}"
        path.write_bytes(written(kind, suffix, draw))
        if outcome(partial(used, kind, path, talk if TASKS[kind].talks else inputs), tmp_path):
            refused += 1
        else:
            well += 1
    assert well and refused
