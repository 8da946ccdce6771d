"""The magnitude threshold finds the object, and only it."""

import nibabel
import numpy as np
import pytest
import torch

from napari_metaqsm.errors import InputError
from napari_metaqsm.mask.threshold import ThresholdParameters, threshold
from napari_metaqsm.scan import Geometry

GEOMETRY = Geometry((31, 28, 17), (1.0, 1.1, 2.0))


@pytest.fixture
def ball():
    axes = [
        torch.arange(n) * v - n * v / 2 for n, v in zip(GEOMETRY.shape, GEOMETRY.voxel_size_mm, strict=True)
    ]
    x, y, z = torch.meshgrid(*axes, indexing="ij")
    return x**2 + y**2 + z**2 < 12**2


def echoes_of(ball, shading=0.0):
    noise = torch.randn(2, 2, *GEOMETRY.shape, generator=torch.Generator().manual_seed(4)) * 0.03
    slope = 1 + shading * torch.linspace(-1, 1, GEOMETRY.shape[0])[:, None, None]
    signal = torch.stack([ball * slope, 0.6 * ball * slope])
    return torch.hypot(signal + noise[0], noise[1])


@pytest.mark.parametrize("shading", [0.0, 0.6])
def test_a_noisy_object_is_found_exactly_on_uneven_coils_too(ball, shading):
    assert torch.equal(threshold(echoes_of(ball, shading), GEOMETRY, ThresholdParameters()), ball)


def test_specks_bright_spots_holes_and_bad_values_do_no_harm(ball):
    magnitude = echoes_of(ball)
    magnitude[:, 1, 1, 1:3] = 1.0
    magnitude[:, 15, 14, 8] = 500.0
    magnitude[:, 13, 12, 7] = 0.0
    magnitude[0, 2, 2, 2] = torch.nan
    assert torch.equal(threshold(magnitude, GEOMETRY, ThresholdParameters()), ball)
    assert not threshold(magnitude, GEOMETRY, ThresholdParameters(fill_holes=False))[13, 12, 7]


def test_the_level_and_the_phase_quality_narrow_it(ball):
    magnitude = echoes_of(ball, shading=0.6)
    dimmed = echoes_of(ball, shading=0.9)
    narrowed = threshold(dimmed, GEOMETRY, ThresholdParameters(level=4))
    assert not narrowed[:5].any()
    assert narrowed.sum() < ball.sum()
    quality = torch.ones(GEOMETRY.shape)
    quality[:15] = 0.3
    narrowed = threshold(magnitude, GEOMETRY, ThresholdParameters(min_quality=0.5), quality)
    assert torch.equal(narrowed, ball & (quality > 0.5))
    assert torch.equal(threshold(magnitude, GEOMETRY, ThresholdParameters(), quality), ball)


def test_an_image_without_signal_is_refused():
    with pytest.raises(InputError, match="the mask is empty; no voxel is brighter than the threshold"):
        threshold(torch.zeros(1, *GEOMETRY.shape), GEOMETRY, ThresholdParameters())


def test_a_real_water_phantom_is_found(shared):
    path = shared / "data" / "scans" / "siemens_classic" / "Ref" / "Si_2_gre_field_magph_e1.nii"
    image = nibabel.load(path)
    magnitude = torch.from_numpy(image.get_fdata(dtype=np.float32))[None]
    mask = threshold(
        magnitude, Geometry(magnitude.shape[1:], image.header.get_zooms()[:3]), ThresholdParameters()
    )
    bright = magnitude[0] > 0.4 * magnitude.max()
    dark = magnitude[0] < 0.03 * magnitude.max()
    assert mask[bright].all()
    assert mask[dark].float().mean() < 0.002


def test_a_wish_for_good_phase_without_its_quality_is_refused(ball):
    with pytest.raises(InputError, match=r"min_quality is 0\.5, but there is no phase quality"):
        threshold(ball.float()[None], GEOMETRY, ThresholdParameters(min_quality=0.5))
