"""Regions in a table: drawn or loaded, measured in every map, following every stroke."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Labels
from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtGui import QColor, QGuiApplication
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QMenu,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.nifti import staged
from napari_metaqsm.plugin.editors import keep_wheel_for_scrolling
from napari_metaqsm.plugin.reading.desk import Desk
from napari_metaqsm.plugin.reading.latest import Latest
from napari_metaqsm.plugin.reading.regions_choice import RegionsChoice, name_region, names_of
from napari_metaqsm.plugin.reading.regions_model import CHOICES, SPREAD, RegionsModel
from napari_metaqsm.plugin.reading.regions_table import RegionsTable
from napari_metaqsm.plugin.section import in_words
from napari_metaqsm.reading.regions import UNITS, Region, RegionMeasures, measure_regions
from napari_metaqsm.reading.study import Study

# From a stroke to its measuring: as short as the eye wants, and once for many strokes.
QUIET_MS = 150
_CSV = "regions.csv"


class RegionsPanel(QWidget):
    """Every map of the desk in every region of a Labels layer.

    ``measures`` are the figures shown, None where there are none; ``measured`` tells of new ones, also of
    new names.
    """

    measured = Signal()

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self.desk = desk
        self.measures: RegionMeasures | None = None
        self._unreliable: np.ndarray | None = None
        self._error = ""
        self._latest = Latest(self._on_measured, self._on_error)
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(QUIET_MS)
        self._soon.timeout.connect(lambda: self._measure())
        self.choice = RegionsChoice(desk)
        self.model = RegionsModel(self._colour_of)
        self.table = RegionsTable(self.model)
        self.figures, self.statistics = self._make_figures()
        self.unit = QComboBox()
        self.unit.addItems(list(UNITS))
        self.unit.setToolTip("Unit of susceptibility in the table and of what is copied; the CSV is in ppm")
        self.unit.setAccessibleName("unit")
        keep_wheel_for_scrolling(self.unit)
        self.copy_button = QPushButton("Copy")
        self.copy_button.setToolTip(
            "Copy the whole table for a spreadsheet; Ctrl+C in the table copies the selected rows"
        )
        self.export_button = QPushButton("Export CSV…")
        self.export_button.setToolTip("A row for every region and map, all figures, in ppm")
        self.status = QLabel()
        self.status.setTextFormat(Qt.TextFormat.PlainText)
        self.status.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.status.setWordWrap(True)
        row = QHBoxLayout()
        row.addWidget(self.choice)
        row.addStretch(1)
        for widget in (self.figures, self.unit, self.copy_button, self.export_button):
            row.addWidget(widget)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.setSpacing(4)
        layout.addLayout(row)
        layout.addWidget(self.table, 1)
        layout.addWidget(self.status)
        self.unit.currentIndexChanged.connect(self._show)
        self.copy_button.clicked.connect(self.copy)
        self.export_button.clicked.connect(self._export)
        self.model.renamed.connect(self._on_renamed)
        self.table.visited.connect(self._go_to)
        self.table.copying.connect(self.copy_selected)
        self.choice.changed.connect(self._measure_at_once)
        self.choice.drawn.connect(self._measure_soon)
        self.choice.recoloured.connect(self.model.refresh)
        self.choice.renamed.connect(self._on_names)
        desk.relisted.connect(self._on_list)
        self._measure_at_once()

    def _make_figures(self) -> tuple[QPushButton, dict[str, Any]]:
        button = QPushButton("Figures")
        button.setToolTip("Which figures of every map are shown; the CSV holds all of them")
        menu = QMenu(button)
        menu.setToolTipsVisible(True)
        actions = {}
        for name, (words, meaning) in CHOICES.items():
            action = actions[name] = menu.addAction(words)
            action.setToolTip(meaning)
            action.setCheckable(True)
            action.setChecked(name in (SPREAD, "median"))
            action.toggled.connect(self._show)
        button.setMenu(menu)
        return button, actions

    @property
    def labels_layer(self) -> Labels | None:
        """The layer whose regions are measured."""
        return self.choice.layer

    @property
    def shown_statistics(self) -> list[str]:
        """Keys of ``CHOICES`` that are shown of every map."""
        return [name for name, action in self.statistics.items() if action.isChecked()]

    def set_unreliable(self, unreliable: np.ndarray | None) -> None:
        """Say where the maps are not to be trusted, (i, j, k) bool on their grid; None where nothing says."""
        self._unreliable = unreliable
        self._measure_at_once()

    # ----------------------------------------------------------------------------- its figures
    def _measure_soon(self) -> None:
        if not self._soon.isActive():
            self._soon.start()

    def _measure_at_once(self) -> None:
        """Measure now; what is being measured is of no use any more."""
        self._soon.stop()
        self._measure(stop=True)

    def _measure(self, stop: bool = False) -> None:
        if self.labels_layer is None:
            self._latest.stop()
            self._take(None)
            return
        try:
            study = self.desk.study()
        except InputError as error:
            self._latest.stop()
            self._on_error(str(error))
            return
        self._latest.ask(_measured, study, self.labels_layer, self._unreliable, stop=stop)

    def _on_measured(self, found: tuple[Labels, RegionMeasures]) -> None:
        # What was measured in another layer, before this one was chosen, is of no use.
        if found[0] is self.labels_layer:
            self._take(found[1].named(names_of(self.labels_layer)))

    def _on_error(self, error: str) -> None:
        self._take(None, error)

    def _take(self, measures: RegionMeasures | None, error: str = "") -> None:
        self.measures, self._error = measures, error
        self._show()
        self.measured.emit()

    # ------------------------------------------------------------------------------- its looks
    def _show(self, *_: Any) -> None:
        self.table.show_measures(self.measures, self.shown_statistics, self.unit.currentText())
        self.copy_button.setEnabled(bool(self.measures))
        self.export_button.setEnabled(bool(self.measures))
        self._say(self._words())

    def _words(self) -> str:
        if self._error:
            return self._error
        if not self.desk.maps:
            return "No map is chosen; make or open a susceptibility map first"
        if self.labels_layer is None:
            here = self.desk.region_layers()
            others = [x for x in self.desk.viewer.layers if isinstance(x, Labels) and x not in here]
            return f"Draw a region, or choose a Labels layer{_not_here([x.name for x in others])}"
        if not self.measures:
            return f"Nothing is drawn in {self.labels_layer.name!r} yet: paint in the picture"
        region = self.table.current
        if region is not None:
            told = ". ".join(region.warnings())
            return f"{region.name}: {told}" if told else ""
        marked = sum(bool(region.warnings()) for region in self.measures)
        return f"{marked} of {len(self.measures)} regions are to be read with care" if marked else ""

    def _on_list(self) -> None:
        self._say(self._words())

    def _say(self, text: str) -> None:
        self.status.setText(in_words(text) or " ")  # the line stays, so that nothing jumps

    def _colour_of(self, label: int) -> QColor | None:
        if self.labels_layer is None:
            return None
        red, green, blue, alpha = map(float, self.labels_layer.colormap.map(label))
        return QColor.fromRgbF(red, green, blue) if alpha else None

    def _go_to(self, label: int) -> None:
        """Go to a region, and take its label in hand."""
        self.desk.go_to(self.measures.region(label).centre)
        self.labels_layer.selected_label = label
        self._say(self._words())

    # ------------------------------------------------------------------------------- its names
    def _on_renamed(self, label: int, name: str) -> None:
        name_region(self.labels_layer, label, name)
        self._on_names()

    def _on_names(self) -> None:
        if self.measures is not None:
            self._take(self.measures.named(names_of(self.labels_layer)))

    # -------------------------------------------------------------------------- what is taken away
    def copy(self) -> None:
        """The whole table to the clipboard, as it is sorted, for a spreadsheet."""
        self._copy(self.model.regions)

    def copy_selected(self) -> None:
        """The selected rows to the clipboard, under their titles."""
        self._copy(self.table.selected)

    def _copy(self, regions: Sequence[Region]) -> None:
        if not regions:
            return
        statistics = [
            s for name in self.shown_statistics for s in (("mean", "sd") if name == SPREAD else (name,))
        ]
        shown = RegionMeasures(self.measures.titles, tuple(regions))
        rows = csv.reader(io.StringIO(shown.wide_table(statistics, self.unit.currentText()).csv()))
        QGuiApplication.clipboard().setText("\n".join("\t".join(row) for row in rows))
        self._say(f"Copied {_counted(len(regions), 'region')}")

    def _export(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Export the figures", _CSV, "CSV (*.csv)")
        if path:
            self.export(Path(path))

    def export(self, path: Path) -> None:
        """Write the figures of every region and map as CSV, and say so."""
        try:
            with staged(path.parent) as folder:
                (folder / path.name).write_text(self.measures.long_table().csv(), encoding="utf-8")
        except (InputError, OSError) as error:
            self._say(f"{path.name} could not be written: {error}")
            return
        regions, maps = (
            _counted(len(x), w) for x, w in ((self.measures, "region"), (self.measures.titles, "map"))
        )
        self._say(f"Written: {path.name}, {regions} in {maps}")

    def state(self) -> dict[str, Any]:
        """What is chosen, as plain values."""
        layer = self.labels_layer
        return {
            "layer": "" if layer is None else layer.name,
            "figures": self.shown_statistics,
            "unit": self.unit.currentText(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Choose what :meth:`state` said, as far as it is there."""
        for name, action in self.statistics.items():
            action.setChecked(name in state["figures"])
        self.unit.setCurrentText(state["unit"])
        layer = next((x for x in self.desk.region_layers() if x.name == state["layer"]), None)
        if layer is not None:
            self.choice.choose(layer)

    @property
    def is_measuring(self) -> bool:
        """Whether figures are still to come."""
        return self._latest.is_busy or self._soon.isActive()

    def release(self) -> None:
        """Let go of the desk and of the layer."""
        self._soon.stop()
        self._latest.release()
        self.desk.relisted.disconnect(self._on_list)
        self.choice.release()


def _measured(study: Study, layer: Labels, unreliable: np.ndarray | None) -> tuple[Labels, RegionMeasures]:
    # A copy: the brush may be moving meanwhile.
    return layer, measure_regions(study, np.array(layer.data), unreliable=unreliable)


def _not_here(names: Sequence[str]) -> str:
    if not names:
        return ""
    return (
        f"; {', '.join(map(repr, names))} {'lie' if len(names) > 1 else 'lies'} on another grid than the maps"
    )


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
