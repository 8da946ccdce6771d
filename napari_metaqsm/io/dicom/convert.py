"""DICOM to NIfTI and sidecars that the rest of the package reads: dcm2niix converts, the headers decide."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.complex_parts import magnitude_and_phase
from napari_metaqsm.io.dicom.dcm2niix import run_dcm2niix
from napari_metaqsm.io.dicom.facts import Facts
from napari_metaqsm.io.dicom.files import is_packed, open_unpacked
from napari_metaqsm.io.dicom.fingerprint import series_of
from napari_metaqsm.io.dicom.headers import part_of, read_headers
from napari_metaqsm.io.dicom.series import ScannerRun, find_runs
from napari_metaqsm.io.dicom.stacks import Stack, describe, facts_of
from napari_metaqsm.io.dicom.vendors import PHILIPS_SCALE_SLOPE, Rule, rule_for
from napari_metaqsm.io.nifti import Space, read, write
from napari_metaqsm.io.sidecar import OWN, sidecar_content, sidecar_path
from napari_metaqsm.io.staging import staged
from napari_metaqsm.method import steps

Paths = str | os.PathLike | Iterable[str | os.PathLike]
# Corners of the converted array lie where the header says to within this part of a voxel.
_CORNER_TOLERANCE = 0.05
# Converted values follow the stored ones on a straight line to within this part of their range.
_LINE_TOLERANCE = 2e-3


@dataclass(frozen=True)
class Converted:
    """One run, as NIfTI files with sidecars that ``io.load`` reads as they are.

    Parameters
    ----------
    name : of the run, without anything of the patient
    files : by role, in the order of the echoes
    decisions : what was decided and from which evidence
    notes : what is missing, and what can still be done
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
    notes : of what was left out
    refused : files that could not be read, and why
    """

    runs: tuple[ScannerRun, ...]
    notes: tuple[str, ...]
    refused: tuple[tuple[Path, str], ...] = field(default=())


def survey(paths: Paths, series: Sequence[int] | None = None) -> Survey:
    """The runs in DICOM files and folders, told from their headers alone.

    Raises
    ------
    InputError
        When a path or a series is not there, or nothing can be made of any run.
    """
    given = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    headers = read_headers(given)
    runs, notes = find_runs(headers, series)
    notes += [f"series {_numbers(run)}: {run.trouble}" for run in runs if run.trouble]
    usable = tuple(run for run in runs if not run.trouble)
    if not usable:
        what = "there is nothing to make a field from" if headers.images else "there is no MR image in DICOM"
        if headers.others and not headers.images:
            notes.append(f"{headers.others} DICOM files hold something else")
        raise InputError(". ".join([_and_why(what, bool(runs), bool(headers.images)), *notes]))
    return Survey(usable, tuple(notes), headers.refused)


def _and_why(what: str, runs: bool, images: bool) -> str:
    needs = "it needs phase, or real and imaginary parts; have the scanner store and export them"
    return f"{what}; {needs}" if images and not runs else what


def _numbers(run: ScannerRun) -> str:
    return ",".join(map(str, run.series))


def convert(paths: Paths, out: str | os.PathLike, *, series: Sequence[int] | None = None) -> list[Converted]:
    """Convert every run in DICOM files and folders into NIfTI files with sidecars.

    Parameters
    ----------
    paths : files and folders, at any depth; classic, enhanced, compressed by gzip
    out : folder for the files; they all appear at the end, or none does
    series : numbers of the series to use; None for all

    Raises
    ------
    InputError
        When nothing can be converted, in words that say what is missing.
    """
    return convert_runs(survey(paths, series), out)


def convert_runs(found: Survey, out: str | os.PathLike) -> list[Converted]:
    """Convert the runs of a survey; see :func:`convert`."""
    out = Path(out)
    converted: list[Converted] = []
    failed: list[str] = []
    with staged(out) as folder:
        for run in found.runs:
            try:
                converted.append(_convert_run(run, folder, out))
            except InputError as error:
                failed.append(f"series {_numbers(run)} cannot be converted: {error}")
        if not converted:
            raise InputError("; ".join([*failed, *found.notes]))
    more = (*failed, *found.notes)
    return [Converted(c.name, c.files, c.decisions, (*c.notes, *more), c.sources) for c in converted]


def _convert_run(run: ScannerRun, folder: Path, out: Path) -> Converted:
    with tempfile.TemporaryDirectory(prefix="metaqsm-") as temporary:
        work = Path(temporary)
        unpacked = _Unpacked(work / "unpacked")
        images = _converted_stacks(run, work, unpacked)
        made = _Making(run, images, folder, out)
        if "real" in run.parts:
            made.complex_parts()
        else:
            for part, stacks in run.parts.items():
                made.part(part, stacks)
        return Converted(run.name, made.files, tuple(made.decisions), run.notes, _sources(run, made.files))


# ------------------------------------------------------------------------------------- dcm2niix
class _Unpacked:
    """Where the bytes of each DICOM file lie under a plain name."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.paths: dict[Path, Path] = {}

    def __getitem__(self, path: Path) -> Path:
        if path not in self.paths:
            plain = self.folder / f"{len(self.paths):06d}.dcm"
            if is_packed(path):
                with open_unpacked(path) as packed, plain.open("wb") as file:
                    shutil.copyfileobj(packed, file)
            else:
                _link(path.resolve(), plain)
            self.paths[path] = plain
        return self.paths[path]


