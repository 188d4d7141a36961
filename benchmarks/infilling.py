"""Does learning by infilling, and by reading noise, make a better writer? ERNIE-GEN beside three others of its size.

    python -m benchmarks.infilling pretrain ernie-gen --minutes 5          also left-to-right, gpt, t5
    python -m benchmarks.infilling tune ernie-gen questions --noise 0.5    and: next-sentence
    python -m benchmarks.infilling pretrain ernie-gen-from-bert --init runs/bert-1 --minutes 5
    python -m benchmarks.infilling table

left-to-right is the very same network and first weights, without [ATTN]: each word is predicted from the one before.
gpt reads source and output in a row. All learn the stories for equally many CPU seconds of one core (steps times the
cost of a step, measured first), then the task from equal examples in equally many epochs. What is written is greedy;
exact match is ours, BLEU by sacrebleu, ROUGE-L by rouge-score (pip install -e '.[parity]').
"""

import argparse
import dataclasses
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import tinytensor as tt
from models import GPT, GPTConfig
from models.config import option
from models.ernie_gen import ERNIEGen
from models.families import END, FAMILIES, INFILLING
from models.inputs import SharedInputs
from models.schema import Whole
from models.t5 import shift_right
from nn import DecoderCache
from tinytensor import Tensor, no_grad, ops
from tinytensor.ops.softmax import IGNORED
from train import checkpoint, finetune, pretrain
from train.commands import ernie_gen, t5
from train.data.stories import tasks
from train.finetune import FineTuneConfig
from train.recipes import Recipe
from train.tables import markdown
from train.tasks import TASKS, metrics
from train.tasks.text2text import as_text2text


class LeftToRight(ERNIEGen):
    """The same network as a writer of the ordinary kind: the row of a word predicts the next."""

    def flows(self, batch: dict) -> tuple[Tensor, int]:
        ids, positions, types, sees = self.rows({name: a for name, a in batch.items() if name != "spans"})
        n = batch["ids"].shape[1] + batch["targets"].shape[1]
        hidden = self.pass_through(ids[:, :n], positions[:, :n], types[:, :n], sees[:, :n, :n])
        return hidden, batch["ids"].shape[1]

    def loss(self, batch: dict, counts: dict | None = None) -> Tensor:
        return super().loss(batch | {"spans": None}, counts)

    def step(self, ids, cache: DecoderCache, mask=None):
        T = ids.shape[1]
        positions, seen = cache.look(T, mask)
        sees = np.tri(T, cache.length + T, cache.length, dtype=bool)[None]
        types = np.full(ids.shape, self.config.target_type)
        with no_grad():
            sees = sees if seen is None else sees & seen[:, None]
            return self.logits(self.pass_through(ids, positions, types, sees, cache)[:, -1]).data


@dataclass(frozen=True)
class AnsweringConfig(GPTConfig):
    pad_id: Whole = option(0, "the token that fills up short rows")
    start_id: Whole = option(2, "the token that every output starts from")
    eos_id: Whole = option(3, "the token that ends sources and outputs")


class AnsweringGPT(GPT):
    """A GPT that reads a source and goes on with the output."""

    reads_source = True

    def loss(self, batch: dict, counts: dict | None = None) -> Tensor:
        if batch["ids"].shape == batch["targets"].shape and "mask" not in batch:
            return super().loss(batch, counts)  # plain text, in pretraining
        counts, targets = counts or self.divisors(batch), batch["targets"]
        hidden = self._outputs(batch)
        return ops.linear_cross_entropy(hidden, self.output_table, targets, reduction="sum") / counts["targets"]

    def _outputs(self, batch: dict) -> Tensor:
        source, targets = batch["ids"], batch["targets"]
        read = batch["read"] if "read" in batch else shift_right(targets, self.config.start_id)
        mask = np.concatenate([batch["mask"], targets != IGNORED], axis=1)
        return self.hidden(np.concatenate([source, read], axis=1), mask)[:, source.shape[1] :]

    def new_cache(self, batch: int, capacity: int = 512, *, source, source_mask=None) -> DecoderCache:
        cache = super().new_cache(batch, source.shape[1] + capacity)
        self.step(source, cache, source_mask)
        return cache


SHARED = dict(published=(), ids=END | {"start_id": INFILLING["start_id"]},
              inputs=lambda model, tokenizer, n, _: SharedInputs(tokenizer, n, model.config.context))  # fmt: skip
FAMILIES["left-to-right"] = dataclasses.replace(FAMILIES["ernie-gen"], name="left-to-right", model=LeftToRight)
FAMILIES["answering-gpt"] = dataclasses.replace(
    FAMILIES["gpt"], name="answering-gpt", model=AnsweringGPT, config=AnsweringConfig, body=None, **SHARED)
RECIPES: dict[str, Recipe] = {
    "ernie-gen": ernie_gen.RECIPE,
    "ernie-gen-from-bert": ernie_gen.RECIPE,
    "left-to-right": dataclasses.replace(ernie_gen.RECIPE, family="left-to-right"),
    "gpt": dataclasses.replace(
        ernie_gen.RECIPE, family="answering-gpt", model=dict(context=200, layers=2, heads=4, width=128, init_std=0.08),
        training=dict(batch=4, lr=3e-3)),
    "t5": dataclasses.replace(t5.RECIPE, model=dict(layers=2, heads=3, head_width=32, width=96, hidden=320)),
}  # fmt: skip


