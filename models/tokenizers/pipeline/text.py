"""A piece of text on its way through the steps: what it reads now, and which characters of the original that came from.

Normalizers rewrite a piece, pre-tokenizers cut it; neither may lose where a character came from, for a token is
reported with its place in the original text. So a rewriting is said character by character, as the `tokenizers`
library says it: with how many of the old characters each new one takes the place of.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, Self

from models.tokenizers.patterns import compiled
from models.tokenizers.split import places

Behavior = Literal["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]
Found = list[tuple[int, int, bool]]  # (start, end, is it a match?), side by side over a whole text


@dataclass(slots=True)
class Piece:
    """text: as it reads now;  spans: of each of its characters, the (start, end) it came from in the original;
    start: where the piece began in the original when it was cut out."""

    text: str
    spans: list[tuple[int, int]]
    start: int = 0

    @classmethod
    def of(cls, text: str, start: int = 0) -> Self:
        """Original text, that stands at `start`."""
        return cls(text, list(zip(range(start, start + len(text)), range(start + 1, start + len(text) + 1))), start)

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where text[start:end] came from."""
        if start >= end or end > len(self.spans):
            return self.start + start, self.start + end
        return self.spans[start][0], self.spans[end - 1][1]

    def cut(self, start: int, end: int) -> Self:
        return Piece(self.text[start:end], self.spans[start:end], self.spans[start][0])

    def rewrite(self, changes: Iterable[tuple[str, int]], at: int = 0) -> Self:
        """The piece with other characters, from its old one number `at` on.

        changes: of each new character, 0: it takes the place of the next old one;  -n: of the next, and n more vanish
        behind it;  1: it is put in, and comes from where the one before it came from.
        """
        changes, spans = list(changes), []
        for _, change in changes:
            if change > 0:
                spans.append(self.spans[at - 1] if at else (self.start, self.start))
            else:
                spans.append(self.spans[at])
                at += 1 - change
        return Piece("".join([one for one, _ in changes]), spans, self.start)

    def translate(self, table: Callable[[str], str]) -> Self:
        """Every character becomes what the table says, one or more, or vanishes."""
        new = list(map(table, self.text))
        text = "".join(new)
        if text == self.text:
            return self
        if len(text) == len(new) and "" not in new:  # one for one
            return Piece(text, self.spans, self.start)
        return Piece(text, [span for some, span in zip(new, self.spans) for _ in some], self.start)

    def replace(self, found: Found, content: str) -> Self:
        """Every match becomes `content`, which comes from where the match's last character came from."""
        text, spans = [], []
        for start, end, matches in found:
            if not matches:
                text.append(self.text[start:end])
                spans += self.spans[start:end]
            else:
                text.append(content)
                spans += [self.spans[end - 1] if end else (self.start, self.start)] * len(content)
        return Piece("".join(text), spans, self.start)

    def prepend(self, content: str) -> Self:
        """Puts text in front, if there is any to stand in front of; it comes from where the first character did."""
        if not self.text:
            return self
        return Piece(content + self.text, self.spans[:1] * len(content) + self.spans, self.start)

    def split(self, found: Found, behavior: Behavior, invert: bool = False) -> list[Self]:
        """The pieces between the matches and what becomes of the matches themselves.

        "a-b" at "-": Removed a b, Isolated a - b, MergedWithPrevious a- b, MergedWithNext a -b; Contiguous is Isolated,
        but neighbouring matches stay together. invert: what does not match is the match.
        """
        found = [(start, end, matches != invert) for start, end, matches in found]
        if behavior == "Removed":
            found = [one for one in found if not one[2]]
        elif behavior != "Isolated":
            found = join(found, behavior)
        return [self.cut(start, end) for start, end, _ in found if start < end]


def join(found: Found, behavior: Behavior) -> Found:
    """Neighbours joined: equal ones, or each match with what stands before it, or behind it."""
    backwards = behavior == "MergedWithNext"
    joined, before = [], False
    for start, end, matches in reversed(found) if backwards else found:
        joins = matches == before if behavior == "Contiguous" else matches and not before
        if joins and joined:
            first, last, _ = joined[-1]
            joined[-1] = (start, last, False) if backwards else (first, end, False)
        else:
            joined.append((start, end, False))
        before = matches
    return joined[::-1] if backwards else joined


def covering(spans: Iterable[tuple[int, int]], length: int) -> Found:
    """The matches' (start, end), with what lies between them, before and behind."""
    found, done = [], 0
    for start, end in spans:
        if done < start:
            found.append((done, start, False))
        found.append((start, end, True))
        done = end
    if done < length:
        found.append((done, length, False))
    return found


@dataclass(frozen=True)
class String:
    """These very characters: {"String": " "}."""

    String: str

    def check(self) -> None:
        if not self.String:
            raise ValueError('the pattern {"String": ""} matches nothing; leave the step out')

    def find(self, text: str) -> Found:
        return covering([match.span() for match in re.finditer(re.escape(self.String), text)], len(text))


@dataclass(frozen=True)
class Regex:
    """A regular expression: {"Regex": "[0-9]{1,3}"}."""

    Regex: str

    def check(self) -> None:
        compiled(self.Regex, "a step")

    def find(self, text: str) -> Found:
        return covering(places(compiled(self.Regex, "a step"), text), len(text))


Pattern = String | Regex
