import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinytensor as tt
from models.bert import BERTConfig, BERTForPreTraining
from models.ernie_gen import ERNIEGen, ERNIEGenConfig
from models.generate import beam_search, generate
from models.generate.answers import answer_ids
from models.t5 import shift_right
from nn import shapes_only
from tests.helpers import assert_close
from tinytensor.ops.softmax import IGNORED

V = 29
SMALL = dict(vocab_size=V, context=40, layers=3, heads=2, width=12, hidden=20, dropout=0.0, attention_dropout=0.0)
CONFIG = ERNIEGenConfig(**SMALL, start_id=2, eos_id=3, attn_id=5)


def randomized(model, seed: int = 0, scale: float = 0.4):
    """Weights large enough for every part to matter, in float64, in evaluation mode."""
    with tt.random.seeded(seed) as draw:
        for parameter in model.parameters():
            parameter.data = parameter.data.astype(np.float64) + scale * draw.standard_normal(parameter.shape)
    return model.eval()


MODEL = randomized(ERNIEGen(CONFIG))


def some_batch(seed: int = 1, S: int = 8, T: int = 9, padded: bool = True, spans: bool = True) -> dict:
    """Three sources and outputs with what is read of them; padded ones end early."""
    draw = np.random.default_rng(seed)
    ids, targets = draw.integers(6, V, (3, S)), draw.integers(6, V, (3, T))
    mask = np.arange(S) < (np.array([S, S - 3, 2]) if padded else np.full(3, S))[:, None]
    if padded:
        targets[1, T - 4 :] = IGNORED
    read = np.where(draw.random((3, T)) < 0.3, draw.integers(0, V, (3, T)), shift_right(targets, CONFIG.start_id))
    read[:, 0] = CONFIG.start_id
    batch = {"ids": np.where(mask, ids, 0), "mask": mask, "targets": targets, "read": read}
    return batch | ({"spans": drawn_spans(draw, 3, T)} if spans else {})


def drawn_spans(draw, rows: int, T: int) -> np.ndarray:
    """(rows, T): the place where each one's span begins."""
    begins = draw.random((rows, T)) < 0.4
    begins[:, 0] = True
    return np.maximum.accumulate(np.where(begins, np.arange(T), 0), axis=1)


def queries(model: ERNIEGen, batch: dict) -> list[np.ndarray]:
    """The logits (B, T, V) of the word queries, and of the span queries where there are spans."""
    with tt.no_grad():
        hidden, first = model.flows(batch)
        logits = model.logits(hidden[:, first:]).data
    return np.split(logits, logits.shape[1] // batch["targets"].shape[1], axis=1)


def changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """(T,): which predictions of row 0 are other ones."""
    return np.abs(before[0] - after[0]).max(axis=-1) > 0


# ---- who sees whom


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), S=st.integers(2, 7), T=st.integers(1, 9), place=st.integers(0, 100))
def test_a_word_changes_just_the_predictions_that_may_see_it(seed, S, T, place):
    """What is read at target index k is seen by the words j > k, and by the spans that begin behind k."""
    batch, k = some_batch(seed, S, T, padded=False), place % T
    other = batch | {"read": batch["read"].copy()}
    other["read"][0, k] = (other["read"][0, k] + 1) % V
    j, spans = np.arange(T), batch["spans"][0]
    for before, after, sees in zip(queries(MODEL, batch), queries(MODEL, other), (k <= j, k <= spans)):
        np.testing.assert_array_equal(changed(before, after), sees)
        np.testing.assert_array_equal(before[1:], after[1:])


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), S=st.integers(2, 7), place=st.integers(0, 100))
def test_every_word_of_the_source_is_seen_by_all_and_padding_and_targets_by_none(seed, S, place):
    batch = some_batch(seed, S, 5, padded=False)
    place, before = place % S, queries(MODEL, batch)
    other = batch | {"ids": batch["ids"].copy()}
    other["ids"][0, place] = (other["ids"][0, place] + 1) % V
    assert all(changed(a, b).all() for a, b in zip(before, queries(MODEL, other)))
    if S > 2:  # the same where the place is padding at the end
        batch["mask"], other["mask"] = (np.arange(S) < np.array([S - 1, S, S])[:, None] for _ in "ab")
        other["ids"] = batch["ids"].copy()
        other["ids"][0, -1] = (other["ids"][0, -1] + 1) % V
        assert not any(changed(a, b).any() for a, b in zip(queries(MODEL, batch), queries(MODEL, other)))
    other = batch | {"targets": (batch["targets"] + 1) % V}  # read is what it was
    assert not any(changed(a, b).any() for a, b in zip(queries(MODEL, batch), queries(MODEL, other)))


