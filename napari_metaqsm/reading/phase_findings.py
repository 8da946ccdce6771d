"""Checks of the stored phase, before anything is made of it."""

from __future__ import annotations

import itertools
import math

import numpy as np

from napari_metaqsm.errors import InputError
from napari_metaqsm.reading.finding import SAMPLED, Check, Evidence, Finding, NotChecked, Severity, thinned
from napari_metaqsm.units import rad_per_ppm

# Of pi; wrapped phase with any noise reaches it.
REACHES = 0.97
# Steps between neighbours of more than this part of the largest possible are wraps, or noise in air.
WRAP_LIKE, WRAPS_AT_LEAST = 0.75, 1e-3
# Side of the blocks that the background's phase is averaged in, and how far it varies over a head: at
# least 0.11 ppm in four real scans; what a homodyne filter leaves reads 0.06 ppm and less. In long echoes
# it turns so often that the mean over the blocks, R, tells more surely.
BLOCK_MM, BACKGROUND_PPM, FLAT = 12.0, 0.06, 0.9
SMALLEST_PLANE_MM = 80.0
# Sum over neighbours in adjacent slices of z conj(z'), and of z z', relative to the sum of |z| |z'|.
OPPOSITE, MIRRORED = -0.3, 0.1
UNEVEN = 0.02  # of the echo spacing
DISAGREE_RAD = 0.3
# Voxels whose neighbours are compared.
_COMPARED = 2_000_000


def scaling(seen: Evidence) -> Finding:
    """Whether the stored values are phase, and fill the circle."""
    name = "Phase scaling"
    try:
        scale = seen.phase_scale
    except InputError as error:
        return Finding(
            name,
            Severity.WRONG,
            "The phase cannot be read",
            "The field is proportional to the phase: in another unit every susceptibility is off by the same "
            "factor, and wraps are not seen as wraps.",
            "Find out which stored value means π and enter it in the Scan section, or export the phase again "
            "without rescaling.",
            str(error),
        )
    reach = []
    for echo in range(len(seen.phase)):
        values = thinned(seen.phase[echo], SAMPLED).astype(np.float32)
        values = np.abs(values[np.isfinite(values)] - np.float32(scale.zero)) % (2 * scale.stored_pi)
        values = np.minimum(values, 2 * scale.stored_pi - values) if scale.zero == 0 else values
        reach.append(float(np.quantile(values, 0.9995)) / scale.stored_pi if values.size else 0.0)
    least = int(np.argmin(reach))
    figure = f"read as {scale.meaning}; echo {least + 1} reaches ±{reach[least]:.2f} π, {REACHES:g} π wanted"
    if reach[least] >= REACHES:
        return Finding(name, Severity.IN_ORDER, f"Phase read as {scale.meaning}", figure=figure)
    limit = 2 * math.pi * reach[least]
    plane = _plane(seen)
    here = seen.radians(least, plane)
    steps = np.abs(np.concatenate([np.diff(here, axis=a).ravel() for a in range(3)]))
    wraps = float(np.mean(steps > WRAP_LIKE * limit))
    figure += f"; {100 * wraps:.2g} % of the steps between neighbours are as large as a wrap"
    if wraps > WRAPS_AT_LEAST:
        return Finding(
            name,
            Severity.WRONG,
            f"Phase rescaled: it wraps at ±{reach[least]:.2f} π",
            "Phase wraps at π and nowhere else. Values rescaled on the way make every susceptibility too "
            "small or too large, and unwrapping leaves steps.",
            f"Enter {scale.stored_pi * reach[least]:.5g} as the stored value of π in the Scan section, or "
            "export the phase again without rescaling.",
            figure,
        )
    return Finding(
        name,
        Severity.CARE,
        f"Phase fills only ±{reach[least]:.2f} π",
        "Wrapped phase with the noise of air around it fills the whole circle. This may be phase masked or "
        "filtered before, a field map in place of phase, or phase in another unit.",
        "Check that the layer is the scanner's own phase, unfiltered, and its stored value of π.",
        figure,
    )


