"""Replies written by the policy that learns from them, with all that their loss needs, and what a phase came to.

A rank writes and reads its share of the replies; the arrays have a row for each reply and are gathered, so every rank
can make any batch. A checkpoint holds them: a resumed run goes on in the middle of a phase.
"""

import time
from collections.abc import Callable

import numpy as np

from models.chat import ChatInputs, replies
from nn import evaluating
from tinytensor import no_grad, random
from tinytensor.distributed import Communicator, share
from tinytensor.ops.softmax import IGNORED
from train.data.stories import dialogues
from train.preference.estimators import advantages, next_kl, token_rewards, whiten
from train.preference.replies import counted

ROWS = 32  # replies that are read at once


class Rollouts:
    """The replies of the current phase.   Arrays (N, W) have a place for each token, where it foretells the next one.

    ids, log_probs, reference (log p under the policy as it began), values (the critic's); (N,): start, stop (where the
    reply begins and ends), scores (the reward model's), gold (by the stories' rule, else NaN); (1,): kl (its cost).
    """

    def __init__(self, prompts: list[dict], inputs: ChatInputs, config, seed: int, allocate: Callable):
        """prompts: {"messages", "case" or none}.   allocate(n, dtype): an array that all ranks have in common."""
        self.prompts, self.inputs, self.config, self.seed = prompts, inputs, config, seed
        self.longest = inputs.room(config.longest)
        N, W = config.rollouts, inputs.max_length
        shapes = dict.fromkeys(("log_probs", "reference", "values"), ((N, W), np.float32))
        shapes |= dict.fromkeys(("scores", "gold"), ((N,), np.float32)) | {"kl": ((1,), np.float32)}
        shapes |= {"ids": ((N, W), np.int32)} | dict.fromkeys(("start", "stop", "ended"), ((N,), np.int32))
        self.arrays = {name: allocate(int(np.prod(shape)), dtype).reshape(shape)
                       for name, (shape, dtype) in shapes.items()}  # fmt: skip
        self.arrays["kl"][:] = config.kl
        self._credit: tuple | None = None
        self.writing = self.learning = self.left = 0.0  # seconds of this phase, and when its last step was left

    def write(self, model, phase: int, rank: int, size: int) -> None:
        """Fill in a rank's rows: prompts drawn for the phase, the model's replies, what it and others say of them."""
        N, a, c, began = self.config.rollouts, self.arrays, self.config, time.monotonic()
        with random.seeded(self.seed, phase, 6) as draw:
            chosen = draw.choice(len(self.prompts), N, replace=len(self.prompts) < N)[share(N, rank, size)]
        asked = [self.prompts[number] for number in chosen]
        messages = [one["messages"][:-1] for one in asked]  # the last one is the reply to compare with
        prompts = [np.array(self.inputs.prompt(one, self.longest)) for one in messages]
        with random.seeded(self.seed, phase, rank, 7):
            written = replies(model.body, prompts, self.longest, c.temperature)
        texts = [model.judge.text(reply) for reply in written]
        end = model.config.vocab_size - 1
        scores = model.judge.rewarder(messages, texts)
        for i, row in enumerate(range(N)[share(N, rank, size)]):
            ids = np.concatenate([prompts[i], written[i]])
            a["ids"][row] = 0
            a["ids"][row, : len(ids)] = ids
            a["start"][row], a["stop"][row] = len(prompts[i]), len(ids)
            a["ended"][row] = written[i][-1] == end
            a["scores"][row] = scores[i] - c.unfinished * (1 - a["ended"][row])
            a["gold"][row] = dialogues.gold(asked[i]["case"], texts[i]) if "case" in asked[i] else np.nan
        for rows, batch in self._batches(rank, size):
            found = {"log_probs": (read := model.read(batch["ids"], batch["targets"]))[0], "values": read[1],
                     "reference": model.judge.log_probs(batch, c.temperature)}  # fmt: skip
            for name, values in found.items():
                a[name][rows, : values.shape[1]] = values.data
        self._credit = None
        self.writing, self.learning = time.monotonic() - began, 0.0

    def _batches(self, rank: int, size: int):
        """(rows, arrays) of a rank's share, without a graph."""
        own = share(self.config.rollouts, rank, size)
        with no_grad():
            for first in range(own.start, own.stop, ROWS):
                rows = np.arange(first, min(own.stop, first + ROWS))
                yield rows, self._cut(rows, ("ids",))

    def _cut(self, rows: np.ndarray, names: tuple[str, ...]) -> dict[str, np.ndarray]:
        """Arrays of some rows, cut to their longest, and "targets": the reply's tokens, one place earlier."""
        W = int(self.arrays["stop"][rows].max())
        made = {name: self.arrays[name][rows, :W] for name in names}
        ids, places = self.arrays["ids"][rows, :W].astype(int), np.arange(W)
        start, stop = (self.arrays[name][rows, None] - 1 for name in ("start", "stop"))
        following = np.concatenate([ids[:, 1:], ids[:, :1]], axis=1)
        targets = np.where((places >= start) & (places < stop), following, IGNORED)
        return made | {"ids": ids, "targets": targets}

    def credit(self) -> tuple[np.ndarray, np.ndarray]:
        """(advantages, returns), (N, W) each, of all replies."""
        if self._credit is None:
            a, c = self.arrays, self.config
            every = np.arange(c.rollouts)
            cut = self._cut(every, ("log_probs", "reference", "values"))
            mask, values = counted(cut["targets"]), cut["values"].astype(float)
            log_probs = cut["log_probs"].astype(float)
            rewards = token_rewards(log_probs, cut["reference"], a["scores"], mask, float(a["kl"][0]))
            if c.whiten_rewards:
                rewards = whiten(rewards, mask, shift=False)
            found = advantages(rewards, values, mask, c.gamma, c.lam)
            self._credit = found, found + values
        return self._credit

    def learned(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """The batch of some replies."""
        batch = self._cut(rows, ("log_probs", "values"))
        W = batch["ids"].shape[1]
        advantage, returns = (credit[rows, :W].astype(np.float32) for credit in self.credit())
        return batch | {"advantages": advantage, "returns": returns}

    def told(self) -> dict[str, float]:
        """What the phase's replies were like."""
        a, cut = self.arrays, self._cut(np.arange(self.config.rollouts), ("log_probs", "reference"))
        mask = counted(cut["targets"])
        nats = np.where(mask, cut["log_probs"], 0).sum()
        apart = np.where(mask, cut["log_probs"] - cut["reference"], 0).sum(axis=1)
        gold = {} if np.isnan(a["gold"]).any() else {"gold": float(a["gold"].mean())}
        return {"reward": float(a["scores"].mean()), **gold, "kl": float(apart.mean()), "kl_coef": float(a["kl"][0]),
                "entropy": float(-nats / mask.sum()), "length": float(mask.sum(axis=1).mean()),
                "ended": float(a["ended"].mean()), "rollout_share": self.writing / (self.writing + self.learning)}

    def moved(self, model, comm: Communicator) -> dict[str, float]:
        """How learning has changed policy and critic on the replies: the share of tokens whose ratio left the range,
        what is left of the critic's error."""
        _, returns = self.credit()
        sums = np.zeros(3)
        with evaluating(model):
            for rows, batch in self._batches(comm.rank, comm.size):
                mask, (log_probs, values) = counted(batch["targets"]), model.read(batch["ids"], batch["targets"])
                W = mask.shape[1]
                ratio = np.exp(log_probs.data - self.arrays["log_probs"][rows, :W])[mask]
                error = (values.data - returns[rows, :W])[mask]
                sums += (np.abs(ratio - 1) > self.config.clip_range).sum(), (error**2).sum() / 2, mask.sum()
        clipped, squared, tokens = comm.all_reduce(sums)
        return {"clip_fraction": float(clipped / tokens), "value_loss": float(squared / tokens)}

    def next_phase(self, model, phase: int, comm: Communicator) -> None:
        """Write the replies of the next phase, all ranks together."""
        if self.config.target_kl:
            kl = next_kl(float(self.arrays["kl"][0]), self.told()["kl"], self.config.target_kl, self.config.rollouts)
            comm.barrier()  # all have read what is now written
            self.arrays["kl"][:] = kl
        comm.barrier()
        with evaluating(model):
            self.write(model, phase, comm.rank, comm.size)
        for name, array in self.arrays.items():
            if name != "kl":
                comm.all_gather(array)
        self._credit = None
