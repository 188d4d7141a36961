"""The four encoders against `transformers`, on random weights, through the published folder layout."""

import numpy as np
import pytest

from models import (
    ALBERT,
    BERT,
    ALBERTForPreTraining,
    BERTForPreTraining,
    DistilBERT,
    DistilBERTForPreTraining,
    RoBERTa,
    RoBERTaForPreTraining,
)
from tests.helpers import assert_close

pytestmark = pytest.mark.parity

SMALL = dict(vocab_size=61, hidden_size=24, num_hidden_layers=3, num_attention_heads=4, intermediate_size=40)
SIZES = {
    "bert": SMALL | dict(max_position_embeddings=20),
    "roberta": SMALL | dict(max_position_embeddings=22, type_vocab_size=1, layer_norm_eps=1e-5),
    "distilbert": dict(vocab_size=61, dim=24, n_layers=3, n_heads=4, hidden_dim=40, max_position_embeddings=20),
    "albert": SMALL
    | dict(max_position_embeddings=20, embedding_size=10, num_hidden_layers=4, num_hidden_groups=2, inner_group_num=2),
}
OURS = {
    "bert": (BERT, BERTForPreTraining),
    "roberta": (RoBERTa, RoBERTaForPreTraining),
    "distilbert": (DistilBERT, DistilBERTForPreTraining),
    "albert": (ALBERT, ALBERTForPreTraining),
}
THEIRS = {
    "bert": ("BertConfig", "BertModel", "BertForPreTraining"),
    "roberta": ("RobertaConfig", "RobertaModel", "RobertaForMaskedLM"),
    "distilbert": ("DistilBertConfig", "DistilBertModel", "DistilBertForMaskedLM"),
    "albert": ("AlbertConfig", "AlbertModel", "AlbertForPreTraining"),
}
FAMILIES = list(OURS)


