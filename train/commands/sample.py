"""Let a trained model write.

  python -m train sample runs/gpt-1 --prompt "Once upon a time"        a GPT goes on from a prompt
  python -m train sample runs/gpt-1 --top-p 0.9 --samples 3 --stop "."
  python -m train sample runs/t5-1 --input "reverse: stressed"         a T5 answers an input
"""

import argparse
from pathlib import Path

import tinytensor as tt
from models.contract import Writer
from models.generate import Sampling, stream_text, write
from models.generate.draft import PAST_CONTEXT
from models.schema import Count, Few, Million, Positive, Size
from nn import Module, narrow
from train import answering, checkpoint
from train.flags import add_config_flags, add_device_flag, given, typed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("run", metavar="RUN", type=Path, help="the folder of a run, or a published one")
    add("--prompt", help="the text to go on from [a new line]")
    add("--input", metavar="TEXT", help="for a T5 or an ERNIE-GEN: the text to answer")
    add("--tokens", metavar="N", type=typed(Million), default=500, help="how many to write at most [500]")
    add("--samples", metavar="N", type=typed(Few), default=1, help="how many texts [1]")
    add("--stop", metavar="TEXT", action="append", help="end before TEXT (may be repeated)")
    add("--past-context", choices=PAST_CONTEXT, help="when full, read half of it anew, or refuse to begin [slide]")
    add("--beams", metavar="N", type=typed(Few), default=1, help="beam search: the N best texts live on [1]")
    add("--length-penalty", metavar="X", type=typed(float), help="of beams: above 0 favours long texts [1.0]")
    add("--min-tokens", metavar="N", type=typed(Count), help="how many to write at least, before a text may end")
    add("--bad-words", metavar="TEXT", action="append", help="never write TEXT (may be repeated)")
    add("--begin", metavar="TEXT", help="behind --input: how every answer begins")
    add("--written-penalty", metavar="X", type=typed(Positive), help="a repetition penalty for what is written alone")
    add("--seed", metavar="N", type=typed(Size), default=0, help="equal seeds write equal texts [0]")
    add("--best", action="store_true", help="the weights of the lowest held-out loss, not the last")
    add_device_flag(parser)
    add("--graph", action="store_true", help="on a GPU: record the step to the next token once and repeat it whole")
    add("--cache", choices=narrow.KINDS, help="numbers to keep what was read in: narrow ones save memory [float32]")
    add_config_flags(parser, "how to choose a token", Sampling, {"temperature": "0.8; with --input 0"})


def main(args: argparse.Namespace) -> None:
    if args.length_penalty is not None and args.beams == 1:
        raise ValueError(f"--length-penalty {args.length_penalty} is for beams; add --beams, or leave it out")
    Sampling(**given(args, Sampling))  # bad values are named before any file is read
    model, tokenizer = load(args.run, "best" if args.best else "last")
    model.to(args.device)
    model = narrow.remember_in(model, args.cache) if args.cache else model
    if not isinstance(model, Writer) or model.reads_source or args.input is not None or args.begin is not None:
        return answering.main(args, model, tokenizer, lambda: chosen(args, 0.0, tokenizer))
    write_on(model, tokenizer, args)


def load(folder: Path, which: str) -> tuple[Module, object]:
    """The model and tokenizer of a run, or of a published folder."""
    if checkpoint.family_in(folder) == "finetuned":
        return answering.fine_tuned(folder, which)
    model, tokenizer = checkpoint.load_model(folder, which)
    return model.for_inference(), tokenizer


def chosen(args: argparse.Namespace, temperature: float, tokenizer) -> dict:
    """The keywords of `generate` that the flags ask for; the usual temperature unless beams are searched."""
    how = {"temperature": temperature}
    if args.beams > 1:
        how = dict(beams=args.beams, length_penalty=1.0 if args.length_penalty is None else args.length_penalty)
    if any(flag is not None for flag in (args.min_tokens, args.written_penalty, args.bad_words, args.begin)):
        how["constraints"] = answering.constraints(args, tokenizer)  # most texts are free
    return how | ({"graph": True} if args.graph else {}) | given(args, Sampling)


def write_on(model: Module, tokenizer, args: argparse.Namespace) -> None:
    """How a decoder goes on from --prompt, token by token as they come."""
    prompt = "\n" if args.prompt is None else args.prompt
    if not prompt:
        raise ValueError("--prompt is empty; give at least one character")
    if args.prompt is None and not len(tokenizer.encode(prompt)):
        raise ValueError(f'{args.run} knows no new line to begin with; give it a --prompt, such as "Once upon a time"')
    how = chosen(args, 0.8, tokenizer) | dict(stop=args.stop or (), past_context=args.past_context or "slide")
    if tokenizer.end_id is not None:
        how["end"] = tokenizer.end_id
    if args.beams > 1:
        texts = [[text] for text in write(model, tokenizer, prompt, args.tokens, samples=args.samples, **how)]
    else:
        texts = [stream_text(model, tokenizer, prompt, args.tokens, **how) for _ in range(args.samples)]
    for sample, pieces in enumerate(texts):
        tt.manual_seed(args.seed, sample)
        print("-" * 30 + "\n" if sample else "", prompt, sep="", end="")
        for piece in pieces:
            print(piece, end="", flush=True)
        print()
