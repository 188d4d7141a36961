"""How good a GPT's replies are before and after each step on the way to ChatGPT, by the rule and by the reward model.

    python -m benchmarks.assistants runs/gpt-1 runs/finetune-1 runs/reward-1 runs/ppo-1 [runs/dpo-1]

All write one reply, drawn at temperature 1, to each of the same requests, which none has learned from: a GPT that never
learned to talk, the talker, PPO's and DPO's, and the talker's best of n replies by the reward model. KL is the mean of
log p - log q over the replies drawn, q being the talker they began as; of the best of n, what it would be if no two
rewards were equal, which is more than it is. Win rate: how often a reply has more gold than the talker's, ties halved.
"""

import argparse
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.generate import generate
from models.inputs import as_text
from tinytensor import no_grad, random
from tinytensor.distributed import blas_threads
from tinytensor.ops.softmax import IGNORED
from train import checkpoint
from train.data.stories import dialogues
from train.finetune import FineTuned
from train.preference import start
from train.preference.estimators import best_of_n_kl
from train.preference.replies import drawn, reply_log_probs, text_of
from train.preference.rewarder import Rewarder

SEED = 4  # of requests that no command learns from, nor holds out


@dataclass
class Measured:
    """What the rule and the reward model say of one reply to each request, (N,) each."""

    gold: np.ndarray
    proxy: np.ndarray
    texts: list[str]
    kl: np.ndarray | None = None

    def part(self, which: slice) -> "Measured":
        kl = None if self.kl is None else self.kl[which]
        return Measured(self.gold[which], self.proxy[which], self.texts[which], kl)

    def declined(self, requests: list[dict], kind: str) -> float:
        """The share of the requests of a kind that were declined."""
        return float(np.mean([dialogues.declined(text) for text, e in zip(self.texts, requests)
                              if e["case"]["kind"] == kind]))  # fmt: skip

    def wins(self, other: "Measured") -> float:
        return float(np.mean((self.gold > other.gold) + 0.5 * (self.gold == other.gold)))


def judged(texts: list[str], requests: list[dict], rewarder: Rewarder,
           kl: np.ndarray | None = None) -> Measured:
    gold = np.array([dialogues.gold(e["case"], text) for e, text in zip(requests, texts)])
    return Measured(gold, rewarder([e["messages"][:-1] for e in requests], texts), texts, kl)


def from_base(run: Path, requests: list[dict], tokens: int = 60) -> list[str]:
    """Replies of a GPT that knows no marks: it goes on with the conversation as a text, up to the line's end."""
    gpt, tokenizer = checkpoint.load_model(run)
    prompts = [np.array(tokenizer.encode(as_text(e["messages"][:-1]) + "\nAssistant:")) for e in requests]
    with random.seeded(SEED, 1):
        written = [text for i in range(0, len(prompts), 32) for text in generate(gpt, prompts[i : i + 32], tokens)]
    new = [tokenizer.decode(np.asarray(text)[len(prompt) :]) for prompt, text in zip(prompts, written)]
    return [text.strip().partition("\n")[0] for text in new]


def from_talker(tuned: FineTuned, requests: list[dict], samples: int = 1) -> tuple[list, list[list]]:
    return drawn(tuned, [e["messages"][:-1] for e in requests], samples, seed=SEED)


def divergence(policy: FineTuned, reference: FineTuned, prompts: list, replies: list, batch: int = 32) -> np.ndarray:
    """(N,): log p - log q of each reply."""
    apart = []
    with no_grad():
        for i in range(0, len(prompts), batch):
            rows = [np.concatenate(pair) for pair in zip(prompts[i : i + batch], replies[i : i + batch])]
            ids = np.zeros((len(rows), max(map(len, rows))), int)
            targets = np.full(ids.shape, IGNORED)
            for n, row in enumerate(rows):
                begins = len(prompts[i + n])
                ids[n, : len(row)], targets[n, begins - 1 : len(row) - 1] = row, row[begins:]
            log_p, log_q = (reply_log_probs(one.model.body, ids, targets).data for one in (policy, reference))
            apart.append(log_p.astype(float) - log_q)
    return np.concatenate(apart)


def rows_of(args: argparse.Namespace, requests: list[dict]) -> dict[str, Measured]:
    talker = start.talker(args.talker)
    rewarder = Rewarder.of(args.reward, dialogues.preferences(300, 2))
    found = {"GPT": judged(from_base(args.base, requests), requests, rewarder)}
    _, several = from_talker(talker, requests, args.best_of)
    texts = [[text_of(talker, ids) for ids in some] for some in several]
    found["talker (SFT)"] = judged([some[0] for some in texts], requests, rewarder, np.zeros(len(requests)))
    for name, run in (("PPO", args.ppo), ("DPO", args.dpo)):
        if run:
            policy = start.talker(run)
            prompts, replies = from_talker(policy, requests)
            own = [one[0] for one in replies]
            kl = divergence(policy, talker, prompts, own)
            found[name] = judged([text_of(policy, ids) for ids in own], requests, rewarder, kl)
    best = [rewarder.best_of(e["messages"][:-1], some) for e, some in zip(requests, texts)]
    kl = np.full(len(requests), best_of_n_kl(args.best_of))
    found[f"best of {args.best_of}"] = judged(best, requests, rewarder, kl)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("base", "talker", "reward", "ppo"):
        parser.add_argument(name, type=Path)
    parser.add_argument("dpo", type=Path, nargs="?")
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--disguised", type=int, default=100)
    parser.add_argument("--best-of", type=int, default=16)
    args = parser.parse_args()
    began = time.process_time()
    with blas_threads(1):
        requests = start.as_demonstrations(dialogues.preferences(args.requests, SEED))
        hidden = dialogues.disguised(args.disguised, SEED)
        found = rows_of(args, [*requests, *hidden])
    took, machine = time.process_time() - began, platform.processor() or platform.machine()
    print(f"{len(requests)} requests, {len(hidden)} disguised ones; {took:.0f} s of a core, {machine}")
    columns = ("gold, of 4", "proxy", "KL, nats", "harm declined", "help declined", "wins over the talker", "disguised")
    print("| | " + " | ".join(columns) + " |\n" + "|---" * (len(columns) + 1) + "|")
    plain, other = slice(None, len(requests)), slice(len(requests), None)
    for name, m in found.items():
        some, talker = m.part(plain), found["talker (SFT)"].part(plain)
        error = some.gold.std() / np.sqrt(len(requests))
        kl = "" if some.kl is None else f"{some.kl.mean():.2f}"
        shares = some.declined(requests, "harm"), some.declined(requests, "help"), some.wins(talker)
        shown = " | ".join(f"{share:.0%}" for share in (*shares, m.part(other).declined(hidden, "harm")))
        print(f"| {name} | {some.gold.mean():.2f} ± {error:.2f} | {some.proxy.mean():.2f} | {kl} | {shown} |")


if __name__ == "__main__":
    main()
