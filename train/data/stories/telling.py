"""How a story is told: what happens next is chosen from what the world allows, then how it is said, word by word.

Everything random goes through choose(), which adds -log(probability) to the story's nats. Each choice shows in the
text, so a text can come about in one way only, and its nats are exactly -log of its probability.
"""

from __future__ import annotations

import re
from bisect import bisect
from collections import defaultdict
from collections.abc import Callable
from itertools import accumulate
from math import log
from typing import NamedTuple

from train.data.stories import words
from train.data.stories.world import Person, Thing, World, happen, moves


class Mention(NamedTuple):
    """Characters start:end of the story name someone or something in a role of the event."""

    role: str  # a, b (people), x, y (things), place, feeling, cause
    name: str  # "Mia" also where the text says "she"
    start: int
    end: int


class Event(NamedTuple):
    """One thing that happened, told by characters start:end of the story."""

    kind: str  # a key of words.FORMS
    cast: dict[str, str]  # role -> name of everyone and everything in it, also where the sentence leaves it out
    start: int
    end: int
    mentions: tuple[Mention, ...]


class Choices:
    """Options with whole-number weights."""

    def __init__(self, options: list, weights: list[int] | None = None):
        self.options, self.weights = options, weights or [1] * len(options)
        self.cumulative = list(accumulate(self.weights))
        self.rest: dict[frozenset, Choices] = {}

    def without(self, used) -> Choices:
        """The same choices, except those already used."""
        if not used:
            return self
        if (used := frozenset(used)) not in self.rest:
            left = [(option, weight) for option, weight in zip(self.options, self.weights) if option not in used]
            self.rest[used] = Choices(*zip(*left))
        return self.rest[used]


def choices(text: str) -> Choices:
    """The Choices in a line of words.py: "ball*3 top_hat -" is ball (weight 3), top hat and nothing."""
    pairs = [word.partition("*") for word in text.split()]
    return Choices([w.replace("_", " ").replace("-", "") for w, _, _ in pairs], [int(n or 1) for _, _, n in pairs])


def pieces(form: str) -> list[tuple[str, str, str]]:
    """A form as (text, slot, part) triples: "{a} gave {b.obj}." is ("", a, ""), (" gave ", b, obj), (".", "", "")."""
    texts, slots = re.split(r"\{[^}]+\}", form), re.findall(r"\{([^}.]+)\.?([^}]*)\}", form)
    return [(text, *slot) for text, slot in zip(texts, [*slots, ("", "")])]


def table(text: str) -> dict[str, list[str]]:
    """The lines of a table, from its column 13 on, by what stands before; where nothing does, by what did last."""
    rows, name = {}, ""
    for line in text.splitlines():
        if line and line[0] != "#":
            name = line[:13].strip() or name
            rows.setdefault(name, []).append(line[13:])
    return rows


WORDS = {name: choices(text) for name, text in words.WORDS.items()}
NAMES = {kind: choices(text) for kind, text in words.NAMES.items()}
KIND_OF_NAME = {name: kind for kind, names in NAMES.items() for name in names.options}
NAMES["girl boy"] = NAMES[""] = choices(words.NAMES["girl"] + " " + words.NAMES["boy"])
KIN = choices(" ".join(words.KIN.values()))
KIND_OF_KIN = {kin: kind for kind, text in words.KIN.items() for kin in choices(text).options}
PETS = {kin for kin, kind in KIND_OF_KIN.items() if kind == "pet"}
PLACES = Choices(list(words.PLACES))
LANDMARKS = {place: choices(text) for place, text in words.PLACES.items()}
THINGS = {number: choices(text) for number, text in words.THINGS.items()}
SOFT = set(words.SOFT.split())
PRONOUNS = {kind: dict(zip(("he", "him", "his"), text.split())) for kind, text in words.PRONOUNS.items()}
FORMS = {kind: Choices([pieces(line) for line in lines]) for kind, lines in table(words.FORMS).items()}
CAUSES = {kind: [pieces(line) for line in lines] for kind, lines in words.CAUSES.items()}

