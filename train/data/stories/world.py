"""The world behind a story: who is there, who has what, what is wrong, and so what can happen next.

Everything a story must stay true to lives here, and nothing about words: moves() lists the events the state allows,
each with a whole-number weight, and happen() changes the state. A move is (weight, kind, *cast): the people in the
cast are the event's a and b, the things its x and y, in that order.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(eq=False)
class Person:
    name: str = ""
    kind: str = ""  # girl, boy, pet, or "many" for everyone together
    mood: str = ""  # a feeling still to be told: sad, cross, scared, happy
    feeling: str = ""  # the word last used for it
    cause: tuple = ()  # what is behind it: (key of words.CAUSES, person or None, thing or None)
    detail: str = ""  # the noise heard, the limb hurt


@dataclass(eq=False)
class Thing:
    name: str = ""
    kind: str = "one"  # or "many": boots are many
    colour: str = ""
    owner: Person | None = None  # whose it is
    holder: Person | None = None  # who has it now
    spot: str = ""  # where it lies when nobody has it


Move = tuple  # (weight, kind, *cast)


@dataclass(eq=False)
class World:
    people: list[Person] = field(default_factory=list)
    things: list[Thing] = field(default_factory=list)
    everyone: Person = field(default_factory=lambda: Person(kind="many"))
    place: str = ""
    topic: Person | None = None  # who the last sentence was about: "she"
    focus: Thing | None = None  # what it was about: "it"
    trouble: tuple = ()  # what is wrong: (kind, who suffers, who did it, thing)
    tried: list[str] = field(default_factory=list)  # what has been said and done about it
    troubles: int = 0  # how many there have been
    next: list[Move] = field(default_factory=list)  # one of these must follow at once: an answer, an ending
    over: bool = False

    def speakers(self) -> list[Person]:
        return [person for person in self.people if person.kind != "pet"]

    def held(self, person: Person) -> list[Thing]:
        return [thing for thing in self.things if thing.holder is person]


def moves(world: World) -> list[Move]:
    """Everything that can happen next."""
    if world.next:
        return world.next
    if not world.people:
        return [(1, "open", Person())]
    if not world.things:
        return [(1, "own", world.people[0], Thing())]
    if not world.place:
        return [(1, "outing", world.people[0], Person())]
    return list(troubled(world, *world.trouble) if world.trouble else calm(world))


def calm(world: World) -> Iterator[Move]:
    """While nothing is wrong: quiet things to do, what may go wrong, and the end."""
    speakers = world.speakers()
    fragile = not world.troubles and len(speakers) > 1  # things may go wrong, and someone is there to help
    ending = 20 if world.troubles else 0
    yield 6, "weather"
    if len(world.people) < 3:
        yield 40 if len(speakers) == 1 else 2, "meet", speakers[0], Person()
    for a in [*speakers, world.everyone]:
        yield 3, "eat", a
        yield 3, "play", a
        if ending:
            yield ending, "night", a
    for a in speakers:
        yield 5, "see", a
        yield 3, "say", a
        if len(world.things) < 3:
            yield 2 if world.held(a) else 4, "find", a, Thing()
        if a.mood:
            yield 10, "glad", a
            if a.cause[1] in speakers:
                yield 10, "thank", a, a.cause[1]
        if fragile:
            yield 6, "noise", a
            yield 6, "hurt", a
        for x in world.held(a):
            yield from holding(world, a, x)
            if fragile and x.owner is a:
                yield from losing(world, a, x, 6)
            if ending:
                yield ending, "kept", a, x
    left_behind = [x for x in world.things if x.spot]
    for x in left_behind:
        for a in speakers:
            yield 4, "pick", a, x
    if not left_behind:
        yield 2, "go", world.everyone
        for a in speakers:
            yield 1, "suggest", a


def holding(world: World, a: Person, x: Thing) -> Iterator[Move]:
    """What a may do with x in hand."""
    yield 2, "use", a, x
    yield 2, "put", a, x
    others = [p for p in world.speakers() if p is not a]
    for b in others:
        if x.owner is b:
            yield 4, "return", a, b, x
        else:
            yield 1, "give", a, b, x
        if x.owner is a:
            yield 2, "lend", a, b, x
            for y in world.held(b):
                if y.owner is b:
                    yield 1, "swap", a, b, x, y
        elif x.owner in others:
            yield 2, "ask who", x.owner, a if b is x.owner else b, x


def losing(world: World, a: Person, x: Thing, weight: int) -> Iterator[Move]:
    """What may happen to x, which is a's, and to a for its sake."""
    yield weight, "lose", a, x
    yield weight, "break", a, x
    for b in world.people:
        if b is not a:
            yield weight, "take", b, a, x
            yield weight, "hide", b, a, x
            if b.kind != "pet":
                yield 2 * weight, "want", b, a, x


