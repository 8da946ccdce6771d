"""What the weights of Meta-QSM depend on: voxel size, B0 direction, and how far to trust the field.

A scan is first turned so that B0's axis is the last and its direction positive along every axis, and
the finer of the other two axes first. The dipole kernel is the same after that, and the network has one
sixth of the permutations and an eighth of the directions to learn; the others are exact by construction.
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import torch
from torch import Tensor

from napari_metaqsm.operators.dipole import dipole_kernel
from napari_metaqsm.operators.fourier import frequencies, rfftn
from napari_metaqsm.scan import Geometry

# Voxel sizes in mm of turned scans, across B0 and along it, and the tilt of B0, that training draws from.
ACROSS_MM = (0.5, 1.25)
ALONG_MM = (0.5, 4.0)
TILT_DEGREES = 30.0

# |D| below which the field holds almost nothing of the susceptibility.
CONE = 0.05
# Bands of |k|, relative to the highest that the cone reaches on the grid: anatomy, and noise.
BANDS = ((0.15, 0.4), (0.5, 1.0))
# The mask's rim, where the field is cut off, is left out softly.
RIM_MM = 6.0


class Turn(NamedTuple):
    """How a scan is turned for the network."""

    axes: tuple[int, int, int]
    flips: tuple[int, ...]  # of the turned spatial axes, negative, counted from the last

    def apply(self, x: Tensor) -> Tensor:
        """``x`` (..., i, j, k) turned."""
        x = x.movedim([a - 3 for a in self.axes], (-3, -2, -1))
        return x.flip(self.flips) if self.flips else x

    def undo(self, x: Tensor) -> Tensor:
        """Back to the scan's own axes."""
        x = x.flip(self.flips) if self.flips else x
        return x.movedim((-3, -2, -1), [a - 3 for a in self.axes])


def turned(geometry: Geometry) -> tuple[Turn, Geometry]:
    """The turn for a scan of ``geometry``, and its geometry after it."""
    b0, size = geometry.b0_direction, geometry.voxel_size_mm
    last = max(range(3), key=lambda a: (abs(b0[a]), size[a]))
    first, second = sorted({0, 1, 2} - {last}, key=lambda a: (size[a], abs(b0[a])))
    axes = (first, second, last)
    flips = tuple(place - 3 for place, axis in enumerate(axes) if b0[axis] < 0)
    after = geometry.permuted(axes)
    return Turn(axes, flips), dataclasses.replace(after, b0_direction=tuple(map(abs, after.b0_direction)))


class Level(NamedTuple):
    """How much of the field no susceptibility explains, from 0 (none) to 1 (all of it).

    ``mismatch`` is of the frequencies of anatomy: microstructure, anisotropy, background left over.
    ``noise`` is of the highest frequencies.
    """

    mismatch: float
    noise: float

    def calmed(self, calm: float) -> Level:
        """The level to tell the network instead: none at -1, this one at 0, full at 1."""
        return Level(*(r * (1 + calm) if calm < 0 else r + calm * (1 - r) for r in self))


def measure_level(local_field: Tensor, mask: Tensor, geometry: Geometry) -> Level:
    """The level of a local field (i, j, k), from what it holds where a dipole field holds nothing.

    Notes
    -----
    ``F = D X + E``: in the cone ``D = 0`` only E is left. The level of a band is
    ``sqrt(mean |F|^2 in the cone / mean |F|^2 in all directions)``, of the field with its rim faded
    out, since the sharp edge of a mask would spread the anatomy into the cone.
    """
    weight = _faded(mask, geometry)
    field = (local_field - local_field[mask].median()) * weight
    power = rfftn(field).abs().square_()
    kernel = dipole_kernel(geometry, like=local_field)
    radius = torch.zeros((), device=field.device)
    for axis, (n, size) in enumerate(zip(geometry.shape, geometry.voxel_size_mm, strict=True)):
        k = frequencies(n, size, half=axis == 2, device=torch.device("cpu")).to(field)
        along = [1, 1, 1]
        along[axis] = -1
        radius = radius + k.square().reshape(along)
    radius = radius.sqrt_()
    cone = kernel.abs() < CONE
    reach = radius[cone].max()
    found = []
    for low, high in BANDS:
        band = (radius > low * reach) & (radius <= high * reach)
        inside, everywhere = power[band & cone].mean(), power[band].mean()
        ratio = float((inside / everywhere).sqrt()) if everywhere > 0 else 0.0
        found.append(min(ratio, 1.0) if math.isfinite(ratio) else 0.0)
    return Level(*found)


