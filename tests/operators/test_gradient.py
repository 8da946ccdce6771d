"""The spectrum of the periodic Laplacian."""

import torch

from napari_metaqsm.operators.fourier import multiply_spectrum
from napari_metaqsm.operators.gradient import gradient_spectrum
from napari_metaqsm.scan import Geometry


def test_it_is_the_gradients_adjoint_times_the_gradient_per_mm():
    geometry = Geometry((5, 6, 7), voxel_size_mm=(1.0, 0.5, 3.0))
    x = torch.randn(5, 6, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = sum(
        (2 * x - x.roll(1, axis) - x.roll(-1, axis)) / size**2
        for axis, size in enumerate(geometry.voxel_size_mm)
    )
    torch.testing.assert_close(multiply_spectrum(x, gradient_spectrum(geometry, like=x)), expected)
