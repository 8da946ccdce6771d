"""Convolutions whose weights are predicted from what is known of the scan (WP-Conv)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import conv3d

SIZE = 3
HIDDEN = 32


class Convolution(nn.Conv3d):
    """A plain convolution with the signature of a predicted one; the code is not looked at."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(channels_in, channels_out, SIZE, padding=SIZE // 2)
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")
        nn.init.zeros_(self.bias)

    def predict(self, code: Tensor | None) -> tuple[Tensor, Tensor]:
        """Its weights and bias."""
        return self.weight, self.bias

    def forward(self, x: Tensor, code: Tensor | None = None) -> Tensor:
        """``x`` (1, in, i, j, k) convolved."""
        return super().forward(x)


class PredictedConvolution(nn.Module):
    """A convolution whose weights and bias fully connected layers predict from a code of the scan.

    Notes
    -----
    ``W = W0 + sum_b alpha_b W_b`` with alpha predicted from the code: the last fully connected layer,
    written as its bias W0 and a basis of kernels W_b.

    References
    ----------
    Liu & Koch, Meta-QSM: An Image-Resolution-Arbitrary Network for QSM Reconstruction;
    Ortiz et al. 2023, arXiv:2304.07645 (residual form, inputs of constant norm)
    """

    def __init__(self, channels_in: int, channels_out: int, code_length: int, kernels: int) -> None:
        super().__init__()
        spread = math.sqrt(2 / (channels_in * SIZE**3))  # He: keeps the variance through a rectifier
        shape = (channels_out, channels_in, SIZE, SIZE, SIZE)
        self.weight = nn.Parameter(spread * torch.randn(shape))
        self.bias = nn.Parameter(torch.zeros(channels_out))
        self.kernels = nn.Parameter(0.1 * spread * torch.randn(kernels, *shape))
        self.offsets = nn.Parameter(torch.zeros(kernels, channels_out))
        self.mixing = nn.Sequential(nn.Linear(code_length, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, kernels))

    def predict(self, code: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (out, in, 3, 3, 3) and bias (out,), in float32 whatever the rest computes in."""
        with torch.autocast(code.device.type, enabled=False):
            mixture = self.mixing(code.float())
            weight = self.weight + torch.einsum("b,boixyz->oixyz", mixture, self.kernels)
            return weight, self.bias + mixture @ self.offsets

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """``x`` (1, in, i, j, k) convolved with the kernels of the scan that ``code`` (n,) describes."""
        weight, bias = self.predict(code)
        return conv3d(x, weight.to(x.dtype), bias.to(x.dtype), padding=SIZE // 2)

    @torch.no_grad()
    def specialise(self, code: Tensor) -> Convolution:
        """The plain convolution for one scan."""
        weight, bias = self.predict(code)
        with torch.device("meta"):  # its own weights are never drawn
            plain = Convolution(weight.shape[1], weight.shape[0])
        plain.weight, plain.bias = nn.Parameter(weight), nn.Parameter(bias)
        return plain
