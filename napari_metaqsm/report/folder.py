"""A folder that ``metaqsm run`` wrote, read again; and the report written into a folder."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.dicom.files import is_dicom
from napari_metaqsm.io.load import RECORD, check_same_place, describe_file
from napari_metaqsm.io.nifti import Space, read, staged
from napari_metaqsm.reading.spots import Spot
from napari_metaqsm.reading.study import SERIES, VOLUMES, Study
from napari_metaqsm.report.content import Report
from napari_metaqsm.report.maps import SUSCEPTIBILITY, own_record, titles_of
from napari_metaqsm.report.page import html
from napari_metaqsm.report.paper import pdf
from napari_metaqsm.report.session_folder import SESSION, open_session
from napari_metaqsm.scan import Acquisition

FORMATS = ("html", "pdf")
_LARGEST_RECORD_BYTES = 64 * 2**20
_LARGEST_TABLE_BYTES = 16 * 2**20
# Beyond it float32, in which a file's values are read, skips whole numbers.
_LARGEST_LABEL = 2**24


@dataclass(frozen=True)
class Opened:
    """What a folder held.

    Parameters
    ----------
    space : of its maps, to read regions on the same grid
    notes : what had to be done without, in words
    labels : (i, j, k) int, regions that were saved with the maps, on the study's grid
    names : of labels
    spots : that were saved with them
    in_study_axes : turns an array in the axes of ``space``, which need not be those of the study
    """

    study: Study
    space: Space
    notes: tuple[str, ...] = ()
    labels: np.ndarray | None = None
    names: Mapping[int, str] = field(default_factory=dict)
    spots: tuple[Spot, ...] = ()
    in_study_axes: Callable[[np.ndarray], np.ndarray] = np.asarray


def open_folder(folder: str | os.PathLike, inputs: Iterable[str | os.PathLike] = ()) -> Opened:
    """Read what ``metaqsm run`` or ``metaqsm cosmos`` wrote, or a reading that was saved in the window.

    Parameters
    ----------
    inputs : files, or folders to look in, for the magnitude and phase that the maps were made from; they
        are looked for beside the maps and in the folder above as well. Only files with the name and the
        hash of the record are taken; of DICOM, only series with its hash.

    Returns
    -------
    the study, maps called by their method's title, in the order in which they were made

    Raises
    ------
    InputError
        When there is no record or no map, or a map cannot be read.
    """
    folder, inputs = Path(folder), list(inputs)
    if (folder / SESSION).is_file():
        saved = open_session(folder)
        kept = (saved.labels, saved.names, saved.spots)
        return Opened(saved.study, saved.space, (), *kept, saved.in_study_axes)
    notes: list[str] = []
    own_maps, space, record = _read_maps(folder)
    titles = titles_of(record, own_maps)
    maps = {title: own_maps[name] for name, title in titles.items()}
    found: dict[str, np.ndarray] = {}
    for name in VOLUMES:
        file = folder / f"{name}.nii.gz"
        if file.is_file():
            found[name], _ = _read_volume(file, space)
    files = {name: str(folder / f"{name}.nii.gz") for name in found}
    files.update({title: str(folder / f"{name}.nii.gz") for name, title in titles.items()})
    places = [folder, folder.resolve().parent, *map(Path, inputs)]
    found.update(_out_of_dicom(record, inputs, space))
    # Fields that were given are left: the record does not say in which unit their files are.
    for name in ("mask", *SERIES):
        if name in found:
            continue
        there = _find_inputs(name, record, places, notes)
        if there:
            found[name] = _read_inputs(there, space, name in SERIES)
            files[name] = str(there[0])
    study = Study(
        _geometry(space, record),
        maps,
        _acquisition(record, notes),
        **found,
        records={title: own_record(record, name, title) for name, title in titles.items()},
        files=files,
    )
    return Opened(study, space, tuple(notes))


def read_maps(
    folder: str | os.PathLike,
) -> tuple[dict[str, np.ndarray], Space, dict[str, Mapping[str, Any]]]:
    """The susceptibility maps that :func:`open_folder` finds, in the axes of their files, and nothing else.

    Returns
    -------
    maps : (i, j, k) in ppm, by the name of their file, or of their layer in a saved reading
    space : of all of them
    records : what made each

    Raises
    ------
    InputError
        When there is no record or no map, or a map cannot be read.
    """
    folder = Path(folder)
    if (folder / SESSION).is_file():
        saved = open_session(folder)
        maps = {name: saved.in_file_axes(values) for name, values in saved.study.maps.items()}
        return maps, saved.space, dict(saved.study.records)
    maps, space, record = _read_maps(folder)
    titles = titles_of(record, maps)
    return maps, space, {name: own_record(record, name, titles[name]) for name in maps}


def _read_maps(folder: Path) -> tuple[dict[str, np.ndarray], Space, Mapping[str, Any]]:
    """Maps that a chain wrote, in the order in which they were made, and the one record beside them."""
    record = _read_record(folder)
    there = (f.name.removesuffix(".nii.gz") for f in folder.glob(f"{SUSCEPTIBILITY}*.nii.gz"))
    maps: dict[str, np.ndarray] = {}
    space: Space | None = None
    for name in titles_of(record, there):
        maps[name], own = _read_volume(folder / f"{name}.nii.gz", space)
        space = space or own
    if space is None:
        raise InputError(f"{folder.name} holds no susceptibility map; give a folder that metaqsm run wrote")
    return maps, space, record


def read_labels(path: str | os.PathLike, space: Space) -> np.ndarray:
    """(i, j, k) int: regions drawn on the grid of the maps.

    Raises
    ------
    InputError
        When the file cannot be read, lies elsewhere, or holds other than whole numbers.
    """
    labels, _ = _read_volume(Path(path), space)
    whole = np.round(labels)
    if not np.isfinite(labels).all() or np.abs(labels - whole).max() > 0:
        raise InputError(f"{Path(path).name} holds other than whole numbers; give a label map")
    if np.abs(labels).max() > _LARGEST_LABEL:
        raise InputError(
            f"{Path(path).name} holds numbers up to {np.abs(labels).max():.3g}; no label is so large"
        )
    return whole.astype(np.int32)


def read_names(path: str | os.PathLike) -> dict[int, str]:
    """Names of labels from a table with the columns ``index`` and ``name``, as BIDS has it (.tsv or .csv).

    Raises
    ------
    InputError
        When the table cannot be read or lacks a column.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for without end
            raise ValueError("it is no file")
        if path.stat().st_size > _LARGEST_TABLE_BYTES:
            raise ValueError("it is too large")
        text = path.read_text(encoding="utf-8-sig")
        rows = list(csv.DictReader(text.splitlines(), delimiter="," if path.suffix == ".csv" else "\t"))
        return {int(row["index"]): row["name"] for row in rows}
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise InputError(
            f"{path.name} is no table of names ({error}); it must have the columns index and name"
        ) from error


