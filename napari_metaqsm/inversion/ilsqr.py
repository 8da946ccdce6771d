"""iLSQR: least squares, less the streaks that the frequencies near the dipole's cone can explain."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from napari_metaqsm.method import announce, check_parameters, method, notice, parameter, remark, steps
from napari_metaqsm.operators.dipole import dipole_kernel
from napari_metaqsm.operators.fourier import irfftn, multiply_spectrum, rfftn
from napari_metaqsm.operators.gradient import (
    gradient,
    gradient_spectrum,
    weighted_adjoint,
    weighted_laplacian,
)
from napari_metaqsm.operators.inside import falling, pairs_inside, percentiles
from napari_metaqsm.operators.pad import working_grid
from napari_metaqsm.operators.sphere import sphere_spectrum
from napari_metaqsm.scan import Geometry
from napari_metaqsm.solvers.lsmr import lsmr

# Percentiles of absolute values between which a weight goes from one to zero: of the field's Laplacian, and
# of the fast map's differences; and those of |D| between which the fast map's blend rises.
LAPLACIAN_PERCENTILES = (60.0, 99.9)
DIFFERENCE_PERCENTILES = (50.0, 70.0)
KERNEL_PERCENTILES = (1.0, 30.0)
KERNEL_POWER = 0.001
STREAK_TOLERANCE = 0.01
# Where streaks are looked for: next to the cone, up to this many times the streak threshold, at these shares
# of the largest frequency there.
NEXT_TO_CONE = 2.0
SHELL = (0.3, 0.6)


@dataclass(frozen=True)
class ILSQRParameters:
    """Parameters of ``ilsqr``."""

    streak_limit: float = parameter(
        1.1,
        low=0.5,
        high=10,
        help="Amplitude next to the cone, over that of other frequencies, at which least squares stops; "
        "lower for calmer maps, 10 to never stop for it",
    )
    streak_threshold: float = parameter(
        0.1, low=0.01, high=0.3, help="Streaks are of the frequencies whose |D| is below this"
    )
    tolerance: float = parameter(
        0.005, low=1e-6, high=0.5, help="Gradient, relative to the residual, at which least squares is solved"
    )
    iterations: int = parameter(100, low=1, high=1000, help="Most steps of each of the two solvers")
    radius_mm: float = parameter(
        3.0, low=0.5, high=20.0, unit="mm", help="Radius of the sphere that smooths the fast map"
    )
    noise_weights: bool = parameter(True, help="Trust the field as the noise map says, or else the magnitude")

    __post_init__ = check_parameters


@method(
    "inversion",
    title="iLSQR",
    reference="doi:10.1016/j.neuroimage.2014.12.043",
    kind="iterative",
    stand_ins={
        "magnitude": "none: it serves only where there is no noise map",
        "noise": "one over the magnitude, or where there is none, the same everywhere",
    },
)
def ilsqr(
    local_field: Tensor,
    mask: Tensor,
    geometry: Geometry,
    parameters: ILSQRParameters,
    magnitude: Tensor | None = None,
    noise: Tensor | None = None,
) -> Tensor:
    """Iterative: least squares less its streaks; calm where the field is poor, values low; seconds.

    Parameters
    ----------
    local_field : (..., i, j, k) float, ppm
    mask : (i, j, k) bool
    magnitude : (echo, i, j, k) or (i, j, k)
    noise : (i, j, k), standard deviation of the field in ppm

    Returns
    -------
    (..., i, j, k) float, ppm; zero outside ``mask``, not referenced.

    Notes
    -----
    1. LSMR on ``min ||w^1/2 (D chi - f)||``, the minimal residual method on the paper's system
       ``D w D chi = D w f``. LSQR on that system, as in the paper, squares it once more: on the phantom
       below its residual is 1.4 % after 100 pairs of transforms, that of LSMR 0.9 % after 11. w falls
       from one to zero between the 60th and the 99.9th percentile of the field's absolute Laplacian, by
       differences inside the mask, and is multiplied by ``min(1, (usual noise / noise)^2)``.
    2. A fast map, ``sign(D)`` and smoothing near the cone, tells where edges are. The paper's fit of it to
       TKD changes no percentile of its differences, and is left out.
    3. LSMR on ``min ||W grad(chi - s)||`` over maps s of the frequencies where ``|D| < streak_threshold``; W
       falls from one to zero between the 50th and the 70th percentile of the fast map's absolute differences.
    4. The map is ``chi - s`` in the mask.

    Least squares makes streaks of what no susceptibility explains, the more the longer it runs: first next to
    the cone, where step 3 does not reach. It is stopped when the frequencies there (``|D|`` from one to two
    times the threshold) have ``streak_limit`` times the amplitude of others of the same size, which in six
    true maps is 0.89 to 1.12. A field that is explained well never comes to that.

    The error is 40.6 % on a phantom of 256×256×64 voxels of 0.75×0.75×3 mm (HFEN 32.0 %), where nothing stops
    it early, and 74.1 % in vivo, 97.7 % without the limit. Over eight simulated heads with voxels of 0.5 to
    3.3 mm the limit changes the mean error by less than 0.1 %. The noise weights take the error in vivo from
    75.9 to 74.1 %, that of one of four heads from 63.6 to 62.2 %, the others' nowhere, and cost the phantom
    0.3 %; not capped at one, they cost it 0.8 %. Strong sources come out low where there is little else, for
    the field around them bends the most: spheres in a phantom of nothing but spheres, at half their value.

    There is no start from another map: least squares leaves out what the field does not tell because it
    begins at zero, and would keep it from any other beginning.

    References
    ----------
    Li et al. 2015, doi:10.1016/j.neuroimage.2014.12.043; Fong & Saunders 2011, doi:10.1137/10079687X
    """
    mask = mask.bool()
    grid = working_grid(mask, geometry)
    inside = grid.cut(mask)
    trust = _trust(mask, magnitude, noise) if parameters.noise_weights else None
    if trust is not None:
        trust = grid.cut(trust.to(local_field.dtype))
    maps = []
    for field in local_field.reshape(-1, *geometry.shape):
        # Outside the mask the field may be anything, even NaN, which a product would spread.
        field = grid.cut(torch.where(mask, field, 0))
        maps.append(grid.paste(_reconstruct(field, inside, grid.geometry, trust, parameters), mask))
    return torch.stack(maps).reshape(local_field.shape)


def _trust(mask: Tensor, magnitude: Tensor | None, noise: Tensor | None) -> Tensor | None:
    """Inverse variance of the field (i, j, k), relative to the median in the mask; None where unknown."""
    if noise is not None:
        precision = 1 / noise[mask]
    elif magnitude is not None:
        precision = magnitude.reshape(-1, *mask.shape)[:, mask].square().mean(dim=0).sqrt_()
    else:
        return None
    precision = torch.where(precision.isfinite(), precision, 0)
    usual = precision.median()
    trust = torch.zeros(mask.shape, dtype=precision.dtype, device=mask.device)
    trust[mask] = (precision / usual).square_().clamp_(max=1) if usual > 0 else 1
    return trust


def _reconstruct(
    field: Tensor, inside: Tensor, geometry: Geometry, trust: Tensor | None, parameters: ILSQRParameters
) -> Tensor:
    announce("weights of the field")
    weights = field_weights(field, inside, geometry)
    if trust is not None:
        weights *= trust
    first = least_squares(field, weights, geometry, parameters).mul_(inside)
    announce("fast map")
    weights = smoothness_weights(
        fast_map(field, inside, geometry, parameters.radius_mm), pairs_inside(inside, torch.bool), geometry
    )
    return first.sub_(streaks(first, weights, geometry, parameters))


def field_weights(field: Tensor, inside: Tensor, geometry: Geometry) -> Tensor:
    """w of step 1 (i, j, k): zero where the field bends as no local field does, and outside the mask."""
    bend = weighted_laplacian(field, pairs_inside(inside, field.dtype), geometry.voxel_size_mm).abs_()
    return falling(bend, *percentiles(bend[inside], *LAPLACIAN_PERCENTILES)).mul_(inside)


# ------------------------------------------------------------------------ step 1: least squares
def least_squares(field: Tensor, weights: Tensor, geometry: Geometry, parameters: ILSQRParameters) -> Tensor:
    """The map (i, j, k) after the steps of LSMR on ``min ||w^1/2 (F^-1 D F chi - f)||``."""
    announce("least squares")
    root = weights.sqrt()
    kernel, scale = dipole_kernel(geometry, field), _orthonormal(geometry, field)
    forward, backward = kernel / scale, kernel * scale
    level = _StreakLevel(geometry, field, parameters)
    weighted = field * root
    image, spectrum = weighted.clone(), rfftn(weighted)  # memory, for the products of every step

    def operator(x: Tensor) -> Tensor:
        torch.mul(torch.view_as_complex(x), forward, out=spectrum)
        return irfftn(spectrum, geometry.shape).mul_(root)

    def adjoint(u: Tensor) -> Tensor:
        return torch.view_as_real(rfftn(torch.mul(u, root, out=image)).mul_(backward))

    found, gradient_left = lsmr(
        operator,
        adjoint,
        weighted,
        iterations=parameters.iterations,
        tolerance=parameters.tolerance,
        axes=(3, 4),
        label="least squares",
        curve="least squares: relative gradient",
        enough=level.reached,
    )
    remark("streak_level", round(level.level, 3))
    if gradient_left > parameters.tolerance and level.level < level.limit:
        notice(
            f"ilsqr: least squares stopped after {parameters.iterations} iterations at a relative gradient "
            f"of {float(gradient_left):.1e}, above the tolerance of {parameters.tolerance:.1e}"
        )
    return irfftn(torch.view_as_complex(found) / scale, geometry.shape)


def _orthonormal(geometry: Geometry, like: Tensor) -> Tensor:
    """Factors (k // 2 + 1) that make the half spectrum of an array as long as the array is.

    The columns that stand for their mirror image too count twice. Least squares in k-space, each step one
    pair of transforms, is then least squares in the image.
    """
    n = geometry.shape[2]
    counted = torch.full((n // 2 + 1,), 2.0, dtype=like.dtype, device=like.device)
    counted[0] = 1
    if n % 2 == 0:
        counted[-1] = 1
    return (counted / (geometry.shape[0] * geometry.shape[1] * n)).sqrt_()


class _StreakLevel:
    """Whether a map's spectrum shows streaks: more amplitude next to the cone than elsewhere."""

    def __init__(self, geometry: Geometry, like: Tensor, parameters: ILSQRParameters) -> None:
        size = dipole_kernel(geometry, like).abs()
        radius = gradient_spectrum(geometry, like).sqrt()
        edge = NEXT_TO_CONE * parameters.streak_threshold
        beside = (size >= parameters.streak_threshold) & (size < edge)
        reach = (radius * beside).max()
        shell = (radius > SHELL[0] * reach) & (radius <= SHELL[1] * reach)
        counted = _orthonormal(geometry, like).square().expand(size.shape)
        self.beside, self.elsewhere = (
            (part.flatten().nonzero().flatten(), counted[part].sum())
            for part in (shell & beside, shell & (size >= edge))
        )
        self.limit = parameters.streak_limit
        self.level = 0.0

    def reached(self, spectrum: Tensor) -> Tensor:
        amplitude = [
            torch.linalg.vector_norm(spectrum.view(-1, 2).index_select(0, places)) / count.sqrt()
            for places, count in (self.beside, self.elsewhere)
        ]
        # Of a grid of a few voxels, which has no such frequencies, nothing is told.
        self.level = float((amplitude[0] / amplitude[1]).nan_to_num(0, 0))
        return torch.tensor(self.level >= self.limit)


# ----------------------------------------------------------------------------- step 2: fast map
def fast_map(field: Tensor, inside: Tensor, geometry: Geometry, radius_mm: float) -> Tensor:
    """FastQSM (i, j, k), up to a factor, which the percentiles of its differences do not see."""
    blend = _blend(geometry, radius_mm, field.dtype, field.device)
    kernel = dipole_kernel(geometry, field)
    once = multiply_spectrum(field, kernel.sign().mul_(blend)).mul_(inside)
    return multiply_spectrum(once, blend).mul_(inside)


@lru_cache(maxsize=2)
def _blend(geometry: Geometry, radius_mm: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Half spectrum ``w + (1 - w) S``: as it is where D is large, the spherical mean S towards the cone."""
    like = torch.empty((), dtype=dtype, device=device)
    size = dipole_kernel(geometry, like).abs()
    mirrored = size[..., 1 : (geometry.shape[2] + 1) // 2]
    low, high = percentiles(torch.cat([size.flatten(), mirrored.flatten()]), *KERNEL_PERCENTILES)

    def power(q: Tensor) -> Tensor:
        return (KERNEL_POWER * q.log()).expm1_()  # q^n - 1, whose digits q^n would lose to the 1

    w = ((power(size) - power(low)) / (power(high) - power(low))).clamp_(0, 1)
    sphere = sphere_spectrum(radius_mm, geometry, like)
    return sphere + w * (1 - sphere)


# ------------------------------------------------------------------------------ step 3: streaks
def smoothness_weights(fast: Tensor, pairs: Tensor, geometry: Geometry) -> Tensor:
    """W (3, i, j, k): one where the map should be smooth, zero at the fast map's edges and outside.

    ``pairs`` (3, i, j, k) bool are the differences between two voxels of the mask.
    """
    weights = gradient(fast, geometry.voxel_size_mm).abs_()
    for axis in steps(3, "weights of streaks"):
        along, pair = weights[axis], pairs[axis]
        if pair.any():  # a mask may be one voxel thick
            limits = percentiles(along[pair], *DIFFERENCE_PERCENTILES)
            along.copy_(falling(along, *limits).mul_(pair))
    return weights


def streaks(chi: Tensor, weights: Tensor, geometry: Geometry, parameters: ILSQRParameters) -> Tensor:
    """The map s (i, j, k) of ``min ||W grad(chi - s)||`` whose frequencies all lie near the cone."""
    voxel = geometry.voxel_size_mm
    kernel = dipole_kernel(geometry, chi)
    cone = (kernel.abs() < parameters.streak_threshold).flatten().nonzero().flatten()
    scale = _orthonormal(geometry, chi).expand(kernel.shape).flatten()[cone]
    spectrum = rfftn(chi).flatten()  # its values are not used: memory for the next ones

    def image(x: Tensor) -> Tensor:
        spectrum.zero_().index_copy_(0, cone, torch.view_as_complex(x) / scale)
        return irfftn(spectrum.view(kernel.shape), geometry.shape)

    def adjoint(u: Tensor) -> Tensor:
        back = rfftn(weighted_adjoint(u, weights, voxel))
        return torch.view_as_real(back.flatten()[cone].mul_(scale))

    announce("streaks")
    found, _ = lsmr(
        lambda x: gradient(image(x), voxel).mul_(weights),
        adjoint,
        gradient(chi, voxel).mul_(weights),
        iterations=parameters.iterations,
        tolerance=STREAK_TOLERANCE,
        axes=(4, 2),
        label="streaks",
        curve="streaks: relative gradient",
    )
    return image(found)
