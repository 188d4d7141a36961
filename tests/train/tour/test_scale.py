"""Cuts over many GPUs: the papers' formulas, published runs, and the bytes that ranks of our own move."""

from collections import Counter
from contextlib import contextmanager

import numpy as np
import pytest

from models.gpt import GPT, GPTConfig
from tests.train.test_compress import command
from tinytensor.threads import Threads
from train import trainer as training
from train.cut import CutTrainer
from train.objectives.windows import Causal
from train.tour import scale, trend
from train.tour.scale import Bytes, Cut, Model

A100 = scale.MACHINES["a100"]
GPT3 = Model(GPTConfig.preset("gpt3-175b"), 1536)
FLOAT32 = Bytes(4, 4, 8, 4)


@pytest.mark.parametrize("name", GPTConfig.presets)
def test_parameters_are_those_of_the_real_class(name):
    config = GPTConfig.preset(name)
    assert scale.parameters(Model(config, 1), Cut()) == (trend.count(GPT, config), 0)


def test_ranks_together_hold_the_model_and_copies_of_what_is_not_cut():
    """Of one layer norms and what is added after a sum; at the ends positions, a norm, and rows of padding."""
    config = GPTConfig(vocab_size=1000, context=64, layers=4, heads=4, width=32)
    whole, of_a_rank = (scale.parameters(Model(config, 1), Cut(tensor=t))[0] for t in (1, 4))
    copied = 4 * (4 * 32 + 2 * 32) + 64 * 32 + 2 * 32
    padding = (1024 - 1000) * 32
    assert 4 * of_a_rank == whole + 3 * copied + padding


def test_a_mixture_of_two_is_the_model_with_one_more_network_and_a_router():
    config = GPTConfig(vocab_size=100, context=16, layers=4, heads=2, width=8)
    one, two = (sum(scale.parameters(Model(config, 1, experts=E), Cut())) for E in (1, 2))
    network = 2 * 8 * 32 + 32 + 8
    assert two - one == 2 * (network + 2 * 8)  # in every second layer
    shared, routed = scale.parameters(Model(config, 1, experts=2), Cut(2, experts=2))
    assert routed == 2 * network and shared + 2 * routed == two


def test_vocabularies_are_padded_to_a_multiple_of_128_for_each_rank():
    config = GPTConfig(vocab_size=50257, context=1, layers=1, heads=1, width=1, hidden=1, bias=False)
    assert Model(config, 1).ends(8) == 51200 // 8 + 1 + 1


def test_work_is_the_papers_formula():
    B, s, L, h, V = 2304, 2048, 80, 12288, 51200
    model = Model(GPTConfig(V, s, L, 96, h), B)
    assert model.flops(True) == pytest.approx(96 * B * s * L * h**2 * (1 + s / (6 * h) + V / (16 * L * h)), rel=1e-12)
    assert model.flops(True) - model.flops(False) == pytest.approx(24 * B * s * L * h**2 * (1 + s / (6 * h)), rel=1e-12)


def test_three_stages_of_zero_take_what_its_paper_says():
    """7.5 billion parameters on 64 ranks: 120, 31.4, 16.6 and 1.9 GB."""
    model = Model(GPTConfig(51200, 2048, 36, 32, 4096), 64)
    for stage, gigabytes in enumerate((120, 31.4, 16.6, 1.88)):
        held = scale.memory(model, Cut(64, zero=stage), scale.HALF)
        each = (held["weights"] + held["gradients"] + held["optimizer"]) / scale.parameters(model, Cut())[0]
        assert each * 7.5 == pytest.approx(gigabytes, rel=3e-3)


def test_activations_of_a_layer_are_the_papers_formulas():
    s, b, h, A, L, p = 2048, 2, 12288, 96, 96, 8
    model = Model(GPTConfig(51200, s, L, A, h), 1536)
    kept = lambda **how: scale.memory(model, Cut(pipeline=p, micro=b, **how))["activations"]
    layers_alive = L  # L/p on the first stage, for p micro-batches
    assert kept(again=False) == pytest.approx(layers_alive * s * b * h * (34 + 5 * A * s / h), rel=1e-12)
    layer = s * b * h * (10 + 24 / 8 + 5 * A * s / (h * 8))
    assert kept(again=False, tensor=8) == pytest.approx(layers_alive * layer, rel=1e-12)
    assert kept(tensor=8) == pytest.approx(layers_alive * 2 * s * b * h + layer, rel=1e-12)
    assert kept(tensor=8, chunks=2, again=False) == pytest.approx(layers_alive * layer * (1 + 7 / 16), rel=1e-12)


