"""Units of the field and of phase. They meet here and nowhere else.

Fields and susceptibilities are in ppm (of B0), paramagnetic positive; phase is in radians; times in
seconds. ``phase = 2 pi * 42.577 * B0 * TE * field`` with the phase sign taken out before.
"""

from __future__ import annotations

import math
from typing import TypeVar

from napari_metaqsm.errors import InputError

GYROMAGNETIC_RATIO_MHZ_PER_T = 42.577
FIELD_UNITS = ("ppm", "Hz", "rad/s")

Number = TypeVar("Number")  # float, numpy array or tensor


def hz_per_ppm(b0_tesla: float) -> float:
    """Frequency in Hz of a field of one ppm: 127.731 at 3 T."""
    return GYROMAGNETIC_RATIO_MHZ_PER_T * b0_tesla


def rad_per_ppm(b0_tesla: float, echo_time_s: float) -> float:
    """Phase in radians that a field of one ppm gathers in ``echo_time_s``."""
    return 2 * math.pi * hz_per_ppm(b0_tesla) * echo_time_s


def ppm_per_unit(unit: str, b0_tesla: float | None) -> float:
    """Factor that takes a field in ``unit`` ("ppm", "Hz" or "rad/s") to ppm.

    Raises
    ------
    InputError
        When the unit is unknown, or needs the field strength and there is none.
    """
    if unit not in FIELD_UNITS:
        raise InputError(f"unit is {unit!r}; it must be one of {', '.join(FIELD_UNITS)}")
    if unit == "ppm":
        return 1.0
    if b0_tesla is None:
        raise InputError(f"a field in {unit} needs the field strength in tesla to become ppm")
    return 1 / hz_per_ppm(b0_tesla) / (2 * math.pi if unit == "rad/s" else 1)


def ppm_from(field: Number, unit: str, b0_tesla: float | None) -> Number:
    """A field in ``unit`` as ppm; the array itself where it is in ppm already."""
    factor = ppm_per_unit(unit, b0_tesla)
    return field if factor == 1 else field * factor
