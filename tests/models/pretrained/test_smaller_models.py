"""A model that was made smaller, in any way, is written so that `transformers` computes the same, or is refused."""

import json

import numpy as np
import pytest

import tinytensor as tt
from models import (
    BERT,
    GPT,
    T5,
    ALBERTConfig,
    ALBERTForPreTraining,
    BERTConfig,
    BERTForPreTraining,
    DistilBERTConfig,
    DistilBERTForPreTraining,
    ELMo,
    ELMoConfig,
    GPTConfig,
    RoBERTaConfig,
    RoBERTaForPreTraining,
    T5Config,
    XLNet,
    XLNetConfig,
)
from models.pretrained import read_weights
from nn import Attention
from nn.compression import qat
from nn.compression.lora import LoRALinear, add_adapters
from nn.compression.prune import prune, shrink
from nn.compression.quantize import quantize
from nn.compression.surgery import keep_heads
from tests.models.published_elmo import PublishedELMo

IDS = np.random.default_rng(0).integers(2, 41, (3, 9))
BATCH = {"ids": IDS, "targets": IDS}
PLACES = np.arange(6).reshape(3, 2)
PERMUTED = {"ids": IDS, "places": PLACES, "targets": np.take_along_axis(IDS, PLACES, axis=1),
            "sees": np.tril(np.ones((3, 9, 9), bool), -1)}  # from left to right
SMALL = dict(vocab_size=41, context=12, layers=4, heads=4, width=16)
T5_SMALL = dict(vocab_size=41, layers=4, heads=4, head_width=6, width=16, hidden=24)
FAMILIES = {
    "gpt2": lambda: GPT(GPTConfig(**SMALL)),
    "gpt2 without biases": lambda: GPT(GPTConfig(**SMALL, bias=False, tied=False, hidden=20)),
    "openai-gpt": lambda: GPT(GPTConfig(**SMALL, post_norm=True)),
    "bert": lambda: BERTForPreTraining(BERTConfig(**SMALL)),
    "bert body": lambda: BERT(BERTConfig(**SMALL, hidden=24)),
    "roberta": lambda: RoBERTaForPreTraining(RoBERTaConfig(**SMALL, pooler=False)),
    "distilbert": lambda: DistilBERTForPreTraining(DistilBERTConfig(**SMALL)),
    "albert": lambda: ALBERTForPreTraining(ALBERTConfig(**SMALL, embedding_width=8, groups=2, inner=2)),
    "xlnet": lambda: XLNet(XLNetConfig(**SMALL)),
    "t5": lambda: T5(T5Config(**T5_SMALL)),
    "t5 v1.1": lambda: T5(T5Config(**T5_SMALL, decoder_layers=2, gated=True, tied=False, activation="gelu_tanh")),
}


def made(family: str):
    """A model with weights large enough for every part to matter."""
    tt.manual_seed(0)
    model, draw = FAMILIES[family](), np.random.default_rng(1)
    for parameter in model.parameters():
        parameter.data += np.float32(0.2) * draw.standard_normal(parameter.shape, dtype=np.float32)
    return model.eval()


def pruned(what: str, **how):
    return lambda model: prune(model, 0.5, what, **how)


def shrunk(what: str, **how):
    return lambda model: shrink(prune(model, 0.4, what, **how))


def adapted(model, **how):
    add_adapters(model, rank=2, **how)
    for module in model.modules():
        if isinstance(module, LoRALinear):
            module.b.data[...] = np.random.default_rng(2).standard_normal(module.b.shape)


def same_heads(model):
    for attention in model.modules():
        if isinstance(attention, Attention):
            keep_heads(attention, np.array([1, 3]))


def integers(bits: int, **how):
    return lambda model: quantize(model, bits, group=8, **how)


def everything(model):
    for what in ("weights", "layers", "heads", "neurons", "rows"):
        if what == "layers" and isinstance(model, ALBERTForPreTraining):
            continue  # its layers share their parameters
        prune(model, 0.3, what, whole=what != "layers")
    adapted(shrink(model))


