"""A vector for a text, so that texts about like things have vectors in like directions, and search by that.

Any body with `features` will do (models/heads.py): the mean of its tokens' vectors, or the first token's. A model that
was only pretrained gives fair vectors; one trained on pairs of like sentences (Reimers & Gurevych 2019) good ones.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import tinytensor as tt
from models.contract import Body, Model
from models.families import family_of
from models.inputs import TextInputs
from models.sentences import split_sentences
from models.tokenizers import Tokenizer
from nn import evaluating
from tinytensor import backend
from train.data.corpus import TextFiles

POOLS = ("mean", "cls")


def reader(model: Model, tokenizer: Tokenizer) -> tuple[Body, TextInputs]:
    """(body, inputs) of a pretrained model that makes a vector of every token: all but the encoder-decoders."""
    family = family_of(model)
    if family.body is None:
        raise ValueError(f"a {type(model).__name__} writes texts and makes no vectors of them; give an encoder")
    return family.reader(model, tokenizer, for_task=False)


def embed(body: Body, inputs: TextInputs, texts: list[str], pool: str = "mean", batch: int = 32) -> np.ndarray:
    """texts -> (N, C), every row of length 1.

    pool: "mean" of all tokens' vectors, special tokens included (as sentence-transformers does), or "cls", the first
    one's. Texts of like length are read together, so there is hardly any padding.
    """
    if pool not in POOLS:
        raise ValueError(f"unknown pool {pool!r}; choose from {', '.join(POOLS)}")
    rows = [inputs.text(text) for text in texts]
    if empty := [text for text, row in zip(texts, rows) if not len(row["mask"])]:
        raise ValueError(f"the text {empty[0]!r} has no token to make a vector of")
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]["mask"]))
    vectors = np.zeros((len(texts), body.feature_width), np.float32)
    with evaluating(body), tt.no_grad():
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            arrays = inputs.pad([rows[i] for i in chosen])
            hidden = backend.to_numpy(body.features(arrays).data)  # (B, T, C)
            if pool == "cls":
                vectors[chosen] = hidden[:, 0]
            else:
                weight = arrays["mask"] / arrays["mask"].sum(axis=1, keepdims=True)
                vectors[chosen] = np.einsum("btc,bt->bc", hidden, weight.astype(hidden.dtype))
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def nearest(query: np.ndarray, vectors: np.ndarray, k: int) -> list[tuple[int, float]]:
    """(number, cosine) of the k rows of `vectors` most like `query`, best first; all of length 1."""
    cosines = vectors @ query
    k = min(k, len(cosines))
    best = np.argpartition(-cosines, k - 1)[:k] if k else np.zeros(0, int)
    return [(int(i), float(cosines[i])) for i in best[np.argsort(-cosines[best], kind="stable")]]


def passages(path: str | Path) -> list[tuple[str, str]]:
    """(file, sentence) of all sentences in a text file, or in a folder of them."""
    found = []
    files = TextFiles(path)
    for file, _ in files.files:
        for piece in TextFiles(file).read():
            found += [(str(file), s.strip()) for line in piece.splitlines() for s in split_sentences(line)]
    return found
