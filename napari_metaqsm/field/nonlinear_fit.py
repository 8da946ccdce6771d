"""Nonlinear fit: the complex signal of all echoes fitted with one field, noise and misfit beside it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.special import gammaincinv
from torch import Tensor

from napari_metaqsm.field.combine import UnwrappedEchoes, unwrap_echoes
from napari_metaqsm.field.noise import magnitude_noise
from napari_metaqsm.field.unwrap import UNWRAPPINGS, strong_signal
from napari_metaqsm.method import check_parameters, method, parameter
from napari_metaqsm.scan import Acquisition, Geometry
from napari_metaqsm.units import rad_per_ppm

# A voxel of no signal is given the noise of one with this part of the typical signal, not infinity.
_WEAKEST = 1e-3


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
    times = phase.new_tensor(acquisition.echo_times_s).reshape(-1, 1, 1, 1)
    slope, spread = torch.zeros_like(phase[0]), torch.zeros_like(phase[0])
    misfit, signal = torch.zeros_like(phase[0]), torch.zeros_like(phase[0])
    for slab, unwrapped, squared in echoes.slabs(phase, "Fitting the echoes"):
        found = _fit(unwrapped, squared, times, free, parameters)
        slope[slab], spread[slab], misfit[slab], signal[slab] = found
    to_ppm = 1 / rad_per_ppm(acquisition.b0_tesla, 1.0)
    surplus = len(phase) - 1 - free
    level = _noise_level(echoes, misfit, surplus, mask)
    inside = torch.ones_like(slope) if mask is None else mask.to(slope)
    noise = None if level is None else spread.mul_(level * to_ppm).mul_(inside)
    residual = None if surplus == 0 else torch.where(signal > 0, misfit / signal, 0).sqrt_().mul_(inside)
    return slope.mul_(to_ppm).mul_(inside), noise, residual, torch.from_numpy(echoes.quality).to(phase)


def _fit(
    unwrapped: Tensor, squared: Tensor, times: Tensor, free: bool, parameters: NonlinearFitParameters
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Slope (rad/s), its spread per unit of noise, misfit and signal, each (i, j, k), of one slab."""
    s0, s1, s2 = ((squared * times**power).sum(0) for power in range(3))
    # Normal equations [[s0, s1], [s1, s2]] (p0, p1); with p0 held at zero, s2 p1 alone.
    determinant = s0 * s2 - s1 * s1 if free else s0 * s2
    weak = _WEAKEST**2 * determinant.median()
    divisor = determinant.clamp(min=max(float(weak), 1e-30))
    offset, slope = torch.zeros_like(s0), torch.zeros_like(s0)

    def solve(right0: Tensor, right1: Tensor) -> tuple[Tensor, Tensor]:
        if not free:
            return torch.zeros_like(right0), s0 * right1 / divisor
        return (s2 * right0 - s1 * right1) / divisor, (s0 * right1 - s1 * right0) / divisor

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
    return slope, (s0 / divisor).sqrt(), misfit, s0


def _noise_level(echoes: UnwrappedEchoes, misfit: Tensor, surplus: int, mask: Tensor | None) -> float | None:
    """Standard deviation of the noise of the signal, in the magnitude's unit."""
    first = None if echoes.magnitude is None else echoes.magnitude[0]
    inside = None if mask is None else mask.cpu().bool().numpy()
    strong = strong_signal(echoes.quality.shape, first, inside)
    if surplus > 0:
        # The misfit over the variance is chi-squared; its median bears outliers.
        median = misfit[torch.from_numpy(strong).to(misfit.device)].median()
        return float((median / (2 * gammaincinv(surplus / 2, 0.5))) ** 0.5)
    return None if first is None else magnitude_noise(first, strong)
