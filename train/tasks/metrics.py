"""How good are the answers? Shares between 0 and 1 (correlations: -1 and 1), each in the sense of its benchmark.

Of written texts ROUGE-L (Lin 2004) and BLEU (Papineni et al. 2002) as the programs compute them whose figures papers
report: rouge_score without stemming; sacreBLEU (Post 2018) with its tokenization "13a" and its smoothing "exp".
"""

import html
import math
import re
import string
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

import numpy as np


def accuracy(truth: Sequence, answers: Sequence) -> float:
    """The share of right answers."""
    return sum(t == a for t, a in zip(truth, answers)) / max(1, len(truth))


def joint(examples: Sequence[dict], right: Iterable[float]) -> dict[str, float]:
    """{"joint": the share of stories of which all questions are answered right}, where examples name their story."""
    stories: dict = {}
    for example, one in zip(examples, right):
        if "story" in example:
            stories.setdefault(example["story"], []).append(one)
    return {"joint": mean(min(ones) for ones in stories.values())} if stories else {}


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
    right = Counter(t for t, a in zip(truth, answers) if t == a)
    said, wanted = Counter(answers), Counter(truth)
    return float(np.mean([f1(right[x], said[x], wanted[x]) for x in labels]))


def matthews(truth: Sequence, answers: Sequence) -> float:
    """Matthews' correlation for any number of classes (Gorodkin 2004): 0 for guessing, whatever the classes' sizes."""
    n, right, t, p = len(truth), sum(t == a for t, a in zip(truth, answers)), Counter(truth), Counter(answers)
    dot = lambda a, b: sum(count * b[label] for label, count in a.items())
    below = float(n**2 - dot(p, p)) * float(n**2 - dot(t, t))
    return float(right * n - dot(t, p)) / below**0.5 if below > 0 else 0.0


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


def same_text(answer: str, right: str) -> float:
    """1 if the two are the same text, but for white space around them; else 0."""
    return float(answer.strip() == right.strip())


def rouge_l(answer: str, right: str) -> float:
    """The F1 of the longest sequence of words that both have in this order, not necessarily side by side."""
    got, wanted = (re.findall("[a-z0-9]+", text.lower()) for text in (answer, right))
    return f1(longest_common(got, wanted), len(got), len(wanted))


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
    exact, rouge = mean(map(same_text, answers, rights)), mean(map(rouge_l, answers, rights))
    return {"exact_match": exact, "token_f1": word_f1(rights, answers), "rouge_l": rouge, "bleu": bleu(answers, rights)}


def mean(values: Iterable[float]) -> float:
    values = list(values)
    return sum(values) / max(1, len(values))
