from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
import pytest

from models.schema import Count, Positive, Range, Share, check, check_fields, checked


@dataclass
class Inner:
    dim: Count


@dataclass
class Settings:
    layers: Count
    dropout: Share = 0.0
    lr: Positive = 1.0
    schedule: Literal["cosine", "linear"] = "cosine"
    clip: float | None = None
    on: bool = True
    name: str | int = ""
    pairs: list[tuple[Count, float]] = field(default_factory=list)
    labels: tuple[str, ...] = ()
    ids: dict[str, int] = field(default_factory=dict)
    inner: Inner | None = None


GOOD = {"layers": 2, "dropout": 0, "schedule": "linear", "clip": 3, "name": 7, "pairs": [[1, 2.5], [2, 1]],
        "labels": ["a", "b"], "ids": {"x": -1}, "inner": {"dim": 4}}  # fmt: skip


def test_a_dataclass_is_made_from_what_a_file_says_with_the_types_of_its_annotations():
    made = checked(Settings, GOOD, "file")
    assert made == Settings(2, 0.0, 1.0, "linear", 3.0, True, 7, [(1, 2.5), (2, 1.0)], ("a", "b"), {"x": -1}, Inner(4))
    assert type(made.dropout) is type(made.clip) is type(made.pairs[1][1]) is float


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("layers", True, "layers must be a whole number, not True"),
        ("layers", 1.5, "layers must be a whole number, not 1.5"),
        ("layers", 1.0, "layers must be a whole number, not 1.0"),
        ("layers", "2", "layers must be a whole number, not '2'"),
        ("layers", None, "layers must be a whole number, not None"),
        ("layers", 0, "layers must be at least 1, not 0"),
        ("layers", 10**400, "layers must be at most 100000000, not 10000"),
        ("dropout", 1, "dropout must be less than 1, not 1"),
        ("dropout", float("nan"), "dropout must be a finite number, not nan"),
        ("lr", 0, "lr must be more than 0, not 0"),
        ("lr", float("inf"), "lr must be a finite number, not inf"),
        ("clip", float("-inf"), "clip must be a finite number, not -inf"),
        ("clip", 10**400, "clip must be at most 1.79769313486232e"),
        ("schedule", "cosinus", "schedule must be one of cosine, linear, not 'cosinus'"),
        ("schedule", ["cosine"], "schedule must be one of cosine, linear, not ['cosine']"),
        ("on", 1, "on must be true or false, not 1"),
        ("name", 1.5, "name must be text, not 1.5"),
        ("pairs", 5, "pairs must be a list, not 5"),
        ("pairs", {"1": 2}, "pairs must be a list, not {'1': 2}"),
        ("pairs", [[1, 2], [3]], "pairs[1] must be a list of 2, not of 1"),
        ("pairs", [[1, 2], [0, 2]], "pairs[1][0] must be at least 1, not 0"),
        ("pairs", [[1, float("nan")]], "pairs[0][1] must be a finite number, not nan"),
        ("labels", "ab", "labels must be a list, not 'ab'"),
        ("labels", ["a", None], "labels[1] must be text, not None"),
        ("ids", ["x"], "ids must be a table, not ['x']"),
        ("ids", {"x": True}, "ids['x'] must be a whole number, not True"),
        ("ids", {"x": 2**63}, "ids['x'] must be at most"),
        ("inner", 4, "inner must be a table, not 4"),
        ("inner", {}, "inner.dim is missing"),
        ("inner", {"dim": 0}, "inner.dim must be at least 1, not 0"),
        ("inner", {"dim": 1, "width": 2}, "inner.'width' is not known here; known are dim"),
        ("warmth", 1, "'warmth' is not known here; known are layers, dropout"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence_with_file_field_value_and_what_it_should_be(name, value, message):
    with pytest.raises(ValueError) as refused:
        checked(Settings, GOOD | {name: value}, "config.json")
    assert str(refused.value).startswith(f"config.json: {message}")


def test_a_table_that_is_none_lacks_a_field_or_says_more_than_is_asked():
    with pytest.raises(ValueError, match=r"f: it must be a table, not \[\]"):
        checked(Settings, [], "f")
    with pytest.raises(ValueError, match="f: layers is missing"):
        checked(Settings, {}, "f")
    assert checked(Settings, {"layers": 1, "more": 2, "inner": {"dim": 1, "more": 3}}, "f", others=True).inner.dim == 1


def test_a_message_takes_a_line_however_long_or_deep_the_value_is():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    for value in ("x" * 10**6, list(range(10**5)), deep, {str(n): n for n in range(10**5)}):
        with pytest.raises(ValueError, match="layers must be a whole number") as refused:
            checked(Settings, {"layers": value}, "f")
        assert len(str(refused.value)) < 300


def test_a_dataclass_made_in_python_is_held_against_the_same_annotations_and_keeps_plain_numbers():
    made = Settings(np.int64(3), dropout=np.float32(0.5))
    check_fields(made)
    assert type(made.layers) is int and type(made.dropout) is float and made.labels == ()
    with pytest.raises(ValueError, match=r"layers must be a whole number, not 2\.5"):
        check_fields(Settings(2.5))


def test_long_vocabularies_come_out_as_short_ones_do():
    kind = dict[str, Annotated[int, Range(0, 10**6)]]
    vocabulary = {str(n): n for n in range(10**5)}
    assert check(vocabulary, kind, "vocab") == vocabulary
    with pytest.raises(ValueError, match=r"vocab\['7'\] must be at most 1000000, not 1000001"):
        check(vocabulary | {"7": 10**6 + 1}, kind, "vocab")
    scores = [[str(n), -n] for n in range(10**5)]
    assert check(scores, list[tuple[str, float]], "scores")[3] == ("3", -3.0)
    with pytest.raises(ValueError, match=r"scores\[5\]\[0\] must be text, not 5"):
        check([*scores[:5], [5, 5.0]], list[tuple[str, float]], "scores")
