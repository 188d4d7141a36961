"""How a story is told: a small world, what can happen next in it, and sentences that say what happened.

A story is a chain of events. moves() lists what the state of the world allows next, one is chosen, one of its forms
is chosen and filled in word by word, and happen() changes the world. Everything random goes through choose(), which
adds -log(probability) to the story's nats. Because each choice shows in the text, a text can be made in one way only,
and the nats are exactly -log of its probability.
"""

import re
from bisect import bisect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from math import log
from typing import NamedTuple

from . import words


class Mention(NamedTuple):
    """Characters start:end of the story name someone or something in the given role of the event."""

    role: str                # a, b (people), x, y (things), place, feeling, cause
    name: str                # "Mia" also where the text says "she"
    start: int
    end: int


class Event(NamedTuple):
    """One thing that happened, told by characters start:end of the story."""

    kind: str
    start: int
    end: int
    mentions: tuple[Mention, ...]


class Choices:
    """Options with whole-number weights, ready to be drawn from."""

    def __init__(self, options, weights):
        self.options, self.weights = options, weights
        self.cumulative = list(accumulate(weights))

    def without(self, used) -> "Choices":
        """The same choices, except those already used."""
        kept = [(option, weight) for option, weight in zip(self.options, self.weights) if option not in used]
        return Choices(*zip(*kept)) if len(kept) < len(self.options) else self


def parse(text: str) -> Choices:
    """The Choices in a line of words.py: "ball*3 kite -" is ball (weight 3), kite and nothing."""
    pairs = [word.partition("*") for word in text.split()]
    return Choices([w.replace("_", " ").replace("-", "") for w, _, _ in pairs], [int(n or 1) for _, _, n in pairs])


def uniform(options) -> Choices:
    return Choices(options, [1] * len(options))


def pieces(form: str) -> list[tuple[str, str, str]]:
    """A form as (text, slot, part) triples: "{a} gave {b.obj}." is ("", a, ""), (" gave ", b, obj), (".", "", "")."""
    literal, *rest = re.split(r"\{([^}]+)\}", form)
    triples = []
    for slot, following in zip(rest[::2], rest[1::2]):
        role, _, part = slot.partition(".")
        triples.append((literal, role, part))
        literal = following
    return [*triples, (literal, "", "")]


WORDS = {name: parse(text) for name, text in words.WORDS.items()}
FORMS = {kind: uniform([pieces(line.strip()) for line in text.strip().splitlines()])
         for kind, text in words.FORMS.items()}
CAUSES = {kind: [pieces(line) for line in lines] for kind, lines in words.CAUSES.items()}
NAMES = {kind: parse(text) for kind, text in words.NAMES.items()}
KIND_OF_NAME = {name: kind for kind, names in NAMES.items() for name in names.options}
NAMES["girl boy"] = uniform([*NAMES["girl"].options, *NAMES["boy"].options])
PLACES = {place: parse(text) for place, text in words.PLACES.items()}
PLACE_CHOICES = uniform(list(PLACES))
THINGS = {number: parse(text) for number, text in words.THINGS.items()}
SOFT = set(words.SOFT.split())
KIN = {kin: kinds for kinds, text in words.KIN.items() for kin in parse(text).options}
KIN_CHOICES = parse(" ".join(words.KIN.values()))
KIN_HUMAN = KIN_CHOICES.without({kin for kin, kind in KIN.items() if kind == "pet"})
PRONOUNS = {kind: dict(zip(("he", "him", "his"), text.split())) for kind, text in words.PRONOUNS.items()}




@dataclass(eq=False)
class Person:
    name: str = ""
    kind: str = ""                            # girl, boy, pet, or "many" for everyone together
    feeling: str = ""                         # the word last used for it
    mood: str = ""                            # a feeling still to be told: sad, cross, scared, happy
    cause: tuple = ()                         # behind the mood: (key of CAUSES, person or None, thing or None)
    detail: str = ""                          # the noise heard, the limb hurt


@dataclass(eq=False)
class Thing:
    name: str = ""
    kind: str = "one"                         # or "many": boots are many
    size: str = ""
    colour: str = ""
    owner: Person | None = None               # whose it is
    holder: Person | None = None              # who has it now
    spot: str = ""                            # where it lies when nobody has it
    broken: bool = False


