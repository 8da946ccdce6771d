"""What is drawn over the pictures of one plane: outlines, regions, lines, cross hair, wipe, letters.

One small picture with a palette, shared by all cells of the plane: napari's own shapes take longer to
renew than the maps themselves.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from napari.utils.colormaps import Colormap

NOTHING, OUTLINE, CROSS, LETTER, LINE = range(5)
# Seen over black, gray and white, and told apart by the colour-blind.
PALETTE = Colormap(
    [[0, 0, 0, 0], [0.94, 0.89, 0.26, 0.9], [0.34, 0.71, 0.91, 0.8], [1, 1, 1, 1], [0.95, 0.5, 0.2, 1]],
    name="marks",
    interpolation="linear",
)
# Of the longer side: as fine as the cells of a comparison are.
_PIXELS = 768
LINE_PIXELS = 1.3
_GAP_PIXELS = 9
_LETTER_PIXELS = 14


class Raster(NamedTuple):
    """The pixels of the marks: how many, and how many of them a voxel is, each down and to the right."""

    shape: tuple[int, int]
    per_voxel: tuple[float, float]


class Letters(NamedTuple):
    """Letters by edge, "left", "right", "top" and "bottom", about a box from voxel ``low`` to ``high``."""

    by_edge: Mapping[str, str]
    low: tuple[float, float]
    high: tuple[float, float]


def raster_of(shape: tuple[int, int], steps: tuple[float, float]) -> Raster:
    """Square pixels as fine as the finer voxels, or as a fraction of them, for a picture of ``shape``.

    Parameters
    ----------
    steps : mm a voxel, down and to the right
    """
    mm = np.abs(steps)
    pixel = mm.min() / max(_PIXELS // round(float(np.max(mm * shape)) / mm.min()), 1)
    pixels = tuple(round(n * step / pixel) for n, step in zip(shape, mm, strict=True))
    return Raster(pixels, tuple(p / n for p, n in zip(pixels, shape, strict=True)))


def draw(
    raster: Raster,
    mask: np.ndarray | None = None,
    cross: tuple[int, int] | None = None,
    wipe: float | None = None,
    letters: Letters | None = None,
    thickness: float = 1.0,
    strokes: Sequence[tuple[np.ndarray, bool]] = (),
    lines: Sequence[np.ndarray] = (),
) -> np.ndarray:
    """The marks of one plane.

    Parameters
    ----------
    mask : (down, right) bool, whose outline is drawn inside of it
    cross : the voxel that the cross hair stands at
    wipe : the column at whose left edge the wipe stands
    thickness : of lines, in pixels of the raster
    strokes : (down, right) uint8 colours, 0 for none, and whether all of it is drawn or only its edges
    lines : (points, 2), voxels down and to the right

    Returns
    -------
    (down, right) uint8, indices of :data:`PALETTE`, and beyond it of the colours of ``strokes``
    """
    marks = np.zeros(raster.shape, np.uint8)
    width = max(round(thickness), 1)
    for colours, filled in sorted(strokes, key=lambda stroke: not stroke[1]):
        _colour(marks, colours, raster, 0 if filled else width)
    if mask is not None:
        _colour(marks, mask.astype(np.uint8) * OUTLINE, raster, width)
    for points in lines:
        _line(marks, points, raster, width)
    if cross is not None:
        _cross(marks, [(v + 0.5) * per for v, per in zip(cross, raster.per_voxel, strict=True)], thickness)
    if wipe is not None:
        column = round(wipe * raster.per_voxel[1])
        marks[:, max(column - width // 2, 0) : column - width // 2 + width] = LETTER
    if letters is not None:
        _write(marks, letters, raster, round(_LETTER_PIXELS * thickness / LINE_PIXELS))
    return marks


def _colour(marks: np.ndarray, colours: np.ndarray, raster: Raster, width: int) -> None:
    """The rims of what is coloured, ``width`` pixels wide, on their inner side; all of it for a width of 0.

    A picture's own edge is no rim.
    """
    rows, columns = (
        np.minimum((np.arange(n) / per).astype(np.intp), m - 1)
        for n, per, m in zip(raster.shape, raster.per_voxel, colours.shape, strict=True)
    )
    fine = colours[rows[:, None], columns]
    drawn = fine != 0
    if width:
        inner = drawn.copy()
        for shift in (width,) if width == 1 else (1, width):
            inner[shift:] &= fine[shift:] == fine[:-shift]
            inner[:-shift] &= fine[:-shift] == fine[shift:]
            inner[:, shift:] &= fine[:, shift:] == fine[:, :-shift]
            inner[:, :-shift] &= fine[:, :-shift] == fine[:, shift:]
        drawn &= ~inner
    marks[drawn] = fine[drawn]


def _line(marks: np.ndarray, points: np.ndarray, raster: Raster, width: int) -> None:
    pixels = (points + 0.5) * raster.per_voxel
    for start, end in itertools.pairwise(pixels):
        count = int(np.abs(end - start).max()) + 2
        down, right = np.round(np.linspace(start, end, count) - width / 2).astype(int).T
        for row, column in itertools.product(range(width), repeat=2):
            inside = (down + row >= 0) & (down + row < marks.shape[0])
            inside &= (right + column >= 0) & (right + column < marks.shape[1])
            marks[(down + row)[inside], (right + column)[inside]] = LINE


def _cross(marks: np.ndarray, at: list[float], thickness: float) -> None:
    """Two lines through a place, with a gap, so that what is looked at stays free."""
    width, gap = max(round(thickness), 1), round(_GAP_PIXELS * thickness)
    down, right = (round(place - width / 2) for place in at)
    rows, columns = slice(max(down, 0), down + width), slice(max(right, 0), right + width)
    marks[rows, : max(right - gap, 0)] = CROSS
    marks[rows, right + width + gap :] = CROSS
    marks[: max(down - gap, 0), columns] = CROSS
    marks[down + width + gap :, columns] = CROSS


def _write(marks: np.ndarray, letters: Letters, raster: Raster, height: int) -> None:
    low, high = (
        [(v + side) * per for v, per in zip(corner, raster.per_voxel, strict=True)]
        for corner, side in ((letters.low, 0), (letters.high, 1))
    )
    for edge, letter in letters.by_edge.items():
        glyph = _glyph(letter, height)
        at = [(a + b - n) / 2 for a, b, n in zip(low, high, glyph.shape, strict=True)]
        axis, gap = (0 if edge in ("top", "bottom") else 1), height // 3
        beyond = edge in ("bottom", "right")
        at[axis] = high[axis] + gap if beyond else low[axis] - gap - glyph.shape[axis]
        # Where the brain fills the picture they stand in it.
        start = [
            int(np.clip(a, 0, max(m - n, 0))) for a, m, n in zip(at, marks.shape, glyph.shape, strict=True)
        ]
        part = marks[start[0] : start[0] + glyph.shape[0], start[1] : start[1] + glyph.shape[1]]
        part[glyph[: part.shape[0], : part.shape[1]]] = LETTER


@lru_cache(maxsize=64)
def _glyph(letter: str, height: int) -> np.ndarray:
    """(rows, columns) bool."""
    from PIL import Image, ImageDraw, ImageFont

    size = max(height, 6)
    picture = Image.new("L", (2 * size, 2 * size))
    ImageDraw.Draw(picture).text((size // 2, size // 2), letter, 255, ImageFont.load_default(size))
    drawn = np.asarray(picture) > 100
    rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
    return drawn[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] if rows.size else drawn[:1, :1]
