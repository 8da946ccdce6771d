"""Probed spots: click one, read what it is on every map, go from one to the next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.layers import Layer
from qtpy.QtCore import QSignalBlocker, Qt, QTimer, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QSplitter,
    QVBoxLayout,
    QWidget,
)

from napari_metaqsm.errors import InputError
from napari_metaqsm.plugin.editors import keep_wheel_for_scrolling
from napari_metaqsm.plugin.layers import metadata_of
from napari_metaqsm.plugin.reading.cells import VIEW
from napari_metaqsm.plugin.reading.desk import Desk
from napari_metaqsm.plugin.reading.latest import Latest
from napari_metaqsm.plugin.reading.mouse import on_click
from napari_metaqsm.plugin.reading.spot_layers import SpotLayers
from napari_metaqsm.plugin.reading.spots_table import NOTE_COLUMN, SpotsTable, details
from napari_metaqsm.plugin.section import in_words
from napari_metaqsm.reading.spots import Spot, probe
from napari_metaqsm.reading.study import Study

_HINT = "Press Probe, then click a spot in any map"


@dataclass
class _Probed:
    """A click, and what was found there; ``is_old`` where the maps are not those it was found in."""

    voxel: tuple[int, int, int]
    lead: str
    note: str = ""
    spot: Spot | None = None
    is_old: bool = True


class SpotsPanel(QWidget):
    """A list of probed spots; ``spots`` are they, ``changed`` tells of others, and of their notes.

    While Probe is pressed, a click in the canvas that does not drag adds the spot there. In a comparison
    any cell can be clicked.
    """

    changed = Signal()

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self.desk = desk
        self._probed: list[_Probed] = []
        self._unreliable: np.ndarray | None = None
        self._released = False
        self._error = ""
        self._clicked = on_click(self._on_click)
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(0)
        self._soon.timeout.connect(self._probe_here)
        self._layers = SpotLayers(desk)
        self._latest = Latest(self._on_found, self._on_failed)
        self.probe_button = QPushButton("Probe")
        self.probe_button.setCheckable(True)
        self.probe_button.setToolTip("While this is pressed, a click on a spot in any map measures it")
        self.lead = QComboBox()
        self.lead.setToolTip("The map in which a spot's region is grown; all maps are measured in it")
        self.lead.setAccessibleName("map that a region is grown in")
        keep_wheel_for_scrolling(self.lead)
        self.remove_button = QPushButton("Remove")
        self.remove_button.setToolTip("Take the selected spot off the list")
        self.status = QLabel()
        self.status.setTextFormat(Qt.TextFormat.PlainText)
        self.table = SpotsTable()
        self.details = QLabel()
        self.details.setWordWrap(True)
        self.details.setTextFormat(Qt.TextFormat.RichText)
        self.details.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.details.setContentsMargins(6, 0, 6, 0)
        self.details.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._lay_out()
        self.probe_button.toggled.connect(self._on_toggled)
        self.remove_button.clicked.connect(self._remove)
        self.table.currentCellChanged.connect(self._on_row)
        self.table.cellClicked.connect(self._go_to)
        self.table.cellChanged.connect(self._on_edited)
        desk.changed.connect(self._on_desk)
        self._on_desk()

    def _lay_out(self) -> None:
        row = QHBoxLayout()
        row.addWidget(self.probe_button)
        row.addWidget(QLabel("in"))
        row.addWidget(self.lead)
        row.addWidget(self.status, 1)
        row.addWidget(self.remove_button)
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QScrollArea.Shape.NoFrame)
        scroll.setWidget(self.details)
        split = QSplitter(Qt.Orientation.Horizontal)
        split.setChildrenCollapsible(False)
        split.addWidget(self.table)
        split.addWidget(scroll)
        split.setSizes([660, 440])
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.setSpacing(4)
        layout.addLayout(row)
        layout.addWidget(split, 1)

    # ------------------------------------------------------------------------------ its spots
    @property
    def spots(self) -> list[Spot]:
        """What was probed, in the order of the list."""
        return [each.spot for each in self._shown]

    @property
    def is_probing(self) -> bool:
        """Whether something is being measured."""
        return self._latest.is_busy

    def probe(self, voxel: Sequence[int]) -> None:
        """Add the spot at a voxel of the maps."""
        self._error = ""
        self._probed.append(_Probed(tuple(int(v) for v in voxel), self.lead.currentText()))
        self._measure()

    def set_unreliable(self, unreliable: np.ndarray | None) -> None:
        """Say where the maps are not to be trusted, (i, j, k) bool on their grid; None where nothing says."""
        self._unreliable = unreliable
        self._on_desk()

    def made(self, layer: Layer) -> bool:
        """Whether a layer shows the spots, and is made anew from them."""
        return self._layers.made(layer)

    def state(self) -> list[dict[str, Any]]:
        """The spots, for JSON."""
        return [spot.to_dict() for spot in self.spots]

    def restore(self, state: Iterable[Mapping[str, Any] | Spot]) -> None:
        """The spots of :meth:`state`, or spots themselves, in place of those of the list.

        Raises
        ------
        InputError
            When one of them is none; then the list stays.
        """
        spots = [each if isinstance(each, Spot) else Spot.from_dict(each) for each in state]
        self._probed = [_Probed(spot.clicked, spot.lead, spot.note, spot) for spot in spots]
        self._show(len(spots) - 1)
        self.changed.emit()
        self._measure()

    def _measure(self) -> None:
        """Measure, in a worker, what was not measured in these maps."""
        old = [each for each in self._probed if each.is_old]
        try:
            study = self.desk.study() if old else None
        except InputError as error:
            self._on_failed(str(error))
            self._probed = [each for each in self._probed if each.spot is not None]
            return
        if study is not None:
            clicks = [(each.voxel, each.lead) for each in old]
            self._latest.ask(_probe_all, study, clicks, self._unreliable_of(study), old)

    def _unreliable_of(self, study: Study) -> np.ndarray | None:
        fits = self._unreliable is not None and self._unreliable.shape == study.geometry.shape
        return self._unreliable if fits else None

    def _on_found(self, found: tuple[list[_Probed], list[Spot | str]]) -> None:
        before, selected = self.spots, self._selected()
        for each, result in zip(*found, strict=True):
            if each not in self._probed:
                continue
            if isinstance(result, str):
                self._error = result
                each.is_old = False
                if each.spot is None:
                    self._probed.remove(each)
                continue
            twin = next((p for p in self._probed if p is not each and _are_one(p.spot, result)), None)
            if each.spot is None and twin is not None:
                self._probed.remove(each)
                selected = twin
                continue
            if each.spot is None:
                selected = each
            each.spot, each.is_old = result.with_note(each.note), False
        shown = self._shown
        row = shown.index(selected) if selected in shown else len(shown) - 1
        # What comes back the same is not shown anew: layers that are added call for measuring, too.
        if before != self.spots:
            self._show(row)
            self.changed.emit()
        else:
            self.table.select(row)
            self._show_details()
            self._say()

    def _on_failed(self, text: str) -> None:
        self._error = text
        self._say()

    def _on_desk(self) -> None:
        titles = [layer.name for layer in self.desk.maps]
        now = self.lead.currentText()
        with QSignalBlocker(self.lead):
            self.lead.clear()
            self.lead.addItems(titles)
            self.lead.setCurrentIndex(max(titles.index(now) if now in titles else 0, 0))
        for each in self._probed:
            each.is_old = True
        self.probe_button.setEnabled(bool(titles))
        self._say()
        if titles:
            self._measure()

    # ------------------------------------------------------------------------------ its mouse
    def _on_toggled(self, pressed: bool) -> None:
        callbacks = self.desk.viewer.mouse_drag_callbacks
        if pressed and self._clicked not in callbacks:
            callbacks.append(self._clicked)
        elif not pressed and self._clicked in callbacks:
            callbacks.remove(self._clicked)
        self._error = ""
        self._say()

    def _on_click(self, cell: tuple[int, int] | None, place: tuple[float, ...]) -> None:
        if not self.desk.maps or self.desk.viewer.dims.ndisplay != 2:
            return
        if any(metadata_of(layer).get("quantity") == VIEW for layer in self.desk.viewer.layers):
            # A cell of a comparison may show another plane. Its own click moves the cross hair to the
            # voxel, before or after this one is heard.
            self._soon.start()
            return
        layer = self.desk.maps[0]
        voxel = [round(float(v)) for v in layer.world_to_data(place)[-3:]]
        if all(0 <= v < n for v, n in zip(voxel, layer.data.shape, strict=True)):
            self.probe(voxel)

    def _probe_here(self) -> None:
        if self.desk.maps:
            self.probe(self.desk.voxel)

    # ------------------------------------------------------------------------------- its list
    @property
    def _shown(self) -> list[_Probed]:
        """Row by row; a click that is still being measured has none."""
        return [each for each in self._probed if each.spot is not None]

    def _selected(self) -> _Probed | None:
        row = self.table.currentRow()
        return self._shown[row] if 0 <= row < len(self._shown) else None

    def _remove(self) -> None:
        row, selected = self.table.currentRow(), self._selected()
        if selected is not None:
            self._error = ""
            self._probed.remove(selected)
            self._show(min(row, len(self.spots) - 1))
            self.changed.emit()

    def _show(self, row: int) -> None:
        self.table.fill(self.spots)
        self.table.select(row)
        self._layers.show(self.spots)
        self._show_details()
        self._say()

    def _on_row(self, row: int, column: int, before: int, column_before: int) -> None:
        self._show_details()
        if row != before:
            self._go_to(row)

    def _go_to(self, row: int, column: int = 0) -> None:
        if 0 <= row < len(self.spots) and self.desk.maps:
            self.desk.go_to(self.spots[row].peak)

    def _on_edited(self, row: int, column: int) -> None:
        if column == NOTE_COLUMN:
            edited = self._shown[row]
            edited.note = self.table.item(row, column).text()
            edited.spot = edited.spot.with_note(edited.note)
            self.changed.emit()

    def _show_details(self) -> None:
        selected = self._selected()
        self.details.setText("" if selected is None else details(selected.spot))
        self.remove_button.setEnabled(selected is not None)

    def _say(self) -> None:
        if not self.desk.maps:
            text = "no map is chosen; make or open a susceptibility map first"
        elif self._error:
            text = self._error  # until the reader does something else
        elif self.probe_button.isChecked():
            text = "click a spot in any map"
        else:
            text = "" if self._probed else _HINT
        self.status.setText(in_words(text))
        self.status.setToolTip(in_words(text))

    # ------------------------------------------------------------------------------- its life
    def release(self) -> None:
        """Let go of the viewer and the desk, and take the spots' layers away."""
        if self._released:
            return
        self._released = True
        self._soon.stop()
        self.probe_button.setChecked(False)
        self.desk.changed.disconnect(self._on_desk)
        self._latest.release()
        self._layers.release()


def _probe_all(
    study: Study, clicks: list[tuple[tuple[int, int, int], str]], unreliable: np.ndarray | None, asked: Any
) -> tuple[Any, list[Spot | str]]:
    """A spot for every click, or why there is none, beside what was asked for."""
    found: list[Spot | str] = []
    for voxel, lead in clicks:
        try:
            found.append(probe(study, voxel, lead if lead in study.maps else None, unreliable=unreliable))
        except InputError as error:
            found.append(str(error))
    return asked, found


def _are_one(spot: Spot | None, other: Spot) -> bool:
    return spot is not None and (spot.peak, spot.lead) == (other.peak, other.lead)
