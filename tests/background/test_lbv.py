"""LBV against a dense solution of Laplace's equation, on harmonic polynomials, and what it refuses."""

import dataclasses

import numpy as np
import pytest
import scipy.ndimage
import torch

from napari_metaqsm.background.lbv import LBVParameters, lbv
from napari_metaqsm.errors import InputError, MetaQSMWarning
from napari_metaqsm.method import running
from napari_metaqsm.operators.laplacian import laplacian_stencil
from napari_metaqsm.scan import Geometry

GEOMETRY = Geometry((13, 12, 9), voxel_size_mm=(1.0, 0.8, 2.0), b0_direction=(0.2, 0.0, 1.0))
TIGHT = LBVParameters(tolerance=1e-8)


@pytest.fixture
def mask():
    """Nearly everything, up to the image border, with a voxel missing inside."""
    mask = torch.ones(GEOMETRY.shape, dtype=torch.bool)
    mask[:2, :3] = False
    mask[6, 5, 4] = False
    return mask


@pytest.fixture
def field():
    return torch.randn(GEOMETRY.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def dense_local_field(field: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """f - h, h with the boundary's values and every stencil sum inside zero; and where inside is."""
    stencil = laplacian_stencil(GEOMETRY.voxel_size_mm)
    inside = scipy.ndimage.binary_erosion(mask, stencil != 0)
    number = np.full(mask.shape, -1)
    number[inside] = np.arange(inside.sum())
    matrix, right = np.zeros((inside.sum(), inside.sum())), np.zeros(inside.sum())
    for row, voxel in enumerate(np.argwhere(inside)):
        for step in np.argwhere(stencil != 0):
            neighbour, weight = tuple(voxel + step - 1), stencil[tuple(step)]
            if inside[neighbour]:
                matrix[row, number[neighbour]] += weight
            else:
                right[row] -= weight * field[neighbour]
    harmonic = np.where(mask, field, 0)
    harmonic[inside] = np.linalg.solve(matrix, right)
    return (field - harmonic) * inside, inside


def test_it_is_what_dense_linear_algebra_finds(mask, field):
    expected, inside = dense_local_field(field.numpy(), mask.numpy())
    assert 100 < inside.sum() < 1000
    local_field, eroded_mask = lbv(field, mask, GEOMETRY, TIGHT)
    np.testing.assert_array_equal(eroded_mask.numpy(), inside)
    np.testing.assert_allclose(local_field.numpy(), expected, atol=1e-6)


def test_a_harmonic_field_leaves_nothing(mask):
    axes = [
        (torch.arange(n) - n / 2) * v for n, v in zip(GEOMETRY.shape, GEOMETRY.voxel_size_mm, strict=True)
    ]
    x, y, z = torch.stack(torch.meshgrid(*axes, indexing="ij")).double()
    fourth = x**4 - 6 * x**2 * z**2 + z**4
    for harmonic in (x + 1, x * y - z, x**3 - 3 * x * y**2, fourth, y * fourth):
        background = (harmonic / harmonic.abs().max()).float()
        local_field, _ = lbv(background, mask, GEOMETRY, LBVParameters())
        assert local_field.abs().max() < 2e-5


@pytest.mark.parametrize("peel_mm", [1.0, 2.0])
def test_peeling_leaves_out_that_depth_of_the_rim_whatever_the_voxels(mask, field, peel_mm):
    depth = scipy.ndimage.distance_transform_edt(np.pad(mask.numpy(), 3), sampling=GEOMETRY.voxel_size_mm)[
        3:-3, 3:-3, 3:-3
    ]
    peeled = torch.from_numpy(depth > peel_mm)
    found, eroded_mask = lbv(field, mask, GEOMETRY, dataclasses.replace(TIGHT, peel_mm=peel_mm))
    expected, expected_mask = lbv(field, peeled, GEOMETRY, TIGHT)
    assert torch.equal(eroded_mask, expected_mask)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_a_mask_of_no_use_is_refused(mask, field):
    with pytest.raises(InputError, match="the mask is empty"):
        lbv(field, torch.zeros_like(mask), GEOMETRY, TIGHT)
    with pytest.raises(InputError, match="peel_mm is 9; no voxel is left"):
        lbv(field, mask, GEOMETRY, LBVParameters(peel_mm=9))


def test_an_unfinished_solution_is_said(mask, field):
    with running() as run:
        lbv(field, mask, GEOMETRY, TIGHT)
    assert run.notices == []
    assert run.curves["relative residual"][-1] <= 1e-8
    with pytest.warns(MetaQSMWarning, match="lbv: CG stopped after 3 iterations at a residual of "):
        lbv(field, mask, GEOMETRY, dataclasses.replace(TIGHT, iterations=3))