def files_of(report: Report, formats: Collection[str] = FORMATS) -> dict[str, bytes]:
    """``report.html``, ``report.pdf``, ``methods.txt`` and ``references.bib``, by their name.

    Raises
    ------
    InputError
        When a format is neither "html" nor "pdf".
    """
    unknown = set(formats) - set(FORMATS)
    if unknown:
        raise InputError(f"format is {min(unknown)!r}; it must be one of {', '.join(FORMATS)}")
    files: dict[str, bytes] = {}
    if "html" in formats:
        files["report.html"] = html(report).encode("utf-8")
    if "pdf" in formats:
        files["report.pdf"] = pdf(report)
    files["methods.txt"] = report.methods.text.encode("utf-8", "replace")
    files["references.bib"] = report.methods.bibtex.encode("utf-8", "replace")
    return files


def write_report(report: Report, folder: str | os.PathLike, formats: Collection[str] = FORMATS) -> list[Path]:
    """Write :func:`files_of` a report: all of them, or none.

    Raises
    ------
    InputError
        When a format is unknown or the folder cannot be written to.
    """
    files = files_of(report, formats)
    with staged(folder) as temporary:
        for name, data in files.items():
            (temporary / name).write_bytes(data)
    return [Path(folder) / name for name in files]


# --------------------------------------------------------------------------------------- record
def _read_record(folder: Path) -> Mapping[str, Any]:
    file = folder / RECORD
    if not file.is_file():
        raise InputError(f"{folder} has no {RECORD}; give a folder that metaqsm run wrote")
    try:
        if file.stat().st_size > _LARGEST_RECORD_BYTES:
            raise ValueError("it is too large")
        record = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file.name} is no readable record ({error}); repair or remove it") from error
    if not isinstance(record, dict):
        raise InputError(f"{file.name} must hold a JSON object; repair or remove it")
    return record


