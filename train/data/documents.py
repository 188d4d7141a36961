"""Text as documents of sentences, in the flat files of ids that every corpus is stored in.

A sentence ends with [SEP], a document with one more. In the text a blank line ends a document; a line may hold one
sentence (the format of BERT's published code) or a paragraph, which is cut behind . ! ? where a new sentence begins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.sentences import split_sentences
from models.tokenizers import Tokenizer


@dataclass
class SentenceEncoder:
    """Stands for a tokenizer when a corpus is built: its ids are those of the sentences, with their ends marked."""

    tokenizer: Tokenizer

    def __post_init__(self):
        if self.tokenizer.separator_id is None:
            raise ValueError("this tokenizer puts no special token behind a text, so sentences cannot be told apart")

    @property
    def dtype(self) -> type:
        return self.tokenizer.dtype

    def encode_array(self, text: str) -> np.ndarray:
        lines = [split_sentences(line) if line.strip() else [] for line in text.splitlines()]
        encoded = iter(self.tokenizer.encode_batch([sentence for line in lines for sentence in line]))
        ids, end = [], self.tokenizer.separator_id
        for line in lines:
            for sentence in [next(encoded) for _ in line]:
                ids += [*sentence, end] if sentence else []
            if not line:
                ids.append(end)
        return np.array(ids, self.dtype)

    def gives_back(self, text: str) -> bool:
        """Never: what stands between sentences is lost."""
        return False


class Documents:
    """Where the sentences and documents of a file of ids begin and end.

    Sentence s is tokens[starts[s] : stops[s]], without its end mark; document d has the sentences
    first[d] .. first[d + 1] - 1. Sentences and documents that hold nothing are left out.
    """

    def __init__(self, tokens: np.ndarray, end: int):
        ends = np.flatnonzero(np.asarray(tokens) == end)
        ends = np.append(ends, len(tokens)) if not len(ends) or ends[-1] != len(tokens) - 1 else ends
        starts = np.concatenate([[0], ends[:-1] + 1])
        full = ends > starts
        number = np.cumsum(~full)[full]  # of the document: how many empty sentences come before
        self.tokens, self.end = tokens, end
        self.starts, self.stops = starts[full], ends[full]
        self.first = np.append(np.flatnonzero(np.diff(number, prepend=-1)), len(number)).tolist()
        self.lengths = (self.stops - self.starts).tolist()

    def __len__(self) -> int:
        return len(self.first) - 1

    def ids(self, first: int, stop: int) -> np.ndarray:
        """The ids of the sentences first .. stop - 1. One end mark stays between two documents."""
        ids = np.asarray(self.tokens[self.starts[first] : self.stops[stop - 1]])
        ends = ids == self.end
        return ids[~ends | (ends & np.append(False, ends[:-1]))]
