"""From a local field to the channels of the U-Net, and from its output to susceptibility.

Training and use go through the same two functions, so that the network meets in use what it has met in
training. Everything here works on a turned scan (:func:`~napari_metaqsm.network.conditions.turned`).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from napari_metaqsm.network.conditions import Level
from napari_metaqsm.network.unet import Architecture
from napari_metaqsm.operators.fourier import multiply_spectrum
from napari_metaqsm.operators.smooth_inverse import smooth_inverse
from napari_metaqsm.scan import Geometry

# Susceptibility of the brain over its field: with it the output is of order one.
GAIN = 5.0
# Of the closed-form map that goes in, mm²: the default of the method "l2", or between which it lies
# where it follows the scan's level.
PENALTY_WEIGHT = 0.05
PENALTY_WEIGHTS = (0.01, 0.3)


class Prepared(NamedTuple):
    """What goes into the U-Net, and what its output is added to and multiplied by."""

    channels: Tensor  # (1, c, i, j, k)
    start: Tensor  # (i, j, k), in units of ``scale``
    scale: Tensor  # (), ppm


def prepare(
    local_field: Tensor,
    mask: Tensor,
    geometry: Geometry,
    magnitude: Tensor | None,
    level: Level,
    architecture: Architecture,
) -> Prepared:
    """Channels of a turned scan, all (i, j, k).

    Parameters
    ----------
    level : as the network is told it

    Notes
    -----
    The field is divided by its mean absolute value in the mask, and the output multiplied by it: the map
    of a field twice as strong is twice as strong, and that of none is zero. A missing magnitude is zero
    everywhere.
    """
    field = local_field * mask
    size = field.abs().sum() / mask.sum()
    unit = torch.where(size > 0, size, torch.ones_like(size))
    field = field / unit
    weight = penalty_weight(level) if architecture.adapted else PENALTY_WEIGHT
    start = multiply_spectrum(field, smooth_inverse(geometry, field, weight)) * mask / GAIN
    made = {
        "field": field,
        "mask": mask.to(field),
        "l2": start,
        "magnitude": torch.zeros_like(field) if magnitude is None else _levelled(magnitude, mask),
    }
    channels = torch.stack([made[name] for name in architecture.inputs])[None]
    return Prepared(channels, start if architecture.residual else torch.zeros_like(start), GAIN * size)


def penalty_weight(level: Level) -> float:
    """Weight (mm²) of the squared gradient that suits a scan of that level.

    Notes
    -----
    ``0.6 m^3`` of the mismatch m lies within a few per cent of the best closed-form map of each of eight
    made scans, a phantom and a scan in vivo, whose best weights reach from 0.003 to 0.2.
    """
    low, high = PENALTY_WEIGHTS
    return min(max(0.6 * level.mismatch**3, low), high)


def _levelled(magnitude: Tensor, mask: Tensor) -> Tensor:
    """The magnitude in units of its median in the mask, zero outside."""
    middle = magnitude[mask].median()
    return magnitude * mask / torch.where(middle > 0, middle, torch.ones_like(middle))


def finish(output: Tensor, prepared: Prepared, mask: Tensor) -> Tensor:
    """Susceptibility (i, j, k) in ppm from the U-Net's output (i, j, k), zero outside the mask."""
    return prepared.scale * (prepared.start + output.float()) * mask
