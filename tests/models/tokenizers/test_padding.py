import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.tokenizers import pad


@given(st.lists(st.lists(st.integers(0, 9), max_size=5), min_size=1, max_size=4), st.integers(0, 3), st.booleans())
def test_rows_stand_whole_at_one_end_and_the_rest_is_fill(rows, more, left):
    length = max(map(len, rows)) + more
    padded = pad([np.array(row, np.int16) for row in rows], -7, length if more else None, left=left)
    assert padded.shape == (len(rows), length) and padded.dtype == np.int16
    for got, row in zip(padded.tolist(), rows):
        fill = [-7] * (length - len(row))
        assert got == (fill + row if left else row + fill)


def test_any_axis_may_be_the_one_that_is_filled_up():
    a, b = np.ones((2, 1, 3), bool), np.ones((2, 4, 3), bool)
    padded = pad([a, b], False, axis=1)
    assert padded.shape == (2, 2, 4, 3) and padded.dtype == bool
    assert padded[0, :, 0].all() and not padded[0, :, 1:].any() and padded[1].all()
