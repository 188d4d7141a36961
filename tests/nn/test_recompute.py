import gc
import tracemalloc

import numpy as np
import pytest

import tinytensor as tt
from models import GPT, GPTConfig
from tests.models.test_gpt import some_ids

SHAPE = dict(vocab_size=31, context=24, layers=3, heads=2, width=16, init_std=0.3)


def gradients(model: GPT, ids) -> tuple[float, list]:
    tt.manual_seed(5)
    loss = model.loss({"ids": ids, "targets": ids[:, ::-1].copy(), "mask": None})
    loss.backward()
    return loss.item(), [parameter.grad for parameter in model.parameters()]


@pytest.mark.parametrize("more", [{}, {"dropout": 0.2}, {"post_norm": True}, {"rotary": 100.0}, {"window": 5},
                                  {"experts": 2, "dropout": 0.1}], ids=str)  # fmt: skip
def test_a_model_that_runs_its_blocks_again_learns_the_same_bit_for_bit(more):
    found = []
    for recompute in (False, True):
        with tt.random.seeded(1):
            model = GPT(GPTConfig(**SHAPE, **more, recompute=recompute))
        found.append(gradients(model, some_ids(model.config, 2)))
    assert found[0][0] == found[1][0]
    for kept, again in zip(found[0][1], found[1][1]):
        # the kernel sums the same products in the same order, but for attention's row sums, which it keeps or not
        np.testing.assert_allclose(again, kept, rtol=1e-5, atol=1e-7)


def test_what_a_layer_more_keeps_is_its_input_alone():
    def kept(layers: int, recompute: bool) -> float:
        shape = SHAPE | dict(layers=layers, context=512, width=32)
        model, ids = GPT(GPTConfig(**shape, recompute=recompute)), np.zeros((2, 512), int)
        gc.collect()
        tracemalloc.start()
        try:
            loss = model.loss({"ids": ids, "targets": ids})
            return tracemalloc.get_traced_memory()[0] / (2 * 512 * 32 * loss.data.nbytes)  # in vectors of the stream
        finally:
            tracemalloc.stop()

    assert kept(6, True) - kept(2, True) < 4 * 1.2
    assert kept(6, False) - kept(2, False) > 4 * 20
