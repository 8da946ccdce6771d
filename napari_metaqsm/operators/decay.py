"""How fast the signal decays from echo to echo."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def r2star(magnitude: Tensor, echo_times_s: Sequence[float]) -> Tensor:
    """R2* (i, j, k) in 1/s of a magnitude (echo, i, j, k), NaN where there is no signal.

    Notes
    -----
    The slope of the line through ``log(magnitude)`` with weights ``magnitude^2``, which is what noise of the
    same strength in every echo asks for.
    """
    times = torch.tensor(echo_times_s, dtype=torch.float64).to(magnitude)[:, None, None, None]
    weights = magnitude.square()
    total = weights.sum(0)
    from_mean = times - (weights * times).sum(0) / total
    logarithm = magnitude.clamp(min=torch.finfo(magnitude.dtype).tiny).log()
    return -(weights * from_mean * logarithm).sum(0) / (weights * from_mean.square()).sum(0)
