"""Training on many GPUs, on paper: how to cut a model over them, what each holds and sends, how long it takes.

  python -m train scale                             published runs beside what is predicted of them
  python -m train scale --preset gpt3-175b --gpus 1024        the fastest cuts, and what the first of them costs
  python -m train scale --preset gpt3-175b --gpus 1024 --tensor 8 --pipeline 8 --chunks 2       of those cut so
  python -m train scale --preset gpt3-1.3b --gpus 64 --experts 64 --top 2                       with experts
"""

import argparse
import dataclasses

from models.gpt import GPTConfig
from models.schema import Count, Few, Positive
from train.flags import add_config_flags, given, typed
from train.tables import markdown
from train.tour import scale

SHAPE = ("vocab_size", "context", "layers", "heads", "width", "hidden")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add, few = parser.add_argument, typed(Few)
    add("--preset", metavar="NAME", help=f"a GPT's known shape: {', '.join(GPTConfig.presets)} [none: the table]")
    add("--gpus", metavar="N", type=typed(Count), default=1024, help="[1024]")
    add("--machine", choices=scale.MACHINES, default="a100", help="what they are [a100]")
    add("--batch", metavar="N", type=typed(Count), default=1536, help="sequences in a step [1536]")
    add("--tokens", metavar="N", type=typed(Positive), default=300e9, help="that are read in training [300e9]")
    add("--experts", dest="mixture", metavar="N", type=few, default=1, help="in place of a feed-forward network [1]")
    add("--top", metavar="N", type=few, default=1, help="experts that a token meets [1]")
    add("--every", metavar="N", type=few, default=2, help="every N-th network is replaced by experts [2]")
    add("--capacity", metavar="X", type=typed(Positive), default=1.25, help="places kept for a token's choice [1.25]")
    add = parser.add_argument_group("the cut; what is not given is searched for").add_argument
    add("--tensor", metavar="N", type=few, help="GPUs that share every matrix")
    add("--pipeline", metavar="N", type=few, help="GPUs in a row, each with some of the layers")
    add("--experts-over", dest="experts", metavar="N", type=few, help="GPUs that a layer's experts lie on")
    add("--micro-batch", dest="micro", metavar="N", type=few, help="sequences that a GPU reads at once")
    add("--chunks", metavar="N", type=few, help="separate pieces of the pipeline on each GPU")
    add("--zero", type=int, choices=range(4), help="share out also the optimizer's state, gradients, weights [1]")
    add("--again", action=argparse.BooleanOptionalAction, default=None, help="do a layer's forward again in backward "
        "instead of keeping what it computed")  # fmt: skip
    others = {field.name for field in dataclasses.fields(GPTConfig)} - {*SHAPE}
    add_config_flags(parser, "the shape, where it is not the preset's", GPTConfig, skip=tuple(others))


def main(args: argparse.Namespace) -> None:
    machine = scale.MACHINES[args.machine]
    config = {name: value for name, value in given(args, GPTConfig).items() if name in SHAPE}
    if not args.preset and not config:
        print(scale.table())
        return
    config = GPTConfig.preset(args.preset, **config) if args.preset else GPTConfig(**config)
    model = scale.Model(config, args.batch, args.mixture, args.top, args.every, args.capacity)
    names = [field.name for field in dataclasses.fields(scale.Cut)]
    fixed = {name: value for name in names if (value := vars(args).get(name)) is not None}
    found = scale.search(model, args.gpus, machine, fixed)
    count, batch = sum(scale.parameters(model, scale.Cut())), f"a batch of {args.batch:,} x {config.context:,} tokens"
    print(f"{count:,} parameters on {args.gpus:,} GPUs ({args.machine}), {batch}\n")
    lines = [("data x tensor x pipeline x experts", "micro-batch", "chunks", "again", "GB", "step", "TFLOP/s", "days")]
    for cut in found[:5]:
        seconds = sum(scale.step(model, cut, machine).values())
        days, gigabytes = args.tokens / model.tokens * seconds / 86400, sum(scale.memory(model, cut).values()) / 1e9
        lines.append((f"{cut.data} x {cut.tensor} x {cut.pipeline} x {cut.experts}", f"{cut.micro}", f"{cut.chunks}",
                      "yes" if cut.again else "no", f"{gigabytes:.0f}", f"{seconds:.2f} s",
                      f"{scale.tflops(model, cut, machine):.0f}", f"{days:.1f}"))  # fmt: skip
    fastest = f"the fastest of {len(found):,} cuts that fit into {machine.memory / 1e9:.0f} GB; of the first"
    print(markdown(lines), fastest, scale.described(model, found[0], machine), sep="\n\n")
