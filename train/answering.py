"""`sample` where a model reads one text and writes another, as a T5 does; and what is said where it does not fit."""

import argparse
from collections.abc import Callable
from pathlib import Path

import tinytensor as tt
from models.contract import Writer
from models.generate.answers import answer
from models.generate.constraints import Constraints, of_texts
from nn import Module
from train import finetune


def main(args: argparse.Namespace, model: Module, tokenizer, chosen: Callable[[], dict]) -> None:
    """Answer --input.   chosen: the keywords of `generate` that the flags ask for."""
    name = type(model).__name__
    holds = f"{args.run} holds {'an' if name[0] in 'AEO' else 'a'} {name}"
    if not isinstance(model, Writer):
        raise ValueError(f"{holds}, which reads but does not write")
    if not model.reads_source:
        raise ValueError(f"{holds}, which goes on from a --prompt; --input and --begin are for a T5")
    if args.input is None:
        raise ValueError(f"{holds}, which answers: give the text to read with --input")
    if args.stop or args.past_context or args.prompt is not None:
        raise ValueError("--prompt, --stop and --past-context are for a GPT; a T5 reads an --input and ends by itself")
    tt.manual_seed(args.seed)
    for text in answer(model, tokenizer, [args.input], args.tokens, samples=args.samples, **chosen()):
        print(text)


def fine_tuned(folder: Path, which: str) -> tuple[Module, object]:
    """The model and tokenizer of a T5 that was fine-tuned."""
    tuned = finetune.load(folder, which)
    if not isinstance(tuned.model.body, Writer):
        raise ValueError(f"{folder} was fine-tuned to {tuned.task.kind}; ask it with: python -m train ask {folder}")
    return tuned.model.body, tuned.inputs.tokenizer


def constraints(args: argparse.Namespace, tokenizer) -> Constraints:
    """What the flags say that must and must not be written."""
    rules = {"min_new_tokens": args.min_tokens, "written_penalty": args.written_penalty,
             "bad_words": args.bad_words, "begin": args.begin}  # fmt: skip
    return of_texts(tokenizer, **{name: value for name, value in rules.items() if value is not None})
