import numpy as np
import pytest

import tinytensor as tt
from models import (
    ALBERT,
    BERT,
    ALBERTConfig,
    ALBERTForPreTraining,
    BERTConfig,
    BERTForPreTraining,
    DistilBERT,
    DistilBERTConfig,
    DistilBERTForPreTraining,
    RoBERTa,
    RoBERTaConfig,
    RoBERTaForPreTraining,
)
from nn import shapes_only
from tests.helpers import assert_close

SMALL = dict(vocab_size=23, context=12, layers=2, heads=2, width=8, hidden=20, dropout=0.0, attention_dropout=0.0)
MODELS = {
    "bert": BERTForPreTraining(BERTConfig(**SMALL)),
    "roberta": RoBERTaForPreTraining(RoBERTaConfig(**SMALL, pooler=False)),
    "distilbert": DistilBERTForPreTraining(DistilBERTConfig(**SMALL)),
    "albert": ALBERTForPreTraining(ALBERTConfig(**SMALL, embedding_width=6)),
}


def patterned(model):
    """Weights that any program can repeat: 0.2 sin(1, 2, 3, ...), counted on from parameter to parameter."""
    start = 1
    for name, parameter in model.named_parameters():
        wave = 0.2 * np.sin(np.arange(start, start + parameter.size))
        parameter.data[...] = wave.reshape(parameter.shape) + ("norm" in name and name.endswith("weight"))
        start += parameter.size
    model.zero_grad()
    return model


def patterned_batch(family: str) -> dict:
    ids = np.arange(3 * 12).reshape(3, -1) ** 2 % 17 + 5
    mask = np.arange(12) < np.array([[12], [7], [4]])
    types = (np.arange(12) >= 3) * mask if family in ("bert", "albert") else np.zeros((3, 12))
    return {
        "ids": np.where(mask, ids, 1 if family == "roberta" else 0),
        "token_types": types.astype(int),
        "mask": mask,
        "targets": np.where((ids % 3 == 0) & mask, (ids + 7) % 23, -100),
        "next": np.array([0, 1, 1]),
    }


WATCHED = ("embeddings.token.weight", "embeddings.position.weight", "feed_forward.into.weight", "mlm.bias")
# loss, norms of the first watched gradients, sum |hidden|: python -m tests.models.record_bert, in float64
RECORDED = {
    "bert": (3.831866963159357, [1.04222288, 0.08585116, 0.04925036, 0.47419895], 152.8829550143444),
    "roberta": (3.1017601290100174, [1.199958, 0.11277398, 0.03636492, 0.47836656], 164.7406739013875),
    "distilbert": (3.086679587452035, [1.15097497, 0.11813546, 0.03259388, 0.47515587], 169.87208865669578),
    "albert": (3.935474376039647, [1.27028041, 0.12301912, 0.4608829, 0.48583464], 164.58860546382047),
}


@pytest.mark.parametrize("family", MODELS)
def test_loss_gradients_and_vectors_are_the_recorded_ones(family):
    model, batch = patterned(MODELS[family]), patterned_batch(family)
    loss = model.loss(batch)
    loss.backward()
    expected_loss, expected_norms, expected_sum = RECORDED[family]
    np.testing.assert_allclose(loss.item(), expected_loss, rtol=1e-6)  # float32 here, float64 there
    parameters = dict(model.named_parameters())
    watched = [next(name for name in parameters if name.endswith(ending)) for ending in WATCHED]
    np.testing.assert_allclose([np.linalg.norm(parameters[name].grad) for name in watched], expected_norms, rtol=1e-5)
    hidden = model.bert(batch["ids"], batch["token_types"], batch["mask"]).hidden.data[batch["mask"]]
    np.testing.assert_allclose(np.abs(hidden).sum(), expected_sum, rtol=1e-5)


# ---- sizes


