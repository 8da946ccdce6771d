"""Scans of known susceptibility, made on the fly: a subject, and what one acquisition makes of it.

A subject is susceptibility in a head at some voxel size and B0 direction, with the field that it makes; an
acquisition adds what a real field has besides. Everything is drawn from one generator and computed on its
device. Scans are turned as the network wants them (:mod:`napari_metaqsm.network.conditions`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

from napari_metaqsm.network.conditions import ACROSS_MM, ALONG_MM, TILT_DEGREES, turned
from napari_metaqsm.operators.dipole import dipole_kernel
from napari_metaqsm.operators.fourier import fast_shape, frequencies, irfftn, rfftn
from napari_metaqsm.operators.morphology import eroded
from napari_metaqsm.operators.pad import crop_to, mask_box, pad_to
from napari_metaqsm.scan import Geometry
from napari_metaqsm.simulation.anatomy import FLUID, TISSUES, WHITE, blockwise
from napari_metaqsm.training.shapes import Draw, body, rotation, veins
from napari_metaqsm.training.sources import Head, Map, Sources
from napari_metaqsm.units import rad_per_ppm

# Of a scan that erosion must leave in the mask.
LEAST_SHARE = 0.04


@dataclass(frozen=True)
class Recipe:
    """Between which values, and how often, everything random is drawn; pairs are low and high.

    Parameters
    ----------
    shape : voxels of a scan
    margin_mm : how far around the scan susceptibility goes on
    voxel_size_mm : a fixed voxel size (of a Mesa-QSM), or None for a random one
    across_mm, along_mm, tilt_degrees : random voxel sizes across B0 and along it, and tilts of B0
    smallest_fine_mm : voxels are divided along each axis until they are no longer than this, and averaged
    complex_mean : how often the field is the phase of the mean signal of the fine voxels
    """

    shape: tuple[int, int, int] = (96, 96, 48)
    margin_mm: float = 6.0
    voxel_size_mm: tuple[float, float, float] | None = None
    across_mm: tuple[float, float] = ACROSS_MM
    along_mm: tuple[float, float] = ALONG_MM
    tilt_degrees: float = TILT_DEGREES
    smallest_fine_mm: float = 1.4
    complex_mean: float = 0.33
    # Anatomy
    turn_degrees: float = 20.0
    any_turn: float = 0.2
    scale: tuple[float, float] = (0.85, 1.15)
    warp_mm: float = 4.0
    other_contrast: float = 0.25
    texture_ppm: tuple[float, float] = (0.0, 0.02)
    vein_count: tuple[int, int] = (10, 90)
    vein_ppm: tuple[float, float] = (0.15, 0.45)
    vein_radius_mm: tuple[float, float] = (0.3, 1.2)
    nucleus_count: tuple[int, int] = (0, 16)
    nucleus_ppm: float = 0.1
    lesion: float = 0.5
    lesion_ppm: tuple[float, float] = (0.1, 1.5)
    shape_count: tuple[int, int] = (30, 90)
    # Mask
    erosion_mm: tuple[float, float] = (0.0, 6.0)
    holes: float = 0.3
    # Field
    clean_background: float = 0.6
    mismatch: tuple[float, float] = (0.03, 1.2)
    no_mismatch: float = 0.3
    noise_ppm: tuple[float, float] = (0.0001, 0.003)
    no_noise: float = 0.1
    background_ppm: float = 0.006
    negative: float = 0.2
    # Magnitude
    no_magnitude: float = 0.5


class Subject(NamedTuple):
    """What acquisitions of one subject share, all (i, j, k) on the scan's grid."""

    susceptibility: Tensor  # ppm, in the whole head
    field: Tensor  # ppm, of the sources that the background removal leaves
    mismatches: Tensor  # (m, i, j, k), fields of no susceptibility, of mean absolute value 1
    signal: Tensor  # magnitude without noise, about 1
    mask: Tensor
    regions: Tensor | None  # uint8, labels of the head
    geometry: Geometry


class Example(NamedTuple):
    """One scan for the network, all (i, j, k)."""

    local_field: Tensor  # ppm, zero outside the mask
    mask: Tensor
    magnitude: Tensor | None
    susceptibility: Tensor  # ppm, zero outside the mask
    geometry: Geometry


