"""Which words of a text are most like a word of yours, as it stands in its sentence? Stars mark the word.

  python -m train neighbours runs/elmo-1 "Mia put the *ball* in the *box*."
  python -m train neighbours runs/elmo-1 "A *play* by Shakespeare." "They *play* outside." --data book.txt

A word that means two things has different neighbours in two sentences: its vector depends on what stands around it.
Works with every model that has a vector for each word: ELMo, the BERTs, GPT.
"""

import argparse
import re
from pathlib import Path

import numpy as np

from models.schema import Count, Million
from models.sentences import WORD
from train import checkpoint
from train.data.stories import corpus
from train.data.text import TextFiles
from train.embedding import features, nearest, normalized, reader
from train.flags import add_device_flag, typed

STARRED = re.compile(r"\*([^*\s]+)\*")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", type=Path, help="the folder of a run or a published model")
    parser.add_argument("sentences", metavar="SENTENCE", nargs="+", help="sentences with *stars* around a word")
    parser.add_argument("--data", metavar="PATH", help="the text to look in [built-in stories]")
    parser.add_argument("--lines", metavar="N", type=typed(Million), default=2000, help="lines of it to read [2000]")
    parser.add_argument("--top", metavar="N", type=typed(Count), default=5, help="words to show [5]")
    parser.add_argument("--best", action="store_true", help="the weights of the lowest held-out loss, not the last")
    add_device_flag(parser)


def main(args: argparse.Namespace) -> None:
    queries = [starred(sentence) for sentence in args.sentences]
    model, tokenizer = checkpoint.load_model(args.run, "best" if args.best else "last")
    body, inputs = reader(model, tokenizer)
    body.to(args.device)
    text = "".join(TextFiles(args.data).read()) if args.data else corpus(100 * min(args.lines, 10_000), seed=3).text
    lines = [words for line in text.splitlines()[: args.lines] if (words := WORD.findall(line))]
    if not lines:
        raise ValueError(f"{args.data} has no words in its first {args.lines} lines")
    vectors, places = word_vectors(body, inputs, lines)
    for words, marked in queries:
        own, own_places = word_vectors(body, inputs, [words])
        for number in marked:
            if (0, number) not in own_places:
                raise ValueError(f"*{words[number]}* is word {number + 1}, behind all that the model reads at once")
            print(shown(words, number))
            for best, cosine in nearest(own[own_places.index((0, number))], vectors, args.top):
                line, place = places[best]
                print(f"  {cosine:.3f}  {shown(lines[line], place)}")


def starred(sentence: str) -> tuple[list[str], list[int]]:
    """(the words, the numbers of those between stars)"""
    words, marked, done = [], [], 0
    for star in STARRED.finditer(sentence):
        words += WORD.findall(sentence[done : star.start()])
        marked.append(len(words))
        words += WORD.findall(star.group(1))
        done = star.end()
    if not marked:
        raise ValueError(f'no word of "{sentence}" is marked; put stars around one: "They *play* outside."')
    return words + WORD.findall(sentence[done:]), marked


def word_vectors(body, inputs, lines: list[list[str]]) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """((N, C) vectors of length 1 of all words in their lines, and where each stands: line, word)."""
    rows = [inputs.words(line) for line in lines]
    found, places = [], []
    for i, vectors in features(body, inputs, [arrays for arrays, _ in rows]):
        found.append(vectors[rows[i][1]])
        places += [(i, number) for number in range(len(rows[i][1]))]
    return normalized(np.concatenate(found)), places


def shown(words: list[str], place: int, around: int = 6) -> str:
    """A word with stars around it among its neighbours."""
    before, after = words[max(0, place - around) : place], words[place + 1 : place + 1 + around]
    return " ".join([*before, f"*{words[place]}*", *after])
