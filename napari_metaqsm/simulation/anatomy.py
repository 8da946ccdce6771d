"""From a map of tissue labels to what a scanner sees of the head: susceptibility, signal and decay.

Susceptibilities, in ppm, of air, cerebrospinal fluid, cortex, white matter and bone are those of the
head phantom of the second reconstruction challenge (Marques et al. 2021, doi:10.1002/mrm.28716). Deep
gray matter lies within what is measured in healthy adults (Li et al. 2011,
doi:10.1016/j.neuroimage.2010.11.088; Deistung et al. 2013, doi:10.1016/j.neuroimage.2012.09.055). R2* at
3 T of pallidum, cortex and white matter is R2 + R2' of Gelman et al. 1999 (Radiology 210:759-767); other
deep gray matter is set between them in the order of its iron. Signals are relative, of a gradient echo
with little T1 weighting; those of fluid, cortex and white matter are their water contents.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.ndimage import binary_fill_holes, distance_transform_edt
from torch import Tensor

from napari_metaqsm.operators.fourier import frequencies, multiply_spectrum
from napari_metaqsm.scan import Geometry, Triple
from napari_metaqsm.simulation.shapes import cylinder, sphere


class Tissue(NamedTuple):
    """What a voxel of one tissue is made of."""

    susceptibility: float  # ppm, relative to water
    signal: float  # at echo time 0, fluid = 1
    r2star: float  # 1/s at 3 T


AIR = Tissue(9.2, 0.0, 0.0)
FLUID = Tissue(0.019, 1.0, 6.0)
CORTEX = Tissue(0.020, 0.83, 18.0)
WHITE = Tissue(-0.030, 0.70, 22.0)
THALAMUS = Tissue(0.010, 0.76, 22.0)
CAUDATE = Tissue(0.055, 0.78, 25.0)
PUTAMEN = Tissue(0.070, 0.76, 27.0)
PALLIDUM = Tissue(0.150, 0.68, 38.0)
VENTRAL = Tissue(0.050, 0.72, 28.0)  # holds the iron-rich nuclei of the midbrain
SOFT = Tissue(0.0, 0.60, 35.0)
BONE = Tissue(-2.1, 0.06, 200.0)
BLOOD = Tissue(0.30, 0.50, 50.0)  # venous
CALCIFICATION = Tissue(-0.30, 0.50, 60.0)
BLEED = Tissue(0.80, 0.25, 120.0)

# FreeSurfer's numbers, left and right; 127, 129 and 200 as in resources/samples/labels.
TISSUES: dict[int, Tissue] = {
    **dict.fromkeys((2, 41, 7, 46, 16, 25, 57, 85, 126, 136, 137, 163, 164), WHITE),
    **dict.fromkeys((3, 42, 8, 47, 17, 53, 18, 54, 26, 58), CORTEX),
    **dict.fromkeys((4, 43, 5, 44, 14, 15, 24), FLUID),
    **dict.fromkeys((10, 49), THALAMUS),
    **dict.fromkeys((11, 50), CAUDATE),
    **dict.fromkeys((12, 51), PUTAMEN),
    **dict.fromkeys((13, 52), PALLIDUM),
    **dict.fromkeys((28, 60), VENTRAL),
    **dict.fromkeys((30, 62, 200), BLOOD),
    127: SOFT,
    129: BONE,
}
OUTSIDE_BRAIN = (0, 24, 126, 127, 129, 200)
DEEP_WHITE = (2, 41)

# Fluctuation of the susceptibility within tissue: standard deviation in ppm by correlation length in mm.
TEXTURE_PPM = {1.5: 0.006, 6.0: 0.008}
SULCUS_MM = 4.0
VEINS = 30
LESION_DEPTH_MM = 12.0


class Anatomy(NamedTuple):
    """A head on a grid (i, j, k), float32."""

    susceptibility: Tensor  # ppm, of the brain; zero outside the mask
    surroundings: Tensor  # ppm relative to air, of all else
    signal: Tensor
    r2star: Tensor  # 1/s
    mask: Tensor  # bool


def anatomy(
    labels: np.ndarray, label_size_mm: Triple, grid: Geometry, coarse: Triple, generator: torch.Generator
) -> Anatomy:
    """The head of ``labels`` on ``grid``, both with one middle, with veins and two lesions.

    Parameters
    ----------
    labels : (i, j, k) integers, keys of ``TISSUES`` and 0 for air
    label_size_mm : voxel size of ``labels``
    grid : where the head is wanted
    coarse : three counts; the mask is the same within each block of as many voxels, which are later
        averaged into one
    generator : draws texture, veins and the places of the lesions
    """
    brain = brain_mask(labels, label_size_mm)
    table = np.zeros((max(TISSUES) + 1, 3), np.float32)
    for label, tissue in TISSUES.items():
        table[label] = tissue
    susceptibility, signal, r2star = (torch.from_numpy(column[labels]) for column in table.T)
    solid = torch.from_numpy(brain & ~np.isin(labels, [n for n, t in TISSUES.items() if t is FLUID]))
    for length_mm, strength in TEXTURE_PPM.items():
        susceptibility += strength * _texture(labels.shape, label_size_mm, length_mm, generator) * solid
    inside = torch.from_numpy(brain)
    # Air, all around, is the medium in which the head lies: the brain is one uniform body there, on
    # which its own susceptibility comes as a perturbation.
    body = torch.from_numpy(labels != 0)
    surroundings = torch.where(body, torch.where(inside, 0.0, susceptibility) - AIR.susceptibility, 0.0)

    def resample(values: Tensor) -> Tensor:
        return resampled(values, label_size_mm, grid)

    part = resample(inside.float())
    mask = blockwise(part, coarse) > 0.5
    for count, axis in zip(coarse, range(3), strict=True):
        mask = mask.repeat_interleave(int(count), axis)
    # The mask's rim takes the brain's own value, and nothing of the bone beside it.
    own = resample(susceptibility * inside) / part.clamp_min(0.1) * mask
    head = Anatomy(own, resample(surroundings), resample(signal), resample(r2star), mask)
    deep, box = np.isin(labels, DEEP_WHITE), _box(brain)
    deep[box] &= distance_transform_edt(brain[box], label_size_mm) > LESION_DEPTH_MM
    _draw_veins(head, grid, _places(brain, label_size_mm, VEINS, generator), generator)
    for tissue, radius_mm, place in zip(
        (CALCIFICATION, BLEED), (3.0, 3.5), _places(deep, label_size_mm, 2, generator), strict=True
    ):
        box, part, centre = _part(grid, place, radius_mm)
        _blend(head, box, sphere(part, radius_mm, centre), tissue)
    return head


def brain_mask(labels: np.ndarray, label_size_mm: Triple) -> np.ndarray:
    """The brain with its ventricles and the fluid in its sulci, bool."""
    mask = ~np.isin(labels, OUTSIDE_BRAIN)
    box = _box(mask, [1 + int(SULCUS_MM / size) for size in label_size_mm])
    tissue = mask[box]
    grown = distance_transform_edt(~tissue, label_size_mm) <= SULCUS_MM
    closed = (distance_transform_edt(grown, label_size_mm) > SULCUS_MM) | tissue
    mask[box] = binary_fill_holes(closed) & ~np.isin(labels[box], (0, 127, 129))
    return mask


def _box(mask: np.ndarray, margins: Sequence[int] = (1, 1, 1)) -> tuple[slice, ...]:
    """The box that the mask fills, with a margin around it where the array has one."""
    sides = [np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    return tuple(slice(max(s[0] - m, 0), s[-1] + m + 1) for s, m in zip(sides, margins, strict=True))


def resampled(values: Tensor, size_mm: Triple, grid: Geometry) -> Tensor:
    """Mean over each voxel of ``grid`` of ``values``, linear between voxel middles; one middle for both."""
    for axis in range(3):
        weights = _voxel_weights(
            values.shape[axis], size_mm[axis], grid.shape[axis], grid.voxel_size_mm[axis]
        )
        values = torch.tensordot(weights.to(values), values, dims=([1], [axis])).movedim(0, axis)
    return values.contiguous()


def blockwise(values: Tensor, counts: Triple) -> Tensor:
    """Mean (…, i, j, k) over blocks of as many voxels along each axis."""
    shape = list(values.shape[:-3])
    for n, count in zip(values.shape[-3:], counts, strict=True):
        shape += [n // count, count]
    return values.reshape(shape).mean(dim=(-5, -3, -1))


def _voxel_weights(n_in: int, size_in: float, n_out: int, size_out: float) -> Tensor:
    """(out, in): integral over each wide output voxel of the hat around each input voxel's middle."""
    places_in = (torch.arange(n_in, dtype=torch.float64) - (n_in - 1) / 2) * size_in
    places_out = (torch.arange(n_out, dtype=torch.float64) - (n_out - 1) / 2) * size_out

    def hat_integral(x: Tensor) -> Tensor:
        x = (x / size_in).clamp(-1, 1)
        return torch.where(x < 0, (x + 1) ** 2 / 2, 1 - (1 - x) ** 2 / 2)

    ends = places_out[:, None] - places_in
    return (hat_integral(ends + size_out / 2) - hat_integral(ends - size_out / 2)) * size_in / size_out


