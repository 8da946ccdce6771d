"""Finite differences."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from napari_metaqsm.operators.fourier import frequencies
from napari_metaqsm.scan import Geometry


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
