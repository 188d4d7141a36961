"""A vector for a text, or for each of its tokens, from any body that makes them (models/contract.py).

A model that was only pretrained gives fair vectors of texts; one trained on pairs of like sentences (Reimers & Gurevych
2019) good ones.
"""

from collections.abc import Iterator

import numpy as np

import tinytensor as tt
from models.contract import Body, Model
from models.families import family_of
from models.inputs import TextInputs
from models.pretrained.text_vectors import POOLS
from models.tokenizers import Tokenizer
from nn import evaluating
from tinytensor import backend
from train.report import bar


def reader(model: Model, tokenizer: Tokenizer, max_length: int = 0) -> tuple[Body, TextInputs]:
    """(body, inputs) of a pretrained model that makes a vector of every token: all but the encoder-decoders.

    max_length: tokens that a text is cut to, if the model can read as many (0: the most it can).
    """
    family = family_of(model)
    if family.body is None:
        raise ValueError(f"a {type(model).__name__} writes texts and makes no vectors of them; give an encoder")
    longest = family.usual_length or model.config.context
    return family.reader(model, tokenizer, min(max_length or longest, longest), for_task=False)


def features(body: Body, inputs: TextInputs, rows: list[dict], batch: int = 32) -> Iterator[tuple[int, np.ndarray]]:
    """(number of the row, its tokens' vectors (T, C)) of all rows. Rows of like length are read together."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]["mask"]))  # so that there is hardly any padding
    with evaluating(body), tt.no_grad():
        for start in bar(range(0, len(order), batch), "reading"):
            chosen = order[start : start + batch]
            found = backend.to_numpy(body.features(inputs.pad([rows[i] for i in chosen])).data)  # (B, T, C)
            yield from ((i, vectors[: len(rows[i]["mask"])]) for i, vectors in zip(chosen, found))


def embed(body: Body, inputs: TextInputs, texts: list[str], pool: str = "mean", batch: int = 32,
          normalize: bool = True) -> np.ndarray:  # fmt: skip
    """texts -> (N, C), every row of length 1 if normalize.

    pool: "mean" of all tokens' vectors, special tokens included (as sentence-transformers does); "cls", the first
    one's; or "max", the largest number at each place.
    """
    if pool not in POOLS:
        raise ValueError(f"unknown pool {pool!r}; choose from {', '.join(POOLS)}")
    rows = [inputs.text(text) for text in bar(texts, "cutting into tokens")]
    if empty := [text for text, row in zip(texts, rows) if not len(row["mask"])]:
        raise ValueError(f"the text {empty[0]!r} has no token to make a vector of")
    vectors = np.zeros((len(texts), body.feature_width), np.float32)
    for i, found in features(body, inputs, rows, batch):
        vectors[i] = found[0] if pool == "cls" else found.max(axis=0) if pool == "max" else found.mean(axis=0)
    return normalized(vectors) if normalize else vectors


def normalized(vectors: np.ndarray) -> np.ndarray:
    """The same directions, of length 1."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def nearest(query: np.ndarray, vectors: np.ndarray, k: int) -> list[tuple[int, float]]:
    """(number, cosine) of the k rows of `vectors` most like `query`, best first; all of length 1."""
    cosines = vectors @ query
    return [(int(i), float(cosines[i])) for i in np.argsort(-cosines, kind="stable")[:k]]
