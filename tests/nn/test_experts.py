"""Mixtures of experts: who gets which seat, what a token gets, and what goes back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinytensor as tt
from models import GPT, T5, GPTConfig, SwitchConfig, SwitchTransformer, T5Config
from nn.compression import quantize
from nn.compression.prune import prune, shrink
from nn.compression.surgery import keep_layers
from nn.experts import ExpertBlock, Experts, Networks, Router, plain_experts, take_seats
from nn.module import shapes_only
from nn.watch import observe, watch
from tests.helpers import assert_close, seeds, tensor
from tinytensor import Tensor, gradcheck, ops

C, F = 5, 7


def layer_of(E: int, top: int = 1, seed: int = 0, **how) -> Experts:
    """A layer in float64 whose router chooses clearly."""
    layer, draw = Experts(Router(C, E, top, **how), Networks(E, C, F)), np.random.default_rng(seed)
    for parameter in layer.parameters():
        parameter.data = draw.normal(size=parameter.shape)
    return layer


def weights(layer: Experts) -> list[np.ndarray]:
    """As plain_experts takes them."""
    E, networks = len(layer.router.weight), layer.networks
    into, out = networks.into.weight.data.reshape(E, F, C), networks.out.weight.data.reshape(E, C, F)
    return [layer.router.weight.data, into, out]


# ---- one token


@given(top=st.sampled_from([1, 2]), in_turn=st.booleans(), E=st.integers(1, 5), seats=st.integers(1, 8),
       B=st.integers(1, 3), T=st.integers(1, 8), seed=seeds)  # fmt: skip
def test_all_at_once_is_what_is_told_of_one_token_after_another(top, in_turn, E, seats, B, T, seed):
    layer, x = layer_of(E, top, seed, seats=seats, in_turn=in_turn), tensor(B, T, C, seed=seed)
    y, _ = layer(x)
    assert_close(y.data, plain_experts(x.data, *weights(layer), seats, min(top, E), in_turn), 1e-11)


def test_a_dropped_token_gets_nothing_and_gives_nothing_back():
    layer, x = layer_of(3, seats=1), tensor(2, 6, C)
    y, routing = layer(x)
    dropped = (routing.places[0] < 0).reshape(2, 6)
    assert 0 < routing.dropped == dropped.mean()
    y.sum().backward()
    assert (y.data[dropped] == 0).all() and (x.grad[dropped] == 0).all()
    assert (np.abs(y.data[~dropped]).max(axis=-1) > 0).all()


def test_the_order_of_the_experts_means_nothing():
    for top in (1, 2):
        layer, twin, x = layer_of(4, top, seats=3), layer_of(4, top, seats=3), tensor(3, 9, C)
        order = np.array([2, 0, 3, 1])
        twin.router.weight.data = layer.router.weight.data[order]
        for mine, other in zip((twin.networks.into, twin.networks.out), (layer.networks.into, layer.networks.out)):
            mine.weight.data = other.weight.data.reshape(4, -1, other.weight.shape[1])[order].reshape(mine.weight.shape)
        (y, mine), (z, other) = layer(x), twin(x)
        assert_close(z.data, y.data, 1e-13)
        assert 0 < mine.dropped == other.dropped


# ---- seats


@given(top=st.sampled_from([1, 2]), in_turn=st.booleans(), E=st.integers(1, 6), seats=st.integers(1, 9),
       B=st.integers(1, 4), T=st.integers(1, 12), seed=seeds)  # fmt: skip
def test_no_expert_has_more_than_its_seats_and_nobody_shares_one(top, in_turn, E, seats, B, T, seed):
    choices = np.random.default_rng(seed).random((B, T, E)).argsort(axis=-1)[..., :top].transpose(2, 0, 1)
    places, (experts, S), filled = take_seats(choices, E, seats, in_turn)
    seated = places >= 0
    taken = places[seated]
    assert experts == E and len(set(taken.tolist())) == len(taken) and places.max() < E * S
    assert (taken // S == choices.reshape(len(choices), -1)[seated]).all()
    assert filled.tolist() == np.bincount(taken // S, minlength=E).tolist() and S == max(1, filled.max())
    assert (taken % S < filled[taken // S]).all()  # without gaps
    for row in range(B):
        mine, wanted = seated.reshape(-1, B, T)[:, row], choices[:, row]
        for e in range(E):  # a seat is free only where nobody was sent away
            assert (mine & (wanted == e)).sum() == min(seats, (wanted == e).sum())


def test_first_choices_come_before_second_ones_or_tokens_in_turn():
    choices = np.array([[[0, 1, 1]], [[1, 0, 0]]])  # (k, B, T): one row of three tokens, two experts
    firsts, _, _ = take_seats(choices, 2, 1)
    assert (firsts >= 0).tolist() == [[True, True, False], [False, False, False]]
    turns, _, _ = take_seats(choices, 2, 1, in_turn=True)
    assert (turns >= 0).tolist() == [[True, False, False], [True, False, False]]


def test_seats_are_reckoned_from_the_factor_or_fixed():
    router = Router(C, 8, 1, factor=1.25, eval_factor=2.0)
    assert router.seats_for(128) == 20 and router.eval().seats_for(128) == 32
    assert Router(C, 8, 2).seats_for(128) == 40
    assert router.seats_for(10) == 4 and router.seats_for(3) == 3
    assert Router(C, 8, seats=64).seats_for(128) == 64 and Router(C, 8, seats=64).seats_for(5) == 5


@pytest.mark.parametrize("E", [2, 8, 64])
def test_the_gathered_rows_do_not_grow_with_the_number_of_experts(E):
    """They are at most factor x tokens, and a token's row is multiplied once, however many experts there are."""
    layer, rows = Experts(Router(C, E, factor=1.25), Networks(E, C, F)), []
    see = lambda networks, arguments, result: rows.append((arguments[0].shape, int(arguments[1].sum())))
    with watch([layer.networks], see):
        layer(Tensor(np.random.default_rng(0).normal(size=(4, 512, C)).astype(np.float32)))
    ((shape, filled),) = rows
    assert shape[0] * shape[1] <= 1.25 * 4 * 512 and filled <= 4 * 512


