"""XLNet's tokens: the clean-up, what stands around texts, and on which side padding stands."""

import json
import unicodedata

import pytest

from models.tokenizers import Unigram, XLNetPieces, load
from models.tokenizers.sentencepiece import CONTROL, NORMAL, UNKNOWN, USER_DEFINED
from models.tokenizers.xlnet import TOKENS, train
from tests.models.tokenizers.test_spiece import UNIGRAM, model

TEXTS = ["The fox ran off in 2000, and Mia met Tom. A café is “near”.", "He said ``yes'' to the fox."] * 20


@pytest.fixture(scope="module")
def tokenizer() -> Unigram:
    return train(TEXTS, 90)


def test_the_published_ids_come_first_and_quotes_accents_and_spaces_are_cleaned_up(tokenizer):
    assert tokenizer.tokens[:9] == list(TOKENS) and tokenizer.vocab_size == 90
    assert tokenizer.decode(tokenizer.encode(" a  café\n``yes'' ")) == 'a cafe "yes"'
    with_accents = train(["Café"] * 5, 14, keep_accents=True)
    assert with_accents.decode(with_accents.encode("Café")) == "Café"


def test_padding_is_on_the_left_and_the_segments_are_the_published_ones_also_after_a_save(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    again = load(tmp_path)
    assert isinstance(again, Unigram) and again.encode("The café ``fox''") == tokenizer.encode("The café ``fox''")
    for one in (tokenizer, again):
        batch = one.prepare(["The fox", "The"], special=True)
        assert batch.ids[:, -2:].tolist() == [[4, 3]] * 2 and batch.types[:, -3:].tolist() == [[0, 0, 2]] * 2
        assert batch.ids[1, 0] == 5 and not batch.mask[1, 0] and batch.mask[:, -1].all()
        pair, (a, b) = one.prepare(["The"], ["fox"]), (len(one.encode("The")), len(one.encode("fox")))
        assert pair.types[0].tolist() == [0] * (a + 1) + [1] * (b + 1) + [2]
        assert (one.separator_id, one.end_id, one.mask_id, one.pad_id, one.unk_id) == (4, 4, 6, 5, 0)


# ---- the original files


def original(data: bytes, text: str, lower: bool, keep_accents: bool) -> list[int]:
    """What prepro_utils.py does, line by line, around SentencePiece's own library."""
    library = pytest.importorskip("sentencepiece").SentencePieceProcessor(model_proto=data)
    text = " ".join(text.strip().split()).replace("``", '"').replace("''", '"')
    if not keep_accents:
        text = "".join(one for one in unicodedata.normalize("NFKD", text) if not unicodedata.combining(one))
    text, pieces = text.lower() if lower else text, []
    for piece in library.encode_as_pieces(text):
        if len(piece) > 1 and piece[-1] == "," and piece[-2].isdigit():
            parts = library.encode_as_pieces(piece[:-1].replace("▁", ""))
            if piece[0] != "▁" and parts[0][0] == "▁":
                parts = parts[1:] if len(parts[0]) == 1 else [parts[0][1:], *parts[1:]]
            pieces += [*parts, piece[-1]]
        else:
            pieces.append(piece)
    return [library.piece_to_id(piece) for piece in pieces]


def spiece() -> bytes:
    """A model of the published form: control pieces, symbols that stay whole, and numbers with a comma behind them."""
    kinds = {"<unk>": UNKNOWN, "<eop>": USER_DEFINED} | dict.fromkeys('.()"-–£€', USER_DEFINED)
    signs = sorted(set("".join([*TEXTS, *SAMPLES, "I▁,cfnu"])) - set(kinds) - set(" \t\n'`☃“”"))
    longer = ["▁2000,", "▁2000", "00,", "87", "2,", "▁x3,", "▁1,", "The", "▁fox", "0,", "▁h"]
    pieces = [(name, 0.0, kinds.get(name, CONTROL)) for name in TOKENS]
    pieces += [(name, 0.0, USER_DEFINED) for name in list(kinds)[2:]] + [(one, -9.0, NORMAL) for one in signs]
    return model([*pieces, *((one, -2.0 - 0.1 * n, NORMAL) for n, one in enumerate(longer))], UNIGRAM)


SAMPLES = ["In 2000, he 2001,", "19872,5, x3,", "  Café\t``near''\n fox-2000,. <eop> Ünï½ ", "", "1,", "€2000,", "☃2,"]


@pytest.mark.parity
@pytest.mark.parametrize("options", [{}, {"do_lower_case": True}, {"keep_accents": True}])
def test_the_original_vocabulary_gives_the_original_ids(options, tmp_path):
    (tmp_path / "spiece.model").write_bytes(data := spiece())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(options))
    tokenizer = load(tmp_path)
    tokenizer.save(tmp_path / "again")
    assert isinstance(tokenizer, XLNetPieces) and "▁2000," in tokenizer.tokens
    assert tokenizer.tokens_of(tokenizer.encode(" 2000,")) == ["▁2000", ","]
    how = options.get("do_lower_case", False), options.get("keep_accents", False)
    for text in (*SAMPLES, *TEXTS[:2]):
        want = original(data, text, *how)
        for one in (tokenizer, load(tmp_path / "again")):
            assert one.encode(text) == want, text
            ids, offsets = one.encode_with_offsets(text)
            assert ids == want and all(0 <= a <= b <= len(text) for a, b in offsets), text
    batch = load(tmp_path / "again").prepare(["The fox", "The"])
    assert batch.ids[:, -1].tolist() == [tokenizer.id_of("<cls>")] * 2 and not batch.mask[1, 0]
