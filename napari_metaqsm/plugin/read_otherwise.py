"""What is decided while DICOM is read, and can only be decided otherwise by reading it again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from napari.layers import Layer
from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QComboBox, QFormLayout

from napari_metaqsm.plugin.editors import keep_wheel_for_scrolling, narrow
from napari_metaqsm.plugin.layers import metadata_of
from napari_metaqsm.plugin.readers import OPENED_FROM

# By the name that the reader knows it under: how the row is called, what can be chosen, what it is for.
_ROWS: dict[str, tuple[str, dict[str, bool | None], str]] = {
    "phase_difference": (
        "Phase is",
        {"as the headers say": None, "a difference of two echoes": True, "that of one echo": False},
        "Whether the scanner stored the phase of an echo, or the difference of two, as field maps often "
        "are. The DICOM is read again.",
    ),
    "alternating_slices": (
        "Slice signs",
        {"as the data show": None, "alternating (GE)": True, "equal in all slices": False},
        "Whether real and imaginary parts change sign from slice to slice, as GE exports them. A wrong one "
        "shows as phase that jumps by π between slices. The DICOM is read again.",
    ),
}


class ReadOtherwise(QObject):
    """Rows of a form, each there where it can be meant: of DICOM, as long as its folder is known."""

    # What is given of how to read: values by name, what is left to be decided is not among them.
    asked = Signal(object)

    def __init__(self, form: QFormLayout) -> None:
        super().__init__(form)
        self.boxes: dict[str, QComboBox] = {}
        self._form = form
        for name, (words, choices, tip) in _ROWS.items():
            box = self.boxes[name] = QComboBox()
            for text, value in choices.items():
                box.addItem(text, value)
            box.setToolTip(tip)
            keep_wheel_for_scrolling(box)
            narrow(box)
            box.activated.connect(self._ask)
            form.addRow(words, box)
        self.show_layer(None)

    def show_layer(self, layer: Layer | None) -> None:
        """Show how the run of a layer was read."""
        used = used_run(layer) or {}
        for name, box in self.boxes.items():
            there = name in used.get("choices", ()) and bool(layer.metadata.get(OPENED_FROM))
            box.setVisible(there)
            self._form.labelForField(box).setVisible(there)
            box.setCurrentIndex(box.findData(used.get("given", {}).get(name)) if there else 0)

    def set_enabled(self, enabled: bool) -> None:
        """Whether anything can be chosen."""
        for box in self.boxes.values():
            box.setEnabled(enabled)

    def _ask(self) -> None:
        values = {name: box.currentData() for name, box in self.boxes.items() if not box.isHidden()}
        self.asked.emit({name: value for name, value in values.items() if value is not None})


def used_run(layer: Layer | None) -> Mapping[str, Any] | None:
    """What the reader told of the run that a layer is of; None where it is not from DICOM."""
    dicom = None if layer is None else metadata_of(layer).get("dicom")
    return next((run for run in dicom["runs"] if run["name"] == dicom["run"]), None) if dicom else None