# ---- gradients


@pytest.mark.parametrize("top, in_turn", [(1, False), (2, False), (2, True)])
def test_gradients_are_those_of_differences_where_no_choice_is_close(top, in_turn):
    """Of the output, the shares' balance and the size of the scores together; some tokens are dropped."""
    layer, x = layer_of(3, top, seats=top, in_turn=in_turn, seed=3), tensor(2, 5, C, seed=4)
    _, routing = layer(x)
    ordered = np.sort(routing.p.data, axis=-1)
    assert (ordered[..., 1:] - ordered[..., :-1]).min() > 1e-3  # a step of 1e-6 changes no choice
    assert (routing.places < 0).any()
    parameters = layer.router.weight, layer.networks.into.weight, layer.networks.out.weight

    def computed(x, *values):
        for owner, value in zip((layer.router, layer.networks.into, layer.networks.out), values):
            owner.weight = value
        y, routing = layer(x)
        shares, p = routing.use
        return y.sum() + (p * shares).sum() * 3 + routing.size.sum()

    gradcheck(computed, [x, *(Tensor(parameter.data, requires_grad=True) for parameter in parameters)])


def test_the_router_learns_through_the_gate_alone():
    """dscores = (dy . expert(x)) * gate * (one hot - p) for the tokens that are seated, 0 for the others."""
    layer, x = layer_of(3, seats=2), tensor(1, 7, C)
    y, routing = layer(x)
    g = np.random.default_rng(0).normal(size=y.shape)
    y.backward(g)
    p, seated = routing.p.data[0], routing.places[0] >= 0
    gate = routing.gates.data[0]
    answers = y.data[0] / gate[:, None]
    one_hot = np.eye(3)[routing.choices[0, 0]]
    scores = ((g[0] * answers).sum(axis=1) * gate * seated)[:, None] * (one_hot - p)
    assert_close(layer.router.weight.grad, scores.T @ x.data[0], 1e-12)


