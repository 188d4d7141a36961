"""Any tokenizer.json: the text is led through the steps that the file names, one after another.

Added tokens are cut out in front, those of the text as it is written before those of the normalized text; what is left
is normalized, cut into words, and each word becomes tokens. Words are remembered with their tokens.

Where the file is GPT-2's, BERT's or another that a scheme of our own follows faster, `load` gives that scheme instead.
"""

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
STRIP = [(step,) for step in (normalizers.Strip(False, True), normalizers.Strip(True, True),
                              normalizers.Replace(Regex(r"\A +| +\z"), ""))]
SPACE_IN_GRAPHEME = regex.compile(r"\p{GCB=Prepend}|\s[\p{GCB=Extend}\p{GCB=SpacingMark}\p{GCB=ZWJ}]")
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
        self.whole = {special: WordCache(partial(self._ids_of_word, special=special)) for special in (False, True)}
        self.spaces = separators(steps, self._normalize)
        self.odd = ["▁", *(set(WHITE_SPACE) - set(self.spaces))]
        replaced = "".join([rule.pattern.String for rule in listed(steps.normalizer)
                            if isinstance(rule, normalizers.Replace) and isinstance(rule.pattern, String)])
        self.inert = {one for one in map(chr, range(33, 127)) if one not in replaced and  # what no rule changes
                      self.spaces and self._normalize(Piece.of(f"a{one}b")).text == f"a{one}b"}

    # ---- encoding and decoding

    def encode(self, text: str, special: bool = False) -> list[int]:
        """The ids of a text. With special=True the names of special tokens in the text stand for themselves."""
        known, whole, ids = self.known[special], self.whole[special], []
        known.make_room()
        try:
            if not self._word_by_word(text):
                for piece, token in self._words(text, special):
                    ids += [token.id] if token else [i for i, _, _ in known[piece.text]]
                return ids
            for start, end, token in find_added(text, self.written, special):
                part = text[start:end]
                for space in self.spaces[1:]:
                    part = part.replace(space, " ")
                ids.extend([token.id] if token else whole.ids(part.split(" ")))
            return ids
        except UnicodeEncodeError:
            raise no_text(text) from None

    def _word_by_word(self, text: str) -> bool:
        """Whether the words between white space can be encoded one by one, and so remembered as they are written."""
        if self.normalized or not self.spaces or any(one in text for one in self.odd):
            return False
        return text.isascii() or not SPACE_IN_GRAPHEME.search(text)

    def _ids_of_word(self, word: str, special: bool) -> list[int]:
        known = self.known[special]
        if word and self.inert.issuperset(word):
            return [i for i, _, _ in known.encode_word("▁" + word)]
        return [i for part in self._cut(self._normalize(Piece.of(word))) for i, _, _ in known[part.text]]

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


def separators(steps: Steps, normalize: Callable[[Piece], Piece]) -> list[str]:
    """What parts words of which each can be encoded by itself, " " first; nothing where they can't.

    So it is with SentencePiece's vocabularies, as T5's: white space is squeezed, and a mark leads every word.
    """
    rules, cuts = listed(steps.normalizer), listed(steps.pre_tokenizer)
    squeezed = cuts[:1] == (WhitespaceSplit(),)
    if not squeezed and rules[-1:] and rules[-1] in SQUEEZE and rules[-2:-1] in STRIP:
        squeezed, rules = True, rules[:-2]
    plain = all(isinstance(rule, WORD_BY_WORD) or (isinstance(rule, normalizers.Replace) and " " not in rule.content and
                isinstance(rule.pattern, String) and not set(rule.pattern.String) & set(WHITE_SPACE)) for rule in rules)
    spaces = [one for one in " \t\n\r" if normalize(Piece.of(f"a{one}b")).text == "a b"]
    return spaces if squeezed and plain and cuts[-1:] == (Metaspace(),) and len(cuts) < 3 and " " in spaces else []
