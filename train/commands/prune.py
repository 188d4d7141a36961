"""Prune a trained model: leave out weights, neurons, heads, rows or layers, train what is left, and compare.

  python -m train prune runs/gpt-1 --amount 0.8                        single weights, masked
  python -m train prune runs/gpt-1 --what heads --what neurons         half of both, really removed: smaller and faster
  python -m train prune runs/gpt-1 --amount 0.8 --when iterative       in five rounds, a training after each
  python -m train prune runs/gpt-1 --when cubic --by movement          gradually, while it trains
  python -m train prune runs/gpt-pruned-1 --amount 0.9                 go on from what is masked, a round of its own
  python -m train prune runs/gpt-1 --curve                             also the quality at every share, without training
  python -m train prune --resume runs/gpt-pruned-1                     go on where the command was stopped
"""

import argparse
import copy
from functools import partial

import tinytensor as tt
from models.schema import Few, Part
from nn.compression.prune import BY, WHAT, prune, rounds, shrink
from train.compression import compare, measure
from train.compression.prune import SCHEDULES, Pruning, gradually
from train.flags import add_config_flags, add_ranks_flag, typed
from train.report import bar
from train.trainer import TrainConfig

TRAINING = dict(steps=500, lr=1e-3, warmup=20, eval_every=250)
CURVE = (0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    compare.add_arguments(parser, "pruned")
    add("--amount", metavar="X", type=typed(Part), default=0.5, help="the share to leave out [0.5]")
    add("--what", action="append", choices=WHAT, help="what to leave out; may be given several times [weights]")
    add("--by", choices=BY, default="magnitude", help="how to tell what is worth least [magnitude]")
    add("--whole", action="store_true", help="compare over the whole model, not layer by layer")
    add("--when", choices=SCHEDULES, default="one-shot", help="when it goes [one-shot]")
    add("--rounds", metavar="N", type=typed(Few), default=5, help="iterative: how often to prune and train [5]")
    add("--recovery", metavar="X", type=typed(Part), default=0.7,
        help="cubic: the share of the steps, at the end, in which nothing more goes [0.7]")
    add("--batches", metavar="N", type=typed(Few), default=8, help="batches for scores by gradient and activation [8]")
    compare.add_curve_flag(parser, "shares from 0.2 to 0.9, by the score and by chance")
    add_ranks_flag(parser)
    add_config_flags(parser, "the training of what is left", TrainConfig, TRAINING)


def main(args: argparse.Namespace) -> None:
    args = compare.begun(args, "prune", add_arguments)
    source = compare.open_source(args)
    what = args.what or ["weights"]
    config = source.training(args, TRAINING)
    shares = rounds(args.amount, args.rounds) if args.when == "iterative" else [args.amount]
    cubic = args.when == "cubic" and gradually(args.amount, config.steps, args.recovery)
    batches = source.batches(args.batches) if args.by in ("gradient", "activation") else []
    if args.by == "movement" and not cubic:
        raise ValueError("movement is known only after some training; use --when cubic")
    if args.when != "one-shot" and {"layers", "2:4"} & set(what):
        raise ValueError("layers and 2:4 patterns go at once; use --when one-shot")
    options, model = dict(by=args.by, whole=args.whole, batches=batches), copy.deepcopy(source.model)
    for each in what if args.by != "movement" else []:  # whatever is wrong comes up here, before any folder is made
        prune(copy.deepcopy(source.model), args.amount, each, **options)
    with compare.new_run(source, args, "prune", "pruned") as folder:
        models = {"before": source.model}
        if args.by != "movement":
            models[at_once := f"{args.amount:.0%} pruned at once"] = copy.deepcopy(source.model)
            for each in what:
                prune(models[at_once], args.amount, each, **options)
            shrink(models[at_once])
        if "layers" in what:  # these leave at once, and must be gone before the trainer sees the model
            prune(model, args.amount, "layers", **options)

        def mask(trainer, amount_at) -> None:
            steps = [Pruning(trainer, amount_at, each, **options) for each in what if each != "layers"]
            trainer.between = lambda loop, step: [one(loop, step) for one in steps]

        trained = {}
        for number, share in enumerate(shares, 1):
            amount_at = cubic or (lambda step, share=share: share)
            part = f"-round-{number}" if number < len(shares) else ""
            compare.fine_tune(source, model, folder, config, part, partial(mask, amount_at=amount_at))
            if not part:
                shrink(model)
            trained[f"{share:.0%} pruned, trained {config.steps} steps"] = share
            models |= {name: copy.deepcopy(model) for name in [*trained][-1:]}
        lines = measure.measure(source, models, args.limit)
        scores = {line.name: line.score for line in lines}
        points = {"before": [(0.0, scores["before"])]}
        if args.by != "movement":
            points["at once"] = [(args.amount, scores[at_once])]
        points[f"{args.when}, trained"] = [(share, scores[name]) for name, share in trained.items()]
        if args.curve:
            points |= _curves(source, what, batches, args, scores["before"])
        scope = "over the whole model" if args.whole else "layer by layer"
        parts, training = " and ".join(what), f"trained {config.steps} steps, batch {config.batch}"
        title = f"{source.folder.name}: {parts} left out by {args.by}, {scope}; {training}"
        title, axis = f"{title}\n{source.measured_on(args.limit)}", f"share of {parts} left out"
        measure.conclude(folder, lines, points, axis, source.unit, title)
        compare.finish_run(source, folder, model)


def _curves(source: compare.Source, what: list[str], batches: list, args: argparse.Namespace, before: float) -> dict:
    """Quality against the share left out at once, without training: by the score, and by chance."""
    amounts = [0.5] if "2:4" in what else sorted({*CURVE, args.amount})
    by = "magnitude" if args.by == "movement" else args.by
    curves = {f"by {by}, not trained": [(0.0, before)], "by chance, not trained": [(0.0, before)]}
    for points, score in zip(curves.values(), (by, "random")):
        for amount in bar(amounts, f"the curve by {score}"):
            model = copy.deepcopy(source.model)
            with tt.random.seeded(source.config.seed):
                for each in what:
                    prune(model, amount, each, score, whole=args.whole, batches=batches)
            points.append((amount, source.score(model, args.limit)))
    return curves
