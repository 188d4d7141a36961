"""What every tokenizer has in common: text to ids, and what the ids mean.

How a text is cut is the business of the other files in this folder; this one holds what does not depend on the scheme.
Special tokens (`<|endoftext|>`, `[SEP]`) are names outside the text: `encode` reads them as ordinary characters unless
`special=True` asks otherwise, so no user can write his way out of a prompt. What is not needed to follow how one text
becomes ids stands in methods.py: special tokens in a text, offsets, texts dressed for a model, batches.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.files import read_json, write_json
from models.schema import Id, checked


@dataclass
class Special:
    """An added token: its id, and whether it swallows the white space beside it (RoBERTa's <mask> does, to the left).

    single_word: it is found only where no letter touches it.   normalized: in the text as it reads after normalization.
    special: it is a name outside the text; one that is not is a word that is found in every text.
    """
    id: Id
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False
    normalized: bool = False
    special: bool = True


@dataclass
class Frame:
    """What surrounds one text, and two: "A" and "B" stand for the texts, the rest are special tokens.

    `types` gives the token type of every item of `pair`, `single_types` of `single` (empty: all type 0).
    """
    single: Sequence[str] = ("A",)
    pair: Sequence[str] = ("A", "B")
    types: Sequence[int] = (0, 1)
    single_types: Sequence[int] = ()


class Tokenizer:
    """The parent of all schemes. A scheme defines `encode_plain`, `spans`, `decode` and its files.

    tokens: every token as a readable string, by id (None where an id is unused).
    special: the special tokens by name;   words: other added tokens, which are found in every text.
    frame: how single texts and pairs are dressed for a model; pad_token fills up short rows.

    What its ids mean is asked of the tokenizer: pad_id, end_id, separator_id, mask_id, unk_id. Each is None where there
    is no such token, and whoever cannot do without one refuses in his own words.
    """

    unk_id: int | None = None  # stands for what no token spells; set by the schemes that need one
    opening: str | None = None  # what a token begins with that begins a word,
    continuing: str | None = None  # or one that goes on with a word; set by the schemes whose tokens tell
    truncation = padding = longest = steps = model = None  # what a published file says of these (pipeline/file.py)

    def __init__(self, special: dict[str, Special] | None = None, frame: Frame | None = None,
                 pad_token: str | None = None):
        self.special = {name: token for name, token in (special or {}).items() if token.special}
        self.words = {name: token for name, token in (special or {}).items() if not token.special}
        self.frame, self.pad_token = frame or Frame(), pad_token
        for token in {*self.frame.single, *self.frame.pair, pad_token} - {"A", "B", None}:
            if token not in self.special and token not in self.words:
                raise ValueError(f"the frame or padding uses {token!r}, which is not a special token; add it, "
                                 f"or choose one of {sorted(self.special)}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.vocab_size:,} tokens, special: {', '.join([*self.special][:5]) or 'none'})"

    # ---- text -> ids

    def encode(self, text: str, special: bool = False) -> list[int]:
        """The ids of a text. With special=True the names of special tokens in the text stand for themselves."""
        try:
            if not special and not self.words:
                return self.encode_plain(text)
            ids = []
            for start, end, token in self.split_special(text, special):
                ids += self.encode_plain(text[start:end]) if token is None else [token.id]
            return ids
        except UnicodeEncodeError:
            raise no_text(text) from None

    def encode_array(self, text: str) -> np.ndarray:
        """The ids as an array of the smallest unsigned type that holds the vocabulary."""
        return np.array(self.encode(text), dtype=self.dtype)

    # ---- vocabulary

    @property
    def vocab_size(self) -> int:
        return len(self.tokens)

    @property
    def special_tokens(self) -> dict[str, int]:
        """The ids of the special tokens by name."""
        return {name: token.id for name, token in self.special.items()}

    @property
    def added(self) -> dict[str, Special]:
        """Special tokens and words."""
        return self.special | self.words

    @property
    def dtype(self) -> type:
        return np.uint16 if len(self.tokens) <= 1 << 16 else np.uint32

    @property
    def pad_id(self) -> int | None:
        """Fills up short rows."""
        return self.added[self.pad_token].id if self.pad_token else None

    @property
    def separator_id(self) -> int | None:
        """Stands behind a text in the frame ([SEP], </s>), and so between one text and the next."""
        return self.special_tokens.get(dict(zip(self.frame.single, self.frame.single[1:])).get("A"))

    @property
    def end_id(self) -> int | None:
        """Ends a text that is written: what stands behind one in the frame, else <|endoftext|>."""
        return self.special_tokens.get("<|endoftext|>") if self.separator_id is None else self.separator_id

    @property
    def mask_id(self) -> int | None:
        """Stands where a token is to be guessed."""
        return self.special_tokens.get("[MASK]", self.special_tokens.get("<mask>"))

    @property
    def sentinel_ids(self) -> list[int]:
        """Of T5's <extra_id_0>, <extra_id_1>, ..., which stand for what was cut out; there may be none."""
        names = (f"<extra_id_{i}>" for i in range(len(self.special)))
        return [self.special[name].id for name in names if name in self.special]

    def check_ids(self, ids: Iterable[int]) -> list[int]:
        """The ids as a list; ValueError names the first one that is no token."""
        ids, tokens = np.asarray(ids).ravel().tolist() if isinstance(ids, np.ndarray) else list(ids), self.tokens
        if ids and not (min(ids) >= 0 and max(ids) < len(tokens)):
            at = next(i for i, one in enumerate(ids) if not 0 <= one < len(tokens))
            raise ValueError(f"id {ids[at]} at position {at} is outside the vocabulary of {len(tokens)} tokens; "
                             f"decode with the tokenizer that made the ids")
        if unused := [i for i in ids if tokens[i] is None]:
            raise ValueError(f"id {unused[0]} belongs to no token: the vocabulary file skips it")
        return ids

    def tokens_of(self, ids: Iterable[int]) -> list[str]:
        """The token of every id."""
        tokens = self.tokens
        return [tokens[i] for i in self.check_ids(ids)]

    def gives_back(self, text: str) -> bool:
        """Whether this text can be read from its ids, with its capitals, spaces and ends of lines."""
        return self.decode(self.encode(text)) == text


def distinct(special_tokens: Iterable[str], unknown: str | None = None) -> list[str]:
    """The special tokens of a vocabulary to be learnt: no name twice, and among them the one for what is unknown."""
    names = list(special_tokens)
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"the special token {twice[0]!r} is named twice; name each once")
    if unknown is not None and unknown not in names:
        raise ValueError(f"{unknown!r} is not among the special tokens {names}; it stands for what cannot be spelt")
    return names


