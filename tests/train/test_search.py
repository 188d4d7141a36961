"""Search in a folder: BM25 against its formula, what is found and what is not, and a talker that quotes its sources."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinytensor as tt
from models import BERT, GPT, BERTConfig, GPTConfig
from models.chat import with_marks, with_sources
from models.tokenizers import ByteLevelBPE, WordPiece
from train.__main__ import main
from train.commands.chat import Talk
from train.search import BM25, COMMON, Library

TEXTS = ["Tom hid the ball behind the log.", "Mia hid the ball near the barn.", "It rained."]


def plain_bm25(texts: list[list[str]], question: list[str], k1: float, b: float) -> list[float]:
    """The formula as it is printed, word by word and text by text."""
    mean = sum(map(len, texts)) / len(texts)
    scores = []
    for text in texts:
        score = 0.0
        for word in question:
            n, f = sum(word in other for other in texts), text.count(word)
            idf = math.log(1 + (len(texts) - n + 0.5) / (n + 0.5))
            if f:
                score += idf * f * (k1 + 1) / (f + k1 * (1 - b + b * len(text) / mean))
        scores.append(score)
    return scores


some_words = st.lists(st.sampled_from(["ball", "kite", "log", "barn", "mia", "tom"]), min_size=1, max_size=9)


@given(texts=st.lists(some_words, min_size=1, max_size=8), question=some_words, k1=st.floats(0.1, 3), b=st.floats(0, 1))
def test_bm25_is_what_its_formula_says(texts, question, k1, b):
    found = BM25([" ".join(words) for words in texts], k1, b).scores(" ".join(question))
    np.testing.assert_allclose(found, plain_bm25(texts, question, k1, b), rtol=1e-12)  # float64, some ten terms


def test_a_score_worked_out_by_hand():
    found = BM25(["red ball", "blue ball"], k1=1.2, b=0.75).scores("Where is the red ball?")
    np.testing.assert_allclose(found, [math.log(1 + 1.5 / 1.5) + math.log(1 + 0.5 / 2.5), math.log(1.2)], rtol=1e-12)


def test_rare_words_count_for_more_and_long_texts_for_less():
    scores = BM25(["Mia sat.", "Tom sat.", "Tom sat with cake, jam, pie and plums."]).scores("Mia, Tom")
    assert scores[0] > scores[1] > scores[2] > 0


def test_common_words_find_nothing(tmp_path):
    (tmp_path / "a.txt").write_text("\n".join(TEXTS))
    library = Library(tmp_path)
    assert library.find(COMMON, 3) == library.find("Who has the kite?", 3) == []
    assert library.find("Where did Mia hide the ball?", 3) == [1, 0]
    assert library.find("Where did Mia hide the ball?", 1) == [1]
    assert library.files[1] == str(tmp_path / "a.txt")


def test_what_is_found_by_meaning_is_what_the_vectors_say(tmp_path):
    (tmp_path / "a.txt").write_text("\n".join(TEXTS))
    tokenizer = WordPiece.train(TEXTS, 60)
    with tt.random.seeded(1):
        bert = BERT(BERTConfig(vocab_size=tokenizer.vocab_size, context=40, layers=1, heads=2, width=8, init_std=0.3))
    bert.save_pretrained(tmp_path / "bert")
    tokenizer.save(tmp_path / "bert")
    library = Library(tmp_path / "a.txt", tmp_path / "bert")
    for number, text in enumerate(library.texts):  # the cosine of a text with itself is 1
        assert library.find(text, 2)[0] == number
        np.testing.assert_allclose(library.finder.scores(text)[number], 1, atol=1e-5)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A published GPT with the marks, and a folder to search."""
    folder = tmp_path_factory.mktemp("search")
    tokenizer = ByteLevelBPE.train(TEXTS * 9, 300)
    shape = dict(context=64, layers=1, heads=2, width=16)
    tt.manual_seed(2)
    plain = GPT(GPTConfig(vocab_size=tokenizer.vocab_size, **shape))
    plain.save_pretrained(folder / "plain", tokenizer)
    gpt, tokenizer = with_marks(plain, tokenizer)
    gpt.save_pretrained(folder / "gpt", tokenizer)
    (folder / "notes").mkdir()
    (folder / "notes" / "a.txt").write_text(" ".join(TEXTS[:2]))
    (folder / "notes" / "b.txt").write_text(TEXTS[2])
    (folder / "notes" / "c.bin").write_bytes(b"\0\1")
    return folder


