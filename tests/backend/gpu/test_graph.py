"""CUDA graphs: what was recorded gives the same numbers when it is repeated with other inputs.

CuPy's stand-in notes every operation with the arrays it read and made, does them again in the same places, and refuses
what a GPU refuses while it records: waiting, reading numbers, copies from the CPU. That CUDA accepts the recording of
the real kernels is for the tests marked `gpu`.
"""

import json

import numpy as np
import pytest

import tinytensor as tt
from models import GPT, T5, GPTConfig, T5Config
from models.generate import generate
from models.generate.beam import beam_search
from models.generate.draft import Draft
from nn import Parameter
from tests.backend.gpu import fake_cupy
from tests.backend.gpu.reference import normal
from tests.backend.gpu.test_whole_models import TINY
from tinytensor import backend, ops
from tinytensor.backend.gpu import cublas, graph
from train.__main__ import main
from train.trainer import TrainConfig


def test_a_repetition_reads_new_inputs_and_new_seeds(cuda):
    weight = tt.Tensor(backend.to_device(normal(1, (6, 5)), "cuda"))

    def work(inputs):
        ran.append(1)
        x = tt.Tensor(inputs["x"])
        return (ops.dropout(ops.linear(x, weight), 0.5) * 2.0).data

    ran, recorded = [], graph.Recorded(work)
    for number in range(6):
        x = normal(number, (4, 5))
        with tt.random.seeded(number) as rng:
            got = backend.to_numpy(recorded({"x": x}, rng))
        with tt.random.seeded(number):
            want = backend.to_numpy(work({"x": backend.to_device(x, "cuda")}))
        assert np.abs(got - want).max() < 1e-6
    assert len(ran) == 3 + 6  # twice to warm up, once recorded, and ours


def test_an_array_from_the_cpu_that_never_changes_is_a_constant_of_the_step(cuda):
    constant = read_only(normal(9, (4, 5)))
    recorded = graph.Recorded(lambda inputs: inputs["x"] + backend.to_device(constant, "cuda"))
    for number in range(5):
        x = normal(number, (4, 5))
        assert (backend.to_numpy(recorded({"x": x})) == x + constant).all()


def read_only(array):
    copy = array.copy()
    copy.setflags(write=False)
    return copy


def test_what_cannot_be_repeated_is_refused_with_the_reason(cuda):
    def attempt(work, *batches):
        recorded = graph.Recorded(work)
        for x in batches:
            recorded({"x": x})

    x = normal(1, (4, 5))
    for work, why in (
        (lambda x: x * float(x.sum()), "reading a number while"),
        (lambda x: x + backend.to_device(np.ones(5), "cuda"), "it makes arrays on the CPU on its way"),
        (lambda x: x + backend.to_device(read_only(np.ones(5)), "cuda"), "it makes arrays on the CPU on its way"),
        (lambda x: x @ x.T, "CuPy calls cuBLAS while"),
        (lambda x: x[x > 0], "counting what a mask chooses while"),
        (lambda x: x + cuda.asarray(np.ones(5)), "a copy from the CPU while"),
    ):
        with pytest.raises(ValueError, match=f"cannot be recorded in a CUDA graph: {why}.*leave out --graph"):
            attempt(lambda inputs, work=work: work(inputs["x"]), x, x, x)
    with pytest.raises(ValueError, match=r"repeats one step, whose .*\(4, 5\).* is .*\(3, 5\).* this time; leave out"):
        attempt(lambda inputs: inputs["x"] + 1, x, x, x, x[:3])


