"""A reading in a folder: every layer as NIfTI under BIDS names, and one file that brings all of it back.

:func:`gather` takes what is to be kept out of the viewer, in the window's thread; :meth:`Session.write`
puts it on disk, in a worker; :func:`read_session` gives layers and the state of the room back.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer, Shapes

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.bids.derivatives import dataset_description
from napari_metaqsm.io.bids.names import QUANTITIES, SUSCEPTIBILITY, BidsName, as_label
from napari_metaqsm.io.nifti import Space, staged, write
from napari_metaqsm.io.sidecar import DATASET, sidecar_path
from napari_metaqsm.method import steps
from napari_metaqsm.plugin.layers import (
    LayerDataTuple,
    array_in_file_axes,
    layer_data,
    metadata_of,
    own_space,
    space_of,
)
from napari_metaqsm.plugin.writers import description
from napari_metaqsm.provenance import software_versions
from napari_metaqsm.report.session_folder import (
    MISWRITTEN,
    SESSION,
    VERSION,
    acquisition_of,
    in_layer_axes,
    read_content,
    read_entry,
)

_TITLE = "Susceptibility maps and a reading of them"
_DISPLAY = {
    Image: ("visible", "opacity", "blending", "contrast_limits", "gamma", "interpolation2d"),
    Labels: ("visible", "opacity", "blending", "contour", "selected_label"),
}
# No argument of the layer's making.
_LATER = ("contour", "selected_label")
# Of what this plugin knows of a layer: told by name or made anew when the layer is opened.
_TOLD = (
    *("quantity", "unit", "space", "acquisition", "b0_direction", "orientation", "record"),
    *("unreferenced", "zero"),
)
_PLACE = ("scale", "translate", "affine", "units", "axis_labels")


@dataclass(frozen=True)
class Kept:
    """A layer as it goes to disk: its values in the axes of ``space``, and what brings it back."""

    file: str
    values: np.ndarray
    space: Space
    sidecar: Mapping[str, Any]
    entry: Mapping[str, Any]


@dataclass(frozen=True)
class Session:
    """All of a reading.

    Parameters
    ----------
    layers : images and labels
    state : of the room, by part, as plain JSON values
    documents : written beside the layers: given a folder, writes files into it (in the worker)
    """

    layers: tuple[Kept, ...]
    state: Mapping[str, Any]
    documents: tuple[Callable[[Path], None], ...] = field(default=())

    def write(self, folder: Path) -> list[Path]:
        """Write it into ``folder``, whole or not at all, over an earlier reading that is there.

        Raises
        ------
        InputError
            When the folder cannot be written to.
        """
        with staged(folder) as temporary:
            progress = iter(steps(len(self.layers) + len(self.documents), "Saving"))
            for kept in self.layers:
                next(progress)
                write(temporary / kept.file, kept.values, kept.space)
                _write_json(sidecar_path(temporary / kept.file), kept.sidecar)
            for document in self.documents:
                next(progress)
                document(temporary)
            _write_json(temporary / DATASET, dataset_description(_TITLE, software_versions()))
            content = {"version": VERSION, "layers": [k.entry for k in self.layers], **self.state}
            _write_json(temporary / SESSION, content)
            names = sorted(file.name for file in temporary.iterdir())
        return [Path(folder) / name for name in names]


def gather(
    viewer: ViewerModel,
    layers: Iterable[Layer],
    state: Mapping[str, Any],
    subject: str = "scan",
    documents: Iterable[Callable[[Path], None]] = (),
) -> Session:
    """What is to be kept of a reading, taken out of the viewer.

    Parameters
    ----------
    layers : those that are kept; others than images, labels and shapes are left out
    state : of the room, as plain JSON values
    subject : its label in file names, letters and digits; no name of a patient
    """
    if not re.fullmatch(r"[A-Za-z0-9]+", subject):
        raise InputError(f"subject is {subject!r}; it must be letters and digits, as BIDS wants it")
    layers = list(layers)
    taken: set[str] = set()
    kept = [_keep(layer, subject, taken) for layer in layers if isinstance(layer, (Image, Labels))]
    shapes = [_shapes_entry(layer) for layer in layers if isinstance(layer, Shapes)]
    return Session(tuple(kept), {"shapes": shapes, "view": view_of(viewer), **state}, tuple(documents))


def _keep(layer: Layer, subject: str, taken: set[str]) -> Kept:
    known = metadata_of(layer)
    file = _file_name(layer, subject, taken)
    kind = Labels if isinstance(layer, Labels) else Image
    display = {name: getattr(layer, name) for name in _DISPLAY[kind]}
    features = layer.features.to_dict("list") if kind is Labels and not layer.features.empty else None
    if kind is Image:
        display["colormap"] = layer.colormap.name
    entry = {
        "file": file,
        "name": layer.name,
        "kind": kind.__name__.lower(),
        "quantity": known.get("quantity"),
        "unit": known.get("unit"),
        "acquisition": known.get("acquisition"),
        "b0_direction": known.get("b0_direction"),
        "orientation": known.get("orientation"),
        "record": known.get("record"),
        "own": {name: value for name, value in known.items() if name not in _TOLD},
        "features": features,
        "display": display,
        # A layer of another reader stands where that put it, and not where a file says.
        "place": None if own_space(layer) is not None else _place(layer),
    }
    values = array_in_file_axes(layer)
    # What the window changes while the worker writes is not to be half old and half new.
    values = values.copy() if kind is Labels else values
    return Kept(file, values, space_of(layer), description(layer), json.loads(_json(entry)))


def _file_name(layer: Layer, subject: str, taken: set[str]) -> str:
    quantity = str(metadata_of(layer).get("quantity") or "")
    told = {"desc": as_label(layer.name.title()) or "map"}
    if quantity.startswith("susceptibility"):
        suffix = SUSCEPTIBILITY
    elif quantity in QUANTITIES:
        told, suffix = QUANTITIES[quantity]
    else:
        suffix = "dseg" if isinstance(layer, Labels) else "image"
    for number in itertools.count(1):
        run = {"run": str(number)} if number > 1 else {}
        name = str(BidsName({"sub": subject, **run, **told}, suffix, ".nii.gz"))
        if name not in taken:
            taken.add(name)
            return name
    raise AssertionError


def _place(layer: Layer) -> dict[str, Any]:
    place = {name: getattr(layer, name) for name in _PLACE}
    place["affine"] = np.asarray(layer.affine)
    place["units"] = [str(unit) for unit in layer.units]
    return place


def _shapes_entry(layer: Shapes) -> dict[str, Any]:
    return {
        "name": layer.name,
        "data": layer.data,
        "shape_type": list(layer.shape_type),
        "metadata": {"metaqsm": dict(metadata_of(layer))} if metadata_of(layer) else {},
        **_place(layer),
    }


# ------------------------------------------------------------------------------------- reading
@dataclass(frozen=True)
class Opened:
    """A session as it was read.

    Parameters
    ----------
    layers : each with what can be set only once it is a layer
    state : of the room
    """

    layers: list[tuple[LayerDataTuple, Mapping[str, Any]]]
    state: Mapping[str, Any]

    def show(self, viewer: ViewerModel) -> None:
        """Put the layers into the viewer and stand where it stood.

        Raises
        ------
        InputError
            When one of them cannot be shown; then none is added.
        """
        try:
            made = [Layer.create(*settings) for settings, _ in self.layers]
            for layer, (_, later) in zip(made, self.layers, strict=True):
                for name, value in later.items():
                    setattr(layer, name, value)
        except MISWRITTEN as error:
            raise InputError(f"{SESSION} is not as it was written: {error}") from error
        for layer in made:
            viewer.add_layer(layer)
        show_view(viewer, self.state["view"])


def read_session(folder: Path) -> Opened:
    """Read what :meth:`Session.write` wrote.

    Raises
    ------
    InputError
        When it is no such folder, or a file of it is missing or cannot be read.
    """
    file, content = Path(folder) / SESSION, read_content(folder)
    try:
        entries = content.pop("layers")
        layers = [_opened(Path(folder), entries[n]) for n in steps(len(entries), "Opening")]
        layers += [(_opened_shapes(entry), {}) for entry in content.pop("shapes")]
        for name in view_of(ViewerModel()):
            np.asarray(content["view"][name], float)
    except InputError:
        raise
    except MISWRITTEN as error:
        raise InputError(f"{file} is not as it was written: {error!r}") from error
    return Opened(layers, content)


def _opened(folder: Path, entry: Mapping[str, Any]) -> tuple[LayerDataTuple, Mapping[str, Any]]:
    stored, space = read_entry(folder, entry)
    labels = entry["kind"] == "labels"
    about = (entry["quantity"] or "image", entry["name"], acquisition_of(entry), entry["record"], labels)
    values, settings, kind = layer_data(stored, space, *about, unit=entry["unit"])
    known = settings["metadata"]["metaqsm"]
    known["b0_direction"] = _tuple(entry["b0_direction"])
    if entry["place"] is not None:
        # Back to the axes that the layer had: of a file without a place of its own they are z, y, x.
        values = in_layer_axes(stored)
        known.update(space=None, orientation=entry["orientation"])
        settings = {**{n: v for n, v in settings.items() if n not in _PLACE}, **entry["place"]}
    if entry["quantity"] is None:  # of another reader: then this plugin knows only what it was told since
        known.clear()
        known.update({"record": entry["record"]} if entry["record"] else {})
    known.update(entry["own"])
    if not known:
        settings["metadata"] = {}
    if entry["features"]:
        settings["features"] = entry["features"]
    zero = next(iter(((entry["record"] or {}).get("reference") or {}).values()), None)
    if zero is not None:
        # Another zero is taken from the values as the method gave them.
        original = np.where(values != 0, values + np.float32(zero["mean_ppm"]), 0)
        known["unreferenced"] = original.astype(np.float32)
    values = values.astype(np.int32) if labels else values
    display = dict(entry["display"])
    later = {name: display.pop(name) for name in _LATER if name in display}
    return (values, {**settings, **display}, kind), later


def _opened_shapes(entry: Mapping[str, Any]) -> LayerDataTuple:
    settings = {name: value for name, value in entry.items() if name != "data"}
    return [np.asarray(each) for each in entry["data"]], settings, "shapes"


# -------------------------------------------------------------------------------------- the view
def view_of(viewer: ViewerModel) -> dict[str, Any]:
    """Where the viewer stands: slices, plane, camera; plain JSON values."""
    dims, camera = viewer.dims, viewer.scene.camera
    return {
        "order": list(dims.order),
        "point": list(dims.point),
        "ndisplay": dims.ndisplay,
        "center": list(camera.center),
        "zoom": camera.zoom,
        "angles": list(camera.angles),
    }


def show_view(viewer: ViewerModel, view: Mapping[str, Any]) -> None:
    """Stand where :func:`view_of` was taken; where the axes are others by now, only the camera moves."""
    if len(view["point"]) == viewer.dims.ndim:
        viewer.dims.ndisplay = view["ndisplay"]
        viewer.dims.order = tuple(view["order"])
        viewer.dims.point = tuple(view["point"])
    for name in ("angles", "center", "zoom"):
        value = view[name]
        setattr(viewer.scene.camera, name, tuple(value) if isinstance(value, list) else value)


def _tuple(values: Any) -> tuple[Any, ...] | None:
    return None if values is None else tuple(values)


def _json(content: Any) -> str:
    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value):
            return dataclasses.asdict(value)
        return value.tolist() if hasattr(value, "tolist") else str(value)

    return json.dumps(content, indent=2, ensure_ascii=False, default=plain)


def _write_json(path: Path, content: Any) -> None:
    path.write_text(_json(content) + "\n", encoding="utf-8")
