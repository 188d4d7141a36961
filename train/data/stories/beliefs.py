"""Who believes what? Stories in which a thing is moved, seen or unseen, and questions on what is so, what is thought.

    Anna and Ben were in the mill. There was a jar and a box. Anna put the ring in the box. Anna went out.
    Ben moved the ring to the jar. Anna came back. The box was old, and the jar was new.
    Where will Anna look for the ring?       In the box.

The test of Wimmer & Perner (1983) and Baron-Cohen et al. (1985), at home in the stories' world. Each story comes with a
twin that has the same people, things and places and nearly the same sentences, and in which (but in "a lost note") she
who is asked about believes the other: who knows a rule such as "where it was at first" fails on one of the two. Six
questions a story, and an answer is worth something if all six are right (joint accuracy).

Two kinds of scene: "room", where people come and go, and "drive", the scene of Bubeck et al. (2023): a folder that two
people share, each at home, and who moves a file in it is seen only by whom the drive tells. The places are balanced:
which is named first, which last, and how often, says nothing. The two WORLDS share no names and no containers.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from train.data.stories import words

SCENES = ("room", "drive")
Chain = tuple[str, ...]  # ("a",): what a thinks;  ("b", "a"): what b thinks that a thinks
CHAINS: tuple[Chain, ...] = (("a",), ("b",), ("a", "b"), ("b", "a"))

# (what happens if a believes one thing, and if a believes the other). A step is who and what: a put the thing into the
# place p at first; "b q" moves it to q. In all but one, a thinks of p in the first story, and of q in its twin.
TWINS: dict[str, tuple[str, str]] = {
    "seen": ("a out, b q, a back", "b q, a out, a back"),
    "told": ("a out, b q, a back, b silent", "a out, b q, a back, b tells"),
    "back before": ("a out, b q, a back", "a out, a back, b q"),
    "watched in secret": ("a out, b q, a sings, a back", "a out, b q, a watches, a back"),
    "own hand": ("a out, b q, a back", "b out, a q, b back"),
    "moved back": ("a out, b q, b p, a back", "b q, a out, b p, a back"),
    "nothing moved": ("a out, b sings, a back", "b q, a out, b sings, a back"),
    "told in secret": ("a out, b q, b out, a back, c tells, b back", "a out, b q, a back, b tells, b out, b back"),
    "a lost note": ("a out, b q, b writes, a back", "a out, b q, b sings, a back"),
    "moved back after words": ("a out, b q, b p, a back", "a out, b q, a back, b tells, a out, b p, a back"),
    "found": ("a out, b q, a back, a finds, a p", "a out, b q, a back, a finds"),
}
OFTEN = ("moved back", "moved back after words")  # twice as often as the others, so that the thing is in p often enough

STEPS = {  # what -> how it is told in a room, and of a drive; {w} is who, {o} the other one
    "out": ("{w} went out.", ""),
    "back": ("{w} came back.", ""),
    "moves": ("{w} moved the {x} to the {place}.", "{w} moved the {x} to the {place}. {notice}"),
    "tells": ("{w} told {o} that the {x} was in the {place}.", "{w} told {o} that the {x} was in the {place}."),
    "c tells": ("{c} told {a} that {b} had put the {x} in the {place}.",
                "{c} told {a} that {b} had put the {x} in the {place}, but {b} did not know."),
    "silent": ("{w} said nothing to {o}.", "{w} said nothing to {o}."),
    "sings": ("{w} sang a song.", "{w} sang a song."),
    "watches": ("{w} saw it through the window, but {o} did not know.",
                "{w} saw it on the drive, but {o} did not know."),
    "writes": ("{w} left a note for {o}: the {x} is in the {place}. The wind took it away, and nobody knew.",
               "{w} wrote to {o}: the {x} is in the {place}. The letter got lost, and nobody knew."),
    "finds": ("{w} found the {x} in the {place}.", "{w} found the {x} in the {place}, and {o} knew it."),
}  # fmt: skip
NOTICES = {True: "The drive told {o} of it.", False: "The drive told nobody."}
PUT = {"room": "{a} put the {x} in the {p}.", "drive": "{a} put the {x} in the {p}. The drive told {b} of it."}
START = {"room": "{a} and {b} were in the {room}.{third} There was a {p} and a {q}.",
         "drive": "{a} and {b} shared a drive, each at home.{third} On it were a {p} and a {q}."}  # fmt: skip
THIRD = {"room": " {c} was there too.", "drive": " They had a friend named {c}."}

# What is asked: (two ways to ask it, how a story would say it in front of the place). {m} and {o} are the two people.
ASKED: dict[str, tuple[tuple[str, str], str]] = {
    "reality": (("Where is the {x} now?", "Where is the {x} really?"), "Now the {x} was in the"),
    "memory": (("Where was the {x} at first?", "Where did {a} put the {x} at first?"), "At first the {x} was in the"),
    "belief": (("Where will {m} look for the {x}?", "Where does {m} think that the {x} is?"),
               "{m} looked for the {x} in the"),
    "second": (("Where does {m} think that {o} will look for the {x}?", "Where will {o} look for the {x}, thinks {m}?"),
               "{m} thought that {o} would look for the {x} in the"),
}  # fmt: skip


class World(NamedTuple):
    """Who and what stories are about."""

    names: list[str]
    containers: list[str]
    folders: list[str]  # of a drive


PEOPLE = [words.NAMES[kind].split() for kind in ("girl", "boy")]
WORLDS = {
    "training": World([name for names in PEOPLE for name in names[::2]],
                      ["box", "bag", "jar", "vase", "cart", "shed", "boat", "den"], ["red", "blue", "black", "pink"]),
    "test": World([name for names in PEOPLE for name in names[1::2]],
                  ["sack", "basket", "cup", "drum", "tent", "barn", "cave", "well"],
                  ["green", "white", "yellow", "grey"]),
}  # fmt: skip
THINGS = ["ball", "flute", "globe", "kite", "lamp", "map", "net", "pen", "ring", "scarf", "top", "wand"]
ROOMS = ["house", "mill", "camp", "castle", "cabin", "tower"]
QUALITIES = ["old", "new", "big", "small", "tall", "clean", "wet", "warm"]


class Question(NamedTuple):
    kind: str  # reality, memory, belief a, belief b, second a, second b: whose thoughts are asked for
    text: str
    statement: str  # how a story would say it, up to the place: "Anna looked for the ring in the"
    answer: str  # the place


@dataclass(frozen=True)
class Story:
    text: str
    scene: str
    twins: str  # a key of TWINS
    twin: int  # which of the two
    places: tuple[str, str]  # where the thing was at first, and the other
    questions: tuple[Question, ...]


class Minds:
    """Where the thing is, and where everyone thinks that it is. Who is there sees what happens, and who else does."""

    def __init__(self, place: str):
        self.place = place
        self.thinks = dict.fromkeys(CHAINS, place)  # all saw it put there
        self.here = {"a", "b"}

    def learn(self, *chains: Chain) -> None:
        self.thinks |= dict.fromkeys(chains, self.place)

    def step(self, who: str, what: str) -> None:
        """Let one step of TWINS happen."""
        other = "b" if who == "a" else "a"
        match what:
            case "out":
                self.here.discard(who)
            case "back":
                self.here.add(who)
            case "tells" if who == "c":  # who names b as the one who moved it, while b is away
                self.learn(("a",), ("a", "b"))
            case "tells":
                self.learn(("a",), ("a", "b"), ("b", "a"))
            case "watches":
                self.learn((who,), (who, other))
            case "writes":  # and the other never reads it
                self.learn((who, other))
            case "finds":
                self.learn(*CHAINS)
            case "p" | "q":
                self.place = what
                self.learn((who,), *(CHAINS if other in self.here else ()))


def stories(draw: random.Random, world: str = "training", scenes: tuple[str, ...] = ("room",)) -> Iterator[Story]:
    """Stories without end, each followed by its twin."""
    kinds = [*TWINS, *OFTEN]
    while True:
        yield from _twins(draw.choice(kinds), draw, WORLDS[world], draw.choice(scenes))


def _twins(twins: str, draw: random.Random, world: World, scene: str) -> Iterator[Story]:
    a, b, c = draw.sample(world.names, 3)
    containers = draw.sample(world.containers, 2)
    if scene == "drive":
        containers = [f"{colour} folder" for colour in draw.sample(world.folders, 2)]
    places = dict(zip("pq", containers))
    cast = {"a": a, "b": b, "c": c, "x": draw.choice(THINGS), "room": draw.choice(ROOMS)} | places
    third = draw.random() < 0.3 or twins == "told in secret"
    ways = {kind: draw.randrange(2) for kind in ASKED}
    for twin, steps in enumerate(TWINS[twins]):
        minds, told = Minds("p"), [PUT[scene].format(**cast)]
        for step in steps.split(", "):
            who, what = step.split()
            told.append(_told(who, what, cast, scene, minds))
        start = cast if draw.random() < 0.5 else cast | {"p": cast["q"], "q": cast["p"]}
        begin = START[scene].format(**start, third=THIRD[scene].format(**cast) * third)
        text = _balanced([begin, *filter(None, told)], list(places.values()), draw)
        questions = tuple(_questions(cast, minds, ways))
        yield Story(text, scene, twins, twin, tuple(places.values()), questions)


def _told(who: str, what: str, cast: dict[str, str], scene: str, minds: Minds) -> str:
    """The sentence for a step, which happens."""
    other = "b" if who == "a" else "a"
    minds.step(who, what)
    form = STEPS["moves" if what in "pq" else "c tells" if who == "c" else what][SCENES.index(scene)]
    fill = cast | {"w": cast[who], "o": cast[other], "place": cast[minds.place]}
    return form.format(**fill, notice=NOTICES[other in minds.here].format(**fill))


def _balanced(told: list[str], places: list[str], draw: random.Random) -> str:
    """A story's text: in which both places are named equally often, and either may be the last that is named."""
    count = lambda place: sum(sentence.count(f"the {place}") + sentence.count(f"a {place}") for sentence in told)
    qualities = draw.sample(QUALITIES, len(QUALITIES))
    while (more := count(places[0]) - count(places[1])) != 0:
        rarer = places[1] if more > 0 else places[0]
        told.insert(draw.randint(1, len(told)), f"Look, the {rarer} was {qualities.pop()}.")
    last = draw.sample(places, 2)
    return " ".join([*told, f"The {last[0]} was {qualities.pop()}, and the {last[1]} was {qualities.pop()}."])


