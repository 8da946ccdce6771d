"""Cerebrospinal fluid in the middle of the brain, by its slow decay."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_metaqsm.errors import InputError
from napari_metaqsm.operators.decay import r2star
from napari_metaqsm.scan import Acquisition, Geometry

# The values of MEDI+0 (doi:10.1002/mrm.26946).
SLOWEST_TISSUE_R2STAR = 5.0
WITHIN_MM = 30.0
FEWEST_ECHOES = 3


def check_echoes(magnitude_shape: tuple[int, ...] | None, acquisition: Acquisition) -> None:
    """Whether :func:`ventricles` can be found in a magnitude of this shape, (echo, i, j, k) or (i, j, k).

    Raises
    ------
    InputError
        When there are fewer than three echoes, or not a time for each.
    """
    echoes = 0 if magnitude_shape is None else 1 if len(magnitude_shape) == 3 else magnitude_shape[0]
    times = 0 if acquisition.echo_times_s is None else len(acquisition.echo_times_s)
    if echoes < FEWEST_ECHOES or times != echoes:
        raise InputError(
            f"the ventricles are found by R2*, from the magnitude of {FEWEST_ECHOES} or more echoes and "
            f"their times; there are {echoes} echoes and {times} times"
        )


def ventricles(magnitude: Tensor, mask: Tensor, geometry: Geometry, acquisition: Acquisition) -> Tensor:
    """(i, j, k) bool: where R2* is below 5 1/s, within 30 mm of the middle of the mask.

    Parameters
    ----------
    magnitude : (echo, i, j, k), any unit
    mask : (i, j, k) bool

    Raises
    ------
    InputError
        When there are not the echoes for it, or no such voxel.

    References
    ----------
    Liu et al. 2018, doi:10.1002/mrm.26946
    """
    check_echoes(tuple(magnitude.shape), acquisition)
    decay = r2star(magnitude, acquisition.echo_times_s)
    places = torch.nonzero(mask) * torch.tensor(geometry.voxel_size_mm, device=mask.device)
    near = mask.clone()
    near[mask] = torch.linalg.vector_norm(places - places.mean(0), dim=1) <= WITHIN_MM
    found = near & (decay < SLOWEST_TISSUE_R2STAR)
    if not found.any():
        raise InputError(
            f"no ventricles were found; R2* is nowhere below {SLOWEST_TISSUE_R2STAR:g} 1/s within "
            f"{WITHIN_MM:g} mm of the middle of the mask"
        )
    return found
