"""Open NIfTI and DICOM files, and folders of them, in napari: named, paired layers with what the chain needs.

Of DICOM the layers say more in ``layer.metadata["metaqsm"]``:

=============  ==========================================================================
``decisions``  how it was read, in words; they go into every record
``notes``      what was assumed and what is missing, in words; among a record's warnings
``sources``    the series that the layer is of, for the record
``dicom``      ``{"run": its name, "runs": [all that were opened with it, and the series
               that no run uses]}``, plain values
=============  ==========================================================================

and ``layer.metadata[OPENED_FROM]`` holds the folder. It is kept apart, for it is saved nowhere: folders of
DICOM are often named after the patient.
"""

from __future__ import annotations

import dataclasses
import math
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from napari.utils.notifications import show_info

from napari_metaqsm.errors import Cancelled, InputError
from napari_metaqsm.io.acquisition import acquisition_of
from napari_metaqsm.io.complex_files import parts_to_read, polar_of
from napari_metaqsm.io.dicom.convert import Converted, Survey, cannot_convert, convert_runs, survey
from napari_metaqsm.io.dicom.files import is_dicom
from napari_metaqsm.io.dicom.series import ScannerRun
from napari_metaqsm.io.load import unit_of
from napari_metaqsm.io.nifti import Space, is_nifti, read
from napari_metaqsm.io.pairing import (
    COMPLEX,
    UNNAMED,
    Run,
    find_runs,
    guess,
    nifti_files,
    told_difference,
)
from napari_metaqsm.io.sidecar import Sidecar, read_sidecar
from napari_metaqsm.plugin.layers import LayerDataTuple, layer_data
from napari_metaqsm.plugin.waiting import wait_for
from napari_metaqsm.scan import Geometry
from napari_metaqsm.units import ppm_from

Paths = str | Sequence[str]
OPENED_FROM = "metaqsm_opened_from"
_LONGEST_NAME = 28
# napari asks of every folder, also of one with a million chunks of something else.
_LOOKED_AT = 500
# napari's word for "read, and nothing to show".
_NO_LAYERS: list[tuple[Any, ...]] = [(None,)]


def get_reader(path: Paths) -> Callable[[Paths], list[LayerDataTuple]] | None:
    """The reader for NIfTI and DICOM files and for folders that hold some; None for all else."""
    paths = _as_list(path)
    if paths and all(_is_nifti(Path(p)) for p in paths):
        return read_layers
    return _read_dicom_waiting if paths and all(_is_dicom(Path(p)) for p in paths) else None


def _as_list(path: Paths) -> list[str]:
    return [os.fspath(path)] if isinstance(path, (str, os.PathLike)) else [os.fspath(p) for p in path]


def _is_nifti(path: Path) -> bool:
    return bool(nifti_files(path)) if path.is_dir() else is_nifti(path)


def _is_dicom(path: Path) -> bool:
    return not _is_nifti(path) and is_dicom(path, _LOOKED_AT)


def _read_dicom_waiting(path: Paths) -> list[Any]:
    """:func:`read_layers` for napari, which wants the layers at once: a dialog shows how far it is."""
    try:
        return wait_for(read_layers, path, title="Opening DICOM")
    except Cancelled:
        show_info("Opening was cancelled")
        return _NO_LAYERS


def read_layers(path: Paths) -> list[LayerDataTuple]:
    """Layers of the files: one per quantity and run, its echoes along the first axis.

    Raises
    ------
    InputError
        When a file cannot be read, or files that belong together do not fit together.
    """
    paths = _as_list(path)
    if paths and all(Path(p).exists() and _is_dicom(Path(p)) for p in paths):
        return _dicom_layers(paths)
    runs, unknown = find_runs(paths)
    names = short_names([run.name for run in runs])
    layers = [layer for run in runs for layer in _run_layers(run, names[run.name]).values()]
    return layers + [_role_layer(guess(file).role or "image", (file,), _stem(file)) for file in unknown]


# --------------------------------------------------------------------------------------- DICOM
def _dicom_layers(paths: list[str]) -> list[LayerDataTuple]:
    """Layers of every run in DICOM files, the best last, for the last is taken; the others are hidden."""
    found = survey(paths)
    with tempfile.TemporaryDirectory(prefix="metaqsm-") as folder:
        runs = convert_runs(found, folder)
        runs.sort(key=lambda run: ("magnitude" in run.files, max(map(len, run.files.values()))))
        told = _told(found, runs)
        return [layer for run in runs for layer in _dicom_run_layers(run, told, paths, run is runs[-1])]


