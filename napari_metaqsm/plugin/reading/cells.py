"""The cells of a comparison: a picture each, and over it the marks of its plane."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from napari.layers import Image
from napari.utils.colormaps import Colormap

from napari_metaqsm.plugin.layers import metadata_of
from napari_metaqsm.plugin.reading import marks
from napari_metaqsm.plugin.reading.drawn_over import DrawnOver
from napari_metaqsm.plugin.reading.look_state import Look
from napari_metaqsm.plugin.reading.pictures import (
    DifferencePicture,
    MapPicture,
    PairPicture,
    Picture,
    Slab,
    SliceView,
    is_susceptibility,
    plane_of,
    value_text,
)
from napari_metaqsm.plugin.reading.planes import Axes, Frame, edge_letters

# The quantity of layers that only show: nothing else takes them for results.
VIEW = "view"
# Less of a title does not tell maps apart.
_SHORT_TITLE = 10
# Dark where nothing differs, as outside of the mask.
DIVERGING = Colormap(
    [[0.65, 0.9, 1.0, 1], [0.15, 0.45, 0.9, 1], [0, 0, 0, 1], [0.85, 0.25, 0.1, 1], [1.0, 0.85, 0.5, 1]],
    name="blue to red",
)


@dataclass
class Cell:
    """One cell: what it shows, in which plane, and the layers that show it."""

    picture: Picture
    axes: Axes
    plane: str
    layer: Image
    marks: Image
    # Of one row, in which the plane is written below all cells.
    alone: bool
    # In the first row.
    is_first: bool

    @property
    def is_own(self) -> bool:
        """Whether the layer shows the picture itself; else it is a layer of the user's."""
        return metadata_of(self.layer).get("quantity") == VIEW

    @property
    def is_map(self) -> bool:
        """Whether it stands in the window that susceptibility maps share."""
        maps = all(is_susceptibility(layer) for layer in self.picture.layers)
        return maps and not isinstance(self.picture, DifferencePicture)

    @property
    def is_shared(self) -> bool:
        """Whether its window is one for several cells; else it is the layer's own."""
        return self.is_map or isinstance(self.picture, DifferencePicture)

    @property
    def of_layer(self) -> str:
        """Name of the layer whose window a cell of its own contrast takes."""
        return self.picture.layers[0].name

    def text(self, frame: Frame, width: int = 80) -> str:
        """What is written above it: its title, the plane where there are several, the value at the cross.

        Parameters
        ----------
        width : in characters; a longer title loses its middle
        """
        value = value_text(self.picture.value(frame, self.axes), self.picture.unit)
        plane = "" if self.alone else f"  {self.plane}"
        rest, title = f"{plane}   {value}", self.picture.title
        if width - len(rest) < min(len(title), _SHORT_TITLE):  # a narrow cell: the unit stands at the bar
            rest = f"{plane[:5]}  {value.removesuffix(self.picture.unit).strip()}"
        room = max(width - len(rest), 5)
        if len(title) > room:
            title = f"{title[: room - room // 2 - 1]}…{title[-(room // 2) :]}"
        return title + rest


@dataclass
class PlaneMarks:
    """The marks of one plane, drawn anew only when something of them changes; all its cells share them.

    Parameters
    ----------
    lettered : the first and the last voxel of the brain, with letters about it; None for no letters
    """

    frame: Frame
    axes: Axes
    look: Callable[[], Look]
    mask: Callable[[], np.ndarray | None]
    over: DrawnOver
    pair: PairPicture | None
    lettered: tuple[np.ndarray, np.ndarray] | None
    version: int = 0
    _drawn: tuple[Any, np.ndarray] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        shape, steps = self.frame.shape, self.frame.steps
        self.raster = marks.raster_of(
            *((values[self.axes.down], values[self.axes.right]) for values in (shape, steps))
        )

    def picture(self) -> np.ndarray:
        """(down, right) uint8, as :func:`marks.draw`."""
        look, axes, voxel = self.look(), self.axes, self.frame.voxel
        wiped = self.pair is not None and 0 < self.pair.wipe < 1
        key = (
            voxel if look.cross_hair else voxel[axes.through],
            look.outline,
            look.cross_hair,
            self.pair.border(axes.right) if wiped else None,
            self.thickness,
            self.version,
        )
        if self._drawn is None or self._drawn[0] != key:
            mask = self.mask() if look.outline else None
            index = voxel[axes.through]
            drawn = marks.draw(
                self.raster,
                None if mask is None else plane_of(mask, axes, index) != 0,
                (voxel[axes.down], voxel[axes.right]) if look.cross_hair else None,
                key[3],
                self._letters(),
                self.thickness,
                self.over.strokes(axes, index),
                self.over.lines(axes, index),
            )
            self._drawn = (key, drawn)
        return self._drawn[1]

    def _letters(self) -> marks.Letters | None:
        if self.lettered is None:
            return None
        low, high = ([corner[a] for a in self.axes[1:]] for corner in self.lettered)
        return marks.Letters(edge_letters(self.frame.orientation, self.axes), tuple(low), tuple(high))

    @property
    def thickness(self) -> float:
        """Of lines, in pixels of the marks, so that it is the same on the screen at every magnification."""
        pixel_mm = abs(self.frame.steps[self.axes.right]) / self.raster.per_voxel[1]
        return round(2 * marks.LINE_PIXELS / (self.frame.viewer.scene.camera.zoom * pixel_mm)) / 2 or 0.5


