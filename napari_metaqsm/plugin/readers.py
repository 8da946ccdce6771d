"""Open NIfTI files and folders of them in napari: named, paired layers with what the chain needs."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.load import acquisition_of, unit_of
from napari_metaqsm.io.nifti import is_nifti, read
from napari_metaqsm.io.pairing import UNNAMED, Run, find_runs, guess, nifti_files
from napari_metaqsm.io.sidecar import Sidecar, read_sidecar
from napari_metaqsm.plugin.layers import LayerDataTuple, layer_data
from napari_metaqsm.scan import Geometry
from napari_metaqsm.units import ppm_from

Paths = str | Sequence[str]
_LONGEST_NAME = 28


def get_reader(path: Paths) -> Callable[[Paths], list[LayerDataTuple]] | None:
    """The reader for NIfTI files and for folders that hold some; None for all else."""
    paths = _as_list(path)
    return read_layers if paths and all(_fits(Path(p)) for p in paths) else None


def _as_list(path: Paths) -> list[str]:
    return [os.fspath(path)] if isinstance(path, (str, os.PathLike)) else [os.fspath(p) for p in path]


def _fits(path: Path) -> bool:
    return bool(nifti_files(path)) if path.is_dir() else is_nifti(path)


def read_layers(path: Paths) -> list[LayerDataTuple]:
    """Layers of the files: one per quantity and run, its echoes along the first axis.

    Raises
    ------
    InputError
        When a file cannot be read, or files that belong together do not fit together.
    """
    runs, unknown = find_runs(_as_list(path))
    names = short_names([run.name for run in runs])
    layers = [layer for run in runs for layer in _run_layers(run, names[run.name])]
    return layers + [_role_layer(guess(file).role or "image", (file,), _stem(file)) for file in unknown]


def _run_layers(run: Run, name: str) -> list[LayerDataTuple]:
    return [
        _role_layer(role, paths, f"{role.replace('_', ' ')} {name}".strip())
        for role, paths in run.files.items()
    ]


def _role_layer(role: str, paths: tuple[Path, ...], name: str) -> LayerDataTuple:
    sidecars = [read_sidecar(path) for path in paths]
    arrays, spaces = zip(*(read(path) for path in paths), strict=True)
    for path, space in zip(paths[1:], spaces[1:], strict=True):
        if space.shape != spaces[0].shape or not np.allclose(space.affine, spaces[0].affine, atol=1e-2):
            raise InputError(
                f"{paths[0].name} and {path.name} are echoes of one run, but do not lie in one place"
            )
    volumes = [a if a.ndim == 4 else a[None] for a in arrays]
    values = volumes[0] if len(volumes) == 1 else np.concatenate(volumes)
    values = values[0] if len(values) == 1 else values
    # The sidecars are those of one role: what they say of echo times is meant for this layer.
    acquisition = acquisition_of({"phase": sidecars}, role == "phase_difference")
    unit = None
    if role in ("total_field", "local_field", "noise"):
        values, unit = _field(role, values, paths[0].name, sidecars[0], acquisition.b0_tesla)
    quantity = "phase" if role == "phase_difference" else role
    if role == "mask" and len(np.unique(values[np.isfinite(values)])) > 2:
        quantity = "regions"  # a mask of several values tells regions apart, and goes on doing so
    return layer_data(
        values,
        spaces[0],
        quantity,
        name,
        acquisition,
        labels=quantity == "regions",
        unit=unit,
        geometry=_stated_geometry(spaces[0].geometry(), sidecars),
    )


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