def test_no_query_is_seen_by_another_row():
    """The word queries are the same with span queries beside them and without, and so is what is read."""
    batch = some_batch()
    with tt.no_grad():
        both, first = MODEL.flows(batch)
        word, _ = MODEL.flows(batch | {"spans": None})
    assert_close(both.data[:, : word.shape[1]], word.data, 1e-13)
    sees = MODEL.rows(batch).sees
    assert sees[:, :first, first:].sum() == 0
    np.testing.assert_array_equal(sees[0, first:, first:], np.eye(sees.shape[1] - first, dtype=bool))


def test_a_span_query_is_the_word_query_at_the_first_word_of_its_span_and_another_elsewhere():
    batch = some_batch(padded=False)
    word, span = queries(MODEL, batch)
    first = batch["spans"] == np.arange(9)
    assert first.any() and not first.all()
    assert_close(span[first], word[first], 1e-12)
    assert (np.abs(span - word).max(axis=-1)[~first] > 1e-3).all()


# ---- training and writing are one model


@pytest.mark.parametrize("padded", [False, True])
def test_the_masks_of_training_give_what_writing_step_by_step_does(padded):
    batch = some_batch(padded=padded, spans=False)
    (joint,) = queries(MODEL, batch)
    cache = MODEL.new_cache(3, 9, source=batch["ids"], source_mask=batch["mask"])
    for t in range(9):
        real = batch["targets"][:, t] != IGNORED
        step = MODEL.step(batch["read"][:, t : t + 1], cache)
        assert_close(step[real], joint[real, t], 1e-12)
    assert cache.length == 8 + 9  # no [ATTN] was kept


@pytest.mark.parametrize("padded", [False, True])
def test_a_span_is_planned_as_a_pass_without_its_words_says(padded):
    """A span query is what the [ATTN] of its place answers to the source and the words before the span."""
    batch = some_batch(padded=padded)
    _, span = queries(MODEL, batch)
    for row in range(3):
        S, b = int(batch["mask"][row].sum()), batch["spans"][row]
        for j in np.flatnonzero(batch["targets"][row] != IGNORED):
            ids = np.concatenate([batch["ids"][row, :S], batch["read"][row, : b[j] + 1], [CONFIG.attn_id]])[None]
            n = ids.shape[1]
            positions = np.append(np.arange(n - 1), S + j + 1)[None]
            sees = np.tri(n, dtype=bool)
            sees[:S, :S] = True
            types = np.where(np.arange(n) < S, 0, CONFIG.target_type)[None]
            with tt.no_grad():
                alone = MODEL.logits(MODEL.pass_through(ids, positions, types, sees[None])[:, -1]).data
            assert_close(alone[0], span[row, j], 1e-12)


def test_several_words_are_read_at_once_as_one_by_one():
    batch = some_batch(spans=False)
    at_once, slowly = (MODEL.new_cache(3, 9, source=batch["ids"], source_mask=batch["mask"]) for _ in "ab")
    for t in range(4):
        last = MODEL.step(batch["read"][:, t : t + 1], slowly)
    assert_close(MODEL.step(batch["read"][:, :4], at_once), last, 1e-12)


def plain_greedy(source: np.ndarray, steps: int) -> list[int]:
    """Writing without a cache: every step is a pass over source, words so far and one [ATTN]."""
    written = []
    for _ in range(steps):
        targets = np.array([[*written, 0]])
        with tt.no_grad():
            written.append(int(MODEL({"ids": source[None], "targets": targets}).data[0, -1].argmax()))
        if written[-1] == CONFIG.eos_id:
            break
    return written


def test_greedy_writing_is_the_plain_one_for_every_source_of_a_padded_batch():
    batch = some_batch(seed=4)
    written = answer_ids(MODEL, batch["ids"], batch["mask"], 12)
    for row in range(3):
        plain = plain_greedy(batch["ids"][row][batch["mask"][row]], 12)
        assert written[row, : len(plain)].tolist() == plain


