import json
import re
from itertools import pairwise

import numpy as np
import pytest

import tinytensor as tt
from models.contract import Writer
from models.families import family_of
from models.generate import Sampling
from models.generate.sampling import log_softmax
from models.tokenizers import ByteLevelBPE, Bytes, Characters, ClassicBPE, ElmoCharacters, Unigram, WordPiece
from nn import Attention
from nn.compression import prune, quantize, shrink
from nn.compression.prune import groups
from tests.helpers import assert_close
from tests.train.explore.models_to_look_into import MODELS, SHORT, TEXT, made
from tinytensor.ops.softmax import IGNORED
from train import checkpoint
from train.__main__ import main
from train.explore import ahead, inside, page, pieces
from train.explore.reading import READINGS, name_of

WITH_BLOCKS = [name for name in MODELS if not name.startswith("elmo")]


def read(name: str, **more):
    model, tokenizer = made(name)
    more = dict(answer=None, most=24) | more
    with tt.no_grad():
        return model, tokenizer, READINGS[family_of(model).objective](model, tokenizer, SHORT, **more)


def softmax(scores: np.ndarray) -> np.ndarray:
    return np.exp(log_softmax(scores.astype(np.float64)))


@pytest.mark.parametrize("name", WITH_BLOCKS)
def test_the_lens_on_the_last_layer_is_what_the_model_says(name):
    model, _, reading = read(name)
    with tt.no_grad():
        right = softmax(reading.look().numpy()[0])
        found = inside.lens(model, reading, inside.look(model, reading, reading.look)[1][reading.points[0]][:, 0])
    assert len(found) == (4 if name.startswith("gpt") else 3)
    assert_close(found[-1]["p"], -np.sort(-right, axis=1)[:, : inside.TOP], 1e-5)
    assert_close(found[-1]["entropy"], -(right * np.log(right)).sum(axis=1), 1e-5)
    for place, truth in enumerate(reading.truth):
        if truth != IGNORED:
            assert found[-1]["own"][place] == pytest.approx(right[place, truth], abs=1e-6)
            assert found[-1]["rank"][place] == 1 + (right[place] > right[place, truth]).sum()


def test_the_lens_below_skips_the_layers_above():
    model, _, reading = read("gpt")
    ids = reading.batch["ids"]
    with tt.no_grad():
        x, _ = model._embed(ids, None, None)
        stream = inside.look(model, reading, reading.look)[1][""][:, 0]
        for layer, found in enumerate(inside.lens(model, reading, stream)):
            y = tt.ops.linear(model.norm(x), model.output_table).numpy()[0]
            assert_close(found["p"], -np.sort(-softmax(y), axis=1)[:, : inside.TOP], 1e-5)
            if layer < len(model.blocks):
                block = model.blocks[layer]
                x = x + block.attention(block.norm1(x))
                x = x + block.feed_forward(block.norm2(x))


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert", "albert"])
def test_the_lens_of_an_encoder_is_asked_at_places_that_are_blotted_out(name):
    model, tokenizer, reading = read(name)
    data = page.collect(model, tokenizer, SHORT)
    (ids,) = reading.ids.values()
    for place in np.flatnonzero(reading.truth != IGNORED):
        row = np.array([ids])
        row[0, place] = tokenizer.mask_id
        with tt.no_grad():
            p = softmax(model.fill_scores(row, np.zeros_like(row), np.ones(row.shape, bool)).numpy()[0, place])
        assert data["lens"][-1]["own"][place] == pytest.approx(p[ids[place]], abs=1e-5)
    assert sum(reading.truth == IGNORED) == 2  # [CLS] and [SEP]


def test_xlnets_lens_ends_in_what_the_query_stream_predicts_where_nobody_has_seen_the_token():
    model, tokenizer, reading = read("xlnet")
    data, (ids,) = page.collect(model, tokenizer, SHORT), reading.ids.values()
    asked, types = np.flatnonzero(reading.truth != IGNORED), reading.batch["token_types"]
    assert types[0].tolist() == [0] * (len(ids) - 1) + [2] and len(asked) == len(ids) - 2 and len(data["lens"]) == 3
    for place in asked:
        others = np.arange(len(ids)) != place
        with tt.no_grad():
            row = model(np.array([ids]), types, sees=np.tile(others, (1, len(ids), 1)), places=np.array([[place]]))
        p = softmax(row.numpy()[0, 0])
        assert data["lens"][-1]["own"][place] == pytest.approx(p[ids[place]], abs=1e-5)


