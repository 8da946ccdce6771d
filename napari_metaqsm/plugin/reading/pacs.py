"""The maps that are read, as DICOM that a PACS files beside the scan they were made from."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtCore import QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.nifti import Space
from napari_metaqsm.plugin.dock import scroll_to, status_label
from napari_metaqsm.plugin.editors import BUTTON_WIDTH, keep_wheel_for_scrolling, narrow
from napari_metaqsm.plugin.layers import array_in_file_axes, metadata_of, own_space
from napari_metaqsm.plugin.readers import OPENED_FROM
from napari_metaqsm.plugin.reading.desk import Desk
from napari_metaqsm.plugin.reading.latest import Told
from napari_metaqsm.plugin.section import in_words

_KINDS = {
    "both": "Parametric map and MR series",
    "parametric map": "Parametric map: the values in ppm",
    "mr series": "MR series: shown by every viewer",
}


class PacsPanel(QGroupBox):
    """Where the scan's own DICOM lies, where the maps go and as what, and the button that writes them.

    Parameters
    ----------
    window_ppm : asked for what is shown black and white
    """

    def __init__(self, desk: Desk, window_ppm: Callable[[], tuple[float, float]]) -> None:
        super().__init__("Back to the PACS")
        self.desk = desk
        self._window_ppm = window_ppm
        self._found: list[str] = []
        self.source = QLineEdit()
        self.source.setPlaceholderText("DICOM folder of the scan")
        self.source.setToolTip(
            "The DICOM series that the maps were made from: patient, study and place are taken from there"
        )
        self.out = QLineEdit()
        self.out.setPlaceholderText("asked for")
        self.out.setToolTip(
            "A folder that your PACS imports from, or any other; each series makes its own in it"
        )
        self.kind = QComboBox()
        for name, words in _KINDS.items():
            self.kind.addItem(words, name)
        self.kind.setToolTip(
            "A parametric map holds the numbers themselves, and few viewers show it; an MR series holds "
            "whole ppb, and every viewer does"
        )
        keep_wheel_for_scrolling(self.kind)
        narrow(self.kind)
        self.deidentify = QCheckBox("De-identify")
        self.deidentify.setToolTip("Without patient, dates and institution, with new UIDs: not for the PACS")
        self.export_button = QPushButton("Export as DICOM…")
        self.export_button.setToolTip("Write the chosen maps as new series of the scan's study")
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.setToolTip("Stop the export; nothing is written")
        self.progress = QProgressBar()
        self.progress.setRange(0, 1000)
        self.status = status_label()
        self.folder_button = QPushButton("Open the folder")
        self.folder_button.setToolTip("Show what was written")
        self._written: Path | None = None
        self._lay_out()
        self._latest = Told("the export", self._say, self._on_written, self._on_progress, self._on_ended)
        self.export_button.clicked.connect(self._ask_what_lacks)
        self.cancel_button.clicked.connect(self._latest.stop)
        self.folder_button.clicked.connect(self._open_folder)
        for signal in (desk.changed, desk.relisted):
            signal.connect(self._update)
        self._update()

    def _lay_out(self) -> None:
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Scan", _with_button(self.source, self._ask_source))
        form.addRow("Into", _with_button(self.out, self._ask_out))
        form.addRow("As", self.kind)
        form.addRow("", self.deidentify)
        buttons = QHBoxLayout()
        buttons.addWidget(self.export_button, 1)
        buttons.addWidget(self.cancel_button)
        layout = QVBoxLayout(self)
        layout.addLayout(form)
        layout.addLayout(buttons)
        layout.addWidget(self.progress)
        layout.addWidget(self.status)
        layout.addWidget(self.folder_button)

    # ---------------------------------------------------------------------------- its results
    def export(self) -> None:
        """Write the maps on the desk as DICOM, in a worker."""
        if self._latest.is_busy:
            return
        self._written = None
        try:
            maps = self.desk.maps
            if not maps:
                raise InputError("no map is chosen; make or open a susceptibility map first")
            space = next((own for own in map(own_space, maps) if own is not None), None)
            if space is None:
                raise InputError("where the maps lie in the patient is not known; they came from no file")
            arrays = {layer.name: array_in_file_axes(layer, space) for layer in maps}
            records = {layer.name: metadata_of(layer).get("record") or {} for layer in maps}
            settings = (self.kind.currentData(), self._window_ppm(), self.deidentify.isChecked())
            paths = [self.source.text()] if self.source.isModified() or not self._found else self._found
            self._say("reading the DICOM series …")
            self._latest.ask(_export, paths, Path(self.out.text()), arrays, space, records, settings)
        except InputError as error:
            self._say(str(error))
        self._update()
        scroll_to(self.status)

    def _ask_what_lacks(self) -> None:
        for line, ask in ((self.source, self._ask_source), (self.out, self._ask_out)):
            if not line.text().strip():
                ask()
            if not line.text().strip():
                return
        self.export()

    def _ask_source(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "The DICOM folder of the scan", self.source.text())
        if folder:
            self.source.setText(folder)
            self.source.setModified(True)

    def _ask_out(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Write the DICOM into a folder", self.out.text())
        if folder:
            self.out.setText(folder)

    def _open_folder(self) -> None:
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._written)))

    def _on_written(self, files: list[Path]) -> None:
        self._written = Path(self.out.text())
        folders = dict.fromkeys(file.parent for file in files)
        counts = [(folder.name, sum(file.parent == folder for file in files)) for folder in folders]
        told = "\n".join(f"{name}: {count} file{'s' if count > 1 else ''}" for name, count in counts)
        self._say(f"written: {len(folders)} series into {self._written}\n{told}")

    def _on_progress(self, fraction: float, text: str) -> None:
        self.progress.setValue(round(1000 * fraction))
        self._say(f"{text} …")

    def _on_ended(self) -> None:
        self._update()
        for widget in (self.status, self.folder_button):
            scroll_to(widget)

    # -------------------------------------------------------------------------------- its life
    def release(self) -> None:
        """Stop the work and let go of the desk."""
        for signal in (self.desk.changed, self.desk.relisted):
            signal.disconnect(self._update)
        self._latest.release()

    def _say(self, text: str) -> None:
        self.status.setText(in_words(text))
        self.status.setVisible(bool(text))

    def _update(self) -> None:
        self.export_button.setEnabled(bool(self.desk.maps) and not self._latest.is_busy)
        for widget in (self.cancel_button, self.progress):
            widget.setVisible(self._latest.is_busy)
        self.folder_button.setVisible(self._written is not None and not self._latest.is_busy)
        self.status.setVisible(bool(self.status.text()))
        found = self._opened_from()
        if found != self._found and not self.source.isModified():
            self.source.setText(os.path.commonpath(found) if found else "")
        self._found = found

    def _opened_from(self) -> list[str]:
        """The DICOM that the maps' scan was opened from, where a layer of it is still there."""
        of_maps = [metadata_of(layer).get("dicom") for layer in self.desk.maps]
        for layer in self.desk.viewer.layers:
            paths = layer.metadata.get(OPENED_FROM)
            if paths and metadata_of(layer).get("dicom") in of_maps:
                return list(paths)
        return []


def _export(
    paths: Sequence[str],
    out: Path,
    maps: Mapping[str, np.ndarray],
    space: Space,
    records: Mapping[str, Mapping[str, Any]],
    settings: tuple[Any, tuple[float, float], bool],
) -> list[Path]:
    # Only here, for it takes half a second to import.
    from napari_metaqsm.io.dicom.export import export_each

    kind, window_ppm, deidentify = settings
    return export_each(
        maps, space, paths, out, records=records, kind=kind, window_ppm=window_ppm, deidentify=deidentify
    )


def _with_button(line: QLineEdit, ask: Callable[[], None]) -> QWidget:
    """A line for a folder, and a button to choose it."""
    button = QPushButton("…")
    button.setFixedWidth(BUTTON_WIDTH)
    button.setToolTip("Choose the folder")
    button.clicked.connect(ask)
    line.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
    both = QWidget()
    row = QHBoxLayout(both)
    row.setContentsMargins(0, 0, 0, 0)
    row.addWidget(line, 1)
    row.addWidget(button)
    return both
