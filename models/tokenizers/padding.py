"""Rows of different lengths as one array."""

from collections.abc import Sequence

import numpy as np


def pad(rows: Sequence, fill=0, length: int | None = None, *, left: bool = False, axis: int = 0) -> np.ndarray:
    """N arrays that differ in their length along `axis` -> one array (N, ...) of the first one's dtype.

    length: of the result along that axis, if not the longest row's.   left: put the fill in front of the rows.
    """
    rows = [np.asarray(row) for row in rows]
    length = max(row.shape[axis] for row in rows) if length is None else length
    before, after = rows[0].shape[:axis], rows[0].shape[axis + 1 :]
    padded = np.full((len(rows), *before, length, *after), fill, rows[0].dtype)
    for place, row in zip(padded, rows):
        n = row.shape[axis]
        place[(slice(None),) * axis + (slice(length - n, length) if left else slice(n),)] = row
    return padded
