"""What is asked about a picture: CLEVR's kinds of question (Johnson et al. 2017), about the scenes of pictures.py.

    exists      Is there a red ball?  Is there a dog?
    count       How many dogs are there?  How many things are red?
    attribute   What colour is the dog?  What is red?  Is the dog big or small?  Where is this?
    compare     Are there more dogs than birds?  Are the dog and the kite of one colour?  Is the dog as big as the kite?
    relation    Is the dog to the left of the kite?  What is to the left of the kite?

Every form lists all that it can ask of a scene, by answer. An answer is wanted first, each of a form's as often as any
other, and a question that has it then: so nobody does better than chance who does not look at the picture.
What is to be seen or said about a pair of UNSEEN is asked of nobody who learns.
"""

import functools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice, permutations

import numpy as np

from train.data.pictures import COLOURS, PARTS, PLACES, SEEN, SIZES, UNITS, UNSEEN, Scene, Thing, named, scenes

NUMBERS = ("none", "one", "two", "three", "four")
YES_NO = ("yes", "no")
MANY = {kind: f"{kind}s" for kind in PARTS}
APART = UNITS // 10  # how far two things must be apart for one to be to the left of the other
SIDES = {"to the left of": (-1, 0), "to the right of": (1, 0), "above": (0, -1), "below": (0, 1)}


@dataclass(frozen=True)
class Question:
    text: str
    answer: str
    kind: str  # exists, count, ...
    form: str


Found = Iterator[tuple[str, str, tuple]]  # (question, answer, the colours and kinds that it is about)


def _yes(right: bool) -> str:
    return YES_NO[not right]


def _singles(scene: Scene) -> list[Thing]:
    """The things that are the only ones of their kind."""
    kinds = Counter(thing.kind for thing in scene.things)
    return [thing for thing in scene.things if kinds[thing.kind] == 1]


def exists_pair(scene: Scene) -> Found:
    """Where the answer is no, there is something of this kind or of this colour: knowing one of the two is no help."""
    pairs = {thing.pair for thing in scene.things}
    colours, kinds = ({pair[part] for pair in pairs} for part in (0, 1))
    for colour in COLOURS:
        for kind in PARTS:
            if colour in colours or kind in kinds:
                yield f"Is there {named(kind, colour)}?", _yes((colour, kind) in pairs), ((colour, kind),)


def exists_kind(scene: Scene) -> Found:
    for kind in PARTS:
        there = [thing.pair for thing in scene.things if thing.kind == kind]
        yield f"Is there {named(kind)}?", _yes(bool(there)), there


def count_kind(scene: Scene) -> Found:
    for kind in PARTS:
        there = [thing.pair for thing in scene.things if thing.kind == kind]
        if len(there) < len(NUMBERS):
            yield f"How many {MANY[kind]} are there?", NUMBERS[len(there)], there


def count_colour(scene: Scene) -> Found:
    for colour in COLOURS:
        there = [thing.pair for thing in scene.things if thing.colour == colour]
        if len(there) < len(NUMBERS):
            yield f"How many things are {colour}?", NUMBERS[len(there)], there


def colour_of(scene: Scene) -> Found:
    for thing in _singles(scene):
        yield f"What colour is the {thing.kind}?", thing.colour, (thing.pair,)


def kind_of(scene: Scene) -> Found:
    colours = Counter(thing.colour for thing in scene.things)
    for thing in scene.things:
        if colours[thing.colour] == 1:
            yield f"What is {thing.colour}?", thing.kind, (thing.pair,)


def size_of(scene: Scene) -> Found:
    for thing in _singles(scene):
        yield f"Is the {thing.kind} big or small?", thing.size, (thing.pair,)


def place_of(scene: Scene) -> Found:
    yield "Where is this?", scene.place, tuple(thing.pair for thing in scene.things)


def more(scene: Scene) -> Found:
    number = Counter(thing.kind for thing in scene.things)
    pairs = tuple(thing.pair for thing in scene.things)
    for a, b in permutations(number, 2):
        if number[a] != number[b]:
            yield f"Are there more {MANY[a]} than {MANY[b]}?", _yes(number[a] > number[b]), pairs


def one_colour(scene: Scene) -> Found:
    for a, b in permutations(_singles(scene), 2):
        yield f"Are the {a.kind} and the {b.kind} of one colour?", _yes(a.colour == b.colour), (a.pair, b.pair)


def as_big(scene: Scene) -> Found:
    for a, b in permutations(_singles(scene), 2):
        yield f"Is the {a.kind} as big as the {b.kind}?", _yes(a.size == b.size), (a.pair, b.pair)


