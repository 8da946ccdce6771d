"""Finite differences: the gradient, its adjoint, and the two in one pass over memory.

Differences are forward, per mm, one array for each spatial axis. At the far end of an axis they are zero
(Neumann), or reach round to its beginning where ``periodic``, as a penalty solved in k-space needs it. On
the CPU all is compiled, one pass over memory on all threads; elsewhere it is torch's own.
"""

from __future__ import annotations

from functools import lru_cache

import numba
import numpy as np
import torch
from torch import Tensor

from napari_metaqsm.operators.fourier import frequencies
from napari_metaqsm.scan import Geometry, Triple


def gradient(x: Tensor, voxel_size_mm: Triple, *, periodic: bool = False) -> Tensor:
    """Forward differences (..., 3, i, j, k) per mm of ``x`` (..., i, j, k)."""
    if not _is_compiled(x):
        return torch.stack([_difference(x, axis, voxel_size_mm[axis], periodic) for axis in range(3)], dim=-4)
    result = x.new_empty((*x.shape[:-3], 3, *x.shape[-3:]))
    for source, target in zip(_volumes(x), _volumes(result, 4), strict=True):
        _gradient(source, target, _scales(x, voxel_size_mm), periodic)
    return result


def gradient_adjoint(g: Tensor, voxel_size_mm: Triple, *, periodic: bool = False) -> Tensor:
    """The adjoint of :func:`gradient`: minus the divergence (..., i, j, k) of ``g`` (..., 3, i, j, k)."""
    if not _is_compiled(g):
        return sum(
            _adjoint_difference(g[..., axis, :, :, :], axis, voxel_size_mm[axis], periodic)
            for axis in range(3)
        )
    result = g.new_empty((*g.shape[:-4], *g.shape[-3:]))
    for source, target in zip(_volumes(g, 4), _volumes(result), strict=True):
        _gradient_adjoint(source, target, _scales(g, voxel_size_mm), periodic)
    return result


def weighted_laplacian(
    x: Tensor, weights: Tensor, voxel_size_mm: Triple, *, periodic: bool = False
) -> Tensor:
    """``gradient_adjoint(weights * gradient(x))`` (..., i, j, k), without keeping the gradient.

    Parameters
    ----------
    x : (..., i, j, k)
    weights : (3, i, j, k), or (..., 3, i, j, k) with the leading axes of ``x``
    """
    if not _is_compiled(x):
        return gradient_adjoint(
            weights * gradient(x, voxel_size_mm, periodic=periodic), voxel_size_mm, periodic=periodic
        )
    result = torch.empty_like(x)
    each = _volumes(weights.expand((*x.shape[:-3], 3, *x.shape[-3:])), 4)
    for source, weight, target in zip(_volumes(x), each, _volumes(result), strict=True):
        _weighted_laplacian(source, weight, target, _scales(x, voxel_size_mm), periodic)
    return result


def gradient_spectrum(geometry: Geometry, like: Tensor) -> Tensor:
    """Half spectrum of the periodic ``-laplacian``: ``sum_i (2 - 2 cos(2 pi k_i v_i)) / v_i^2`` (1/mm²).

    It is ``sum_i |E_i|^2`` of the forward differences, as a penalty on the gradient needs it.
    Shared between calls: do not write to it.
    """
    return _gradient_spectrum(geometry.shape, geometry.voxel_size_mm, like.dtype, like.device)


@lru_cache(maxsize=4)
def _gradient_spectrum(shape, voxel_size_mm, dtype: torch.dtype, device: torch.device) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for axis, (n, size) in enumerate(zip(shape, voxel_size_mm, strict=True)):
        angle = 2 * torch.pi * size * frequencies(n, size, half=axis == 2, device=torch.device("cpu"))
        along = [1, 1, 1]
        along[axis] = -1
        total = total + ((2 - 2 * angle.cos()) / size**2).reshape(along)
    return total.to(dtype).to(device)


# ------------------------------------------------------------------------------------ with torch
def _difference(x: Tensor, axis: int, spacing: float, periodic: bool) -> Tensor:
    dim = axis - 3
    if periodic:
        return (x.roll(-1, dim) - x) / spacing
    end = x.narrow(dim, x.shape[dim] - 1, 1)
    return x.diff(dim=dim, append=end) / spacing


def _adjoint_difference(g: Tensor, axis: int, spacing: float, periodic: bool) -> Tensor:
    dim = axis - 3
    if periodic:
        return (g.roll(1, dim) - g) / spacing
    inner = g.narrow(dim, 0, g.shape[dim] - 1)
    zero = torch.zeros_like(g.narrow(dim, 0, 1))
    return torch.cat([-inner, zero], dim).add_(torch.cat([zero, inner], dim)) / spacing