def begun(name: str, folder: Path, steps: int, *more: str) -> pretrain.Job:
    """A run that is ready to train for so many steps; only ERNIE-GEN reads noise in pretraining."""
    recipe, parser = RECIPES[name], argparse.ArgumentParser()
    pretrain.add_arguments(parser, recipe)
    flags = ["--out", folder, "--steps", steps, "--workers", 1, "--eval-every", steps, "--save-every", steps]
    flags += [*more, *(["--noise", 0] if name == "left-to-right" else [])]
    return pretrain.start(parser.parse_args([str(flag) for flag in flags]), recipe)


def seconds_a_step(name: str, steps: int = 60, warm: int = 20) -> float:
    """CPU seconds of one step of training."""
    with tempfile.TemporaryDirectory() as folder:
        job, times = begun(name, Path(folder) / "run", steps, "--stories", "300000"), []
        job.trainer.between = lambda loop, step: times.append(time.process_time())
        pretrain.train(job)
    return (times[-1] - times[warm]) / (steps - 1 - warm)


def next_sentences(count: int, seed: int) -> list[dict]:
    """Three events of a story to read, the one that follows to write."""
    found = tasks.examples("next", count, seed)
    return [{"input": e["text"], "target": e["choices"][e["label"]]} for e in found]


def questions(count: int, seed: int) -> list[dict]:
    found = tasks.examples("questions", count, seed)
    return as_text2text(TASKS["answer"].of(found), found)


SETS = {"questions": questions, "next-sentence": next_sentences}


def scored(answers: list[str], rights: list[str]) -> dict[str, float]:
    """All in percent."""
    import sacrebleu
    from rouge_score.rouge_scorer import RougeScorer

    rouge = RougeScorer(["rougeL"])
    return {"exact match": 100 * metrics.mean(map(metrics.same_text, answers, rights)),
            "BLEU": sacrebleu.corpus_bleu(answers, [rights]).score,
            "ROUGE-L": 100 * metrics.mean(rouge.score(r, a)["rougeL"].fmeasure for r, a in zip(rights, answers))}


def tune(args: argparse.Namespace) -> dict:
    """Teach a pretrained model a task; what it then writes is scored."""
    train, held_out = SETS[args.set](args.examples, 1), SETS[args.set](args.held_out, 2)
    config = FineTuneConfig(epochs=args.epochs, noise=args.noise, label_smoothing=args.smoothing)
    settings = finetune.TRAINING | dict(lr=args.lr, workers=1, seed=args.seed)
    task = TASKS["text2text"].of(train, held_out)
    with tempfile.TemporaryDirectory() as folder:
        trainer = finetune.begin(Path(folder), checkpoint.load_model(args.runs / args.name), task, train,
                                 held_out[:20], config, settings)  # fmt: skip
        trainer.report.start(0)
        trainer.train()
        trainer.report.close()
    answers = trainer.report.tuned.answers(held_out)
    for example, said in list(zip(held_out, answers))[:5]:
        print(f"{example['input'][-60:]!r}\n  wanted {example['target']!r}\n  wrote  {said!r}")
    with tt.no_grad():
        keys = trainer.objective.evaluation_batches(rows := trainer.report.tuned.rows(held_out))
        batches = [trainer.objective.evaluation_batch(rows, key) for key in keys]
        nats = [(trainer.model.loss(batch).item(), trainer.model.counts(batch)["targets"]) for batch in batches]
    loss = sum(a * n for a, n in nats) / sum(n for _, n in nats)
    return scored(answers, [example["target"] for example in held_out]) | {"nats": loss}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/infilling"), help="where the runs and results are")
    actions = parser.add_subparsers(dest="action", required=True)
    one = actions.add_parser("pretrain")
    one.add_argument("name", choices=RECIPES)
    one.add_argument("--init", metavar="RUN", help="begin with these weights and this tokenizer")
    one.add_argument("--minutes", type=float, default=5, help="of one core [5]")
    two = actions.add_parser("tune")
    two.add_argument("name", choices=RECIPES)
    two.add_argument("set", choices=SETS)
    two.add_argument("--noise", type=float, default=0.0)
    two.add_argument("--smoothing", type=float, default=0.0)
    two.add_argument("--lr", type=float, default=1e-3, help="[0.001]")
    two.add_argument("--examples", type=int, default=2000, help="to train on [2000]")
    two.add_argument("--held-out", type=int, default=500, help="to measure on [500]")
    two.add_argument("--epochs", type=int, default=5, help="[5]")
    two.add_argument("--seed", type=int, default=0, help="[0]")
    actions.add_parser("table")
    args = parser.parse_args()
    results = args.runs / "results.jsonl"
    if args.action == "table":
        lines = [json.loads(line) for line in results.read_text().splitlines()]
        heads = list(dict.fromkeys(key for line in lines for key in line))
        shown = lambda value: f"{value:.3g}" if isinstance(value, float) else str(value)
        print(markdown([heads, *[[shown(line.get(key, "")) for key in heads] for line in lines]]))
        return
    before = time.process_time()
    if args.action == "pretrain":
        cost = seconds_a_step(args.name)
        more = ["--init", args.init] if args.init else []
        job = begun(args.name, args.runs / args.name, round(60 * args.minutes / cost), *more)
        pretrain.train(job)
        print(f"{job.trainer.model.parameter_count():,} parameters; {1000 * cost:.1f} ms a step")
        print(f"{job.trainer.config.steps} steps; held-out loss {job.trainer.report.val_loss:.4f}")
    else:
        found = tune(args)
        asked = {name: vars(args)[name] for name in ("name", "set", "noise", "smoothing", "lr", "seed")}
        with results.open("a") as file:
            file.write(json.dumps(asked | found) + "\n")
        print(found)
    print(f"{time.process_time() - before:.0f} CPU seconds in all")


if __name__ == "__main__":
    main()
