"""A reading that the window saved, read without a window: its file, and the study in it."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.nifti import Space, read
from napari_metaqsm.reading.region_names import region_names
from napari_metaqsm.reading.spots import Spot
from napari_metaqsm.reading.study import SERIES, VOLUMES, Study
from napari_metaqsm.scan import Acquisition, Geometry, turned

SESSION = "session.json"
# Of the file's form; one that it does not know is refused.
VERSION = 1
# What comes of words and numbers that are not those that were written.
MISWRITTEN = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)
_LARGEST_BYTES = 64 * 2**20


@dataclass(frozen=True)
class SavedReading:
    """What can be told of a saved reading.

    Parameters
    ----------
    study : along the axes of the window's layers, in which spots and places were kept
    space : of the file of the first map that has a place in the patient, or of the first, then not known
    in_study_axes : turns an array in the axes of that file
    in_file_axes : turns one of the study back
    labels : (i, j, k) int, the regions that were measured, on the study's grid; None where none were
    names : of labels
    spots : that were probed
    """

    study: Study
    space: Space
    in_study_axes: Callable[[np.ndarray], np.ndarray]
    in_file_axes: Callable[[np.ndarray], np.ndarray]
    labels: np.ndarray | None = None
    names: Mapping[int, str] = dataclasses.field(default_factory=dict)
    spots: tuple[Spot, ...] = ()


def read_content(folder: Path) -> dict[str, Any]:
    """What the session's file says.

    Raises
    ------
    InputError
        When there is none, it cannot be read, or is of another version.
    """
    file = Path(folder) / SESSION
    try:
        if file.exists() and not file.is_file():
            raise ValueError("it is no file")
        if file.stat().st_size > _LARGEST_BYTES:
            raise ValueError("it is too large")
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{folder} holds no reading; there is no {SESSION} in it") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file} cannot be read: {error}") from error
    if not isinstance(content, dict) or content.get("version") != VERSION:
        raise InputError(f"{file} was written by another version of this program and cannot be read")
    return content


def read_entry(folder: Path, entry: Mapping[str, Any]) -> tuple[np.ndarray, Space]:
    """Values of a layer in the axes of its file.

    Raises
    ------
    InputError
        When the file cannot be read, or is named outside of the folder.
    """
    if Path(entry["file"]).name != entry["file"]:
        raise InputError(f"{SESSION} names the file {entry['file']!r}; it must lie in the folder itself")
    return read(Path(folder) / entry["file"])


def in_layer_axes(values: np.ndarray) -> np.ndarray:
    """Of a layer that had no file of its own: back from (x, y, z), as it was written, to (z, y, x)."""
    return values.transpose(*range(values.ndim - 3), -1, -2, -3)


def acquisition_of(entry: Mapping[str, Any]) -> Acquisition | None:
    """How a layer's scan was acquired, where that is known."""
    return Acquisition(**entry["acquisition"]) if entry["acquisition"] else None


def open_session(folder: Path) -> SavedReading:
    """The study, regions and spots of a saved reading.

    Raises
    ------
    InputError
        When it is none, or something in it is not as it was written.
    """
    folder, content = Path(folder), read_content(folder)
    try:
        return _opened(folder, content)
    except InputError:
        raise
    except MISWRITTEN as error:
        raise InputError(f"{folder / SESSION} is not as it was written: {error!r}") from error


def _opened(folder: Path, content: Mapping[str, Any]) -> SavedReading:
    entries = content["layers"]
    images = [entry for entry in entries if entry["kind"] == "image"]
    maps = [entry for title in content["maps"] for entry in images if entry["name"] == title]
    if not maps:
        raise InputError(f"{folder} holds a reading without a map; save one with a map that is checked")
    # As in the window: of several layers of one quantity the last is read.
    known = {entry["quantity"]: entry for entry in entries}
    beside = {name: known[name] for name in (*VOLUMES, *SERIES) if name in known}
    arrays = {name: _values(folder, entry) for name, entry in beside.items()}
    acquired = (acquisition_of(entry) for entry in (*maps, *beside.values()))
    first = next((entry for entry in maps if entry["place"] is None), maps[0])
    space = read_entry(folder, first)[1]
    space = dataclasses.replace(space, known=space.known and first["place"] is None)
    study = Study(
        _geometry(space, first),
        {entry["name"]: _values(folder, entry) for entry in maps},
        next(filter(None, acquired), Acquisition()),
        **arrays,
        records={entry["name"]: entry["record"] or {} for entry in maps},
        files={
            **{entry["name"]: str(folder / entry["file"]) for entry in maps},
            **{name: str(folder / entry["file"]) for name, entry in beside.items()},
        },
    )
    measured = content.get("regions", {}).get("layer")
    drawn = [entry for entry in entries if entry["kind"] == "labels" and entry["name"] == measured]
    labels = _values(folder, drawn[0]).astype(np.int32) if drawn else None
    names = _names(drawn[0]) if drawn else {}
    spots = tuple(Spot.from_dict(each) for each in content.get("spots", ()))
    turns = (functools.partial(turn, space, first) for turn in (_turned, _turned_back))
    return SavedReading(study, space, *turns, labels, names, spots)


def _values(folder: Path, entry: Mapping[str, Any]) -> np.ndarray:
    values, space = read_entry(folder, entry)
    return _turned(space, entry, values)


def _turned(space: Space, entry: Mapping[str, Any], values: np.ndarray) -> np.ndarray:
    if entry["place"] is not None:
        return in_layer_axes(values)
    return turned(values, space.geometry().orientation, entry["orientation"])


def _turned_back(space: Space, entry: Mapping[str, Any], values: np.ndarray) -> np.ndarray:
    if entry["place"] is not None:
        return in_layer_axes(values)
    return turned(values, entry["orientation"], space.geometry().orientation)


def _geometry(space: Space, entry: Mapping[str, Any]) -> Geometry:
    geometry = space.geometry()
    if entry["place"] is None:
        geometry = geometry.turned(entry["orientation"])
    else:
        geometry = geometry.permuted((2, 1, 0))
        geometry = dataclasses.replace(geometry, orientation=entry["orientation"] or geometry.orientation)
    if entry["b0_direction"]:
        geometry = dataclasses.replace(geometry, b0_direction=tuple(entry["b0_direction"]))
    return geometry


def _names(entry: Mapping[str, Any]) -> dict[int, str]:
    own, features = entry["own"], entry["features"] or {}
    called = f"{own.get('numbering', '')} {entry['name']}"
    pairs = zip(features.get("index", ()), features.get("name", ()), strict=True)
    return region_names(called, pairs, own.get("names") or {})