WRITTEN = {
    "weights masked": pruned("weights"),
    "2:4": pruned("2:4"),
    "neurons masked": pruned("neurons"),
    "heads masked": pruned("heads"),
    "rows masked": pruned("rows"),
    "neurons gone": shrunk("neurons"),
    "neurons gone unequally": shrunk("neurons", whole=True),
    "heads gone": shrunk("heads"),
    "heads gone unequally": shrunk("heads", whole=True),
    "heads gone alike": same_heads,
    "rows gone": shrunk("rows"),
    "layers gone": pruned("layers"),
    "adapters": lambda model: adapted(model),
    "adapters everywhere": lambda model: adapted(model, layers=["*"]),
    "8-bit weights": integers(8, activations="none"),
    "3-bit weights": integers(3, activations="none", symmetric=False),
    "all of it": everything,
    "all of it, 4-bit weights": lambda model: (everything(model), integers(4, activations="none")(model)),
}
REFUSED = {
    "8-bit weights and inputs": integers(8),
    "4-bit weights, static inputs": lambda model: integers(4, activations="static", batches=[batch_of(model)])(model),
    "trained to be quantized": lambda model: qat.prepare(model, 8, [batch_of(model)]),
    "trained quantized": lambda model: qat.finish(qat.prepare(model, 8, [batch_of(model)])),
    "shrunk, adapted and quantized": lambda model: (everything(model), integers(8)(model)),
}


def batch_of(model) -> dict:
    if isinstance(model, XLNet):
        return PERMUTED
    return BATCH | ({"next": np.array([0, 1, 1])} if not isinstance(model, (GPT, T5)) else {})


def outputs(model) -> list[np.ndarray]:
    """What ours computes."""
    with tt.no_grad():
        if isinstance(model, (GPT, XLNet)):
            return [model(IDS).data]
        if isinstance(model, T5):
            return [model(IDS, IDS[:, :5]).data]
        encoded = model(IDS)
        parts = encoded.hidden, encoded.pooled, encoded.mlm_logits, encoded.nsp_logits
        return [part.data for part in parts if part is not None]