def test_beams_find_what_trying_all_texts_finds():
    source, length = some_batch(seed=2)["ids"][:1], 2
    starts = np.full((1, 1), CONFIG.start_id)
    texts, scores = beam_search(MODEL, starts, length, beams=V, length_penalty=0.0, source=source)
    all_texts = np.stack(np.meshgrid(np.arange(V), np.arange(V), indexing="ij"), -1).reshape(-1, 2)
    with tt.no_grad():
        log_p = MODEL({"ids": np.repeat(source, len(all_texts), 0), "targets": all_texts}).log_softmax().data
    total = np.take_along_axis(log_p, all_texts[..., None], axis=-1)[..., 0].sum(axis=1)
    assert texts[0].tolist() == all_texts[total.argmax()].tolist()
    assert_close(scores[0], total.max(), 1e-5)


def test_the_context_is_shared_by_what_is_read_and_what_is_written():
    source, start = np.full((1, 30), 7), np.full((1, 1), CONFIG.start_id)
    assert generate(MODEL, start, 40, temperature=0, source=source).shape == (1, 41)  # slides, as a GPT does
    with pytest.raises(ValueError, match="1 tokens and 40 new ones are more than the context of 9"):
        generate(MODEL, start, 40, source=source, past_context="fail")
    with pytest.raises(ValueError, match="39 tokens to read and 1 to write, with an"):
        generate(MODEL, start, 4, source=np.full((1, 39), 7))
    with pytest.raises(ValueError, match="a source and its output take 41 positions, more than the context of 40"):
        MODEL({"ids": np.full((1, 30), 7), "targets": np.full((1, 10), 7)})
    padded = {"ids": np.full((1, 30), 7), "mask": np.arange(30)[None] < 29, "targets": np.full((1, 10), 7)}
    assert MODEL(padded).shape == (1, 10, V)  # what counts are tokens, not padding


# ---- the network and the loss


