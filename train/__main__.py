"""The command line: python -m train COMMAND ... in a checkout, tinytensor COMMAND ... wherever it is installed.

Each command is a file in train/commands, imported when it is called, with add_arguments(parser) and main(args).
Whatever is wrong with what the user gave comes up as a ValueError with one clear sentence, and ends the program with
status 2.
"""

import argparse
import importlib.util
import os
import sys
import warnings
from pathlib import Path

OURS = Path(__file__).resolve().parent.parent  # where tinytensor, nn, models and train stand side by side

COMMANDS = {
    "gpt": "train a GPT, a model that writes, on any text",
    "bert": "train a BERT, a model that reads, on any text",
    "t5": "train a T5, a model that reads one text and writes another",
    "elmo": "train an ELMo, whose word vectors depend on the sentence",
    "finetune": "fine-tune a pretrained model: classify, regress, tag, answer, choose, text to text",
    "ask": "ask a fine-tuned model",
    "sample": "let a trained model write text",
    "score": "show how probable each token of a text is to a trained model",
    "explore": "make a page that shows what happens inside a model while it reads",
    "fill": "let a BERT guess masked words",
    "embed": "search a folder of text by meaning",
    "neighbours": "find the words of a text that are most like a word in its sentence",
    "eval": "measure how well a trained model predicts a text",
    "tokenizer": "learn a vocabulary from text: byte-level BPE, classic BPE, WordPiece, Unigram, characters or words",
    "prune": "leave out of a trained model what it can do without",
    "quantize": "store a trained model's weights as integers of 8 bits or fewer",
    "distill": "teach a smaller model what a trained one knows",
    "lottery": "find the small networks inside a large one that train as well",
    "tour": "recompute the lecture's tables, reckon energy and carbon, and draw the paradox of large models",
}


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    name = arguments[0] if arguments else ""
    if foreign := not_ours():
        print(f"error: {foreign}", file=sys.stderr)
        return 2
    if name not in COMMANDS:
        return overview().parse_args(arguments) and 2  # prints help, or names what is wrong, and ends the program
    command = importlib.import_module(f"train.commands.{name}")
    form = dict(description=command.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, exit_on_error=False)
    parser = argparse.ArgumentParser(prog=f"{called()} {name}", **form)
    command.add_arguments(parser)
    return status_of(lambda words: command.main(parser.parse_args(words)), arguments[1:])


def called() -> str:
    """How the user called this program."""
    return "tinytensor" if Path(sys.argv[0]).stem == "tinytensor" else "python -m train"


def version() -> str:
    """The line of tinytensor/__init__.py that says it; to import that would take NumPy."""
    lines = (OURS / "tinytensor" / "__init__.py").read_text(encoding="utf-8").splitlines()
    return next(line.split('"')[1] for line in lines if line.startswith("__version__"))


def not_ours() -> str:
    """A sentence about a file of the user's that Python would import in place of one of our packages; or ""."""
    for package in ("tinytensor", "nn", "models"):
        found = importlib.util.find_spec(package)
        if found.origin is None or Path(found.origin).resolve().parent.parent != OURS:
            return f"'import {package}' finds {found.origin}, not our {OURS / package}; rename that, or go elsewhere"
    return ""


def overview() -> argparse.ArgumentParser:
    """What `python -m train --help` shows."""
    epilog = f"{called()} COMMAND --help explains a command. To begin: {called()} gpt"
    what = "Train language models on a CPU or a GPU, and use what was trained."
    parser = argparse.ArgumentParser(prog=called(), description=what, epilog=epilog)
    parser.add_argument("--version", action="version", version=f"tinytensor {version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        commands.add_parser(name, help=summary)
    return parser


def status_of(command, arguments: list[str]) -> int:
    """The exit status of command(arguments), which prints one sentence where something went wrong."""
    from tinytensor.processes import WorkerDied

    try:
        with warnings.catch_warnings():  # one that means the user is a sentence, without the place in our code
            warnings.showwarning = lambda message, *_, **__: print(f"note: {message}", file=sys.stderr)
            command(arguments)
    except (ValueError, argparse.ArgumentError, WorkerDied, FloatingPointError) as error:
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