def read_run_again(
    paths: Sequence[str], name: str, runs: Sequence[Mapping[str, Any]], given: Mapping[str, bool]
) -> list[LayerDataTuple]:
    """Layers of one run of DICOM that was opened before, read otherwise than was decided.

    Parameters
    ----------
    paths : what was opened, as in ``layer.metadata[OPENED_FROM]``
    name, runs : the run, and the runs it was opened with, as in a layer's ``dicom``
    given : "phase_difference" and "alternating_slices" where they are not left to be decided

    Raises
    ------
    InputError
        When the run is not there any more, or cannot be read so.
    """
    before = next(run for run in runs if run["name"] == name)
    found = survey(paths, [int(n) for n in before["series"].split(", ")], given.get("phase_difference"))
    chosen = tuple(run for run in found.runs if run.name == name)
    if not chosen:
        raise InputError("; ".join([f"there is no {name} any more in what was opened", *found.notes]))
    found = dataclasses.replace(found, runs=chosen)
    with tempfile.TemporaryDirectory(prefix="metaqsm-") as folder:
        (run,) = convert_runs(found, folder, given.get("alternating_slices"))
        now = {**_told(found, [run])[0], "given": dict(given)}
        told = [now if each is before else dict(each) for each in runs]
        return _dicom_run_layers(run, told, paths, visible=True)


def _dicom_run_layers(
    run: Converted, told: list[dict[str, Any]], paths: Sequence[str], visible: bool
) -> list[LayerDataTuple]:
    layers = []
    for role, layer in _run_layers(Run(run.name, run.files), "").items():
        settings = layer[1]
        settings["name"] += f", series {', '.join(str(s['series']) for s in run.sources[role])}"
        known = settings["metadata"]["metaqsm"]
        known["decisions"], known["notes"] = list(run.decisions), list(run.notes)
        known["sources"] = list(run.sources[role])
        known["dicom"] = {"run": run.name, "runs": told}
        settings["metadata"][OPENED_FROM] = list(paths)
        settings["visible"] = visible
        layers.append(layer)
    return layers


def _told(found: Survey, converted: Sequence[Converted]) -> list[dict[str, Any]]:
    """Every run as the window lists it, then those that cannot be used, with the reason; plain values."""
    made = {run.name: run for run in converted}
    told, left = [], [(each.series, each.description, each.why, each.sentence) for each in found.left]
    for run in found.runs:
        description, about = run.stacks[0].header.description, made.get(run.name)
        if about is None:
            failed = (note for note in converted[0].notes if note.startswith(cannot_convert(run)))
            left.append((run.series, description, "cannot be converted", next(failed, "")))
            continue
        told.append(
            {
                "name": run.name,
                "series": ", ".join(map(str, run.series)),
                "description": description,
                "holds": _holds(run),
                "usable": True,
                "decisions": list(about.decisions),
                "notes": list(about.notes),
                "choices": _choices(run),
                "given": {},
            }
        )
    for series, description, why, sentence in left:
        told.append(
            {
                "name": "",
                "series": ", ".join(map(str, series)),
                "description": description,
                "holds": why,
                "usable": False,
                "decisions": [],
                "notes": [sentence],
            }
        )
    return told


def _choices(run: ScannerRun) -> list[str]:
    """What may be given of how a run is read; what cannot be meant is left out."""
    alone = [parts for part, parts in run.parts.items() if part.startswith("phase")]
    difference = ["phase_difference"] if alone and len(alone[0]) == 1 else []
    return difference + ["alternating_slices"] * ("real" in run.parts)


def _holds(run: ScannerRun) -> str:
    """What a run holds, in a few words: "3 echoes"."""
    echoes = max(map(len, run.parts.values()))
    what = f"{echoes} echo{'es' if echoes > 1 else ''}"
    if "phase_difference" in run.parts:
        what = "phase difference"
    elif "real" in run.parts:
        what += ", complex"
    return what if {"magnitude", "imaginary"} & set(run.parts) else f"{what}, no magnitude"


# ---------------------------------------------------------------------------------- runs of NIfTI
def _run_layers(run: Run, name: str) -> dict[str, LayerDataTuple]:
    """A layer for each role of a run; phase and magnitude where there are real and imaginary parts of it."""
    files = dict(run.files)
    layers = {}
    if set(COMPLEX) <= files.keys() and parts_to_read(files, []):
        layers = _polar_layers(files.pop("real"), files.pop("imaginary"), name)
    for role, paths in files.items():
        layers[role] = _role_layer(role, paths, _layer_name(role, name))
    return layers


def _layer_name(role: str, name: str) -> str:
    return f"{role.replace('_', ' ')} {name}".strip()


