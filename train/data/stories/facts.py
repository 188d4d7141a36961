"""Facts of the stories' world that a sentence tells, and what is asked about them: with numbered passages, and without.

    Tom hid the ball behind the log. [1]
    Mia hid the ball near the barn. [2]
    Where did Mia hide the ball?            Near the barn [2].

The other passages differ from the one that tells in the person, the thing or what happened, so that nobody answers well
who does not read. A quarter of the passages do not tell, and then "I do not know." is right. Every fact is drawn anew
but for those of known(), which are always true, and are asked about with and without passages: a model that has learned
them can be given a passage that says otherwise, to see whether it reads or remembers.
"""

import random
from collections.abc import Iterator
from typing import NamedTuple

from models.chat import with_sources
from train.data.stories import words

UNKNOWN = "I do not know."
PASSAGES = 3  # at most
SHARES = {"told": 0.62, "untold": 0.22, "known": 0.06, "known, told": 0.05, "not known": 0.05}  # of what is asked

# How a fact is told, and how it is asked for: of a person {a} and a thing {x}.
FORMS = {
    "hid": (("{a} hid the {x} {answer}.", "The {x} of {a} is {answer}.", "{a} put the {x} {answer}."),
            ("Where did {a} hide the {x}?", "Where is the {x} of {a}?", "Where did {a} put the {x}?")),
    "gave": (("{answer} gave the {x} to {a}.", "{a} got the {x} from {answer}."),
             ("Who gave the {x} to {a}?", "From whom did {a} get the {x}?")),
    "mended": (("{answer} mended the {x} for {a}.", "{a} let {answer} mend the {x}."),
               ("Who mended the {x} for {a}?", "Who mended the {x} of {a}?")),
    "took": (("{answer} took the {x} away from {a}.", "{a} lost the {x} to {answer}."),
             ("Who took the {x} away from {a}?", "Who has the {x} of {a} now?")),
    "swapped": (("{a} swapped the {x} for the {answer}.", "For the {x} {a} got the {answer}."),
                ("What did {a} get for the {x}?", "For what did {a} swap the {x}?")),
}  # fmt: skip
NAMES = [name for kind in ("girl", "boy") for name in words.NAMES[kind].split()]
THINGS = [thing.partition("*")[0] for thing in words.THINGS["one"].split()]
SPOTS = [f"{near} the {mark}" for near in ("behind", "under", "near", "by", "beside")
         for mark in sorted({mark for marks in words.PLACES.values() for mark in marks.split()})]  # fmt: skip


class Fact(NamedTuple):
    kind: str  # a key of FORMS
    a: str  # a person
    x: str  # a thing
    answer: str  # what is told of them: a place, a person or a thing

    @property
    def key(self) -> tuple[str, str, str]:
        """What is asked about: of two facts with the same key one is not true."""
        return self.kind, self.a, self.x

    def told(self, draw: random.Random) -> str:
        text = draw.choice(FORMS[self.kind][0]).format(**self._asdict())
        return text[0].upper() + text[1:]

    def asked(self, draw: random.Random) -> str:
        return draw.choice(FORMS[self.kind][1]).format(a=self.a, x=self.x)

    def reply(self, number: int = 0) -> str:
        """The right reply.   number: of the passage that tells it."""
        text = f"the {self.answer}" if self.kind == "swapped" else self.answer
        return f"{text[0].upper()}{text[1:]}{f' [{number}]' * bool(number)}."


def some(draw: random.Random, kind: str = "", a: str = "", x: str = "") -> Fact:
    """A fact that is drawn, of a kind, a person or a thing if these are given; none that known() speaks of."""
    while True:
        key = kind or draw.choice(list(FORMS)), a or draw.choice(NAMES), x or draw.choice(THINGS)
        if key not in KNOWN:
            return Fact(*key, _answer(*key, draw))


def other(fact: Fact, draw: random.Random) -> Fact:
    """The same with another answer."""
    while (answer := _answer(*fact.key, draw)) == fact.answer:
        pass
    return fact._replace(answer=answer)


def near(fact: Fact, draw: random.Random) -> Fact:
    """A fact that another question asks for; it has one or two of the kind, the person and the thing in common."""
    same = fact._asdict() | dict.fromkeys(draw.sample(("kind", "a", "x"), draw.choice((1, 1, 2))), "")
    while (found := some(draw, same["kind"], same["a"], same["x"])).key == fact.key:
        same["x"] = ""
    return found


def known() -> list[Fact]:
    """The facts that never change."""
    return list(KNOWN.values())


def requests(draw: random.Random, known_too: bool = True) -> Iterator[dict]:
    """What is asked, without end: {"request", "right", "wrong", "answer", "others", "source"} and the "share" it is of.

    source: the number of the passage that tells, 0 if none does.   others: what the other passages would answer.
    known_too: whether there are also questions without passages, and about the facts of known().
    """
    shares = {name: share for name, share in SHARES.items() if known_too or name in ("told", "untold")}
    while True:
        (share,) = draw.choices(list(shares), list(shares.values()))
        fact = draw.choice(known()) if share.startswith("known") else some(draw)
        told = share in ("told", "known, told")
        number = 0 if share in ("known", "not known") else draw.randint(1, PASSAGES)
        yield request(fact, draw, number, told) | {"share": share}


def request(fact: Fact, draw: random.Random, passages: int, told: bool, tells: Fact | None = None) -> dict:
    """A question about a fact, with so many passages, one of which tells it if it is told.

    tells: what that passage says, if that is not the fact itself.
    """
    wrong = []
    while len(wrong) < passages - told:
        wrong += [one for one in [near(fact, draw)] if one.key not in {other.key for other in wrong}]
    tells = tells or fact
    about = [*wrong, tells] if told else wrong
    draw.shuffle(about)
    source = about.index(tells) + 1 if told else 0
    text = with_sources([one.told(draw) for one in about], fact.asked(draw))
    says = tells.answer if told else fact.answer if not passages and fact.key in KNOWN else ""
    right = tells.reply(source) if says else UNKNOWN
    others = sorted({one.answer for one in wrong} - {says})
    bad = [one.reply(number) for number, one in enumerate(about, 1) if number != source] or [other(fact, draw).reply()]
    if says:
        bad += [UNKNOWN, *([tells.reply(source % passages + 1)] if passages > 1 else [])]
    return {"request": text, "right": right, "wrong": bad, "answer": says, "others": others, "source": source}


def _answer(kind: str, a: str, x: str, draw: random.Random) -> str:
    if kind == "hid":
        return draw.choice(SPOTS)
    return draw.choice([one for one in (THINGS if kind == "swapped" else NAMES) if one not in (a, x)])


def _known(count: int) -> dict[tuple, Fact]:
    draw, found = random.Random("known"), {}
    while len(found) < count:
        key = draw.choice(list(FORMS)), draw.choice(NAMES), draw.choice(THINGS)
        found.setdefault(key, Fact(*key, _answer(*key, draw)))
    return found


KNOWN = _known(20)  # key -> the fact
