"""Random bodies drawn into volumes: lesions and other shapes, and veins."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from napari_metaqsm.scan import Triple


class Draw:
    """Random numbers of one generator, on its device; single ones never wait for it."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator
        self.device = generator.device
        self._scalars = generator
        if generator.device.type != "cpu":
            seed = torch.randint(2**62, (), generator=generator, device=generator.device)
            self._scalars = torch.Generator().manual_seed(int(seed))

    def uniform(self, low: float, high: float) -> float:
        """One number between ``low`` and ``high``."""
        return low + (high - low) * float(torch.rand((), generator=self._scalars))

    def log_uniform(self, low: float, high: float) -> float:
        """One number whose logarithm is uniform."""
        return math.exp(self.uniform(math.log(low), math.log(high)))

    def chance(self, probability: float) -> bool:
        """True with ``probability``."""
        return self.uniform(0, 1) < probability

    def integer(self, low: int, high: int) -> int:
        """One of ``low`` to ``high``, both possible."""
        return min(int(self.uniform(low, high + 1)), high)

    def gaussian(self) -> float:
        """One standard normal number."""
        return float(torch.randn((), generator=self._scalars))

    def vector(self) -> Tensor:
        """A random direction of any length, (3,), on the CPU."""
        return torch.randn(3, generator=self._scalars)

    def place(self, extent_mm: Sequence[float]) -> Triple:
        """A place in a box of that extent, in mm from its middle."""
        return tuple(length * self.uniform(-0.5, 0.5) for length in extent_mm)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers."""
        return torch.randn(shape, generator=self.generator, device=self.device)

    def rand(self, *shape: int) -> Tensor:
        """Numbers uniform in [0, 1)."""
        return torch.rand(shape, generator=self.generator, device=self.device)


def rotation(axis: Tensor, angle: float) -> Tensor:
    """Matrix (3, 3) of a rotation around ``axis`` (3,) by ``angle`` in radians (Rodrigues)."""
    x, y, z = (axis / axis.norm().clamp_min(1e-9)).tolist()
    cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float32)
    return torch.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * (cross @ cross)


def body(
    shape: Sequence[int],
    size_mm: Triple,
    centre_mm: Sequence[float],
    draw: Draw,
    radii_mm: tuple[float, float],
) -> tuple[tuple[slice, ...], Tensor] | None:
    """A random ellipsoid, sphere, cuboid or cylinder, turned at random, its edge one voxel wide.

    Parameters
    ----------
    shape, size_mm : of the volume; positions are in mm from its middle
    radii_mm : between which each of its half sides lies

    Returns
    -------
    the box that holds it and how far (0 to 1) it fills each of its voxels; None where it lies outside
    """
    kind = draw.integer(0, 3)
    half = [draw.log_uniform(*radii_mm) for _ in range(3)]
    if kind == 1:
        half = half[:1] * 3
    matrix = rotation(draw.vector(), draw.uniform(0, math.pi)).to(draw.device)
    reach = math.hypot(*half) + max(size_mm)
    box, along = [], []
    for n, size, centre in zip(shape, size_mm, centre_mm, strict=True):
        middle = (n - 1) / 2 + centre / size
        first, last = max(math.floor(middle - reach / size), 0), min(math.ceil(middle + reach / size), n - 1)
        if last < first:
            return None
        box.append(slice(first, last + 1))
        along.append((torch.arange(first, last + 1, device=draw.device) - middle) * size)
    offsets = torch.stack(torch.meshgrid(*along, indexing="ij"))
    x, y, z = torch.einsum("ab,bijk->aijk", matrix, offsets) / torch.tensor(half, device=draw.device).reshape(
        3, 1, 1, 1
    )
    if kind <= 1:
        radius = (x * x + y * y + z * z).sqrt()
    elif kind == 2:
        radius = torch.maximum(torch.maximum(x.abs(), y.abs()), z.abs())
    else:
        radius = torch.maximum((x * x + y * y).sqrt(), z.abs())
    edge = math.prod(size_mm) ** (1 / 3) / min(half)
    return tuple(box), (0.5 + (1 - radius) / edge).clamp_(0, 1)


# A vein is filled with points this far apart, each of which takes its share of the voxel it lies in.
SPACING_MM = 0.25


def veins(
    shape: Sequence[int],
    size_mm: Triple,
    starts_mm: Tensor,
    draw: Draw,
    radii_mm: tuple[float, float],
    lengths_mm: tuple[float, float],
) -> Tensor:
    """How far (0 to 1) curved tubes from ``starts_mm`` (n, 3) fill each voxel of a volume (i, j, k)."""
    count = len(starts_mm)
    radius = torch.exp(math.log(radii_mm[0]) + math.log(radii_mm[1] / radii_mm[0]) * draw.rand(count, 1, 1))
    length = lengths_mm[0] + (lengths_mm[1] - lengths_mm[0]) * draw.rand(count, 1, 1)
    steps = math.ceil(lengths_mm[1] / SPACING_MM)
    across = 2 * math.ceil(radii_mm[1] / SPACING_MM) + 1
    # A direction that turns slowly, and two across it.
    t = torch.linspace(-1, 1, steps, device=draw.device)[None, :, None]
    direction = (
        draw.normal(count, 1, 3) + 0.6 * t * draw.normal(count, 1, 3) + 0.4 * t**2 * draw.normal(count, 1, 3)
    )
    direction = direction / direction.norm(dim=-1, keepdim=True)
    spine = starts_mm[:, None] + torch.cumsum(direction, dim=1) * (length / steps)
    first = torch.linalg.cross(direction, draw.normal(count, 1, 3).expand_as(direction))
    first = first / first.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    second = torch.linalg.cross(direction, first)
    offsets = torch.linspace(-1, 1, across, device=draw.device)
    u, v = (o.flatten() for o in torch.meshgrid(offsets, offsets, indexing="ij"))
    inside = u * u + v * v <= 1
    u, v = u[inside], v[inside]
    points = spine[:, :, None] + radius[..., None] * (
        u[:, None] * first[:, :, None] + v[:, None] * second[:, :, None]
    )
    share = math.pi * radius**2 * (length / steps) / len(u) / math.prod(size_mm)
    size = torch.tensor(size_mm, device=draw.device)
    middle = (torch.tensor(list(shape), device=draw.device) - 1) / 2
    place = torch.round(points / size + middle).long()
    limits = torch.tensor(list(shape), device=draw.device)
    there = ((place >= 0) & (place < limits)).all(dim=-1)
    flat = (place[..., 0] * shape[1] + place[..., 1]) * shape[2] + place[..., 2]
    filled = torch.zeros(math.prod(shape), device=draw.device)
    filled.index_add_(0, flat[there], share.expand(flat.shape)[there])
    return filled.clamp_(max=1).reshape(tuple(shape))
