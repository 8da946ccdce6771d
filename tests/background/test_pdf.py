"""PDF against its filter in dense linear algebra, its weights, and what it refuses."""

import dataclasses
import itertools

import numpy as np
import pytest
import scipy.special
import torch

from napari_metaqsm.background.pdf import LARGEST_WEIGHT, PDFParameters, pdf
from napari_metaqsm.errors import InputError
from napari_metaqsm.method import running
from napari_metaqsm.operators.pad import working_grid
from napari_metaqsm.scan import Geometry

GEOMETRY = Geometry((9, 8, 7), voxel_size_mm=(2.0, 3.0, 4.0), b0_direction=(0.0, 0.3, 1.0))
PARAMETERS = PDFParameters(iterations=30, tolerance=1e-8)


@pytest.fixture
def mask():
    mask = torch.ones(GEOMETRY.shape, dtype=torch.bool)
    mask[:, :, 0] = False
    mask[:2, :3] = False
    mask[5, 4, 3] = False
    return mask


def draw(seed: int) -> torch.Tensor:
    return torch.randn(GEOMETRY.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def noise():
    return 0.01 + 0.02 * draw(1).abs()


def dense_dipoles(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fields in the mask, a row a voxel, of unit dipoles in each voxel of the grid; and which are outside."""
    grid = working_grid(torch.from_numpy(mask), GEOMETRY)
    shape, b = grid.geometry.shape, GEOMETRY.b0_direction
    spectrum = np.zeros(shape)
    for signs in itertools.product((-1, 1), repeat=3):  # a Nyquist frequency has either
        k = [np.fft.fftfreq(n, v) for n, v in zip(shape, GEOMETRY.voxel_size_mm, strict=True)]
        for frequencies, n, sign in zip(k, shape, signs, strict=True):
            if n % 2 == 0:
                frequencies[n // 2] *= sign
        k = np.stack(np.meshgrid(*k, indexing="ij"))
        squared = (k**2).sum(0)
        squared[0, 0, 0] = 1
        spectrum += (1 / 3 - np.tensordot(b, k, 1) ** 2 / squared) / 8
    spectrum[0, 0, 0] = 0
    kernel = np.fft.ifftn(spectrum).real
    whole = np.zeros(shape, dtype=bool)
    whole[tuple(slice(s.stop - s.start) for s in grid.box)] = mask[grid.box]
    here, there = np.argwhere(whole), np.argwhere(np.ones(shape))
    away = (here[:, None] - there[None]) % shape
    return kernel[tuple(np.moveaxis(away, -1, 0))], ~whole.ravel()


@pytest.mark.parametrize("weighted", [False, True])
def test_it_is_the_filter_that_dense_linear_algebra_finds(mask, noise, weighted):
    field = draw(0)
    dipoles, outside = dense_dipoles(mask.numpy())
    inside = noise[mask].numpy() if weighted else np.ones(int(mask.sum()))
    w = 1 / np.maximum(inside, np.sort(inside)[(inside.size - 1) // 2] / LARGEST_WEIGHT)
    w /= np.sqrt(np.mean(w**2))
    a = w[:, None] * dipoles[:, outside]
    values, vectors = np.linalg.eigh(a @ a.T)
    count, index = PARAMETERS.iterations, 2
    root = np.sqrt(1 - np.clip(values, 0, None) / (np.max(w**2) / 4))
    left = scipy.special.eval_gegenbauer(2 * count, index, root)
    left /= scipy.special.eval_gegenbauer(2 * count, index, 1)
    b = w * field[mask].numpy()
    expected = vectors @ (left * (vectors.T @ b)) / w
    found, eroded_mask = pdf(field, mask, GEOMETRY, PARAMETERS, noise if weighted else None)
    assert torch.equal(eroded_mask, mask)
    np.testing.assert_allclose(found[mask].numpy(), expected, atol=1e-6)


def test_no_weighted_map_of_unit_noise_couples_stronger_than_the_bound(mask):
    dipoles, outside = dense_dipoles(mask.numpy())
    largest = np.linalg.norm(dipoles[:, outside], 2)
    assert 0.3 < largest < 0.5


def test_more_steps_explain_more(mask):
    field = draw(0)
    left = [
        float(pdf(field, mask, GEOMETRY, dataclasses.replace(PARAMETERS, iterations=n))[0].norm())
        for n in (1, 5, 20, 80)
    ]
    assert left == sorted(left, reverse=True)
    assert left[0] < field[mask].norm()


def test_a_voxel_of_much_noise_has_no_say(mask, noise):
    field = draw(0) * mask
    wrong = field.clone()
    wrong[6, 5, 4] += 20
    others = mask.clone()
    others[6, 5, 4] = False
    change = [
        float(
            (pdf(wrong, mask, GEOMETRY, PARAMETERS, n)[0] - pdf(field, mask, GEOMETRY, PARAMETERS, n)[0])[
                others
            ].norm()
        )
        for n in (
            None,
            noise.index_put((torch.tensor(6), torch.tensor(5), torch.tensor(4)), torch.tensor(10.0).double()),
        )
    ]
    assert change[1] < 1e-4 * change[0]


def test_noise_and_masks_of_no_use_are_refused(mask, noise):
    with pytest.raises(InputError, match="the mask is empty"):
        pdf(draw(0), torch.zeros_like(mask), GEOMETRY, PARAMETERS)
    with pytest.raises(InputError, match="the median noise in the mask is 0 ppm; it must be greater than 0"):
        pdf(draw(0), mask, GEOMETRY, PARAMETERS, 0 * noise)


def test_a_few_voxels_without_noise_do_not_decide_alone(mask, noise):
    few = noise.clone()
    few[3, 4, 3] = 0
    assert pdf(draw(0), mask, GEOMETRY, PARAMETERS, few)[0].isfinite().all()


def test_each_step_is_a_point_of_a_curve_that_falls(mask):
    with running() as run:
        pdf(draw(0), mask, GEOMETRY, PARAMETERS)
    curve = run.curves["relative residual"]
    assert len(curve) == PARAMETERS.iterations - 1
    assert curve[-1] < 0.1 * curve[0]
