"""V-SHARP: spherical means whose radius shrinks towards the rim, undone by one deconvolution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from napari_metaqsm.errors import InputError
from napari_metaqsm.method import announce, check_parameters, method, notice, parameter, steps
from napari_metaqsm.operators.fourier import irfftn, multiply_spectrum, rfftn
from napari_metaqsm.operators.morphology import dilated, eroded
from napari_metaqsm.operators.pad import working_grid
from napari_metaqsm.operators.sphere import sphere_spectrum, sphere_weights
from napari_metaqsm.scan import Geometry


@dataclass(frozen=True)
class VSharpParameters:
    """Parameters of ``vsharp``."""

    radius_mm: float = parameter(
        8.0,
        low=0.5,
        high=40.0,
        unit="mm",
        help="Radius of the largest sphere; smaller ones follow to the rim",
    )
    radii: int = parameter(6, low=1, high=30, help="How many spheres, down to the largest side of a voxel")
    threshold: float = parameter(
        0.05,
        low=1e-4,
        high=0.9,
        help="Frequencies that the largest sphere passes less than this are left out",
    )
    keep_rim: bool = parameter(
        True, help="Keep voxels too near the rim for a sphere of their own that some sphere reaches"
    )

    __post_init__ = check_parameters


@method("background", title="V-SHARP", reference="doi:10.1016/j.neuroimage.2010.11.088")
def vsharp(
    total_field: Tensor, mask: Tensor, geometry: Geometry, parameters: VSharpParameters
) -> tuple[Tensor, Tensor]:
    """Spherical means of several sizes: the fastest, and keeps nearly all of the mask.

    Parameters
    ----------
    total_field : (..., i, j, k) float, ppm; used inside ``mask`` only
    mask : (i, j, k) bool

    Returns
    -------
    local_field : (..., i, j, k) float, ppm; zero outside ``eroded_mask``
    eroded_mask : (i, j, k) bool, the voxels of all spheres that lie inside ``mask``; only the middles of
        these spheres without ``keep_rim``

    Raises
    ------
    InputError
        When the mask is empty, or the smallest sphere fits nowhere.

    Notes
    -----
    ``local = C^-1 sum_r M_r (1 - S_r) f``, M_r the voxels whose largest whole sphere in the mask has radius
    r, and ``C^-1 = 1 / (1 - S_R)`` of the largest radius R, zero where ``1 - S_R`` is under the threshold.

    The smallest radius is the largest side of a voxel. A smaller sphere would be a disc within a slice, and
    the mean over a disc does not vanish on a harmonic field that is curved across the slices. Voxels nearer
    to the rim have no equation of their own; the deconvolution fills them from the spheres that they lie
    in, as it does in RESHARP. On a simulated head (0.75×0.75×3 mm, noise) that leaves an error of 82 % in the
    5 % of the mask where discs would fit and spheres do not, and discs leave 138 %.

    References
    ----------
    Li, Wu & Liu 2011, doi:10.1016/j.neuroimage.2010.11.088; Wu, Li, Guidon & Liu 2012,
    doi:10.1002/mrm.23000
    """
    mask = mask.bool()
    if not mask.any():
        raise InputError("the mask is empty; it must hold the voxels whose field is wanted")
    radii = _radii(parameters, geometry)
    # Each sphere in use lies in the mask's box, so that nothing comes round but the deconvolution's tails.
    grid = working_grid(mask, geometry, margin_mm=parameters.radius_mm)
    # Outside the mask the field may be anything, even NaN, which a product would spread.
    field = grid.cut(torch.where(mask, total_field, 0))
    spectrum = rfftn(field)
    high_passed, product = torch.zeros_like(field), torch.empty_like(spectrum)
    fits = torch.zeros_like(mask)
    for index in steps(len(radii), "spheres"):
        structure = sphere_weights(radii[index], geometry.voxel_size_mm)
        fitting = eroded(mask, structure)
        shell = grid.cut(fitting & ~fits)
        fits |= fitting
        if shell.any():
            mean_kernel = sphere_spectrum(radii[index], grid.geometry, like=field)
            mean = irfftn(torch.mul(spectrum, mean_kernel, out=product), grid.geometry.shape)
            high_passed += (field - mean).mul_(shell)
    if not fits.any():
        raise InputError(
            f"no sphere of {radii[-1]:g} mm, the smallest for such voxels, fits into the mask: "
            "use a fuller mask"
        )
    announce("deconvolution", 1.0)
    passed = 1 - sphere_spectrum(radii[0], grid.geometry, like=field)
    inverse = torch.where(passed >= parameters.threshold, 1 / passed, 0)
    # In voxels a large sphere is not made up of small ones all the way to its surface.
    eroded_mask = fits | (dilated(fitting, structure) & mask) if parameters.keep_rim else fits
    return grid.paste(multiply_spectrum(high_passed, inverse), eroded_mask), eroded_mask


def _radii(parameters: VSharpParameters, geometry: Geometry) -> list[float]:
    """From the largest to the smallest."""
    radius_mm, largest_side = parameters.radius_mm, max(geometry.voxel_size_mm)
    if radius_mm < largest_side * (1 - 1e-4):  # a header's 3 mm may be 3.0000001
        raise InputError(
            f"radius_mm is {radius_mm:g}; it must be at least {largest_side:g}, the largest side of the "
            "voxels"
        )
    if radius_mm < 2 * largest_side * (1 - 1e-4):
        notice(
            f"vsharp: the radius of {radius_mm:g} mm is under two voxels of {largest_side:g} mm; the sphere "
            "is poorly sampled, and some background field may stay"
        )
    every = np.linspace(radius_mm, min(largest_side, radius_mm), parameters.radii)
    return list(dict.fromkeys(float(r) for r in every))
