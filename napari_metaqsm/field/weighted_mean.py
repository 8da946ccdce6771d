"""Weighted mean of the echoes: each echo's field by its phase-to-noise ratio squared."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from napari_metaqsm.field.combine import unwrap_echoes
from napari_metaqsm.field.unwrap import UNWRAPPINGS
from napari_metaqsm.method import check_parameters, method, parameter
from napari_metaqsm.scan import Acquisition, Geometry
from napari_metaqsm.units import rad_per_ppm


@dataclass(frozen=True)
class WeightedMeanParameters:
    """Parameters of ``weighted_mean``."""

    unwrapping: str = parameter(
        "quality-guided", choices=UNWRAPPINGS, help="How the phase is unwrapped in space"
    )
    offset_smoothing_mm: float = parameter(
        7.5, low=1, high=50, unit="mm", help="How smooth the phase offset common to the echoes is"
    )

    __post_init__ = check_parameters


@method(
    "field",
    title="Weighted mean of echoes",
    reference="doi:10.1002/mrm.26963",
    stand_ins={"magnitude": "equal weights", "mask": "the whole volume"},
)
def weighted_mean(
    phase: Tensor,
    acquisition: Acquisition,
    geometry: Geometry,
    parameters: WeightedMeanParameters,
    magnitude: Tensor | None = None,
    mask: Tensor | None = None,
) -> tuple[Tensor, None, None, Tensor]:
    """Direct: unwraps the echoes, takes out their common offset (MCPC-3D-S) and averages; no noise map.

    Parameters
    ----------
    phase : (echo, i, j, k) float, rad; a single echo, or the difference of two, will do
    acquisition : with one echo time per echo, and the field strength
    magnitude : (echo, i, j, k) float, any unit
    mask : (i, j, k) bool

    Returns
    -------
    total_field : (i, j, k) float, ppm; zero outside ``mask``
    noise, residual : None
    quality : (i, j, k) float, 0 to 1, of the phase

    Notes
    -----
    ``f = sum_n w_n phi_n / (2 pi gamma B0 TE_n) / sum_n w_n`` with ``w_n = magnitude_n^2 TE_n^2`` and
    phi_n the unwrapped phase without the offset. A single echo keeps its offset, and of the multiples of 2 pi
    that it leaves open has the one whose median over strong signal is nearest zero.
    """
    echoes = unwrap_echoes(
        phase, acquisition, geometry, magnitude, mask, parameters.unwrapping, parameters.offset_smoothing_mm
    )
    times = phase.new_tensor(acquisition.echo_times_s).reshape(-1, 1, 1, 1)
    total_field = torch.zeros_like(phase[0])
    for slab, unwrapped, squared in echoes.slabs(phase, "Averaging the echoes"):
        # w phi / TE = magnitude^2 TE phi; without any magnitude there is no field
        above, below = (squared * times * unwrapped).sum(0), (squared * times.square()).sum(0)
        total_field[slab] = torch.where(below > 0, above / below, 0)
    total_field /= rad_per_ppm(acquisition.b0_tesla, 1.0)
    return total_field, None, None, torch.from_numpy(echoes.quality).to(phase)
