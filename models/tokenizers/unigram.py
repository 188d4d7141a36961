"""Unigram: the tokenizer of T5 and ALBERT (Kudo 2018, arXiv:1804.10959; Kudo & Richardson 2018, SentencePiece).

Every piece has a probability, a segmentation the product of its pieces', and text is cut into the likeliest one,
found by dynamic programming over the positions (Viterbi). Nothing is merged; the vocabulary is learnt by starting
too large and dropping the pieces that are missed least (unigram_training.py).

As SentencePiece has it:
- text is normalized, spaces become U+2581 and one leads the text (sentencepiece.py)
- a character that is no piece costs 10 more than the worst piece; a run of such becomes one <unk>
- `sample` draws a segmentation instead of taking the best: subword regularization for training
Against it: words are segmented one by one and remembered, as no piece of such a vocabulary spans two words.
"""

import base64
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Self

import numpy as np

from models.schema import FewOrNone
from models.tokenizers import sentencepiece
from models.tokenizers.base import Frame, Special, Tokenizer, distinct, file_to_read
from models.tokenizers.methods import WordCache
from models.tokenizers.older import read_beside
from models.tokenizers.pipeline import decoders, pretokenizers
from models.tokenizers.pipeline.file import (
    Published,
    Steps,
    listed,
    read_published,
    read_step,
    step_table,
    write_published,
)
from models.tokenizers.pipeline.models import UNKNOWN_PENALTY, likeliest, piece_table
from models.tokenizers.pipeline.models import Unigram as Segmenter
from models.tokenizers.pipeline.normalizers import Sequence
from models.tokenizers.pipeline.postprocessors import framed
from models.tokenizers.sentencepiece import MARK, UNKNOWN_TEXT, align, normalizer, squeeze
from models.tokenizers.unigram_training import learn_pieces

