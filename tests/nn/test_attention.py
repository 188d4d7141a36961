import numpy as np
import pytest

from nn import Attention, DecoderCache, KVCache, Rotary
from nn.attention import merge_heads, split_heads
from nn.compression.surgery import keep_heads
from tests.helpers import assert_close, gradient, tensor
from tinytensor import Tensor, gradcheck, no_grad, ops


def padding_mask(lengths, T: int) -> np.ndarray:
    """(B, 1, 1, T), True at the positions before each row's length."""
    return (np.arange(T) < np.asarray(lengths)[:, None])[:, None, None, :]


def double(module):
    """The module with random float64 weights of a useful size."""
    for index, parameter in enumerate(module.parameters()):
        parameter.data = np.random.default_rng(index).standard_normal(parameter.shape) * 0.4
    return module


def plain(q, k, v, heads, may=True):
    """Attention by the plain ops: (B, T, C), (B, S, C), (B, S, C) -> (B, T, C)."""
    q, k, v = (split_heads(x, heads) for x in (q, k, v))
    scores = q @ k.swapaxes(2, 3) * q.shape[-1] ** -0.5
    may = np.broadcast_to(may, scores.shape)
    p = ops.where(may, scores, -1e9).softmax() * may.any(-1, keepdims=True)
    return merge_heads(p @ v)


def self_reference(layer, x, may=True):
    q, k, v = layer.qkv(x).chunk(3, -1)
    return layer.out(plain(q, k, v, layer.heads, may))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("causal", [True, False])
def test_self_attention_is_a_plain_composition_of_ops(causal, bias):
    layer, x = double(Attention(6, 3, causal=causal, bias=bias)), tensor(2, 5, 6)
    may = np.tri(5, dtype=bool) if causal else True
    assert_close(layer(x).data, self_reference(layer, x, may).data, 1e-12)
    got = gradient(lambda x, *_: layer(x), x, *layer.parameters())
    for grad in zip(got, gradient(lambda x, *_: self_reference(layer, x, may), x, *layer.parameters())):
        assert_close(*grad, 1e-12)


def test_the_weights_of_q_k_and_v_are_stacked_in_this_order():
    layer, x = double(Attention(4, 1, bias=False)), tensor(1, 3, 4)
    q, k, v = (x.data @ w.T for w in np.split(layer.qkv.weight.data, 3))
    e = np.exp(q @ k.swapaxes(1, 2) / 2)
    expected = e / e.sum(-1, keepdims=True) @ v @ layer.out.weight.data.T
    assert_close(layer(x).data, expected, 1e-12)


def test_a_causal_layer_does_not_look_ahead():
    layer, x = double(Attention(4, 2, causal=True)), tensor(1, 6, 4)
    before = layer(x).data.copy()
    x.data[:, 4:] += 1
    after = layer(x).data
    np.testing.assert_array_equal(after[:, :4], before[:, :4])
    assert (after[:, 4:] != before[:, 4:]).any()


def test_padding_changes_nothing_before_it():
    layer, x = double(Attention(4, 2)), tensor(3, 5, 4)
    lengths = [5, 2, 1]
    y = layer(x, padding_mask(lengths, 5)).data
    for row, n in enumerate(lengths):
        assert_close(y[row, :n], layer(Tensor(x.data[row : row + 1, :n])).data[0], 1e-12)


def test_a_padded_causal_layer_obeys_both_masks():
    layer, x = double(Attention(4, 2, causal=True)), tensor(2, 5, 4)
    mask = padding_mask([3, 5], 5)
    assert_close(layer(x, mask).data, self_reference(layer, x, np.tri(5, dtype=bool) & mask).data, 1e-12)


def test_a_fully_masked_row_gives_the_output_bias_only():
    layer, x = double(Attention(4, 2)), tensor(2, 3, 4)
    y = layer(x, padding_mask([0, 3], 3)).data
    assert_close(y[0], np.tile(layer.out.bias.data, (3, 1)), 1e-14)
    assert np.isfinite(gradient(lambda x: layer(x, padding_mask([0, 3], 3)), x)[0]).all()


def test_splitting_and_merging_heads_undo_each_other():
    x = tensor(2, 3, 8)
    assert split_heads(x, 4).shape == (2, 4, 3, 2)
    np.testing.assert_array_equal(merge_heads(split_heads(x, 4)).data, x.data)


