"""Models whose numbers are all bfloat16, on the GPU's path: nothing on the way is computed in another type.

CuPy knows this type from ml_dtypes, and its stand-in refuses the functions that CuPy has no bfloat16 form of.
"""

import numpy as np
import pytest

import tinytensor as tt
from models import BERTConfig, BERTForPreTraining
from tests.backend.gpu.test_compression import IDS, elmo, gpt, t5
from tinytensor import ops


def bert():
    config = BERTConfig(vocab_size=23, context=12, layers=1, heads=2, width=16, hidden=32, init_std=0.3, dropout=0.0,
                        attention_dropout=0.0)
    with tt.random.seeded(1):
        model = BERTForPreTraining(config)
    mask = np.arange(9) < np.array([9, 5, 7])[:, None]
    return model, {"ids": IDS, "mask": mask, "targets": np.where(IDS % 3 == 0, IDS, -100), "next": np.array([0, 1, 1])}


@pytest.mark.parametrize("family", [gpt, bert, t5, elmo])
def test_a_models_loss_and_gradients_come_near_those_of_float32(cuda, bfloat16, family):
    losses, gradients = [], []
    for dtype in (np.float32, bfloat16):
        model, batch = family()
        model.to("cuda")
        for parameter in model.parameters():
            parameter.data = parameter.data.astype(dtype)
        loss = model.loss(batch)
        loss.backward()
        assert loss.dtype == np.float32  # losses are added up in float32
        learned = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        assert {grad.dtype for grad in learned.values()} == {np.dtype(dtype)}
        losses.append(loss.item())
        gradients.append(np.concatenate([learned[name].get().astype(np.float64).ravel() for name in sorted(learned)]))
    assert losses[1] == pytest.approx(losses[0], rel=3e-2)
    error = np.linalg.norm(gradients[1] - gradients[0]) / np.linalg.norm(gradients[0])
    assert error < 0.1  # a number has 8 bits, and there are a few layers of rounding


def test_a_place_that_was_chosen_many_times_gets_the_rounded_sum(cuda, bfloat16):
    x = tt.Tensor(cuda.zeros((2, 3), bfloat16), requires_grad=True)
    ops.sum(x[np.ones(1000, int)]).backward()
    assert (x.grad.get().astype(int) == [[0, 0, 0], [1000, 1000, 1000]]).all()  # not 256