def their_outputs(folder) -> list[np.ndarray]:
    """What `transformers` computes with a folder; all of its parameters must be there."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    name = json.loads((folder / "config.json").read_text())["architectures"][0]
    model, report = getattr(transformers, name).from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    ids = torch.tensor(IDS)
    with torch.no_grad():
        if name.startswith("T5"):
            return [model.eval()(input_ids=ids, decoder_input_ids=ids[:, :5]).logits.numpy()]
        if "GPT" in name or "XLNet" in name:
            return [model.eval()(ids).logits.numpy()]
        found = model.eval()(ids, output_hidden_states=True)
    body = getattr(model, model.base_model_prefix, model)
    pooled = getattr(body(ids), "pooler_output", None)
    heads = ("prediction_logits", "seq_relationship_logits", "sop_logits", "logits")
    parts = [found.hidden_states[-1], pooled, *(getattr(found, head, None) for head in heads)]
    return [part.detach().numpy() for part in parts if part is not None]


def assert_same(got: list[np.ndarray], want: list[np.ndarray]) -> None:
    assert len(got) == len(want)
    for a, b in zip(got, want):
        assert a.shape == b.shape
        assert abs(a - b).max() < 1e-5 * abs(b).max()


CELLS = [(family, how) for family in FAMILIES for how in WRITTEN if (family, how) != ("albert", "layers gone")]


@pytest.mark.parametrize("family, smaller", CELLS)
def test_what_is_written_comes_back_as_the_same_model(family, smaller, tmp_path):
    model = made(family)
    WRITTEN[smaller](model)
    model.save_pretrained(tmp_path)
    assert_same(outputs(type(model).from_pretrained(tmp_path)), outputs(model))


@pytest.mark.parity
@pytest.mark.parametrize("family, smaller", CELLS)
def test_transformers_computes_the_same_with_what_is_written(family, smaller, tmp_path):
    model = made(family)
    WRITTEN[smaller](model)
    model.save_pretrained(tmp_path)
    assert_same(their_outputs(tmp_path), outputs(model))


@pytest.mark.parametrize("smaller", REFUSED)
@pytest.mark.parametrize("family", FAMILIES)
def test_what_rounds_its_inputs_is_refused_and_leaves_nothing_behind(family, smaller, tmp_path):
    model = made(family)
    if isinstance(model, BERT) and ("trained" in smaller or "static" in smaller):
        pytest.skip("a body without heads has no loss to be calibrated by")
    REFUSED[smaller](model)
    with pytest.raises(ValueError, match="rounds what goes into its layers to 8 bits, which no published model does"):
        model.save_pretrained(tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


# ---- sizes


@pytest.mark.parametrize(
    "family, field, want",
    [("gpt2", "n_inner", 38), ("bert", "intermediate_size", 38), ("albert", "intermediate_size", 38),
     ("distilbert", "hidden_dim", 38), ("t5 v1.1", "d_ff", 14)],
)  # fmt: skip
def test_fewer_neurons_are_written_as_a_smaller_size(family, field, want, tmp_path):
    model = shrunk("neurons")(made(family))  # 40% of 64, or of 24
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())[field] == want
    assert sum(array.size for array in read_weights(tmp_path).values()) == model.parameter_count()


@pytest.mark.parametrize("lost, heads", [("heads gone alike", 2), ("heads gone", 4)])
@pytest.mark.parametrize("family", ["t5", "t5 v1.1"])
def test_a_t5_that_kept_the_same_heads_everywhere_is_written_with_fewer_heads(family, lost, heads, tmp_path):
    model = made(family)
    WRITTEN[lost](model)
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["num_heads"] == heads


def test_lost_heads_and_neurons_that_the_config_cannot_say_are_zeros(tmp_path):
    shrunk("heads")(shrunk("neurons")(made("openai-gpt"))).save_pretrained(tmp_path)
    arrays = read_weights(tmp_path)
    assert arrays["transformer.h.0.mlp.c_fc.weight"].shape == (16, 64)
    assert (arrays["transformer.h.0.mlp.c_proj.weight"] == 0).all(axis=1).sum() == 64 - 38
    assert (arrays["transformer.h.0.attn.c_proj.weight"] == 0).all(axis=1).sum() == 2 * 4  # 2 heads of 4


# ---- kinds that know one value only


@pytest.mark.parametrize(
    "model, message",
    [(lambda: DistilBERTForPreTraining(DistilBERTConfig(**SMALL, norm_eps=1e-5)), "has norm_eps 1e-12, not 1e-05"),
     (lambda: RoBERTaForPreTraining(RoBERTaConfig(**SMALL, activation="relu")), "activation gelu, not relu"),
     (lambda: GPT(GPTConfig(**SMALL, window=3)), "a published gpt2 always has window 0, not 3")],
)  # fmt: skip
def test_models_that_the_published_kind_cannot_be_are_refused(model, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        model().save_pretrained(tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


# ---- ELMo

SENTENCES = [["The", "cat", "sat", "."], ["A", "dog"]]
ELMO = ELMoConfig(vocab_size=30, width=16, hidden=24, char_width=4, filters="1x8,2x16", dropout=0.0)


@pytest.mark.parametrize(
    "smaller", ["weights masked", "2:4", "rows gone", "adapters", "8-bit weights", "3-bit weights"]
)
def test_a_smaller_elmo_is_written_as_the_same_model(smaller, tmp_path):
    pytest.importorskip("h5py")
    tt.manual_seed(0)
    model, files = ELMo(ELMO).eval(), (tmp_path / "options.json", tmp_path / "weights.hdf5")
    if smaller == "adapters":
        adapted(model, layers=["*"])
    else:
        WRITTEN[smaller](model)
    want = model(SENTENCES)[0]
    model.save_pretrained(*files)
    again = ELMo.from_pretrained(*files)
    assert_same([layer.data for layer in again(SENTENCES)[0]], [layer.data for layer in want])
    theirs, T = PublishedELMo(*files)(SENTENCES), len(SENTENCES[0])
    assert_same([theirs[0]], [np.stack([layer.data[0, :T] for layer in want])])


def test_an_elmo_that_rounds_its_inputs_is_refused_and_leaves_nothing_behind(tmp_path):
    pytest.importorskip("h5py")
    with pytest.raises(ValueError, match="this ELMo rounds what goes into its layers to 8 bits"):
        quantize(ELMo(ELMO)).save_pretrained(tmp_path / "options.json", tmp_path / "weights.hdf5")
    assert not list(tmp_path.iterdir())


def test_an_elmo_has_no_layers_to_prune():
    with pytest.raises(ValueError, match="this ELMo has no layers to prune"):
        prune(ELMo(ELMO), 0.5, "layers")