@dataclass(eq=False)
class World:
    people: list[Person] = field(default_factory=list)
    things: list[Thing] = field(default_factory=list)
    everyone: Person = field(default_factory=lambda: Person(kind="many"))
    place: str = ""
    topic: Person | None = None               # who the last sentence was about: "she"
    focus: Thing | None = None                # what it was about: "it"
    trouble: tuple = ()                       # (kind, who suffers, who did it, thing)
    tried: list[str] = field(default_factory=list)          # what has been said and done about the trouble
    troubles: int = 0                         # how many there have been
    next: list[tuple] = field(default_factory=list)         # moves of which one must follow at once, such as answers
    told: int = 0                             # events so far
    over: bool = False

    def speakers(self) -> list[Person]:
        return [p for p in self.people if p.kind != "pet"]

    def held(self, person: Person) -> list[Thing]:
        return [x for x in self.things if x.holder is person]


def moves(world: World) -> Iterator[tuple[int, str, dict]]:
    """Everything that can happen next: its weight, its kind, and who and what takes part."""
    if world.next:
        yield from world.next
    elif not world.people:
        yield 1, "open", {"a": Person()}
    elif not world.things:
        yield 1, "own", {"a": world.people[0], "x": Thing()}
    elif not world.place:
        yield 1, "outing", {"a": world.people[0], "b": Person()}
    elif world.trouble:
        yield from troubled(world, *world.trouble)
    else:
        yield from calm(world)


def calm(world: World) -> Iterator[tuple[int, str, dict]]:
    """What people do while nothing is wrong, and what may go wrong."""
    speakers = world.speakers()
    if len(world.people) < 4:
        yield 30 if len(speakers) == 1 else 2, "meet", {"a": speakers[0], "b": Person()}
    yield 4, "weather", {}
    for a in [*speakers, world.everyone]:
        yield 3, "eat", {"a": a}
        yield 3, "play", {"a": a}
    if not any(x.spot for x in world.things):                # nothing is left behind by mistake
        yield 2, "go", {"a": world.everyone}
        for a in speakers:
            yield 1, "suggest", {"a": a}
    for a in speakers:
        if world.troubles < 2 and len(speakers) > 1:
            yield 2 - world.troubles, "noise", {"a": a}
            yield 2 - world.troubles, "hurt", {"a": a}
        yield 4, "see", {"a": a}
        yield 3, "say", {"a": a}
        if len(world.things) < 4:
            yield 2 if world.held(a) else 4, "find", {"a": a, "x": Thing()}
        if a.mood:
            yield 10, "glad", {"a": a}
            if a.cause[1] in speakers:
                yield 10, "thank", {"a": a, "b": a.cause[1], "x": a.cause[2]}
        for x in world.things:
            if x.spot:
                yield 4, "pick", {"a": a, "x": x}
    for x in world.things:
        if x.holder in speakers:
            yield from with_thing(world, x.holder, x)
    if world.told > 10 and world.troubles:
        ending = 6 * (world.told - 10)
        for a in [*speakers, world.everyone]:
            yield ending, "night", {"a": a}
        for x in world.things:
            if x.holder in speakers:
                yield ending, "kept", {"a": x.holder, "x": x}


def with_thing(world: World, a: Person, x: Thing) -> Iterator[tuple[int, str, dict]]:
    """What a may do, or have done to them, while they hold x."""
    others = [p for p in world.people if p is not a]
    yield 2, "use", {"a": a, "x": x}
    yield 1, "put", {"a": a, "x": x}
    for b in others:
        if b.kind != "pet":
            yield 4 if x.owner is b else 1, "return" if x.owner is b else "give", {"a": a, "b": b, "x": x}
            if x.owner is a:
                yield 2, "lend", {"a": a, "b": b, "x": x}
            for y in world.held(b):
                if x.owner is a and y.owner is b:
                    yield 1, "swap", {"a": a, "b": b, "x": x, "y": y}
            for c in others:
                if x.owner is c:
                    yield 2, "ask who", {"a": c, "b": a if b is c else b, "x": x}
    if world.troubles < 2 and len(world.speakers()) > 1 and x.owner is a:
        again = 1 if world.troubles else 3
        yield again, "lose", {"a": a, "x": x}
        yield again, "break", {"a": a, "x": x}
        for b in others:
            yield again, "take", {"a": b, "b": a, "x": x}
            yield again, "hide", {"a": b, "b": a, "x": x}
            if b.kind != "pet":
                yield 2 * again, "want", {"a": b, "b": a, "x": x}