@pytest.mark.parametrize(
    "preset, body, with_heads",
    [("tiny", 4_385_920, 4_433_468), ("mini", 11_170_560, 11_267_900), ("small", 28_763_648, 29_058_876),
     ("medium", 41_373_184, 41_668_412), ("base", 109_482_240, 110_106_428), ("large", 335_141_888, 336_226_108)],
)  # fmt: skip
def test_presets_have_the_published_number_of_parameters(preset, body, with_heads):
    with shapes_only():
        assert BERT(BERTConfig.preset(preset)).parameter_count() == body
        assert BERTForPreTraining(BERTConfig.preset(preset)).parameter_count() == with_heads


def test_the_relatives_have_the_published_number_of_parameters():
    with shapes_only():
        large = RoBERTaConfig.preset("large")
        assert RoBERTa(large).parameter_count() == 355_359_744
        without_pooler = RoBERTaConfig.preset("large", pooler=False)
        assert RoBERTaForPreTraining(without_pooler).parameter_count() == 355_412_057
        assert DistilBERT(DistilBERTConfig.preset("base")).parameter_count() == 66_362_880
        assert DistilBERTForPreTraining(DistilBERTConfig.preset("base")).parameter_count() == 66_985_530
        counts = [ALBERT(ALBERTConfig.preset(p)).parameter_count() for p in ("base", "large", "xlarge", "xxlarge")]
        assert counts == [11_683_584, 17_683_968, 58_724_864, 222_595_584]
        assert ALBERTForPreTraining(ALBERTConfig.preset("xxlarge")).parameter_count() == 223_158_450


# ---- what padding, segments and positions do


@pytest.mark.parametrize("family", MODELS)
def test_padding_changes_no_token_and_no_loss(family):
    model = patterned(MODELS[family])
    batch = patterned_batch(family)
    alone = {name: array[1:2, :7] if array.ndim == 2 else array[1:2] for name, array in batch.items()}
    inputs = ("ids", "token_types", "mask")
    together, single = model(*(batch[n] for n in inputs)), model(*(alone[n] for n in inputs))
    assert_close(together.hidden.data[1:2, :7], single.hidden.data, 1e-5)
    rows = [{n: a[i : i + 1] for n, a in batch.items()} for i in range(3)]
    counts = model.counts(batch)
    assert_close(model.loss(batch).item(), sum(model.loss(row, counts).item() for row in rows), 1e-5)


def test_shards_of_a_batch_add_up_to_its_gradient():
    model, batch = patterned(MODELS["bert"]), patterned_batch("bert")
    model.loss(batch).backward()
    whole = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad()
    for shard in (slice(0, 2), slice(2, 3)):
        part = {name: array[shard] for name, array in batch.items()}
        model.loss(part, model.counts(batch)).backward()
    for name, parameter in model.named_parameters():
        assert_close(parameter.grad, whole[name], 1e-6)


def test_the_segment_matters_and_the_first_is_assumed():
    model = patterned(MODELS["bert"]).bert
    ids = patterned_batch("bert")["ids"]
    first, second = model(ids, np.zeros_like(ids)).hidden.data, model(ids, np.ones_like(ids)).hidden.data
    assert_close(model(ids).hidden.data, first, 1e-7)
    assert np.abs(first - second).max() > 0.01


def test_roberta_counts_positions_from_two_and_gives_padding_position_one():
    body = MODELS["roberta"].bert
    assert body.positions(np.array([[7, 8, 9, 1, 1], [7, 1, 1, 1, 1]])).tolist() == [[2, 3, 4, 1, 1], [2, 1, 1, 1, 1]]
    assert body.embeddings.position.weight.shape == (14, 8)


def test_albert_uses_one_layer_over_and_over():
    config = ALBERTConfig(**SMALL | dict(layers=6), groups=2, inner=2)
    stack = ALBERT(config).stack
    assert len(stack) == 12 and len({id(block) for block in stack}) == 4
    assert stack[0] is stack[4] and stack[5] is stack[1] and stack[6] is stack[8] and stack[0] is not stack[6]


