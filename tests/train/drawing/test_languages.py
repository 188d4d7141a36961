"""Drawings written as SVG and as TikZ, and read back: the same shapes, or a sentence that names what is wrong."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.drawing import svg, tikz
from train.drawing.score import beginning, readable
from train.drawing.shapes import (
    COLOURS,
    GRID,
    LINE,
    OWN,
    PAPER,
    Circle,
    Ellipse,
    Group,
    Line,
    Polygon,
    Rectangle,
    flat,
    paint,
)
from train.drawing.sheet import page

LENGTH, COLOUR = st.integers(1, GRID), st.sampled_from(list(COLOURS))


def shapes(most: int, colour=COLOUR):
    """Any shape with coordinates up to `most`."""
    at = st.integers(0, most)
    points = st.lists(st.tuples(at, at), min_size=3, max_size=6).map(tuple)
    return st.one_of(st.builds(Circle, at, at, LENGTH, colour), st.builds(Ellipse, at, at, LENGTH, LENGTH, colour),
                     st.builds(Rectangle, at, at, LENGTH, LENGTH, colour), st.builds(Polygon, points, colour),
                     st.builds(Line, at, at, at, at, colour))  # fmt: skip


HALF = st.integers(0, GRID // 2)
some = lambda colour: st.lists(shapes(GRID // 2, colour), min_size=1, max_size=4).map(tuple)
GROUP = st.one_of(st.builds(Group, HALF, HALF, some(COLOUR)),
                  st.builds(Group, HALF, HALF, some(st.one_of(COLOUR, st.just(OWN))), COLOUR))  # fmt: skip
DRAWING = st.lists(st.one_of(shapes(GRID), GROUP), max_size=10).map(tuple)
ONE = (Circle(12, 20, 5, "red"), Ellipse(40, 41, 8, 5, "blue"), Rectangle(3, 4, 5, 6, "white"),
       Polygon(((1, 2), (3, 4), (5, 6)), "gold"), Line(7, 8, 9, 10, "black"))  # fmt: skip


@given(DRAWING)
def test_what_is_written_as_svg_is_read_as_the_same_drawing(drawing):
    assert svg.read(svg.write(drawing)) == drawing
    assert svg.read("".join(map(svg.element, drawing))) == drawing


@given(DRAWING)
def test_what_is_written_as_tikz_is_read_as_the_same_drawing(drawing):
    assert tikz.read(tikz.write(drawing)) == drawing == tikz.read(tikz.document(drawing))
    assert tikz.read(tikz.write(drawing).replace(",", " , ").replace("(", "\n( ")) == drawing


@given(DRAWING)
def test_the_svg_is_one_that_an_xml_parser_reads_too(drawing):
    root = ET.fromstring(svg.write(drawing))
    assert root.attrib["viewBox"] == f"0 0 {GRID} {GRID}" and len(root) == len(drawing)
    leaves = [leaf for element in root for leaf in (list(element) or [element])]
    written = [shape for one in drawing for shape in (one.shapes if isinstance(one, Group) else [one])]
    assert len(leaves) == len(written)
    for element, shape in zip(leaves, written):
        paint = element.attrib["stroke" if isinstance(shape, Line) else "fill"]
        assert paint == (shape.colour if shape.colour != OWN else "currentColor")
    assert len(ET.fromstring(page([("a < b & c", drawing), ("d", drawing)]))) == 4


def test_a_group_is_written_as_a_scope_and_moves_its_shapes():
    group = Group(40, 50, ONE)
    lines = tikz.write((group,)).splitlines()
    assert lines[0] == r"\begin{scope}[shift={(40,50)}]" and lines[-1] == r"\end{scope}" and len(lines) == 7
    assert svg.element(group).startswith('<g transform="translate(40,50)">\n<circle cx="12"')
    moved = (Circle(52, 70, 5, "red"), Ellipse(80, 91, 8, 5, "blue"), Rectangle(43, 54, 5, 6, "white"),
             Polygon(((41, 52), (43, 54), (45, 56)), "gold"), Line(47, 58, 49, 60, "black"))  # fmt: skip
    assert flat((group,)) == moved and np.array_equal(paint((group,)), paint(moved))


def test_a_shape_without_a_colour_has_that_of_its_group():
    group = Group(4, 5, (Circle(12, 20, 5, OWN), Circle(1, 2, 3, "black"), Line(1, 2, 3, 4, OWN)), "red")
    assert tikz.write((group,)) == (
        "\\begin{scope}[red, shift={(4,5)}]\n\\fill (12,20) circle (5);\n\\fill[black] (1,2) circle (3);\n"
        "\\draw (1,2) -- (3,4);\n\\end{scope}\n")  # fmt: skip
    first, second, *_ = svg.element(group).splitlines()
    assert first == '<g color="red" transform="translate(4,5)">'
    assert second == '<circle cx="12" cy="20" r="5" fill="currentColor"/>'
    red = (Circle(16, 25, 5, "red"), Circle(5, 7, 3, "black"), Line(5, 7, 7, 9, "red"))
    assert flat((group,)) == red and np.array_equal(paint((group,)), paint(red))


def test_the_commands_are_those_of_tikz():
    assert tikz.write(ONE).splitlines() == [
        r"\fill[red] (12,20) circle (5);", r"\fill[blue] (40,41) ellipse (8 and 5);",
        r"\fill[white] (3,4) rectangle (8,10);", r"\fill[gold] (1,2) -- (3,4) -- (5,6) -- cycle;",
        r"\draw[black] (7,8) -- (9,10);",
    ]  # fmt: skip
    assert f"[x=1mm, y=-1mm, line width={LINE}mm, line cap=round]" in tikz.document(ONE)
    assert r"\definecolor{green}{RGB}{0,128,0}" in tikz.document(ONE)  # SVG's, where xcolor has another


@pytest.mark.parametrize("program, said", [
    (r"\shade[red] (1,2) circle (3);", r"'\\\\shade\[red\] \(1,2\) circle \(3\)' is not understood"),
    (r"\fill[mauve] (1,2) circle (3);", "'mauve' is no colour of ours"),
    (r"\fill[red] (1,2) circle (3)", "does not end with a semicolon"),
    (r"\fill[red] (1,2) circle (97);", "a circle has r 97; the grid has whole numbers from 1 to 96"),
    (r"\fill[red] (1,2) circle (0);", "a circle has r 0"),
    (r"\fill[red] (1,200) circle (3);", "a circle has y 200"),
    (r"\fill[red] (1,2) circle (1.5);", "fill takes a circle"),
    (r"\fill[red] (1,2) -- (3,4) -- cycle;", "a polygon has at least 3 points, not 2"),
    (r"\fill[red] (5,5) rectangle (5,9);", "a rectangle has width 0"),
    (r"\fill[red] (5,5) rectangle (1,9);", "a rectangle has width -4"),
    (r"\fill[red] (1,2) arc (3);", "fill takes a circle, an ellipse, a rectangle or -- cycle, not"),
    (r"\draw[red] (1,2) -- (3,4) -- (5,6);", "draw takes a line"),
    (r"\draw[red, thick] (1,2) -- (3,4);", "is not understood"),
    (r"\fill[red] (1,2) circle (3);;", "'' is not understood"),
    (r"\begin{scope}[shift={(1,2)}] \fill[red] (1,2) circle (3);", r"a scope does not end with \\end\{scope\}"),
    (r"\begin{scope}[shift={(1,2)}] \end{scope}", "a group has no shapes"),
    (r"\begin{scope}[mauve, shift={(1,2)}] \fill (1,2) circle (3); \end{scope}", "a group is 'mauve'; the colours"),
    (r"\begin{scope}[shift={(1,2)}] \fill (1,2) circle (3); \end{scope}", "a shape says no colour, nor does its group"),
    (r"\fill (1,2) circle (3);", "a circle says no colour, and stands in no group that has one"),
    (r"\begin{scope}[shift={(1,95)}] \fill[red] (1,2) circle (3); \end{scope}", "a circle has y 97"),
    (r"\begin{scope}[scale=2] \fill[red] (1,2) circle (3); \end{scope}", r"begin\{scope\}\[scale=2\]"),
    (r"\begin{scope}[shift={(1,2)}] \begin{scope}[shift={(1,2)}] \fill[red] (1,2) circle (3); \end{scope} \end{scope}",
     r"begin\{scope\}\[shift"),
    (r"\fill[red] (1,2) circle (3); \end{scope}", "does not end with a semicolon"),
    (r"\begin{tikzpicture} \fill[red] (1,2) circle (3);", "begin"),
])  # fmt: skip
def test_tikz_that_is_not_understood_is_refused_by_name(program, said):
    with pytest.raises(ValueError, match=said):
        tikz.read(program)
    assert readable(program) is None


@pytest.mark.parametrize("file, said", [
    ('<path d="M 1 2" fill="red"/>', "'<path d=\"M 1 2\" fill=\"red\"/>' is not understood"),
    ('<circle cx="1" cy="2" r="3"/>', "<circle/> takes cx, cy, r, fill, each once; this one has cx, cy, r"),
    ('<circle cx="1" cy="2" r="3" fill="red" opacity="0.5"/>', "this one has cx, cy, r, fill, opacity"),
    ('<circle cx="1" cx="1" cy="2" r="3" fill="red"/>', "this one has cx, cx, cy, r, fill"),
    ('<circle cx="1.5" cy="2" r="3" fill="red"/>', "<circle/> has cx '1.5', which is no whole number"),
    ('<circle cx="-1" cy="2" r="3" fill="red"/>', "has cx '-1'"),
    ('<circle cx="1" cy="2" r="3" fill="#ff0000"/>', "has fill '#ff0000'; the colours are red, blue"),
    ('<polygon points="1,2 3,4 5" fill="red"/>', "points '1,2 3,4 5' are not understood"),
    ('<line x1="1" y1="2" x2="3" y2="4" fill="red"/>', "<line/> takes x1, y1, x2, y2, stroke"),
    ('<circle cx="1" cy="2" r="3" fill="red"/> a word', "'a word' is not understood"),
    ("<!-- a remark -->", "is not understood"),
    (svg.HEAD + '<rect x="1" y="2" width="3" height="3" fill="red"/>', "does not end with </svg>"),
    ('<svg width="5"></svg>', "is not understood"),
    ('<g transform="translate(1,2)"><circle cx="1" cy="2" r="3" fill="red"/>', "a <g> does not end with </g>"),
    ('<g transform="translate(1,2)"></g>', "a group has no shapes"),
    ('<g color="mauve" transform="translate(1,2)"><circle cx="1" cy="2" r="3" fill="red"/></g>', "a group is 'mauve'"),
    ('<circle cx="1" cy="2" r="3" fill="currentColor"/>', "a circle says no colour, and stands in no group"),
    ('<g transform="rotate(30)"><circle cx="1" cy="2" r="3" fill="red"/></g>', "is not understood"),
    ('<circle cx="1" cy="2" r="3" fill="red"/></g>', "'</g>' is not understood"),
])  # fmt: skip
def test_svg_that_is_not_understood_is_refused_by_name(file, said):
    with pytest.raises(ValueError) as error:
        svg.read(file)
    assert said in str(error.value)


@given(DRAWING, st.integers(0, 2000), st.sampled_from(["", "x", ";", "\\", "(1,2)", "99", " -- cycle"]))
def test_damaged_programs_are_read_or_refused_and_nothing_else(drawing, place, more):
    for text, read in ((tikz.write(drawing), tikz.read), (svg.write(drawing), svg.read)):
        damaged = text[:place] + more + text[place + 3 :]
        try:
            assert isinstance(read(damaged), tuple)
        except ValueError as error:
            assert len(str(error)) > 10


def test_the_beginning_of_a_program_is_what_stands_before_the_first_mistake():
    program = tikz.write(ONE)
    assert beginning(program) == ONE
    assert beginning(program.replace(r"\fill[gold]", r"\fill[golden]")) == ONE[:3]
    moved = tikz.write((Group(1, 2, ONE),))
    assert beginning(moved) == (Group(1, 2, ONE),)
    assert beginning(moved.replace(r"\fill[gold]", r"\fill[golden]")) == (Group(1, 2, ONE[:3]),)
    assert beginning("nothing of it") == ()


def test_pixels_are_the_shapes_in_their_colours_over_the_paper():
    pixels = paint((Rectangle(0, 0, 48, 48, "red"), Circle(72, 72, 12, "gold"), Line(0, 90, 96, 90, "black")))
    colour = lambda name: np.array(COLOURS[name]) / 255
    for x, y, name in ((10, 10, "red"), (47, 47, "red"), (49, 10, PAPER), (72, 72, "gold"), (72, 62, "gold"),
                       (72, 58, PAPER), (50, 89, "black"), (50, 90, "black"), (50, 87, PAPER)):  # fmt: skip
        assert np.allclose(pixels[y, x], colour(name), atol=1e-6), (x, y)  # float32
    ten = paint((Rectangle(0, 0, 48, 48, "red"),), 10)
    assert ten.shape == (10, 10, 3) and np.allclose(ten[:5, :5], colour("red"), atol=1e-6)
    assert np.allclose(ten[5:], colour(PAPER), atol=1e-6)
