import numpy as np
import pytest

import tinytensor as tt
from models import BERT, BERTConfig, DistilBERT, DistilBERTConfig
from tests.helpers import assert_close
from train.tasks.answer import Answerer
from train.tasks.choose import Chooser
from train.tasks.classify import Classifier
from train.tasks.regress import Regressor
from train.tasks.tag import Tagger

SMALL = dict(vocab_size=23, context=12, layers=1, heads=2, width=8, dropout=0.0, attention_dropout=0.0)


def body(pooler: bool = True) -> BERT:
    with tt.random.seeded(3) as draw:
        model = BERT(BERTConfig(**SMALL)) if pooler else DistilBERT(DistilBERTConfig(**SMALL | dict(layers=1)))
    for parameter in model.parameters():
        parameter.data += np.float32(0.3) * draw.standard_normal(parameter.shape, dtype=np.float32)
    return model


def inputs(*shape: int) -> dict:
    ids = np.random.default_rng(0).integers(5, 23, shape)
    mask = np.arange(shape[-1]) < np.array([7, 4, 6])[:, None].reshape(3, *[1] * (len(shape) - 1))
    return {"ids": np.where(mask, ids, 0), "mask": np.broadcast_to(mask, shape), "token_types": np.zeros(shape, int)}


def cases() -> dict:
    tags = np.where(np.arange(7) < np.array([[6], [3], [5]]), np.arange(21).reshape(3, 7) % 4, -100)
    answerable = np.arange(7) % 3 < np.array([[3], [2], [1]])
    return {
        "classifier": (Classifier(body(), 3), inputs(3, 7) | {"label": np.array([2, 0, 1])}, (3, 3)),
        "without a pooler": (Classifier(body(False), 3), inputs(3, 7) | {"label": np.array([2, 0, 1])}, (3, 3)),
        "regressor": (Regressor(body()), inputs(3, 7) | {"score": np.float32([0.5, -1, 2])}, (3,)),
        "tagger": (Tagger(body(), 4), inputs(3, 7) | {"tags": tags}, (3, 7, 4)),
        "answerer": (
            Answerer(body(), 2),
            inputs(3, 7) | {"answerable": answerable, "span": np.array([[1, 2], [3, 4], [0, 0]])},
            (3, 2, 7),
        ),
        "chooser": (Chooser(body()), inputs(3, 2, 7) | {"choice": np.array([1, 0, 1])}, (3, 2)),
    }


@pytest.mark.parametrize("name", cases())
def test_scores_have_their_shape_and_the_loss_is_cross_entropy_or_squared_error(name):
    head, batch, shape = cases()[name]
    head.eval()
    scores = head(batch).data.astype(float)
    assert scores.shape == shape
    if name == "regressor":
        expected = np.mean((scores - batch["score"]) ** 2)
    else:
        target = next(batch[key] for key in ("label", "tags", "span", "choice") if key in batch)
        log_p = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
        picked = np.take_along_axis(log_p, np.maximum(target, 0)[..., None], -1)[..., 0]
        expected = -picked[target != -100].mean()
    assert_close(head.loss(batch).item(), expected, 1e-5)


@pytest.mark.parametrize("name", cases())
def test_shards_of_a_batch_add_up(name):
    head, batch, _ = cases()[name]
    head.eval()
    counts = head.counts(batch)
    parts = [{key: a[rows] for key, a in batch.items()} for rows in (slice(0, 1), slice(1, 3))]
    assert_close(sum(head.loss(part, counts).item() for part in parts), head.loss(batch).item(), 1e-5)


def test_every_parameter_of_body_and_head_learns():
    for name, (head, batch, _) in cases().items():
        head.loss(batch).backward()
        still = [p for p, parameter in head.named_parameters() if parameter.grad is None]
        unused = ["body.pooler.weight", "body.pooler.bias"] if name in ("tagger", "answerer") else []
        assert still == unused


def test_places_outside_the_passage_cannot_be_chosen():
    head, batch, _ = cases()["answerer"]
    scores = head.eval()(batch).data.swapaxes(1, 2)
    assert scores[~batch["answerable"]].max() < -9000 < scores[batch["answerable"]].min()


def test_a_head_over_a_body_without_a_pooler_brings_a_layer():
    with_pooler, without = cases()["classifier"][0], cases()["without a pooler"][0]
    assert with_pooler.dense is None and without.dense.weight.shape == (8, 8)