def test_an_expert_nobody_chose_has_a_gradient_of_zeros():
    layer, x = layer_of(3), tensor(1, 4, C)
    layer.router.weight.data = np.zeros((3, C))  # all to the first
    layer(x)[0].sum().backward()
    gradient = layer.networks.into.weight.grad.reshape(3, F, C)
    assert np.abs(gradient[0]).max() > 0 and (gradient[1:] == 0).all()


@given(k=st.integers(1, 2), N=st.integers(1, 6), E=st.integers(1, 3), S=st.integers(1, 4), seed=seeds)
def test_the_ops_have_the_gradients_of_differences(k, N, E, S, seed):
    places = np.full(k * N, -1)
    free = np.random.default_rng(seed).permutation(E * S)[: k * N]
    places[: len(free)] = free
    places = np.random.default_rng(seed).permutation(places).reshape(k, N)
    filled = np.random.default_rng(seed).integers(0, S + 1, E)
    rows = np.arange(S) < filled[:, None]
    x = Tensor(tensor(E, S, 3, seed=seed).data * rows[..., None])
    gradcheck(lambda x: ops.dispatch(x, places, (E, S)), [tensor(N, 3, seed=seed)])
    gradcheck(lambda y, gates: ops.combine(y, gates, places), [tensor(E, S, 3, seed=seed), tensor(k, N, seed=seed)])
    gradcheck(lambda w: ops.expert_linear(x, w, filled), [tensor(E * 2, 3, seed=seed)])
    x = Tensor(x.data, requires_grad=True)
    y = ops.expert_linear(x, weight := tensor(E * 2, 3, seed=seed), filled)
    g = np.random.default_rng(seed).normal(size=y.shape) * rows[..., None]
    y.backward(g)
    assert_close(y.data, np.einsum("esk,emk->esm", x.data, weight.data.reshape(E, 2, 3)), 1e-12)
    assert_close(x.grad, np.einsum("esm,emk->esk", g, weight.data.reshape(E, 2, 3)), 1e-12)


def test_the_ops_name_what_does_not_fit():
    x, places = tensor(4, 3), np.zeros((1, 4), int)
    with pytest.raises(ValueError, match=r"dispatch: places must be integers \(k, 4\), not int64 \(1, 3\)"):
        ops.dispatch(x, places[:, :3], (2, 2))
    with pytest.raises(ValueError, match=r"dispatch: place 7 is outside the 4 seats \(0\.\.3; -1: none\)"):
        ops.dispatch(x, places + 7, (2, 2))
    with pytest.raises(ValueError, match="there are no seats"):
        ops.dispatch(x, places - 1, (2, 0))
    with pytest.raises(ValueError, match=r"x \(2, 4, 3\) = \(E, S, K\) and weight \(5, 3\) = \(E \* M, K\)"):
        ops.expert_linear(tensor(2, 4, 3), tensor(5, 3), np.zeros(2, int))
    with pytest.raises(ValueError, match="float64 and float32 do not mix"):
        ops.combine(tensor(2, 2, 3), tensor(1, 4).astype(np.float32), places)


# ---- what is added to the loss


def test_the_balance_is_1_where_loads_are_equal_and_E_where_one_expert_has_all():
    config = GPTConfig(experts=4, balance=1.0, z_loss=0.0)
    router = Router(4, 4)
    router.weight.data = np.eye(4) * 50
    even = router(Tensor(np.eye(4)[None].repeat(3, axis=0)))  # every token to an expert of its own
    assert config.penalty([even], counts={"rows": 3}).item() == pytest.approx(1)
    alone = router(Tensor(np.eye(4)[None, :1].repeat(5, axis=1).repeat(3, axis=0)))
    assert config.penalty([alone], counts={"rows": 3}).item() == pytest.approx(4)
    assert config.penalty([alone, even], counts={"rows": 3}).item() == pytest.approx(4 + 1)


