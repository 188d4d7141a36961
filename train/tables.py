"""Tables for people: rows of words as Markdown, the first column to the left and the others to the right."""

from collections.abc import Sequence


class Markdown(str):
    """A text that a notebook shows as what it says."""

    _repr_markdown_ = str.__str__


def markdown(rows: Sequence[Sequence[str]]) -> Markdown:
    """The first row is the header; columns are made as wide as what is in them."""
    first_width, *widths = (max(map(len, column)) for column in zip(*rows))
    text = [[name.ljust(first_width), *map(str.rjust, cells, widths)] for name, *cells in rows]
    text.insert(1, [":" + "-" * max(1, first_width - 1), *("-" * max(1, width - 1) + ":" for width in widths)])
    return Markdown("\n".join(f"| {' | '.join(cells)} |" for cells in text))