def _link(source: Path, link: Path) -> None:
    try:
        link.symlink_to(source)
    except OSError:  # where links are not allowed
        shutil.copyfile(source, link)


@dataclass(frozen=True)
class _NIfTI:
    """A converted stack: the file, its space, where its pixels lie in it, and what dcm2niix says of it."""

    file: Path
    space: Space
    voxels: np.ndarray
    said: Mapping[str, Any]


def _converted_stacks(run: ScannerRun, work: Path, unpacked: _Unpacked) -> dict[int, _NIfTI]:
    """Every stack of a run as NIfTI, by ``id``; stacks that share a file are converted together."""
    jobs = _jobs(run.stacks)
    images: dict[int, _NIfTI] = {}
    for index in steps(len(jobs), f"Converting series {_numbers(run)}"):
        stacks = jobs[index]
        label = f"series {stacks[0].series_number}"
        folder, made = work / f"in{index}", work / f"out{index}"
        folder.mkdir()
        made.mkdir()
        for path in dict.fromkeys(image.header.path for s in stacks for image in s.images):
            _link(unpacked[path].resolve(), folder / unpacked[path].name)
        files = run_dcm2niix(folder, made, label, index / len(jobs))
        images.update(_assigned(stacks, files, label, unpacked))
    return images


def _jobs(stacks: Sequence[Stack]) -> list[list[Stack]]:
    jobs: list[tuple[set[Path], list[Stack]]] = []
    for one in stacks:
        files = {image.header.path for image in one.images}
        home = next((job for job in jobs if job[0] & files), None)
        if home is None:
            jobs.append((files, [one]))
        else:
            home[0].update(files)
            home[1].append(one)
    return [job for _, job in jobs]


def _assigned(
    stacks: Sequence[Stack], files: Sequence[Path], label: str, unpacked: _Unpacked
) -> dict[int, _NIfTI]:
    """Which file is which stack: by part and echo time as dcm2niix states them, and by place and values."""
    said = {
        file: sidecar_content(sidecar_path(file)) if sidecar_path(file).is_file() else {} for file in files
    }
    assigned: dict[int, _NIfTI] = {}
    for one in stacks:
        alone = len(stacks) == len(files) == 1
        reasons = []
        for file in files:
            if not alone and not _is_of(one, said[file]):
                continue
            try:
                array, space = read(file)
                voxels = check_place(one, space)
                _check_values(one, array, voxels, unpacked)
            except InputError as error:
                reasons.append(str(error))
                continue
            assigned[id(one)] = _NIfTI(file, _exact(one, space, voxels), voxels, said[file])
            break
        if id(one) not in assigned:
            why = "; ".join(reasons) or "none of its files has that part and echo time"
            raise InputError(
                f"what dcm2niix made of the {one.part.replace('_', ' ')} of {label} is not it: {why}"
            )
    return assigned


def _is_of(one: Stack, said: Mapping[str, Any]) -> bool:
    types = said.get("ImageType")
    words = [str(t).upper() for t in types] if isinstance(types, list) else []
    # It adds what it converted at the end, and nothing where that is the magnitude of a mixed file.
    part = part_of(words[-1:]) or part_of(words) or "magnitude"
    time = said.get("EchoTime")
    if one.echo_time_s is not None and isinstance(time, (int, float)) and abs(time - one.echo_time_s) > 2e-5:
        return False
    return part == one.images[0].part