def test_elmos_lens_reads_each_layer_by_its_softmax():
    model, tokenizer, _ = read("elmo")
    data = page.collect(model, tokenizer, SHORT)
    words = [one["name"] for one in data["sides"]["forward"]]
    assert words == ["<S>", "The", "lazy", "fox", "runs", "to", "the", "hill", ".", "</S>"]
    with tt.no_grad():
        layers, _ = model([words[1:-1]])
        for layer, found in enumerate(data["lens"]):
            p = softmax(model.softmax.scores(layers[layer][:, :, : model.config.width]).numpy()[0])
            assert_close(np.array(found["p"])[1:-1], -np.sort(-p, axis=1)[:, : inside.TOP], 1e-5)
    assert data["truth"][0] == tokenizer.ids["The"] and data["truth"][-1] == IGNORED
    assert data["truth"][1] == tokenizer.unk_id  # "lazy" is known, but too rare to be predicted
    assert set(data["states"]) == {"forward", "backward"} and data["attention"] == [] and data["heads"] is None


@pytest.mark.parametrize("name", WITH_BLOCKS)
def test_every_call_of_attention_is_shown_between_its_sides(name):
    model, _, reading = read(name)
    calls, _ = inside.look(model, reading, reading.look)
    blocks = {"gpt": 3, "gpt with windows": 3, "gpt-1": 3, "t5": 6, "xlnet": 3}.get(name, 2)
    assert len(calls) == blocks
    for call in calls:
        T, S = len(reading.sides[call["rows"]]), len(reading.sides[call["columns"]])
        assert call["p"].shape == (2, T, S)
        assert_close(call["p"].sum(axis=-1), np.ones((2, T)), 1e-5)
    if name == "t5":
        kinds = [call["kind"] for call in calls]
        assert kinds == ["encoder"] * 2 + ["decoder", "decoder, looking at the encoder"] * 2
        assert (np.triu(calls[2]["p"], 1) == 0).all() and (np.triu(calls[0]["p"], 1) > 0).any()
    if name == "xlnet":  # nobody reads what the last layer's content stream would say
        assert [call["kind"] for call in calls] == ["query stream", "content stream", "query stream"]
        assert all((np.diagonal(call["p"], axis1=1, axis2=2) == 0).all() == ("query" in call["kind"]) for call in calls)
    if name == "gpt with windows":
        assert calls[0]["p"][:, 5, 0].min() > 0 and (calls[1]["p"][:, 5, :3] == 0).all()


@pytest.mark.parametrize("name", WITH_BLOCKS)
def test_the_loss_without_a_head_is_that_of_zeroed_output_weights(name):
    model, _, reading = read(name)
    with tt.no_grad():
        found, layers = inside.heads(model, reading), dict(model.named_modules())
        assert found["loss"] == pytest.approx(model.loss(reading.batch).item(), abs=1e-6)
        for row in found["rows"]:
            attention = layers[row["name"]]
            for head, loss in enumerate(row["loss"]):
                weight, D = attention.out.weight, attention.head_width
                before = weight.data.copy()
                weight.data[:, head * D : (head + 1) * D] = 0
                assert loss == pytest.approx(model.loss(reading.batch).item(), abs=1e-5)
                weight.data[...] = before
    losses = [loss for row in found["rows"] for loss in row["loss"]]
    assert max(losses) - min(losses) > 1e-3
    assert [row["name"] for row in found["rows"]] == [group.name for group in groups(model, "heads")]
    assert all(p.grad is None for p in model.parameters())


def test_integers_have_no_heads_to_prune_and_the_rest_is_shown():
    model, tokenizer = made("gpt")
    data = page.collect(quantize(model, bits=8), tokenizer, SHORT)
    assert data["heads"] is None and len(data["attention"]) == 3 and data["graph"]


