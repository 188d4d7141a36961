"""Configs are dataclasses whose fields carry their own explanation, so the command line can offer each as a flag."""

from dataclasses import field
from typing import ClassVar, Self

from models.schema import check_fields


def option(default, help: str, metavar: str | None = None):
    """A dataclass field with a default, one line that says what it means, and a word that stands for its value."""
    return field(default=default, metadata={"help": help, "metavar": metavar})


class Config:
    """What the configs of all models have in common: known shapes by name, and fields held against their types."""

    presets: ClassVar[dict[str, dict]] = {}

    def __post_init__(self):
        check_fields(self)

    @classmethod
    def preset(cls, name: str, **changes) -> Self:
        """One of `presets`, with some fields changed: GPTConfig.preset("gpt2", dropout=0.1)."""
        if name not in cls.presets:
            raise ValueError(f"unknown preset {name!r}; choose from {', '.join(cls.presets)}")
        return cls(**(cls.presets[name] | changes))
