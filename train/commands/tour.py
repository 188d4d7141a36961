"""The lecture's tables recomputed, energy and carbon reckoned, the paradox of large models drawn, the unicorns met.

  python -m train tour trend                        twelve models that grew, each counted; and the growth picture
  python -m train tour carbon                       Strubell et al.'s table, row by row
  python -m train tour carbon runs/gpt-1            what a run of yours took; --grid germany: with that country's power
  python -m train tour carbon --preset gpt3-175b --tokens 300e9 --gpus 1024 --grid germany
  python -m train tour paradox runs/gpt-1           train wide models and narrow ones, and make all equally small
  python -m train tour unicorn FOLDER               GPT-2's unicorns by a published folder; a run has its own prompt
"""

import argparse
from pathlib import Path

from models.families import FAMILIES
from models.files import write_text
from models.schema import Count, Few, Positive, Size
from train.compression import compare
from train.flags import add_config_flags, typed
from train.places import newest_run
from train.report import HINT
from train.tour import carbon, paradox, trend, unicorn
from train.trainer import TrainConfig

BY_CLOCK = ("steps", "warmup", "eval_every", "eval_batches", "save_every", "log_every")  # leave nothing to say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    stops = parser.add_subparsers(metavar="STOP", required=True)

    def stop(command, help: str):
        at = stops.add_parser(command.__name__[1:], help=help, description=help, exit_on_error=False)
        at.set_defaults(stop=command)
        return at.add_argument, at

    add, _ = stop(_trend, "the lecture's table of growing models, counted")
    add("--picture", metavar="PNG", type=Path, default=Path("trend.png"), help="[trend.png]")
    add, _ = stop(_carbon, "what training takes from the wall and puts into the air")
    add("run", metavar="RUN", type=Path, nargs="?", help="a run of yours [none: the published table]")
    add("--family", choices=FAMILIES, default="gpt", help="of the preset [gpt]")
    add("--preset", metavar="NAME", help="a known shape to train instead, such as gpt3-175b")
    add("--tokens", metavar="N", type=typed(Positive), help="that it reads in training, such as 300e9")
    add("--gpus", metavar="N", type=typed(Count), default=1024, help="that train it [1024]")
    add("--tflops", metavar="X", type=typed(Positive), default=105.0,
        help="what each achieves [105: an A100 does 140, a quarter of it to find activations again]")
    add("--watts", metavar="X", type=typed(Positive), default=400.0, help="of each, with what is around it [400]")
    add("--pue", metavar="X", type=typed(Positive), default=1.1, help="watts from the wall per watt used [1.1]")
    add("--grid", metavar="G", default="world", help=f"grams of CO2e per kWh, or {', '.join(carbon.GRIDS)} [world]")
    add, parser = stop(_paradox, "train large, then compress: loss against seconds and against bytes")
    compare.add_arguments(parser, "paradox")
    add("--widths", metavar="N", type=typed(Count), nargs="+", help="[a quarter, a half, one and two of the run's]")
    add("--seconds", metavar="X", type=typed(Positive), default=60.0, help="that each model is trained for [60]")
    add("--recovery", metavar="X", type=typed(Positive), default=0.25,
        help="for this share of them what is left trains on, for each size [0.25]")
    add("--bits", metavar="N", type=int, default=4, help="of the weights in the end [4]")
    add("--seeds", metavar="N", type=typed(Few), default=3, help="repetitions, for error bars [3]")
    add_config_flags(parser, "the training", TrainConfig, {"lr": "the run's own, like all others"}, skip=BY_CLOCK)
    add, _ = stop(_unicorn, "how a model goes on from what nobody wrote before")
    add("folder", metavar="FOLDER", type=Path, nargs="?", help="a published GPT-2, or a run [the newest runs/gpt-N]")
    add("--prompt", help="[the unicorns; for a run the beginning of its held-out text]")
    add("--tries", metavar="N", type=typed(Few), default=3, help="[3]")
    add("--tokens", metavar="N", type=typed(Count), default=200, help="that each writes at most [200]")
    add("--seed", metavar="N", type=typed(Size), default=0, help="equal seeds write equal texts [0]")


def main(args: argparse.Namespace) -> None:
    args.stop(args)


def _trend(args: argparse.Namespace) -> None:
    print(trend.table(trend.TREND), trend.table(trend.SMALL), sep="\n\n")
    print(f"\nthe picture is in {args.picture}" if trend.draw(args.picture) else f"\n{HINT}")


def _carbon(args: argparse.Namespace) -> None:
    if bool(args.preset) != bool(args.tokens) or (args.run and args.preset):
        raise ValueError("give a RUN that was trained here, or a --preset with the --tokens it reads, such as 300e9")
    grams = carbon.grams_per_kwh(args.grid)
    if args.preset:
        model, config = FAMILIES[args.family].model, FAMILIES[args.family].config.preset(args.preset)
        print(f"{args.preset}: {trend.count(model, config):,} parameters, {args.tokens:.3g} tokens")
        how = args.gpus, args.tflops, args.watts, args.pue, grams
        print(carbon.Training(6 * trend.passed(model, config) * args.tokens, *how))
    else:
        print(carbon.of_run(args.run, grams) if args.run else carbon.strubell())


def _paradox(args: argparse.Namespace) -> None:
    if args.resume:
        raise ValueError("the models of a paradox are not kept, so a stopped one cannot go on; begin it anew")
    source = compare.open_source(compare.begun(args, "tour paradox", add_arguments))
    width, config = source.model.config.width, source.training(args)
    widths = args.widths or [width * n // 4 for n in (1, 2, 4, 8)]
    experiment = paradox.Experiment(source, config, widths, args.seconds, args.recovery, args.bits, args.limit)
    with compare.new_run(source, args, "tour paradox", "paradox") as folder:
        results = []
        for seed in range(config.seed, config.seed + args.seeds):
            for one in experiment.results(seed):
                results.append(one)
                small = "".join(f", {loss:.4f} in {size:,} bytes" for size, loss in one.small.values())
                done = f"{one.steps} steps  loss {one.points[-1][1]:.4f}"
                print(f"seed {seed}  width {one.width}  {done}{small}", flush=True)
        print(text := paradox.table(results))
        write_text(folder.path / "paradox.md", text + "\n")
        title = f"{source.family}: {args.seconds:g} seconds of training for each width"
        drawn = paradox.draw(folder.path / "paradox.png", results, title)
        print(f"the best of the smallest models, paradox.md{' and paradox.png' * drawn} are in {folder.goal}")
        compare.finish_run(source, folder, experiment.best[1])


def _unicorn(args: argparse.Namespace) -> None:
    folder = args.folder or newest_run("gpt")
    for text in unicorn.tries(folder, args.prompt, args.tries, args.tokens, args.seed):
        print(text, end="\n\n", flush=True)
