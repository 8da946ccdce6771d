"""Mask of where the phase can be trusted, whatever the magnitude shows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from napari_metaqsm.mask.finishing import finished_mask
from napari_metaqsm.method import check_parameters, method, parameter
from napari_metaqsm.scan import Geometry


@dataclass(frozen=True)
class PhaseQualityParameters:
    """Parameters of ``phase_quality``."""

    min_quality: float = parameter(0.5, low=0.01, high=1.0, help="Least phase quality of a voxel")
    fill_holes: bool = parameter(True, help="Fill cavities that lie wholly inside")

    __post_init__ = check_parameters


@method("mask", title="Phase quality", reference="doi:10.1002/mrm.28563")
def phase_quality(quality: Tensor, geometry: Geometry, parameters: PhaseQualityParameters) -> Tensor:
    """The largest region of reliable phase, from the quality map of unwrapping; keeps the scalp.

    Parameters
    ----------
    quality : (i, j, k) float in [0, 1]

    Returns
    -------
    (i, j, k) bool

    Raises
    ------
    InputError
        When no voxel is good enough.
    """
    return finished_mask(
        torch.ones_like(quality, dtype=torch.bool),
        quality,
        min_quality=parameters.min_quality,
        fill_holes=parameters.fill_holes,
        otherwise=f"no voxel has a phase quality of {parameters.min_quality:g}: lower min_quality",
    )
