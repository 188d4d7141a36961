"""The commands, and what one needs as a program of its own: streams to write to, signals that end it in good order."""

import argparse
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

LAUNCHERS = {"OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_STEP_ID"}  # one of these is set by what starts MPI's ranks
QUIET = "TQDM_DISABLE"  # tqdm's own name for it, in the environment

COMMANDS = {
    "gpt": "train a GPT, a model that writes, on any text",
    "bert": "train a BERT, a model that reads, on any text",
    "t5": "train a T5, a model that reads one text and writes another",
    "switch": "train a Switch Transformer, a T5 whose tokens choose among experts",
    "ernie-gen": "train an ERNIE-GEN, a BERT that writes, by filling in pieces of a text",
    "elmo": "train an ELMo, whose word vectors depend on the sentence",
    "xlnet": "train an XLNet, which predicts the tokens of a text in every order",
    "sight": "train a GPT that reads pictures, and answers questions about them",
    "draw": "train a GPT that draws what a caption says, in TikZ; or let it draw",
    "finetune": "fine-tune a pretrained model: classify, regress, tag, answer, choose, text to text",
    "ask": "ask a fine-tuned model",
    "chat": "talk to a model that has learned to talk",
    "sample": "let a trained model write text",
    "score": "show how probable each token of a text is to a trained model",
    "explore": "make a page that shows what happens inside a model while it reads",
    "fill": "let a BERT guess masked words",
    "embed": "search a folder of text by meaning",
    "neighbours": "find the words of a text that are most like a word in its sentence",
    "eval": "measure how well a trained model predicts a text",
    "tokenizer": "learn a vocabulary from text: byte-level BPE, classic BPE, WordPiece, Unigram, characters or words",
    "reward": "train a model to tell which of several replies people prefer",
    "ppo": "let a talker learn from a reward model by reinforcement",
    "dpo": "let a talker learn from replies of which people prefer one",
    "plot": "draw again what a run can show: its losses, and which label was taken for which",
    "prune": "leave out of a trained model what it can do without",
    "quantize": "store a trained model's weights as integers of 8 bits or fewer",
    "distill": "teach a smaller model what a trained one knows",
    "lottery": "find the small networks inside a large one that train as well",
    "scale": "cut a model over many GPUs, on paper: memory, bytes sent, days",
    "tour": "recompute the lecture's tables, reckon energy and carbon, and draw the paradox of large models",
}


def prepare(main: Callable[[list[str]], int]) -> list[str]:
    """Streams that lead nowhere for those that were closed from the start, so that no file gets their numbers; and
    SIGTERM, or SIGHUP from a terminal that is closed, end the program as Ctrl-C does, unless they are ignored.

    Returns the arguments for main, but where there are MPI's ranks, or are to be: they call it, and end the program.
    """
    for name in ("stdin", "stdout", "stderr"):
        if vars(sys)[name] is None:
            setattr(sys, name, open(os.devnull, "r+"))  # noqa: SIM115
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, interrupt)
    words = sys.argv[1:]
    if "--ranks" in [word.partition("=")[0] for word in words] or os.environ.keys() & LAUNCHERS:
        from train.launch import begin

        sys.exit(begin(main, words))
    return words


def interrupt(number: int, frame) -> None:
    raise KeyboardInterrupt(number)


def started(text: str) -> int:
    """The number behind --ranks, where they were started before the command began (train/launch.py)."""
    from tinytensor.workers import STARTED

    if STARTED not in os.environ:
        raise argparse.ArgumentTypeError("only a program that is called with --ranks, written out, can start them")
    return int(text)


def quietly(work: Callable[[], int]) -> int:
    """What work() answers; meanwhile no bars are shown, by nobody who asks tqdm, nor lines on how a training goes."""
    before = os.environ.get(QUIET, "")
    os.environ[QUIET] = "1"
    try:
        return work()
    finally:
        os.environ[QUIET] = before


def reader_gone() -> None:
    """Whoever read the output, such as `head`, is gone: end as by Ctrl-C, and say so in the other stream."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.stdout = sys.stderr
    signal.raise_signal(signal.SIGINT)


def version() -> str:
    """The line of tinytensor/__init__.py that says it; to import that would take NumPy."""
    package = Path(__file__).resolve().parent.parent / "tinytensor"
    lines = (package / "__init__.py").read_text(encoding="utf-8").splitlines()
    return next(line.split('"')[1] for line in lines if line.startswith("__version__"))


def overview(called: str) -> argparse.ArgumentParser:
    """What `python -m train --help` shows."""
    epilog = f"{called} COMMAND --help explains a command. To begin: {called} gpt"
    what = "Train language models on a CPU or a GPU, and use what was trained."
    parser = argparse.ArgumentParser(prog=called, description=what, epilog=epilog)
    parser.add_argument("--version", action="version", version=f"tinytensor {version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        commands.add_parser(name, help=summary)
    return parser
