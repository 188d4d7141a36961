"""A Switch Transformer of eight experts against the dense T5 of equal cost per token, with and without the balance.

    python -m benchmarks.experts FOLDER                    trains what FOLDER lacks of the runs, draws docs/experts.png

All learn the stories for equally many steps from the same batches, in one process. Seconds are the median of what a
step takes of the processor, times steps: so other programs do not count. Loads are those of training, told by the
routers themselves (nn/watch.py).
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from nn.experts import Router
from nn.watch import watch
from train import pretrain
from train.commands import switch, t5
from train.report import picture
from train.tables import markdown

RUNS = {
    "T5": (t5, []),
    "8 experts": (switch, []),
    "8 experts, no balance": (switch, ["--balance", "0"]),
}
STEPS, EVERY, LAST = 1500, 150, 150  # LAST: the steps whose loads are shown


def train(command, folder: Path, flags: list[str], steps: int) -> None:
    """Train a run, and write beside its files what its steps took and where its tokens went."""
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    how = ["--steps", str(steps), "--eval-every", str(EVERY), "--eval-batches", "20", "--workers", "1", *flags]
    job = pretrain.start(parser.parse_args(["--out", str(folder), *how]), command.RECIPE)
    trainer, ends, routed = job.trainer, [time.process_time()], []
    trainer.whole = False
    routers = {id(part): name for name, part in trainer.model.named_modules() if isinstance(part, Router)}

    def see(router: Router, arguments: tuple, routing) -> None:
        if router.training:
            first = np.bincount(routing.choices[0].ravel(), minlength=routing.shape[0])
            routed.append((len(ends), routers[id(router)], routing.dropped, (first / first.sum()).tolist()))

    trainer.between = lambda loop, step: ends.append(time.process_time())
    with watch([part for part in trainer.model.modules() if isinstance(part, Router)], see):
        pretrain.train(job)
    (folder / "experts.json").write_text(json.dumps({"seconds": float(np.median(np.diff(ends))), "routed": routed}))


def losses(folder: Path) -> tuple[list[int], list[float]]:
    """(steps, held-out losses) of a run."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return tuple(zip(*((line["step"], line["val_loss"]) for line in lines if "val_loss" in line)))


def shares(routed: list, steps: int) -> dict[str, np.ndarray]:
    """Router -> the mean share of the tokens that each expert was the choice of, over the last steps."""
    names = dict.fromkeys(name for _, name, _, _ in routed)
    return {name: np.mean([one for step, own, _, one in routed if own == name and step > steps - LAST], axis=0)
            for name in names}  # fmt: skip


def draw(path: Path, folders: dict[str, Path], told: dict[str, dict], steps: int) -> bool:
    colours = dict(zip(folders, ("#525252", "#08519c", "#d94801")))

    def panels(axes) -> None:
        places = axes.figure.add_gridspec(2, 2)
        axes.set_subplotspec(places[0, 0])
        seconds, dropped, loads = (axes.figure.add_subplot(places[place]) for place in ((0, 1), (1, 0), (1, 1)))
        for name, folder in folders.items():
            at, values = losses(folder)
            axes.plot(at, values, color=colours[name], label=name)
            seconds.plot(np.array(at) * told[name]["seconds"], values, color=colours[name])
            if routed := told[name]["routed"]:
                of = [[share for step, _, share, _ in routed if n < step <= n + 50] for n in range(0, steps, 50)]
                dropped.plot(np.arange(25, steps, 50), [100 * np.mean(one) for one in of], color=colours[name])
                for number, (router, share) in enumerate(shares(routed, steps).items()):
                    x = np.arange(len(share)) + number * (len(share) + 2)
                    offset, width = (-0.2, 0.2)["no" in name], 0.4
                    loads.bar(x + offset, 100 * np.sort(share)[::-1], width, color=colours[name])
                    loads.text(x[0], 102, router.split(".blocks.")[0] + " " + router.split(".")[2], fontsize=8)
        seconds.set(xlabel="seconds of one core", ylabel="held-out loss")
        dropped.set(xlabel="steps", ylabel="tokens dropped (%)", ylim=(0, None))
        loads.set(xlabel="experts of each block, the most used first", ylabel="share of the tokens (%)", xticks=[],
                  ylim=(0, 110))  # fmt: skip
        for panel in (seconds, dropped):
            panel.grid(alpha=0.3)

    return picture(path, panels, "steps", "held-out loss", "", (11, 7.5))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--only", choices=list(RUNS), action="append", help="train this run only, and draw nothing")
    parser.add_argument("--out", type=Path, default=Path("docs/experts.png"))
    args = parser.parse_args()
    folders = {name: args.folder / name.replace(", ", "-").replace(" ", "-") for name in RUNS}
    args.folder.mkdir(parents=True, exist_ok=True)
    for name, (command, flags) in RUNS.items():
        if not (folders[name] / "experts.json").exists() and name in (args.only or RUNS):
            train(command, folders[name], flags, args.steps)
    if args.only:
        return
    told = {name: json.loads((folder / "experts.json").read_text()) for name, folder in folders.items()}
    lines = [("run", "held-out loss at half the steps", "at the end", "ms a step", "dropped, in all", "at the end",
              "most used expert", "least used")]  # fmt: skip
    for name, folder in folders.items():
        values, routed = losses(folder)[1], told[name]["routed"]
        row = [name, f"{values[len(values) // 2 - 1]:.4f}", f"{values[-1]:.4f}", f"{1000 * told[name]['seconds']:.0f}"]
        if routed:
            late = [share for step, _, share, _ in routed if step > args.steps - LAST]
            every = np.array(list(shares(routed, args.steps).values()))
            row += [f"{np.mean([share for _, _, share, _ in routed]):.1%}", f"{np.mean(late):.1%}",
                    f"{every.max():.1%}", f"{every.min():.1%}"]  # fmt: skip
        lines.append((*row, *[""] * (len(lines[0]) - len(row))))
    print(markdown(lines))
    draw(args.out, folders, told, args.steps)


if __name__ == "__main__":
    main()
