"""Checks of the mask against the head in the magnitude."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.ndimage import binary_fill_holes, distance_transform_edt, label

from napari_metaqsm.reading.finding import Check, Evidence, Finding, NotChecked, Severity, Voxel

# Of an adult's brain with the fluid around it.
SMALLEST_ML, LARGEST_ML, HALF_A_BRAIN_ML = 800.0, 2000.0, 500.0
# Scalp, skull and the fluid beneath it are thinner than this above the ears.
SKULL_MM = 15.0
COVERS, COVERS_HALF = 0.85, 0.6
HOLLOW = 0.10  # of the mask may hold no signal
_GRID_MM = 3.0
_WHOLE_HEAD_MM = 100.0
# From the crown down to where face and skull base begin.
_UPPER_MM = 80.0


class Depth(NamedTuple):
    """The deep upper half of the head, on a grid of about 3 mm, and the mask on it."""

    deep: np.ndarray
    mask: np.ndarray
    step: tuple[int, ...]


def coverage(seen: Evidence) -> Finding:
    """Whether the mask reaches as far as the brain, by its volume and by what lies deep in the head."""
    name = "What the mask covers"
    voxel_ml = math.prod(seen.geometry.voxel_size_mm) / 1000
    volume = np.count_nonzero(seen.mask) * voxel_ml
    if volume == 0:
        return Finding(
            name,
            Severity.WRONG,
            "The mask is empty",
            "Nothing can be computed.",
            "Make the mask again.",
            "0 ml",
        )
    whole = min(seen.extent_mm) >= _WHOLE_HEAD_MM
    figures, part, place = [f"{volume:.0f} ml"], None, None
    if whole:
        figures[0] += f" ({SMALLEST_ML:.0f} to {LARGEST_ML:.0f} ml in adults)"
    if whole and seen.magnitude is not None:
        depth = _depth(seen)
        left_out = depth.deep & ~depth.mask
        if depth.deep.any():
            part = 1 - np.count_nonzero(left_out) / np.count_nonzero(depth.deep)
            figures.append(
                f"{100 * part:.0f} % of the upper head from {SKULL_MM:g} mm of depth on; "
                f"{100 * COVERS:.0f} % wanted"
            )
            place = _middle_of(left_out, depth.step)
    if not whole:
        raise NotChecked(f"the volume does not hold a whole head; the mask is {volume:.0f} ml")
    figure = ", ".join(figures)
    if volume > LARGEST_ML:
        return Finding(
            name,
            Severity.CARE,
            f"The mask is larger than a brain: {volume:.0f} ml",
            "Scalp, bone or air within the mask have no usable phase; background removal spreads their error "
            "into the brain.",
            "Look at the outline of the mask and make it tighter.",
            figure,
        )
    if volume >= SMALLEST_ML and (part is None or part >= COVERS):
        return Finding(name, Severity.IN_ORDER, f"The mask covers {volume:.0f} ml", figure=figure)
    bad = volume < HALF_A_BRAIN_ML or (part is not None and part < COVERS_HALF)
    return Finding(
        name,
        Severity.WRONG if bad else Severity.CARE,
        f"The mask covers too little: {volume:.0f} ml",
        "What lies outside the mask is not mapped, and its field counts as background. Sources near the "
        "mask's edge come out too weak.",
        "Look at the place. Make the mask again with a lower threshold or another method, or erode it less.",
        figure,
        None if part is None or part >= COVERS else place,
    )


def hollow(seen: Evidence) -> Finding:
    """Whether the mask holds voxels that give no signal."""
    name = "Signal in the mask"
    level = seen.dark / 2
    step = max(1, round((seen.mask.size / 1e6) ** (1 / 3)))
    thin = (slice(None, None, step),) * 3
    mask = seen.mask[thin]
    if not mask.any():
        raise NotChecked("the mask is empty")
    without = mask & ~(seen.magnitude[0][thin] > level)
    part = np.count_nonzero(without) / np.count_nonzero(mask)
    figure = f"{100 * part:.1f} % of the mask holds no signal; up to {100 * HOLLOW:.0f} % wanted"
    if part <= HOLLOW:
        return Finding(name, Severity.IN_ORDER, "The mask holds signal", figure=figure)
    return Finding(
        name,
        Severity.CARE,
        f"{100 * part:.0f} % of the mask holds no signal",
        "Without signal the phase is noise. Within the mask it counts as field, and spreads.",
        "Look at the place and make the mask tighter, or leave out bad phase (phase quality).",
        figure,
        _middle_of(without, (step,) * 3),
    )


def _depth(seen: Evidence) -> Depth:
    size = seen.geometry.voxel_size_mm
    step = tuple(max(1, round(_GRID_MM / s)) for s in size)
    thin = tuple(slice(None, None, n) for n in step)
    head = seen.magnitude[0][thin] > seen.dark
    parts, count = label(head)
    if count == 0:
        raise NotChecked("the magnitude shows no head")
    head = binary_fill_holes(parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:])))
    # The border of the image is no skin: nothing beyond it counts as air.
    sampling = [s * n for s, n in zip(size, step, strict=True)]
    deep = distance_transform_edt(head, sampling) > SKULL_MM
    # Above the middle of the head there is neither face nor neck.
    axis, code = next((a, c) for a, c in enumerate(seen.geometry.orientation) if c in "SI")
    planes = np.flatnonzero(head.any(axis=tuple(a for a in range(3) if a != axis)))
    top, low = (planes[-1], planes[0]) if code == "S" else (planes[0], planes[-1])
    middle = top + (1 if code == "I" else -1) * min(
        abs(int(top) - int(low)), round(_UPPER_MM / sampling[axis])
    )
    upper = np.zeros(head.shape[axis], bool)
    upper[min(middle, top) : max(middle, top) + 1] = True
    deep &= np.expand_dims(upper, tuple(a for a in range(3) if a != axis))
    return Depth(deep, seen.mask[thin], step)


def _middle_of(where: np.ndarray, step: tuple[int, ...]) -> Voxel | None:
    """The voxel of the largest part of ``where`` that lies deepest in it, on the full grid."""
    parts, count = label(where)
    if count == 0:
        return None
    largest = parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
    deepest = np.unravel_index(
        np.argmax(distance_transform_edt(np.pad(largest, 1))), [n + 2 for n in where.shape]
    )
    return tuple(int((i - 1) * n) for i, n in zip(deepest, step, strict=True))


CHECKS = (
    Check("What the mask covers", ("mask",), coverage),
    Check("Signal in the mask", ("mask", "magnitude"), hollow),
)
