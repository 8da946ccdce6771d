"""Choosing a layer for an input: only those that fit, always up to date, voxel size beside the name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QLabel, QVBoxLayout, QWidget

from napari_metaqsm.errors import InputError
from napari_metaqsm.plugin.editors import keep_wheel_for_scrolling, narrow
from napari_metaqsm.plugin.layers import geometry_of, metadata_of, unit_note

MASKS = ("eroded_mask", "mask")
SERIES = ("phase", "magnitude")


class LayerChoice(QWidget):
    """A combo of the layers that can be what is asked for.

    It starts with the newest layer that is known to be it, and follows newer ones until the user
    chooses. Layers of unknown content can be chosen, but are never taken by themselves.

    Parameters
    ----------
    quantities : what is asked for, the best first
    automatic : whether a layer is taken without being chosen
    """

    changed = Signal()

    def __init__(
        self,
        viewer: ViewerModel,
        quantities: Sequence[str],
        nothing: str = "choose a layer",
        automatic: bool = True,
    ) -> None:
        super().__init__()
        self._viewer = viewer
        self._quantities = tuple(quantities)
        self._nothing = nothing
        self._automatic = automatic
        self._chosen_by_user = False
        self._layers: list[Layer | None] = []
        self._combo = QComboBox()
        narrow(self._combo)
        self._combo.setAccessibleName(self._quantities[0].replace("_", " "))
        keep_wheel_for_scrolling(self._combo)
        self._grid = QLabel()
        self._grid.setWordWrap(True)
        self._grid.setToolTip("Voxel size and matrix along z, y, x, as the layer has them")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(1)
        layout.addWidget(self._combo)
        layout.addWidget(self._grid)
        self._combo.activated.connect(self._on_activated)
        self.reset()

    @property
    def layer(self) -> Layer | None:
        """The chosen layer, as long as it is in the viewer."""
        return self._layers[self._combo.currentIndex()] if self._combo.count() else None

    def choose(self, layer: Layer | None) -> None:
        """Choose ``layer``, as the user would."""
        self._chosen_by_user = layer is not None
        self._set(layer)

    def take(self, layer: Layer) -> None:
        """Take a layer that an earlier step has just made."""
        self._chosen_by_user = False
        self.reset()
        self._set(layer)

    def say_nothing(self, text: str) -> None:
        """Call the choice of no layer so."""
        self._nothing = text
        self._combo.setItemText(0, text)
        self._combo.setToolTip(self._combo.currentText())

    def reset(self, event: Any = None) -> None:
        """Read the viewer's layers anew; the choice stays while its layer is there."""
        current = self.layer
        fitting = [layer for layer in self._viewer.layers if fits(layer, self._quantities)]
        self._combo.blockSignals(True)
        self._layers = [None, *fitting]
        self._combo.clear()
        self._combo.addItem(self._nothing)
        for layer in fitting:
            self._combo.addItem(layer.name)
        self._combo.blockSignals(False)
        if current is not None and current not in fitting:
            self._chosen_by_user = False
        if not self._chosen_by_user:
            current = self._newest_known(fitting) or (current if current in fitting else None)
        self._set(current)

    def _newest_known(self, fitting: Sequence[Layer]) -> Layer | None:
        if not self._automatic:
            return None
        for quantity in self._quantities:
            for layer in reversed(fitting):
                if metadata_of(layer).get("quantity") == quantity:
                    return layer
        return None

    def _set(self, layer: Layer | None) -> None:
        self._combo.setCurrentIndex(self._layers.index(layer) if layer in self._layers else 0)
        text = grid_text(layer) if self.layer is not None else ""
        self._combo.setToolTip(self._combo.currentText())
        self._grid.setText(text)
        self._grid.setVisible(bool(text))
        self.changed.emit()

    def _on_activated(self, index: int) -> None:
        # Choosing nothing is a choice too: it must not be undone by the next layer that is added.
        self._chosen_by_user = True
        self._set(self._layers[index])


def fits(layer: Layer, quantities: Sequence[str]) -> bool:
    """Whether a layer can be one of the quantities: its kind, its axes, and nothing known against it."""
    known = metadata_of(layer).get("quantity")
    if isinstance(layer, Labels):
        return any(q in quantities for q in MASKS) and layer.ndim == 3
    if not isinstance(layer, Image) or layer.rgb or layer.multiscale:
        return False
    axes = (3, 4) if set(quantities) & set(SERIES) else (3,)
    return layer.ndim in axes and (known in (None, "image") or known in quantities)


def grid_text(layer: Layer) -> str:
    """Voxel size and matrix of a layer, in words."""
    try:
        geometry = geometry_of(layer)
    except InputError as error:
        return str(error)
    # To the micrometre: of 3.375, which no header gives to the last bit, fewer decimals make 3.37 or 3.38.
    size = "×".join(f"{round(v, 3):g}" for v in geometry.voxel_size_mm)
    matrix = "×".join(str(n) for n in geometry.shape)
    echoes = f" · {layer.data.shape[0]} echoes" if layer.ndim == 4 else ""
    note = unit_note(layer)
    about = f"{size} mm · {matrix}{echoes}"
    return f"{about}\nNote: {note}" if note else about