def beside(scene: Scene) -> Found:
    for a, b in permutations(_singles(scene), 2):
        for side, (x, y) in SIDES.items():
            if abs(far := x * (a.x - b.x) + y * (a.y - b.y)) >= APART:
                yield f"Is the {a.kind} {side} the {b.kind}?", _yes(far > 0), (a.pair, b.pair)


def what_beside(scene: Scene) -> Found:
    """Where all others are clearly on one side or the other, and one alone is on this one."""
    for b in _singles(scene):
        for side, (x, y) in SIDES.items():
            far = {thing: x * (thing.x - b.x) + y * (thing.y - b.y) for thing in scene.things if thing is not b}
            there = [thing for thing, distance in far.items() if distance > 0]
            if len(there) == 1 and min(map(abs, far.values())) >= APART:
                yield f"What is {side} the {b.kind}?", there[0].kind, (there[0].pair, b.pair)


# form: (kind of question, what it can ask, the answers)
FORMS: dict[str, tuple[str, Callable[[Scene], Found], tuple[str, ...]]] = {
    "is there a red ball": ("exists", exists_pair, YES_NO), "is there a ball": ("exists", exists_kind, YES_NO),
    "how many balls": ("count", count_kind, NUMBERS), "how many are red": ("count", count_colour, NUMBERS),
    "what colour": ("attribute", colour_of, tuple(COLOURS)), "what is red": ("attribute", kind_of, tuple(PARTS)),
    "big or small": ("attribute", size_of, tuple(SIZES)), "where": ("attribute", place_of, tuple(PLACES)),
    "more balls than kites": ("compare", more, YES_NO), "of one colour": ("compare", one_colour, YES_NO),
    "as big as": ("compare", as_big, YES_NO),
    "is it to the left": ("relation", beside, YES_NO), "what is to the left": ("relation", what_beside, tuple(PARTS)),
}  # fmt: skip
KINDS = tuple(dict.fromkeys(kind for kind, *_ in FORMS.values()))


def askable(scene: Scene, form: str, unseen: bool = False) -> dict[str, list[Question]]:
    """All that a form can ask of a scene, by answer.

    unseen: what is about a pair of UNSEEN, or about nothing that is there; else nothing that is about such a pair.
    """
    kind, find, _ = FORMS[form]
    found = defaultdict(list)
    for text, answer, pairs in find(scene):
        about = not UNSEEN.isdisjoint(pairs)
        if about == unseen or (unseen and not pairs):
            found[answer].append(Question(text, answer, kind, form))
    return found


@functools.cache
def _balance() -> tuple[np.ndarray, dict[str, dict[str, float]]]:
    """(how often to try each form, the share of its questions to keep by answer), so that all forms are asked equally
    often in the end, and all answers of a form: in 1,000 scenes it is counted what can be asked at all."""
    some, able, kept = [*islice(scenes(0, 1), 1000)], [], {}
    for form, (_, _, answers) in FORMS.items():
        possible = Counter(answer for scene in some for answer in askable(scene, form))
        rarest = min(possible[answer] for answer in answers)
        kept[form] = {answer: rarest / possible[answer] for answer in answers}
        able.append(rarest)
    return 1 / np.array(able) / np.sum(1 / np.array(able)), kept


def ask(scene: Scene, most: int, chance: np.random.Generator) -> list[Question]:
    """Up to so many questions about a scene, with answers that are balanced; some may come twice."""
    often, kept = _balance()
    asked, able = [], {}
    tries = 12 * most
    forms = chance.choice([*FORMS], tries, p=often).tolist()
    for form, which, keep, one in zip(forms, *chance.random((3, tries)).tolist()):
        answers = FORMS[form][2]
        wanted = answers[int(which * len(answers))]
        if form not in able:
            able[form] = askable(scene, form)
        if wanted in able[form] and keep < kept[form][wanted]:
            asked.append(able[form][wanted][int(one * len(able[form][wanted]))])
        if len(asked) == most:
            break
    return asked


def examination(each: int, *seed: int, unseen: bool = False) -> Iterator[tuple[Scene, Question]]:
    """`each` questions of every form, the answers equally often as far as that goes, each about a scene of its own.

    unseen: scenes with pairs of a colour and a kind that no scene to learn from has, and questions about those.
    """
    stream = scenes(*seed, pairs=[*SEEN, *5 * [*sorted(UNSEEN)]] if unseen else SEEN)
    chance = np.random.Generator(np.random.SFC64(seed))
    for number in range(each):
        for form, (_, _, answers) in FORMS.items():
            wanted = answers[number % len(answers)]
            scene, some = next((scene, some) for scene in stream if (some := askable(scene, form, unseen).get(wanted)))
            yield scene, some[chance.integers(len(some))]