def troubled(world: World, kind: str, a: Person, b: Person | None, x: Thing | None) -> Iterator[Move]:
    """While a suffers: feelings, questions and comfort, and ever more likely what makes it right again."""
    hope = 1 + 2 * len(world.tried)
    if "feel" not in world.tried:
        yield 12, "feel", a
    for p in world.speakers():
        if p is a or p is b:
            continue
        if "ask" not in world.tried:
            yield 4, "ask", p, a
        if "comfort" not in world.tried:
            yield 2, "comfort", p, a
        if kind == "lost":
            if world.tried.count("search") < 3:
                yield 4, "search", p, x
            yield hope, "find again", p, a, x
        elif kind == "broken":
            yield hope, "mend", p, a, x
        elif kind == "noise":
            yield hope, "explain", p, a
        elif kind == "hurt":
            yield hope, "nurse", p, a
    if kind in ("taken", "hidden") and "ask who" not in world.tried:
        for p in world.speakers():
            if p is not a:
                yield 3, "ask who", a, p, x
    if kind == "taken":
        yield hope, "drop" if b.kind == "pet" else "return", b, a, x
    elif kind == "refused":
        yield hope, "lend", b, a, x
        yield hope, "give", b, a, x
    elif kind == "hidden":
        if b.kind != "pet":
            yield hope, "confess", b, a, x
        yield hope, "fetch", a, x


def answer(a: Person, b: Person, x: Thing) -> Move:
    """What b can truly say when a asks where x is."""
    if x.spot:
        return 1, "confess", b, a, x
    if x.holder is b:
        return 1, "answer me", b, x
    return 1, "answer other", b, x.holder, x


# What is wrong after these events, and the mood of who suffers from it: b where there is one, else a.
TROUBLES = {"lose": ("lost", "sad"), "break": ("broken", "sad"), "hide": ("hidden", "sad"), "hurt": ("hurt", "sad"),
            "take": ("taken", "cross"), "refuse": ("refused", "cross"), "noise": ("noise", "scared")}

# Why b, or else a, is happy after these.
RELIEFS = {"give": "given", "lend": "lent", "return": "returned", "drop": "returned", "find again": "found",
           "mend": "mended", "explain": "helped", "nurse": "helped", "fetch": "there"}


def happen(world: World, kind: str, a: Person | None = None, b: Person | None = None,
           x: Thing | None = None, y: Thing | None = None, spot: str = "") -> None:
    """Change the world by an event; spot is the place its sentence spoke of."""
    world.next = []
    world.tried.append(kind)
    touched, other = (b, a) if b else (a, None)
    if kind in TROUBLES:  # which last until a relief
        cause, mood = TROUBLES[kind]
        world.trouble, world.tried, world.troubles = (cause, touched, other, x), [], world.troubles + 1
        touched.mood, touched.feeling, touched.cause = mood, "", (cause, other, x)
    elif kind in RELIEFS:
        world.trouble = ()
        touched.mood, touched.feeling, touched.cause = "happy", "", (RELIEFS[kind], other, x)
    match kind:
        case "open" | "outing" | "meet":
            world.people.append(b or a)
            names = [person.name for person in world.people]
            world.everyone.name = " and ".join(names) if len(names) == 2 else "the friends"
            if b and b.kind != "pet" and len(world.things) < 3:
                world.next = [(1, "bring", b, Thing()), (1, "weather"), (1, "say", b)]
        case "own" | "bring" | "find":
            x.owner = a
            world.things.append(x)
        case "give":
            x.owner = b
        case "swap":
            x.owner, y.owner, y.holder = b, a, a
        case "want":
            world.next = [(2, "give", b, a, x), (3, "lend", b, a, x), (5, "refuse", b, a, x)]
        case "ask":
            world.next = [(1, "tell", b, a)]
        case "ask who":
            world.next = [answer(a, b, x)]
        case "confess":
            world.next = [(1, "fetch", b, x)]
        case "glad" | "thank":
            a.mood = ""
        case "night" | "kept":
            world.next = [(1, "end"), *((2, "moral", person) for person in world.speakers())]
        case "end" | "moral":
            world.over = True
    if kind in HOLDER:
        x.holder, x.spot = {"a": a, "b": b, "": None}[HOLDER[kind]], spot if kind in ("put", "hide") else ""


# Who has x after these events; after the others, whoever had it before.
HOLDER = {"own": "a", "bring": "a", "find": "a", "pick": "a", "take": "a", "fetch": "a",
          "give": "b", "lend": "b", "return": "b", "drop": "b", "swap": "b", "find again": "b",
          "lose": "", "hide": "", "put": ""}
