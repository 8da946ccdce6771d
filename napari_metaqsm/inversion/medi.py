"""MEDI: the map that explains the field with edges where the magnitude has them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from napari_metaqsm.errors import InputError
from napari_metaqsm.method import announce, check_parameters, method, notice, parameter, remark
from napari_metaqsm.operators.decay import r2star
from napari_metaqsm.operators.dipole import dipole_kernel
from napari_metaqsm.operators.edges import strongest_differences
from napari_metaqsm.operators.fourier import irfftn, multiply_spectrum, rfftn
from napari_metaqsm.operators.gradient import gradient, gradient_spectrum
from napari_metaqsm.operators.morphology import eroded
from napari_metaqsm.operators.pad import working_grid
from napari_metaqsm.operators.phase_pull import reflect_unwrapped_field
from napari_metaqsm.operators.shrinkage import (
    reflected_divergence,
    relax_to_field,
    relax_to_gradient,
)
from napari_metaqsm.operators.sphere import sphere_spectrum, sphere_weights
from napari_metaqsm.scan import Acquisition, Geometry
from napari_metaqsm.solvers.admm import admm
from napari_metaqsm.units import rad_per_ppm

# Of the differences in the mask, those that are edges of the magnitude and free of the penalty.
EDGES = 0.3
# Of the median noise in the mask: no voxel is trusted more than this much would allow.
LEAST_NOISE = 0.1
# Where the acquisition does not tell: the phase that the toolbox's weight of 1000 was found for.
REFERENCE_B0_TESLA, REFERENCE_ECHO_TIME_S = 3.0, 0.020
# How firmly the split field is held to that of the map, of the mean weight; the step of shrinking in ppm/mm,
# about half of what gradients in the brain are; how firmly the split CSF is held to the map, of the weight
# that makes it even; and over-relaxation.
FIELD_PENALTY = 0.07
THRESHOLD = 0.00125
CSF_PENALTY = 0.1
RELAXATION = 1.8
# MERIT: a residual is an outlier from this many standard deviations on; after how many steps outliers are
# looked for, each time.
OUTLIER = 6.0
ROUNDS = (20, 10, 10, 10)
# The ventricles: slow decay, near the middle of the brain.
CSF_R2STAR = 5.0
CSF_WITHIN_MM = 30.0


@dataclass(frozen=True)
class MEDIParameters:
    """Parameters of ``medi``."""

    data_weight: float = parameter(
        1000.0, low=1.0, high=1e6, help="Weight of the field's phase against the edges (the paper's lambda)"
    )
    merit: bool = parameter(False, help="Trust voxels less whose field the map cannot explain (MERIT)")
    smv_radius_mm: float = parameter(
        0.0,
        low=0.0,
        high=20.0,
        unit="mm",
        help="Remove background left over by spherical means of this radius, which shrinks the mask; 0: off",
    )
    csf_weight: float = parameter(
        0.0,
        low=0.0,
        high=1e4,
        help="Even out the ventricles and make them zero (MEDI+0; its paper has 100); 0: off",
    )
    iterations: int = parameter(150, low=1, high=2000, help="Most steps of ADMM")
    tolerance: float = parameter(
        5e-3, low=1e-5, high=0.1, help="Relative change of the map in a step at which ADMM stops"
    )

    __post_init__ = check_parameters


@method(
    "inversion",
    title="MEDI",
    reference="doi:10.1002/mrm.22816",
    kind="iterative",
    stand_ins={
        "magnitude": "none: no edge is free of the penalty",
        "noise": "one over the magnitude, or the same everywhere without one",
        "initial_susceptibility": "none: the field itself is where the steps begin",
    },
)
def medi(
    local_field: Tensor,
    mask: Tensor,
    geometry: Geometry,
    parameters: MEDIParameters,
    acquisition: Acquisition,
    magnitude: Tensor | None = None,
    noise: Tensor | None = None,
    initial_susceptibility: Tensor | None = None,
) -> Tensor:
    """Iterative: edges where the magnitude has them, no streaks beside strong sources; many seconds.

    Parameters
    ----------
    local_field : (..., i, j, k) float, ppm; used inside ``mask`` only
    mask : (i, j, k) bool
    magnitude : (echo, i, j, k) or (i, j, k)
    noise : (i, j, k), standard deviation of the field, any unit; where it is not positive, voxels weigh 0
    initial_susceptibility : (i, j, k) or (..., i, j, k), ppm, where to begin

    Returns
    -------
    (..., i, j, k) float, ppm; zero outside ``mask`` (with ``smv_radius_mm``, outside what it leaves of it),
    not referenced, but with ``csf_weight`` zero in the ventricles.

    Raises
    ------
    InputError
        When the mask is empty, the noise is nowhere positive, ``csf_weight`` has not the echoes it needs, or
        the steps diverge.

    Notes
    -----
    Minimises ``lambda ||m (exp(i s D chi) - exp(i s f))||^2 + ||M grad (s chi)||_1`` over all of a grid
    around the mask. m is one over the noise, of mean one in the mask and zero outside, s the phase in radians
    of one ppm at the echo time (of several echoes, at their spacing), and M is zero on the 30 % strongest
    differences of the magnitude in the mask and at its boundary, one elsewhere and outside the mask. This is
    the objective of the authors' toolbox, lambda in its scale. The toolbox lowers it by Gauss-Newton steps
    and conjugate gradients, stopped early; here ADMM minimises it, with ``z_1 = D chi``, whose phase is
    solved for exactly, and ``z_2 = grad chi``. A map whose objective is above that of an empty map is refused.

    With ``smv_radius_mm``, D becomes ``(1 - S) D`` and f ``f - S f``, S the spherical mean. ``csf_weight``
    adds ``lambda_csf ||s (chi - mean)||^2`` over the ventricles, where R2* < 5 1/s within 30 mm of the
    middle of the mask, whose mean is then subtracted. ``merit`` multiplies the noise by r^2 where r, the
    residual less its mean over six standard deviations, is above one.

    References
    ----------
    Liu et al. 2011, doi:10.1002/mrm.22816; Liu et al. 2012, doi:10.1016/j.neuroimage.2011.08.082;
    Liu et al. 2013 (nonlinear, MERIT), doi:10.1002/mrm.24272; Liu et al. 2018 (MEDI+0),
    doi:10.1002/mrm.26946
    """
    mask = mask.bool()
    if not mask.any():
        raise InputError("the mask is empty; it must hold the voxels whose susceptibility is wanted")
    csf = _ventricles(magnitude, mask, geometry, acquisition) if parameters.csf_weight else None
    used = _shrunk(mask, geometry, parameters.smv_radius_mm) if parameters.smv_radius_mm else mask
    grid = working_grid(mask, geometry)
    announce("Kernels")
    image = _one_magnitude(magnitude, like=local_field)
    inside, known = grid.cut(mask), grid.cut(used)
    trust = grid.cut(_trust(noise, image, used, like=local_field))
    penalised = _penalised_differences(None if image is None else grid.cut(image), known, grid.geometry)
    high_pass = None
    if parameters.smv_radius_mm:
        high_pass = 1 - sphere_spectrum(parameters.smv_radius_mm, grid.geometry, like=trust)
    radians = _radians_per_ppm(acquisition)
    result = torch.empty_like(local_field)
    fields, maps = (x.reshape(-1, *mask.shape) for x in (local_field, result))
    if initial_susceptibility is not None:
        starts = initial_susceptibility.to(local_field).expand_as(local_field).reshape(fields.shape)
    for index, field in enumerate(fields):
        # Outside the mask the field may be anything, even NaN, which a product would spread.
        field = torch.where(inside, grid.cut(field), 0)
        if high_pass is not None:
            field = multiply_spectrum(field, high_pass).mul_(known)
        problem = MorphologyEnabled(
            field, trust, penalised, grid.geometry, radians, parameters.data_weight, high_pass
        )
        if csf is not None:
            problem.even_out(grid.cut(csf), parameters.csf_weight)
        if initial_susceptibility is not None:
            problem.start_at(torch.where(inside, grid.cut(starts[index]), 0))
        maps[index] = grid.paste(_minimised(problem, parameters), used)
        if csf is not None:
            maps[index] -= maps[index][csf & used].mean() * used
    return result


def _minimised(problem: MorphologyEnabled, parameters: MEDIParameters) -> Tensor:
    """The map (i, j, k) on the grid; refused where it explains less than an empty one would."""
    left = parameters.iterations
    for steps in ROUNDS if parameters.merit else ():
        if steps < left:
            problem.minimise(steps, 0.0)
            problem.distrust_outliers()
            left -= steps
    found, change = problem.minimise(left, parameters.tolerance)
    if not problem.objective <= problem.objective_of_nothing():
        raise InputError(
            f"medi diverged: its objective is {problem.objective:.2g}, that of an empty map "
            f"{problem.objective_of_nothing():.2g}. data_weight is {parameters.data_weight:g} and one ppm "
            f"{problem.radians:.3g} rad; take a larger weight, more steps than {parameters.iterations}, or a "
            "field without wraps"
        )
    if change > parameters.tolerance:
        notice(
            f"medi: stopped after {parameters.iterations} steps, the map still changing by {change:.1e} a "
            f"step, above the tolerance of {parameters.tolerance:.1e}"
        )
    return found


# ------------------------------------------------------------------------------------- preparation
def _radians_per_ppm(acquisition: Acquisition) -> float:
    times, b0 = acquisition.echo_times_s, acquisition.b0_tesla
    echo_time = (
        REFERENCE_ECHO_TIME_S if times is None else times[1] - times[0] if len(times) > 1 else times[0]
    )
    b0_used = REFERENCE_B0_TESLA if b0 is None else b0
    remark(
        "phase_scale",
        {
            "b0_tesla": b0_used,
            "echo_time_s": round(echo_time, 6),
            "assumed": [n for n, v in (("b0_tesla", b0), ("echo_time_s", times)) if v is None],
        },
    )
    return rad_per_ppm(b0_used, echo_time)


def _one_magnitude(magnitude: Tensor | None, like: Tensor) -> Tensor | None:
    """Root sum of squares over the echoes, (i, j, k)."""
    if magnitude is None:
        return None
    echoes = magnitude.to(like.dtype).reshape(-1, *magnitude.shape[-3:])
    return echoes[0] if len(echoes) == 1 else torch.linalg.vector_norm(echoes, dim=0)


def _penalised_differences(magnitude: Tensor | None, mask: Tensor, geometry: Geometry) -> Tensor:
    if magnitude is None:
        return mask.new_ones((3, *mask.shape))
    return ~strongest_differences(magnitude, mask, geometry, EDGES)


def _trust(noise: Tensor | None, magnitude: Tensor | None, mask: Tensor, like: Tensor) -> Tensor:
    """m (i, j, k): one over the noise, of mean 1 in the mask and 0 outside."""
    if noise is not None:
        noise = noise.to(like.dtype)
        known = mask & noise.isfinite() & (noise > 0)
        if not known.any():
            raise InputError("the noise map holds no positive value in the mask; it must, or be left out")
        trust = 1 / noise.clamp(min=LEAST_NOISE * float(noise[known].median()))
    else:
        known = mask
        trust = torch.ones_like(mask, dtype=like.dtype) if magnitude is None else magnitude
    trust = torch.where(known, trust, 0)
    return trust / trust[mask].mean()


def _shrunk(mask: Tensor, geometry: Geometry, radius_mm: float) -> Tensor:
    """The voxels whose whole sphere lies in the mask."""
    weights = sphere_weights(radius_mm, geometry.voxel_size_mm)
    if min(weights.shape) == 1:
        raise InputError(
            f"smv_radius_mm is {radius_mm:g}; it must be 0 or at least {max(geometry.voxel_size_mm):g}, the "
            "largest side of the voxels"
        )
    kept = eroded(mask, weights)
    if not kept.any():
        raise InputError(f"smv_radius_mm is {radius_mm:g}; no such sphere fits into the mask")
    lost = 100 * (1 - float(kept.sum()) / float(mask.sum()))
    notice(
        f"medi: spherical means of {radius_mm:g} mm take {lost:.0f} % of the mask away; there the map is zero"
    )
    return kept


def _ventricles(
    magnitude: Tensor | None, mask: Tensor, geometry: Geometry, acquisition: Acquisition
) -> Tensor:
    """Cerebrospinal fluid in the middle of the brain, (i, j, k) bool."""
    times = acquisition.echo_times_s
    echoes = 0 if magnitude is None else magnitude.reshape(-1, *mask.shape).shape[0]
    if echoes < 3 or times is None or len(times) != echoes:
        raise InputError(
            f"csf_weight needs R2*, from the magnitude of three or more echoes and their times; there are "
            f"{echoes} echoes and {0 if times is None else len(times)} times"
        )
    decay = r2star(magnitude, times)
    places = torch.nonzero(mask) * torch.tensor(geometry.voxel_size_mm, device=mask.device)
    near = mask.clone()
    near[mask] = torch.linalg.vector_norm(places - places.mean(0), dim=1) <= CSF_WITHIN_MM
    csf = near & (decay < CSF_R2STAR)
    if not csf.any():
        raise InputError(
            f"csf_weight needs ventricles; R2* is nowhere below {CSF_R2STAR:g} 1/s within "
            f"{CSF_WITHIN_MM:g} mm of the middle of the mask"
        )
    remark("csf_voxels", int(csf.sum()))
    return csf


# ------------------------------------------------------------------------------------- the problem
class MorphologyEnabled:
    """The objective of :func:`medi` over ``2 lambda s^2``, in ppm, and the split that ADMM minimises it by.

    ``||m (exp(i s D chi) - exp(i s f))||^2 / (2 s^2) + beta ||M grad chi||_1 + gamma / 2 ||C chi||^2`` with
    ``beta = 1 / (2 lambda s)`` and ``gamma = lambda_csf / lambda``; C subtracts the mean in the ventricles.

    Parameters
    ----------
    field : (i, j, k), ppm, on the grid
    trust : (i, j, k), m
    penalised : (3, i, j, k) bool, M
    high_pass : half spectrum that the field went through, if it did
    """

    def __init__(
        self,
        field: Tensor,
        trust: Tensor,
        penalised: Tensor,
        geometry: Geometry,
        radians: float,
        data_weight: float,
        high_pass: Tensor | None = None,
    ) -> None:
        self.field, self.trust, self.penalised, self.geometry = field, trust, penalised, geometry
        self.radians, self.data_weight = radians, data_weight
        self.weights = trust.square()
        self.kernel = dipole_kernel(geometry, like=field)
        if high_pass is not None:
            self.kernel = self.kernel * high_pass
        self.beta = 1 / (2 * data_weight * radians)
        self.csf, self.gamma = None, 0.0
        self.field_state = field.clone()
        self.gradient_state = field.new_zeros((3, *field.shape))
        self._right_sides = field.new_empty((2, *field.shape))
        self._set_divisor()

    def even_out(self, csf: Tensor, csf_weight: float) -> None:
        """Penalise how far the voxels of ``csf`` (i, j, k) bool are from their mean."""
        self.csf, self.gamma = csf, csf_weight / self.data_weight
        self.csf_state = torch.zeros_like(self.field)
        self._set_divisor()

    def _set_divisor(self) -> None:
        # chi = (mu_1 D F q_1 + F (mu_2 div q_2 + mu_3 q_3)) / (mu_1 D^2 + mu_2 sum_i |E_i|^2 + mu_3)
        divisor = self.kernel.square().mul_(FIELD_PENALTY)
        divisor.add_(gradient_spectrum(self.geometry, like=self.field), alpha=self.beta / THRESHOLD)
        divisor.add_(CSF_PENALTY * self.gamma)
        divisor[0, 0, 0].clamp_(min=1e-12)
        divisor[0, 0, 0] = divisor[0, 0, 0] if self.gamma else 1
        self._from_field = FIELD_PENALTY * self.kernel / divisor
        self._from_gradient = self.beta / THRESHOLD / divisor

    def start_at(self, susceptibility: Tensor) -> None:
        """Set the states as they would be at a solution (i, j, k) that this map is close to."""
        field = multiply_spectrum(susceptibility, self.kernel)
        pull = ((field - self.field) * self.radians).sin_().div_(self.radians)
        self.field_state = field.addcmul_(self.weights, pull, value=1 / FIELD_PENALTY)
        differences = gradient(susceptibility, self.geometry.voxel_size_mm, periodic=True)
        multiplier = (10 * differences).clamp_(-THRESHOLD, THRESHOLD).mul_(self.penalised)
        self.gradient_state = differences.add_(multiplier)
        if self.csf is not None:
            self.csf_state = susceptibility.clone()

    def minimise(self, iterations: int, tolerance: float) -> tuple[Tensor, float]:
        """The map (i, j, k), and its relative change in the last step."""
        return admm(self._solve, self._relax, iterations=iterations, tolerance=tolerance, label="ADMM")

    def objective_of_nothing(self) -> float:
        """The objective of a map of zeros."""
        lag = (self.field * (self.radians / 2)).sin_().square_().mul_(self.weights)
        return 2 * float(lag.sum(dtype=torch.float64)) / self.radians**2

    def distrust_outliers(self) -> None:
        """Lower the weights of voxels whose field the last map leaves unexplained (MERIT)."""
        known = self.trust > 0
        here, there = (
            torch.polar(self.trust[known], x[known] * self.radians) for x in (self._image, self.field)
        )
        residual = here - there
        residual = (residual - residual.mean()).abs()
        spread = residual.std()
        if not spread > 0:
            return
        self.trust[known] /= (residual / (OUTLIER * spread)).clamp_(min=1).square_()
        self.trust /= self.trust[known].mean()
        self.weights = self.trust.square()

    def _solve(self) -> Tensor:
        from_field, from_gradient = self._right_sides
        reflect_unwrapped_field(
            self.field_state, self.field, self.weights, FIELD_PENALTY, self.radians, out=from_field
        )
        size = self.geometry.voxel_size_mm
        reflected_divergence(self.gradient_state, THRESHOLD, self.penalised, size, out=from_gradient)
        if self.csf is not None:
            reflected = 2 * self._evened() - self.csf_state
            from_gradient.add_(reflected, alpha=CSF_PENALTY * self.gamma * THRESHOLD / self.beta)
        spectra = rfftn(self._right_sides)
        # As pairs of reals: torch multiplies complex by real numbers at a third of the speed.
        spectrum, image = torch.view_as_real(spectra)
        spectrum.mul_(self._from_field[..., None]).addcmul_(image, self._from_gradient[..., None])
        torch.mul(spectrum, self.kernel[..., None], out=image)
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
        size = self.geometry.voxel_size_mm
        variation = relax_to_gradient(
            self.gradient_state, susceptibility, THRESHOLD, self.penalised, size, RELAXATION
        )
        self.objective = misfit + self.beta * variation
        if self.csf is not None:
            inside = susceptibility[self.csf]
            self.objective += self.gamma / 2 * float((inside - inside.mean()).square().sum())
            self.csf_state.add_(susceptibility - self._evened(), alpha=RELAXATION)
        return self.objective

    def _evened(self) -> Tensor:
        """Nearest to the CSF's state with the penalty on its spread: the state itself elsewhere."""
        evened = self.csf_state.clone()
        inside = evened[self.csf]
        evened[self.csf] = torch.lerp(inside.mean(), inside, CSF_PENALTY / (1 + CSF_PENALTY))
        return evened
