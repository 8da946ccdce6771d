"""The dipole: its kernel's symmetries, and its field beside bodies whose field is known."""

import itertools

import pytest
import torch

from napari_metaqsm.operators.dipole import dipole_field, dipole_kernel
from napari_metaqsm.operators.fourier import multiply_spectrum
from napari_metaqsm.scan import Geometry
from napari_metaqsm.simulation.shapes import cylinder, cylinder_field, sphere, sphere_field

DIRECTIONS = [(0, 0, 1), (1, 0, 0), (0, 1, 1), (0.3, -0.5, 1.0), (-0.2, 0.1, -1)]
DOUBLE = torch.zeros(1, dtype=torch.float64)


def full_kernel(geometry: Geometry) -> torch.Tensor:
    """The whole (i, j, k) spectrum, from the convolution of one point."""
    point = torch.zeros(geometry.shape, dtype=torch.float64)
    point[0, 0, 0] = 1
    return torch.fft.fftn(multiply_spectrum(point, dipole_kernel(geometry, like=point)))


@pytest.mark.parametrize("b0_direction", DIRECTIONS)
@pytest.mark.parametrize("shape", [(6, 8, 10), (5, 7, 9), (6, 7, 8), (7, 6, 5)])
def test_kernel_is_the_formula_off_the_nyquist_planes_and_even_everywhere(shape, b0_direction):
    geometry = Geometry(shape, (1.0, 0.8, 2.0), b0_direction)
    kernel = dipole_kernel(geometry, like=DOUBLE)
    whole = full_kernel(geometry)
    torch.testing.assert_close(whole.imag, torch.zeros_like(whole.imag), rtol=0, atol=1e-12)
    torch.testing.assert_close(whole.real[..., : shape[2] // 2 + 1], kernel, rtol=0, atol=1e-12)
    for i, j, k in itertools.product(*(range(n) for n in kernel.shape)):
        index = [n - m if m > n / 2 else m for m, n in zip((i, j, k), shape, strict=True)]
        signs = [-1 if m > n / 2 else 1 for m, n in zip((i, j, k), shape, strict=True)]
        if any(2 * m == n for m, n in zip((i, j, k), shape, strict=True)) or (i, j, k) == (0, 0, 0):
            continue
        frequency = [
            s * m / (n * v) for s, m, n, v in zip(signs, index, shape, geometry.voxel_size_mm, strict=True)
        ]
        along = sum(f * b for f, b in zip(frequency, geometry.b0_direction, strict=True))
        expected = 1 / 3 - along**2 / sum(f * f for f in frequency)
        assert float(kernel[i, j, k]) == pytest.approx(expected, abs=1e-12)
    assert float(kernel[0, 0, 0]) == 0


@pytest.mark.parametrize("b0_direction", DIRECTIONS)
@pytest.mark.parametrize("shape", [(6, 8, 10), (5, 7, 9), (6, 7, 8)])
def test_convolution_is_its_own_adjoint(shape, b0_direction):
    geometry = Geometry(shape, (1.0, 0.8, 2.0), b0_direction)
    generator = torch.Generator().manual_seed(2)
    x, y = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    kernel = dipole_kernel(geometry, like=x)
    left, right = (multiply_spectrum(x, kernel) * y).sum(), (x * multiply_spectrum(y, kernel)).sum()
    assert float(left) == pytest.approx(float(right), abs=1e-12)


@pytest.mark.parametrize("shape", [(6, 8, 10), (7, 6, 5), (6, 7, 8)])
def test_axes_in_another_order_give_the_same_convolution(shape):
    geometry = Geometry(shape, (1.0, 0.8, 2.0), (0.3, -0.5, 1.0))
    x = torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    straight = multiply_spectrum(x, dipole_kernel(geometry, like=x))
    for axes in itertools.permutations(range(3)):
        turned = multiply_spectrum(
            x.permute(axes).contiguous(), dipole_kernel(geometry.permuted(axes), like=x)
        )
        torch.testing.assert_close(turned, straight.permute(axes))


def test_only_the_ratios_of_the_voxel_sizes_count():
    small = dipole_kernel(Geometry((8, 9, 10), (0.5, 0.5, 2.0), (0.1, 0.2, 1.0)), like=DOUBLE)
    large = dipole_kernel(Geometry((8, 9, 10), (0.75, 0.75, 3.0), (0.1, 0.2, 1.0)), like=DOUBLE)
    torch.testing.assert_close(small, large)


@pytest.mark.parametrize(
    ("shape", "size", "direction", "bound"),
    [
        ((64, 64, 64), (1.0, 1.0, 1.0), (0, 0, 1), 0.02),
        ((64, 63, 64), (1.0, 1.0, 1.0), (0.4, -0.3, 1.0), 0.02),
        ((96, 96, 32), (0.75, 0.75, 3.0), (0, 0, 1), 0.07),
        ((96, 96, 33), (0.75, 0.75, 3.0), (0.2, 0.5, 1.0), 0.07),
        ((32, 96, 96), (3.0, 0.75, 0.75), (1, 0, 0), 0.07),
    ],
)
def test_field_of_a_sphere(shape, size, direction, bound):
    geometry = Geometry(shape, size, direction)
    centre = (1.3, -0.4, 0.7)
    field = dipole_field(sphere(geometry, 10.0, centre), geometry)
    expected = sphere_field(geometry, 10.0, centre)
    away = sphere(geometry, 13.0, centre) == 0
    error = (field - expected)[away].norm() / expected[away].norm()
    assert float(error) < bound
    core = sphere(geometry, 6.0, centre) == 1
    assert float(field[core].abs().max()) < 0.03


def test_padding_by_two_takes_away_most_of_the_error():
    geometry = Geometry((128, 128, 64), (0.75, 0.75, 3.0))
    body, expected = sphere(geometry, 10.0), sphere_field(geometry, 10.0)
    away = sphere(geometry, 15.0) == 0
    errors = [
        float((dipole_field(body, geometry, padding) - expected)[away].norm() / expected[away].norm())
        for padding in (1.0, 1.5, 2.0)
    ]
    unpadded, half, full = errors
    assert unpadded > 0.15
    assert half < 0.06
    assert full < 0.03


# The grid is periodic and thin along the axis: the cylinder is infinite there.
@pytest.mark.parametrize(
    ("axis", "shape", "size", "direction"),
    [
        ((0, 0, 1), (160, 144, 2), (1.0, 1.0, 3.0), (0, 0, 1)),
        ((0, 0, 1), (160, 144, 2), (1.0, 1.25, 3.0), (1, 0, 0)),
        ((0, 0, 1), (160, 145, 3), (1.0, 1.2, 3.0), (0.5, 0.3, 1.0)),
        ((0, 0, 1), (160, 145, 3), (1.0, 1.2, 3.0), (1.4, -0.3, 1.0)),
        ((1, 0, 0), (2, 160, 81), (1.0, 1.0, 2.0), (0.5, 0.3, 1.0)),
        ((0, 1, 0), (160, 3, 80), (1.0, 1.0, 2.0), (0.0, 0.6, 0.8)),
    ],
)
def test_field_of_an_infinite_cylinder_at_several_angles(axis, shape, size, direction):
    geometry = Geometry(shape, size, direction)
    field = dipole_field(cylinder(geometry, 8.0, axis), geometry, padding=1.0)
    expected = cylinder_field(geometry, 8.0, axis)
    expected = expected - expected.mean()  # the periodic grid has no field at k = 0
    edge = 2 * max(v for v, a in zip(size, axis, strict=True) if a == 0)
    away = (cylinder(geometry, 8.0 + edge, axis) == 0) | (cylinder(geometry, 8.0 - edge, axis) == 1)
    assert float((field - expected)[away].abs().max()) < 0.035 * float(expected.abs().max())


def test_field_of_a_long_cylinder_that_lies_oblique_in_the_grid():
    geometry = Geometry((72, 72, 72), (1.0, 1.0, 1.0), (0.0, 0.0, 1.0))
    axis = (0.4, 0.2, 1.0)
    field = dipole_field(cylinder(geometry, 5.0, axis), geometry)
    expected = cylinder_field(geometry, 5.0, axis)
    middle = sphere(geometry, 14.0) == 1  # far from its ends
    clear = middle & ((cylinder(geometry, 7.0, axis) == 0) | (cylinder(geometry, 3.0, axis) == 1))
    assert float((field - expected)[clear].abs().max()) < 0.02


def test_two_bodies_in_a_batch_give_their_own_fields():
    geometry = Geometry((16, 18, 12), (1.0, 0.8, 2.0), (0.1, 0.0, 1.0))
    bodies = torch.stack([sphere(geometry, 4.0), sphere(geometry, 3.0, (1.0, 2.0, 0.0))])
    both = dipole_field(bodies, geometry)
    for body, field in zip(bodies, both, strict=True):
        torch.testing.assert_close(dipole_field(body, geometry), field)