def troubled(world: World, kind: str, a: Person, b: Person | None, x: Thing | None) -> Iterator[tuple[int, str, dict]]:
    """What can happen while a suffers: feelings, questions, comfort, and in the end what makes it right again."""
    tried, hope = world.tried, 1 + 2 * len(world.tried)
    if a.mood and "feel" not in tried:
        yield 12, "feel", {"a": a}
    for p in world.speakers():
        if p is a:
            continue
        if "ask" not in tried and "tell" not in tried:
            yield 4, "ask", {"a": p, "b": a}
        if "comfort" not in tried:
            yield 2, "comfort", {"a": p, "b": a}
        if kind == "lost":
            if tried.count("search") < 3:
                yield 4, "search", {"a": p, "x": x}
            yield hope, "find again", {"a": p, "b": a, "x": x}
        elif kind == "broken":
            yield hope, "mend", {"a": p, "b": a, "x": x}
        elif kind == "noise":
            yield hope, "explain", {"a": p, "b": a}
        elif kind == "hurt":
            yield hope, "nurse", {"a": p, "b": a}
        elif "ask who" not in tried and kind != "refused":
            yield 3, "ask who", {"a": a, "b": p, "x": x}
    if kind == "taken":
        yield hope, "drop" if b.kind == "pet" else "return", {"a": b, "b": a, "x": x}
    elif kind == "refused":
        yield hope, "lend", {"a": b, "b": a, "x": x}
        yield hope, "give", {"a": b, "b": a, "x": x}
    elif kind == "hidden":
        if b.kind != "pet":
            yield hope, "confess", {"a": b, "b": a, "x": x}
        yield hope, "fetch", {"a": a, "x": x}


def answers(world: World, a: Person, b: Person, x: Thing) -> Iterator[tuple[int, str, dict]]:
    """What b can truly say when a asks where x is."""
    if x.spot:
        yield 1, "confess", {"a": b, "b": a, "x": x}
    elif x.holder is b:
        yield 1, "answer me", {"a": b, "x": x}
    elif x.holder is a:
        yield 1, "answer you", {"a": b, "b": a, "x": x}
    else:
        yield 1, "answer other", {"a": b, "b": x.holder, "x": x}


def trouble(world: World, kind: str, a: Person, mood: str, b: Person | None = None, x: Thing | None = None) -> None:
    """From now on a suffers, until relief()."""
    world.trouble, world.tried, world.troubles = (kind, a, b, x), [], world.troubles + 1
    a.mood, a.feeling, a.cause = mood, "", (kind, b, x)


def relief(world: World, a: Person, cause: str, b: Person | None, x: Thing | None) -> None:
    """a is happy, because b did something."""
    world.trouble = ()
    a.mood, a.feeling, a.cause = "happy", "", (cause, b, x)


def hand(x: Thing, holder: Person | None, spot: str = "") -> None:
    x.holder, x.spot = holder, spot


def happen(world: World, kind: str, a=None, b=None, x=None, y=None, spot: str = "") -> None:
    """The world after the event."""
    world.next, world.told = [], world.told + 1
    world.tried.append(kind)
    match kind:
        case "open" | "outing" | "meet":
            world.people.append(b or a)
            if b:
                names = [p.name for p in world.people]
                world.everyone.name = " and ".join(names) if len(names) == 2 else "the friends"
                if b.kind != "pet" and len(world.things) < 3:
                    world.next = [(1, "bring", {"a": b, "x": Thing()}), (1, "weather", {}), (1, "say", {"a": b})]
        case "own" | "bring" | "find":
            x.owner = x.holder = a
            world.things.append(x)
        case "put":
            hand(x, None, spot)
        case "pick":
            hand(x, a)
        case "give":
            hand(x, b)
            x.owner = b
            relief(world, b, "given", a, x)
        case "lend":
            hand(x, b)
            relief(world, b, "lent", a, x)
        case "return" | "drop":
            hand(x, b)
            relief(world, b, "returned", a, x)
        case "swap":
            x.owner = x.holder = b
            y.owner = y.holder = a
        case "lose":
            hand(x, None)
            trouble(world, "lost", a, "sad", None, x)
        case "break":
            x.broken = True
            trouble(world, "broken", a, "sad", None, x)
        case "take":
            hand(x, a)
            trouble(world, "taken", b, "cross", a, x)
        case "hide":
            hand(x, None, spot)
            trouble(world, "hidden", b, "sad", a, x)
        case "want":
            roles = {"a": b, "b": a, "x": x}
            world.next = [(2, "give", roles), (3, "lend", roles), (5, "refuse", roles)]
        case "refuse":
            trouble(world, "refused", b, "cross", a, x)
        case "noise":
            trouble(world, "noise", a, "scared")
        case "hurt":
            trouble(world, "hurt", a, "sad")
        case "ask":
            world.next = [(1, "tell", {"a": b, "b": a, "x": b.cause[2]})]
        case "ask who":
            world.next = list(answers(world, a, b, x))
        case "find again":
            hand(x, b)
            relief(world, b, "found", a, x)
        case "mend":
            x.broken = False
            relief(world, b, "mended", a, x)
        case "explain" | "nurse":
            relief(world, b, "helped", a, None)
        case "confess":
            world.next = [(1, "fetch", {"a": b, "x": x})]
        case "fetch":
            hand(x, a)
            relief(world, a, "there", None, x)
        case "glad" | "thank":
            a.mood = ""
        case "night" | "kept":
            world.next = [(1, "end", {}), *((2, "moral", {"a": p}) for p in world.speakers())]
        case "end" | "moral":
            world.over = True


