"""Draw what a caption asks for.   {"caption": "a big red ball", "program": TikZ, "start": TikZ (or none)}

A GPT learns it as a conversation: it reads the caption, and writes the program. To ask, `start` may hold the first
commands of one; the model goes on from there.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from models.gpt import GPT
from models.schema import Few, shown
from train.drawing import tikz
from train.drawing.score import score
from train.tasks.chat import MOST, Talker, said
from train.tasks.task import Row, Task, field

CAPTION = 40  # tokens of the context that are left to a caption


@dataclass(frozen=True)
class Draw(Task):
    """longest: the most tokens of a program."""

    kind: ClassVar[str] = "draw"
    columns: ClassVar[tuple[str, ...]] = ("caption", "program", "start")
    asks: ClassVar[tuple[str, ...]] = ("caption", "start")
    unit: ClassVar[str] = "perplexity"
    talks: ClassVar[bool] = True

    longest: Few = MOST

    @classmethod
    def of(cls, examples: list[dict], held_out: list[dict] = ()) -> Self:
        """Its examples' programs must be drawings."""
        for example in (*examples, *held_out):
            try:
                tikz.read(field(example, "program", str, cls.kind))
            except ValueError as error:
                raise ValueError(f"the example {shown(example.get('caption'))}: {error}") from None
        longest = max(len(example["program"].encode()) for example in (*examples, *held_out))
        return cls(min(MOST, longest + 1))  # no token is shorter than a byte

    def rows(self, example: dict, inputs) -> list[Row]:
        asked = {"role": "user", "content": field(example, "caption", str, self.kind)}
        if "program" in example:
            reply = {"role": "assistant", "content": field(example, "program", str, self.kind)}
            return [Row(inputs.learned([asked, reply]), (inputs.tokenizer, ""))]
        start = field(example, "start", str, self.kind) if example.get("start") else ""
        begun = inputs.tokenizer.encode(start)
        ids = np.array(inputs.prompt([asked], len(begun) + 1) + begun)
        arrays = {"ids": ids, "mask": np.ones(len(ids), bool), "prompt": np.int64(len(ids))}
        return [Row(arrays, (inputs.tokenizer, start))]

    def make_head(self, body: GPT, dropout: float) -> Talker:
        return Talker(body, min(self.longest, max(1, body.config.context - CAPTION)))

    def decode(self, row: Row, ids: np.ndarray) -> str:
        """The program, with the commands that it was given to begin with."""
        tokenizer, start = row.notes
        return start + said(ids, tokenizer)

    def score(self, examples: list[dict], answers: list[str]) -> dict[str, float]:
        captions, programs = ([example[name] for example in examples] for name in ("caption", "program"))
        return score(captions, answers, programs)

    def as_text(self, example: dict) -> tuple[str, str]:
        return f"draw: {field(example, 'caption', str, self.kind)}", example.get("program", "")
