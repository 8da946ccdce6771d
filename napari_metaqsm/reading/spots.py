"""Lesion probe: a region grown around a click, measured on every map, and what its sign may mean."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from napari_metaqsm.errors import InputError
from napari_metaqsm.reading.growing import Grown, distance2_mm2, grow, neighbourhood
from napari_metaqsm.reading.study import Study
from napari_metaqsm.scan import turn

# The strongest voxel is looked for so far from the click.
SEARCH_MM = 3.0
# A region ends so far from its peak; a larger lesion is a region to draw.
RADIUS_MM = 10.0
# Neighbouring values of a map are alike: at least so many voxels count as one, 2 along each axis.
FEWEST_ALIKE = 8.0
# Root mean square of the inverse dipole kernel, its smallest values taken as 0.2: how an inversion
# that holds nothing back enlarges the field's noise.
NOISE_GAIN = 4.0
# Of the median absolute deviation, for a normal distribution's standard deviation.
ROBUST_SD = 1.4826
# What the sign needs; see ``probe`` for how often noise alone reaches it.
CLEAR_Z = 5.0
PROBABLE_Z = 4.0
CLEAR_CNR = 3.0
PROBABLE_CNR = 2.0
# Of surroundings without any spread, as in a simulation.
_LARGEST_Z = 1000.0
FEWEST_VOXELS = 4
EDGE_MM = 3.0

# Healthy tissue reaches these: white matter below, deep gray matter and veins above, for which 0.15 and
# 0.3 ppm are usual, veins less where they fill a voxel in part.
ORDINARY_PPM = (-0.06, 0.2)

CLEAR, PROBABLE, UNTOLD = "clear", "probable", "cannot be told"
_MIDLINE_MM = 5.0
_RADIANS_SLACK = 1.01


@dataclass(frozen=True)
class SpotValues:
    """A spot in one map, ppm.

    Parameters
    ----------
    peak : the value farthest to the spot's side, of the lead map's sign
    mean, sd, voxels : of the region, where this map knows it
    around_mean, around_sd, around_voxels : of the neighbourhood
    around_spread : as ``around_sd``, but from the median deviation: other structures hardly count
    z : the contrast over its own uncertainty, positive for paramagnetic
    """

    peak: float
    mean: float
    sd: float
    voxels: int
    around_mean: float
    around_sd: float
    around_voxels: int
    around_spread: float
    z: float

    @property
    def contrast(self) -> float:
        """Mean of the region less that of its neighbourhood, ppm."""
        return self.mean - self.around_mean

    @property
    def cnr(self) -> float:
        """Contrast over the spread of the neighbourhood."""
        spread = self.around_spread
        return self.contrast / spread if spread else math.copysign(math.inf, self.contrast)


@dataclass(frozen=True)
class Spot:
    """A probed spot.

    Parameters
    ----------
    clicked, peak : voxels of the study
    lead : title of the map that the region was grown in
    sign : 1 where it is more paramagnetic than its neighbourhood, -1 where less
    confidence : of the sign: "clear", "probable" or "cannot be told"
    doubts : what the confidence is lowered by, in words
    volume_mm3 : of the region
    methods : values by the map's title
    offset_mm : of the peak from the middle of the brain, to the right, anterior and superior
    edge_mm : of the peak from the edge of the lead map's mask; None where it is farther than was looked
    local_field_ppm : mean in the region
    phase_rad : of each echo at the peak, as stored, between -pi and pi
    magnitude : of each echo, mean in the region over that in the neighbourhood
    unreliable : part of the region that is unreliable, from 0 to 1
    region : (voxel, 3) indices in the study
    note : the reader's own
    """

    clicked: tuple[int, int, int]
    peak: tuple[int, int, int]
    lead: str
    sign: int
    confidence: str
    doubts: tuple[str, ...]
    volume_mm3: float
    methods: Mapping[str, SpotValues]
    offset_mm: tuple[float, float, float]
    edge_mm: float | None = None
    local_field_ppm: float | None = None
    phase_rad: tuple[float, ...] | None = None
    magnitude: tuple[float, ...] | None = None
    unreliable: float | None = None
    region: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.int64), compare=False, repr=False)
    note: str = ""

    @property
    def kind(self) -> str:
        """Its sign in one word; what cannot be told has none."""
        if self.confidence == UNTOLD:
            return "sign not told"
        return "paramagnetic" if self.sign > 0 else "diamagnetic"

    @property
    def place(self) -> str:
        """Where it lies, from the middle of the brain, as in "right 21, anterior 8, superior 15 mm"."""
        words = (("right", "left"), ("anterior", "posterior"), ("superior", "inferior"))
        parts = [f"{pair[mm < 0]} {abs(mm):.0f}" for pair, mm in zip(words, self.offset_mm, strict=True)]
        if abs(self.offset_mm[0]) < _MIDLINE_MM:
            parts[0] = "midline"
        return ", ".join(parts) + " mm"

    def with_note(self, note: str) -> Spot:
        """The same spot with another note."""
        return dataclasses.replace(self, note=note)

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold; the region as runs along the last axis (i, j, k, length)."""
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        plain["methods"] = {title: dataclasses.asdict(values) for title, values in self.methods.items()}
        plain["region"] = _runs(self.region)
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Spot:
        """The spot of :meth:`to_dict`.

        Raises
        ------
        InputError
            When it holds something else.
        """
        try:
            values = dict(plain)
            for name in ("clicked", "peak", "doubts", "offset_mm", "phase_rad", "magnitude"):
                values[name] = None if values.get(name) is None else tuple(values[name])
            values["methods"] = {title: SpotValues(**v) for title, v in values["methods"].items()}
            runs = values["region"]
            voxels = [(i, j, k + n) for i, j, k, length in runs for n in range(length)]
            values["region"] = np.array(voxels, np.int64).reshape(-1, 3)
            return cls(**values)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"this is no probed spot: {error}") from error


