"""The two files that GPT-1 and GPT-2 were published with, written from a tokenizer of ours to be read again."""

import json

from models.tokenizers.bytelevel import show


def write_two_files(tokenizer, folder):
    """vocab.json and merges.txt: a version line, then one merge a line, the first learnt first."""
    vocab = {token: i for i, token in enumerate(tokenizer.tokens)}
    merges = [[show(token) if isinstance(token, bytes) else token for token in pair] for pair in tokenizer.merges]
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in merges), ""]
    (folder / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
