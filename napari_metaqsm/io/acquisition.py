"""What sidecars say of how a scan was acquired, joined over its files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.dicom import vendors
from napari_metaqsm.io.sidecar import Sidecar
from napari_metaqsm.scan import Acquisition
from napari_metaqsm.units import GYROMAGNETIC_RATIO_MHZ_PER_T

# Headers round echo times, and give a field of 2.89 T as 3 T.
_SAME_ECHO_S = 1e-4
_SAME_FIELD = 0.1
# A strength that is off by less than this from the imaging frequency's is rounded, by more is nominal.
_EXACT_FIELD = 0.005
_RADIANS = ("rad", "rads", "radian", "radians")


def acquisition_of(
    sidecars: dict[str, list[Sidecar]],
    difference: bool = False,
    *,
    echo_times_s: Sequence[float] | None = None,
    b0_tesla: float | None = None,
    phase_sign: int | None = None,
    phase_pi: float | None = None,
    decisions: list[str] | None = None,
    converted: str = "",
) -> Acquisition:
    """What the sidecars of each role say of the acquisition; given values go before theirs.

    Parameters
    ----------
    difference : whether the phase is the difference of two echoes
    decisions : takes what was decided, in words
    converted : what the files were made from, where they are not the user's own

    Raises
    ------
    InputError
        When the sidecars contradict each other, or say what cannot be; what is given is not asked of them.
    """
    decisions = [] if decisions is None else decisions
    every = [s for role in ("phase", *sidecars) for s in sidecars.get(role, ())]
    if b0_tesla is None:
        _check_one_field(every, converted)
    stated_b0 = next((s.b0_tesla for s in every if s.b0_tesla is not None), None)
    stated_sign = next((s.phase_sign for s in every if s.phase_sign is not None), None)
    stated_pi = next((s.phase_pi for s in sidecars.get("phase", ()) if s.phase_pi is not None), None)
    for what, given, stated in (
        ("field strength in tesla", b0_tesla, stated_b0),
        ("phase sign", phase_sign, stated_sign),
        ("stored value of pi", phase_pi, stated_pi),
    ):
        if given is not None and stated is not None and not math.isclose(given, stated, rel_tol=1e-6):
            decisions.append(f"the {what} was given as {given:g}, in place of {stated:g}")
    if b0_tesla is None:
        b0_tesla = stated_b0
        nominal = (nominal_field(s.b0_tesla, s.imaging_frequency_mhz) for s in every)
        decisions += filter(None, [next(filter(None, nominal), "")])
    phase_sign = stated_sign if phase_sign is None else phase_sign
    if phase_sign is None:
        maker = next((s.manufacturer for s in every if s.manufacturer), "")
        phase_sign = vendors.phase_sign(maker)
        if phase_sign == -1 and "phase" in sidecars:
            decisions.append(
                f"the phase is from {maker}, which stores it inverted: phase sign -1 "
                "(--phase-sign 1 overrides)"
            )
    phase_pi = stated_pi if phase_pi is None else phase_pi
    if phase_pi is None and any(s.units.lower() in _RADIANS for s in sidecars.get("phase", ())):
        phase_pi = math.pi
    times = _difference_time(sidecars, echo_times_s) if difference else _times(sidecars, echo_times_s)
    return Acquisition(times, b0_tesla, phase_sign, phase_pi)


def _times(sidecars: dict[str, list[Sidecar]], given: Sequence[float] | None) -> tuple[float, ...] | None:
    if given is not None:
        return tuple(given)
    stated: dict[str, tuple[float, ...]] = {}
    for role in ("phase", "magnitude"):
        times = [s.echo_times_s for s in sidecars.get(role, ())]
        if times and all(times):
            stated[role] = tuple(t for each in times for t in each)
    phase, magnitude = stated.get("phase", ()), stated.get("magnitude", ())
    if len(phase) == len(magnitude) and not np.allclose(phase, magnitude, rtol=0, atol=_SAME_ECHO_S):
        of_phase, of_magnitude = (", ".join(f"{1000 * t:g}" for t in times) for times in (phase, magnitude))
        raise InputError(
            f"the echo times of the phase are {of_phase} ms and of the magnitude {of_magnitude} ms; "
            "give files of one scan, or the echo times (--echo-times)"
        )
    return phase or magnitude or None


def _check_one_field(sidecars: Sequence[Sidecar], converted: str) -> None:
    """Refuse sidecars of several field strengths; of one, scanners write the nominal and the measured."""
    stated = [s for s in sidecars if s.b0_tesla is not None]
    for other in stated[1:]:
        if not math.isclose(stated[0].b0_tesla, other.b0_tesla, rel_tol=_SAME_FIELD):
            one, two = f"{stated[0].b0_tesla:g} T", f"{other.b0_tesla:g} T"
            if converted:
                raise InputError(
                    f"the field strength is {one} and {two} in the headers of one scan ({converted} and the "
                    "magnitude); give series of one scan, or the field strength (--b0)"
                )
            raise InputError(
                f"the field strength is {one} in {stated[0].file} and {two} in {other.file}; "
                "correct one, or give it (--b0)"
            )


def nominal_field(b0_tesla: float | None, imaging_frequency_mhz: float | None) -> str:
    """In words by how much the field strength of the frequency would change susceptibility; "" where hardly.

    BIDS and DICOM name the nominal strength, which is what scans are compared by; so it is kept.
    """
    if b0_tesla is None or imaging_frequency_mhz is None:
        return ""
    measured = imaging_frequency_mhz / GYROMAGNETIC_RATIO_MHZ_PER_T
    change = b0_tesla / measured - 1
    if not _EXACT_FIELD < abs(change) < _SAME_FIELD:
        return ""
    return (
        f"the field strength is {b0_tesla:g} T as the headers say; by the imaging frequency of "
        f"{imaging_frequency_mhz:g} MHz it is {measured:.4g} T, with which the maps are "
        f"{abs(change):.1%} {'larger' if change > 0 else 'smaller'} (--b0 {measured:.4g} overrides)"
    )


def _difference_time(
    sidecars: dict[str, list[Sidecar]], given: Sequence[float] | None
) -> tuple[float, ...] | None:
    if given is not None:
        times = tuple(given)
    else:
        stated = [s.difference_s for s in sidecars.get("phase", ()) if s.difference_s is not None]
        times = tuple(stated) or tuple(t for s in sidecars.get("magnitude", ()) for t in s.echo_times_s)
        if not stated and len(times) != 2:
            return None
    if len(times) == 2:
        Acquisition(times)  # refuses milliseconds and the wrong order before they are subtracted
        times = (round(times[1] - times[0], 9),)
    return times


def check_known(acquisition: Acquisition, file: Path, converted: str = "") -> None:
    """Raise `InputError`, with how to give it, where a phase lacks echo times or field strength.

    ``converted`` names what the file was made from, where it is not the user's own and has no sidecar to
    be mended.
    """
    name, sidecar = converted or file.name, file.name.split(".")[0] + ".json"
    missing = [
        ("echo times", "are", "in seconds (--echo-times)", "EchoTime", acquisition.echo_times_s),
        ("field strength", "is", "in tesla (--b0)", "MagneticFieldStrength", acquisition.b0_tesla),
    ]
    for what, verb, how, key, value in missing:
        if value is None:
            it = "them" if verb == "are" else "it"
            instead = "" if converted else f", or as {key} in {sidecar}"
            raise InputError(f"the {what} of {name} {verb} missing; give {it} {how}{instead}")
