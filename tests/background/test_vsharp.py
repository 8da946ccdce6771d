"""V-SHARP against the same by walking the image, what it keeps of the mask, and what it refuses."""

import dataclasses

import numpy as np
import pytest
import scipy.ndimage
import torch

from napari_metaqsm.background.vsharp import VSharpParameters, vsharp
from napari_metaqsm.errors import InputError, MetaQSMWarning
from napari_metaqsm.operators.pad import working_grid
from napari_metaqsm.operators.sphere import sphere_weights
from napari_metaqsm.scan import Geometry

GEOMETRY = Geometry((21, 18, 11), voxel_size_mm=(1.0, 1.25, 2.0), b0_direction=(0.2, 0.0, 1.0))
PARAMETERS = VSharpParameters(radius_mm=5.0, radii=3)


@pytest.fixture
def mask():
    """Nearly everything, up to the image border, with a voxel missing."""
    mask = torch.ones(GEOMETRY.shape, dtype=torch.bool)
    mask[:2, :3] = False
    mask[12, 10, 3] = False
    return mask


@pytest.fixture
def field():
    return torch.randn(GEOMETRY.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("keep_rim", [True, False])
def test_it_is_each_largest_sphere_and_one_deconvolution(mask, field, keep_rim):
    field, inside = field.numpy(), mask.numpy()
    high_passed, fits = np.zeros(inside.shape), np.zeros(inside.shape, dtype=bool)
    for radius_mm in (5.0, 3.5, 2.0):
        weights = sphere_weights(radius_mm, GEOMETRY.voxel_size_mm)
        fitting = scipy.ndimage.binary_erosion(inside, weights > 0)
        shell = fitting & ~fits
        fits |= fitting
        assert shell.any()
        high_passed[shell] = (field - scipy.ndimage.correlate(field, weights, mode="constant"))[shell]
    kept = fits | (scipy.ndimage.binary_dilation(fits, weights > 0) & inside) if keep_rim else fits

    shape = working_grid(mask, GEOMETRY, margin_mm=5.0).geometry.shape
    largest = sphere_weights(5.0, GEOMETRY.voxel_size_mm)
    kernel = np.zeros(shape)
    kernel[tuple(slice(n) for n in largest.shape)] = largest
    kernel = np.roll(kernel, [-(n // 2) for n in largest.shape], axis=(0, 1, 2))
    passed = 1 - np.fft.fftn(kernel).real
    inverse = np.where(passed >= 0.05, 1 / np.maximum(passed, 0.05), 0)
    local_field = np.fft.ifftn(np.fft.fftn(high_passed, shape, axes=(0, 1, 2)) * inverse).real
    expected = local_field[tuple(slice(n) for n in inside.shape)] * kept

    parameters = dataclasses.replace(PARAMETERS, keep_rim=keep_rim)
    found, eroded_mask = vsharp(torch.from_numpy(field), mask, GEOMETRY, parameters)
    np.testing.assert_array_equal(eroded_mask.numpy(), kept)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-10)


@pytest.mark.parametrize(
    "voxel_size_mm", [(1.0, 1.0, 1.0), (0.75, 0.75, 3.0), (0.5, 0.5, 4.0), (2.0, 0.8, 1.2)]
)
def test_all_but_three_per_cent_of_a_head_sized_mask_is_kept(voxel_size_mm):
    semi_axes = (50.0, 60.0, 45.0)
    shape = tuple(int(2 * s / v) + 3 for s, v in zip(semi_axes, voxel_size_mm, strict=True))
    axes = [
        (torch.arange(n) - n / 2) * v / s for n, v, s in zip(shape, voxel_size_mm, semi_axes, strict=True)
    ]
    x, y, z = torch.meshgrid(*axes, indexing="ij")
    mask = x**2 + y**2 + z**2 < 1
    parameters = VSharpParameters(radii=1, radius_mm=max(voxel_size_mm))
    with pytest.warns(MetaQSMWarning, match="is under two voxels"):
        _, eroded_mask = vsharp(mask.float(), mask, Geometry(shape, voxel_size_mm), parameters)
    assert eroded_mask.sum() >= 0.97 * mask.sum()


def test_a_mask_or_radius_of_no_use_is_refused(mask, field):
    with pytest.raises(InputError, match="the mask is empty"):
        vsharp(field, torch.zeros_like(mask), GEOMETRY, PARAMETERS)
    with pytest.raises(InputError, match=r"radius_mm is 1\.5; it must be at least 2, the largest side"):
        vsharp(field, mask, GEOMETRY, VSharpParameters(radius_mm=1.5))
    thin = torch.zeros_like(mask)
    thin[:, :, 5] = True
    with pytest.raises(
        InputError, match="no sphere of 2 mm, the smallest for such voxels, fits into the mask"
    ):
        vsharp(field, thin, GEOMETRY, PARAMETERS)
