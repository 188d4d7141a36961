"""Switch Transformers and top-2 routing against transformers, with tokens dropped."""

import numpy as np
import pytest

from models import SwitchTransformer
from nn.experts import Router
from tests.helpers import assert_close
from tinytensor import Tensor

pytestmark = pytest.mark.parity
SHAPE = dict(vocab_size=40, d_model=16, d_kv=4, d_ff=24, num_layers=4, num_decoder_layers=4, num_heads=4, num_experts=3,
             num_sparse_encoder_layers=2, num_sparse_decoder_layers=2, decoder_start_token_id=0, dropout_rate=0.0,
             router_jitter_noise=0.0, router_z_loss_coef=0.05, router_aux_loss_coef=0.2)  # fmt: skip


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def theirs(torch, **changes):
    """A model of transformers' with weights that choose clearly, in float64, its norms without their float32."""
    transformers = pytest.importorskip("transformers")
    from transformers.models.switch_transformers import modeling_switch_transformers as modeling

    config = transformers.SwitchTransformersConfig(**(SHAPE | changes))
    torch.manual_seed(0)
    model = modeling.SwitchTransformersForConditionalGeneration(config).double().train()
    for name, parameter in model.named_parameters():
        parameter.data = torch.randn_like(parameter) * (0.3 if "norm" not in name else 0.1) + ("norm" in name)
    model.encoder.embed_tokens.weight = model.decoder.embed_tokens.weight = model.shared.weight
    for module in model.modules():
        if isinstance(module, modeling.SwitchTransformersTop1Router):
            module.dtype = torch.float64
        if isinstance(module, modeling.SwitchTransformersLayerNorm):
            norm = lambda x, own=module: own.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
            module.forward = norm
    return model


def ours(model, folder) -> SwitchTransformer:
    """Ours, read from the folder that theirs writes."""
    model.save_pretrained(folder)
    read = SwitchTransformer.from_pretrained(folder)
    for parameter in read.parameters():
        parameter.data = parameter.data.astype(np.float64)
    return read.train()


def batch_of(rows: int = 3, S: int = 11, T: int = 7) -> dict:
    draw = np.random.default_rng(0)
    ids, targets = draw.integers(2, 40, (rows, S)), draw.integers(2, 40, (rows, T))
    mask = np.arange(S) < np.array([[11], [8], [5]])
    targets[1, 5:] = -100
    return {"ids": np.where(mask, ids, 0), "mask": mask, "targets": targets}


@pytest.mark.parametrize("capacity", [1, 3, 64])
def test_scores_both_losses_and_every_gradient_are_transformers(torch, tmp_path, capacity):
    """The weights go through float32 files, and the shares of tokens are float32 there: so 1e-6, not 1e-14."""
    model = theirs(torch, expert_capacity=capacity)
    own, batch = ours(model, tmp_path), batch_of()
    twin = {name: torch.tensor(array) for name, array in batch.items()}
    for parameter in model.parameters():
        parameter.data = parameter.data.float().double()
    told = model(input_ids=twin["ids"], attention_mask=twin["mask"], labels=twin["targets"], output_router_logits=True)
    told.loss.backward()
    assert_close(own.scores(batch).data, told.logits.detach().numpy(), 1e-6)
    loss = own.loss(batch)
    loss.backward()
    assert loss.item() == pytest.approx(told.loss.item(), rel=1e-6)
    read, written = [], []
    vectors, mask = own.encode(batch["ids"], batch["mask"], read)
    own.decode(np.zeros((3, 7), int), own.memory_of(vectors), mask, loads=written)
    assert any(routing.dropped for routing in read) == (capacity < 11)
    compared = gradients(model, own)
    assert len(compared) == len(list(own.named_parameters()))
    for name, (got, right) in compared.items():
        limit = 1e-5 * max(np.abs(right).max(), 1e-3)
        assert np.abs(got - right).max() < limit, name


def gradients(model, own) -> dict:
    """name -> (our gradient, theirs in our shape), of every parameter."""
    from models.pretrained.switch import names

    theirs = {name: np.zeros(p.shape) if p.grad is None else p.grad.numpy() for name, p in model.named_parameters()}
    table, found = names(own.config.experts), {}
    for name, parameter in own.named_parameters():
        parts, _ = table.published(name)
        found[name] = parameter.grad, np.concatenate([theirs[part] for part in parts])
    return found


ALL = dict(num_sparse_encoder_layers=4, num_sparse_decoder_layers=4)