@pytest.mark.parametrize("name", WITH_BLOCKS)
def test_a_model_that_was_made_smaller_is_shown_with_what_is_left(name):
    model, tokenizer = made(name)
    for what in ("heads", "neurons", "rows"):
        prune(model, 0.5, what)
    data = page.collect(shrink(model), tokenizer, SHORT)
    assert {call["p"]["shape"][0] for call in data["attention"]} == {1}
    assert all(len(row["loss"]) == 1 for row in data["heads"]["rows"])


def test_what_was_published_without_a_head_says_no_word():
    model, tokenizer = made("bert")
    model.untrained = ("mlm",)
    data = page.collect(model, tokenizer, SHORT)
    assert data["lens"] is None and data["heads"] is None and len(data["attention"]) == 2
    elmo, _ = made("elmo without words")
    data = page.collect(elmo, ElmoCharacters(), SHORT)
    assert data["lens"] is None and data["sides"]["forward"][1]["name"] == "The" and len(data["states"]) == 2


@pytest.mark.parametrize("name", ["gpt", "t5"])
def test_every_step_ahead_has_the_scores_that_the_model_gives_to_that_text(name):
    model, tokenizer, reading = read(name)
    assert isinstance(model, Writer)
    nodes = ahead.continuations(model, *reading.start, tokenizer.end_id)
    start, source = reading.start
    assert 13 < len(nodes) <= 1 + ahead.WIDTH * ahead.STEPS
    for node in nodes[:: max(1, len(nodes) // 20)]:
        ids = np.array([[*start[0], *node["text"]]])
        with tt.no_grad():
            scores = (model(ids) if source is None else model(source, ids)).numpy()[0, -1]
        assert_close(node["scores"], -np.sort(-scores)[: ahead.TOP], 1e-4)
        assert_close(scores[node["ids"]], node["scores"], 1e-4)
        for token, number in node["next"].items():
            assert nodes[number]["text"] == [*node["text"], token]
            assert token in node["ids"][: ahead.WIDTH + 1]  # the end leads nowhere


def test_the_rest_makes_the_probabilities_whole_at_every_temperature():
    scores = np.random.default_rng(0).standard_normal(700).astype(np.float32) * 3
    step = ahead.told(scores)
    for n, temperature in enumerate(ahead.TEMPERATURES):
        p = Sampling(temperature=temperature).probabilities(scores[None])[0]
        top = step["scores"] / temperature
        whole = np.logaddexp(np.logaddexp.reduce(top), step["rest"][n])
        assert_close(np.exp(top - whole), -np.sort(-p)[: ahead.TOP], 1e-6)
    assert step["others"] == 700 - ahead.TOP
    assert (ahead.told(scores[:50])["rest"] < -1e29).all()


def test_merges_lead_from_bytes_to_the_token():
    tokenizer = ByteLevelBPE.train([TEXT], 330)
    for token in tokenizer.encode(TEXT):
        steps = pieces.merged(tokenizer, [token], 0)
        assert steps[-1][1] == [tokenizer.tokens[token]] and len(steps[0][1]) == len(tokenizer.token_bytes[token])
        for (_, before), (how, after) in pairwise(steps):
            assert len(after) == len(before) - 1 and "".join(after) == "".join(before)
            left, right = tokenizer.merges[int(how.split()[1].replace(",", "")) - 1]
            assert pieces.show(left + right) in after
    classic = ClassicBPE.train([TEXT], 60)
    for token in classic.encode(TEXT):
        assert pieces.merged(classic, [token], 0)[-1][1] == [classic.tokens[token]]


def test_wordpiece_tries_the_longest_beginning_first():
    tokenizer = WordPiece.train([TEXT], 60)
    ids = tokenizer.encode("overlazy")
    names = [tokenizer.tokens[i] for i in ids]
    assert len(names) > 2
    steps = pieces.tried(tokenizer, ids, 0)
    assert steps[0] == ("not in the vocabulary", ["overlazy"]) and steps[-1] == ("found", [names[0]])
    assert len(steps) == len("overlazy") - len(names[0]) + 1
    later = pieces.tried(tokenizer, ids, 1)
    assert later[0][1] == ["##" + "overlazy"[len(names[0]) :]] and later[-1] == ("found", [names[1]])


def test_unigram_compares_a_piece_with_its_best_cut():
    tokenizer = Unigram.train([TEXT], 60)
    score = dict(tokenizer.pieces)

    def best(text: str) -> float:
        """By trying all cuts."""
        known = [n for n in range(1, len(text) + 1) if text[:n] in score]
        return max((score[text[:n]] + (best(text[n:]) if text[n:] else 0) for n in known), default=-np.inf)

    long = [i for i in tokenizer.encode(TEXT) if len(tokenizer.tokens[i]) > 2]
    for token in long:
        piece = tokenizer.tokens[token]
        steps = pieces.compared(tokenizer, [token], 0)
        assert steps[0] == (f"log p {score[piece]:.2f}", [piece])
        smaller = max(score[piece[:n]] + best(piece[n:]) for n in range(1, len(piece)) if piece[:n] in score)
        assert steps[1][0] == f"in smaller pieces {smaller:.2f}" and "".join(steps[1][1]) == piece
    assert long


def test_tokens_are_named_as_a_reader_sees_them():
    tokenizer = ByteLevelBPE.train([TEXT], 300)
    assert name_of(tokenizer, tokenizer.encode(" the")[0]) == "␣the"
    assert name_of(tokenizer, tokenizer.encode("\n")[0]) == "⏎"
    assert name_of(tokenizer, tokenizer.byte_ids[0xC3]) == "Ã"  # half of a character: its visible stand-in
    assert name_of(tokenizer, 9999) == "<9999>"
    assert name_of(WordPiece.train([TEXT], 60), 2) == "[CLS]"
    unigram = Unigram.train([TEXT], 60)
    assert name_of(unigram, unigram.encode("the")[0]).startswith("␣")
    assert pieces.tokens(Characters("ab"), [1], ["b"]) == [dict(id=1, name="b", bytes="62", steps=[])]
    assert pieces.tokens(Bytes(), [107], ["h"])[0]["steps"] == []


@pytest.mark.parametrize("name", MODELS)
def test_the_page_is_one_file_that_asks_for_no_other(name):
    model, tokenizer = made(name)
    data = page.collect(model, tokenizer, SHORT, title="</script><b>")
    text = page.html(data)
    read_back = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])
    assert read_back == json.loads(json.dumps(data)) and read_back["title"] == "</script><b>"
    assert set(re.findall(r"https?://[^\"' )\\]+", text)) <= {"http://www.w3.org/2000/svg"}
    assert "src=" not in text and "/*" + "data*/" not in text
    for place in data["where"].values():
        for file, line in re.findall(r"(\S+\.py):(\d+)", place):
            code = (page.ROOT / file).read_text().splitlines()[int(line) - 1]
            assert code.lstrip().startswith(("def ", "class ", "@")), code
    assert sum(size for _, size, _ in data["parameters"]) == model.parameter_count()
    assert {id(m) for m in model.modules() if type(m).__name__ == "Asking"} == set()