def sent(model: Model, cut: Cut, size: Bytes = scale.HALF) -> dict[str, float]:
    by = {}
    for one in scale.traffic(model, cut, size):
        by[one.what] = by.get(one.what, 0) + one.bytes
    return by


def test_bytes_sent_are_a_rings():
    model, m, M = Model(GPTConfig(51200, 1024, 6, 8, 512), 64), 16, 2 * 2 * 1024 * 512
    cut = Cut(2, 8, 1, micro=2, zero=0)
    P = scale.parameters(model, cut)[0]
    assert sent(model, cut) == {"tensor": m * (6 * 6 + 2) * 2 * M * 7 / 8, "gradients": 2 * P}  # 2 M (n-1)/n, n = 2
    assert sent(model, Cut(2, 8, 1, micro=2, again=False))["tensor"] == m * (4 * 6 + 2) * 2 * M * 7 / 8
    P = scale.parameters(model, Cut())[0]
    for zero, passes in ((0, 2), (1, 2), (2, 2), (3, 3)):
        assert sum(sent(model, Cut(4, micro=16, zero=zero)).values()) == passes * 2 * P * 3 / 4
    for zero, passes in ((1, 2), (2, 3), (3, 6)):  # two micro-batches: nobody keeps whole gradients, or weights
        assert sum(sent(model, Cut(4, micro=8, zero=zero)).values()) == passes * 2 * P * 3 / 4
    assert sent(model, Cut(1, 1, 2, chunks=3, zero=0))["pipeline"] == 2 * 3 * 64 * M / 2


def test_tokens_go_to_their_experts_and_back():
    model = Model(GPTConfig(51200, 1024, 6, 8, 512), 64, experts=8, top=2, capacity=1.25)
    tokens = 2 * 1024 * 2 * 1.25 * 512 * 2 * 7 / 8  # of a micro-batch of 2, 7 of 8 elsewhere
    by = sent(model, Cut(16, micro=2, experts=8, zero=0, again=False))
    shared, routed = scale.parameters(model, Cut(16, experts=8))
    assert by["experts"] == 3 * 2 * 4 * tokens  # 3 layers, 2 micro-batches, twice forward and twice backward
    assert by["gradients"] == 2 * 2 * shared * 15 / 16 and by["experts' gradients"] == 2 * 2 * routed / 2


def test_a_pipeline_waits_at_its_ends():
    for chunks in (1, 2):
        took = scale.step(GPT3, Cut(16, 8, 8, chunks=chunks), A100)
        filled = took["compute"] + took["tensor"] + took["pipeline"]
        assert took["bubble"] == pytest.approx(filled * 7 / (chunks * 96), rel=1e-12)


def test_two_fitted_numbers_predict_the_other_eight_runs():
    rows = scale.PUBLISHED[:10]
    off = {row.name: scale.predicted(row)[1] / row.published - 1 for row in rows}
    fitted = [row.name for row in rows if row.known.startswith(scale.FITTED)]
    assert fitted == ["1.7B", "1008B"] and all(abs(off.pop(name)) < 0.005 for name in fitted)
    assert np.mean(np.abs([*off.values()])) < 0.04 and max(map(abs, off.values())) < 0.105


def test_names_of_published_runs_are_their_parameters():
    for row in scale.PUBLISHED[:10]:
        model, *_ = scale.predicted(row)
        assert sum(scale.parameters(model, Cut())) == pytest.approx(float(row.name[:-1]) * 1e9, rel=0.03)


def test_megatron_on_v100s():
    """Sums over tensors alone leave 96, 90 and 83% of one GPU's speed; sums of gradients 64%, 83% if hidden."""
    rows = {(row.name, row.cut.data): row for row in scale.PUBLISHED if row.name.startswith("Megatron")}
    one = Model(GPTConfig(51200, 1024, 40, 16, 1536), 8)
    alone = scale.tflops(one, Cut(micro=8, zero=0), scale.MACHINES["v100"])
    shares = [scale.predicted(row)[1] / alone for row in rows.values()]
    assert shares == pytest.approx([0.96, 0.90, 0.83, 0.64], abs=0.006)
    assert scale.predicted(rows["Megatron-LM 8.3B", 64])[2] / alone == pytest.approx(0.83, abs=0.006)
    assert 15100 / (39 * 512) == pytest.approx(0.756, abs=5e-4)


