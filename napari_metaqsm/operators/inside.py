"""Differences and percentiles that the voxels of a mask alone decide."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def pairs_inside(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """(3, i, j, k): one where a voxel and the next along that axis both lie in ``mask``, else zero.

    As weights of forward differences, they leave no edge where the mask ends.
    """
    result = torch.zeros((3, *mask.shape), dtype=dtype, device=mask.device)
    for axis, n in enumerate(mask.shape):
        here, after = mask.narrow(axis, 0, n - 1), mask.narrow(axis, 1, n - 1)
        result[axis].narrow(axis, 0, n - 1).copy_(here & after)
    return result


def percentiles(values: Tensor, *percents: float) -> list[Tensor]:
    """The smallest of ``values`` that at least so many percent do not exceed, for each of ``percents``.

    The nearest rank, whatever the order of the values. ``torch.quantile`` takes no more than 2^24 values
    and sorts them all.
    """
    flat = values.flatten()
    return [flat.kthvalue(max(1, math.ceil(p / 100 * len(flat)))).values for p in percents]


def falling(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """One where ``x`` is at most ``low``, zero from ``high`` on, linear between."""
    span = (high - low).clamp_min(torch.finfo(x.dtype).tiny)
    return ((high - x) / span).clamp_(0, 1).masked_fill_(x <= low, 1)
