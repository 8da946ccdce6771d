"""Maps to DICOM files that a PACS files beside the scan they were made from."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pydicom
from pydicom.config import disable_value_validation

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.dicom.deidentify import NO_DATE, deidentified
from napari_metaqsm.io.dicom.derived import Description, describe, plain
from napari_metaqsm.io.dicom.mr_series import mr_series
from napari_metaqsm.io.dicom.parametric_map import parametric_map
from napari_metaqsm.io.dicom.source import Source
from napari_metaqsm.io.nifti import Space
from napari_metaqsm.io.staging import staged
from napari_metaqsm.method import steps

KINDS = {"parametric map": ("parametric map",), "mr series": ("mr series",)}
KINDS["both"] = ("parametric map", "mr series")
# DICOM's integers have 32 bits.
_LARGEST_NUMBER = 2**31 - 1
Kind = Literal["parametric map", "mr series", "both"]


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
    numbers = _free_numbers(original.header.get("SeriesNumber"), source.series_numbers)
    files: list[Path] = []
    with staged(out) as temporary, disable_value_validation():
        series = [(one, name) for one in KINDS[kind] for name in maps]
        for n in steps(len(series), "Writing DICOM"):
            one, name = series[n]
            title, derivation, faceless = describe(record, name, original.header)
            # A name that someone typed may be that of a patient.
            title = title or ("map" if deidentify else plain(name))
            about = Description(title, derivation, next(numbers), window_ppm, faceless, made)
            arguments = (layout.images(np.asarray(maps[name])), layout.grid, original, about)
            instances = mr_series(*arguments) if one == "mr series" else [parametric_map(*arguments)]
            folder = f"{about.number}_{about.label}_{one.replace(' ', '_')}"
            if (out / folder).exists():
                raise InputError(f"{out / folder} is there already; remove it, or choose another folder")
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
        if not np.isfinite(array).all():
            raise InputError(f"{name} has values that are not finite; DICOM holds none")


def _free_numbers(number: object, taken: frozenset[int]) -> Iterator[int]:
    """Numbers for new series: those after a hundred times that of the source, where DICOM has any."""
    first = 100 * max(1, int(number or 0)) + 1
    if first > _LARGEST_NUMBER - 100_000:
        first = 1
    return (n for n in range(first, first + 100_000) if n not in taken)


def _save(instances: list[pydicom.Dataset], temporary: Path, final: Path) -> list[Path]:
    temporary.mkdir()
    names = [f"{n:04d}.dcm" for n in range(1, len(instances) + 1)]
    for instance, name in zip(instances, names, strict=True):
        instance.save_as(temporary / name, enforce_file_format=True)
    return [final / name for name in names]
