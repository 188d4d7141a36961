"""Text to ids and back. The file of each scheme opens with the algorithm it follows.

All tokenizers share one surface: `train(texts, vocab_size)`, `encode`, `encode_batch`, `encode_array`,
`encode_with_offsets`, `decode`, `prepare`, `save`, `load`, `from_pretrained`, `vocab_size`, `special_tokens`, `id_of`.
"""

from pathlib import Path

from models.files import read_json
from models.hub import newest_snapshot
from models.tokenizers.base import Frame, Special, Tokenizer, file_to_read
from models.tokenizers.bytelevel import ByteLevelBPE
from models.tokenizers.characters import Characters
from models.tokenizers.classic import ClassicBPE
from models.tokenizers.methods import Batch
from models.tokenizers.padding import pad
from models.tokenizers.pipeline.tokenizer import Pipeline
from models.tokenizers.published import read_vocabulary
from models.tokenizers.raw_bytes import Bytes, ElmoCharacters
from models.tokenizers.spiece import SentencePiece
from models.tokenizers.unigram import Unigram
from models.tokenizers.wordpiece import WordPiece
from models.tokenizers.words import Words
from models.tokenizers.xlnet import XLNetPieces

OWN = {scheme.__name__: scheme for scheme in (Bytes, Characters, ElmoCharacters, SentencePiece, Words, XLNetPieces)}
for scheme in (*OWN.values(), ByteLevelBPE, ClassicBPE, Pipeline, Unigram, WordPiece):
    scheme.from_pretrained = scheme.load  # a published folder is opened like one of ours


def load(path: str | Path) -> Tokenizer | ElmoCharacters:
    """The tokenizer in a tokenizer.json, in any other vocabulary file, or in a folder, whatever its scheme."""
    folder = newest_snapshot(path) if (Path(path) / "snapshots").is_dir() else Path(path)
    path = file_to_read(folder)
    own = read_json(path, "a tokenizer").get("type") if path.suffix == ".json" and path.exists() else None
    return OWN[own].load(path) if isinstance(own, str) and own in OWN else read_vocabulary(folder)
