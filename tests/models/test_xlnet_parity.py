"""XLNet against `transformers`, on random weights, through the published folder layout."""

import numpy as np
import pytest

from models import XLNet
from tests.helpers import assert_close
from tinytensor import no_grad
from train.tasks import Classify

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.parity

SIZE = dict(vocab_size=61, d_model=24, n_layer=3, n_head=4, d_inner=40)
B, T, K = 4, 9, 3


def peer(kind: str = "XLNetLMHeadModel", **changes):
    """A small model of `transformers` whose weights are large enough for every part to matter."""
    torch.manual_seed(3)
    model = getattr(transformers, kind)(transformers.XLNetConfig(**SIZE | dict(mem_len=None, dropout=0.0) | changes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.2)
    return model.eval()


def both(folder, **changes) -> tuple:
    """(theirs, and ours from its folder)"""
    theirs = peer(**changes)
    theirs.save_pretrained(folder)
    return theirs, XLNet.from_pretrained(folder)


def batch_of(seed: int = 0, *, two_streams: bool, segments: bool = True, padded: bool = True) -> dict:
    """Rows padded on the left, in three segments, with a drawn rule of who sees whom and three places each."""
    draw = np.random.default_rng(seed)
    batch = {"ids": draw.integers(9, 61, (B, T))}
    if padded:
        batch["mask"] = np.arange(T) >= np.array([0, 3, 1, 5])[:, None]
    if segments:
        batch["token_types"] = np.sort(draw.integers(0, 3, (B, T)), axis=1)
    if two_streams:
        batch["places"] = np.stack([draw.permutation(np.arange(5, T))[:K] for _ in range(B)])
        sees = draw.random((B, T, T)) < 0.6
        sees |= np.eye(T, k=-1, dtype=bool)  # whoever predicts sees something
        batch["sees"] = sees & ~np.eye(T, dtype=bool)
        batch["targets"] = np.take_along_axis(batch["ids"], batch["places"], axis=1)
    return batch


def their_inputs(batch: dict) -> dict:
    inputs = {"input_ids": torch.tensor(batch["ids"])}
    if "mask" in batch:
        inputs["attention_mask"] = torch.tensor(batch["mask"].astype(int))
    if "token_types" in batch:
        inputs["token_type_ids"] = torch.tensor(batch["token_types"])
    if "sees" in batch:
        inputs["perm_mask"] = torch.tensor(~batch["sees"]).float()
        inputs["target_mapping"] = torch.nn.functional.one_hot(torch.tensor(batch["places"]), T).float()
    return inputs


def ours_of(model: XLNet, batch: dict, **more) -> np.ndarray:
    with no_grad():
        return model(**{name: array for name, array in batch.items() if name != "targets"}, **more).data


@pytest.mark.parametrize("how", [{}, {"clamp_len": 4}, {"ff_activation": "relu"}])
@pytest.mark.parametrize("segments", [False, True])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("two_streams", [False, True])
def test_the_scores_of_one_and_of_two_streams_are_those_of_transformers(two_streams, padded, segments, how, tmp_path):
    theirs, ours = both(tmp_path, **how)
    batch = batch_of(two_streams=two_streams, segments=segments, padded=padded)
    want = theirs(**their_inputs(batch)).logits.detach().numpy()
    real = np.ones(want.shape[:2], bool) if two_streams or not padded else batch["mask"]
    assert_close(ours_of(ours, batch)[real], want[real], 1e-5)


@pytest.mark.parametrize("reuse", [5, 0])
def test_three_segments_in_a_row_remember_what_transformers_remembers(reuse, tmp_path):
    theirs, ours = both(tmp_path, mem_len=6, reuse_len=reuse or None)
    assert (ours.config.memory, ours.config.reuse) == (6, reuse)
    state, mems = ours.new_state(B), None
    for number, two_streams in enumerate((False, True, False)):
        batch = batch_of(number, two_streams=two_streams)
        with no_grad():
            found = ours.read(**{name: array for name, array in batch.items() if name != "targets"}, **state)
        got = ours._scored(found.content if found.asked is None else found.asked).data
        out = theirs(**their_inputs(batch), mems=mems)
        mems = out.mems
        real = np.ones(got.shape[:2], bool) if two_streams else batch["mask"]
        assert_close(got[real], out.logits.detach().numpy()[real], 1e-5)
        ours.remember(state, found.inputs)
        held = state["remembered"][0]
        assert held == min(6, (number + 1) * (reuse or T)) == len(mems[0])
        want = np.stack([layer.detach().numpy() for layer in mems])  # (L, M, B, C)
        assert_close(state["memory"][:, :, -held:], want.transpose(2, 0, 1, 3), 1e-5)


def test_half_a_batch_read_backwards_is_that_of_bi_data(tmp_path):
    theirs, ours = both(tmp_path)
    theirs.transformer.bi_data = True
    batch = batch_of(two_streams=True)
    want = theirs(**their_inputs(batch)).logits.detach().numpy()
    assert_close(ours_of(ours, batch, backwards=np.arange(B) >= B // 2), want, 1e-5)


def gradients(model) -> dict:
    return {name: np.zeros(p.shape, p.dtype) if p.grad is None else p.grad for name, p in model.named_parameters()}


def assert_same_gradients(ours, theirs, folder, tolerance: float) -> None:
    """Their gradients, saved as if they were weights, are read by the same table of names."""
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
    theirs.save_pretrained(folder)
    want = dict(XLNet.from_pretrained(folder).named_parameters())
    for name, got in gradients(ours).items():
        largest = np.abs(want[name].data).max()
        assert largest > 0 or name in ("unknown", "output_bias"), name
        assert np.abs(got - want[name].data).max() <= tolerance * max(largest, 1), name


@pytest.mark.parametrize("case", ["alone", "backwards", "remembering"])
def test_the_loss_and_every_gradient_of_two_streams_are_those_of_transformers(case, tmp_path):
    theirs, ours = both(tmp_path, mem_len=6, reuse_len=5)
    batch, state, mems = batch_of(two_streams=True), {}, None
    batch["targets"][1, 2] = -100
    if case == "backwards":
        theirs.transformer.bi_data, batch["backwards"] = True, np.arange(B) >= B // 2
    if case == "remembering":
        before, state = batch_of(1, two_streams=True), ours.new_state(B)
        mems = [layer.detach() for layer in theirs(**their_inputs(before)).mems]
        with no_grad():
            ours.loss(before | state)
    want = theirs(**their_inputs(batch), labels=torch.tensor(batch["targets"]), mems=mems).loss
    want.backward()
    loss = ours.loss(batch | state)
    loss.backward()
    assert loss.item() == pytest.approx(want.item(), rel=1e-5)
    theirs.transformer.bi_data = False
    assert_same_gradients(ours, theirs, tmp_path / "gradients", 1e-5)


def test_the_gradients_of_one_stream_are_those_of_transformers(tmp_path):
    theirs, ours = both(tmp_path)
    batch = batch_of(two_streams=False)
    weights = np.random.default_rng(1).standard_normal((B, T, 61)).astype(np.float32) * batch["mask"][:, :, None] / 61
    (theirs(**their_inputs(batch)).logits * torch.tensor(weights)).sum().backward()
    (ours(**batch) * weights).sum().backward()
    assert_same_gradients(ours, theirs, tmp_path / "gradients", 1e-5)


@pytest.mark.parametrize("two_streams", [False, True])
def test_in_float64_all_but_the_sines_agrees_to_eleven_digits(two_streams, tmp_path):
    """Both compute sines and cosines of the distances in float32; the rest is held against theirs with the same."""
    theirs, ours = both(tmp_path)
    for parameter in ours.parameters():
        parameter.data = parameter.data.astype(np.float64)
    theirs, made = theirs.double(), theirs.transformer.relative_positional_encoding
    sines = ours._sines(np.arange(T, -T, -1)).data
    assert_close(sines, made(T, T).numpy()[:, 0], 1e-6)
    theirs.transformer.relative_positional_encoding = (
        lambda q, k, bsz, device: torch.tensor(sines)[:, None].expand(-1, bsz, -1))  # fmt: skip
    batch = batch_of(two_streams=two_streams)
    inputs = {name: a.double() if a.is_floating_point() else a for name, a in their_inputs(batch).items()}
    want = theirs(**inputs).logits.detach().numpy()
    real = np.ones(want.shape[:2], bool) if two_streams else batch["mask"]
    assert_close(ours_of(ours, batch)[real], want[real], 1e-11)


def test_what_we_save_transformers_loads_whole(tmp_path):
    theirs, ours = both(tmp_path / "theirs", mem_len=7, reuse_len=3, clamp_len=5)
    ours.save_pretrained(tmp_path / "ours")
    again, report = transformers.XLNetLMHeadModel.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    before, after = theirs.state_dict(), again.state_dict()
    assert before.keys() == after.keys() and all((before[name] == after[name]).all() for name in before)
    assert again.config.to_dict().items() >= (SIZE | dict(mem_len=7, reuse_len=3, clamp_len=5)).items()
    once_more = XLNet.from_pretrained(tmp_path / "ours")
    assert once_more.config == ours.config and not once_more.untrained


def test_a_body_alone_is_read_and_gets_a_bias_of_zeros(tmp_path):
    peer("XLNetModel").save_pretrained(tmp_path)
    ours = XLNet.from_pretrained(tmp_path)
    assert ours.untrained == ("output_bias",) and not ours.output_bias.data.any()


def test_a_head_of_another_output_table_is_refused_by_name(tmp_path):
    theirs = peer(tie_word_embeddings=False)
    theirs.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"lm_loss\.weight differs from its transformer\.word_embedding\.weight"):
        XLNet.from_pretrained(tmp_path)


@pytest.mark.parametrize("field, value, said", [
    ("attn_type", "uni", "Transformer-XL"), ("bi_data", True, "backwards"), ("same_length", True, "whole memory"),
    ("summary_type", "first", "last token"), ("d_head", 7, "d_head is 7")])  # fmt: skip
def test_what_would_compute_something_else_is_refused_by_name(field, value, said, tmp_path):
    import json

    peer().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {field: value}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=said):
        XLNet.from_pretrained(tmp_path)


def test_classification_of_pairs_padded_on_the_left_is_that_of_transformers(tmp_path):
    """Value and every gradient, the head's included; its summary is the last token's vector."""
    theirs = peer("XLNetForSequenceClassification", num_labels=3)
    theirs.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="passed over: logits_proj"):
        body = XLNet.from_pretrained(tmp_path)
    head = Classify(("a", "b", "c")).make_head(body, 0.0).eval()
    theirs_of = {"dense": theirs.sequence_summary.summary, "out": theirs.logits_proj}
    for name, layer in theirs_of.items():
        weights = {key: array.detach().numpy() for key, array in layer.state_dict().items()}
        dict(head.named_children())[name].load_state_dict(weights)
    batch = batch_of(two_streams=False) | {"label": np.array([0, 2, 1, 1])}
    out = theirs(**their_inputs(batch), labels=torch.tensor(batch["label"]))
    assert_close(head(batch).data, out.logits.detach().numpy(), 1e-5)
    loss = head.loss(batch)
    assert loss.item() == pytest.approx(out.loss.item(), rel=1e-5)
    loss.backward()
    out.loss.backward()
    got = gradients(head)
    for name, layer in theirs_of.items():
        for key, parameter in layer.named_parameters():
            assert_close(got[f"{name}.{key}"], parameter.grad.numpy(), 1e-5)
    with pytest.warns(UserWarning, match="passed over: logits_proj"):
        assert_same_gradients(body, theirs, tmp_path / "gradients", 1e-5)
