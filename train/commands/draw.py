r"""Train a GPT that draws: it reads a caption and writes a program of circles, lines and polygons, in TikZ.

Without any flag it learns from drawings of the stories' world, made by rules, on all cores, in a few minutes, and is
scored on captions with combinations that no training drawing has. Its unicorn is kept at six steps on the way.

  python -m train draw --examples 40000                  learn from more of them
  python -m train draw --resume runs/draw-1              go on where a run was stopped
  python -m train draw runs/draw-1 "a unicorn"           let it draw: the program, and what of the caption is there
  python -m train draw runs/draw-1 "a red ball above a house" --out ball.svg       (or .tex) as a file
  python -m train draw runs/draw-1 "a unicorn" --start half.tex --out whole.svg    go on with a drawing

`ask RUN "a unicorn"` takes its runs too, and `finetune RUN --task drawings` teaches any GPT to draw.
"""

import argparse
import contextlib
import dataclasses
import math
from pathlib import Path

import tinytensor as tt
from models import GPT, GPTConfig
from models.files import read_text, write_json, write_text
from models.schema import Few, Million
from models.tokenizers import ByteLevelBPE
from train import checkpoint, finetune, resume, runs
from train.commands.finetune import go_on
from train.drawing import scenes, svg, tikz, unicorns
from train.drawing.looking import found
from train.drawing.scenes import understand
from train.drawing.score import beginning, readable
from train.drawing.shapes import Drawing
from train.drawing.sheet import page
from train.finetune import FineTuneConfig
from train.flags import add_config_flags, add_ranks_flag, given, typed
from train.places import check_output
from train.tasks import TASKS, Draw
from train.tasks.examples import checksum, examples_of
from train.trainer import TrainConfig, Trainer

MODEL = dict(context=288, layers=3, heads=4, width=128, bias=False, init_std=0.08)
TRAINING = dict(batch=12, lr=3e-3, warmup=100)
EXAMPLES, EPOCHS, EVALUATIONS = 36_000, 2, 6
# One word for the tokenizer is: \fill[red] (   ) circle (   a word of a caption   12,   20   what stands between them.
PATTERN = (r"\\[a-z]+(?:\[[a-z]+\])? \(|\\begin\{scope\}\[|(?:, )?shift=\{\(|\\end\{scope\}\n"
           r"|\) (?:[a-z]+ \(|-- cycle;\n)| ?[a-z]+|[0-9]+,?|[^a-z0-9\\]+")  # fmt: skip
VOCABULARY, READ = 704, 3000  # tokens at most, and examples that they are learned from
FOLLOWS = ("steps", "eval_every", "save_every", "eval_batches")  # from the number of examples
ASKED = ("a unicorn", "a big red ball left of a small blue house", "a girl in a green dress above a black cat",
         "a yellow kite over a little tree")  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("run", metavar="RUN", type=Path, nargs="?", help="a run that has learned to draw; none: train one")
    add("captions", metavar="CAPTION", nargs="*", help="what it shall draw")
    add("--start", metavar="FILE", type=Path, help="an .svg or .tex file with the first shapes of the drawing")
    add("--out", metavar="PATH", type=Path,
        help="the new run's folder [runs/draw-N]; with a RUN the file to write, .svg or .tex [the program is printed]")
    add("--overwrite", action="store_true", help="let it take the place of what --out is")
    add("--resume", metavar="RUN", type=Path, help="go on with this run, with its own settings")
    add("--examples", metavar="N", type=typed(Million), help=f"drawings to make and learn from [{EXAMPLES}]")
    add("--epochs", metavar="N", type=typed(Few), default=argparse.SUPPRESS,
        help=f"times to go through them [{EPOCHS}]")
    add_ranks_flag(parser)
    add_config_flags(parser, "the model", GPTConfig, MODEL, skip=("vocab_size",))
    add_config_flags(parser, "the training", TrainConfig, TRAINING, skip=FOLLOWS)


def main(args: argparse.Namespace) -> None:
    if args.run is not None:
        return draw(args)
    if args.start:
        raise ValueError("--start is the beginning of a drawing; name the RUN that shall end it, and a CAPTION")
    trainer = _resume(args) if args.resume else _begin(args)
    trainer.report.sample = trainer.config.cuts == 1 and (lambda: unicorns.program(trainer.report.tuned))
    with contextlib.closing(trainer.folder):
        finished = runs.train(trainer)
        folder = trainer.run
        if not finished:
            step, steps = trainer.progress.step, trainer.config.steps
            print(f"stopped after step {step} of {steps}; go on with: python -m train draw --resume {folder}")
            return
        if not trainer.report.scores:  # a run that was killed behind its last checkpoint
            trainer.report.answer()
        for line in _drawn(trainer):
            print(line)
    print(f'to let it draw: python -m train draw {folder} "a unicorn" --out unicorn.svg')