def peer(family: str, heads: bool, **changes):
    """A small model of `transformers` whose weights are large enough for every part to matter."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config_name, *names = THEIRS[family]
    config = getattr(transformers, config_name)(**SIZES[family], **changes)
    config._attn_implementation = "eager"
    torch.manual_seed(3)
    model = getattr(transformers, names[heads])(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.2)
    return model.eval()


def padded_pairs(family: str, seed: int = 0) -> dict:
    """Rows of unequal length in two segments; RoBERTa's padding is token 1."""
    draw = np.random.default_rng(seed)
    ids = draw.integers(5, 61, (4, 17))
    lengths = np.array([17, 9, 12, 1])
    mask = np.arange(17) < lengths[:, None]
    types = (np.arange(17) >= lengths[:, None] // 2).astype(int) * mask
    if family in ("roberta", "distilbert"):
        types = np.zeros_like(types)
    return {"ids": np.where(mask, ids, 1 if family == "roberta" else 0), "token_types": types, "mask": mask}


def their_inputs(batch: dict, family: str) -> dict:
    import torch

    inputs = {"input_ids": torch.tensor(batch["ids"]), "attention_mask": torch.tensor(batch["mask"].astype(int))}
    return inputs | ({} if family == "distilbert" else {"token_type_ids": torch.tensor(batch["token_types"])})


def their_logits(out, family: str):
    if family == "bert":
        return out.prediction_logits, out.seq_relationship_logits
    return (out.prediction_logits, out.sop_logits) if family == "albert" else (out.logits, None)


@pytest.mark.parametrize("family", FAMILIES)
def test_hidden_states_and_pooled_vectors_are_those_of_transformers(family, tmp_path):
    theirs = peer(family, heads=False)
    theirs.save_pretrained(tmp_path)
    ours, batch = OURS[family][0].from_pretrained(tmp_path), padded_pairs(family)
    got, want = ours(**batch), theirs(**their_inputs(batch, family))
    real = batch["mask"]
    assert_close(got.hidden.data[real], want.last_hidden_state.detach().numpy()[real], 1e-4)
    if family == "distilbert":
        assert got.pooled is None
    else:
        assert_close(got.pooled.data, want.pooler_output.detach().numpy(), 1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_without_types_and_mask_all_tokens_are_read_as_the_first_segment(family, tmp_path):
    theirs = peer(family, heads=False)
    theirs.save_pretrained(tmp_path)
    ids = padded_pairs(family)["ids"]
    import torch

    want = theirs(torch.tensor(ids), attention_mask=torch.ones(ids.shape)).last_hidden_state
    assert_close(OURS[family][0].from_pretrained(tmp_path)(ids).hidden.data, want.detach().numpy(), 1e-4)


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
@pytest.mark.parametrize("family", FAMILIES)
def test_both_heads_are_those_of_transformers(family, activation, tmp_path):
    if family == "roberta" and activation != "gelu":
        pytest.skip("RoBERTa's published head has GELU whatever the config says, and no published model says otherwise")
    theirs = peer(family, heads=True, **{"activation" if family == "distilbert" else "hidden_act": activation})
    theirs.save_pretrained(tmp_path)
    ours, batch = OURS[family][1].from_pretrained(tmp_path), padded_pairs(family)
    got, real = ours(**batch), batch["mask"]
    words, sentence = their_logits(theirs(**their_inputs(batch, family)), family)
    assert_close(got.mlm_logits.data[real], words.detach().numpy()[real], 1e-4)
    if sentence is None:
        assert got.nsp_logits is None
    else:
        assert_close(got.nsp_logits.data, sentence.detach().numpy(), 1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_of_the_joint_loss_are_those_of_transformers(family, tmp_path):
    torch = pytest.importorskip("torch")
    theirs = peer(family, heads=True)
    theirs.save_pretrained(tmp_path)
    ours, batch = OURS[family][1].from_pretrained(tmp_path), padded_pairs(family)
    draw = np.random.default_rng(1)
    masked = batch["mask"] & (draw.random(batch["ids"].shape) < 0.3)
    batch["targets"] = np.where(masked, draw.integers(0, 61, masked.shape), -100)
    batch["next"] = np.array([0, 1, 1, 0])
    words, sentence = their_logits(theirs(**their_inputs(batch, family)), family)
    want = torch.nn.functional.cross_entropy(words.flatten(0, 1), torch.tensor(batch["targets"]).flatten())
    if sentence is not None:
        want = want + torch.nn.functional.cross_entropy(sentence, torch.tensor(batch["next"]))
    want.backward()
    loss = ours.loss(batch)
    loss.backward()
    assert_close(loss.item(), want.item(), 1e-4)
    # Their gradients, saved as if they were weights, are read by the same table of names.
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
    theirs.save_pretrained(tmp_path / "gradients")
    expected = dict(OURS[family][1].from_pretrained(tmp_path / "gradients").named_parameters())
    for name, parameter in ours.named_parameters():
        got = np.zeros(parameter.shape) if parameter.grad is None else parameter.grad
        assert_close(got, expected[name].data, 1e-4)


@pytest.mark.parametrize("heads", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_we_save_transformers_loads_whole(family, heads, tmp_path):
    transformers = pytest.importorskip("transformers")
    theirs = peer(family, heads)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = OURS[family][heads].from_pretrained(tmp_path / "theirs")
    ours.save_pretrained(tmp_path / "ours")
    again, report = getattr(transformers, THEIRS[family][1 + heads]).from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    before, after = theirs.state_dict(), again.state_dict()
    assert before.keys() == after.keys()
    assert all((before[name] == after[name]).all() for name in before)
    assert again.config.to_dict().items() >= SIZES[family].items()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_body_is_read_from_a_file_with_heads_and_the_other_way_round(family, tmp_path):
    theirs, bare = peer(family, heads=True), peer(family, heads=False)
    theirs.save_pretrained(tmp_path / "heads")
    bare.save_pretrained(tmp_path / "bare")
    Body, Heads = OURS[family]
    batch = padded_pairs(family)
    whole = Heads.from_pretrained(tmp_path / "heads")
    assert_close(Body.from_pretrained(tmp_path / "heads")(**batch).hidden.data, whole(**batch).hidden.data, 1e-7)
    body = Body.from_pretrained(tmp_path / "bare")
    assert_close(Heads.from_pretrained(tmp_path / "bare")(**batch).hidden.data, body(**batch).hidden.data, 1e-7)
