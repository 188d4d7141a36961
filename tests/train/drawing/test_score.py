"""The scorer on cases made by hand: what is there counts, what is missing, wrong or unreadable does not."""

import random

import pytest

from train.drawing import tikz
from train.drawing.looking import found, look
from train.drawing.scenes import Scene, Thing, drawn, understand
from train.drawing.score import overlap, score
from train.drawing.shapes import Circle, Group, Line, Polygon, Rectangle, flat
from train.drawing.unicorns import horns_put_back, without_horn

BALL = (Circle(24, 60, 20, "red"), Line(10, 60, 38, 60, "white"))
HOUSE = (Rectangle(64, 60, 16, 12, "blue"), Polygon(((63, 60), (72, 52), (81, 60)), "brown"),
         Rectangle(74, 66, 4, 6, "brown"), Rectangle(66, 62, 4, 3, "yellow"))  # fmt: skip
CAPTION = "a big red ball left of a small blue house"
ALL = {"1 kind ball": True, "1 colour red": True, "1 size big": True, "2 kind house": True, "2 colour blue": True,
       "2 size small": True, "relation left": True}  # fmt: skip


def missing(drawing, caption: str = CAPTION) -> set[str]:
    return {name for name, there in found(understand(caption), drawing).items() if not there}


def test_all_that_was_asked_is_there_in_any_order_of_drawing():
    assert found(understand(CAPTION), BALL + HOUSE) == ALL == found(understand(CAPTION), HOUSE + BALL)


@pytest.mark.parametrize("drawing, lacks", [
    (BALL, {"2 kind house", "2 colour blue", "2 size small", "relation left"}),
    ((), set(ALL)),
    ((Circle(24, 60, 20, "green"), BALL[1], *HOUSE), {"1 colour red"}),
    ((Circle(24, 60, 8, "red"), Line(20, 60, 28, 60, "white"), *HOUSE), {"1 size big"}),
    ((*BALL, HOUSE[0], *HOUSE[2:]), {"2 kind house", "2 colour blue", "2 size small", "relation left"}),  # no roof
    ((*BALL, *HOUSE[:2], HOUSE[3]), {"2 kind house", "2 colour blue", "2 size small", "relation left"}),  # no door
    ((Circle(72, 24, 20, "red"), Line(58, 24, 86, 24, "white"), *HOUSE), {"relation left"}),  # the ball is above
])  # fmt: skip
def test_what_is_missing_or_wrong_is_told_by_name(drawing, lacks):
    assert missing(drawing) == lacks


def test_two_figures_are_not_taken_for_one_thing_twice():
    assert missing(BALL + HOUSE, "a red ball and a red ball") == {"2 kind ball", "2 colour red"}


@pytest.mark.parametrize("kind, colour", [("unicorn", "white"), ("unicorn", "black"), ("horse", "grey")])
def test_a_unicorn_without_a_horn_is_a_horse_and_a_horse_with_one_is_none(kind, colour):
    for seed in range(30):
        drawing = flat(drawn(Scene((Thing(kind, colour),)), random.Random(seed), last=0))
        assert [seen.kind for seen in look(without_horn(drawing))] == ["horse"]
    left, top, right, _ = drawing[2].box  # the head
    tip = min(shape.box[1] for shape in drawing) - 4
    for horn, seen in ((Polygon(((left, top + 3), ((left + right) // 2, tip), (right, top + 3)), "gold"), "unicorn"),
                       (Polygon(((2, 90), (6, 80), (10, 90)), "gold"), "horse")):  # fmt: skip
        assert look((*without_horn(drawing), horn))[0].kind == seen, "a horn is on the head, or none"


def test_a_horn_is_taken_out_of_groups_too():
    horn = Polygon(((1, 2), (3, 4), (5, 6)), "gold")
    drawing = (Group(5, 6, (*BALL, horn)), horn, Group(7, 8, (horn,)), BALL[0])
    assert without_horn(drawing) == (Group(5, 6, BALL), BALL[0])


class Draws:
    """A model whose programs are made by a function of the example."""

    def __init__(self, program):
        self.answers = lambda examples: [program(**example) for example in examples]


@pytest.mark.parametrize("things", [1, 2])
def test_a_horn_is_put_back_only_by_who_draws_one(things):
    anew = lambda caption, start: tikz.write(drawn(understand(caption), random.Random(1)))
    assert horns_put_back(Draws(anew), things, 20) == 1
    assert horns_put_back(Draws(lambda caption, start: start), things, 20) == 0
    assert horns_put_back(Draws(lambda caption, start: start + r"\fill[gold]"), things, 20) == 0


@pytest.mark.parametrize("kind", ["unicorn", "cat", "bird", "girl", "boy"])
def test_who_lacks_legs_is_not_who_was_asked_for(kind):
    for seed in range(20):
        drawing = flat(drawn(Scene((Thing(kind, "white"),)), random.Random(seed), last=0))
        lines = [shape for shape in drawing if isinstance(shape, Line)]
        kept = tuple(shape for shape in drawing if shape not in lines[:2]) if kind != "boy" else drawing[:-4]
        assert look(drawing)[0].kind == kind and look(kept)[0].kind == ""


def test_overlap_counts_pixels_that_both_paint_in_one_colour():
    one = (Rectangle(0, 0, 40, 40, "red"),)
    assert overlap(one, one) == 1
    assert overlap(one, (Rectangle(0, 0, 40, 40, "blue"),)) == 0
    assert overlap(one, (Rectangle(0, 0, 20, 40, "red"),)) == pytest.approx(0.5, abs=0.01)  # the edge is not sharp
    assert overlap(one, (Rectangle(20, 0, 40, 40, "red"),)) == pytest.approx(1 / 3, abs=0.02)
    assert overlap((), one) == 0


def test_the_score_is_the_share_of_all_that_was_asked_and_the_unreadable_has_nothing():
    good = tikz.write(BALL + HOUSE)
    assert score([CAPTION], [good], [good]) == {"attributes": 1, "parsed": 1, "overlap": 1}
    half = score([CAPTION, CAPTION], [good, good + r"\fill[red] (1,2) circle (3)"], [good, good])
    assert half == {"attributes": 0.5, "parsed": 0.5, "overlap": 0.5}
    assert score([CAPTION], [""], [good]) == {"attributes": 0, "parsed": 0, "overlap": 0}
    green = score([CAPTION, "a blue house"], [tikz.write((Circle(24, 60, 20, "green"), BALL[1])), good], [good, good])
    assert green["attributes"] == pytest.approx((2 + 2) / (7 + 2)) and green["parsed"] == 1
