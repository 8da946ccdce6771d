"""What one reading looks at: the maps of a scan on one grid, and what is known beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from napari_metaqsm.errors import InputError
from napari_metaqsm.scan import Acquisition, Geometry

# Beside the maps; each may be missing.
VOLUMES = ("total_field", "local_field", "noise", "residual", "quality", "mask")
SERIES = ("magnitude", "phase")


@dataclass(frozen=True)
class Study:
    """Maps of one scan by title, and the arrays that they came from, all on one grid.

    Parameters
    ----------
    geometry : of the grid; its orientation says where the axes point in the patient
    maps : (i, j, k) susceptibility in ppm by title, as referenced; zero outside the map's own mask
    acquisition : how the phase was acquired
    magnitude, phase : (echo, i, j, k), as stored
    total_field, local_field, noise : (i, j, k), ppm
    residual : (i, j, k), of the field fit, relative to the signal
    quality : (i, j, k), of the phase, from 0 to 1
    mask : (i, j, k), the brain as it was before anything eroded it
    records : how each map was made, by its title (see ``provenance.make_record``)
    files : where each map or array was read from, by title or name

    Raises
    ------
    InputError
        When there is no map or an array does not lie on the grid.
    """

    geometry: Geometry
    maps: Mapping[str, np.ndarray]
    acquisition: Acquisition = field(default_factory=Acquisition)
    magnitude: np.ndarray | None = None
    phase: np.ndarray | None = None
    total_field: np.ndarray | None = None
    local_field: np.ndarray | None = None
    noise: np.ndarray | None = None
    residual: np.ndarray | None = None
    quality: np.ndarray | None = None
    mask: np.ndarray | None = None
    records: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.maps:
            raise InputError("there is no susceptibility map; make or open at least one")
        for name in SERIES:
            array = getattr(self, name)
            if array is not None and np.ndim(array) == 3:
                object.__setattr__(self, name, np.asarray(array)[None])
        named = {**self.maps, **{n: getattr(self, n) for n in (*VOLUMES, *SERIES)}}
        for name, array in named.items():
            if array is None:
                continue
            axes = 4 if name in SERIES and name not in self.maps else 3
            if np.ndim(array) != axes or np.shape(array)[-3:] != self.geometry.shape:
                raise InputError(
                    f"{name.replace('_', ' ')} is {np.shape(array)} voxels, but the scan is "
                    f"{self.geometry.shape}; what is read together must lie on one grid"
                )

    def inside(self, title: str) -> np.ndarray:
        """(i, j, k) bool: where the map is known. Every method gives exactly zero outside its mask."""
        return self.maps[title] != 0

    def inside_all(self) -> np.ndarray:
        """(i, j, k) bool: where every map is known."""
        return np.logical_and.reduce([self.inside(title) for title in self.maps])

    @property
    def voxel_mm3(self) -> float:
        """Volume of a voxel."""
        return float(np.prod(self.geometry.voxel_size_mm))