@pytest.mark.parametrize(("shape", "gpus", "tokens", "speed", "days"), [
    ((51200, 2048, 96, 96, 12288), 1024, 300e9, 140, 34), ((51200, 2048, 128, 160, 25600), 3072, 450e9, 163, 84)
])  # fmt: skip
def test_the_papers_days_are_its_speed(shape, gpus, tokens, speed, days):
    model = Model(GPTConfig(*shape), 1)
    assert model.flops(True) / 2048 * tokens / (gpus * speed * 1e12) / 86400 == pytest.approx(days, rel=0.03)


class Read:
    """Another rank's array, counting what is read of it."""

    def __init__(self, array: np.ndarray, count):
        self.array, self.count = array, count

    def __getitem__(self, part):
        self.count(self.array[part].nbytes)
        return self.array[part]

    def __array__(self, *args, **kwargs):
        return np.array(self.array, *args, **kwargs)

    def copy(self):
        return self.array.copy()


class Counting(Threads):
    """Ranks that count the bytes they read of each other's memory, and have no memory in common."""

    def __init__(self, size: int):
        super().__init__(size)
        self.read = [dict(reduce_scatter=0, all_gather=0) for _ in range(size)]

    def _is_shared(self, array):
        return False

    @contextmanager
    def _everyones(self, what, array, parts=None):
        def count(bytes):
            self.read[self.rank][what] += bytes

        with super()._everyones(what, array, parts) as arrays:
            yield [one if rank == self.rank else Read(one, count) for rank, one in enumerate(arrays)]


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_of_our_own_move_the_bytes_that_are_reckoned(ranks, tmp_path, monkeypatch):
    """Three steps and a checkpoint, minus two steps and a checkpoint: a step."""
    config, read = GPTConfig(vocab_size=31, context=8, layers=2, heads=2, width=16), []
    for steps in (2, 3):
        comm = Counting(ranks)
        monkeypatch.setattr(training, "of_a_training", lambda kind, workers, device, comm=comm: comm)
        how = training.TrainConfig(steps=steps, batch=4, workers=ranks, worker_kind="threads", eval_batches=1, warmup=0)
        data = np.arange(400, dtype=np.int64) % 31
        training.Trainer(GPT(config), Causal(8, 4), data, data, how, tmp_path / f"{steps}", None).train()
        read.append(comm.read)
    moved = [sum(one[what] for one in read[1]) - sum(one[what] for one in read[0]) for what in read[0][0]]
    each = {one.what: one.bytes for one in scale.traffic(Model(config, 4), Cut(ranks), FLOAT32)}
    assert moved == [ranks * each["gradients"], ranks * each["weights"]]
    assert moved == [4 * trend.count(GPT, config) * (ranks - 1)] * 2


class Summing(Threads):
    """Ranks that write down the shape of each array that they sum, or share, with the other ranks of a model."""

    def __init__(self, size: int):
        super().__init__(size)
        self.summed = []

    @contextmanager
    def _everyones(self, what, array, parts=None):
        if self._members[self.rank] == 0 and self.size > 1:
            self.summed.append((what, array.shape, array.nbytes))
        with super()._everyones(what, array, parts) as arrays:
            yield arrays


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_that_share_each_matrix_sum_the_bytes_that_are_reckoned(ranks, bias, tmp_path, monkeypatch):
    """A step's sums of hidden vectors; the loss takes three numbers a token and rank on top, the norm one a rank."""
    config, calls = GPTConfig(vocab_size=32, context=8, layers=3, heads=4, width=16, bias=bias), []
    for steps in (2, 3):
        comm = Summing(ranks)
        monkeypatch.setattr(training, "of_a_training", lambda kind, workers, device, comm=comm: comm)
        how = dict(batch=4, workers=ranks, tensor=ranks, worker_kind="threads", eval_batches=1, warmup=0)
        data = np.arange(400, dtype=np.int64) % 32
        how = training.TrainConfig(steps=steps, **how)
        CutTrainer(GPT(config), Causal(8, 4), data, data, how, tmp_path / f"{steps}", None).train()
        calls.append(Counter(comm.summed))
    step = calls[1] - calls[0]
    hidden = {call: n for call, n in step.items() if call[1][-1] == config.width and call[0] == "all_reduce"}
    cut = Cut(1, ranks, micro=4, again=False)
    reckoned = next(one for one in scale.traffic(Model(config, 4), cut, FLOAT32) if one.what == "tensor")
    assert sum(hidden.values()) == reckoned.calls == 4 * config.layers + 2
    through = sum(size * n for (_, _, size), n in hidden.items())
    assert 2 * through * (ranks - 1) / ranks == reckoned.bytes  # what a ring would send of them
    rest = sum(size * n for (_, _, size), n in (step - Counter(hidden)).items())
    assert rest <= ranks * 3 * 4 * 32 + 400  # the second: squares of the gradient, the loss, counts, 8 bytes each


