"""Prune a trained model: leave out weights, neurons, heads, rows or layers, train what is left, and compare.

  python -m train prune runs/gpt-1 --amount 0.8                        single weights, masked
  python -m train prune runs/gpt-1 --what heads --what neurons         half of both, really removed: smaller and faster
  python -m train prune runs/gpt-1 --amount 0.8 --when iterative       in five rounds, a training after each
  python -m train prune runs/gpt-1 --when cubic --by movement          gradually, while it trains
  python -m train prune runs/gpt-pruned-1 --amount 0.9                 go on from what is masked, a round of its own
  python -m train prune --resume runs/gpt-pruned-1                     go on where the command was stopped
"""

import argparse
import copy
from functools import partial

import tinytensor as tt
from models.schema import Few, Part
from nn.compression.prune import BY, WHAT, prune, rounds, shrink
from train.compression import compare
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
        lines = [compare.measure(source, "before", source.model, args.limit)]
        if args.by != "movement":
            at_once = copy.deepcopy(source.model)
            for each in what:
                prune(at_once, args.amount, each, **options)
            shrink(at_once)
            lines.append(compare.measure(source, f"{args.amount:.0%} pruned at once", at_once, args.limit))
        if "layers" in what:  # these leave at once, and must be gone before the trainer sees the model
            prune(model, args.amount, "layers", **options)

        def mask(trainer, amount_at) -> None:
            steps = [Pruning(trainer, amount_at, each, **options) for each in what if each != "layers"]
            trainer.between = lambda loop, step: [one(loop, step) for one in steps]

        trained = []
        for number, share in enumerate(shares, 1):
            amount_at = cubic or (lambda step, share=share: share)
            part = f"-round-{number}" if number < len(shares) else ""
            compare.fine_tune(source, model, folder, config, part, partial(mask, amount_at=amount_at))
            if not part:
                shrink(model)
            name = f"{share:.0%} pruned, trained {config.steps} steps"
            lines.append(compare.measure(source, name, model, args.limit))
            trained.append((share, lines[-1].score))
        curves = _curves(source, what, batches, args) | {f"{args.when}, trained": trained}
        axis = f"share of {' and '.join(what)} left out"
        compare.conclude(folder, lines, curves, axis, source.unit, f"{source.folder.name} pruned")
        compare.finish_run(source, folder, model)


def _curves(source: compare.Source, what: list[str], batches: list, args: argparse.Namespace) -> dict:
    """Quality against the share left out at once, without training: by the score, and by chance."""
    amounts = [0.5] if "2:4" in what else sorted({*CURVE, args.amount})
    by = "magnitude" if args.by == "movement" else args.by
    start = (0.0, source.score(source.model, args.limit))
    curves = {f"by {by}, not trained": [start], "by chance, not trained": [start]}
    for points, score in zip(curves.values(), (by, "random")):
        for amount in bar(amounts, f"the curve by {score}"):
            model = copy.deepcopy(source.model)
            with tt.random.seeded(source.config.seed):
                for each in what:
                    prune(model, amount, each, score, whole=args.whole, batches=batches)
            points.append((amount, source.score(model, args.limit)))
    return curves
