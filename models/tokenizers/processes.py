"""Large batches of texts, shared out over processes."""

from __future__ import annotations

import multiprocessing
import os
from array import array
from collections.abc import Callable
from itertools import chain

PARALLEL_FROM = 2_000_000  # characters in a batch from which starting a second process pays for itself


def encode_all(encode: Callable[[str], list[int]], texts: list[str], workers: int | None = None) -> list[list[int]]:
    """encode(text) of every text, by so many processes; by one a core if not said and the batch is large."""
    if workers is None:
        large = len(texts) > 1 and sum(map(len, texts)) >= PARALLEL_FROM
        workers = len(os.sched_getaffinity(0)) if large and hasattr(os, "sched_getaffinity") else 1
    if min(workers, len(texts)) < 2 or multiprocessing.current_process().daemon:
        return [encode(text) for text in texts]
    return encode_in_processes(encode, texts, workers)


def encode_in_processes(encode: Callable, texts: list[str], workers: int) -> list[list[int]]:
    """encode(text) of every text, on forked processes: they inherit the tokenizer, nothing is copied to them.

    The texts are cut into a few runs of about equal size a worker; ids travel back as arrays, which is many times
    cheaper than lists.
    """
    total, runs, run, size = sum(map(len, texts)), [], [], 0
    for text in texts:
        run.append(text)
        size += len(text)
        if size >= total / (4 * workers):
            runs.append(run)
            run, size = [], 0
    runs += [run] if run else []
    context = multiprocessing.get_context("fork")
    with context.Pool(min(workers, len(runs)), initializer=remember, initargs=(encode,)) as pool:
        return [ids for lists in pool.imap(encode_run, runs) for ids in split_rows(*lists)]


def remember(encode):
    global inherited_encode
    inherited_encode = encode


def encode_run(texts):
    rows = [inherited_encode(text) for text in texts]
    return array("I", chain.from_iterable(rows)), [len(row) for row in rows]


def split_rows(ids, lengths):
    ids, end = ids.tolist(), 0
    for length in lengths:
        yield ids[end:end + length]
        end += length
