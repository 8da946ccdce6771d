"""The picture of maps side by side: the same whatever the axes, right on the left, one gray window."""

import itertools

import numpy as np
import pytest

from napari_metaqsm.evaluation.picture import comparison_picture
from napari_metaqsm.scan import Geometry

RAS = Geometry((40, 50, 30), (1.0, 1.0, 2.0))


@pytest.fixture
def chi():
    """A gray head with one bright spot, at the patient's right, anterior and superior."""
    chi = np.zeros(RAS.shape, np.float32)
    chi[2:-2, 2:-2, 2:-2] = 1e-6
    chi[30:34, 36:42, 10:20] = 0.2  # right of the middle, in front of it, at its height
    return chi


def cells(picture):
    """Axial, sagittal and coronal cell of the first map, without letters at their edges."""
    pixels = np.asarray(picture).astype(float)
    rows = np.flatnonzero((pixels[:, 30:200] > 100).mean(1) > 0.5)  # gray runs; the margins are black
    parts = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)
    return [pixels[part[0] + 20 : part[-1] - 20, 30:-130] for part in parts]


def test_the_patients_right_is_on_the_left_and_anterior_is_up(chi):
    axial, *_ = cells(comparison_picture({"map": chi}, RAS))
    rows, columns = np.nonzero(axial > 250)
    assert rows.mean() < axial.shape[0] * 0.45
    assert columns.mean() < axial.shape[1] * 0.45


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3)))[1:])
def test_it_is_the_same_in_any_order_and_sense_of_the_axes(chi, axes):
    straight = comparison_picture({"map": chi}, RAS)
    turned = np.flip(chi.transpose(axes), 1)
    codes = list(RAS.permuted(axes).orientation)
    codes[1] = {"R": "L", "A": "P", "S": "I"}[codes[1]]
    size = RAS.permuted(axes).voxel_size_mm
    picture = comparison_picture({"map": turned}, Geometry(turned.shape, size, orientation="".join(codes)))
    np.testing.assert_array_equal(np.asarray(picture), np.asarray(straight))


def test_all_maps_share_the_window_and_pixels_are_square(chi):
    picture = np.asarray(comparison_picture({"one": np.where(chi > 0.1, 0.05, chi), "other": chi}, RAS))
    left, right = (
        picture[:, : (picture.shape[1] - 100) // 2],
        picture[:, (picture.shape[1] - 100) // 2 : -100],
    )
    inside = left[26:, 20:-20]
    assert np.any((inside > 185) & (inside < 197))  # 0.05 ppm is three quarters of the way to white
    assert (right[40:, 20:-20] == 255).sum() > (left[40:, 20:-20] == 255).sum()
    one = cells(comparison_picture({"map": chi}, RAS))
    # 50 mm from front to back in the axial cell, 60 mm from top to bottom in the coronal one.
    assert (one[2].shape[0] + 41) / (one[0].shape[0] + 41) == pytest.approx(60 / 50, rel=0.05)
