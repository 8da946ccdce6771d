"""Bodies on a grid: their volume, their place, and fields that obey what fields obey."""

import math

import pytest
import torch

from napari_metaqsm.scan import Geometry
from napari_metaqsm.simulation.shapes import cylinder, cylinder_field, sphere, sphere_field

GRID = Geometry((48, 45, 20), (1.0, 1.2, 3.0), (0.3, -0.2, 1.0))
VOXEL = math.prod(GRID.voxel_size_mm)


@pytest.mark.parametrize("centre", [(0, 0, 0), (1.3, -2.2, 0.9), (0.5, 0.6, 1.5)])
@pytest.mark.parametrize("radius", [6.0, 10.0])
def test_a_sphere_has_its_volume_and_its_place(radius, centre):
    filled = sphere(GRID, radius, centre)
    assert float(filled.sum()) * VOXEL == pytest.approx(4 / 3 * math.pi * radius**3, rel=0.015)
    for axis, (n, size, at) in enumerate(zip(GRID.shape, GRID.voxel_size_mm, centre, strict=True)):
        profile = filled.sum(dim=[a for a in range(3) if a != axis])
        places = (torch.arange(n) - (n - 1) / 2) * size
        assert float((profile * places).sum() / profile.sum()) == pytest.approx(at, abs=0.02)


@pytest.mark.parametrize("axis", [(0, 0, 1), (1, 0, 0), (1, 1, 1), (1, 0, 0.5)])
def test_a_cylinder_has_its_volume(axis):
    filled = cylinder(GRID, 7.0, axis, length_mm=30.0)
    assert float(filled.sum()) * VOXEL == pytest.approx(math.pi * 49 * 30, rel=0.03)


def test_values_lie_between_nothing_and_all():
    for filled in (sphere(GRID, 9.0), cylinder(GRID, 5.0, (1, 2, 3))):
        assert filled.dtype == torch.float32
        assert (float(filled.min()), float(filled.max())) == (0, 1)


def test_fields_on_the_axis_of_b0():
    grid = Geometry((41, 41, 41), (1.0, 1.0, 1.0))
    field = sphere_field(grid, 5.0)
    assert float(field[20, 20, 20]) == 0
    assert float(field[20, 20, 30]) == pytest.approx(2 / 3 / 8)  # r = 2a along B0
    assert float(field[30, 20, 20]) == pytest.approx(-1 / 3 / 8)  # and across
    along, across = cylinder_field(grid, 5.0, (0, 0, 2)), cylinder_field(grid, 5.0, (0, 3, 0))
    assert float(along[20, 20, 20]) == pytest.approx(1 / 3)
    assert float(along[32, 20, 20]) == pytest.approx(0, abs=1e-7)
    assert float(across[20, 20, 20]) == pytest.approx(-1 / 6)
    assert float(across[20, 20, 30]) == pytest.approx(1 / 8)  # in the plane of B0 and axis: cos 2phi = 1
    assert float(across[30, 20, 20]) == pytest.approx(-1 / 8)


@pytest.mark.parametrize("field", [sphere_field(GRID, 6.0), cylinder_field(GRID, 6.0, (1, 2, 1))])
def test_fields_are_harmonic_outside(field):
    laplacian = sum(
        (field.roll(1, axis) + field.roll(-1, axis) - 2 * field) / size**2
        for axis, size in enumerate(GRID.voxel_size_mm)
    )
    curvature = sum(
        ((field.roll(1, axis) + field.roll(-1, axis) - 2 * field) / size**2).abs()
        for axis, size in enumerate(GRID.voxel_size_mm)
    )
    # Far enough for differences over 3 mm to stand for derivatives.
    far = (sphere(GRID, 16.0) == 0) & (cylinder(GRID, 16.0, (1, 2, 1)) == 0)
    far[[0, -1]] = far[:, [0, -1]] = far[:, :, [0, -1]] = False
    assert float(laplacian[far].norm() / curvature[far].norm()) < 0.06
