"""What was decided when a scan was read from DICOM, and which of its runs is used."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from napari.components import ViewerModel
from napari.layers import Layer
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_metaqsm.plugin.dock import status_label
from napari_metaqsm.plugin.layers import metadata_of

_MOST_ROWS = 6
# How to decide otherwise where commands are typed; in the dock the rows above do.
_OPTION = re.compile(r" \(--[^)]* overrides?\)")


class Decided(QWidget):
    """The runs that a DICOM folder holds, of which one is used, and in plain words how that one is read.

    Series that cannot be used are listed below the runs, gray, with the reason.
    """

    # A run to use instead: its name.
    chosen = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._shown: tuple[Any, ...] | None = None
        self.runs = QTreeWidget()
        self.runs.setHeaderLabels(["Series", "Description", "Holds"])
        self.runs.setRootIsDecorated(False)
        self.runs.setAccessibleName("Run that is used")
        self.runs.setToolTip("What the folder holds; click on a run to use it. Those in gray cannot be used.")
        self.runs.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        # A long description is cut rather than what a run holds, or why it cannot be used.
        self.runs.header().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self.runs.header().setSectionResizeMode(1, QHeaderView.ResizeMode.Stretch)
        self.runs.header().setStretchLastSection(False)
        self.runs.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.text = status_label()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 4)
        layout.setSpacing(3)
        layout.addWidget(self.runs)
        layout.addWidget(self.text)
        self.runs.itemClicked.connect(self._on_clicked)
        self.show_run(None, ())

    def show_run(self, dicom: Mapping[str, Any] | None, by_hand: Sequence[str]) -> None:
        """Show the runs of a folder, and what was decided of the one that is used.

        Parameters
        ----------
        dicom : as the reader puts it into a layer's metadata; None where the scan is from elsewhere
        by_hand : what the user decided otherwise since, a sentence each
        """
        runs = dicom["runs"] if dicom else []
        self.runs.setVisible(len(runs) > 1)
        if len(runs) > 1:
            self._list(runs, dicom["run"])
        used = next((run for run in runs if run["name"] == dicom["run"]), None)
        lines = []
        if used:
            in_rows = {note for run in runs if not run["usable"] for note in run["notes"]}
            lines += [text for text in used["decisions"] if text not in in_rows]
            lines += [f"Note: {note}" for note in used["notes"] if note not in in_rows]
        lines += by_hand
        self.text.setText("\n".join(_bullet(line) for line in lines))
        self.text.setVisible(bool(lines))

    def _on_clicked(self, item: QTreeWidgetItem) -> None:
        if not item.isDisabled():  # Qt tells of clicks on these too
            self.chosen.emit(item.data(0, Qt.ItemDataRole.UserRole))

    def _list(self, runs: Sequence[Mapping[str, Any]], used: str) -> None:
        self.runs.clear()
        for run in runs:
            item = QTreeWidgetItem([run["series"], run["description"], run["holds"]])
            item.setData(0, Qt.ItemDataRole.UserRole, run["name"])
            item.setDisabled(not run["usable"])
            for column in range(item.columnCount()):
                about = [_bullet(line) for line in (*run["decisions"], *run["notes"])]
                item.setToolTip(column, "\n".join([run["description"], *about]))
            self.runs.addTopLevelItem(item)
            if run["name"] == used:
                self.runs.setCurrentItem(item)
        rows = min(len(runs), _MOST_ROWS)
        self.runs.setFixedHeight(
            self.runs.header().sizeHint().height() + rows * self.runs.sizeHintForRow(0) + 6
        )


def _bullet(line: str) -> str:
    line = _OPTION.sub("", line)
    return f"• {line[:1].upper()}{line[1:]}"


def tell_anew(
    viewer: ViewerModel, before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]
) -> None:
    """Let every layer that was opened with the runs ``before``, or made of such, know of the runs ``now``."""
    for layer in viewer.layers:
        known = layer.metadata.get("metaqsm", {})
        dicom = known.get("dicom")
        if dicom and dicom["runs"] == before:
            known["dicom"] = {**dicom, "runs": now}


def layers_of_run(viewer: ViewerModel, name: str, beside: Layer) -> dict[str, Layer]:
    """The layers of a run that was opened together with ``beside``, by quantity; the newest of each."""
    wanted = {"run": name, "runs": metadata_of(beside).get("dicom", {}).get("runs")}
    found = {}
    for layer in viewer.layers:
        known = metadata_of(layer)
        if known.get("dicom") == wanted and not known.get("record"):
            found[known["quantity"]] = layer
    return found