# ------------------------------------------------------------------------------------- checks
def check_place(one: Stack, space: Space) -> np.ndarray:
    """Where the header's pixels lie in a converted array.

    Returns
    -------
    (4, 3) voxel indices: of the first pixel, and the steps to the next column, row and slice

    Raises
    ------
    InputError
        When they lie on no voxels of the array, or the array has more or fewer.
    """
    rows, columns = one.images[0].shape
    count = len(one.images)
    inverse = np.linalg.inv(space.affine)
    index = _in_ras(one) @ inverse[:3, :3].T
    index[0] += inverse[:3, 3]
    steps_on_grid = np.rint(index)
    reach = np.array([1, max(columns - 1, 1), max(rows - 1, 1), max(count - 1, 1)])[:, None]
    off = float(np.abs((index - steps_on_grid) * reach).max())
    ends = steps_on_grid[0] + steps_on_grid[1:].T @ np.array([columns - 1, rows - 1, count - 1])
    corners = np.sort(np.stack([steps_on_grid[0], ends]), axis=0)
    sizes = "×".join(map(str, space.shape))
    if space.shape != tuple(np.abs(steps_on_grid[1:].T @ np.array([columns, rows, count])).astype(int)):
        raise InputError(f"it has {sizes} voxels, but the headers {columns}×{rows}×{count}")
    if off > _CORNER_TOLERANCE or corners[0].any() or (corners[1] != np.array(space.shape) - 1).any():
        raise InputError("its affine puts the voxels elsewhere than the headers do")
    return steps_on_grid.astype(int)


def _exact(one: Stack, space: Space, voxels: np.ndarray) -> Space:
    """The space with the affine of the headers, in place of one that dcm2niix rounded on its way.

    It rounds differently for classic and for enhanced files, and the last digit of a voxel size can turn a
    phase wrap; the headers say the same in both.
    """
    affine = np.eye(4)
    place = _in_ras(one)
    affine[:3, :3] = place[1:].T @ np.linalg.inv(voxels[1:].T)
    affine[:3, 3] = place[0] - affine[:3, :3] @ voxels[0]
    header = space.header.copy()
    header.set_qform(affine, code=1)
    header.set_sform(affine, code=1)
    return Space(space.shape, header.get_sform(), header, space.known, space.note)


def _in_ras(one: Stack) -> np.ndarray:
    """(4, 3) mm in NIfTI's sense: the first pixel, and the steps to the next column, row and slice."""
    first, last = one.images[0], one.images[-1]
    along_row, along_column = np.array(first.orientation).reshape(2, 3)
    between_rows, between_columns = first.spacing_mm
    start = np.array(first.position)
    to_slice = (np.array(last.position) - start) / max(len(one.images) - 1, 1)
    lps = np.stack([start, along_row * between_columns, along_column * between_rows, to_slice])
    return lps * [-1, -1, 1]


