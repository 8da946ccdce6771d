"""The last section: which maps are looked at, against which reference, in which plane and window."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from napari.components import ViewerModel
from napari.layers import Image, Layer
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QWidget,
)

from napari_metaqsm.errors import InputError
from napari_metaqsm.plugin.about import about_map
from napari_metaqsm.plugin.compare import DEFAULT_WINDOW_PPM, PLANES, Comparison, compare
from napari_metaqsm.plugin.editors import NumberBox, keep_wheel_for_scrolling, narrow
from napari_metaqsm.plugin.layer_choice import MASKS, fits
from napari_metaqsm.plugin.layers import metadata_of
from napari_metaqsm.plugin.section import Section, State
from napari_metaqsm.plugin.zero import BRAIN, NONE, Zero, refer, zero_of

_ROWS_SHOWN = 5


class CompareSection(Section):
    """Susceptibility maps side by side; their reference can be changed without computing anew."""

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__(viewer, "6  Compare", run_text="Compare")
        self.comparison: Comparison | None = None
        self.run_button.setToolTip("Show the checked maps side by side; press again to go back")
        self.maps = QListWidget()
        self.maps.setToolTip("Maps to look at and to reference")
        self.maps.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self._layers: list[Layer] = []
        self.reference = QComboBox()
        self.reference.setToolTip(
            "Region whose mean is zero: the whole brain, a mask layer such as CSF, or none. "
            "Changes the checked maps at once; nothing is computed anew."
        )
        keep_wheel_for_scrolling(self.reference)
        narrow(self.reference)
        self._regions: list[Layer | None] = []
        self.window_ppm = NumberBox(0.001, 10, DEFAULT_WINDOW_PPM)
        self.window_ppm.setPrefix("±")
        self.window_ppm.setSuffix(" ppm")
        self.window_ppm.setValue(DEFAULT_WINDOW_PPM)
        self.window_ppm.setToolTip("Gray window that all maps share")
        keep_wheel_for_scrolling(self.window_ppm)
        self.plane_buttons = {plane: QPushButton(plane.capitalize()) for plane in PLANES}
        planes = QWidget()
        row = QHBoxLayout(planes)
        row.setContentsMargins(0, 0, 0, 0)
        for plane, button in self.plane_buttons.items():
            button.clicked.connect(lambda checked=False, plane=plane: self.show_plane(plane))
            narrow(button)
            row.addWidget(button)
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Reference", self.reference)
        form.addRow("Window", self.window_ppm)
        form.addRow("Plane", planes)
        self.body.addWidget(self.maps)
        self.body.addLayout(form)
        self.reset()
        self.run_requested.connect(self.toggle)
        self.maps.itemChanged.connect(self._on_checked)
        self.reference.activated.connect(self._on_reference)
        self.window_ppm.valueChanged.connect(self._on_window)

    # -------------------------------------------------------------------------- its choices
    def checked(self) -> list[Image]:
        """The maps that are checked, from the first to the last made."""
        items = [self.maps.item(row) for row in range(self.maps.count())]
        pairs = zip(self._layers, items, strict=True)
        return [layer for layer, item in pairs if item.checkState() == Qt.CheckState.Checked]

    def add(self, layer: Image) -> None:
        """A map has just been made: check it and give it the reference that the others have."""
        zero = zero_of(self.checked()) or self._chosen_zero()
        self.reset()
        self.maps.blockSignals(True)
        self.maps.item(self._layers.index(layer)).setCheckState(Qt.CheckState.Checked)
        self.maps.blockSignals(False)
        self.refresh()
        refer([layer], zero)

    def renew(self, layer: Image) -> None:
        """A map has just got other values: give it the reference that the others have."""
        others = [other for other in self.checked() if other != layer]
        refer([layer], zero_of(others) or self._chosen_zero())
        self.reset()

    def reset(self, event: Any = None) -> None:
        """Read the viewer's layers anew; what is checked stays checked."""
        checked = self.checked()
        fitting = [layer for layer in self.viewer.layers if fits(layer, ("susceptibility",))]
        self.maps.blockSignals(True)
        # Maps stay where they stand in the list: a comparison moves layers about.
        stay = [layer for layer in self._layers if layer in fitting]
        if stay != self._layers or len(stay) < len(fitting):
            self._layers = stay + [layer for layer in fitting if layer not in stay]
            self.maps.clear()
            for layer in self._layers:
                item = QListWidgetItem()
                item.setFlags(Qt.ItemFlag.ItemIsUserCheckable | Qt.ItemFlag.ItemIsEnabled)
                item.setCheckState(Qt.CheckState.Checked if layer in checked else Qt.CheckState.Unchecked)
                self.maps.addItem(item)
        for row, layer in enumerate(self._layers):
            self.maps.item(row).setText(layer.name)
            self.maps.item(row).setToolTip(about_map(layer))
        self.maps.blockSignals(False)
        rows = min(max(self.maps.count(), 1), _ROWS_SHOWN)
        height = self.maps.sizeHintForRow(0) if self.maps.count() else self.fontMetrics().height() + 6
        self.maps.setFixedHeight(rows * height + 2 * self.maps.frameWidth() + 4)
        self._reset_regions()
        self.refresh()

    def _reset_regions(self) -> None:
        index = max(self.reference.currentIndex(), 0)
        current = self._regions[index] if self._regions else None
        masks = [layer for layer in self.viewer.layers if fits(layer, MASKS) and _is_mask(layer)]
        self._regions = [None, None, *masks]
        self.reference.clear()
        self.reference.addItems([BRAIN, NONE, *(layer.name for layer in masks)])
        self.reference.setCurrentIndex(self._regions.index(current) if current in masks else min(index, 1))

    # ---------------------------------------------------------------------------- reference
    def _on_reference(self) -> None:
        try:
            refer(self.checked(), self._chosen_zero())
        except InputError as error:
            self.fail(str(error))
            return
        self.reset()

    def _chosen_zero(self) -> Zero:
        region = self._regions[self.reference.currentIndex()]
        return Zero(self.reference.currentText(), None if region is None else region.data)

    # --------------------------------------------------------------------------- comparison
    def toggle(self) -> None:
        """Open the comparison, or close the one that is open."""
        if self.comparison is not None:
            self.comparison.close()
            return
        try:
            self.comparison = compare(
                self.viewer, self.checked(), self.window_ppm.number(), on_closed=self._on_closed
            )
        except InputError as error:
            self.fail(str(error))
            return
        self.refresh()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Put an open comparison aside while layers change, then show what is checked by then.

        The plane, the place and the zoom that were looked at stay.
        """
        if self.comparison is None:
            yield
            return
        dims, camera = self.viewer.dims, self.viewer.scene.camera
        axes, looked_at = (dims.order, dims.point), (camera.center, camera.zoom)
        self.comparison.close()
        yield
        if self.checked():
            self.toggle()
        if self.comparison is not None and len(axes[0]) == dims.ndim:
            dims.order, dims.point = axes
            camera.center, camera.zoom = looked_at

    def show_plane(self, plane: str) -> None:
        """Show the open comparison in a plane."""
        if self.comparison is not None:
            self.comparison.show_plane(plane)

    def refresh(self) -> None:
        """Say what can be compared, or that the comparison is on screen."""
        count = len(self.checked())
        opened = self.comparison is not None
        self.run_button.setText("Close" if opened else "Compare")
        self.run_button.setEnabled(opened or count > 0)
        for button in self.plane_buttons.values():
            button.setEnabled(opened and bool(self.comparison.planes))
        maps = f"{count} map{'s' if count != 1 else ''}"
        if opened:
            unknown = "" if self.comparison.planes else "; how they lie in the patient is not known"
            self.set_state(State.DONE, f"Shown: {len(self.comparison.layers)} side by side{unknown}")
        elif count:
            self.set_state(State.READY, f"Ready: {maps}")
        else:
            self.set_state(State.MISSING, "Missing: check at least one map")

    def _on_checked(self) -> None:
        with self.aside():
            pass
        self.refresh()

    def _on_window(self) -> None:
        if self.comparison is not None:
            self.comparison.window_ppm = self.window_ppm.number()

    def _on_closed(self) -> None:
        self.comparison = None
        self.refresh()


def _is_mask(layer: Layer) -> bool:
    return not isinstance(layer, Image) or metadata_of(layer).get("quantity") in MASKS
