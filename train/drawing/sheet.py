"""Several drawings on one page: as SVG with their captions, for a browser; and side by side as a picture."""

from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np

from train.drawing import svg
from train.drawing.shapes import GRID, PAPER, Drawing, paint
from train.report import picture

COLUMNS, GAP, TEXT = 4, 6, 10  # units between drawings, and below each for its caption


def page(drawings: list[tuple[str, Drawing]]) -> str:
    """An SVG file of (caption, drawing), four in a row."""
    columns, rows = min(COLUMNS, len(drawings)), -(-len(drawings) // COLUMNS)
    step, height = GRID + GAP, GRID + TEXT + GAP
    wide, high = GAP + columns * step, GAP + rows * height
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" width="{2.4 * wide:g}" '
             f'height="{2.4 * high:g}" font-family="sans-serif" font-size="4.2" text-anchor="middle">']  # fmt: skip
    for number, (caption, drawing) in enumerate(drawings):
        row, column = divmod(number, COLUMNS)
        x, y = GAP + column * step, GAP + row * height
        lines += [f'<svg x="{x}" y="{y}" width="{GRID}" height="{GRID}" viewBox="0 0 {GRID} {GRID}" '
                  f'stroke-width="2" stroke-linecap="round">',
                  f'<rect width="{GRID}" height="{GRID}" fill="{PAPER}"/>', *map(svg.element, drawing), "</svg>",
                  f'<text x="{x + GRID / 2:g}" y="{y + GRID + 6}">{escape(caption)}</text>']  # fmt: skip
    return "\n".join([*lines, "</svg>"]) + "\n"


def strip(path: Path, drawings: list[tuple[str, Drawing]], title: str, pixels: int = 384) -> bool:
    """A PNG of (what is written below, drawing) side by side; False if matplotlib is not installed."""
    gap = np.ones((pixels, pixels // 16, 3), np.float32)
    panels = [panel for _, drawing in drawings for panel in (paint(drawing, pixels), gap)][:-1]
    step = pixels + gap.shape[1]

    def show(axes) -> None:
        axes.imshow(np.concatenate(panels, axis=1))
        axes.set_xticks([pixels / 2 + step * n for n in range(len(drawings))], [name for name, _ in drawings])
        axes.set_yticks([])
        axes.tick_params(length=0)
        for side in axes.spines.values():
            side.set_visible(False)

    return picture(path, show, "", "", title, size=(2.2 * len(drawings), 2.8))
