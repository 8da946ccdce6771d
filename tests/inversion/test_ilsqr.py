"""iLSQR: each step against a dense statement of itself, and the whole on fields whose map is known."""

import numpy as np
import pytest
import scipy.sparse.linalg
import torch

from napari_metaqsm.inversion.ilsqr import (
    ILSQRParameters,
    fast_map,
    field_weights,
    ilsqr,
    least_squares,
    smoothness_weights,
    streaks,
)
from napari_metaqsm.method import running
from napari_metaqsm.operators.dipole import dipole_field, dipole_kernel
from napari_metaqsm.operators.fourier import multiply_spectrum
from napari_metaqsm.operators.gradient import gradient
from napari_metaqsm.operators.inside import pairs_inside
from napari_metaqsm.scan import Geometry
from napari_metaqsm.simulation.shapes import sphere

# Small enough for matrices; the even sizes have Nyquist planes.
ODD = Geometry((5, 7, 3), voxel_size_mm=(1.0, 0.8, 2.0), b0_direction=(0.2, -0.1, 1.0))
EVEN = Geometry((6, 5, 4), voxel_size_mm=(1.0, 0.8, 2.0), b0_direction=(0.2, -0.1, 1.0))
OBLIQUE = Geometry((32, 27, 20), voxel_size_mm=(1.0, 1.2, 1.6), b0_direction=(0.3, -0.1, 1.0))
NEVER = {"streak_limit": 10.0}


