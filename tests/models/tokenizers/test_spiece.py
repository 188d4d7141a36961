"""SentencePiece's models of every kind and with every option, against its library."""

import io
import random
import struct

import pytest

from models.tokenizers import SentencePiece, Unigram, load, sentencepiece
from models.tokenizers.sentencepiece import BYTE, CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED

UNIGRAM, BPE = 1, 2
PREFIX, COLLAPSE, ESCAPE = 3, 4, 5  # fields of a NormalizerSpec
SUFFIX, FALLBACK, UNK_SURFACE = 24, 35, 44  # fields of a TrainerSpec


# ---- models, written as protocol buffers


def varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + varint(number >> 7)


def field(number: int, value: int | float | str | bytes) -> bytes:
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def options(trainer: dict = {}, normalizer: dict = {}) -> bytes:  # noqa: B006
    """What may stand at the end of a model, and changes what stands before."""
    parts = [b"".join(field(number, value) for number, value in part.items()) for part in (trainer, normalizer)]
    return field(2, parts[0]) + field(3, parts[1])


def model(pieces: list[tuple[str, float, int]], kind: int = BPE, trainer: dict = {}, normalizer: dict = {}) -> bytes:  # noqa: B006
    written = [field(1, field(1, piece) + field(2, float(score)) + field(3, type)) for piece, score, type in pieces]
    return b"".join(written) + options({3: kind} | trainer, normalizer)


SMALL = [("<unk>", 0, UNKNOWN), ("<s>", 0, CONTROL), ("▁", -9, NORMAL), ("a", -9, NORMAL), ("b", -9, NORMAL),
         ("ab", -1, NORMAL), ("▁ab", -2, NORMAL), ("ba", -1, NORMAL), ("<t>", 0, USER_DEFINED),
         ("abab", -3, UNUSED)]  # fmt: skip
BYTES = [(f"<0x{byte:02X}>", 0, BYTE) for byte in range(256)]


def pieces_of(tokenizer, text: str) -> list[str]:
    return tokenizer.tokens_of(tokenizer.encode(text))


def test_pieces_are_joined_by_their_scores_the_leftmost_first():
    tokenizer = SentencePiece(model(SMALL))
    assert pieces_of(tokenizer, "ab") == ["▁ab"]
    assert pieces_of(tokenizer, "bab") == ["▁", "ba", "b"]  # ab and ba are equally good
    assert pieces_of(tokenizer, "abab") == ["▁ab", "ab"]
    assert pieces_of(tokenizer, "bababa") == ["▁", "ba", "ba", "ba"]


def test_symbols_are_kept_and_unknowns_are_one():
    tokenizer = SentencePiece(model(SMALL))
    assert pieces_of(tokenizer, "a<t>b <t>") == ["▁", "a", "<t>", "b", "▁", "<t>"]
    assert pieces_of(tokenizer, "azzz yb") == ["▁", "a", "<unk>", "▁", "<unk>", "b"]
    assert tokenizer.decode(tokenizer.encode("azzz")) == "a \u2047 "
    assert tokenizer.encode("<s>a") == [2, 0, 3] and tokenizer.encode("<s>a", special=True) == [1, 2, 3]
    assert tokenizer.encode_with_offsets("a é b")[1] == [(0, 0), (0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]


def test_what_no_piece_spells_is_spelt_in_bytes():
    tokenizer = SentencePiece(model(SMALL + BYTES, trainer={FALLBACK: 1}))
    assert pieces_of(tokenizer, "aé") == ["▁", "a", "<0xC3>", "<0xA9>"]
    assert tokenizer.decode(tokenizer.encode("a é 日本")) == "a é 日本"
    assert tokenizer.decode([10 + 0xC3, 3, 10 + 0x41]) == "\ufffdaA"


@pytest.mark.parametrize("normalizer", [{}, {COLLAPSE: 0}, {PREFIX: 0, COLLAPSE: 0}, {ESCAPE: 0}])
def test_options_are_kept_by_saving_and_loading(normalizer, tmp_path):
    tokenizer = SentencePiece(model(SMALL, trainer={UNK_SURFACE: "?", SUFFIX: 1}, normalizer=normalizer))
    tokenizer.save(tmp_path)
    for again in (load(tmp_path), SentencePiece.load(tmp_path / "tokenizer.json")):
        for text in ("  ab  ba z ", "", " ", "▁ ab ▁", "<t>"):
            assert again.encode(text) == tokenizer.encode(text)
            assert again.decode(again.encode(text)) == tokenizer.decode(tokenizer.encode(text))


def test_a_models_own_form_says_which_class_reads_it(tmp_path):
    path = tmp_path / "tokenizer.model"
    path.write_bytes(model(SMALL))
    assert isinstance(load(path), SentencePiece) and isinstance(load(tmp_path), SentencePiece)
    with pytest.raises(ValueError, match=r"tokenizer.model is not a plain unigram model; open it with models.tok"):
        Unigram.load(path)


@pytest.mark.parametrize(
    "data, message",
    [(model(SMALL, kind=4), "it is a char model; only unigram and bpe models can be read"),
     (model(SMALL[1:]), "0 of its pieces stand for what is unknown"),
     (model(SMALL, trainer={FALLBACK: 1}), "it falls back to bytes, but has not a piece for each"),
     (model(SMALL) + field(5, field(2, b"xx")), r"it changes the text that it decodes \(denormalizer_spec\)"),
     (model(SMALL)[:-1], "is damaged or no SentencePiece model")],
)  # fmt: skip
def test_what_is_not_followed_is_refused_by_name(data, message, tmp_path):
    (tmp_path / "x.model").write_bytes(data)
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "x.model")


