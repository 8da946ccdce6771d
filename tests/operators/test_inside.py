"""Differences and percentiles inside a mask."""

import numpy as np
import pytest
import torch

from napari_metaqsm.operators.gradient import weighted_laplacian
from napari_metaqsm.operators.inside import falling, pairs_inside, percentiles


def test_pairs_are_voxels_that_both_lie_in_the_mask():
    mask = torch.rand((4, 5, 6), generator=torch.Generator().manual_seed(0)) > 0.4
    pairs = pairs_inside(mask, torch.float64)
    assert pairs.dtype == torch.float64
    for axis in range(3):
        ends = [slice(None)] * 3
        ends[axis] = -1
        after = np.roll(mask.numpy(), -1, axis)
        after[tuple(ends)] = False
        np.testing.assert_array_equal(pairs[axis].numpy() > 0, mask.numpy() & after)


def test_a_mask_that_ends_in_a_constant_has_no_edge_there():
    mask = torch.zeros((6, 6, 6), dtype=torch.bool)
    mask[1:4, 2:, :5] = True
    bend = weighted_laplacian(3.0 * mask, pairs_inside(mask, torch.float32), (1.0, 1.0, 2.0))
    assert not bend.any()


@pytest.mark.parametrize("count", [1, 7, 1000])
def test_percentiles_are_the_nearest_ranks(count):
    values = torch.randn(count, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    percents = (1.0, 50.0, 99.9, 100.0)
    expected = np.percentile(values.numpy(), percents, method="inverted_cdf")
    assert [float(v) for v in percentiles(values, *percents)] == list(expected)


def test_falling_goes_from_one_to_zero_even_where_it_falls_at_once():
    x = torch.tensor([0.0, 1.0, 1.5, 2.0, 3.0])
    one, two = torch.tensor(1.0), torch.tensor(2.0)
    assert falling(x, one, two).tolist() == [1, 1, 0.5, 0, 0]
    assert falling(x, one, one).tolist() == [1, 1, 0, 0, 0]
