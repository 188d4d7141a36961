import dataclasses

import numpy as np
import pytest

import tinytensor as tt
from models import GPT, GPTConfig
from models.generate import generate
from models.sight import Sight, SightConfig, cut_patches, who_sees
from tests.helpers import assert_close
from tinytensor import Tensor
from tinytensor.gradcheck import gradcheck
from tinytensor.ops.softmax import IGNORED

SMALL = dict(vocab_size=11, context=8, layers=2, heads=2, width=8)
CONFIGS = {
    "nanoGPT's form": SightConfig(**SMALL, side=6, patch=2, bias=False, init_std=0.2),
    "GPT-1's": SightConfig(**SMALL, side=6, patch=3, post_norm=True, init_std=0.2),
    "with experts": SightConfig(**SMALL, side=4, patch=2, experts=2, capacity=4, init_std=0.2),
}
PARTS = np.array([[0, 0, 0, 1, 1, 2, 2, 2, -1, -1]])


def made(config: SightConfig) -> Sight:
    """A model whose every part matters, its norms included."""
    with tt.random.seeded(0) as draw:
        model = Sight(config)
        for parameter in model.parameters():
            parameter.data += np.float32(0.2) * draw.standard_normal(parameter.shape, dtype=np.float32)
    return model.eval()


def pictures(config: SightConfig, number: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((number, config.side, config.side, 3)).astype(np.float32)


def some_ids(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 11, shape)


def scores(model: Sight, ids: np.ndarray, **beside) -> np.ndarray:
    with tt.no_grad():
        return model(ids, **beside).numpy()


@pytest.fixture(params=CONFIGS)
def model(request) -> Sight:
    return made(CONFIGS[request.param])


@pytest.fixture(params=[name for name in CONFIGS if "experts" not in name])
def plain(request) -> Sight:
    """Without experts: these read other tokens where there are others, as each has room for few."""
    return made(CONFIGS[request.param])


# ---- the picture


def test_patches_are_the_squares_of_a_picture_row_by_row():
    picture = np.arange(6 * 6 * 3).reshape(1, 6, 6, 3)
    patches = cut_patches(picture, 2)
    assert patches.shape == (1, 9, 12)
    for n in range(9):
        row, column = 2 * (n // 3), 2 * (n % 3)
        np.testing.assert_array_equal(patches[0, n], picture[0, row : row + 2, column : column + 2].ravel())


@pytest.mark.parity
def test_a_pictures_vectors_are_those_of_a_convolution_with_stride_a_norm_and_two_tables():
    torch = pytest.importorskip("torch")
    config = SightConfig(vocab_size=11, context=8, layers=1, heads=2, width=32, side=32, patch=4)
    sight, seen = made(config), pictures(config, 3)
    convolution = torch.nn.Conv2d(3, 32, kernel_size=4, stride=4)
    norm = torch.nn.LayerNorm(32)
    of = lambda parameter: torch.nn.Parameter(torch.tensor(parameter.data))
    convolution.weight = torch.nn.Parameter(of(sight.patch_layer.weight).view(32, 4, 4, 3).permute(0, 3, 1, 2))
    convolution.bias, norm.weight, norm.bias = map(of, (sight.patch_layer.bias, sight.patch_norm.weight,
                                                        sight.patch_norm.bias))  # fmt: skip
    rows, columns = map(of, (sight.rows.weight, sight.columns.weight))
    pixels = torch.tensor(seen).permute(0, 3, 1, 2) * 2 - 1
    theirs = norm(convolution(pixels).permute(0, 2, 3, 1)) + rows[:, None] + columns  # (B, rows, columns, C)
    ours = sight.look(seen)
    assert_close(ours.data, theirs.reshape(3, 64, 32).detach().numpy(), 1e-5)

    start = np.random.default_rng(7).standard_normal(ours.shape).astype(np.float32)
    ours.backward(start)
    theirs.reshape(3, 64, 32).backward(torch.tensor(start))
    weight = convolution.weight.grad.permute(0, 2, 3, 1).reshape(32, 48)
    # Sums over 192 patches of float32 numbers of size 1: their order costs some of seven digits.
    assert_close(sight.patch_layer.weight.grad / 100, weight.numpy() / 100, 1e-5)
    assert_close(sight.rows.weight.grad / 100, rows.grad.numpy() / 100, 1e-5)
    assert_close(sight.columns.weight.grad / 100, columns.grad.numpy() / 100, 1e-5)
    assert_close(sight.patch_norm.weight.grad / 100, norm.weight.grad.numpy() / 100, 1e-5)


def test_gradients_of_the_loss_are_those_of_finite_differences():
    config = SightConfig(vocab_size=5, context=4, layers=1, heads=2, width=4, side=4, patch=2, init_std=0.3)
    sight = made(config)
    names = "patch_layer.weight", "patch_layer.bias", "patch_norm.weight", "rows.weight", "columns.weight"
    parameters = dict(sight.named_parameters())
    for parameter in parameters.values():
        parameter.data = parameter.data.astype(np.float64)
    ids = some_ids(2, 5) % 5
    batch = {"ids": ids, "targets": np.where(ids % 2, ids, IGNORED), "pixels": pictures(config).astype(np.float64),
             "parts": np.array([[0, 0, 0, 1, 1]] * 2)}  # fmt: skip
    gradcheck(lambda *_: sight.loss(batch), [parameters[name] for name in names], tolerance=1e-6)


def test_every_pixel_reaches_every_vector_of_the_picture_and_the_text_but_no_text_reaches_the_picture(model):
    config, ids = model.config, some_ids(1, 5)
    seen = pictures(config, 1)
    before = scores(model, ids, pixels=seen)
    for y, x in ((0, 0), (config.side - 1, config.side - 1)):
        other = seen.copy()
        other[0, y, x] += 1.0
        assert (np.abs(scores(model, ids, pixels=other) - before).max(axis=-1) > 1e-4).all()
    changed = ids.copy()
    changed[0, 3] = (ids[0, 3] + 1) % 11
    after = scores(model, changed, pixels=seen)
    assert_close(after[:, :3], before[:, :3], 1e-6)
    assert (np.abs(after - before).max(axis=-1)[0, 3:] > 1e-5).all()


# ---- texts behind one picture


def test_each_of_several_texts_behind_a_picture_is_read_as_if_it_stood_there_alone(plain):
    ids, seen = some_ids(1, 10), pictures(plain.config, 1)
    together = scores(plain, ids, pixels=seen, parts=PARTS)
    for part in range(3):
        own = PARTS[0] == part
        assert_close(together[:, own], scores(plain, ids[:, own], pixels=seen), 1e-5)


def test_padding_before_or_behind_a_text_changes_nothing(plain):
    ids, seen = some_ids(1, 4), pictures(plain.config, 1)
    alone = scores(plain, ids, pixels=seen)
    for before, behind in ((2, 0), (0, 3)):
        padded, mask = (np.pad(a, ((0, 0), (before, behind))) for a in (ids, np.ones((1, 4), bool)))
        got = scores(plain, padded, mask=mask, pixels=seen)
        assert_close(got[:, before : before + 4], alone, 1e-5)


def test_who_sees_whom():
    expected = np.array([[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]], bool)
    np.testing.assert_array_equal(who_sees(3, 2, 0)[0], expected)
    apart = who_sees(3, 2, 0, parts=np.array([[0, 1, 1]]))
    np.testing.assert_array_equal(apart[0, 2:], [[1, 1, 1, 0, 0], [1, 1, 0, 1, 0], [1, 1, 0, 1, 1]])
    np.testing.assert_array_equal(who_sees(2, 0, 3)[0], [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]])  # behind a cache of three
    assert who_sees(1, 0, 3) is None


def test_the_loss_is_the_mean_over_the_answers(model):
    ids, targets, seen = some_ids(1, 10), np.full((1, 10), IGNORED), pictures(model.config, 1)
    targets[0, [2, 4, 7]] = 3, 1, 4
    batch = {"ids": ids, "targets": targets, "parts": PARTS, "pixels": seen}
    logits = scores(model, ids, pixels=seen, parts=PARTS)[0].astype(np.float64)
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    assert model.loss(batch).item() == pytest.approx(-log_p[[2, 4, 7], [3, 1, 4]].mean(), abs=1e-5)
    assert model.counts(batch) == {"targets": 3, "rows": 1}


# ---- writing


def test_token_by_token_behind_a_picture_gives_the_scores_of_one_pass(plain):
    ids, seen = some_ids(2, 6), pictures(plain.config, 1)
    whole = scores(plain, ids, pixels=np.repeat(seen, 2, axis=0))
    for first in (1, 3):
        cache = plain.new_cache(2, 8, seen[0])
        assert_close(plain.step(ids[:, :first], cache), whole[:, first - 1], 1e-5)
        for place in range(first, 6):
            assert_close(plain.step(ids[:, place : place + 1], cache), whole[:, place], 1e-5)


def test_texts_of_unequal_length_behind_a_picture_are_written_as_each_alone():
    sight = made(CONFIGS["nanoGPT's form"])
    looking, prompts = sight.looking_at(pictures(sight.config, 1)[0]), [some_ids(4), some_ids(2, seed=3)]
    together = generate(looking, prompts, 3, temperature=0)
    for prompt, text in zip(prompts, together):
        (alone,) = generate(looking, [prompt], 3, temperature=0)
        np.testing.assert_array_equal(np.asarray(text)[-len(alone) :], alone)


def test_another_picture_is_told_of_otherwise():
    sight = made(CONFIGS["nanoGPT's form"])
    texts = [generate(sight.looking_at(one), [some_ids(2)], 5, temperature=0)[0] for one in pictures(sight.config, 8)]
    assert len({tuple(np.asarray(text).tolist()) for text in texts}) > 1


# ---- what it begins with


def test_without_a_picture_it_is_the_gpt_it_began_with():
    with tt.random.seeded(3):
        gpt = GPT(GPTConfig(**SMALL, init_std=0.3)).eval()
    sight = Sight.from_gpt(gpt, side=8).eval()
    assert sight.config == SightConfig(**dataclasses.asdict(gpt.config), side=8)
    ids = some_ids(2, 6)
    assert_close(scores(sight, ids), scores(gpt, ids), 1e-6)
    mask = np.array([[True] * 6, [False] * 2 + [True] * 4])
    assert_close(scores(sight, ids, mask=mask)[mask], scores(gpt, ids, mask=mask)[mask], 1e-6)
    np.testing.assert_array_equal(generate(sight, ids, 2, temperature=0), generate(gpt, ids, 2, temperature=0))
    batch = {"ids": ids, "targets": ids}
    assert sight.loss(batch).item() == pytest.approx(gpt.loss(batch).item(), abs=1e-6)


def test_what_makes_no_sense_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match="patches of 5 pixels do not fill a side of 32; try --patch 4"):
        SightConfig(**SMALL, patch=5)
    with pytest.raises(ValueError, match="window 2: every block must see the whole picture"):
        SightConfig(**SMALL, window=2)
    with pytest.raises(ValueError, match=r"rotary 10000\.0: a GPT that reads pictures has learned positions"):
        SightConfig(**SMALL, rotary=10000.0)
    sight = made(CONFIGS["nanoGPT's form"])
    with pytest.raises(ValueError, match=r"pictures have shape \(1, 8, 8, 3\), expected \(B, 6, 6, 3\)"):
        sight.look(np.zeros((1, 8, 8, 3), np.float32))
    with pytest.raises(ValueError, match="9 tokens are more than the context of 8"):
        sight(some_ids(1, 9), pixels=pictures(sight.config, 1))
    with pytest.raises(ValueError, match="9 tokens are more than the context of 8"):
        sight(some_ids(1, 9), pixels=pictures(sight.config, 1), parts=np.zeros((1, 9), int))
    assert sight(some_ids(1, 10), pixels=pictures(sight.config, 1), parts=PARTS).shape == (1, 10, 11)


