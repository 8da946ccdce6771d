"""How each vendor stores phase: its sign, its scale, and signs that alternate from slice to slice.

The one place of these rules. The package's own convention is phase = +2 pi gamma dB TE, paramagnetic
positive. What a vendor documents nowhere is assumed, and the decision says so.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from napari_metaqsm.io.dicom.facts import Facts

# Philips' scale slope, beside the rescale slope: value = displayed / (rescale slope * scale slope).
PHILIPS_SCALE_SLOPE = "2005,100e"
# GE's own element: 0 magnitude, 1 phase, 2 real, 3 imaginary.
GE_PART = "0043,102f"
# A header's intercept counts as -pi, or -1000 pi, within this part of it: Philips writes -3142.
_ROUNDED = 2e-3
_HALF_OF_12_BITS = 2048


@dataclass(frozen=True)
class Rule:
    """How the phase of one stack is to be read.

    Parameters
    ----------
    phase_sign : as :attr:`napari_metaqsm.scan.Acquisition.phase_sign`
    phase_pi : the value that means pi in the file that dcm2niix writes with its defaults; None where
        no header tells, and the range of the values must
    alternating_slices : whether real and imaginary parts change sign from slice to slice; None where
        only the data can tell
    decision : the reasons in words, with what overrides them
    assumed : whether the vendor documents no sign, so that ``decision`` is to be read with care
    """

    phase_sign: int
    phase_pi: float | None
    alternating_slices: bool | None
    decision: str
    assumed: bool = False


@dataclass(frozen=True)
class _Vendor:
    name: str
    pattern: str
    sign: int
    why: str
    alternating: bool | None = False
    documented: bool = True


_VENDORS = (
    # The readers of MEDI and QSM.m take GE's complex images with the opposite sign of Siemens' and
    # Philips' phase, and negate every second slice of them.
    _Vendor(
        "GE", r"^GE\b|GENERAL ELECTRIC|^GEMS", -1, "GE stores phase inverted (--phase-sign 1 overrides)",
        alternating=None,
    ),
    _Vendor("Siemens", r"SIEMENS", 1, "Siemens stores phase that grows with the field"),
    _Vendor("Philips", r"PHILIPS", 1, "Philips stores phase that grows with the field"),
    _Vendor(
        "Canon", r"CANON|TOSHIBA", 1,
        "Canon documents no sign of phase, so it is assumed to grow with the field "
        "(--phase-sign -1 overrides)",
        documented=False,
    ),
    _Vendor(
        "UIH", r"^UIH|UNITED IMAGING", 1,
        "United Imaging documents no sign of phase, so it is assumed to grow with the field "
        "(--phase-sign -1 overrides)",
        documented=False,
    ),
)  # fmt: skip


def phase_sign(manufacturer: str) -> int:
    """-1 for a manufacturer that stores phase inverted, else 1."""
    vendor = _vendor(manufacturer)
    return 1 if vendor is None else vendor.sign


def is_ge(manufacturer: str) -> bool:
    """Whether images are of GE, whose headers tell parts in a private element, ``GE_PART``."""
    vendor = _vendor(manufacturer)
    return vendor is not None and vendor.name == "GE"


def rule_for(facts: Facts) -> Rule:
    """How the phase of a stack is to be read, and why.

    Notes
    -----
    Siemens: rescale slope 2 and intercept -4096 take 0…4095 to -4096…4094, and 4096 is pi. Philips: the
    display values are radians times 1000, and those that dcm2niix makes with the scale slope [1]_ are
    radians. GE writes radians times 1000 without saying so; nothing of Canon or United Imaging is
    documented: there the range tells.

    References
    ----------
    .. [1] Chenevert et al., Transl Oncol 2014, doi:10.1593/tlo.13811
    """
    vendor = _vendor(facts.manufacturer)
    sign = 1 if vendor is None else vendor.sign
    named = f"Manufacturer is {facts.manufacturer}" if facts.manufacturer else "no manufacturer is stated"
    why = (
        vendor.why
        if vendor is not None
        else "no rule is known for it, so phase is assumed to grow with the field (--phase-sign -1 overrides)"
    )
    words = [f"{named}: {why}"]
    alternating = None if vendor is None else vendor.alternating
    if facts.part in ("real", "imaginary"):
        pi = math.pi
        words.append("phase is computed in radians from the real and imaginary parts")
        if alternating is None:
            words.append("whether their sign alternates from slice to slice is told from the data")
    elif facts.part in ("phase", "phase_difference"):
        alternating = False
        pi, scale = _scale(facts)
        words.append(scale)
    else:
        pi, alternating = None, False
    return Rule(sign, pi, alternating, "; ".join(words), vendor is None or not vendor.documented)


def _vendor(manufacturer: str) -> _Vendor | None:
    name = manufacturer.strip().upper()
    return next((v for v in _VENDORS if re.search(v.pattern, name)), None)


def _scale(facts: Facts) -> tuple[float | None, str]:
    """The value of pi in the converted file, and how it is known."""
    vendor = _vendor(facts.manufacturer)
    if vendor is not None and vendor.name == "Philips":
        if facts.private.get(PHILIPS_SCALE_SLOPE):
            return math.pi, "its scale slope (2005,100E) makes radians of the stored values"
        if facts.enhanced:  # the scale slope may lie in private groups that were not read
            return None, "radians, or radians times 1000, which the range tells (--phase-pi overrides)"
    for name, pair in (("rescale", facts.rescale), ("real-world mapping", facts.real_world)):
        if pair is None:
            continue
        slope, intercept = pair
        given = f"its {name} has slope {slope:.6g} and intercept {intercept:.6g}"
        if abs(intercept + 1000 * math.pi) <= _ROUNDED * 1000 * math.pi:
            return 1000 * math.pi, f"{given}, which is radians times 1000"
        if abs(intercept + math.pi) <= _ROUNDED * math.pi:
            return math.pi, f"{given}, which is radians"
        if slope > 0 and intercept == -_HALF_OF_12_BITS * slope:
            return _HALF_OF_12_BITS * slope, f"{given}, so that {_HALF_OF_12_BITS * slope:g} means pi"
        break  # the converter applies the rescale where there is one, and only else the mapping
    return None, "no header tells the scale of the phase, so its range does (--phase-pi overrides)"
