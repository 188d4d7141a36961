"""Distill a trained model: a smaller student learns from it, and is compared with one that learns without it.

  python -m train distill runs/gpt-1 --layers 2                        every other layer, then DistilBERT's three losses
  python -m train distill runs/gpt-1 --layers 1 --keep 0.5             with half of each layer's neurons
  python -m train distill runs/gpt-1 --layers 2 --hidden 1 --attention 1 --embedding 1      TinyBERT's losses
  python -m train distill runs/gpt-1 --layers 2 --written 2000         the student reads what the teacher wrote
  python -m train distill --resume runs/gpt-distilled-1                go on where the command was stopped
"""

import argparse
import copy
import dataclasses

import tinytensor as tt
from models.contract import Writer
from models.schema import Chance, Count, Few, Whole
from nn.compression.surgery import stacks
from train.compression import compare, measure
from train.compression.distill import (
    ALONE,
    Distillation,
    DistillConfig,
    TaughtReport,
    TeacherWritten,
    make_student,
    written_by,
)
from train.flags import add_config_flags, add_ranks_flag, given, typed
from train.trainer import TrainConfig

TRAINING = dict(steps=1000, lr=1e-3, warmup=50)
PROMPT = 8  # tokens of the training text that each of the teacher's texts begins with


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    compare.add_arguments(parser, "distilled")
    add("--layers", metavar="N", type=typed(Few), help="layers of the student [half of the teacher's]")
    add("--keep", metavar="X", type=typed(Chance), default=1.0, help="share of the neurons that it keeps [1.0]")
    add("--width", metavar="N", type=typed(Count), help="train a new student of this width, with projections")
    add("--written", metavar="N", type=typed(Whole), default=0,
        help="let the student learn from N texts that the teacher wrote (any N for a T5: from its answers)")
    add("--alone", action=argparse.BooleanOptionalAction, default=True,
        help="also train the same student without the teacher [on]")
    add_config_flags(parser, "what the student follows", DistillConfig)
    add_ranks_flag(parser)
    add_config_flags(parser, "the training", TrainConfig, TRAINING)


def main(args: argparse.Namespace) -> None:
    args = compare.begun(args, "distill", add_arguments)
    source = compare.open_source(args)
    teacher = source.model
    if not stacks(teacher):
        raise ValueError(f"a student follows blocks of a transformer; a {source.family} has none")
    if any(block.attention.qkv is None for block in stacks(teacher)[0]):
        raise ValueError(f"a student follows one stream through the blocks of a transformer; a {source.family} has two")
    follow = DistillConfig(**given(args, DistillConfig))
    config = source.training(args, TRAINING)
    student = _student(args, source, config.seed)
    both = Distillation(student, teacher, follow)  # what does not fit is named here
    if args.written and not isinstance(teacher, Writer):
        raise ValueError(f"--written needs a teacher that writes, which a {source.family} does not")
    with compare.new_run(dataclasses.replace(source, model=student), args, "distill", "distilled") as folder:
        models = {"teacher": teacher}
        if args.alone:
            models["student alone"] = copy.deepcopy(student)
            compare.fine_tune(source, models["student alone"], folder, config, ALONE)
        learning, make = source, source.make_objective
        if args.written and teacher.reads_source:
            learning = dataclasses.replace(source, make_objective=lambda how: TeacherWritten(make(how), teacher))
        elif args.written:
            first = make(dataclasses.replace(config, batch=args.written)).training_batch(source.train_data, 0)
            written = written_by(teacher, first["ids"][:, :PROMPT], config.seed)
            learning = dataclasses.replace(source, train_data=written)
        compare.fine_tune(learning, both, folder, config, heard_by=TaughtReport)
        lines = measure.measure(source, models | {"student, taught": student}, args.limit)
        curves = {m.name: [(m.parameters, m.score)] for m in lines}
        how = f"students trained {config.steps} steps, batch {config.batch}, from the same weights"
        title = f"{source.folder.name} distilled: {how}\n{source.measured_on(args.limit)}"
        measure.conclude(folder, lines, curves, "parameters", source.unit, title)
        compare.finish_run(source, folder, student)


def _student(args: argparse.Namespace, source: compare.Source, seed: int):
    """Some of the teacher's layers, or a new model of another width."""
    teacher = source.model
    layers = args.layers or max(1, len(stacks(teacher)[0]) // 2)
    if args.width is None:
        return make_student(teacher, layers, args.keep)
    if source.fine_tuned:
        raise ValueError("a student of another width would have to be pretrained first; leave out --width")
    if args.keep < 1:
        raise ValueError("--keep takes neurons of the teacher's layers, which a student of another width does not have")
    heads = max(h for h in range(1, teacher.config.heads + 1) if args.width % h == 0)
    shape = dataclasses.replace(teacher.config, layers=layers, width=args.width, heads=heads)
    with tt.random.seeded(seed):
        return type(teacher)(shape)