ADJECTIVES = Choices([(), ("colour",)], [2, 1])
ADJECTIVES_SIZED = Choices([(), ("colour",), ("size",), ("size", "colour")], [8, 3, 2, 1])
NUMBER = Choices(["one", "many"], [3, 1])
CHILDREN = uniform(["girl", "boy"])
NAME_OR_PRONOUN = Choices([False, True], [1, 2])
OWNED_OR_NOT = Choices([False, True], [3, 1])
IT_OR_NOT = uniform([False, True])


class Teller:
    """Tells one story: text and events grow with each call of event(), nats with each choice."""

    def __init__(self, random: Callable[[], float]):
        self.random = random
        self.world = World()
        self.parts: list[str] = []
        self.length = 0
        self.nats = 0.0
        self.events: list[Event] = []

    def choose(self, choices: Choices):
        """One of the options, counted."""
        cumulative = choices.cumulative
        i = bisect(cumulative, self.random() * cumulative[-1])
        weight = cumulative[i] - (cumulative[i - 1] if i else 0)
        self.nats += log(cumulative[-1] / weight)
        return choices.options[i]

    def emit(self, text: str) -> None:
        self.parts.append(text)
        self.length += len(text)

    def event(self) -> None:
        """Choose what happens next, say it, and let it happen."""
        world = self.world
        possible = list(moves(world))
        _, kind, roles = self.choose(Choices(possible, [weight for weight, _, _ in possible])) if len(possible) > 1 \
            else possible[0]
        self.gap = "" if not self.length else "\n" if kind in ("go", "outing", "night", "kept") else " "
        self.capital, self.an, self.spot, self.subject, self.mentioned = True, False, "", None, set()
        self.mentions = []
        start = self.length + len(self.gap)
        self.fill(self.choose(FORMS[kind]), roles)
        self.events.append(Event(kind, start, self.length, tuple(self.mentions)))
        happen(world, kind, **roles, spot=self.spot)
        world.topic = self.subject
        world.focus = roles.get("x") if "y" not in roles else None

    def write(self, text: str) -> int:
        """Add text to the story, with its space, article and capital; returns where it starts."""
        if text[:1] == " ":
            self.gap, text = self.gap or " ", text[1:]
        if not text:
            return self.length
        if self.an:
            text, self.an = ("an " if text[0] in "aeiou" or text == "honest" else "a ") + text, False
        if self.capital and text != '"':
            text = text[0].upper() + text[1:] if text[0] != '"' else text[0] + text[1].upper() + text[2:]
            self.capital = False
        if text[0] in ".,!?":
            self.gap = ""
        body = text.rstrip(" ")
        self.emit(self.gap + body)
        self.gap = text[len(body):]
        self.capital = self.capital or body[-1] in ".!?"
        return self.length - len(body)

    def fill(self, form: list[tuple[str, str, str]], roles: dict) -> None:
        """Write a form with people and things in its slots."""
        self.roles = roles
        for literal, slot, part in form:
            if literal:
                self.write(literal)
            if slot in WORDS:
                self.write(self.choose(WORDS[slot]))
            elif slot in roles:
                self.refer(slot, roles[slot], part)
            elif slot:
                self.special(slot, roles)

    def mention(self, role: str, name: str, text: str) -> None:
        start = self.write(text)
        self.mentions.append(Mention(role, name, start, self.length))

    def special(self, slot: str, roles: dict) -> None:
        """The slots that are neither a word list nor a role."""
        world, a = self.world, roles.get("a")
        match slot:
            case "an":
                self.an = True
            case "spot":
                under, big, landmark = self.choose(WORDS["under"]), self.choose(WORDS["big"]), PLACES[world.place]
                self.spot = " ".join(f"{under} the {big} {self.choose(landmark)}".split())
                self.mention("place", self.spot, self.spot)
            case "to":
                world.place = self.choose(PLACE_CHOICES.without({world.place}))
                name = world.place.split(" ", 1)[1]
                self.mention("place", name, f"to {name}")
            case "feeling":
                a.feeling = self.choose(WORDS[a.mood])
                self.mention("feeling", a.feeling, a.feeling)
            case "sound":
                a.detail = f"{self.choose(WORDS['loud'])} {self.choose(WORDS['noise'])}"
                self.write(a.detail)
            case "limb":
                a.detail = self.choose(WORDS["part"])
                self.write(a.detail)
            case "detail":
                self.write(a.detail)
            case "cause" | "claim":              # why a feels so, or a's own words for it
                cause, b, x = a.cause
                start, outer = self.length, len(self.mentions)
                self.fill(CAUSES[cause][slot == "claim"], {"a": a, "b": b, "x": x})
                self.roles = roles
                del self.mentions[outer:]
                self.mentions.append(Mention("cause", cause, start + 1, self.length))

    def refer(self, role: str, it: Person | Thing, part: str) -> None:
        """Write one mention of a person or thing, in the way part asks for."""
        if part in words.AGREEMENT:
            self.write(words.AGREEMENT[part][it.kind == "many"])
        elif part == "feeling":
            it.feeling = it.feeling or self.choose(WORDS[it.mood])
            self.mention("feeling", it.feeling, it.feeling)
        elif part in ("spot", "detail"):
            self.write(getattr(it, part))
        elif isinstance(it, Person):
            self.refer_person(role, it, part)
        else:
            self.refer_thing(role, it, part)

    def refer_person(self, role: str, person: Person, part: str) -> None:
        known = person is self.world.topic and person not in self.mentioned
        match part:
            case "kind":
                person.kind = person.kind or self.choose(CHILDREN)
                self.write(person.kind)
                return
            case "kin":
                pets = any(p.kind == "pet" for p in self.world.people)
                text = self.choose(KIN_HUMAN if pets else KIN_CHOICES)
                person.kind = KIN[text]
                self.write(text)
                return
            case "first":
                names = NAMES[person.kind or "girl boy"]
                text = person.name = self.choose(names.without({p.name for p in self.world.people}))
                person.kind = KIND_OF_NAME[text]
            case "he" | "him" | "his":
                text = PRONOUNS[person.kind][part]
            case "" if known and not self.subject and self.choose(NAME_OR_PRONOUN):
                text = PRONOUNS[person.kind]["he"]
            case "obj" if known and self.subject.kind != person.kind and self.choose(NAME_OR_PRONOUN):
                text = PRONOUNS[person.kind]["him"]
            case _:
                text = person.name
        self.subject = self.subject or person
        self.mentioned.add(person)
        self.mention(role, person.name, text)

    def refer_thing(self, role: str, thing: Thing, part: str) -> None:
        if part == "new":
            self.new_thing(role, thing)
            return
        if part in ("broke", "broken"):
            soft = {"broke": "tore", "broken": "torn"}
            self.write(soft[part] if thing.name in SOFT else part)
            return
        if part == "" and thing is self.world.focus and thing not in self.mentioned and self.choose(IT_OR_NOT):
            part = "him"
        if part in ("he", "him"):
            self.mention(role, thing.name, PRONOUNS[thing.kind][part])
            return
        self.mentioned.add(thing)
        self.mention(role, thing.name, f"{self.determiner(thing, part)} {self.noun(thing)}")

    def new_thing(self, role: str, thing: Thing) -> None:
        """A thing's first mention: "a small red kite", "some blue boots"."""
        thing.kind = self.choose(NUMBER)
        start = self.length + len(self.gap)
        if thing.kind == "many":
            self.write("some ")
        else:
            self.an = True
        thing.size = self.choose(WORDS["size"])
        self.write(f"{thing.size} ")
        thing.colour = self.choose(WORDS["colour"])
        self.write(f"{thing.colour} ")
        thing.name = self.choose(THINGS[thing.kind].without({x.name for x in self.world.things}))
        self.write(thing.name)
        self.mentions.append(Mention(role, thing.name, start, self.length))

    def noun(self, thing: Thing) -> str:
        """The thing's name, with some, all or none of the adjectives it was introduced with."""
        adjectives = self.choose(ADJECTIVES_SIZED if thing.size else ADJECTIVES)
        return " ".join([*(getattr(thing, adjective) for adjective in adjectives), thing.name])

    def determiner(self, thing: Thing, part: str) -> str:
        """the, or whose it is: her (of the subject), my and your (of the speaker and listener), Mia's."""
        if part in ("my", "your"):
            return part if thing.owner is self.roles["a" if part == "my" else "b"] else "the"
        if thing.owner and thing.owner is self.subject:
            return PRONOUNS[thing.owner.kind]["his"]
        return f"{thing.owner.name}'s" if self.choose(OWNED_OR_NOT) else "the"
