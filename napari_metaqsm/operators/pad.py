"""Zero padding, cropping, and the box that a mask fills."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import scipy.fft
import torch
from torch import Tensor

from napari_metaqsm.operators.fourier import fast_shape
from napari_metaqsm.scan import Geometry

Box = tuple[slice, slice, slice]
# Zeros between the mask and its periodic continuation, for methods that compute near the mask alone.
MARGIN_MM = 24.0


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


@dataclass(frozen=True)
class WorkingGrid:
    """The part of a scan that an iterative method computes on: the mask's box, and zeros after it.

    ``box`` are the slices (i, j, k) of the scan, ``geometry`` is that of the grid. Methods that work on the
    same grid share its cached kernels.
    """

    box: Box
    geometry: Geometry

    def cut(self, x: Tensor) -> Tensor:
        """What of ``x`` (..., i, j, k) lies in the box, followed by zeros: a copy on the grid."""
        cut = x[(..., *self.box)]
        return pad_to(cut, self.geometry.shape) if cut.shape[-3:] != self.geometry.shape else cut.clone()

    def paste(self, x: Tensor, mask: Tensor) -> Tensor:
        """Back to the scan: ``x`` (..., i, j, k) of the grid, zero outside ``mask`` (i, j, k)."""
        whole = x.new_zeros((*x.shape[:-3], *mask.shape))
        shape = [s.stop - s.start for s in self.box]
        whole[(..., *self.box)] = crop_to(x, shape) * mask[self.box]
        return whole


def working_grid(mask: Tensor, geometry: Geometry, margin_mm: float = MARGIN_MM) -> WorkingGrid:
    """A grid that holds ``mask`` with at least ``margin_mm`` before it comes round again.

    Its sides are fast to transform whichever axis is last, so that permuted axes give the permuted grid.
    """
    box = mask_box(mask)
    sides = (
        s.stop - s.start + math.ceil(margin_mm / v) for s, v in zip(box, geometry.voxel_size_mm, strict=True)
    )
    shape = tuple(scipy.fft.next_fast_len(n, real=True) for n in sides)
    return WorkingGrid(box, geometry.with_shape(shape))