def _questions(cast: dict[str, str], minds: Minds, ways: dict[str, int]) -> Iterator[Question]:
    asked = {("reality", ""): minds.place, ("memory", ""): "p"}
    asked |= {("second" if chain[1:] else "belief", chain[0]): place for chain, place in minds.thinks.items()}
    for (kind, who), place in asked.items():
        forms, statement = ASKED[kind]
        fill = cast | {"m": cast.get(who, ""), "o": cast["b" if who == "a" else "a"]}
        name = f"{kind} {who}".strip()
        yield Question(name, forms[ways[kind]].format(**fill), statement.format(**fill), cast[place])


def in_place(place: str) -> str:
    return f"In the {place}."


def choose(story: Story, question: Question, draw: random.Random) -> dict:
    """{"text", "choices", "label"}"""
    order = draw.sample(story.places, 2)
    return {"text": f"{story.text} {question.text}", "choices": [in_place(place) for place in order],
            "label": order.index(question.answer)}  # fmt: skip


def answer(story: Story, question: Question, draw: random.Random) -> dict:
    """{"question", "context", "answer", "start"}: the place, where the story first names it."""
    start = story.text.index(question.answer)
    return {"question": question.text, "context": story.text, "answer": question.answer, "start": start}


def chat(story: Story, question: Question, draw: random.Random) -> dict:
    """{"messages"}"""
    said = [("user", f"{story.text}\n{question.text}"), ("assistant", in_place(question.answer))]
    return {"messages": [{"role": role, "content": text} for role, text in said]}


def examples(made: Iterator[Story], make: Callable, draw: random.Random) -> Iterator[dict]:
    """The questions of stories, as one kind of task has them, with the number of the "story" and what is "asked"."""
    for number, story in enumerate(made):
        for question in story.questions:
            yield make(story, question, draw) | {"story": number, "asked": question.kind}


# name: (the kind of task, how its examples are made). What is held out is of the other world.
SETS: dict[str, tuple[str, Callable]] = {
    "beliefs": ("choose", choose), "beliefs-answer": ("answer", answer), "beliefs-chat": ("chat", chat),
}  # fmt: skip


def training_and_test(name: str, count: int, held_out: int) -> list[list[dict]]:
    """(examples of the one world, of the other) of a set; all in rooms."""
    made = []
    for world, number in zip(WORLDS, (count, held_out)):
        draw = random.Random(f"{name} {world}")
        made.append(list(islice(examples(stories(draw, world), SETS[name][1], draw), number)))
    return made
