"""tiktoken's rank files: those with a rank that is no token's, and the published ones by their names."""

import base64
import os
import random
from pathlib import Path

import pytest
import regex

from models.tokenizers import ByteLevelBPE, load
from models.tokenizers.bytelevel import END, RANK_FILES
from models.tokenizers.split import Splitter
from tests.models.tokenizers.awkward_texts import AWKWARD, CORPUS

PARTS = ["Hello", "WORLD", "iPhone", "don't", "I'LL", "he'S", " ", " ", "  ", "\n", "\r\n", "\t", "/", "//", "http://x/",
         "12345", "é", "É", "naïve", "ǅ", "ʰ", "日本", "한국", "مرحبا", "🙂", "👍🏽", "a\u0301", "Ⅷ", "½", "_",
         "__init__"]  # fmt: skip


def texts(count: int) -> list[str]:
    draw = random.Random(0)
    return [*AWKWARD, CORPUS, *("".join(draw.choices([*PARTS, " " * draw.randrange(40)], k=draw.randrange(40)))
                                for _ in range(count))]  # fmt: skip


def with_a_hole(folder: Path, hole: int, pattern: str = "gpt2") -> tuple[Path, dict[bytes, int]]:
    """A rank file whose ranks jump over `hole`, and the ranks."""
    vocab = ByteLevelBPE.train([CORPUS, " ".join(PARTS)], 420, special_tokens=[], pattern=pattern).vocab
    ranks = {token: rank + (rank >= hole) for token, rank in vocab.items()}
    path = folder / "x.tiktoken"
    path.write_text("".join(f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks.items()))
    return path, ranks


def test_a_special_token_may_stand_between_the_ranks(tmp_path):
    path, ranks = with_a_hole(tmp_path, 300)
    tokenizer = ByteLevelBPE.load(path, special_tokens={END: 300})
    assert tokenizer.vocab_size == 421 and tokenizer.tokens[300] == END
    assert tokenizer.encode(f"a{END}", special=True) == [ranks[b"a"], 300]
    ids = tokenizer.encode(CORPUS)
    assert max(ids) > 300 and tokenizer.decode(ids) == CORPUS
    tokenizer.save(tmp_path)
    assert load(tmp_path).encode(CORPUS) == ids


def test_a_published_rank_file_is_known_by_its_name(tmp_path):
    path, _ = with_a_hole(tmp_path, 300)
    ranks = path.read_text().splitlines()
    path = tmp_path / "o200k_base.tiktoken"
    path.write_text("\n".join(line for line in ranks if int(line.split()[1]) < 300))
    tokenizer = load(path)
    assert tokenizer.special_tokens == {END: 199999, "<|endofprompt|>": 200018}
    assert tokenizer.splitter.cut("iPhoneXS's 12345 ÉTÉ/\n") == ["i", "Phone", "XS's", " ", "123", "45", " ÉTÉ", "/\n"]


@pytest.mark.parity
@pytest.mark.parametrize("name", RANK_FILES)
def test_what_the_published_files_do_not_say_is_what_tiktoken_says(name, monkeypatch):
    public = pytest.importorskip("tiktoken_ext.openai_public")
    monkeypatch.setattr(public, "load_tiktoken_bpe", lambda *_, **__: {})
    theirs, (pattern, special) = getattr(public, name)(), RANK_FILES[name]
    assert special == theirs["special_tokens"]
    for text in texts(1000):
        text += "."  # it has newly one word of all white space at a text's end, where GPT-4's tokens end at a new line
        words = [word for block in Splitter(pattern).blocks(text) for word in block]
        assert words == [match[0] for match in regex.finditer(theirs["pat_str"], text)]


@pytest.mark.parity
@pytest.mark.parametrize("pattern", ["gpt2", "gpt4", "gpt4o"])
def test_ranks_with_a_hole_give_the_ids_of_tiktoken(pattern, tmp_path):
    tiktoken = pytest.importorskip("tiktoken")
    path, ranks = with_a_hole(tmp_path, 300, pattern)
    ours = ByteLevelBPE.load(path, special_tokens={END: 300}, pattern=pattern)
    theirs = tiktoken.Encoding("x", pat_str=Splitter(pattern).pattern, mergeable_ranks=ranks, special_tokens={END: 300})
    for text in texts(1000):
        assert ours.encode(text) == theirs.encode(text, disallowed_special=())
        assert ours.encode(text + END, special=True) == theirs.encode(text + END, allowed_special="all")


@pytest.mark.parity
def test_gpt4os_published_ranks_give_the_ids_of_tiktoken(monkeypatch):
    ranks = os.environ.get("TINYTENSOR_GPT2_RANKS")
    path = Path(ranks).with_name("o200k_base.tiktoken") if ranks else Path("none")
    if not path.exists():
        pytest.skip("there is no o200k_base.tiktoken beside TINYTENSOR_GPT2_RANKS")
    tiktoken, public = pytest.importorskip("tiktoken"), pytest.importorskip("tiktoken_ext.openai_public")
    read = public.load_tiktoken_bpe
    monkeypatch.setattr(public, "load_tiktoken_bpe", lambda _, expected_hash: read(str(path), expected_hash))
    theirs, ours = tiktoken.Encoding(**public.o200k_base()), load(path)
    assert (ours.vocab_size, ours.end_id) == (theirs.n_vocab, theirs.eot_token)
    for text in texts(1000):
        assert ours.encode(text) == theirs.encode(text, disallowed_special=())
