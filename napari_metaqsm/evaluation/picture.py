"""One picture of several maps: planes by maps, all at one gray window, as a radiologist looks at them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

from napari_metaqsm.errors import InputError
from napari_metaqsm.scan import Geometry, turn

# Axis held fixed, rows and columns of a volume turned to inferior, posterior, left, and the letters at
# the left, right, top and bottom edge: the radiological view, patient's right on the left.
_ORIENTATION = "IPL"
_PLANES = {"axial": (0, 1, 2, "RLAP"), "sagittal": (2, 0, 1, "APSI"), "coronal": (1, 0, 2, "RLSI")}
WINDOW_PPM = (-0.1, 0.1)
SIGN_KEY = "bright: paramagnetic (veins, iron, blood)   dark: diamagnetic (calcium, myelin)"
# In pixels of a picture whose largest cell has _TALLEST; larger pictures have all of it larger.
_TALLEST = 340
_MARGIN, _TITLE, _BAR, _FONT, _KEY = 8, 26, 92, 13, 24
_RIM_MM = 8
_FADED = 190
# However small a picture, its letters can be read, and nothing drawn as wide as they is smaller.
_SMALLEST_FONT = 9
_RIM_COLOUR = (255, 160, 0)
# Lengths of the scale, of which the longest is drawn that takes no more than a third of a cell.
_SCALES_MM = (1, 2, 5, 10, 20, 50)
# Of an image beside the maps: what of its values where the maps are, times how much, is white.
_WHITE_PERCENTILE, _WHITE_ROOM = 99.0, 1.1


class _Cell(NamedTuple):
    image: Image.Image
    letters: str
    rim: Image.Image | None = None


def comparison_picture(
    maps: Mapping[str, np.ndarray],
    geometry: Geometry,
    *,
    window_ppm: tuple[float, float] = WINDOW_PPM,
    voxel: Sequence[int] | None = None,
    beside: Mapping[str, np.ndarray] | None = None,
    across: str = "maps",
    tallest_pixels: int = _TALLEST,
    key: bool = False,
    outline: np.ndarray | None = None,
    windows: Mapping[str, tuple[float, float]] | None = None,
) -> Image.Image:
    """Susceptibility maps (i, j, k) side by side, in three planes through one voxel.

    Parameters
    ----------
    maps : arrays in ppm by the title to print with each
    window_ppm : what is black and what is white, in every map
    voxel : (i, j, k) that the planes lead through; None is :func:`central_voxel`
    beside : images of another kind by title, such as a magnitude, before the maps: from 0 to about their
        largest value where the maps are, or as ``windows`` says
    across : "maps" stand in columns and planes in rows, or "planes" in columns and maps in rows
    tallest_pixels : of the longest side of what is shown
    key : draw a length scale, and what bright and dark mean
    outline : (i, j, k), zero outside: its rim is drawn in colour in every image
    windows : what is black and what is white in an image beside the maps, by its title

    Returns
    -------
    in gray; where there is an outline, in grays and its colour, by a palette

    Raises
    ------
    InputError
        When the window is empty or ``across`` is neither.
    """
    low, high = window_ppm
    if not low < high:
        raise InputError(f"window_ppm is {window_ppm}; its second number must be the larger one")
    if across not in ("maps", "planes"):
        raise InputError(f"across is {across!r}; it must be maps or planes")
    shown = [(array, (low, high)) for array in maps.values()]
    if beside:
        filled = np.any([array != 0 for array in maps.values()], axis=0)
        own = {title: (0.0, _white(image, filled)) for title, image in beside.items()} | dict(windows or {})
        shown = [(image, own[title]) for title, image in beside.items()] + shown
    titles = [*(beside or {}), *maps]
    order, flipped = turn(geometry.orientation, _ORIENTATION)
    size = np.array(geometry.permuted(order).voxel_size_mm)
    box = _filled_box([_turned(a, order, flipped) for a in maps.values()], _RIM_MM / size)
    if voxel is None:
        middle = [(part.start + part.stop) // 2 for part in box]
    else:
        middle = [int(voxel[axis]) for axis in order]
        middle = [geometry.shape[order[n]] - 1 - m if n in flipped else m for n, m in enumerate(middle)]
        middle = [int(np.clip(m, part.start, part.stop - 1)) for m, part in zip(middle, box, strict=True)]
    pixel_mm = max(np.multiply([part.stop - part.start for part in box], size)) / tallest_pixels
    inside = None if outline is None else _turned(outline != 0, order, flipped).astype(np.float32)
    rows = []
    for plane, (*_, letters) in _PLANES.items():
        cut = partial(_slice, box=box, middle=middle, size=size, plane=plane, pixel_mm=pixel_mm)
        rim = None if inside is None else _rim(cut(inside, window=(0.0, 1.0)))
        images = [cut(_turned(array, order, flipped), window=window) for array, window in shown]
        rows.append([_Cell(image, letters, rim) for image in images])
    sheet = _Sheet(tallest_pixels / _TALLEST)
    if across == "maps":
        picture, bar = sheet.lay(rows, titles, [])
    else:
        picture, bar = sheet.lay([list(row) for row in zip(*rows, strict=True)], [], titles)
    sheet.draw_bar(picture, *bar, low, high)
    drawn = sheet.with_key(picture, pixel_mm) if key else picture
    return drawn if outline is None else sheet.coloured(drawn)


def central_voxel(maps: Mapping[str, np.ndarray], geometry: Geometry) -> tuple[int, int, int]:
    """(i, j, k) in the middle of what the maps fill, whatever the order and the sense of the axes."""
    order, flipped = turn(geometry.orientation, _ORIENTATION)
    size = np.array(geometry.permuted(order).voxel_size_mm)
    box = _filled_box([_turned(array, order, flipped) for array in maps.values()], _RIM_MM / size)
    voxel = [0, 0, 0]
    for n, part in enumerate(box):
        middle = (part.start + part.stop) // 2
        voxel[order[n]] = geometry.shape[order[n]] - 1 - middle if n in flipped else middle
    return tuple(voxel)


def _turned(array: np.ndarray, order: Sequence[int], flipped: Sequence[int]) -> np.ndarray:
    return np.flip(array.transpose(order), flipped)


def _filled_box(volumes: Sequence[np.ndarray], rim: np.ndarray) -> tuple[slice, ...]:
    """Where any volume is not zero, and ``rim`` voxels around it; all of it if nothing is."""
    filled = np.any([volume != 0 for volume in volumes], axis=0)
    if not filled.any():
        return tuple(slice(0, n) for n in filled.shape)
    where = np.argwhere(filled)
    low = np.maximum(where.min(0) - np.ceil(rim), 0).astype(int)
    high = np.minimum(where.max(0) + np.ceil(rim) + 1, filled.shape).astype(int)
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))


def _white(image: np.ndarray, filled: np.ndarray) -> float:
    values = image[filled & np.isfinite(image) & (image > 0)]
    return _WHITE_ROOM * float(np.percentile(values, _WHITE_PERCENTILE)) if values.size else 1.0


def _rim(inside: Image.Image) -> Image.Image:
    """The line along the edge of what is more than half white, a pixel wide."""
    full = inside.point(lambda gray: 255 * (gray > 127))
    return ImageChops.subtract(full, full.filter(ImageFilter.MinFilter(3)))


def font_file(name: str = "DejaVuSans") -> Path:
    """A font that has χ, ±, ² and − beside the letters of Europe; matplotlib brings it."""
    return Path(matplotlib.get_data_path(), "fonts", "ttf", f"{name}.ttf")


def _slice(
    volume: np.ndarray,
    box: tuple[slice, ...],
    middle: Sequence[int],
    size: np.ndarray,
    plane: str,
    pixel_mm: float,
    window: tuple[float, float],
) -> Image.Image:
    """The plane through ``middle``, its pixels square."""
    fixed, row, column, _ = _PLANES[plane]
    inside = list(box)
    inside[fixed] = slice(middle[fixed], middle[fixed] + 1)
    values = np.nan_to_num(volume[tuple(inside)].squeeze(fixed))
    low, high = window
    gray = np.clip((values - low) / (high - low), 0, 1) * 255
    tall, wide = (
        round(n * size[axis] / pixel_mm) for n, axis in zip(values.shape, (row, column), strict=True)
    )
    return Image.fromarray(gray.astype(np.uint8)).resize((wide, tall), Image.Resampling.BICUBIC)


class _Sheet:
    """Where the cells, titles and the bar stand; all lengths times ``scale``."""

    def __init__(self, scale: float) -> None:
        font = max(_FONT * scale, _SMALLEST_FONT)
        self.margin = round(_MARGIN * scale)
        self.title, self.bar, self.key = (round(n * font / _FONT) for n in (_TITLE, _BAR, _KEY))
        self.scale = scale
        self.rims: list[tuple[Image.Image, tuple[int, int]]] = []
        self.font = ImageFont.truetype(font_file(), font)

    def lay(
        self, rows: list[list[_Cell]], above: Sequence[str], before: Sequence[str]
    ) -> tuple[Image.Image, tuple[int, int, int]]:
        """The cells with titles ``above`` the columns or at the head of each row.

        Returns
        -------
        the picture, and left, top and height of its bar
        """
        columns = range(len(rows[0]))
        widths = [max(row[n].image.width for row in rows) for n in columns]
        if above:
            widths = [max(widths)] * len(widths)  # one grid, though a title's place were narrower
        heights = [max(cell.image.height for cell in row) for row in rows]
        head = self.title if before else 0
        width = sum(widths) + (len(widths) + 1) * self.margin + self.bar
        height = (self.title if above else self.margin) + sum(h + head + self.margin for h in heights)
        picture = Image.new("L", (width, height + self.margin), 0)
        draw = ImageDraw.Draw(picture)
        lefts = [self.margin + sum(widths[:n]) + n * self.margin for n in columns]
        for title, left, wide in zip(above, lefts, widths, strict=False):
            spot = (left + wide // 2, self.title // 2 + round(2 * self.scale))
            draw.text(spot, title, fill=255, font=self.font, anchor="mm")
        top = self.title if above else self.margin
        first = top + head
        for number, (tall, row) in enumerate(zip(heights, rows, strict=True)):
            if before:
                spot = (self.margin, top + head // 2)
                draw.text(spot, before[number], fill=255, font=self.font, anchor="lm")
                top += head
            for cell, left, wide in zip(row, lefts, widths, strict=True):
                image = cell.image
                corner = (left + (wide - image.width) // 2, top + (tall - image.height) // 2)
                picture.paste(image, corner)
                if cell.rim is not None:
                    self.rims.append((cell.rim, corner))
                self._letter(draw, cell.letters, left, top, wide, tall)
            top += tall + self.margin
        return picture, (width - self.bar + 2 * self.margin, first, heights[0])

    def _letter(
        self, draw: ImageDraw.ImageDraw, letters: str, left: int, top: int, wide: int, tall: int
    ) -> None:
        rim = round(self.scale)
        for letter, x, y in zip(letters, (0.03, 0.97, 0.5, 0.5), (0.5, 0.5, 0.03, 0.97), strict=True):
            spot = (left + x * wide, top + y * tall)
            draw.text(spot, letter, fill=255, font=self.font, anchor="mm", stroke_width=rim, stroke_fill=0)

    def draw_bar(
        self, picture: Image.Image, left: int, top: int, height: int, low: float, high: float
    ) -> None:
        """The grays and what they mean, in ppm."""
        draw = ImageDraw.Draw(picture)
        wide, away = (round(n * self.font.size / _FONT) for n in (14, 20))
        for line in range(height):
            gray = round(255 * (1 - line / max(height - 1, 1)))
            draw.line((left, top + line, left + wide, top + line), fill=gray)
        draw.rectangle((left - 1, top - 1, left + wide + 1, top + height), outline=_FADED)
        middle = (low + high) / 2
        half = self.font.size / 2
        for value, y in ((high, top + half), (middle, top + height / 2), (low, top + height - half)):
            text = f"{value:+.3g}".replace("-", "−") if value else "0"
            draw.text((left + away, y), text, fill=255, font=self.font, anchor="lm")
        draw.text((left + away, top + height / 4), "ppm", fill=_FADED, font=self.font, anchor="lm")

    def with_key(self, picture: Image.Image, pixel_mm: float) -> Image.Image:
        """The picture with a length scale and the sign key below it."""
        taller = Image.new("L", (picture.width, picture.height + self.key), 0)
        taller.paste(picture, (0, 0))
        draw = ImageDraw.Draw(taller)
        third = _TALLEST * self.scale / 3
        length = max((mm for mm in _SCALES_MM if mm / pixel_mm <= third), default=_SCALES_MM[0])
        y = picture.height + self.key // 2 - self.margin // 2
        end = self.margin + length / pixel_mm
        thick = max(round(2 * self.scale), 1)
        draw.line((self.margin, y, end, y), fill=255, width=thick)
        for x in (self.margin, end):
            draw.line((x, y - 4 * self.scale, x, y + 4 * self.scale), fill=255, width=thick)
        draw.text((end + self.margin, y), f"{length} mm", fill=255, font=self.font, anchor="lm")
        right = taller.width - self.margin
        room = right - end - 9 * self.margin
        size = min(_FONT * self.scale, _FONT * self.scale * room / max(self.font.getlength(SIGN_KEY), 1))
        font = ImageFont.truetype(font_file(), max(size, 1))
        draw.text((right, y), SIGN_KEY, fill=255, font=font, anchor="rm")
        return taller

    def coloured(self, picture: Image.Image) -> Image.Image:
        """The picture with the rims in a colour, which no gray can be taken for; in place of white."""
        picture = picture.point(lambda gray: min(gray, 254))
        for rim, corner in self.rims:
            picture.paste(255, corner, rim)
        picture.putpalette([*(gray for n in range(255) for gray in (n, n, n)), *_RIM_COLOUR])
        return picture
