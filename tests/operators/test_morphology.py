"""Erosion, holes and components, against SciPy's definitions and by hand."""

import numpy as np
import pytest
import scipy.ndimage
import torch

from napari_metaqsm.operators.morphology import eroded, largest_component, without_holes
from napari_metaqsm.operators.sphere import sphere_weights


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
