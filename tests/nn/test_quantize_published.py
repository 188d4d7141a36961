"""A published sentence model, all-MiniLM-L6-v2, as small integers: its vectors must still point where they did.

The model's folder is fetched by tests/models/tokenizers/published.py; TINYTENSOR_MINILM says where it is.
"""

import copy
import os
from pathlib import Path

import numpy as np
import pytest

import tinytensor as tt
from models import BERT
from models.tokenizers import WordPiece
from nn.compression import storage
from nn.compression.quantize import quantize

TEXTS = [
    "A cat sits on the mat.",
    "The quick brown fox jumps over the lazy dog.",
    "Stock markets fell sharply on Monday.",
    "How do I bake sourdough bread?",
    "The weather in Oslo is cold in winter, and the days are short.",
    "Quantization stores weights as small integers.",
    "Who wrote the opera about a barber?",
    "no",
]


def vectors(model, tokenizer) -> np.ndarray:
    """The mean of the tokens' vectors, of length 1."""
    found = []
    for text in TEXTS:
        ids = np.array([tokenizer.encode(f"[CLS] {text} [SEP]")])
        with tt.no_grad():
            found.append(model(ids).hidden.data[0].mean(axis=0))
    return np.array(found) / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.mark.parity
def test_the_published_sentence_model_in_8_bits_keeps_the_direction_of_its_vectors():
    if "TINYTENSOR_MINILM" not in os.environ:
        pytest.skip("set TINYTENSOR_MINILM to the folder of all-MiniLM-L6-v2")
    folder = Path(os.environ["TINYTENSOR_MINILM"])
    model, tokenizer = BERT.from_pretrained(folder).eval(), WordPiece.from_pretrained(folder)
    expected, size = vectors(model, tokenizer), _bytes(model)
    for activations in ("dynamic", "none"):
        small = quantize(copy.deepcopy(model), activations=activations)
        assert (vectors(small, tokenizer) * expected).sum(axis=1).min() > 0.99
        assert _bytes(small) < 0.27 * size


def _bytes(model) -> int:
    return sum(array.nbytes for array in storage.state(model).values())
