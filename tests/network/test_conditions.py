"""How a scan is turned, measured and encoded for the network."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_metaqsm.network.conditions import (
    CONDITIONS,
    Level,
    encode,
    measure_level,
    outside_trained_range,
    turned,
)
from napari_metaqsm.operators.dipole import dipole_field, dipole_kernel
from napari_metaqsm.operators.fourier import multiply_spectrum
from napari_metaqsm.scan import Geometry
from napari_metaqsm.simulation.shapes import sphere

GEOMETRY = Geometry((48, 50, 32), (0.8, 0.9, 2.0), (0.1, 0.2, 1.0))
MASK = sphere(GEOMETRY, 17.0) > 0.5

numbers = st.floats(-1, 1).filter(lambda b: b == 0 or abs(b) > 1e-3)
geometries = st.builds(
    Geometry,
    st.permutations((4, 5, 6)),
    st.tuples(*[st.sampled_from([0.5, 1.0, 3.0])] * 3),
    st.tuples(numbers, numbers, numbers).filter(any),
)


def noise(seed: int = 0) -> torch.Tensor:
    return torch.randn(GEOMETRY.shape, generator=torch.Generator().manual_seed(seed))


def field_of_a_susceptibility() -> torch.Tensor:
    bodies = 0.1 * sphere(GEOMETRY, 5.0, (3, 2, -4)) - 0.2 * sphere(GEOMETRY, 3.0, (-5, 1, 2))
    return dipole_field(bodies + 0.02 * noise() * MASK, GEOMETRY) * MASK


# ------------------------------------------------------------------------------------- turning
@settings(max_examples=50, deadline=None)
@given(geometry=geometries)
def test_a_turned_scan_can_be_turned_back_and_has_the_same_physics(geometry):
    turn, after = turned(geometry)
    x = torch.randn(2, *geometry.shape, dtype=torch.float64)
    there = turn.apply(x)
    assert tuple(there.shape[-3:]) == after.shape
    assert torch.equal(turn.undo(there), x)
    field = multiply_spectrum(x, dipole_kernel(geometry, like=x))
    expected = multiply_spectrum(there.contiguous(), dipole_kernel(after, like=x))
    torch.testing.assert_close(turn.apply(field), expected, rtol=0, atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(geometry=geometries)
def test_every_turned_scan_has_b0_along_the_last_axis_and_the_finer_axis_first(geometry):
    _, after = turned(geometry)
    assert min(after.b0_direction) >= 0
    assert after.b0_direction[2] == max(after.b0_direction)
    assert after.voxel_size_mm[0] <= after.voxel_size_mm[1]
    assert sorted(after.voxel_size_mm) == sorted(geometry.voxel_size_mm)


def test_the_same_scan_in_any_order_and_sense_of_its_axes_is_turned_alike():
    x = noise()
    turn, after = turned(GEOMETRY)
    expected = turn.apply(x)
    for axes in itertools.permutations(range(3)):
        permuted = GEOMETRY.permuted(axes)
        for flipped in ((), (0,), (1, 2)):
            b0 = tuple(-b if a in flipped else b for a, b in enumerate(permuted.b0_direction))
            turn, found = turned(Geometry(permuted.shape, permuted.voxel_size_mm, b0))
            assert found.voxel_size_mm == after.voxel_size_mm
            assert found.b0_direction == pytest.approx(after.b0_direction)
            assert torch.equal(turn.apply(x.permute(axes).flip(flipped)), expected)


# --------------------------------------------------------------------------------------- level
def test_level_is_low_for_a_dipole_field_and_one_for_white_noise():
    explained = measure_level(field_of_a_susceptibility(), MASK, GEOMETRY)
    assert explained.mismatch < 0.2
    assert explained.noise < 0.35
    unexplained = measure_level(noise(1) * MASK, MASK, GEOMETRY)
    assert unexplained.mismatch > 0.95
    assert unexplained.noise > 0.95


def test_level_grows_with_noise_and_not_with_the_strength_or_sign_of_the_field():
    field = field_of_a_susceptibility()
    levels = [measure_level(field + a * field.std() * noise(2) * MASK, MASK, GEOMETRY) for a in (0, 0.5, 2)]
    assert sorted(levels) == levels
    assert sorted(level.noise for level in levels) == [level.noise for level in levels]
    for factor in (1e-3, 7.0, -1.0):
        assert measure_level(factor * field, MASK, GEOMETRY) == pytest.approx(levels[0], rel=1e-3)


def test_no_field_has_level_zero():
    assert measure_level(torch.zeros(GEOMETRY.shape), MASK, GEOMETRY) == (0, 0)


def test_calm_goes_from_no_level_over_the_measured_one_to_the_full():
    level = Level(0.2, 0.6)
    assert level.calmed(-1) == (0, 0)
    assert level.calmed(0) == level
    assert level.calmed(1) == (1, 1)
    assert level.calmed(-0.5) == pytest.approx((0.1, 0.3))
    assert level.calmed(0.5) == pytest.approx((0.6, 0.8))


# ------------------------------------------------------------------------------------ encoding
def test_code_is_bounded_and_has_the_length_that_the_architecture_counts_on():
    for name, length in CONDITIONS.items():
        assert encode(GEOMETRY, Level(0.3, 0.4), (name,)).shape == (length,)
    far = Geometry((4, 4, 4), (0.01, 5.0, 90.0))
    code = encode(far, Level(0, 1), tuple(CONDITIONS))
    assert float(code.abs().max()) <= 1
    assert encode(far, Level(0, 1), ()).numel() == 0


def test_code_depends_on_each_of_its_conditions_and_on_nothing_else():
    code = encode(GEOMETRY, Level(0.3, 0.4), ("voxel_size", "b0_direction"))
    assert torch.equal(code, encode(GEOMETRY, Level(0.9, 0.9), ("voxel_size", "b0_direction")))
    tilted = Geometry(GEOMETRY.shape, GEOMETRY.voxel_size_mm, (0.0, 0.3, 1.0))
    assert torch.equal(code[:6], encode(tilted, Level(0, 0), ("voxel_size",)))
    assert not torch.equal(code[6:], encode(tilted, Level(0, 0), ("b0_direction",)))
    wider = Geometry(GEOMETRY.shape, (0.8, 0.9, 2.2), GEOMETRY.b0_direction)
    assert not torch.equal(code[:6], encode(wider, Level(0, 0), ("voxel_size",)))
    assert float(code[:6].reshape(3, 2).norm(dim=1).sub(1).abs().max()) < 1e-6


@pytest.mark.parametrize(
    ("size", "b0", "message"),
    [
        ((1.0, 1.0, 3.0), (0, 0, 1), None),
        ((0.5, 1.25, 4.0), (0, 0.4, 1), None),
        ((3.0, 1.0, 0.6), (1, 0, 0), None),  # sagittal slices
        ((1.0, 1.0, 5.0), (0, 0, 1), "voxels of 5 mm along B0 (nearest trained: 4 mm)"),
        ((0.3, 1.0, 2.0), (0, 0, 1), "voxels of 0.3 mm across B0 (nearest trained: 0.5 mm)"),
        (
            (1.0, 1.0, 1.0),
            (0, math.sin(math.radians(40)), math.cos(math.radians(40))),
            "B0 40 degrees off the nearest axis (nearest trained: 30 degrees)",
        ),
    ],
)
def test_what_lies_outside_the_trained_range_is_named_with_the_nearest_edge(size, b0, message):
    assert outside_trained_range(Geometry((8, 8, 8), size, b0)) == message
