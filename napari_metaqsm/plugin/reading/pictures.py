"""What a cell of the comparison shows: a map, the difference of two, or two of them in one place.

napari's cells share one place and one set of axes. A picture of another plane, a difference or a pair is
therefore shown by a layer of its own, whose data (:class:`SliceView`) are not an array but are asked for
the one slice that is looked at: nothing is copied, and nothing is computed that is not seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from napari.layers import Image

from napari_metaqsm.plugin.layers import metadata_of
from napari_metaqsm.plugin.reading.planes import Axes, Frame

MAXIMUM, MINIMUM = "maximum", "minimum"
_PROJECT = {MAXIMUM: np.max, MINIMUM: np.min}
_DIGITS = {"ppm": ".3f", "rad": ".2f"}


@dataclass
class Slab:
    """How thick the slices are that are looked at, and what is taken of them: nothing, minimum, maximum."""

    projection: str = ""
    thickness_mm: float = 0.0

    def reach(self, step_mm: float) -> tuple[int, int]:
        """How many slices before and after the one that is looked at belong to it."""
        count = max(round(self.thickness_mm / abs(step_mm)), 1) if self.projection else 1
        return count // 2, (count - 1) // 2

    def slices(self, frame: Frame, axis: int, index: int) -> slice | int:
        """The slices about ``index``; where nothing is projected the one."""
        if not self.projection:
            return index
        before, after = self.reach(frame.steps[axis])
        return slice(max(index - before, 0), min(index + after, frame.shape[axis] - 1) + 1)


@dataclass
class MapPicture:
    """One layer."""

    layer: Image

    @property
    def title(self) -> str:
        """What the cell is called."""
        return self.layer.name

    @property
    def layers(self) -> tuple[Image, ...]:
        """The layers that it is made of."""
        return (self.layer,)

    @property
    def unit(self) -> str:
        """Of the values."""
        return unit_of(self.layer)

    def value(self, frame: Frame, axes: Axes) -> float | None:
        """At the viewer's voxel; None where a map of susceptibility is not known."""
        value = float(volume_of(self.layer, frame)[frame.voxel])
        return None if value == 0 and is_susceptibility(self.layer) else value

    def plane(self, frame: Frame, axes: Axes, slab: Slab) -> np.ndarray:
        """(down, right): the plane that the viewer's voxel lies in, or the projection of several."""
        return _plane(volume_of(self.layer, frame), frame, axes, slab)


@dataclass
class DifferencePicture:
    """One map minus another, where both are known."""

    first: Image
    second: Image
    unit: str = "ppm"

    @property
    def title(self) -> str:
        """What the cell is called."""
        return f"{self.first.name} − {self.second.name}"

    @property
    def layers(self) -> tuple[Image, ...]:
        """The layers that it is made of."""
        return (self.first, self.second)

    def value(self, frame: Frame, axes: Axes) -> float | None:
        """At the viewer's voxel; None where one of the maps is not known."""
        one, other = (float(layer.data[frame.voxel]) for layer in self.layers)
        return one - other if one and other else None

    def plane(self, frame: Frame, axes: Axes, slab: Slab) -> np.ndarray:
        """(down, right): always of one slice; two projections have their extremes in different places."""
        one, other = (_plane(layer.data, frame, axes, Slab()) for layer in self.layers)
        return np.where((one != 0) & (other != 0), one - other, 0)


