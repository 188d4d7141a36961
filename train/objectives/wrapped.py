"""An objective around another one, of which it changes a part."""

from __future__ import annotations


class Wrapped:
    """Answers as the objective inside does; a subclass says what is different."""

    def __init__(self, objective):
        self.objective = objective
        self.one_shape = objective.one_shape

    def check(self, data, what: str) -> None:
        self.objective.check(data, what)

    def training_batch(self, data, number: int) -> dict:
        return self.objective.training_batch(data, number)

    def evaluation_batches(self, data, limit: int | None = None) -> list:
        return self.objective.evaluation_batches(data, limit)

    def evaluation_batch(self, data, key) -> dict:
        return self.objective.evaluation_batch(data, key)
