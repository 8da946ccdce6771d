"""What a susceptibility of zero means: the mean of a reference region.

A map is known only up to a constant, because the dipole is zero at k = 0. Referencing subtracts a
region's mean; it can be changed at any time, since nothing else of the map depends on it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_metaqsm.errors import InputError


def reference(
    susceptibility: np.ndarray, region: np.ndarray | None, mask: np.ndarray, name: str = "brain"
) -> tuple[np.ndarray, dict[str, Any]]:
    """The map with the mean of ``region`` at zero, and what was subtracted.

    Parameters
    ----------
    susceptibility : (i, j, k), ppm, referenced to anything
    region : (i, j, k), zero outside; None leaves the map as the method gave it
    mask : (i, j, k), zero outside; voxels outside stay zero and do not count in the region
    name : of the region, for the record

    Returns
    -------
    (i, j, k) float32, ppm, and ``{"region", "mean_ppm", "sd_ppm", "voxels"}``

    Raises
    ------
    InputError
        When the region has another shape or no voxel in the mask.
    """
    if region is None:
        return susceptibility, {"region": "none", "mean_ppm": 0.0, "sd_ppm": 0.0, "voxels": 0}
    if region.shape != susceptibility.shape:
        raise InputError(
            f"the reference region is {region.shape} voxels, but the map is "
            f"{susceptibility.shape}; they must match"
        )
    inside = mask.astype(bool)
    values = susceptibility[inside & region.astype(bool)].astype(np.float64)
    if values.size == 0:
        raise InputError(f"the reference region {name!r} has no voxel in the map's mask; choose another")
    mean = float(values.mean())
    record = {"region": name, "mean_ppm": mean, "sd_ppm": float(values.std()), "voxels": int(values.size)}
    return np.where(inside, susceptibility - mean, 0).astype(np.float32), record
