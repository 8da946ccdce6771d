import itertools

import pytest
import torch

from napari_metaqsm.operators.fourier import multiply_spectrum
from napari_metaqsm.operators.gradient import (
    gradient,
    gradient_adjoint,
    gradient_spectrum,
    weighted_adjoint,
    weighted_laplacian,
)
from napari_metaqsm.scan import Geometry

VOXELS = (0.7, 1.1, 3.0)
SHAPE = (7, 9, 6)
BOTH = pytest.mark.parametrize("periodic", [False, True])


def draw(*shape: int, seed: int = 0, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@BOTH
def test_a_ramp_has_the_slope_of_the_ramp(periodic):
    ramp = 2.0 * VOXELS[1] * torch.arange(SHAPE[1], dtype=torch.float64)[:, None].expand(SHAPE)
    slopes = gradient(ramp, VOXELS, periodic=periodic)
    assert not slopes[[0, 2]].any()
    torch.testing.assert_close(slopes[1, :, :-1], torch.full_like(slopes[1, :, :-1], 2.0))
    end = -2.0 * (SHAPE[1] - 1) if periodic else 0.0
    torch.testing.assert_close(slopes[1, :, -1], torch.full_like(slopes[1, :, -1], end))


@BOTH
def test_the_adjoint_is_one(periodic):
    x, g = draw(2, *SHAPE), draw(2, 3, *SHAPE, seed=1)
    there = (gradient(x, VOXELS, periodic=periodic) * g).sum()
    back = (x * gradient_adjoint(g, VOXELS, periodic=periodic)).sum()
    torch.testing.assert_close(there, back)


@BOTH
@pytest.mark.parametrize("batch", [(), (2,)], ids=["shared", "each its own"])
def test_the_weighted_laplacian_is_gradient_weights_and_adjoint(periodic, batch):
    x, weights = draw(2, *SHAPE), draw(*batch, 3, *SHAPE, seed=2).abs()
    expected = gradient_adjoint(weights * gradient(x, VOXELS, periodic=periodic), VOXELS, periodic=periodic)
    torch.testing.assert_close(weighted_laplacian(x, weights, VOXELS, periodic=periodic), expected)


@BOTH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_compiled_and_what_torch_does_agree(periodic, dtype):
    x, g = draw(*SHAPE, dtype=dtype), draw(3, *SHAPE, seed=1, dtype=dtype)
    for compute in (
        lambda x, g: gradient(x, VOXELS, periodic=periodic),
        lambda x, g: gradient_adjoint(g, VOXELS, periodic=periodic),
        lambda x, g: weighted_adjoint(g, draw(3, *SHAPE, seed=2, dtype=dtype), VOXELS),
        lambda x, g: weighted_laplacian(x, g, VOXELS, periodic=periodic),
    ):
        with_torch = compute(x.requires_grad_(), g.requires_grad_()).detach()
        torch.testing.assert_close(compute(x.detach(), g.detach()), with_torch)


def test_the_periodic_spectrum_is_that_of_the_differences():
    for axes in itertools.permutations(range(3)):
        geometry = Geometry(SHAPE, VOXELS).permuted(axes)
        x = draw(*geometry.shape)
        expected = weighted_laplacian(
            x, torch.ones(3, *geometry.shape, dtype=x.dtype), geometry.voxel_size_mm, periodic=True
        )
        torch.testing.assert_close(multiply_spectrum(x, gradient_spectrum(geometry, x)), expected)