def random_geometry(recipe: Recipe, draw: Draw) -> Geometry:
    """Of a turned scan: the finer axis across B0 first, all directions of B0 positive."""
    size = recipe.voxel_size_mm
    if size is None:
        across = sorted(draw.uniform(*recipe.across_mm) for _ in range(2))
        if draw.chance(0.5):  # most scans have square pixels
            across[1] = across[0]
        # A third is about as thick as wide, as research scans are.
        thick = across[1] * draw.uniform(0.8, 1.3) if draw.chance(0.33) else draw.uniform(*recipe.along_mm)
        low, high = recipe.along_mm
        size = (*across, min(max(thick, low), high))
    tilt = math.radians(0 if draw.chance(0.4) else draw.uniform(0, recipe.tilt_degrees))
    around = draw.uniform(0, math.pi / 2)
    b0 = (math.sin(tilt) * math.cos(around), math.sin(tilt) * math.sin(around), math.cos(tilt))
    return turned(Geometry(recipe.shape, size, b0))[1]


# ----------------------------------------------------------------------------------- anatomy
class _Anatomy(NamedTuple):
    """Channels on the fine grid around the scan."""

    susceptibility: Tensor
    signal: Tensor
    shift: Tensor  # frequency of tissue that is not susceptibility, about 1
    solid: Tensor  # 1 in tissue, 0 in fluid and outside
    white: Tensor
    brain: Tensor
    regions: Tensor | None


