"""Which scheme reads a published vocabulary: tokenizer.json, the files before it, SentencePiece's and tiktoken's."""

from pathlib import Path

from models.files import read_json
from models.tokenizers import xlnet
from models.tokenizers.base import Tokenizer, file_to_read
from models.tokenizers.bytelevel import ByteLevelBPE, read_gpt2
from models.tokenizers.classic import ClassicBPE, read_gpt1
from models.tokenizers.older import read_beside
from models.tokenizers.pipeline.file import Published, read_published
from models.tokenizers.pipeline.tokenizer import Pipeline
from models.tokenizers.sentencepiece import read as read_model
from models.tokenizers.spiece import SentencePiece
from models.tokenizers.unigram import Unigram
from models.tokenizers.wordpiece import WordPiece, read_vocab_txt

OLDER = ("spiece.model", "tokenizer.model", "vocab.txt", "vocab.json")  # than tokenizer.json


def read_vocabulary(folder: Path) -> Tokenizer:
    """The tokenizer of a file, or of the newest kind of file in a folder."""
    path = file_to_read(folder, *OLDER)
    if folder.is_dir() and not path.exists():
        raise ValueError(f"{folder} has no tokenizer.json, {', '.join(OLDER[:-1])} or {OLDER[-1]}")
    if path.suffix == ".model":
        model = read_model(path)
        if set(xlnet.TOKENS) <= {piece for piece, _, _ in model.pieces}:
            return xlnet.XLNetPieces.load(path)
        return (Unigram if model.plain else SentencePiece).load(path)
    if path.suffix == ".tiktoken":
        return ByteLevelBPE.load(path)
    if path.suffix == ".txt":
        return follow(read_vocab_txt(path))
    if path.name == "vocab.json":
        return follow((read_gpt1 if "</w>" in "".join(read_json(path, "a tokenizer")) else read_gpt2)(path))
    return follow(read_beside(path).finish(read_published(path)))


def follow(file: Published) -> Tokenizer:
    """The tokenizer of a published file: of the scheme whose steps it has, which is fast, else step by step."""
    for scheme in (ByteLevelBPE, ClassicBPE, WordPiece, Unigram):
        if (tokenizer := scheme.of(file)) is not None:
            return tokenizer
    return Pipeline.of(file)
