"""Special tokens for a vocabulary that is already learned, such as the marks of who speaks in a conversation."""

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path

from models.files import read_json, write_json
from models.tokenizers import load
from models.tokenizers.base import Tokenizer
from models.tokenizers.pipeline.file import AddedToken


def with_special(tokenizer: Tokenizer, names: Sequence[str], first: int) -> Tokenizer:
    """The tokenizer with these special tokens, whose ids count from `first`: behind the rows of a model's table."""
    with tempfile.TemporaryDirectory() as folder:  # the published file has a place for them; what reads it, makes them
        path = Path(folder) / "tokenizer.json"
        tokenizer.save(path)
        table = read_json(path)
        if "added_tokens" not in table:
            kind = type(tokenizer).__name__
            raise ValueError(f"a {kind} tokenizer takes no further tokens; train a model with --tokenizer bpe")
        new = [AddedToken(first + n, name, special=True) for n, name in enumerate(names)]
        write_json(path, table | {"added_tokens": [*table["added_tokens"], *map(dataclasses.asdict, new)]})
        return load(path)
