"""Evaluation outside of a training, by all cores, also on other texts."""

from collections.abc import Iterable

import numpy as np

from models.tokenizers import Tokenizer
from nn import Module
from tinytensor.distributed import core_count
from tinytensor.workers import communicator
from train.data.corpus import Split, encode
from train.data.documents import SentenceEncoder
from train.report import bar
from train.trainer import evaluate


def evaluate_on_all_cores(model: Module, objective, data, keys: list, workers: int = 0, of=evaluate):
    """evaluate, or another function `of` its kind, by `workers` that share the batches (0: one a core)."""
    workers = min(workers or core_count(), len(keys)) if model.parameters()[0].device == "cpu" else 1
    share = lambda comm: bar(keys[comm.rank :: comm.size], "evaluating", hidden=comm.rank > 0)
    own = lambda comm: np.array(of(model, objective, data, share(comm)), float)
    total, number = communicator("auto", workers).run(lambda comm: comm.all_reduce(own(comm)).tolist())
    return total, int(number)


def encode_text(pieces: Iterable[str], tokenizer: Tokenizer | SentenceEncoder) -> tuple[np.ndarray, Split]:
    """A text that fits in memory as tokens, with its sizes."""
    arrays = [np.zeros(0, tokenizer.dtype)]
    split = encode(pieces, tokenizer, arrays.append)
    return np.concatenate(arrays), split
