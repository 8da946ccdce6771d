"""A smooth phase through a wrapped and noisy one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import gaussian_filter

from napari_metaqsm.method import announce, steps
from napari_metaqsm.scan import Geometry

_PASSES = 8
_COARSE_MM = 3.0


def smooth_phase(
    phase: np.ndarray, weight: np.ndarray, geometry: Geometry, smoothing_mm: float
) -> np.ndarray:
    """Weighted Gaussian smoothing of a phase's phasor, true to slopes and edges.

    Parameters
    ----------
    phase : (i, j, k) float32, rad, wrapped or not
    weight : (i, j, k) float32, not negative
    smoothing_mm : standard deviation of the Gaussian

    Returns
    -------
    (i, j, k) float32, rad in [-pi, pi]; zero where all weights are

    Notes
    -----
    A plain Gaussian flattens curves and, at the edge of the signal, slopes. So what a pass leaves over
    is smoothed and added in the next one. It is done on blocks of voxels of about 3 mm and
    interpolated linearly, for the result has nothing finer.
    """
    blocks = [max(1, round(_COARSE_MM / size)) for size in geometry.voxel_size_mm]
    sigmas = [smoothing_mm / (size * n) for size, n in zip(geometry.voxel_size_mm, blocks, strict=True)]
    signal, weights = _block_sums(phase, weight, blocks)
    if not weights.any():
        return np.zeros(phase.shape, np.float32)
    smooth = np.ones(weights.shape, np.complex64)
    for _ in steps(_PASSES, "Smoothing the phase offset"):
        left = _blurred(signal * smooth.conj(), sigmas)
        length = np.abs(left)
        smooth *= np.divide(left, length, out=np.ones_like(left), where=length > 0)
    announce("Smoothing the phase offset", 1.0)
    return _interpolated_angle(smooth, blocks, phase.shape)


def _block_sums(
    phase: np.ndarray, weight: np.ndarray, blocks: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Sums of ``weight * exp(i phase)`` and of ``weight`` over blocks of voxels, the last ones partial."""
    scale = 1 / max(float(weight.max()), 1e-30)  # squares of magnitudes can overflow float32 sums
    counts = [-(-n // b) for n, b in zip(phase.shape, blocks, strict=True)]
    signal, weights = np.empty(counts, np.complex64), np.empty(counts, np.float32)
    for at in range(counts[0]):
        slab = slice(at * blocks[0], (at + 1) * blocks[0])
        share = weight[slab] * np.float32(scale)
        weights[at] = _summed(share, blocks)
        signal[at] = _summed(share * np.exp(1j * phase[slab]), blocks)
    return signal, weights


def _summed(slab: np.ndarray, blocks: Sequence[int]) -> np.ndarray:
    rows = np.add.reduceat(slab.sum(axis=0), np.arange(0, slab.shape[1], blocks[1]), axis=0)
    return np.add.reduceat(rows, np.arange(0, slab.shape[2], blocks[2]), axis=1)


def _blurred(x: np.ndarray, sigmas: Sequence[float]) -> np.ndarray:
    # A wide kernel, for the offset must reach across gaps in the signal.
    parts = [gaussian_filter(part, sigmas, mode="constant", truncate=5.0) for part in (x.real, x.imag)]
    return (parts[0] + 1j * parts[1]).astype(np.complex64)


def _interpolated_angle(coarse: np.ndarray, blocks: Sequence[int], shape: Sequence[int]) -> np.ndarray:
    for axis in (1, 2):
        low, high, share = _between(shape[axis], blocks[axis], coarse.shape[axis])
        share = share.reshape((-1, 1) if axis == 1 else (-1,))
        coarse = coarse.take(low, axis) * (1 - share) + coarse.take(high, axis) * share
    angle = np.empty(tuple(shape), np.float32)
    for at, (low, high, share) in enumerate(zip(*_between(shape[0], blocks[0], len(coarse)), strict=True)):
        angle[at] = np.angle(coarse[low] * (1 - share) + coarse[high] * share)
    return angle


def _between(n: int, block: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each of ``n`` voxels, the blocks whose centres lie about it and the share of the second.

    Beyond the outermost centres the line through the two last ones goes on.
    """
    place = (np.arange(n) - (block - 1) / 2) / block
    low = np.clip(np.floor(place).astype(int), 0, max(count - 2, 0))
    return low, np.minimum(low + 1, count - 1), (place - low).astype(np.float32)
