"""Where the maps are not to be trusted, over the maps: as a veil or an outline."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Labels
from napari.utils.colormaps import DirectLabelColormap
from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_metaqsm.errors import InputError
from napari_metaqsm.plugin.editors import keep_wheel_for_scrolling
from napari_metaqsm.plugin.layers import metadata_of, result_layer
from napari_metaqsm.plugin.reading.cells import VIEW
from napari_metaqsm.plugin.reading.desk import Desk
from napari_metaqsm.plugin.reading.latest import Latest
from napari_metaqsm.plugin.section import in_words
from napari_metaqsm.reading.reliability import Reliability, reliability

QUANTITY, NAME = "unreliable", "unreliable voxels"
HIDDEN, VEIL, OUTLINE = "not shown", "veil", "outline"
_COLOUR = (0.94, 0.89, 0.26, 1.0)
_OPACITY = {VEIL: 0.35, OUTLINE: 0.9}
# From a change on the desk to computing: of several changes in a row, the last counts.
QUIET_MS = 400


class VeilControl(QWidget):
    """How the unreliable voxels are shown, and how many they are and why.

    ``reliability`` is computed in a worker whenever the maps change, shown or not, so that tables can flag
    what lies there; ``changed`` tells of it.
    """

    changed = Signal()

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self.desk = desk
        self.reliability: Reliability | None = None
        self._layer: Labels | None = None
        self._released = False
        self._hidden = False
        self._latest = Latest(self._on_found, self._say)
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(QUIET_MS)
        self._soon.timeout.connect(self._measure)
        self.how = QComboBox()
        self.how.addItems([HIDDEN, VEIL, OUTLINE])
        self.how.setAccessibleName("unreliable voxels")
        self.how.setToolTip("Show over the maps where they are not to be trusted")
        keep_wheel_for_scrolling(self.how)
        self.status = QLabel()
        self.status.setWordWrap(True)
        self.status.setTextFormat(Qt.TextFormat.PlainText)
        row = QHBoxLayout()
        row.addWidget(QLabel("Unreliable voxels"))
        row.addWidget(self.how, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        layout.addLayout(row)
        layout.addWidget(self.status)
        self.how.currentIndexChanged.connect(self._show)
        desk.changed.connect(self._on_desk)
        for event in self._events():
            event.connect(self._on_layers)
        self._on_layers()
        self._on_desk()

    @property
    def unreliable(self) -> np.ndarray | None:
        """(i, j, k) bool on the maps' grid; None where nothing is known yet."""
        return None if self.reliability is None else self.reliability.unreliable

    @property
    def is_measuring(self) -> bool:
        """Whether the reliability is being computed, or about to be."""
        return self._latest.is_busy or self._soon.isActive()

    # -------------------------------------------------------------------------- its figures
    def _on_desk(self) -> None:
        if self.desk.maps:
            self._soon.start()
            return
        self._soon.stop()
        self._latest.stop()
        self._take(None)
        self._say("")

    def _measure(self) -> None:
        try:
            self._latest.ask(reliability, self.desk.study())
        except InputError as error:
            self._say(str(error))

    def _on_found(self, found: Reliability) -> None:
        if not self.desk.maps or found.score.shape != self.desk.maps[0].data.shape:
            return
        self._take(found)
        parts = [f"•  {100 * part.share:.1f} %: {part.words}" for part in found.parts.values() if part.share]
        text = f"{100 * found.share:.1f} % of the voxels are unreliable" + (":" if parts else "")
        self._say("\n".join([text, *parts, *map(in_words, found.missing)]))

    def _take(self, found: Reliability | None) -> None:
        self.reliability = found
        self._show()
        self.changed.emit()

    def _say(self, text: str) -> None:
        self.status.setText(in_words(text))
        self.status.setVisible(bool(text))

    # ---------------------------------------------------------------------------- its layer
    def _show(self) -> None:
        how, found, viewer = self.how.currentText(), self.reliability, self.desk.viewer
        if how == HIDDEN or found is None:
            self._remove()
            return
        if self._layer is not None and self._layer in viewer.layers:
            if self._layer.data.shape == found.unreliable.shape:
                self._layer.data = found.unreliable.view(np.uint8)
            else:
                self._remove()
        if self._layer is None or self._layer not in viewer.layers:
            layers = viewer.layers
            chosen, active = set(layers.selection), layers.selection.active
            like = self.desk.maps[0]
            values = found.unreliable.view(np.uint8)
            _, settings, _ = result_layer(values, like, QUANTITY, NAME, labels=True, unit="")
            colours: dict[int | None, Any] = {1: _COLOUR, None: (0, 0, 0, 0)}
            self._layer = Labels(values, **settings, colormap=DirectLabelColormap(color_dict=colours))
            self._layer.editable = False
            self._layer.visible = not self._hidden
            viewer.add_layer(self._layer)
            layers.selection = chosen  # what was painted in stays chosen
            layers.selection.active = active
        self._layer.contour = int(how == OUTLINE)
        self._layer.opacity = _OPACITY[how]
        self._on_layers()

    def _remove(self) -> None:
        if self._layer is not None and self._layer in self.desk.viewer.layers:
            self.desk.viewer.layers.remove(self._layer)
        self._layer = None

    def _events(self) -> tuple[Any, Any]:
        events = self.desk.viewer.layers.events
        return events.inserted, events.removed

    def _on_layers(self, event: Any = None) -> None:
        """Stay hidden beside a comparison: every layer that is seen there has a cell of its own."""
        compared = any(metadata_of(x).get("quantity") == VIEW for x in self.desk.viewer.layers)
        if self._layer is not None and self._layer in self.desk.viewer.layers and compared != self._hidden:
            self._layer.visible = not compared
        self._hidden = compared

    # ----------------------------------------------------------------------------- its life
    def release(self) -> None:
        """Let go of the viewer and the desk, and take the layer away."""
        if self._released:
            return
        self._released = True
        self._soon.stop()
        self._latest.release()
        self.desk.changed.disconnect(self._on_desk)
        for event in self._events():
            event.disconnect(self._on_layers)
        self._remove()
