"""Labelled sets made from the stories: what happened stands beside their text, so the labels are true by construction.

    sentiment   how a passage leaves the one it happens to: happy, sad, cross or scared (classify)
    coherence   does the second passage follow the first, or was it moved or taken from elsewhere? (classify, a pair)
    roles       which words name the doer, the other person, the thing, the place, the feeling (tag)
    questions   who, what, where and how, answered by words of the passage, or by nothing (answer)
    next        which of four sentences comes next? (choose)

    train, held_out = tasks.examples("roles", 500, seed=1), tasks.examples("roles", 200, seed=2)

Different seeds tell different stories, and none of them those of the built-in corpus (which has seed 0).
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from itertools import islice

from train.data.stories import Event, Story, stories
from train.data.stories.world import RELIEFS, TROUBLES

WORD = re.compile(r"\w+|[^\w\s]")

# How these events leave the one they happen to, whether or not the story goes on to say so.
FEELINGS = {kind: mood for kind, (_, mood) in TROUBLES.items()} | dict.fromkeys(RELIEFS, "happy")

ROLES = {"a": "doer", "b": "other", "x": "thing", "y": "exchange", "place": "place", "feeling": "feeling"}

# Questions about an event of a kind, and the role that answers. {a}, {b} and {x} are the names of its cast.
QUESTIONS = {
    "take": (("Who took the {x} away?", "a"), ("What did {a} take away?", "x")),
    "lend": (("Who lent {b} something?", "a"), ("What did {a} lend to {b}?", "x")),
    "give": (("Who gave the {x} away?", "a"), ("What did {b} get from {a}?", "x")),
    "lose": (("Who lost something?", "a"), ("What did {a} lose?", "x")),
    "break": (("What broke?", "x"), ("Who broke something?", "a")),
    "hide": (("Who hid the {x}?", "a"), ("Where did {a} hide the {x}?", "place")),
    "put": (("Where did {a} put the {x}?", "place"),),
    "mend": (("Who mended the {x}?", "a"), ("What did {a} mend?", "x")),
    "find": (("What did {a} find?", "x"), ("Where did {a} find something?", "place")),
    "find again": (("Who found the lost {x}?", "a"),), "outing": (("Where did {a} go with {b}?", "place"),),
    "feel": (("How did {a} feel?", "feeling"),), "hurt": (("Who got hurt?", "a"),),
    "nurse": (("Who looked after {b}?", "a"),), "noise": (("Who heard a noise?", "a"),),
    "return": (("Who gave the {x} back?", "a"),),
}
UNANSWERABLE = 0.33  # the share of questions about something that did not happen


def examples(name: str, count: int, seed: int) -> list[dict]:
    """`count` examples of a set, from the stories of a seed; the same on every machine."""
    if name not in SETS:
        raise ValueError(f"the stories have no task {name!r}; choose from {', '.join(SETS)}")
    if count < 1:
        raise ValueError(f"{count} examples of {name} are too few; ask for at least 1")
    return list(islice(SETS[name][1](stories(seed), random.Random(seed)), count))


def sentiment(told: Iterator[Story], draw: random.Random) -> Iterator[dict]:
    """{"text", "label"}: the sentence in which it happens, and up to two before."""
    for story in told:
        for i, event in enumerate(story.events):
            if event.kind in FEELINGS:
                first = max(0, i - draw.randrange(3))
                yield {"text": passage(story, first, i + 1), "label": FEELINGS[event.kind]}


def coherence(told: Iterator[Story], draw: random.Random) -> Iterator[dict]:
    """{"text", "pair", "label"}: half follow; a quarter are the two passages in the wrong order; a quarter are followed
    by a passage of another story in which the names have been changed to this one's."""
    before = next(told)
    for story in told:
        n = len(story.events)
        cut = draw.randrange(3, n - 2)
        first, second = passage(story, max(0, cut - 3), cut), passage(story, cut, min(n, cut + 3))
        kind = draw.randrange(4)
        if kind == 2:
            first, second = second, first
        elif kind == 3:
            start = draw.randrange(3, len(before.events) - 2)
            second = renamed(passage(before, start, start + 3), before, story)
        yield {"text": first, "pair": second, "label": "follows" if kind < 2 else "does not"}
        before = story


def roles(told: Iterator[Story], draw: random.Random) -> Iterator[dict]:
    """{"words", "tags"}: two or three events; a tag is B-role on a mention's first word, I-role on the others, or O."""
    for story in told:
        first = draw.randrange(2, len(story.events) - 2)
        events = story.events[first : first + draw.randrange(2, 4)]
        start, end = events[0].start, events[-1].end
        places = [(m.start() + start, m.end() + start) for m in WORD.finditer(story.text[start:end])]
        tags = ["O"] * len(places)
        for mention in (m for event in events for m in event.mentions if m.role in ROLES):
            inside = [i for i, (s, e) in enumerate(places) if mention.start <= s and e <= mention.end]
            for number, i in enumerate(inside):
                tags[i] = ("I-" if number else "B-") + ROLES[mention.role]
        yield {"words": [story.text[s:e] for s, e in places], "tags": tags}