def talk(place, typed: list[str], monkeypatch, *more: str, status: int = 0) -> None:
    typed = iter(typed)
    monkeypatch.setattr("builtins.input", lambda prompt: next(typed, None) or exec("raise EOFError"))
    words = ["chat", place / "gpt", "--search", place / "notes", "--tokens", 9, *more]
    assert main([str(word) for word in words]) == status


def test_a_published_gpt_with_the_marks_answers_from_a_folder_and_says_where_nothing_was_found(
    place, monkeypatch, capsys, tmp_path
):
    saved = tmp_path / "said.json"
    talk(place, ["Where is Mia?", "Who has the kite?", f"/save {saved}"], monkeypatch, "--temperature", "0")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("passed over") and "c.bin" in lines[0]
    assert lines[-1] == f"Nothing was found in {place / 'notes'}."
    messages = json.loads(saved.read_text())["messages"]
    assert [message["content"] for message in messages[::2]] == ["Where is Mia?", "Who has the kite?"]
    assert messages[1]["sources"] == {"1": f"{place / 'notes' / 'a.txt'}: {TEXTS[1]}"}
    assert messages[3] == {"role": "assistant", "content": lines[-1]}


def test_the_model_is_given_the_sentences_by_number_and_what_it_names_is_quoted(place, monkeypatch, capsys):
    given = []

    def written(self, messages):
        given.append(messages)
        return iter(["Behind the ", "log [2].", " See [7]."])

    monkeypatch.setattr(Talk, "written", written)
    talk(place, ["Where did Mia or Tom hide it?", "And the ball?"], monkeypatch)
    first, second = given
    assert first == [{"role": "user", "content": with_sources([TEXTS[0], TEXTS[1]], "Where did Mia or Tom hide it?")}]
    assert [message["role"] for message in second] == ["user", "assistant", "user"]
    assert second[0]["content"] == "Where did Mia or Tom hide it?"  # what was found for it is not read again
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:3] == ["Behind the log [2]. See [7].", f"  [2] {place / 'notes' / 'a.txt'}: {TEXTS[1]}"]


def test_a_reply_without_a_source_is_said_to_have_none(place, monkeypatch, capsys):
    monkeypatch.setattr(Talk, "written", lambda self, messages: iter(["I do not know."]))
    talk(place, ["Where did Mia hide it?"], monkeypatch)
    assert capsys.readouterr().out.splitlines()[1:] == ["I do not know.", "  (it names no source)"]


def test_sentences_that_do_not_fit_are_left_out_the_best_is_kept_longest(place, monkeypatch, capsys):
    given = []
    monkeypatch.setattr(Talk, "written", lambda self, messages: iter([given.append(messages[-1]["content"]) or "x"]))
    talk(place, ["the ball of Mia", "ball " * 40], monkeypatch, "--tokens", "32")
    assert given == [with_sources([TEXTS[1]], "the ball of Mia")]
    assert "too long for the 64 tokens" in capsys.readouterr().out


@pytest.mark.parametrize("words, sentence", [
    (["--search-with", "x"], "--search-with goes with --search PATH"),
    (["--top", "2"], "--top goes with --search PATH"),
    (["--search", "nowhere"], "nowhere does not exist"),
])  # fmt: skip
def test_what_makes_no_sense_is_refused_in_a_sentence(place, words, sentence, capsys):
    assert main(["chat", str(place / "gpt"), *words]) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1


def test_a_gpt_without_the_marks_and_a_folder_without_sentences_are_named(place, capsys, tmp_path):
    assert main(["chat", str(place / "plain")]) == 2
    assert "holds a GPT whose tokenizer does not end with the marks" in capsys.readouterr().err
    (tmp_path / "a.txt").write_text(" \n")
    assert main(["chat", str(place / "gpt"), "--search", str(tmp_path)]) == 2
    assert "holds no sentences" in capsys.readouterr().err