@pytest.mark.parametrize("memory_width", [6, 3])
def test_cross_attention_is_a_plain_composition_of_ops(memory_width):
    layer = double(Attention(6, 2, memory_width=memory_width))
    x, memory = tensor(2, 3, 6), tensor(2, 5, memory_width)
    mask = padding_mask([5, 2], 5)

    def reference(x, memory, *_):
        k, v = layer.kv(memory).chunk(2, -1)
        return layer.out(plain(layer.q(x), k, v, 2, mask))

    fn = lambda x, memory, *_: layer(x, mask, memory=layer.keys_values(memory))
    assert_close(fn(x, memory).data, reference(x, memory).data, 1e-12)
    inputs = x, memory, *layer.parameters()
    for got, expected in zip(gradient(fn, *inputs), gradient(reference, *inputs)):
        assert_close(got, expected, 1e-12)


def test_cross_attention_passes_gradcheck():
    layer = double(Attention(2, 1, memory_width=2))
    fn = lambda x, memory, *_: layer(x, memory=layer.keys_values(memory))
    gradcheck(fn, [tensor(1, 2, 2), tensor(1, 3, 2), *layer.parameters()])


@pytest.mark.parametrize("steps", [[1] * 7, [4, 3], [7], [3, 1, 1, 2]])
def test_the_cache_gives_what_the_full_pass_gives(steps):
    layer, x = double(Attention(6, 3, causal=True)), tensor(2, 7, 6, grad=False)
    cache = KVCache(2, 3, 8, 2, x.data)
    parts, start = [], 0
    with no_grad():
        for n in steps:
            parts.append(layer(x[:, start : start + n], cache=cache).data)
            start += n
        assert_close(np.concatenate(parts, 1), layer(x).data, 1e-12)
    assert cache.length == 7


def test_the_cache_with_padding_in_front_gives_what_the_full_pass_gives():
    layer, x = double(Attention(6, 3, causal=True)), tensor(2, 5, 6, grad=False)
    mask = ~padding_mask([2, 0], 5)  # the first two positions of row 0 are padding
    cache = KVCache(2, 3, 5, 2, x.data)
    with no_grad():
        first = layer(x[:, :3], mask[..., :3], cache=cache).data
        rest = layer(x[:, 3:], mask, cache=cache).data
        assert_close(np.concatenate([first, rest], 1), layer(x, mask).data, 1e-12)


def test_a_full_cache_says_so():
    cache = KVCache(1, 1, 2, 1, np.zeros(1))
    cache.append(np.ones((1, 1, 2, 1)), np.ones((1, 1, 2, 1)))
    with pytest.raises(ValueError, match="the cache holds 2 positions and cannot take number 3"):
        cache.append(np.ones((1, 1, 1, 1)), np.ones((1, 1, 1, 1)))
    assert cache.length == 2


@pytest.mark.parametrize("memory_width", [None, 8])
def test_dropout_works_in_training_only(memory_width):
    layer = Attention(8, 2, dropout=0.5, memory_width=memory_width)
    x = Tensor(tensor(1, 9, 8).data.astype(np.float32))
    run = lambda: layer(x, memory=layer.keys_values(x) if memory_width else None).data
    assert (run() != run()).any()
    layer.eval()
    np.testing.assert_array_equal(run(), run())


def test_a_width_that_does_not_divide_by_the_heads_is_named_with_its_neighbours():
    with pytest.raises(ValueError, match="width 130 is not divisible by heads 4; try 128 or 132"):
        Attention(130, 4)
    with pytest.raises(ValueError, match="heads must be at least 1, not 0"):
        Attention(8, 0)


def test_masks_may_be_of_keys_or_of_pairs_of_query_and_key():
    layer, x = double(Attention(6, 3)), tensor(2, 5, 6)
    keys = padding_mask([5, 3], 5)[:, 0, 0]
    pairs = np.random.default_rng(0).random((2, 5, 5)) < 0.6
    np.testing.assert_array_equal(layer(x, keys).data, layer(x, keys[:, None, None]).data)
    assert_close(layer(x, pairs).data, self_reference(layer, x, pairs[:, None]).data, 1e-12)


