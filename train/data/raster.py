"""A canvas of pixels, and the shapes that are painted on it: ellipses, polygons, rectangles and lines.

Each shape says one thing: how far a point lies from its edge, less than 0 inside. A square around the point that lies
half its side or more inside is covered, one that far outside is not, and between the two the coverage falls in a line.
A pixel is FINE x FINE such squares: so edges are smooth, and a shape that moves by a tenth of a pixel changes the
picture. The distances are Quilez's ("2D distance functions", iquilezles.org/articles/distfunctions2d).
"""

import math
import struct
import zlib
from collections.abc import Sequence

import numpy as np

FINE = 4
Colour = tuple[float, float, float]  # red, green, blue, from 0 to 1
Point = tuple[float, float]  # x to the right, y down, in the canvas's units


class Canvas:
    """A picture of height x width pixels; `pixels` is (H, W, 3), float32 from 0 to 1.

    units: what the whole width measures in the coordinates of shapes, whatever the number of pixels; as many as
    pixels, if not said. The point (0, 0) is the upper left corner of the first pixel.
    """

    def __init__(self, height: int, width: int, units: float | None = None, background: Colour = (1.0, 1.0, 1.0)):
        if height < 1 or width < 1:
            raise ValueError(f"a canvas of {height} x {width} pixels has none; give at least 1 x 1")
        if units is not None and not 0 < units < math.inf:
            raise ValueError(f"a canvas must measure more than 0 units, not {units}")
        self.pixels = np.empty((height, width, 3), np.float32)
        self.pixels[:] = background
        self.scale = width / (units or width)  # pixels in a unit

    def circle(self, x: float, y: float, r: float, colour: Colour) -> None:
        self.ellipse(x, y, r, r, colour)

    def ellipse(self, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
        """Around (x, y), rx to either side, ry up and down. The distance is exact for circles, else near the edge."""
        x, y, rx, ry = self._in_squares(x, y, rx, ry)
        rx, ry = max(abs(rx), 1e-6), max(abs(ry), 1e-6)

        def distance(px, py):
            across, down = (px - x) / rx, (py - y) / ry
            k = np.sqrt(across**2 + down**2)  # 1 on the edge
            slope = np.sqrt((across / rx) ** 2 + (down / ry) ** 2).clip(1e-9)
            return np.where(k < 1e-3, -min(rx, ry), k * (k - 1) / slope)

        self._paint(distance, (x - rx, x + rx), (y - ry, y + ry), colour, min(1.0, 2 * rx) * min(1.0, 2 * ry))

    def rectangle(self, x: float, y: float, width: float, height: float, colour: Colour) -> None:
        """With its upper left corner at (x, y)."""
        self.polygon([(x, y), (x + width, y), (x + width, y + height), (x, y + height)], colour)

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        """The area between points in a row, the last joined to the first; where it crosses itself, even and odd."""
        if len(points) < 3:
            raise ValueError(f"a polygon has at least 3 points, not {len(points)}")
        corners = np.array([self._in_squares(*point) for point in points])
        ends = np.stack([corners, np.roll(corners, -1, axis=0)]).astype(np.float32)  # (2, edges, 2)

        def distance(px, py):
            (ax, ay), (bx, by) = ends.transpose(0, 2, 1)[..., None, None]  # (edges, 1, 1) each
            nearest = _to_segment(px, py, ax, ay, bx, by).min(axis=0)
            # A ray to the right crosses the edges that lie on it where their two ends lie above and below it.
            slope = (bx - ax) / np.where(ay == by, 1, by - ay)
            inside = np.bitwise_xor.reduce(((ay > py) != (by > py)) & (px < ax + (py - ay) * slope), axis=0)
            return np.where(inside, -nearest, nearest)

        self._paint(distance, *zip(corners.min(axis=0), corners.max(axis=0)), colour)

    def line(self, x1: float, y1: float, x2: float, y2: float, width: float, colour: Colour) -> None:
        """From (x1, y1) to (x2, y2), with round ends."""
        x1, y1, x2, y2, width = self._in_squares(x1, y1, x2, y2, abs(width))
        r, xs, ys = width / 2, sorted((x1, x2)), sorted((y1, y2))
        distance = lambda px, py: _to_segment(px, py, x1, y1, x2, y2) - r
        # A line thinner than a square covers none whole.
        self._paint(distance, (xs[0] - r, xs[1] + r), (ys[0] - r, ys[1] + r), colour, min(1.0, width))

    def _in_squares(self, *numbers: float) -> list[float]:
        """Coordinates in units -> in sides of the small squares."""
        if not all(map(math.isfinite, numbers)):
            raise ValueError(f"a shape's coordinates must be finite numbers, not {numbers}")
        return [number * self.scale * FINE for number in numbers]

    def _paint(self, distance, xs: Point, ys: Point, colour: Colour, most: float = 1.0) -> None:
        """Blend the colour in by coverage, of a square at most `most`; only pixels between xs and ys are looked at."""
        (left, right), (top, bottom) = (_pixels(xs, self.pixels.shape[1]), _pixels(ys, self.pixels.shape[0]))
        if left >= right or top >= bottom:
            return  # it lies beside the canvas
        centres = lambda start, end: np.arange(start * FINE, end * FINE, dtype=np.float32) + np.float32(0.5)
        coverage = np.clip(0.5 - distance(centres(left, right), centres(top, bottom)[:, None]), 0.0, most)
        coverage = coverage.reshape(bottom - top, FINE, right - left, FINE).mean(axis=(1, 3), dtype=np.float32)
        here = self.pixels[top:bottom, left:right]
        here += coverage[..., None] * (np.asarray(colour, np.float32) - here)


def _pixels(ends: Point, size: int) -> tuple[int, int]:
    """The first pixel and the one after the last, of `size`, that what lies between two ends may touch."""
    clipped = lambda pixel: max(0, min(size, pixel))
    return clipped(math.floor((ends[0] - 0.5) / FINE)), clipped(math.ceil((ends[1] + 0.5) / FINE))


def _to_segment(px, py, ax, ay, bx, by):
    """How far each point (px, py) lies from the line between a and b."""
    dx, dy = bx - ax, by - ay
    across, down = px - ax, py - ay
    along = ((across * dx + down * dy) / np.maximum(dx * dx + dy * dy, 1e-12)).clip(0, 1)
    return np.sqrt((across - along * dx) ** 2 + (down - along * dy) ** 2)


def png(pixels: np.ndarray) -> bytes:
    """A picture (H, W, 3) of numbers from 0 to 1 as a PNG file: 8 bits a colour, rows unfiltered."""
    H, W, _ = pixels.shape
    rows = np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8).reshape(H, 3 * W)
    data = zlib.compress(np.pad(rows, ((0, 0), (1, 0))).tobytes(), 9)  # the 0 before a row: no filter
    head = struct.pack(">IIBBBBB", W, H, 8, 2, 0, 0, 0)
    chunk = lambda name, body: struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
