"""Post-processors: the special tokens around texts, and offsets without the space that a token carries.

`frame()` is what stands around one text, and around two; `trimmed(tokens, offsets)` are the offsets to report.
"""

from dataclasses import dataclass

from models.schema import Id, Whole
from models.tokenizers.base import Frame
from models.tokenizers.methods import WHITE_SPACE
from models.tokenizers.split import VISIBLE

Offsets = list[tuple[int, int]]
SPACES = VISIBLE[ord(" ")] + WHITE_SPACE


def framed(cls: str, sep: str, doubled: bool = False) -> Frame:
    """BERT's frame, with token types; doubled: RoBERTa's, with two separators between the texts and no types."""
    between, types = ([sep, sep], [0] * 6) if doubled else ([sep], [0, 0, 0, 1, 1])
    return Frame([cls, "A", sep], [cls, "A", *between, "B", sep], types)


def trim(tokens: list[str], offsets: Offsets, prefixed: bool) -> Offsets:
    """"Ġworld" is reported without its space. prefixed: the one in front of the text was put there and has no place."""
    trimmed = []
    for number, (token, (start, end)) in enumerate(zip(tokens, offsets)):
        before, behind = len(token) - len(token.lstrip(SPACES)), len(token) - len(token.rstrip(SPACES))
        if not (before == 1 and prefixed and (number == 0 or start == 0)):
            start = min(start + before, end)
        if behind and end >= behind:
            end = max(end - behind, start)
        trimmed.append((start, end))
    return trimmed


@dataclass(frozen=True)
class ByteLevel:
    """trim_offsets: tokens are reported without their spaces."""

    add_prefix_space: bool = True
    trim_offsets: bool = True
    use_regex: bool = True

    def frame(self) -> Frame | None:
        return None

    def named(self) -> dict[str, int]:
        return {}

    def trimmed(self, tokens: list[str], offsets: Offsets) -> Offsets:
        return trim(tokens, offsets, self.add_prefix_space) if self.trim_offsets else offsets


@dataclass(frozen=True)
class BertProcessing:
    """[CLS] A [SEP] B [SEP], of types 0 0 0 1 1."""

    sep: tuple[str, Id]
    cls: tuple[str, Id]

    def frame(self) -> Frame | None:
        return framed(self.cls[0], self.sep[0])

    def named(self) -> dict[str, int]:
        """The ids of the special tokens by name."""
        return dict([self.sep, self.cls])

    def trimmed(self, tokens: list[str], offsets: Offsets) -> Offsets:
        return offsets


@dataclass(frozen=True)
class RobertaProcessing:
    """<s> A </s> </s> B </s>, all of type 0; and what ByteLevel does."""

    sep: tuple[str, Id]
    cls: tuple[str, Id]
    trim_offsets: bool = True
    add_prefix_space: bool = True

    def frame(self) -> Frame | None:
        return framed(self.cls[0], self.sep[0], doubled=True)

    def named(self) -> dict[str, int]:
        return dict([self.sep, self.cls])

    def trimmed(self, tokens: list[str], offsets: Offsets) -> Offsets:
        return trim(tokens, offsets, self.add_prefix_space) if self.trim_offsets else offsets


@dataclass(frozen=True)
class Place:
    id: str
    type_id: Whole


@dataclass(frozen=True)
class Named:
    id: str
    ids: list[Id]
    tokens: list[str]


@dataclass(frozen=True)
class TemplateProcessing:
    """Any arrangement: single and pair are lists of {"Sequence": {"id": "A", "type_id": 0}} for the texts and
    {"SpecialToken": ...} for what stands around them. XLNet's is A <sep> <cls> of types 0 0 2."""

    single: list[dict[str, Place]]
    pair: list[dict[str, Place]]
    special_tokens: dict[str, Named]

    def __post_init__(self):
        for item in [*self.single, *self.pair]:
            place = next(iter(item.values()), Place("nothing", 0))
            text, named = place.id in ("A", "B"), self.special_tokens.get(place.id)
            kind = "Sequence" if text else "SpecialToken" if named and len(named.ids) == 1 else None
            if [*item] != [kind]:
                raise ValueError(f"the template's {place.id!r} is neither a text, A or B, nor the name of one token")

    def frame(self) -> Frame | None:
        single, pair = ([next(iter(item.values())) for item in items] for items in (self.single, self.pair))
        types = [place.type_id for place in single]
        return Frame([place.id for place in single], [place.id for place in pair],
                     [place.type_id for place in pair], types if any(types) else ())

    def named(self) -> dict[str, int]:
        return {name: named.ids[0] for name, named in self.special_tokens.items()}

    def trimmed(self, tokens: list[str], offsets: Offsets) -> Offsets:
        return offsets

    @classmethod
    def of(cls, frame: Frame, ids: dict[str, int]):
        """The template that says what a frame says."""
        def item(name: str, type_id: int) -> dict[str, Place]:
            return {"Sequence" if name in ("A", "B") else "SpecialToken": Place(name, type_id)}

        used = sorted({*frame.single, *frame.pair} - {"A", "B"})
        return cls([item(*one) for one in zip(frame.single, frame.single_types or [0] * len(frame.single))],
                   [item(*one) for one in zip(frame.pair, frame.types)],
                   {name: Named(name, [ids[name]], [name]) for name in used})


@dataclass(frozen=True)
class Sequence:
    """One after another."""

    processors: tuple

    def __post_init__(self):
        if len([step for step in self.processors if step.frame()]) > 1:
            raise ValueError("two post-processors put special tokens around a text; that is not supported")

    def frame(self) -> Frame | None:
        return next((frame for step in self.processors if (frame := step.frame())), None)

    def named(self) -> dict[str, int]:
        return {name: i for step in self.processors for name, i in step.named().items()}

    def trimmed(self, tokens: list[str], offsets: Offsets) -> Offsets:
        for step in self.processors:
            offsets = step.trimmed(tokens, offsets)
        return offsets


PROCESSORS = (RobertaProcessing, BertProcessing, ByteLevel, TemplateProcessing, Sequence)
