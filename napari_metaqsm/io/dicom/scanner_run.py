"""One acquisition of the scanner: what of it is whole and used, and the words for what it lacks."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from napari_metaqsm.io.dicom.stacks import FEWEST_SLICES, Stack
from napari_metaqsm.io.pairing import COMPLEX, told_difference

# A set of stacks is one part of one acquisition: its echoes, by echo time.
Set = tuple[Stack, ...]
# Magnitude and phase of one acquisition start within so many seconds of each other.
TOGETHER_S = 10.0
# Siemens' sequences that store the phase difference of two echoes.
_FIELD_MAPPING = re.compile(r"fm2d|fm3d", re.IGNORECASE)


@dataclass(frozen=True)
class ScannerRun:
    """One acquisition that a field can be made from.

    Parameters
    ----------
    name : "acq-<description>_run-<series number>", of letters and digits alone
    parts : stacks by part ("phase" or "phase_difference" or "real" and "imaginary"; "magnitude"), by echo
    notes : what is missing, what is to be read with care, and what can still be done
    trouble : why nothing can be made of it; empty where something can
    decisions : what was chosen among what is there, and why
    """

    name: str
    parts: Mapping[str, tuple[Stack, ...]]
    notes: tuple[str, ...] = ()
    trouble: str = ""
    decisions: tuple[str, ...] = ()

    @property
    def stacks(self) -> list[Stack]:
        return [s for part in self.parts.values() for s in part]

    @property
    def series(self) -> list[int]:
        """The series it comes from."""
        return sorted({s.series_number for s in self.stacks})


def echo_in(one: Stack, others: Set) -> Stack | None:
    """The stack of the same echo."""
    return next((s for s in others if one.is_same_echo(s)), None)


def apart_s(one: Set, other: Set) -> float | None:
    """Seconds between the starts of two sets, None where a header does not tell."""
    times = [[s.time_s for s in each if s.time_s is not None] for each in (one, other)]
    return abs(min(times[0]) - min(times[1])) if all(times) else None


def phase_run(phase: Set, magnitude: Set | None, difference: bool | None) -> ScannerRun:
    """The run of a phase; ``difference`` where it is given whether that is the one of two echoes."""
    notes: list[str] = []
    found = _is_difference(phase, magnitude)
    if difference and len(phase) > 1:
        trouble = (
            f"the phase of series {phase[0].series_number} has {len(phase)} echoes, so that it is no "
            "difference of two (--phase-difference)"
        )
        return ScannerRun("", {"phase": phase}, trouble=trouble)
    told = told_difference(found, difference)
    if found if difference is None else difference:
        parts = {"phase_difference": tuple(dataclasses.replace(s, part="phase_difference") for s in phase)}
        if magnitude:
            parts["magnitude"] = magnitude[:2]
        return dataclasses.replace(_whole(parts, notes, tied=False), decisions=told)
    parts = {"phase": phase}
    if magnitude:
        apart = apart_s(phase, magnitude)
        if apart is not None and apart > TOGETHER_S:
            notes.append(
                f"magnitude and phase (series {magnitude[0].series_number} and {phase[0].series_number}) "
                f"started {apart:.0f} s apart; there is no other that fits"
            )
        lost = [s for s in magnitude if echo_in(s, phase) is None]
        if lost:
            notes.append(f"there is no phase of the {_echoes(lost)}, only magnitude; left out")
        parts["magnitude"] = tuple(s for s in magnitude if echo_in(s, phase) is not None)
    else:
        notes.append(
            f"there is no magnitude to the phase of series {phase[0].series_number}; with a mask the field "
            "can be made from the phase alone, brain extraction and weights by magnitude cannot"
        )
    return dataclasses.replace(_whole(parts, notes), decisions=told)


def complex_run(real: Set, imaginary: Set | None) -> ScannerRun:
    """The run of a real part and, where there is one, its imaginary part."""
    if imaginary is None:
        trouble = (
            f"there is no imaginary part to the real part of series {real[0].series_number}; "
            "without it there is no phase, export both"
        )
        return ScannerRun("", {"real": real}, trouble=trouble)
    parts = {"real": real, "imaginary": imaginary}
    notes = []
    for part, other in (("real", "imaginary"), ("imaginary", "real")):
        alone = [s for s in parts[part] if echo_in(s, parts[other]) is None]
        if alone:
            notes.append(f"there is no {other} part of the {_echoes(alone)}, only the {part} one; left out")
    return _whole(parts, notes)


def _is_difference(phase: Set, magnitude: Set | None) -> bool:
    """Whether a single phase is the difference of two echoes, as Siemens' field mapping stores it."""
    header = phase[0].header
    if len(phase) != 1 or not header.manufacturer.upper().startswith("SIEMENS"):
        return False
    return bool(_FIELD_MAPPING.search(header.sequence)) and (magnitude is None or len(magnitude) == 2)


