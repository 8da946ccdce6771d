"""Which differences count as edges."""

import torch

from napari_metaqsm.operators.edges import strongest_differences
from napari_metaqsm.scan import Geometry

GEOMETRY = Geometry((9, 8, 7), (1.0, 0.5, 2.0))


def test_the_share_asked_for_are_edges_and_they_are_the_strongest():
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(GEOMETRY.shape, generator=generator)
    mask = torch.ones(GEOMETRY.shape, dtype=torch.bool)
    edges = strongest_differences(image, mask, GEOMETRY, 0.3)
    assert int(edges.sum()) == round(0.9 * mask.sum().item())
    differences = torch.stack(
        [(image.roll(-1, axis) - image) / size for axis, size in enumerate(GEOMETRY.voxel_size_mm)]
    ).abs()
    assert differences[edges].min() > differences[~edges].max()


def test_the_masks_boundary_is_an_edge_and_nothing_outside_is():
    mask = torch.zeros(GEOMETRY.shape, dtype=torch.bool)
    mask[2:6, 2:6, 2:5] = True
    image = torch.where(mask, 1.0, torch.nan)
    edges = strongest_differences(image, mask, GEOMETRY, 1.0)
    boundary = torch.stack([mask.roll(-1, axis) != mask for axis in range(3)])
    assert torch.equal(edges, boundary)


def test_an_even_image_that_fills_the_grid_has_none():
    full = torch.ones(GEOMETRY.shape, dtype=torch.bool)
    assert not strongest_differences(torch.ones(GEOMETRY.shape), full, GEOMETRY, 0.3).any()
    assert not strongest_differences(torch.rand(GEOMETRY.shape), full, GEOMETRY, 0.0).any()
