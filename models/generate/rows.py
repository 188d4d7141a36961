"""Prompts of unequal lengths as one batch."""

from collections.abc import Sequence

import numpy as np

from models import tokenizers


def pad_left(rows: Sequence[Sequence[int]], pad: int = 0) -> tuple[np.ndarray, np.ndarray | None]:
    """Rows of ids of any lengths -> ids (B, T) and mask (B, T), False at the padding; no mask if none is needed.

    On the left, so that all texts end in the last column, where they go on.
    """
    rows = [np.asarray(row) for row in rows]
    if any(row.ndim != 1 or len(row) == 0 or row.dtype.kind not in "iu" for row in rows) or not rows:
        raise ValueError("generation starts from rows of at least one id each")
    mask = tokenizers.pad([np.ones(len(row), bool) for row in rows], False, left=True)
    return tokenizers.pad([row.astype(int) for row in rows], pad, left=True), None if mask.all() else mask
