"""Text to ids and back. The file of each scheme opens with the algorithm it follows.

All tokenizers share one surface: `train(texts, vocab_size)`, `encode`, `encode_batch`, `encode_array`,
`encode_with_offsets`, `decode`, `prepare`, `save`, `load`, `from_pretrained`, `vocab_size`, `special_tokens`, `id_of`,
and the ids that mean something: `pad_id`, `end_id`, `separator_id`, `mask_id`, `unk_id`.
"""

from pathlib import Path

from models.files import read_json
from models.hub import newest_snapshot
from models.tokenizers.base import Frame, Special, Tokenizer, file_to_read, pad
from models.tokenizers.bytelevel import ByteLevelBPE
from models.tokenizers.characters import Characters
from models.tokenizers.classic import ClassicBPE
from models.tokenizers.methods import Batch
from models.tokenizers.raw_bytes import Bytes, ElmoCharacters
from models.tokenizers.unigram import Unigram
from models.tokenizers.wordpiece import WordPiece
from models.tokenizers.words import Words

for scheme in (ByteLevelBPE, Bytes, Characters, ClassicBPE, ElmoCharacters, Unigram, WordPiece, Words):
    scheme.from_pretrained = scheme.load  # a published folder is opened like one of ours


def load(path: str | Path) -> Tokenizer | ElmoCharacters:
    """The tokenizer in a tokenizer.json, in any other vocabulary file, or in a folder, whatever its scheme."""
    folder = Path(path)
    if (folder / "snapshots").is_dir():
        folder = newest_snapshot(folder)
    path = file_to_read(folder, "spiece.model", "vocab.txt", "vocab.json")
    if folder.is_dir() and not path.exists():
        raise ValueError(f"{folder} has no tokenizer.json, spiece.model, vocab.txt or vocab.json")
    if path.name == "vocab.json":
        return (ClassicBPE if "</w>" in "".join(read_json(path, "a tokenizer")) else ByteLevelBPE).load(path)
    by_suffix = {".model": Unigram, ".txt": WordPiece, ".tiktoken": ByteLevelBPE}
    if path.suffix in by_suffix:
        return by_suffix[path.suffix].load(path)
    spec = read_json(path, "a tokenizer")
    model = spec["model"] if isinstance(spec.get("model"), dict) else {}
    kind = spec.get("type") or model.get("type")
    by_kind = {"Characters": Characters, "Bytes": Bytes, "ElmoCharacters": ElmoCharacters,
               "Words": Words, "WordPiece": WordPiece, "Unigram": Unigram}
    bpe = ClassicBPE if model.get("end_of_word_suffix") else ByteLevelBPE
    return by_kind.get(kind, bpe).load(path)