def test_a_bias_a_scale_and_a_head_width_of_ones_own_are_a_plain_composition_of_ops():
    layer = double(Attention(6, 2, head_width=5, scale=1.0, bias=False, causal=True))
    x, bias = tensor(2, 4, 6), tensor(2, 4, 4)
    assert layer.qkv.weight.shape == (30, 6) and layer.out.weight.shape == (6, 10)

    def reference(x, bias, *_):
        q, k, v = (split_heads(part, 2) for part in layer.qkv(x).chunk(3, -1))
        scores = ops.where(np.tri(4, dtype=bool), q @ k.swapaxes(2, 3) + bias, -1e9)
        return layer.out(merge_heads(scores.softmax() @ v))

    fn = lambda x, bias, *_: layer(x, bias=bias)
    assert_close(fn(x, bias).data, reference(x, bias).data, 1e-12)
    inputs = x, bias, *layer.parameters()
    for got, expected in zip(gradient(fn, *inputs), gradient(reference, *inputs)):
        assert_close(got, expected, 1e-12)


@pytest.mark.parametrize("memory_width", [None, 6])
def test_a_second_stream_of_queries_looks_at_the_keys_and_values_of_the_first(memory_width):
    layer = double(Attention(6, 2, memory_width=memory_width))
    h, g = tensor(2, 5, 6), tensor(2, 5, 6)
    before = np.tri(5, k=-1, dtype=bool)[None]  # a query must not see its own token

    def reference(h, g, *_):
        q, (k, v) = layer.queries(g), layer.keys_values(h)
        return layer.out(plain(merge_heads(q), merge_heads(k), merge_heads(v), 2, before))

    fn = lambda h, g, *_: layer.attend(layer.queries(g), layer.keys_values(h), before)
    inputs = h, g, *layer.parameters()
    assert_close(fn(*inputs).data, reference(*inputs).data, 1e-12)
    for got, expected in zip(gradient(fn, *inputs), gradient(reference, *inputs)):
        assert_close(got, expected, 1e-12)


def test_heads_that_are_left_keep_their_biases():
    layer, x, bias = double(Attention(6, 3, biased=True)).eval(), tensor(2, 4, 6), tensor(3, 4, 4)
    layer.out.weight.data[:, 2:4] = 0  # what head 1 says is not heard
    whole = layer(x, bias=bias).data
    keep_heads(layer, np.array([0, 2]))
    assert_close(layer(x, bias=bias).data, whole, 1e-12)
    assert layer.kept_heads.data.tolist() == [0, 2]


@pytest.mark.parity
def test_self_attention_is_torchs_multi_head_attention():
    torch = pytest.importorskip("torch")
    layer, x = double(Attention(6, 3)), tensor(2, 5, 6)
    theirs = torch.nn.MultiheadAttention(6, 3, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.tensor(layer.qkv.weight.data))
        theirs.in_proj_bias.copy_(torch.tensor(layer.qkv.bias.data))
        theirs.out_proj.weight.copy_(torch.tensor(layer.out.weight.data))
        theirs.out_proj.bias.copy_(torch.tensor(layer.out.bias.data))
    twin = torch.tensor(x.data, requires_grad=True)
    padded = padding_mask([5, 3], 5)
    y, _ = theirs(twin, twin, twin, key_padding_mask=torch.tensor(~padded[:, 0, 0]))
    assert_close(layer(x, padded).data, y.detach().numpy(), 1e-12)
    y.sum().backward()
    assert_close(gradient(lambda x: layer(x, padded), x)[0], twin.grad.numpy(), 1e-12)
    assert_close(layer.qkv.weight.grad, theirs.in_proj_weight.grad.numpy(), 1e-12)


# ---- shared keys and values, rotary positions, a memory of one's own


