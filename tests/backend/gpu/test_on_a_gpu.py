"""On a GPU, where there is one: every kernel and whole models against the CPU's, in every precision.

    python -m pytest -m gpu -n 8 -q --maxfail=15 tests/backend/gpu/test_on_a_gpu.py

What the emulator cannot see is seen here: the tensor cores' own rounding, the inline PTX, weak memory, atomics.
"""

import json
import sys

import numpy as np
import pytest

import tinytensor as tt
from models import GPT, T5, GPTConfig, T5Config
from models.generate import generate
from tests.backend.gpu.reference import TOLERANCE, normal, wide
from tinytensor import backend
from tinytensor.backend import cpu
from tinytensor.backend.gpu.launch import Abilities
from tinytensor.backend.gpu.verdict import Verdict
from train.__main__ import main
from train.precision import compute_dtype

pytestmark = pytest.mark.gpu
SIXTEEN_BITS = ["float16", "bfloat16"]


@pytest.fixture(scope="module")
def cupy():
    cupy = pytest.importorskip("cupy", reason="the GPU tests need CuPy: pip install -e '.[gpu]'")
    if not cupy.cuda.is_available():
        pytest.skip("CuPy finds no usable GPU")
    return cupy


@pytest.fixture(scope="module")
def gpu(cupy):
    from tinytensor.backend import gpu

    return gpu


@pytest.fixture(params=["float32", *SIXTEEN_BITS])
def dtype(request):
    if request.param == "bfloat16":
        pytest.importorskip("ml_dtypes")
    return compute_dtype(request.param)


def moved(value):
    return backend.to_device(value, "cuda") if isinstance(value, np.ndarray) else value


def assert_near(got, want, dtype, factor=1.0):
    got = wide(np.asarray(backend.to_numpy(got)))
    want = np.asarray(want, np.float64)
    assert got.shape == want.shape
    assert np.isfinite(got).all()
    limit = TOLERANCE[np.dtype(dtype).name] * factor * max(0.3, np.abs(want).max(initial=0.0))
    assert np.abs(got - want).max(initial=0.0) <= limit


def as_list(result):
    return list(result) if isinstance(result, tuple | list) else [result]


def check(gpu, name, dtype, *arguments, factor=3, **options):
    """One kernel and its backward kernel, against the CPU's in float64."""
    got = as_list(getattr(gpu, name)(*map(moved, arguments), **{k: moved(v) for k, v in options.items()}))
    want = as_list(getattr(cpu, name)(*map(wide, arguments), **{k: wide(v) for k, v in options.items()}))
    outputs = len(got) - (len(got) > 1)
    for g, w in zip(got[:outputs], want[:outputs]):
        assert_near(g, w, dtype, factor)
    dys = [normal(50 + i, w.shape).astype(g.dtype) for i, (g, w) in enumerate(zip(got[:outputs], want[:outputs]))]
    back = getattr(gpu, name + "_backward")(*map(moved, dys), got[-1])
    right = getattr(cpu, name + "_backward")(*map(wide, dys), want[-1])
    for g, w in zip(as_list(back), as_list(right)):
        assert (g is None) == (w is None)
        if g is not None:
            assert_near(g, w, dtype, factor)


@pytest.mark.parametrize("D", [32, 64, 80, 96, 128, 136, 256])
@pytest.mark.parametrize("options", [
    {"causal": True}, {}, {"causal": True, "window": 100}, {"mask": True}, {"bias": True, "causal": True}])