T5_TOKENS = ("<pad>", "</s>", "<unk>")
T5_FRAME = Frame(["A", "</s>"], ["A", "</s>", "B", "</s>"], [0] * 4)
SQUEEZE = [{"type": "Strip", "strip_left": True, "strip_right": True},
           {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]
OWN_STEPS = [{"type": "Replace", "pattern": {"String": "\x85"}, "content": " "},  # a line end that Nmt overlooks
             {"type": "Nmt"}, {"type": "NFKC"}, *SQUEEZE]


class Unigram(Tokenizer):
    """pieces: (piece, log probability) by id; the special ones take no part in segmentation."""

    opening = MARK

    def __init__(self, pieces: list[tuple[str, float]], special: dict[str, Special], unk_token: str = "<unk>",
                 steps: list[dict] | None = None, prefix: bool = True, collapse: bool = True,
                 frame: Frame | None = None, pad_token: str | None = None):
        if unk_token not in special:
            raise ValueError(f"{unk_token!r} is not among the special tokens {sorted(special)}; a Unigram needs it for "
                             f"characters that are no piece")
        if frame is None:
            albert = framed("[CLS]", "[SEP]") if {"[CLS]", "[SEP]"} <= special.keys() else None
            frame = T5_FRAME if "</s>" in special else albert
        super().__init__(special, frame, pad_token or next((one for one in ("<pad>", "[PAD]") if one in special), None))
        self.pieces, self.unk_token, self.unk_id = pieces, unk_token, special[unk_token].id
        self.rules = OWN_STEPS if steps is None else steps
        self.normalize, self.prefix, self.collapse = normalizer(self.rules), prefix, collapse
        by_id = {i: piece for i, (piece, _) in enumerate(pieces)} | {one.id: name for name, one in special.items()}
        self.tokens = [by_id.get(i) for i in range(max(by_id) + 1)]
        ordinary = [(piece, score, i) for i, (piece, score) in enumerate(pieces) if piece not in special and piece]
        self.unknown_score = min([score for _, score, _ in ordinary], default=0.0) - UNKNOWN_PENALTY
        self.table = piece_table(ordinary)
        by_words = prefix and collapse and not any(MARK in piece[1:] for piece, _, _ in ordinary)
        self.separators = [one for one in " \t\n\r" if by_words and self.normalize(one) == " "]
        self.cache = WordCache(lambda raw: [i for word in marked_words(self.normalize(raw))
                                            for i, _ in self.segment(word)])

    @classmethod
    def train(cls, texts: str | Iterable[str], vocab_size: int, special_tokens: Iterable[str] = T5_TOKENS,
              extra_ids: int = 0, progress=None, steps: list[dict] = OWN_STEPS, frame: Frame | None = None) -> Self:
        """Learns pieces by expectation maximization and pruning; vocab_size counts all tokens.

        extra_ids: T5's sentinels <extra_id_0>, <extra_id_1>, ... at the end of the vocabulary, the first one last.
        steps: of the normalizer.   frame: around texts, if not the one that the special tokens tell.
        """
        special_tokens, sentinels = distinct(special_tokens, "<unk>"), sentinel_names(extra_ids)
        normalize = normalizer(steps)
        wanted = vocab_size - len(special_tokens) - len(sentinels)
        pieces = learn_pieces(texts, lambda text: marked_words(normalize(text)), wanted, progress)
        pieces = [*((token, 0.0) for token in special_tokens), *pieces, *((token, 0.0) for token in sentinels)]
        ids = {piece: i for i, (piece, _) in enumerate(pieces)}
        special = {token: Special(ids[token]) for token in [*special_tokens, *sentinels]}
        return cls(pieces, special, steps=steps, frame=frame)

    # ---- encoding and decoding

    def encode_plain(self, text: str) -> list[int]:
        if not self.separators:
            text = self.normalize(text)
            text, _ = squeeze(text, [(0, 0)] * len(text), self.prefix, self.collapse)
            return self.fuse([i for i, _ in self.segment(text)])
        for separator in self.separators[1:]:
            text = text.replace(separator, " ")
        return self.fuse(self.cache.ids(text.split(" ")))

    def fuse(self, ids: Iterable[int]) -> list[int]:
        """Neighbouring unknowns become one."""
        ids = list(ids)
        if self.unk_id not in ids:
            return ids
        return [i for i, before in zip(ids, [None, *ids]) if i != self.unk_id or before != self.unk_id]

    def segment(self, text: str) -> list[tuple[int, int]]:
        """The likeliest pieces of normalized text: (id, end) of each. Unknown characters come one by one."""
        return likeliest(text, self.table, self.unknown_score, self.unk_id)

    def sample(self, text: str, rng: np.random.Generator, alpha: float = 0.1) -> list[int]:
        """A segmentation drawn with probability proportional to P(segmentation)^alpha; alpha=0 draws evenly.

        Forwards, total[end] sums over all segmentations of text[:end]; backwards, each piece is drawn in proportion
        to what it adds to that sum.
        """
        text, _ = squeeze(*align(self.normalize, text), self.prefix, self.collapse)
        n, total, arriving = len(text), [0.0] + [-math.inf] * len(text), [[] for _ in range(len(text) + 1)]
        for i in range(n):
            single = False
            for end in range(i + 1, n + 1):
                found = self.table.get(text[i:end], False)
                if found is False:
                    break
                if found is not None:
                    single = single or end == i + 1
                    arriving[end].append((total[i] + alpha * found[0], i, found[1]))
            if not single:
                arriving[i + 1].append((total[i] + alpha * self.unknown_score, i, self.unk_id))
            total[i + 1] = float(np.logaddexp.reduce([score for score, _, _ in arriving[i + 1]]))
        ids, end = [], n
        while end:
            weights = np.exp([score - total[end] for score, _, _ in arriving[end]])
            _, end, i = arriving[end][rng.choice(len(weights), p=weights / weights.sum())]
            ids.append(i)
        return self.fuse(ids[::-1])

    def spans(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        normalized, places = squeeze(*align(self.normalize, text), self.prefix, self.collapse)
        ids, offsets, start = [], [], 0
        for i, end in self.segment(normalized):
            if i == self.unk_id and ids and ids[-1] == i:
                offsets[-1] = (offsets[-1][0], places[end - 1][1])
            else:
                ids.append(i)
                offsets.append((places[start][0], places[end - 1][1]))
            start = end
        return ids, offsets

    def decode(self, ids: Iterable[int]) -> str:
        """The normalized text; every unknown is shown as a double question mark."""
        text = ""
        for k, piece in enumerate(self.tokens_of(ids)):
            if self.prefix and (k == 0 or (self.collapse and not text)):
                piece = piece.removeprefix(MARK)
            text += UNKNOWN_TEXT if piece == self.unk_token else piece.replace(MARK, " ")
        return text

    # ---- files

    def save(self, path: str | Path) -> None:
        """Writes tokenizer.json into a folder, or to a path ending in .json."""
        scheme = "always" if self.prefix else "never"
        mark, to_text = pretokenizers.Metaspace(MARK, scheme), decoders.Metaspace(MARK, scheme)
        rules = Sequence(tuple(read_step(rule, "normalizer", path) for rule in self.rules))
        model = Segmenter(self.unk_id, self.pieces, False)
        write_published(path, self, self.model or model, Steps(rules, mark, None, to_text))

    @classmethod
    def load(cls, path: str | Path, extra_ids: int | None = None) -> Self:
        """Reads tokenizer.json, SentencePiece's spiece.model, or a folder with either.

        extra_ids: how many sentinels to append to a spiece.model. The default is tokenizer_config.json's, else 100
        for a model that has T5's special tokens and none for others.
        """
        path = file_to_read(path, "spiece.model")
        if path.suffix == ".model":
            return cls.from_spiece(path, extra_ids)
        file = read_published(path)
        file.need("Unigram")
        if file.model.byte_fallback or file.model.unk_id is None:
            raise ValueError(f"{path} falls back to bytes for unknown characters, or has none; "
                             f"open it with models.tokenizers.load")
        return cls.follow(file)

    @classmethod
    def of(cls, file: Published) -> Self | None:
        """The tokenizer of a file that this class wrote; None of any other."""
        model, steps = file.model, file.steps
        rules = [step_table(step, "normalizer") for step in listed(steps.normalizer)]
        if (not isinstance(model, Segmenter) or model.byte_fallback or model.unk_id is None or rules[-2:] != SQUEEZE
                or steps.pre_tokenizer not in (pretokenizers.Metaspace(MARK, scheme) for scheme in ("always", "never"))
                or any(token.normalized or token.single_word for token in file.added.values())):
            return None
        return cls.follow(file)

    @classmethod
    def follow(cls, file: Published) -> Self:
        """The file's steps, as SentencePiece takes them."""
        pieces, unk_id, steps = file.model.pieces, file.model.unk_id, file.steps
        unk = pieces[unk_id][0]
        cut = next((cut for cut in listed(steps.pre_tokenizer) if isinstance(cut, pretokenizers.Metaspace)), None)
        if cut is None:
            raise ValueError(f"{file.path}: the pre_tokenizer has no Metaspace, so it does not follow SentencePiece")
        rules = [step_table(step, "normalizer") for step in listed(steps.normalizer)]
        collapse = any(rule["type"] in ("Replace", "Precompiled") for rule in rules)
        tokenizer = cls(pieces, file.added | {unk: file.added.get(unk, Special(unk_id))}, unk, rules,
                        cut.prepend_scheme != "never", collapse, steps.frame(), file.pad_token())
        tokenizer.model = file.model
        return file.finish(tokenizer)

    @classmethod
    def from_spiece(cls, path: Path, extra_ids: int | None) -> Self:
        """Every rule of a spiece.model as tokenizer.json would say it."""
        model = sentencepiece.read(path)
        if not model.plain:
            raise ValueError(f"{path} is not a plain unigram model; open it with models.tokenizers.load")
        file = added_to(model, path, extra_ids)
        pieces = [("" if kind == sentencepiece.UNUSED else piece, score) for piece, score, kind in model.pieces]
        behind = (name for name, one in file.added.items() if one.id >= len(model.pieces))
        pieces += [(name, 0.0) for name in behind if name.startswith("<extra_id_")]
        steps = [{"type": "Precompiled", "precompiled_charsmap": base64.b64encode(model.charsmap).decode()}]
        steps = (steps if model.charsmap else []) + SQUEEZE * model.collapse
        tokenizer = cls(pieces, file.added, model.pieces[model.unk_id][0], steps, model.prefix, model.collapse)
        tokenizer.truncation, tokenizer.padding, tokenizer.longest = file.truncation, file.padding, file.longest
        return tokenizer


def added_to(model: sentencepiece.SentencePieceModel, path: Path, extra_ids: int | None = None) -> Published:
    """What stands beside a model's file, and the tokens that it adds: special pieces, sentinels, and others."""
    beside, special = read_beside(path), model.special
    if extra_ids is None:
        usual = 100 if model.plain and set(special) == set(T5_TOKENS) else 0
        extra_ids = beside.option("extra_ids", FewOrNone, usual)
    special |= {name: Special(len(model.pieces) + i) for i, name in enumerate(sentinel_names(extra_ids))}
    ids = {piece: i for i, (piece, _, _) in enumerate(model.pieces)} | {name: one.id for name, one in special.items()}
    return beside.finish(Published(path, Steps(), Segmenter(None, []), special | beside.added(ids, special)))


def sentinel_names(count: int) -> list[str]:
    return [f"<extra_id_{i}>" for i in reversed(range(count))]


def marked_words(text: str) -> list[str]:
    """The words of normalized text, each with the mark in front."""
    return [MARK + word for word in text.split(" ") if word]
