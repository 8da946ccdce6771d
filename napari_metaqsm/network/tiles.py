"""A volume in overlapping blocks, where the whole does not fit into memory.

Blocks overlap by all that an output voxel depends on, and what lies that close to a cut is dropped: the map
is that of the whole volume, whatever the weights, and there are no seams to blend.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from napari_metaqsm.method import notice, part
from napari_metaqsm.network.unet import Architecture
from napari_metaqsm.operators.pad import Box


class Block(NamedTuple):
    """What is computed together, and what of it is kept, both as places in the volume."""

    taken: Box
    kept: Box

    @property
    def inner(self) -> Box:
        """Where the kept part lies in what was taken."""
        return tuple(
            slice(k.start - t.start, k.stop - t.start) for t, k in zip(self.taken, self.kept, strict=True)
        )

    @property
    def voxels(self) -> int:
        """Of what is computed."""
        return math.prod(t.stop - t.start for t in self.taken)


def reach(architecture: Architecture) -> int:
    """How far from a voxel lies what its value depends on, in voxels, as a multiple of the stride."""
    # Two kernels of 3 at each level on the way down and, but for the coarsest, on the way up; one at the end.
    levels = [2 * 2**level for level in range(architecture.levels)]
    far = sum(levels) + sum(levels[:-1]) + 1
    stride = architecture.stride
    return math.ceil((far + stride - 1) / stride) * stride  # pooling joins voxels of one coarse cell


def plan(shape: Sequence[int], stride: int, overlap: int, most_voxels: float) -> list[Block]:
    """The blocks of a volume with the least to compute, none larger than ``most_voxels`` if possible.

    Parameters
    ----------
    shape : multiples of ``stride``
    overlap : multiple of ``stride``
    """
    if math.prod(shape) <= most_voxels:
        whole = tuple(slice(0, n) for n in shape)
        return [Block(whole, whole)]
    cuts = [[_cut(n, stride, overlap, count) for count in range(1, n // stride + 1)] for n in shape]
    taken = [[[t.stop - t.start for t, _ in axis] for axis in axes] for axes in cuts]
    sums, largest = ([[f(axis) for axis in axes] for axes in taken] for f in (sum, max))

    def cost(choice: tuple[int, ...]) -> tuple[float, ...]:
        size, total = (math.prod(v[a][c] for a, c in enumerate(choice)) for v in (largest, sums))
        return max(size, most_voxels), total  # as small as asked for first, then as little as possible

    chosen = min(itertools.product(*(range(len(axes)) for axes in cuts)), key=cost)
    parts = itertools.product(*(axes[c] for axes, c in zip(cuts, chosen, strict=True)))
    return [Block(*(tuple(box) for box in zip(*axes, strict=True))) for axes in parts]


def _cut(n: int, stride: int, overlap: int, count: int) -> list[tuple[slice, slice]]:
    """One axis in ``count`` parts: what is taken and what is kept of each."""
    edges = [round(i * n / stride / count) * stride for i in range(count + 1)]
    return [
        (slice(max(low - overlap, 0), min(high + overlap, n)), slice(low, high))
        for low, high in itertools.pairwise(edges)
    ]


def compute_in_blocks(
    network: Callable[[Tensor], Tensor], channels: Tensor, architecture: Architecture, most_voxels: float
) -> tuple[Tensor, int]:
    """Output (i, j, k) of the network for channels (1, c, i, j, k), and in how many blocks.

    Where the device has no memory for a block, smaller ones are tried and the user is told.

    Raises
    ------
    torch.OutOfMemoryError
        When even the smallest do not fit.
    """
    shape, overlap = channels.shape[-3:], reach(architecture)
    while True:
        blocks = plan(shape, architecture.stride, overlap, most_voxels)
        try:
            return _computed(network, channels, blocks), len(blocks)
        except torch.OutOfMemoryError:
            most_voxels = max(block.voxels for block in blocks) // 2
            smaller = plan(shape, architecture.stride, overlap, most_voxels)
            if max(block.voxels for block in smaller) > most_voxels:
                raise
        # Outside the except block: the exception holds the frames whose tensors fill the memory.
        torch.cuda.empty_cache()
        notice(f"{channels.device} ran out of memory; computed in {len(smaller)} blocks instead")


def _computed(network: Callable[[Tensor], Tensor], channels: Tensor, blocks: Sequence[Block]) -> Tensor:
    output = channels.new_empty(channels.shape[-3:], dtype=torch.float32)
    for index, block in enumerate(blocks):
        with part(index, len(blocks), f"Block {index + 1} of {len(blocks)}"):
            found = network(channels[(..., *block.taken)])[0, 0]
        output[block.kept] = found[block.inner]
    return output