def test_blocks_computed_twice_give_the_same_gradients():
    batch = {"ids": some_ids(2, 10), "targets": some_ids(2, 10, seed=5), "parts": np.repeat(PARTS, 2, axis=0),
             "pixels": pictures(CONFIGS["nanoGPT's form"])}  # fmt: skip
    once, twice = (made(dataclasses.replace(CONFIGS["nanoGPT's form"], recompute=again)) for again in (False, True))
    for model in (once, twice):
        model.loss(batch).backward()
    for (name, one), other in zip(once.named_parameters(), twice.parameters()):
        assert one.grad is not None, name
        assert_close(other.grad, one.grad, 1e-6)


def test_a_step_down_the_gradient_lowers_the_loss_also_through_the_picture():
    sight = made(CONFIGS["nanoGPT's form"])
    batch = {"ids": some_ids(2, 10), "targets": some_ids(2, 10, seed=5), "parts": np.repeat(PARTS, 2, axis=0),
             "pixels": pictures(sight.config)}  # fmt: skip
    before = sight.loss(batch)
    before.backward()
    for name in ("patch_layer", "patch_norm", "rows", "columns"):
        weight = vars(sight)[name].weight
        assert np.abs(weight.grad).max() > 0
        weight.data -= 0.01 * weight.grad
    assert sight.loss(batch).item() < before.item()
    assert isinstance(before, Tensor)
