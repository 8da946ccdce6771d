"""Profiles: a linear ramp is met exactly, distances are in mm, and nothing is made up outside the mask."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import RegularGridInterpolator

from napari_metaqsm.errors import InputError
from napari_metaqsm.reading.profile import profile
from napari_metaqsm.reading.study import Study
from napari_metaqsm.scan import Geometry

SHAPE, SIZE = (9, 11, 7), (0.5, 1.0, 2.0)
ROW, COLUMN, SLICE = np.indices(SHAPE)
RAMP = 1 + 0.3 * ROW - 0.2 * COLUMN + 0.1 * SLICE + 5.0
NOISE = np.random.default_rng(1).standard_normal(SHAPE)
STUDY = Study(Geometry(SHAPE, SIZE), {"ramp": RAMP, "noise": NOISE})

place = st.tuples(*(st.floats(0, n - 1) for n in SHAPE))


@given(start=place, end=place)
def test_a_linear_map_is_met_exactly_and_any_map_as_scipy_interpolates_it(start, end):
    length = np.linalg.norm(np.subtract(end, start) * SIZE)
    if length < 1e-6:
        return
    found = profile(STUDY, np.array([start, end]), step_mm=0.3)
    assert found.distances_mm[-1] == pytest.approx(length)
    assert np.diff(found.distances_mm).max() <= 0.3 + 1e-9
    along = found.distances_mm[:, None] / length
    places = start + along * np.subtract(end, start)
    np.testing.assert_allclose(found.values["ramp"], 6 + places @ (0.3, -0.2, 0.1), rtol=1e-9)
    expected = RegularGridInterpolator([np.arange(n) for n in SHAPE], NOISE, bounds_error=False)(places)
    known = np.isfinite(expected)  # rounding may put an end beyond the grid
    np.testing.assert_allclose(found.values["noise"][known], expected[known], atol=1e-9)


def test_distances_go_on_round_a_corner_in_mm():
    found = profile(STUDY, np.array([(0, 0, 0), (8, 0, 0), (8, 0, 3)]))
    assert found.corners_mm == pytest.approx((4.0,))
    assert found.distances_mm == pytest.approx(np.arange(41) * 0.25)  # half the smallest side
    assert found.values["ramp"][[0, 16, 40]] == pytest.approx((6, 8.4, 8.7))
    assert found.values["noise"][[0, 8, 16, 24]] == pytest.approx(
        (NOISE[0, 0, 0], NOISE[4, 0, 0], NOISE[8, 0, 0], NOISE[8, 0, 1])
    )


def test_a_map_is_unknown_wherever_a_voxel_outside_its_mask_would_count():
    masked = np.where(ROW < 4, RAMP, 0)
    broken = RAMP.copy()
    broken[2, 5, 3] = np.nan
    study = Study(STUDY.geometry, {"all": RAMP, "masked": masked, "broken": broken})
    found = profile(study, np.array([(0, 5, 3), (8, 5, 3)]), step_mm=0.25)
    at = found.distances_mm / 0.5
    np.testing.assert_array_equal(np.isnan(found.values["masked"]), at > 3)
    np.testing.assert_array_equal(np.isnan(found.values["broken"]), np.abs(at - 2) < 1)
    assert np.isfinite(found.values["all"]).all()


def test_beyond_the_grid_nothing_is_known():
    found = profile(STUDY, np.array([(-2, 5, 3), (10, 5, 3)]), step_mm=0.25)
    at = -2 + found.distances_mm / 0.5
    np.testing.assert_array_equal(np.isfinite(found.values["ramp"]), (at >= 0) & (at <= 8))
    everywhere = profile(STUDY, np.array([(-9, -9, 3), (-5, -9, 3)]))
    assert np.isnan(everywhere.values["ramp"]).all()


@pytest.mark.parametrize(
    ("points", "step", "words"),
    [
        ([(1, 2, 3)], None, "the line has no length"),
        ([(1, 2, 3), (1, 2, 3)], None, "the line has no length"),
        ([(1, 2), (3, 4)], None, "points of three coordinates"),
        ([(1, 2, 3), (1, np.nan, 3)], None, "points of three coordinates"),
        ([(1, 2, 3), (1, 2, 4)], 0.0, r"step_mm is 0\.0; it must be greater than 0"),
    ],
)
def test_a_line_that_is_none_is_refused(points, step, words):
    with pytest.raises(InputError, match=words):
        profile(STUDY, np.array(points, float), step)


@pytest.mark.parametrize(
    ("end", "course"),
    [
        ((3, 2, 0), ("right", "left")),  # 1.5 mm, 2 mm and no mm: the second axis, which is the patient's
        ((3, 0, 1), ("inferior", "superior")),
        ((3, -1, 0), ("anterior", "posterior")),
        ((-3, 1, 0), ("posterior", "anterior")),
    ],
)
def test_the_course_is_told_by_the_axis_that_the_line_runs_along_most(end, course):
    study = Study(Geometry(SHAPE, SIZE, orientation="PLS"), {"ramp": RAMP})
    assert profile(study, np.array([(4, 4, 2), np.add((4, 4, 2), end)])).course == course
