"""Nonlinear fit: the complex signal of all echoes fitted with one field, noise and misfit beside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import gammaincinv
from torch import Tensor

from napari_metaqsm.field.combine import unwrap_echoes
from napari_metaqsm.field.noise import magnitude_noise
from napari_metaqsm.field.unwrap import UNWRAPPINGS, strong_signal
from napari_metaqsm.method import check_parameters, method, parameter
from napari_metaqsm.scan import Acquisition, Geometry
from napari_metaqsm.units import rad_per_ppm

# A voxel without signal is given so many times the typical noise, not infinity.
_NOISIEST = 1e3


@dataclass(frozen=True)
class NonlinearFitParameters:
    """Parameters of ``nonlinear_fit``."""

    unwrapping: str = parameter(
        "quality-guided", choices=UNWRAPPINGS, help="How the phase is unwrapped in space"
    )
    offset: str = parameter(
        "smooth",
        choices=("smooth", "free"),
        help="Phase at echo time 0: one smooth map (MCPC-3D-S), or fitted in each voxel, which is noisier",
    )
    offset_smoothing_mm: float = parameter(
        7.5, low=1, high=50, unit="mm", help="How smooth the phase offset is"
    )
    iterations: int = parameter(30, low=1, high=200, help="Most Gauss-Newton steps")
    tolerance: float = parameter(
        1e-4, low=1e-8, high=0.1, help="Relative step at which the fit has converged"
    )

    __post_init__ = check_parameters


@method(
    "field",
    title="Nonlinear fit of echoes",
    reference="doi:10.1002/mrm.24272",
    stand_ins={"magnitude": "equal weights", "mask": "the whole volume"},
)
def nonlinear_fit(
    phase: Tensor,
    acquisition: Acquisition,
    geometry: Geometry,
    parameters: NonlinearFitParameters,
    magnitude: Tensor | None = None,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor]:
    """Recommended: fits the complex signal of all echoes; gives noise and misfit as well as the field.

    Parameters
    ----------
    phase : (echo, i, j, k) float, rad; a single echo, or the difference of two, will do
    acquisition : with one echo time per echo, and the field strength
    magnitude : (echo, i, j, k) float, any unit
    mask : (i, j, k) bool

    Returns
    -------
    total_field : (i, j, k) float, ppm; zero outside ``mask``
    noise : (i, j, k) float, ppm, its standard deviation: the noise of the signal, one number from the
        misfit of the fit (of a single echo, from the magnitude's fine structure), carried through the
        fit; None for a single echo without magnitude
    residual : (i, j, k) float, root of the mean squared misfit relative to the signal; None where
        there are no more echoes than unknowns
    quality : (i, j, k) float, 0 to 1, of the phase

    Notes
    -----
    Minimises ``sum_n |M_n - |M_n| exp(i (p0 + TE_n p1))|^2`` in each voxel by Gauss-Newton from the
    unwrapped echoes; ``f = p1 / (2 pi gamma B0)``. With r the phase left over, the normal equations have
    ``sum_n |M_n|^2 [1, TE_n] sin(r_n)`` on their right. A single echo has p0 = 0, and of the multiples of
    2 pi that it leaves open the one whose median over strong signal is nearest zero.

    References
    ----------
    Liu et al. 2013, doi:10.1002/mrm.24272
    """
    echoes = unwrap_echoes(
        phase, acquisition, geometry, magnitude, mask, parameters.unwrapping, parameters.offset_smoothing_mm
    )
    free = parameters.offset == "free" and len(phase) > 1
    surplus = len(phase) - 1 - free
    times = phase.new_tensor(acquisition.echo_times_s).reshape(-1, 1, 1, 1)
    inside = torch.ones_like(phase[0], dtype=torch.bool) if mask is None else mask.bool()
    first = None if echoes.magnitude is None else echoes.magnitude[0]
    strong = strong_signal(geometry.shape, first, inside.cpu().numpy())
    slope, spread = torch.zeros_like(phase[0]), torch.zeros_like(phase[0])
    residual = torch.zeros_like(phase[0]) if surplus else None
    misfits = []
    for slab, unwrapped, squared in echoes.slabs(phase, "Fitting the echoes"):
        slope[slab], spread[slab], misfit = _fit(unwrapped, squared, times, free, parameters)
        if surplus:
            misfits.append(misfit[torch.from_numpy(strong[slab]).to(phase.device)])
            residual[slab] = (misfit / squared.sum(0).clamp(min=1e-30)).sqrt() * inside[slab]
    level = _noise_level(misfits, surplus, first, strong, echoes.peak)
    to_ppm = 1 / rad_per_ppm(acquisition.b0_tesla, 1.0)
    noise = None
    if level is not None:
        typical = spread[torch.from_numpy(strong).to(phase.device)].median()
        noise = spread.clamp_(max=_NOISIEST * typical).mul_(level * to_ppm).mul_(inside)
    return slope.mul_(to_ppm).mul_(inside), noise, residual, torch.from_numpy(echoes.quality).to(phase)


def _fit(
    unwrapped: Tensor, squared: Tensor, times: Tensor, free: bool, parameters: NonlinearFitParameters
) -> tuple[Tensor, Tensor, Tensor]:
    """Slope (rad/s), its spread per unit of noise, and misfit, each (i, j, k), of one slab."""
    s0, s1, s2 = ((squared * times**power).sum(0) for power in range(3))
    # Normal equations [[s0, s1], [s1, s2]] (p0, p1); with p0 held at zero, s2 p1 alone.
    determinant = s0 * s2 - s1 * s1 if free else s0 * s2
    inverse = torch.where(determinant > 0, 1 / determinant, 0)
    offset, slope = torch.zeros_like(s0), torch.zeros_like(s0)

    def solve(right0: Tensor, right1: Tensor) -> tuple[Tensor, Tensor]:
        if not free:
            return torch.zeros_like(right0), s0 * right1 * inverse
        return (s2 * right0 - s1 * right1) * inverse, (s0 * right1 - s1 * right0) * inverse

    left = unwrapped
    for iteration in range(parameters.iterations + 1):
        # The first step is the linear fit of the unwrapped phase.
        pull = squared * (left if iteration == 0 else torch.sin(left))
        step0, step1 = solve(pull.sum(0), (pull * times).sum(0))
        offset, slope = offset + step0, slope + step1
        left = unwrapped - offset - times * slope
        # by the signal, for where there is none the steps never end
        if (s0 * step1.square()).sum() <= parameters.tolerance**2 * (s0 * slope.square()).sum():
            break
    # |M|^2 |exp(i phi) - exp(i (p0 + TE p1))|^2 = |M|^2 (2 sin(r / 2))^2
    misfit = (squared * (2 * torch.sin(left / 2)).square()).sum(0)
    spread = torch.where(determinant > 0, s0 / determinant, torch.inf).sqrt()
    return slope, spread, misfit


def _noise_level(
    misfits: list[Tensor], surplus: int, magnitude: np.ndarray | None, strong: np.ndarray, peak: float
) -> float | None:
    """Standard deviation of the noise of the signal, relative to the magnitude's peak."""
    if surplus:
        # The misfit over the variance is chi-squared; its median bears outliers.
        return float(torch.cat(misfits).median() / (2 * gammaincinv(surplus / 2, 0.5))) ** 0.5
    return None if magnitude is None else magnitude_noise(magnitude, strong) / peak