def test_of_a_picture_the_page_shows_which_patches_each_token_looks_at():
    model, tokenizer = made("sight")
    pixels = np.random.default_rng(0).random((12, 12, 3)).astype(np.float32)
    data = page.collect(model, tokenizer, SHORT, pixels=pixels)
    names, N = [one["name"] for one in data["sides"][""]], model.config.patches
    ids = np.array([tokenizer.encode(SHORT)])
    assert names[:N] == [f"▦{row},{column}" for row in (1, 2, 3) for column in (1, 2, 3)] and len(names) == N + ids.size
    shown = data["picture"]
    codes = np.frombuffer(page.base64.b64decode(shown["pixels"]["codes"]), "<u2")
    assert shown["along"] == 3 and np.abs(codes.reshape(12, 12, 3) / 65535 - pixels).max() < 1e-4
    with tt.no_grad():
        logits = model(ids, pixels=pixels[None]).numpy()[0]
        first = model.blocks[0]
        x = tt.ops.concatenate([model.look(pixels[None]), model._embed(ids, None, None)[0]], axis=1)
        q, k = (part.numpy() for part in first.attention._split(first.attention.qkv(first.norm1(x)))[:2])
    call = data["attention"][0]["p"]
    p = np.frombuffer(page.base64.b64decode(call["codes"]), "<u2").reshape(call["shape"]) / 65535
    plain = softmax(np.where(np.arange(N + ids.size) < N + 1, k[0, 0] @ q[0, 0, N] / 8**0.5, -np.inf))
    assert_close(p[0, N], plain, 1e-4)
    assert (p[:, :N, N:] == 0).all()  # no patch looks at the text
    for place, step in enumerate(data["lens"][-1]["entropy"][N:]):
        chances = softmax(logits[place])
        assert step == pytest.approx(-(chances * np.log(chances)).sum(), abs=1e-4)
    best = data["ahead"]["nodes"][0]["ids"][0]
    assert best == logits[-1].argmax()  # what it goes on with, too, it says of the picture


