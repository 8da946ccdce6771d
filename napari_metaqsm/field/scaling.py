"""Stored phase values to radians: by the ranges that vendors write, never by minimum and maximum."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from napari_metaqsm.errors import InputError
from napari_metaqsm.method import notice
from napari_metaqsm.scan import Acquisition

# Rounding of a rescale slope takes radians this far beyond pi, relative to it.
_BEYOND = 5e-3
# A stored integer range counts as recognised where the data fill it to within this part of it.
_UNFILLED = 0.03
# Radians that do not fill the circle span at least this, or the unit is another. Nor are they taken for
# radians where they fill -1 to 1 or 0 to 1, which some write for the whole circle.
_NARROWEST = 0.1
_EXPECTED = (
    "expected radians (-3.1416 to 3.1416 or 0 to 6.2832), Siemens integers (-4096 to 4094 or 0 to 4095) "
    "or radians times 1000 (-3142 to 3142)"
)


@dataclass(frozen=True)
class PhaseScale:
    """How stored values are read: ``radians = sign * pi * (stored - zero) / stored_pi``.

    Parameters
    ----------
    stored_pi : the stored difference that means pi
    zero : the stored value that means phase zero
    sign : +1 or -1, as ``Acquisition.phase_sign``
    meaning : in words, for the record
    """

    stored_pi: float
    zero: float
    sign: int
    meaning: str


def phase_in_radians(
    phase: np.ndarray, acquisition: Acquisition, mask: np.ndarray | None = None
) -> tuple[np.ndarray, PhaseScale]:
    """Phase in radians, positive where the field is paramagnetic, and how it was read.

    Parameters
    ----------
    phase : (..., i, j, k), as stored, after the file's own slope and intercept
    acquisition : its ``phase_sign`` is applied; its ``phase_pi`` overrides what would be recognised
    mask : (i, j, k); outside it, NaN and infinity become 0 with a notice

    Returns
    -------
    (..., i, j, k) float32 rad in [-pi, pi], a new array; and the :class:`PhaseScale`

    Raises
    ------
    InputError
        When values inside the mask (everywhere without one) are not finite, when the phase is
        constant, or when its range is none of the known ones.
    """
    finite = _finite(phase, mask)
    scale = recognise_phase(phase, acquisition, finite)
    # float64 only within a row of slabs: the stored integers and radians times 1000 keep their digits
    radians = np.empty(phase.shape, np.float32)
    turn = 2 * scale.stored_pi
    for stored, out in zip(_slabs(phase), _slabs(radians), strict=True):
        turns = (stored.astype(np.float64) - scale.zero) / turn
        if finite is not None:
            turns[~np.isfinite(turns)] = 0
        turns -= np.rint(turns * (1 - 1e-9))  # exactly half a turn stays +pi or -pi, as it was stored
        out[...] = scale.sign * 2 * math.pi * turns
    return radians, scale


def recognise_phase(
    phase: np.ndarray, acquisition: Acquisition, finite: np.ndarray | None = None
) -> PhaseScale:
    """What the stored values mean, from ``acquisition.phase_pi`` or else from their range.

    Parameters
    ----------
    finite : where the phase is finite, if not everywhere
    """
    values = phase if finite is None else phase[finite]
    low, high = float(values.min()), float(values.max())
    if low == high:
        raise InputError(f"the phase is {low:g} everywhere; it must vary, is this the phase image?")
    sign = acquisition.phase_sign
    if acquisition.phase_pi is not None:
        return _as_given(low, high, acquisition.phase_pi, sign)
    largest = max(abs(low), abs(high))
    if largest <= math.pi * (1 + _BEYOND):
        if high - low >= math.pi:  # wrapped phase with any noise fills the circle
            return PhaseScale(math.pi, 0.0, sign, "radians, -pi to pi")
        if high - low >= _NARROWEST and not (_fills(low, high, -1, 1) or _fills(low, high, 0, 1)):
            notice(
                f"the phase spans only {high - low:.3g}, from {low:g} to {high:g}; it is taken to be radians"
            )
            return PhaseScale(math.pi, 0.0, sign, "radians, a part of the circle")
    if high - low >= math.pi and low >= -math.pi * _BEYOND and high <= 2 * math.pi * (1 + _BEYOND):
        return PhaseScale(math.pi, 0.0, sign, "radians, 0 to 2 pi")
    for lowest, highest, stored_pi, zero, meaning in (
        (-4096, 4096, 4096.0, 0.0, "Siemens integers, -4096 to 4096"),
        (0, 4096, 2048.0, 2048.0, "Siemens integers, 0 to 4095"),
        (-3143, 3143, 1000 * math.pi, 0.0, "radians times 1000, -3142 to 3142"),
    ):
        if _fills(low, high, lowest, highest):
            return PhaseScale(stored_pi, zero, sign, meaning)
    raise InputError(
        f"the phase runs from {low:g} to {high:g}; {_EXPECTED}; if it is phase, give the stored value "
        "that means pi as phase_pi (--phase-pi)"
    )


def _fills(low: float, high: float, lowest: float, highest: float) -> bool:
    slack = _UNFILLED * (highest - lowest) / 2
    return lowest <= low <= lowest + slack and highest - slack <= high <= highest


def _as_given(low: float, high: float, phase_pi: float, sign: int) -> PhaseScale:
    if high - low < 0.01 * phase_pi:
        raise InputError(
            f"the phase runs from {low:g} to {high:g}, next to nothing of a circle with phase_pi "
            f"{phase_pi:g}; phase_pi must be the stored value that means pi"
        )
    if high - low > 2 * phase_pi * (1 + _BEYOND):
        notice(
            f"the phase runs from {low:g} to {high:g}, more than one turn with phase_pi {phase_pi:g}; "
            "it was taken as unwrapped, and wrapped again"
        )
    return PhaseScale(float(phase_pi), 0.0, sign, f"pi stored as {phase_pi:g}, as given")


def _finite(phase: np.ndarray, mask: np.ndarray | None) -> np.ndarray | None:
    """Where the phase is finite, None for everywhere; refused if it is not inside the mask."""
    if not np.issubdtype(phase.dtype, np.floating):
        return None
    finite = np.isfinite(phase)
    broken = finite.size - int(np.count_nonzero(finite))
    if broken == 0:
        return None
    inside = broken if mask is None else int(np.count_nonzero(~finite & (np.asarray(mask) > 0)))
    if inside:
        where = "" if mask is None else " inside the mask"
        raise InputError(
            f"the phase has {inside} values{where} that are NaN or infinite; give a mask that leaves them "
            "out, or repair the file"
        )
    notice(f"the phase has {broken} NaN or infinite values outside the mask; they were set to 0")
    return finite


def _slabs(array: np.ndarray) -> list[np.ndarray]:
    """Views of the volumes' first spatial axis, so that temporaries stay small."""
    volumes = array.reshape(-1, *array.shape[-3:])
    return [volumes[v, i : i + 16] for v in range(len(volumes)) for i in range(0, volumes.shape[1], 16)]