def test_of_a_stack_as_a_whole_unequal_loads_of_two_blocks_cancel():
    router = Router(2, 2)
    router.weight.data = np.eye(2) * 50
    one, other = (router(Tensor(np.eye(2)[None, n : n + 1].repeat(6, axis=1))) for n in (0, 1))
    each = GPTConfig(experts=2, balance=1.0, z_loss=0.0)
    whole = GPTConfig(experts=2, balance=1.0, z_loss=0.0, balance_over="stack")
    assert each.penalty([one, other], counts={"rows": 1}).item() == pytest.approx(4)
    assert whole.penalty([one, other], counts={"rows": 1}).item() == pytest.approx(1)
    assert whole.penalty([one], [other], counts={"rows": 1}).item() == pytest.approx(4)  # two stacks


def tiny_gpt(**changes) -> GPT:
    shape = dict(vocab_size=20, context=12, layers=2, heads=2, width=8, init_std=0.3, experts=3, jitter=0.0)
    return double(GPT(GPTConfig(**shape | changes)))


def tiny_switch(**changes) -> SwitchTransformer:
    shape = dict(vocab_size=20, layers=2, heads=2, head_width=4, width=8, hidden=16, experts=3, jitter=0.0)
    return double(SwitchTransformer(SwitchConfig(**shape | changes)))


def double(model):
    draw = np.random.default_rng(5)
    for name, parameter in model.named_parameters():
        parameter.data = parameter.data.astype(np.float64)
        if "router" in name:
            parameter.data = draw.normal(size=parameter.shape)
    return model


def batch_of(rows: int = 4, T: int = 12) -> dict:
    ids = np.random.default_rng(1).integers(2, 20, (rows, T + 1))
    return {"ids": ids[:, :-1], "targets": ids[:, 1:]}


@pytest.mark.parametrize("top", [1, 2])
@pytest.mark.parametrize("make", [tiny_gpt, tiny_switch])
def test_losses_and_gradients_of_parts_of_a_batch_add_up_to_the_whole(make, top):
    """So workers that share a batch, and batches whose gradients are added up, compute what one does."""
    model, batch = make(top=top, balance=0.5, z_loss=0.3, capacity=3), batch_of()
    whole = model.loss(batch)
    whole.backward()
    wanted = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()
    parts = [{name: array[rows] for name, array in batch.items()} for rows in ([0], [1, 2, 3])]
    losses = [model.loss(part, model.counts(batch)) for part in parts]
    for loss in losses:
        loss.backward()
    assert sum(loss.item() for loss in losses) == pytest.approx(whole.item(), rel=1e-12)
    for name, parameter in model.named_parameters():
        assert_close(parameter.grad, wanted[name], 1e-12)


def test_in_evaluation_the_loss_is_what_the_model_predicts_and_nothing_else():
    model, batch = tiny_gpt(balance=0.5, capacity=12), batch_of()
    trained = model.loss(batch).item()
    own = model.eval().loss(batch).item()
    routings = []
    observe(model, [batch], [model.blocks[1].feed_forward], lambda layer, arguments, result: routings.append(result[1]))
    added = model.config.penalty(routings, counts={"rows": 4}).item()
    assert trained == pytest.approx(own + added, rel=1e-12) and added > 0.5


# ---- in models


def test_which_blocks_have_a_mixture():
    for every, blocks in ((2, [1, 3]), (1, [0, 1, 2, 3]), (3, [1])):
        for model in (tiny_gpt(layers=4, every=every), tiny_switch(layers=4, every=every).decoder):
            assert [n for n, block in enumerate(model.blocks) if isinstance(block, ExpertBlock)] == blocks


@pytest.mark.parametrize("post_norm", [False, True])
@pytest.mark.parametrize("top", [1, 2])
def test_no_token_of_a_gpt_knows_of_later_ones_though_seats_are_few(top, post_norm):
    model, ids = tiny_gpt(top=top, capacity=1, post_norm=post_norm, layers=4).eval(), batch_of()["ids"]
    whole = model(ids).data
    for T in range(1, 12):
        assert_close(model(ids[:, :T]).data, whole[:, :T], 1e-12)