def test_memory_that_runs_out_while_a_step_is_recorded_takes_none_from_its_kernels(cuda, monkeypatch):
    monkeypatch.setattr(fake_cupy.Memory, "left", 100)
    recorded, size = graph.Recorded(lambda inputs: (recorded.pool.malloc(size), inputs["x"] + 1)[1]), 50
    x = normal(1, (4, 5))
    recorded({"x": x})
    size = 200
    with pytest.raises(fake_cupy.CUDARuntimeError):  # not recorded yet
        recorded({"x": x})
    assert recorded.pool.given_back == 1
    for _ in range(2):  # nor is half a step started the next time
        with pytest.raises(MemoryError):
            recorded({"x": x})
    assert recorded.pool.given_back == 1
    size = 100
    assert (backend.to_numpy(recorded({"x": x})) == x + 1).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_cublas_is_given_the_right_corner_step_and_turn_of_each_matrix(cuda, monkeypatch, dtype):
    """In every layout; cuBLAS's stand-in knows matrices by their documentation: an address, columns, and a step."""
    stream = cuda.cuda.Stream(non_blocking=True)
    monkeypatch.setattr(graph.capture, "recorder", graph.Recorded(None))
    a, b = (cuda.asarray(normal(i, shape, dtype)) for i, shape in enumerate([(7, 5), (5, 9)]))
    wide, tall = (cuda.zeros(shape, dtype) for shape in ((7, 12), (12, 9)))
    wide[:, 2:7], tall[3:8] = a, b
    with stream:
        cublas.use(stream)
        spread, turned = cuda.ascontiguousarray(wide[::2, 2:7])[:4], wide[::-1][::-1, 2:7]
        right = backend.to_numpy(a).astype(float) @ backend.to_numpy(b).astype(float)
        for left in (a, cuda.ascontiguousarray(a.T).T, wide[:, 2:7], spread, turned):
            rows = right[::2] if len(left) == 4 else right
            for other in (b, cuda.ascontiguousarray(b.T).T, tall[3:8], cuda.zeros((5, 18), dtype)[:, ::2] + b):
                into = cuda.zeros((len(left), 11), dtype)
                for out in (None, into[:, 1:10], cuda.zeros((9, len(left)), dtype).T):
                    got = cublas.matmul(left, other, out=out)
                    assert out is None or got is out
                    assert np.abs(backend.to_numpy(got) - rows).max() < (2e-2 if dtype == np.float16 else 1e-5)
                assert not backend.to_numpy(into)[:, [0, 10]].any()
        for shapes in (((1, 5), (5, 1)), ((3, 1), (1, 4)), ((0, 5), (5, 2)), ((2, 0), (0, 3))):
            one, two = (cuda.asarray(normal(3, shape, dtype)) for shape in shapes)
            want = backend.to_numpy(one) @ backend.to_numpy(two)
            assert np.abs(backend.to_numpy(cublas.matmul(one, two)) - want).max(initial=0) < 1e-2


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_gradient_goes_to_its_wider_place_without_being_rounded(cuda, dtype):
    dtype = np.dtype(dtype) if dtype != "bfloat16" else np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    g, x = (cuda.asarray(normal(i, shape, np.float32).astype(dtype)) for i, shape in enumerate([(40, 5), (40, 7)]))
    place = cuda.zeros(5 * 7 + 3, np.float32)[3:].reshape(5, 7)
    assert cublas.matmul(g.T, x, out=place) is place
    want = backend.to_numpy(g).astype(np.float64).T @ backend.to_numpy(x).astype(np.float64)
    assert np.abs(backend.to_numpy(place) - want).max() < 1e-5
    weight = Parameter(cuda.asarray(normal(3, (5, 7), np.float32).astype(dtype)))
    weight.gradient_place = place
    y = ops.linear(tt.Tensor(x), weight)
    y.backward(g)
    assert weight.grad is place and np.abs(backend.to_numpy(place) - want).max() < 1e-5


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_stacks_of_matrices_are_multiplied_by_one_call(cuda, dtype):
    """Broadcast, turned, one for all, empty, rows and columns: as np.matmul; CuPy's own takes bfloat16 for integers."""
    dtype = np.dtype(dtype) if dtype != "bfloat16" else np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    draw = lambda *shape: cuda.asarray(normal(len(shape), shape, np.float32).astype(dtype))
    turned = draw(3, 7, 4).swapaxes(1, 2)
    pairs = [((2, 3, 4, 5), (2, 3, 5, 6)), ((3, 4, 5), (5, 6)), ((4, 5), (3, 5, 6)), ((2, 1, 4, 5), (3, 5, 6)),
             ((5,), (3, 5, 6)), ((3, 4, 5), (5,)), ((3, 4, 0), (3, 0, 2)), ((0, 4, 5), (5, 2)), ((3, 1, 1), (3, 1, 1))]
    others = [(turned, draw(3, 7, 5)), (draw(3, 6, 7), turned.swapaxes(1, 2)), (draw(4, 7).T, draw(3, 4, 2)),
              (draw(6, 4, 7)[::2, :, 1:6], draw(5, 9)[:, 2:5])]
    for a, b in [*((draw(*a), draw(*b)) for a, b in pairs), *others]:
        want = np.matmul(*(backend.to_numpy(x).astype(np.float64) for x in (a, b)))
        got = backend.backend_of(a).matmul(a, b)
        assert got.dtype == dtype and got.shape == want.shape
        assert np.abs(backend.to_numpy(got).astype(np.float64) - want).max(initial=0) < {8: 1e-12, 4: 1e-5, 2: 0.1}[
            dtype.itemsize]  # fmt: skip
    if dtype.name == "bfloat16":
        with pytest.raises(TypeError, match="meant for integers"):
            draw(3, 4, 5) @ draw(5, 6)
    x, y = (tt.Tensor(draw(*shape), requires_grad=True) for shape in ((2, 3, 4, 5), (5, 6)))
    (x @ y).sum().backward()
    assert x.grad.shape == x.shape and y.grad.shape == y.shape and x.grad.dtype == dtype


