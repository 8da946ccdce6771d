"""Erosion, holes and components, against SciPy's definitions and by hand."""

import numpy as np
import pytest
import scipy.ndimage
import torch

from napari_metaqsm.operators.morphology import (
    dilated,
    eroded,
    erosion,
    largest_component,
    without_holes,
)
from napari_metaqsm.operators.sphere import sphere_weights

VOXELS = (1.0, 1.2, 2.5)


@pytest.mark.parametrize("shape", [(21, 18, 9), (16, 25, 12)])
@pytest.mark.parametrize("part", [0.0, 0.002, 0.02])
def test_erosion_keeps_exactly_the_voxels_whose_structure_fits(shape, part):
    rng = np.random.default_rng(3)
    mask = rng.random(shape) >= part
    mask[:3] = False
    structure = sphere_weights(4.0, (1.3, 1.0, 2.5))
    expected = scipy.ndimage.binary_erosion(mask, structure > 0, border_value=0)
    result = eroded(torch.from_numpy(mask), structure)
    assert result.dtype == torch.bool
    np.testing.assert_array_equal(result.numpy(), expected)


def test_a_structure_larger_than_the_mask_leaves_nothing():
    assert not eroded(torch.ones(4, 5, 3, dtype=torch.bool), np.ones((9, 9, 9))).any()
    assert not eroded(torch.zeros(4, 5, 3, dtype=torch.bool), np.ones((1, 1, 1))).any()


def test_a_cavity_is_filled_but_not_a_tunnel_or_a_dent():
    mask = torch.zeros(9, 9, 9, dtype=torch.bool)
    mask[1:8, 1:8, 0:8] = True
    mask[4, 4, 4] = False
    assert without_holes(mask)[4, 4, 4]
    mask[4, 4, 4:] = False
    assert torch.equal(without_holes(mask), mask)
    mask[2, 2, 0] = False  # open to the image border
    assert not without_holes(mask)[2, 2, 0]


def test_the_largest_component_hangs_together_through_faces():
    mask = torch.zeros(6, 7, 5, dtype=torch.bool)
    mask[0, 0, :3] = True
    mask[1:3, 1:3, 3] = True  # touches the first only at an edge
    expected = torch.zeros_like(mask)
    expected[1:3, 1:3, 3] = True
    assert torch.equal(largest_component(mask), expected)
    assert not largest_component(torch.zeros(3, 3, 3)).any()


@pytest.mark.parametrize("part", [0.001, 0.03])
def test_dilation_adds_exactly_the_voxels_that_a_structure_covers(part):
    mask = np.random.default_rng(4).random((16, 25, 12)) < part
    mask[-1, -1, 0] = True
    structure = sphere_weights(4.0, (1.3, 1.0, 2.5))
    expected = scipy.ndimage.binary_dilation(mask, structure > 0)
    np.testing.assert_array_equal(dilated(torch.from_numpy(mask), structure).numpy(), expected)
    assert not dilated(torch.zeros(4, 5, 3, dtype=torch.bool), np.ones((9, 9, 9))).any()


def test_the_erosion_of_a_ball_is_told_in_mm_and_per_cent():
    axes = [(np.arange(n) - n // 2) * v for n, v in zip((61, 51, 25), VOXELS, strict=True)]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    radius = torch.from_numpy(np.sqrt(x**2 + y**2 + z**2))
    found = erosion(radius < 25, radius < 20, VOXELS)
    assert found["depth_mm"] == pytest.approx(5, abs=0.7)
    assert 5 <= found["largest_depth_mm"] < 5 + max(VOXELS)
    assert found["percent_of_mask"] == pytest.approx(100 * (1 - 0.8**3), abs=1)


def test_what_is_not_eroded_has_lost_nothing_and_a_lost_lobe_is_as_deep_as_it_is_long():
    mask = torch.zeros(20, 9, 9, dtype=torch.bool)
    mask[:8] = True
    mask[8:16, 4, 4] = True
    whole = erosion(mask, mask, VOXELS)
    assert whole == {"depth_mm": 0.0, "largest_depth_mm": 0.0, "percent_of_mask": 0.0}
    left = mask.clone()
    left[8:] = False
    assert erosion(mask, left, VOXELS) == {
        "depth_mm": 0.0,
        "largest_depth_mm": 8 * VOXELS[0],
        "percent_of_mask": round(100 * 8 / int(mask.sum()), 2),
    }