def _texture(shape: tuple[int, ...], size_mm: Triple, length_mm: float, generator: torch.Generator) -> Tensor:
    """Gaussian noise smooth over ``length_mm``, of unit standard deviation."""
    squared = torch.zeros(())
    for axis, (n, size) in enumerate(zip(shape, size_mm, strict=True)):
        k = frequencies(n, size, half=axis == 2, device=torch.device("cpu"))
        along = [1, 1, 1]
        along[axis] = -1
        squared = squared + (k**2).reshape(along)
    smooth = multiply_spectrum(
        torch.randn(shape, generator=generator), torch.exp(-2 * (torch.pi * length_mm) ** 2 * squared).float()
    )
    return smooth / smooth.std()


def _places(inside: np.ndarray, size_mm: Triple, count: int, generator: torch.Generator) -> list[Triple]:
    """Random places inside, in mm from the middle of the array."""
    candidates = np.argwhere(inside)
    chosen = torch.randint(len(candidates), (count,), generator=generator)
    middle = (np.array(inside.shape) - 1) / 2
    return [tuple((candidates[i] - middle) * size_mm) for i in chosen]


def _draw_veins(head: Anatomy, grid: Geometry, places: list[Triple], generator: torch.Generator) -> None:
    for place in places:
        axis = torch.randn(3, generator=generator).tolist()
        radius_mm, length_mm = (torch.rand(2, generator=generator) * torch.tensor([0.6, 20.0])).tolist()
        radius_mm, length_mm = radius_mm + 0.5, length_mm + 15
        box, part, centre = _part(grid, place, length_mm / 2 + radius_mm)
        _blend(head, box, cylinder(part, radius_mm, axis, centre, length_mm), BLOOD)


def _part(grid: Geometry, place: Triple, reach_mm: float) -> tuple[tuple[slice, ...], Geometry, Triple]:
    """The box of ``grid`` within reach of a place: slices, geometry, and the place from its middle."""
    box, centre = [], []
    for n, size, at in zip(grid.shape, grid.voxel_size_mm, place, strict=True):
        middle = (n - 1) / 2
        first = max(int(middle + (at - reach_mm) / size) - 1, 0)
        last = min(int(middle + (at + reach_mm) / size) + 2, n - 1)
        box.append(slice(first, last + 1))
        centre.append(at - ((first + last) / 2 - middle) * size)
    return tuple(box), grid.with_shape([s.stop - s.start for s in box]), tuple(centre)


def _blend(head: Anatomy, box: tuple[slice, ...], filled: Tensor, tissue: Tissue) -> None:
    filled = filled * head.mask[box]
    for values, value in zip((head.susceptibility, head.signal, head.r2star), tissue, strict=True):
        values[box] += filled * (value - values[box])
