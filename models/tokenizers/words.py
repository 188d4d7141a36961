"""Words: a token is a word or a punctuation mark, and a vocabulary is a list of them by falling frequency.

The scheme of language models before subwords, and of ELMo's, which needs it only to say what comes next: what it reads,
it reads by characters. So a word too rare to be predicted still has an id, by which its spelling can be found; ids from
`vocab_size` on are such words, and count as <UNK> where a word is to be predicted. Every sentence is dressed in <S> and
</S>. The published vocabulary is sorted this way too: a sampled softmax relies on it.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from models.schema import Count, Size
from models.sentences import find_words, words_of_sentences
from models.tokenizers.base import Special, Tokenizer, read_own, write_own

SPECIAL = ["<S>", "</S>", "<UNK>"]
START, END, UNKNOWN = range(3)
CLOSING = set(".,;:!?)’”")


@dataclass
class Saved:
    """What its file holds."""

    tokens: list[str]
    counts: list[Size]
    vocab_size: Count


class Words(Tokenizer):
    """tokens: <S>, </S>, <UNK> and all words, by falling frequency;   counts: how often each occurred, by id."""

    def __init__(self, tokens: list[str], counts: list[int], vocab_size: int | None = None):
        super().__init__({name: Special(id) for id, name in enumerate(SPECIAL)})
        if tokens[:3] != SPECIAL or len(tokens) != len(counts):
            raise ValueError("a vocabulary of words begins with <S>, </S> and <UNK>, and counts each of its words")
        self.tokens, self.counts, self.unk_id = tokens, counts, UNKNOWN
        self.predicted = len(tokens) if vocab_size is None else min(vocab_size, len(tokens))
        self.ids = {token: id for id, token in enumerate(tokens)}

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> Self:
        """The vocab_size most frequent words of the texts, marks included, and after them all others."""
        if vocab_size < 4:
            raise ValueError(f"vocab_size {vocab_size} has no room for a word beside <S>, </S>, <UNK>; use 4 or more")
        words, sentences = Counter(), 0
        for text in texts:
            for sentence in words_of_sentences(text):
                words.update(sentence)
                sentences += 1
        ranked = sorted(words.items(), key=lambda item: (-item[1], item[0]))
        unknown = sum(count for _, count in ranked[vocab_size - 3:])
        return cls(SPECIAL + [word for word, _ in ranked],
                   [sentences, sentences, unknown] + [count for _, count in ranked], vocab_size)

    @property
    def vocab_size(self) -> int:
        """How many words, the marks among them, are told apart where words are predicted."""
        return self.predicted

    def encode_plain(self, text: str) -> list[int]:
        return self.spans(text)[0]

    def spans(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        ids, spans = [], []
        for words in find_words(text):
            ids += [START, *(self.ids.get(word[0], UNKNOWN) for word in words), END]
            begin, end = words[0].start(), words[-1].end()
            spans += [(begin, begin), *(word.span() for word in words), (end, end)]
        return ids, spans

    def decode(self, ids: Iterable[int]) -> str:
        """Sentences on lines of their own, words with spaces between them: not the very text, but one that reads."""
        lines, fresh = [], True
        for id in self.check_ids(ids):
            if fresh and id not in (START, END):
                lines.append(self.tokens[id])
            elif id not in (START, END):
                lines[-1] += self.tokens[id] if self.tokens[id] in CLOSING else " " + self.tokens[id]
            fresh = id in (START, END)
        return "\n".join(lines)

    def save(self, path: str | Path) -> None:
        write_own(path, "Words", {"vocab_size": self.predicted, "tokens": self.tokens, "counts": self.counts})

    @classmethod
    def load(cls, path: str | Path) -> Self:
        return cls(**vars(read_own(path, "Words", Saved)))
