"""What the reader drew, shown in every cell of a comparison: regions, spots, a veil, a line.

napari's grid gives every visible layer a cell of its own. So these layers are hidden while a comparison is
open, and drawn with the marks of the cells. napari paints visible layers only: the one that is being drawn
in, the *pen*, is shown in the first cell, and drawn in all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from napari.components import ViewerModel
from napari.layers import Labels, Layer, Shapes
from napari.utils.colormaps import Colormap

from napari_metaqsm.plugin.layer_choice import MASKS
from napari_metaqsm.plugin.layers import metadata_of
from napari_metaqsm.plugin.reading import marks
from napari_metaqsm.plugin.reading.planes import Axes, Frame

# Colours of one comparison beyond those of the marks; more labels share them.
_MOST_COLOURS = 120
_FEW_LABELS = 2**16
# In a layer's metadata: that it is drawn over the maps, and hidden for it.
_FLAG = "drawn_over"
_STROKES = ("labels_update", "data", "set_data", "colormap", "contour", "opacity")
# By quantity: over the map as a whole, or its edges alone, whatever its eye said before.
_FILLED, _OUTLINED = ("unreliable",), ("spots",)


class Stroke(NamedTuple):
    """One layer in one plane.

    Parameters
    ----------
    colours : (down, right) uint8, places in the palette, 0 where nothing is drawn
    is_filled : whether it lies over the map as a whole, or its edges alone do
    """

    colours: np.ndarray
    is_filled: bool


class DrawnOver:
    """The layers that are drawn over the cells, and the palette that they are drawn with.

    Parameters
    ----------
    changed : called when something of them is to be drawn anew; True where the palette is another too
    pen_changed : called when another layer, or none, is drawn in
    is_busy : whether the comparison itself is changing the viewer
    """

    def __init__(
        self,
        viewer: ViewerModel,
        frame: Frame,
        changed: Callable[[bool], None],
        pen_changed: Callable[[], None],
        is_busy: Callable[[], bool],
    ) -> None:
        self.pen: Layer | None = None
        self._viewer, self._frame = viewer, frame
        self._changed, self._pen_changed, self._is_busy = changed, pen_changed, is_busy
        self._followed: list[Layer] = []
        self._slots: dict[tuple[str, int], int] = {}
        self._colours: list[Any] = []
        for layer in viewer.layers:
            self._follow(layer)
            if layer in self._followed:
                layer.visible = False
        for emitter, heard in self._list_events():
            emitter.connect(heard)

    def _list_events(self) -> list[tuple[Any, Callable[[Any], None]]]:
        layers = self._viewer.layers
        return [
            (layers.events.inserted, self._on_inserted),
            (layers.events.removed, self._on_removed),
            (layers.selection.events.active, self._on_active),
        ]

    def release(self) -> None:
        """Give the layers back, visible where they were drawn."""
        for emitter, heard in self._list_events():
            emitter.disconnect(heard)
        for layer in list(self._followed):
            drawn = self._is_drawn(layer)
            self._let_go(layer)
            layer.visible = drawn

    # -------------------------------------------------------------------------------- drawing
    @property
    def palette(self) -> Colormap:
        """The marks' own colours, then those of the labels in the order in which they were met."""
        spare = _MOST_COLOURS - len(self._colours)
        colours = [*marks.PALETTE.colors, *self._colours, *[(0, 0, 0, 0)] * spare]
        return Colormap(colours, name="marks", interpolation="linear")

    def strokes(self, axes: Axes, index: int) -> list[Stroke]:
        """What is drawn in one plane, the last layer on top."""
        found = []
        for layer in self._viewer.layers:
            if layer in self._followed and self._is_drawn(layer) and isinstance(layer, Labels):
                plane = np.asarray(layer.data[(slice(None),) * axes.through + (index,)])
                plane = plane.T if axes.down > axes.right else plane
                if plane.any():
                    filled = layer.contour == 0 and metadata_of(layer).get("quantity") in _FILLED
                    found.append(Stroke(self._coloured(layer, plane), filled))
        return found

    def lines(self, axes: Axes, index: int) -> list[np.ndarray]:
        """(points, 2) voxels down and to the right of every line that is drawn in one plane."""
        found = []
        for layer in self._viewer.layers:
            if layer in self._followed and self._is_drawn(layer) and isinstance(layer, Shapes):
                for shape in layer.data:
                    world = np.array([layer.data_to_world(point)[-3:] for point in shape])
                    voxels = (world - self._frame.origin) / self._frame.steps
                    if np.abs(voxels[:, axes.through] - index).min() <= 0.5:
                        found.append(voxels[:, [axes.down, axes.right]])
        return found

    def _coloured(self, layer: Labels, plane: np.ndarray) -> np.ndarray:
        low, high = int(plane.min()), int(plane.max())
        if low >= 0 and high < _FEW_LABELS:  # counted faster than sorted
            table = np.zeros(high + 1, np.uint8)
            for label in np.flatnonzero(np.bincount(plane.ravel())):
                table[label] = self._place(layer, int(label)) if label else 0
            return table[plane]
        labels, inverse = np.unique(plane, return_inverse=True)
        places = np.array([self._place(layer, int(label)) if label else 0 for label in labels], np.uint8)
        return places[inverse].reshape(plane.shape)

    def _place(self, layer: Labels, label: int) -> int:
        key = (layer.unique_id, label)
        if key not in self._slots:
            number = len(self._slots) % _MOST_COLOURS
            self._slots[key] = number
            if number == len(self._colours):
                self._colours.append(_seen(layer, label))
            self._changed(True)
        return len(marks.PALETTE.colors) + self._slots[key]

    # ------------------------------------------------------------------------------ its layers
    def _can_be_drawn(self, layer: Layer) -> bool:
        if isinstance(layer, Shapes):
            return layer.ndim == 3
        known = metadata_of(layer).get("quantity")
        return (
            isinstance(layer, Labels)
            and known not in (*MASKS, "region")
            and getattr(layer.data, "shape", None) == self._frame.shape
        )

    @staticmethod
    def _is_drawn(layer: Layer) -> bool:
        return bool(metadata_of(layer).get(_FLAG))

    def _follow(self, layer: Layer) -> None:
        if not self._can_be_drawn(layer) or layer in self._followed:
            return
        known = layer.metadata.setdefault("metaqsm", {})
        # What only the reading room shows hides by itself while maps are compared.
        known[_FLAG] = known.get(_FLAG) or layer.visible or known.get("quantity") in _FILLED + _OUTLINED
        self._followed.append(layer)
        for event in self._events(layer):
            event.connect(self._on_strokes)
        layer.events.visible.connect(self._on_eye)

    def _let_go(self, layer: Layer) -> None:
        self._followed.remove(layer)
        metadata_of(layer).pop(_FLAG, None)
        for event in self._events(layer):
            event.disconnect(self._on_strokes)
        layer.events.visible.disconnect(self._on_eye)

    @staticmethod
    def _events(layer: Layer) -> list[Any]:
        names = _STROKES if isinstance(layer, Labels) else ("data", "set_data")
        return [getattr(layer.events, name) for name in names]

    def _on_inserted(self, event: Any) -> None:
        self._follow(event.value)
        if event.value in self._followed:
            self._take_up(event.value if event.value.visible else self.pen)
            self._changed(False)

    def _on_removed(self, event: Any) -> None:
        if event.value in self._followed:
            self._let_go(event.value)
            if event.value == self.pen:
                self.pen = None
                self._pen_changed()
            self._changed(False)

    def _on_strokes(self, event: Any) -> None:
        recoloured = event.type in ("colormap", "opacity")
        if recoloured:
            self._slots.clear()
            self._colours.clear()
        self._changed(recoloured)

    def _on_eye(self, event: Any) -> None:
        """The reader opened an eye, to draw in that layer, or closed one, not to see it any more."""
        if self._is_busy():
            return
        layer = event.source
        layer.metadata["metaqsm"][_FLAG] = layer.visible
        self._take_up(layer if layer.visible else None)
        self._changed(False)

    def _on_active(self, event: Any) -> None:
        """Another layer was selected: what was drawn in so far is put away, and stays drawn."""
        if self.pen is not None and event.value != self.pen and not self._is_busy():
            self._take_up(None)

    def _take_up(self, pen: Layer | None) -> None:
        if pen != self.pen:
            self.pen = pen
            self._pen_changed()


def _seen(layer: Labels, label: int) -> tuple[float, ...]:
    """The colour of a label, as strong as it must be to be seen over gray."""
    colour = layer.get_color(label)
    if colour is None:
        return (0.0, 0.0, 0.0, 0.0)
    red, green, blue = (float(c) for c in colour[:3])
    filled = metadata_of(layer).get("quantity") in _FILLED
    return (red, green, blue, float(layer.opacity) if filled else 1.0)
