"""Models cut over ranks: at every rank the loss of the whole model, and its part of the whole model's gradients."""

import numpy as np
import pytest

import tinytensor as tt
from models.albert import ALBERTConfig, ALBERTForPreTraining
from models.bert import BERTConfig, BERTForPreTraining
from models.distilbert import DistilBERTConfig, DistilBERTForPreTraining
from models.elmo import ELMo, ELMoConfig
from models.gpt import GPT, GPTConfig
from models.roberta import RoBERTaConfig, RoBERTaForPreTraining
from models.t5 import T5, T5Config
from nn import Attention, Module, shapes_only
from nn.compression.lora import add_adapters
from nn.compression.surgery import keep_heads, stacks
from nn.parallel import cut, plan
from nn.rotary import Rotary
from tests.helpers import assert_close
from tinytensor import Tensor
from tinytensor.distributed import Communicator
from tinytensor.threads import Threads

SHAPE = dict(vocab_size=19, layers=2, heads=4, width=8)
BERTS = dict(SHAPE, context=6, hidden=12, dropout=0.0, attention_dropout=0.0)


def models() -> dict:
    gpt = dict(SHAPE, context=6)
    t5 = dict(SHAPE, head_width=3, hidden=12)
    return {
        "gpt": lambda: GPT(GPTConfig(**gpt)),
        "gpt-1": lambda: GPT(GPTConfig(**gpt, post_norm=True, window=2)),
        "gpt-untied": lambda: GPT(GPTConfig(**gpt, tied=False, bias=False, recompute=True)),
        "gpt-padding": lambda: padded(GPT(GPTConfig(**gpt, tied=False))),
        "gpt-context-19": lambda: GPT(GPTConfig(**dict(gpt, context=19))),  # its positions look like tokens
        "bert": lambda: BERTForPreTraining(BERTConfig(**BERTS)),
        "roberta": lambda: RoBERTaForPreTraining(RoBERTaConfig(**BERTS)),
        "distilbert": lambda: DistilBERTForPreTraining(DistilBERTConfig(**BERTS)),
        "albert": lambda: ALBERTForPreTraining(ALBERTConfig(**BERTS, embedding_width=4)),
        "t5": lambda: T5(T5Config(**t5)),
        "t5-v1.1": lambda: T5(T5Config(**t5, gated=True, tied=False, activation="gelu_tanh")),
        "t5-pruned": lambda: pruned(T5(T5Config(**dict(t5, heads=5)))),
    }


def held(layer: Module) -> Module:
    """A model of one layer."""
    model = Module()
    model.layer = layer
    return model


def padded(model: GPT) -> GPT:
    model.token_embedding.padding_idx = -3  # an id that the batch has
    return model


def pruned(model):
    for blocks in stacks(model):
        for block in blocks:
            keep_heads(block.attention, np.array([0, 1, 3, 4]))
            if block.cross:
                keep_heads(block.cross, np.array([0, 2, 3, 4]))
    return model


def batch_for(model) -> dict:
    draw = np.random.default_rng(1)
    batch = {"ids": draw.integers(0, 19, (3, 6)), "targets": draw.integers(0, 19, (3, 6))}
    batch["targets"][draw.random((3, 6)) < 0.3] = -100
    batch["mask"] = np.arange(6) < np.array([[6], [4], [5]])
    return batch | ({"next": np.array([0, 1, 0])} if isinstance(model, BERTForPreTraining) else {})


def precise(model):
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.astype(np.float64)
            parameter.data += np.random.default_rng(parameter.size).normal(0, 0.1, parameter.shape)
    return model.train()


def losses_and_gradients(model, size: int, loss) -> list[tuple[float, list]]:
    """(loss, gradients) at each of `size` ranks."""
    cuts, answers = plan(model, size), [None] * size

    def work(group):
        own = cut(model, cuts, {"tensor": group})
        value = loss(own)
        value.backward()
        answers[group.rank] = value.item(), [parameter.grad for parameter in own.parameters()]

    Threads(size).run(work)
    return answers


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("name", models())
def test_a_cut_model_has_the_loss_and_the_gradients_of_the_whole(name, size):
    model = precise(models()[name]())
    batch = batch_for(model)
    cuts = plan(model, size)
    value = model.loss(dict(batch))
    value.backward()
    smaller = 0
    for rank, (loss, gradients) in enumerate(losses_and_gradients(model, size, lambda own: own.loss(dict(batch)))):
        assert_close(loss, value.item(), 1e-12)
        for (label, parameter), gradient in zip(model.named_parameters(), gradients, strict=True):
            whole = parameter.grad
            if id(parameter) in cuts:
                one = cuts[id(parameter)]
                whole, smaller = whole.take(one.parts[rank], one.axis), smaller + 1
            if whole is None or gradient is None:
                assert whole is gradient is None, label
            else:
                assert_close(gradient, whole, 1e-11)
    assert smaller >= 7 * size


def test_the_parts_of_all_ranks_are_the_whole_and_no_two_have_the_same():
    model = GPT(GPTConfig(**SHAPE, context=6))
    for parameter, one in ((p, plan(model, 4)[id(p)]) for p in model.parameters() if id(p) in plan(model, 4)):
        assert sorted(np.concatenate(one.parts)) == list(range(parameter.shape[one.axis]))


def test_heads_are_cut_inside_each_of_queries_keys_and_values():
    model = GPT(GPTConfig(**SHAPE, context=6))
    qkv = plan(model, 4)[id(model.blocks[0].attention.qkv.weight)]
    assert qkv.parts[1].tolist() == [2, 3, 10, 11, 18, 19]