def test_a_pooled_vector_is_the_first_tokens_squashed():
    model, batch = patterned(MODELS["bert"]).bert, patterned_batch("bert")
    encoded = model(batch["ids"], batch["token_types"], batch["mask"])
    w, b = model.pooler.weight.data, model.pooler.bias.data
    assert_close(encoded.pooled.data, np.tanh(encoded.hidden.data[:, 0] @ w.T + b), 1e-6)


def test_dropout_acts_in_training_only():
    with tt.random.seeded(0):
        model = BERT(BERTConfig(**SMALL | dict(dropout=0.3, attention_dropout=0.3)))
    ids = patterned_batch("bert")["ids"]
    calm = model.eval()(ids).hidden.data
    assert (model(ids).hidden.data == calm).all()
    assert np.abs(model.train()(ids).hidden.data - calm).max() > 0.1


# ---- files


@pytest.mark.parametrize("family", MODELS)
def test_a_model_comes_back_from_its_folder(family, tmp_path):
    model, batch = patterned(MODELS[family]), patterned_batch(family)
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    want = model.config
    assert again.config == want
    assert again.loss(batch).item() == model.loss(batch).item()
    body = type(model.bert).from_pretrained(tmp_path)
    assert (body(batch["ids"]).hidden.data == model.bert(batch["ids"]).hidden.data).all()


def test_legacy_names_are_understood(tmp_path):
    import safetensors.numpy

    model, batch = patterned(MODELS["bert"]), patterned_batch("bert")
    model.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    arrays = safetensors.numpy.load_file(path)
    older = lambda name: name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
    old = {older(name).removeprefix("bert."): array for name, array in arrays.items()}
    old["embeddings.position_ids"] = np.arange(12)[None]
    old["cls.predictions.decoder.weight"] = arrays["bert.embeddings.word_embeddings.weight"]
    safetensors.numpy.save_file(old, path)
    assert BERTForPreTraining.from_pretrained(tmp_path).loss(batch).item() == model.loss(batch).item()
    assert_close(BERT.from_pretrained(tmp_path)(batch["ids"]).pooled.data, model.bert(batch["ids"]).pooled.data, 0)


def test_a_fine_tuned_models_body_is_read_and_its_head_passed_over(tmp_path):
    import safetensors.numpy

    model, batch = patterned(MODELS["bert"]), patterned_batch("bert")
    model.bert.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    heads = {"classifier.weight": np.ones((3, 8), np.float32), "classifier.bias": np.ones(3, np.float32)}
    safetensors.numpy.save_file(safetensors.numpy.load_file(path) | heads, path)
    with pytest.warns(UserWarning, match="passed over: classifier.bias, classifier.weight"):
        body = BERT.from_pretrained(tmp_path)
    assert (body(batch["ids"]).hidden.data == model.bert(batch["ids"]).hidden.data).all()
    with pytest.warns(UserWarning, match="passed over: classifier.bias, classifier.weight"):
        again = BERTForPreTraining.from_pretrained(tmp_path)
    assert again.untrained == ("mlm", "nsp") and np.isfinite(again.loss(batch).item())


def test_another_familys_folder_is_refused_by_name(tmp_path):
    patterned(MODELS["roberta"]).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="model_type is 'roberta'; this model reads 'bert'"):
        BERT.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "changes, message",
    [(dict(layers=0), "layers must be at least 1, not 0"), (dict(width=9), "width 9 is not divisible by heads 2"),
     (dict(dropout=1.0), r"dropout must be less than 1, not 1.0"),
     (dict(activation="gelo"), "activation must be one of gelu")],
)  # fmt: skip
def test_bad_shapes_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        BERTConfig(**SMALL | changes)


def test_too_long_a_text_is_refused():
    with pytest.raises(ValueError, match="13 tokens are more than the context of 12"):
        MODELS["bert"].bert(np.zeros((1, 13), int))
