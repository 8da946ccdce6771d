"""How a viewer was before the comparison took it over, and giving it back so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from napari.components import ViewerModel
from napari.layers import Image, Layer

_LAYER = ("visible", "colormap", "gamma", "contrast_limits_range", "contrast_limits", "projection_mode")
_OVERLAYS = {"name_overlay": ("visible", "position"), "colorbar": ("visible", "position", "size", "box")}
_DIMS = ("ndisplay", "order", "margin_left", "margin_right", "point")


def save(viewer: ViewerModel) -> dict[str, Any]:
    """What :func:`restore` needs."""
    grid, camera, bar = viewer.canvas.grid, viewer.scene.camera, viewer.canvas.overlays.scale_bar
    return {
        "order": list(viewer.layers),
        "selected": set(viewer.layers.selection),
        "layers": [_save_layer(layer) for layer in viewer.layers],
        "canvas": {"background_color_override": viewer.canvas.background_color_override},
        "grid": {name: getattr(grid, name) for name in ("shape", "stride", "spacing", "enabled")},
        "scale_bar": {name: getattr(bar, name) for name in ("visible", "gridded", "length")},
        "dims": {name: getattr(viewer.dims, name) for name in _DIMS},
        "camera": {name: getattr(camera, name) for name in ("angles", "center", "zoom")},
    }


def restore(viewer: ViewerModel, saved: dict[str, Any]) -> None:
    """Give the viewer back; layers that have come meanwhile stand last, those that have gone stay away."""
    still_there = [layer for layer in saved["order"] if layer in viewer.layers]
    added = [layer for layer in viewer.layers if layer not in still_there]
    put_in_order(viewer, [*still_there, *added])
    for layer, state in zip(saved["order"], saved["layers"], strict=True):
        for name, value in state.items():
            overlay, _, attribute = name.rpartition(".")
            setattr(getattr(layer, overlay) if overlay else layer, attribute, value)
    select(viewer, saved["selected"])
    for target, part in (
        (viewer.canvas, "canvas"),
        (viewer.canvas.grid, "grid"),
        (viewer.canvas.overlays.scale_bar, "scale_bar"),
        (viewer.dims, "dims"),
        (viewer.scene.camera, "camera"),  # last: a new order of axes fits the camera anew
    ):
        for name, value in saved[part].items():
            # Layers may have come or gone: then the axes are others and stay as they are.
            if part != "dims" or name == "ndisplay" or len(value) == viewer.dims.ndim:
                setattr(target, name, value)


def put_in_order(viewer: ViewerModel, layers: Sequence[Layer]) -> None:
    """Move these layers to the front of the list, in their order."""
    for index, layer in enumerate(layers):
        now = viewer.layers.index(layer)
        if now != index:
            viewer.layers.move(now, index)


def select(viewer: ViewerModel, layers: set[Layer]) -> None:
    """Select these layers, as far as they are there, and no others."""
    wanted = {layer for layer in layers if layer in viewer.layers}
    if set(viewer.layers.selection) != wanted:
        viewer.layers.selection.clear()
        viewer.layers.selection.update(wanted)


def _save_layer(layer: Layer) -> dict[str, Any]:
    if not isinstance(layer, Image):
        return {"visible": layer.visible}
    state = {name: getattr(layer, name) for name in _LAYER}
    for overlay, names in _OVERLAYS.items():
        for name in names:
            state[f"{overlay}.{name}"] = getattr(getattr(layer, overlay), name)
    return state