def probe(
    study: Study,
    voxel: Sequence[int],
    lead: str | None = None,
    *,
    search_mm: float = SEARCH_MM,
    radius_mm: float = RADIUS_MM,
    unreliable: np.ndarray | None = None,
) -> Spot:
    """The spot at a click: its region in the lead map, its values in all maps, and its sign.

    Parameters
    ----------
    voxel : clicked, in the study's own axes
    lead : title of the map that the region is grown in; None takes the first
    search_mm : how far from the click the spot's strongest voxel may lie
    radius_mm : how far from that voxel its region may reach
    unreliable : (i, j, k) bool, see :func:`~napari_metaqsm.reading.reliability.reliability`

    Raises
    ------
    InputError
        When the voxel lies outside the grid or the lead map knows nothing within ``search_mm``.

    Notes
    -----
    Contrast is the difference to the median of the lead map within ``radius_mm`` + 5 mm of the click. The
    sign is that of the clicked voxel where its contrast exceeds the (robust) SD there, else that of the
    strongest voxel in reach. The peak is the strongest voxel of this sign within ``search_mm``; the
    region are the voxels with more than half its contrast that hang together with it through faces,
    within ``radius_mm`` of it. The neighbourhood is what lies within 5 mm, and a voxel's longest side,
    of the region, without the voxels that touch it (they are partly filled) and without other strong
    voxels, more than 3 SD from its median.

    A map's ``z`` is its contrast between region and neighbourhood over its uncertainty
    ``s sqrt(1 / n + 1 / m)``, n and m the independent voxels of both, at least 1. With a noise map, s is 4
    times the region's noise of the field, as an inversion that holds nothing back enlarges it, and 8 voxels
    count as one. Without it, s is the neighbourhood's SD, anatomy and all, and neighbours that are alike
    count as one: ``prod (1 + r) / (1 - r)`` of them, at least 8, with r the correlation of the
    neighbourhood's voxels with the next ones along each axis. ``cnr`` is the contrast over the
    neighbourhood's robust spread: how far the spot stands out from ordinary anatomy.
    The sign is "clear" where the smallest z of all methods is at least 5 and the smallest cnr at least 3,
    "probable" from 4 and 2. It "cannot be told" below, where methods disagree on the sign, or where region
    and contrast have different signs: then the spot differs from its surroundings, but the reference
    decides what it is.
    It is "probable" at most for regions under 4 voxels, within 3 mm of the edge of the map, and beside a
    stronger spot of the other sign, whose streaks look alike; and, unless z is at least 10, where half
    of the region is unreliable or the region goes on beyond ``radius_mm``.

    Of 3600 clicks on maps of noise alone (white, smoothed by one or two voxels, or as TKD makes it, on
    voxels of 1, 0.75×0.75×3 and 3 mm) 8 gave "probable" and none "clear". Of 600 clicks anywhere in a
    synthetic head, few of which met a vein or a lesion, 590 gave "cannot be told".
    """
    lead = next(iter(study.maps)) if lead is None else lead
    if lead not in study.maps:
        raise InputError(f"lead is {lead!r}; it must be one of {', '.join(study.maps)}")
    clicked = tuple(int(v) for v in voxel)
    if len(clicked) != 3 or not all(0 <= v < n for v, n in zip(clicked, study.geometry.shape, strict=True)):
        raise InputError(f"voxel is {clicked}; it must lie in the grid of {study.geometry.shape} voxels")
    grown = grow(study, clicked, lead, search_mm, radius_mm)
    box = grown.box
    around, touching = neighbourhood(grown, study.geometry.voxel_size_mm)
    noise = None if study.noise is None else _spread(study.noise[box][grown.region])
    methods = {
        title: values
        for title, map_ in study.maps.items()
        if (values := _values(np.asarray(map_[box], np.float32), grown, around, noise)) is not None
    }
    part = None if unreliable is None else float(unreliable[box][grown.region].mean())
    edge = _edge_mm(grown, study.geometry.voxel_size_mm)
    confidence, doubts = _confidence(methods, grown, around | touching, edge, part)
    start = [s.start for s in box]
    peak = tuple(int(v + s) for v, s in zip(grown.peak, start, strict=True))
    return Spot(
        clicked,
        peak,
        lead,
        grown.sign,
        confidence,
        doubts,
        volume_mm3=float(grown.region.sum() * study.voxel_mm3),
        methods=methods,
        offset_mm=_offset_mm(study, lead, peak),
        edge_mm=edge,
        local_field_ppm=None
        if study.local_field is None
        else float(np.mean(study.local_field[box][grown.region], dtype=np.float64)),
        phase_rad=_phase_rad(study, peak),
        magnitude=_magnitude(study, box, grown.region, around),
        unreliable=part,
        region=np.argwhere(grown.region) + start,
    )


