from collections import Counter
from itertools import islice

import numpy as np
import pytest

from tests.helpers import assert_close
from train.data.pictures import (
    COLOURS,
    HORIZON,
    MOST,
    PARTS,
    PEOPLE,
    PLACES,
    SEEN,
    SIZES,
    UNITS,
    UNSEEN,
    WIDTH,
    Scene,
    ScenesSource,
    Thing,
    draw,
    numbers,
    parse,
    scene_of,
    scenes,
)  # fmt: skip
from train.data.raster import Canvas

LINE = "in the park: a big girl in red at 60 140, a small blue ball at 190 77"
SOME = [*islice(scenes(5), 300)]


def plain_drawing(scene: Scene, side: int) -> np.ndarray:
    """What `draw` draws, shape by shape."""
    above, below = PLACES[scene.place]
    canvas = Canvas(side, side, UNITS, above)
    canvas.rectangle(0, HORIZON, UNITS, UNITS - HORIZON, below)
    for thing in scene.things:
        r, at = SIZES[thing.size], lambda u, v, r=SIZES[thing.size], t=thing: (t.x + r * u, t.y + r * v)
        for shape, given, *other in PARTS[thing.kind]:
            colour = other[0] if other else COLOURS[thing.colour]
            if shape == "ellipse":
                canvas.ellipse(*at(*given[:2]), r * given[2], r * given[3], colour)
            elif shape == "line":
                canvas.line(*at(*given[:2]), *at(*given[2:4]), r * given[4], colour)
            else:
                canvas.polygon([at(*point) for point in given], colour)
    return canvas.pixels


@pytest.mark.parametrize("side", [32, 64, 20])
def test_a_picture_is_its_shapes_painted_one_after_another(side):
    for scene in SOME[:12]:
        assert_close(draw(scene, side), plain_drawing(scene, side), 1e-5)  # float32


def test_a_picture_of_half_the_pixels_is_the_same_coarser():
    for scene in SOME[:20]:
        fine = draw(scene, 64).reshape(32, 2, 32, 2, 3).mean(axis=(1, 3))
        off = np.abs(draw(scene, 32) - fine)
        # Where an edge lies over another one, what is seen is mixed by pixel, not by what each hides of the other.
        assert off.mean() < 0.003 and off.max() < 0.3


def test_a_thing_moved_by_an_eighth_of_a_pixel_makes_another_picture():
    one = Scene("in the wood", (Thing("dog", "red", "small", 100, 100),))
    other = Scene("in the wood", (Thing("dog", "red", "small", 101, 100),))
    assert 0.02 < np.abs(draw(one, 32) - draw(other, 32)).max() < 0.3


def test_colours_kinds_sizes_and_places_can_be_told_from_the_pixels():
    pictures = {(place, kind, colour, size): draw(Scene(place, (Thing(kind, colour, size, 128, 128),)), 32)
                for place in PLACES for kind in PARTS for colour in COLOURS for size in SIZES}  # fmt: skip
    flat = np.stack([picture.ravel() for picture in pictures.values()]).astype(np.float64)
    squares = (flat**2).sum(axis=1)
    apart = squares[:, None] + squares - 2 * flat @ flat.T + np.diag(np.full(len(flat), 10.0))
    assert apart.min() > 0.3  # squared differences of colours, over a picture


def test_scenes_are_what_their_seed_says_and_hold_what_they_may():
    assert [*islice(scenes(5), 20)] == SOME[:20] != [*islice(scenes(6), 20)]
    for scene in SOME:
        assert 1 <= len(scene.things) <= MOST
        assert all(thing.pair in SEEN and thing.pair not in UNSEEN for thing in scene.things)
        assert [thing.x for thing in scene.things] == sorted(thing.x for thing in scene.things)
        for n, a in enumerate(scene.things):
            r = SIZES[a.size]
            assert r <= a.x <= UNITS - r and r <= a.y <= UNITS - r
            for b in scene.things[n + 1 :]:
                assert (a.x - b.x) ** 2 + (a.y - b.y) ** 2 >= (r + SIZES[b.size]) ** 2  # nothing hides behind another
    assert {len(scene.things) for scene in SOME} == set(range(1, MOST + 1))


def test_unseen_pairs_are_one_colour_of_every_kind_and_leave_every_colour_and_kind_to_be_known():
    assert len(UNSEEN) == len(PARTS) and len(SEEN) == len(PARTS) * (len(COLOURS) - 1)
    assert Counter(kind for _, kind in UNSEEN) == Counter(dict.fromkeys(PARTS, 1))
    assert {colour for colour, _ in SEEN} == set(COLOURS) and {kind for _, kind in SEEN} == set(PARTS)


def test_a_scene_is_the_same_as_a_line_and_as_numbers():
    for scene in SOME[:100]:
        found = numbers(scene)
        assert parse(scene.line()) == scene == scene_of(found)
        assert len(found) == WIDTH and max(found) < 256
    scene = parse(LINE)
    assert scene.things == (Thing("girl", "red", "big", 60, 140), Thing("ball", "blue", "small", 190, 77))
    assert scene.line() == LINE


def test_captions_and_stories_tell_what_is_there():
    scene = parse(LINE)
    assert scene.caption == "a big girl in red and a small blue ball in the park"
    assert scene.story == "Once there was a big girl in red who saw a small blue ball in the park."
    alone = parse("on the beach: a small white dog at 99 99")
    assert (alone.caption, alone.story) == ("a small white dog on the beach", "One day a small white dog was on the "
                                            "beach.")  # fmt: skip
    assert parse("in the wood: a big boy in red at 9 9").story == "Once there was a big boy in red who was in the wood."
    for scene in SOME[:50]:
        for thing in scene.things:
            assert str(thing) in scene.caption and str(thing) in scene.story
        assert scene.caption.endswith(scene.place) and any(t.kind in PEOPLE for t in scene.things) == (
            scene.story.startswith("Once"))  # fmt: skip


def test_a_corpus_of_scenes_has_as_many_characters_as_asked_for_and_holds_out_its_end():
    source = ScenesSource(20_000, seed=5)
    train, held_out = source.parts()
    lines = [*train, *held_out]
    assert lines == [scene.line() + "\n" for scene in islice(scenes(5), len(lines))]
    assert 20_000 <= sum(map(len, lines)) < 20_000 + max(map(len, lines))
    assert len(held_out) == len(lines) // 10


@pytest.mark.parametrize(
    "line, said",
    [
        ("in the sky: a big red ball at 1 2", "is no scene"),
        ("in the park: ", "is no scene"),
        ("in the park: a big red ball", "is no scene"),
        ("in the park: a big purple ball at 1 2", "is no scene"),
        ("in the park: " + ", ".join(["a big red ball at 1 2"] * 7), "of 6 things at most"),
        ("in the park: a big red ball at 1 256", "a big red ball stands at 1 256; places go from 0 to 255"),
    ],
)
def test_a_line_that_is_no_scene_is_named(line, said):
    with pytest.raises(ValueError, match=said):
        parse(line)
