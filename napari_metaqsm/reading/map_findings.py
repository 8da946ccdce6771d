"""Checks of the susceptibility maps: their sign, what they cover, and what zero means in them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter

from napari_metaqsm.reading.field_findings import steps_of
from napari_metaqsm.reading.finding import Check, Evidence, Finding, NotChecked, Severity

# Voxels nearer to the mask's edge are left out: the field of air and of the edge itself rules there.
INTERIOR_MM = 6.0
# Tails of the maps and of the field, and how far their sum must lie from none for a sign to be told.
TAIL, FIELD_TAIL = 0.01, 0.005
TELLS = 0.15
KEPT = 0.6
_SMOOTH_MM = 8.0
_GRID_VOXELS = 1_500_000
_FEWEST = 500
_WHOLE_HEAD_MM = 80.0


class Interior(NamedTuple):
    """Part of the volume, thinned where it is fine, with the voxels deep in the mask."""

    part: tuple[slice, ...]
    deep: np.ndarray
    size_mm: tuple[float, ...]


def sign(seen: Evidence) -> Finding:
    """Whether paramagnetic is bright, told by three things that turn with the sign.

    Veins, iron and bleeds are strongly positive: the upper tail of the map's values is the longer one. They
    decay fast: what is bright in the map has a higher rank of R2* than what is dark. And air bends the field
    of the lower brain upwards more than downwards: the upper tail of the total field is the longer one.
    """
    name = "Sign of the phase"
    interior = seen.once("interior", lambda: _interior(seen))
    parts, told = [], 0.0
    if seen.maps is not None:
        decay = None if seen.magnitude is None else _decay(seen, interior)
        tails, ranks = [], []
        for chi in seen.maps.values():
            values = chi[interior.part]
            where = interior.deep & (values != 0) & np.isfinite(values)
            if np.count_nonzero(where) < _FEWEST:
                continue
            tails.append(_asymmetry(values[where], FIELD_TAIL))
            if decay is not None:
                ranks.append(_rank_difference(values[where], decay[where]))
        for kind, found in (("tails of χ", tails), ("decay in bright less dark", ranks)):
            if found:
                told += float(np.mean(found))
                parts.append(f"{kind} {np.mean(found):+.2f}")
    if seen.total_field is not None and min(seen.extent_mm) >= _WHOLE_HEAD_MM and not _has_steps(seen):
        values = seen.total_field[interior.part][interior.deep]
        if values.size >= _FEWEST:
            tail = _asymmetry(values[np.isfinite(values)], FIELD_TAIL)
            told += tail
            parts.append(f"tails of the total field {tail:+.2f}")
    if not parts:
        raise NotChecked("needs a map or the total field of a whole head")
    figure = f"{', '.join(parts)}; together {told:+.2f}, over {TELLS:+g} wanted"
    if told > TELLS:
        return Finding(name, Severity.IN_ORDER, "Paramagnetic is bright", figure=figure)
    if told >= -TELLS:
        raise NotChecked(f"neither sign stands out ({figure})")
    return Finding(
        name,
        Severity.WRONG,
        "The sign is probably inverted",
        "Deep gray matter, veins and what decays fast come out dark. They are paramagnetic and should be "
        "bright; with the sign wrong, blood reads as calcium and calcium as blood.",
        "Look whether the deep gray matter and the veins are dark. If so, set the other phase sign in the "
        "Scan section (GE inverts it) and run the chain again. A phantom may do this of itself.",
        figure,
    )


def _has_steps(seen: Evidence) -> bool:
    """Whether steps of whole turns make the tails of the total field."""
    if seen.acquisition.echo_times_s is None or seen.acquisition.b0_tesla is None:
        return False
    return steps_of(seen) is not None


def cover(seen: Evidence) -> Finding:
    """How much of the mask the maps keep."""
    name = "What the maps cover"
    whole = int(np.count_nonzero(seen.mask))
    if whole == 0:
        raise NotChecked("the mask is empty")
    kept = {title: np.count_nonzero(seen.mask & (chi != 0)) / whole for title, chi in seen.maps.items()}
    title = min(kept, key=kept.__getitem__)
    figure = f"{title}: {100 * kept[title]:.0f} % of the mask; at least {100 * KEPT:.0f} % wanted"
    if kept[title] >= KEPT:
        what = f"The maps keep {100 * kept[title]:.0f} % of the mask"
        return Finding(name, Severity.IN_ORDER, what, figure=figure)
    return Finding(
        name,
        Severity.CARE,
        f"A map covers only {100 * kept[title]:.0f} % of the mask",
        "Background removal gives up what lies near the mask's edge. Cortex and surface veins are not in the "
        "map, and a region's mean is that of what is left of it.",
        "Use a smaller radius in the background step, or a method that keeps the edge (PDF, LBV).",
        figure,
    )


def zero(seen: Evidence) -> Finding:
    """Whether the records say what the maps are referenced to."""
    name = "Reference"
    known = {title: seen.records.get(title) for title in seen.maps}
    if not any(known.values()):
        raise NotChecked("nothing is recorded of how the maps were made")
    regions = {title: _region(record or {}) for title, record in known.items()}
    without = [title for title, region in regions.items() if region in (None, "none")]
    named = sorted({str(r) for r in regions.values() if r not in (None, "none")})
    if not without and len(named) == 1:
        return Finding(name, Severity.IN_ORDER, f"Referenced to {named[0]}", figure=f"reference: {named[0]}")
    figure = "; ".join(f"{title}: {region or 'none'}" for title, region in regions.items())
    return Finding(
        name,
        Severity.CARE,
        "No reference region" if without else "Maps have different references",
        "A map is known only up to a constant. Without a common reference, values cannot be compared between "
        "methods, people or papers.",
        "Choose a reference (whole brain or CSF) for all maps.",
        figure,
    )


def _region(record: Mapping[str, Any]) -> str | None:
    """The reference region of a record, whatever its map is called there; one name for the whole brain."""
    about = next(iter((record.get("reference") or {}).values()), None)
    region = None if about is None else about.get("region")
    return "brain" if region == "whole brain" else region


def _interior(seen: Evidence) -> Interior:
    size = seen.geometry.voxel_size_mm
    inside = seen.inside
    occupied = [np.flatnonzero(inside.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    if not occupied[0].size:
        raise NotChecked("the mask is empty")
    counts = [int(o[-1] - o[0] + 1) for o in occupied]
    # The finest axes are thinned first, until few enough voxels are left.
    step = [1, 1, 1]
    while math.prod(n / s for n, s in zip(counts, step, strict=True)) > _GRID_VOXELS:
        step[int(np.argmin([s * n for s, n in zip(size, step, strict=True)]))] += 1
    part = tuple(slice(int(o[0]), int(o[-1]) + 1, n) for o, n in zip(occupied, step, strict=True))
    coarse = tuple(s * n for s, n in zip(size, step, strict=True))
    return Interior(part, distance_transform_edt(inside[part], coarse) > INTERIOR_MM, coarse)


def _decay(seen: Evidence, interior: Interior) -> np.ndarray:
    """What rises with R2*: the logarithm of first over last echo, or of one echo's surroundings over it."""
    first, last = (
        np.nan_to_num(seen.magnitude[echo][interior.part].astype(np.float32), posinf=0, neginf=0)
        for echo in (0, -1)
    )
    if len(seen.magnitude) == 1:
        smooth = [_SMOOTH_MM / s for s in interior.size_mm]
        weight = gaussian_filter(interior.deep.astype(np.float32), smooth, truncate=2.5)
        first = gaussian_filter(last * interior.deep, smooth, truncate=2.5) / np.maximum(weight, 1e-6)
    tiny = np.float32(1e-6) * max(float(first.max()), 1e-30)
    return np.log(np.maximum(first, tiny) / np.maximum(last, tiny))


def _asymmetry(values: np.ndarray, tail: float) -> float:
    """How much longer the upper tail is than the lower, from -1 to 1; it turns with the sign."""
    low, middle, high = (float(q) for q in np.quantile(values, (tail, 0.5, 1 - tail)))
    return 0.0 if high == low else (high + low - 2 * middle) / (high - low)


def _rank_difference(values: np.ndarray, decay: np.ndarray) -> float:
    """Mean rank of the decay, 0 to 1, in the brightest voxels less that in the darkest."""
    low, high = np.quantile(values, (TAIL, 1 - TAIL))
    ordered = np.sort(decay)
    ranks = [
        np.searchsorted(ordered, decay[w]).mean() / len(ordered) for w in (values >= high, values <= low)
    ]
    return float(ranks[0] - ranks[1])


CHECKS = (
    Check("Sign of the phase", (), sign),
    Check("What the maps cover", ("maps", "mask"), cover),
    Check("Reference", ("maps",), zero),
)
