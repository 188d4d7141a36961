"""How close a written text is to the right one: ROUGE-L and BLEU, beside the same text and the F1 of the words.

Both are computed as the program does whose figures papers report: ROUGE-L (Lin 2004) as rouge_score without stemming,
BLEU (Papineni et al. 2002) as sacreBLEU (Post 2018) with its tokenization "13a" and its smoothing "exp". All are shares
in [0, 1], where BLEU is often given times 100. The F1 of the words is SQuAD's, in metrics.py.
"""

from __future__ import annotations

import html
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from train.tasks import metrics


def same_text(answer: str, right: str) -> float:
    """1 if the two are the same text, but for white space around them; else 0."""
    return float(answer.strip() == right.strip())


def rouge_l(answer: str, right: str) -> float:
    """The F1 of the longest sequence of words that both have in this order, not necessarily side by side."""
    got, wanted = (re.findall("[a-z0-9]+", text.lower()) for text in (answer, right))
    return metrics.f1(longest_common(got, wanted), len(got), len(wanted))


def longest_common(a: Sequence, b: Sequence) -> int:
    """The length of the longest common subsequence."""
    row = [0] * (len(b) + 1)  # row[j]: of the a so far and b[:j]
    for x in a:
        diagonal = 0
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], diagonal + 1 if x == y else max(row[j], row[j - 1])
    return row[-1]


def bleu(answers: Sequence[str], rights: Sequence[str], longest: int = 4) -> float:
    """The geometric mean of the precisions of 1-grams to 4-grams over the whole corpus, times the brevity penalty.

    An n-gram counts at most as often as the right answer has it. A precision of 0 counts as 1/2, 1/4, ... of one
    n-gram, for the first, second, ... such n. Where no answer has four words the score is 0, as sacreBLEU has it.
    """
    matched, total = [0] * longest, [0] * longest
    length = right_length = 0
    for answer, right in zip(answers, rights):
        got, wanted = bleu_words(answer), bleu_words(right)
        length, right_length = length + len(got), right_length + len(wanted)
        for n in range(1, longest + 1):
            grams, right_grams = (Counter(zip(*(words[i:] for i in range(n)))) for words in (got, wanted))
            matched[n - 1] += sum((grams & right_grams).values())
            total[n - 1] += max(0, len(got) - n + 1)
    if not matched[0] or not all(total):
        return 0.0
    logs, smoothing = 0.0, 1
    for hits, n in zip(matched, total):
        smoothing *= 1 if hits else 2
        logs += math.log((hits or 1 / smoothing) / n)
    return math.exp(logs / longest + min(0.0, 1 - right_length / length))


def bleu_words(text: str) -> list[str]:
    """Tokenization 13a, that of the machine translation contests: punctuation stands alone, except inside numbers."""
    text = html.unescape(text.replace("<skipped>", "").replace("-\n", "").replace("\n", " "))
    text = re.sub(r"([\{-\~\[-\` -\&\(-\+\:-\@\/])", r" \1 ", f" {text} ")
    text = re.sub(r"([^0-9])([\.,])", r"\1 \2 ", text)
    text = re.sub(r"([\.,])([^0-9])", r" \1 \2", text)
    return re.sub(r"([0-9])(-)", r"\1 \2 ", text).split()


def score_all(answers: Sequence[str], rights: Sequence[str]) -> dict[str, float]:
    """All four over a corpus; exact_match is the share of answers that are the same text."""
    return {
        "exact_match": mean(map(same_text, answers, rights)),
        "token_f1": metrics.word_f1(rights, answers),
        "rouge_l": mean(map(rouge_l, answers, rights)),
        "bleu": bleu(answers, rights),
    }


def mean(values: Iterable[float]) -> float:
    values = list(values)
    return sum(values) / max(1, len(values))
