"""Zero padding, cropping, and the box that a mask fills."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from napari_metaqsm.operators.fourier import fast_shape

Box = tuple[slice, slice, slice]


def padded_shape(shape: Sequence[int], factor: float) -> tuple[int, ...]:
    """``shape`` grown by ``factor`` and on to the next fast size; the shape itself at factor 1.

    A factor of 2 removes wrap-around of the forward field to 0.5 to 5 %, depending on how far from
    cubic the field of view is.
    """
    if factor == 1:
        return tuple(shape)
    return fast_shape([math.ceil(n * factor) for n in shape])


def pad_to(x: Tensor, shape: Sequence[int]) -> Tensor:
    """``x`` (..., i, j, k) with zeros after it on each spatial axis up to ``shape``."""
    if tuple(x.shape[-3:]) == tuple(shape):
        return x
    ends = [large - small for large, small in zip(shape, x.shape[-3:], strict=True)]
    return torch.nn.functional.pad(x, (0, ends[2], 0, ends[1], 0, ends[0]))


def crop_to(x: Tensor, shape: Sequence[int]) -> Tensor:
    """The first ``shape`` voxels of ``x``: undoes :func:`pad_to`."""
    return x[..., : shape[0], : shape[1], : shape[2]]


def mask_box(mask: Tensor) -> Box:
    """Slices of the smallest box (i, j, k) that holds every voxel of a mask that is not empty."""
    box = []
    for axis in range(3):
        others = [a for a in range(3) if a != axis]
        inside = torch.nonzero(mask.bool().any(dim=others[1]).any(dim=others[0])).flatten()
        box.append(slice(int(inside[0]), int(inside[-1]) + 1))
    return tuple(box)