def filtered(seen: Evidence) -> Finding:
    """Whether the background field is still in the phase of the last echo.

    The circular standard deviation over the head of the mean signal of blocks, as a field in ppm.
    """
    name = "Background field in the phase"
    if sorted(seen.extent_mm)[1] < SMALLEST_PLANE_MM:
        raise NotChecked("the volume is a crop, which the background may hardly change across")
    if len(seen.phase) != len(seen.acquisition.echo_times_s):
        raise NotChecked("there is not one echo time for each echo")
    told = seen.once("neighbours", lambda: _all_neighbours(seen))
    if min(t[0] for t in told) < OPPOSITE or max(t[1] - t[0] for t in told) > MIRRORED:
        raise NotChecked("the phase alternates from slice to slice")
    echo = len(seen.phase) - 1
    means = _block_means(seen.signal(echo, _EVERYTHING), seen.geometry.voxel_size_mm)
    resultant = float(np.abs(means.sum()) / max(np.abs(means).sum(), 1e-30))
    per_ppm = rad_per_ppm(seen.acquisition.b0_tesla, seen.acquisition.echo_times_s[echo])
    spread = math.sqrt(-2 * math.log(min(max(resultant, 1e-9), 1.0))) / per_ppm
    figure = (
        f"smooth part of the last echo's phase: agreement R = {resultant:.2f} (under {FLAT:g} wanted) or "
        f"spread {spread:.2g} ppm (over {BACKGROUND_PPM:g} wanted)"
    )
    if resultant < FLAT or spread > BACKGROUND_PPM:
        return Finding(name, Severity.IN_ORDER, "The background field is in the phase", figure=figure)
    return Finding(
        name,
        Severity.WRONG,
        "Filtered phase: the background is gone",
        "A high-pass filter, as scanners apply for SWI, takes the slow part of the tissue's own field too. "
        "Susceptibility of everything larger than a few millimetres, deep gray matter above all, comes out "
        "too low and with dark rims.",
        "Export the phase unfiltered (Siemens: phase of the GRE, not the SWI filtered phase; GE, Philips: "
        "no homodyne or SWI filter). What is lost cannot be computed back.",
        figure,
    )


def slices(seen: Evidence) -> Finding:
    """Whether neighbouring slices agree, or turn by half a circle or mirror their phase in turn."""
    name = "Phase from slice to slice"
    told = seen.once("neighbours", lambda: _all_neighbours(seen))
    same, _, axis = min(told, key=lambda t: t[0])
    mirror_same, mirror, mirror_axis = max(told, key=lambda t: t[1] - t[0])
    difference = mirror - mirror_same
    if same < OPPOSITE:
        what, figure = "turns by half a circle", f"agreement of neighbouring slices {same:.2f} of 1"
    elif difference > MIRRORED:
        axis, what = mirror_axis, "changes its sign"
        figure = f"agreement of neighbouring slices {mirror_same:.2f}, mirrored {mirror:.2f} of 1"
    elif all(abs(t[1] - t[0]) <= MIRRORED for t in told):
        raise NotChecked("the phase varies too little for its sign to be told from slice to slice")
    else:
        figure = f"agreement of neighbouring slices at least {same:.2f} of 1 (over {OPPOSITE:g} wanted)"
        return Finding(name, Severity.IN_ORDER, "The phase runs on from slice to slice", figure=figure)
    return Finding(
        name,
        Severity.WRONG,
        f"The phase {what} with every other slice",
        "Some exports, of GE above all, turn or mirror the phase of every other slice. To the field "
        "it is a step at every slice; nothing that is computed from it means anything.",
        f"Correct every other slice along axis {axis + 1} "
        f"({'add π' if same < OPPOSITE else 'change the sign'}), or export the scan again: from real and "
        "imaginary images, or with the vendor's own phase.",
        figure,
    )


