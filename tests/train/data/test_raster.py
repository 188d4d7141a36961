import math

import numpy as np
import pytest

from train.data.raster import Canvas

WHITE, BLACK, RED = (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0.0, 0.0)
TRIANGLE, STAR = [(4, 4), (28, 9), (11, 26)], [(16, 2), (24, 29), (3, 11), (29, 11), (8, 29)]


def ink(canvas: Canvas) -> np.ndarray:
    """(H, W): how far each pixel of a black-on-white picture is covered."""
    return 1 - canvas.pixels[..., 0].astype(np.float64)


def painted(shape: str, *numbers, size: int = 32, units: float | None = None) -> np.ndarray:
    canvas = Canvas(size, size, units)
    getattr(canvas, shape)(*numbers, BLACK)
    return ink(canvas)


def centre(covered: np.ndarray) -> np.ndarray:
    y, x = np.indices(covered.shape) + 0.5
    return np.array([(x * covered).sum(), (y * covered).sum()]) / covered.sum()


def area(points) -> float:
    x, y = np.array(points, float).T
    return abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


# Coverage is exact where a straight edge runs along the axes; where it runs at 45 degrees, a small square's is off by
# at most 0.09 of it, either way, so errors cancel along an edge. Corners lose a little.
@pytest.mark.parametrize(
    "shape, numbers, expected, tolerance",
    [
        ("circle", (16.3, 15.6, 9.2), math.pi * 9.2**2, 0.003),
        ("circle", (5.5, 5.5, 1.5), math.pi * 1.5**2, 0.005),
        ("circle", (5.7, 5.1, 0.2), math.pi * 0.2**2, 0.15),  # smaller than a pixel
        ("ellipse", (16.3, 15.6, 12.0, 5.0), math.pi * 60, 0.01),
        ("rectangle", (4.3, 7.1, 20.5, 11.2), 20.5 * 11.2, 0.003),
        ("polygon", (TRIANGLE,), area(TRIANGLE), 0.005),
        ("line", (5.2, 6.1, 25.4, 6.1, 3.0), 20.2 * 3.0 + math.pi * 1.5**2, 0.005),
        ("line", (5.2, 6.1, 25.4, 19.9, 3.0), math.hypot(20.2, 13.8) * 3.0 + math.pi * 1.5**2, 0.01),
        ("line", (5.2, 6.1, 25.4, 6.1, 0.5), 20.2 * 0.5 + math.pi * 0.25**2, 0.005),
    ],
)
def test_a_shape_covers_its_area(shape, numbers, expected, tolerance):
    assert painted(shape, *numbers).sum() == pytest.approx(expected, rel=tolerance)


def test_a_picture_of_four_times_the_pixels_is_the_same_picture_finer():
    for shape, *numbers in [("circle", 3, 4.1, 2), ("polygon", [(1, 1), (9, 3), (5, 8)]), ("line", 1, 2, 8, 7, 0.9)]:
        fine = painted(shape, *numbers, size=128, units=10).reshape(32, 4, 32, 4).mean(axis=(1, 3))
        # A square at a sharp corner may be off by a half or more, and four of them stand along a pixel's side.
        assert np.abs(painted(shape, *numbers, size=32, units=10) - fine).max() < 0.05
        assert painted(shape, *numbers, size=32, units=10).sum() == pytest.approx(fine.sum(), rel=0.003)


def test_what_is_symmetric_is_painted_so():
    disc = painted("ellipse", 16, 16, 9, 5)
    np.testing.assert_allclose(disc, disc[::-1], atol=1e-7)
    np.testing.assert_allclose(disc, disc[:, ::-1], atol=1e-7)
    np.testing.assert_allclose(painted("circle", 16, 16, 9), painted("circle", 16, 16, 9).T, atol=1e-7)
    there, back = painted("line", 3, 5, 20, 28, 2), painted("line", 20, 28, 3, 5, 2)
    np.testing.assert_allclose(there, back, atol=1e-6)
    np.testing.assert_allclose(painted("polygon", STAR), painted("polygon", STAR[::-1]), atol=1e-6)


@pytest.mark.parametrize(
    "shape, numbers",
    [("circle", (12, 13, 5)), ("rectangle", (8, 9, 11, 6)), ("polygon", (TRIANGLE,)), ("line", (7, 9, 18, 20, 1.5))],
)
def test_a_tenth_of_a_pixel_moves_the_centroid_by_a_tenth(shape, numbers):
    at = lambda dx, dy: centre(painted(shape, *moved(shape, numbers, dx, dy)))
    for dx, dy in [(0.1, 0), (0, 0.1), (0.35, 0.8)]:
        # The ramp is no exact box filter where edges are slanted.
        np.testing.assert_allclose(at(dx, dy) - at(0, 0), [dx, dy], atol=0.01)


def moved(shape: str, numbers: tuple, dx: float, dy: float) -> tuple:
    if shape == "polygon":
        return ([(x + dx, y + dy) for x, y in numbers[0]],)
    ends = 2 if shape == "line" else 1
    return (*(n + (dx, dy)[i % 2] for i, n in enumerate(numbers[: 2 * ends])), *numbers[2 * ends :])


def test_a_star_that_crosses_itself_has_a_hole():
    star = painted("polygon", STAR)
    assert star[17, 16] == 0 and star[10, 16] == 1  # its middle, its upper tip


def test_later_shapes_cover_earlier_ones_and_an_edge_mixes_the_two_colours():
    canvas = Canvas(8, 8, background=BLACK)
    canvas.rectangle(0, 0, 8, 8, WHITE)
    canvas.rectangle(2.25, 0, 4, 8, RED)
    np.testing.assert_allclose(canvas.pixels[4, 1], WHITE)
    np.testing.assert_allclose(canvas.pixels[4, 2], [1, 0.25, 0.25], atol=1e-6)  # three quarters of it are red
    np.testing.assert_allclose(canvas.pixels[4, 3], RED, atol=1e-6)


def test_what_lies_beside_the_canvas_changes_nothing_and_what_lies_across_its_edge_is_cut():
    canvas = Canvas(6, 9)
    for x, y in [(-50, 3), (50, 3), (3, -1e9), (3, 1e9)]:
        canvas.circle(x, y, 4, BLACK)
        canvas.polygon([(x, y), (x + 1, y), (x, y + 1)], BLACK)
    assert (canvas.pixels == 1).all() and canvas.pixels.shape == (6, 9, 3)
    canvas.circle(0, 3, 4, BLACK)
    assert ink(canvas)[:, :4].sum() > 15 and ink(canvas)[:, 5:].sum() == 0


def test_shapes_without_a_size_or_with_ends_in_one_place_are_no_error():
    canvas = Canvas(8, 8)
    canvas.circle(4, 4, 0, BLACK)
    canvas.line(4, 4, 4, 4, 0, BLACK)
    assert ink(canvas).max() < 1e-6
    canvas.line(4, 4, 4, 4, 3, BLACK)  # a dot
    assert ink(canvas).sum() == pytest.approx(math.pi * 1.5**2, rel=0.03)


def test_what_cannot_be_painted_is_named():
    with pytest.raises(ValueError, match="a polygon has at least 3 points, not 2"):
        Canvas(8, 8).polygon([(1, 1), (2, 2)], BLACK)
    with pytest.raises(ValueError, match="0 x 8 pixels"):
        Canvas(0, 8)
    with pytest.raises(ValueError, match="more than 0 units, not -1"):
        Canvas(8, 8, -1)
    with pytest.raises(ValueError, match="finite numbers"):
        Canvas(8, 8).circle(float("nan"), 1, 1, BLACK)
