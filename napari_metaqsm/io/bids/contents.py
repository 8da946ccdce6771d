"""What a result is in BIDS: one image and one sidecar for each of its maps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from napari_metaqsm.io.bids.dataset import BidsScan
from napari_metaqsm.io.bids.names import QUANTITIES, SUSCEPTIBILITY, as_label, entity_label
from napari_metaqsm.io.nifti import Space
from napari_metaqsm.io.sidecar import OWN
from napari_metaqsm.scan import Scan
from napari_metaqsm.units import hz_per_ppm

RAW = "raw"
RECORD = "record"
# Where a fieldmap of the standard cannot be: without a magnitude, or with a field strength that is not known.
FIELD_IN_PPM = "field"
_FIELDS = ("total_field", "local_field", "noise")
# Entities that the standard allows for a scan's images in each folder.
_ALLOWED = {
    "anat": ("sub", "ses", "task", "acq", "ce", "rec", "run", "chunk"),
    "fmap": ("sub", "ses", "acq", "run", "chunk"),
}
_WORDS = {
    "total_field": "Field of all sources, relative to the centre frequency",
    "local_field": "Field of the sources within the mask",
    "noise": "Standard deviation of the total field, as the signal lets expect it",
    "residual": "What the fit of the field left, relative to the signal",
    "quality": "How well the phase of the echoes agrees, from 0 to 1",
    "mask": "Where susceptibility was sought",
    "eroded_mask": "Where the local field is known, and the maps are not zero",
    "susceptibility": "Magnetic susceptibility, paramagnetic positive, zero outside the mask",
}


class Made(Protocol):
    """What is written of a result; ``pipeline.Result`` is one."""

    @property
    def scan(self) -> Scan: ...
    @property
    def maps(self) -> Mapping[str, np.ndarray]: ...
    @property
    def record(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class Image:
    """An image of a dataset.

    Parameters
    ----------
    path : relative to the dataset, with slashes
    about : its sidecar
    """

    path: str
    values: np.ndarray
    about: Mapping[str, Any]


def images_of(result: Made, scan: BidsScan, space: Space) -> Iterator[Image]:
    """The images of a result, one made after the other: maps, masks, fields, and a magnitude for these."""
    maps = dict(result.maps)
    if "mask" not in maps and result.scan.mask is not None:
        maps = {"mask": result.scan.mask != 0, **maps}
    sources = [
        f"bids:{RAW}:{p.relative_to(scan.dataset).as_posix()}" for ps in scan.files.values() for p in ps
    ]
    told = {"Sources": sources, **_direction(result.scan, space)}
    if result.scan.acquisition.b0_tesla is not None:
        told["MagneticFieldStrength"] = result.scan.acquisition.b0_tesla
    as_fieldmap = result.scan.magnitude is not None and result.scan.acquisition.b0_tesla is not None
    for name, values in maps.items():
        quantity = "susceptibility" if name.startswith("susceptibility") else name
        about = {"Description": _WORDS.get(quantity, name.replace("_", " ")), **told}
        own = {"quantity": quantity, RECORD: f"bids::{record_path(scan)}"}
        if quantity in ("mask", "eroded_mask"):
            about |= {"Type": "Brain" if quantity == "mask" else "ROI", "SpatialReference": sources[0]}
        else:
            about["SkullStripped"] = "mask" in maps and not np.any(values, where=maps["mask"] == 0)
            about["Units"] = "1"
        folder, entities, suffix = "anat", *QUANTITIES.get(name, ({"desc": "other"}, as_label(name)))
        if quantity == "susceptibility":
            entities, suffix = {"desc": as_label(name.partition("_")[2])}, SUSCEPTIBILITY
            about |= {"Units": "ppm", **_algorithm(result.record, name)}
            reference = (result.record.get("reference") or {}).get(name)
            own |= {"reference": reference} if reference else {}
            # A map that is handed on alone still says how it was made.
            own["made"] = dict(result.record)
        elif quantity in _FIELDS and as_fieldmap:
            folder, about["Units"] = "fmap", "Hz"
            values = values * np.float32(hz_per_ppm(result.scan.acquisition.b0_tesla))
        elif quantity in _FIELDS:
            suffix, about["Units"] = FIELD_IN_PPM, "ppm"
        yield Image(_path(scan, folder, entities, suffix), values, {**about, OWN: own})
    if as_fieldmap and any(name in maps for name in _FIELDS):
        about = {"Description": "Root sum of squares of the echoes", **told, "SkullStripped": False}
        yield Image(_path(scan, "fmap", {}, "magnitude"), _magnitude(result.scan), about)


def record_path(scan: BidsScan) -> str:
    """Where the record of a scan lies, relative to the dataset, with slashes."""
    return _path(scan, "anat", {}, RECORD, ".json")


def _path(
    scan: BidsScan, folder: str, others: Mapping[str, str], suffix: str, extension: str = ".nii.gz"
) -> str:
    """A file's place; an entity that names in that folder may not have becomes part of ``acq``."""
    allowed = _ALLOWED[folder]
    entities = {e: label for e, label in scan.entities.items() if e in allowed}
    left = [f"{e} {label}" for e, label in scan.entities.items() if e not in allowed]
    if left:
        entities["acq"] = as_label(" ".join([entities.get("acq", ""), *left]))
    return f"{scan.folder}/{folder}/{entity_label({**entities, **others}, suffix)}{extension}"


def _direction(scan: Scan, space: Space) -> dict[str, Any]:
    """B0 along the array's axes, where that is not what the image's header says."""
    stated, header = scan.geometry.b0_direction, space.geometry().b0_direction
    return {} if np.allclose(stated, header, atol=1e-6) else {"B0_dir": list(stated)}


def _algorithm(record: Mapping[str, Any], name: str) -> dict[str, Any]:
    step = next((s for s in record.get("steps", ()) if s.get("result") == name), {})
    keys = {"EstimationAlgorithm": "title", "EstimationReference": "reference"}
    return {key: step[told] for key, told in keys.items() if step.get(told)}


def _magnitude(scan: Scan) -> np.ndarray:
    total = np.zeros(scan.geometry.shape, np.float32)
    for echo in np.asarray(scan.magnitude):
        total += np.square(echo, dtype=np.float32)
    return np.sqrt(total)
