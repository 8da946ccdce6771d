"""The U-Net of one scan, arranged for use: the same map for half the time and half the memory.

The first convolution of each decoder level takes upsampled and skipped channels together. Here each part
has a convolution of its own, and the two are added. Of the upsampled part, nearest-neighbour upsampling and
a kernel of 3 make one transposed convolution with a kernel of 4: 8 multiplications a voxel instead of 27,
and no upsampled copy. On two cores 256×256×64 voxels take 2.2 s and 0.9 GB instead of 4.0 s and 1.6 GB.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import conv3d, conv_transpose3d, leaky_relu

from napari_metaqsm.method import steps
from napari_metaqsm.network.predicted_convolution import SIZE, Convolution
from napari_metaqsm.network.unet import SLOPE, UNet


class _Kernel(NamedTuple):
    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return conv3d(x, self.weight, self.bias, padding=SIZE // 2)


class _Merge(NamedTuple):
    """The first convolution of a decoder level, apart for what is upsampled and what is skipped."""

    upsampled: Tensor
    skipped: _Kernel

    def __call__(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.skipped(skip).add_(conv_transpose3d(x, self.upsampled, stride=2, padding=1))


class FusedUNet:
    """What a specialised ``network`` computes, in ``dtype`` on ``device``."""

    def __init__(self, network: UNet, dtype: torch.dtype, device: torch.device) -> None:
        def ready(weight: Tensor) -> Tensor:
            return weight.detach().to(device, dtype, memory_format=torch.channels_last_3d)

        def kernel(convolution: Convolution) -> _Kernel:
            return _Kernel(ready(convolution.weight), convolution.bias.detach().to(device, dtype))

        self.dtype = dtype
        self._encoder = [[kernel(convolution) for convolution in pair] for pair in network.encoder]
        self._decoder = []
        for first, second in network.decoder:
            skipped = second.weight.shape[1]  # a level is as wide as its skip
            upsampled = first.weight.shape[1] - skipped
            bias = first.bias.detach().to(device, dtype)
            merge = _Merge(
                ready(_of_upsampled(first.weight[:, :upsampled])),
                _Kernel(ready(first.weight[:, upsampled:]), bias),
            )
            self._decoder.append((merge, kernel(second)))
        self._head = kernel(network.head)
        self._convolutions = 2 * (len(self._encoder) + len(self._decoder)) + 1

    @torch.no_grad()
    def __call__(self, channels: Tensor) -> Tensor:
        """Map (1, 1, i, j, k) from channels (1, c, i, j, k), sides multiples of the stride."""
        x = channels.to(self.dtype, memory_format=torch.channels_last_3d)
        step = steps(self._convolutions, "Network")
        skips = []
        for level, pair in enumerate(self._encoder):
            if level:
                skips.append(x)
                x = _halved(x)
            for kernel in pair:
                next(step)
                x = _activated(kernel(x))
        for merge, kernel in self._decoder:
            next(step)
            x = _activated(merge(x, skips.pop()))
            next(step)
            x = _activated(kernel(x))
        next(step)
        return self._head(x)


def _activated(x: Tensor) -> Tensor:
    return leaky_relu(x, SLOPE, inplace=True)


def _halved(x: Tensor) -> Tensor:
    """Mean of each 2×2×2 voxels; torch's own is slower and has no bfloat16 on the CPU."""
    x = x[:, :, ::2] + x[:, :, 1::2]
    x = x[..., ::2, :] + x[..., 1::2, :]
    return (x[..., ::2] + x[..., 1::2]).mul_(1 / 8)


def _of_upsampled(weight: Tensor) -> Tensor:
    """Weights (in, out, 4, 4, 4) of the transposed convolution, from (out, in, 3, 3, 3) after upsampling.

    Notes
    -----
    Upsampling is a transposed convolution by (1, 1) along each axis; the kernel after it widens that.
    """
    for axis in (2, 3, 4):
        blank = torch.zeros_like(weight.narrow(axis, 0, 1))
        weight = torch.cat([weight, blank], axis) + torch.cat([blank, weight], axis)
    return weight.flip(2, 3, 4).transpose(0, 1)
