"""How much of a field no susceptibility explains: what it holds where a dipole field holds nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_metaqsm.operators.dipole import dipole_kernel
from napari_metaqsm.operators.fourier import frequencies, rfftn
from napari_metaqsm.scan import Geometry

# |D| below which a field holds almost nothing of the susceptibility, and above which it holds much of it.
CONE = 0.05
WELL = 0.15
# Of |k|, relative to the highest that the cone reaches: below it, anatomy leaks into the cone where the mask
# cuts the field off; above it there is little of anything but noise.
BAND = (0.4, 0.6)
# The mask's rim, where the field is cut off, is left out softly.
RIM_MM = 6.0


class ConeProbe:
    """Amplitudes of fields in one mask, in the cone where ``D = 0`` and away from it.

    Parameters
    ----------
    mask : (i, j, k) bool
    geometry : of the mask's grid
    like : a tensor of the fields' dtype and device
    """

    def __init__(self, mask: Tensor, geometry: Geometry, like: Tensor) -> None:
        self._fade = _faded(mask, geometry).to(like)
        kernel = dipole_kernel(geometry, like).abs()
        radius = _radius(geometry, like)
        cone = kernel < CONE
        reach = radius[cone].max()
        band = (radius > BAND[0] * reach) & (radius <= BAND[1] * reach)
        # Of a half spectrum all planes but the first, and the last of an even side, stand for two.
        counts = torch.full_like(kernel[:1, :1], 2)
        counts[..., 0] = 1
        if geometry.shape[2] % 2 == 0:
            counts[..., -1] = 1
        self._cone, self._well = band * cone * counts, band * (kernel > WELL) * counts

    def amplitudes(self, field: Tensor) -> tuple[float, float]:
        """Root mean power per voxel of ``field`` (i, j, k): in the cone, and away from it.

        White noise has its own standard deviation in both.
        """
        total = self._fade.square().sum()
        if not total > 0:  # a mask all rim
            return 0.0, 0.0
        power = rfftn(field * self._fade).abs().square_().div_(total)
        return tuple(
            float((power * counts).sum().div(counts.sum().clamp(min=1)).sqrt())
            for counts in (self._cone, self._well)
        )


def _radius(geometry: Geometry, like: Tensor) -> Tensor:
    squared = torch.zeros((), dtype=like.dtype, device=like.device)
    for axis, (n, size) in enumerate(zip(geometry.shape, geometry.voxel_size_mm, strict=True)):
        along = [1, 1, 1]
        along[axis] = -1
        k = frequencies(n, size, half=axis == 2, device=torch.device("cpu")).to(like)
        squared = squared + k.square().reshape(along)
    return squared.sqrt_()


def _faded(mask: Tensor, geometry: Geometry) -> Tensor:
    """1 deep in the mask, falling to 0 at its edge."""
    share = mask[None, None].to(torch.float32)
    for axis, (n, size) in enumerate(zip(geometry.shape, geometry.voxel_size_mm, strict=True)):
        reach = min(round(RIM_MM / 2 / size), (n - 1) // 2)
        width = [2 * reach + 1 if a == axis else 1 for a in range(3)]
        share = torch.nn.functional.avg_pool3d(share, width, stride=1, padding=[w // 2 for w in width])
    return (2 * share[0, 0] - 1).clamp_(0, 1).mul_(mask)
