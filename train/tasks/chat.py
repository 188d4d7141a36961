"""What does the assistant say next?   {"messages": [{"role": ..., "content": ...}, ...]}

Supervised fine-tuning, the first of the three steps from a language model to an assistant (Ouyang et al. 2022,
arXiv:2203.02155): a GPT goes on learning to predict tokens, but only those that the assistant says.
"""

import copy
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import numpy as np

from models.chat import check_messages, replies
from models.contract import Model
from models.gpt import GPT
from models.inputs import as_text
from models.schema import Few
from models.tokenizers import Tokenizer
from nn import Linear, Module, init
from tinytensor import Tensor
from tinytensor.ops.softmax import IGNORED
from train.data.stories import dialogues
from train.tasks import conversations, metrics
from train.tasks.task import Row, Task, field

MOST = 512  # tokens of a reply


CRITICS = ("none", "shared", "separate")


class Talker(Module, Model):
    """No head at all: a GPT, which writes replies of up to `longest` tokens;  targets: "targets" (B, T)

    critic: what foretells the reward that a reply will get, where one was learned (train/preference/ppo.py): a layer
    over the GPT's vectors ("shared"), or over those of a GPT of its own, which begins as a copy ("separate").
    """

    def __init__(self, body: GPT, longest: int, critic: str = "none"):
        self.body, self.longest = body, longest
        self.critic = copy.deepcopy(body) if critic == "separate" else None
        self.value = Linear(body.config.width, 1, weight_init=init.zeros) if critic != "none" else None

    @property
    def config(self):
        """The body's."""
        return self.body.config

    def __call__(self, batch: dict) -> Tensor:
        """The ids (B, n) of the most probable token at each step; behind the end IGNORED, which is no token."""
        prompts = [ids[:n] for ids, n in zip(batch["ids"], batch["prompt"])]
        written = replies(self.body, prompts, self.longest)
        ids = np.full((len(written), max(map(len, written))), IGNORED)
        for row, reply in zip(ids, written):
            row[: len(reply)] = reply
        return Tensor(ids)

    def loss(self, batch: dict, counts: dict | None = None) -> Tensor:
        """The mean of -log p(target), in nats per token that the assistant says."""
        return self.body.loss(batch, counts)

    def scores(self, batch: dict) -> Tensor:
        return self.body.scores(batch)


@dataclass(frozen=True)
class Chat(Task):
    """longest: the most tokens of a reply.   critic: see Talker."""

    kind: ClassVar[str] = "chat"
    columns: ClassVar[tuple[str, ...]] = ("messages", "replies", "chosen")
    asks: ClassVar[tuple[str, ...]] = ("messages",)
    unit: ClassVar[str] = "perplexity"
    talks: ClassVar[bool] = True

    longest: Few = 64
    critic: Literal[*CRITICS] = "none"

    @classmethod
    def read(cls, example: dict, where: str) -> dict | None:
        return conversations.demonstration(example, where)

    @classmethod
    def of(cls, examples: list[dict], held_out: list[dict] = ()) -> Self:
        texts = [_reply(example) for example in (*examples, *held_out)]
        return cls(min(MOST, max(len(text.encode()) for text in texts) + 1))  # no token is shorter than a byte

    def rows(self, example: dict, inputs) -> list[Row]:
        messages = check_messages(field(example, "messages", list, self.kind))
        if messages[-1]["role"] == "assistant":
            return [Row(inputs.learned(messages), inputs.tokenizer)]
        ids = np.array(inputs.prompt(messages, inputs.room(self.longest)))
        return [Row({"ids": ids, "mask": np.ones(len(ids), bool), "prompt": np.int64(len(ids))}, inputs.tokenizer)]

    def make_head(self, body: GPT, dropout: float) -> Talker:
        return Talker(body, self.longest, self.critic)

    def decode(self, row: Row, ids: np.ndarray) -> str:
        return said(ids, row.notes).strip()

    def score(self, examples: list[dict], answers: list[str]) -> dict[str, float]:
        """How like the replies are to those that were given; before that, of talk from the stories' world, the gold
        reward and the share of requests for harm that were declined."""
        rights = [_reply(example) for example in examples]
        found = metrics.score_all(answers, rights) | metrics.joint(examples, map(metrics.same_text, answers, rights))
        cases = [(example["case"], text) for example, text in zip(examples, answers) if "case" in example]
        if not cases:
            return found
        harm = [float(dialogues.declined(text)) for case, text in cases if case["kind"] == "harm"]
        return {"gold": metrics.mean(dialogues.gold(*case) for case in cases), "declined": metrics.mean(harm)} | found

    def as_text(self, example: dict) -> tuple[str, str]:
        messages = check_messages(field(example, "messages", list, self.kind))
        reply = messages[-1]["content"] if messages[-1]["role"] == "assistant" else ""
        return f"chat: {as_text(messages[:-1] if reply else messages)}", reply

    def texts(self, example: dict) -> list[str]:
        return [message["content"] for message in example["messages"][:-1]]

    def example(self, texts: list[str]) -> dict:
        """What user and assistant said in turns; the user last."""
        if len(texts) % 2 == 0:
            raise ValueError(f"before the assistant's turn a conversation has 1, 3, 5 ... texts, not {len(texts)}")
        return {"messages": [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]}


def said(ids: np.ndarray, tokenizer: Tokenizer) -> str:
    """The text of a reply, without marks and what is no token."""
    marks = set(tokenizer.special_tokens.values())
    return tokenizer.decode([i for i in ids.tolist() if 0 <= i < tokenizer.vocab_size and i not in marks])


def _reply(example: dict) -> str:
    """The last that the assistant says."""
    messages = check_messages(field(example, "messages", list, Chat.kind))
    if messages[-1]["role"] != "assistant":
        raise ValueError(f"a conversation to learn from ends with the assistant's reply, not with {messages[-1]}")
    return messages[-1]["content"]
