"""What a comparison shows, as values that can be written to a file."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from napari_metaqsm.errors import InputError
from napari_metaqsm.plugin.reading.pictures import MAXIMUM, MINIMUM
from napari_metaqsm.plugin.reading.planes import PLANES

SIDE_BY_SIDE, IN_PLACE, DIFFERENCES = "side by side", "in place", "differences"
LAYOUTS = (SIDE_BY_SIDE, IN_PLACE, DIFFERENCES)
# The window in which susceptibility maps are read, in every cell alike.
DEFAULT_WINDOW_PPM = 0.1
_LARGEST_SLAB_MM = 1000.0


@dataclass(frozen=True)
class Look:
    """How layers are looked at.

    Parameters
    ----------
    layout : ``SIDE_BY_SIDE``; ``IN_PLACE``: two maps in one cell; ``DIFFERENCES``: a map, and the others
        minus it
    pair : names of the two maps in one cell
    against : name of the map that is taken off the others
    planes : "axial", "sagittal", "coronal": one, or one a row
    window_ppm : ends of the gray window of all susceptibility maps
    difference_ppm : half width of the window of the differences
    projection : "", ``MINIMUM`` or ``MAXIMUM`` over a slab
    slab_mm : its thickness
    wipe : from 0 to 1: how far the first map of the pair reaches across
    """

    layout: str = SIDE_BY_SIDE
    pair: tuple[str, str] | None = None
    against: str | None = None
    planes: tuple[str, ...] = ("axial",)
    window_ppm: tuple[float, float] = (-DEFAULT_WINDOW_PPM, DEFAULT_WINDOW_PPM)
    difference_ppm: float = 0.05
    projection: str = ""
    slab_mm: float = 10.0
    outline: bool = True
    cross_hair: bool = True
    wipe: float = 1.0

    def __post_init__(self) -> None:
        for name in ("pair", "planes", "window_ppm"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, tuple(value))
        if self.layout not in LAYOUTS:
            raise InputError(f"layout is {self.layout!r}; it must be one of {', '.join(LAYOUTS)}")
        if not self.planes or len(set(self.planes)) < len(self.planes) or set(self.planes) - set(PLANES):
            raise InputError(f"planes is {self.planes}; it must name some of {', '.join(PLANES)}, each once")
        low, high = self.window_ppm
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise InputError(f"window_ppm is {low:g} to {high:g}; it must end above its beginning")
        if not (math.isfinite(self.difference_ppm) and self.difference_ppm > 0):
            raise InputError(f"difference_ppm is {self.difference_ppm:g}; it must be greater than 0")
        if self.projection not in ("", MINIMUM, MAXIMUM):
            raise InputError(f"projection is {self.projection!r}; it must be {MINIMUM}, {MAXIMUM} or nothing")
        if not 0 < self.slab_mm <= _LARGEST_SLAB_MM:
            raise InputError(f"slab_mm is {self.slab_mm:g}; it must lie in (0, {_LARGEST_SLAB_MM:g}]")
        if not 0 <= self.wipe <= 1:
            raise InputError(f"wipe is {self.wipe:g}; it must lie in [0, 1]")

    def but(self, **changes: Any) -> Look:
        """The same, but for ``changes``."""
        return dataclasses.replace(self, **changes)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Look:
        """From what :meth:`as_dict` gave; what it does not know, of a later version, is left out."""
        names = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in state.items() if name in names})
