"""How far two maps agree: limits of agreement, the fitted slope, and every map against a reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from napari_metaqsm.errors import InputError
from napari_metaqsm.evaluation.scores import AGREEMENT, AGREEMENT_NOTE, agreement
from napari_metaqsm.evaluation.tables import Column, Table
from napari_metaqsm.method import announce
from napari_metaqsm.reading.study import Study

# Standard deviations on either side of the mean that hold 95 % of a normal distribution.
LIMITS_SD = 1.96
# A picture of a cloud shows this share of its points, about the middle of either axis; the few beyond
# would shrink all others into one dot.
SHOWN = 0.999
# Cells along either axis: enough to see the shape of a cloud, few enough for neighbours to be filled.
FEWEST_BINS, MOST_BINS = 20, 120


class Difference(NamedTuple):
    """Of ``a - b``: mean, standard deviation and 95 % limits; and the line fitted to ``a`` over ``b``.

    All in the unit of the maps but ``slope`` and ``correlation``, which have none.
    """

    mean: float
    sd: float
    low: float
    high: float
    slope: float
    intercept: float
    correlation: float
    voxels: int


def difference(a: np.ndarray, b: np.ndarray, inside: np.ndarray | None = None) -> Difference:
    """How ``a`` differs from ``b``.

    Parameters
    ----------
    a, b : of one shape, ppm
    inside : of the same shape, zero outside; None takes every value. What is not finite does not count.

    Returns
    -------
    The limits are mean ± 1.96 SD of ``a - b``. The line is the ordinary least squares fit of ``a`` on
    ``b``, which takes ``b`` as exact: between two noisy maps its slope is too low, and it is not one over
    the slope of ``b`` on ``a``. Slope and correlation are not a number where ``b`` (or ``a``) is constant.

    Raises
    ------
    InputError
        When fewer than two values remain.

    References
    ----------
    Bland & Altman 1986, doi:10.1016/S0140-6736(86)90837-8
    """
    return _difference(*_common(a, b, inside))


def _common(a: np.ndarray, b: np.ndarray, inside: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape:
        raise InputError(f"one map is {a.shape} voxels and the other {b.shape}; they must lie on one grid")
    where = np.ones(a.shape, bool) if inside is None else np.asarray(inside) != 0
    a, b = (each[where].astype(np.float64) for each in (a, b))
    finite = np.isfinite(a) & np.isfinite(b)
    return (a, b) if finite.all() else (a[finite], b[finite])


def _difference(a: np.ndarray, b: np.ndarray) -> Difference:
    if a.size < 2:
        raise InputError(f"the two have {a.size} values in common; at least two are needed")
    apart = a - b
    mean, sd = float(apart.mean()), float(apart.std(ddof=1))
    from_a, from_b = a - a.mean(), b - b.mean()
    covariance, variance_a, variance_b = from_a @ from_b, from_a @ from_a, from_b @ from_b
    # The rounding of a mean leaves a constant a trace of variance.
    varies_a, varies_b = (v > 1e-24 * (x @ x) for v, x in ((variance_a, a), (variance_b, b)))
    slope = float(covariance / variance_b) if varies_b else np.nan
    correlation = float(covariance / np.sqrt(variance_a * variance_b)) if varies_a and varies_b else np.nan
    return Difference(
        mean,
        sd,
        mean - LIMITS_SD * sd,
        mean + LIMITS_SD * sd,
        slope,
        float(a.mean() - slope * b.mean()),
        correlation,
        a.size,
    )


# ---------------------------------------------------------------------------- against a reference
def against(study: Study, reference: str | np.ndarray, title: str = "reference") -> Table:
    """Every map's RMSE, NRMSE, HFEN, SSIM, XSIM and slope against one reference map.

    Parameters
    ----------
    reference : the title of a map of the study, or (i, j, k) in ppm, zero outside its own mask
    title : of a reference that is given as an array

    Returns
    -------
    One row a map, but none for the reference itself. Each map is looked at in the voxels that it has in
    common with the reference, whose number is in the row.

    Raises
    ------
    InputError
        When the reference is on another grid or has less than two voxels in common with a map.
    """
    if isinstance(reference, str):
        title = reference
        if title not in study.maps:
            raise InputError(f"there is no map {title!r}; the reference must be one of the maps")
        truth = study.maps[title]
        others = [name for name in study.maps if name != title]
        known = study.inside(title)
    else:
        truth, others = np.asarray(reference), list(study.maps)
        if truth.shape != study.geometry.shape:
            raise InputError(
                f"the reference is {truth.shape} voxels, but the maps are {study.geometry.shape}; "
                "they must lie on one grid"
            )
        known = truth != 0
    known = known & np.isfinite(truth)
    rows = []
    for index, name in enumerate(others):
        announce(name, index / len(others))
        recon = study.maps[name]
        common = known & study.inside(name) & np.isfinite(recon)
        try:
            apart = difference(recon, truth, common)
        except InputError:
            raise InputError(f"{name} and {title} have no voxels in common") from None
        figures = agreement(np.where(common, recon, 0), np.where(common, truth, 0), common)
        rows.append((name, *figures.values(), apart.slope, apart.voxels))
    columns = ["Map", *AGREEMENT.values(), Column("Slope", 3), Column("Voxels", 0)]
    note = (
        f"Against {title}, in the voxels that each map has in common with it. {AGREEMENT_NOTE} Slope: of the "
        "least squares line of the map over the reference."
    )
    return Table("agreement", f"Agreement with {title}", columns, rows, note)


# ------------------------------------------------------------------------------- two maps, drawn
class Density(NamedTuple):
    """How many points of a cloud lie in each cell of a grid.

    ``counts`` is (x, y), the edges are of its cells along either axis; ``beyond`` is the share of the
    points that lie outside the grid.
    """

    counts: np.ndarray
    x_edges: np.ndarray
    y_edges: np.ndarray
    beyond: float


class Points(NamedTuple):
    """A cloud of few points, each with its name."""

    x: np.ndarray
    y: np.ndarray
    names: tuple[str, ...]


@dataclass(frozen=True)
class Pair:
    """Two maps over against each other.

    Parameters
    ----------
    a, b : their titles
    difference : of ``a - b``
    scatter : ``a`` (y) over ``b`` (x), ppm
    bland_altman : ``a - b`` (y) over the mean of both (x), ppm
    """

    a: str
    b: str
    difference: Difference
    scatter: Density | Points
    bland_altman: Density | Points


def pair(study: Study, a: str, b: str) -> Pair:
    """Two maps voxel by voxel, where both are known."""
    x, y = _common(study.maps[b], study.maps[a], study.inside(a) & study.inside(b))
    apart = _difference(y, x)
    return Pair(a, b, apart, density(x, y, square=True), density((x + y) / 2, y - x))


def pair_of_regions(study: Study, a: str, b: str, labels: np.ndarray, names: Mapping[int, str]) -> Pair:
    """Two maps by the means of the regions that both know, each in the voxels known to both.

    Parameters
    ----------
    labels : (i, j, k) integers, 0 outside the regions
    names : of the regions; one that has none is called "region 3"
    """
    inside = study.inside(a) & study.inside(b)
    inside &= np.isfinite(study.maps[a]) & np.isfinite(study.maps[b])
    numbers, place = np.unique(np.asarray(labels)[inside], return_inverse=True)
    counts = np.bincount(place)
    x, y = (np.bincount(place, study.maps[t][inside].astype(np.float64)) / counts for t in (b, a))
    regions = numbers != 0
    x, y = x[regions], y[regions]
    titles = tuple(names.get(int(n)) or f"region {n}" for n in numbers[regions])
    apart = _difference(y, x)
    return Pair(a, b, apart, Points(x, y, titles), Points((x + y) / 2, y - x, titles))


def density(x: np.ndarray, y: np.ndarray, *, square: bool = False) -> Density:
    """A cloud of any number of points as counts on a grid that holds nearly all of them.

    Parameters
    ----------
    x, y : (n,), finite
    square : give both axes one range
    """
    ranges = [_range(x), _range(y)]
    if square:
        ranges = [(min(low for low, _ in ranges), max(high for _, high in ranges))] * 2
    bins = int(np.clip(np.sqrt(x.size) / 2, FEWEST_BINS, MOST_BINS))
    cells = np.zeros(x.size, np.intp)
    shown = np.ones(x.size, bool)
    for values, (low, high) in zip((x, y), ranges, strict=True):
        cell = np.floor((values - low) * (bins / (high - low))).astype(np.intp)
        cell[values == high] = bins - 1
        shown &= (cell >= 0) & (cell < bins)
        cells = cells * bins + cell
    counts = np.bincount(cells[shown], minlength=bins**2).reshape(bins, bins)
    x_edges, y_edges = (np.linspace(low, high, bins + 1) for low, high in ranges)
    return Density(counts, x_edges, y_edges, 1 - float(shown.mean()))


def _range(values: np.ndarray) -> tuple[float, float]:
    tail = 50 * (1 - SHOWN)
    low, high = (float(p) for p in np.percentile(values, (tail, 100 - tail)))
    spare = 0.05 * (high - low) or max(abs(low), 1e-3)
    return low - spare, high + spare
