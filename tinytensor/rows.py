"""A stream of chance for who computes some rows of a batch and must draw for them what one who has all would draw.

With it dropout on a batch that is cut over cores leaves out the same elements as on the whole batch.
"""

from numpy.random import Generator


class Rows:
    """Draws from `stream` for all `count` rows, and gives out the numbers of rows `start` to `stop`.

    It has what this project asks of a generator where a row of numbers belongs to a row of the batch, and leaves the
    stream where the whole batch would have left it.
    """

    def __init__(self, stream: Generator, start: int, stop: int, count: int):
        self.stream, self.start, self.stop, self.count = stream, start, stop, count

    @property
    def bit_generator(self):
        return self.stream.bit_generator

    def integers(self, low, high=None, size: int | None = None, dtype=int):
        """One for all rows where there is no size; otherwise so many for the rows that are ours, as many for each."""
        if size is None:
            return self.stream.integers(low, high, dtype=dtype)
        whole = self.stream.integers(low, high, -(-size * self.count // (self.stop - self.start)), dtype=dtype)
        first = len(whole) * self.start // self.count
        return whole[first : first + size]

    def random(self, size=None, dtype=float):
        """Of a shape, the first axis is of our rows; of a number, or one alone, all that there are, alike for all."""
        if not isinstance(size, tuple):
            return self.stream.random(size, dtype)
        own = self.stop - self.start
        whole = self.stream.random((size[0] * self.count // own, *size[1:]), dtype)
        return whole[size[0] * self.start // own :][: size[0]]
