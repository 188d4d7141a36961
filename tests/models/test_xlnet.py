"""XLNet by itself: who may know what, the memory, writing, filling in, and its size."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinytensor as tt
from models import XLNet, XLNetConfig
from models.generate import generate
from models.score import score
from nn import shapes_only
from tests.helpers import assert_close
from tinytensor.ops.softmax import IGNORED
from train.optim import AdamW

SMALL = dict(vocab_size=31, layers=2, heads=2, width=12, dropout=0.0, init_std=0.3)
B, T = 3, 8


def small(**changes) -> XLNet:
    tt.manual_seed(4)
    model = XLNet(XLNetConfig(**SMALL | changes)).eval()
    for parameter in model.parameters():
        parameter.data = parameter.data.astype(np.float64)
    return model


def ids_of(seed: int = 0, rows: int = B, length: int = T) -> np.ndarray:
    return np.random.default_rng(seed).integers(9, 31, (rows, length))


def in_order(order: np.ndarray) -> np.ndarray:
    """(T,), each place's turn -> (T, T): who comes before whom."""
    return order[None, :] < order[:, None]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), remembers=st.booleans())
def test_a_prediction_hangs_on_the_tokens_before_it_in_the_order_and_on_no_others(seed, remembers):
    model, draw, ids = small(memory=5), np.random.default_rng(seed), ids_of(seed)
    order = np.stack([draw.permutation(T) for _ in range(B)])
    places = np.stack([draw.permutation(T) for _ in range(B)])
    how = dict(sees=np.stack([in_order(row) for row in order]), places=places)
    if remembers:
        how |= dict(memory=draw.standard_normal((B, 2, 5, 12)), remembered=draw.integers(0, 6, B))
    changed, row = int(draw.integers(T)), int(draw.integers(B))
    other = ids.copy()
    other[row, changed] = 9 + (ids[row, changed] - 8) % 22
    with tt.no_grad():
        moved = np.abs(model(other, **how).data - model(ids, **how).data).max(axis=-1)  # (B, K)
    later = order[row, places[row]] > order[row, changed]
    assert (moved[row][later] > 1e-9).all() and not moved[row][~later].any()
    assert not np.delete(moved, row, axis=0).any()


def test_what_is_not_remembered_is_not_seen():
    model, ids = small(memory=4), ids_of()
    memory = np.random.default_rng(1).standard_normal((B, 2, 4, 12))
    nothing = model(ids, memory=memory, remembered=np.zeros(B, int)).data
    assert_close(nothing, model(ids).data, 1e-12)
    last_two = model(ids, memory=memory, remembered=np.full(B, 2)).data
    assert_close(last_two, model(ids, memory=memory[:, :, 2:]).data, 1e-12)
    assert np.abs(last_two - nothing).max() > 1e-3


def test_a_loss_leaves_what_it_read_in_the_memory_and_goes_on_from_there():
    model, batches = small(memory=6, reuse=4), [permuted(n) for n in range(3)]
    state = model.new_state(B)
    losses = [model.loss(batch | state).item() for batch in batches]
    assert state["remembered"].tolist() == [6] * B
    assert_close(state["memory"][:, 0, -4:], model.embedding(batches[2]["ids"][:, :4]).data, 1e-12)
    assert losses[0] == pytest.approx(model.loss(batches[0]).item(), rel=1e-12)
    assert losses[2] != pytest.approx(model.loss(batches[2]).item(), rel=1e-6)
    assert small().new_state(B) == {}


def permuted(seed: int, **more) -> dict:
    draw = np.random.default_rng(seed)
    ids, places = ids_of(seed), np.stack([draw.permutation(T)[:3] for _ in range(B)])
    sees = np.stack([in_order(draw.permutation(T)) for _ in range(B)])
    targets = np.take_along_axis(ids, places, axis=1)
    targets[0, 2] = IGNORED
    return dict(ids=ids, places=places, sees=sees, targets=targets) | more


def test_every_gradient_is_the_slope_of_the_loss():
    model, draw = small(memory=3), np.random.default_rng(7)
    types, mask = np.sort(draw.integers(0, 3, (B, T)), axis=1), np.arange(T) >= np.array([0, 2, 0])[:, None]
    batch = permuted(5, token_types=types, mask=mask, backwards=np.array([False, True, True]))
    fresh = lambda: batch | dict(memory=np.ones((B, 2, 3, 12)), remembered=np.array([3, 1, 0]))
    model.loss(fresh()).backward()
    for name, parameter in model.named_parameters():
        flat, slope = parameter.data.reshape(-1), parameter.grad.reshape(-1)
        for place in draw.choice(flat.size, 3, replace=False):
            before, step = flat[place], 1e-5
            values = []
            for side in (step, -step):
                flat[place] = before + side
                values.append(model.loss(fresh()).item())
            flat[place] = before
            assert slope[place] == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-4, abs=1e-8), name


