"""Susceptibility maps side by side: one gray window, one slice, one camera, letters, bars.

:func:`compare` turns the viewer into the comparison and :meth:`Comparison.close` turns it back.
It uses napari's own grid, so that every map keeps its layer controls.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.components.overlays import TextOverlay
from napari.layers import Image, Layer

from napari_metaqsm.errors import InputError
from napari_metaqsm.plugin.layers import geometry_of, metadata_of

# The window in which susceptibility maps are read, on every panel alike.
DEFAULT_WINDOW_PPM = 0.1
# Anatomical directions that an array axis can run along, by plane: through it, down, to the right.
PLANES = {"axial": ("IS", "AP", "LR"), "sagittal": ("LR", "IS", "AP"), "coronal": ("AP", "IS", "LR")}
OPPOSITE = dict(zip("RLAPIS", "LRPASI", strict=True))
# Where the letters stand; the map's name is above the upper one.
EDGES = {
    "left": "middle_left",
    "right": "middle_right",
    "top": "top_center",
    "bottom": "bottom_center",
}
# Narrow and short: it lies over the map.
COLOUR_BAR_PIXELS = (10, 60)
SCALE_BARS_MM = (1, 2, 5, 10, 20, 50, 100)
# Of each cell, in pixels, for name, letters and bars: top, bottom, each side.
_TOP, _BOTTOM, _SIDE = 75, 40, 32
_LINKED = ("contrast_limits", "gamma", "colormap")
# The comparisons on screen. napari's events alone would not keep one alive.
_open: list[Comparison] = []


def compare(
    viewer: ViewerModel,
    layers: Sequence[Image],
    window_ppm: float = DEFAULT_WINDOW_PPM,
    on_closed: Callable[[], None] = lambda: None,
) -> Comparison:
    """Show ``layers`` side by side in the viewer's grid, in the order given, and nothing else.

    Parameters
    ----------
    window_ppm : the maps are shown from minus this to this
    on_closed : called once when the comparison has ended, also when the last map was deleted

    Raises
    ------
    InputError
        When there is no map or they are not on one grid.
    """
    for earlier in [c for c in _open if c.viewer == viewer]:
        earlier.close()
    return Comparison(viewer, layers, window_ppm, on_closed)


class Comparison:
    """A comparison that is on screen; ends with :meth:`close`."""

    def __init__(
        self,
        viewer: ViewerModel,
        layers: Sequence[Image],
        window_ppm: float,
        on_closed: Callable[[], None],
    ) -> None:
        self.layers = list(layers)
        self.viewer = viewer
        self._on_closed = on_closed
        _check(self.layers)
        self._saved = _save(viewer)
        self._orientation = orientation_of(self.layers[0])
        _open.append(self)
        self._arrange()
        self._decorate()
        self.window_ppm = window_ppm
        viewer.layers.link_layers(self.layers, _LINKED)
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.dims.events.order.connect(self._update_letters)
        viewer.dims.events.ndisplay.connect(self._update_letters)
        viewer.scene.camera.events.orientation.connect(self._update_letters)
        viewer.dims.ndisplay = 2
        self._go_to_the_brain()
        self.show_plane("axial")

    # ------------------------------------------------------------------------ while it is open
    @property
    def is_open(self) -> bool:
        """Whether the viewer still shows the comparison."""
        return self in _open

    @property
    def window_ppm(self) -> float:
        """Half width of the gray window that all maps share, in ppm."""
        return self._window_ppm

    @window_ppm.setter
    def window_ppm(self, value: float) -> None:
        if not (math.isfinite(value) and value > 0):
            raise InputError(f"window_ppm is {value}; it must be greater than 0")
        self._window_ppm = value
        for layer in self.layers:
            layer.contrast_limits_range = (-10 * value, 10 * value)
            layer.contrast_limits = (-value, value)

    @property
    def planes(self) -> tuple[str, ...]:
        """The planes that can be shown: none where the maps' orientation is unknown or oddly turned."""
        return tuple(PLANES) if self._orientation else ()

    def show_plane(self, plane: str) -> None:
        """Show all maps in the axial, sagittal or coronal plane, fitted to their cells."""
        dims = self.viewer.dims
        if self._orientation:
            first = dims.ndim - 3
            axes = [_axis_along(pair, self._orientation) for pair in PLANES[plane]]
            dims.order = (*range(first), *(first + axis for axis in axes))
        self._fit()
        self._update_letters()

    def close(self) -> None:
        """Give the viewer back as it was: grid, order, overlays, visibility, contrast, planes, camera."""
        if not self.is_open:
            return
        _open.remove(self)
        viewer = self.viewer
        viewer.layers.events.removed.disconnect(self._on_removed)
        viewer.dims.events.order.disconnect(self._update_letters)
        viewer.dims.events.ndisplay.disconnect(self._update_letters)
        viewer.scene.camera.events.orientation.disconnect(self._update_letters)
        if self.layers:
            viewer.layers.unlink_layers(self.layers, _LINKED)
        for edge in (*EDGES, "unit"):
            viewer.canvas.overlays.pop(_key(edge))
        _restore(viewer, self._saved)
        self._on_closed()

    # ------------------------------------------------------------------------------- its parts
    def _arrange(self) -> None:
        viewer = self.viewer
        for layer in viewer.layers:
            layer.visible = layer in self.layers
        others = [layer for layer in viewer.layers if layer not in self.layers]
        _put_in_order(viewer, [*self.layers, *others])
        grid = viewer.canvas.grid
        # Rows stay automatic, so that a layer made visible meanwhile gets a cell of its own.
        grid.shape = (-1, self._columns())
        grid.stride = 1
        grid.spacing = 4
        grid.enabled = True

    def _columns(self) -> int:
        """Two side by side, and more as the canvas shows them largest."""
        count = len(self.layers)
        canvas = np.asarray(self.viewer.canvas.size)
        low, high = _box(self.layers[0])

        def magnification(columns: int) -> float:
            return _magnification(canvas / (math.ceil(count / columns), columns), (high - low)[-2:])

        return max(range(min(2, count), count + 1), key=magnification)

    def _decorate(self) -> None:
        viewer = self.viewer
        for layer in self.layers:
            layer.colormap = "gray"
            layer.gamma = 1.0
            layer.colorbar.size = COLOUR_BAR_PIXELS
            layer.colorbar.position = "bottom_left"
            layer.colorbar.visible = True
            layer.name_overlay.position = "top_center"
            layer.name_overlay.visible = True
        overlays = viewer.canvas.overlays
        overlays.scale_bar.visible = True
        overlays.scale_bar.gridded = True
        overlays.scale_bar.length = _scale_bar_mm(self.layers[0])
        viewer.canvas.overlay_tiling.bottom_left = "vertical"
        for edge, position in EDGES.items():
            overlays[_key(edge)] = TextOverlay(position=position, gridded=True, font_size=12)
        overlays[_key("unit")] = TextOverlay(text="ppm", position="bottom_left", gridded=True, visible=True)

    def _go_to_the_brain(self) -> None:
        """Stay at the point that was looked at, unless it is outside the maps."""
        dims = self.viewer.dims
        for axis, (low, high) in enumerate(zip(*_box(self.layers[0]), strict=True), start=dims.ndim - 3):
            if not low <= dims.point[axis] <= high:
                dims.set_point(axis, (low + high) / 2)

    def _fit(self) -> None:
        """Show the brain as large as a cell allows."""
        viewer = self.viewer
        shown = [axis - (viewer.dims.ndim - 3) for axis in viewer.dims.order[-2:]]
        low, high = (corner[shown] for corner in _box(self.layers[0]))
        cell = np.asarray(viewer.canvas.viewbox_size(viewer.layers))
        camera = viewer.scene.camera
        camera.zoom = _magnification(cell, high - low)
        row, column = (low + high) / 2
        camera.center = (0, row - (_TOP - _BOTTOM) / 2 / camera.zoom, column)

    def _update_letters(self, event: Any = None) -> None:
        viewer = self.viewer
        letters = dict.fromkeys(EDGES, "")
        if self._orientation and viewer.dims.ndisplay == 2:
            letters = edge_letters(
                self._orientation, viewer.dims.order, viewer.scene.camera.orientation2d, viewer.dims.ndim
            )
        for edge, letter in letters.items():
            overlay = viewer.canvas.overlays[_key(edge)]
            overlay.text = letter
            overlay.visible = bool(letter)

    def _on_removed(self, event: Any) -> None:
        if event.value not in self.layers:
            return
        self.layers.remove(event.value)
        self.viewer.layers.unlink_layers([event.value], _LINKED)
        if not self.layers:
            self.close()


