"""How the values of each map are distributed in its mask."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from napari_metaqsm.errors import InputError
from napari_metaqsm.reading.study import Study

BINS = 240
# The tails beyond these percentiles of any map are left out: a few wild voxels would squeeze the rest.
PERCENTILES = (0.2, 99.8)


class Distribution(NamedTuple):
    """``edges_ppm`` is (bins + 1,); ``percent`` holds by map (bins,), percent of its voxels per 0.01 ppm."""

    edges_ppm: np.ndarray
    percent: dict[str, np.ndarray]


def distribution(study: Study) -> Distribution:
    """The histogram of every map in its own mask, all in the same bins.

    Raises
    ------
    InputError
        When a map is zero throughout.
    """
    values = {}
    for title, array in study.maps.items():
        values[title] = array[study.inside(title) & np.isfinite(array)]
        if values[title].size == 0:
            raise InputError(f"{title} is zero in every voxel; there is nothing to count")
    ends = np.array([np.percentile(v, PERCENTILES) for v in values.values()])
    low, high = ends[:, 0].min(), ends[:, 1].max()
    spare = 0.02 * (high - low) or 0.01
    edges = np.linspace(low - spare, high + spare, BINS + 1)
    per_bin = 0.01 / (edges[1] - edges[0])
    counts = {title: np.histogram(v, edges)[0] / v.size for title, v in values.items()}
    return Distribution(edges, {title: 100 * share * per_bin for title, share in counts.items()})
