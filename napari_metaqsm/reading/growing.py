"""The region of a spot: grown from the strongest voxel near a click, and what lies around it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.ndimage

from napari_metaqsm.errors import InputError
from napari_metaqsm.reading.study import Study

# The neighbourhood reaches so far beyond the region, and a voxel's longest side farther.
SHELL_MM = 5.0
# Voxels of the neighbourhood farther from its median than so many SDs are other spots.
STRONG_SDS = 3.0
MEDIAN_TO_SD = 1.4826  # of the absolute value of a Gaussian variable

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Grown:
    """A region in a box around it, as bool, with the values of the lead map and where that is known.

    ``box`` is cut out of the study and reaches as far as the neighbourhood. ``base`` is the median (ppm)
    that contrast is counted from, ``reaches_limit`` says that the region would go on beyond its largest
    radius.
    """

    lead: str
    box: Box
    values: np.ndarray
    known: np.ndarray
    region: np.ndarray
    peak: tuple[int, int, int]
    sign: int
    base: float
    reaches_limit: bool


def distance2_mm2(shape: Sequence[int], voxel: Sequence[int], size_mm: Sequence[float]) -> np.ndarray:
    """Squared distance (mm²) of each voxel's middle from that of ``voxel``."""
    axes = [((np.arange(n) - v) * s) ** 2 for n, v, s in zip(shape, voxel, size_mm, strict=True)]
    return axes[0][:, None, None] + axes[1][:, None] + axes[2]


def grow(
    study: Study,
    clicked: tuple[int, ...],
    lead: str,
    search_mm: float,
    radius_mm: float,
) -> Grown:
    """The region of the spot at ``clicked``; :func:`~napari_metaqsm.reading.spots.probe` gives the rule.

    Raises
    ------
    InputError
        When the lead map is not known near the click, or is the same everywhere.
    """
    size = study.geometry.voxel_size_mm
    # A voxel more than the neighbourhood of the largest region needs, for whole voxels are counted.
    box = _around(clicked, clicked, search_mm + radius_mm + SHELL_MM + 2 * max(size), study)
    values = np.asarray(study.maps[lead][box], np.float32)
    known = (values != 0) & np.isfinite(values)
    middle = tuple(v - s.start for v, s in zip(clicked, box, strict=True))
    distance2 = distance2_mm2(values.shape, middle, size)
    near = known & (distance2 <= search_mm**2)
    if not near.any():
        raise InputError(
            f"{lead} is not known within {search_mm:g} mm of voxel {clicked}; click inside the map"
        )
    nearby = values[known & (distance2 <= (radius_mm + SHELL_MM) ** 2)]
    base = float(np.median(nearby))
    spread = MEDIAN_TO_SD * float(np.median(np.abs(nearby - base)))
    contrast = values - np.float32(base)
    here = float(contrast[middle]) if known[middle] else 0.0
    strongest = np.where(near, np.abs(contrast), -1).argmax()
    told = here if abs(here) > spread else float(contrast.flat[strongest])
    sign = 1 if told >= 0 else -1
    height = contrast if sign > 0 else -contrast
    peak = tuple(int(v) for v in np.unravel_index(np.where(near, height, -np.inf).argmax(), values.shape))
    if height[peak] <= 0:
        raise InputError(f"{lead} is flat around voxel {clicked}; there is nothing to grow a region from")
    from_peak2 = distance2_mm2(values.shape, peak, size)
    strong = known & (height > height[peak] / 2)
    within = from_peak2 <= radius_mm**2
    labels, _ = scipy.ndimage.label(strong & within)
    region = labels == labels[peak]
    # It goes on beyond the limit where a strong voxel outside touches it.
    beyond = scipy.ndimage.binary_dilation(region) & strong & ~within
    top = np.where(region, height, -np.inf).argmax()
    peak = tuple(int(v) for v in np.unravel_index(top, values.shape))
    # What is measured next needs the region and its neighbourhood alone.
    places = np.argwhere(region)
    start = [s.start for s in box]
    around = _around(places.min(0) + start, places.max(0) + start, SHELL_MM + max(size), study)
    inner = tuple(slice(a.start - s, a.stop - s) for a, s in zip(around, start, strict=True))
    peak = tuple(p - i.start for p, i in zip(peak, inner, strict=True))
    limit = bool(beyond.any())
    return Grown(lead, around, values[inner], known[inner], region[inner], peak, sign, base, limit)


def _around(first: Sequence[int], last: Sequence[int], reach_mm: float, study: Study) -> Box:
    """The part of the grid within ``reach_mm`` of the voxels from ``first`` to ``last`` along each axis."""
    ends = zip(first, last, study.geometry.voxel_size_mm, study.geometry.shape, strict=True)
    return tuple(
        slice(int(max(a - math.ceil(reach_mm / s), 0)), int(min(b + math.ceil(reach_mm / s) + 1, n)))
        for a, b, s, n in ends
    )


def neighbourhood(grown: Grown, size_mm: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """The shell around the region that it is compared with, and the strong voxels left out of it."""
    near = scipy.ndimage.binary_dilation(grown.region, np.ones((3, 3, 3), bool))
    distance = scipy.ndimage.distance_transform_edt(~grown.region, sampling=size_mm)
    shell = grown.known & ~near & (distance <= SHELL_MM + max(size_mm))
    if not shell.any():
        return shell, shell
    values = grown.values[shell]
    median = np.median(values)
    limit = STRONG_SDS * MEDIAN_TO_SD * np.median(np.abs(values - median))
    strong = shell & (np.abs(grown.values - median) > limit)
    return shell & ~strong, strong
