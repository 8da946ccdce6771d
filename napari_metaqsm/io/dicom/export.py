"""Maps to DICOM files that a PACS files beside the scan they were made from."""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pydicom
from pydicom.config import disable_value_validation
from pydicom.errors import InvalidDicomError

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.dicom.deidentify import NO_DATE, deidentified
from napari_metaqsm.io.dicom.derived import Description, describe, plain
from napari_metaqsm.io.dicom.mr_series import mr_series
from napari_metaqsm.io.dicom.parametric_map import parametric_map
from napari_metaqsm.io.dicom.source import Source, read_source
from napari_metaqsm.io.nifti import Space
from napari_metaqsm.io.staging import staged
from napari_metaqsm.method import announce, steps

KINDS = {"parametric map": ("parametric map",), "mr series": ("mr series",)}
KINDS["both"] = ("parametric map", "mr series")
# DICOM's integers have 32 bits.
_LARGEST_NUMBER = 2**31 - 1
Kind = Literal["parametric map", "mr series", "both"]


def export_each(
    maps: Mapping[str, np.ndarray],
    space: Space,
    dicom_paths: str | os.PathLike | Sequence[str | os.PathLike],
    out: str | os.PathLike,
    *,
    records: Mapping[str, Mapping[str, Any]],
    **as_export: Any,
) -> list[Path]:
    """:func:`export` of maps that each have a record of their own, beside files that are yet to be read.

    Parameters
    ----------
    dicom_paths : see :func:`~napari_metaqsm.io.dicom.source.read_source`
    records : by the names of ``maps``; what made that map alone

    Raises
    ------
    InputError
        As ``read_source`` and ``export``; each map must have been made from these files.
    """
    announce("reading the DICOM series")
    source = read_source(dicom_paths, next(iter(records.values()), None))
    for name in maps:  # each for itself: one that fits must not vouch for another
        source.check_made(records[name])
    announce("writing", 0.4)
    joined = joined_records({name: records[name] for name in maps})
    return export(maps, space, source, out, record=joined, **as_export)


def joined_records(records: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """One record of several maps, by name, each step saying of which map it is."""
    acquisitions = [record.get("acquisition") for record in records.values()]
    alike = acquisitions[1:] == acquisitions[:-1]
    return {
        "acquisition": acquisitions[0] if acquisitions and alike else None,
        "steps": [
            {**step, "result": name}
            for name, record in records.items()
            for step in record.get("steps") or ()
            if isinstance(step, Mapping)
        ],
        "reference": {
            name: about
            for name, record in records.items()
            for about in dict(record.get("reference") or {}).values()
        },
    }


def export(
    maps: Mapping[str, np.ndarray],
    space: Space,
    source: Source,
    out: str | os.PathLike,
    *,
    record: Mapping[str, Any],
    kind: Kind = "both",
    window_ppm: tuple[float, float] = (-0.1, 0.1),
    deidentify: bool = False,
) -> list[Path]:
    """Write susceptibility maps as DICOM series of the study of ``source``.

    Parameters
    ----------
    maps : (i, j, k) float, ppm, by the name of the result in ``record`` or the title of its method
    space : of the maps
    source : see :func:`~napari_metaqsm.io.dicom.source.read_source`
    out : folder; each series gets a folder of its own in it
    record : of the maps, from which the derivation is described
    kind : "parametric map", the floats themselves in one file; "mr series", whole ppb in a file for each
        slice; or both
    window_ppm : black and white
    deidentify : False: the patient, the study and the frame of reference are those of the source, as they
        stand there. True: no patient, no date, no institution, and new UIDs; what names nobody stays.

    Returns
    -------
    the files, series by series, slices in order

    Raises
    ------
    InputError
        When there is no map, a map is not finite or of another shape than its space, lies elsewhere than
        the source or was made from other files, the window is empty, or a series is there already.
        Nothing is written then.
    """
    out = Path(out)
    _check(maps, space, kind, window_ppm)
    source.check_made(record)
    which, layout = source.lay_out(space)
    original = (deidentified(source) if deidentify else source).originals[which]
    made = NO_DATE if deidentify else datetime.datetime.now()
    files: list[Path] = []
    with staged(out) as temporary, disable_value_validation():
        there = _series_in(out, str(original.header.StudyInstanceUID))
        taken = source.series_numbers | set(there.values())
        numbers = _free_numbers(original.stack.series_number, taken)
        series = [(one, name) for one in KINDS[kind] for name in maps]
        for n in steps(len(series), "Writing DICOM"):
            one, name = series[n]
            title, derivation, faceless = describe(record, name, original.header, deidentify)
            # A name that someone typed may be that of a patient.
            title = title or ("map" if deidentify else plain(name))
            about = Description(title, derivation, next(numbers), window_ppm, faceless, made)
            arguments = (layout.images(np.asarray(maps[name])), layout.grid, original, about)
            instances = mr_series(*arguments) if one == "mr series" else [parametric_map(*arguments)]
            named = f"{about.label}_{one.replace(' ', '_')}"
            folder = f"{about.number}_{named}"
            for old in (out / folder, *(path for path in there if path.name.partition("_")[2] == named)):
                if old.exists():
                    raise InputError(f"{old} is there already; remove it, or choose another folder")
            files += _save(instances, temporary / folder, out / folder)
    return files


def _check(maps: Mapping[str, np.ndarray], space: Space, kind: str, window_ppm: tuple[float, float]) -> None:
    if kind not in KINDS:
        raise InputError(f"kind is {kind!r}; it must be one of {', '.join(KINDS)}")
    if not maps:
        raise InputError("there is no map to export; give one or more")
    low, high = window_ppm
    if not (np.isfinite([low, high]).all() and low < high):
        raise InputError(f"the window is {low:g} to {high:g} ppm; it must be two numbers, the smaller first")
    for name, array in maps.items():
        if np.shape(array) != tuple(space.shape):
            raise InputError(f"{name} is {np.shape(array)} voxels, but its space is {space.shape}")
        with np.errstate(over="ignore"):
            finite = np.isfinite(np.asarray(array, np.float32)).all()
        if not finite:
            raise InputError(f"{name} has values that are not finite; DICOM holds none")


def _series_in(out: Path, study_uid: str) -> dict[Path, int]:
    """Folders in which earlier exports of the same study stand, and the numbers of their series."""
    found = {}
    for file in out.glob("[0-9]*_QSM*/0001.dcm"):
        with contextlib.suppress(InvalidDicomError, OSError, ValueError):
            image = pydicom.dcmread(file, specific_tags=["StudyInstanceUID", "SeriesNumber"])
            if image.get("StudyInstanceUID") == study_uid:
                found[file.parent] = int(image.get("SeriesNumber") or 0)
    return found


def _free_numbers(number: int, taken: frozenset[int]) -> Iterator[int]:
    """Numbers for new series: those after a hundred times that of the source, where DICOM has any."""
    first = 100 * max(1, number) + 1
    if first > _LARGEST_NUMBER - 100_000:
        first = 1
    return (n for n in range(first, first + 100_000) if n not in taken)


def _save(instances: list[pydicom.Dataset], temporary: Path, final: Path) -> list[Path]:
    temporary.mkdir()
    names = [f"{n:04d}.dcm" for n in range(1, len(instances) + 1)]
    for instance, name in zip(instances, names, strict=True):
        instance.save_as(temporary / name, enforce_file_format=True)
    return [final / name for name in names]
