"""Total variation (TV) by ADMM: piecewise constant maps from a few dozen steps in k-space."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_metaqsm.errors import InputError
from napari_metaqsm.inversion.total_variation import TotalVariation
from napari_metaqsm.method import announce, check_parameters, method, notice, parameter, remark
from napari_metaqsm.operators.pad import working_grid
from napari_metaqsm.operators.unexplained import ConeProbe
from napari_metaqsm.scan import Geometry

# The weight beta in ppm·mm that is the unit of the penalty weight: for a square of the field that no
# susceptibility explains over the whole field (ppm), and where no level is asked for or found.
PER_LEVEL_MM = 0.2
FIXED_WEIGHT = 1e-4
# Range of beta in ppm·mm that is searched, the steps for each trial, and how near a residual is near enough.
SEARCHED = (1e-6, 1e-2)
TRIALS, TRIAL_STEPS, TRIAL_TOLERANCE = 8, 12, 0.1
# The residual grows about as fast as the weight to the power of 0.8.
TRIAL_POWER = 1.25
WEIGHTS_FROM = ("level", "auto", "fixed")


@dataclass(frozen=True)
class TVParameters:
    """Parameters of ``tv``."""

    penalty_weight: float = parameter(
        1.0, low=1e-3, high=1e3, help="Strength of the penalty; 1 is what `weight_from` finds right"
    )
    weight_from: str = parameter(
        "level",
        choices=WEIGHTS_FROM,
        help="level: from how much of the field no susceptibility explains; auto: from the residual, by "
        "trial; fixed: 1e-4 ppm·mm whatever the scan",
    )
    iterations: int = parameter(100, low=2, high=5000, help="Most steps of ADMM")
    tolerance: float = parameter(
        8e-3, low=1e-7, high=0.1, help="Relative change of the map in a step at which ADMM stops"
    )

    __post_init__ = check_parameters


@method(
    "inversion",
    kind="iterative",
    title="TV",
    reference="doi:10.1002/mrm.25029",
    stand_ins={
        "noise": "the same noise in every voxel",
        "initial_susceptibility": "none: ADMM begins at zero",
    },
)
def tv(
    local_field: Tensor,
    mask: Tensor,
    geometry: Geometry,
    parameters: TVParameters,
    noise: Tensor | None = None,
    initial_susceptibility: Tensor | None = None,
) -> Tensor:
    """Iterative: sharp edges, little noise, few streaks, flat where the contrast is small; seconds.

    Parameters
    ----------
    local_field : (..., i, j, k) float, ppm
    mask : (i, j, k) bool
    noise : (i, j, k), standard deviation of the field; only its ratios between voxels count
    initial_susceptibility : (i, j, k) or (..., i, j, k) float, ppm, a map to go on from

    Returns
    -------
    (..., i, j, k) float, ppm; zero outside ``mask``, not referenced.

    Raises
    ------
    InputError
        When the mask is empty, the noise is nowhere positive, or the field in the mask is not finite.

    Notes
    -----
    Minimises ``||W (D chi - f)||^2 / 2 + beta ||grad chi||_1``, with differences per mm along each axis, W
    one over the noise relative to its median in the mask, and zero outside: there the field may be
    anything, and chi is as flat as the field inside allows. Everything is computed on the mask's box with a
    margin of zeros. A step of ADMM is two pairs of FFTs and a few passes over memory.

    The weight beta, ppm·mm, is ``penalty_weight`` times a unit. By default that is ``0.2 mm e^2 / a``: e is
    the amplitude of the field in the cone where D = 0, which no susceptibility explains, and a that of the
    whole field, both at 0.4 to 0.6 of the highest frequencies of the cone. A prior of gradients as large as
    the field asks for noise over signal in this way, and the map of a field twice as strong is twice as
    strong. The 0.2 mm is a compromise between six scans. ``auto`` looks instead for the beta under which the
    residual away from the cone has the amplitude ``e^2 / a``, which the best linear filter leaves; a
    residual as large as the noise, as the discrepancy principle has it, would be far too smooth. It takes up
    to twice as many steps and is no better on the whole, and so not the default. NRMSE (%), on the phantom
    with its noise map; last, the best of six fixed weights from 2e-5 to 1e-3 ppm·mm, by the truth:

    | scan | default | auto | fixed 1e-4 | best |
    |---|---|---|---|---|
    | phantom, 0.75×0.75×3 mm | 15.9 | 15.4 | 15.9 | 15.9 |
    | in vivo, 1.06 mm (2016, COSMOS) | 66.3 | 70.9 | 106.4 | 62.1 |
    | head, 0.60×1.11×1.42 mm, noise 2 ppb | 34.9 | 33.9 | 36.8 | 33.4 |
    | head, 0.80×0.89×3.3 mm, noise 1.4 ppb | 49.6 | 48.6 | 52.6 | 48.8 |
    | head, 0.62×0.62×0.76 mm, noise 0.2 ppb | 44.5 | 44.4 | 45.9 | 44.4 |
    | head, 1.17×1.17×1.20 mm, noise 0.4 ppb | 19.4 | 19.8 | 18.0 | 17.8 |

    Second-order total generalised variation (Bredies, Kunisch & Pock 2010, doi:10.1137/090769521), which
    spares ramps the staircases, was tried with the same misfit and weight, its second weight 1 to 10 mm
    times the first, and left out. At the default weight, 70 to 80 steps gave in vivo 67.7 to 77.1 % instead
    of 66.7, on the phantom 17.4 and 19.7 % instead of 15.9, and on two synthetic heads after RESHARP 38.6
    and 45.7 % instead of 40.2 and 46.8; on the second, half the weight gives TV 45.1. A step takes five
    pairs of FFTs instead of two, and it settles later.

    The phantom (256×256×64) takes 61 steps, 200 to 240 pairs of its FFTs and 12 to 18 volumes of memory.

    References
    ----------
    Bilgic et al. 2014, doi:10.1002/mrm.25029; Milovic et al. 2018, doi:10.1002/mrm.27073
    """
    mask = checked_mask(mask)
    weights = noise_weights(noise, mask, like=local_field)
    return invert(local_field, mask, geometry, parameters, weights, initial=initial_susceptibility)


def checked_mask(mask: Tensor) -> Tensor:
    """The mask as bool.

    Raises
    ------
    InputError
        When it is empty.
    """
    mask = mask.bool()
    if not mask.any():
        raise InputError("the mask is empty; it must hold the voxels whose susceptibility is wanted")
    return mask


def noise_weights(noise: Tensor | None, mask: Tensor, like: Tensor) -> Tensor:
    """``W^2`` (i, j, k): one over the noise's variance, 1 at its median in the mask, 0 outside.

    Voxels of half the median noise or less weigh 4, the most; those whose noise is not finite weigh 0.
    """
    if noise is None:
        return mask.to(like.dtype)
    noise = noise.to(like.dtype)
    known = mask & noise.isfinite() & (noise > 0)
    if not known.any():
        raise InputError("the noise map holds no positive value in the mask; it must, or be left out")
    median = noise[known].median()
    return torch.where(known, (median / noise.clamp(min=median / 2)).square(), 0)


def invert(
    local_field: Tensor,
    mask: Tensor,
    geometry: Geometry,
    parameters: TVParameters,
    weights: Tensor,
    *,
    edges: Tensor | None = None,
    radians: float | None = None,
    initial: Tensor | None = None,
) -> Tensor:
    """Susceptibility (..., i, j, k) under total variation; see :class:`TotalVariation`.

    Parameters
    ----------
    weights : (i, j, k), ``W^2``, 0 outside the mask
    edges : (3, i, j, k) bool, differences without penalty; None where all are penalised
    initial : (i, j, k) or (..., i, j, k), ppm
    """
    grid = working_grid(mask, geometry)
    announce("Kernels")
    inside, weights = grid.cut(mask), grid.cut(weights)
    # Outside the mask all is penalised.
    penalised = mask.new_ones((3, *inside.shape)) if edges is None else ~grid.cut(edges)
    result = torch.empty_like(local_field)
    fields, maps = (x.reshape(-1, *mask.shape) for x in (local_field, result))
    if initial is not None:
        starts = initial.to(local_field).expand_as(local_field).reshape(-1, *mask.shape)
    for index, field in enumerate(fields):
        # Outside the mask the field may be anything, even NaN, which a product would spread.
        field = torch.where(inside, grid.cut(field), 0)
        problem = TotalVariation(field, weights, penalised, grid.geometry, radians)
        if initial is not None:
            problem.start_at(torch.where(inside, grid.cut(starts[index]), 0))
        base = _base_weight(problem, inside, parameters)
        problem.set_weight(parameters.penalty_weight * base)
        remark("penalty_weight_ppm_mm", float(f"{problem.weight:.3g}"))
        found, change = problem.minimise(parameters.iterations, parameters.tolerance)
        if not math.isfinite(change):
            raise InputError("the field holds values in the mask that are not finite, or too large to invert")
        if change > parameters.tolerance:
            notice(
                f"ADMM stopped after {parameters.iterations} steps, the map still changing by {change:.1e} "
                f"a step, above the tolerance of {parameters.tolerance:.1e}"
            )
        maps[index] = grid.paste(found, mask)
    return result


def _base_weight(problem: TotalVariation, inside: Tensor, parameters: TVParameters) -> float:
    """The weight beta in ppm mm that a penalty weight of 1 stands for."""
    if parameters.weight_from == "fixed":
        return FIXED_WEIGHT
    probe = ConeProbe(inside, problem.geometry, like=problem.field)
    unexplained, whole = probe.amplitudes(problem.field)
    if not unexplained > 0:
        return FIXED_WEIGHT
    weight = PER_LEVEL_MM * unexplained**2 / max(whole, unexplained)
    if parameters.weight_from == "level":
        return weight
    return _weight_by_residual(problem, probe, weight, unexplained**2 / max(whole, unexplained))


def _weight_by_residual(problem: TotalVariation, probe: ConeProbe, weight: float, wanted: float) -> float:
    """The weight under which the residual away from the cone has the amplitude ``wanted``, by trial.

    Each trial goes on from the states of the one before.
    """
    for trial in range(TRIALS):
        problem.set_weight(weight)
        problem.minimise(TRIAL_STEPS * (1 if trial else 2), 0.0, f"ADMM, trial {trial + 1}")
        _, found = probe.amplitudes(problem.residual())
        if not found > 0 or abs(found / wanted - 1) < TRIAL_TOLERANCE:
            break
        weight = min(max(weight * (wanted / found) ** TRIAL_POWER, SEARCHED[0]), SEARCHED[1])
    return weight
