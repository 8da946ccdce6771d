"""The spherical mean: harmonic fields must equal it on whatever voxels a scan has."""

import itertools

import numpy as np
import pytest
import torch

from napari_metaqsm.operators.fourier import multiply_spectrum
from napari_metaqsm.operators.sphere import sphere_spectrum, sphere_weights
from napari_metaqsm.scan import Geometry

VOXELS = [
    (1, 1, 1),
    (0.5, 0.5, 2),
    (0.75, 0.75, 3),
    (0.76, 0.76, 3),
    (0.5, 0.5, 4),
    (3, 3, 3),
    (0.9, 1.1, 2.3),
]


def positions(weights, voxel_size_mm):
    axes = [(np.arange(n) - n // 2) * v for n, v in zip(weights.shape, voxel_size_mm, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


def harmonic(position, order, turn):
    """``(a . r)^n`` is harmonic for every complex a with ``a . a = 0``."""
    rotation = np.linalg.qr(np.random.default_rng(turn).standard_normal((3, 3)))[0]
    null = rotation @ np.array([1, 1j, 0])
    return np.tensordot(null, position, 1) ** order


@pytest.mark.parametrize("voxel_size_mm", VOXELS)
def test_a_harmonic_field_up_to_order_five_equals_its_mean_anywhere(voxel_size_mm):
    weights = sphere_weights(6.0, voxel_size_mm)
    middle = np.array([4.0, -3.0, 7.0])
    around = positions(weights, voxel_size_mm) + middle[:, None, None, None]
    for order, turn in itertools.product(range(1, 6), range(3)):
        mean = (weights * harmonic(around, order, turn)).sum()
        assert mean == pytest.approx(harmonic(middle, order, turn), abs=1e-9 * 15**order)


@pytest.mark.parametrize("voxel_size_mm", VOXELS)
def test_it_is_a_mean_over_a_sphere_of_that_radius(voxel_size_mm):
    weights = sphere_weights(6.0, voxel_size_mm)
    second = [(weights * x**2).sum() for x in positions(weights, voxel_size_mm)]
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    assert weights.min() >= 0
    np.testing.assert_allclose(weights, weights[::-1, ::-1, ::-1], atol=1e-15)
    assert second[0] == pytest.approx(second[1], rel=1e-9)
    assert second[0] == pytest.approx(second[2], rel=1e-9)
    assert second[0] == pytest.approx(6.0**2 / 5, rel=0.12)


def test_a_coarse_sphere_stays_non_negative_and_keeps_the_second_order():
    weights = sphere_weights(3.0, (0.75, 0.75, 3.0))
    second = [(weights * x**2).sum() for x in positions(weights, (0.75, 0.75, 3.0))]
    assert weights.min() >= 0
    assert second[0] == pytest.approx(second[2], rel=1e-9)


def test_permuted_voxels_give_the_permuted_sphere():
    weights = sphere_weights(5.0, (0.7, 1.0, 2.0))
    np.testing.assert_allclose(sphere_weights(5.0, (2.0, 0.7, 1.0)), weights.transpose(2, 0, 1), atol=1e-12)


def test_convolution_with_the_spectrum_is_the_weighted_sum_around_each_voxel():
    geometry = Geometry((13, 16, 11), (1.0, 0.8, 2.0))
    weights = torch.from_numpy(sphere_weights(4.0, geometry.voxel_size_mm).copy())
    point = torch.zeros(geometry.shape, dtype=torch.float64)
    point[6, 8, 5] = 1
    expected = torch.zeros_like(point)
    expected[
        tuple(slice(c - n // 2, c + n // 2 + 1) for c, n in zip((6, 8, 5), weights.shape, strict=True))
    ] = weights
    mean = multiply_spectrum(point, sphere_spectrum(4.0, geometry, like=point))
    torch.testing.assert_close(mean, expected, rtol=0, atol=1e-14)


def test_a_sphere_wider_than_the_grid_wraps_and_still_sums_to_one():
    geometry = Geometry((5, 4, 3), (1.0, 0.8, 2.0))
    ones = torch.ones(geometry.shape, dtype=torch.float64)
    mean = multiply_spectrum(ones, sphere_spectrum(6.0, geometry, like=ones))
    torch.testing.assert_close(mean, ones, rtol=0, atol=1e-12)
