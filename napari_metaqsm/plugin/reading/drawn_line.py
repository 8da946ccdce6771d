"""The line that is drawn over the maps, for a profile along it."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Shapes
from qtpy.QtCore import QObject, Signal

from napari_metaqsm.plugin.layers import metadata_of
from napari_metaqsm.plugin.reading.desk import Desk

PROFILE_LINE = "profile_line"
_NAME = "Profile line"
_COLOUR = "#ffd60a"
_KINDS = ("line", "path")
_HEARD = ("data", "set_data", "highlight")


class DrawnLine(QObject):
    """Follows every line in the viewer's Shapes layers, also while it is being drawn or moved.

    Of several lines the selected one counts, else the last one of the newest layer that has any.
    """

    changed = Signal()

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self._followed: list[Shapes] = []
        self._points: np.ndarray | None = None
        for signal in (desk.changed, desk.relisted):
            signal.connect(self._on_desk)
        self._on_desk()

    @property
    def points(self) -> np.ndarray | None:
        """(points, 3), in voxels of the maps; None where no line is drawn."""
        return self._points

    def draw(self) -> Shapes:
        """Take the pen that draws a line: press, drag, let go."""
        viewer = self._desk.viewer
        layer = next((x for x in self._followed if _is_ours(x)), None)
        if layer is None:
            like = self._desk.maps[0]
            layer = viewer.add_shapes(
                None,
                ndim=3,
                name=_NAME,
                scale=like.scale,
                translate=like.translate,
                rotate=like.rotate,
                shear=like.shear,
                affine=like.affine,
                units=like.units,
                axis_labels=like.axis_labels,
                edge_color=_COLOUR,
                edge_width=1,
                metadata={"metaqsm": {**metadata_of(like), "quantity": PROFILE_LINE, "record": None}},
            )
        viewer.dims.ndisplay = 2
        layer.visible = True
        viewer.layers.selection.active = layer
        layer.mode = "add_line"
        return layer

    def release(self) -> None:
        """Let go of the desk and the layers."""
        for signal in (self._desk.changed, self._desk.relisted):
            signal.disconnect(self._on_desk)
        self._follow([])

    def _on_desk(self) -> None:
        self._follow([x for x in self._desk.viewer.layers if isinstance(x, Shapes) and x.ndim >= 3])
        self._on_shapes()

    def _follow(self, layers: list[Shapes]) -> None:
        for layer in self._followed:
            if layer not in layers:
                for name in _HEARD:
                    getattr(layer.events, name).disconnect(self._on_shapes)
        for layer in layers:
            if layer not in self._followed:
                for name in _HEARD:
                    getattr(layer.events, name).connect(self._on_shapes)
        self._followed = layers

    def _on_shapes(self, event: Any = None) -> None:
        points = self._read()
        if not _same(points, self._points):
            self._points = points
            self.changed.emit()

    def _read(self) -> np.ndarray | None:
        if not self._desk.maps:
            return None
        for layer in reversed(self._followed):
            lines = [n for n, kind in enumerate(layer.shape_type) if kind in _KINDS]
            if lines:
                selected = [n for n in lines if n in layer.selected_data]
                corners = layer.data[(selected or lines)[-1]]
                world = [layer.data_to_world(corner)[-3:] for corner in corners]
                return np.array([self._desk.maps[0].world_to_data(place)[-3:] for place in world])
        return None


def _is_ours(layer: Shapes) -> bool:
    return metadata_of(layer).get("quantity") == PROFILE_LINE


def _same(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    return a is b if a is None or b is None else np.array_equal(a, b)