@pytest.mark.parity
def test_the_network_is_berts_with_these_masks():
    """Layers of `transformers`' BertModel in float64, given our masks, positions and segments; the head by hand."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    c = CONFIG
    theirs = transformers.BertForMaskedLM(transformers.BertConfig(
        vocab_size=V, hidden_size=c.width, num_hidden_layers=c.layers, num_attention_heads=c.heads,
        intermediate_size=c.hidden, max_position_embeddings=c.context, type_vocab_size=4, layer_norm_eps=c.norm_eps,
        attn_implementation="eager")).double().eval()  # fmt: skip
    state = {name: torch.tensor(array) for name, array in MODEL.state_dict().items()}
    parts = {"embeddings.word_embeddings": "token", "embeddings.position_embeddings": "position",
             "embeddings.token_type_embeddings": "token_type", "embeddings.LayerNorm": "norm"}  # fmt: skip
    with torch.no_grad():
        for name, parameter in theirs.bert.named_parameters():
            module, _, leaf = name.rpartition(".")
            if module in parts:
                parameter.copy_(state[f"bert.embeddings.{parts[module]}.{leaf}"])
        for layer, own in enumerate(theirs.bert.encoder.layer):
            of = lambda name, layer=layer: state[f"bert.blocks.{layer}.{name}"]
            attention = own.attention
            for n, linear in enumerate((attention.self.query, attention.self.key, attention.self.value)):
                linear.weight.copy_(of("attention.qkv.weight").chunk(3)[n])
                linear.bias.copy_(of("attention.qkv.bias").chunk(3)[n])
            for ours, module in (("attention.out", attention.output.dense), ("norm1", attention.output.LayerNorm),
                                 ("feed_forward.into", own.intermediate.dense), ("feed_forward.out", own.output.dense),
                                 ("norm2", own.output.LayerNorm)):  # fmt: skip
                module.weight.copy_(of(f"{ours}.weight"))
                module.bias.copy_(of(f"{ours}.bias"))
        head = theirs.cls.predictions
        for ours, module in (("dense", head.transform.dense), ("norm", head.transform.LayerNorm)):
            module.weight.copy_(state[f"mlm.{ours}.weight"])
            module.bias.copy_(state[f"mlm.{ours}.bias"])
        head.bias.copy_(state["mlm.bias"])
        batch = some_batch()
        ids, positions, types, sees = (torch.tensor(np.ascontiguousarray(a)) for a in MODEL.rows(batch))
        x = theirs.bert.embeddings(input_ids=ids, position_ids=positions, token_type_ids=types)
        closed = torch.where(sees, 0.0, -torch.inf)[:, None].double()
        for layer in theirs.bert.encoder.layer:
            out = layer(x, closed)
            x = out[0] if isinstance(out, tuple) else out
        expected = head(x[:, 8 + 9 :]).numpy()
    assert_close(np.concatenate(queries(MODEL, batch), axis=1), expected, 1e-11)


@pytest.mark.parity
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("spans", [False, True])
def test_the_loss_and_its_gradients_are_torchs_mean_of_both_flows(smoothing, spans):
    torch = pytest.importorskip("torch")
    model, batch = randomized(ERNIEGen(CONFIG), seed=3), some_batch(spans=spans)
    flows = [torch.tensor(logits, requires_grad=True) for logits in queries(model, batch)]
    targets = torch.tensor(batch["targets"].reshape(-1))
    entropy = torch.nn.CrossEntropyLoss(label_smoothing=smoothing)
    expected = sum(entropy(logits.reshape(-1, V), targets) for logits in flows) / len(flows)
    expected.backward()
    model.label_smoothing = smoothing
    model.train()
    loss = model.loss(batch)
    loss.backward()
    assert_close(loss.item(), expected.item(), 1e-12)
    by_hand = sum(flow.grad.sum(dim=(0, 1)).numpy() for flow in flows)  # the bias stands behind everything
    assert_close(model.mlm.bias.grad, by_hand, 1e-12)
    model.eval()  # where it is measured, nothing is smoothed
    plain = sum(torch.nn.CrossEntropyLoss()(logits.reshape(-1, V), targets) for logits in flows) / len(flows)
    assert_close(model.loss(batch).item(), plain.item(), 1e-12)


def test_the_gradient_of_the_loss_is_that_of_differences():
    model, batch, step = randomized(ERNIEGen(CONFIG), seed=5), some_batch(), 1e-5
    model.loss(batch).backward()
    draw = np.random.default_rng(0)
    for name, parameter in model.named_parameters():
        direction = draw.standard_normal(parameter.shape)
        slope = (parameter.grad * direction).sum()
        parameter.data = parameter.data + step * direction
        above = model.loss(batch).item()
        parameter.data = parameter.data - 2 * step * direction
        below = model.loss(batch).item()
        parameter.data = parameter.data + step * direction
        assert abs((above - below) / (2 * step) - slope) < 1e-6 * (1 + abs(slope)), name


def test_shards_of_a_batch_add_up():
    model, batch = randomized(ERNIEGen(CONFIG)), some_batch()
    counts = model.divisors(batch)
    shards = [{name: array[rows] for name, array in batch.items()} for rows in (slice(0, 1), slice(1, 3))]
    assert_close(sum(model.loss(shard, counts).item() for shard in shards), model.loss(batch).item(), 1e-12)


# ---- sizes, beginnings and ends


@pytest.mark.parametrize("preset, count", [("base", 109_909_050), ("large", 335_700_794)])
def test_presets_have_the_number_of_parameters_that_the_published_shapes_give(preset, count):
    with shapes_only():
        assert ERNIEGen(ERNIEGenConfig.preset(preset)).parameter_count() == count


def test_one_that_begins_from_a_bert_thinks_of_a_source_what_the_bert_does():
    shape = {**SMALL, "norm_eps": 1e-12}
    bert = randomized(BERTForPreTraining(BERTConfig(**shape)), seed=7)
    model = ERNIEGen.from_bert(bert, dict(pad_id=0, start_id=2, eos_id=3, attn_id=4)).eval()
    assert model.config.token_types == 4 and model.config.norm_eps == 1e-12 and model.config.attn_id == 4
    ids = np.random.default_rng(0).integers(5, V, (2, 9))
    with tt.no_grad():
        theirs = bert.fill_scores(ids).data
        hidden = model.pass_through(ids, np.arange(9)[None], np.zeros_like(ids))
        assert_close(model.logits(hidden).data, theirs, 1e-5)


@pytest.mark.parametrize(
    "field, value, message",
    [("attn_id", V, "attn_id 29 is outside the vocabulary of 29 tokens"),
     ("target_type", 4, "target_type 4 is none of the 4 token_types"), ("layers", 0, "layers must be at least 1")],
)  # fmt: skip
def test_bad_shapes_are_named(field, value, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **{field: value})


def test_no_folder_of_others_is_read_or_written(tmp_path):
    for refuses in (MODEL.save_pretrained, ERNIEGen.from_pretrained):
        with pytest.raises(ValueError, match="no layout of an ERNIE-GEN in PyTorch was ever published"):
            refuses(tmp_path / "a")
    assert not (tmp_path / "a").exists()
