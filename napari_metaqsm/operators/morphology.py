"""Masks made smaller, whole and single: erosion, hole filling, largest component."""

from __future__ import annotations

import numpy as np
import scipy.ndimage
import torch
from torch import Tensor

from napari_metaqsm.operators.fourier import fast_shape, irfftn, rfftn
from napari_metaqsm.operators.pad import crop_to, mask_box, pad_to


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
    inside = mask[box].float()
    if any(s > n for s, n in zip(structure.shape, inside.shape, strict=True)):
        return result
    support = torch.from_numpy((structure != 0).astype(np.float32)).to(mask.device)
    # Room for half the structure: a voxel near one end must not count mask from the other end.
    grid = fast_shape([n + s // 2 for n, s in zip(inside.shape, support.shape, strict=True)])
    middle = [-(s // 2) for s in support.shape]
    kernel = torch.roll(pad_to(support, grid), middle, dims=(0, 1, 2))
    count = irfftn(rfftn(pad_to(inside, grid)) * rfftn(kernel), grid)
    result[box] = crop_to(count, inside.shape) > float(support.sum()) - 0.5
    return result


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
