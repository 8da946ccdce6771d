"""Magnitude and phase from real and imaginary parts, with GE's slice-by-slice sign undone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from napari_metaqsm.errors import InputError

# Weighted mean cosine of the phase step between neighbouring slices: 1 where phase is smooth and -1
# where its sign alternates. Between these two neither is shown.
_SHOWN = 0.2
# So large a part of the signal must lie between slices that agree with the whole.
_AGREE = 0.75
_ROWS = 16
# Said where it is given whether their sign alternates.
NO_PARTS = "alternating_slices is given, but the phase comes from no real and imaginary parts; leave it out"


class Polar(NamedTuple):
    """Magnitude and phase of real and imaginary parts.

    Parameters
    ----------
    magnitude : as the parts, float32
    phase : rad in [-pi, pi], float32; up to one constant pi where slices were negated
    alternating : whether every second slice was negated
    words : what was decided, and why
    doubtful : whether the data do not show that it is so
    """

    magnitude: np.ndarray
    phase: np.ndarray
    alternating: bool
    words: str
    doubtful: bool


def magnitude_and_phase(
    real: np.ndarray, imaginary: np.ndarray, slice_axis: int | None, alternating: bool | None = None
) -> Polar:
    """Magnitude and phase, every second slice negated where the sign alternates along the slices.

    Scanners that leave out the shift of the Fourier transform along the slices store the complex image
    times (-1)^k. That is a phase ramp of pi per slice, so no data tell it from a field that steep; a
    phase step of less than pi/2 from slice to slice, averaged over the signal of the first echo, is
    taken for the field's own.

    Parameters
    ----------
    real, imaginary : (i, j, k) or (echo, i, j, k), of any scale; of several echoes the first decides
    slice_axis : 0, 1 or 2, of the spatial axes: the one that runs from slice to slice; None where that
        is not known, and the axis along which the sign alternates most is looked at
    alternating : whether the sign alternates; None tells it from the data

    Raises
    ------
    InputError
        When the parts do not fit together.
    """
    if real.shape != imaginary.shape:
        sizes = ["×".join(map(str, part.shape)) for part in (real, imaginary)]
        raise InputError(f"real is {sizes[0]} voxels and imaginary {sizes[1]}; they must match")
    if real.ndim not in (3, 4):
        raise InputError(f"real has {real.ndim} axes; it must be (i, j, k) or (echo, i, j, k)")
    if slice_axis not in (0, 1, 2, None):
        raise InputError(f"slice_axis is {slice_axis!r}; it must be 0, 1 or 2")
    axes = (2, 1, 0) if slice_axis is None else (slice_axis,)
    found = {axis: _steps(real, imaginary, axis) for axis in axes}
    slice_axis = min(axes, key=lambda axis: found[axis].cosine or 0.0)
    steps = found[slice_axis]
    negate, words, doubtful = _decide(steps, alternating)
    sign = np.ones(real.shape[real.ndim - 3 + slice_axis], np.float32)
    if negate:
        sign[1::2] = -1
    sign = sign.reshape([-1 if axis == slice_axis else 1 for axis in range(3)])
    magnitude, phase = (np.empty(real.shape, np.float32) for _ in range(2))
    across = _across(slice_axis)
    for a, b, m, p in zip(
        *(_slabs(array, across) for array in (real, imaginary, magnitude, phase)), strict=True
    ):
        a, b = (part.astype(np.float32) * sign for part in (a, b))
        np.hypot(a, b, out=m)
        np.arctan2(b, a, out=p)
    return Polar(magnitude, phase, negate, words, doubtful)


@dataclass(frozen=True)
class _Steps:
    """Phase steps between neighbouring slices, weighted by signal.

    Parameters
    ----------
    cosine : weighted mean cosine, None without signal
    agreeing : part of the signal in pairs of slices whose own mean cosine has that sign
    """

    cosine: float | None
    agreeing: float


def _steps(real: np.ndarray, imaginary: np.ndarray, slice_axis: int) -> _Steps:
    """Sum S_{k+1} conj(S_k) over the first echo: noise has no mean there, and air hardly any weight."""
    first = (real, imaginary) if real.ndim == 3 else (real[0], imaginary[0])
    pairs = first[0].shape[slice_axis] - 1
    in_phase, weight = np.zeros(pairs), np.zeros(pairs)
    others = tuple(axis for axis in range(3) if axis != slice_axis)
    for a, b in zip(*(_slabs(part, _across(slice_axis)) for part in first), strict=True):
        signal = a.astype(np.complex64)
        signal.imag = b
        signal[~np.isfinite(signal)] = 0
        here, there = _below(signal, slice_axis), _above(signal, slice_axis)
        in_phase += (there * here.conj()).real.sum(others, dtype=np.float64)
        weight += (np.abs(there) * np.abs(here)).sum(others, dtype=np.float64)
    total = weight.sum()
    if total == 0:
        return _Steps(None, 0.0)
    cosine = float(in_phase.sum() / total)
    agreeing = float(weight[in_phase * cosine > 0].sum() / total)
    return _Steps(cosine, agreeing)


def _decide(steps: _Steps, alternating: bool | None) -> tuple[bool, str, bool]:
    """Whether to negate, why, and whether the data leave that in doubt."""
    if steps.cosine is None:
        return bool(alternating), "real and imaginary parts hold no signal", True
    step = f"the mean cosine of the phase step between slices is {steps.cosine:.2f}"
    shown = abs(steps.cosine) >= _SHOWN and steps.agreeing >= _AGREE
    found = shown and steps.cosine < 0
    if alternating is None:
        if found:
            return True, f"real and imaginary parts change sign from slice to slice, undone ({step})", False
        if shown:
            return False, f"real and imaginary parts keep their sign from slice to slice ({step})", False
        return (
            False,
            f"whether real and imaginary parts change sign from slice to slice does not show ({step}): "
            "they were left as stored (--alternating-slices overrides)",
            True,
        )
    if alternating:
        doubt = "" if found else ", although the data do not show that their sign alternates"
        return True, f"every second slice was negated{doubt} ({step})", not found
    doubt = ", although the data show that their sign alternates" if found else ""
    return False, f"no slice was negated{doubt} ({step})", found


def _across(slice_axis: int) -> int:
    """A spatial axis to cut slabs along, so that each holds every slice."""
    return 1 if slice_axis == 0 else 0


def _slabs(array: np.ndarray, axis: int) -> Iterator[np.ndarray]:
    """Views (i, j, k) of a few rows along ``axis``, so that temporaries stay small."""
    for volume in array.reshape(-1, *array.shape[-3:]):
        turned = np.moveaxis(volume, axis, 0)
        for start in range(0, len(turned), _ROWS):
            yield np.moveaxis(turned[start : start + _ROWS], 0, axis)


def _below(array: np.ndarray, axis: int) -> np.ndarray:
    return array[tuple(slice(None, -1) if a == axis else slice(None) for a in range(3))]


def _above(array: np.ndarray, axis: int) -> np.ndarray:
    return array[tuple(slice(1, None) if a == axis else slice(None) for a in range(3))]
