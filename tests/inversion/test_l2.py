"""Closed-form L2 against dense linear algebra."""

import numpy as np
import pytest
import torch

from napari_metaqsm.inversion.l2 import L2Parameters, l2
from napari_metaqsm.scan import Geometry

# Odd sizes: every frequency but zero has its partner, and the textbook kernel is even.
ODD = Geometry((5, 7, 3), voxel_size_mm=(1.0, 0.8, 2.0), b0_direction=(0.2, -0.1, 1.0))


def dense_operators(geometry: Geometry) -> tuple[np.ndarray, list[np.ndarray]]:
    """Dipole convolution and the three periodic forward differences per mm, as matrices, in float64."""
    shape, count = geometry.shape, int(np.prod(geometry.shape))
    k = np.meshgrid(
        *(np.fft.fftfreq(n, v) for n, v in zip(shape, geometry.voxel_size_mm, strict=True)), indexing="ij"
    )
    squared = sum(q**2 for q in k)
    squared[0, 0, 0] = 1
    spectrum = 1 / 3 - sum(q * b for q, b in zip(k, geometry.b0_direction, strict=True)) ** 2 / squared
    spectrum[0, 0, 0] = 0
    points = np.eye(count).reshape(count, *shape)
    convolved = np.fft.ifftn(np.fft.fftn(points, axes=(1, 2, 3)) * spectrum, axes=(1, 2, 3)).real
    differences = [
        (np.roll(points, -1, axis + 1) - points) / size for axis, size in enumerate(geometry.voxel_size_mm)
    ]
    return convolved.reshape(count, count).T, [d.reshape(count, count).T for d in differences]


@pytest.mark.parametrize("weight", [1e-3, 0.05, 1.0])
def test_it_is_the_minimiser_of_its_objective(weight):
    field = torch.randn(ODD.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    dipole, differences = dense_operators(ODD)
    normal = dipole.T @ dipole + weight * sum(d.T @ d for d in differences)
    expected = np.linalg.pinv(normal) @ dipole.T @ field.numpy().ravel()  # of least norm: mean zero
    found = l2(field, torch.ones(ODD.shape, dtype=torch.bool), ODD, L2Parameters(penalty_weight=weight))
    np.testing.assert_allclose(found.numpy().ravel(), expected, rtol=0, atol=1e-10)


def test_what_lies_outside_the_mask_changes_nothing():
    mask = torch.ones(ODD.shape, dtype=torch.bool)
    mask[0] = False
    field = torch.randn(ODD.shape, generator=torch.Generator().manual_seed(4))
    changed = field.clone()
    changed[0] = 100
    a, b = (l2(f, mask, ODD, L2Parameters()) for f in (field, changed))
    assert torch.equal(a, b)
    assert float(a[0].abs().max()) == 0


def test_weight_of_zero_is_refused():
    with pytest.raises(ValueError, match=r"penalty_weight is 0\.0; it must lie in \[1e-06, 10\]"):
        L2Parameters(penalty_weight=0)
