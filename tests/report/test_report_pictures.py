"""The pictures of a report: the slices and the window asked for, and slices counted as a person counts."""

import dataclasses
import io
import itertools

import numpy as np
import pytest
from PIL import Image

from napari_metaqsm.errors import InputError
from napari_metaqsm.evaluation.picture import central_voxel, comparison_picture
from napari_metaqsm.reading.regions import measure_regions
from napari_metaqsm.report.pictures import map_pictures, region_plot, slice_numbers
from napari_metaqsm.scan import Geometry

RAS = Geometry((20, 30, 40), (1, 1, 1))


def pixels(picture):
    return np.asarray(Image.open(io.BytesIO(picture.png)))


def test_the_slices_are_those_of_the_voxel_at_the_window(study):
    voxel = (8, 6, 7)
    (picture,) = map_pictures(study, (-0.05, 0.2), [voxel])
    expected = comparison_picture(
        study.maps, study.geometry, window_ppm=(-0.05, 0.2), voxel=voxel,
        beside={"Magnitude, last echo": study.magnitude[-1]}, tallest_pixels=640, key=True,
    )  # fmt: skip
    np.testing.assert_array_equal(pixels(picture), np.asarray(expected))
    assert picture.size == expected.size
    assert "from −0.05 (black) to +0.2 ppm (white)" in picture.caption


def test_without_a_voxel_they_lead_through_the_middle_of_the_maps(study):
    (picture,) = map_pictures(study, (-0.1, 0.1))
    (same,) = map_pictures(study, (-0.1, 0.1), [central_voxel(study.maps, study.geometry)])
    np.testing.assert_array_equal(pixels(picture), pixels(same))
    assert picture.caption == same.caption


def test_a_voxel_outside_the_maps_is_refused(study):
    with pytest.raises(InputError, match=r"the voxel is \(99, 0, 0\); it must lie in maps of"):
        map_pictures(study, (-0.1, 0.1), [(99, 0, 0)])


@pytest.mark.parametrize(("maps", "pictures"), [(1, 1), (4, 1), (5, 2), (9, 3)])
def test_many_maps_go_into_several_pictures_and_none_is_lost(study, maps, pictures):
    chi = study.maps["TKD"]
    many = dataclasses.replace(study, maps={f"map {n}": chi for n in range(maps)}, records={}, files={})
    assert len(list(map_pictures(many, (-0.1, 0.1)))) == pictures


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("flipped", [(), (0,), (1, 2)])
def test_slices_are_counted_from_feet_left_and_back_whatever_the_axes(axes, flipped):
    """The voxel that is the 3rd from the left, 5th from the back and 7th from the feet."""
    turned = RAS.permuted(axes)
    codes, voxel = list(turned.orientation), [(2, 4, 6)[axis] for axis in axes]
    for axis in flipped:
        codes[axis] = {"R": "L", "A": "P", "S": "I"}[codes[axis]]
        voxel[axis] = turned.shape[axis] - 1 - voxel[axis]
    geometry = dataclasses.replace(turned, orientation="".join(codes))
    assert slice_numbers(geometry, voxel) == {
        "axial": (7, 40, "the feet"),
        "sagittal": (3, 20, "the left"),
        "coronal": (5, 30, "the back"),
    }


def test_the_plot_of_regions_is_a_picture_where_there_is_something_to_plot(study):
    labels = np.zeros(study.geometry.shape, int)
    labels[0, 0, 0] = 1
    assert region_plot(measure_regions(study, labels)) is None
    labels[8, 9, 7] = 2
    picture = region_plot(measure_regions(study, labels))
    shown = pixels(picture)
    assert shown.shape[1::-1] == picture.size
    assert (shown[0, 0] == 255).all()  # white paper
    assert shown.min() < 60