def sentence(spot: Spot) -> str:
    """What a spot is, in plain words and with its doubts; never a diagnosis."""
    because = f" ({'; '.join(spot.doubts)})" if spot.doubts else ""
    values = spot.methods.get(spot.lead)
    if values is None:
        return f"Whether this is paramagnetic or diamagnetic cannot be told{because}."
    size = (
        f"{spot.volume_mm3:.0f} mm³, mean {_ppm(values.mean)} and peak {_ppm(values.peak)} ppm in "
        f"{spot.lead}, against {_ppm(values.around_mean)} ± {values.around_sd:.3f} ppm around it"
    )
    if spot.confidence == UNTOLD:
        return f"Whether this is paramagnetic or diamagnetic cannot be told{because}: {size}."
    low, high = ORDINARY_PPM
    if spot.sign > 0:
        meaning = "consistent with iron or blood products; it does not exclude a vein or another cause"
        ordinary = "; deep gray matter and veins reach as much" if values.mean < high else ""
    else:
        meaning = "consistent with calcium; it does not exclude another cause"
        ordinary = "; white matter reaches as much" if values.mean > low else ""
    how = "Clearly" if spot.confidence == CLEAR else "Probably"
    return f"{how} {spot.kind}{because}: {size}. This is {meaning}{ordinary}."