def no_text(text: str) -> ValueError:
    at = next(i for i, character in enumerate(text) if "\ud800" <= character <= "\udfff")
    return ValueError(f"character {text[at]!r} at position {at} is half of a surrogate pair and stands for no text; "
                      f"decode the source with errors='replace'")


# ---- files

def tokenizer_file(path: str | Path) -> Path:
    """The file to write: itself if it ends in .json, else tokenizer.json in that folder."""
    path = Path(path)
    return path if path.suffix == ".json" else path / "tokenizer.json"


def file_to_read(path: str | Path, *older: str) -> Path:
    """The file itself; in a folder tokenizer.json, else the first of the older names that is there."""
    path = Path(path)
    if not path.is_dir():
        return path
    return next((path / name for name in ("tokenizer.json", *older) if (path / name).exists()), path / "tokenizer.json")


def read_own(path: str | Path, kind: str, form: type):
    """A tokenizer.json of our own small kind, for schemes that have no published layout.

    form: the dataclass that says what it holds beside its type.
    """
    path = file_to_read(path)
    spec = read_json(path, "a tokenizer")
    if spec.get("type") != kind:
        raise ValueError(f"{path} does not hold a {kind} tokenizer; open it with models.tokenizers.load")
    return checked(form, {name: value for name, value in spec.items() if name != "type"}, path)


def write_own(path: str | Path, kind: str, table: dict) -> None:
    """Writes such a file."""
    write_json(tokenizer_file(path), {"type": kind} | table)
