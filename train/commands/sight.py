"""Train a GPT that reads pictures, and answers questions about them.

Without any flag it learns from built-in pictures of the stories' world, on all cores, in half an hour.

  python -m train sight --init runs/gpt-1                begin with a GPT that knows the stories
  python -m train sight --side 64 --patch 8              larger pictures
  python -m train sight --data scenes.txt                your own scenes, one a line (train/data/pictures.py)
  python -m train sight --resume runs/sight-1            go on where a run was stopped

Then: python -m train ask runs/sight-1 --image runs/sight-1/scene.png "What colour is the ball?"
"""

import argparse
import contextlib
from itertools import islice

from models.files import replace_file
from models.tokenizers import ByteLevelBPE
from nn import evaluating
from train import checkpoint, pretrain, seeing
from train.data.pictures import WIDTH, Scene, ScenesSource, draw, scene_of
from train.data.questions import askable, examination
from train.data.raster import png
from train.objectives.pictured import CAPTION, spoken
from train.recipes import Recipe

EACH = 60  # questions of each form in the last examination

RECIPE = Recipe(
    family="sight", usual=("bpe", "bpe"), vocab_size=512, stories=2_500_000, source=ScenesSource,
    tokenizers={"bpe": lambda texts, vocab_size: ByteLevelBPE.train(spoken(texts), vocab_size)},
    model=dict(context=64, layers=3, heads=4, width=128, bias=False, init_std=0.08),
    training=dict(steps=9000, batch=32, lr=3e-3),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pretrain.add_arguments(parser, RECIPE)


def main(args: argparse.Namespace) -> None:
    job = pretrain.start(args, RECIPE)
    job.trainer.report.sample = job.trainer.config.tensor == 1 and (lambda: _answers(job, 1)[0])
    if not pretrain.train(job):
        return
    model, objective = job.trainer.model.eval(), job.trainer.objective
    table = seeing.examined(model, objective, EACH)
    pretrain.save_samples(job, "", [table, *_answers(job, 5)])
    scene, question = shown(job)
    with contextlib.closing(checkpoint.Folder(job.folder)):
        picture = png(draw(scene, 8 * objective.side))
        replace_file(job.folder / "scene.png", lambda path: path.write_bytes(picture))
    print(f"\n{EACH} questions of each form, then as many about colours of things that no picture to learn from had:")
    print(table)
    print(pretrain.describe(job.folder))
    print(f'to ask it: python -m train ask {job.folder} --image {job.folder}/scene.png "{question}"')


def shown(job: pretrain.Job) -> tuple[Scene, str]:
    """A held-out scene with some things in it, and a question about it."""
    data, scene = job.trainer.val_data, None
    for start in range(0, len(data), WIDTH):
        scene = scene_of(data[start : start + WIDTH])
        some = [question for found in askable(scene, "what colour").values() for question in found]
        if some and len(scene.things) > 2:
            return scene, some[0].text
    return scene, "Where is this?"


def _answers(job: pretrain.Job, count: int) -> list[str]:
    """What the model says about some held-out pictures, beside what is right."""
    trainer, texts = job.trainer, []
    for scene, question in islice(examination(1, 3), 0, None, 3):
        pixels = draw(scene, trainer.objective.side)
        with evaluating(trainer.model):
            said = "".join(seeing.answers(trainer.model, job.tokenizer, pixels, question.text, tokens=24))
            seen = "".join(seeing.answers(trainer.model, job.tokenizer, pixels, CAPTION))
        texts.append(f"picture:  {scene.caption}\nseen:     {seen}\n{question.text} {said} ({question.answer})")
    return texts[:count]
