"""Where maps lie in the patient and in the viewer: planes, letters, voxels and places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from napari.components import ViewerModel
from napari.layers import Layer

from napari_metaqsm.plugin.layers import metadata_of, space_of
from napari_metaqsm.scan import turn

# Anatomical directions that an array axis can run along, by plane: through it, down, to the right.
PLANES = {"axial": ("IS", "AP", "LR"), "sagittal": ("LR", "IS", "AP"), "coronal": ("AP", "IS", "LR")}
OPPOSITE = dict(zip("RLAPIS", "LRPASI", strict=True))
# Where the letters stand.
EDGES = {
    "left": "middle_left",
    "right": "middle_right",
    "top": "top_center",
    "bottom": "bottom_center",
}


class Axes(NamedTuple):
    """The axes of a volume that run through a plane, down it, and to its right."""

    through: int
    down: int
    right: int


class Frame:
    """The grid that compared layers lie on, as the viewer shows it.

    Parameters
    ----------
    layer : any of them; its last three axes are the grid's
    """

    def __init__(self, viewer: ViewerModel, layer: Layer) -> None:
        self.viewer = viewer
        self.layer = layer
        self.orientation = orientation_of(layer)
        self.shape: tuple[int, int, int] = tuple(layer.data.shape[-3:])
        start = layer.ndim - 3
        self.origin = np.asarray(layer.data_to_world(np.zeros(layer.ndim)))[start:]
        steps = [np.asarray(layer.data_to_world(e))[start:] - self.origin for e in np.eye(layer.ndim)[start:]]
        # Viewers show grids straight; a turned one was warned of when it was opened.
        self.steps = np.diag(steps)

    @property
    def first(self) -> int:
        """The viewer's axis of the grid's first one; echoes come before it."""
        return self.viewer.dims.ndim - 3

    @property
    def axes(self) -> Axes | None:
        """The plane that the viewer shows; None where its axes are not those of the grid."""
        shown = [axis - self.first for axis in self.viewer.dims.order[-3:]]
        return Axes(*shown) if min(shown) >= 0 else None

    def axes_of(self, plane: str) -> Axes:
        """The axes of a plane, "axial" …; the viewer's own where the orientation is not known."""
        if self.orientation is None:
            return self.axes or Axes(0, 1, 2)
        return Axes(*(_axis_along(pair, self.orientation) for pair in PLANES[plane]))

    def plane_of(self, axes: Axes | None) -> str:
        """The name of a plane; empty where it has none."""
        if self.orientation is None or axes is None:
            return ""
        return next((plane for plane in PLANES if self.axes_of(plane) == axes), "")

    def show(self, axes: Axes) -> None:
        """Turn the viewer to a plane."""
        self.viewer.dims.order = (*range(self.first), *(self.first + axis for axis in axes))

    # -------------------------------------------------------------------------------- places
    def place(self, voxel: Sequence[float]) -> np.ndarray:
        """World coordinates of a voxel."""
        return self.origin + self.steps * np.asarray(voxel, float)

    @property
    def voxel(self) -> tuple[int, int, int]:
        """The voxel that the viewer's slices meet in; the nearest one where they lie outside."""
        place = (np.asarray(self.viewer.dims.point[-3:]) - self.origin) / self.steps
        return self.clipped(place)

    def position(self, axes: Axes) -> str:
        """Where the plane lies that the viewer's voxel is in: the patient's coordinate, and the slice."""
        index, count = self.voxel[axes.through] + 1, self.shape[axes.through]
        slices = f"slice {index} of {count}"
        if self.orientation is None:
            return f"{self.place(self.voxel)[axes.through]:.1f} mm, {slices}"
        space = space_of(self.layer)
        order, flipped = turn(space.geometry().orientation, self.orientation)
        stored = np.zeros(3)
        for axis, of_file in enumerate(order):
            at = self.voxel[axis]
            stored[of_file] = self.shape[axis] - 1 - at if axis in flipped else at
        letters = next(pair for pair in ("LR", "PA", "IS") if self.orientation[axes.through] in pair)
        mm = float((space.affine[:3, :3] @ stored + space.affine[:3, 3])["LPI".index(letters[0])])
        return f"{letters[mm >= 0]} {abs(mm):.1f} mm, {slices}"

    def clipped(self, voxel: Sequence[float]) -> tuple[int, int, int]:
        """The nearest voxel of the grid."""
        return tuple(int(np.clip(round(v), 0, n - 1)) for v, n in zip(voxel, self.shape, strict=True))

    def go_to(self, voxel: Sequence[float]) -> None:
        """Let the viewer's slices meet in a voxel."""
        dims = self.viewer.dims
        dims.point = (*dims.point[: self.first], *(float(p) for p in self.place(self.clipped(voxel))))


def orientation_of(layer: Layer) -> str | None:
    """Where the layer's three spatial axes point in the patient, as in "IPL"; None if unknown."""
    return metadata_of(layer).get("orientation")


def edge_letters(
    orientation: str, axes: Axes, camera_orientation: tuple[Any, Any] = ("down", "right")
) -> dict[str, str]:
    """The letter at each edge of a plane.

    Parameters
    ----------
    camera_orientation : ("down" or "up", "right" or "left"): where the axes grow on screen
    """
    down, right = orientation[axes.down], orientation[axes.right]
    # napari gives an enum of str.
    vertical, horizontal = (str(getattr(side, "value", side)) for side in camera_orientation)
    if vertical == "up":
        down = OPPOSITE.get(down, "")
    if horizontal == "left":
        right = OPPOSITE.get(right, "")
    return {"left": OPPOSITE.get(right, ""), "right": right, "top": OPPOSITE.get(down, ""), "bottom": down}


def box_of(volume: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first and the last voxel that are not zero, along each axis; of all where it is zero throughout."""
    inside = np.asarray(volume) != 0
    first, last = np.zeros(3), np.subtract(inside.shape, 1.0)
    for axis in range(3):
        where = np.flatnonzero(inside.any(axis=tuple(a for a in range(3) if a != axis)))
        if where.size:
            first[axis], last[axis] = where[0], where[-1]
    return first, last


def _axis_along(pair: str, orientation: str) -> int:
    return next(axis for axis, code in enumerate(orientation) if code in pair)