def test_a_gpt_writes_what_it_would_read_if_there_are_seats():
    model, ids = tiny_gpt(top=2, capacity=12).eval(), batch_of()["ids"]
    cache, whole = model.new_cache(4, 12), model(ids).data
    assert_close(model.step(ids[:, :5], cache), whole[:, 4], 1e-12)
    for t in range(5, 12):
        assert_close(model.step(ids[:, t : t + 1], cache), whole[:, t], 1e-12)


def test_a_t5_with_experts_is_a_switch_transformer():
    shape = dict(vocab_size=20, layers=2, heads=2, head_width=4, width=8, hidden=16, experts=3)
    t5, switch = T5(T5Config(**shape)), SwitchTransformer(SwitchConfig(**shape))
    switch.load_state_dict(t5.state_dict())
    batch = batch_of()
    np.testing.assert_array_equal(t5.eval().scores(batch).data, switch.eval().scores(batch).data)


def test_what_is_shaken_in_training_is_what_the_router_reads():
    layer, x = layer_of(4, jitter=0.3), tensor(2, 8, C)
    seen = []
    with tt.random.seeded(1), watch([layer.networks], lambda networks, arguments, result: seen.append(arguments[0])):
        _, shaken = layer(x)
        _, calm = layer.eval()(x)
    assert np.abs(shaken.p.data - calm.p.data).max() > 0.01
    scores = x.data @ layer.router.weight.data.T
    assert_close(calm.scores.data, scores, 1e-12)
    most = 0.3 * (np.abs(x.data) @ np.abs(layer.router.weight.data).T)
    assert (np.abs(shaken.scores.data - scores) <= most).all()
    kept = seen[0].data.reshape(-1, C)
    assert all((np.abs(kept - row).max(axis=1) < 1e-12).any() for row, place in zip(
        x.data.reshape(-1, C), shaken.places[0]) if place >= 0)  # fmt: skip


def test_experts_have_a_dropout_of_their_own():
    layer = Experts(Router(C, 2), Networks(2, C, F, dropout=0.5))
    x = Tensor(np.ones((1, 6, C), np.float32))
    first, second = (layer(x)[0].data for _ in range(2))
    assert np.abs(first - second).max() > 0
    layer.eval()
    np.testing.assert_array_equal(layer(x)[0].data, layer(x)[0].data)


def test_the_router_computes_in_32_bits_where_the_model_has_16():
    router = Router(C, 3)
    router.weight.data = router.weight.data.astype(np.float16)
    routing = router(Tensor(np.ones((1, 4, C), np.float16)))
    assert routing.scores.dtype == routing.p.dtype == routing.gates.dtype == np.float32


def test_gated_experts_multiply_two_projections():
    networks, draw = Networks(2, C, F, activation="gelu", gated=True), np.random.default_rng(0)
    for parameter in networks.parameters():
        parameter.data = draw.normal(size=parameter.shape)
    x = tensor(2, 3, C)
    matrix = lambda layer, e: layer.weight.data.reshape(2, -1, layer.weight.shape[1])[e]
    y = networks(x, np.array([3, 3]))
    for e in range(2):
        gate = ops.gelu(Tensor(x.data[e] @ matrix(networks.gate, e).T)).data
        want = (gate * (x.data[e] @ matrix(networks.into, e).T)) @ matrix(networks.out, e).T
        assert_close(y.data[e], want, 1e-11)
    with pytest.raises(ValueError, match="unknown activation 'swish'"):
        Networks(2, C, F, activation="swish")


# ---- made smaller, and written


def mixed(**changes) -> SwitchTransformer:
    """In float32, with one dense network and one mixture in each stack."""
    with tt.random.seeded(3):
        shape = dict(vocab_size=40, layers=2, heads=2, head_width=4, width=16, hidden=32, experts=3, capacity=8)
        return SwitchTransformer(SwitchConfig(**shape | changes)).eval()


