"""One of several local fields in the dock of orientations."""

from __future__ import annotations

import dataclasses

from napari.components import ViewerModel
from napari.layers import Layer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QFormLayout, QLineEdit, QVBoxLayout, QWidget

from napari_metaqsm.errors import InputError
from napari_metaqsm.plugin.layer_choice import MASKS, LayerChoice, grid_text
from napari_metaqsm.plugin.layers import geometry_of, metadata_of
from napari_metaqsm.scan import Geometry


class FieldRow(QWidget):
    """One local field: whether it takes part, where B0 lies in it, and its own noise and mask."""

    changed = Signal()

    def __init__(self, viewer: ViewerModel, layer: Layer) -> None:
        super().__init__()
        self.layer = layer
        self.box = QCheckBox()
        self.box.setToolTip("Whether this field takes part")
        self.direction = QLineEdit()
        self.direction.setPlaceholderText("e.g. 0.94, 0.34, 0")
        self.direction.setToolTip(
            "Direction of B0 along the layer's z, y and x axes; neither length nor sense matter. Fields that "
            "were registered share one place, so that only the rotations of the registration tell it."
        )
        self.noise = LayerChoice(viewer, ("noise",), "none: equal noise", automatic=False)
        self.mask = LayerChoice(viewer, MASKS, "none: the mask of all", automatic=False)
        self._rows = QWidget()
        rows = QFormLayout(self._rows)
        rows.setContentsMargins(20, 0, 0, 4)
        rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        rows.addRow("B0 along z, y, x", self.direction)
        rows.addRow("Noise", self.noise)
        rows.addRow("Own mask", self.mask)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(1)
        column.addWidget(self.box)
        column.addWidget(self._rows)
        self._fill()
        self.box.toggled.connect(self._rows.setVisible)
        self.box.setChecked(metadata_of(layer).get("quantity") == "local_field")
        self._rows.setVisible(self.box.isChecked())
        self.box.toggled.connect(self.changed)
        self.direction.textEdited.connect(self.changed)
        for choice in (self.noise, self.mask):
            choice.changed.connect(self.changed)

    def geometry(self) -> Geometry:
        """The layer's geometry with the direction that is entered.

        Raises
        ------
        InputError
            When the layer is no volume or the direction is not three numbers.
        """
        text = self.direction.text()
        try:
            numbers = tuple(float(word) for word in text.replace(",", " ").replace(";", " ").split())
            return dataclasses.replace(geometry_of(self.layer), b0_direction=numbers)
        except ValueError as error:
            hint = str(error) if isinstance(error, InputError) else f"{text!r} is not three numbers"
            raise InputError(f"B0 of {self.layer.name!r}: {hint}") from None

    def reset(self) -> None:
        """Read the viewer's layers anew."""
        self.box.setText(self.layer.name)
        self.box.setToolTip(f"Whether this field takes part\n{grid_text(self.layer)}")
        for choice in (self.noise, self.mask):
            choice.reset()

    def _fill(self) -> None:
        self.reset()
        try:
            direction = geometry_of(self.layer).b0_direction
        except InputError:
            return  # it is told when the field is to be used
        self.direction.setText(", ".join(f"{round(b, 4) + 0.0:g}" for b in direction))
        self.direction.setCursorPosition(0)
