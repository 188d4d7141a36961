import threading

import numpy as np
import pytest

import tinytensor as tt
from tinytensor import random


def draw(count: int = 5) -> list[float]:
    return random.generator().random(count).tolist()


def test_equal_seeds_give_equal_streams_and_others_differ():
    streams = []
    for key in [(7,), (7,), (8,), (7, 0), (7, 1), (0, 7)]:
        tt.manual_seed(*key)
        streams.append(draw())
    assert streams[0] == streams[1]
    assert len({tuple(s) for s in streams[1:]}) == 5


def test_the_stream_of_a_seed_never_changes():
    """Written down once, from this very program: a run of today can be repeated tomorrow."""
    tt.manual_seed(7)
    assert random.generator().integers(0, 1000, 5).tolist() == RECORDED


RECORDED = [200, 791, 729, 3, 166]


def test_a_seeded_block_has_its_own_stream_and_leaves_the_outer_one_alone():
    tt.manual_seed(1)
    expected = draw(4)
    tt.manual_seed(1)
    first = draw(2)
    with random.seeded(7, 3):
        inside = draw()
    assert first + draw(2) == expected
    with random.seeded(7, 3) as generator:
        assert generator is random.generator() and draw() == inside


def test_a_block_that_raises_gives_the_stream_back():
    before = random.generator()
    with pytest.raises(KeyError), random.seeded(5):
        raise KeyError
    assert random.generator() is before


def test_a_replayed_block_draws_again_and_leaves_the_outer_stream_alone():
    state = random.generator().bit_generator.state
    first = draw(3)
    following = random.generator().bit_generator.state
    with random.replayed(state):
        assert draw(3) == first
    assert str(random.generator().bit_generator.state) == str(following)


def test_threads_have_streams_of_their_own():
    tt.manual_seed(3)
    before = str(random.generator().bit_generator.state)

    def work():
        tt.manual_seed(9)
        draw(100)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert str(random.generator().bit_generator.state) == before


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError):
        tt.manual_seed(-1)


def test_numpy_integers_are_seeds_too():
    tt.manual_seed(7)
    first = draw()
    tt.manual_seed(np.int64(7))
    assert draw() == first
