"""Learning to answer questions about pictures: a scene is drawn, and what is asked about it stands behind in one row.

    | 64 patches | What do you see? a big red ball in the park | Is there a dog? no | How many things are red? one | ...

Each text sees the picture and itself only (models/sight.py), so that a picture is read once for several questions.
There is a loss at the answers and at their ends, and nowhere else. What is asked is drawn anew each time that a scene
comes up; pictures are drawn when they are needed, at any number of pixels. The first pictures have one thing, and later
ones more: which word means which pixels is learned where there is nothing to mix up.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from models.config import option
from models.schema import Count, Whole, check_fields
from models.sight import SightConfig
from models.tokenizers import Tokenizer
from tinytensor import random
from tinytensor.ops.softmax import IGNORED
from train.data import pictures
from train.data.pictures import Scene
from train.data.questions import ask
from train.objectives import Objective
from train.objectives.windows import EVALUATION, in_batches, spread
from train.trainer import TrainConfig

CAPTION, STORY = "What do you see?", "Tell a story."  # what is asked for from every picture, one or the other


@dataclass(frozen=True)
class Asking:
    """How much is asked about a picture."""

    questions: Count = option(6, "asked about a picture at most, beside its caption or story")
    room: Count = option(72, "tokens of questions and answers beside a picture; what does not fit is not asked")
    grow: Whole = option(900, "batches until pictures may have a thing more; the first have one (0: any at once)")

    def __post_init__(self):
        check_fields(self)


@dataclass(frozen=True)
class Pictured(Objective):
    """A batch is {"ids", "targets", "parts": (B, T), "pixels": (B, side, side, 3)}, T as long as its longest row.

    data: scenes, as numbers.
    """

    tokenizer: Tokenizer = field(repr=False)
    side: int
    context: int  # the longest text
    batch: int
    asking: Asking = Asking()
    seed: int = 0

    def check(self, data: np.ndarray, what: str) -> None:
        if len(data) < pictures.WIDTH:
            raise ValueError(f"the {what} part has no scene; give more --data or --stories")

    def training_batch(self, data: np.ndarray, number: int) -> dict[str, np.ndarray]:
        """Pictures of one thing first: what is asked of them has one answer to be found, whatever names it."""
        most = 1 + number // self.asking.grow if self.asking.grow else pictures.MOST
        with random.seeded(self.seed, number) as chance:
            return self._made(data, chance.choice(len(data) // pictures.WIDTH, self.batch), chance, most)

    def evaluation_batches(self, data: np.ndarray, limit: int | None = None) -> list[np.ndarray]:
        return in_batches(spread(len(data) // pictures.WIDTH, limit and limit * self.batch), self.batch)

    def evaluation_batch(self, data: np.ndarray, key: np.ndarray) -> dict[str, np.ndarray]:
        with random.seeded(self.seed, int(key[0]), EVALUATION) as chance:
            return self._made(data, key, chance)

    def _made(self, data: np.ndarray, places: np.ndarray, chance: np.random.Generator, most: int = pictures.MOST
              ) -> dict[str, np.ndarray]:  # fmt: skip
        found = [pictures.scene_of(data[pictures.WIDTH * i : pictures.WIDTH * (i + 1)].tolist()) for i in places]
        found = [pictures.thinned(scene, most, chance) for scene in found]
        return self.rows([(scene, list(self._asked(scene, chance))) for scene in found], self.asking.room)

    def _asked(self, scene: Scene, chance: np.random.Generator) -> Iterator[tuple[str, str]]:
        yield (CAPTION, scene.caption) if chance.random() < 0.5 else (STORY, scene.story)
        for question in ask(scene, self.asking.questions, chance):
            yield question.text, question.answer

    def rows(self, asked: list[tuple[Scene, list[tuple[str, str]]]], room: int) -> dict[str, np.ndarray]:
        """A batch with a row for each scene, with the (questions, answers) that fit into `room` tokens."""
        ids = np.full((len(asked), room), self.end)
        targets, parts = np.full_like(ids, IGNORED), np.full_like(ids, -1)
        for row, (_, texts) in enumerate(asked):
            start = 0
            for part, (question, answer) in enumerate(texts):
                read, said = self.encoded(question), (*self.encoded(" " + answer), self.end)
                stop, length = start + len(read) + len(said) - 1, len(read) + len(said) - 1
                if stop <= room and length <= self.context:
                    ids[row, start:stop] = [*read, *said[:-1]]
                    targets[row, start + len(read) - 1 : stop] = said
                    parts[row, start:stop], start = part, stop
        pixels = np.stack([pictures.draw(scene, self.side) for scene, _ in asked])
        used = max(1, int((parts >= 0).sum(axis=1).max()))
        return {"ids": ids[:, :used], "targets": targets[:, :used], "parts": parts[:, :used], "pixels": pixels}

    @functools.cached_property
    def end(self) -> int:
        return end_of(self.tokenizer)

    def encoded(self, text: str) -> tuple[int, ...]:
        known = self.__dict__.setdefault("_known", {})
        if text not in known:
            if len(known) > 100_000:  # captions and stories are endless
                known.clear()
            known[text] = tuple(self.tokenizer.encode(text))
        return known[text]


def end_of(tokenizer: Tokenizer) -> int:
    """The token behind an answer: the tokenizer's own end, else the end of a line."""
    return tokenizer.encode("\n")[-1] if tokenizer.end_id is None else tokenizer.end_id


def pictured(model: SightConfig, training: TrainConfig, settings: Asking, tokenizer: Tokenizer) -> Pictured:
    return Pictured(tokenizer, model.side, model.context, training.batch, settings, training.seed)


@dataclass
class SceneEncoder:
    """Stands for a tokenizer when a corpus is built: it makes numbers of scenes that are told in lines."""

    tokenizer: Tokenizer

    dtype = np.uint16

    def __post_init__(self):
        for text in spoken(scene.line() for scene in islice(pictures.scenes(0), 20)):
            self.tokenizer.encode(text)  # one that cannot spell it says so now

    def encode_array(self, text: str) -> np.ndarray:
        lines = [line for line in text.splitlines() if line.strip()]
        return np.array([number for line in lines for number in pictures.numbers(pictures.parse(line))], self.dtype)

    def gives_back(self, text: str) -> bool:
        """Never: what is learned is said about the scenes, and drawn anew each time."""
        return False


def spoken(texts: Iterable[str], most: int = 2000) -> Iterator[str]:
    """What is said about the first scenes of a corpus, for a tokenizer to learn from."""
    lines = (line for text in texts for line in text.splitlines() if line.strip())
    with random.seeded(0) as chance:
        for _, line in zip(range(most), lines):
            scene = pictures.parse(line)
            yield "\n".join([f"{CAPTION} {scene.caption}", f"{STORY} {scene.story}",
                             *(f"{one.text} {one.answer}" for one in ask(scene, 16, chance))])  # fmt: skip
