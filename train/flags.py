"""Command-line flags made from a config's fields: each one's name, type, default and help line, as --its-name."""

import argparse
import dataclasses
import typing

from tinytensor import backend


def add_config_flags(parser: argparse.ArgumentParser, title: str, config_class: type, defaults: dict | None = None,
                     skip: tuple = ()) -> None:  # fmt: skip
    """One flag per field. Flags that are not given leave no trace in the result, so that what was said can be told
    from what was not: see `given`.

    defaults: shown in the help where they differ from the fields' own.
    """
    group = parser.add_argument_group(title)
    types = typing.get_type_hints(config_class)
    for field in dataclasses.fields(config_class):
        if field.name in skip:
            continue
        default = (defaults or {}).get(field.name, field.default)
        kind = next(kind for kind in (*typing.get_args(types[field.name]), types[field.name]) if kind is not type(None))
        if kind is bool:
            default, how = "on" if default else "off", dict(action=argparse.BooleanOptionalAction)
        else:
            how = dict(type=kind, metavar=field.metadata["metavar"] or _METAVARS[kind])
        help = field.metadata["help"] + ("" if default in (None, "") else f" [{default}]")
        group.add_argument("--" + field.name.replace("_", "-"), default=argparse.SUPPRESS, help=help, **how)


def add_device_flag(parser: argparse.ArgumentParser) -> None:
    """--device, for commands that compute without training."""
    parser.add_argument("--device", choices=backend.DEVICES, default="cpu", help="where to compute: cpu, cuda [cpu]")


def check_at_least_1(args: argparse.Namespace, *names: str) -> None:
    for name in names:
        if (value := vars(args)[name]) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, not {value}")


def given(args: argparse.Namespace, config_class: type) -> dict:
    """The fields of a config that were given on the command line."""
    names = {field.name for field in dataclasses.fields(config_class)}
    return {name: value for name, value in vars(args).items() if name in names}


_METAVARS = {int: "N", float: "X", str: "NAME"}