# -------------------------------------------------------------------------------------- compiled
def _is_compiled(x: Tensor) -> bool:
    return x.device.type == "cpu" and not x.requires_grad


def _volumes(x: Tensor, axes: int = 3) -> np.ndarray:
    """``x`` with all leading axes as one, as numpy sees the same memory."""
    return x.contiguous().view(-1, *x.shape[-axes:]).numpy()


def _scales(x: Tensor, voxel_size_mm: Triple) -> np.ndarray:
    return (1 / np.array(voxel_size_mm)).astype(torch.empty(0, dtype=x.dtype).numpy().dtype)


@numba.njit(nogil=True, cache=True, parallel=True)
def _gradient(x, out, scale, periodic):
    ni, nj, nk = x.shape
    for plane in numba.prange(ni):
        i = np.intp(plane)  # unsigned as it comes, and less one it would turn into a float
        next_i = i + 1 if i + 1 < ni else (0 if periodic else i)
        for j in range(nj):
            next_j = j + 1 if j + 1 < nj else (0 if periodic else j)
            for k in range(nk - 1):
                here = x[i, j, k]
                out[0, i, j, k] = (x[next_i, j, k] - here) * scale[0]
                out[1, i, j, k] = (x[i, next_j, k] - here) * scale[1]
                out[2, i, j, k] = (x[i, j, k + 1] - here) * scale[2]
            k = nk - 1
            here = x[i, j, k]
            out[0, i, j, k] = (x[next_i, j, k] - here) * scale[0]
            out[1, i, j, k] = (x[i, next_j, k] - here) * scale[1]
            out[2, i, j, k] = (x[i, j, 0] - here) * scale[2] if periodic else 0


@numba.njit(nogil=True, cache=True, parallel=True)
def _gradient_adjoint(g, out, scale, periodic):
    ni, nj, nk = out.shape
    for plane in numba.prange(ni):
        i = np.intp(plane)  # unsigned as it comes, and less one it would turn into a float
        # Where there is no neighbour before, or none after, that difference counts nothing.
        before_i = i - 1 if i > 0 else ni - 1
        from_i = scale[0] * (periodic or i > 0)
        to_i = scale[0] * (periodic or i + 1 < ni)
        for j in range(nj):
            before_j = j - 1 if j > 0 else nj - 1
            from_j = scale[1] * (periodic or j > 0)
            to_j = scale[1] * (periodic or j + 1 < nj)
            for k in range(nk):
                before_k = k - 1 if k > 0 else nk - 1
                from_k = scale[2] * (periodic or k > 0)
                to_k = scale[2] * (periodic or k + 1 < nk)
                out[i, j, k] = (
                    from_i * g[0, before_i, j, k]
                    - to_i * g[0, i, j, k]
                    + from_j * g[1, i, before_j, k]
                    - to_j * g[1, i, j, k]
                    + from_k * g[2, i, j, before_k]
                    - to_k * g[2, i, j, k]
                )


@numba.njit(nogil=True, cache=True, parallel=True)
def _weighted_laplacian(x, w, out, scale, periodic):
    ni, nj, nk = x.shape
    si, sj, sk = scale[0] ** 2, scale[1] ** 2, scale[2] ** 2
    for plane in numba.prange(ni):
        i = np.intp(plane)  # unsigned as it comes, and less one it would turn into a float
        before_i = i - 1 if i > 0 else (ni - 1 if periodic else 0)
        after_i = i + 1 if i + 1 < ni else (0 if periodic else i)
        for j in range(nj):
            before_j = j - 1 if j > 0 else (nj - 1 if periodic else 0)
            after_j = j + 1 if j + 1 < nj else (0 if periodic else j)
            for k in range(nk):
                before_k = k - 1 if k > 0 else (nk - 1 if periodic else 0)
                after_k = k + 1 if k + 1 < nk else (0 if periodic else k)
                here = x[i, j, k]
                out[i, j, k] = (
                    si
                    * (
                        w[0, before_i, j, k] * (here - x[before_i, j, k])
                        + w[0, i, j, k] * (here - x[after_i, j, k])
                    )
                    + sj
                    * (
                        w[1, i, before_j, k] * (here - x[i, before_j, k])
                        + w[1, i, j, k] * (here - x[i, after_j, k])
                    )
                    + sk
                    * (
                        w[2, i, j, before_k] * (here - x[i, j, before_k])
                        + w[2, i, j, k] * (here - x[i, j, after_k])
                    )
                )
