"""Configs are dataclasses whose fields carry their own explanation, so the command line can offer each as a flag."""

from __future__ import annotations

from dataclasses import field


def option(default, help: str):
    """A dataclass field with a default and one line that says what it means."""
    return field(default=default, metadata={"help": help})
