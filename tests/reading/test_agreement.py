"""How two maps differ, and every map against a reference: the same figures as by other formulas."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from scipy.stats import linregress

from napari_metaqsm.errors import Cancelled, InputError
from napari_metaqsm.evaluation.scores import AGREEMENT, agreement
from napari_metaqsm.method import running
from napari_metaqsm.reading.agreement import against, density, difference, pair, pair_of_regions
from napari_metaqsm.reading.study import Study
from napari_metaqsm.scan import Geometry

SHAPE = (24, 20, 17)
RNG = np.random.default_rng(5)
CENTRED = np.indices(SHAPE) - np.array([11, 9, 8]).reshape(3, 1, 1, 1)
WIDE, NARROW = (np.linalg.norm(CENTRED, axis=0) < radius for radius in (8.5, 7.0))
TRUTH = (0.3 * gaussian_filter(RNG.standard_normal(SHAPE), 1.2) * WIDE).astype(np.float32)
SHRUNK = ((0.8 * TRUTH + 0.01 + 0.01 * RNG.standard_normal(SHAPE)) * NARROW).astype(np.float32)
NOISY = ((TRUTH + 0.02 * RNG.standard_normal(SHAPE)) * WIDE).astype(np.float32)
STUDY = Study(Geometry(SHAPE, (1.0, 0.8, 2.0)), {"shrunk": SHRUNK, "truth": TRUTH, "noisy": NOISY})

maps = st.lists(
    st.tuples(*[st.floats(-1, 1, width=32).map(lambda v: round(v, 3))] * 2), min_size=2, max_size=40
)


def test_a_line_without_noise_is_found_exactly():
    found = difference(0.8 * TRUTH.astype(float) + 0.01, TRUTH, WIDE)
    assert found[4:7] == pytest.approx((0.8, 0.01, 1.0))
    assert found.voxels == WIDE.sum()
    assert found.mean == pytest.approx(0.01 - 0.2 * TRUTH[WIDE].mean())


def test_the_figures_are_those_of_scipy_in_the_mask_alone():
    a, b = SHRUNK[NARROW].astype(float), TRUTH[NARROW].astype(float)
    line = linregress(b, a)
    sd = np.std(a - b, ddof=1)
    expected = (np.mean(a - b), sd, np.mean(a - b) - 1.96 * sd, np.mean(a - b) + 1.96 * sd)
    assert difference(SHRUNK, TRUTH, NARROW) == pytest.approx(
        (*expected, line.slope, line.intercept, line.rvalue, NARROW.sum())
    )


@given(maps)
def test_the_two_maps_exchanged_change_the_sign_of_the_difference_alone(values):
    a, b = np.array(values).T
    one, other = difference(a, b), difference(b, a)
    assert (one.mean, one.sd, one.low, one.high) == pytest.approx(
        (-other.mean, other.sd, -other.high, -other.low), abs=1e-12
    )
    assert one.correlation == pytest.approx(other.correlation, nan_ok=True)
    if np.isfinite(one.correlation):  # both slopes are least squares: their product is r²
        assert one.slope * other.slope == pytest.approx(one.correlation**2)


def test_what_is_not_finite_does_not_count():
    a = TRUTH.astype(float).copy()
    a[11, 9, 8], a[11, 9, 9] = np.nan, np.inf
    assert difference(a, TRUTH, WIDE).voxels == WIDE.sum() - 2
    assert difference(a, TRUTH, WIDE).sd == 0


def test_a_constant_map_has_no_slope_and_no_correlation():
    found = difference(TRUTH, np.full(SHAPE, 0.1), WIDE)
    assert np.isnan([found.slope, found.intercept, found.correlation]).all()
    assert difference(np.full(SHAPE, 0.1), TRUTH, WIDE).slope == pytest.approx(0, abs=1e-9)


def test_too_few_values_and_other_grids_are_refused():
    with pytest.raises(InputError, match="1 values in common; at least two"):
        difference(np.array([1.0, 2.0]), np.array([1.0, np.nan]))
    with pytest.raises(InputError, match="must lie on one grid"):
        difference(TRUTH, TRUTH[:-1])


# ----------------------------------------------------------------------------- against a reference
def test_each_map_is_scored_in_the_voxels_it_has_in_common_with_the_reference():
    table = against(STUDY, "truth")
    assert [row[0] for row in table.rows] == ["shrunk", "noisy"]
    for row, recon, mask in zip(table.rows, (SHRUNK, NOISY), (NARROW, WIDE), strict=True):
        expected = agreement(recon, TRUTH * mask, mask)
        assert row[1:-2] == pytest.approx(tuple(expected.values()))
        assert row[-2] == pytest.approx(np.polyfit(TRUTH[mask], recon[mask].astype(float), 1)[0])
        assert row[-1] == mask.sum()
    titles = [c if isinstance(c, str) else c.title for c in table.columns]
    assert titles == ["Map", *(c.title for c in AGREEMENT.values()), "Slope", "Voxels"]


def test_voxels_that_are_not_finite_spoil_no_figure():
    broken, spoilt = SHRUNK.copy(), TRUTH.copy()
    broken[11, 9, 8], spoilt[11, 9, 9] = np.nan, np.inf
    mask = NARROW.copy()
    mask[11, 9, 8:10] = False
    (row,) = against(Study(STUDY.geometry, {"broken": broken}), spoilt).rows
    assert row[1:-2] == pytest.approx(tuple(agreement(SHRUNK * mask, TRUTH * mask, mask).values()))
    assert row[-1] == mask.sum()


def test_a_reference_that_is_no_map_of_the_study_is_compared_with_all():
    table = against(STUDY, TRUTH, "known truth")
    assert [row[0] for row in table.rows] == ["shrunk", "truth", "noisy"]
    assert table.rows[1][1:5] == pytest.approx((0, 0, 0, 0), abs=1e-9)
    assert table.rows[1][5:8] == pytest.approx((1, 1, 1))
    assert table.title == "Agreement with known truth"
    assert table.rows[0] == against(STUDY, "truth").rows[0]


def test_a_reference_is_one_of_the_maps_or_on_their_grid_and_overlaps():
    with pytest.raises(InputError, match="there is no map 'COSMOS'"):
        against(STUDY, "COSMOS")
    with pytest.raises(InputError, match="must lie on one grid"):
        against(STUDY, TRUTH[:-1])
    with pytest.raises(InputError, match="shrunk and elsewhere have no voxels in common"):
        against(STUDY, np.where(WIDE, 0, 1.0), "elsewhere")


def test_the_table_tells_whose_turn_it_is_and_stops_when_asked():
    heard = []
    with running(lambda fraction, text: heard.append((fraction, text))):
        against(STUDY, "truth")
    assert heard == [(0.0, "shrunk"), (0.5, "noisy")]
    with pytest.raises(Cancelled), running(stopped=lambda: len(heard) == 2):
        against(STUDY, "truth")


# ------------------------------------------------------------------------------------ two maps
def test_a_cloud_is_counted_as_numpy_counts_it():
    x, y = RNG.standard_normal((2, 20_000))
    found = density(x, y)
    expected, *_ = np.histogram2d(x, y, (found.x_edges, found.y_edges))
    # A value on an edge but for rounding may fall to either side.
    assert np.abs(found.counts - expected).sum() <= 4
    assert found.counts.shape == (70, 70)  # half the root of the number of points
    assert found.beyond == pytest.approx(1 - found.counts.sum() / x.size)
    assert 0 < found.beyond < 0.002


def test_one_wild_voxel_does_not_shrink_the_cloud():
    x = np.append(RNG.uniform(-0.1, 0.1, 9999), 50.0)
    found = density(x, x)
    assert found.x_edges[-1] < 0.12
    assert found.beyond == pytest.approx(1e-4)


def test_both_axes_have_one_range_only_where_asked():
    x = RNG.uniform(-0.1, 0.1, 9999)
    square, free = density(x, 2 * x, square=True), density(x, 2 * x)
    np.testing.assert_array_equal(square.x_edges, square.y_edges)
    np.testing.assert_array_equal(square.y_edges, free.y_edges)
    assert free.x_edges[-1] < 0.6 * free.y_edges[-1]


def test_a_pair_has_the_first_map_upwards_and_its_difference_over_the_mean():
    assert pair(STUDY, "truth", "shrunk").difference.voxels == NARROW.sum()
    found = pair(STUDY, "shrunk", "truth")
    assert found.difference.voxels == NARROW.sum()
    a, b = SHRUNK[NARROW].astype(float), TRUTH[NARROW].astype(float)
    assert found.difference == pytest.approx(difference(SHRUNK, TRUTH, NARROW))
    for cloud, x, y in ((found.scatter, b, a), (found.bland_altman, (a + b) / 2, a - b)):
        expected, *_ = np.histogram2d(x, y, (cloud.x_edges, cloud.y_edges))
        assert np.abs(cloud.counts - expected).sum() <= 4


def test_regions_are_compared_by_their_means_where_both_maps_know_them():
    labels = np.zeros(SHAPE, int)
    labels[5:11], labels[11:14], labels[14:] = 2, 7, 9
    found = pair_of_regions(STUDY, "shrunk", "truth", labels, {2: "caudate", 9: ""})
    assert found.scatter.names == ("caudate", "region 7", "region 9")
    means = [[m[(labels == n) & NARROW].mean(dtype=float) for n in (2, 7, 9)] for m in (TRUTH, SHRUNK)]
    np.testing.assert_allclose(found.scatter[:2], means)
    np.testing.assert_allclose(found.bland_altman.y, np.subtract(means[1], means[0]))
    assert found.difference == pytest.approx(difference(np.array(means[1]), np.array(means[0])))
    with pytest.raises(InputError, match="0 values in common"):
        pair_of_regions(STUDY, "shrunk", "truth", np.zeros(SHAPE, int), {})
