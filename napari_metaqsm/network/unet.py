"""The U-Net of Meta-QSM and Mesa-QSM."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import conv3d, conv_transpose3d, leaky_relu

from napari_metaqsm.network.conditions import CONDITIONS
from napari_metaqsm.network.predicted_convolution import SIZE, Convolution, PredictedConvolution

INPUTS = ("field", "mask", "l2", "magnitude")
SLOPE = 0.1


@dataclass(frozen=True)
class Architecture:
    """What a network is made of; weights fit one architecture alone.

    Parameters
    ----------
    inputs : which of ``INPUTS`` are its channels
    residual : whether it gives the correction of the closed-form map, rather than the map itself
    adapted : whether that map is as smooth as the scan's level asks, rather than always equally so
    conditions : which of ``CONDITIONS`` its weights are predicted from; with none it is a Mesa-QSM
    width : channels of the finest level, doubled at each coarser one
    levels : resolutions
    kernels : of each predicted convolution's basis
    """

    inputs: tuple[str, ...] = INPUTS
    residual: bool = True
    adapted: bool = True
    conditions: tuple[str, ...] = tuple(CONDITIONS)
    width: int = 16
    levels: int = 4
    kernels: int = 8

    @property
    def stride(self) -> int:
        """What a side of the volume must be a multiple of."""
        return 2 ** (self.levels - 1)

    @property
    def code_length(self) -> int:
        """Length of the code that the weights are predicted from."""
        return sum(CONDITIONS[name] for name in self.conditions)


class UNet(nn.Module):
    """Encoder and decoder of two convolutions a level, with skips; no normalisation layers.

    A batch holds one scan, which has one geometry and hence one set of weights.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        widths = [architecture.width * 2**level for level in range(architecture.levels)]
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        channels = len(architecture.inputs)
        for width in widths:
            self.encoder.append(self._pair(channels, width))
            channels = width
        for width in reversed(widths[:-1]):
            self.decoder.append(self._pair(channels + width, width))
            channels = width
        self.head = self._convolution(channels, 1)
        with torch.no_grad():  # the first map is nearly the closed-form one
            for values in self.head.parameters():
                values.mul_(0.1)

    def _convolution(self, channels_in: int, channels_out: int) -> nn.Module:
        kind = self.architecture
        if not kind.conditions:
            return Convolution(channels_in, channels_out)
        return PredictedConvolution(channels_in, channels_out, kind.code_length, kind.kernels)

    def _pair(self, channels_in: int, channels_out: int) -> nn.ModuleList:
        return nn.ModuleList(
            [self._convolution(channels_in, channels_out), self._convolution(channels_out, channels_out)]
        )

    def forward(self, x: Tensor, code: Tensor | None = None) -> Tensor:
        """Map (1, 1, i, j, k) from channels (1, c, i, j, k), sides multiples of the stride."""
        skips = []
        for level, pair in enumerate(self.encoder):
            if level:
                skips.append(x)
                x = halved(x)
            for convolution in pair:
                x = activated(convolution(x, code))
        for first, second in self.decoder:
            x = activated(merged(x, skips.pop(), *first.predict(code)))
            x = activated(second(x, code))
        return self.head(x, code)

    def specialise(self, code: Tensor) -> UNet:
        """The Mesa-QSM of one scan: the same network with its weights predicted once."""
        if not self.architecture.conditions:
            return self
        with torch.device("meta"):  # its own weights are never drawn
            plain = UNet(dataclasses.replace(self.architecture, conditions=()))
        for name, layer in self.named_modules():
            if isinstance(layer, PredictedConvolution):
                parent, _, last = name.rpartition(".")
                setattr(plain.get_submodule(parent), last, layer.specialise(code))
        return plain.to(code.device)


def activated(x: Tensor) -> Tensor:
    """Leaky rectifier, in place."""
    return leaky_relu(x, SLOPE, inplace=True)


def halved(x: Tensor) -> Tensor:
    """Mean of each 2×2×2 voxels; torch's own is slower and has no bfloat16 on the CPU."""
    x = x[:, :, ::2] + x[:, :, 1::2]
    x = x[..., ::2, :] + x[..., 1::2, :]
    return (x[..., ::2] + x[..., 1::2]).mul_(1 / 8)


def merged(x: Tensor, skip: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``conv3d(cat([upsampled(x), skip]), weight, bias)``, for less than half of the work.

    Notes
    -----
    Each part has a convolution of its own. Nearest-neighbour upsampling and a kernel of 3 make one
    transposed convolution with a kernel of 4: 8 multiplications a voxel instead of 27, and no upsampled
    copy.
    """
    there = x.shape[1]
    return conv3d(skip, weight[:, there:], bias, padding=SIZE // 2).add_(
        conv_transpose3d(x, of_upsampled(weight[:, :there]), stride=2, padding=1)
    )


def of_upsampled(weight: Tensor) -> Tensor:
    """Weights (in, out, 4, 4, 4) of the transposed convolution, from (out, in, 3, 3, 3) after upsampling.

    Notes
    -----
    Upsampling is a transposed convolution by (1, 1) along each axis; the kernel after it widens that.
    """
    for axis in (2, 3, 4):
        blank = torch.zeros_like(weight.narrow(axis, 0, 1))
        weight = torch.cat([weight, blank], axis) + torch.cat([blank, weight], axis)
    return weight.flip(2, 3, 4).transpose(0, 1)
