"""NIfTI files to a scan: which file is what, the arrays, and what their headers and sidecars say."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.acquisition import acquisition_of, check_known
from napari_metaqsm.io.complex_files import parts_to_read, polar_of
from napari_metaqsm.io.complex_parts import NO_PARTS
from napari_metaqsm.io.nifti import Space, read
from napari_metaqsm.io.pairing import (
    COMPLEX,
    Run,
    check_nifti,
    find_runs,
    guess,
    in_echo_order,
    told_difference,
)
from napari_metaqsm.io.sidecar import Sidecar, read_sidecar
from napari_metaqsm.scan import Geometry, Scan
from napari_metaqsm.units import FIELD_UNITS, ppm_from

# Corners of two grids that count as one may lie this part of a voxel apart: headers are rounded.
_CORNER_TOLERANCE = 0.05
# Where no unit is stated, a field beyond these is not in ppm. Hardly one voxel in a hundred of a head
# passes 20 ppm of total or 1 ppm of local field; in Hz at 3 T nearly all heads pass both.
_LARGEST_PPM = {"total_field": 50.0, "local_field": 5.0}
_UNIT_SPELLINGS = {"hz": "Hz", "rad/s": "rad/s", "rads/s": "rad/s", "ppm": "ppm"}
_PER_ECHO = ("phase", "magnitude", *COMPLEX)
# What a file can be given as; they are read in this order.
_GIVEN = ("phase", "magnitude", "total_field", "local_field", "mask", "noise")


def scan_from(
    paths: Sequence[Path],
    given: Mapping[str, Sequence[Path]],
    *,
    unit: str | None = None,
    echo_times_s: Sequence[float] | None = None,
    b0_tesla: float | None = None,
    b0_direction: Sequence[float] | None = None,
    phase_sign: int | None = None,
    phase_pi: float | None = None,
    alternating_slices: bool | None = None,
    phase_difference: bool | None = None,
    converted: str = "",
) -> Scan:
    """The scan in NIfTI files, as :func:`~napari_metaqsm.io.load.load` tells of it.

    Parameters
    ----------
    paths : folders and files; what each is follows from its name and its sidecar
    given : files by role ("phase", "magnitude", "total_field", "local_field", "mask", "noise"); they
        replace what was found in ``paths``
    converted : what the phase was made from, where its file is not the user's own

    Raises
    ------
    InputError
        See there.
    """
    notes: list[str] = []
    decisions: list[str] = []
    files = _chosen_run(paths, notes) if paths else {}
    files.update({role: _in_order(p) for role, p in given.items()})
    if "phase" in given:
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
    files = {role: files[role] for role in (*_GIVEN, *parts) if role in files}
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
        converted=converted,
    )
    if "phase" in sidecars:
        check_known(acquisition, files.get("phase", files.get("real"))[0], converted)
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


# -------------------------------------------------------------------------------- which files
def _chosen_run(paths: Sequence[Path], notes: list[str]) -> dict[str, tuple[Path, ...]]:
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


def _in_order(paths: Sequence[Path]) -> tuple[Path, ...]:
    """Files of one given role by echo; as given where nothing tells."""
    for path in paths:
        check_nifti(path)
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
            array, space = read_one(role, path)
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


def read_one(role: str, path: Path) -> tuple[np.ndarray, Space]:
    """Values and space of one file, (i, j, k) or, of what has echoes, (echo, i, j, k); a mask as bool."""
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
