"""PDF: the background is the field of dipoles outside the mask that explain most of the field inside."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from napari_metaqsm.errors import InputError
from napari_metaqsm.method import announce, check_parameters, method, parameter
from napari_metaqsm.operators.dipole import dipole_kernel
from napari_metaqsm.operators.fourier import multiply_spectrum
from napari_metaqsm.operators.pad import working_grid
from napari_metaqsm.scan import Geometry
from napari_metaqsm.solvers.nu_method import nu_method

# A noise map may come down to nothing in a few voxels, which would then decide alone: none weighs more than
# this many times a voxel of the median noise.
LARGEST_WEIGHT = 2.0
# ||M D O|| <= (max D - min D) / 2 for masks M and O that share no voxel, and D lies in [-2/3, 1/3].
LARGEST_COUPLING = 0.5


@dataclass(frozen=True)
class PDFParameters:
    """Parameters of ``pdf``."""

    iterations: int = parameter(
        100,
        low=1,
        high=5000,
        help="Steps; more explain more of the field by dipoles, at the rim local field too",
    )
    tolerance: float = parameter(1e-4, low=1e-8, high=0.1, help="Relative residual at which it stops earlier")

    __post_init__ = check_parameters


@method(
    "background",
    title="PDF",
    reference="doi:10.1002/nbm.1670",
    stand_ins={"noise": "the same noise everywhere"},
)
def pdf(
    total_field: Tensor,
    mask: Tensor,
    geometry: Geometry,
    parameters: PDFParameters,
    noise: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Dipoles outside the mask: keeps all of the mask and weighs the field by its noise.

    Parameters
    ----------
    total_field : (..., i, j, k) float, ppm; used inside ``mask`` only
    mask : (i, j, k) bool
    noise : (i, j, k) float, ppm, standard deviation of the field; used inside ``mask`` only

    Returns
    -------
    local_field : (..., i, j, k) float, ppm; zero outside ``mask``
    eroded_mask : (i, j, k) bool, ``mask`` itself

    Raises
    ------
    InputError
        When the mask is empty, or the noise is zero or less in half of it.

    Notes
    -----
    Lowers ``||W (f - D x)||^2`` over susceptibilities x that are zero in the mask; the local field is
    ``f - D x``. W is one over the noise, scaled to a mean square of one in the mask, no voxel weighing more
    than twice one of median noise.

    The minimum itself would be of no use: dipoles close to the rim can make up any local field there. What
    regularises is how many steps are taken. They are those of the nu-method, a fixed linear filter of the
    field. Conjugate gradients, the usual choice, take a third fewer, but by then rounding has come to decide
    a few per cent of the map. On a simulated head (0.75×0.75×3 mm, noise) the error of the local field, rim
    and all, is 40.2 % after 100 steps; on four others, with air in the head, it is 60 to 75 % after 100 and
    57 to 70 % after 150 steps. Most of it is at the rim: where RESHARP of 6 mm has values, the first is
    28.2 % with the noise map, and RESHARP's 31.1 %.

    The grid is the mask's box and a margin of 24 mm all told, and goes round: dipoles that come in from the
    other side are outside the mask too, and no background field needs farther ones.

    References
    ----------
    Liu, Khalidov, de Rochefort et al. 2011, doi:10.1002/nbm.1670
    """
    mask = mask.bool()
    if not mask.any():
        raise InputError("the mask is empty; it must hold the voxels whose field is wanted")
    announce("dipoles")
    grid = working_grid(mask, geometry)
    squared_weights = grid.cut(_squared_weights(mask, noise, total_field))
    outside = ~grid.cut(mask)
    kernel = dipole_kernel(grid.geometry, like=total_field)

    def normal(x: Tensor) -> Tensor:
        weighted = multiply_spectrum(x, kernel).mul_(squared_weights)
        return multiply_spectrum(weighted, kernel).mul_(outside)

    # Outside the mask the field may be anything, even NaN, which a product would spread.
    field = grid.cut(torch.where(mask, total_field, 0))
    dipoles, _ = nu_method(
        normal,
        multiply_spectrum(field * squared_weights, kernel).mul_(outside),
        largest=LARGEST_COUPLING**2 * float(squared_weights.max()),
        iterations=parameters.iterations,
        tolerance=parameters.tolerance,
    )
    return grid.paste(field - multiply_spectrum(dipoles, kernel), mask), mask.clone()


def _squared_weights(mask: Tensor, noise: Tensor | None, like: Tensor) -> Tensor:
    """W^2 (i, j, k) of mean one in the mask, zero outside."""
    inside = mask.to(like.dtype)
    if noise is None:
        return inside
    median = float(noise[mask].median())
    if not median > 0:
        raise InputError(f"the median noise in the mask is {median:g} ppm; it must be greater than 0")
    floored = torch.where(mask, noise.to(like.dtype), median).clamp(min=median / LARGEST_WEIGHT)
    squared = inside / (floored / median) ** 2
    return squared / squared.sum() * inside.sum()
