"""The files that tokenizers were published in before tokenizer.json.

Those are vocab.json with merges.txt, vocab.txt, spiece.model, and three beside them that say which tokens are special
and how the text is cleaned.

special_tokens_map.json and tokenizer_config.json name a token for each role (pad_token, mask_token, ...), as a string
or with its options; added_tokens.json has the ids of tokens outside the vocabulary. What is added without a role is a
word that is found in every text.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from models.files import read_json, read_text, write_json, write_text
from models.schema import check
from models.tokenizers.base import Special
from models.tokenizers.pipeline.file import Padding, Published, Truncation, usual_pad_token

MOST = 10**9  # model_max_length of a model without a limit is a number beyond any text's


@dataclass
class Beside:
    """config: of tokenizer_config.json;   roles: a token's entry by its role;   ids: of added_tokens.json."""

    path: Path
    config: dict
    roles: dict[str, object]
    ids: dict[str, int]

    def option(self, name: str, kind: object, usual: object):
        """An option of tokenizer_config.json."""
        return check(self.config[name], kind, f"{self.path.with_name('tokenizer_config.json')}: {name}"
                     ) if self.config.get(name) is not None else usual

    def name(self, role: str, usual: str) -> str:
        """The token of a role."""
        entry = self.roles.get(role, usual)
        return entry["content"] if isinstance(entry, dict) else entry

    def added(self, vocab: dict[str, int], usual: Iterable[str] = ()) -> dict[str, Special]:
        """The added tokens by name: those of the roles, the usual ones that the vocabulary has, and other words."""
        entries = {name: name for name in usual} | {
            entry["content"] if isinstance(entry, dict) else entry: entry for entry in self.roles.values()}
        known = vocab | self.ids
        tokens = {}
        for name in [*entries, *self.ids]:
            if name in known and name not in tokens:
                entry = entries.get(name)
                entry = entry if isinstance(entry, dict) else {"lstrip": name == "<mask>"}
                flags = {flag: entry.get(flag, False) is True for flag in ("lstrip", "rstrip", "single_word")}
                tokens[name] = Special(known[name], **flags, normalized=name not in entries, special=name in entries)
        for i, entry in self.option("added_tokens_decoder", dict[str, dict], {}).items():
            flags = {flag: entry.get(flag, False) is True
                     for flag in ("lstrip", "rstrip", "single_word", "normalized", "special")}
            tokens[entry["content"]] = Special(int(i), **flags)
        return tokens

    def finish(self, file: Published) -> Published:
        """With the padding and the greatest length that tokenizer_config.json names."""
        pad = self.name("pad_token", usual_pad_token(file.added) or "")
        left = self.option("padding_side", str, "right") == "left"
        if left and pad in file.added:
            file.padding = Padding(direction="Left", pad_id=file.added[pad].id, pad_token=pad)
        longest = self.option("model_max_length", float, MOST)
        if longest < MOST:
            side = "Left" if self.option("truncation_side", str, "right") == "left" else "Right"
            file.truncation = Truncation(side, int(longest))
        return file


def read_beside(path: Path) -> Beside:
    """What stands in the files beside a vocabulary."""
    config, roles, ids = (read_json(path.with_name(name)) if path.with_name(name).exists() else {}
                          for name in ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"))
    roles = roles | {name: entry for name, entry in config.items() if name.endswith(("_token", "_tokens"))}
    named = {name: entry for name, entry in roles.items() if name.endswith("_token") and isinstance(entry, (str, dict))}
    for more in (roles.get("additional_special_tokens"), roles.get("extra_special_tokens")):
        more = more.values() if isinstance(more, dict) else more or []
        named |= {f"{number}": entry for number, entry in enumerate(more)}
    return Beside(path, config, named, check(ids, dict[str, int], str(path.with_name("added_tokens.json"))))


def read_merges(path: str | Path) -> list[tuple[str, str]]:
    """merges.txt: a version line, then one merge a line, the first learnt first."""
    merges = []
    for number, line in enumerate(read_text(path, "a tokenizer").split("\n"), 1):
        if line.startswith("#version") or not line.strip():
            continue
        pair = line.rstrip("\r").split(" ")
        if len(pair) != 2 or "" in pair:
            raise ValueError(f"{path}, line {number}: {line[:60]!r} is not two tokens with a space between")
        merges.append(tuple(pair))
    return merges


def write_two_files(folder: str | Path, vocab: dict[str, int], merges: Iterable[tuple[str, str]]) -> None:
    """The two files that GPT-1 and GPT-2 were published with: vocab.json and merges.txt."""
    write_json(Path(folder) / "vocab.json", vocab)
    write_text(Path(folder) / "merges.txt", "\n".join(["#version: 0.2", *map(" ".join, merges), ""]))
