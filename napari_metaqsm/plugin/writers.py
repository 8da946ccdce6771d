"""Save layers as NIfTI where their input lay, with a JSON file that says what they are."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Container
from pathlib import Path
from typing import Any

from napari.layers import Layer

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.nifti import is_nifti, staged, write
from napari_metaqsm.io.sidecar import sidecar_path
from napari_metaqsm.plugin.layers import array_in_file_axes, direction_note, metadata_of, space_of, unit_note


def write_layer(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write one image layer; returns the paths written."""
    return _write({Path(path): Layer.create(data, attributes, "image")})


def write_labels_layer(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write one labels layer; returns the paths written."""
    return _write({Path(path): Layer.create(data, attributes, "labels")})


def write_layers(path: str, layers: list[tuple[Any, dict[str, Any], str]]) -> list[str]:
    """Write several layers into the folder ``path``, each under its own name; returns the paths."""
    folder = Path(path)
    if is_nifti(folder):
        raise InputError(f"{folder.name} is one file for {len(layers)} layers; give a folder")
    files: dict[Path, Layer] = {}
    for data, attributes, kind in layers:
        stem = re.sub(r"[^\w.+-]+", "_", attributes.get("name") or "").strip("_.") or "layer"
        files[_free(folder, stem, files)] = Layer.create(data, attributes, kind)
    return _write(files)


def _free(folder: Path, stem: str, taken: Container[Path]) -> Path:
    """``stem`` in ``folder``, numbered where two layers have one name."""
    names = itertools.chain([f"{stem}.nii.gz"], (f"{stem}-{n}.nii.gz" for n in itertools.count(2)))
    return next(path for path in map(folder.joinpath, names) if path not in taken)


def _write(files: dict[Path, Layer]) -> list[str]:
    folder = next(iter(files)).parent
    written = []
    with staged(folder) as temporary:
        for path, layer in files.items():
            write(temporary / path.name, array_in_file_axes(layer), space_of(layer))
            written.append(path)
            content = description(layer)
            if content:
                text = json.dumps(content, indent=2, ensure_ascii=False)
                json_path = sidecar_path(path)
                (temporary / json_path.name).write_text(text + "\n", encoding="utf-8")
                written.append(json_path)
    return [str(path) for path in written]


def description(layer: Layer) -> dict[str, Any]:
    """What a sidecar says of the layer, in the words that :mod:`io.sidecar` reads, and its record."""
    known = metadata_of(layer)
    acquisition = known.get("acquisition")
    content: dict[str, Any] = {}
    if acquisition is not None and known.get("quantity") in ("phase", "magnitude"):
        times = acquisition.echo_times_s
        content["EchoTime"] = times and (times[0] if len(times) == 1 else list(times))
    if acquisition is not None:
        content["MagneticFieldStrength"] = acquisition.b0_tesla
    if known.get("unit") in ("rad", "ppm", "Hz", "rad/s", "1/s"):
        content["Units"] = known["unit"]
    notes = [note for note in (unit_note(layer), direction_note(layer)) if note]
    content["MetaQSM"] = {
        key: value
        for key, value in {
            "quantity": known.get("quantity"),
            "record": known.get("record"),
            "notes": notes,
        }.items()
        if value
    }
    return {key: value for key, value in content.items() if value}
