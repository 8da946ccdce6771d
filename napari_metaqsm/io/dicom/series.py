"""Stacks to runs: which magnitude and phase were acquired together, and what is left out.

What belongs together is told by geometry, echo times, study, time of acquisition and series number, never
by names.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.dicom.facts import MADE_HERE
from napari_metaqsm.io.dicom.headers import Headers, Image
from napari_metaqsm.io.dicom.scanner_run import (
    TOGETHER_S,
    ScannerRun,
    Set,
    apart_s,
    complex_run,
    echo_in,
    listed,
    phase_run,
)
from napari_metaqsm.io.dicom.stacks import FEWEST_SLICES, Stack, same_grid, stack
from napari_metaqsm.io.dicom.vendors import GE_PART, is_ge

__all__ = ["Found", "LeftOut", "ScannerRun", "find_runs"]

# The syntaxes that dcm2niix reads: uncompressed, RLE, JPEG, lossless JPEG, JPEG-LS, JPEG 2000.
_READABLE_SYNTAXES = {
    "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5",
    *(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70, 80, 81, 90, 91)),
}  # fmt: skip
# Echoes of one acquisition start within so many seconds of each other.
_SAME_START_S = 2.0


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
    images = _chosen(_unique(headers.images, decisions), series, headers.maps)
    rest = _Rest(images)
    maps = sorted(headers.maps if series is None else headers.maps & set(series))
    if maps:
        decisions.append(f"left out, for they are maps that this package exported: series {listed(maps)}")
        rest.leave(maps, "maps made here", decisions[-1])
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
    runs = [phase_run(phase, _partner(phase, magnitudes, phases), phase_difference) for phase in phases]
    for real in reals:
        other = complex_run(real, _partner(real, imaginaries, reals))
        rival = next((r for r in runs if _same_acquisition(next(iter(r.parts.values())), real)), None)
        if rival is None:
            runs.append(other)
        elif ("magnitude" in rival.parts and not rival.trouble) or other.trouble:
            at = runs.index(rival)
            sentence = "its real and imaginary parts are there too, and not needed"
            runs[at] = dataclasses.replace(rival, decisions=(*rival.decisions, sentence))
            rest.leave(other.series, "not needed", f"series {listed(rival.series)}: {sentence}")
        else:
            sentence = "its phase is there too, but incomplete: its complex parts are used"
            runs[runs.index(rival)] = dataclasses.replace(other, notes=(*other.notes, sentence))
            rest.leave(rival.series, "incomplete", f"series {listed(other.series)}: {sentence}")
    used = {id(s) for run in runs for s in run.stacks}
    left = sorted({s[0].series_number for s in (*magnitudes, *imaginaries) if not used & {id(x) for x in s}})
    left = [n for n in left if not any(n in run.series for run in runs)]
    if left:
        decisions.append(f"left out, for no phase belongs to them: series {listed(left)}")
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
            LeftOut((number,), self._descriptions.get(number, ""), *reason)
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


def _chosen(images: list[Image], series: Sequence[int] | None, maps: Collection[int]) -> list[Image]:
    if series is None:
        return images
    there = {image.header.series_number for image in images}.union(maps)
    missing = sorted(set(series) - there)
    if missing:
        raise InputError(
            f"series {listed(missing)} {'is' if len(missing) == 1 else 'are'} not there; "
            f"there {'is' if len(there) == 1 else 'are'} series {listed(sorted(there)) or 'none'}"
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
            f"{listed(sorted(bare))}; export again with private elements kept"
        )
        rest.leave(bare, "magnitude or phase?", notes[-1])
    images = [i for i in images if i.header.manufacturer != MADE_HERE]
    derived = sorted({i.header.series_number for i in images if not i.measured} - bare)
    if derived:
        decisions.append(
            "left out as neither magnitude, phase, real nor imaginary part as measured (localizers, "
            f"computed images and the like): series {listed(derived)}"
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
        counts = sorted({len(s.images) for s in flat if s.series_number == number})
        slices = " or ".join(map(str, counts)) + (" slice" if counts == [1] else " slices")
        mixed = "images of several orientations; those of " if whole else "only "
        decisions.append(f"series {number} holds {mixed}{slices}, too few for a volume; left out")
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


def _same_acquisition(one: Set, other: Set) -> bool:
    """Whether two sets, of the same part or not, are of one acquisition."""
    if one[0].header.study_uid != other[0].header.study_uid or not same_grid(one[0], other[0]):
        return False
    if not any(echo_in(s, other) for s in one):
        return False
    apart = apart_s(one, other)
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
        where = f"series {listed(numbers)}"
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
        shared = sum(echo_in(s, one) is not None for s in phase)
        apart = apart_s(phase, one)
        if shared == 0:
            continue
        if apart is not None and apart > TOGETHER_S:
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
    alone = sum(same_grid(p[0], first) and any(echo_in(s, p) for s in phase) for p in phases) == 1
    return late[0] if len(late) == 1 and alone else None


# -------------------------------------------------------------------------------- words
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
