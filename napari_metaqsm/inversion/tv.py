"""Total variation (TV) by ADMM: piecewise constant maps from a few dozen steps in k-space."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from napari_metaqsm.errors import InputError
from napari_metaqsm.method import announce, check_parameters, method, notice, parameter, remark
from napari_metaqsm.operators.dipole import dipole_kernel
from napari_metaqsm.operators.fourier import irfftn, multiply_spectrum, rfftn
from napari_metaqsm.operators.gradient import gradient, gradient_spectrum
from napari_metaqsm.operators.pad import working_grid
from napari_metaqsm.operators.shrinkage import (
    reflect_field,
    reflected_divergence,
    relax_to_field,
    relax_to_gradient,
)
from napari_metaqsm.operators.unexplained import ConeProbe
from napari_metaqsm.scan import Geometry
from napari_metaqsm.solvers.admm import admm

# Of the data's weight: how firmly the split field is held to that of the map.
FIELD_PENALTY = 0.1
# ppm/mm: the step of shrinking, as large as gradients in the brain are.
THRESHOLD = 0.002
# Over-relaxation.
RELAXATION = 1.6


# What the weight beta is relative to, in ppm mm: of the square of the field that no susceptibility explains,
# over the whole field, both in ppm; and a constant.
PER_LEVEL_MM = 0.15
FIXED_WEIGHT = 1e-4
# Range of beta, ppm mm, that is searched, and the steps for each trial.
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
    iterations: int = parameter(100, low=1, high=5000, help="Most steps of ADMM")
    tolerance: float = parameter(
        5e-3, low=1e-7, high=0.1, help="Relative change of the map in a step at which ADMM stops"
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
    """Iterative: sharp edges, little noise, few streaks, flat where the contrast is small; seconds."""
    mask = checked_mask(mask)
    weights = noise_weights(noise, mask, like=local_field)
    free = mask.new_zeros((3, *mask.shape))
    return invert(local_field, mask, geometry, parameters, weights, free, None, initial_susceptibility)


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
    free: Tensor,
    radians: float | None,
    initial: Tensor | None,
) -> Tensor:
    """Susceptibility (..., i, j, k) under total variation; see :class:`TotalVariation`.

    Parameters
    ----------
    weights : (i, j, k), ``W^2``, 0 outside the mask
    free : (3, i, j, k) bool, differences without penalty, false outside the mask
    initial : (i, j, k) or (..., i, j, k), ppm
    """
    grid = working_grid(mask, geometry)
    announce("Kernels")
    inside, weights, free = grid.cut(mask), grid.cut(weights), grid.cut(free)
    probe = ConeProbe(inside, grid.geometry, like=weights)
    result = torch.empty_like(local_field)
    fields, maps = (x.reshape(-1, *mask.shape) for x in (local_field, result))
    if initial is not None:
        starts = initial.to(local_field).expand_as(local_field).reshape(-1, *mask.shape)
    for index, field in enumerate(fields):
        # Outside the mask the field may be anything, even NaN, which a product would spread.
        field = torch.where(inside, grid.cut(field), 0)
        problem = TotalVariation(field, weights, free, grid.geometry, radians)
        if initial is not None:
            problem.start_at(torch.where(inside, grid.cut(starts[index]), 0))
        base = _base_weight(problem, probe, parameters)
        problem.set_weight(parameters.penalty_weight * base)
        remark("penalty_weight_ppm_mm", float(f"{problem.weight:.3g}"))
        found, change = problem.minimise(parameters.iterations, parameters.tolerance, "ADMM")
        if change > parameters.tolerance:
            notice(
                f"ADMM stopped after {parameters.iterations} steps, the map still changing by {change:.1e} "
                f"a step, above the tolerance of {parameters.tolerance:.1e}"
            )
        maps[index] = grid.paste(found, mask)
    return result


def _base_weight(problem: TotalVariation, probe: ConeProbe, parameters: TVParameters) -> float:
    """The weight beta in ppm mm that a penalty weight of 1 stands for."""
    if parameters.weight_from == "fixed":
        return FIXED_WEIGHT
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


class TotalVariation:
    """``||W (D chi - f)||^2 / 2 + beta ||M grad chi||_1`` on a grid, and the split that ADMM minimises it by.

    The split is ``z_1 = D chi`` and ``z_2 = grad chi``, each with a state (see
    :func:`~napari_metaqsm.solvers.admm.admm`). The map nearest to both is one division in k-space.

    Parameters
    ----------
    field : (i, j, k), ppm, on the grid
    weights : (i, j, k), ``W^2``, about 1 where the field is known, 0 where not
    free : (3, i, j, k) bool, differences without penalty (M = 0)
    geometry : of the grid
    radians : phase that a field of one ppm is; None for a linear data term, else it is
        ``||W (exp(i radians D chi) - exp(i radians f))||^2 / (2 radians^2)``
    """

    def __init__(
        self, field: Tensor, weights: Tensor, free: Tensor, geometry: Geometry, radians: float | None = None
    ) -> None:
        self.field, self.weights, self.free, self.geometry = field, weights, free, geometry
        self.radians = radians
        self.kernel = dipole_kernel(geometry, like=field)
        self.field_state = torch.zeros_like(field)
        self.gradient_state = field.new_zeros((3, *field.shape))
        self._right_sides = field.new_empty((2, *field.shape))
        self.set_weight(1.0)

    def set_weight(self, weight: float) -> None:
        """Choose beta, ppm·mm; the states stay, a good start for a weight not far off."""
        self.weight = weight
        smooth = weight / THRESHOLD
        # chi = (mu_1 D F q_1 + mu_2 F div q_2) / (mu_1 D^2 + mu_2 sum_i |E_i|^2), its mean 0
        denominator = self.kernel.square().mul_(FIELD_PENALTY)
        denominator.add_(gradient_spectrum(self.geometry, like=self.field), alpha=smooth)
        denominator[0, 0, 0] = 1
        self._from_field = FIELD_PENALTY * self.kernel / denominator
        self._from_gradient = smooth / denominator

    def start_at(self, susceptibility: Tensor) -> None:
        """Set the states as they would be at a solution (i, j, k) that this map is close to."""
        field = multiply_spectrum(susceptibility, self.kernel)
        residual = field - self.field
        if self.radians is not None:
            residual = residual.mul_(self.radians).sin_().div_(self.radians)
        self.field_state = field.addcmul_(self.weights, residual, value=1 / FIELD_PENALTY)
        differences = gradient(susceptibility, self.geometry.voxel_size_mm, periodic=True)
        multiplier = (10 * differences).clamp_(-THRESHOLD, THRESHOLD).masked_fill_(self.free, 0)
        self.gradient_state = differences.add_(multiplier)

    def minimise(self, iterations: int, tolerance: float, label: str) -> tuple[Tensor, float]:
        """The map (i, j, k), and its relative change in the last step."""
        return admm(self._solve, self._relax, iterations=iterations, tolerance=tolerance, label=label)

    def residual(self) -> Tensor:
        """``f - D chi`` of the last map, (i, j, k)."""
        return self.field - self._image

    def _solve(self) -> Tensor:
        reflect_field(
            self.field_state,
            self.field,
            self.weights,
            FIELD_PENALTY,
            self.radians,
            out=self._right_sides[0],
        )
        reflected_divergence(
            self.gradient_state, THRESHOLD, self.free, self.geometry.voxel_size_mm, out=self._right_sides[1]
        )
        spectra = rfftn(self._right_sides)
        spectrum, scratch = spectra
        spectrum.mul_(self._from_field).add_(scratch.mul_(self._from_gradient))
        torch.mul(spectrum, self.kernel, out=scratch)
        susceptibility, self._image = irfftn(spectra, self.field.shape)
        return susceptibility

    def _relax(self, susceptibility: Tensor) -> float:
        misfit = relax_to_field(
            self.field_state,
            self._right_sides[0],
            self._image,
            self.field,
            self.weights,
            self.radians,
            RELAXATION,
        )
        variation = relax_to_gradient(
            self.gradient_state,
            susceptibility,
            THRESHOLD,
            self.free,
            self.geometry.voxel_size_mm,
            RELAXATION,
        )
        return misfit + self.weight * variation
