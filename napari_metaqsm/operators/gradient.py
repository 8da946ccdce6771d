"""Finite differences: the gradient, its adjoint, and the two in one pass over memory.

Differences are forward, per mm, one array for each spatial axis. At the far end of an axis they are zero
(Neumann), or reach round to its beginning where ``periodic``, as a penalty solved in k-space needs it. On
the CPU all is compiled, one pass over memory on all threads; elsewhere it is torch's own.
"""

from __future__ import annotations

from functools import lru_cache
from types import ModuleType

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
        _compiled().gradient(source, target, _scales(x, voxel_size_mm), periodic)
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
        _compiled().gradient_adjoint(source, target, _scales(g, voxel_size_mm), periodic)
    return result


def weighted_adjoint(g: Tensor, weights: Tensor, voxel_size_mm: Triple) -> Tensor:
    """``gradient_adjoint(weights * g)`` (i, j, k) of two (3, i, j, k), without keeping the product."""
    if not _is_compiled(g):
        return gradient_adjoint(weights * g, voxel_size_mm)
    result = g.new_empty(g.shape[1:])
    _compiled().weighted_adjoint(g.numpy(), weights.numpy(), result.numpy(), _scales(g, voxel_size_mm))
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
        _compiled().weighted_laplacian(source, weight, target, _scales(x, voxel_size_mm), periodic)
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
def _compiled() -> ModuleType:
    """The compiled passes; training, which needs none of them, goes without the compiler."""
    from napari_metaqsm.operators import gradient_compiled

    return gradient_compiled


def _is_compiled(x: Tensor) -> bool:
    return x.device.type == "cpu" and not x.requires_grad


def _volumes(x: Tensor, axes: int = 3) -> np.ndarray:
    """``x`` with all leading axes as one, as numpy sees the same memory."""
    return x.contiguous().view(-1, *x.shape[-axes:]).numpy()


def _scales(x: Tensor, voxel_size_mm: Triple) -> np.ndarray:
    return (1 / np.array(voxel_size_mm)).astype(torch.empty(0, dtype=x.dtype).numpy().dtype)
