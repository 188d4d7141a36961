"""Conversations as one row of tokens, in which marks tell who speaks.

    <|user|> Who has the kite? <|end|> <|assistant|> Mia has it. <|end|>

The marks are special tokens behind the vocabulary: no user can write one, because `encode` reads their names as plain
text. A model that is to talk learns what the assistant says, and the end of it, and nothing of what others say.
A message is {"role": "system", "user" or "assistant", "content": text}.
"""

import re
from dataclasses import dataclass

import numpy as np

from models.generate import generate
from models.gpt import GPT
from models.gpt_body import add_rows
from models.inputs import TextInputs
from models.schema import shown
from models.tokenizers import Tokenizer
from models.tokenizers.added import with_special
from tinytensor.ops.softmax import IGNORED

MARK = {"system": "<|system|>", "user": "<|user|>", "assistant": "<|assistant|>"}
END = "<|end|>"
MARKS = (*MARK.values(), END)
SHORT = 16  # tokens of a reply that is written in one go


def with_marks(gpt: GPT, tokenizer: Tokenizer) -> tuple[GPT, Tokenizer]:
    """The model and its tokenizer, both with the MARKS as their last tokens; as they are if they have them."""
    if END in tokenizer.special:
        return gpt, tokenizer
    tokenizer = with_special(tokenizer, MARKS, gpt.config.vocab_size)
    add_rows(gpt, len(MARKS))
    return gpt, tokenizer


def check_messages(messages: object, what: str = "a conversation") -> list[dict]:
    """The messages, if they are some."""
    if not isinstance(messages, list) or not messages:
        raise ValueError(f"{what} must be a list of messages, not {shown(messages)}")
    for message in messages:
        role, text = (message.get("role"), message.get("content")) if isinstance(message, dict) else (None, None)
        if not (isinstance(role, str) and role in MARK and isinstance(text, str)):
            roles = ", ".join(MARK)
            raise ValueError(f'a message of {what} must have a "role" ({roles}) and a text as "content"; '
                             f"this one is {shown(message)}")  # fmt: skip
    return messages


def with_sources(passages: list[str], question: str) -> str:
    """What a user says who gives passages to answer from. A reply names them by number: "Near the barn [2]."

    The number stands behind its passage: a model that reads from left to right knows there what it is the number of.
    """
    return "\n".join([*(f"{passage} [{number}]" for number, passage in enumerate(passages, 1)), question])


def cited(reply: str) -> list[int]:
    """The numbers of the passages that a reply names, each once."""
    return list(dict.fromkeys(int(number) for number in re.findall(r"\[(\d{1,4})\]", reply)))


@dataclass
class ChatInputs(TextInputs):
    """Conversations as rows of at most `max_length` tokens; what is too long loses its oldest messages."""

    def room(self, longest: int) -> int:
        """How many tokens of its own a reply of up to `longest` may have: half of a row at most."""
        return min(longest, self.max_length // 2)

    def length(self, messages: list[dict]) -> int:
        """How many tokens a prompt has if nothing is left out."""
        return sum(len(self._said(message)) for message in messages) + 1

    def prompt(self, messages: list[dict], room: int = 0) -> list[int]:
        """The ids of what was said, and the mark at which the assistant is to speak.

        room: tokens to leave for the reply.   A message of the system stays; the last message is cut at its start.
        """
        mine, tokens = [self._said(message) for message in messages], self.tokenizer.special_tokens
        longest = self.max_length - room - 1
        first = int(messages[0]["role"] == "system")
        while sum(map(len, mine)) > longest and len(mine) > first + 1:
            del mine[first]
        ids = [token for one in mine for token in one]
        if longest < 1:
            raise ValueError(f"{self.max_length} tokens leave no room for a prompt beside a reply of {room}")
        return [*ids[-longest:], tokens[MARK["assistant"]]]

    def learned(self, messages: list[dict]) -> dict[str, np.ndarray]:
        """The arrays (T,) of a conversation: "targets" are the tokens of all that the assistant says, and its ends.

        prompt: how many tokens stand before the last reply.
        """
        mine = [self._said(message) for message in messages]
        said = [[message["role"] == "assistant"] * len(ids) for message, ids in zip(messages, mine)]
        for flags in said:
            flags[0] = False  # who speaks is not the model's choice
        first = int(messages[0]["role"] == "system")
        while sum(map(len, mine)) > self.max_length and len(mine) > first + 2:
            del mine[first], said[first]
        ids, flags = (np.array([x for one in parts for x in one])[-self.max_length :] for parts in (mine, said))
        targets = np.full(len(ids), IGNORED)
        targets[:-1] = np.where(flags[1:], ids[1:], IGNORED)
        prompt = max(1, len(ids) - len(mine[-1]) + 1)
        return {"ids": ids, "targets": targets, "mask": np.ones(len(ids), bool), "prompt": np.int64(prompt)}

    def judged(self, messages: list[dict], reply: str) -> dict[str, np.ndarray]:
        learned = self.learned([*messages, {"role": "assistant", "content": reply}])
        return {name: learned[name] for name in ("ids", "mask")}

    def _said(self, message: dict) -> list[int]:
        tokens = self.tokenizer.special_tokens
        return [tokens[MARK[message["role"]]], *self.tokenizer.encode(message["content"]), tokens[END]]


def talker(gpt: GPT, tokenizer: Tokenizer, max_length: int) -> tuple[GPT, ChatInputs]:
    """What a GPT and its tokenizer become to learn to talk; both may be changed."""
    gpt, tokenizer = with_marks(gpt, tokenizer)
    return gpt, ChatInputs(tokenizer, max_length)


def replies(gpt: GPT, prompts: list[np.ndarray], longest: int, temperature: float = 0.0, samples: int = 1) -> list:
    """What the assistant says after each prompt (see ChatInputs.prompt): ids, up to its END, which is one of them.

    After SHORT tokens most have ended, and only the others are gone on with, which is faster.
    """
    end = gpt.config.vocab_size - 1  # the last of the MARKS
    texts = list(generate(gpt, prompts, min(longest, SHORT), temperature=temperature, samples=samples, end=end))
    starts = [len(prompt) for prompt in prompts for _ in range(samples)]
    open_ones = [n for n, text in enumerate(texts) if end not in text[starts[n] :]]
    if open_ones and longest > SHORT:
        more = generate(gpt, [texts[n] for n in open_ones], longest - SHORT, temperature=temperature, end=end)
        for n, text in zip(open_ones, more):
            texts[n] = text
    new = [np.asarray(text)[start:] for start, text in zip(starts, texts)]
    return [ids[: int(np.argmax(ids == end)) + 1] if (ids == end).any() else ids for ids in new]
