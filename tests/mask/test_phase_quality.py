"""The mask of reliable phase."""

import pytest
import torch

from napari_metaqsm.errors import InputError
from napari_metaqsm.mask.phase_quality import PhaseQualityParameters, phase_quality
from napari_metaqsm.scan import Geometry

GEOMETRY = Geometry((9, 8, 7), (1.0, 1.0, 2.0))


@pytest.fixture
def quality():
    quality = torch.full(GEOMETRY.shape, 0.1)
    quality[2:7, 2:7, 1:6] = 0.8
    quality[4, 4, 3] = 0.3  # a cavity
    quality[0, 0, 0] = 0.9  # a speck
    quality[8, 7, 6] = torch.nan
    return quality


def test_it_is_the_largest_good_region_with_its_cavities(quality):
    expected = torch.zeros(GEOMETRY.shape, dtype=torch.bool)
    expected[2:7, 2:7, 1:6] = True
    assert torch.equal(phase_quality(quality, GEOMETRY, PhaseQualityParameters()), expected)
    expected[4, 4, 3] = False
    assert torch.equal(phase_quality(quality, GEOMETRY, PhaseQualityParameters(fill_holes=False)), expected)


def test_the_least_quality_itself_is_good_enough(quality):
    quality[2:7, 2:7, 1:6] = 0.75
    assert phase_quality(quality, GEOMETRY, PhaseQualityParameters(min_quality=0.75)).any()


def test_no_good_voxel_is_refused(quality):
    with pytest.raises(InputError, match=r"the mask is empty; no voxel has a phase quality of 0\.95"):
        phase_quality(quality, GEOMETRY, PhaseQualityParameters(min_quality=0.95))
