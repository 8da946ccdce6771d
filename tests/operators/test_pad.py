"""Padding, cropping and the box of a mask."""

import pytest
import torch

from napari_metaqsm.operators.pad import crop_to, mask_box, pad_to, padded_shape, working_grid
from napari_metaqsm.scan import Geometry


def test_factor_one_keeps_the_shape_and_others_reach_at_least_it():
    assert padded_shape((7, 11, 13), 1) == (7, 11, 13)
    assert all(n >= 2 * m for n, m in zip(padded_shape((7, 53, 97), 2.0), (7, 53, 97), strict=True))
    assert padded_shape((10, 10, 10), 1.55) >= (16, 16, 16)


@pytest.mark.parametrize("lead", [(), (2,), (2, 3)])
def test_padding_puts_zeros_behind_and_cropping_undoes_it(lead):
    x = torch.arange(1.0, 1 + 24).reshape(2, 3, 4).expand(*lead, 2, 3, 4)
    padded = pad_to(x, (5, 4, 6))
    assert padded.shape == (*lead, 5, 4, 6)
    assert float(padded.sum()) == float(x.sum())
    assert torch.equal(crop_to(padded, (2, 3, 4)), x)


def test_cropping_is_the_adjoint_of_padding():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 3, 4, generator=generator), torch.randn(4, 3, 7, generator=generator)
    assert float((pad_to(x, y.shape) * y).sum()) == pytest.approx(float((x * crop_to(y, x.shape)).sum()))


def test_box_holds_the_mask_and_nothing_around_it():
    mask = torch.zeros(6, 7, 8, dtype=torch.uint8)
    mask[2, 3, 1] = mask[4, 3, 5] = 1
    assert mask_box(mask) == (slice(2, 5), slice(3, 4), slice(1, 6))


def test_a_working_grid_holds_the_mask_and_a_margin_in_any_order_of_axes():
    mask = torch.zeros(20, 30, 17, dtype=torch.bool)
    mask[3:16, 5:25, 2:13] = True
    geometry = Geometry(mask.shape, (1.0, 0.5, 3.0))
    grid = working_grid(mask, geometry, margin_mm=6.0)
    assert grid.geometry.shape == (20, 32, 15)  # 13 + 6, 20 + 12, 11 + 2 voxels, and on to a fast size
    for axes in ((2, 0, 1), (1, 0, 2)):
        turned = working_grid(mask.permute(axes), geometry.permuted(axes), margin_mm=6.0)
        assert turned.geometry == grid.geometry.permuted(axes)


def test_what_is_cut_and_pasted_is_what_it_was_inside_the_mask():
    mask = torch.zeros(9, 8, 7, dtype=torch.bool)
    mask[2:5, 3:8, 1:4] = True
    grid = working_grid(mask, Geometry(mask.shape, (1.0, 1.0, 2.0)), margin_mm=4.0)
    x = torch.randn(2, *mask.shape, generator=torch.Generator().manual_seed(0))
    cut = grid.cut(x)
    assert torch.equal(grid.paste(cut, mask), x * mask)
    assert not cut[:, 3:].any()  # behind the box there is the margin
    whole = torch.ones(10, 10, 10, dtype=torch.bool)
    same = working_grid(whole, Geometry(whole.shape, (1.0, 1.0, 1.0)), margin_mm=0.0)
    copy = same.cut(x := torch.zeros(10, 10, 10))
    copy += 1
    assert not x.any()
