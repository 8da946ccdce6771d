"""Files to a scan, and a result to files."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.acquisition import acquisition_of, check_known
from napari_metaqsm.io.complex_files import parts_to_read, polar_of
from napari_metaqsm.io.complex_parts import NO_PARTS
from napari_metaqsm.io.dicom.files import is_dicom
from napari_metaqsm.io.nifti import (
    Space,
    check_file,
    check_writable,
    is_nifti,
    read,
    space_from,
    staged,
    write,
)
from napari_metaqsm.io.pairing import (
    COMPLEX,
    Run,
    find_runs,
    guess,
    in_echo_order,
    nifti_files,
    told_difference,
)
from napari_metaqsm.io.sidecar import Sidecar, read_sidecar
from napari_metaqsm.scan import Geometry, Scan
from napari_metaqsm.units import FIELD_UNITS, ppm_from

__all__ = [
    "check_same_place",
    "check_writable",
    "describe_file",
    "load",
    "load_region",
    "save",
]

Paths = str | os.PathLike | Sequence[str | os.PathLike]
RECORD = "record.json"
# Corners of two grids that count as one may lie this part of a voxel apart: headers are rounded.
_CORNER_TOLERANCE = 0.05
# Where no unit is stated, a field beyond these is not in ppm. Hardly one voxel in a hundred of a head
# passes 20 ppm of total or 1 ppm of local field; in Hz at 3 T nearly all heads pass both.
_LARGEST_PPM = {"total_field": 50.0, "local_field": 5.0}
_UNIT_SPELLINGS = {"hz": "Hz", "rad/s": "rad/s", "rads/s": "rad/s", "ppm": "ppm"}
_PER_ECHO = ("phase", "magnitude", *COMPLEX)


class Saveable(Protocol):
    """What ``save`` reads of a result; ``pipeline.Result`` is one."""

    @property
    def scan(self) -> Scan: ...
    @property
    def maps(self) -> Mapping[str, np.ndarray]: ...
    @property
    def record(self) -> Mapping[str, Any]: ...


def load(
    paths: Paths = (),
    *,
    phase: Paths | None = None,
    magnitude: Paths | None = None,
    total_field: Paths | None = None,
    local_field: Paths | None = None,
    mask: Paths | None = None,
    noise: Paths | None = None,
    unit: str | None = None,
    echo_times_s: Sequence[float] | None = None,
    b0_tesla: float | None = None,
    b0_direction: Sequence[float] | None = None,
    phase_sign: int | None = None,
    phase_pi: float | None = None,
    series: Sequence[int] | None = None,
    alternating_slices: bool | None = None,
    phase_difference: bool | None = None,
) -> Scan:
    """Read a scan from a folder or from files, with what their headers and sidecars say.

    DICOM is converted into a temporary folder first, see :func:`~napari_metaqsm.io.dicom.opened.open_dicom`.

    Parameters
    ----------
    paths : a folder, a file or several; what each is follows from its name and its sidecar. From real
        and imaginary parts, where there is no phase, magnitude and phase are computed. A folder that
        holds DICOM files, at any depth, and no NIfTI file is read as DICOM
    phase, magnitude, total_field, local_field, mask, noise : files whose role is given; they replace
        what was found in ``paths``
    unit : "ppm", "Hz" or "rad/s" of fields and noise; None takes the sidecar's ``Units``, else ppm
    echo_times_s : seconds, one per echo of phase; of a phase difference, the difference alone (or
        its two echo times); None takes the sidecars'
    b0_tesla, b0_direction : None takes the sidecars' and the header's; the direction is along the
        file's own axes
    phase_sign : None takes what the sidecar states, else the vendor's: -1 for GE, which stores phase
        inverted, and 1 for all others
    phase_pi : the stored value that means pi; None takes what the sidecar states, pi where it says
        radians, and else leaves it to be recognised
    series : of DICOM, the numbers of the series to use, where there are several runs
    alternating_slices : whether real and imaginary parts change sign from slice to slice, as in exports
        of GE; None takes the vendor's rule, or tells it from the data
    phase_difference : whether the phase is the difference of two echoes; None takes what names, sidecars
        or DICOM headers say

    Returns
    -------
    Scan, its arrays in the files' own axes; fields in ppm; ``decisions`` say how the files were read and
    ``notes`` what was assumed or is missing

    Raises
    ------
    InputError
        When files are missing, unreadable or do not fit together, several runs could be meant, or
        echo times or field strength of a phase are nowhere to be found.
    """
    given = {
        "phase": phase, "magnitude": magnitude, "total_field": total_field,
        "local_field": local_field, "mask": mask, "noise": noise,
    }  # fmt: skip
    if _are_dicom(_as_list(paths), series):
        from napari_metaqsm.io.dicom.opened import open_dicom

        stated = {
            "unit": unit, "echo_times_s": echo_times_s, "b0_tesla": b0_tesla, "b0_direction": b0_direction,
            "phase_sign": phase_sign, "phase_pi": phase_pi, "alternating_slices": alternating_slices,
            "phase_difference": phase_difference,
        }  # fmt: skip
        return open_dicom(_as_list(paths), series=series, **given, **stated)
    notes: list[str] = []
    decisions: list[str] = []
    files = _chosen_run(_as_list(paths), notes) if _as_list(paths) else {}
    files.update({role: _in_order(_as_list(p)) for role, p in given.items() if p is not None})
    if phase is not None:
        files.pop("phase_difference", None)
    difference = "phase_difference" in files or _is_difference(files.get("phase", ()))
    if "phase_difference" in files:
        files["phase"] = files.pop("phase_difference")
    parts = parts_to_read(files, decisions)
    if alternating_slices is not None and not parts:
        raise InputError(NO_PARTS)
    decisions += told_difference(difference, phase_difference)
    if phase_difference is not None:
        _check_difference(files, phase_difference)
        difference = phase_difference
    files = {role: files[role] for role in (*given, *parts) if role in files}
    if not files:
        raise InputError("there is nothing to read; give a folder, or files as phase, total or local field")
    sidecars = {role: [read_sidecar(p) for p in paths] for role, paths in files.items()}
    if parts:
        sidecars["phase"] = sidecars["real"]
    acquisition = acquisition_of(
        sidecars,
        difference,
        echo_times_s=echo_times_s,
        b0_tesla=b0_tesla,
        phase_sign=phase_sign,
        phase_pi=math.pi if parts else phase_pi,
        decisions=decisions,
    )
    if "phase" in sidecars:
        check_known(acquisition, files.get("phase", files.get("real"))[0])
    arrays, space = _read_all(files, notes)
    if parts:
        real, imaginary = (arrays.pop(role) for role in parts)
        polar = polar_of(real, imaginary, sidecars["real"], alternating_slices, decisions, notes)
        arrays["phase"] = polar.phase
        arrays.setdefault("magnitude", polar.magnitude)
    geometry = _geometry(space, b0_direction, sidecars)
    _fields_to_ppm(arrays, files, sidecars, unit, acquisition.b0_tesla, notes)
    return Scan(
        geometry,
        acquisition,
        **arrays,
        space=space,
        sources={role: [describe_file(p) for p in paths] for role, paths in files.items()},
        notes=tuple(dict.fromkeys(notes)),
        decisions=tuple(dict.fromkeys(decisions)),
    )


def load_region(path: str | os.PathLike, scan: Scan) -> np.ndarray:
    """A region (i, j, k), bool, drawn on the grid of ``scan``; raises `InputError` where it is not."""
    array, space = _read_one("region", Path(path))
    if scan.space is not None:
        check_same_place(scan.space, "the scan", space, Path(path).name)
    elif array.shape != scan.geometry.shape:
        raise InputError(f"{Path(path).name} is {array.shape} voxels, but the scan is {scan.geometry.shape}")
    if not array.any():
        raise InputError(f"{Path(path).name} is empty; every voxel is zero")
    return array


def save(result: Saveable, folder: str | os.PathLike) -> list[Path]:
    """Write each map as ``<name>.nii.gz`` where the input lay, and the record as ``record.json``.

    All of it appears at the end, the record last; where anything fails the folder is as it was.

    Returns
    -------
    the files, the record last
    """
    space = result.scan.space or space_from(result.scan.geometry)
    record = json.dumps(result.record, indent=2, ensure_ascii=False)
    with staged(folder) as temporary:
        for name, array in result.maps.items():
            write(temporary / f"{name}.nii.gz", array, space)
        # What cannot be encoded in a file's name becomes an escape, which JSON reads back as it was.
        (temporary / RECORD).write_text(record + "\n", encoding="utf-8", errors="backslashreplace")
    return [Path(folder) / f"{name}.nii.gz" for name in result.maps] + [Path(folder) / RECORD]


# -------------------------------------------------------------------------------- which files
def _as_list(paths: Paths | None) -> list[Path]:
    if paths is None:
        return []
    return [Path(paths)] if isinstance(paths, (str, os.PathLike)) else [Path(p) for p in paths]


def _are_dicom(paths: list[Path], series: Sequence[int] | None) -> bool:
    """Whether the paths are DICOM: files that are, or folders that hold some and no NIfTI file."""
    niftis = [p for p in paths if (bool(nifti_files(p)) if os.path.isdir(p) else is_nifti(p))]
    found = [p for p in paths if p not in niftis and is_dicom(p)]
    if found and niftis:
        raise InputError(f"{found[0]} is DICOM and {niftis[0]} NIfTI; give one kind, and a mask as such")
    if series is not None and not found:
        raise InputError("series are given, but there is no DICOM among the files; they number DICOM series")
    return bool(found)


def _chosen_run(paths: list[Path], notes: list[str]) -> dict[str, tuple[Path, ...]]:
    """The files of the only run among ``paths``, by role."""
    runs, unknown = find_runs(paths)
    measured = [run for run in runs if run.measured]
    if len(measured) > 1:
        raise InputError(f"there are {len(measured)} runs; give the files of one: {_listed(measured)}")
    chosen = measured or runs
    if len(chosen) != 1:
        names = ", ".join(p.name for p in unknown[:8]) or _listed(runs)
        raise InputError(f"what these are does not show: {names}; give them as phase, total or local field")
    left = [p.name for p in unknown]
    left += [p.name for role in ("r2star", "susceptibility") for p in chosen[0].files.get(role, ())]
    if left:
        notes.append(f"not used: {', '.join(left)}")
    return dict(chosen[0].files)


def _listed(runs: Sequence[Run]) -> str:
    return "; ".join(f"{r.name} ({', '.join(p.name for ps in r.files.values() for p in ps)})" for r in runs)


def _in_order(paths: list[Path]) -> tuple[Path, ...]:
    """Files of one given role by echo; as given where nothing tells."""
    for path in paths:
        check_file(path)
    ordered = in_echo_order([guess(p) for p in paths])
    return tuple(paths) if ordered is None else tuple(g.path for g in ordered)


def _is_difference(paths: Sequence[Path]) -> bool:
    return len(paths) == 1 and guess(paths[0]).role == "phase_difference"


def _check_difference(files: Mapping[str, tuple[Path, ...]], difference: bool) -> None:
    """Refuse to be told of a phase difference where there is no phase, or one of several files."""
    if "phase" not in files:
        raise InputError(
            "phase_difference is given, but there is no phase among the files; it tells of phase alone"
        )
    if difference and len(files["phase"]) > 1:
        raise InputError(
            f"phase_difference is given, but there are {len(files['phase'])} files of phase; the difference "
            "of two echoes is one"
        )


# -------------------------------------------------------------------------------- arrays
def _geometry(space: Space, given: Sequence[float] | None, sidecars: dict[str, list[Sidecar]]) -> Geometry:
    geometry = space.geometry()
    stated = next((s.b0_direction for every in sidecars.values() for s in every if s.b0_direction), None)
    direction = stated if given is None else given
    if direction is None:
        return geometry
    return dataclasses.replace(geometry, b0_direction=tuple(direction))


def _read_all(files: dict[str, tuple[Path, ...]], notes: list[str]) -> tuple[dict[str, np.ndarray], Space]:
    """Every array by role, and the space they share: that of the first file that has one."""
    arrays: dict[str, np.ndarray] = {}
    spaces: dict[str, Space] = {}
    for role, paths in files.items():
        parts = []
        for path in paths:
            array, space = _read_one(role, path)
            parts.append(array if array.ndim == 4 else array[None])
            first = next(iter(spaces.items()), None)
            if first is not None:
                check_same_place(first[1], first[0], space, path.name)
            spaces[path.name] = space
        # One file is not copied: a 4-D file is often most of the memory there is.
        arrays[role] = parts[0] if len(parts) == 1 else np.concatenate(parts)
        if role not in _PER_ECHO:
            arrays[role] = arrays[role][0]
    known = [s for s in spaces.values() if s.known]
    notes += [s.note for s in (known or list(spaces.values())) if s.note]
    if known:
        notes += [f"{name} holds no affine; it is taken to lie like the others"
                  for name, s in spaces.items() if not s.known]  # fmt: skip
    return arrays, (known or list(spaces.values()))[0]


def _read_one(role: str, path: Path) -> tuple[np.ndarray, Space]:
    array, space = read(path)
    if role in _PER_ECHO:
        return array, space
    if array.ndim == 4:
        if len(array) != 1:
            raise InputError(f"{path.name} holds {len(array)} volumes; a {role.replace('_', ' ')} has one")
        array = array[0]
    if role in ("mask", "region"):
        if not np.isfinite(array).all():
            raise InputError(
                f"{path.name} has values that are not finite; a {role} is zero outside, one inside"
            )
        array = array != 0
    return array, space


def check_same_place(first: Space, first_name: str, second: Space, second_name: str) -> None:
    """Refuse two files whose voxels are not the same places."""
    if first.shape != second.shape:
        sizes = ["×".join(map(str, s.shape)) for s in (first, second)]
        raise InputError(f"{first_name} is {sizes[0]} voxels and {second_name} {sizes[1]}; they must match")
    if not (first.known and second.known):
        return
    corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)], float)
    corners[:, :3] *= np.array(first.shape) - 1
    apart = np.linalg.norm(((first.affine - second.affine) @ corners.T)[:3], axis=0).max()
    if apart > _CORNER_TOLERANCE * min(first.geometry().voxel_size_mm):
        raise InputError(
            f"{first_name} and {second_name} lie in different places (up to {apart:.3g} mm apart); "
            "resample one to the other"
        )


def _fields_to_ppm(
    arrays: dict[str, np.ndarray],
    files: dict[str, tuple[Path, ...]],
    sidecars: dict[str, list[Sidecar]],
    unit: str | None,
    b0_tesla: float | None,
    notes: list[str],
) -> None:
    """Bring fields and noise into ppm, in place of the arrays; noise has the field's unit."""
    for role in ("total_field", "local_field", "noise"):
        if role in arrays:
            this = unit or unit_of(role, arrays[role], files[role][0].name, sidecars[role][0], notes)
            arrays[role] = ppm_from(arrays[role], this, b0_tesla)
            unit = unit or this


