"""How many columns a comparison has, and how large its pictures are."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from napari.components import ViewerModel

from napari_metaqsm.plugin.reading.planes import Axes, Frame

Box = tuple[np.ndarray, np.ndarray]

# Of each cell, in pixels, for what is written over it: top, bottom, each side. Letters of several planes
# stand in the pictures.
_ROOM, _ROOM_OF_ROWS = (60, 60, 32), (48, 44, 26)


def columns(viewer: ViewerModel, count: int, size_mm: np.ndarray) -> int:
    """Two side by side, and more as the canvas shows them largest.

    Parameters
    ----------
    size_mm : (down, right) of what is shown
    """
    canvas = np.asarray(viewer.canvas.size)

    def magnification(of: int) -> float:
        return _magnification(canvas / (math.ceil(count / of), of), size_mm, _ROOM)

    return max(range(min(2, count), count + 1), key=magnification)


def size_mm(frame: Frame, planes: Sequence[Axes], box: Box) -> np.ndarray:
    """(down, right): the largest that the brain is in any of the planes."""
    size = np.abs(frame.steps) * (box[1] - box[0] + 1)
    return np.max([(size[axes.down], size[axes.right]) for axes in planes], axis=0)


def fitting_zoom(frame: Frame, planes: Sequence[Axes], box: Box) -> float:
    """The magnification at which the brain is as large as a cell allows."""
    cell = np.asarray(frame.viewer.canvas.viewbox_size(frame.viewer.layers))
    return _magnification(cell, size_mm(frame, planes, box), _room(planes))


def fit(frame: Frame, planes: Sequence[Axes], box: Box) -> None:
    """Show the brain as large as a cell allows."""
    camera = frame.viewer.scene.camera
    top, bottom, _ = _room(planes)
    camera.zoom = fitting_zoom(frame, planes, box)
    middle = frame.place((box[0] + box[1]) / 2)
    row, column = middle[planes[0].down], middle[planes[0].right]
    camera.center = (0, row - (top - bottom) / 2 / camera.zoom, column)


def _room(planes: Sequence[Axes]) -> tuple[int, int, int]:
    return _ROOM if len(planes) == 1 else _ROOM_OF_ROWS


def _magnification(cell: np.ndarray, size: np.ndarray, room: tuple[int, int, int]) -> float:
    """Pixels per world unit at which ``size`` (height, width) fills what a cell leaves for the map."""
    top, bottom, side = room
    return float(np.min(np.maximum(cell - (top + bottom, 2 * side), cell / 2) / size))
