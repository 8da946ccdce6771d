"""Masks made smaller, larger, whole and single: erosion, dilation, hole filling, largest component."""

from __future__ import annotations

import numpy as np
import scipy.ndimage
import torch
from scipy.spatial import KDTree
from torch import Tensor

from napari_metaqsm.operators.fourier import fast_shape, irfftn, rfftn
from napari_metaqsm.operators.pad import crop_to, mask_box, pad_to
from napari_metaqsm.scan import Triple

# Voxels of a surface that a distance is measured from; more would not change it.
SURFACE_SAMPLES = 20_000


def eroded(mask: Tensor, structure: np.ndarray) -> Tensor:
    """Voxels of ``mask`` around which the whole ``structure`` lies inside it.

    Parameters
    ----------
    mask : (i, j, k) bool; what lies beyond the image is outside
    structure : three odd sizes, even under point reflection; its voxels that are not zero count

    Returns
    -------
    (i, j, k) bool

    Notes
    -----
    The voxels of the mask under the structure are counted everywhere at once, by FFT, whose rounding
    is far below the half voxel that decides.
    """
    mask = mask.bool()
    result = torch.zeros_like(mask)
    if not mask.any():
        return result
    box = mask_box(mask)
    inside = mask[box]
    if not any(s > n for s, n in zip(structure.shape, inside.shape, strict=True)):
        result[box] = _counted(inside, structure) > np.count_nonzero(structure) - 0.5
    return result


def dilated(mask: Tensor, structure: np.ndarray) -> Tensor:
    """Voxels (i, j, k) bool that a ``structure`` around some voxel of ``mask`` covers; see :func:`eroded`."""
    mask = mask.bool()
    result = torch.zeros_like(mask)
    if mask.any():
        reached = zip(mask_box(mask), structure.shape, mask.shape, strict=True)
        box = tuple(slice(max(s.start - w // 2, 0), min(s.stop + w // 2, n)) for s, w, n in reached)
        result[box] = _counted(mask[box], structure) > 0.5
    return result


def _counted(inside: Tensor, structure: np.ndarray) -> Tensor:
    """How many voxels of ``inside`` lie under the structure around each voxel, nearly whole numbers."""
    support = torch.from_numpy((structure != 0).astype(np.float32)).to(inside.device)
    # Room for half the structure: a voxel near one end must not count mask from the other end.
    grid = fast_shape([max(n + s // 2, s) for n, s in zip(inside.shape, support.shape, strict=True)])
    middle = [-(s // 2) for s in support.shape]
    kernel = torch.roll(pad_to(support, grid), middle, dims=(0, 1, 2))
    return crop_to(irfftn(rfftn(pad_to(inside.float(), grid)) * rfftn(kernel), grid), inside.shape)


def erosion(mask: Tensor, eroded_mask: Tensor, voxel_size_mm: Triple) -> dict[str, float]:
    """How much of ``mask`` (i, j, k) its part ``eroded_mask`` has lost.

    Returns
    -------
    ``depth_mm`` and ``largest_depth_mm``, the median and the largest distance from the voxels of the mask's
    surface to what is left of it, zero where the surface itself is; ``percent_of_mask``, the voxels lost
    """
    mask, eroded_mask = mask.bool(), eroded_mask.bool()
    box = mask_box(mask)
    lost = 100 * (1 - float(eroded_mask.sum()) / float(mask.sum()))
    surface = _surface(mask[box])
    every = -(-len(surface) // SURFACE_SAMPLES)
    left = KDTree(_surface(eroded_mask[box]) * np.array(voxel_size_mm))
    depth, _ = left.query(surface[::every] * np.array(voxel_size_mm), workers=torch.get_num_threads())
    # A millimetre has no third digit on voxels, nor has a record any use for it.
    found = {"depth_mm": np.median(depth), "largest_depth_mm": depth.max(), "percent_of_mask": lost}
    return {name: round(float(value), 2) for name, value in found.items()}


def _surface(mask: Tensor) -> np.ndarray:
    """Indices (voxel, 3) of the voxels of ``mask`` with a neighbour across a face outside it."""
    padded = torch.nn.functional.pad(mask, (1, 1, 1, 1, 1, 1))
    inner = mask.clone()
    for axis, n in enumerate(mask.shape):
        for start in (0, 2):
            middle = [slice(1, 1 + m) for m in mask.shape]
            middle[axis] = slice(start, start + n)
            inner &= padded[tuple(middle)]
    return torch.nonzero(mask & ~inner).cpu().numpy()


def without_holes(mask: Tensor) -> Tensor:
    """``mask`` with every cavity filled that no path leaves, through faces, to the image border."""
    # One empty layer joins all that touches the border into the component of the first voxel.
    around = np.pad(~mask.bool().cpu().numpy(), 1, constant_values=True)
    labels, _ = scipy.ndimage.label(around)
    outside = labels[1:-1, 1:-1, 1:-1] == labels[0, 0, 0]
    return torch.from_numpy(~outside).to(mask.device)


def largest_component(mask: Tensor) -> Tensor:
    """The largest part of ``mask`` whose voxels hang together through faces; the first among equals."""
    labels, count = scipy.ndimage.label(mask.bool().cpu().numpy())
    if count == 0:
        return torch.zeros_like(mask, dtype=torch.bool)
    sizes = np.bincount(labels.ravel())
    return torch.from_numpy(labels == 1 + int(sizes[1:].argmax())).to(mask.device)