def test_a_picture_is_for_models_that_read_some(tmp_path, capsys):
    model, tokenizer = made("gpt")
    checkpoint.save_config(tmp_path, "gpt", model.config)
    checkpoint.save_weights(tmp_path, model)
    tokenizer.save(tmp_path)
    assert main(["explore", str(tmp_path), "--image", "a.png"]) == 2
    assert "--image is for models that read pictures, not for a GPT; leave it out" in capsys.readouterr().err


def test_numbers_are_packed_to_within_half_a_step():
    array = np.random.default_rng(0).uniform(-2, 3, (3, 4, 5))
    pack = page.packed(array, -2, 3)
    codes = np.frombuffer(page.base64.b64decode(pack["codes"]), "<u2").reshape(pack["shape"])
    assert abs(pack["low"] + codes * (pack["high"] - pack["low"]) / 65535 - array).max() <= 5 / 131070 + 1e-12


def test_what_cannot_be_read_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match="1 tokens are read of --text 'a'; it takes two"):
        READINGS["causal"](*made("gpt"), "a", None, 24)
    with pytest.raises(ValueError, match="no token that could be guessed"):
        READINGS["masked"](*made("bert"), "", None, 24)


def test_an_answer_is_for_models_that_answer(tmp_path, capsys):
    model, tokenizer = made("bert")
    checkpoint.save_config(tmp_path, "bert", model.config)
    checkpoint.save_weights(tmp_path, model)
    tokenizer.save(tmp_path)
    assert main(["explore", str(tmp_path), "--answer", "den", "--text", SHORT]) == 2
    assert "--answer is for models that read one text and write another" in capsys.readouterr().err
    assert main(["explore", str(tmp_path), "--text", SHORT, "--tokens", "8"]) == 0
    text = (tmp_path / "explore.html").read_text().partition('id="data">')[2].partition("</script>")[0]
    assert len(json.loads(text)["truth"]) == 8


@pytest.mark.parametrize("name", ["gpt", "bert", "t5"])
def test_a_published_folder_shows_what_the_model_in_memory_shows(name, tmp_path):
    model, tokenizer = made(name)
    model.save_pretrained(tmp_path)
    tokenizer.save(tmp_path)
    there, here = (page.collect(*pair, SHORT) for pair in (checkpoint.load_model(tmp_path), (model, tokenizer)))
    assert there["sides"] == here["sides"] and there["parameters"] == here["parameters"]
    for one, other in zip(there["lens"], here["lens"]):
        assert_close(one["own"], other["own"], 1e-5)


def test_an_answer_that_is_given_is_read_instead_of_the_models_own():
    model, tokenizer, reading = read("t5", answer="the den")
    assert reading.truth.tolist() == [*tokenizer.encode("the den"), model.config.eos_id]
    assert reading.ids["decoder"] == [model.config.pad_id, *tokenizer.encode("the den")]
    own = read("t5")[2]
    assert own.truth.tolist() != reading.truth.tolist() and len(own.truth) <= 24


def test_the_graph_is_that_of_the_first_block():
    model, _, reading = read("gpt")
    picture = inside.block_graph(model, reading.look)
    names = {box.name for box in picture.boxes}
    assert {"x", "attention.qkv.weight", "self_attention", "feed_forward.out.bias", "add"} <= names
    assert isinstance(model.blocks[0].attention, Attention)
    elmo, _, reading = read("elmo")
    assert {"x", "weight_ih_l0", "lstm"} <= {box.name for box in inside.block_graph(elmo, reading.look).boxes}