# ----------------------------------------------------------------------------------- measuring
def _values(map_: np.ndarray, grown: Grown, around: np.ndarray, noise: float | None) -> SpotValues | None:
    """The spot in one map; None where the map knows nothing of the region or of its neighbourhood."""
    known = (map_ != 0) & np.isfinite(map_)
    inside = map_[grown.region & known].astype(np.float64)
    outside = map_[around & known].astype(np.float64)
    if not inside.size or not outside.size:
        return None
    sd = float(outside.std())
    # Without a noise map, all that varies in the neighbourhood counts as noise, anatomy too.
    voxel_sd = sd if noise is None else NOISE_GAIN * noise
    alike = _alike(map_, around & known) if noise is None else FEWEST_ALIKE
    variance = voxel_sd**2 * sum(1 / max(of.size / alike, 1.0) for of in (inside, outside))
    contrast = float(inside.mean() - outside.mean())
    return SpotValues(
        peak=float(inside.max() if grown.sign > 0 else inside.min()),
        mean=float(inside.mean()),
        sd=float(inside.std()),
        voxels=int(inside.size),
        around_mean=float(outside.mean()),
        around_sd=sd,
        around_voxels=int(outside.size),
        around_spread=ROBUST_SD * float(np.median(np.abs(outside - np.median(outside)))),
        z=float(np.clip(contrast / max(math.sqrt(variance), 1e-12), -_LARGEST_Z, _LARGEST_Z)),
    )


def _alike(map_: np.ndarray, around: np.ndarray) -> float:
    """How many voxels count as one, from the correlation of next neighbours along each axis."""
    count = 1.0
    for axis in range(3):
        one, next_ = np.moveaxis(map_, axis, 0)[:-1], np.moveaxis(map_, axis, 0)[1:]
        pairs = np.moveaxis(around, axis, 0)[:-1] & np.moveaxis(around, axis, 0)[1:]
        if np.count_nonzero(pairs) > 2:
            a, b = (v[pairs].astype(np.float64) for v in (one, next_))
            a, b = a - a.mean(), b - b.mean()
            size = math.sqrt(float(a @ a) * float(b @ b))
            r = min(max(float(a @ b) / size, 0.0), 0.99) if size else 0.0
            count *= (1 + r) / (1 - r)
    return max(count, FEWEST_ALIKE)


def _spread(noise: np.ndarray) -> float:
    """Root mean square of the noise of several voxels."""
    return float(np.sqrt(np.mean(np.square(noise, dtype=np.float64))))


def _edge_mm(grown: Grown, size_mm: Sequence[float]) -> float | None:
    """Distance (mm) of the peak from the nearest voxel in its box that the map does not know."""
    unknown = ~grown.known
    if not unknown.any():
        return None
    return float(np.sqrt(distance2_mm2(unknown.shape, grown.peak, size_mm)[unknown].min()))


