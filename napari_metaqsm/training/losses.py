"""What training minimises. All but the penalty on weights is in units of ``Prepared.scale``.

So every example weighs the same, however strong its field.
"""

from __future__ import annotations

import torch
from torch import Tensor

from napari_metaqsm.network.predicted_convolution import PredictedConvolution
from napari_metaqsm.network.unet import UNet
from napari_metaqsm.operators.dipole import dipole_field
from napari_metaqsm.scan import Geometry


def absolute_error(error: Tensor, mask: Tensor) -> Tensor:
    """Mean of ``|e - mean(e)|`` in the mask, of an error (i, j, k): no field tells the mean of a map."""
    return mean_inside((error - mean_inside(error, mask)).abs(), mask)


def mean_inside(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of ``values`` in the mask. Taking them out of it first would wait for the device."""
    return (values * mask).sum() / mask.sum().clamp_min(1)


def gradient_error(error: Tensor, mask: Tensor) -> Tensor:
    """Mean of ``|e(next voxel) - e|`` over the three axes and the neighbours that both lie in the mask."""
    total, count = error.new_zeros(()), error.new_zeros(())
    for axis, n in enumerate(error.shape):
        both = mask.narrow(axis, 1, n - 1) & mask.narrow(axis, 0, n - 1)
        total = total + (error.diff(dim=axis).abs() * both).sum()
        count = count + both.sum()
    return total / count.clamp_min(1)


def model_error(susceptibility: Tensor, local_field: Tensor, mask: Tensor, geometry: Geometry) -> Tensor:
    """Mean of ``|D chi - f|`` in the mask, in float32 on a grid twice as large."""
    with torch.autocast(susceptibility.device.type, enabled=False):
        misfit = dipole_field(susceptibility.float() * mask, geometry) - local_field
    return mean_inside(misfit.abs(), mask)


def weight_penalty(network: UNet) -> Tensor:
    """Sum of squares of the weights of the fully connected layers that predict convolutions.

    These are the two of ``mixing`` and the last one, which is the basis of kernels and their offsets.
    Biases are left out, as in Keras; the bias of the last one is the convolution that all scans share.
    """
    total = next(network.parameters()).new_zeros(())
    for layer in network.modules():
        if isinstance(layer, PredictedConvolution):
            weights = [m.weight for m in layer.mixing if isinstance(m, torch.nn.Linear)]
            for values in (*weights, layer.kernels, layer.offsets):
                total = total + values.square().sum()
    return total
