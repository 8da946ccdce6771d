"""Files to a scan, and a result to files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.dicom.files import is_dicom
from napari_metaqsm.io.nifti import check_writable, is_nifti, space_from, staged, write
from napari_metaqsm.io.nifti_scan import check_same_place, describe_file, read_one, scan_from, unit_of
from napari_metaqsm.io.pairing import find_runs, nifti_files
from napari_metaqsm.scan import Scan

__all__ = [
    "check_same_place",
    "check_writable",
    "describe_file",
    "load",
    "load_region",
    "save",
    "unit_of",
]

Paths = str | os.PathLike | Sequence[str | os.PathLike]
RECORD = "record.json"
_MEASURED = {"phase", "total_field", "local_field"}


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
        holds DICOM files, at any depth, and no NIfTI file is read as DICOM; NIfTI goes before it
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
    every = _as_list(paths)
    named = {
        "phase": phase, "magnitude": magnitude, "total_field": total_field,
        "local_field": local_field, "mask": mask, "noise": noise,
    }  # fmt: skip
    given = {role: _as_list(files) for role, files in named.items() if files is not None}
    stated = {
        "unit": unit, "echo_times_s": echo_times_s, "b0_tesla": b0_tesla, "b0_direction": b0_direction,
        "phase_sign": phase_sign, "phase_pi": phase_pi, "alternating_slices": alternating_slices,
        "phase_difference": phase_difference,
    }  # fmt: skip
    if not _are_dicom(every, series):
        if not given.keys() & _MEASURED:
            _check_hides_no_dicom(every)
        return scan_from(every, given, **stated)
    # Only here, for pydicom takes long to import.
    from napari_metaqsm.io.dicom.opened import open_dicom

    return open_dicom(every, series=series, given=given, **stated)


def load_region(path: str | os.PathLike, scan: Scan) -> np.ndarray:
    """A region (i, j, k), bool, drawn on the grid of ``scan``; raises `InputError` where it is not."""
    array, space = read_one("region", Path(path))
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


def _as_list(paths: Paths) -> list[Path]:
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


def _check_hides_no_dicom(paths: list[Path]) -> None:
    """Refuse a folder whose NIfTI files are none that a field is made from, while DICOM lies beside them."""
    for folder in filter(os.path.isdir, paths):
        files = nifti_files(folder)
        if files and not any(run.measured for run in find_runs([folder])[0]) and is_dicom(folder):
            names = ", ".join(file.name for file in files[:4]) + (", …" if len(files) > 4 else "")
            raise InputError(
                f"{folder} holds DICOM and beside it NIfTI files without a phase or a field ({names}); give "
                "the folder of the DICOM alone, and a mask as such"
            )
