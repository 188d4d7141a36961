"""The command line: python -m train COMMAND ...

Each command is a file in train/commands with a SUMMARY, add_arguments(parser) and main(args). Whatever is wrong with
what the user gave comes up as a ValueError with one clear sentence, and ends the program with status 2.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys

from train.parallel import WorkerDied

COMMANDS = (
    "gpt", "bert", "t5", "elmo", "finetune", "ask", "sample", "score", "fill", "embed", "neighbours", "eval",
    "tokenizer", "prune", "quantize", "distill", "lottery",
)  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m train",
        description="Train language models on a CPU or a GPU, and use what was trained.",
        epilog="python -m train COMMAND --help explains a command. To begin: python -m train gpt",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    modules = {name: importlib.import_module(f"train.commands.{name}") for name in COMMANDS}
    for name, module in modules.items():
        module.add_arguments(
            commands.add_parser(
                name,
                help=module.SUMMARY,
                description=module.__doc__,
                formatter_class=argparse.RawDescriptionHelpFormatter,
            )
        )
    args = parser.parse_args(arguments)
    try:
        modules[args.command].main(args)
    except (ValueError, WorkerDied, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever read the output, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        print(f"error: {error.filename or 'a file'}: {error.strerror or error}", file=sys.stderr)
        return 2
    except MemoryError as error:
        what = f"out of memory ({error}); try a smaller model, --batch, --context or --tokens"
        if type(error).__module__.startswith("cupy"):
            from train.precision import lack_of_memory

            what = lack_of_memory(error)
        print(f"error: {what}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
