"""The published sentence model all-MiniLM-L6-v2 against `transformers`; TINYTENSOR_MINILM is its folder.

See tests/models/tokenizers/published.py for where it comes from.
"""

import os
from pathlib import Path

import numpy as np
import pytest

from models.pretrained.text_vectors import TextVectors, text_vectors
from models.sentences import split_sentences
from models.tokenizers import load as load_tokenizer
from train import checkpoint
from train.__main__ import main
from train.data import stories
from train.embedding import embed, reader

pytestmark = pytest.mark.parity

AWKWARD = [
    "", "a", "!?", "naïve façade, Zürich", "日本語のテキスト and English", "🙂 smile", "x" * 150, "3.14 and 2,718 (e)",
    "don't can't won't", "  spaces   everywhere  ", "UPPER lower MiXeD", "http://example.com/a?b=c&d=e", "Привет, мир!",
    "मानक हिन्दी", "e = mc^2; \\frac{1}{2}", "\ttab\nnewline", "supercalifragilisticexpialidocious",
    "ﬁ ligature", "—dash–", "The quick brown fox jumps over the lazy dog. " * 40,
]  # fmt: skip


@pytest.fixture(scope="module")
def folder() -> Path:
    path = os.environ.get("TINYTENSOR_MINILM")
    if not path or not (Path(path) / "model.safetensors").exists():
        pytest.skip("TINYTENSOR_MINILM is not set to the model's folder")
    return Path(path)


@pytest.fixture(scope="module")
def sentences() -> list[str]:
    """100 of them: awkward ones, and ordinary ones of many lengths."""
    found = []
    for text in stories.corpus(80_000, seed=9).text.split("\n\n"):
        lines = [s for line in text.splitlines() for s in split_sentences(line)]
        found += [" ".join(lines[: 1 + len(found) % 5])] if lines else []
    return (AWKWARD + found)[:100]


def theirs(folder: Path, texts: list[str], max_length: int) -> np.ndarray:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    means = []
    for start in range(0, len(texts), 10):
        some = texts[start : start + 10]
        inputs = tokenizer(some, padding=True, truncation=True, max_length=max_length, return_tensors="pt")
        with torch.no_grad():
            hidden = model(**inputs).last_hidden_state
        weight = inputs["attention_mask"][..., None].float()
        means.append((hidden * weight).sum(1) / weight.sum(1))
    return torch.nn.functional.normalize(torch.cat(means)).numpy()


def test_embeddings_of_100_varied_sentences_are_those_of_transformers(folder, sentences):
    assert len(set(sentences)) == 100
    how = text_vectors(folder)
    assert how == TextVectors(folder, "mean", normalize=True, max_length=256)
    body, inputs = reader(*checkpoint.load_model(how.model), how.max_length)
    assert max(len(inputs.tokenizer.encode(text)) for text in sentences) > 256
    ours = embed(body, inputs, how.prepared(sentences), how.pool, normalize=how.normalize)
    assert abs(ours - theirs(folder, sentences, 256)).max() < 1e-5


def test_the_folders_tokenizer_is_read_as_it_was_published(folder, sentences):
    transformers = pytest.importorskip("transformers")
    published = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer = load_tokenizer(folder)
    for text in sentences:
        if len(text) < 1000:  # theirs cuts long texts
            assert tokenizer.dress(tokenizer.encode(text))[0] == published(text)["input_ids"]


def test_a_folder_of_text_is_searched_by_meaning(folder, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text(
        "Knead the dough for ten minutes. The train to the coast leaves at nine.\n"
        "A vector space has a basis. Our dog barks at every cat.\n"
    )
    for query, found in (
        ("how do I make bread?", "Knead the dough"),
        ("when can I travel to the sea?", "The train"),
        ("linear algebra", "A vector space"),
        ("noisy pets", "Our dog barks"),
    ):
        assert main(["embed", str(tmp_path), query, "--model", str(folder), "--top", "1", "--batch", "8"]) == 0
        assert found in capsys.readouterr().out