def random(geometry, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(geometry.shape, dtype=torch.float64, generator=generator)


def dense(geometry, spectrum):
    """The convolution by a half spectrum as a matrix, in float64."""
    count = int(np.prod(geometry.shape))
    points = torch.eye(count, dtype=torch.float64).reshape(count, *geometry.shape)
    return multiply_spectrum(points, spectrum).reshape(count, count).T.numpy()


def dense_gradient(geometry):
    count = int(np.prod(geometry.shape))
    points = torch.eye(count, dtype=torch.float64).reshape(count, *geometry.shape)
    return gradient(points, geometry.voxel_size_mm).reshape(count, -1).T.numpy()


def iterate(matrix, right_side, count):
    return scipy.sparse.linalg.lsmr(matrix, right_side, atol=0, btol=0, conlim=0, maxiter=count)[0]


# ------------------------------------------------------------------------------- step by step
def test_least_squares_ends_at_the_dense_solution():
    k = np.meshgrid(
        *(np.fft.fftfreq(n, v) for n, v in zip(ODD.shape, ODD.voxel_size_mm, strict=True)), indexing="ij"
    )
    squared = sum(q**2 for q in k)
    squared[0, 0, 0] = 1
    kernel = 1 / 3 - sum(q * b for q, b in zip(k, ODD.b0_direction, strict=True)) ** 2 / squared
    kernel[0, 0, 0] = 0
    points = np.eye(kernel.size).reshape(-1, *ODD.shape)
    convolved = np.fft.ifftn(np.fft.fftn(points, axes=(1, 2, 3)) * kernel, axes=(1, 2, 3)).real
    weights, field = 0.2 + random(ODD).abs(), random(ODD, 1)
    root = weights.sqrt().numpy().ravel()
    expected = np.linalg.lstsq(
        root[:, None] * convolved.reshape(-1, kernel.size).T, root * field.numpy().ravel(), rcond=1e-9
    )[0]
    parameters = ILSQRParameters(iterations=1000, tolerance=1e-6, **NEVER)
    found = least_squares(field, weights, ODD, parameters)
    assert np.linalg.norm(found.numpy().ravel() - expected) < 1e-3 * np.linalg.norm(expected)


@pytest.mark.parametrize("geometry", [ODD, EVEN], ids=["odd", "even"])
@pytest.mark.parametrize("count", [1, 3, 8])
def test_its_iterates_in_k_space_are_those_in_the_image(geometry, count):
    weights, field = random(geometry).abs(), random(geometry, 1)
    root = weights.sqrt().numpy().ravel()
    matrix = root[:, None] * dense(geometry, dipole_kernel(geometry, like=field))
    parameters = ILSQRParameters(iterations=count, tolerance=1e-6, **NEVER)
    with running():
        found = least_squares(field, weights, geometry, parameters)
    expected = iterate(matrix, root * field.numpy().ravel(), count)
    np.testing.assert_allclose(found.numpy().ravel(), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("geometry", [ODD, EVEN], ids=["odd", "even"])
def test_streaks_are_those_of_the_dense_problem(geometry):
    chi, weights = random(geometry), random(geometry, 1).abs().expand(3, *geometry.shape)
    cone = (dipole_kernel(geometry, like=chi).abs() < 0.1).to(chi)
    matrix = weights.flatten().numpy()[:, None] * dense_gradient(geometry)
    right_side = matrix @ chi.numpy().ravel()
    found = streaks(chi, weights.contiguous(), geometry, ILSQRParameters(iterations=4))
    expected = iterate(matrix @ dense(geometry, cone), right_side, 4)
    np.testing.assert_allclose(found.numpy().ravel(), expected, rtol=0, atol=1e-9)


def test_a_streak_of_the_cone_alone_is_removed_from_what_is_flat():
    cone = (dipole_kernel(OBLIQUE, like=random(OBLIQUE)).abs() < 0.1).double()
    streak = multiply_spectrum(random(OBLIQUE), cone)
    streak -= streak.mean()
    weights = torch.ones((3, *OBLIQUE.shape), dtype=torch.float64)
    left = 2 + streak - streaks(2 + streak, weights, OBLIQUE, ILSQRParameters())
    assert (left - 2).norm() < 0.05 * streak.norm()


def test_the_fast_map_is_the_sign_of_the_dipole_where_it_is_large():
    field = random(OBLIQUE)
    kernel = dipole_kernel(OBLIQUE, like=field)
    everywhere = torch.ones(OBLIQUE.shape, dtype=torch.bool)
    large = (kernel.abs() > 0.25).double()
    found = fast_map(multiply_spectrum(field, large), everywhere, OBLIQUE, 3.0)
    expected = multiply_spectrum(field, large * kernel.sign())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    near_cone = (kernel.abs() < 0.02).double()
    smoothed = fast_map(multiply_spectrum(field, near_cone), everywhere, OBLIQUE, 3.0)
    assert smoothed.norm() < 0.5 * multiply_spectrum(field, near_cone).norm()


def test_weights_know_no_sign():
    everywhere = torch.ones(OBLIQUE.shape, dtype=torch.bool)
    pairs = pairs_inside(everywhere, torch.bool)
    field = random(OBLIQUE)
    field[10, 10, 10] = -100
    weights = field_weights(field, everywhere, OBLIQUE)
    assert weights[10, 10, 10] == 0
    assert torch.equal(weights, field_weights(-field, everywhere, OBLIQUE))
    smooth = smoothness_weights(field, pairs, OBLIQUE)
    assert torch.equal(smooth, smoothness_weights(-field, pairs, OBLIQUE))
    differences = gradient(field, OBLIQUE.voxel_size_mm).abs()
    for weight, difference, pair in zip(smooth, differences, pairs, strict=True):
        free = float((weight[pair] == 0).double().mean())
        assert free == pytest.approx(0.3, abs=0.01)
        assert weight[difference > 10].max() == 0
        assert not weight[~pair].any()


# ---------------------------------------------------------------------------------- the whole
def ball(noise=0.0):
    """A strong source in a ball: its map, its field and the mask."""
    truth = 0.5 * sphere(OBLIQUE, 4.0, (2.0, -3.0, 1.0))
    mask = sphere(OBLIQUE, 13.0) > 0.5
    field = dipole_field(truth, OBLIQUE) + noise * random(OBLIQUE).float()
    return truth, field * mask, mask


def solve(field, mask, noise=None, magnitude=None, **parameters):
    with running() as run:
        chi = ilsqr(field, mask, OBLIQUE, ILSQRParameters(**parameters), magnitude=magnitude, noise=noise)
    return chi, run


def test_it_finds_a_sphere_better_than_least_squares_alone():
    truth, field, mask = ball()
    chi, run = solve(field, mask)
    with_no_streak_removed = least_squares(
        field, mask.float(), OBLIQUE, ILSQRParameters(iterations=200, tolerance=1e-3)
    )

    def contrast_and_error(found):
        core, around = truth > 0.49, mask & (truth == 0)
        wrong = (found - truth)[mask]
        return float(found[core].mean() - found[around].mean()), float((wrong - wrong.mean()).norm())

    contrast, error = contrast_and_error(chi)
    contrast_before, error_before = contrast_and_error(with_no_streak_removed * mask)
    assert 0.37 < contrast < 0.5  # what the field does not tell, least squares sets to zero: values are low
    assert contrast > contrast_before
    assert error < 0.9 * error_before
    assert run.remarks["streak_level"] < 1.1
    assert set(run.curves) == {"least squares: relative gradient", "streaks: relative gradient"}


def test_it_stops_before_noise_makes_more_streaks():
    truth, field, mask = ball(noise=0.02)

    def error(chi):
        return float((chi - chi[mask].mean() - truth + truth[mask].mean())[mask].norm())

    chi, run = solve(field, mask)
    on, run_on = solve(field, mask, **NEVER)
    assert run.remarks["streak_level"] >= 1.1
    assert run_on.remarks["streak_level"] > run.remarks["streak_level"]
    curve = "least squares: relative gradient"
    assert len(run.curves[curve]) < len(run_on.curves[curve])
    assert error(chi) < error(on)


def test_noise_counts_and_stands_for_the_magnitude():
    _, field, mask = ball(noise=0.01)
    noise = 0.01 * (1 + torch.rand(OBLIQUE.shape, generator=torch.Generator().manual_seed(3)))
    by_noise, _ = solve(field, mask, noise=noise)
    by_both, _ = solve(field, mask, noise=noise, magnitude=torch.ones(2, *OBLIQUE.shape))
    by_magnitude, _ = solve(field, mask, magnitude=1 / noise)
    flat, _ = solve(field, mask)
    assert torch.equal(by_noise, by_both)
    torch.testing.assert_close(by_magnitude, by_noise, rtol=0, atol=1e-5)
    assert (by_noise - flat).norm() > 1e-3 * flat.norm()
    same_everywhere, _ = solve(field, mask, noise=torch.full(OBLIQUE.shape, 0.02))
    torch.testing.assert_close(same_everywhere, flat, rtol=0, atol=1e-6)
    quiet = torch.full(OBLIQUE.shape, 0.02)
    quiet[14:18, 12:15, 9:12] = 0.001
    quiet_somewhere, _ = solve(field, mask, noise=quiet)  # is trusted no more than is usual
    torch.testing.assert_close(quiet_somewhere, flat, rtol=0, atol=1e-6)
    switched_off, _ = solve(field, mask, noise=noise, noise_weights=False)
    assert torch.equal(switched_off, flat)


def test_a_field_of_unknown_noise_counts_nothing():
    _, field, mask = ball()
    noise = torch.ones(OBLIQUE.shape)
    noise[16, 13, 10] = float("inf")
    changed = field.clone()
    changed[16, 13, 10] = 3.0
    chi, _ = solve(changed, mask, noise=noise)
    assert float(chi.abs().max()) < 1.0


def test_float32_gives_what_float64_gives():
    _, field, mask = ball(noise=0.01)
    chi, _ = solve(field, mask)
    exact, _ = solve(field.double(), mask)
    assert chi.dtype == torch.float32
    assert exact.dtype == torch.float64
    assert (chi - exact).norm() < 1e-3 * exact.norm()


def test_a_mask_one_voxel_thick_is_no_obstacle():
    _, field, mask = ball()
    sheet = torch.zeros_like(mask)
    sheet[:, :, 10] = mask[:, :, 10]
    chi, _ = solve(field * sheet, sheet)
    assert chi.isfinite().all()
    assert chi.any()


def test_it_says_when_least_squares_was_not_solved():
    _, field, mask = ball()
    _, run = solve(field, mask, iterations=3)
    assert any("least squares stopped after 3 iterations" in text for text in run.notices)


def test_limits_outside_their_range_are_refused():
    with pytest.raises(ValueError, match=r"streak_threshold is 0\.5; it must lie in \[0\.01, 0\.3\]"):
        ILSQRParameters(streak_threshold=0.5)