def test_attention_equals_float64(gpu, dtype, D, options):
    for T, S in ((200, 200), (77, 333), (1, 1), (130, 40)):
        q, k, v, dy = (normal(i, (2, 3, n, D), dtype) for i, n in enumerate((T, S, S, T)))
        given = dict(options, scale=D**-0.5)
        if "mask" in options:
            given["mask"] = (np.arange(S) < np.array([S, max(1, S // 2)])[:, None])[:, None, None, :]
        if "bias" in options:
            given["bias"] = normal(9, (1, 3, T, S), dtype)
        y, saved = gpu.attention(*map(moved, (q, k, v)), **{n: moved(a) for n, a in given.items()})
        need_bias = "bias" in options
        back = gpu.attention_backward(moved(dy), saved, need_bias=need_bias)
        right, right_saved = cpu.attention(*map(wide, (q, k, v)), **{n: wide(a) for n, a in given.items()})
        right_back = cpu.attention_backward(wide(dy), right_saved, need_bias=need_bias)
        assert_near(y, right, dtype)
        for g, w in zip(back, right_back):
            if w is not None:
                assert_near(g, w, dtype, 2)


@pytest.mark.parametrize("narrow", SIXTEEN_BITS)
def test_the_kernels_for_a_gpu_before_the_a100_equal_float64(gpu, monkeypatch, narrow):
    file = sys.modules["tinytensor.backend.gpu.attention"]  # the package's own name means the function
    monkeypatch.setattr(file, "abilities", lambda: Abilities(False, 64 << 10))
    test_attention_equals_float64(gpu, compute_dtype(narrow), 128, {"causal": True})


def test_sums_of_columns_equal_float64(gpu, cupy, dtype):
    for shape in ((16384, 768), (1000, 13), (3, 4000)):
        x = normal(1, shape, dtype)
        assert_near(gpu.column_sums(moved(x)), wide(x).sum(axis=0), dtype, 2)
    padded = cupy.zeros((500, 50264), dtype)[:, :50257]
    padded[...] = moved(x := normal(2, padded.shape, dtype))
    assert_near(gpu.column_sums(padded), wide(x).sum(axis=0), dtype, 2)


def test_biases_are_added_and_gelus_gradient_summed_equal_float64(gpu, dtype):
    for N, K, M in ((1000, 64, 768), (33, 40, 13), (4, 8, 4000)):
        x, weight, bias = normal(1, (N, K), dtype), normal(2, (M, K), dtype, K**-0.5), normal(3, (M,), dtype)
        y = gpu.matmul(moved(x), moved(weight).T, bias=moved(bias))
        assert_near(y, wide(x) @ wide(weight).T + wide(bias), dtype, 2)
        dy, slope = normal(4, (N, M), dtype), normal(5, (N, M), dtype)
        dx, dbias = gpu.gelu_backward(moved(dy), moved(slope), need_bias=True)
        assert_near(dx, wide(dy) * wide(slope), dtype)
        assert_near(dbias, (wide(dy) * wide(slope)).sum(axis=0), dtype, 2)


def test_a_gradient_is_written_wider_than_its_factors(gpu, cupy, dtype):
    g, x = normal(1, (300, 70), dtype), normal(2, (300, 40), dtype)
    place = cupy.zeros(70 * 40 + 3, np.float32)[3:].reshape(70, 40)
    assert gpu.matmul(moved(g).T, moved(x), out=place) is place
    assert_near(place, wide(g).T @ wide(x), np.float32, 10)  # added up in float32, rounded no more


def test_stacks_of_matrices_equal_float64(gpu, dtype):
    for a, b in (((2, 3, 70, 40), (2, 3, 40, 90)), ((5, 7, 8), (8, 9)), ((7, 8), (5, 8, 9)), ((2, 1, 4, 5), (3, 5, 6))):
        x, y = normal(1, a, dtype), normal(2, b, dtype)
        assert_near(gpu.matmul(moved(x), moved(y)), wide(x) @ wide(y), dtype, 2)
        turned = moved(np.ascontiguousarray(y.swapaxes(-1, -2))).swapaxes(-1, -2)
        assert_near(gpu.matmul(moved(x), turned), wide(x) @ wide(y), dtype, 2)


def test_decoding_equals_float64(gpu, dtype):
    q, k, v = (normal(i, (3, 4, n, 64), dtype) for i, n in enumerate((1, 5000, 5000)))
    lengths = np.array([5000, 1, 3333])
    y = gpu.attention_step(*map(moved, (q, k, v)), scale=0.125, lengths=lengths)
    assert_near(y, cpu.attention_step(*map(wide, (q, k, v)), scale=0.125, lengths=lengths), dtype)


def test_attention_drops_the_same_probabilities_in_forward_and_backward(gpu, cupy):
    """The emulator's mask is a function of the seed, so a GPU's must be the same; and dv = P^T dy uses it again."""
    q, k = (moved(normal(i, (1, 2, 256, 64), np.float16)) for i in range(2))
    v = moved(np.broadcast_to(np.eye(256, 64, dtype=np.float16), (1, 2, 256, 64)).copy())
    y, saved = gpu.attention(q, k, v, scale=0.125, dropout=0.25, rng=np.random.default_rng(1))
    kept = backend.to_numpy(y != 0)
    assert abs(kept.mean() - 0.75) < 0.02
    dy = moved(np.ones((1, 2, 256, 64), np.float16))
    _, _, dv, _ = gpu.attention_backward(dy, saved)
    assert_near(dv[:, :, :64].sum(axis=-1) / 64, wide(backend.to_numpy(y)).sum(axis=2), np.float16, 5)


def test_norms_softmax_and_losses_equal_float64(gpu, dtype):
    for shape in ((300, 768), (7, 13), (2, 5, 4096)):
        x, branch = normal(1, shape, dtype), normal(2, shape, dtype)
        weight, bias = normal(3, shape[-1:], dtype), normal(4, shape[-1:], dtype)
        check(gpu, "normalize", dtype, x, None, weight, bias, 1e-5, centre=True)
        check(gpu, "normalize", dtype, x, branch, weight, None, 1e-6, centre=False)
    logits, targets = normal(5, (64, 50257), dtype, 3), np.random.default_rng(1).integers(0, 50257, 64)
    targets[5] = -100
    check(gpu, "cross_entropy", dtype, logits, targets, ignore_index=-100)
    x, weight, classes = normal(6, (64, 32), dtype), normal(7, (1000, 32), dtype), np.abs(targets)
    for V in (1000, 999):  # rows that are padded, and such that are not
        bias = normal(9, (V,), dtype)
        check(gpu, "linear_cross_entropy", dtype, x, weight[:V], classes % V, bias=bias, ignore_index=-100)
    for log in (False, True):
        x = normal(8, (20, 1000), dtype, 3)
        y, right = gpu.softmax(moved(x), log), cpu.softmax(wide(x), log)
        assert_near(y, right, dtype)


def test_gelu_dropout_and_embedding_equal_float64(gpu, dtype):
    x = normal(1, (33, 3072), dtype, 2)
    for approximate in (False, True):
        y, slope = gpu.gelu(moved(x), approximate)
        right, right_slope = cpu.gelu(wide(x), approximate)
        assert_near(y, right, dtype)
        assert_near(slope, right_slope, dtype)
    dropped, mask = gpu.dropout(moved(x), 0.2, np.random.default_rng(0))
    assert abs(float((dropped == 0).mean()) - 0.2) < 0.01
    assert bool((gpu.dropout_backward(moved(x), mask, 0.2) == dropped).all())
    ids, dy = np.random.default_rng(0).integers(0, 100, (4, 500)), normal(2, (4, 500, 64), dtype)
    assert_near(gpu.embedding_backward(moved(dy), ids, 100), cpu.embedding_backward(wide(dy), ids, 100), dtype)
    draw = np.random.default_rng(1)
    many = np.where(draw.random(20_000) < 0.2, 7, draw.integers(0, 50257, 20_000))  # a run over many chunks
    dy = normal(3, (20_000, 200), dtype, 0.05)
    assert_near(gpu.embedding_backward(moved(dy), many, 50257), cpu.embedding_backward(wide(dy), many, 50257), dtype, 2)


def test_optimizers_equal_float64(gpu):
    p, g, m = (normal(i, (1_000_001,)) for i in range(3))
    v = np.abs(normal(4, p.shape))
    on_gpu, right = [moved(a) for a in (p, g, m, v)], [wide(a) for a in (p, g, m, v)]
    options = dict(lr=1e-2, beta1=0.9, beta2=0.99, eps=1e-8, weight_decay=0.1, step=3, decayed=1000)
    gpu.adamw(*on_gpu, **options)
    cpu.adamw(*right, **options)
    for got, want in zip(on_gpu, right):
        assert_near(got, want, np.float32)
    assert float(gpu.squared_norm(on_gpu[1])) == pytest.approx((wide(g) ** 2).sum(), rel=1e-6)


def test_a_verdict_arrives_and_a_bad_one_stops_all_updates_after_it(gpu, cupy):
    grad, loss = moved(normal(1, (1_000_001,))), cupy.asarray(np.float64(2.5))
    norm = float(np.linalg.norm(wide(backend.to_numpy(grad))))
    good = Verdict(grad, loss, 0.5)
    assert good.read() == (2.5, pytest.approx(norm, rel=1e-6), pytest.approx(0.5 / norm, rel=1e-6), True)
    bad = Verdict(grad, loss * np.inf, 0.5, good)
    after = Verdict(grad, loss, 0.5, bad)
    options = dict(lr=1e-2, beta1=0.9, beta2=0.99, eps=1e-8, weight_decay=0.1, step=1)
    for verdict, moves in ((good, True), (after, False)):
        p, m, v = (cupy.ones_like(grad) for _ in range(3))
        gpu.adamw(p, grad, m, v, grad_scale=verdict, **options)
        assert bool((p != 1).all() and (m != 1).all()) is moves and bool((v != 1).any()) is moves
    assert [verdict.read()[3] for verdict in (bad, after)] == [False, False]


def test_lstm_equals_float64(gpu):
    arrays = [normal(1, (8, 20, 64)), normal(2, (512, 64), scale=0.1), normal(3, (512, 32), scale=0.1),
              normal(4, (512,)), normal(5, (32, 128), scale=0.1), normal(6, (8, 32)), normal(7, (8, 128))]
    mask = np.arange(20) < np.arange(13, 21)[:, None]
    options = dict(reverse=True, cell_clip=3.0, proj_clip=3.0)
    *got, saved = gpu.lstm(*map(moved, arrays), mask, **options)
    *want, right = cpu.lstm(*map(wide, arrays), mask, **options)
    dys = [normal(8 + i, w.shape) for i, w in enumerate(want)]
    back, right_back = gpu.lstm_backward(*map(moved, dys), saved), cpu.lstm_backward(*map(wide, dys), right)
    for g, w in zip([*got, *back], [*want, *right_back]):
        assert_near(g, w, np.float32, 10)


def test_integer_products_are_exact(gpu):
    draw = np.random.default_rng(0).integers
    x, w, codes = (draw(low, high, shape).astype(np.int8) for low, high, shape in (
        (-128, 128, (300, 768)), (-128, 128, (500, 768)), (-8, 8, (500, 768))))
    assert (backend.to_numpy(gpu.int8_matmul(moved(x), moved(w))) == x.astype(int) @ w.T.astype(int)).all()
    scale = np.abs(normal(1, (500, 12)))
    y = gpu.int4_matmul(moved(x), gpu.pack_int4(moved(codes)), moved(scale))
    assert_near(y, cpu.int4_matmul(x, cpu.pack_int4(codes), scale), np.float32)


def test_a_row_does_not_depend_on_its_batch(gpu, dtype):
    q, k, v = (moved(normal(i, (4, 2, 300, 64), dtype)) for i in range(3))
    together, _ = gpu.attention(q, k, v, scale=0.125, causal=True)
    alone, _ = gpu.attention(q[2:3], k[2:3], v[2:3], scale=0.125, causal=True)
    assert bool((together[2:3] == alone).all())


@pytest.fixture
def model():
    with tt.random.seeded(0):
        return GPT(GPTConfig(vocab_size=101, context=96, layers=3, heads=4, width=128))


def gradients(model, batch):
    model.zero_grad()
    loss = model.loss(batch)
    loss.backward()
    return loss.item(), {name: wide(backend.to_numpy(p.grad)) for name, p in model.named_parameters()}


def test_gpt_has_the_cpus_loss_and_gradients_in_every_precision(cupy, model, dtype):
    ids = np.random.default_rng(1).integers(0, 101, (4, 96))
    batch = {"ids": ids, "targets": np.roll(ids, -1, axis=1)}
    loss, right = gradients(model, batch)
    model.to("cuda")
    for parameter in model.parameters():
        parameter.data = parameter.data.astype(dtype)
    got_loss, got = gradients(model, batch)
    assert got_loss == pytest.approx(loss, rel=10 * TOLERANCE[dtype.name])
    for name, want in right.items():  # through 3 layers of rounding: compare whole gradients
        error = np.linalg.norm(got[name] - want) / max(np.linalg.norm(want), 1e-12)
        assert error < 20 * TOLERANCE[dtype.name], name


def test_gpt_writes_what_it_writes_on_the_cpu(cupy, model):
    ids = np.array([[1, 2, 3]])
    texts = [generate(model.to(device), ids, 60, temperature=0) for device in ("cpu", "cuda")]
    assert (texts[0] == texts[1]).all()


@pytest.mark.parametrize("precision", ["float32", *SIXTEEN_BITS])
def test_a_run_follows_the_cpus_loss_curve(cupy, tmp_path, precision):
    """nanoGPT's small Shakespeare shape, on a text of our own so that nothing must be downloaded."""
    text = tmp_path / "text.txt"
    lines = (f"{n} bottles of {'green' if n % 3 else 'red'} wine, {n * n} in all. " for n in range(3000))
    text.write_text("".join(lines))
    curves = {}
    for device, dtype in (("cpu", "float32"), ("cuda", precision)):
        out = tmp_path / device
        words = f"gpt --data {text} --out {out} --layers 4 --heads 4 --width 128 --context 64 --batch 12 --steps 100 "
        words += f"--log-every 10 --eval-every 100 --dropout 0 --device {device} --dtype {dtype}"
        assert main(words.split()) in (None, 0)
        lines = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
        curves[device] = [line["loss"] for line in lines if "loss" in line]
    assert curves["cuda"] == pytest.approx(curves["cpu"], rel=0.01 if precision == "float32" else 0.03)


def test_recorded_products_equal_float64_in_every_layout(cupy, dtype):
    """They go to cuBLAS past CuPy, so the wrapper's order of arguments and numbers of types are at stake."""
    from tinytensor.backend.gpu import cublas, graph

    a, b = normal(1, (70, 40), dtype), normal(2, (40, 90), dtype)
    left, right = moved(a), moved(b)
    wide_left = cupy.zeros((70, 48), dtype)
    wide_left[:, 8:] = left
    want = wide(a) @ wide(b)
    for one in (left, cupy.ascontiguousarray(left.T).T, wide_left[:, 8:]):
        for two in (right, cupy.ascontiguousarray(right.T).T):
            recorded = graph.Recorded(lambda inputs, one=one, two=two: cublas.matmul(one, two))
            for _ in range(4):
                assert_near(recorded({}), want, dtype, 2)


GPT_SHAPE = "gpt --layers 4 --heads 4 --width 128 --context 64 --batch 12 --dropout 0.1"


@pytest.mark.parametrize("how", [
    GPT_SHAPE,
    f"{GPT_SHAPE} --dtype bfloat16",
    "t5 --tokenizer bytes --context 64 --dropout 0.1",
    "t5 --tokenizer bytes --context 64 --objective prefix --dtype bfloat16",
    "bert --context 64",
    "elmo --preset toy --context 10 --dropout 0",
])
def test_a_run_with_a_recorded_step_has_the_losses_of_one_without(cupy, tmp_path, how):
    text = tmp_path / "text.txt"
    text.write_text("".join(f"{n} bottles of wine, {n * n} in all.\n\n" for n in range(3000)))
    curves = []
    for more in ([], ["--graph"]):
        out = tmp_path / f"run{len(more)}"
        words = f"{how} --data {text} --out {out} --steps 40 --log-every 1 --eval-every 20 --device cuda"
        assert main([*words.split(), *more]) in (None, 0)
        lines = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
        curves.append([line[name] for line in lines for name in ("loss", "val_loss") if name in line])
    assert curves[1] == pytest.approx(curves[0], rel=0.02)  # sums by atomics come in another order each time


def test_gpt_writes_the_same_with_a_recorded_step(cupy, model):
    model.to("cuda")
    ids = np.array([[1, 2, 3], [4, 5, 6]])  # on past the context of 96
    texts = [generate(model, ids, 150, temperature=0, graph=graph) for graph in (False, True)]
    assert (texts[0] == texts[1]).all()


def test_a_t5_answers_the_same_with_a_recorded_step(cupy):
    with tt.random.seeded(0):
        t5 = T5(T5Config(vocab_size=101, layers=2, heads=4, head_width=32, width=128, hidden=256)).to("cuda")
    source = np.random.default_rng(0).integers(0, 101, (3, 40))
    for how in ({"temperature": 0}, {"beams": 3}):
        reads = dict(source=source, source_mask=source > 4, end=1)
        starts = np.zeros((3, 1), int)
        answers = [generate(t5, starts, 60, graph=graph, **reads, **how) for graph in (False, True)]
        assert answers[0].shape == answers[1].shape and (answers[0] == answers[1]).all()