# ----------------------------------------------------------------------------------- anatomy
def orientation_of(layer: Layer) -> str | None:
    """Where the layer's three spatial axes point in the patient, as in "IPL"; None if unknown."""
    return metadata_of(layer).get("orientation")


def edge_letters(
    orientation: str, order: Sequence[int], camera_orientation: tuple[Any, Any], ndim: int
) -> dict[str, str]:
    """The letter at each edge of a 2-D view, "" where an edge shows no direction of the body.

    Parameters
    ----------
    orientation : of the last three axes
    order : the viewer's ``dims.order``
    camera_orientation : ("down" or "up", "right" or "left"): where the axes grow on screen
    """
    codes = [""] * (ndim - 3) + list(orientation)
    down, right = (codes[axis] for axis in order[-2:])
    vertical, horizontal = (str(getattr(side, "value", side)) for side in camera_orientation)
    if vertical == "up":
        down = OPPOSITE.get(down, "")
    if horizontal == "left":
        right = OPPOSITE.get(right, "")
    return {"left": OPPOSITE.get(right, ""), "right": right, "top": OPPOSITE.get(down, ""), "bottom": down}


def _axis_along(pair: str, orientation: str) -> int:
    return next(axis for axis, code in enumerate(orientation) if code in pair)


# ---------------------------------------------------------------------------- save and restore
def _check(layers: Sequence[Image]) -> None:
    if not layers:
        raise InputError("no map is chosen; choose at least one to look at")
    first = layers[0]
    for layer in layers[1:]:
        if layer.data.shape != first.data.shape:
            raise InputError(
                f"{layer.name} is {layer.data.shape} voxels, but {first.name} is {first.data.shape}; "
                "maps that are compared must lie on one grid"
            )


