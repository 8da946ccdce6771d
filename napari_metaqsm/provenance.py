"""What made a result: the record that stands beside every map."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from napari_metaqsm.scan import Acquisition, Geometry

UNITS = {
    "total_field": "ppm",
    "noise": "ppm",
    "residual": "1",
    "quality": "1",
    "mask": "1",
    "local_field": "ppm",
    "eroded_mask": "1",
    "susceptibility": "ppm, paramagnetic positive",
}
_PACKAGES = ("napari-metaqsm", "torch", "numpy", "scipy", "nibabel", "numba", "scikit-image", "deepbet")


def make_record(
    inputs: Mapping[str, Any],
    geometry: Geometry,
    acquisition: Acquisition,
    steps: Sequence[Mapping[str, Any]],
    reference: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
    decisions: Sequence[str] = (),
) -> dict[str, Any]:
    """The whole record of a result, as plain JSON values.

    Parameters
    ----------
    inputs : what each input was: files with their hashes, or :func:`describe_array`
    steps : the records of the steps run, in order
    reference : of the susceptibility maps, by map
    notes : what was assumed while reading the inputs, is missing or has to be read with care; they stand
        before the warnings of the steps
    decisions : how the inputs were read; no warnings
    """
    return {
        "software": software_versions(),
        "made_at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "inputs": dict(inputs),
        "geometry": dataclasses.asdict(geometry),
        "acquisition": dataclasses.asdict(acquisition),
        "steps": [dict(step) for step in steps],
        "reference": dict(reference or {}),
        "units": UNITS,
        "decisions": list(decisions),
        "warnings": [*notes, *(text for step in steps for text in step.get("warnings", ()))],
    }


def software_versions() -> dict[str, str]:
    """Versions of Python and of every package that computes."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def describe_array(array: np.ndarray) -> dict[str, Any]:
    """Shape, type and hash of an array that came from no file."""
    array = np.ascontiguousarray(array)
    return {
        "shape": list(array.shape),
        "dtype": str(array.dtype),
        "sha256": hashlib.sha256(array.data).hexdigest(),
    }
