"""Checks of the values as they are stored: numbers that are none, and magnitude that was cut off."""

from __future__ import annotations

import numpy as np

from napari_metaqsm.reading.finding import Check, Evidence, Finding, NotChecked, Severity, Voxel

# Of the voxels that hold signal.
CLIPPED_PART, CLIPPED_VOXELS = 1e-3, 50
_ARRAYS = ("phase", "magnitude", "total_field", "local_field", "noise")


def values(seen: Evidence) -> Finding:
    """Whether every value is a number."""
    name = "Values"
    named = {n.replace("_", " "): getattr(seen, n) for n in _ARRAYS}
    named |= {f"map {title}": chi for title, chi in (seen.maps or {}).items()}
    named = {n: a for n, a in named.items() if a is not None}
    if not named:
        raise NotChecked("there is no array to look at")
    broken = {n: where for n, a in named.items() if (where := _not_finite(a)) is not None}
    if not broken:
        figure = "no NaN and no infinite value"
        return Finding(name, Severity.IN_ORDER, "All values are numbers", figure=figure)
    inside = {n: w if seen.mask is None else w & seen.mask for n, w in broken.items()}
    counting = {n: int(w.sum()) for n, w in inside.items() if w.any()}
    place: Voxel | None = None
    if counting:
        place = tuple(int(i) for i in np.argwhere(inside[next(iter(counting))])[0])
    where = "the volume" if seen.mask is None else "the mask"
    figure = ", ".join(
        f"{n}: {int(w.sum())} not finite, {counting.get(n, 0)} in {where}" for n, w in broken.items()
    )
    return Finding(
        name,
        Severity.WRONG if counting else Severity.CARE,
        f"NaN or infinite values in {where}" if counting else "NaN or infinite values outside the mask",
        "One value that is no number spreads through a Fourier transform to every other. Outside the mask "
        "they are set to zero; inside nothing can be computed.",
        "Leave these voxels out of the mask, or repair the file.",
        figure,
        place,
    )


def clipped(seen: Evidence) -> Finding:
    """Whether the brightest voxels all have the same value."""
    name = "Saturated magnitude"
    first = seen.magnitude[0]
    head = first > seen.dark
    top = np.nanmax(first)
    bright = first == top
    count = int(np.count_nonzero(bright))
    part = count / max(1, int(np.count_nonzero(head)))
    figure = (
        f"{count} voxels, {100 * part:.2g} % of those with signal, have the largest value {top:g}; up to "
        f"{100 * CLIPPED_PART:g} % wanted"
    )
    if count <= CLIPPED_VOXELS or part <= CLIPPED_PART:
        return Finding(name, Severity.IN_ORDER, "Magnitude not saturated", figure=figure)
    places = np.argwhere(bright)
    return Finding(
        name,
        Severity.CARE,
        "The magnitude is saturated",
        "Where the receiver or the export cut the signal off, the phase is bent too, and weights and decay "
        "computed from the magnitude are wrong.",
        "Look at the place. Export the magnitude again with its full range; if the raw data are cut off, the "
        "receiver gain was too high.",
        figure,
        tuple(int(i) for i in places[len(places) // 2]),
    )


def _not_finite(array: np.ndarray) -> np.ndarray | None:
    """(i, j, k) bool: where any volume of ``array`` is not finite; None where there is no such voxel."""
    # The extremes of an array with NaN are NaN: two fast passes and no temporary.
    if np.isfinite(array.min()) and np.isfinite(array.max()):
        return None
    bad = ~np.isfinite(array)
    return bad if bad.ndim == 3 else bad.any(axis=0)


CHECKS = (
    Check("Values", (), values),
    Check("Saturated magnitude", ("magnitude",), clipped),
)
