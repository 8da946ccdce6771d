"""Which maps are read, and what their zero is."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Layer
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QFormLayout,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_metaqsm.errors import InputError
from napari_metaqsm.plugin.about import about_map
from napari_metaqsm.plugin.editors import NumberBox, keep_wheel_for_scrolling, narrow
from napari_metaqsm.plugin.reading.desk import Desk
from napari_metaqsm.plugin.reading.latest import Latest
from napari_metaqsm.plugin.section import in_words
from napari_metaqsm.plugin.zero import BRAIN, CSF, NONE, OFFSET, Zero, check_region, zero_name, zero_record
from napari_metaqsm.referencing import csf

_REGION = "region"
_CHOICES = {
    BRAIN: "Whole brain",
    CSF: "CSF of the ventricles",
    _REGION: "A region",
    OFFSET: "An offset",
    NONE: "As the method gave it",
}
_CSF_LAYER = "CSF"
_ROWS_SHOWN = 6


class MapsPanel(QWidget):
    """The maps that can be read, those that are checked, and one zero for all of them."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self.desk = desk
        self._layers: list[Layer] = []
        self._latest = Latest(self._on_csf, self._say)
        self.maps = QListWidget()
        self.maps.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.maps.setToolTip("Susceptibility maps of one grid; the checked ones are read together")
        self.zero = QComboBox()
        for name, title in _CHOICES.items():
            self.zero.addItem(title, name)
        self.zero.setToolTip(
            "What is zero. Every map, table and plot follows at once; nothing is computed anew. "
            "CSF is found by its slow decay, in three or more echoes."
        )
        self.region = QComboBox()
        self.region.setToolTip("A labels layer on the maps' grid")
        self.label = QSpinBox()
        self.label.setRange(0, 2**31 - 1)
        self.label.setSpecialValueText("all labels")
        self.label.setToolTip("One label of the layer, or all of them together")
        self.apply = QPushButton("Apply")
        self.apply.setToolTip("Take the region's mean as zero, as it is drawn now")
        self.offset_ppm = NumberBox(-10, 10, 0.0)
        self.offset_ppm.setSuffix(" ppm")
        self.offset_ppm.setToolTip("Taken off the map as its method gave it")
        for box in (self.zero, self.region, self.label, self.offset_ppm):
            keep_wheel_for_scrolling(box)
            narrow(box)
        self.about = QLabel()
        self.about.setWordWrap(True)
        self.about.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._form = QFormLayout()
        self._form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self._form.addRow("Zero", self.zero)
        self._form.addRow("Region", self.region)
        self._form.addRow("Label", self.label)
        self._form.addRow("", self.apply)
        self._form.addRow("Offset", self.offset_ppm)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.maps)
        layout.addLayout(self._form)
        layout.addWidget(self.about)
        self.maps.itemChanged.connect(self._on_checked)
        self.zero.activated.connect(self._on_zero)
        self.apply.clicked.connect(self._on_region)
        self.offset_ppm.valueChanged.connect(self._on_offset)
        desk.changed.connect(self.reset)
        desk.relisted.connect(self.reset)
        desk.failed.connect(self._say)
        desk.viewer.layers.events.inserted.connect(self.reset)
        desk.viewer.layers.events.removed.connect(self.reset)
        self.reset()

    # ------------------------------------------------------------------------------ its looks
    def reset(self, event: Any = None) -> None:
        """Read the desk anew."""
        candidates = self.desk.candidates()
        self._layers = [x for x in self._layers if x in candidates]
        self._layers += [x for x in candidates if x not in self._layers]
        self.maps.blockSignals(True)
        self.maps.clear()
        for layer in self._layers:
            item = QListWidgetItem(layer.name)
            item.setFlags(Qt.ItemFlag.ItemIsUserCheckable | Qt.ItemFlag.ItemIsEnabled)
            chosen = layer in self.desk.maps
            item.setCheckState(Qt.CheckState.Checked if chosen else Qt.CheckState.Unchecked)
            item.setToolTip(about_map(layer))
            self.maps.addItem(item)
        self.maps.blockSignals(False)
        rows = min(max(self.maps.count(), 1), _ROWS_SHOWN)
        height = self.maps.sizeHintForRow(0) if self.maps.count() else self.fontMetrics().height() + 6
        self.maps.setFixedHeight(rows * height + 2 * self.maps.frameWidth() + 4)
        self._reset_regions()
        self._show_zero()

    def _reset_regions(self) -> None:
        kept = self.region.currentData()
        layers = self.desk.region_layers()
        self.region.clear()
        for layer in layers:
            self.region.addItem(layer.name, layer)
        if layers:
            self.region.setCurrentIndex(layers.index(kept) if kept in layers else 0)

    def _show_zero(self) -> None:
        """Show the zero that the maps have, wherever it was chosen."""
        name = zero_name(self.desk.maps) if self.desk.maps else None
        if name is not None:
            known = {"brain": BRAIN}.get(name, name)
            self.zero.setCurrentIndex(max(self.zero.findData(known if known in _CHOICES else _REGION), 0))
        self._show_rows()
        self._say(self._words())

    def _show_rows(self) -> None:
        kind = self.zero.currentData()
        for widget in (self.region, self.label, self.apply):
            self._form.setRowVisible(widget, kind == _REGION)
        self._form.setRowVisible(self.offset_ppm, kind == OFFSET)

    def _words(self) -> str:
        lines = []
        if not self.desk.maps:
            return "No map is checked."
        for layer in self.desk.maps:
            record = zero_record(layer)
            if record is None:
                lines.append(f"{layer.name}: as it was opened")
            elif record["region"] == OFFSET:
                lines.append(f"{layer.name}: {record['mean_ppm']:+.4f} ppm taken off")
            elif record["region"] != NONE:
                spread = f"{record['mean_ppm']:+.4f} ± {record['sd_ppm']:.4f} ppm"
                lines.append(f"{layer.name}: {spread} taken off")
        return "\n".join(lines)

    def _say(self, text: str) -> None:
        self.about.setText(in_words(text) if text else "")
        self.about.setVisible(bool(text))

    # ------------------------------------------------------------------------------ its work
    def _on_checked(self) -> None:
        items = [self.maps.item(row) for row in range(self.maps.count())]
        pairs = zip(self._layers, items, strict=True)
        wanted = [layer for layer, item in pairs if item.checkState() == Qt.CheckState.Checked]
        self.desk.choose(wanted)
        others = [layer.name for layer in wanted if layer not in self.desk.maps]
        if others:
            self.reset()
            self._say(f"{', '.join(others)} lies on another grid and cannot be read with {wanted[0].name}")

    def _on_zero(self) -> None:
        self._show_rows()
        kind = self.zero.currentData()
        if kind == _REGION:
            ready = self.region.count() > 0
            self._say("choose the region, then apply" if ready else "there is no labels layer; draw one")
        elif kind == CSF:
            self._find_csf()
        elif kind == OFFSET:
            self._on_offset()
        else:
            self.desk.refer(Zero(kind))

    def _on_region(self) -> None:
        layer, label = self.region.currentData(), self.label.value()
        if layer is None:
            return
        region = layer.data == label if label else layer.data != 0
        name = f"{layer.name}: {label}" if label else layer.name
        try:
            check_region(region, name)
        except InputError as error:
            self._say(str(error))
            return
        self.desk.refer(Zero(name, region))

    def _on_offset(self) -> None:
        self.desk.refer(Zero(OFFSET, offset_ppm=self.offset_ppm.number()))

    def _find_csf(self) -> None:
        """Find the fluid beside the window, show it as a layer, and take it as zero."""
        try:
            study = self.desk.study()
            if study.magnitude is None:
                raise InputError("CSF is found in the magnitude of three or more echoes; open it first")
        except InputError as error:
            self._say(str(error))
            return
        mask = study.inside_all() if study.mask is None else study.mask != 0
        self._say("Looking for the ventricles …")
        self._latest.ask(csf, study.magnitude, mask, study.geometry, study.acquisition)

    def _on_csf(self, found: np.ndarray) -> None:
        if self.zero.currentData() != CSF:
            return
        layer = self.desk.add(found.astype(np.uint8), "region", _CSF_LAYER, visible=False)
        self.desk.refer(Zero(CSF, layer.data != 0))

    def release(self) -> None:
        """Let go of the desk and the viewer."""
        self._latest.release()
        self.desk.changed.disconnect(self.reset)
        self.desk.relisted.disconnect(self.reset)
        self.desk.failed.disconnect(self._say)
        self.desk.viewer.layers.events.inserted.disconnect(self.reset)
        self.desk.viewer.layers.events.removed.disconnect(self.reset)