@pytest.mark.parametrize("options", [dict(kv_heads=2, rotary=Rotary(4)), dict(memory_width=6), dict(causal=True)])
def test_an_attention_with_fewer_keys_or_a_memory_or_a_mask_for_each_head_is_cut_too(options):
    draw = np.random.default_rng(0)
    layer = precise(held(Attention(16, 4, **options)))
    x, mask = Tensor(draw.standard_normal((2, 5, 16))), draw.random((2, 4, 5, 5)) < 0.8
    memory = Tensor(draw.standard_normal((2, 5, 6))) if "memory_width" in options else None
    bias = Tensor(draw.standard_normal((1, 1, 5, 5)), requires_grad=True)
    loss = lambda own: (own.layer(x, mask, bias, memory=memory) ** 2).sum()
    value = loss(layer)
    value.backward()
    whole, bias.grad = bias.grad, None
    for rank, (one, gradients) in enumerate(losses_and_gradients(layer, 2, loss)):
        assert_close(one, value.item(), 1e-12)
        for parameter, gradient in zip(layer.parameters(), gradients, strict=True):
            where, grad = plan(layer, 2).get(id(parameter)), parameter.grad
            assert_close(gradient, grad.take(where.parts[rank], where.axis) if where else grad, 1e-11)
    assert_close(bias.grad, 2 * whole, 1e-11)  # both threads have added theirs to this one tensor


def test_dropout_outside_the_cut_is_alike_and_inside_each_rank_has_its_own():
    bert = BERTForPreTraining(BERTConfig(**dict(BERTS, dropout=0.3))).train()
    batch = batch_for(bert)

    def loss(model):
        with tt.random.seeded(5):
            return model.loss(dict(batch))

    outside = loss(bert).item()
    for value, _ in losses_and_gradients(bert, 2, loss):
        assert_close(value, outside, 1e-6)
    for module in bert.bert.blocks:
        module.attention.dropout = 0.5
    first, second = losses_and_gradients(bert, 2, loss)
    assert first[0] == second[0] != outside  # the loss is alike still
    for a, b, parameter in zip(first[1], second[1], bert.parameters()):
        if id(parameter) not in plan(bert, 2):
            np.testing.assert_array_equal(a, b)


def test_ranks_draw_different_masks_inside_the_cut():
    model, x = held(Attention(8, 2, dropout=0.5)).train(), Tensor(np.ones((1, 6, 8), np.float32))
    layer = model.layer
    layer.qkv.weight.data[...] = np.tile(layer.qkv.weight.data[:4], (6, 1))  # both heads are the same
    layer.out.weight.data[...] = np.eye(8)
    answers = [None, None]

    def work(group):
        with tt.random.seeded(3):
            own = cut(model, plan(model, 2), {"tensor": group}).layer
            own.out.group = Communicator()  # do not add up
            answers[group.rank] = own(x).data

    Threads(2).run(work)
    assert np.abs(answers[0][..., :4] - answers[1][..., 4:]).max() > 1e-3


def test_a_table_that_is_read_as_a_whole_is_whole():
    body = precise(GPT(GPTConfig(**SHAPE, context=6)))
    scores = body(batch_for(body)["ids"]).data

    def work(group):
        own = cut(body, plan(body, 2), {"tensor": group}).eval()
        assert_close(own.output_table.data, body.output_table.data, 0)
        assert_close(own(batch_for(body)["ids"]).data, scores, 1e-12)

    Threads(2).run(work)


@pytest.mark.parametrize("make, tensor, sentence", [
    (lambda: GPT(GPTConfig(**SHAPE, context=6)), 3, "heads 4 of a layer cannot be shared equally by --tensor 3"),
    (lambda: GPT(GPTConfig(**SHAPE, context=6, hidden=9)), 2, "hidden 9 of a layer cannot be shared equally"),
    (lambda: add_adapters(GPT(GPTConfig(**SHAPE, context=6)), 2), 2, "this GPT has a LoRALinear; leave it out"),
    (lambda: ELMo(ELMoConfig(vocab_size=9, layers=1, hidden=8, width=4)), 2, "this ELMo has neither; leave it out"),
])  # fmt: skip
def test_models_that_cannot_be_cut_are_refused_in_a_sentence(make, tensor, sentence):
    with pytest.raises(ValueError, match=sentence):
        plan(make(), tensor)


def test_the_parts_of_published_models_are_counted_without_memory():
    """Megatron-LM's 8.3 billion over 8 and Turing-NLG's 17 billion over 4 (the table filled up to 128 a rank)."""
    for ranks, shape in ((8, dict(layers=72, heads=32, width=3072, vocab_size=51200)),
                         (4, dict(layers=78, heads=28, width=4256, vocab_size=50688))):  # fmt: skip
        with shapes_only():
            model = GPT(GPTConfig(context=1024, **shape))
            group = Communicator(ranks)
            own = cut(model, plan(model, ranks), {"tensor": group})
        C, L, V = shape["width"], shape["layers"], shape["vocab_size"]
        alike = 1024 * C + L * (4 * C + 2 * C) + 2 * C  # positions, norms, biases of the second products
        assert model.parameter_count() == alike + V * C + L * (12 * C * C + 7 * C)
        assert own.parameter_count() == alike + (V * C + L * (12 * C * C + 7 * C)) // ranks