def run(folder, device, *more):
    out = folder / f"{device}{len(more)}"
    corpus = folder / "text.txt"
    corpus.write_text("the quick brown fox jumps over the lazy dog. " * 60)
    words = f"gpt --data {corpus} --out {out} --layers 2 --heads 2 --width 16 --context 8 --batch 4 --steps 6".split()
    words += ["--log-every", "1", "--eval-every", "4", "--eval-batches", "1", "--workers", "1", "--device", device]
    assert main([*words, *more]) in (None, 0)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line[name] for line in lines for name in ("loss", "val_loss") if name in line], out


@pytest.mark.slow
@pytest.mark.parametrize("how", [["--dropout", "0.2"], ["--dropout", "0", "--dtype", "float16"],
                                 ["--dropout", "0.2", "--dtype", "bfloat16"]])
def test_a_run_with_a_recorded_step_has_the_losses_of_one_without(cuda, tmp_path, how):
    if "bfloat16" in how:
        pytest.importorskip("ml_dtypes")
    right, _ = run(tmp_path, "cuda", *how)
    got, out = run(tmp_path, "cuda", *how, "--graph")
    assert got == pytest.approx(right, rel=1e-6)
    assert main(["gpt", "--resume", str(out), "--steps", "10"]) in (None, 0)


T5_SHAPE = "--tokenizer bytes --layers 1 --heads 2 --head-width 8 --width 16 --hidden 32 --context 16"
ELMO_SHAPE = "--layers 2 --width 8 --hidden 12 --char-width 4 --filters 1x4,2x4 --context 4 --dropout 0"


@pytest.mark.parametrize("words", [
    f"t5 {T5_SHAPE} --dropout 0.1",
    f"t5 {T5_SHAPE} --objective prefix",
    "bert --layers 1 --heads 2 --width 16 --context 24 --dropout 0 --attention-dropout 0",
    "ernie-gen --layers 1 --heads 2 --width 16 --context 24 --dropout 0 --attention-dropout 0",
    f"elmo {ELMO_SHAPE}",
])
def test_other_families_runs_with_a_recorded_step_have_the_losses_of_those_without(cuda, tmp_path, words):
    """Batches that differ in shape are filled up with padding, which counts for nothing."""
    text = tmp_path / "text.txt"
    lines = [f"the fox {verb} over {count} dogs." for verb in ("jumps", "runs", "looks") for count in "12345"]
    text.write_text("\n\n".join("\n".join(lines[i : i + 3]) for i in range(0, 15, 3)) * 20)
    curves = []
    for more in ([], ["--graph"]):
        run = ["--data", str(text), "--out", str(tmp_path / f"run{len(more)}"), "--device", "cuda", "--workers", "1"]
        run += ["--steps", "5", "--batch", "3", "--log-every", "1", "--eval-every", "5", "--eval-batches", "1"]
        assert main([*words.split(), *run, *more]) in (None, 0)
        lines_of_run = map(json.loads, (tmp_path / f"run{len(more)}" / "metrics.jsonl").read_text().splitlines())
        curves.append([line[name] for line in lines_of_run for name in ("loss", "val_loss") if name in line])
    assert len(curves[0]) == 6 and len(set(curves[0])) == 6
    assert curves[1] == pytest.approx(curves[0], rel=2e-6)


