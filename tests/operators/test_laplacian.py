"""The compact Laplacian: exact on harmonic polynomials, definite, and one operator in each of its forms."""

import pytest
import torch

from napari_metaqsm.operators.fourier import rfftn
from napari_metaqsm.operators.laplacian import laplacian_spectrum, laplacian_stencil, negative_laplacian
from napari_metaqsm.scan import Geometry

VOXELS = (0.7, 1.1, 3.0)
SHAPE = (9, 8, 7)


def middle() -> torch.Tensor:
    inside = torch.zeros(SHAPE, dtype=torch.bool)
    inside[1:-1, 1:-1, 1:-1] = True
    return inside


def positions() -> torch.Tensor:
    axes = [(torch.arange(n).double() - 3) * v for n, v in zip(SHAPE, VOXELS, strict=True)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def draw(*shape: int, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


def test_harmonic_polynomials_up_to_order_five_vanish_and_a_square_gives_two():
    x, y, z = positions()
    fourth = x**4 - 6 * x**2 * z**2 + z**4
    for harmonic in (x + 1, x * y - z, y**3 - 3 * y * z**2, fourth, y * fourth):
        found = negative_laplacian(harmonic, middle(), VOXELS)
        assert found.abs().max() < 1e-11 * harmonic.abs().max()
    found = negative_laplacian(z**2, middle(), VOXELS)[middle()]
    torch.testing.assert_close(found, torch.full_like(found, -2.0))


def test_it_is_the_stencil_inside_and_zero_elsewhere():
    x, inside = draw(2, *SHAPE), middle()
    inside[2, 3, 4] = False
    found = negative_laplacian(x, inside, VOXELS)
    weights = torch.from_numpy(laplacian_stencil(VOXELS).copy())
    expected = torch.nn.functional.conv3d(x[:, None], weights[None, None], padding=1)[:, 0] * inside
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_compiled_and_what_torch_does_agree(dtype):
    x = draw(2, *SHAPE, dtype=dtype)
    with_torch = negative_laplacian(x.requires_grad_(), middle(), VOXELS).detach()
    torch.testing.assert_close(negative_laplacian(x.detach(), middle(), VOXELS), with_torch)


@pytest.mark.parametrize("voxels", [VOXELS, (1.0, 1.0, 1.0), (0.3, 0.5, 6.0)])
def test_its_spectrum_is_that_of_the_stencil_and_nowhere_negative(voxels):
    geometry = Geometry(SHAPE, voxels)
    kernel = torch.zeros(SHAPE, dtype=torch.float64)
    kernel[:3, :3, :3] = torch.from_numpy(laplacian_stencil(voxels).copy())
    expected = rfftn(kernel.roll((-1, -1, -1), (0, 1, 2)))
    spectrum = laplacian_spectrum(geometry, like=kernel)
    torch.testing.assert_close(spectrum, expected.real)
    assert expected.imag.abs().max() < 1e-12 * spectrum.max()
    spectrum = spectrum.flatten()
    assert spectrum[0] == 0
    assert spectrum[1:].min() > 0
