"""Quantize a trained model: store its weights as small integers, compute with them, and compare.

  python -m train quantize runs/gpt-1                                  8 bits, a scale for every row
  python -m train quantize runs/gpt-1 --bits 4 --rounding gptq         4 bits in groups, two weights to a byte
  python -m train quantize runs/gpt-1 --bits 3 --steps 500             trained as if it were quantized already
  python -m train quantize runs/gpt-1 --curve                          also the quality with 8 to 2 bits, both roundings
  python -m train quantize --resume runs/gpt-quantized-1               go on where that training was stopped
"""

import argparse
import copy

from models.schema import Count, Few
from nn.compression import qat
from nn.compression.quantize import ACTIVATIONS, RANGES, quantize
from train.compression import compare, measure
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
    compare.add_curve_flag(parser, "8 to 2 bits, rounded to the nearest and by gptq")
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
        models = {"before": source.model, (rounded := f"{args.bits} bits, {args.rounding}"): model}
        if trained := "steps" in given(args, TrainConfig):
            config = source.training(args, TRAINING)
            model = qat.prepare(copy.deepcopy(source.model), args.bits, batches, args.group)
            compare.fine_tune(source, model, folder, config)
            qat.finish(model)
            models[trained := f"{args.bits} bits, trained {config.steps} steps"] = model
        lines = measure.measure(source, models, args.limit)
        scores = {line.name: line.score for line in lines}
        curves = {"before": [(bits, scores["before"]) for bits in (CURVE if args.curve else (args.bits,))]}
        for how in ("nearest", "gptq") if args.curve else ():
            several = bar(sorted({*CURVE, args.bits}, reverse=True), f"the curve of {how}")
            curves[how] = [(bits, source.score(made(bits, how), args.limit)) for bits in several]
        for name, point in ((args.rounding, rounded), ("trained", trained)):
            if point and name not in curves:
                curves[name] = [(args.bits, scores[point])]
        scales = f"groups of {args.group} share a scale" if args.bits <= 4 else f"a scale per {args.per}"
        how = f"{scales}, ranges by {args.ranges}, {args.activations} inputs"
        how += f"; trained {config.steps} steps" if trained else ""
        title = f"{source.folder.name}: {how}\n{source.measured_on(args.limit)}"
        measure.conclude(folder, lines, curves, "bits of a weight", source.unit, title)
        compare.finish_run(source, folder, model)