def _whole(parts: dict[str, Set], notes: list[str], tied: bool = True) -> ScannerRun:
    """The run with the echoes that are whole; what lacks is told.

    ``tied`` where echo by echo belongs together: what one part lacks cannot be used of the others.
    """
    parts = _same_slices(parts, notes)
    for one in (s for part in parts.values() for s in part):
        if one.repeated > 1:
            notes.append(
                f"the {_what(one)} holds {one.repeated} images at each place (repetitions, coils); the first "
                "is used"
            )
    most = max((s for part in parts.values() for s in part), key=lambda s: len(s.images))
    bad = {id(s): why for part in parts.values() for s in part if (why := _lacks(s, most))}
    measured = [p for p in parts if p != "magnitude"]
    if not tied:
        for p in measured:
            if any(id(s) in bad for s in parts[p]):
                return ScannerRun("", parts, tuple(notes), _hopeless([bad[id(s)] for s in parts[p]]))
        if any(id(s) in bad for s in parts.get("magnitude", ())):
            notes += [bad[id(s)] for s in parts["magnitude"] if id(s) in bad]
            parts["magnitude"] = tuple(s for s in parts["magnitude"] if id(s) not in bad)
        return ScannerRun("", {p: s for p, s in parts.items() if s}, tuple(notes))
    good = [
        s for s in parts[measured[0]]
        if all((found := echo_in(s, parts[p])) is not None and id(found) not in bad for p in measured)
    ]  # fmt: skip
    if not good:
        return ScannerRun("", parts, tuple(notes), _hopeless(list(bad.values()) or ["parts are missing"]))
    magnitudes = parts.get("magnitude", ())
    matched = [s for s in good if (m := echo_in(s, magnitudes)) is not None and id(m) not in bad]
    notes += bad.values()
    if len(matched) == 1 < len(good):
        # Phase of one echo alone keeps an offset that several take out, which weighs more than weights.
        notes.append(f"only the {_echoes(matched)} has a magnitude, which stands for that of all echoes")
    elif matched and len(matched) < len(good):
        notes.append(f"the magnitude of other echoes is missing: only those {_at(matched)} are used")
    chosen = good if len(matched) == 1 else matched or good
    if bad and len(chosen) < len(parts[measured[0]]):
        notes.append(f"used: the {_echoes(chosen)}")
    if magnitudes and not matched:
        notes.append("no echo has a whole magnitude: with a mask the field can be made from the phase alone")
    kept = {p: tuple(s for s in parts[p] if echo_in(s, tuple(chosen)) is not None) for p in measured}
    if matched:
        kept["magnitude"] = tuple(s for s in magnitudes if echo_in(s, tuple(matched)) is not None)
    return ScannerRun("", kept, tuple(notes))


def _same_slices(parts: dict[str, Set], notes: list[str]) -> dict[str, Set]:
    """All stacks with the slices that all have, where only the first or the last are not in all of them."""
    stacks = [s for part in parts.values() for s in part]
    if len({len(s.images) for s in stacks}) == 1 or any(s.gaps() for s in stacks):
        return parts
    low, high = max(s.heights_mm[0] for s in stacks), min(s.heights_mm[-1] for s in stacks)
    most = max(stacks, key=lambda s: len(s.images))
    slack = most.spacing_mm / 2
    heights = [h for h in most.heights_mm if low - slack < h < high + slack]
    if len(heights) < max(FEWEST_SLICES, len(most.images) // 2):
        return parts
    for s in stacks:
        if len(s.images) < len(most.images):
            notes.append(
                f"the {_what(s)} has {len(s.images)} of {len(most.images)} slices, the outer ones are "
                f"missing; the {len(heights)} slices that all have are used"
            )
    return {part: tuple(s.only(heights) for s in some) for part, some in parts.items()}


def _lacks(one: Stack, most: Stack) -> str:
    """What a stack lacks, in words; empty where it is whole."""
    if one.repeated > 1 and one.echo_time_s is None:
        return (
            f"the {_what(one)} holds {one.repeated} images at each place, and no echo times or numbers that "
            "would tell them apart"
        )
    gaps = one.gaps()
    if gaps:
        what = f"slice {gaps[0]} is" if len(gaps) == 1 else f"slices {listed(gaps)} are"
        return f"{what} missing of the {_what(one)}"
    if one.uneven():
        return f"the slices of the {_what(one)} are not evenly spaced"
    if one.part.startswith("phase") and len({image.rescale for image in one.images}) > 1:
        return f"the slices of the {_what(one)} are scaled differently, which those of one phase never are"
    if len(one.images) < len(most.images):
        return f"the {_what(one)} has {len(one.images)} slices, the {_what(most)} {len(most.images)}"
    return ""


def _hopeless(reasons: list[str]) -> str:
    return "; ".join(reasons) + "; no echo is whole, so nothing can be made of it: export it again"


# -------------------------------------------------------------------------------- words
def _what(one: Stack) -> str:
    echo = f" of echo {one.echo[1]}" if one.echo[1] else ""
    echo = echo if one.echo_time_s is None else f" at {one.echo_time_s * 1000:g} ms"
    part = f"{one.part} part" if one.part in COMPLEX else one.part.replace("_", " ")
    return f"{part}{echo} (series {one.series_number})"


def _echoes(stacks: Sequence[Stack]) -> str:
    return f"echo{'es' if len(stacks) > 1 else ''} {_at(stacks)}"


def _at(stacks: Sequence[Stack]) -> str:
    if any(s.echo_time_s is None for s in stacks):
        return "numbered " + ", ".join(str(s.echo[1]) for s in stacks)
    return "at " + ", ".join(f"{s.echo_time_s * 1000:g}" for s in stacks) + " ms"


def listed(numbers: Sequence[int]) -> str:
    """Numbers in words, the first dozen of them."""
    shown = ", ".join(map(str, numbers[:12]))
    return f"{shown} and {len(numbers) - 12} more" if len(numbers) > 12 else shown
