"""How good are the answers? Shares between 0 and 1 (correlations: -1 and 1), each in the sense of its benchmark."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

import numpy as np


def accuracy(truth: Sequence, answers: Sequence) -> float:
    """The share of right answers."""
    return sum(t == a for t, a in zip(truth, answers)) / max(1, len(truth))


def confusion(truth: Sequence[Hashable], answers: Sequence[Hashable], labels: Sequence[Hashable]) -> np.ndarray:
    """(K, K): how often label i was taken for label j. Answers that are no label are left out."""
    number = {label: i for i, label in enumerate(labels)}
    table = np.zeros((len(labels), len(labels)), int)
    for t, a in zip(truth, answers):
        if a in number:
            table[number[t], number[a]] += 1
    return table


def f1(right: int, answered: int, wanted: int) -> float:
    """The harmonic mean of precision, right / answered, and recall, right / wanted."""
    return 2 * right / max(1, answered + wanted)


def macro_f1(truth: Sequence, answers: Sequence, labels: Iterable) -> float:
    """The mean over labels of each label's F1."""
    scores = [
        f1(sum(t == a == label for t, a in zip(truth, answers)), list(answers).count(label), list(truth).count(label))
        for label in labels
    ]
    return float(np.mean(scores))


def matthews(truth: Sequence, answers: Sequence) -> float:
    """Matthews' correlation for any number of classes (Gorodkin 2004): 0 for guessing, whatever the classes' sizes."""
    classes = sorted(set(truth) | set(answers))
    table = confusion(truth, answers, classes)
    n, right, t, p = table.sum(), np.trace(table), table.sum(axis=1), table.sum(axis=0)
    below = float(n**2 - p @ p) * float(n**2 - t @ t)
    return float(right * n - t @ p) / below**0.5 if below > 0 else 0.0


def pearson(truth: Sequence[float], answers: Sequence[float]) -> float:
    """The linear correlation; 0 where one side does not vary."""
    x, y = np.asarray(truth, float), np.asarray(answers, float)
    x, y = x - x.mean(), y - y.mean()
    below = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / below if below > 0 else 0.0


def spearman(truth: Sequence[float], answers: Sequence[float]) -> float:
    """The correlation of the ranks; equal values share their mean rank."""
    return pearson(_ranks(truth), _ranks(answers))


def _ranks(values: Sequence[float]) -> np.ndarray:
    values = np.asarray(values, float)
    return (values[:, None] > values).sum(axis=1) + (values[:, None] == values).sum(axis=1) / 2


def spans(tags: Sequence[str]) -> set[tuple[str, int, int]]:
    """(kind, first word, word behind the last) of every span in BIO tags; an I- that continues nothing begins one."""
    found, kind, start = set(), None, 0
    for i, tag in enumerate([*tags, "O"]):
        prefix, _, name = tag.partition("-")
        if kind is not None and (prefix != "I" or name != kind):
            found.add((kind, start, i))
            kind = None
        if kind is None and prefix in ("B", "I") and name:
            kind, start = name, i
    return found


def span_f1(truth: Sequence[Sequence[str]], answers: Sequence[Sequence[str]]) -> float:
    """F1 over the spans of all texts (CoNLL 2003)."""
    pairs = [(spans(t), spans(a)) for t, a in zip(truth, answers)]
    return f1(sum(len(t & a) for t, a in pairs), sum(len(a) for _, a in pairs), sum(len(t) for t, _ in pairs))


def normal(text: str) -> str:
    """Lower case, without punctuation, articles and extra spaces: what SQuAD compares."""
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def exact_match(truth: Sequence[str], answers: Sequence[str]) -> float:
    return accuracy([normal(t) for t in truth], [normal(a) for a in answers])


def word_f1(truth: Sequence[str], answers: Sequence[str]) -> float:
    """The mean over answers of the F1 of their words; of no answer, 1 if it is right and 0 if not."""
    scores = []
    for t, a in zip(truth, answers):
        t, a = normal(t).split(), normal(a).split()
        shared = sum((Counter(t) & Counter(a)).values())
        scores.append(f1(shared, len(a), len(t)) if t and a else float(t == a))
    return float(np.mean(scores)) if scores else 0.0