def test_the_search_finds_the_fastest_that_fits():
    found = scale.search(GPT3, 1024, A100, {})
    times = [sum(scale.step(GPT3, cut, A100).values()) for cut in found]
    assert times == sorted(times) and all(cut.gpus == 1024 for cut in found)
    assert all(sum(scale.memory(GPT3, cut).values()) <= A100.memory for cut in found)
    cut = Cut(16, 8, 8, micro=1, chunks=2)
    assert cut in found and set(scale.search(GPT3, 1024, A100, {"tensor": 8, "pipeline": 8})) == {
        one for one in found if (one.tensor, one.pipeline) == (8, 8)}  # fmt: skip


def test_the_command_says_what_a_cut_costs(capsys):
    assert command("scale", "--preset", "gpt3-175b", "--tensor", 8, "--pipeline", 8, "--chunks", 2, "--again",
                   "--micro-batch", 1) == 0  # fmt: skip
    said = capsys.readouterr().out
    assert "174,604,259,328 parameters on 1,024 GPUs (a100), a batch of 1,536 x 2,048 tokens" in said
    line = next(line for line in said.splitlines() if line.startswith("| 16 x 8 x 8 x 1"))
    assert [cell.strip() for cell in line.split("|")[-4:-1]] == ["28.44 s", "155", "31.4"]
    assert command("scale", "--preset", "gpt3-1.3b", "--gpus", 64, "--experts", 64, "--experts-over", 64) == 0
    assert "64 x 1 x 1 x 64" in capsys.readouterr().out
    assert command("scale") == 0
    said = capsys.readouterr().out
    assert said.count("from memory, not checked") == 11 and said.count("a speed is fitted to it") == 2


@pytest.mark.parametrize(("flags", "sentence"), [
    (["--tensor", 7], "96 heads cannot be cut into equal parts by --tensor 7; 6 or 8 would do"),
    (["--pipeline", 7], "96 layers cannot be cut into equal parts by --pipeline 7; 6 or 8 would do"),
    (["--gpus", 1000, "--tensor", 8, "--pipeline", 2], "1000 GPUs are no whole copies of --tensor x --pipeline = 16; "
     "--gpus 992 would do"),
    (["--tensor", 8, "--pipeline", 8, "--micro-batch", 7], "1536 sequences of --batch cannot be cut into equal parts "
     "by 16 copies x --micro-batch 7 = 112; 96 or 128 would do"),
    (["--gpus", 65536, "--tensor", 1, "--pipeline", 1], "1536 sequences of --batch cannot be cut into equal parts "
     "by 65536 copies x --micro-batch 1 = 65536; 1536 would do"),
    (["--experts", 8, "--experts-over", 3], "8 experts cannot be cut into equal parts by --experts-over 3; 2 or 4"),
    (["--chunks", 2, "--pipeline", 1], "--chunks 2 needs a --pipeline whose stages divide"),
    (["--every", 97], "--every 97 is more than there are; take 96 at most"),
    (["--experts", 4, "--top", 8], "--top 8 is more than there are; take 4 at most"),
    (["--gpus", 1], "takes 3,151 GB of each of 1 GPUs, which have 80; take more --gpus"),
    (["--width", 100], "width 100 is not divisible by"),
    (["--zero", 4], "argument --zero: invalid choice"),
])  # fmt: skip
def test_what_cannot_be_cut_is_refused(flags, sentence, capsys):
    assert command("scale", "--preset", "gpt3-175b", *flags) == 2
    assert sentence in capsys.readouterr().err