@pytest.mark.parametrize("words, what", [
    ("elmo --layers 1 --width 8 --hidden 12 --char-width 4 --filters 1x4 --softmax sampled --samples 4", "ELMo")])
def test_a_run_whose_steps_differ_is_refused_before_it_begins(cuda, tmp_path, capsys, words, what):
    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox jumps over the lazy dog. it sleeps and the fox runs away from it. " * 100)
    words += f" --data {text} --out {tmp_path / 'run'} --steps 4 --batch 2 --device cuda --workers 1 --graph"
    assert main(words.split()) == 2
    assert f"the steps of this {what} differ from batch to batch, and --graph repeats" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_graphs_are_refused_where_they_make_no_sense():
    with pytest.raises(ValueError, match="--graph records what a GPU does; add --device cuda"):
        TrainConfig(graph=True)
    with pytest.raises(ValueError, match="records one batch, not 2 to an update; leave out --accumulate"):
        TrainConfig(graph=True, device="cuda", accumulate=2)


@pytest.fixture
def t5(cuda):
    with tt.random.seeded(1):
        return T5(T5Config(vocab_size=23, layers=2, heads=2, head_width=8, width=16, hidden=32)).to("cuda")


def test_a_t5s_answers_are_the_same_with_a_recorded_step(t5):
    source = np.array([[0, 5, 6, 7, 1], [0, 0, 8, 9, 1], [3, 4, 5, 6, 1]])
    reads = dict(source=source, source_mask=source != 0)
    for how in ({"temperature": 0}, {"temperature": 0.9, "samples": 2}, {"beams": 3}):
        answers = []
        for recorded in (False, True):
            with tt.random.seeded(3):
                answers.append(generate(t5, np.zeros((3, 1), int), 12, end=1, **reads, graph=recorded, **how))
        assert answers[0].shape == answers[1].shape and (answers[0] == answers[1]).all()


def test_the_scores_of_a_t5s_recorded_steps_are_those_of_plain_ones_at_every_distance(t5):
    ids = np.random.default_rng(0).integers(2, 23, (2, 30))
    scores = []
    for recorded in (False, True):
        draft = Draft(t5, ids[:, :1], None, 29, source=ids, source_mask=ids > 4, graph=recorded)
        scores.append([])
        for column in range(1, 30):
            scores[-1].append(draft.scores())
            draft.append(ids[:, column])
    assert np.abs(np.array(scores[1]) - scores[0]).max() < 1e-5
    assert np.abs(np.diff(scores[0], axis=0)).max(axis=(1, 2)).min() > 0.01


@pytest.fixture
def gpt(cuda):
    return GPT(GPTConfig(**TINY, init_std=0.5)).to("cuda")


def test_texts_are_the_same_with_a_recorded_step(gpt):
    ids = np.array([[1, 2, 3], [4, 5, 6]])
    for how in ({"temperature": 0}, {"temperature": 0.9, "samples": 2}, {"beams": 3}):
        texts = []
        for recorded in (False, True):
            with tt.random.seeded(3):
                texts.append(generate(gpt, ids, 14, graph=recorded, **how))  # on past the context of 12
        assert (texts[0] == texts[1]).all()
    scores = [beam_search(gpt, ids, 6, 2, graph=recorded)[1] for recorded in (False, True)]
    assert scores[1] == pytest.approx(scores[0], rel=1e-5)


def test_a_step_to_the_next_token_that_cannot_be_recorded_is_refused(gpt):
    with pytest.raises(ValueError, match="unequal lengths"):
        generate(gpt, [[1, 2], [3]], 4, graph=True)
    banded = GPT(GPTConfig(**TINY, window=4)).to("cuda")
    with pytest.raises(ValueError, match="steps of this GPT change from token to token"):
        generate(banded, [1, 2], 4, graph=True)
    with pytest.raises(ValueError, match="a CUDA graph records what a GPU does"):
        generate(gpt.to("cpu"), [1, 2], 4, graph=True)