def _faded(mask: Tensor, geometry: Geometry) -> Tensor:
    """1 deep in the mask, falling to 0 at its edge."""
    share = mask[None, None].to(torch.float32)
    for axis, (n, size) in enumerate(zip(geometry.shape, geometry.voxel_size_mm, strict=True)):
        reach = min(round(RIM_MM / 2 / size), (n - 1) // 2)
        width = [2 * reach + 1 if a == axis else 1 for a in range(3)]
        share = torch.nn.functional.avg_pool3d(share, width, stride=1, padding=[w // 2 for w in width])
    share = share[0, 0]
    return (2 * share - 1).clamp_(0, 1).mul_(mask)


# ------------------------------------------------------------------------------------ encoding
CONDITIONS = {"voxel_size": 6, "b0_direction": 6, "level": 4}


def encode(geometry: Geometry, level: Level, conditions: tuple[str, ...]) -> Tensor:
    """Code (n,) float32 of a turned scan: each scalar as cosine and sine, so that its norm is constant."""
    across, second, along = geometry.voxel_size_mm
    b0 = geometry.b0_direction
    # The range of each is that of the trained voxel sizes.
    widest = math.log2(ACROSS_MM[1] / ACROSS_MM[0])
    parts = {
        "voxel_size": [
            *_on_arc(
                math.log2(along / across),
                math.log2(ALONG_MM[0] / ACROSS_MM[1]),
                math.log2(ALONG_MM[1] / ACROSS_MM[0]),
            ),
            *_on_arc(math.log2(second / across), 0.0, widest),
            *_on_arc(
                math.log2(across * second * along) / 3,
                math.log2(ACROSS_MM[0] ** 2 * ALONG_MM[0]) / 3,
                math.log2(ACROSS_MM[1] ** 2 * ALONG_MM[1]) / 3,
            ),
        ],
        # The kernel is even in the direction: a quadratic form of it.
        "b0_direction": [b0[i] * b0[j] for i in range(3) for j in range(i, 3)],
        "level": [*_on_arc(level.mismatch, 0.0, 1.0), *_on_arc(level.noise, 0.0, 1.0)],
    }
    return torch.tensor([value for name in conditions for value in parts[name]], dtype=torch.float32)


def _on_arc(value: float, low: float, high: float) -> tuple[float, float]:
    share = min(max((value - low) / (high - low), -0.2), 1.2)
    return math.cos(math.pi * share / 2), math.sin(math.pi * share / 2)


def outside_trained_range(geometry: Geometry) -> str | None:
    """In words what of a scan lies outside the trained range, with the nearest edge; None if nothing does."""
    _, after = turned(geometry)
    found = []
    for size, (low, high) in zip(after.voxel_size_mm, (ACROSS_MM, ACROSS_MM, ALONG_MM), strict=True):
        nearest = min(max(size, low), high)
        if abs(size - nearest) > 1e-3 * nearest:
            place = "along B0" if (low, high) == ALONG_MM else "across B0"
            found.append(f"voxels of {size:g} mm {place} (nearest trained: {nearest:g} mm)")
    tilt = math.degrees(math.acos(min(after.b0_direction[2], 1.0)))
    if tilt > TILT_DEGREES + 0.5:
        found.append(
            f"B0 {tilt:.0f} degrees off the nearest axis (nearest trained: {TILT_DEGREES:.0f} degrees)"
        )
    return ", ".join(dict.fromkeys(found)) or None
