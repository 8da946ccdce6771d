"""Unwrapping in space: quality-guided region growing, and two alternatives."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from napari_metaqsm.field.growing import edge_levels, grow, voxel_quality
from napari_metaqsm.method import announce, notice
from napari_metaqsm.operators.pad import mask_box

UNWRAPPINGS = ("quality-guided", "scikit-image", "laplacian")
_TURN = 2 * math.pi


def unwrap_volume(
    phase: np.ndarray,
    voxel_size_mm: Sequence[float],
    magnitude: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    kind: str = "quality-guided",
    companion: np.ndarray | None = None,
    ratio: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Unwrap one volume in space.

    Parameters
    ----------
    phase : (i, j, k) float32, rad, wrapped
    magnitude : (i, j, k) float32, any unit; equal weights if None
    mask : (i, j, k) bool; the whole volume if None
    kind : one of ``UNWRAPPINGS``
    companion : (i, j, k), the phase of another echo, whose steps are ``ratio`` times as large; where
        they are not, the quality is low

    Returns
    -------
    unwrapped : (i, j, k) float32, rad; zero outside ``mask``. Of the multiples of 2 pi that one volume
        leaves open, the one whose median over strong signal is nearest zero.
    quality : (i, j, k) float32, 0 to 1, mean quality of the steps to a voxel's neighbours; zero outside
        ``mask``

    Notes
    -----
    The Laplacian leaves more than a multiple open: a function whose Laplacian vanishes.
    """
    announce("Unwrapping")
    phase = np.ascontiguousarray(phase, np.float32)
    levels = edge_levels(phase, magnitude, mask, companion, ratio)
    quality = voxel_quality(levels)
    if kind == "scikit-image":
        del levels
        unwrapped = _by_scikit_image(phase, mask)
    elif kind == "laplacian":
        del levels
        unwrapped = _by_laplacian(phase)
    else:
        unwrapped = grow(phase, levels, quality, mask, voxel_size_mm)
    strong = strong_signal(phase.shape, magnitude, mask)
    if strong.any():
        unwrapped -= np.float32(_TURN * np.rint(np.median(unwrapped[strong]) / _TURN))
    if mask is not None:
        unwrapped[~mask] = 0
        quality[~mask] = 0
    return unwrapped, quality


def strong_signal(
    shape: tuple[int, ...], magnitude: np.ndarray | None, mask: np.ndarray | None
) -> np.ndarray:
    """Where the magnitude is at least its mean inside ``mask``; the whole mask without a magnitude."""
    inside = np.ones(shape, bool) if mask is None else mask
    if magnitude is None or not inside.any():
        return inside
    return inside & (magnitude > 0) & (magnitude >= magnitude.mean(where=inside, dtype=np.float64))


def _by_scikit_image(phase: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """Needs some 20 volumes of memory for what it unwraps, so only the mask's box is."""
    from skimage.restoration import unwrap_phase

    if mask is None:
        return unwrap_phase(phase, rng=0).astype(np.float32)
    unwrapped = np.zeros_like(phase)
    if mask.any():
        box = mask_box(torch.from_numpy(mask))
        unwrapped[box] = unwrap_phase(np.ma.array(phase[box], mask=~mask[box]), rng=0).filled(0)
    return unwrapped


def _by_laplacian(phase: np.ndarray) -> np.ndarray:
    """``phi = laplacian^-1 [cos(phase) laplacian(sin(phase)) - sin(phase) laplacian(cos(phase))]``.

    The differences are those between neighbouring voxels, reflected at the edge, where the cosine
    transform inverts them exactly; the mean, which the Laplacian loses, is that of the wrapped phase.
    """
    from scipy.fft import dctn, idctn

    notice(
        "Laplacian unwrapping is not exact: fields with steep gradients come out wrong, and an unknown "
        "smooth field is lost; use quality-guided unwrapping where you can"
    )
    # For neighbours a, b: cos(a) sin(b) - sin(a) cos(b) = sin(b - a)
    curvature = np.zeros_like(phase)
    eigenvalues = np.zeros((1, 1, 1), np.float32)
    for axis, n in enumerate(phase.shape):
        step = np.sin(np.diff(phase, axis=axis))
        low, high = [slice(None)] * 3, [slice(None)] * 3
        low[axis], high[axis] = slice(None, -1), slice(1, None)
        curvature[tuple(low)] += step
        curvature[tuple(high)] -= step
        along = [1, 1, 1]
        along[axis] = n
        eigenvalues = eigenvalues + (2 * np.cos(np.pi * np.arange(n) / n) - 2).reshape(along).astype(
            np.float32
        )
    eigenvalues[0, 0, 0] = 1
    spectrum = dctn(curvature, workers=-1, overwrite_x=True)
    spectrum /= eigenvalues
    spectrum[0, 0, 0] = 0
    unwrapped = idctn(spectrum, workers=-1, overwrite_x=True)
    return unwrapped + np.float32(np.arctan2(np.sin(phase).mean(), np.cos(phase).mean()) - unwrapped.mean())
