"""Where sentences begin and end: in a paragraph, in a text read word by word, and in a list of words.

Two rules, for two purposes. BERT's pairs are made of whole sentences, so `split_sentences` cuts only where a new one
plainly begins: '"Go!" said Mia.' is one. ELMo reads words, each sentence between marks, and its vocabulary counts them
so: `words_of_sentences` cuts at every full stop that white space follows, and at the end of a line.
"""

import re
from collections.abc import Iterator

# Behind a sentence's end and the quotes that close it, before a capital, a digit or an opening quote.
BOUNDARY = re.compile(r"""(?<=[.!?])(["'”’)\]]*)\s+(?=["'“‘(\[]?[A-Z0-9À-Þ])""")
SENTENCE = re.compile(r"[^\n]*?[.!?]+[\"'’”)]*(?=\s|$)|[^\n]+")  # to a full stop, or to the end of the line
WORD = re.compile(r"\w+(?:['’-]\w+)*|[^\w\s]")
FULL_STOPS, CLOSING = set(".!?"), set("\"'”’)")
WIDTHS = range(40, 133)  # characters that hard-wrapped lines have at most


def split_sentences(paragraph: str) -> list[str]:
    """The sentences of a paragraph. Says and asks stay with what was said: '"Go!" he said.' is one sentence."""
    pieces, start = [], 0
    for match in BOUNDARY.finditer(paragraph):
        pieces.append(paragraph[start : match.start()] + match[1])
        start = match.end()
    return [piece for piece in (*pieces, paragraph[start:]) if piece.strip()]


def unwrapped(lines: list[str]) -> Iterator[str]:
    """Lines of text, those joined that were one before a mail program or an editor wrapped it.

    A line was wrapped if the first word of the next would not have fit. How much fits is told by the longest lines,
    but for a tenth, which may hold what cannot be wrapped.
    """
    lengths = sorted(len(line.rstrip()) for line in lines if line.strip())
    width = lengths[len(lengths) * 9 // 10] if lengths else 0
    held = ""
    for line, following in zip(lines, [*lines[1:], ""]):
        held = f"{held} {line.strip()}" if held else line.strip()
        first = following.split(maxsplit=1)[:1]
        if not first or width not in WIDTHS or len(line.rstrip()) + 1 + len(first[0]) <= width:
            yield held
            held = ""
    if held:
        yield held


def find_words(text: str) -> Iterator[list[re.Match]]:
    """The words and punctuation marks of each sentence, as matches, which know their places in the text."""
    for sentence in SENTENCE.finditer(text):
        if words := list(WORD.finditer(text, *sentence.span())):
            yield words


def words_of_sentences(text: str) -> list[list[str]]:
    """The words of each sentence. A sentence ends at a full stop, an exclamation or question mark, or with its line."""
    sentences = (WORD.findall(text, *sentence.span()) for sentence in SENTENCE.finditer(text))
    return [words for words in sentences if words]


def group_words(words: list[str]) -> list[list[str]]:
    """A list of words cut after every full stop (and the quotation mark that closes behind it) that a word follows."""
    sentences, start = [], 0
    for number in range(1, len(words)):
        before, word = words[number - 1], words[number]
        ended = before in FULL_STOPS or (before in CLOSING and number > 1 and words[number - 2] in FULL_STOPS)
        if ended and word[:1].isalnum():
            sentences.append(words[start:number])
            start = number
    return [*sentences, words[start:]] if words else []
