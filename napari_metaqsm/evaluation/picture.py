"""One picture of several maps: planes in rows, maps in columns, all at one gray window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from napari_metaqsm.scan import Geometry, turn

# Axis held fixed, rows and columns of a volume turned to inferior, posterior, left, and the letters at
# the left, right, top and bottom edge: the radiological view, patient's right on the left.
_ORIENTATION = "IPL"
_PLANES = {"axial": (0, 1, 2, "RLAP"), "sagittal": (2, 0, 1, "APSI"), "coronal": (1, 0, 2, "RLSI")}
_WINDOW_PPM = 0.1
_TALLEST_PIXELS = 340
_MARGIN, _TITLE, _BAR = 8, 26, 92
_RIM_MM = 8
_FADED = 190


def comparison_picture(maps: Mapping[str, np.ndarray], geometry: Geometry) -> Image.Image:
    """Susceptibility maps (i, j, k) side by side, in three planes through the middle of what they fill.

    Parameters
    ----------
    maps : arrays in ppm by the title to print above each, all shown from -0.1 to 0.1 ppm
    """
    order, flipped = turn(geometry.orientation, _ORIENTATION)
    size = np.array(geometry.permuted(order).voxel_size_mm)
    volumes = [np.flip(array.transpose(order), flipped) for array in maps.values()]
    box = _filled_box(volumes, _RIM_MM / size)
    volumes = [volume[box] for volume in volumes]
    shape = volumes[0].shape
    pixel_mm = max(np.multiply(shape, size)) / _TALLEST_PIXELS
    rows = [[_slice(volume, size, plane, pixel_mm) for volume in volumes] for plane in _PLANES]
    widths = max(cell.width for row in rows for cell in row)
    heights = [max(cell.height for cell in row) for row in rows]
    width = len(maps) * (widths + _MARGIN) + _MARGIN + _BAR
    height = _TITLE + sum(h + _MARGIN for h in heights) + _MARGIN
    picture = Image.new("L", (width, height), 0)
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(14)
    for column, title in enumerate(maps):
        left = _MARGIN + column * (widths + _MARGIN)
        draw.text((left + widths // 2, _TITLE // 2 + 2), title, fill=255, font=font, anchor="mm")
        top = _TITLE
        for row, (tall, (*_, letters)) in enumerate(zip(heights, _PLANES.values(), strict=True)):
            cell = rows[row][column]
            picture.paste(cell, (left + (widths - cell.width) // 2, top + (tall - cell.height) // 2))
            for letter, x, y in zip(letters, (0.03, 0.97, 0.5, 0.5), (0.5, 0.5, 0.03, 0.97), strict=True):
                spot = (left + x * widths, top + y * tall)
                draw.text(spot, letter, fill=255, font=font, anchor="mm", stroke_width=1, stroke_fill=0)
            top += tall + _MARGIN
    _draw_bar(draw, width - _BAR + 2 * _MARGIN, _TITLE, heights[0], font)
    return picture


def _filled_box(volumes: Sequence[np.ndarray], rim: np.ndarray) -> tuple[slice, ...]:
    """Where any volume is not zero, and ``rim`` voxels around it; all of it if nothing is."""
    filled = np.any([volume != 0 for volume in volumes], axis=0)
    if not filled.any():
        return tuple(slice(0, n) for n in filled.shape)
    where = np.argwhere(filled)
    low = np.maximum(where.min(0) - np.ceil(rim), 0).astype(int)
    high = np.minimum(where.max(0) + np.ceil(rim) + 1, filled.shape).astype(int)
    return tuple(slice(a, b) for a, b in zip(low, high, strict=True))


def _slice(volume: np.ndarray, size: np.ndarray, plane: str, pixel_mm: float) -> Image.Image:
    """The plane through the middle, its pixels square."""
    fixed, row, column, _ = _PLANES[plane]
    values = volume.take(volume.shape[fixed] // 2, axis=fixed)
    gray = np.clip(values / _WINDOW_PPM + 1, 0, 2) * 127.5
    tall, wide = (
        round(n * size[axis] / pixel_mm) for n, axis in zip(values.shape, (row, column), strict=True)
    )
    return Image.fromarray(gray.astype(np.uint8)).resize((wide, tall), Image.Resampling.BICUBIC)


def _draw_bar(draw: ImageDraw.ImageDraw, left: int, top: int, height: int, font: ImageFont.ImageFont) -> None:
    for line in range(height):
        draw.line((left, top + line, left + 14, top + line), fill=round(255 * (1 - line / (height - 1))))
    draw.rectangle((left - 1, top - 1, left + 15, top + height), outline=_FADED)
    for value, y in ((_WINDOW_PPM, top + 7), (0, top + height / 2), (-_WINDOW_PPM, top + height - 7)):
        draw.text((left + 20, y), f"{value:+g}" if value else "0", fill=255, font=font, anchor="lm")
    draw.text((left + 20, top + height / 4), "ppm", fill=_FADED, font=font, anchor="lm")