def make_subject(
    sources: Sources, recipe: Recipe, generator: torch.Generator, geometry: Geometry | None = None
) -> Subject:
    """A random subject from any of the sources.

    Parameters
    ----------
    geometry : of the scan, turned; random if None
    """
    draw = Draw(generator)
    geometry = geometry or random_geometry(recipe, draw)
    parts = [math.ceil(size / recipe.smallest_fine_mm) for size in geometry.voxel_size_mm]
    margins = [math.ceil(recipe.margin_mm / size) for size in geometry.voxel_size_mm]
    around = geometry.with_shape([n + 2 * m for n, m in zip(geometry.shape, margins, strict=True)])
    fine = Geometry(
        tuple(n * p for n, p in zip(around.shape, parts, strict=True)),
        tuple(s / p for s, p in zip(geometry.voxel_size_mm, parts, strict=True)),
        geometry.b0_direction,
    )
    anatomy = _draw_bodies(
        _anatomy(sources, recipe, draw, geometry, fine),
        recipe,
        draw,
        fine,
        bool(sources.heads or sources.maps),
    )
    inner = tuple(slice(m, m + n) for m, n in zip(margins, geometry.shape, strict=True))
    mask = _mask(blockwise(anatomy.brain, parts)[inner] > 0.5, recipe, draw, geometry)
    chi = anatomy.susceptibility
    if draw.chance(recipe.clean_background):
        # The background removal has taken the field of all that lies outside the mask.
        within = torch.zeros(around.shape, device=draw.device)
        within[inner] = mask.to(within)
        for axis, part in enumerate(parts):
            within = within.repeat_interleave(part, axis)
        sources_chi = chi * within
    else:
        sources_chi = chi
    if max(parts) > 1 and draw.chance(recipe.complex_mean):
        doubled = [2 * n * p for n, p in zip(geometry.shape, parts, strict=True)]
        field, anisotropy = _fields(sources_chi, anatomy.white, fine, doubled, draw)
        field = _mean_phase(field, anatomy.signal, parts, draw)
        anisotropy = blockwise(anisotropy, parts)
    else:
        doubled = [2 * n for n in geometry.shape]
        field, anisotropy = _fields(
            blockwise(sources_chi, parts), blockwise(anatomy.white, parts), around, doubled, draw
        )
    shift = blockwise(anatomy.shift, parts)
    mismatches = torch.stack(
        [
            anisotropy[inner],
            shift[inner],
            _smooth_noise(geometry, draw.log_uniform(0.7, 2.0), draw),
            _smooth_noise(geometry, draw.log_uniform(2.0, 6.0), draw),
        ]
    )
    mismatches = mismatches - mismatches[:, mask].mean(dim=1)[:, None, None, None]
    mismatches /= mismatches[:, mask].abs().mean(dim=1).clamp_min(1e-6)[:, None, None, None]
    regions = anatomy.regions
    return Subject(
        blockwise(chi, parts)[inner],
        field[inner],
        mismatches,
        blockwise(anatomy.signal, parts)[inner],
        mask,
        None if regions is None else regions[tuple(slice(p // 2, None, p) for p in parts)][inner],
        geometry,
    )


def _anatomy(sources: Sources, recipe: Recipe, draw: Draw, geometry: Geometry, fine: Geometry) -> _Anatomy:
    chosen = draw.integer(0, max(len(sources.heads) + len(sources.maps) - 1, 0))
    if not sources.heads and not sources.maps:
        blank = torch.zeros(fine.shape, device=draw.device)
        return _Anatomy(blank, blank + 1, blank.clone(), blank + 1, blank.clone(), blank + 1, None)
    if chosen < len(sources.heads):
        source: Head | Map = sources.heads[chosen]
        inside = source.brain
        table = _tissue_table(recipe, draw)
    else:
        source = sources.maps[chosen - len(sources.heads)]
        inside = source.susceptibility != 0
    matrix, centre = _pose(inside, source.voxel_size_mm, recipe, draw, geometry)
    places, box = _places(fine, matrix, centre, inside.shape, source.voxel_size_mm, recipe, draw)
    if isinstance(source, Head):
        labels = source.labels[box].long()
        channels = torch.cat([table[:, labels], inside[box][None].float()])
    else:
        chi = _other_contrast(source.susceptibility[box], draw)
        channels = torch.stack([chi, chi * 0 + 1, chi, chi * 0 + 1, (chi < 0).float(), inside[box].float()])
    sampled = grid_sample(channels[None], places[None], align_corners=True)[0]
    chi, signal, shift, solid, white, brain = sampled
    regions = None
    if isinstance(source, Head):
        chi = chi + _texture(fine, recipe, draw) * solid
        shift = shift + 0.3 * _rough(fine, 2.0, draw) * solid
        regions = grid_sample(
            source.labels[box][None, None].float(), places[None], mode="nearest", align_corners=True
        )[0, 0].to(torch.uint8)
    return _Anatomy(chi * brain, signal * brain, shift * brain, solid * brain, white * brain, brain, regions)


def _other_contrast(chi: Tensor, draw: Draw) -> Tensor:
    """A map stronger or weaker, and its strong values more or less so than its weak ones."""
    bent = chi.sign() * 0.1 * (chi.abs() / 0.1) ** draw.uniform(0.8, 1.25)
    return draw.uniform(0.6, 1.6) * bent


def _tissue_table(recipe: Recipe, draw: Draw) -> Tensor:
    """Rows by label: susceptibility, signal, frequency shift, solid, white matter."""
    table = torch.zeros(5, 256)
    realistic = not draw.chance(recipe.other_contrast)
    weighted = draw.chance(0.6)
    echo_time_s = draw.uniform(0.0, 0.03)
    drawn: dict[object, tuple[float, float, float]] = {}
    for label, tissue in TISSUES.items():
        if tissue not in drawn:
            chi = (
                tissue.susceptibility * draw.uniform(0.5, 1.6) + 0.012 * draw.gaussian()
                if realistic
                else draw.uniform(-0.12, 0.2)
            )
            signal = (
                tissue.signal * math.exp(-echo_time_s * tissue.r2star) * draw.uniform(0.9, 1.1)
                if weighted
                else draw.uniform(0.3, 1.3)
            )
            drawn[tissue] = chi, signal, draw.gaussian()
        chi, signal, shift = drawn[tissue]
        # Left and right, and structures of one kind, differ a little.
        chi += 0.006 * draw.gaussian()
        solid, white = float(tissue is not FLUID), float(tissue is WHITE)
        table[:, label] = torch.tensor([chi, signal, shift, solid, white])
    return table.to(draw.device)


def _pose(
    inside: Tensor, size_mm: tuple[float, ...], recipe: Recipe, draw: Draw, geometry: Geometry
) -> tuple[Tensor, Tensor]:
    """Matrix from scan to source, in mm, and the place of the scan's middle in the source, in mm."""
    b0 = torch.tensor(geometry.b0_direction)
    tilt = rotation(torch.linalg.cross(b0, torch.tensor([0.0, 0.0, 1.0])), math.acos(min(float(b0[2]), 1.0)))
    angle = math.pi if draw.chance(recipe.any_turn) else math.radians(recipe.turn_degrees)
    matrix = rotation(draw.vector(), draw.uniform(0, angle)) @ tilt
    scale = torch.tensor(
        [draw.uniform(*recipe.scale) * (1 - 2 * draw.chance(0.5) if a == 0 else 1) for a in range(3)]
    )
    matrix = scale[:, None] * matrix
    centre = []
    reach = matrix.abs() @ torch.tensor(
        [n * s / 2 for n, s in zip(geometry.shape, geometry.voxel_size_mm, strict=True)]
    )
    for side, size, half in zip(mask_box(inside), size_mm, reach.tolist(), strict=True):
        low, high = side.start * size, (side.stop - 1) * size
        slack = max((high - low) / 2 - half, 0) + 5.0
        centre.append((low + high) / 2 + draw.uniform(-slack, slack))
    return matrix, torch.tensor(centre)


def _places(
    fine: Geometry,
    matrix: Tensor,
    centre_mm: Tensor,
    shape: torch.Size,
    size_mm: tuple[float, ...],
    recipe: Recipe,
    draw: Draw,
) -> tuple[Tensor, tuple[slice, ...]]:
    """For ``grid_sample``: where each fine voxel lies in the box of the source that they fill."""
    device = draw.device
    along = [
        (torch.arange(n, device=device) - (n - 1) / 2) * s
        for n, s in zip(fine.shape, fine.voxel_size_mm, strict=True)
    ]
    size = torch.tensor(size_mm, device=device)
    step = (matrix / torch.tensor(size_mm)[:, None]).to(device)
    coarse = [max(round(n * s / 30) + 2, 3) for n, s in zip(fine.shape, fine.voxel_size_mm, strict=True)]
    warp = interpolate(
        (recipe.warp_mm * draw.uniform(0, 1) * draw.normal(1, 3, *coarse)) / size.reshape(1, 3, 1, 1, 1),
        size=fine.shape,
        mode="trilinear",
        align_corners=True,
    )[0]
    places = [
        (
            (centre_mm[a] / size_mm[a]).item()
            + (step[a, 0] * along[0])[:, None, None]
            + (step[a, 1] * along[1])[None, :, None]
            + (step[a, 2] * along[2])[None, None, :]
        ).add(warp[a])
        for a in range(3)
    ]
    box, scaled = [], []
    for place, n in zip(places, shape, strict=True):
        first = min(max(math.floor(float(place.min())), 0), n - 2)
        last = max(min(math.ceil(float(place.max())), n - 1), first + 1)
        box.append(slice(first, last + 1))
        scaled.append((place - first) * (2 / (last - first)) - 1)
    return torch.stack(scaled[::-1], dim=-1), tuple(box)


def _rough(grid: Geometry, length_mm: float, draw: Draw) -> Tensor:
    """Noise smooth over about ``length_mm``, of unit standard deviation."""
    shape = [max(round(n * s / length_mm), 2) for n, s in zip(grid.shape, grid.voxel_size_mm, strict=True)]
    shape = [min(c, n) for c, n in zip(shape, grid.shape, strict=True)]
    noise = interpolate(draw.normal(1, 1, *shape), size=grid.shape, mode="trilinear", align_corners=True)[
        0, 0
    ]
    return noise / noise.std()


def _smooth_noise(grid: Geometry, sigma_mm: float, draw: Draw) -> Tensor:
    """White noise through a Gaussian of ``sigma_mm``."""
    spectrum = rfftn(draw.normal(*grid.shape))
    for axis, (n, size) in enumerate(zip(grid.shape, grid.voxel_size_mm, strict=True)):
        k = frequencies(n, size, half=axis == 2, device=torch.device("cpu"))
        along = [1, 1, 1]
        along[axis] = -1
        spectrum *= torch.exp(-2 * (math.pi * sigma_mm * k) ** 2).float().to(spectrum.device).reshape(along)
    return irfftn(spectrum, grid.shape)


def _texture(fine: Geometry, recipe: Recipe, draw: Draw) -> Tensor:
    return draw.uniform(*recipe.texture_ppm) * _rough(fine, draw.uniform(1.5, 3.0), draw) + draw.uniform(
        *recipe.texture_ppm
    ) * _rough(fine, draw.uniform(5.0, 15.0), draw)


def _draw_bodies(anatomy: _Anatomy, recipe: Recipe, draw: Draw, fine: Geometry, in_a_head: bool) -> _Anatomy:
    """Nuclei, veins and lesions, or geometric shapes where there is no head."""
    extent = [n * s for n, s in zip(fine.shape, fine.voxel_size_mm, strict=True)]
    chi, signal, solid = anatomy.susceptibility, anatomy.signal, anatomy.solid

    def put(value: float, radii_mm: tuple[float, float], dimmed: float) -> None:
        centre = draw.place(extent)
        found = body(fine.shape, fine.voxel_size_mm, centre, draw, radii_mm)
        if found is not None:
            box, filled = found
            filled = filled * anatomy.brain[box]
            chi[box] += filled * (value - chi[box])
            signal[box] *= 1 - dimmed * filled

    if not in_a_head:
        for _ in range(draw.integer(*recipe.shape_count)):
            put(draw.uniform(-0.3, 0.3), (1.5, 12.0), draw.uniform(-0.5, 0.8))
        return anatomy
    for _ in range(draw.integer(*recipe.nucleus_count)):
        put(0.03 + recipe.nucleus_ppm * draw.gaussian(), (2.0, 8.0), draw.uniform(0, 0.4))
    count = draw.integer(*recipe.vein_count)
    starts = (draw.rand(count, 3) - 0.5) * torch.tensor(extent, device=draw.device)
    filled = veins(fine.shape, fine.voxel_size_mm, starts, draw, recipe.vein_radius_mm, (10.0, 45.0))
    filled *= anatomy.brain
    chi += filled * (draw.uniform(*recipe.vein_ppm) - chi)
    signal *= 1 - draw.uniform(0, 0.7) * filled
    solid *= 1 - filled
    if draw.chance(recipe.lesion):
        for _ in range(draw.integer(1, 4)):
            sign = -1 if draw.chance(0.4) else 1
            put(sign * draw.log_uniform(*recipe.lesion_ppm), (1.5, 7.0), draw.uniform(0.2, 0.9))
    return anatomy


# ----------------------------------------------------------------------------------- physics
def _fields(
    chi: Tensor, white: Tensor, grid: Geometry, doubled: Sequence[int], draw: Draw
) -> tuple[Tensor, Tensor]:
    """Field of ``chi``, and that of anisotropy in white matter, which no scalar susceptibility makes.

    The transforms are at least twice as long as the scan along each axis (``doubled``).

    Notes
    -----
    ``F = D X`` and ``F = -(k.b) (k.a) / |k|^2 A``, A the part of the tensor that turns B0 towards a random
    direction a across it (Liu 2010, doi:10.1002/mrm.22482).
    """
    padded = grid.with_shape(fast_shape([max(d, n) for d, n in zip(doubled, grid.shape, strict=True)]))
    kernel = dipole_kernel(padded, like=chi)
    field = crop_to(irfftn(rfftn(pad_to(chi, padded.shape)).mul_(kernel), padded.shape), grid.shape)
    b0 = torch.tensor(padded.b0_direction)
    aside = torch.linalg.cross(b0, draw.vector())
    aside = aside / aside.norm()
    axes = [
        k.reshape([-1 if a == axis else 1 for a in range(3)])
        for axis, k in enumerate(
            frequencies(n, size, half=axis == 2, device=torch.device("cpu")).to(chi)
            for axis, (n, size) in enumerate(zip(padded.shape, padded.voxel_size_mm, strict=True))
        )
    ]
    along, across = (sum(float(v) * k for v, k in zip(vector, axes, strict=True)) for vector in (b0, aside))
    squared = sum(k * k for k in axes)
    squared[0, 0, 0] = 1
    fibres = white * _rough(grid, 12.0, draw)
    spectrum = rfftn(pad_to(fibres, padded.shape)).mul_(along.mul_(across).div_(squared))
    return field, crop_to(irfftn(spectrum, padded.shape), grid.shape)


def _mean_phase(field: Tensor, signal: Tensor, parts: list[int], draw: Draw) -> Tensor:
    """Field whose phase is that of the mean signal of the fine voxels."""
    radians = rad_per_ppm(3.0, draw.uniform(0.005, 0.025))
    middle = blockwise(field, parts)
    for axis, part in enumerate(parts):
        middle = middle.repeat_interleave(part, axis)
    phase = radians * (field - middle)
    real, imaginary = blockwise(signal * phase.cos(), parts), blockwise(signal * phase.sin(), parts)
    return blockwise(field, parts) + torch.atan2(imaginary, real.clamp_min(1e-6)) / radians


def _mask(brain: Tensor, recipe: Recipe, draw: Draw, geometry: Geometry) -> Tensor:
    """The brain eroded, with holes; not eroded where that would leave next to nothing."""
    mask = brain
    radius = draw.uniform(*recipe.erosion_mm)
    reach = [int(radius / size) for size in geometry.voxel_size_mm]
    if max(reach):
        offsets = np.meshgrid(
            *(np.arange(-r, r + 1) * s for r, s in zip(reach, geometry.voxel_size_mm, strict=True)),
            indexing="ij",
        )
        smaller = eroded(mask, sum(o * o for o in offsets) <= radius**2)
        if int(smaller.sum()) > LEAST_SHARE * mask.numel():
            mask = smaller
    if draw.chance(recipe.holes):
        extent = [n * s for n, s in zip(geometry.shape, geometry.voxel_size_mm, strict=True)]
        for _ in range(draw.integer(1, 5)):
            centre = draw.place(extent)
            found = body(geometry.shape, geometry.voxel_size_mm, centre, draw, (1.0, 4.0))
            if found is not None:
                mask = mask.clone()
                mask[found[0]] &= found[1] < 0.5
    if int(mask.sum()) < 100:  # a corner of the head: the whole scan then
        mask = torch.ones_like(mask)
    return mask


def acquire(subject: Subject, recipe: Recipe, generator: torch.Generator) -> Example:
    """One acquisition: mismatch, noise, residual background, sign, magnitude."""
    draw = Draw(generator)
    mask, geometry = subject.mask, subject.geometry
    size = float(subject.field[mask].abs().mean())
    field = subject.field
    if not draw.chance(recipe.no_mismatch):
        weights = draw.rand(len(subject.mismatches)) ** 2
        mixed = torch.einsum("m,mijk->ijk", weights / weights.sum().clamp_min(1e-6), subject.mismatches)
        field = field + size * draw.log_uniform(*recipe.mismatch) * mixed
    signal = subject.signal.clamp_min(0.1)
    if not draw.chance(recipe.no_noise):
        noise = draw.log_uniform(*recipe.noise_ppm)
        field = field + noise * draw.normal(*geometry.shape) / signal
    if draw.chance(0.5):
        field = field + draw.uniform(0, recipe.background_ppm) * _harmonic(geometry, draw)
    sign = -1 if draw.chance(recipe.negative) else 1
    magnitude = None
    if not draw.chance(recipe.no_magnitude):
        bias = torch.exp(0.25 * _rough(geometry, 60.0, draw))
        magnitude = (
            signal * bias + draw.log_uniform(0.005, 0.05) * draw.normal(*geometry.shape)
        ).abs() * mask
    return Example(sign * field * mask, mask, magnitude, sign * subject.susceptibility * mask, geometry)


def _harmonic(geometry: Geometry, draw: Draw) -> Tensor:
    """A random harmonic polynomial of second order, of about one at the ends of the scan."""
    extents = [n * s for n, s in zip(geometry.shape, geometry.voxel_size_mm, strict=True)]
    x, y, z = (
        (torch.linspace(-1, 1, n, device=draw.device) * extent / max(extents)).reshape(
            [-1 if a == axis else 1 for a in range(3)]
        )
        for axis, (n, extent) in enumerate(zip(geometry.shape, extents, strict=True))
    )
    terms = (x, y, z, x * y, x * z, y * z, x * x - y * y, 2 * z * z - x * x - y * y)
    return sum(weight * term for weight, term in zip(draw.normal(len(terms)), terms, strict=True)) / 2
