"""Learning-rate schedules: the values at their corners, and the rates of nanoGPT's documented run."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.optim import SHAPES, Schedule
from train.trainer import TrainConfig


def test_warm_up_rises_in_equal_parts_and_reaches_the_full_rate():
    schedule = Schedule(1.0, steps=100, warmup=4)
    assert [schedule(step) for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_cosine_is_halfway_between_its_ends_in_the_middle_and_ends_at_min_lr():
    schedule = Schedule(1e-3, steps=2100, warmup=100, min_lr=1e-4)
    assert schedule(100) == 1e-3
    assert schedule(1100) == pytest.approx(5.5e-4)
    assert schedule(2100) == pytest.approx(1e-4)
    assert schedule(5000) == pytest.approx(1e-4)


def test_cosine_agrees_with_nanogpts_formula():
    schedule = Schedule(1e-3, steps=2000, warmup=100, min_lr=1e-4)
    for step in (0, 50, 100, 101, 777, 1999):
        if step < 100:
            expected = 1e-3 * (step + 1) / 101
        else:
            expected = 1e-4 + 0.5 * (1 + math.cos(math.pi * (step - 100) / 1900)) * (1e-3 - 1e-4)
        assert schedule(step) == pytest.approx(expected, rel=1e-12)


def test_linear_falls_in_a_straight_line():
    schedule = Schedule(1.0, steps=10, shape="linear")
    assert [schedule(step) for step in (0, 5, 10)] == pytest.approx([1.0, 0.5, 0.0])


def test_inverse_sqrt_halves_when_the_steps_quadruple():
    schedule = Schedule(1.0, steps=10**6, warmup=100, shape="inverse-sqrt")
    assert schedule(100) == 1.0
    assert schedule(400) == pytest.approx(0.5)


def test_constant_stays():
    assert {Schedule(0.3, steps=10, shape="constant")(step) for step in range(20)} == {0.3}


@given(st.sampled_from(SHAPES), st.integers(0, 50), st.integers(1, 100), st.integers(0, 300))
def test_no_schedule_leaves_the_range_from_zero_to_lr(shape, warmup, steps, step):
    assert 0 <= Schedule(0.1, steps, warmup, 0.01, shape)(step) <= 0.1


def test_rates_that_are_no_numbers_or_would_rise_are_refused():
    for lr in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="learning rates must be numbers from 0 on"):
            Schedule(lr, 10)
    with pytest.raises(ValueError, match=r"min_lr 0.0001 is above lr 1e-05, and the rate would rise; lower --min-lr"):
        Schedule(1e-5, 10, min_lr=1e-4)
    assert Schedule(1e-5, 10, min_lr=1e-4, shape="constant")(9) == 1e-5  # which has no end


def test_a_rate_that_restarts_falls_as_often_as_it_is_told_and_ends_low():
    schedule = Schedule(1.0, steps=104, warmup=4, min_lr=0.2, cycles=2)
    assert [schedule(step) for step in (4, 29, 54, 79)] == pytest.approx([1.0, 0.6, 1.0, 0.6])
    assert schedule(53) == pytest.approx(0.2, abs=2e-3) and schedule(104) == pytest.approx(0.2)


def test_polynomial_falls_like_a_power_of_what_is_left():
    schedule = Schedule(1.0, steps=10, shape="polynomial", power=2.0)
    assert [schedule(step) for step in (0, 5, 9, 10, 20)] == pytest.approx([1.0, 0.25, 0.01, 0.0, 0.0])


def test_options_that_a_shape_does_not_have_are_refused():
    with pytest.raises(ValueError, match=r"power 2.0 must be above 0, and goes with --schedule polynomial"):
        Schedule(1.0, 10, power=2.0)
    with pytest.raises(ValueError, match="cycles 2 must be at least 1, and constant does not fall"):
        Schedule(1.0, 10, shape="constant", cycles=2)


def test_power_and_cycles_are_settings_of_training():
    shape = dict(schedule="polynomial", power=2.0, cycles=2)
    rate = TrainConfig(steps=104, warmup=4, lr=1.0, min_lr=0.0, **shape).learning_rates()
    assert [rate(step) for step in (4, 29, 54, 79, 104)] == pytest.approx([1.0, 0.25, 1.0, 0.25, 0.0])
    with pytest.raises(ValueError, match="cycles"):
        TrainConfig(cycles=0)
    with pytest.raises(ValueError, match="power"):
        TrainConfig(schedule="polynomial", power=0.0)


def test_an_unknown_shape_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown schedule 'cosinus'; choose from cosine, linear"):
        Schedule(0.1, 10, shape="cosinus")