def questions(told: Iterator[Story], draw: random.Random, events: int = 8) -> Iterator[dict]:
    """{"question", "context", "answer", "start"}: start is where the answer stands in the context, a passage of a few
    `events`; "" and -1 if the passage does not say."""
    for story in told:
        first = draw.randrange(0, max(1, len(story.events) + 1 - events))
        told_of = story.events[first : first + events]
        start, end = told_of[0].start, told_of[-1].end
        context = story.text[start:end]
        asked = list(_asked(story, told_of))
        if not asked:
            continue
        question, span = draw.choice(asked)
        if draw.random() < UNANSWERABLE:
            cast = {role: name for event in told_of for role, name in event.cast.items()}
            kinds = {event.kind for event in told_of}
            unasked = [q for kind, forms in QUESTIONS.items() for q, _ in forms if kind not in kinds]
            possible = [q for q in unasked if set(_named(q)) <= cast.keys()]
            if not possible:
                continue
            form = draw.choice(possible)
            names = [name for role in _named(form) for name in cast[role].split(" and ")]
            if len(set(names)) < len(names):  # the cast is that of several events: nobody asks what Hal got from Hal
                continue
            question, span = form.format(**cast), None
        answer = story.text[slice(*span)] if span else ""
        yield {"question": question, "context": context, "answer": answer, "start": span[0] - start if span else -1}


def following(told: Iterator[Story], draw: random.Random) -> Iterator[dict]:
    """{"text", "choices", "label"}: three events, and the next one among three that come elsewhere in this story or in
    another one, told of the same people."""
    before = next(told)
    for story in told:
        n = len(story.events)
        cut = draw.randrange(3, n)
        elsewhere = [e for i, e in enumerate(story.events) if not cut - 3 <= i <= cut]
        wrong = [story.text[e.start : e.end] for e in draw.sample(elsewhere, min(1, len(elsewhere)))]
        others = draw.sample(before.events[2:], 3 - len(wrong))
        wrong += [renamed(before.text[e.start : e.end], before, story) for e in others]
        choices = [passage(story, cut, cut + 1), *wrong]
        order = draw.sample(range(4), 4)
        label = order.index(0)
        yield {"text": passage(story, cut - 3, cut), "choices": [choices[i] for i in order], "label": label}
        before = story


# name: (the kind of task, the maker)
SETS: dict[str, tuple[str, Callable]] = {
    "sentiment": ("classify", sentiment), "coherence": ("classify", coherence), "roles": ("tag", roles),
    "questions": ("answer", questions), "next": ("choose", following),
}


def passage(story: Story, first: int, stop: int) -> str:
    """The text of some events in a row."""
    return story.text[story.events[first].start : story.events[min(stop, len(story.events)) - 1].end]


def renamed(text: str, theirs: Story, ours: Story) -> str:
    """A passage of another story, with our people's names for theirs: of the same kind, as far as there are some."""
    names, free = {}, dict(ours.people)
    for name, kind in theirs.people.items():
        match = next((other for other, k in free.items() if k == kind), next(iter(free), None))
        if match:
            names[name] = match
            del free[match]
    return re.sub(r"\w+", lambda word: names.get(word[0], word[0]), text)


def _asked(story: Story, events: tuple[Event, ...]) -> Iterator[tuple[str, tuple[int, int]]]:
    """(question, span of its answer) of everything that can be asked about these events and has one answer."""
    kinds = [event.kind for event in events]
    for event in events:
        if kinds.count(event.kind) > 1:
            continue
        for question, role in QUESTIONS.get(event.kind, ()):
            span = _span(story, events, event, role)
            if span and set(_named(question)) <= event.cast.keys():
                yield question.format(**event.cast), span


def _named(form: str) -> list[str]:
    """The roles whose names a form of QUESTIONS has places for."""
    return re.findall(r"\{(.)\}", form)


def _span(story: Story, events: tuple[Event, ...], event: Event, role: str) -> tuple[int, int] | None:
    """Where the passage names whoever has a role in an event: in the event itself or, if it says "she" or "it", the
    last time before."""
    if role in ("place", "feeling"):
        found = [m for m in event.mentions if m.role == role]
    else:
        name = event.cast[role]
        before = [m for other in events for m in other.mentions if m.name == name and m.end <= event.end]
        found = [m for m in before if re.search(rf"\b{name}\b", story.text[m.start : m.end])]
    if not found:
        return None
    start, end = found[-1].start, found[-1].end
    prefix = re.match(r"to (?=the )", story.text[start:end])  # "to the park": the park
    return start + (prefix.end() if prefix else 0), end