def test_tokens_and_sides_that_other_files_name_are_kept(tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(model(SMALL))
    (tmp_path / "added_tokens.json").write_text('{"new": 11, "<pad>": 12}')
    (tmp_path / "tokenizer_config.json").write_text(
        '{"pad_token": "<pad>", "extra_ids": 1, "padding_side": "left", "model_max_length": 99}')  # fmt: skip
    tokenizer = load(tmp_path)
    tokenizer.save(tmp_path / "again")
    for one in (tokenizer, load(tmp_path / "again")):
        assert one.special_tokens == {"<unk>": 0, "<s>": 1, "<extra_id_0>": 10, "<pad>": 12} and one.vocab_size == 13
        assert one.encode("a new") == [2, 3, 11] and one.decode([6, 11, 1]) == "abnew"
        assert one.prepare(["a", "ab a"]).ids.tolist() == [[12, 2, 3], [6, 2, 3]] and one.longest == 99


# ---- random models and texts

WORDS = str.split("""the cat sat on a mat and the hat was red it's 12 o'clock now don't look naïve café Zürich привет
мир 日本語 テキスト 中文 ﬁne ½ ™ Ⅷ e\u0301 a\u0308 한국 🙂 👍🏽 hello world counting newer lower widest low est x▁y ▁ ▁▁
http://example.com/a?b=c 3.14 (e) [x] {y} <s> </s> <unk> <tag> user-defined abab baba aaaa""")
SPACES = [" ", " ", " ", " ", "  ", "   ", "\t", "\n", "\u3000", "\u00a0", "\u200b", " ▁", "▁ ", ""]
ODD = "▁▁  aàÅ\u0301\u0327ﬀㅏ각\x00\x01\x7f\ufeff\u200d\u2028\ufffd日ｶﾞ㌀①Ω😀🏽\U0001f1e9\U000e0041"


def some_text(draw: random.Random, odd: float = 0.3) -> str:
    parts = []
    for _ in range(draw.randrange(12)):
        word = draw.choice(WORDS)
        if draw.random() < odd / 2:
            word = "".join(draw.choices(ODD, k=draw.randrange(1, 6)))
        elif draw.random() < odd / 2:
            word = "".join(chr(draw.choice([draw.randrange(32, 0x3000), draw.randrange(0x10000, 0x1F900)]))
                           for _ in range(3))  # fmt: skip
        parts += [word, draw.choice(SPACES)]
    return draw.choice(["", "", " ", "  ", "▁", "<tag>"]) + "".join(parts) + draw.choice(["", "", " ", "▁", " ▁ "])


def trained(draw: random.Random, **fixed) -> bytes:
    """A model trained with options drawn at random, but for the fixed ones."""
    symbols = [[], ["<tag>", "abab", "ﬁ"], ["<tag>", "e\u0301", " the ", "\u3000", "▁▁"], ["a", "ab", "b c"]]
    made, chance = io.BytesIO(), lambda p=0.5: draw.random() < p
    pytest.importorskip("sentencepiece").SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(some_text(draw, odd=0).split("\n")) or "a" for _ in range(300)]),
        model_writer=made, hard_vocab_limit=False, minloglevel=3, num_threads=1, **dict(
        model_type=draw.choice(["unigram", "bpe"]), vocab_size=draw.choice([500, 600]), byte_fallback=chance(),
        user_defined_symbols=draw.choice(symbols), split_by_whitespace=chance(0.7), split_digits=chance(),
        allow_whitespace_only_pieces=chance(0.3), character_coverage=draw.choice([0.98, 1.0]),
        normalization_rule_name=draw.choice(["nmt_nfkc", "identity", "nfkc", "nmt_nfkc_cf"]),
        pad_id=draw.choice([-1, 3])) | fixed)  # fmt: skip
    return made.getvalue()


