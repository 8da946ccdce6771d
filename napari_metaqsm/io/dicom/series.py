"""Stacks to runs: which magnitude and phase were acquired together, and what is missing of them.

What belongs together is told by geometry, echo times, study, time of acquisition and series number, never
by names.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.dicom.headers import Headers, Image
from napari_metaqsm.io.dicom.stacks import FEWEST_SLICES, Stack, same_grid, stack
from napari_metaqsm.io.dicom.vendors import GE_PART, is_ge
from napari_metaqsm.io.pairing import told_difference

# The syntaxes that dcm2niix reads: uncompressed, RLE, JPEG, lossless JPEG, JPEG-LS, JPEG 2000.
_READABLE_SYNTAXES = {
    "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5",
    *(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70, 80, 81, 90, 91)),
}  # fmt: skip
# Magnitude and phase of one acquisition start within so many seconds of each other; echoes closer still.
_TOGETHER_S, _SAME_START_S = 10.0, 2.0
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


class LeftOut(NamedTuple):
    """Series that no run uses: their numbers, what they are called, why in a few words and in a sentence."""

    series: tuple[int, ...]
    description: str
    why: str
    sentence: str


class Found(NamedTuple):
    """The runs among the images, and of the rest what is to be read with care and what is a plain fact."""

    runs: list[ScannerRun]
    notes: list[str]
    decisions: list[str]
    left: list[LeftOut]


# A set of stacks is one part of one acquisition: its echoes, by echo time.
Set = tuple[Stack, ...]


def find_runs(
    headers: Headers, series: Sequence[int] | None = None, phase_difference: bool | None = None
) -> Found:
    """The acquisitions among the images, and what has to be said of the rest.

    Parameters
    ----------
    series : numbers of the series to look at; None for all
    phase_difference : whether a phase is the difference of two echoes; None tells it from the sequence

    Raises
    ------
    InputError
        When a series number that was asked for is not there.
    """
    notes: list[str] = []
    decisions: list[str] = []
    images = _chosen(_unique(headers.images, decisions), series)
    rest = _Rest(images)
    if headers.refused:
        reasons = Counter(why for _, why in headers.refused)
        notes.append(
            f"{_count(len(headers.refused), 'file')} cannot be read: "
            + "; ".join(f"{n} as {why}" if n > 1 else why for why, n in reasons.most_common(4))
        )
    sets = _sets(stack(_usable(images, notes, decisions, rest)), notes, decisions, rest)
    phases = _without_twins([s for s in sets if s[0].part == "phase"], decisions, rest)
    reals = _without_twins([s for s in sets if s[0].part == "real"], decisions, rest)
    magnitudes = [s for s in sets if s[0].part == "magnitude"]
    imaginaries = [s for s in sets if s[0].part == "imaginary"]
    runs = [_phase_run(phase, _partner(phase, magnitudes, phases), phase_difference) for phase in phases]
    for real in reals:
        other = _complex_run(real, _partner(real, imaginaries, reals))
        rival = next((r for r in runs if _same_acquisition(next(iter(r.parts.values())), real)), None)
        if rival is None:
            runs.append(other)
        elif ("magnitude" in rival.parts and not rival.trouble) or other.trouble:
            at = runs.index(rival)
            sentence = "its real and imaginary parts are there too, and not needed"
            runs[at] = dataclasses.replace(rival, decisions=(*rival.decisions, sentence))
            rest.leave(other.series, "not needed", f"series {_listed(rival.series)}: {sentence}")
        else:
            sentence = "its phase is there too, but incomplete: its complex parts are used"
            runs[runs.index(rival)] = dataclasses.replace(other, notes=(*other.notes, sentence))
            rest.leave(rival.series, "incomplete", f"series {_listed(other.series)}: {sentence}")
    used = {id(s) for run in runs for s in run.stacks}
    left = sorted({s[0].series_number for s in (*magnitudes, *imaginaries) if not used & {id(x) for x in s}})
    left = [n for n in left if not any(n in run.series for run in runs)]
    if left:
        decisions.append(f"left out, for no phase belongs to them: series {_listed(left)}")
        rest.leave(left, "no phase", decisions[-1])
    runs = _named(sorted(runs, key=lambda run: run.series))
    return Found(runs, notes, decisions, rest.left_by(runs))


class _Rest:
    """Why series are left out, as it is found out."""

    def __init__(self, images: Iterable[Image]) -> None:
        self._descriptions = {i.header.series_number: i.header.description for i in images}
        self._left: dict[int, tuple[str, str]] = {}

    def leave(self, series: Iterable[int], why: str, sentence: str) -> None:
        """Leave series out, unless another reason is known."""
        for number in series:
            self._left.setdefault(number, (why, sentence))

    def left_by(self, runs: Iterable[ScannerRun]) -> list[LeftOut]:
        """The series of which no run uses anything."""
        used = {number for run in runs for number in run.series}
        return [
            LeftOut((number,), self._descriptions[number], *reason)
            for number, reason in sorted(self._left.items())
            if number not in used
        ]


# -------------------------------------------------------------------------------- which images
def _unique(images: Iterable[Image], decisions: list[str]) -> list[Image]:
    """Each image once, however often its file was copied."""
    kept: dict[tuple, Image] = {}
    copies = set()
    for image in images:
        header = image.header
        key = (
            header.sop_uid or str(header.path), header.series_uid, image.frame, image.part,
            image.echo_time_s, image.position,
        )  # fmt: skip
        if key in kept and kept[key].header.path != header.path:
            copies.add(header.path)
        kept.setdefault(key, image)
    if copies:
        verb = "is a copy of another" if len(copies) == 1 else "are copies of others"
        decisions.append(f"{_count(len(copies), 'file')} {verb}; each image is used once")
    return list(kept.values())


def _chosen(images: list[Image], series: Sequence[int] | None) -> list[Image]:
    if series is None:
        return images
    there = {image.header.series_number for image in images}
    missing = sorted(set(series) - there)
    if missing:
        raise InputError(
            f"series {_listed(missing)} {'is' if len(missing) == 1 else 'are'} not there; "
            f"there {'is' if len(there) == 1 else 'are'} series {_listed(sorted(there)) or 'none'}"
        )
    return [image for image in images if image.header.series_number in set(series)]


def _usable(images: list[Image], notes: list[str], decisions: list[str], rest: _Rest) -> list[Image]:
    """Measured images that can be decoded; the series of all others are told of."""
    locked = [i for i in images if i.header.transfer_syntax not in _READABLE_SYNTAXES]
    for number, syntax in sorted({(i.header.series_number, i.header.transfer_syntax) for i in locked}):
        notes.append(
            f"series {number} is compressed in a way that cannot be read (transfer syntax {syntax}); "
            "export it uncompressed, then it can be used"
        )
        rest.leave([number], "compressed", notes[-1])
    images = [i for i in images if i.header.transfer_syntax in _READABLE_SYNTAXES]
    bare = {i.header.series_number for i in images if i.part == "other" and _lost_its_part(i)}
    if bare:
        notes.append(
            "GE tells magnitude from phase in a private element (0043,102F), which was removed from series "
            f"{_listed(sorted(bare))}; export again with private elements kept"
        )
        rest.leave(bare, "magnitude or phase?", notes[-1])
    derived = sorted({i.header.series_number for i in images if not i.measured} - bare)
    if derived:
        decisions.append(
            "left out as neither magnitude, phase, real nor imaginary part as measured (localizers, "
            f"computed images and the like): series {_listed(derived)}"
        )
        rest.leave(derived, "not as measured", decisions[-1])
    return [i for i in images if i.measured]


def _lost_its_part(image: Image) -> bool:
    return is_ge(image.header.manufacturer) and GE_PART not in image.header.private


# -------------------------------------------------------------------------------- what belongs together
def _sets(stacks: list[Stack], notes: list[str], decisions: list[str], rest: _Rest) -> list[Set]:
    """Echoes of one part in one list, also where a scanner stores each echo as a series of its own."""
    flat = [s for s in stacks if len(s.images) < FEWEST_SLICES]
    stacks = [s for s in stacks if len(s.images) >= FEWEST_SLICES]
    for number in sorted({s.series_number for s in flat}):
        whole = [s for s in stacks if s.series_number == number]
        counts = " or ".join(map(str, sorted({len(s.images) for s in flat if s.series_number == number})))
        mixed = "images of several orientations; those of " if whole else "only "
        decisions.append(
            f"series {number} holds {mixed}{counts} slices, too few for a volume; they are left out"
        )
        rest.leave([number], "too few slices", decisions[-1])
    for number in sorted({s.series_number for s in stacks}):
        orientations = _orientations([s for s in stacks if s.series_number == number])
        if orientations > 1:
            notes.append(
                f"series {number} mixes {orientations} orientations or grids; each is taken as a scan "
                "of its own"
            )
    stacks.sort(key=lambda s: (s.series_number, s.echo))
    sets: list[list[Stack]] = []
    for one in stacks:
        home = next((s for s in sets if _is_echo_of(one, s)), None)
        if home is None:
            sets.append([one])
        else:
            home.append(one)
    return [tuple(sorted(s, key=lambda one: one.echo)) for s in sets]


def _orientations(stacks: list[Stack]) -> int:
    grids: list[Stack] = []
    for one in stacks:
        if not any(same_grid(one, grid) for grid in grids):
            grids.append(one)
    return len(grids)


def _is_echo_of(one: Stack, others: list[Stack]) -> bool:
    """Whether a stack is a further echo of a set."""
    first = others[0]
    if (one.part, one.header.enhanced, one.header.study_uid) != (
        first.part, first.header.enhanced, first.header.study_uid,
    ):  # fmt: skip
        return False
    if any(one.is_same_echo(s) for s in others) or not same_grid(one, first):
        return False
    if one.header.series_uid == first.header.series_uid:
        return True
    if one.time_s is None or first.time_s is None or one.images[0].image_type != first.images[0].image_type:
        return False
    return abs(one.time_s - first.time_s) <= _SAME_START_S


def _echo_in(one: Stack, others: Set) -> Stack | None:
    return next((s for s in others if one.is_same_echo(s)), None)


def _apart(one: Set, other: Set) -> float | None:
    """Seconds between the starts of two sets, None where a header does not tell."""
    times = [[s.time_s for s in each if s.time_s is not None] for each in (one, other)]
    return abs(min(times[0]) - min(times[1])) if all(times) else None


def _same_acquisition(one: Set, other: Set) -> bool:
    """Whether two sets, of the same part or not, are of one acquisition."""
    if one[0].header.study_uid != other[0].header.study_uid or not same_grid(one[0], other[0]):
        return False
    if not any(_echo_in(s, other) for s in one):
        return False
    apart = _apart(one, other)
    return one[0].series_number == other[0].series_number if apart is None else apart <= _SAME_START_S


def _without_twins(sets: list[Set], decisions: list[str], rest: _Rest) -> list[Set]:
    """One of each acquisition that is there twice: classic and enhanced, or sent twice."""
    kept: list[Set] = []
    for one in sorted(sets, key=_worth):
        twin = next((k for k in kept if _same_acquisition(k, one) and _is_twin(k, one)), None)
        if twin is None:
            kept.append(one)
            continue
        kinds = ["enhanced" if s[0].header.enhanced else "classic" for s in (twin, one)]
        numbers = list(dict.fromkeys((twin[0].series_number, one[0].series_number)))
        where = f"series {_listed(numbers)}"
        if kinds[0] != kinds[1]:
            decisions.append(f"{where} is there as classic and as enhanced DICOM; the {kinds[0]} one is used")
        elif len(numbers) == 1:
            decisions.append(f"{where} is there twice; its first images are used")
        else:
            decisions.append(f"{where} hold one acquisition twice; the first is used")
        rest.leave({s.series_number for s in one}, "there twice", decisions[-1])
    return kept


def _is_twin(one: Set, other: Set) -> bool:
    if one[0].header.enhanced != other[0].header.enhanced:
        return True
    # Two versions of one acquisition, as with and without distortion correction, are no twins.
    return one[0].images[0].image_type == other[0].images[0].image_type


def _worth(one: Set) -> tuple:
    """Sorts the most complete first; classic before enhanced, for each of its slices has its own header."""
    lost = sum(len(s.gaps()) for s in one)
    return (-len(one), lost, -sum(len(s.images) for s in one), one[0].header.enhanced, one[0].series_number)


def _partner(phase: Set, candidates: list[Set], phases: list[Set]) -> Set | None:
    """The magnitude (or imaginary part) that was acquired with a phase (or real part).

    Where none started with it, the only one that fits is taken, if no other phase could be meant.
    """
    first = phase[0]
    fitting, late = [], []
    for one in candidates:
        if one[0].header.study_uid != first.header.study_uid or not same_grid(one[0], first):
            continue
        shared = sum(_echo_in(s, one) is not None for s in phase)
        apart = _apart(phase, one)
        if shared == 0:
            continue
        if apart is not None and apart > _TOGETHER_S:
            late.append(one)
            continue
        alike = set(one[0].images[0].image_type) & set(first.images[0].image_type)
        rank = (
            one[0].header.enhanced != first.header.enhanced,
            -shared,
            -len(alike),
            apart or 0.0,
            abs(one[0].series_number - first.series_number),
            sum(len(s.gaps()) for s in one),
        )
        fitting.append((rank, len(fitting), one))
    if fitting:
        return min(fitting)[2]
    alone = sum(same_grid(p[0], first) and any(_echo_in(s, p) for s in phase) for p in phases) == 1
    return late[0] if len(late) == 1 and alone else None


# -------------------------------------------------------------------------------- what is there of a run
def _phase_run(phase: Set, magnitude: Set | None, difference: bool | None) -> ScannerRun:
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
        apart = _apart(phase, magnitude)
        if apart is not None and apart > _TOGETHER_S:
            notes.append(
                f"magnitude and phase (series {magnitude[0].series_number} and {phase[0].series_number}) "
                f"started {apart:.0f} s apart; there is no other that fits"
            )
        lost = [s for s in magnitude if _echo_in(s, phase) is None]
        if lost:
            notes.append(
                f"there is no phase of the echo {_at(lost)}, only magnitude; it is left out"
                if len(lost) == 1
                else f"there is no phase of the echoes {_at(lost)}, only magnitude; they are left out"
            )
        parts["magnitude"] = tuple(s for s in magnitude if _echo_in(s, phase) is not None)
    else:
        notes.append(
            f"there is no magnitude to the phase of series {phase[0].series_number}; with a mask the field "
            "can be made from the phase alone, brain extraction and weights by magnitude cannot"
        )
    return dataclasses.replace(_whole(parts, notes), decisions=told)


def _complex_run(real: Set, imaginary: Set | None) -> ScannerRun:
    if imaginary is None:
        trouble = (
            f"there is no imaginary part to the real part of series {real[0].series_number}; "
            "without it there is no phase, export both"
        )
        return ScannerRun("", {"real": real}, trouble=trouble)
    return _whole({"real": real, "imaginary": imaginary}, [])


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
        if all((found := _echo_in(s, parts[p])) is not None and id(found) not in bad for p in measured)
    ]  # fmt: skip
    if not good:
        return ScannerRun("", parts, tuple(notes), _hopeless(list(bad.values()) or ["parts are missing"]))
    magnitudes = parts.get("magnitude", ())
    matched = [s for s in good if (m := _echo_in(s, magnitudes)) is not None and id(m) not in bad]
    notes += bad.values()
    if len(matched) == 1 < len(good):
        # Phase of one echo alone keeps an offset that several take out, which weighs more than weights.
        notes.append(f"only the echo {_at(matched)} has a magnitude, which stands for that of all echoes")
    elif matched and len(matched) < len(good):
        notes.append(f"the magnitude of other echoes is missing: only those {_at(matched)} are used")
    chosen = good if len(matched) == 1 else matched or good
    if bad and len(chosen) < len(parts[measured[0]]):
        notes.append(f"used: the echoes {_at(chosen)}")
    if magnitudes and not matched:
        notes.append("no echo has a whole magnitude: with a mask the field can be made from the phase alone")
    kept = {p: tuple(s for s in parts[p] if _echo_in(s, tuple(chosen)) is not None) for p in measured}
    if matched:
        kept["magnitude"] = tuple(s for s in magnitudes if _echo_in(s, tuple(matched)) is not None)
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
        what = f"slice {gaps[0]} is" if len(gaps) == 1 else f"slices {_listed(gaps)} are"
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
    return f"{one.part.replace('_', ' ')}{echo} (series {one.series_number})"


def _at(stacks: Sequence[Stack]) -> str:
    if any(s.echo_time_s is None for s in stacks):
        return "numbered " + ", ".join(str(s.echo[1]) for s in stacks)
    return "at " + ", ".join(f"{s.echo_time_s * 1000:g}" for s in stacks) + " ms"


def _listed(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:12]))
    return f"{shown} and {len(numbers) - 12} more" if len(numbers) > 12 else shown


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _named(runs: list[ScannerRun]) -> list[ScannerRun]:
    """Runs with names that differ: description and series number, as BIDS spells labels."""
    named, taken = [], set()
    for run in runs:
        first = next(iter(run.parts.values()))[0]
        plain = first.header.description.encode("ascii", "ignore").decode()
        label = re.sub(r"[^a-z0-9]", "", plain.lower())[:40]
        base = f"acq-{label}_run-{first.series_number}" if label else f"run-{first.series_number}"
        name, again = base, 1
        while name in taken:
            again += 1
            name = f"{base}x{again}"
        taken.add(name)
        named.append(dataclasses.replace(run, name=name))
    return named
