"""Command-line flags made from a config's fields: each one's name, type, default and help line, as --its-name."""

import argparse
import dataclasses
from collections.abc import Callable

from models.schema import check, fields_of, plain_of
from tinytensor import backend
from train.program import started


def add_config_flags(parser: argparse.ArgumentParser, title: str, config_class: type, defaults: dict | None = None,
                     skip: tuple = ()) -> None:  # fmt: skip
    """One flag per field. Flags that are not given leave no trace in the result, so that what was said can be told
    from what was not: see `given`.

    defaults: shown in the help where they differ from the fields' own.
    """
    group = parser.add_argument_group(title)
    for field in sorted(dataclasses.fields(config_class), key=lambda field: field.kw_only):
        if field.name in skip:
            continue
        default = (defaults or {}).get(field.name, field.default)
        kind = fields_of(config_class)[field.name]
        if kind is bool:
            default, how = "on" if default else "off", dict(action=argparse.BooleanOptionalAction)
        else:
            how = dict(type=typed(kind), metavar=field.metadata["metavar"] or _METAVARS[plain_of(kind)])
        help = field.metadata["help"] + ("" if default in (None, "") else f" [{default}]")
        group.add_argument("--" + field.name.replace("_", "-"), default=argparse.SUPPRESS, help=help, **how)


def typed(kind: object) -> Callable[[str], object]:
    """A flag's `type`: reads its value and holds it against an annotation (models/schema.py)."""

    def value(text: str):
        try:
            return check(plain_of(kind)(text), kind, "it")
        except ValueError as error:
            raise argparse.ArgumentTypeError(error) from None

    return value


def add_device_flag(parser: argparse.ArgumentParser) -> None:
    """--device, for commands that compute without training."""
    parser.add_argument("--device", choices=backend.DEVICES, default="cpu", help="where to compute: cpu, cuda [cpu]")


def add_ranks_flag(parser: argparse.ArgumentParser) -> None:
    """--ranks, which is read before a command begins (train/launch.py)."""
    parser.add_argument("--ranks", metavar="N", type=started, help="MPI ranks to start on this machine as its workers")


def given(args: argparse.Namespace, config_class: type) -> dict:
    """The fields of a config that were given on the command line."""
    names = {field.name for field in dataclasses.fields(config_class)}
    return {name: value for name, value in vars(args).items() if name in names}


_METAVARS = {int: "N", float: "X", str: "NAME"}
