import numpy as np
import pytest

from models import GPTConfig
from models.contract import Writer
from models.generate import generate, stream_text, write
from models.generate.text import cut, held_back
from models.tokenizers import Bytes, Characters
from nn import DecoderCache, KVCache, Module
from tests.models.test_gpt import randomized

TOKENIZER = Characters.train("abcdefgh .")


@pytest.fixture(scope="module")
def model():
    return randomized(GPTConfig(vocab_size=TOKENIZER.vocab_size, context=32, layers=2, heads=2, width=8), scale=0.6)


class Reciter(Module, Writer):
    """Writes a given text, whatever it has read."""

    class config:
        vocab_size = 256

    def __init__(self, ids):
        self.ids = ids

    def new_cache(self, batch, capacity):
        return DecoderCache([KVCache(batch, 1, capacity, 1, np.zeros(1))])

    def step(self, ids, cache, mask=None):
        cache.layers[0].append(*(np.zeros((len(ids), 1, ids.shape[1], 1)) for _ in range(2)))
        wanted = self.ids[cache.length - self.start]
        return np.where(np.arange(256) == wanted, 9.0, 0.0).astype(np.float32)[None]


def recite(text: str, prompt: str = "x", **options) -> list[str]:
    tokenizer = Bytes()
    model = Reciter(tokenizer.encode(text) + [0] * 50)
    model.start = len(tokenizer.encode(prompt))
    count = len(tokenizer.encode(text))
    return list(stream_text(model, tokenizer, prompt, count, temperature=0, **options))


def test_text_is_what_the_ids_say(model):
    ids = TOKENIZER.encode("abba")
    expected = generate(model, ids, 20, temperature=0)[4:].tolist()
    assert write(model, TOKENIZER, "abba", 20, temperature=0) == [TOKENIZER.decode(expected)]


def test_prompts_of_unequal_length_and_samples_come_in_order(model):
    prompts = ["abba", "c", "fed a cab"]
    alone = [write(model, TOKENIZER, prompt, 15, temperature=0)[0] for prompt in prompts]
    assert write(model, TOKENIZER, prompts, 15, temperature=0) == alone
    twice = write(model, TOKENIZER, prompts, 15, temperature=0, samples=2)
    assert twice == [text for text in alone for _ in range(2)]


def test_texts_end_before_the_first_stop_string(model):
    free = write(model, TOKENIZER, ["abba", "c"], 25, temperature=0)
    stop = free[0][5:8]
    stopped = write(model, TOKENIZER, ["abba", "c"], 25, temperature=0, stop=[stop, "nowhere"])
    assert stopped == [text.split(stop)[0] for text in free] and len(stopped[0]) <= 5
    beams = write(model, TOKENIZER, "abba", 25, beams=3)[0]
    assert write(model, TOKENIZER, "abba", 25, beams=3, stop=beams[4:6]) == [beams.split(beams[4:6])[0]]


def test_the_pieces_of_a_stream_make_up_the_text(model):
    pieces = list(stream_text(model, TOKENIZER, "abba", 20, temperature=0))
    assert "".join(pieces) == write(model, TOKENIZER, "abba", 20, temperature=0)[0] and len(pieces) == 20


def test_a_character_is_shown_when_its_last_byte_has_come():
    assert recite("aé€😀b") == ["a", "é", "€", "😀", "b"]


def test_what_may_begin_a_stop_string_is_held_back():
    assert recite("one. two", stop=". ") == ["o", "n", "e"]
    assert recite("1.5 is. No", stop=". ") == ["1", ".5", " ", "i", "s"]
    assert recite("ends with.", stop=". ")[-2:] == ["h", "."]
    assert recite("xENxEND", stop=["END"]) == ["x", "ENx"]


def test_an_end_token_is_no_text():
    assert recite("ab!c", end=Bytes().encode("!")[0]) == ["a", "b"]


@pytest.mark.parametrize(
    "text, stop, expected",
    [("abcd", ["cd", "b"], ("a", True)), ("abcd", ["x"], ("abcd", False)), ("abcd", [], ("abcd", False))],
)
def test_a_text_is_cut_at_the_first_of_all_stop_strings(text, stop, expected):
    assert cut(text, stop) == expected


def test_the_longest_possible_beginning_is_held_back():
    assert held_back("abc", ["cde", "bcx", "zzz"]) == 2 and held_back("abc", ["abc"]) == 0 and held_back("", ["a"]) == 0


def test_bad_texts_are_named(model):
    with pytest.raises(ValueError, match="an empty stop string"):
        write(model, TOKENIZER, "a", stop="")
    with pytest.raises(ValueError, match="the prompt '' is empty"):
        write(model, TOKENIZER, ["a", ""])