CHILD = Choices(["girl", "boy"])
NUMBER = Choices(["one", "many"], [3, 1])
PRONOUN_OR_NAME = Choices([True, False], [2, 1])
IT_OR_NOUN = Choices([True, False])
WHOSE_OR_THE = Choices([True, False], [1, 3])
COLOUR_OR_NOT = Choices([True, False], [1, 3])


class Teller:
    """Tells one story: text and events grow with each call of event(), nats with each choice."""

    def __init__(self, random: Callable[[], float]):
        self.random = random
        self.world = World()
        self.parts: list[str] = []  # the text so far
        self.length = 0
        self.nats = 0.0
        self.events: list[Event] = []

    def choose(self, choices: Choices):
        """One of the options, counted."""
        cumulative = choices.cumulative
        total = cumulative[-1]
        i = bisect(cumulative, self.random() * total)
        self.nats += log(total / choices.weights[i])
        return choices.options[i]

    def event(self) -> None:
        """Choose what happens next, say it, and let it happen."""
        world, possible = self.world, moves(self.world)
        _, kind, *cast = self.choose(Choices(possible, [move[0] for move in possible]))
        people = [member for member in cast if isinstance(member, Person)]
        self.roles = dict(zip("ab", people)) | dict(zip("xy", cast[len(people) :]))
        self.gap = "" if not self.length else "\n" if kind in words.NEW_LINE else " "
        self.capital, self.an = True, False  # what the next word written needs
        self.subject, self.said, self.spot = None, set(), ""
        self.used = defaultdict(list)  # the words taken from each list: "figs, figs and figs" says little
        self.mentions: list[Mention] = []
        start = self.length + len(self.gap)
        self.fill(self.choose(FORMS[kind]), self.roles)
        names = {role: member.name for role, member in self.roles.items()}
        self.events.append(Event(kind, names, start, self.length, tuple(self.mentions)))
        happen(world, kind, **self.roles, spot=self.spot)
        world.topic = self.roles.get("a")
        world.focus = self.roles.get("x") if "y" not in self.roles else None

    def emit(self, text: str) -> None:
        self.parts.append(text)
        self.length += len(text)

    def write(self, text: str) -> int:
        """Add text to the story, with the space, article and capital it needs; returns where it starts."""
        if text[:1] == " ":
            self.gap, text = self.gap or " ", text[1:]
        if not text:
            return self.length
        if self.an:
            text, self.an = ("an " if text[0] in "aeiou" or text == "honest" else "a ") + text, False
        if self.capital and text != '"':
            text, self.capital = text[0].upper() + text[1:], False
        body = text.rstrip(" ")
        self.emit(body if body[0] in ".,!?" else self.gap + body)
        self.gap = text[len(body):]
        self.capital = self.capital or body[-1] in ".!?"
        return self.length - len(body)

    def mention(self, role: str, name: str, text: str) -> None:
        start = self.write(text)
        self.mentions.append(Mention(role, name, start, self.length))

    def fill(self, form: list[tuple[str, str, str]], roles: dict[str, Person | Thing]) -> None:
        """Write a form with people and things in its slots."""
        for text, slot, part in form:
            if text:
                self.write(text)
            if slot in WORDS:
                word = self.choose(WORDS[slot].without(self.used[slot]))
                self.used[slot].append(word)
                self.write(word)
            elif slot in roles:
                refer = self.person if isinstance(roles[slot], Person) else self.thing
                refer(slot, roles[slot], part)
            elif slot:
                self.special(slot, roles)

    def special(self, slot: str, roles: dict[str, Person | Thing]) -> None:
        """The slots that are neither a list of words nor someone or something."""
        world, a = self.world, roles.get("a")
        match slot:
            case "an":
                self.an = True
            case "spot":
                words = self.choose(WORDS["under"]), "the", self.choose(WORDS["big"])
                self.spot = " ".join(filter(None, (*words, self.choose(LANDMARKS[world.place]))))
                self.mention("place", self.spot, self.spot)
            case "to":
                world.place = self.choose(PLACES.without({world.place}))
                name = world.place.split(" ", 1)[1]  # "in the park": "the park"
                self.mention("place", name, f"to {name}")
            case "feeling":
                a.feeling = self.choose(WORDS[a.mood])
                self.mention("feeling", a.feeling, a.feeling)
            case "sound":
                a.detail = f"{self.choose(WORDS['loud'])} {self.choose(WORDS['noise'])}"
                self.write(a.detail)
            case "limb" | "detail":
                a.detail = self.choose(WORDS["part"]) if slot == "limb" else a.detail
                self.write(a.detail)
            case "cause" | "claim":  # why a feels so, and a's words for it
                (kind, b, x), start = a.cause, self.length + len(self.gap)
                self.fill(CAUSES[kind][slot == "claim"], {"a": a, "b": b, "x": x})
                self.mentions.append(Mention("cause", kind, start, self.length))
            case _:
                raise KeyError(slot)

    def person(self, role: str, person: Person, part: str) -> None:
        """Write one mention of a person."""
        pronouns, known = PRONOUNS.get(person.kind), person is self.world.topic and person not in self.said
        match part:
            case "kind":
                person.kind = person.kind or self.choose(CHILD)
                return self.write(person.kind)
            case "kin":
                one_pet = any(other.kind == "pet" for other in self.world.people)
                kin = self.choose(KIN.without(one_pet and PETS))
                person.kind = KIND_OF_KIN[kin]
                return self.write(kin)
            case "feeling":
                person.feeling = person.feeling or self.choose(WORDS[person.mood])
                return self.mention("feeling", person.feeling, person.feeling)
            case "detail":
                return self.write(person.detail)
            case "first":
                used = {other.name for other in self.world.people}
                text = person.name = self.choose(NAMES[person.kind].without(used))
                person.kind = KIND_OF_NAME[person.name]
            case "he" | "him" | "his":
                text = pronouns[part]
            case "" if known and not self.subject and self.choose(PRONOUN_OR_NAME):
                text = pronouns["he"]
            case "obj" if known and self.subject.kind != person.kind and self.choose(PRONOUN_OR_NAME):
                text = pronouns["him"]
            case _:
                text = person.name
        self.subject = self.subject or person
        self.said.add(person)
        self.mention(role, person.name, text)

    def thing(self, role: str, thing: Thing, part: str) -> None:
        """Write one mention of a thing."""
        if part == "new":
            return self.new_thing(role, thing)
        if part in words.AGREEMENT:
            return self.write(words.AGREEMENT[part][thing.kind == "many"])
        if part in words.DAMAGE:
            return self.write(words.DAMAGE[part][thing.name in SOFT])
        if part == "spot":
            return self.mention("place", thing.spot, thing.spot)
        if part == "" and thing is self.world.focus and thing not in self.said and self.choose(IT_OR_NOUN):
            part = "him"
        self.said.add(thing)
        if part in ("he", "him"):
            return self.mention(role, thing.name, PRONOUNS[thing.kind][part])
        whose = self.determiner(thing, part)
        noun = f"{thing.colour} {thing.name}" if self.choose(COLOUR_OR_NOT) else thing.name
        self.mention(role, thing.name, f"{whose} {noun}")

    def determiner(self, thing: Thing, part: str) -> str:
        """Whose it is: her (the subject's), my and your (the speaker's and the listener's), Mia's, or just the."""
        owner = thing.owner
        if part in ("my", "your"):
            return part if owner is self.roles["a" if part == "my" else "b"] else "the"
        if owner is self.subject:
            return PRONOUNS[owner.kind]["his"] if owner else "the"
        return f"{owner.name}'s" if self.choose(WHOSE_OR_THE) else "the"

    def new_thing(self, role: str, thing: Thing) -> None:
        """A thing's first mention: "a small red kite", "some blue boots"."""
        start, said = self.length + len(self.gap), []
        thing.kind = self.choose(NUMBER)
        self.an = thing.kind == "one"
        self.write("" if self.an else "some ")
        names = THINGS[thing.kind].without({other.name for other in self.world.things})
        for options in (WORDS["size"], WORDS["colour"], names):
            said.append(self.choose(options))
            self.write(said[-1] + " ")
        _, thing.colour, thing.name = said
        self.mentions.append(Mention(role, thing.name, start, self.length))