def grouped_reference(layer, x, memory=None, may=True):
    """The same with the keys and values repeated for each of their heads."""
    G, times, D = layer.kv_heads, layer.groups, layer.head_width
    if memory is None:
        product = layer.qkv(x)
        q, k, v = product[..., : -2 * G * D], product[..., -2 * G * D : -G * D], product[..., -G * D :]
    else:
        q, (k, v) = layer.q(x), layer.kv(memory).chunk(2, -1)
    each = lambda t: [t[..., head // times * D : (head // times + 1) * D] for head in range(layer.heads)]
    k, v = (ops.concatenate(each(t), axis=-1) for t in (k, v))
    return layer.out(plain(q, k, v, layer.heads, may))


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("memory_width", [None, 5])
def test_heads_that_share_keys_and_values_compute_what_repeated_ones_do(kv_heads, memory_width):
    layer = double(Attention(8, 4, kv_heads=kv_heads, memory_width=memory_width, causal=memory_width is None))
    x, memory = tensor(2, 5, 8), None if memory_width is None else tensor(2, 6, 5, seed=1)
    may = np.tri(5, dtype=bool) if memory is None else True
    ours = lambda x, *_: layer(x, memory=memory)
    reference = lambda x, *_: grouped_reference(layer, x, memory, may)
    assert_close(ours(x).data, reference(x).data, 1e-12)
    inputs = [x, *([] if memory is None else [memory]), *layer.parameters()]
    for pair in zip(gradient(ours, *inputs), gradient(reference, *inputs)):
        assert_close(*pair, 1e-12)
    one = x[:, :1]  # one query stands for its group, without copies
    if memory is not None:
        assert_close(layer(one, memory=memory).data, grouped_reference(layer, one, memory).data, 1e-12)


def test_keys_and_values_may_come_from_different_places():
    layer = double(Attention(4, 2, memory_width=3))
    x, k, v = tensor(2, 4, 4), tensor(2, 5, 3, seed=1), tensor(2, 5, 3, seed=2)
    got = layer(x, memory=layer.keys_values(k, v))
    expected = layer.out(plain(layer.q(x), layer.kv(k).chunk(2, -1)[0], layer.kv(v).chunk(2, -1)[1], 2))
    assert_close(got.data, expected.data, 1e-12)


@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize("window", [None, 3])
def test_rotary_positions_depend_on_distances_only_and_go_on_behind_a_cache(kv_heads, window):
    options = dict(kv_heads=kv_heads, rotary=Rotary(4), causal=True, window=window)
    layer, x = double(Attention(16, 4, **options)), tensor(2, 9, 16, grad=False)
    whole = layer(x).data
    later = DecoderCache([layer.new_cache(2, 40, x.data)])
    later.layers[0].length = 20  # what stands there is closed to all
    closed = np.arange(29)[None] >= 20
    with no_grad():
        assert_close(layer(x, mask=np.repeat(closed, 2, 0), cache=later.layers[0]).data, whole, 1e-5)
        cache = layer.new_cache(2, 9, x.data)
        parts = [layer(x[:, :4], cache=cache), *(layer(x[:, t : t + 1], cache=cache) for t in range(4, 9))]
    assert_close(np.concatenate([part.data for part in parts], axis=1), whole, 1e-6)


def test_a_step_with_a_static_cache_turns_as_one_with_an_ordinary_one_does():
    from models.generate.graph import StaticCache

    layer, x = double(Attention(8, 4, kv_heads=2, rotary=Rotary(2), causal=True)), tensor(2, 6, 8, grad=False)
    with no_grad():
        whole, cache = layer(x).data, DecoderCache([layer.new_cache(2, 9, x.data)])
        layer(x[:, :5], cache=cache.layers[0])
        static = StaticCache(cache, np.array([5]))
        _, mask = static.look(1)
        assert_close(layer(x[:, 5:], mask, cache=static.layers[0]).data, whole[:, 5:], 1e-6)


def test_rotation_keeps_lengths_and_turns_back_in_its_gradient():
    rotary, x = Rotary(6), tensor(1, 2, 5, 6)
    turned = rotary(x, slice(3, 8), 8)
    assert_close(np.linalg.norm(turned.data, axis=-1), np.linalg.norm(x.data, axis=-1), 1e-6)
    angle = 4 * 10000.0 ** (-2 / 6)  # of the second pair at the second place
    pair = x.data[0, 0, 1, [1, 4]]
    expected = [pair[0] * np.cos(angle) - pair[1] * np.sin(angle), pair[1] * np.cos(angle) + pair[0] * np.sin(angle)]
    assert_close(turned.data[0, 0, 1, [1, 4]], expected, 1e-6)
    gradcheck(lambda x: rotary(x, slice(3, 8), 8), [x])


def test_layers_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="4 heads cannot share the keys and values of 3; give a divisor of 4"):
        Attention(8, 4, kv_heads=3)
    with pytest.raises(ValueError, match="need an even head width, not 3"):
        Rotary(3)
    with pytest.raises(ValueError, match="heads that share keys and values are not taken out one by one"):
        keep_heads(Attention(8, 4, kv_heads=2), np.array([0]))