@dataclass
class PairPicture:
    """Two maps in one place: the first to the left of the wipe, the second to its right.

    Parameters
    ----------
    wipe : from 0 to 1, how far the first map reaches across ``columns``
    swapped : whether they have changed places, as while the key is held
    box : the first and the last voxel of the brain
    """

    first: Image
    second: Image
    box: tuple[np.ndarray, np.ndarray]
    wipe: float = 1.0
    swapped: bool = False

    @property
    def title(self) -> str:
        """What the cell is called: the map that is seen, or both."""
        one, other = self._ordered()
        if self.wipe >= 1:
            return one.name
        return other.name if self.wipe <= 0 else f"{one.name} | {other.name}"

    @property
    def layers(self) -> tuple[Image, ...]:
        """The layers that it is made of."""
        return (self.first, self.second)

    @property
    def unit(self) -> str:
        """Of the values."""
        return unit_of(self.first)

    def value(self, frame: Frame, axes: Axes) -> float | None:
        """At the viewer's voxel, of the map that is seen there in the plane of these axes."""
        one, other = self._ordered()
        seen = one if frame.voxel[axes.right] < self.border(axes.right) else other
        return MapPicture(seen).value(frame, axes)

    def plane(self, frame: Frame, axes: Axes, slab: Slab) -> np.ndarray:
        """(down, right): both maps, each on its side of the wipe."""
        one, other = (_plane(x.data, frame, axes, slab) for x in self._ordered())
        border = self.border(axes.right)
        return np.concatenate([one[:, :border], other[:, border:]], axis=1)

    def border(self, right: int) -> int:
        """The first column of the second map, along the axis that runs to the right."""
        if self.wipe >= 1:
            return np.iinfo(np.int32).max
        low, high = (corner[right] for corner in self.box)
        return 0 if self.wipe <= 0 else round(low + self.wipe * (high + 1 - low))

    def _ordered(self) -> tuple[Image, Image]:
        return (self.second, self.first) if self.swapped else (self.first, self.second)


Picture = MapPicture | DifferencePicture | PairPicture


@dataclass
class SliceView:
    """An array to napari: asked for a slice anywhere along one axis, it gives the picture of the moment.

    Parameters
    ----------
    shape : as napari is to see it; where a fourth axis is given it holds colours
    host : the plane that the viewer shows: ``host.through`` is the axis that is sliced in vain
    picture : gives what is to be seen, (down, right) or (down, right, colour)
    """

    shape: tuple[int, ...]
    host: Axes
    picture: Callable[[], np.ndarray] = field(repr=False)
    dtype: Any

    @property
    def ndim(self) -> int:
        """Of the shape."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Of the shape."""
        return int(np.prod(self.shape))

    def __getitem__(self, key: Any) -> np.ndarray:
        """The picture, along napari's axes; repeated where several slices are asked for."""
        picture = self.picture()
        if self.host.down > self.host.right:
            picture = picture.swapaxes(0, 1)
        key = key if isinstance(key, tuple) else (key,)
        through = key[self.host.through] if self.host.through < len(key) else slice(None)
        whole = np.expand_dims(picture, self.host.through)
        repeated = np.broadcast_to(whole, self.shape)
        index = [slice(None)] * 3
        for axis, at in enumerate(key[:3]):
            index[axis] = 0 if axis == self.host.through and not isinstance(through, slice) else at
        return repeated[tuple(index)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """All of it."""
        return np.array(self[:, :, :], dtype=dtype)


def volume_of(layer: Image, frame: Frame) -> np.ndarray:
    """The three last axes of a layer; of several echoes the one that the viewer stands at."""
    data = layer.data
    if data.ndim == 3:
        return data
    dims = frame.viewer.dims
    echo = layer.world_to_data(dims.point[dims.ndim - data.ndim :])[0]
    return data[int(np.clip(round(float(echo)), 0, len(data) - 1))]


def is_susceptibility(layer: Image) -> bool:
    """Whether a layer is a map of susceptibility, and so is shown in the shared window."""
    return str(metadata_of(layer).get("quantity") or "").startswith("susceptibility")


def unit_of(layer: Image) -> str:
    """The unit of a layer's values; what is a map of susceptibility is in ppm."""
    return str(metadata_of(layer).get("unit") or ("ppm" if is_susceptibility(layer) else ""))


def value_text(value: float | None, unit: str) -> str:
    """A value with its unit, as it stands in a cell."""
    if value is None:
        return "–"
    sign = "+" if unit in ("ppm", "rad") else ""
    return f"{value:{sign}{_DIGITS.get(unit, '.4g')}} {unit}".strip().replace("-", "−")


def plane_of(volume: np.ndarray, axes: Axes, index: slice | int) -> np.ndarray:
    """(down, right): one plane of a volume; of several, (down, right, through)."""
    plane = np.moveaxis(volume, axes, (2, 0, 1))
    return plane[..., index]


def _plane(volume: np.ndarray, frame: Frame, axes: Axes, slab: Slab) -> np.ndarray:
    plane = plane_of(volume, axes, slab.slices(frame, axes.through, frame.voxel[axes.through]))
    return _PROJECT[slab.projection](plane, axis=-1) if plane.ndim == 3 else plane