def _check_values(one: Stack, array: np.ndarray, voxels: np.ndarray, unpacked: _Unpacked) -> None:
    """Raise `InputError` unless the middle slice holds the stored values, up to scale and offset.

    Compressed pixels, which only dcm2niix decodes here, are not compared.
    """
    stored = _stored(one.images[len(one.images) // 2], unpacked)
    if stored is None or array.ndim != 3 or np.ptp(stored) == 0:
        return
    start, to_column, to_row, to_slice = voxels
    rows, columns = (n[..., None] for n in np.indices(stored.shape))
    at = start + to_slice * (len(one.images) // 2) + columns * to_column + rows * to_row
    values = array[tuple(np.moveaxis(at, -1, 0))].astype(np.float64)
    slope, offset = np.polyfit(stored.ravel(), values.ravel(), 1)
    if np.abs(slope * stored + offset - values).max() > _LINE_TOLERANCE * max(np.ptp(values), 1e-9):
        raise InputError("its values are not those of the DICOM images")


def _stored(image: Any, unpacked: _Unpacked) -> np.ndarray | None:
    """Stored values (row, column) of one image; None where its pixels are compressed."""
    if image.header.transfer_syntax not in ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1"):
        return None
    from pydicom.pixels import pixel_array

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            index = image.frame if image.header.enhanced else None
            return np.asarray(pixel_array(unpacked[image.header.path], index=index), np.float64)
        except (ValueError, AttributeError, NotImplementedError, RuntimeError, OSError):
            return None  # what dcm2niix makes of it is all there is


# ------------------------------------------------------------------------------------- what is written
class _Making:
    """The files of one run as they are written, and what was decided on the way."""

    def __init__(self, run: ScannerRun, images: dict[int, _NIfTI], folder: Path, out: Path) -> None:
        self.run, self.images, self.folder, self.out = run, images, folder, out
        self.files: dict[str, tuple[Path, ...]] = {}
        self.decisions = [describe(part, stacks) for part, stacks in run.parts.items()]
        first = run.stacks[0]
        b0 = first.header.b0_tesla
        direction = images[id(first)].space.geometry().b0_direction
        self.decisions.append(
            f"{'field strength is not stated' if b0 is None else f'{b0:g} T'}, "
            f"B0 along ({', '.join(f'{x:.3f}' for x in direction)}) of the array's axes"
        )
        maker = " ".join(filter(None, (first.header.manufacturer, first.header.model, first.header.software)))
        self.decisions.append(f"made by {maker or 'an unknown scanner'}")

    def part(self, part: str, stacks: Sequence[Stack]) -> None:
        """One part as it was converted."""
        rule = None
        if part != "magnitude":
            rule = self._rule(part, stacks)
            self.decisions.append(rule.decision)
        files = []
        for number, one in enumerate(stacks, 1):
            array, space = read(self.images[id(one)].file)[0], self.images[id(one)].space
            if part == "phase_difference":
                name, echo = f"{self.run.name}_phasediff", self._two_times(one)
            elif "phase_difference" in self.run.parts:
                name, echo = f"{self.run.name}_magnitude{number}", _echo(one, None)
            else:
                short = "mag" if part == "magnitude" else part
                name, echo = f"{self.run.name}_echo-{number}_part-{short}_MEGRE", _echo(one, number)
            files.append(self._write(name, array, space, one, echo, rule))
        self.files[part] = tuple(files)

    def complex_parts(self) -> None:
        """Magnitude and phase of the real and imaginary parts of all echoes."""
        pairs = list(zip(self.run.parts["real"], self.run.parts["imaginary"], strict=True))
        rule = self._rule("real", [real for real, _ in pairs])
        self.decisions.append(rule.decision)
        real, imaginary = (
            np.stack([read(self.images[id(pair[n])].file)[0] for pair in pairs]) for n in (0, 1)
        )
        axis = self._slice_axis(pairs[0][0])
        magnitude, phase, _, words = magnitude_and_phase(real, imaginary, axis, rule.alternating_slices)
        self.decisions.append(words)
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
        """The vendor's rule for the values as dcm2niix wrote them."""
        first = stacks[0]
        facts = facts_of(stacks, self._slice_axis(first))
        said = self.images[id(first)].said
        private = {k: v for k, v in facts.private.items() if k != PHILIPS_SCALE_SLOPE}
        # With the scale slope dcm2niix writes radians; without it, what the rescale slope gives.
        if said.get("UsePhilipsFloatNotDisplayScaling") and said.get("PhilipsScaleSlope"):
            private[PHILIPS_SCALE_SLOPE] = said["PhilipsScaleSlope"]
        return rule_for(_with(facts, part=part, private=private))

    def _slice_axis(self, one: Stack) -> int:
        return int(np.abs(self.images[id(one)].voxels[3]).argmax())

    def _two_times(self, one: Stack) -> dict[str, Any]:
        """The two echo times of a phase difference: those of its magnitudes, or as dcm2niix found them."""
        times = [s.echo_time_s for s in self.run.parts.get("magnitude", ())]
        if len(times) != 2 or None in times:
            said = self.images[id(one)].said
            times = [said.get("EchoTime1"), said.get("EchoTime2")]
        if not all(isinstance(t, (int, float)) for t in times):
            self.decisions.append("the two echo times of the phase difference are not stated")
            return {}
        return {"EchoTime1": times[0], "EchoTime2": times[1]}

    def _write(
        self, name: str, array: np.ndarray, space: Space, one: Stack, echo: dict[str, Any], rule: Rule | None
    ) -> Path:
        header = one.header
        content: dict[str, Any] = {
            **echo,
            "MagneticFieldStrength": header.b0_tesla,
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
