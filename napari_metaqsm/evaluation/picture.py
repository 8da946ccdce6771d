"""One picture of several maps: planes in rows, maps in columns, all at one gray window."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import nibabel as nib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from napari_metaqsm.scan import Geometry

# Axis held fixed, rows and columns of a volume turned to (inferior, posterior, left), and the letters
# at the left, right, top and bottom edge: the radiological view, patient's right on the left.
_PLANES = {"axial": (0, 1, 2, "RLAP"), "sagittal": (2, 0, 1, "APSI"), "coronal": (1, 0, 2, "RLSI")}
_TALLEST_PIXELS = 340
_MARGIN, _TITLE, _BAR = 8, 26, 92
_RIM_MM = 8
_FADED = 190


def comparison_picture(
    maps: Mapping[str, np.ndarray],
    geometry: Geometry,
    window: tuple[float, float] = (-0.1, 0.1),
    unit: str = "ppm",
    center: tuple[int, int, int] | None = None,
) -> Image.Image:
    """Maps (i, j, k) side by side in three planes through ``center``, with a gray bar.

    Parameters
    ----------
    maps : arrays by the title to print above each
    window : values shown black and white, the same for every map
    center : voxel (i, j, k) that the planes go through; None takes the middle of what is filled
    """
    size = _turned_size(geometry)
    turned = {title: _turned(array, geometry) for title, array in maps.items()}
    box = _filled_box(turned.values(), _RIM_MM / size)
    turned = {title: volume[box] for title, volume in turned.items()}
    first = next(iter(turned.values()))
    at = [n // 2 for n in first.shape]
    if center is not None:
        at = _turned_index(center, geometry) - [part.start for part in box]
    pixel = max(n * s for n, s in zip(first.shape, size, strict=True)) / _TALLEST_PIXELS  # mm
    rows = [
        [_slice(volume, size, at, plane, window, pixel) for volume in turned.values()] for plane in _PLANES
    ]
    widths = max(cell.width for row in rows for cell in row)
    heights = [max(cell.height for cell in row) for row in rows]
    width = len(turned) * (widths + _MARGIN) + _MARGIN + _BAR
    height = _TITLE + sum(h + _MARGIN for h in heights) + _MARGIN
    picture = Image.new("L", (width, height), 0)
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(14)
    for column, title in enumerate(turned):
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
    _draw_bar(draw, width - _BAR + 2 * _MARGIN, _TITLE, heights[0], window, unit, font)
    return picture


def _turning(geometry: Geometry) -> np.ndarray:
    here = nib.orientations.axcodes2ornt(tuple(geometry.orientation))
    return nib.orientations.ornt_transform(here, nib.orientations.axcodes2ornt("LPI"))


def _turned(array: np.ndarray, geometry: Geometry) -> np.ndarray:
    """The volume as (inferior, posterior, left), no voxel interpolated."""
    return nib.orientations.apply_orientation(array, _turning(geometry)).transpose(2, 1, 0)


def _turned_size(geometry: Geometry) -> np.ndarray:
    size = np.empty(3)
    size[_turning(geometry)[:, 0].astype(int)] = geometry.voxel_size_mm
    return size[::-1]


def _turned_index(index: tuple[int, int, int], geometry: Geometry) -> np.ndarray:
    marker = np.zeros(geometry.shape, bool)
    marker[tuple(index)] = True
    return np.argwhere(_turned(marker, geometry))[0]


def _filled_box(volumes: Iterable[np.ndarray], rim: np.ndarray) -> tuple[slice, ...]:
    """Where any volume is not zero, and ``rim`` voxels around it; all of it if nothing is."""
    filled = np.any([volume != 0 for volume in volumes], axis=0)
    if not filled.any():
        return tuple(slice(0, n) for n in filled.shape)
    where = np.argwhere(filled)
    low = np.maximum(where.min(0) - np.ceil(rim), 0).astype(int)
    high = np.minimum(where.max(0) + np.ceil(rim) + 1, filled.shape).astype(int)
    return tuple(slice(a, b) for a, b in zip(low, high, strict=True))


def _slice(volume, size, at, plane, window, pixel) -> Image.Image:
    fixed, row, column, _ = _PLANES[plane]
    values = volume.take(at[fixed], axis=fixed)
    if row > column:
        values = values.T
    low, high = window
    gray = np.clip((values - low) / (high - low), 0, 1) * 255
    shape = (round(values.shape[1] * size[column] / pixel), round(values.shape[0] * size[row] / pixel))
    return Image.fromarray(gray.astype(np.uint8)).resize(shape, Image.Resampling.BICUBIC)


def _draw_bar(draw, left, top, height, window, unit, font) -> None:
    for line in range(height):
        draw.line((left, top + line, left + 14, top + line), fill=round(255 * (1 - line / (height - 1))))
    draw.rectangle((left - 1, top - 1, left + 15, top + height), outline=_FADED)
    low, high = window
    for value, y in ((high, top + 7), ((low + high) / 2, top + height / 2), (low, top + height - 7)):
        draw.text((left + 20, y), f"{value:+.3g}" if value else "0", fill=255, font=font, anchor="lm")
    draw.text((left + 20, top + height / 4), unit, fill=_FADED, font=font, anchor="lm")
