"""The Laplacian on voxels of any shape, to fourth order where the field is harmonic.

The usual sum of second differences is of second order: on voxels of 0.75×0.75×3 mm it mistakes for a source
what a strong background field of short range has beyond a cubic. The truncation error is
``sum_i h_i^2 / 12 f_iiii``, and a harmonic f has ``f_iiii = -sum_(j != i) f_iijj``, so that mixed differences
over the twelve neighbours across an edge take it away::

    L f = sum_i d_i f / h_i^2 + sum_(i < j) (h_i^2 + h_j^2) / (12 h_i^2 h_j^2) d_i d_j f

with ``d_i`` the second difference along an axis. Every harmonic polynomial up to degree 5 gives zero, and -L
is positive definite whatever the ratios of the voxel's sides.
"""

from __future__ import annotations

from functools import lru_cache

import numba
import numpy as np
import torch
from torch import Tensor

from napari_metaqsm.operators.compiled import compiled
from napari_metaqsm.operators.fourier import frequencies
from napari_metaqsm.scan import Geometry, Triple

PAIRS = ((0, 1), (0, 2), (1, 2))


@lru_cache(maxsize=4)
def laplacian_stencil(voxel_size_mm: Triple) -> np.ndarray:
    """Weights (3, 3, 3) of ``-L`` in 1/mm², float64, read-only; the eight corners are zero."""
    stencil = np.zeros((3, 3, 3))
    faces, edges = _weights(voxel_size_mm)
    for axis in range(3):
        for step in (-1, 1):
            stencil[tuple(1 + step * (a == axis) for a in range(3))] = -faces[axis]
    for (first, second), weight in zip(PAIRS, edges, strict=True):
        for step, other in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
            stencil[tuple(1 + step * (a == first) + other * (a == second) for a in range(3))] = -weight
    stencil[1, 1, 1] = -stencil.sum()
    stencil.setflags(write=False)
    return stencil


def negative_laplacian(x: Tensor, inside: Tensor, voxel_size_mm: Triple) -> Tensor:
    """``-L x`` (..., i, j, k) in 1/mm² where ``inside`` (i, j, k) bool, zero elsewhere.

    All neighbours of a voxel of ``inside`` must lie in the array. Neighbours are subtracted from each other
    before they are added up, so that a smooth field loses no digits.
    """
    if x.device.type != "cpu" or x.requires_grad:
        return _with_torch(x, inside, voxel_size_mm)
    result = torch.empty_like(x, memory_format=torch.contiguous_format)
    faces, edges = (w.astype(torch.empty(0, dtype=x.dtype).numpy().dtype) for w in _weights(voxel_size_mm))
    shape = (-1, *x.shape[-3:])
    where = inside.contiguous().numpy()
    sources, targets = x.contiguous().view(shape).numpy(), result.view(shape).numpy()
    for source, target in zip(sources, targets, strict=True):
        _compiled(source, where, target, faces, edges)
    return result


def laplacian_spectrum(geometry: Geometry, like: Tensor) -> Tensor:
    """Half spectrum (i, j, k // 2 + 1) of ``-L`` on a periodic grid, in 1/mm²; zero at k = 0."""
    squares = []
    for axis, (n, size) in enumerate(zip(geometry.shape, geometry.voxel_size_mm, strict=True)):
        angle = 2 * torch.pi * size * frequencies(n, size, half=axis == 2, device=torch.device("cpu"))
        along = [1, 1, 1]
        along[axis] = -1
        squares.append(((2 - 2 * angle.cos()) / size**2).reshape(along))
    total = squares[0] + squares[1] + squares[2]
    for i, j in PAIRS:
        scale = (geometry.voxel_size_mm[i] ** 2 + geometry.voxel_size_mm[j] ** 2) / 12
        total = total - scale * squares[i] * squares[j]
    return total.to(like.dtype).to(like.device)


def _weights(voxel_size_mm: Triple) -> tuple[np.ndarray, np.ndarray]:
    """Of the six neighbours across a face, by axis, and of the twelve across an edge, by ``PAIRS``."""
    inverse = 1 / np.square(voxel_size_mm)
    edges = np.array([(inverse[i] + inverse[j]) / 12 for i, j in PAIRS])
    # d_i d_j takes twice its weight from each of the four neighbours along i and along j.
    taken = [2 * sum(w for pair, w in zip(PAIRS, edges, strict=True) if axis in pair) for axis in range(3)]
    return inverse - taken, edges


def _with_torch(x: Tensor, inside: Tensor, voxel_size_mm: Triple) -> Tensor:
    def neighbours(*steps: int) -> Tensor:
        middle = (slice(1 + s, n - 1 + s) for s, n in zip(steps, x.shape[-3:], strict=True))
        return x[(..., *middle)]

    faces, edges = _weights(voxel_size_mm)
    here = neighbours(0, 0, 0)
    total = torch.zeros_like(here)
    for axis, weight in enumerate(faces):
        step = [int(a == axis) for a in range(3)]
        before, after = neighbours(*(-s for s in step)), neighbours(*step)
        total.add_((here - before) + (here - after), alpha=float(weight))
    for (first, second), weight in zip(PAIRS, edges, strict=True):
        for sign in (-1, 1):
            step = [int(a == first) + sign * int(a == second) for a in range(3)]
            before, after = neighbours(*(-s for s in step)), neighbours(*step)
            total.add_((here - before) + (here - after), alpha=float(weight))
    return torch.nn.functional.pad(total, (1, 1, 1, 1, 1, 1)) * inside


@compiled(parallel=True)
def _compiled(x, inside, out, faces, edges):
    ni, nj, nk = x.shape
    ai, aj, ak = faces
    bij, bik, bjk = edges
    out[0] = out[ni - 1] = 0
    for plane in numba.prange(1, ni - 1):
        i = np.intp(plane)  # unsigned as it comes, and less one it would turn into a float
        out[i, 0] = out[i, nj - 1] = 0
        for j in range(1, nj - 1):
            out[i, j, 0] = out[i, j, nk - 1] = 0
            for k in range(1, nk - 1):
                c = x[i, j, k]
                total = (
                    ai * ((c - x[i - 1, j, k]) + (c - x[i + 1, j, k]))
                    + aj * ((c - x[i, j - 1, k]) + (c - x[i, j + 1, k]))
                    + ak * ((c - x[i, j, k - 1]) + (c - x[i, j, k + 1]))
                    + bij * ((c - x[i - 1, j - 1, k]) + (c - x[i + 1, j + 1, k]))
                    + bij * ((c - x[i - 1, j + 1, k]) + (c - x[i + 1, j - 1, k]))
                    + bik * ((c - x[i - 1, j, k - 1]) + (c - x[i + 1, j, k + 1]))
                    + bik * ((c - x[i - 1, j, k + 1]) + (c - x[i + 1, j, k - 1]))
                    + bjk * ((c - x[i, j - 1, k - 1]) + (c - x[i, j + 1, k + 1]))
                    + bjk * ((c - x[i, j - 1, k + 1]) + (c - x[i, j + 1, k - 1]))
                )
                out[i, j, k] = total if inside[i, j, k] else 0