def test_neurons_go_from_the_dense_networks_and_the_folder_has_the_experts_size(tmp_path):
    model, batch = mixed(), batch_of()
    small = shrink(prune(model, 0.5, "neurons"))
    assert small.encoder.blocks[0].feed_forward.into.weight.shape == (16, 16)
    assert small.encoder.blocks[1].feed_forward.networks.into.weight.shape == (3 * 32, 16)
    small.save_pretrained(tmp_path)
    again = SwitchTransformer.from_pretrained(tmp_path)
    assert again.config.hidden == 32
    assert_close(again.scores(batch).data, small.scores(batch).data, 1e-5)
    with pytest.raises(ValueError, match="has no neurons to prune"):
        prune(mixed(every=1), 0.5, "neurons")


def test_weights_of_experts_are_pruned_and_their_use_is_not_seen():
    model = mixed()
    prune(model, 0.75, "weights", "gradient", batches=[batch_of()])
    mask = model.decoder.blocks[1].feed_forward.networks.out.weight.mask
    assert mask.mean() == pytest.approx(0.25, abs=0.01)
    assert model.decoder.blocks[1].feed_forward.router.weight.mask is None
    with pytest.raises(ValueError, match="LSTMs and experts do not"):
        prune(mixed(), 0.5, "weights", "activation", batches=[batch_of()])


def test_routers_stay_floats_and_experts_become_integers():
    model, batch = mixed(), batch_of()
    right = model.scores(batch).data
    quantize(model, 8, activations="dynamic")
    network = model.encoder.blocks[1].feed_forward
    assert network.router.weight.dtype == np.float32 and network.networks.into.codes.dtype == np.int8
    dense = model.encoder.blocks[0].feed_forward
    assert network.networks.into.input_scale is None and dense.into.input_scale is not None
    assert np.abs(model.scores(batch).data - right).max() < 0.1 * np.abs(right).max()


def test_layers_go_where_the_config_can_still_say_which_have_a_mixture():
    model = mixed(layers=4)
    with pytest.raises(ValueError, match="has no layers 1, 2 that go alone"):
        keep_layers(model, [(model.encoder.blocks, [0, 1]), (model.decoder.blocks, [1, 2])])
    assert len(model.encoder.blocks) == model.config.layers == 4  # nothing was done
    keep_layers(model, [(model.encoder.blocks, [2, 3]), (model.decoder.blocks, [0, 3])])
    again = SwitchTransformer(model.config)
    again.load_state_dict(model.state_dict())
    assert_close(again.eval().scores(batch_of()).data, model.scores(batch_of()).data, 1e-6)


@pytest.mark.parametrize(
    "make, message",
    [(lambda: mixed(capacity=0), r"reckons them by a factor; make it with --capacity N"),
     (lambda: mixed(top=2), "a published switch_transformers always has top 1, not 2"),
     (lambda: mixed(layers=5, every=3), "cannot have mixtures of experts in 2 of 5 blocks, as every=3 makes them"),
     (lambda: T5(T5Config(vocab_size=20, layers=2, heads=2, head_width=4, width=8, hidden=16, experts=2)),
      "a published t5 always has experts 0, not 2"),
     (lambda: GPT(GPTConfig(vocab_size=20, context=8, layers=2, heads=2, width=8, experts=4)),
      "a published gpt2 always has experts 0, not 4")],
)  # fmt: skip
def test_what_transformers_would_read_as_another_model_is_not_written(make, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        make().save_pretrained(tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


# ---- sizes


@pytest.mark.parametrize(
    "preset, count",
    [("switch-base-8", 619_339_008), ("switch-base-16", 1_072_397_568), ("switch-base-32", 1_978_514_688),
     ("switch-base-64", 3_790_748_928), ("switch-base-128", 7_415_217_408), ("switch-base-256", 14_664_154_368),
     ("switch-large-128", 26_309_291_008), ("switch-c-2048", 1_571_308_972_448), ("gshard-600b", 619_301_008_384)],
)  # fmt: skip
def test_presets_have_the_number_of_parameters_that_their_shapes_give(preset, count):
    """Checked against transformers' classes; of Switch-C 1,571,308,810,240 is often said, without its norms' 160,160
    and the 2,048 numbers of its positions."""
    with shapes_only():
        assert SwitchTransformer(SwitchConfig.preset(preset)).parameter_count() == count