@pytest.mark.parametrize("shape", [{}, dict(num_layers=2, num_sparse_encoder_layers=1), ALL])
def test_a_folder_of_ours_is_the_same_model_in_transformers(torch, tmp_path, shape):
    transformers = pytest.importorskip("transformers")
    own, batch = ours(theirs(torch, expert_capacity=2, **shape), tmp_path / "theirs").eval(), batch_of()
    own.save_pretrained(tmp_path / "ours")
    again = transformers.SwitchTransformersForConditionalGeneration.from_pretrained(tmp_path / "ours").double().eval()
    twin = {name: torch.tensor(array) for name, array in batch.items()}
    told = again(input_ids=twin["ids"], attention_mask=twin["mask"], labels=twin["targets"])
    assert_close(own.scores(batch).data, told.logits.detach().numpy(), 1e-4)
    for name in ("num_experts", "expert_capacity", "router_aux_loss_coef", "router_jitter_noise", "d_ff"):
        assert vars(again.config)[name] == (SHAPE | dict(expert_capacity=2))[name]


def test_a_table_of_its_own_for_the_output_is_read_and_not_written(torch, tmp_path):
    model = theirs(torch, tie_word_embeddings=False).eval()
    own, batch = ours(model, tmp_path / "theirs").eval(), batch_of()
    twin = {name: torch.tensor(array) for name, array in batch.items()}
    told = model(input_ids=twin["ids"], attention_mask=twin["mask"], labels=twin["targets"])
    assert not own.config.tied
    assert_close(own.scores(batch).data, told.logits.detach().numpy(), 1e-5)
    with pytest.raises(ValueError, match="a published switch_transformers always has tied True, not False"):
        own.save_pretrained(tmp_path / "ours")


def test_what_transformers_writes_is_what_it_reads_of_us(torch, tmp_path):
    """Greedily, with seats for everybody: of one token at a time none is dropped, of a whole text some would be."""
    from models.generate.answers import answer_ids

    model = theirs(torch, expert_capacity=64).eval()
    own, batch = ours(model, tmp_path).eval(), batch_of()
    told = model.generate(torch.tensor(batch["ids"]), attention_mask=torch.tensor(batch["mask"]), max_new_tokens=9,
                          do_sample=False, num_beams=1)  # fmt: skip
    written = answer_ids(own, batch["ids"], batch["mask"], 9)
    for row, right in zip(written, told.numpy()[:, 1:]):
        right = right[: list(right).index(1) + 1] if 1 in right else right
        assert list(row[: len(right)]) == list(right)


@pytest.mark.parametrize("seats", [1, 3, 20])
def test_two_experts_to_a_token_are_those_of_nllbs_router(torch, seats):
    """Before dropping both take their share; where the sum of two is divided by, ours has 1e-9 more."""
    pytest.importorskip("transformers")
    from transformers import NllbMoeConfig
    from transformers.models.nllb_moe.modeling_nllb_moe import NllbMoeTop2Router

    config = NllbMoeConfig(d_model=6, num_experts=4, expert_capacity=seats, second_expert_policy="all",
                           normalize_router_prob_before_dropping=True, router_dtype="float32")  # fmt: skip
    router = NllbMoeTop2Router(config)
    router.dtype = torch.float64
    draw = np.random.default_rng(1)
    x, weight = draw.normal(size=(1, 17, 6)), draw.normal(size=(4, 6))
    own = Router(6, 4, 2, seats=seats)
    own.weight.data = weight
    twin, matrix = torch.tensor(x, requires_grad=True), torch.tensor(weight, requires_grad=True)
    first, gates = router.route_tokens(twin[0] @ matrix.T, torch.float64)
    inputs = Tensor(x, requires_grad=True)
    routing = own(inputs)
    ours = np.zeros((17, 4))
    for expert, gate, place in zip(routing.choices[:, 0], routing.gates.data, routing.places):
        ours[np.arange(17), expert] += np.where(place < 0, 0, gate)
    assert_close(ours, gates.detach().numpy(), 1e-8)
    assert (routing.places[0] >= 0).tolist() == first.sum(dim=1).bool().tolist()
    assert (routing.places < 0).sum() > 0 or seats == 20
    g = draw.normal(size=(17, 4))
    (gates * torch.tensor(g)).sum().backward()
    wanted = np.stack([g[np.arange(17), expert] for expert in routing.choices[:, 0]]) * (routing.places >= 0)
    routing.gates.backward(wanted)
    assert_close(own.weight.grad, matrix.grad.numpy(), 1e-7)
    assert_close(inputs.grad, twin.grad.numpy(), 1e-7)