def _acquisition(record: Mapping[str, Any], notes: list[str]) -> Acquisition:
    stated = record.get("acquisition")
    names = {field.name for field in dataclasses.fields(Acquisition)}
    try:
        known = {name: value for name, value in (stated or {}).items() if name in names}
        return Acquisition(**known)
    except (InputError, TypeError, ValueError, AttributeError) as error:
        notes.append(f"what the record says of the acquisition cannot be meant ({error})")
        return Acquisition()


def _geometry(space: Space, record: Mapping[str, Any]) -> Any:
    geometry = space.geometry()
    stated = record.get("geometry")
    try:
        return dataclasses.replace(geometry, b0_direction=tuple(stated["b0_direction"]))
    except (InputError, TypeError, KeyError, ValueError):
        return geometry


# --------------------------------------------------------------------------------------- arrays
def _read_volume(path: Path, space: Space | None) -> tuple[np.ndarray, Space]:
    array, own = read(path)
    if array.ndim == 4:
        if len(array) != 1:
            raise InputError(f"{path.name} holds {len(array)} volumes; it must have one")
        array = array[0]
    if space is not None:
        check_same_place(space, "the first map", own, path.name)
    return array, own


def _find_inputs(
    name: str, record: Mapping[str, Any], places: Sequence[Path], notes: list[str]
) -> list[Path]:
    """The files that an input was read from, all of them or none."""
    inputs = record.get("inputs")
    listed = inputs.get(name) if isinstance(inputs, dict) else None
    if not isinstance(listed, list) or not listed:
        return []  # it was made on the way, or came from no file
    found = [_find_file(about, places) for about in listed]
    if all(found):
        return found
    series = _series_of(record, name)
    missing = "is not there any more, or has changed"
    if series:
        numbers = ", ".join(sorted(str(about["series"]) for about in series))
        missing = f"is in DICOM (series {numbers}), which was not among the inputs (--inputs)"
    notes.append(f"the {name.replace('_', ' ')} that the maps were made from {missing}: left out")
    return []


def _series_of(record: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """The DICOM series that an input was read from; none where it came from elsewhere."""
    inputs = record.get("inputs")
    listed = inputs.get(name) if isinstance(inputs, dict) else None
    listed = listed if isinstance(listed, list) else []
    return [about for about in listed if isinstance(about, dict) and isinstance(about.get("series"), int)]


def _out_of_dicom(
    record: Mapping[str, Any], inputs: Sequence[str | os.PathLike], space: Space
) -> dict[str, np.ndarray]:
    """Magnitude and phase of the DICOM that was named, where their series are those of the record."""
    listed = {name: series for name in SERIES if (series := _series_of(record, name))}
    folders = [path for path in inputs if is_dicom(path)]
    if not (listed and folders):
        return {}
    # Only here, for it takes long to import.
    from napari_metaqsm.io.dicom.opened import open_dicom

    numbers = sorted({about["series"] for series in listed.values() for about in series})
    scan = open_dicom(folders, series=numbers)
    check_same_place(space, "the first map", scan.space, f"series {numbers[0]}")
    return {
        name: getattr(scan, name)
        for name, series in listed.items()
        if {s["sha256"] for s in scan.sources.get(name, ())} == {about.get("sha256") for about in series}
    }


def _find_file(about: Any, places: Sequence[Path]) -> Path | None:
    if not isinstance(about, dict) or not about.get("file"):
        return None
    name = Path(str(about["file"])).name
    for place in places:
        candidate = place if place.is_file() and place.name == name else place / name
        try:
            if candidate.is_file() and describe_file(candidate)["sha256"] == about.get("sha256"):
                return candidate
        except OSError:  # a record may name what no file can be called
            continue
    return None


def _read_inputs(paths: Sequence[Path], space: Space, series: bool) -> np.ndarray:
    arrays = []
    for path in paths:
        array, own = read(path)
        check_same_place(space, "the first map", own, path.name)
        arrays.append(array if array.ndim == 4 else array[None])
    joined = np.concatenate(arrays)
    return joined if series else joined[0]