def _role_layer(role: str, paths: tuple[Path, ...], name: str) -> LayerDataTuple:
    values, space, sidecars = _volumes(paths)
    values = values[0] if len(values) == 1 else values
    # The sidecars are those of one role: what they say of echo times is meant for this layer.
    decisions = list(told_difference(role == "phase_difference", None))
    acquisition = acquisition_of({"phase": sidecars}, role == "phase_difference", decisions=decisions)
    unit = None
    if role in ("total_field", "local_field", "noise"):
        values, unit = _field(role, values, paths[0].name, sidecars[0], acquisition.b0_tesla)
    quantity = "phase" if role == "phase_difference" else role
    if role == "mask" and len(np.unique(values[np.isfinite(values)])) > 2:
        quantity = "regions"  # a mask of several values tells regions apart, and goes on doing so
    geometry = _stated_geometry(space.geometry(), sidecars)
    labels = quantity == "regions"
    layer = layer_data(
        values, space, quantity, name, acquisition, labels=labels, unit=unit, geometry=geometry
    )
    if quantity == "phase" and decisions:
        layer[1]["metadata"]["metaqsm"]["decisions"] = decisions
    return layer


def _polar_layers(
    real: tuple[Path, ...], imaginary: tuple[Path, ...], name: str
) -> dict[str, LayerDataTuple]:
    """Phase and magnitude of real and imaginary parts."""
    volumes, space, sidecars = _volumes((*real, *imaginary))
    sidecars = sidecars[: len(real)]
    if len(volumes) % 2:
        raise InputError(
            f"{real[0].name} and {imaginary[0].name} do not hold as many echoes; give all of both"
        )
    decisions: list[str] = []
    notes: list[str] = []
    polar = polar_of(*np.split(volumes, 2), sidecars, None, decisions, notes)
    acquisition = acquisition_of({"phase": sidecars}, phase_pi=math.pi, decisions=decisions)
    geometry = _stated_geometry(space.geometry(), sidecars)
    layers = {}
    for role, values in (("phase", polar.phase), ("magnitude", polar.magnitude)):
        values = values[0] if len(values) == 1 else values
        layers[role] = layer_data(
            values, space, role, _layer_name(role, name), acquisition, geometry=geometry
        )
    layers["phase"][1]["metadata"]["metaqsm"].update(decisions=decisions, notes=notes)
    return layers


def _volumes(paths: tuple[Path, ...]) -> tuple[np.ndarray, Space, list[Sidecar]]:
    """The volumes (echo, i, j, k) of files that lie in one place, that place, and what is said of them."""
    sidecars = [read_sidecar(path) for path in paths]
    arrays, spaces = zip(*(read(path) for path in paths), strict=True)
    for path, space in zip(paths[1:], spaces[1:], strict=True):
        if space.shape != spaces[0].shape or not np.allclose(space.affine, spaces[0].affine, atol=1e-2):
            raise InputError(
                f"{paths[0].name} and {path.name} are echoes of one run, but do not lie in one place"
            )
    volumes = [a if a.ndim == 4 else a[None] for a in arrays]
    return (volumes[0] if len(volumes) == 1 else np.concatenate(volumes)), spaces[0], sidecars


def _field(
    role: str, values: np.ndarray, name: str, sidecar: Sidecar, b0_tesla: float | None
) -> tuple[np.ndarray, str]:
    """A field in ppm where its unit is known; else as it is, for the chain to ask."""
    try:
        unit = unit_of(role, values, name, sidecar, [])
    except InputError:
        return values, "as stored"
    return (ppm_from(values, unit, b0_tesla), "ppm") if unit == "ppm" or b0_tesla else (values, unit)


def _stated_geometry(geometry: Geometry, sidecars: Sequence[Sidecar]) -> Geometry:
    stated = next((s.b0_direction for s in sidecars if s.b0_direction), None)
    return dataclasses.replace(geometry, b0_direction=stated) if stated else geometry


def short_names(runs: Sequence[str]) -> dict[str, str]:
    """Names that tell runs apart: what they have in common is left out; one alone is kept, cut to size."""
    parts = {run: [] if run == UNNAMED else run.split("_") for run in runs}
    shared = 0
    if len(runs) > 1:
        columns = list(zip(*parts.values(), strict=False))
        shared = next((i for i, words in enumerate(columns) if len(set(words)) > 1), len(columns))
    return {run: _cut("_".join(words[shared:])) for run, words in parts.items()}


def _cut(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"


def _stem(path: Path) -> str:
    return path.name.rsplit(".nii", 1)[0]