def proportion(seen: Evidence) -> Finding:
    """Whether the phase grows in proportion to the echo time, by its second difference of three echoes."""
    name = "Agreement of the echoes"
    times = seen.acquisition.echo_times_s
    if len(times) < 3 or len(seen.phase) != len(times):
        raise NotChecked("needs three echoes, and an echo time for each")
    gaps = np.diff(times[:3])
    if abs(gaps[1] - gaps[0]) > UNEVEN * gaps.mean():
        raise NotChecked("the first three echoes are not evenly spaced")
    part = _thin(seen.geometry.shape, SAMPLED)
    inside = seen.inside[part]
    if not inside.any():
        raise NotChecked("the mask is empty")
    first, second, third = (seen.radians(echo, part)[inside] for echo in range(3))
    bend = first - 2 * second + third
    bend -= 2 * np.float32(np.pi) * np.rint(bend / np.float32(2 * np.pi))
    typical = float(np.median(np.abs(bend)))
    figure = f"second difference of the first three echoes {typical:.2f} rad; up to {DISAGREE_RAD:g} wanted"
    if typical <= DISAGREE_RAD:
        return Finding(name, Severity.IN_ORDER, "The phase grows with the echo time", figure=figure)
    return Finding(
        name,
        Severity.WRONG,
        "The echoes do not agree",
        "The field makes the phase grow in proportion to the echo time. Here it does not: the echoes are in "
        "another order than their times, the times are wrong, the phase was rescaled or filtered, or the "
        "readout runs to and fro (bipolar) and was not corrected.",
        "Check the echo times and the order of the files. With a bipolar readout, use every other echo or a "
        "corrected phase.",
        figure,
    )


_EVERYTHING = (slice(None),) * 3


def _plane(seen: Evidence) -> tuple[slice, ...]:
    """A slab around the middle of the longest axis, of at most so many voxels as are compared."""
    shape = seen.geometry.shape
    axis = int(np.argmax(shape))
    thick = max(2, min(shape[axis], _COMPARED * shape[axis] // math.prod(shape)))
    start = (shape[axis] - thick) // 2
    return tuple(slice(start, start + thick) if a == axis else slice(None) for a in range(3))


def _thin(shape: tuple[int, ...], count: int) -> tuple[slice, ...]:
    step = max(1, round((math.prod(shape) / count) ** (1 / 3)))
    return (slice(None, None, step),) * 3


def _block_means(values: np.ndarray, size_mm: tuple[float, ...]) -> np.ndarray:
    blocks = [min(n, max(1, round(BLOCK_MM / s))) for n, s in zip(values.shape, size_mm, strict=True)]
    counts = [n // b for n, b in zip(values.shape, blocks, strict=True)]
    whole = values[tuple(slice(n * b) for n, b in zip(counts, blocks, strict=True))]
    return whole.reshape([*itertools.chain(*zip(counts, blocks, strict=True))]).mean(axis=(1, 3, 5))


def _all_neighbours(seen: Evidence) -> list[tuple[float, float, int]]:
    """``_neighbours`` of the first and the last echo along every axis, with the axis."""
    return [(*_neighbours(seen, echo, axis), axis) for echo in {0, len(seen.phase) - 1} for axis in range(3)]


def _neighbours(seen: Evidence, echo: int, axis: int) -> tuple[float, float]:
    """How well neighbours along ``axis`` agree, and how well they would with every other one mirrored."""
    shape = seen.geometry.shape
    step = max(1, math.ceil((math.prod(shape) / SAMPLED) ** 0.5))
    part = tuple(slice(None) if a == axis else slice(None, None, step) for a in range(3))
    values = np.moveaxis(seen.signal(echo, part), axis, 0)
    here, after = values[:-1], values[1:]
    both = float(np.sum(np.abs(here) * np.abs(after))) or 1.0
    return float(np.sum(here * after.conj()).real) / both, float(np.abs(np.sum(here * after))) / both


CHECKS = (
    Check("Phase scaling", ("phase",), scaling),
    Check("Background field in the phase", ("phase", "echo_times_s", "b0_tesla"), filtered),
    Check("Phase from slice to slice", ("phase",), slices),
    Check("Agreement of the echoes", ("phase", "echo_times_s"), proportion),
)
