"""tokenizer.json as it is published: how its layout is read and written.

A published folder holds `tokenizer.json` (the layout of the `tokenizers` library: normalizer, pre_tokenizer, model,
decoder, post_processor and added tokens in one file) or the older files of its scheme (`vocab.json` + `merges.txt`,
`vocab.txt`, `spiece.model`). We read both and write tokenizer.json.
"""

from collections.abc import Iterable
from pathlib import Path

from models.files import read_json, read_text, write_json, write_text
from models.tokenizers.base import Frame, Special, Tokenizer, file_to_read, tokenizer_file

BPE = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
       "fuse_unk": False, "byte_fallback": False, "ignore_merges": False}


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


def framed(cls: str, sep: str, doubled: bool = False) -> Frame:
    """BERT's frame, with token types; doubled: RoBERTa's, with two separators between the texts and no types."""
    between, types = ([sep, sep], [0] * 6) if doubled else ([sep], [0, 0, 0, 1, 1])
    return Frame([cls, "A", sep], [cls, "A", *between, "B", sep], types)


class TokenizerJson:
    """A tokenizer.json that has been read and checked as far as every scheme needs it."""

    def __init__(self, path: str | Path, kind: str):
        self.path = file_to_read(path)
        self.spec = read_json(self.path, "a tokenizer")
        self.model = self.spec.get("model")
        if not isinstance(self.model, dict):
            raise ValueError(f"{self.path} has no model: it is not a tokenizer.json of a published kind")
        found = self.model.get("type", "BPE" if "merges" in self.model else None)
        if found != kind:
            raise ValueError(f"{self.path} holds a {found} model, not {kind}; open it with models.tokenizers.load")
        self.model["type"] = kind

    def steps(self, part: str, plural: str) -> dict[str, dict]:
        """The steps of a normalizer, pre_tokenizer, decoder or post_processor by type, one or a Sequence of them."""
        step = self.spec.get(part) or {}
        steps = step.get(plural, []) if step.get("type") == "Sequence" else [step] if step else []
        return {step["type"]: step for step in steps}

    def vocab(self) -> dict[str, int]:
        vocab = self.model.get("vocab")
        if not isinstance(vocab, dict) or not all(isinstance(i, int) and i >= 0 for i in vocab.values()):
            raise ValueError(f"{self.path}: model.vocab is not a table of tokens and ids")
        return vocab

    def pieces(self) -> list[tuple[str, float]]:
        """The vocabulary of a Unigram model."""
        vocab = self.model.get("vocab")
        if not isinstance(vocab, list) or not all(isinstance(entry, list) and len(entry) == 2 for entry in vocab):
            raise ValueError(f"{self.path}: model.vocab is not a list of pieces and scores")
        return [(piece, float(score)) for piece, score in vocab]

    def merges(self) -> list[tuple[str, str]]:
        """Pairs, or strings with a space between as older files have them."""
        merges = [tuple(merge.split(" ") if isinstance(merge, str) else merge)
                  for merge in self.model.get("merges", [])]
        if bad := next((merge for merge in merges if len(merge) != 2), None):
            raise ValueError(f"{self.path}: merge {merges.index(bad) + 1}, {' '.join(bad)!r}, is not a pair of tokens")
        return merges

    def special(self) -> dict[str, Special]:
        return {token["content"]: Special(token["id"], token.get("lstrip", False), token.get("rstrip", False))
                for token in self.spec.get("added_tokens") or []}

    def frame(self) -> Frame:
        """What the post_processor puts around texts."""
        steps = self.steps("post_processor", "processors")
        if "TemplateProcessing" in steps:
            single, pair = ([next(iter(item.values())) for item in steps["TemplateProcessing"][kind]]
                            for kind in ("single", "pair"))
            return Frame([item["id"] for item in single], [item["id"] for item in pair],
                         [item["type_id"] for item in pair])
        if "BertProcessing" in steps or "RobertaProcessing" in steps:
            step = steps.get("BertProcessing") or steps["RobertaProcessing"]
            return framed(step["cls"][0], step["sep"][0], doubled="RobertaProcessing" in steps)
        return Frame()

    def pad_token(self, *usual: str) -> str | None:
        """The padding token the file names, else the first of the usual ones that it has."""
        named = (self.spec.get("padding") or {}).get("pad_token")
        return named or next((token for token in usual if token in self.special()), None)


def write_published(path: str | Path, tokenizer: Tokenizer, *, model: dict, decoder: dict, pre_tokenizer: dict,
                    normalizer: dict | None = None) -> None:
    """Writes tokenizer.json: the scheme's own parts as given, special tokens and frame as the tokenizer has them."""
    special, frame = tokenizer.special, tokenizer.frame
    used = sorted({*frame.single, *frame.pair} - {"A", "B"})

    def item(name, type_id):
        return {"Sequence" if name in ("A", "B") else "SpecialToken": {"id": name, "type_id": type_id}}

    template = {"type": "TemplateProcessing", "single": [item(name, 0) for name in frame.single],
                "pair": [item(name, type_id) for name, type_id in zip(frame.pair, frame.types)],
                "special_tokens": {name: {"id": name, "ids": [special[name].id], "tokens": [name]} for name in used}}
    added = [{"id": token.id, "content": name, "single_word": False, "lstrip": token.lstrip, "rstrip": token.rstrip,
              "normalized": False, "special": True}
             for name, token in sorted(special.items(), key=lambda entry: entry[1].id)]
    padding = tokenizer.pad_token and {
        "strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": None,
        "pad_id": tokenizer.pad_id, "pad_type_id": 0, "pad_token": tokenizer.pad_token}
    write_json(tokenizer_file(path), {
        "version": "1.0", "truncation": None, "padding": padding, "added_tokens": added, "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer, "post_processor": template if used else None, "decoder": decoder,
        "model": model})