def unit_of(role: str, array: np.ndarray, name: str, sidecar: Sidecar, notes: list[str]) -> str:
    """The unit of a field: as the sidecar states, else ppm where its values can be that.

    Raises
    ------
    InputError
        When the stated unit is none of a field, or none is stated and the values are no ppm.
    """
    if sidecar.units:
        unit = _UNIT_SPELLINGS.get(sidecar.units.lower())
        if unit is None:
            raise InputError(
                f"{name}: Units is {sidecar.units!r}; it must be one of {', '.join(FIELD_UNITS)}"
            )
        return unit
    _check_ppm(role, array, name)
    notes.append(f"{name} is taken to be in ppm; nothing states its unit")
    return "ppm"


def _check_ppm(role: str, array: np.ndarray, name: str) -> None:
    values = np.abs(array[np.isfinite(array) & (array != 0)])
    if role not in _LARGEST_PPM or values.size == 0:
        return
    high = float(np.percentile(values, 99))
    if high > _LARGEST_PPM[role]:
        raise InputError(
            f"{name} reaches {high:.3g}, which no {role.replace('_', ' ')} does in ppm; state its unit "
            "(--unit Hz or rad/s)"
        )


def describe_file(path: Path) -> dict[str, Any]:
    """A file as records tell of it: its name, without its folders, its hash and its size."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return {"file": path.name, "sha256": digest.hexdigest(), "bytes": path.stat().st_size}
