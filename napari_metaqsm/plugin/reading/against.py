"""All maps against one reference map, in one table."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image
from qtpy.QtCore import QSignalBlocker, Qt, QTimer
from qtpy.QtGui import QGuiApplication, QShowEvent
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_metaqsm.errors import InputError
from napari_metaqsm.evaluation.tables import Column, Table
from napari_metaqsm.io.nifti import staged
from napari_metaqsm.plugin.editors import keep_wheel_for_scrolling
from napari_metaqsm.plugin.reading.desk import Desk, same_grid
from napari_metaqsm.plugin.reading.latest import Latest
from napari_metaqsm.plugin.section import in_words
from napari_metaqsm.reading.agreement import against

# What the columns mean, and which way is better.
_MEANINGS = {
    "RMSE ppm": "Root mean square error, both maps demeaned; 0 is perfect",
    "RMSE %": "Root mean square error of the maps as they are, relative to the reference; 0 is perfect. "
    "It depends on what is zero in either map",
    "NRMSE %": "Root mean square error, both maps demeaned, relative to the reference; 0 is perfect",
    "HFEN %": "High-frequency error norm: the error of edges and small structures; 0 is perfect",
    "SSIM": "Structural similarity; 1 is perfect. It is near 1 for most maps",
    "XSIM": "Structural similarity made for susceptibility; 1 is perfect",
    "Slope": "Of the least squares line of the map over the reference; below 1 the map is too weak",
    "Voxels": "Voxels that the map has in common with the reference; only these count",
}
# From the last change to a computation of seconds: a burst of changes is over by then.
QUIET_MS = 400
_NOTHING = "choose a reference map"


class AgainstPanel(QWidget):
    """Error and likeness of every map on the desk against a map that is chosen as reference.

    The reference can be any susceptibility map on the grid, such as a known truth, whether it is read or
    not. ``figures`` is the table that is shown, None where there is none.
    """

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self.desk = desk
        self.figures: Table | None = None
        self._references: list[Image | None] = [None]
        # What ``figures`` are of, and what is being computed: the study and the reference's values.
        self._inputs: tuple[Any, ...] | None = None
        self._latest = Latest(self._on_computed, self._on_failed, self._on_progress, self._on_ended)
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(QUIET_MS)
        self._soon.timeout.connect(self._compute)
        self.reference = QComboBox()
        self.reference.setAccessibleName("reference map")
        self.reference.setToolTip(
            "The map that the others are measured against, such as COSMOS or a known truth"
        )
        self.reference.setMinimumWidth(220)
        keep_wheel_for_scrolling(self.reference)
        self.progress = QProgressBar()
        self.progress.setRange(0, 100)
        self.progress.setFixedWidth(260)
        policy = self.progress.sizePolicy()
        policy.setRetainSizeWhenHidden(True)
        self.progress.setSizePolicy(policy)
        self.copy_button = QPushButton("Copy")
        self.copy_button.setToolTip("Copy the table for a spreadsheet")
        self.export_button = QPushButton("Export CSV…")
        self.export_button.setToolTip("Save the table with all digits")
        self.table = self._make_table()
        self.status = QLabel()
        self.status.setWordWrap(True)
        self.status.setTextFormat(Qt.TextFormat.PlainText)
        row = QHBoxLayout()
        row.addWidget(QLabel("Reference"))
        row.addWidget(self.reference)
        row.addWidget(self.progress)
        row.addStretch(1)
        row.addWidget(self.copy_button)
        row.addWidget(self.export_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.setSpacing(4)
        layout.addLayout(row)
        layout.addWidget(self.table, 1)
        layout.addWidget(self.status)
        self.reference.activated.connect(self._compute)
        self.copy_button.clicked.connect(self.copy)
        self.export_button.clicked.connect(self._on_export)
        for signal in (desk.changed, desk.relisted):
            signal.connect(self._on_desk)
        self.progress.hide()
        self._on_desk()

    def _make_table(self) -> QTableWidget:
        table = QTableWidget()
        table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        table.setSortingEnabled(True)
        table.verticalHeader().hide()
        table.horizontalHeader().setHighlightSections(False)
        table.setAccessibleName("maps against the reference")
        return table

    # ------------------------------------------------------------------------------ its choices
    def choose(self, layer: Image | None) -> None:
        """Take this layer as reference, as if the reader had chosen it."""
        self.reference.setCurrentIndex(self._references.index(layer))
        self._compute()

    def state(self) -> dict[str, str]:
        """What is chosen, as plain values."""
        layer = self._chosen
        return {"reference": "" if layer is None else layer.name}

    def restore(self, state: Mapping[str, str]) -> None:
        """Choose what :meth:`state` said, as far as it is there."""
        self._on_desk()  # which may not have told yet of the maps that were opened with the state
        self.choose(
            next((x for x in self._references if x is not None and x.name == state.get("reference")), None)
        )

    @property
    def _chosen(self) -> Image | None:
        return self._references[self.reference.currentIndex()]

    def _on_desk(self) -> None:
        chosen, maps = self._chosen, self.desk.maps
        others = [x for x in self.desk.candidates() if x not in maps and maps and same_grid(x, maps[0])]
        self._references = [None, *maps, *others]
        with QSignalBlocker(self.reference):
            self.reference.clear()
            self.reference.addItem(_NOTHING)
            self.reference.addItems([layer.name for layer in self._references[1:]])
            self.reference.setCurrentIndex(
                self._references.index(chosen) if chosen in self._references else 0
            )
        self._compute_soon()

    # --------------------------------------------------------------------------------- its work
    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._compute_soon()

    def _compute_soon(self) -> None:
        if self._chosen is None:
            self._compute()  # says what to do
        elif self.isVisible():
            self._soon.start()

    def _compute(self, *_: Any) -> None:
        """Compute the table, unless it is there or on its way for the same maps and reference."""
        self._soon.stop()
        layer = self._chosen
        try:
            study = self.desk.study()
        except InputError as error:
            self._clear(str(error))
            return
        if layer is None:
            self._clear("choose the map that the others are measured against")
            return
        if set(study.maps) == {layer.name}:
            self._clear("there is no other map; choose at least two")
            return
        inputs = (study, layer, layer.data, layer.name)
        if self._inputs is not None and all(a is b for a, b in zip(inputs[:3], self._inputs, strict=False)):
            return
        self._inputs = inputs
        reference = layer.name if layer in self.desk.maps else np.asarray(layer.data)
        self.progress.setValue(0)
        self.progress.show()
        self._say("computing …")
        self._latest.ask(lambda: (inputs, against(study, reference, layer.name)), stop=True)

    def _on_progress(self, fraction: float, text: str) -> None:
        self.progress.setValue(round(100 * fraction))
        self.progress.setFormat(text)

    def _on_computed(self, found: tuple[tuple[Any, ...], Table]) -> None:
        inputs, figures = found
        if inputs is self._inputs:
            self.figures = figures
            self._show()
            self._say(figures.note)

    def _on_failed(self, words: str) -> None:
        self._clear(words)

    def _on_ended(self) -> None:
        self.progress.hide()

    def _clear(self, words: str) -> None:
        self._latest.stop()
        self.figures = self._inputs = None
        self._show()
        self._say(words)

    def _say(self, words: str) -> None:
        self.status.setText(in_words(words))

    # ------------------------------------------------------------------------------- its looks
    def _show(self) -> None:
        figures = self.figures or Table("agreement", "", ["Map", *map(Column, _MEANINGS)])
        columns = [Column(c) if isinstance(c, str) else c for c in figures.columns]
        self.table.setSortingEnabled(False)
        self.table.setRowCount(len(figures.rows))
        self.table.setColumnCount(len(columns))
        for place, column in enumerate(columns):
            header = QTableWidgetItem(column.title)
            header.setToolTip(_MEANINGS.get(column.title, ""))
            self.table.setHorizontalHeaderItem(place, header)
            for row, cells in enumerate(figures.rows):
                self.table.setItem(row, place, _Cell(cells[place], column.digits))
        self.table.resizeColumnsToContents()
        if self.figures is not None:
            self.table.setSortingEnabled(True)
        for button in (self.copy_button, self.export_button):
            button.setEnabled(self.figures is not None)

    def copy(self) -> None:
        """The table to the clipboard, all digits, for a spreadsheet."""
        rows = csv.reader(io.StringIO(self.figures.csv()))
        QGuiApplication.clipboard().setText("\n".join("\t".join(row) for row in rows))
        self._say("copied the table")

    def _on_export(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Export the table", "agreement.csv", "CSV (*.csv)")
        if path:
            self.export(Path(path))

    def export(self, path: Path) -> None:
        """Write the table as CSV, and say so."""
        try:
            with staged(path.parent) as folder:
                (folder / path.name).write_text(self.figures.csv(), encoding="utf-8")
        except (InputError, OSError) as error:
            self._say(f"{path.name} could not be written: {error}")
            return
        self._say(f"written: {path.name}")

    def release(self) -> None:
        """Let go of the desk."""
        self._soon.stop()
        self._latest.release()
        for signal in (self.desk.changed, self.desk.relisted):
            signal.disconnect(self._on_desk)


class _Cell(QTableWidgetItem):
    """A figure that sorts by its value, or text that sorts as text."""

    def __init__(self, value: str | int | float, digits: int) -> None:
        figure = not isinstance(value, str)
        text = f"{value:,}".replace(",", "\u2009") if isinstance(value, int) else value
        super().__init__(f"{value:.{digits}f}" if isinstance(value, float) else text)
        self._value = value
        if figure:
            self.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)

    def __lt__(self, other: QTableWidgetItem) -> bool:
        return self._value < other._value
