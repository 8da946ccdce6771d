"""Which Labels layer holds the regions, how a new one is begun, and every stroke in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Labels
from qtpy.QtCore import QSignalBlocker, Signal
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QPushButton, QWidget

from napari_metaqsm.plugin.editors import keep_wheel_for_scrolling
from napari_metaqsm.plugin.layer_choice import MASKS
from napari_metaqsm.plugin.layers import metadata_of, result_layer
from napari_metaqsm.plugin.reading.desk import Desk
from napari_metaqsm.reading.region_names import region_names

# As drawn here; a layer of another known quantity (a mask, a veil) is measured only where it is chosen.
REGIONS = "regions"


class RegionsChoice(QWidget):
    """A combo of the Labels layers on the maps' grid, and the two buttons that a drawing begins with.

    The newest layer is taken by itself until the reader chooses; masks can be chosen, and never are by
    themselves.
    """

    # Another layer, or the maps beneath it; strokes in it; the colours of its labels; their names.
    changed = Signal()
    drawn = Signal()
    recoloured = Signal()
    renamed = Signal()

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self.layer: Labels | None = None
        self._layers: list[Labels | None] = [None]
        self._chosen_by_user = False
        self._place: tuple[Any, ...] = ()
        self.combo = QComboBox()
        self.combo.setToolTip("The Labels layer whose regions are measured; it lies on the maps' grid")
        self.combo.setMinimumWidth(180)
        self.combo.setAccessibleName("regions")
        keep_wheel_for_scrolling(self.combo)
        self.new_region = QPushButton("New region")
        self.new_region.setToolTip("Take the brush and the next label: what is painted now is a new region")
        self.new_layer = QPushButton("New layer")
        self.new_layer.setToolTip("An empty Labels layer on the maps' grid, ready to be painted")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        for widget in (self.combo, self.new_region, self.new_layer):
            row.addWidget(widget)
        self.combo.activated.connect(self._on_chosen)
        self.new_region.clicked.connect(self.add_region)
        self.new_layer.clicked.connect(self.add_layer)
        desk.changed.connect(self._on_desk)
        desk.relisted.connect(self._on_list)
        self._on_desk()

    def choose(self, layer: Labels | None) -> None:
        """Take this layer, as if the reader had chosen it."""
        self._chosen_by_user = True
        self._follow(layer)
        self._fill()
        self.changed.emit()

    def add_layer(self) -> None:
        """Add an empty Labels layer on the maps' grid, choose it, and take the brush."""
        like = self._desk.maps[0]
        empty = np.zeros(like.data.shape, np.uint8)
        values, settings, _ = result_layer(empty, like, REGIONS, "Regions", labels=True, unit="")
        self.choose(self._desk.viewer.add_labels(values, **settings))
        self._paint(1)

    def add_region(self) -> None:
        """Take the brush and the label above all that are there; begin a layer where there is none."""
        if self.layer is None:
            self.add_layer()
        else:
            self._paint(int(np.max(self.layer.data)) + 1)

    def release(self) -> None:
        """Let go of the desk and of the layer."""
        self._desk.changed.disconnect(self._on_desk)
        self._desk.relisted.disconnect(self._on_list)
        self._follow(None)

    def _paint(self, label: int) -> None:
        viewer = self._desk.viewer
        viewer.dims.ndisplay = 2
        viewer.layers.selection.active = self.layer
        self.layer.visible = True
        self.layer.selected_label = label
        self.layer.mode = "paint"

    # -------------------------------------------------------------------------- which layer
    def _on_desk(self) -> None:
        self._read()
        self.changed.emit()

    def _on_list(self) -> None:
        before = self.layer
        self._read()
        if self.layer is not before:
            self.changed.emit()

    def _read(self) -> None:
        """Read the desk's layers anew."""
        found = self._desk.region_layers()
        layer = self.layer
        if layer is not None and layer not in found:
            layer, self._chosen_by_user = None, False
        if not self._chosen_by_user:
            drawn = [x for x in found if metadata_of(x).get("quantity") in (None, REGIONS)]
            layer = drawn[-1] if drawn else layer
        self._follow(layer)
        self._fill()

    def _fill(self) -> None:
        # Masks can be measured too, but are seldom meant: they stand last.
        found = sorted(self._desk.region_layers(), key=lambda x: metadata_of(x).get("quantity") in MASKS)
        self._layers = [None, *found]
        with QSignalBlocker(self.combo):
            self.combo.clear()
            self.combo.addItem("choose regions" if found else "no regions yet")
            self.combo.addItems([layer.name for layer in found])
            self.combo.setCurrentIndex(self._layers.index(self.layer))
        for button in (self.new_region, self.new_layer):
            button.setEnabled(bool(self._desk.maps))

    def _on_chosen(self, index: int) -> None:
        self.choose(self._layers[index])

    # ---------------------------------------------------------------------------- its strokes
    def _follow(self, layer: Labels | None) -> None:
        if layer is self.layer:
            return
        for old in filter(None, [self.layer]):
            for name, callback in self._heard().items():
                getattr(old.events, name).disconnect(callback)
        self.layer, self._place = layer, self._looked_at()
        for new in filter(None, [layer]):
            for name, callback in self._heard().items():
                getattr(new.events, name).connect(callback)

    def _heard(self) -> dict[str, Any]:
        return {
            "labels_update": self._on_drawn,
            "data": self._on_drawn,
            "set_data": self._on_set_data,
            "colormap": self._on_colours,
            "features": self._on_names,
            "name": self._on_names,  # it may say whose numbers the labels are
        }

    def _looked_at(self) -> tuple[Any, ...]:
        dims = self._desk.viewer.dims
        return dims.point, dims.order, dims.ndisplay

    def _on_drawn(self, event: Any = None) -> None:
        self.drawn.emit()

    def _on_set_data(self, event: Any = None) -> None:
        # Undo and redo tell of nothing else. So does another slice, where nothing was drawn.
        place = self._looked_at()
        if place == self._place:
            self.drawn.emit()
        self._place = place

    def _on_colours(self, event: Any = None) -> None:
        self.recoloured.emit()

    def _on_names(self, event: Any = None) -> None:
        self.renamed.emit()


def names_of(layer: Labels) -> dict[int, str]:
    """Names of a layer's labels: as typed, else from its features, else FreeSurfer's where it says so.

    Typed names are in ``metadata["metaqsm"]["names"]``; features have the columns "index" and "name". A
    layer says that its numbers are FreeSurfer's by ``metadata["metaqsm"]["numbering"]``, or by the name of
    its file or its own, as in "aparc+aseg.mgz".
    """
    known, features = metadata_of(layer), layer.features
    called = f"{known.get('numbering', '')} {layer.name} {Path(layer.source.path or '').name}"
    is_listed = {"index", "name"} <= set(features.columns)
    listed = zip(features["index"], features["name"], strict=True) if is_listed else ()
    return region_names(called, listed, known.get("names"))


def name_region(layer: Labels, label: int, name: str) -> None:
    """Keep a name that was typed; an empty one gives the label its former name back."""
    known = layer.metadata.setdefault("metaqsm", {})
    known.setdefault("quantity", REGIONS)  # by its quantity a layer is known again when a reading is opened
    # From a file they come with text for numbers.
    earlier = {int(number): text for number, text in known.get("names", {}).items()}
    known["names"] = {**earlier, label: name}
