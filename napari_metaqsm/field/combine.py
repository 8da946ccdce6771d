"""Several echoes unwrapped together, and their common phase offset found."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from napari_metaqsm.errors import InputError
from napari_metaqsm.field.smoothing import smooth_phase
from napari_metaqsm.field.unwrap import unwrap_volume
from napari_metaqsm.method import steps
from napari_metaqsm.operators.compiled import compiled
from napari_metaqsm.scan import Acquisition, Geometry

_TURN = 2 * math.pi
_NOTHING = np.zeros((0, 0, 0, 0), np.float32)
_SLAB = 8  # planes of the first axis that are fitted at a time, to keep temporaries small


class UnwrappedEchoes(NamedTuple):
    """Echoes unwrapped consistently, on the CPU.

    ``planes(slab)`` gives the phase (echo, i, j, k) rad of those planes of the first axis, the offset
    taken out, so that it grows in proportion to the echo time: all planes at once are as much memory as
    the scan itself. ``quality`` (i, j, k), 0 to 1; ``magnitude`` (echo, i, j, k) or None.
    """

    planes: Callable[[slice], np.ndarray]
    quality: np.ndarray
    magnitude: np.ndarray | None

    def slabs(self, like: Tensor, label: str) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Planes, their phase and their squared magnitude relative to its peak, as tensors like ``like``.

        Without a magnitude it is one. Relative, for powers of a large or small unit leave float32.
        """
        for number in steps(-(-len(self.quality) // _SLAB), label):
            slab = slice(number * _SLAB, (number + 1) * _SLAB)
            phase = torch.from_numpy(self.planes(slab)).to(like)
            if self.magnitude is None:
                yield slab, phase, torch.ones_like(phase)
            else:
                relative = torch.from_numpy(self.magnitude[:, slab]).to(like) / self.peak
                yield slab, phase, relative.square()

    @property
    def peak(self) -> float:
        """The largest magnitude; 1 where there is none."""
        return 1.0 if self.magnitude is None else float(self.magnitude.max(initial=0)) or 1.0


def unwrap_echoes(
    phase: Tensor,
    acquisition: Acquisition,
    geometry: Geometry,
    magnitude: Tensor | None,
    mask: Tensor | None,
    kind: str,
    smoothing_mm: float,
) -> UnwrappedEchoes:
    """Unwrap one echo, or the difference of the two closest echoes and all echoes along with it.

    Parameters
    ----------
    phase : (echo, i, j, k) float, rad
    magnitude : (echo, i, j, k) float, or None for equal weights; one for all echoes, or several for a
        single phase (the echoes that a phase difference was made of), will do
    mask : (i, j, k) bool, or None for the whole volume
    kind : one of ``unwrap.UNWRAPPINGS``
    smoothing_mm : standard deviation of the Gaussian that smooths the phase offset

    Notes
    -----
    The difference of two echoes ``d = phase_b - phase_a`` has no offset. Unwrapped in space, it gives
    the offset ``phase_a - d TE_a / (TE_b - TE_a)``, which is smoothed (MCPC-3D-S). Then each echo takes
    the multiple of 2 pi next to what the echoes before it predict.

    References
    ----------
    Eckstein et al. 2018, doi:10.1002/mrm.26963
    """
    phases = np.ascontiguousarray(phase.detach().cpu().float().numpy())
    magnitudes = _matching(magnitude, phases)
    inside = None if mask is None else mask.cpu().bool().numpy()
    if len(phases) == 1:
        strength = None if magnitudes is None else magnitudes[0]
        single, quality = unwrap_volume(phases[0], geometry.voxel_size_mm, strength, inside, kind)
        return UnwrappedEchoes(lambda slab: single[None, slab], quality, magnitudes)

    times = np.asarray(acquisition.echo_times_s, np.float64)
    a = int(np.argmin(np.diff(times)))
    apart = times[a + 1] - times[a]
    strength = None if magnitudes is None else np.sqrt(magnitudes[a] * magnitudes[a + 1])
    difference = phases[a + 1] - phases[a]
    difference -= np.float32(_TURN) * np.rint(difference / np.float32(_TURN))
    difference, quality = unwrap_volume(
        difference,
        geometry.voxel_size_mm,
        strength,
        inside,
        kind,
        companion=phases[a],
        ratio=times[a] / apart,
    )
    weight = quality if strength is None else quality * strength * strength
    offset = phases[a] - difference * np.float32(times[a] / apart)
    offset = smooth_phase(offset, weight, geometry, smoothing_mm)
    if inside is None:
        inside = np.ones(offset.shape, bool)

    def planes(slab: slice) -> np.ndarray:
        unwrapped = np.zeros_like(phases[:, slab])
        weights = _NOTHING if magnitudes is None else magnitudes[:, slab]
        known = (inside[slab], offset[slab], difference[slab], apart, times)
        _follow(phases[:, slab], weights, *known, unwrapped)
        return unwrapped

    return UnwrappedEchoes(planes, quality, magnitudes)


def _matching(magnitude: Tensor | None, phases: np.ndarray) -> np.ndarray | None:
    """The magnitude with one volume per echo of phase."""
    if magnitude is None:
        return None
    magnitudes = np.ascontiguousarray(magnitude.detach().cpu().float().numpy())
    if len(magnitudes) == len(phases):
        return magnitudes
    if len(magnitudes) == 1:
        return np.repeat(magnitudes, len(phases), axis=0)
    if len(phases) == 1:
        return np.sqrt(np.mean(np.square(magnitudes), axis=0, keepdims=True))
    raise InputError(
        f"there are {len(magnitudes)} echoes of magnitude for {len(phases)} echoes of phase; "
        "give one for each, or one in all"
    )


@compiled()
def _follow(phase, magnitude, inside, offset, difference, apart, times, unwrapped):
    """Give each echo the multiple next to what the difference and the echoes before it predict."""
    echoes, ni, nj, nk = phase.shape
    for i in range(ni):
        for j in range(nj):
            for k in range(nk):
                if not inside[i, j, k]:
                    continue
                # Least squares through the origin; the difference has twice the variance of an echo.
                weight = 0.5 * magnitude[0, i, j, k] ** 2 if magnitude.size else 0.5
                weight = max(weight, 1e-30)
                above = weight * apart * difference[i, j, k]
                below = weight * apart**2
                for n in range(echoes):
                    value = phase[n, i, j, k] - offset[i, j, k]
                    value += _TURN * math.floor((times[n] * above / below - value) / _TURN + 0.5)
                    unwrapped[n, i, j, k] = value
                    weight = magnitude[n, i, j, k] ** 2 if magnitude.size else 1.0
                    above += weight * times[n] * value
                    below += weight * times[n] ** 2
