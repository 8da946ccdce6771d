"""What is drawn over the pictures, pixel by pixel, and how the mouse changes a window."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_metaqsm.plugin.reading.marks import CROSS, LETTER, NOTHING, OUTLINE, Letters, draw, raster_of
from napari_metaqsm.plugin.reading.mouse import dragged


def test_pixels_are_square_and_voxels_a_whole_number_of_the_finer_ones():
    raster = raster_of((20, 100), (3.0, 0.5))  # 60 × 50 mm
    assert raster.shape == (720, 600)
    assert raster.per_voxel == (36.0, 6.0)
    assert raster_of((512, 512), (0.45, 0.45)).shape == (512, 512)


def test_the_outline_is_the_rim_of_the_mask_and_no_more():
    mask = np.zeros((8, 8), bool)
    mask[2:6, 3:7] = True
    marks = draw(raster_of((8, 8), (1, 1)), mask)  # 96 pixels a voxel
    rows, columns = np.nonzero(marks == OUTLINE)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (192, 575, 288, 671)
    assert (marks == OUTLINE).sum() == 4 * 384 - 4  # one pixel wide
    assert set(np.unique(marks)) == {NOTHING, OUTLINE}


def test_a_thicker_outline_stays_inside_the_mask():
    mask = np.zeros((8, 8), bool)
    mask[2:6, 3:7] = True
    marks = draw(raster_of((8, 8), (1, 1)), mask, thickness=3)
    assert (marks == OUTLINE).sum() == 384**2 - (384 - 6) ** 2


def test_the_cross_hair_meets_in_the_middle_of_its_voxel_and_leaves_it_free():
    raster = raster_of((8, 16), (2, 1))  # 16 × 16 mm, 768 pixels
    marks = draw(raster, cross=(3, 5))
    down, right = (3 + 0.5) * 96, (5 + 0.5) * 48
    rows, columns = (
        np.flatnonzero((marks == CROSS).sum(1) > 100),
        np.flatnonzero((marks == CROSS).sum(0) > 100),
    )
    assert abs(rows.mean() + 0.5 - down) <= 1
    assert abs(columns.mean() + 0.5 - right) <= 1
    around = marks[int(down) - 5 : int(down) + 5, int(right) - 5 : int(right) + 5]
    assert not around.any()


@given(
    st.tuples(st.integers(2, 60), st.integers(2, 60)),
    st.tuples(st.floats(0.3, 4), st.floats(0.3, 4)),
    st.floats(0.5, 20),
    st.data(),
)
def test_a_cross_hair_can_stand_in_any_voxel_with_lines_of_any_width(shape, steps, thickness, data):
    cross = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    raster = raster_of(shape, steps)
    marks = draw(raster, np.ones(shape, bool), cross, wipe=1, thickness=thickness)
    assert marks.shape == raster.shape
    rows, columns = np.nonzero(marks == CROSS)
    if rows.size:  # a thick one in a corner is all gap
        across = [int((v + 0.5) * per) for v, per in zip(cross, raster.per_voxel, strict=True)]
        near = (abs(rows - across[0]) <= thickness + 1) | (abs(columns - across[1]) <= thickness + 1)
        assert near.all()


def test_letters_stand_about_the_brain_each_on_its_side():
    raster = raster_of((40, 40), (1, 1))
    names = {"left": "R", "right": "L", "top": "A", "bottom": "P"}
    marks = draw(raster, letters=Letters(names, (10, 12), (29, 27)))
    per = raster.per_voxel[0]
    seen = marks == LETTER
    assert seen[: int(10 * per), int(15 * per) : int(25 * per)].any()  # A
    assert seen[int(30 * per) :, int(15 * per) : int(25 * per)].any()  # P
    assert seen[int(15 * per) : int(25 * per), : int(12 * per)].any()  # R
    assert seen[int(15 * per) : int(25 * per), int(28 * per) :].any()  # L
    assert not seen[int(10 * per) : int(30 * per), int(12 * per) : int(28 * per)].any()
    only_left = draw(raster, letters=Letters({"left": "R"}, (10, 12), (29, 27))) == LETTER
    assert (only_left & seen).sum() == only_left.sum() < seen.sum()


@given(st.floats(-1, 1), st.floats(0.001, 2), st.floats(-500, 500), st.floats(-500, 500))
def test_a_drag_to_the_right_widens_and_one_down_raises_the_level(low, width, right, down):
    start = (low, low + width)
    found = dragged(start, right, down)
    assert found[0] < found[1]
    assert np.ptp(found) == pytest.approx(width * np.exp(right / 150), rel=1e-6)
    assert np.mean(found) - np.mean(start) == pytest.approx(width * down / 300, abs=1e-9)
