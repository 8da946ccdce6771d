"""MEDI: the map that explains the field with edges where the magnitude has them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from napari_metaqsm.errors import InputError
from napari_metaqsm.inversion.morphology_enabled import MorphologyEnabled
from napari_metaqsm.method import announce, check_parameters, method, notice, parameter, remark
from napari_metaqsm.operators.edges import strongest_differences
from napari_metaqsm.operators.fourier import multiply_spectrum
from napari_metaqsm.operators.morphology import eroded
from napari_metaqsm.operators.pad import working_grid
from napari_metaqsm.operators.sphere import sphere_spectrum, sphere_weights
from napari_metaqsm.operators.unexplained import ConeProbe
from napari_metaqsm.operators.ventricles import check_echoes, ventricles
from napari_metaqsm.scan import Acquisition, Geometry
from napari_metaqsm.units import rad_per_ppm

# Of the differences in the mask, those that are edges of the magnitude and free of the penalty.
EDGES = 0.3
# Of the median noise in the mask: no voxel is trusted more than this much would allow.
LEAST_NOISE = 0.1
# The penalty's weight in ppm mm: of the square of the field that no susceptibility explains, over the whole
# field, both in ppm; as total variation has it.
PER_LEVEL_MM = 0.15
# The data's weight where the field tells nothing, and the range of what it tells.
USUAL_WEIGHT, WEIGHTS = 1000.0, (1.0, 1e6)
# Where the acquisition does not tell: the phase that the toolbox's weight of 1000 was found for.
REFERENCE_B0_TESLA, REFERENCE_ECHO_TIME_S = 3.0, 0.020
# MERIT: after how many steps outliers are looked for, each time.
ROUNDS = (20, 10, 10, 10)


@dataclass(frozen=True)
class MEDIParameters:
    """Parameters of ``medi``."""

    data_weight: float = parameter(
        0.0,
        low=0.0,
        high=1e6,
        help="Weight of the field's phase against the edges (the toolbox's lambda, there often 1000); "
        "0: from how much of the field no susceptibility explains",
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
        1e-2, low=1e-5, high=0.1, help="Relative change of the map in a step at which ADMM stops"
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
    """Iterative: edges where the magnitude has them, no streaks beside strong sources; seconds.

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
    solved for exactly, and ``z_2 = grad chi``. A map whose objective is above that of an empty one
    is refused.

    On a simulated head (256×256×64 voxels of 0.75×0.75×3 mm) the toolbox reaches an error of 16.0 % with
    lambda = 1000, and this 15.6 %; with the lambda that is found in the field, 497, it is 13.6 %. In vivo at
    1 mm, lambda = 1000 fits what is no susceptibility (142 % against COSMOS); 68 is found there, and gives
    79 %. So lambda is found by default, by the same rule in every scan.

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
    announce("Weights")
    image = _one_magnitude(magnitude, like=local_field)
    inside, known = grid.cut(mask), grid.cut(used)
    weights = grid.cut(_trust(noise, image, used, like=local_field)).square_()
    announce("Edges")
    penalised = _penalised_differences(None if image is None else grid.cut(image), known, grid.geometry)
    del image
    high_pass = None
    if parameters.smv_radius_mm:
        high_pass = 1 - sphere_spectrum(parameters.smv_radius_mm, grid.geometry, like=weights)
    radians = _radians_per_ppm(acquisition)
    announce("Kernels")
    result = torch.empty_like(local_field)
    fields, maps = (x.reshape(-1, *mask.shape) for x in (local_field, result))
    if initial_susceptibility is not None:
        starts = initial_susceptibility.to(local_field).expand_as(local_field).reshape(fields.shape)
    for index, field in enumerate(fields):
        # Outside the mask the field may be anything, even NaN, which a product would spread.
        field = torch.where(inside, grid.cut(field), 0)
        if high_pass is not None:
            field = multiply_spectrum(field, high_pass).mul_(known)
        data_weight = parameters.data_weight or _weight_by_level(field, known, grid.geometry, radians)
        remark("data_weight", float(f"{data_weight:.4g}"))
        announce("ADMM")
        problem = MorphologyEnabled(field, weights, penalised, grid.geometry, radians, data_weight, high_pass)
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
    nothing = problem.objective_of_nothing()
    if not problem.objective <= nothing:
        raise InputError(
            f"medi diverged: its objective is {problem.objective:.2g} after {parameters.iterations} steps at "
            f"most, that of an empty map {nothing:.2g}. data_weight is {problem.data_weight:g} and one ppm "
            f"{problem.radians:.3g} rad; take more steps, another weight, or a field without wraps"
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


def _weight_by_level(field: Tensor, known: Tensor, geometry: Geometry, radians: float) -> float:
    """lambda of which ``1 / (2 lambda s)`` is the penalty that total variation takes for such a field."""
    unexplained, whole = ConeProbe(known, geometry, like=field).amplitudes(field)
    if not unexplained > 0:
        return USUAL_WEIGHT
    beta = PER_LEVEL_MM * unexplained**2 / max(whole, unexplained)
    return min(max(1 / (2 * beta * radians), WEIGHTS[0]), WEIGHTS[1])


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
    try:
        echoes = None if magnitude is None else magnitude.reshape(-1, *mask.shape)
        check_echoes(None if echoes is None else tuple(echoes.shape), acquisition)
        csf = ventricles(echoes, mask, geometry, acquisition)
    except InputError as error:
        raise InputError(f"csf_weight needs the ventricles: {error}") from error
    remark("csf_voxels", int(csf.sum()))
    return csf
