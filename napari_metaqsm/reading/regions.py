"""What the maps hold in regions: mean, spread and percentiles of every label in every map.

A region is a label of an integer array, drawn or loaded; 0 is outside. Of a region, the voxels in the
map's own mask count; those outside hold no susceptibility and are told, not counted as zero.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from napari_metaqsm.errors import InputError
from napari_metaqsm.evaluation.tables import Cell, Column, Spread, Table
from napari_metaqsm.method import steps
from napari_metaqsm.reading.study import Study

# Fewer voxels make a mean that one of them can turn.
FEW_VOXELS = 10
# Of a region's voxels; where more are unreliable, its figures are too.
UNRELIABLE_PERCENT = 10.0
PERCENTILES = (5, 25, 50, 75, 95)
# What a map has in a region, by the field of Measure: as a column is called, and what it means.
STATISTICS = {
    "mean": ("Mean", "mean of the voxels counted"),
    "sd": ("SD", "standard deviation of the voxels counted, over n − 1"),
    "median": ("Median", "half of the voxels counted lie below"),
    "p5": ("5 %", "5 % of the voxels counted lie below"),
    "p25": ("25 %", "a quarter of the voxels counted lies below"),
    "p75": ("75 %", "three quarters of the voxels counted lie below"),
    "p95": ("95 %", "95 % of the voxels counted lie below"),
    "voxels": ("Counted", "voxels of the region in the map's mask; only these count"),
}
# Units in which susceptibility is shown: how many make a ppm, and the digits after the point that it takes.
UNITS = {"ppm": (1.0, 4), "ppb": (1000.0, 1)}


class Measure(NamedTuple):
    """What one map holds in one region; ppm. Not a number where no voxel counts.

    ``voxels`` counts those in the map's mask, ``outside_percent`` is the share of the region's voxels that
    lie outside it and do not count. ``sd`` is over n − 1, percentiles are interpolated linearly.
    """

    mean: float
    sd: float
    median: float
    p5: float
    p25: float
    p75: float
    p95: float
    voxels: int
    outside_percent: float


@dataclass(frozen=True)
class Region:
    """One label: how large it is, where it lies, and what every map holds in it.

    Parameters
    ----------
    voxels, volume_mm3 : of the whole region, whether its voxels lie in a map's mask or not
    centre : (i, j, k), the region's voxel nearest to its centroid, in mm; always a voxel of the region
    unreliable_percent : share of the voxels counted in any map that lie in the unreliable ones; None where
        nothing says which are, not a number where no voxel counts
    maps : by the map's title, in the order of the study
    """

    label: int
    name: str
    voxels: int
    volume_mm3: float
    centre: tuple[int, int, int]
    unreliable_percent: float | None
    maps: Mapping[str, Measure]

    @property
    def unreliable(self) -> bool:
        """Whether more of the region is unreliable than its figures bear."""
        return self.unreliable_percent is not None and self.unreliable_percent >= UNRELIABLE_PERCENT

    def warnings(self) -> list[str]:
        """What to know before its figures are believed, a sentence each; empty where there is nothing."""
        told = []
        outside = {title: m.outside_percent for title, m in self.maps.items()}
        for share, titles in _titles_by_share(outside).items():
            if share == 100:
                told.append(f"It lies outside the mask of {titles}; nothing can be measured there")
            elif share > 0:
                told.append(
                    f"{_percent(share)} of its voxels lie outside the mask of {titles} and do not count"
                )
        if self.unreliable:
            share = _percent(self.unreliable_percent)
            told.append(f"{share} of its voxels are unreliable: read its figures with care")
        fewest = min((m.voxels for m in self.maps.values() if m.voxels), default=FEW_VOXELS)
        if fewest < FEW_VOXELS:
            voxels = "one voxel counts" if fewest == 1 else f"{fewest} voxels count"
            told.append(f"Only {voxels}: too few for a mean to be trusted")
        return told


@dataclass(frozen=True)
class RegionMeasures:
    """The regions of one label array on the maps of one study, by ascending label.

    ``titles`` are the maps', in the order of the study.
    """

    titles: tuple[str, ...]
    regions: tuple[Region, ...]

    def __iter__(self) -> Iterator[Region]:
        return iter(self.regions)

    def __len__(self) -> int:
        return len(self.regions)

    def region(self, label: int) -> Region:
        """The region of a label; ``KeyError`` where there is none."""
        for region in self.regions:
            if region.label == label:
                return region
        raise KeyError(label)

    def named(self, names: Mapping[int, str]) -> RegionMeasures:
        """The same measures under other names; nothing is measured anew."""
        return RegionMeasures(
            self.titles,
            tuple(Region(**{**vars(region), "name": _name(region.label, names)}) for region in self.regions),
        )

    def long_table(self) -> Table:
        """A row for every region and map, all figures, in ppm: for CSV and statistics.

        Column titles are plain names with their unit (``mean_ppm``); its CSV leaves empty what is not known.
        """
        figures = [f for f in STATISTICS if f != "voxels"]
        columns = [
            *("label", "region", "map", "voxels", Column("volume_mm3", 3), "counted_voxels"),
            Column("outside_mask_percent", 1),
            Column("unreliable_percent", 1),
            *(Column(f"{figure}_ppm", 5) for figure in figures),
        ]
        rows: list[tuple[Cell, ...]] = [
            (
                *(region.label, region.name, title, region.voxels, region.volume_mm3, measure.voxels),
                measure.outside_percent,
                math.nan if region.unreliable_percent is None else region.unreliable_percent,
                *(getattr(measure, figure) for figure in figures),
            )
            for region in self.regions
            for title, measure in region.maps.items()
        ]
        return Table("regions", "Regions", columns, rows)

    def wide_table(self, statistics: Sequence[str] = ("spread",), unit: str = "ppm") -> Table:
        """A row for every region, the maps side by side: to be read, as in a report.

        Parameters
        ----------
        statistics : of each map, keys of ``STATISTICS``, or "spread" for mean ± SD
        unit : "ppm" or "ppb", in which the figures are given
        """
        factor, digits = unit_factor(unit)
        columns: list[Column | str] = ["Region", "Voxels", Column("Volume mm³", 1)]
        for title in self.titles:
            for statistic in statistics:
                columns.append(_wide_column(title, statistic, unit, digits))
        rows = [
            (
                *(region.name, region.voxels, region.volume_mm3),
                *(_wide_cell(region.maps[t], s, factor) for t in self.titles for s in statistics),
            )
            for region in self.regions
        ]
        told = [f"{region.name}: {text}." for region in self.regions for text in region.warnings()]
        return Table("regions", "Regions", columns, rows, "\n".join(told))


def measure_regions(
    study: Study,
    labels: np.ndarray,
    names: Mapping[int, str] | None = None,
    unreliable: np.ndarray | None = None,
) -> RegionMeasures:
    """Every map of ``study`` in every region of ``labels``.

    The work follows the labelled voxels, not the grid; cancelled between maps (`method.steps`).

    Parameters
    ----------
    labels : (i, j, k) int or bool on the study's grid; 0 is outside, every other number is a region
    names : of the labels; "region 3" where there is none, or an empty one
    unreliable : (i, j, k) bool, true where the maps are not to be trusted

    Returns
    -------
    RegionMeasures, without a region where no voxel is labelled

    Raises
    ------
    InputError
        When ``labels`` are no whole numbers, or an array does not lie on the study's grid.
    """
    labels = _on_grid("the regions", labels, study)
    if labels.dtype.kind not in "iub":
        raise InputError(f"the regions are {labels.dtype} numbers; they must be labels, whole numbers")
    found, places, ends = _labelled(labels)
    unreliable = None if unreliable is None else _on_grid("the unreliable voxels", unreliable, study)
    bounds = [slice(*pair) for pair in itertools.pairwise([0, *ends])]
    measured: list[dict[str, Measure]] = [{} for _ in bounds]
    counted = np.zeros(places.size, bool)
    titles = tuple(study.maps)
    for number in steps(len(titles), "Regions"):
        values = np.ravel(study.maps[titles[number]])[places]
        known = (values != 0) & np.isfinite(values)  # as Study.inside, and nothing that poisons a mean
        counted |= known
        for bound, maps in zip(bounds, measured, strict=True):
            inside = known[bound]
            maps[titles[number]] = _measure(values[bound] if inside.all() else values[bound][inside], inside)
    distrusted = None if unreliable is None else np.ravel(unreliable)[places] != 0
    regions = []
    for label, bound, maps in zip(found, bounds, measured, strict=True):
        size = bound.stop - bound.start
        share = None
        if distrusted is not None:
            inside = counted[bound]
            share = float(100 * distrusted[bound][inside].mean()) if inside.any() else math.nan
        centre = _centre(places[bound], study)
        name = _name(label, names or {})
        regions.append(Region(label, name, size, size * study.voxel_mm3, centre, share, maps))
    return RegionMeasures(titles, tuple(regions))


def unit_factor(unit: str) -> tuple[float, int]:
    """How many of ``unit`` make a ppm, and the digits after the point that it is shown with.

    Raises
    ------
    InputError
        When the unit is neither "ppm" nor "ppb".
    """
    if unit not in UNITS:
        raise InputError(f"unit is {unit!r}; it must be one of {', '.join(UNITS)}")
    return UNITS[unit]


# ---------------------------------------------------------------------------------------- parts
def _on_grid(name: str, array: np.ndarray, study: Study) -> np.ndarray:
    array = np.asarray(array)
    if array.shape != study.geometry.shape:
        raise InputError(
            f"{name} are {array.shape} voxels, but the maps are {study.geometry.shape}; "
            "they must lie on one grid"
        )
    return array


def _labelled(labels: np.ndarray) -> tuple[list[int], np.ndarray, list[int]]:
    """The labels, ascending; the places of their voxels in the flat grid, label by label; where each ends."""
    flat = np.ravel(labels)
    places = np.flatnonzero(flat != 0)  # ten times as fast as of the numbers themselves
    of = flat[places].astype(np.int64)
    # Ranks in 16 bits are sorted by counting, ten times as fast as numbers of any size.
    if of.size and of.min() >= 0 and of.max() < 2**16:
        found = np.flatnonzero(np.bincount(of))
        ranks = of
    else:
        found, ranks = np.unique(of, return_inverse=True)
    if found.size < 2**16:
        ranks = ranks.astype(np.uint16)
    order = np.argsort(ranks, kind="stable")
    ends = np.searchsorted(of[order], found, side="right")
    return found.tolist(), places[order], ends.tolist()


def _measure(values: np.ndarray, inside: np.ndarray) -> Measure:
    outside = 100 * (1 - values.size / inside.size)
    if values.size == 0:
        return Measure(*(math.nan,) * 7, 0, outside)
    low, lower, middle, upper, high = _percentiles(values)
    sd = values.std(ddof=1, dtype=np.float64) if values.size > 1 else math.nan
    figures = (values.mean(dtype=np.float64), sd, middle, low, lower, upper, high)
    return Measure(*map(float, figures), values.size, outside)


def _percentiles(values: np.ndarray) -> np.ndarray:
    """As ``np.percentile``, which takes four times as long on millions of voxels."""
    ordered = np.sort(values)
    place = np.array(PERCENTILES) / 100 * (values.size - 1)
    below = np.floor(place).astype(int)
    low, high = (ordered[np.minimum(at, values.size - 1)].astype(np.float64) for at in (below, below + 1))
    return low + (high - low) * (place - below)


def _centre(places: np.ndarray, study: Study) -> tuple[int, int, int]:
    """The voxel nearest to the mean position of ``places``; of several as near, the first."""
    shape = study.geometry.shape
    squared = np.zeros(places.size)
    for coordinate, size in zip(np.unravel_index(places, shape), study.geometry.voxel_size_mm, strict=True):
        squared += ((coordinate - coordinate.mean()) * size) ** 2
    return tuple(int(c) for c in np.unravel_index(places[squared.argmin()], shape))


def _name(label: int, names: Mapping[int, str]) -> str:
    return names.get(label) or f"region {label}"


def _titles_by_share(shares: Mapping[str, float]) -> dict[float, str]:
    """The maps that have the same share, in words: most maps of one chain share a mask."""
    by_share: dict[float, list[str]] = {}
    for title, share in shares.items():
        by_share.setdefault(share, []).append(title)
    return {
        share: "every map" if len(titles) == len(shares) > 1 else ", ".join(titles)
        for share, titles in by_share.items()
    }


def _percent(share: float) -> str:
    if share < 1:
        return "Less than 1 %"
    return f"{min(share, 99):.0f} %" if share < 100 else "100 %"


def _wide_column(title: str, statistic: str, unit: str, digits: int) -> Column:
    if statistic == "spread":
        return Column(f"{title}, mean ± SD {unit}", digits)
    if statistic == "voxels":
        return Column(f"{title}, counted", 0)
    return Column(f"{title}, {STATISTICS[statistic][0]} {unit}", digits)


def _wide_cell(measure: Measure, statistic: str, factor: float) -> Cell:
    if statistic == "spread":
        return Spread(measure.mean * factor, measure.sd * factor, measure.voxels)
    value = getattr(measure, statistic)
    return value if statistic == "voxels" else value * factor
