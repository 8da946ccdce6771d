"""Transforms on both paths, convolution, and the sizes that are fast."""

import numpy as np
import pytest
import torch

from napari_metaqsm.operators.fourier import fast_shape, frequencies, irfftn, multiply_spectrum, rfftn

SHAPES = [(4, 6, 8), (5, 7, 9), (6, 5, 7), (3, 4, 2)]


def noise(*shape: int, dtype=torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=dtype)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_transform_is_the_sum_over_the_last_three_axes_and_its_inverse_undoes_it(shape, dtype):
    x = noise(2, *shape, dtype=dtype)
    expected = np.fft.rfftn(x.double().numpy(), axes=(-3, -2, -1))
    assert rfftn(x).dtype == dtype.to_complex()
    np.testing.assert_allclose(rfftn(x).numpy(), expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(irfftn(rfftn(x), shape), x)


@pytest.mark.parametrize("shape", SHAPES)
def test_both_paths_give_the_same_and_gradients_pass(shape):
    x = noise(*shape)
    spectrum = rfftn(noise(*shape)).abs()
    tracked = x.clone().requires_grad_()
    by_torch = multiply_spectrum(tracked, spectrum)
    torch.testing.assert_close(by_torch.detach(), multiply_spectrum(x, spectrum), rtol=0, atol=1e-4)
    # d/dx of <w, K x> is K^T w.
    weights = noise(*shape).flip(0)
    (by_torch * weights).sum().backward()
    unit = torch.zeros(shape)
    unit[1, 2, 1] = 1
    assert float(tracked.grad[1, 2, 1]) == pytest.approx(
        float((multiply_spectrum(unit, spectrum) * weights).sum()), abs=1e-3
    )


def test_a_tracked_tensor_can_be_transformed_where_gradients_are_off():
    x = noise(4, 5, 6).requires_grad_()
    with torch.no_grad():
        torch.testing.assert_close(irfftn(rfftn(x), (4, 5, 6)), x.detach())


def test_convolution_leaves_its_arguments_alone():
    x, spectrum = noise(5, 6, 7), rfftn(noise(5, 6, 7)).abs()
    before = x.clone(), spectrum.clone()
    multiply_spectrum(x, spectrum)
    assert torch.equal(x, before[0])
    assert torch.equal(spectrum, before[1])


def test_convolution_is_the_sum_over_shifts():
    x, kernel = noise(3, 4, 5, dtype=torch.float64), torch.zeros(3, 4, 5, dtype=torch.float64)
    # An even kernel: its spectrum is real.
    kernel[0, 0, 0], kernel[1, 0, 0], kernel[2, 0, 0], kernel[0, 2, 0] = 2, 0.5, 0.5, -1
    expected = 2 * x + 0.5 * (x.roll(1, 0) + x.roll(-1, 0)) - x.roll(2, 1)
    torch.testing.assert_close(multiply_spectrum(x, rfftn(kernel).real), expected)


def test_frequencies_are_per_mm_and_half_of_them_on_the_last_axis():
    cpu = torch.device("cpu")
    np.testing.assert_allclose(
        frequencies(4, 0.5, half=False, device=cpu), [0, 0.5, -1, -0.5], rtol=0, atol=1e-12
    )
    np.testing.assert_allclose(frequencies(5, 2.0, half=True, device=cpu), [0, 0.1, 0.2], rtol=0, atol=1e-12)


def test_fast_shapes_are_no_smaller_and_have_small_factors():
    for n in (1, 97, 101, 251, 509):
        for size in fast_shape((n, n, n)):
            assert n <= size < 1.25 * n + 4
            for factor in (2, 3, 5, 7, 11):
                while size % factor == 0:
                    size //= factor
            assert size == 1
