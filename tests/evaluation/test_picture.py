"""The picture of maps side by side: the same whatever the axes, right on the left, one gray window."""

import itertools

import numpy as np
import pytest

from napari_metaqsm.errors import InputError
from napari_metaqsm.evaluation.picture import central_voxel, comparison_picture
from napari_metaqsm.scan import Geometry

RAS = Geometry((40, 50, 30), (1.0, 1.0, 2.0))
# Between the axial, sagittal and coronal cells of a picture of it: 50, 60 and 60 mm of 340 pixels in 60 mm.
LOWER_CELLS = (313, 661)


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


def test_planes_lead_through_the_voxel_that_is_asked_for():
    volume = np.zeros(RAS.shape, np.float32)
    volume[2:-2, 2:-2, 2:-2] = 1e-6
    spotted = volume.copy()
    spotted[8, 11, 22] = 0.2
    changed = {}
    for voxel in ((8, 11, 22), (20, 25, 15), (20, 25, 22)):
        without, spot = (
            np.asarray(comparison_picture({"m": m}, RAS, voxel=voxel), int) for m in (volume, spotted)
        )
        rows = np.nonzero(without != spot)[0]
        changed[voxel] = set(np.searchsorted(LOWER_CELLS, rows).tolist())
    # In all three planes, in none, and in the axial one alone.
    assert list(changed.values()) == [{0, 1, 2}, set(), {0}]
    filled = comparison_picture({"m": volume}, RAS)
    middle = comparison_picture({"m": volume}, RAS, voxel=central_voxel({"m": volume}, RAS))
    np.testing.assert_array_equal(np.asarray(filled), np.asarray(middle))


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
def test_the_central_voxel_is_the_same_place_in_any_axes(chi, axes):
    turned = chi.transpose(axes)
    voxel = central_voxel({"map": turned}, RAS.permuted(axes))
    assert voxel == tuple(central_voxel({"map": chi}, RAS)[axis] for axis in axes)


def test_the_window_says_what_is_black_and_what_white(chi):
    flat = np.where(chi != 0, np.float32(0.05), 0)
    grays = [
        np.bincount(np.asarray(comparison_picture({"m": flat}, RAS, window_ppm=w))[30:300, 30:200].ravel())
        for w in ((-0.1, 0.1), (0.0, 0.2), (-0.2, 0.05))
    ]
    assert [int(counts.argmax()) for counts in grays] == pytest.approx([191, 64, 255], abs=1)
    with pytest.raises(InputError, match=r"window_ppm is \(0\.1, -0\.1\)"):
        comparison_picture({"m": flat}, RAS, window_ppm=(0.1, -0.1))


def test_maps_or_planes_stand_across_beside_images_of_other_kinds(chi):
    tall = comparison_picture({"one": chi}, RAS, beside={"Magnitude": chi + 1})
    wide = comparison_picture({"one": chi}, RAS, beside={"Magnitude": chi + 1}, across="planes")
    assert tall.height > tall.width
    assert wide.width > wide.height
    with pytest.raises(InputError, match="across is 'rows'"):
        comparison_picture({"one": chi}, RAS, across="rows")


def test_the_length_scale_is_as_long_as_it_says(chi):
    plain = np.asarray(comparison_picture({"m": chi}, RAS, tallest_pixels=680))
    keyed = np.asarray(comparison_picture({"m": chi}, RAS, tallest_pixels=680, key=True))
    np.testing.assert_array_equal(keyed[: len(plain)], plain)
    strip = keyed[len(plain) :] == 255
    line = strip[strip[:, :200].sum(1).argmax()]
    start = line.argmax()
    length = line[start:].argmin()
    # The longest side, 60 mm, has 680 pixels; a third of that holds 20 mm.
    assert length == pytest.approx(20 / 60 * 680, abs=5)  # the ticks at its ends are 4 wide


def test_the_rim_of_a_mask_is_drawn_in_a_colour_on_every_image(chi):
    outline = np.zeros(RAS.shape, bool)
    outline[10:30, 10:40, 8:22] = True
    settings = {"beside": {"other": np.abs(chi)}, "windows": {"other": (0.0, 0.2)}}
    picture = comparison_picture({"map": chi}, RAS, outline=outline, **settings)
    plain = np.asarray(comparison_picture({"map": chi}, RAS, **settings)).astype(int)
    colours = np.asarray(picture.convert("RGB")).astype(int)
    rim = colours[..., 0] != colours[..., 2]
    assert picture.size == plain.shape[::-1]
    np.testing.assert_array_equal(colours[~rim, 1], np.minimum(plain, 254)[~rim])
    # A millimetre is 340 pixels / 60: the mask's 20 × 30 and 30 × 28 and 20 × 28 mm, on two images.
    around = 2 * 2 * (50 + 58 + 48) * 340 / 60
    assert 0.9 < rim.sum() / around < 1.02


def test_an_image_beside_the_maps_may_have_a_window_of_its_own(chi):
    field = np.where(chi != 0, np.float32(-0.025), np.float32(0))
    picture = comparison_picture({"map": chi}, RAS, beside={"field": field}, windows={"field": (-0.05, 0.05)})
    values = np.bincount(np.asarray(picture).ravel(), minlength=256)
    assert values[63] > 10_000  # a quarter of the way from black to white
    assert np.bincount(np.asarray(comparison_picture({"map": chi}, RAS)).ravel(), minlength=256)[63] < 100
