"""Quantize a trained model: store its weights as small integers, compute with them, and compare.

  python -m train quantize runs/gpt-1                                  8 bits, a scale for every row
  python -m train quantize runs/gpt-1 --bits 4 --rounding gptq         4 bits in groups, two weights to a byte
  python -m train quantize runs/gpt-1 --bits 3 --steps 500             trained as if it were quantized already
  python -m train quantize --resume runs/gpt-quantized-1               go on where that training was stopped
"""

import argparse
import copy

from models.schema import Count, Few
from nn.compression import qat
from nn.compression.quantize import ACTIVATIONS, RANGES, quantize
from train.compression import compare
from train.flags import add_config_flags, given, typed
from train.report import bar
from train.trainer import TrainConfig

CURVE = (8, 6, 5, 4, 3, 2)
TRAINING = dict(lr=3e-4, warmup=20)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    compare.add_arguments(parser, "quantized")
    add("--bits", metavar="N", type=typed(Count), default=8, help="bits of a weight, 2 to 8 [8]")
    add("--per", choices=("channel", "tensor"), default="channel", help="what shares a scale, above 4 bits [channel]")
    add("--group", metavar="N", type=typed(Count), default=32, help="neighbours that share a scale, up to 4 bits [32]")
    add("--affine", action="store_true", help="ranges from the lowest to the highest value")
    add("--ranges", choices=RANGES, default="minmax", help="how ranges are found [minmax]")
    add("--activations", choices=ACTIVATIONS, default="dynamic", help="how layers take their inputs [dynamic]")
    add("--rounding", choices=("nearest", "gptq"), default="nearest", help="[nearest]")
    add("--no-embeddings", action="store_true", help="leave embedding tables as floats")
    add("--batches", metavar="N", type=typed(Few), default=16, help="batches for static activations and gptq [16]")
    shown = TRAINING | {"steps": "0: quantize without training"}
    add_config_flags(parser, "the training, if --steps are given", TrainConfig, shown)


def main(args: argparse.Namespace) -> None:
    args = compare.begun(args, "quantize", add_arguments)
    source = compare.open_source(args)
    batches = source.batches(args.batches)
    options = dict(
        per=args.per, group=args.group, symmetric=not args.affine, ranges=args.ranges, activations=args.activations,
        embeddings=not args.no_embeddings, batches=batches,
    )
    made = lambda bits, how: quantize(copy.deepcopy(source.model), bits, rounding=how, **options)
    model = made(args.bits, args.rounding)
    with compare.new_run(source, args, "quantize", "quantized") as folder:
        lines = [compare.measure(source, "before", source.model, args.limit)]
        lines.append(compare.measure(source, f"{args.bits} bits, {args.rounding}", model, args.limit))
        if trained := "steps" in given(args, TrainConfig):
            config = source.training(args, TRAINING)
            model = qat.prepare(copy.deepcopy(source.model), args.bits, batches, args.group)
            compare.fine_tune(source, model, folder, config)
            qat.finish(model)
            lines.append(compare.measure(source, f"{args.bits} bits, trained {config.steps} steps", model, args.limit))
        before = source.score(source.model, args.limit)
        curves = {"before": [(bits, before) for bits in CURVE]}
        for how in ("nearest", "gptq"):
            several = bar(CURVE, f"the curve of {how}")
            curves[how] = [(bits, source.score(made(bits, how), args.limit)) for bits in several]
        if trained:
            curves["trained"] = [(args.bits, lines[-1].score)]
        compare.conclude(folder, lines, curves, "bits of a weight", source.unit, f"{source.folder.name} quantized")
        compare.finish_run(source, folder, model)
