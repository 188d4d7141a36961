"""Configs are dataclasses whose fields carry their own explanation, so the command line can offer each as a flag."""

import math
from collections.abc import Collection
from dataclasses import field
from typing import ClassVar, Self


def option(default, help: str, metavar: str | None = None):
    """A dataclass field with a default, one line that says what it means, and a word that stands for its value."""
    return field(default=default, metadata={"help": help, "metavar": metavar})


class Config:
    """What the configs of all models have in common: known shapes by name."""

    presets: ClassVar[dict[str, dict]] = {}

    @classmethod
    def preset(cls, name: str, **changes) -> Self:
        """One of `presets`, with some fields changed: GPTConfig.preset("gpt2", dropout=0.1)."""
        if name not in cls.presets:
            raise ValueError(f"unknown preset {name!r}; choose from {', '.join(cls.presets)}")
        return cls(**(cls.presets[name] | changes))


def check_positive(config, *names: str) -> None:
    for name in names:
        if vars(config)[name] < 1:
            raise ValueError(f"{name} must be at least 1, not {vars(config)[name]}")


def check_choice(config, name: str, choices: Collection[str]) -> None:
    if (value := vars(config)[name]) not in choices:
        raise ValueError(f"unknown {name} {value!r}; choose from {', '.join(choices)}")


def check_not_negative(config, *names: str) -> None:
    for name in names:
        value = vars(config)[name]
        if value < 0:
            raise ValueError(f"{name} must not be negative: {value}")
        if not math.isfinite(value):
            raise ValueError(f"{name} must be a finite number, not {value}")


def check_shares(config, *names: str) -> None:
    for name in names:
        if not 0 <= vars(config)[name] < 1:
            raise ValueError(f"{name} must be a share in [0, 1), not {vars(config)[name]}")
