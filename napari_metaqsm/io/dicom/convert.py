"""DICOM to NIfTI and sidecars that the rest of the package reads: dcm2niix converts, the headers decide."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.acquisition import nominal_field
from napari_metaqsm.io.complex_parts import NO_PARTS, magnitude_and_phase
from napari_metaqsm.io.dicom.facts import Facts
from napari_metaqsm.io.dicom.fingerprint import series_of
from napari_metaqsm.io.dicom.headers import Headers, read_headers
from napari_metaqsm.io.dicom.matching import NIfTI, converted_stacks
from napari_metaqsm.io.dicom.scanner_run import ScannerRun
from napari_metaqsm.io.dicom.series import LeftOut, find_runs
from napari_metaqsm.io.dicom.stacks import Stack, describe, facts_of
from napari_metaqsm.io.dicom.vendors import PHILIPS_SCALE_SLOPE, Rule, rule_for
from napari_metaqsm.io.nifti import Space, write
from napari_metaqsm.io.sidecar import OWN
from napari_metaqsm.io.staging import staged

_NEEDS = "it needs phase, or real and imaginary parts; have the scanner store and export them"

Paths = str | os.PathLike | Iterable[str | os.PathLike]


@dataclass(frozen=True)
class Converted:
    """One run, as NIfTI files with sidecars that ``io.load`` reads as they are.

    Parameters
    ----------
    name : of the run, without anything of the patient
    files : by role, in the order of the echoes
    decisions : what was decided and from which evidence
    notes : what was assumed, what is missing, and what can still be done
    sources : by role, the DICOM series: number, description, count of files, one hash of all of them
    """

    name: str
    files: Mapping[str, tuple[Path, ...]]
    decisions: tuple[str, ...]
    notes: tuple[str, ...]
    sources: Mapping[str, list[dict]]


@dataclass(frozen=True)
class Survey:
    """What there is to convert.

    Parameters
    ----------
    runs : something can be made of each
    notes : of what was left out and should not be
    decisions : of what was left out for good
    refused : files that could not be read, and why
    left : the series of which nothing can be made; their sentences are among notes and decisions
    """

    runs: tuple[ScannerRun, ...]
    notes: tuple[str, ...]
    decisions: tuple[str, ...] = ()
    refused: tuple[tuple[Path, str], ...] = field(default=())
    left: tuple[LeftOut, ...] = ()


def survey(paths: Paths, series: Sequence[int] | None = None, phase_difference: bool | None = None) -> Survey:
    """The runs in DICOM files and folders, told from their headers alone.

    Parameters
    ----------
    series : numbers of the series to use; None for all
    phase_difference : whether a phase is the difference of two echoes; None tells it from the sequence

    Raises
    ------
    InputError
        When a path or a series is not there, or nothing can be made of any run.
    """
    given = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    headers = read_headers(given)
    runs, notes, decisions, left = find_runs(headers, series, phase_difference)
    for run in runs:
        if run.trouble:
            notes.append(f"series {_numbers(run)}: {run.trouble}")
            about = run.stacks[0].header.description
            left.append(LeftOut(tuple(run.series), about, "incomplete", notes[-1]))
    usable = tuple(run for run in runs if not run.trouble)
    if not usable:
        raise InputError("; ".join([*_why_none(headers, given, bool(runs)), *notes, *decisions]))
    left.sort(key=lambda each: each.series)
    return Survey(usable, tuple(notes), tuple(decisions), headers.refused, tuple(left))


def _why_none(headers: Headers, given: Sequence[str | os.PathLike], runs: bool) -> list[str]:
    """Why there is nothing to convert, and what to do; ``runs`` where there are some, each with trouble."""
    if headers.maps and {image.header.series_number for image in headers.images} <= headers.maps:
        return [
            "there are no images of a scanner, but maps made of them",
            "give the DICOM of the scan that they were made from",
        ]
    if headers.images:
        why = ["there is nothing to make a field from"]
        if all(map(os.path.isfile, given)):
            return [*why, "give the folder that holds all images of the scan, or all of them"]
        return why if runs else [*why, _NEEDS]
    if headers.others:
        one = headers.others == 1
        files = "1 DICOM file holds" if one else f"{headers.others} DICOM files hold"
        return [
            "there is no MR image in DICOM",
            f"{files} something else, such as maps made of images, or reports",
        ]
    if headers.refused:
        return ["there is no MR image in DICOM"]
    return ["no file is DICOM by its first bytes", "give DICOM files or a folder that holds some"]


def _numbers(run: ScannerRun) -> str:
    return ",".join(map(str, run.series))


def cannot_convert(run: ScannerRun) -> str:
    """How the note begins that says why a run could not be converted."""
    return f"series {_numbers(run)} cannot be converted"


def how_read(run: ScannerRun) -> str:
    """How the phase of a run will be read, and why, as far as its headers tell before it is converted."""
    part, stacks = next((part, stacks) for part, stacks in run.parts.items() if part != "magnitude")
    return rule_for(_with(facts_of(stacks, 2), part=part)).decision


def convert(
    paths: Paths,
    out: str | os.PathLike,
    *,
    series: Sequence[int] | None = None,
    alternating_slices: bool | None = None,
    phase_difference: bool | None = None,
) -> list[Converted]:
    """Convert every run in DICOM files and folders into NIfTI files with sidecars.

    Parameters
    ----------
    paths : files and folders, at any depth; classic, enhanced, compressed by gzip
    out : folder for the files; they all appear at the end, or none does
    series : numbers of the series to use; None for all
    alternating_slices : whether real and imaginary parts change sign from slice to slice; None takes the
        vendor's rule, or tells it from the data
    phase_difference : whether a phase is the difference of two echoes; None tells it from the sequence

    Raises
    ------
    InputError
        When nothing can be converted, in words that say what is missing.
    """
    return convert_runs(survey(paths, series, phase_difference), out, alternating_slices)


def convert_runs(
    found: Survey, out: str | os.PathLike, alternating_slices: bool | None = None
) -> list[Converted]:
    """Convert the runs of a survey; see :func:`convert`."""
    if alternating_slices is not None and not any("real" in run.parts for run in found.runs):
        raise InputError(NO_PARTS)
    out = Path(out)
    converted: list[Converted] = []
    failed: list[str] = []
    with staged(out) as folder:
        for run in found.runs:
            try:
                converted.append(_convert_run(run, folder, out, alternating_slices))
            except InputError as error:
                failed.append(f"{cannot_convert(run)}: {error}")
        if not converted:
            raise InputError("; ".join([*failed, *found.notes]))
    more = (*failed, *found.notes)
    return [
        dataclasses.replace(c, notes=(*c.notes, *more), decisions=(*c.decisions, *found.decisions))
        for c in converted
    ]


def _convert_run(run: ScannerRun, folder: Path, out: Path, alternating_slices: bool | None) -> Converted:
    with tempfile.TemporaryDirectory(prefix="metaqsm-") as temporary:
        images = converted_stacks(run.stacks, f"series {_numbers(run)}", Path(temporary))
        made = _Making(run, images, folder, out)
        if "real" in run.parts:
            made.complex_parts(alternating_slices)
        else:
            for part, stacks in run.parts.items():
                made.part(part, stacks)
        decisions, notes = (*made.decisions, *run.decisions), (*run.notes, *made.notes)
        return Converted(run.name, made.files, decisions, notes, _sources(run, made.files))


# ------------------------------------------------------------------------------------- what is written
class _Making:
    """The files of one run as they are written, and what was decided on the way."""

    def __init__(self, run: ScannerRun, images: dict[int, NIfTI], folder: Path, out: Path) -> None:
        self.run, self.images, self.folder, self.out = run, images, folder, out
        self.files: dict[str, tuple[Path, ...]] = {}
        self.notes: list[str] = []
        self.decisions = [describe(part, stacks) for part, stacks in run.parts.items()]
        first = run.stacks[0]
        b0 = first.header.b0_tesla
        direction = images[id(first)].space.geometry().b0_direction
        self.decisions.append(
            f"{'field strength is not stated' if b0 is None else f'{b0:g} T'}, "
            f"B0 along ({', '.join(f'{x:.3f}' for x in direction)}) of the array's axes"
        )
        self.decisions += filter(None, [nominal_field(b0, images[id(first)].frequency_mhz)])
        maker = " ".join(filter(None, (first.header.manufacturer, first.header.model, first.header.software)))
        self.decisions.append(f"made by {maker or 'an unknown scanner'}")

    def part(self, part: str, stacks: Sequence[Stack]) -> None:
        """One part as it was converted."""
        rule = None
        if part != "magnitude":
            rule = self._rule(part, stacks)
        files = []
        echoes = next(some for name, some in self.run.parts.items() if name != "magnitude")
        for place, one in enumerate(stacks, 1):
            # A magnitude alone may be that of any echo.
            number = next((n for n, echo in enumerate(echoes, 1) if one.is_same_echo(echo)), place)
            array, space = self.images[id(one)].array(), self.images[id(one)].space
            if part == "phase_difference":
                name, echo = f"{self.run.name}_phasediff", self._two_times(one)
            elif "phase_difference" in self.run.parts:
                name, echo = f"{self.run.name}_magnitude{place}", _echo(one, None)
            else:
                short = "mag" if part == "magnitude" else part
                name, echo = f"{self.run.name}_echo-{number}_part-{short}_MEGRE", _echo(one, number)
            files.append(self._write(name, array, space, one, echo, rule))
        self.files[part] = tuple(files)

    def complex_parts(self, alternating_slices: bool | None) -> None:
        """Magnitude and phase of the real and imaginary parts of all echoes."""
        pairs = list(zip(self.run.parts["real"], self.run.parts["imaginary"], strict=True))
        rule = self._rule("real", [real for real, _ in pairs])
        real, imaginary = (np.stack([self.images[id(pair[n])].array() for pair in pairs]) for n in (0, 1))
        axis = self._slice_axis(pairs[0][0])
        alternating = rule.alternating_slices if alternating_slices is None else alternating_slices
        magnitude, phase, _, words, doubtful = magnitude_and_phase(real, imaginary, axis, alternating)
        (self.notes if doubtful else self.decisions).append(words)
        for part, arrays in (("magnitude", magnitude), ("phase", phase)):
            files = []
            for number, (one, _) in enumerate(pairs, 1):
                short = "mag" if part == "magnitude" else part
                name = f"{self.run.name}_echo-{number}_part-{short}_MEGRE"
                used = rule if part == "phase" else None
                space = self.images[id(one)].space
                files.append(self._write(name, arrays[number - 1], space, one, _echo(one, number), used))
            self.files[part] = tuple(files)

    def _rule(self, part: str, stacks: Sequence[Stack]) -> Rule:
        """The vendor's rule for the values as dcm2niix wrote them, which is told."""
        first = stacks[0]
        facts = facts_of(stacks, self._slice_axis(first))
        said = self.images[id(first)].said
        private = {k: v for k, v in facts.private.items() if k != PHILIPS_SCALE_SLOPE}
        # With the scale slope dcm2niix writes radians; without it, what the rescale slope gives.
        if said.get("UsePhilipsFloatNotDisplayScaling") and said.get("PhilipsScaleSlope"):
            private[PHILIPS_SCALE_SLOPE] = said["PhilipsScaleSlope"]
        rule = rule_for(_with(facts, part=part, private=private))
        (self.notes if rule.assumed else self.decisions).append(rule.decision)
        return rule

    def _slice_axis(self, one: Stack) -> int:
        return int(np.abs(self.images[id(one)].voxels[3]).argmax())

    def _two_times(self, one: Stack) -> dict[str, Any]:
        """The two echo times of a phase difference: those of its magnitudes, or as dcm2niix found them."""
        times = [s.echo_time_s for s in self.run.parts.get("magnitude", ())]
        if len(times) != 2 or None in times:
            said = self.images[id(one)].said
            times = [said.get("EchoTime1"), said.get("EchoTime2")]
        if not all(isinstance(t, (int, float)) for t in times):
            self.notes.append("the two echo times of the phase difference are not stated")
            return {}
        return {"EchoTime1": times[0], "EchoTime2": times[1]}

    def _write(
        self, name: str, array: np.ndarray, space: Space, one: Stack, echo: dict[str, Any], rule: Rule | None
    ) -> Path:
        header = one.header
        content: dict[str, Any] = {
            **echo,
            "MagneticFieldStrength": header.b0_tesla,
            "ImagingFrequency": self.images[id(one)].frequency_mhz,
            "Manufacturer": header.manufacturer,
            "ManufacturersModelName": header.model,
            "SoftwareVersions": header.software,
            "SeriesNumber": header.series_number,
        }
        if rule is not None:
            content["Units"] = "rad" if rule.phase_pi is not None and rule.phase_pi < 4 else "arbitrary"
            own = {"phase_sign": rule.phase_sign, "phase_pi": rule.phase_pi}
            content[OWN] = {key: value for key, value in own.items() if value is not None}
        content = {key: value for key, value in content.items() if value not in (None, "")}
        write(self.folder / f"{name}.nii", array, space)
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        (self.folder / f"{name}.json").write_text(text, encoding="utf-8")
        return self.out / f"{name}.nii"


def _with(facts: Facts, **changes: Any) -> Facts:
    return Facts(**{**facts.__dict__, **changes})


def _echo(one: Stack, number: int | None) -> dict[str, Any]:
    return {"EchoTime": one.echo_time_s, "EchoNumber": number}


def _sources(run: ScannerRun, roles: Iterable[str]) -> dict[str, list[dict]]:
    """The series of each role."""
    sources = {}
    for role in roles:
        parts = [role] if role in run.parts else [part for part in run.parts if part != "magnitude"]
        sources[role] = series_of(s for part in parts for s in run.parts[part])
    return sources
