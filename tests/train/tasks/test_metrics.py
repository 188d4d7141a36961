import numpy as np
import pytest

from train.tasks import metrics

TRUTH = ["a", "a", "a", "b", "b", "c"]
SAID = ["a", "a", "b", "b", "c", "c"]


def test_accuracy_and_macro_f1_are_the_textbooks():
    assert metrics.accuracy(TRUTH, SAID) == 4 / 6
    # a: precision 1, recall 2/3; b: 1/2 and 1/2; c: 1/2 and 1
    assert metrics.macro_f1(TRUTH, SAID, "abc") == pytest.approx((4 / 5 + 1 / 2 + 2 / 3) / 3)


def test_confusion_counts_rows_of_truth_and_columns_of_answers():
    assert metrics.confusion(TRUTH, SAID, "abc").tolist() == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]


def test_matthews_is_the_two_class_formula_and_zero_for_one_answer_always():
    truth, said = [1, 1, 1, 0, 0, 0, 0, 1], [1, 0, 1, 0, 0, 1, 0, 1]
    tp, tn, fp, fn = 3, 3, 1, 1
    want = (tp * tn - fp * fn) / np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    assert metrics.matthews(truth, said) == pytest.approx(want)
    assert metrics.matthews(truth, [1] * 8) == 0
    assert metrics.matthews(truth, truth) == 1
    assert metrics.matthews(truth, [1 - t for t in truth]) == -1


def test_correlations_are_numpys_and_ranks_share_ties():
    x, y = np.array([1.0, 2, 2, 5, 9]), np.array([2.0, 1, 4, 4, 80])
    assert metrics.pearson(x, y) == pytest.approx(np.corrcoef(x, y)[0, 1])
    ranks = np.corrcoef([1, 2.5, 2.5, 4, 5], [2, 1, 3.5, 3.5, 5])[0, 1]
    assert metrics.spearman(x, y) == pytest.approx(ranks)
    assert metrics.pearson(x, np.ones(5)) == 0


def test_spans_are_read_from_bio_tags():
    assert metrics.spans(["B-x", "I-x", "O", "B-y", "B-y", "I-x"]) == {
        ("x", 0, 2), ("y", 3, 4), ("y", 4, 5), ("x", 5, 6)
    }  # fmt: skip
    assert metrics.spans(["O", "O"]) == set()


def test_span_f1_counts_whole_spans_only():
    truth, said = [["B-x", "I-x", "O"], ["B-y", "O", "B-x"]], [["B-x", "O", "O"], ["B-y", "O", "B-x"]]
    assert metrics.span_f1(truth, said) == pytest.approx(2 / 3)  # two of three found, two of three right
    assert metrics.span_f1([["O"]], [["O"]]) == 0


def test_answers_are_compared_without_case_articles_and_punctuation():
    assert metrics.exact_match(["the park"], ["The Park."]) == 1
    assert metrics.exact_match(["the park", ""], ["park", "park"]) == 0.5
    assert metrics.word_f1(["the red kite"], ["kite"]) == pytest.approx(2 / 3)
    assert metrics.word_f1(["", "", "x"], ["", "x", ""]) == pytest.approx(1 / 3)