def _begin(args: argparse.Namespace) -> Trainer:
    """A new run: what it is to do is written down in its folder, as finetune does it."""
    config = FineTuneConfig(**{"epochs": EPOCHS} | given(args, FineTuneConfig))
    count = args.examples or EXAMPLES
    settings = TRAINING | given(args, TrainConfig)
    checked = TrainConfig(**settings | {"steps": 1})
    updates = math.ceil(config.epochs * math.ceil(count / checked.batch) / checked.accumulate)
    settings = {"eval_every": max(1, math.ceil(updates / EVALUATIONS)), "eval_batches": 10} | settings
    settings["save_every"] = settings["eval_every"]
    shape = GPTConfig(**MODEL | given(args, GPTConfig) | {"vocab_size": VOCABULARY})  # bad values are named first
    if shape.context < MODEL["context"]:
        what = f"a caption and its program take up to {MODEL['context']} tokens"
        raise ValueError(f"--context {shape.context} is too short, as {what}; leave it out")
    record = {"task": scenes.SET, "data": None, "held_out": None, "fresh": False, "examples": count}
    kind, *examples = examples_of(**record)
    task = TASKS[kind].of(*examples)
    texts = (f"{one['caption']}\n{one['program']}" for one in examples[0][:READ])
    tokenizer = ByteLevelBPE.train(texts, VOCABULARY, pattern=PATTERN)
    with tt.random.seeded(checked.seed):
        model = GPT(dataclasses.replace(shape, vocab_size=tokenizer.vocab_size))
    with runs.new_run(args.out, "draw", args.overwrite) as folder:
        trainer = finetune.begin(folder.path, (model, tokenizer), task, *examples, config, settings)
        trainer.folder = folder
        record |= dataclasses.asdict(config) | {"train": settings, "checksum": checksum((kind, *examples))}
        write_json(folder.path / finetune.RECORD, record)
        checkpoint.seal(folder.path)
        learned, held_out = map(len, examples)
        print(f"{model.parameter_count():,} parameters; {learned} drawings to learn from, {held_out} held out; "
              f"{trainer.config.steps} steps; {trainer.workers} {trainer.kind}; in {folder.goal}")
    return trainer


def _resume(args: argparse.Namespace) -> Trainer:
    said = [name for name in ("out", "overwrite", "examples") if vars(args)[name] not in (None, False)]
    if said := [*said, *given(args, GPTConfig)]:
        raise ValueError(f"--resume goes on with the run's own model and drawings; leave out --{said[0]}")
    resume.check_goes_on(args.resume, "finetune")
    _check(finetune.read_saved(args.resume).task, args.resume)
    with resume.going_on(args.resume) as folder:
        return go_on(args, folder)


def _check(kind: str, run: Path) -> None:
    if kind != Draw.kind:
        raise ValueError(f"{run} was fine-tuned for {kind}, not to draw; train one with: python -m train draw")


def _drawn(trainer: Trainer) -> list[str]:
    """What a run that is done leaves in its folder, and says."""
    folder, report = trainer.run, trainer.report
    said = ["held out: " + ", ".join(f"{name} {value:.4f}" for name, value in report.scores.items())]
    said.append(unicorns.leave(folder, report))
    programs = report.tuned.answers([{"caption": caption} for caption in ASKED])
    for caption, program in zip(ASKED, programs):
        said.append(f"{caption}: {_judged(caption, readable(program))}")
    captions = [example["caption"] for example in report.held_out]
    drawings = [(caption, drawing) for caption, program in zip([*ASKED, *captions], [*programs, *report.answers])
                if (drawing := readable(program))][:24]  # fmt: skip
    write_text(folder / "drawings.svg", page(drawings))
    return [*said, f"drawings of held-out captions, in any browser: {folder / 'drawings.svg'}"]


# ---- a trained run draws


def draw(args: argparse.Namespace) -> None:
    """Draw each caption; print the programs, or write them."""
    said = [*(given(args, TrainConfig) | given(args, GPTConfig) | given(args, FineTuneConfig)).keys() - {"device"}]
    said += [name for name in ("resume", "examples", "ranks") if vars(args)[name] is not None]
    if said:
        raise ValueError(f"--{said[0].replace('_', '-')} is for training; to draw leave it out, to train {args.run}")
    if not args.captions:
        raise ValueError(f'say what to draw: python -m train draw {args.run} "a unicorn"')
    if args.out and args.out.suffix not in (".svg", ".tex"):
        raise ValueError(f"--out {args.out} must end in .svg or .tex")
    if args.out and args.out.suffix == ".tex" and len(args.captions) > 1:
        raise ValueError(f"--out {args.out} takes one drawing, not {len(args.captions)}; several go into an .svg")
    if args.out:
        check_output(args.out, args.overwrite, [args.run, args.start])
    start = tikz.write(_read(args.start)) if args.start else ""
    _check(finetune.read_saved(args.run).task, args.run)
    tuned = finetune.load(args.run)
    tuned.model.to(vars(args).get("device", "cpu"))
    programs = tuned.answers([{"caption": caption, "start": start} for caption in args.captions])
    for caption, program in zip(args.captions, programs):
        if not args.out:
            print(program, end="" if program.endswith("\n") else "\n")
        print(f"{caption}: {_judged(caption, readable(program))}")
    if args.out:  # of a program with a mistake, what stands before it
        write_text(args.out, _file(args.out, list(zip(args.captions, map(beginning, programs)))))
        print(f"the drawing is {args.out}")


def _judged(caption: str, drawing: Drawing | None) -> str:
    """What of a caption a drawing shows."""
    if drawing is None:
        return "the program is no drawing, or none to its end"
    answers = found(understand(caption), drawing)
    there, missing = ([name for name, there in answers.items() if there is wanted] for wanted in (True, False))
    parts = [f"{what} {', '.join(names)}" for what, names in (("there:", there), ("missing:", missing)) if names]
    return "; ".join(parts) or "it asks for nothing that the judge knows"


def _read(path: Path) -> Drawing:
    """The drawing in a file."""
    text = read_text(path, "a drawing")
    try:
        return svg.read(text) if path.suffix == ".svg" else tikz.read(text)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _file(path: Path, drawings: list[tuple[str, Drawing]]) -> str:
    if path.suffix == ".tex":
        return tikz.document(drawings[0][1])
    return svg.write(drawings[0][1]) if len(drawings) == 1 else page(drawings)
