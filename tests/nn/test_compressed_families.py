"""Every family can be pruned, shrunk and quantized, and its file gives back what it computed."""

import copy

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
    ELMo,
    ELMoConfig,
    GPTConfig,
    T5Config,
)
from nn import LSTM
from nn.compression import storage
from nn.compression.prune import prune, shrink
from nn.compression.quantize import Quantized, QuantizedLSTM, quantize
from tests.helpers import assert_close
from train.tasks.classify import Classifier

IDS = np.random.default_rng(0).integers(2, 23, (3, 9))


def t5(**changes):
    shape = dict(vocab_size=23, layers=2, heads=4, head_width=4, width=16, hidden=24)
    return T5(T5Config(**shape | changes)), {"ids": IDS, "targets": IDS[:, :6], "mask": IDS > 4}


def gpt(**changes):
    shape = dict(vocab_size=23, context=9, layers=2, heads=4, width=16, init_std=0.3)
    return GPT(GPTConfig(**shape | changes)), {"ids": IDS, "targets": IDS}


def bert():
    model = BERTForPreTraining(BERTConfig(vocab_size=23, context=9, layers=2, heads=4, width=16, init_std=0.3))
    return model, {"ids": IDS, "mask": IDS > 4, "targets": np.where(IDS > 12, IDS, -100), "next": np.array([0, 1, 1])}


def albert():
    shape = dict(vocab_size=23, context=9, layers=3, heads=4, width=16, embedding_width=8, init_std=0.3)
    return ALBERTForPreTraining(ALBERTConfig(**shape)), bert()[1]


def classifier():
    body = bert()[0].body
    return Classifier(body, 3), {"ids": IDS, "mask": IDS > 4, "label": np.array([0, 2, 1])}


FAMILIES = {
    "gpt": gpt,
    "gpt-1": lambda: gpt(post_norm=True),
    "t5": t5,
    "t5-v1.1": lambda: t5(gated=True, tied=False, activation="gelu_tanh"),
    "bert": bert,
    "albert": albert,
    "classifier": classifier,
}


@pytest.fixture(params=FAMILIES)
def family(request):
    """Two different models of one shape, and a batch."""
    tt.manual_seed(1)
    model, batch = FAMILIES[request.param]()
    other, _ = FAMILIES[request.param]()
    return model, other, batch


def loss(model, batch) -> float:
    with tt.no_grad():
        return model.eval().loss(batch).item()


@pytest.mark.parametrize("by", ["magnitude", "gradient", "activation"])
def test_shrinking_changes_the_size_and_not_the_loss(family, by):
    model, other, batch = family
    for what in ("heads", "neurons"):
        prune(model, 0.4, what, by, whole=True, batches=[batch])
    masked, count = loss(model, batch), model.parameter_count()
    shrink(model)
    assert loss(model, batch) == pytest.approx(masked, abs=1e-5)
    assert model.parameter_count() < 0.85 * count
    storage.load(other, storage.state(model))
    assert loss(other, batch) == loss(model, batch)


@pytest.mark.parametrize(("bits", "tolerance"), [(8, 0.01), (4, 0.15)])
def test_integers_lose_little_and_come_back_from_the_file(family, bits, tolerance):
    model, other, batch = family
    before, bytes_before = loss(model, batch), sum(p.data.nbytes for p in model.parameters())
    quantize(model, bits, group=8)
    assert loss(model, batch) == pytest.approx(before, rel=tolerance)
    assert sum(isinstance(module, Quantized) for module in model.modules()) > 8
    assert sum(p.data.nbytes for p in model.parameters()) < 0.6 * bytes_before
    storage.load(other, storage.state(model))
    assert loss(other, batch) == loss(model, batch)


def test_layers_go_from_every_stack(family):
    model, other, batch = family
    if isinstance(model, ALBERTForPreTraining):  # its one block is every layer
        with pytest.raises(ValueError, match="this ALBERTForPreTraining has no layers to prune"):
            prune(model, 0.5, "layers")
        return
    prune(model, 0.5, "layers", "activation", batches=[batch])
    body = getattr(model, "body", model)
    assert body.config.layers == 1
    assert model.parameter_count() < other.parameter_count()
    again = Classifier(BERT(body.config), 3) if isinstance(model, Classifier) else type(model)(model.config)
    storage.load(again, storage.state(model))
    assert loss(again, batch) == loss(model, batch)


def test_a_shrunk_and_quantized_t5_decodes_step_by_step_what_it_computes_at_once():
    tt.manual_seed(1)
    model, batch = t5()
    for what in ("heads", "neurons"):
        prune(model, 0.4, what, whole=True)
    for each in (shrink(model), quantize(copy.deepcopy(model))):
        cache = each.new_cache(3, 7, source=IDS, source_mask=batch["mask"])
        outputs = batch["targets"]
        at_once = each(IDS, outputs, batch["mask"]).data
        for position in range(outputs.shape[1]):
            scores = each.step(outputs[:, position : position + 1], cache)
            assert_close(scores, at_once[:, position], 0.02)


def test_an_elmo_in_integers_or_with_masked_weights_comes_back_from_its_file():
    config = ELMoConfig(vocab_size=30, width=16, hidden=24, char_width=4, filters="1x8,2x16", dropout=0.0)
    tt.manual_seed(1)
    model = ELMo(config)
    sentences = [["The", "cat", "sat", "."], ["A", "dog"]]
    characters = model.tokenizer.encode_batch(sentences)
    targets = np.arange(characters.shape[0] * characters.shape[1]).reshape(characters.shape[:2])
    batch = {"ids": characters, "back_ids": characters, "targets": targets, "back_targets": targets[::-1].copy()}
    before = model.eval()(sentences)[0][-1].data
    for bits, tolerance in ((8, 0.02), (4, 0.3)):
        small = quantize(copy.deepcopy(model), bits, group=8)
        assert sum(isinstance(module, QuantizedLSTM) for module in small.modules()) == 4
        after = small(sentences)[0][-1].data
        assert 0 < np.abs(after - before).mean() < tolerance * np.abs(before).mean()
        assert loss(small, batch) == pytest.approx(loss(model, batch), rel=tolerance)
        again = ELMo(config)
        storage.load(again, storage.state(small))
        assert_close(again.eval()(sentences)[0][-1].data, after, 0)
        assert loss(again, batch) == loss(small, batch)
    prune(model, 0.6)
    assert all((p.data == 0).mean() > 0.55 for m in model.modules() if isinstance(m, LSTM)
               for p in m.parameters() if p.ndim == 2)  # fmt: skip
    again = ELMo(config)
    storage.load(again, storage.state(model))
    assert_close(again.eval()(sentences)[0][-1].data, model(sentences)[0][-1].data, 0)