def _box(layer: Image) -> tuple[np.ndarray, np.ndarray]:
    """The two world corners of what is not zero in a map; of all of it where it is zero throughout."""
    inside = np.asarray(layer.data) != 0
    corners = []
    for axis in range(3):
        where = np.flatnonzero(inside.any(axis=tuple(a for a in range(3) if a != axis)))
        first, last = (where[0], where[-1]) if where.size else (0, inside.shape[axis] - 1)
        corners.append((first - 0.5, last + 0.5))
    ends = [np.asarray(layer.data_to_world(corner)) for corner in zip(*corners, strict=True)]
    return np.minimum(*ends), np.maximum(*ends)


def _magnification(cell: np.ndarray, size: np.ndarray) -> float:
    """Pixels per world unit at which ``size`` (height, width) fills what a cell leaves for the map."""
    room = np.maximum(cell - (_TOP + _BOTTOM, 2 * _SIDE), cell / 2)
    return float(np.min(room / size))


def _scale_bar_mm(layer: Image) -> float:
    """The longest bar that is at most a third of the field of view."""
    geometry = geometry_of(layer)
    longest = max(np.multiply(geometry.shape, geometry.voxel_size_mm))
    return max([mm for mm in SCALE_BARS_MM if mm <= longest / 3], default=SCALE_BARS_MM[0])


def _key(name: str) -> str:
    return f"metaqsm_{name}"


_LAYER_STATE = ("visible", "colormap", "gamma", "contrast_limits_range", "contrast_limits")


def _save(viewer: ViewerModel) -> dict[str, Any]:
    grid, camera, bar = viewer.canvas.grid, viewer.scene.camera, viewer.canvas.overlays.scale_bar
    return {
        "order": list(viewer.layers),
        "layers": [_save_layer(layer) for layer in viewer.layers],
        "grid": {name: getattr(grid, name) for name in ("shape", "stride", "spacing", "enabled")},
        "scale_bar": {name: getattr(bar, name) for name in ("visible", "gridded", "length")},
        "tiling": {"bottom_left": viewer.canvas.overlay_tiling.bottom_left},
        "dims": {name: getattr(viewer.dims, name) for name in ("ndisplay", "order", "point")},
        "camera": {name: getattr(camera, name) for name in ("angles", "center", "zoom")},
    }


def _save_layer(layer: Layer) -> dict[str, Any]:
    if not isinstance(layer, Image):
        return {"visible": layer.visible}
    state = {name: getattr(layer, name) for name in _LAYER_STATE}
    for name in ("visible", "position"):
        state[f"name_overlay.{name}"] = getattr(layer.name_overlay, name)
    for name in ("visible", "position", "size"):
        state[f"colorbar.{name}"] = getattr(layer.colorbar, name)
    return state


def _restore(viewer: ViewerModel, saved: dict[str, Any]) -> None:
    still_there = [layer for layer in saved["order"] if layer in viewer.layers]
    added = [layer for layer in viewer.layers if layer not in still_there]
    _put_in_order(viewer, [*still_there, *added])
    for layer, state in zip(saved["order"], saved["layers"], strict=True):
        for name, value in state.items():
            overlay, _, attribute = name.rpartition(".")
            setattr(getattr(layer, overlay) if overlay else layer, attribute, value)
    for target, part in (
        (viewer.canvas.grid, "grid"),
        (viewer.canvas.overlays.scale_bar, "scale_bar"),
        (viewer.canvas.overlay_tiling, "tiling"),
        (viewer.dims, "dims"),
        (viewer.scene.camera, "camera"),  # last: a new order of axes fits the camera anew
    ):
        for name, value in saved[part].items():
            # Layers may have come or gone: then the axes are others and stay as they are.
            if part != "dims" or name == "ndisplay" or len(value) == viewer.dims.ndim:
                setattr(target, name, value)


def _put_in_order(viewer: ViewerModel, layers: Sequence[Layer]) -> None:
    for index, layer in enumerate(layers):
        now = viewer.layers.index(layer)
        if now != index:
            viewer.layers.move(now, index)
