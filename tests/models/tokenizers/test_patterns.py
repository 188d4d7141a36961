import pytest

from models.tokenizers import ByteLevelBPE
from models.tokenizers.patterns import compiled, matches


def test_a_pattern_finds_its_matches_from_left_to_right():
    assert [m[0] for m in matches(compiled(r"\p{L}+|\p{N}", "here"), "ein Fuß, 12")] == ["ein", "Fuß", "1", "2"]


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(", r"t.json: the pattern '\(' does not compile: missing \)"),
        ("(" * 5000, "does not compile: it nests too deeply"),
        ("(a{100000}){100000}", "is too long, or repeats too much"),
        ("a{99999999999999999999}", "is too long, or repeats too much"),
        ("a" * 10_001, "is too long, or repeats too much"),
    ],
)
def test_a_pattern_that_cannot_be_matched_is_refused_with_its_place(pattern, why):
    with pytest.raises(ValueError, match=why):
        compiled(pattern, "t.json")


def test_a_pattern_that_would_not_end_is_stopped_with_a_sentence():
    message = r"the pattern '\(a\|aa\)\+\$' takes too long on 'aaa"
    with pytest.raises(ValueError, match=message):
        matches(compiled("(a|aa)+$", "here"), "a" * 43 + "b")
    with pytest.raises(ValueError, match=message):
        ByteLevelBPE.train("a" * 43 + "b", 300, pattern="(a|aa)+$")