def drawn(draw: random.Random) -> tuple[bytes, str]:
    """(a model of pieces and options drawn at random, the letters it knows)."""
    letters = draw.choice(["ab▁", "abc▁", "ab▁é", "a▁ ", "ab日▁ "])
    fallback, scores = draw.random() < 0.4, [-0.5, -1, -1, -2, -3, -4.25, 0]  # often equal
    pieces = {"<unk>": (0, UNKNOWN), "<s>": (0, CONTROL)} | ({"a": (0, CONTROL)} if draw.random() < 0.3 else {})
    for letter in [*letters, *("".join(draw.choices(letters, k=draw.randrange(2, 5))) for _ in range(12))]:
        if letter not in pieces and draw.random() < 0.9:
            pieces[letter] = draw.choice(scores), draw.choice([NORMAL] * 4 + [USER_DEFINED, UNUSED])
    listed = [(piece, *about) for piece, about in pieces.items()] + BYTES * fallback
    return model(listed, draw.choice([UNIGRAM, BPE]), {FALLBACK: int(fallback)}) + some_options(draw), letters


def some_options(draw: random.Random) -> bytes:
    chosen = lambda values: {name: draw.choice(some) for name, some in values.items() if draw.random() < 0.5}
    trainer = chosen({SUFFIX: [0, 1], UNK_SURFACE: ["", "?", " x "]})
    return options(trainer, chosen({PREFIX: [0, 1], COLLAPSE: [0, 1], ESCAPE: [0, 1]}))


def check(data: bytes, texts: list[str], draw: random.Random, tmp_path) -> None:
    """Ids, text again, and where each token begins; also of ids that no text has, and after saving and loading."""
    theirs, ours = pytest.importorskip("sentencepiece").SentencePieceProcessor(model_proto=data), SentencePiece(data)
    ours.save(tmp_path)
    again = load(tmp_path)
    for text in texts:
        ids = theirs.encode(text)
        assert ours.encode(text) == again.encode(text) == ids
        mixed = [*draw.sample(ids, len(ids)), draw.randrange(len(ours.tokens))]
        for one in (ids, mixed):
            assert ours.decode(one) == again.decode(one) == theirs.decode(one)
        found, spans = ours.encode_with_offsets(text)
        assert found == ids and all(0 <= start <= end <= len(text) for start, end in spans)


@pytest.mark.parity
@pytest.mark.parametrize("seed", range(8))
def test_trained_models_with_random_options_are_followed_exactly(seed, tmp_path):
    draw = random.Random(seed)
    data = trained(draw)
    for changes in (b"", some_options(draw), some_options(draw), some_options(draw)):
        check(data + changes, [some_text(draw) for _ in range(60)], draw, tmp_path)


@pytest.mark.parity
def test_random_models_with_random_options_are_followed_exactly(tmp_path):
    draw = random.Random(0)
    for _ in range(300):
        data, letters = drawn(draw)
        check(data, ["".join(draw.choices(letters + "  z\t", k=draw.randrange(14))) for _ in range(10)], draw, tmp_path)


@pytest.mark.parity
@pytest.mark.parametrize("seed", range(3))
def test_a_plain_model_read_as_unigram_agrees_too(seed, tmp_path):
    draw = random.Random(seed)
    data = trained(draw, model_type="unigram", byte_fallback=False, user_defined_symbols=[],
                   allow_whitespace_only_pieces=False, normalization_rule_name="nmt_nfkc")  # fmt: skip
    (tmp_path / "x.model").write_bytes(data)
    assert sentencepiece.read(tmp_path / "x.model").plain
    ours, theirs = load(tmp_path / "x.model"), SentencePiece(data)
    assert isinstance(ours, Unigram)
    for text in (some_text(draw) for _ in range(200)):
        assert ours.encode(text) == theirs.encode(text)
