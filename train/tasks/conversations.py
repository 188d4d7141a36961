"""Conversations as files have them: messages, or the one string of the hh-rlhf files (Bai et al. 2022).

    {"messages": [{"role": "user", "content": "Who has the kite?"}, {"role": "assistant", "content": "Mia."}]}
    {"messages": [...], "replies": ["the best", "one that is worse", ...]}
    {"chosen": "\\n\\nHuman: Who has the kite?\\n\\nAssistant: Mia.", "rejected": "\\n\\nHuman: ..."}
"""

import re

from models.chat import check_messages
from models.schema import shown

SPEAKERS = {"Human": "user", "Assistant": "assistant"}
TURN = re.compile(r"\n\n(Human|Assistant):")


def of_text(text: object, where: str) -> list[dict]:
    """The messages of a conversation written as hh-rlhf has it."""
    if not isinstance(text, str) or not TURN.match(text):
        raise ValueError(f'{where} must begin with "\\n\\nHuman: ", not with {shown(text)}')
    parts = TURN.split(text)[1:]
    return [{"role": SPEAKERS[who], "content": said.strip()} for who, said in zip(parts[::2], parts[1::2])]


def demonstration(example: dict, where: str) -> dict | None:
    """{"messages"} that end with what the assistant says: of a preference, the best; None if that is empty."""
    if "chosen" in example:
        messages = of_text(example["chosen"], f"{where}: chosen")
    elif "replies" in example:
        messages = [*_prompt(example, where), {"role": "assistant", "content": _replies(example, where)[0]}]
    else:
        messages = check_messages(example.get("messages"), f"{where}: messages")
    return example | {"messages": messages} if messages[-1]["content"] or messages[-1]["role"] == "user" else None


def preference(example: dict, where: str) -> dict | None:
    """{"messages", "replies"}, the best reply first; None where two conversations differ before it."""
    if "chosen" not in example:
        return example | {"messages": _prompt(example, where), "replies": _replies(example, where)}
    chosen, rejected = (of_text(example.get(name), f"{where}: {name}") for name in ("chosen", "rejected"))
    if chosen[:-1] != rejected[:-1] or not chosen[:-1] or chosen[-1] == rejected[-1]:
        return None
    return {"messages": chosen[:-1], "replies": [chosen[-1]["content"], rejected[-1]["content"]]}


def _prompt(example: dict, where: str) -> list[dict]:
    messages = check_messages(example.get("messages"), f"{where}: messages")
    if messages[-1]["role"] == "assistant":
        raise ValueError(f"{where}: the messages before the replies must end with one of the user")
    return messages


def _replies(example: dict, where: str) -> list[str]:
    replies = example.get("replies")
    if not isinstance(replies, list) or len(replies) < 2 or not all(isinstance(text, str) for text in replies):
        raise ValueError(f"{where}: replies must be at least two texts, the best first, not {shown(replies)}")
    return replies