def test_the_side_of_the_padding_and_the_names_of_the_segments_make_no_difference():
    model, ids = small(), ids_of()
    types = np.sort(np.random.default_rng(2).integers(0, 3, (B, T)), axis=1)
    x = model.features({"ids": ids, "token_types": types}).data
    renamed = np.array([2, 5, 1])[types]
    for left in (True, False):
        arrays, side = {"ids": ids, "token_types": renamed, "mask": np.ones((B, T), bool)}, (3, 0) if left else (0, 3)
        batch = {name: np.pad(array, ((0, 0), side)) for name, array in arrays.items()}
        assert_close(model.features(batch).data[:, slice(3, None) if left else slice(T)], x, 1e-10)
        assert_close(model.summary(batch).data, x[:, -1], 1e-10)
    assert_close(model.summary({"ids": ids}).data, model.features({"ids": ids}).data[:, -1], 1e-12)


def test_writing_step_by_step_is_one_pass_over_the_prompt_and_what_follows_it_in_order():
    model, ids, prompt = small(), ids_of(rows=2, length=9), 4
    cache = model.new_cache(2, 9)
    steps = [model.step(ids[:, :prompt], cache), *(model.step(ids[:, t : t + 1], cache) for t in range(prompt, 8))]
    turn = np.maximum(np.arange(9) - prompt + 1, 0)  # the prompt is first, all of it at once
    sees = np.broadcast_to(in_order(turn) | ((turn == 0) & (turn == 0)[:, None]), (2, 9, 9))
    places = np.broadcast_to(np.arange(prompt, 9), (2, 5))
    assert_close(np.stack(steps, axis=1), model(ids, sees=sees, places=places).data, 1e-10)


def test_a_prompt_padded_on_the_left_is_continued_as_it_is_alone():
    model, ids = small(), ids_of(rows=2, length=6)
    alone = generate(model, ids[1, 2:], 5, temperature=0)
    together = generate(model, [ids[0], ids[1, 2:]], 5, temperature=0)
    assert together[1].tolist() == alone.tolist()
    assert together[0].tolist() == generate(model, ids[0], 5, temperature=0).tolist()


def test_a_text_is_scored_in_the_order_from_left_to_right():
    model, ids = small(), ids_of(rows=1)
    found = score(model, ids[0])
    sees, places = np.tri(T, k=-1, dtype=bool)[None], np.arange(1, T)[None]
    log_p = tt.ops.log_softmax(model(ids, sees=sees, places=places)).data[0]
    assert_close(found.log_probs, np.take_along_axis(log_p, ids[0, 1:, None], axis=1)[:, 0], 1e-10)
    cache = model.new_cache(1, T)
    parts = [model.hidden(part, cache=cache).data for part in (ids[:, :3], ids[:, 3:4], ids[:, 4:])]
    assert_close(np.concatenate(parts, axis=1), model.hidden(ids).data, 1e-10)


def test_what_is_to_be_guessed_is_guessed_by_all_tokens_that_are_known():
    model, ids = small(), ids_of()
    ids[:, [2, 5]] = model.config.mask_id
    scores = model.fill_scores(ids).data
    guesses, known = scores[:, [2, 5]], np.broadcast_to(ids[:, None] != 6, (B, T, T))
    assert_close(model(ids, sees=known, places=np.broadcast_to([2, 5], (B, 2))).data, guesses, 1e-12)
    for place in set(range(T)) - {2, 5}:
        other = ids.copy()
        other[:, place] = 9 + (ids[:, place] - 8) % 22
        assert (np.abs(model.fill_scores(other).data[:, [2, 5]] - guesses).max(axis=-1) > 1e-9).all()
    behind = known & (np.arange(T) != 5)  # nothing there hangs on what the masks' own rows say
    assert_close(model(ids, sees=behind, places=np.full((B, 1), 2)).data, guesses[:, :1], 1e-12)


def test_it_learns_a_rule_that_needs_both_sides():
    """Each token is the sum of its neighbours: who sees one side only cannot know it."""
    tt.manual_seed(1)
    model = XLNet(XLNetConfig(vocab_size=16, layers=2, heads=2, width=32, dropout=0.0))
    optimizer, draw = AdamW(model.parameters(), lr=3e-3), np.random.default_rng(0)
    for _ in range(300):
        a, b = draw.integers(7, 16, (2, 32))
        ids = np.stack([a, 7 + (a + b) % 9, b], axis=1)
        sees, places = np.broadcast_to(~np.eye(3, dtype=bool), (32, 3, 3)), np.full((32, 1), 1)
        loss = model.loss(dict(ids=ids, sees=sees, places=places, targets=ids[:, [1]]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5  # log 9 = 2.2 for who sees one of them


@pytest.mark.parametrize("name, count", [("base", 116_750_336), ("large", 360_300_800)])
def test_the_published_sizes_have_as_many_parameters_as_transformers_counts(name, count):
    with shapes_only():
        assert XLNet(XLNetConfig.preset(name)).parameter_count() == count


def test_a_width_that_cannot_be_halved_is_refused():
    with pytest.raises(ValueError, match="width 15 must be even"):
        XLNetConfig(width=15, heads=3)


def test_places_without_a_rule_of_who_sees_whom_are_refused():
    with pytest.raises(ValueError, match=r"but nothing says who sees whom: give sees \(B, T, T\) too"):
        small()(ids_of(), places=np.zeros((B, 1), int))
