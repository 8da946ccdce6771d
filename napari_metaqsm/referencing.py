"""What a susceptibility of zero means: the mean of a reference region.

A map is known only up to a constant, because the dipole is zero at k = 0. Referencing subtracts a
region's mean; it can be changed at any time, since nothing else of the map depends on it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from napari_metaqsm.errors import InputError
from napari_metaqsm.operators.ventricles import ventricles
from napari_metaqsm.scan import Acquisition, Geometry


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


def shift(
    susceptibility: np.ndarray, offset_ppm: float, mask: np.ndarray
) -> tuple[np.ndarray, dict[str, Any]]:
    """The map with a number subtracted, as where the susceptibility of the zero is known from elsewhere.

    Parameters
    ----------
    susceptibility : (i, j, k), ppm
    offset_ppm : what becomes zero
    mask : (i, j, k), zero outside; voxels outside stay zero

    Returns
    -------
    as :func:`reference`

    Raises
    ------
    InputError
        When the offset is not finite.
    """
    if not math.isfinite(offset_ppm):
        raise InputError(f"offset_ppm is {offset_ppm}; it must be a number")
    record = {"region": "offset", "mean_ppm": float(offset_ppm), "sd_ppm": 0.0, "voxels": 0}
    return np.where(mask.astype(bool), susceptibility - offset_ppm, 0).astype(np.float32), record


def csf(magnitude: np.ndarray, mask: np.ndarray, geometry: Geometry, acquisition: Acquisition) -> np.ndarray:
    """(i, j, k) bool: cerebrospinal fluid of the ventricles, the usual zero beside the whole brain.

    Parameters
    ----------
    magnitude : (echo, i, j, k), three echoes or more
    mask : (i, j, k), zero outside

    Raises
    ------
    InputError
        When there are not the echoes for it, or no ventricle is found.
    """
    echoes = torch.from_numpy(np.ascontiguousarray(magnitude, np.float32))
    inside = torch.from_numpy(np.ascontiguousarray(mask != 0))
    return ventricles(echoes, inside, geometry, acquisition).numpy()
