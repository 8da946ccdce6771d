"""What all masks share: one image from the echoes, and the last steps to a usable region."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_metaqsm.errors import InputError
from napari_metaqsm.operators.morphology import largest_component, without_holes


def combined_echoes(magnitude: Tensor) -> Tensor:
    """Root of the sum of squares over the echoes, (i, j, k); what is not finite counts as no signal."""
    return torch.nan_to_num(magnitude, nan=0.0, posinf=0.0, neginf=0.0).square().sum(dim=0).sqrt()


def check_quality(quality: Tensor | None, min_quality: float) -> None:
    """Refuse (`InputError`) a wish for good phase where nothing says which phase is good."""
    if quality is None and min_quality > 0:
        raise InputError(
            f"min_quality is {min_quality:g}, but there is no phase quality; run the field step first"
        )


def finished_mask(
    mask: Tensor, quality: Tensor | None, *, min_quality: float, fill_holes: bool, otherwise: str
) -> Tensor:
    """The largest part of ``mask`` where the phase is good enough, its holes filled if wanted.

    Parameters
    ----------
    mask : (i, j, k) bool
    quality : (i, j, k) in [0, 1], or None
    otherwise : what the user can do where nothing is left, for the error

    Raises
    ------
    InputError
        When no voxel is left.
    """
    if quality is not None and min_quality > 0:
        mask = mask & (quality >= min_quality)  # false where the quality is NaN
    mask = largest_component(mask)
    if not mask.any():
        raise InputError(f"the mask is empty; {otherwise}")
    return without_holes(mask) if fill_holes else mask
