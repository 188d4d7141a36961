"""Train a GPT: a model that writes, one token after another.

Without any flag it learns from built-in stories, on all cores, in about two minutes.

  python -m train gpt --data book.txt                    learn from your own text
  python -m train gpt --data book.txt --steps 20000 --layers 6 --heads 6 --width 384 --context 256
  python -m train gpt --resume runs/gpt-1                go on where a run was stopped
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
from pathlib import Path

import tinytensor as tt
from models import GPT, GPTConfig
from models.generate import generate
from models.tokenizers import ByteLevelBPE, Characters, Tokenizer
from models.tokenizers import load as load_tokenizer
from train import checkpoint
from train.data.corpus import FileSource, StoriesSource, all_text, build_corpus, open_corpus
from train.flags import add_config_flags, given
from train.objectives.causal import Causal
from train.report import PLOT_HINT, Report, describe_loss
from train.trainer import TrainConfig, Trainer

SUMMARY = "train a GPT, a model that writes, on any text"

# What learns most from the stories in two minutes on two cores.
MODEL = dict(context=128, layers=2, heads=4, width=128, bias=False, init_std=0.08)
TRAINING = dict(steps=3500, batch=8, lr=3e-3)
STORIES = 8_000_000
BPE_SIZE = 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", metavar="PATH", help="a UTF-8 text file or a folder of them [built-in stories]")
    parser.add_argument(
        "--stories", metavar="N", type=int, default=STORIES, help=f"how many characters of stories to make [{STORIES}]"
    )
    parser.add_argument("--out", metavar="RUN", type=Path, help="the run's folder, made by this command [runs/gpt-N]")
    parser.add_argument("--overwrite", action="store_true", help="empty the --out folder if it exists")
    parser.add_argument("--resume", metavar="RUN", type=Path, help="go on with this run, with its own settings")
    parser.add_argument(
        "--tokenizer",
        metavar="HOW",
        help="characters, bpe (learned from the text, --vocab-size tokens) or the path of a tokenizer.json "
        "[bpe for the stories, characters for your own text]",
    )
    parser.add_argument("--preset", metavar="NAME", help="start from a published shape: gpt2, gpt2-medium, ...")
    add_config_flags(parser, "the model", GPTConfig, MODEL | {"vocab_size": "the tokenizer's"})
    add_config_flags(parser, "the training", TrainConfig, TRAINING)


def run(args: argparse.Namespace) -> None:
    trainer, tokenizer, corpus = _resume(args) if args.resume else _begin(args)
    folder, report = trainer.run, trainer.report
    report.start(trainer.progress.step)
    try:
        progress = trainer.train()
    finally:
        report.close()
    drawn = report.draw(folder / "loss.png")
    if progress.step < trainer.config.steps:
        print(f"stopped after step {progress.step}; go on with: python -m train gpt --resume {folder}")
        return
    split = corpus.val_split
    val_loss = report.val_loss
    text = _write_samples(trainer, tokenizer, folder / "samples.txt")
    print(f"\n{text}\n")
    print(f"held-out loss {describe_loss(val_loss, split.tokens, split.bytes)}")
    if split.nats is not None:
        floor, per_character = split.nats / split.tokens, split.tokens / split.characters
        print(
            f"the entropy of this text is {floor:.4f}: the loss is {100 * (val_loss / floor - 1):.1f}% above the lowest"
            f" possible (per character {val_loss * per_character:.4f} and {floor * per_character:.4f} nats)"
        )
    print(f"the run is in {folder}: " + ", ".join(sorted(f.name for f in folder.iterdir() if f.name[0] != ".")))
    if not drawn:
        print(PLOT_HINT)
    print(f'to write more: python -m train sample {folder} --prompt "{text.split()[0]}"')


def _begin(args: argparse.Namespace):
    """A new run: its folder, tokenizer, token files and model."""
    config = TrainConfig(**(TRAINING | given(args, TrainConfig)))
    shape = MODEL if args.preset is None else dataclasses.asdict(GPTConfig.preset(args.preset))
    shape = shape | given(args, GPTConfig)
    GPTConfig(**shape)  # bad values are named before any file is read
    source = FileSource(args.data) if args.data else StoriesSource(args.stories)
    tokenizer = _tokenizer(args, source)
    if "vocab_size" not in given(args, GPTConfig):
        shape["vocab_size"] = tokenizer.vocab_size
    checkpoint.check_vocabulary(tokenizer, shape["vocab_size"])
    model_config = GPTConfig(**shape)
    folder = _make_folder(args.out, args.overwrite)
    try:
        corpus = build_corpus(source, tokenizer, folder)
        tokenizer.save(folder)
        checkpoint.save_config(folder, "gpt", model_config)
        _save_settings(folder, config, args.data)
        with tt.random.seeded(config.seed):
            model = GPT(model_config)
        trainer = _trainer(model, corpus, config, folder)
    except ValueError:
        shutil.rmtree(folder)  # nothing was learned yet: leave no trace of a run that could not begin
        raise
    print(f"{model.parameter_count():,} parameters; {corpus.train_split.tokens:,} tokens to train on and "
          f"{corpus.val_split.tokens:,} held out; {trainer.workers} {trainer.kind}; in {folder}")
    return trainer, tokenizer, corpus


def _tokenizer(args: argparse.Namespace, source) -> Tokenizer:
    """The tokenizer asked for with --tokenizer, learned from the source unless it is a path."""
    how = args.tokenizer or ("characters" if args.data else "bpe")
    if how == "characters":
        return Characters.train(all_text(source))
    if how == "bpe":
        return ByteLevelBPE.train(all_text(source), vars(args).get("vocab_size", BPE_SIZE))
    return load_tokenizer(how)


def _resume(args: argparse.Namespace):
    """A run that was stopped, as it was at its last checkpoint. Settings given now replace those of the run."""
    folder = args.resume
    for name in ("data", "out", "tokenizer", "preset"):
        if getattr(args, name) is not None:
            raise ValueError(f"--resume goes on with the run's own data and model; leave out --{name}")
    _, model_config = checkpoint.load_config(folder)
    for name, value in given(args, GPTConfig).items():
        if value != getattr(model_config, name):
            raise ValueError(f"--{name} {value} does not fit: {folder} was made with {getattr(model_config, name)}")
    settings = _load_settings(folder)
    config = TrainConfig(**(settings["train"] | given(args, TrainConfig)))
    tokenizer = load_tokenizer(folder)
    checkpoint.check_vocabulary(tokenizer, model_config.vocab_size)
    corpus = open_corpus(folder)
    trainer = _trainer(GPT(model_config), corpus, config, folder)
    trainer.restore()
    done = trainer.progress.step
    if done >= config.steps:
        raise ValueError(f"{folder} has all of its {config.steps} steps; ask for more with --steps")
    _save_settings(folder, config, settings["data"])
    print(f"going on after step {done} of {config.steps}; {trainer.workers} {trainer.kind}; in {folder}")
    return trainer, tokenizer, corpus


def _trainer(model: GPT, corpus, config: TrainConfig, folder: Path) -> Trainer:
    objective = Causal(model.config.context, config.batch, config.seed)
    report = Report(folder, config.steps, corpus.val_split.floor)
    return Trainer(model, objective, corpus.train, corpus.val, config, folder, report)


def _make_folder(out: Path | None, overwrite: bool) -> Path:
    if out is None:
        number = 1
        while Path(f"runs/gpt-{number}").exists():
            number += 1
        out = Path(f"runs/gpt-{number}")
    try:
        if out.exists():
            if not overwrite:
                raise ValueError(f"{out} exists already; choose another --out, go on with --resume, or --overwrite it")
            if not (out / "config.json").exists() and any(out.iterdir()):
                raise ValueError(f"{out} does not look like a run, so it is not overwritten; choose another --out")
            shutil.rmtree(out)
        out.mkdir(parents=True)
    except OSError as error:
        raise ValueError(f"{out} cannot be written: {error.strerror}") from None
    return out


def _save_settings(folder: Path, config: TrainConfig, data: str | None) -> None:
    text = json.dumps({"data": data, "train": dataclasses.asdict(config)}, indent=1) + "\n"
    checkpoint.replace_file(folder / "trainer.json", lambda path: path.write_text(text))


def _load_settings(folder: Path) -> dict:
    try:
        return json.loads((folder / "trainer.json").read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder / 'trainer.json'} cannot be read: {error}") from None


def _write_samples(trainer: Trainer, tokenizer, path: Path, count: int = 3, tokens: int = 600) -> str:
    """Let the trained model write a few texts into samples.txt; returns the first."""
    start = trainer.val_tokens[:1].astype(int)  # a token that texts of this kind begin with
    with tt.random.seeded(trainer.config.seed):
        ids = generate(trainer.model, [start] * count, tokens, temperature=0.8)
    texts = [tokenizer.decode(row.tolist()).strip() for row in ids]
    rule = f"\n\n{'-' * 30}\n\n"
    path.write_text(f"after {trainer.progress.step} steps, temperature 0.8:\n\n{rule.join(texts)}\n")
    return texts[0]
