"""Any tokenizer.json: the text is led through the steps that the file names, one after another.

Added tokens are cut out in front, those of the text as it is written before those of the normalized text; what is left
is normalized, cut into words, and each word becomes tokens. Words are remembered with their tokens.

Where the file is GPT-2's, BERT's or another that a scheme of our own follows faster, `load` gives that scheme instead.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Self

import regex

from models.tokenizers.base import Special, Tokenizer, no_text
from models.tokenizers.methods import WHITE_SPACE, WordCache, find_added
from models.tokenizers.pipeline import normalizers, pretokenizers
from models.tokenizers.pipeline.file import Published, Steps, listed, read_published, write_published
from models.tokenizers.pipeline.models import Model, Unigram, WordPiece
from models.tokenizers.pipeline.pretokenizers import Metaspace, WhitespaceSplit
from models.tokenizers.pipeline.text import Piece, Regex, String
from models.tokenizers.split import VISIBLE

SQUEEZE = [normalizers.Replace(Regex(" {2,}"), one) for one in (" ", "▁")]
STRIP = [(normalizers.Strip(left, True),) for left in (False, True)]
WORD_BY_WORD = (normalizers.NFC, normalizers.NFD, normalizers.NFKC, normalizers.NFKD, normalizers.Lowercase,
                normalizers.StripAccents, normalizers.Nmt, normalizers.Precompiled)


class Pipeline(Tokenizer):
    """model: the dataclass of its kind;  steps: the others;  special: all added tokens by name."""

    def __init__(self, model: Model, steps: Steps, special: dict[str, Special] | None = None,
                 pad_token: str | None = None):
        super().__init__(special, steps.frame(), pad_token)
        self.model, self.steps = model, steps
        by_id = {i: token for token, i in model.vocab.items()} | {one.id: name for name, one in self.added.items()}
        self.tokens = [by_id.get(i) for i in range(max(by_id, default=-1) + 1)]
        self.unk_id = model.unk_id if isinstance(model, Unigram) else model.vocab.get(model.unk_token or "")
        self.continuing = model.continuing_subword_prefix if isinstance(model, WordPiece) else None
        cuts = {type(step) for step in listed(steps.pre_tokenizer)}
        self.opening = VISIBLE[ord(" ")] if pretokenizers.ByteLevel in cuts else "▁" if Metaspace in cuts else None
        self.written = {name: token for name, token in self.added.items() if not token.normalized}
        self.normalized: dict[str, Special] = {}
        for name, token in self.added.items():
            if token.normalized:
                self.normalized.setdefault(self._normalize(Piece.of(name)).text, token)
        self.shown = {token.id: name for name, token in self.normalized.items()}
        if "" in self.normalized:
            raise ValueError(f"nothing is left of the added token with id {self.normalized[''].id} by the normalizer; "
                             f"set its normalized to false")
        plain = model.without(set(self.special))
        self.known = {False: WordCache(plain.tokens), True: WordCache(model.tokens)}
        self.whole = {special: WordCache(partial(self._ids_of, special=special)) for special in (False, True)}
        self.separator, self.odd = separator(steps, self._normalize)

    # ---- encoding and decoding

    def encode(self, text: str, special: bool = False) -> list[int]:
        """The ids of a text. With special=True the names of special tokens in the text stand for themselves."""
        try:
            if self.normalized or not self.separator or self.odd.search(text):
                return list(self._ids_of(text, special))
            ids = []
            for start, end, token in find_added(text, self.written, special):
                words = [] if token else self.separator.split(text[start:end])
                ids += [token.id] if token else self.whole[special].ids(words)
            return ids
        except UnicodeEncodeError:
            raise no_text(text) from None

    def _ids_of(self, text: str, special: bool) -> list[int]:
        known, ids = self.known[special], []
        known.make_room()
        for piece, token in self._words(text, special):
            ids += [token.id] if token else [i for i, _, _ in known[piece.text]]
        return ids

    def encode_with_offsets(self, text: str, special: bool = False) -> tuple[list[int], list[tuple[int, int]]]:
        """The ids, and for each the (start, end) of the characters of the text that it came from."""
        ids, tokens, offsets = [], [], []
        try:
            for piece, token in self._words(text, special):
                found = [(token.id, 0, len(piece.text))] if token else self.known[special][piece.text]
                ids += [i for i, _, _ in found]
                tokens += [piece.text] if token else [self._written(piece.text, *one) for one in found]
                offsets += [piece.span(start, end) for _, start, end in found]
        except UnicodeEncodeError:
            raise no_text(text) from None
        return ids, self.steps.trimmed(tokens, offsets)

    def _words(self, text: str, special: bool) -> Iterator[tuple[Piece, Special | None]]:
        """The words of a text, and its added tokens."""
        for start, end, token in find_added(text, self.written, special):
            piece = Piece.of(text[start:end], start)
            if token:
                yield piece, token
                continue
            piece = self._normalize(piece)
            for first, last, token in find_added(piece.text, self.normalized, special):
                part = piece.cut(first, last)
                yield from [(part, token)] if token else ((word, None) for word in self._cut(part))

    def _normalize(self, piece: Piece) -> Piece:
        return self.steps.normalizer(piece) if self.steps.normalizer else piece

    def _cut(self, piece: Piece) -> list[Piece]:
        cut = self.steps.pre_tokenizer
        return [word for word in (cut(piece) if cut else [piece]) if word.text]

    def _written(self, word: str, i: int, start: int, end: int) -> str:
        """A token as the post-processor sees it: an unknown piece of a Unigram as it stands in the text."""
        return word[start:end] if i == self.unk_id and isinstance(self.model, Unigram) else self.tokens[i]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the ids, as the file's decoder makes it: often normalized, its spaces not as they were."""
        tokens = [self.shown.get(i, self.tokens[i]) for i in self.check_ids(ids)]
        return "".join(self.steps.decoder(tokens)) if self.steps.decoder else " ".join(tokens)

    # ---- files

    def save(self, path: str | Path) -> None:
        """Writes tokenizer.json into a folder, or to a path ending in .json."""
        write_published(path, self, self.model, self.steps)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads any tokenizer.json of a published kind, or a folder with one."""
        return cls.of(read_published(path))

    @classmethod
    def of(cls, file: Published) -> Self:
        return file.finish(cls(file.model, file.steps, file.added, file.pad_token()))


def separator(steps: Steps, normalize: Callable[[Piece], Piece]) -> tuple[re.Pattern | None, regex.Pattern | None]:
    """What parts words of which each can be encoded by itself (None where they can't), and what a text must not hold.

    So it is with SentencePiece's vocabularies, as T5's: white space is squeezed, and a mark leads every word.
    """
    rules, cuts = listed(steps.normalizer), listed(steps.pre_tokenizer)
    squeezed = cuts[:1] == (WhitespaceSplit(),)
    if not squeezed and rules[-1:] and rules[-1] in SQUEEZE and rules[-2:-1] in STRIP:
        squeezed, rules = True, rules[:-2]
    plain = all(isinstance(rule, WORD_BY_WORD) or (isinstance(rule, normalizers.Replace) and " " not in rule.content and
                isinstance(rule.pattern, String) and not set(rule.pattern.String) & set(WHITE_SPACE)) for rule in rules)
    spaces = [one for one in " \t\n\r" if normalize(Piece.of(f"a{one}b")).text == "a b"]
    if not (squeezed and plain and cuts[-1:] == (Metaspace(),) and len(cuts) < 3 and " " in spaces):
        return None, None
    others = "".join({*WHITE_SPACE} - {*spaces})
    return re.compile(f"[{''.join(spaces)}]+"), regex.compile(  # a space may be part of a grapheme
        rf"[▁\p{{GCB=Prepend}}{others}]|\s[\p{{GCB=Extend}}\p{{GCB=SpacingMark}}\p{{GCB=ZWJ}}]")
