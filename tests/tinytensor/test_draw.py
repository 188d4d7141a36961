import itertools
import re
import xml.etree.ElementTree as xml

import numpy as np
import pytest

import tinytensor as tt
from nn import Attention, Block, FeedForward, LayerNorm, Stream
from tinytensor.draw import Box, _rows
from train.tables import markdown

SVG = "{http://www.w3.org/2000/svg}"


def leaf(value) -> tt.Tensor:
    return tt.Tensor(value, requires_grad=True)


def small():
    a, b, c = leaf(2.0), leaf(-3.0), leaf([1.0, 2.0, 3.0])
    return (a * b + c).sum(), {"a": a, "b": b, "c": c}


def written(picture) -> list[list[str]]:
    """The lines of text in each box of the SVG, which must be well formed."""
    boxes: list[list[str]] = []
    for element in xml.fromstring(picture.svg()):
        if element.tag == f"{SVG}rect":
            boxes.append([])
        elif element.tag == f"{SVG}text":
            boxes[-1].append(element.text)
    return boxes


def test_every_leaf_and_op_has_a_box_with_its_shape_and_value():
    y, names = small()
    found = written(tt.draw(y, names))
    expected = [["a", "2"], ["b", "-3"], ["c", "(3,)", "[1, 2, 3]"], ["mul", "-6"], ["add", "(3,)", "[-5, -4, -3]"],
                ["sum", "-12"]]  # fmt: skip
    assert sorted(found) == sorted(expected)


def test_after_backward_the_boxes_hold_the_gradients():
    y, names = small()
    picture = tt.draw(y, names)
    y.backward()
    found = {box[0]: box[-1] for box in written(picture)}
    assert found == {"a": "grad -9", "b": "grad 6", "c": "grad [1, 1, 1]", "mul": "grad 3", "add": "grad [1, 1, 1]",
                     "sum": "grad 1"}  # fmt: skip
    assert float(names["a"].grad) == -9 and float(names["b"].grad) == 6  # drawing has changed nothing


def test_large_arrays_are_told_by_shape_and_the_length_of_the_gradient():
    x = leaf(np.ones((3, 4)))
    y = x * 2.0
    picture = tt.draw(y)
    y.backward(np.full((3, 4), 0.5))
    assert sorted(written(picture)) == [["(3, 4)", "grad of length 3.46"], ["mul", "(3, 4)", "grad of length 1.73"]]


def test_a_value_used_twice_is_one_box():
    x = leaf(3.0)
    picture = tt.draw(x * x + x)
    assert len(written(picture)) == 3
    edges = re.findall(r"n\d+ -> n\d+", picture.dot())
    assert len(edges) == 4 and len(set(edges)) == 3


def test_each_gradient_of_an_op_with_several_outputs_is_shown():
    x = leaf(np.arange(4.0))
    a, b = x.split(2)
    y = (a * 2.0).sum() + b.sum()
    picture = tt.draw(y)
    y.backward()
    split = [box for box in written(picture) if box[0] == "split"]
    assert split == [["split", "(2,)", "[0, 1]", "(2,)", "[2, 3]", "grad [2, 2]", "grad [1, 1]"]]


def test_boxes_of_a_row_do_not_overlap_and_lines_lead_down():
    block = Block(Attention(8, 2), FeedForward(8, 16), lambda: LayerNorm(8))
    x = leaf(np.ones((1, 3, 8), np.float32))
    picture = tt.draw(block(Stream(x)).full, dict(block.named_parameters()))
    assert len(picture.boxes) == 12 + 1 + 9  # parameters, x, ops
    picture.svg()
    rows = _rows(picture.boxes)
    for row in rows:
        for left, right in itertools.pairwise(row):
            assert left.x + left.width / 2 < right.x - right.width / 2
    for box in (box for row in rows for box in row):
        assert all(user.row == box.row + 1 for user in box.users)
        assert isinstance(box, Box) and box.x - box.width / 2 >= 3.9


def test_what_has_no_graph_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match=r"nothing was recorded.*requires_grad=True"):
        tt.draw(tt.Tensor(1.0) * 2.0)
    y, _ = small()
    y.backward()
    with pytest.raises(ValueError, match="let go of this graph; draw it before"):
        tt.draw(y)


def test_a_picture_is_saved_as_svg_or_dot_and_nothing_else(tmp_path):
    y, names = small()
    picture = tt.draw(y, names)
    assert picture._repr_svg_() == picture.svg()
    for ending, begins in ((".svg", "<svg"), (".dot", "digraph {")):
        picture.save(tmp_path / f"graph{ending}")
        assert (tmp_path / f"graph{ending}").read_text().startswith(begins)
    with pytest.raises(ValueError, match=r"\.svg or \.dot, not '\.png'"):
        picture.save(tmp_path / "graph.png")


def test_names_are_escaped():
    x = leaf(1.0)
    assert "a &lt;b&gt; &amp; c" in tt.draw(x * 2.0, {"a <b> & c": x}).svg()


def test_a_tensor_shows_its_numbers_as_a_table():
    html = leaf([[1.5, 2.0], [3.0, 4.25]])._repr_html_()
    assert re.findall("<td>(.*?)</td>", html) == ["1.5", "2", "3", "4.25"]
    assert "Tensor (2, 2) float32, cpu, requires_grad" in html
    html = tt.Tensor(np.arange(2 * 20 * 30).reshape(2, 20, 30))._repr_html_()
    assert html.count("<tr>") == 13 and html.count("…") == 12 + 13 and "its first part is shown" in html
    assert re.findall("<td>(.*?)</td>", tt.Tensor(7)._repr_html_()) == ["7"]
    assert "<td>" not in tt.Tensor(np.zeros((0, 3)))._repr_html_()


def test_a_module_shows_the_tree_of_its_parts():
    html = Block(Attention(8, 2), FeedForward(8, 16), lambda: LayerNorm(8))._repr_html_()
    xml.fromstring(html.replace("<details open>", "<details>"))
    assert html.count("<details") == 12 and html.count("<details open>") == 1
    assert "attention: <b>Attention</b> 288" in html and "<div>weight (24, 8)</div>" in html


def test_a_table_of_runs_shows_as_markdown_in_a_notebook():
    table = markdown([("model", "loss"), ("one", "1.23")])
    assert table._repr_markdown_() == table == "| model | loss |\n| :---- | ---: |\n| one   | 1.23 |"
