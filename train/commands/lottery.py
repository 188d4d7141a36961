"""Look for winning tickets in a run's kind of network: train, prune, rewind, repeat, against three controls.

  python -m train gpt --tokenizer characters --stories 1000000 --width 64 --context 64 --steps 300 --out runs/small
  python -m train lottery runs/small --seeds 3

Everything is trained anew, 1 + 4 x rounds networks for each seed, so the run should be one of seconds.
"""

import argparse

from models.files import write_text
from models.schema import Few, Portion, Whole
from train.compression import compare, measure
from train.compression.lottery import Experiment, Outcome
from train.flags import add_config_flags, add_ranks_flag, typed
from train.trainer import TrainConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    compare.add_arguments(parser, "lottery")
    add("--rounds", metavar="N", type=typed(Few), default=6, help="rounds of pruning [6]")
    add("--take", metavar="X", type=typed(Portion), default=0.4, help="share of what is left that a round takes [0.4]")
    add("--rewind", metavar="N", type=typed(Whole), help="the step that weights go back to; 0: the first [a tenth]")
    add("--seeds", metavar="N", type=typed(Few), default=3, help="repetitions, for error bars [3]")
    add_ranks_flag(parser)
    add_config_flags(parser, "the training of each network", TrainConfig, {"steps": "the run's own, like all others"})


def main(args: argparse.Namespace) -> None:
    if args.resume:
        raise ValueError("the networks of a lottery are not kept, so a stopped one cannot go on; begin it anew")
    args = compare.begun(args, "lottery", add_arguments)
    source = compare.open_source(args)
    config = source.training(args)
    rewind = config.steps // 10 if args.rewind is None else args.rewind
    if not 0 <= rewind < config.steps:
        raise ValueError(f"--rewind {rewind} is not one of the {config.steps} steps of training")
    experiment = Experiment(source, config, args.rounds, args.take, rewind, args.limit)
    with compare.new_run(source, args, "lottery", "lottery") as folder:
        outcome, compared = Outcome(), {}
        last = experiment.sparsities()[-1]
        for seed in range(config.seed, config.seed + args.seeds):
            for kind, sparsity, accuracy, network in experiment.results(seed):
                weights = measure.weight_count(network)
                outcome.add(kind, sparsity, accuracy, weights)
                what = f"{sparsity:5.1%} masked  {kind:13}  {weights:9,} weights"
                print(f"seed {seed}  {what}  {accuracy:.2%} right", flush=True)
                if seed == config.seed and sparsity in (0.0, last):
                    compared[f"{kind}, {sparsity:.1%} masked"] = network
        print(text := outcome.table())
        write_text(folder.path / "lottery.md", text + "\n")
        errors = f"mean ± standard error of {args.seeds} seeds" if args.seeds > 1 else "one seed"
        title = (f"lottery tickets of {source.folder.name}: weights rewound to step {rewind} of {config.steps}, "
                 f"batch {config.batch}\n{errors}, {source.measured_on(args.limit)}")
        lines = measure.measure(source, compared, args.limit)
        measure.conclude(folder, lines, outcome.curves(), "share of weights masked", compare.ACCURACY, title)
        compare.finish_run(source, folder, compared[f"ticket, {last:.1%} masked"])
