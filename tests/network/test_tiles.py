"""Blocks: that they cover the volume, fit the memory, and give the map of the whole."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_metaqsm.method import running
from napari_metaqsm.network.fused import FusedUNet
from napari_metaqsm.network.tiles import compute_in_blocks, plan, reach
from napari_metaqsm.network.unet import Architecture, UNet

SMALL = Architecture(inputs=("field",), conditions=(), width=4, levels=2)
CPU = torch.device("cpu")


@settings(max_examples=60, deadline=None)
@given(
    cells=st.tuples(*[st.integers(1, 9)] * 3),
    stride=st.sampled_from([1, 4, 8]),
    overlap=st.integers(0, 2),
    share=st.floats(0.01, 1.5),
)
def test_blocks_keep_every_voxel_once_and_stay_small_where_that_is_possible(cells, stride, overlap, share):
    shape = tuple(n * stride for n in cells)
    most = share * shape[0] * shape[1] * shape[2]
    blocks = plan(shape, stride, overlap * stride, most)
    kept = torch.zeros(shape, dtype=torch.int)
    for block in blocks:
        kept[block.kept] += 1
        assert kept[block.taken][block.inner].shape == kept[block.kept].shape
        for taken, keep, n in zip(block.taken, block.kept, shape, strict=True):
            assert taken.start % stride == taken.stop % stride == 0
            assert taken.start == max(keep.start - overlap * stride, 0)
            assert taken.stop == min(keep.stop + overlap * stride, n)
    assert (kept == 1).all()
    smallest = plan(shape, stride, overlap * stride, 0)
    assert max(b.voxels for b in blocks) <= max(most, *(b.voxels for b in smallest))
    if most >= kept.numel():
        assert len(blocks) == 1


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_nothing_farther_than_the_reach_counts(levels):
    """By the gradient of one output voxel, at every place relative to the coarsest cells."""
    torch.manual_seed(0)
    architecture = Architecture(inputs=("field",), conditions=(), width=2, levels=levels)
    network, stride, far = UNet(architecture), architecture.stride, reach(architecture)
    n = 2 * far + 2 * stride
    farthest = 0
    for offset in range(stride):
        x = torch.randn(1, 1, n, stride, stride).requires_grad_()
        middle = far + offset
        network(x)[0, 0, middle, 0, 0].backward()
        seen = torch.nonzero(x.grad[0, 0].abs().amax(dim=(1, 2))).flatten()
        farthest = max(farthest, middle - int(seen[0]), int(seen[-1]) - middle)
    assert far - 2 * stride < farthest <= far
    assert far % stride == 0


def test_blocks_give_the_map_of_the_whole():
    torch.manual_seed(0)
    network = FusedUNet(UNet(SMALL), torch.float32, CPU)
    x = torch.randn(1, 1, 64, 48, 20)
    whole, one = compute_in_blocks(network, x, SMALL, most_voxels=1e9)
    heard = []
    with running(report=lambda fraction, label: heard.append((fraction, label))):
        blocks, many = compute_in_blocks(network, x, SMALL, most_voxels=2e4)
    assert (one, whole.dtype) == (1, torch.float32)
    assert many >= 4
    torch.testing.assert_close(blocks, whole, rtol=0, atol=1e-5 * float(whole.abs().max()))
    assert [fraction for fraction, _ in heard] == sorted(fraction for fraction, _ in heard)
    assert heard[-1][1] == f"Block {many} of {many}: Network"


class FullDevice:
    """A network on a device that has no memory for more than ``most`` voxels at once."""

    def __init__(self, most: float) -> None:
        self.most, self.calls = most, itertools.count()

    def __call__(self, x):
        assert next(self.calls) < 500, "it tries for ever"
        if x[0, 0].numel() > self.most:
            raise torch.OutOfMemoryError("out of memory")
        return 2 * x


def test_where_memory_is_short_blocks_become_smaller_and_the_user_is_told():
    x = torch.randn(1, 1, 64, 64, 16)
    with running() as run:
        output, blocks = compute_in_blocks(FullDevice(2e4), x, SMALL, most_voxels=1e9)
    assert torch.equal(output, 2 * x[0, 0])
    assert blocks > 1
    assert f"computed in {blocks} blocks instead" in run.notices[-1]


def test_where_even_the_smallest_do_not_fit_the_device_is_out_of_memory():
    with running(), pytest.raises(torch.OutOfMemoryError):
        compute_in_blocks(FullDevice(0), torch.randn(1, 1, 64, 64, 16), SMALL, most_voxels=1e9)
