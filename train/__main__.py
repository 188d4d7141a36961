"""The command line: python -m train COMMAND ... in a checkout, tinytensor COMMAND ... wherever it is installed.

Each command is a file in train/commands, imported when it is called, with add_arguments(parser) and main(args).
Whatever is wrong with what the user gave comes up as a ValueError with one clear sentence, and ends the program with
status 2.
"""

import argparse
import importlib.util
import sys
import warnings
from pathlib import Path

from train import program

OURS = Path(__file__).resolve().parent.parent  # where tinytensor, nn, models and train stand side by side

def main(arguments: list[str] | None = None) -> int:
    if arguments is None:  # as a program
        arguments = program.prepare(main)
    name = arguments[0] if arguments else ""
    if foreign := not_ours():
        print(f"error: {foreign}", file=sys.stderr)
        return 2
    if name not in program.COMMANDS:
        return program.overview(called()).parse_args(arguments) and 2  # prints help, or what is wrong; ends
    if empty := next((word for word in arguments if word.startswith("--") and word.endswith("=--")), None):
        print(f"error: {empty} has no value", file=sys.stderr)  # argparse would make a list of it
        return 2
    if "--quiet" in arguments:
        return program.quietly(lambda: main([word for word in arguments if word != "--quiet"]))
    command = importlib.import_module(f"train.commands.{name.replace('-', '_')}")
    form = dict(description=command.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, exit_on_error=False)
    parser = argparse.ArgumentParser(prog=f"{called()} {name}", **form)
    parser.add_argument("--quiet", action="store_true", help="no progress bars, and no lines while it trains")
    command.add_arguments(parser)
    parsed = lambda words: parser.parse_args(words, argparse.Namespace(words=words))
    return status_of(lambda words: command.main(parsed(words)), arguments[1:])


def called() -> str:
    """How the user called this program."""
    return "tinytensor" if Path(sys.argv[0]).stem == "tinytensor" else "python -m train"


def not_ours() -> str:
    """A sentence about a file of the user's that Python would import in place of one of our packages; or ""."""
    for package in ("tinytensor", "nn", "models"):
        found = importlib.util.find_spec(package)
        if found.origin is None or Path(found.origin).resolve().parent.parent != OURS:
            return f"'import {package}' finds {found.origin}, not our {OURS / package}; rename that, or go elsewhere"
    return ""


def status_of(command, arguments: list[str]) -> int:
    """The exit status of command(arguments), which prints one sentence where something went wrong."""
    try:
        with warnings.catch_warnings():  # one that means the user is a sentence, without the place in our code
            warnings.showwarning = lambda message, *_, **__: print(f"note: {message}", file=sys.stderr)
            command(arguments)
            sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as end:
        from train.endings import status_after

        return status_after(end)
    return 0


if __name__ == "__main__":
    sys.exit(main())