def _offset_mm(study: Study, lead: str, peak: Sequence[int]) -> tuple[float, float, float]:
    """Of the peak from the middle of the brain's extent, to the right, anterior and superior."""
    brain = study.maps[lead] if study.mask is None else study.mask
    every = tuple(slice(None, None, max(n // 64, 1)) for n in brain.shape)  # the middle needs no more
    inside = brain[every] != 0
    middle = []
    for axis in range(3):
        found = np.flatnonzero(inside.any(axis=tuple(a for a in range(3) if a != axis)))
        ends = (found[0], found[-1]) if found.size else (0, inside.shape[axis] - 1)
        middle.append(every[axis].step * sum(ends) / 2)
    along = [(p - m) * s for p, m, s in zip(peak, middle, study.geometry.voxel_size_mm, strict=True)]
    order, flipped = turn(study.geometry.orientation, "RAS")
    return tuple(float(-along[a] if new in flipped else along[a]) for new, a in enumerate(order))


def _phase_rad(study: Study, peak: tuple[int, ...]) -> tuple[float, ...] | None:
    """Of each echo at the peak; None where the stored value of pi is not known."""
    if study.phase is None:
        return None
    stored = np.asarray(study.phase[(slice(None), *peak)], np.float64)
    pi = study.acquisition.phase_pi
    if pi is None:
        sample = study.phase[
            (slice(None), *(slice(None, None, max(n // 32, 1)) for n in study.geometry.shape))
        ]
        largest = float(np.nanmax(np.abs(sample)))
        if not math.pi / 2 < largest <= math.pi * _RADIANS_SLACK:
            return None
        pi = math.pi
    return tuple(float(v) for v in stored / pi * math.pi)


def _magnitude(
    study: Study, box: tuple[slice, ...], region: np.ndarray, around: np.ndarray
) -> tuple[float, ...] | None:
    if study.magnitude is None or not around.any():
        return None
    series = study.magnitude[(slice(None), *box)]
    means = [(float(echo[region].mean()), float(echo[around].mean())) for echo in series]
    return tuple(inside / outside for inside, outside in means) if all(m[1] > 0 for m in means) else None


# ------------------------------------------------------------------------------------- judging
def _confidence(
    methods: Mapping[str, SpotValues],
    grown: Grown,
    shell: np.ndarray,
    edge_mm: float | None,
    unreliable: float | None,
) -> tuple[str, tuple[str, ...]]:
    """How sure the sign is by the rule of :func:`probe`, and why it is no surer."""
    if grown.lead not in methods:
        return UNTOLD, ("too little of the map around it is known",)
    against, doubts = [], []
    weakest = min(methods, key=lambda title: methods[title].z * grown.sign)
    z = methods[weakest].z * grown.sign
    if z < 0:
        against.append(f"{weakest} shows the opposite sign")
    elif z < PROBABLE_Z:
        against.append(f"its contrast in {weakest} is {z:.1f} times its uncertainty")
    elif z < CLEAR_Z:
        doubts.append(f"its contrast in {weakest} is only {z:.1f} times its uncertainty")
    faintest = min(methods, key=lambda title: methods[title].cnr * grown.sign)
    cnr = methods[faintest].cnr * grown.sign
    if 0 < cnr < CLEAR_CNR:
        words = f"in {faintest} it stands out only {cnr:.1f} times the spread of what is around it"
        (against if cnr < PROBABLE_CNR else doubts).append(words)
    means = [v.mean * grown.sign for v in methods.values()]
    if min(means) <= 0:
        against.append(
            f"it is {'more' if grown.sign > 0 else 'less'} paramagnetic than its surroundings, but not "
            f"{'above' if grown.sign > 0 else 'below'} the reference"
        )
    count = int(grown.region.sum())
    if count < FEWEST_VOXELS:
        doubts.append(f"it is only {count} voxel{'s' * (count > 1)} large")
    if edge_mm is not None and edge_mm < EDGE_MM:
        doubts.append(f"it lies {edge_mm:.1f} mm from the edge of the map")
    other = -grown.sign * (grown.values[shell] - grown.base)
    if other.size and other.max() >= grown.sign * (grown.values[grown.peak] - grown.base):
        doubts.append("a stronger spot of the other sign is beside it")
    lesser = []
    if unreliable is not None and unreliable >= 0.5:
        lesser.append(f"its values are uncertain, {100 * unreliable:.0f} % of it being unreliable")
    if grown.reaches_limit:
        lesser.append("it goes on beyond the largest region that is grown")
    words = (*against, *doubts, *lesser)
    if against:
        return UNTOLD, words
    return (PROBABLE if doubts or (lesser and z < 2 * CLEAR_Z) else CLEAR), words


def _ppm(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def _runs(region: np.ndarray) -> list[list[int]]:
    """Runs (i, j, k, length) of voxels (voxel, 3) that are sorted, along the last axis."""
    runs: list[list[int]] = []
    for i, j, k in region.tolist():
        if runs and runs[-1][:2] == [i, j] and runs[-1][2] + runs[-1][3] == k:
            runs[-1][3] += 1
        else:
            runs.append([i, j, k, 1])
    return runs
