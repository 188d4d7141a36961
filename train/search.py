"""Find the sentences of a folder that a question is about: by the words they share, or by meaning.

A talker that answers from what was found can be checked: it names its source (models/chat.py, with_sources).
"""

import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Protocol

import numpy as np

from models.pretrained.text_vectors import text_vectors
from models.sentences import split_sentences, unwrapped
from train import checkpoint
from train.data.text import TextFiles
from train.embedding import embed, normalized, reader

K1, B = 1.2, 0.75
# Words that are in every second sentence and every question, and tell nothing of what either is about.
COMMON = """
a an the this that these those i you he she it we they me him her us them my your his its our their am is are was were
be been do does did has have had can could will would shall should may might must and or but not no if so as of to in on
at by for from with about into than then there here who whom whose what which where when why how tell please
"""
STOP = frozenset(COMMON.split())


def passages(files: TextFiles) -> dict[str, str]:
    """sentence -> the first file it stands in, of all sentences in files of text."""
    found = {}
    for file in files.files:
        for piece in file.read(0, file.size):
            for line in unwrapped(piece.splitlines()):
                for sentence in split_sentences(line):
                    found.setdefault(sentence.strip(), str(file.path))
    return found


class Finder(Protocol):
    """What scores texts for a question."""

    def scores(self, question: str) -> np.ndarray:
        """(N,): one a text, the higher the more it is about what is asked; 0 or less: not at all."""


class BM25:
    """Texts that share rare words with the question, often, and are short (Robertson & Zaragoza 2009, section 3).

    score(q, d) = sum over the words w of q of   idf(w) * f * (k1 + 1) / (f + k1 * (1 - b + b * |d| / mean |d|))
    idf(w) = log(1 + (N - n(w) + 1/2) / (n(w) + 1/2))

    f: how often w is in d, which has |d| words; n(w): in how many of the N texts it is. k1 says how soon more of
    the same word count for less, b how much a long text has to pay. The COMMON ones do not count.
    """

    def __init__(self, texts: list[str], k1: float = K1, b: float = B):
        counts = [Counter(content_words(text)) for text in texts]
        lengths = np.array([count.total() for count in counts], float)
        self.size, self.k1 = len(texts), k1
        self.slowed = k1 * (1 - b + b * lengths / max(lengths.mean(), 1e-9))  # (N,)
        self.where: dict[str, list[tuple[int, int]]] = defaultdict(list)  # word -> (number of the text, f) of each
        for number, count in enumerate(counts):
            for word, often in count.items():
                self.where[word].append((number, often))

    def scores(self, question: str) -> np.ndarray:
        total = np.zeros(self.size)
        for word in content_words(question):
            if word in self.where:
                numbers, f = np.array(self.where[word]).T
                idf = np.log(1 + (self.size - len(f) + 0.5) / (len(f) + 0.5))
                total[numbers] += idf * f * (self.k1 + 1) / (f + self.slowed[numbers])
        return total


class Meaning:
    """Texts whose vectors point where the question's does: the cosine, of vectors by a run or a published model."""

    def __init__(self, texts: list[str], model: Path, device: str = "cpu"):
        self.how = text_vectors(model)
        body, self.inputs = reader(*checkpoint.load_model(self.how.model), self.how.max_length)
        self.body = body.to(device)
        self.vectors = self._of(texts)

    def scores(self, question: str) -> np.ndarray:
        return self.vectors @ self._of([question], query=True)[0]

    def _of(self, texts: list[str], query: bool = False) -> np.ndarray:
        return normalized(embed(self.body, self.inputs, self.how.prepared(texts, query), self.how.pool))


class Library:
    """The sentences of a folder, or a file, and the best of them for a question.

    model: whose vectors tell what is about the question; None: the words that both have tell it (BM25).
    """

    def __init__(self, folder: Path, model: Path | None = None, device: str = "cpu"):
        self.folder = folder
        files = TextFiles(folder)
        self.passed_over, found = files.passed_over, passages(files)
        if not found:
            raise ValueError(f"{folder} holds no sentences")
        self.texts, self.files = list(found), list(found.values())
        self.finder: Finder = Meaning(self.texts, model, device) if model else BM25(self.texts)

    def find(self, question: str, most: int) -> list[int]:
        """The numbers of at most so many sentences, the best first; none where nothing is about the question."""
        scores = self.finder.scores(question)
        best = np.argsort(-scores, kind="stable")[:most]
        return [int(number) for number in best if scores[number] > 0]


def content_words(text: str) -> list[str]:
    """The words of a text in small letters, without the COMMON ones."""
    return [word for word in re.findall(r"\w+", text.lower()) if word not in STOP]
