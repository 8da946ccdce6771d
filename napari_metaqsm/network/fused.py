"""The U-Net of one scan, made ready for use: weights in place, type and layout once, each layer announced."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import conv3d, conv_transpose3d

from napari_metaqsm.method import steps
from napari_metaqsm.network.predicted_convolution import SIZE, Convolution
from napari_metaqsm.network.unet import UNet, activated, halved, of_upsampled


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
                ready(of_upsampled(first.weight[:, :upsampled])),
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
                x = halved(x)
            for kernel in pair:
                next(step)
                x = activated(kernel(x))
        for merge, kernel in self._decoder:
            next(step)
            x = activated(merge(x, skips.pop()))
            next(step)
            x = activated(kernel(x))
        next(step)
        return self._head(x)
