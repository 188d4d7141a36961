"""Text to ids and back. The file of each scheme opens with the algorithm it follows.

All tokenizers share one surface: `train(texts, vocab_size)`, `encode`, `encode_batch`, `encode_array`,
`encode_with_offsets`, `decode`, `prepare`, `save`, `load`, `from_pretrained`, `vocab_size`, `special_tokens`, `id_of`,
and the ids that mean something: `pad_id`, `end_id`, `separator_id`, `mask_id`, `unk_id`.
"""

from pathlib import Path

from models.files import read_json
from models.hub import newest_snapshot
from models.tokenizers.base import Frame, Special, Tokenizer, file_to_read, pad
from models.tokenizers.bytelevel import ByteLevelBPE, read_gpt2
from models.tokenizers.characters import Characters
from models.tokenizers.classic import ClassicBPE, read_gpt1
from models.tokenizers.methods import Batch
from models.tokenizers.older import read_beside
from models.tokenizers.pipeline.file import Published, read_published
from models.tokenizers.pipeline.tokenizer import Pipeline
from models.tokenizers.raw_bytes import Bytes, ElmoCharacters
from models.tokenizers.sentencepiece import read as read_model
from models.tokenizers.spiece import SentencePiece
from models.tokenizers.unigram import Unigram
from models.tokenizers.wordpiece import WordPiece, read_vocab_txt
from models.tokenizers.words import Words

for scheme in (ByteLevelBPE, Bytes, Characters, ClassicBPE, ElmoCharacters, Pipeline, SentencePiece, Unigram,
               WordPiece, Words):  # fmt: skip
    scheme.from_pretrained = scheme.load  # a published folder is opened like one of ours


def load(path: str | Path) -> Tokenizer | ElmoCharacters:
    """The tokenizer in a tokenizer.json, in any other vocabulary file, or in a folder, whatever its scheme."""
    folder = Path(path)
    if (folder / "snapshots").is_dir():
        folder = newest_snapshot(folder)
    older = ("spiece.model", "tokenizer.model", "vocab.txt", "vocab.json")
    path = file_to_read(folder, *older)
    if folder.is_dir() and not path.exists():
        raise ValueError(f"{folder} has no tokenizer.json, {', '.join(older[:-1])} or {older[-1]}")
    if path.suffix == ".model":
        return (Unigram if read_model(path).plain else SentencePiece).load(path)
    if path.suffix == ".tiktoken":
        return ByteLevelBPE.load(path)
    if path.suffix == ".txt":
        return follow(read_vocab_txt(path))
    if path.name == "vocab.json":
        return follow((read_gpt1 if "</w>" in "".join(read_json(path, "a tokenizer")) else read_gpt2)(path))
    own = read_json(path, "a tokenizer").get("type")
    for scheme in (Bytes, Characters, ElmoCharacters, SentencePiece, Words):
        if scheme.__name__ == own:
            return scheme.load(path)
    return follow(read_beside(path).finish(read_published(path)))


def follow(file: Published) -> Tokenizer:
    """The tokenizer of a published file: of the scheme whose steps it has, which is fast, else step by step."""
    for scheme in (ByteLevelBPE, ClassicBPE, WordPiece, Unigram):
        if (tokenizer := scheme.of(file)) is not None:
            return tokenizer
    return Pipeline.of(file)
