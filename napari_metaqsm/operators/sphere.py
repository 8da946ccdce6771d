"""The spherical mean: a sphere rendered on any voxels so that harmonic fields equal their mean.

Inside a source-free ball a field equals its mean over any concentric sphere; this is how background
fields are told from local ones. On voxels it holds only as well as the rendered sphere is round.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import scipy.fft
import torch
from torch import Tensor

from napari_metaqsm.scan import Geometry, Triple

# Samples per voxel along two axes when the coverage is rendered; along the third it is exact.
SAMPLES = 8
# Voxels covered less than this are left out: they would cost a voxel of the mask for little weight.
LEAST_COVERAGE = 0.25
# A correction that takes more than this from any one weight is none; a lower order is used instead.
LEAST_KEPT = 0.01


@lru_cache(maxsize=16)
def sphere_weights(radius_mm: float, voxel_size_mm: Triple) -> np.ndarray:
    """Weights of the spherical mean around its middle voxel.

    Parameters
    ----------
    radius_mm : radius of the sphere
    voxel_size_mm : three floats

    Returns
    -------
    (2a + 1, 2b + 1, 2c + 1) float64, read-only: non-negative, even, of sum one. What is not zero is
    the sphere's support.

    Notes
    -----
    A voxel weighs as much as the sphere covers of it, times ``1 + sum_j c_j h_j(x)``. The h_j are the
    harmonic polynomials of order 2 and 4 that are even along each axis, and the c_j are such that
    their means vanish. The mean of every harmonic polynomial up to order 5 is then its value in the
    middle, to rounding (odd ones vanish by symmetry); in particular ``<x^2> = <y^2> = <z^2>``. The
    coverage alone has ``<z^2>`` 4 to 15 % off on voxels of 0.5×0.5×2 to 0.5×0.5×4 mm, a binary
    sphere 12 to 27 %. With a radius under two voxels the weights may not allow order 4, or 2,
    without turning negative; then the lower order, or the coverage as it is, stands.
    """
    coverage = _coverage(radius_mm, voxel_size_mm)
    coverage[coverage < LEAST_COVERAGE * coverage.max()] = 0
    coverage = _trimmed(coverage / coverage.sum())
    squares = np.meshgrid(
        *(
            (np.arange(n) - n // 2) ** 2 * (size / radius_mm) ** 2
            for n, size in zip(coverage.shape, voxel_size_mm, strict=True)
        ),
        indexing="ij",
    )
    weights = _corrected(coverage, _harmonics(*squares))
    weights.setflags(write=False)
    return weights


def sphere_spectrum(radius_mm: float, geometry: Geometry, like: Tensor) -> Tensor:
    """Half spectrum (i, j, k // 2 + 1) of the spherical mean on ``geometry``'s grid, for convolution.

    It is real, one at k = 0, and shared between calls: do not write to it. ``like`` gives the dtype
    and the device.
    """
    return _sphere_spectrum(radius_mm, geometry.shape, geometry.voxel_size_mm, like.dtype, like.device)


@lru_cache(maxsize=8)  # V-SHARP uses several at once
def _sphere_spectrum(radius_mm, shape, voxel_size_mm, dtype: torch.dtype, device: torch.device) -> Tensor:
    weights = sphere_weights(radius_mm, voxel_size_mm)
    kernel = np.zeros(shape)
    places = [(np.arange(w) - w // 2) % n for w, n in zip(weights.shape, shape, strict=True)]
    np.add.at(kernel, np.ix_(*places), weights)  # adds up where the sphere is wider than the grid
    return torch.from_numpy(scipy.fft.rfftn(kernel).real.copy()).to(dtype).to(device)


def _coverage(radius_mm: float, voxel_size_mm: Triple) -> np.ndarray:
    """Fraction of each voxel inside the sphere, the mean of rendering it along each axis exactly."""
    renderings = []
    for exact in range(3):
        order = [a for a in range(3) if a != exact] + [exact]
        rendering = _coverage_exact_along_last(radius_mm, [voxel_size_mm[a] for a in order])
        renderings.append(rendering.transpose(np.argsort(order)))
    return np.mean(renderings, axis=0)


def _coverage_exact_along_last(radius_mm: float, sizes: list[float]) -> np.ndarray:
    steps = (np.arange(SAMPLES) + 0.5) / SAMPLES - 0.5
    reach = [int(np.ceil(radius_mm / size + 0.5)) - 1 for size in sizes]
    x, y = (
        ((np.arange(-n, n + 1)[:, None] + steps) * v) ** 2 for n, v in zip(reach[:2], sizes[:2], strict=True)
    )
    half_height = (
        np.sqrt(np.clip(radius_mm**2 - x[:, None, :, None] - y[None, :, None, :], 0, None)) / sizes[2]
    )
    layers = [
        (np.clip(half_height, k - 0.5, k + 0.5) - np.clip(-half_height, k - 0.5, k + 0.5)).mean((2, 3))
        for k in range(-reach[2], reach[2] + 1)
    ]
    return np.stack(layers, axis=2)


def _trimmed(weights: np.ndarray) -> np.ndarray:
    """Without the outer planes that hold nothing; these come in pairs."""
    ends = [np.nonzero(weights.any(axis=tuple({0, 1, 2} - {axis})))[0] for axis in range(3)]
    return weights[tuple(slice(e[0], e[-1] + 1) for e in ends)]


def _harmonics(x2: np.ndarray, y2: np.ndarray, z2: np.ndarray) -> dict[int, list[np.ndarray]]:
    """Harmonic polynomials even along each axis, of the squared coordinates, by order."""
    fourth = [a * a - 6 * a * b + b * b for a, b in ((x2, y2), (y2, z2), (z2, x2))]
    return {2: [x2 - y2, y2 - z2], 4: fourth}


def _corrected(coverage: np.ndarray, harmonics: dict[int, list[np.ndarray]]) -> np.ndarray:
    """The weights nearest to ``coverage``, by relative change, under which the harmonics average to 0."""
    inside = coverage > 0
    w = coverage[inside]
    for order in (4, 2):
        h = np.stack([p[inside] for n, members in harmonics.items() if n <= order for p in members])
        coefficients = np.linalg.lstsq((h * w) @ h.T, -h @ w, rcond=1e-9)[0]
        factor = 1 + coefficients @ h
        weights = w * factor / (w @ factor)
        if factor.min() > LEAST_KEPT and np.abs(h @ weights).max() < 1e-9:
            corrected = np.zeros_like(coverage)
            corrected[inside] = weights
            return corrected
    return coverage
