"""Geometry, acquisition and scan: what they keep, and what they refuse in which words."""

import numpy as np
import pytest

from napari_metaqsm.errors import InputError
from napari_metaqsm.scan import Acquisition, Geometry, Scan, turn

GRID = Geometry((4, 5, 6), (1.0, 0.8, 2.0), (0.0, 3.0, 4.0), "lpi")


def test_geometry_keeps_a_unit_direction_and_capital_letters():
    assert GRID.b0_direction == pytest.approx((0, 0.6, 0.8))
    assert GRID.orientation == "LPI"
    assert Geometry(np.array([4, 5, 6]), np.ones(3)).shape == (4, 5, 6)


def test_geometry_of_turned_axes():
    turned = GRID.permuted((2, 0, 1))
    assert turned.shape == np.zeros(GRID.shape).transpose(2, 0, 1).shape
    assert turned.voxel_size_mm == (2.0, 1.0, 0.8)
    assert turned.b0_direction == pytest.approx((0.8, 0, 0.6))
    assert turned.orientation == "ILP"
    assert turned.permuted((1, 2, 0)) == GRID


@pytest.mark.parametrize("orientation", ["RAS", "LPI", "SAL", "PIR"])
def test_a_turn_takes_each_axis_where_it_should_point(orientation):
    # A voxel's place in the patient: how far it lies to the right, anterior and superior.
    places = np.stack(np.meshgrid(*map(np.arange, (3, 4, 5)), indexing="ij"), axis=-1)
    axes = ["RAS".find(c) if c in "RAS" else "LPI".find(c) for c in orientation]
    array = places.transpose(*axes, 3)
    array = np.flip(array, [a for a, c in enumerate(orientation) if c in "LPI"])
    order, flipped = turn(orientation, "IPL")
    turned = np.flip(array.transpose(*order, 3), flipped)
    np.testing.assert_array_equal(np.diff(turned[:, 0, 0, 2]), -1)  # down along the first axis
    np.testing.assert_array_equal(np.diff(turned[0, :, 0, 1]), -1)
    np.testing.assert_array_equal(np.diff(turned[0, 0, :, 0]), -1)


def test_geometry_on_another_matrix():
    assert GRID.with_shape([8, 8, 8]) == Geometry((8, 8, 8), (1.0, 0.8, 2.0), (0.0, 0.6, 0.8), "LPI")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((4, 5),), r"the image has 2 axes; susceptibility mapping needs a 3-D volume"),
        (((4, 5, 1),), r"the image is 4×5×1 voxels; a single slice has no 3-D field"),
        (((4, 5, 6), (1, 1)), r"voxel_size_mm is \(1.0, 1.0\); it must be three finite numbers"),
        (((4, 5, 6), (1, 0, 1)), r"voxel_size_mm is \(1.0, 0.0, 1.0\); each must be greater than 0"),
        (((4, 5, 6), (1, -1, 1)), r"each must be greater than 0"),
        (((4, 5, 6), (1, float("nan"), 1)), r"it must be three finite numbers"),
        (((4, 5, 6), "abc"), r"voxel_size_mm is 'abc'; it must be three numbers"),
        (((4, 5, 6), (1, 1, 1), (0, 0, 0)), r"b0_direction is \(0, 0, 0\); it must point along B0"),
        (((4, 5, 6), (1, 1, 1), (0, 0, 1), "RLS"), r"orientation is 'RLS'; it must be three letters"),
        (((4, 5, 6), (1, 1, 1), (0, 0, 1), "RA"), r"orientation is 'RA'; it must be three letters"),
    ],
)
def test_geometry_refuses(arguments, message):
    with pytest.raises(InputError, match=message):
        Geometry(*arguments, **({"voxel_size_mm": (1, 1, 1)} if len(arguments) == 1 else {}))


def test_field_strength_must_be_a_number():
    assert Acquisition(b0_tesla="3").b0_tesla == 3.0
    with pytest.raises(InputError, match="b0_tesla is 'strong'; it must be the field strength in tesla"):
        Acquisition(b0_tesla="strong")


def test_acquisition_takes_one_echo_time_or_several_of_any_spacing():
    assert Acquisition(0.02).echo_times_s == (0.02,)
    assert Acquisition(np.array([0.004, 0.011])).echo_times_s == (0.004, 0.011)
    assert Acquisition().echo_times_s is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"echo_times_s": ()}, r"there are no echo times; give one per echo, in seconds"),
        ({"echo_times_s": (0.0, 0.01)}, r"echo_times_s is 0, 0.01; each must be greater than 0"),
        ({"echo_times_s": (-0.01,)}, r"each must be greater than 0"),
        ({"echo_times_s": (float("nan"),)}, r"each must be greater than 0"),
        (
            {"echo_times_s": (4.0, 8.0)},
            r"echo_times_s is 4, 8; that looks like milliseconds, give seconds: 0.004, 0.008",
        ),
        ({"echo_times_s": (4e-6,)}, r"no echo is that short, check the unit"),
        ({"echo_times_s": (0.008, 0.004)}, r"echo_times_s is 0.008, 0.004; they must ascend"),
        ({"echo_times_s": (0.004, 0.004)}, r"they must ascend"),
        ({"b0_tesla": 0.0}, r"b0_tesla is 0; the field strength must lie in \(0, 25\] T"),
        ({"b0_tesla": 3000.0}, r"b0_tesla is 3000; "),
        ({"b0_tesla": float("nan")}, r"b0_tesla is nan; "),
        ({"phase_sign": 0}, r"phase_sign is 0; it must be 1 or -1"),
        ({"phase_pi": 0.0}, r"phase_pi is 0.0; it must be the stored value that means pi"),
        ({"phase_pi": float("inf")}, r"phase_pi is inf; "),
    ],
)
def test_acquisition_refuses(values, message):
    with pytest.raises(InputError, match=message):
        Acquisition(**values)


def test_scan_gives_single_echoes_their_axis_and_lists_what_it_holds():
    scan = Scan(GRID, Acquisition(0.02), phase=np.zeros(GRID.shape), mask=np.ones(GRID.shape, bool))
    assert scan.phase.shape == (1, *GRID.shape)
    assert set(scan.arrays()) == {"phase", "mask"}


def test_scan_with_another_mask_forgets_where_the_first_came_from():
    scan = Scan(GRID, mask=np.ones(GRID.shape, bool), sources={"mask": "a", "phase": "b"})
    other = scan.with_mask(None)
    assert other.mask is None
    assert other.sources == {"phase": "b"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"mask": np.ones((4, 5, 7))},
            r"the mask is 4×5×7 voxels, but the scan is 4×5×6; they must match",
        ),
        ({"total_field": np.ones((2, 4, 5, 6))}, r"the total field is 2×4×5×6 voxels, but the scan is"),
        ({"magnitude": np.ones((1, 2, 4, 5, 6))}, r"the magnitude is 1×2×4×5×6 voxels"),
        ({"magnitude": np.ones((5, 6))}, r"the magnitude is 5×6 voxels"),
        ({"phase": np.ones((4, 5, 6), complex)}, r"the phase is complex; give magnitude and phase apart"),
        (
            {"phase": np.ones((3, 4, 5, 6)), "acquisition": Acquisition((0.01, 0.02))},
            r"there are 2 echo times for 3 echoes of phase; give one for each",
        ),
    ],
)
def test_scan_refuses(values, message):
    with pytest.raises(InputError, match=message):
        Scan(GRID, **values)
