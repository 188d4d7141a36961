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
from models.schema import Id, check, checked
from models.tokenizers.base import Special
from models.tokenizers.pipeline.file import AddedToken, Padding, Published, Truncation

FLAGS = ("lstrip", "rstrip", "single_word", "normalized", "special")
MOST = 10**9  # model_max_length of a model without a limit is a number beyond any text's


@dataclass
class Beside:
    """config: of tokenizer_config.json;   roles: the entry of each role's token;   ids: of added_tokens.json."""

    folder: Path
    config: dict
    roles: dict[str, object]
    ids: dict[str, int]

    def option(self, name: str, kind: object, usual: object):
        """An option of tokenizer_config.json."""
        value, where = self.config.get(name), f"{self.folder / 'tokenizer_config.json'}: {name}"
        return usual if value is None else check(value, kind, where)

    def name(self, role: str, usual: str) -> str:
        """The token of a role."""
        return name_of(self.roles.get(role, usual))

    def added(self, vocab: dict[str, int], usual: Iterable[str] = ()) -> dict[str, Special]:
        """The added tokens by name: the usual ones that the vocabulary has, those of the roles, and other words."""
        entries: dict = {name: {"lstrip": name == "<mask>"} for name in usual}
        entries |= {name_of(entry): entry if isinstance(entry, dict) else entries.get(entry, {})
                    for entry in self.roles.values()}
        entries = {name: entry | {"special": True, "normalized": False} for name, entry in entries.items()}
        entries |= {name: {"normalized": True} for name in self.ids if name not in entries}
        known, tokens = vocab | self.ids, {}
        named = [(known[name], name, entry) for name, entry in entries.items() if name in known]
        named += [(int(i) if i.isdecimal() else i, name_of(entry), entry)
                  for i, entry in self.option("added_tokens_decoder", dict[str, dict], {}).items()]
        for i, name, entry in named:
            flags = {flag: entry[flag] for flag in FLAGS if flag in entry}
            tokens[name] = checked(AddedToken, {"id": i, "content": name} | flags, f"{self.folder}: {name}").token()
        return tokens

    def finish(self, file: Published) -> Published:
        """With the sides and the greatest length that tokenizer_config.json names, where the file itself has none."""
        pad = self.name("pad_token", file.pad_token() or "")
        if pad in file.added and file.padding is None and self.option("padding_side", str, "right") == "left":
            file.padding = Padding(direction="Left", pad_id=file.added[pad].id, pad_token=pad)
        if file.truncation is None and self.option("truncation_side", str, "right") == "left":
            file.truncation = Truncation("Left", None)
        longest = self.option("model_max_length", float, MOST)
        file.longest = int(longest) if longest < MOST else None
        return file


def name_of(entry: object) -> str:
    """A token that is named by itself, or by a table of its options."""
    return check(entry["content"] if isinstance(entry, dict) and "content" in entry else entry, str, "a token's name")


def read_beside(path: Path) -> Beside:
    """What stands in the files beside a vocabulary."""
    folder = path.parent
    config, roles, ids = (read_json(folder / name) if (folder / name).exists() else {}
                          for name in ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"))
    named = {name: entry for name, entry in (roles | config).items() if name.endswith("_token") and entry
             and not isinstance(entry, bool)}  # add_bos_token says true or false
    for more in (roles | config).get("additional_special_tokens"), config.get("extra_special_tokens"):
        more = check(list(more.values()) if isinstance(more, dict) else more or [], list, f"{folder}: special tokens")
        named |= {f"additional {name_of(entry)}": entry for entry in more}
    return Beside(folder, config, named, check(ids, dict[str, Id], str(folder / "added_tokens.json")))


def read_vocab(path: Path) -> dict[str, int]:
    """vocab.json: the id of every token."""
    return check(read_json(path, "a tokenizer"), dict[str, Id], str(path))


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
