"""Bodies whose field is known exactly: sphere and infinite cylinder, on any grid.

Positions are in mm along the array's axes, from the middle of the grid. Fields are Lorentz-corrected, as
the dipole kernel gives them, in ppm for a susceptibility difference of one ppm.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from napari_metaqsm.scan import Geometry, Triple

ORIGIN: Triple = (0.0, 0.0, 0.0)


def sphere(geometry: Geometry, radius_mm: float, centre_mm: Triple = ORIGIN) -> Tensor:
    """Part of each voxel (i, j, k), 0 to 1, float32, that the sphere fills."""
    offsets = _offsets(geometry, centre_mm)
    return _filled(geometry, offsets, radius_mm)


def sphere_field(geometry: Geometry, radius_mm: float, centre_mm: Triple = ORIGIN) -> Tensor:
    """Field of the sphere: ``(a/r)^3 (3 cos^2 theta - 1) / 3`` outside, 0 inside.

    References
    ----------
    Marques & Bowtell 2005, doi:10.1002/cmr.b.20034
    """
    offsets = _offsets(geometry, centre_mm)
    squared = (offsets**2).sum(0)
    cosine_squared = _along(offsets, geometry.b0_direction) ** 2 / squared.clamp_min(1e-12)
    outside = (radius_mm**2 / squared.clamp_min(1e-12)) ** 1.5 * (3 * cosine_squared - 1) / 3
    return torch.where(squared > radius_mm**2, outside, 0.0).float()


def cylinder(
    geometry: Geometry,
    radius_mm: float,
    axis: Triple,
    centre_mm: Triple = ORIGIN,
    length_mm: float = math.inf,
) -> Tensor:
    """Part of each voxel (i, j, k), 0 to 1, float32, that the cylinder around ``axis`` fills.

    Its ends are flat, and as sharp as the grid.
    """
    offsets = _offsets(geometry, centre_mm)
    direction = _unit(axis)
    along = _along(offsets, direction)
    across = offsets - along * _column(direction)
    return _filled(geometry, across, radius_mm, direction) * (along.abs() <= length_mm / 2)


def cylinder_field(geometry: Geometry, radius_mm: float, axis: Triple, centre_mm: Triple = ORIGIN) -> Tensor:
    """Field of the infinite cylinder at an angle theta to B0.

    ``(3 cos^2 theta - 1) / 6`` inside and ``(a/r)^2 sin^2 theta cos(2 phi) / 2`` outside, phi the angle
    around the axis from the plane that holds axis and B0.

    References
    ----------
    Marques & Bowtell 2005, doi:10.1002/cmr.b.20034
    """
    direction = _unit(axis)
    b0 = geometry.b0_direction
    cosine = sum(a * b for a, b in zip(direction, b0, strict=True))
    offsets = _offsets(geometry, centre_mm)
    across = offsets - _along(offsets, direction) * _column(direction)
    squared = (across**2).sum(0)
    # The part of B0 across the axis has the length sin(theta), so that the square of its projection on the
    # radius is sin^2(theta) cos^2(phi) r^2.
    projected = _along(across, tuple(b - cosine * a for a, b in zip(direction, b0, strict=True)))
    sine_squared = 1 - cosine**2
    outside = radius_mm**2 / squared.clamp_min(1e-12) ** 2 * (projected**2 - sine_squared * squared / 2)
    return torch.where(squared > radius_mm**2, outside, (3 * cosine**2 - 1) / 6).float()


def _offsets(geometry: Geometry, centre_mm: Triple) -> Tensor:
    """Vectors (3, i, j, k) in mm, float64, from ``centre_mm`` to the middle of each voxel."""
    along = [
        (torch.arange(n, dtype=torch.float64) - (n - 1) / 2) * size - centre
        for n, size, centre in zip(geometry.shape, geometry.voxel_size_mm, centre_mm, strict=True)
    ]
    return torch.stack(torch.meshgrid(*along, indexing="ij"))


def _filled(geometry: Geometry, offsets: Tensor, radius_mm: float, axis: Triple = ORIGIN) -> Tensor:
    """Linear edge of the body ``|offsets| < radius``, straight along ``axis``.

    Notes
    -----
    Along the normal n the voxel has the variance ``w^2 / 12`` with ``w^2 = sum_i n_i^2 v_i^2``, and the
    edge is a ramp of width w. Across it the surface curves away by ``s^2 / 2a``, on average over the
    voxel by its variance in the curved directions over 2a. With both, the body keeps its volume to
    second order in the voxel size.
    """
    size = _column(geometry.voxel_size_mm)
    distance = offsets.square().sum(0).sqrt()
    normal = offsets / distance.clamp_min(1e-12)
    # In the very middle there is no normal; any width will do there.
    width_squared = (normal * size).square().sum(0).clamp_min(1e-6 * float(size.min()) ** 2)
    straight = (_column(axis) * size).square().sum()
    curved = (size.square().sum() - straight - width_squared).clamp_min(0)
    edge = radius_mm - curved / (24 * radius_mm)
    return (0.5 + (edge - distance) / width_squared.sqrt()).clamp(0, 1).float()


def _along(offsets: Tensor, direction: Triple) -> Tensor:
    return (offsets * _column(direction)).sum(0)


def _column(values: Triple) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(3, 1, 1, 1)


def _unit(axis: Triple) -> Triple:
    length = math.hypot(*axis)
    return tuple(a / length for a in axis)