def make_cells(
    frame: Frame,
    pictures: Sequence[Picture],
    rows: Sequence[PlaneMarks],
    box: tuple[np.ndarray, np.ndarray],
    slab: Slab,
) -> list[Cell]:
    """The cells, row by row. The first row has the plane of the viewer; layers of the user's stand there."""
    cells = []
    host = rows[0].axes
    for row in rows:
        for picture in pictures:
            plain = isinstance(picture, MapPicture) and row is rows[0]
            layer = picture.layer if plain else _view(frame, picture, row.axes, host, box, slab)
            marks_layer = _marks_layer(frame, row, host, box, row.over.palette)
            plane = frame.plane_of(row.axes)
            cells.append(Cell(picture, row.axes, plane, layer, marks_layer, len(rows) == 1, row is rows[0]))
    return cells


def _view(
    frame: Frame, picture: Picture, axes: Axes, host: Axes, box: tuple[np.ndarray, np.ndarray], slab: Slab
) -> Image:
    source = picture.layers[0]
    data = SliceView(_shape(frame, axes, host), host, lambda: picture.plane(frame, axes, slab), source.dtype)
    steps, start = placed(frame, axes, host, box)
    return Image(
        data,
        name=f"{picture.title} ({frame.plane_of(axes) or 'view'})",
        affine=_affine(steps, start),
        contrast_limits=source.contrast_limits,
        colormap=source.colormap,
        interpolation2d=source.interpolation2d,
        **_plain(frame, picture.unit),
    )


def _marks_layer(
    frame: Frame, row: PlaneMarks, host: Axes, box: tuple[np.ndarray, np.ndarray], palette: Colormap
) -> Image:
    shape = list(_shape(frame, row.axes, host))
    steps, start = placed(frame, row.axes, host, box)
    for axis, pixels, per_voxel in zip(host[1:], row.raster.shape, row.raster.per_voxel, strict=True):
        shape[axis] = pixels
        start[axis] += steps[axis] * (1 / per_voxel - 1) / 2  # both begin at the edge of the first voxel
        steps[axis] /= per_voxel
    return Image(
        SliceView(tuple(shape), host, row.picture, np.dtype(np.uint8)),
        name="marks",
        affine=_affine(steps, start),
        contrast_limits=(0, len(palette.colors) - 1),
        colormap=palette,
        interpolation2d="nearest",
        **_plain(frame, ""),
    )


def make_filler(frame: Frame) -> Image:
    """A hidden layer that takes a place in a cell and nothing else."""
    nothing = np.broadcast_to(np.uint8(0), frame.shape)
    place = _affine(frame.steps, frame.origin)
    settings = _plain(frame, "")
    return Image(nothing, name="empty", visible=False, contrast_limits=(0, 1), affine=place, **settings)


def _plain(frame: Frame, unit: str) -> dict[str, Any]:
    return {
        "units": tuple(str(u) for u in frame.layer.units[-3:]),
        "axis_labels": frame.layer.axis_labels[-3:],
        "projection_mode": "none",
        "metadata": {"metaqsm": {"quantity": VIEW, "unit": unit}},
    }


def placed(
    frame: Frame, axes: Axes, host: Axes, box: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Steps and start, in the viewer's axes, of a plane shown in place of ``host``: brain upon brain."""
    steps, start = frame.steps.astype(float), frame.origin.astype(float)
    middle = (box[0] + box[1]) / 2
    for seen, of in zip(host[1:], axes[1:], strict=True):
        centre = frame.origin[seen] + frame.steps[seen] * middle[seen]
        steps[seen] = frame.steps[of]
        start[seen] = centre - frame.steps[of] * middle[of]
    return steps, start


def _shape(frame: Frame, axes: Axes, host: Axes) -> tuple[int, int, int]:
    shape = list(frame.shape)
    shape[host.down], shape[host.right] = frame.shape[axes.down], frame.shape[axes.right]
    return tuple(shape)


def _affine(steps: np.ndarray, start: np.ndarray) -> np.ndarray:
    affine = np.diag([*steps, 1.0])
    affine[:3, 3] = start
    return affine
