"""The histogram of every map in its own mask."""

import numpy as np
import pytest
from scipy.stats import norm

from napari_metaqsm.errors import InputError
from napari_metaqsm.reading.distribution import distribution
from napari_metaqsm.reading.study import Study
from napari_metaqsm.scan import Geometry

SHAPE = (40, 50, 60)
GEOMETRY = Geometry(SHAPE, (1, 1, 1))
RNG = np.random.default_rng(2)


def test_a_normal_map_has_the_normal_density_in_percent_per_hundredth_of_a_ppm():
    normal = RNG.normal(0.01, 0.03, SHAPE)
    wide = np.where(RNG.random(SHAPE) < 0.3, RNG.normal(0, 0.1, SHAPE), 0)
    found = distribution(Study(GEOMETRY, {"normal": normal, "wide": wide}))
    middles = (found.edges_ppm[1:] + found.edges_ppm[:-1]) / 2
    for title, (mean, sd) in {"normal": (0.01, 0.03), "wide": (0, 0.1)}.items():
        expected = norm.pdf(middles, mean, sd)  # per ppm; times 100 %, times 0.01 ppm
        np.testing.assert_allclose(found.percent[title], expected, atol=0.15 * expected.max())
        width = np.diff(found.edges_ppm)[0]
        assert (found.percent[title].sum() * width / 0.01) == pytest.approx(100, abs=0.5)


def test_wild_voxels_do_not_set_the_range_and_nan_does_not_count():
    values = RNG.normal(0, 0.03, SHAPE)
    values[0, 0, :10], values[1, 0, 0] = 40, np.nan
    edges = distribution(Study(GEOMETRY, {"map": values})).edges_ppm
    assert -0.12 < edges[0] < edges[-1] < 0.12


def test_a_constant_map_has_one_bin_and_an_empty_one_is_refused():
    found = distribution(Study(GEOMETRY, {"map": np.full(SHAPE, 0.2)}))
    assert np.count_nonzero(found.percent["map"]) == 1
    with pytest.raises(InputError, match="empty is zero in every voxel"):
        distribution(Study(GEOMETRY, {"empty": np.zeros(SHAPE)}))
