"""How the maps are looked at: side by side, two in one place or as differences; planes, window, slab."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from napari.layers import Image, Layer
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QButtonGroup,
    QCheckBox,
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from napari_metaqsm.errors import InputError
from napari_metaqsm.plugin.compare import BLINK_KEY, Comparison, compare
from napari_metaqsm.plugin.editors import NumberBox, keep_wheel_for_scrolling, narrow
from napari_metaqsm.plugin.reading.desk import Desk
from napari_metaqsm.plugin.reading.look_state import DIFFERENCES, IN_PLACE, SIDE_BY_SIDE, Look
from napari_metaqsm.plugin.reading.look_work import Differences, Venogram
from napari_metaqsm.plugin.reading.pictures import MAXIMUM, MINIMUM
from napari_metaqsm.plugin.reading.planes import PLANES
from napari_metaqsm.plugin.section import in_words

_LAYOUTS = {SIDE_BY_SIDE: "Side by side", IN_PLACE: "Two in one place", DIFFERENCES: "Differences"}
WINDOWS_PPM = {"±0.1": (-0.1, 0.1), "±0.2": (-0.2, 0.2), "−0.1 … 0.2": (-0.1, 0.2)}
_PROJECTIONS = {"": "None", MAXIMUM: "Maximum", MINIMUM: "Minimum"}
_BESIDE = {
    "magnitude": "Magnitude",
    "phase": "Phase",
    "local_field": "Field",
}
_WIPE_STEPS = 200


class LookPanel(QWidget):
    """The comparison of the maps on the desk: opened, closed, and everything that can be changed in it."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self.desk = desk
        self.comparison: Comparison | None = None
        self._look = Look()
        self._released = False
        self._reopening = False
        self.open_button = QPushButton("Compare")
        self.open_button.setToolTip("Show the checked maps in one grid; press again to go back")
        self._make_choices()
        self._make_display()
        self.about = QLabel()
        self.about.setWordWrap(True)
        self.about.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._lay_out()
        self.differences = Differences(desk, self._say_differences)
        self.venogram = Venogram(desk, self._on_venogram, self._say)
        self._connect()
        self.reset()

    # ------------------------------------------------------------------------------- its parts
    def _make_choices(self) -> None:
        self.layout_box = _combo(_LAYOUTS, "What stands in the cells")
        self.first, self.second, self.against = (
            _combo({}, tip)
            for tip in (
                "The map that is seen, to the left of the wipe",
                "The map that is seen while the key is held, and to the right of the wipe",
                "The map that is taken off all others",
            )
        )
        self.blink_button = QPushButton(f"Hold to blink (key {BLINK_KEY.upper()})")
        self.blink_button.setToolTip(
            f"While it is held down, or the key {BLINK_KEY.upper()} over the picture, the second map is seen"
        )
        self.wipe = QSlider(Qt.Orientation.Horizontal)
        self.wipe.setRange(0, _WIPE_STEPS)
        self.wipe.setValue(_WIPE_STEPS)
        self.wipe.setToolTip("Wipe from one map to the other")
        self.difference_ppm = _number(0.0001, 10, self._look.difference_ppm, "Window of the differences")
        self.difference_ppm.setPrefix("±")
        self.beside = {name: QCheckBox(title) for name, title in _BESIDE.items()}
        self.beside["swi"] = QCheckBox("χ-weighted SWI")
        self.beside["swi"].setToolTip(
            "Magnitude darkened where the first map is that of veins, for venograms"
        )
        for name, box in self.beside.items():
            box.setToolTip(box.toolTip() or f"Show the {name.replace('_', ' ')} beside the maps")

    def _make_display(self) -> None:
        self.plane_buttons = {plane: QPushButton(plane.capitalize()) for plane in PLANES}
        self.plane_buttons["all"] = QPushButton("All three")
        self.plane_buttons["all"].setToolTip("The three planes as rows, each through the cross hair")
        self._planes = QButtonGroup(self)
        for button in self.plane_buttons.values():
            button.setCheckable(True)
            self._planes.addButton(button)
            narrow(button)
        self.plane_buttons["axial"].setChecked(True)
        self.window_buttons = {title: QPushButton(title) for title in WINDOWS_PPM}
        for title, button in self.window_buttons.items():
            button.setToolTip(f"Window of all susceptibility maps: {title} ppm")
            narrow(button)
        tip = (
            "Window of all susceptibility maps. In the picture: drag with the right mouse button, to the "
            "right for a wider window, down for a higher level."
        )
        self.low_ppm, self.high_ppm = (_number(-10, 10, value, tip) for value in self._look.window_ppm)
        self.projection = _combo(
            _PROJECTIONS, "Show the least or the greatest value of a slab about the slice"
        )
        self.slab_mm = _number(0.1, 1000, self._look.slab_mm, "Thickness of the slab", " mm")
        self.outline = QCheckBox("Mask outline")
        self.outline.setToolTip("The brain mask's edge in every cell")
        self.cross_hair = QCheckBox("Cross hair")
        self.cross_hair.setToolTip("One place in all cells; click into any of them to move it")
        for box in (self.outline, self.cross_hair):
            box.setChecked(True)

    def _lay_out(self) -> None:
        self._form = QFormLayout()
        self._form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for label, field in (
            ("Show", self.layout_box),
            ("First", self.first),
            ("Second", self.second),
            ("Wipe", self.wipe),
            ("", self.blink_button),
            ("Minus", self.against),
            ("Range", self.difference_ppm),
            ("Beside", _row(*list(self.beside.values())[:3])),
            ("", self.beside["swi"]),
            ("Plane", _row(*self.plane_buttons.values())),
            ("Window", _row(*self.window_buttons.values())),
            ("", _row(self.low_ppm, self.high_ppm)),
            ("Slab", _row(self.projection, self.slab_mm)),
            ("Draw", _row(self.outline, self.cross_hair)),
        ):
            self._form.addRow(label, field)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.open_button)
        layout.addLayout(self._form)
        layout.addWidget(self.about)

    def _connect(self) -> None:
        self.open_button.clicked.connect(self.toggle)
        self.layout_box.activated.connect(self._on_layout)
        for box in (self.first, self.second, self.against):
            box.activated.connect(self._on_layout)
        self.blink_button.pressed.connect(lambda: self._blink(True))
        self.blink_button.released.connect(lambda: self._blink(False))
        self.wipe.valueChanged.connect(lambda value: self._show(wipe=value / _WIPE_STEPS))
        self.difference_ppm.valueChanged.connect(
            lambda: self._show(difference_ppm=self.difference_ppm.number())
        )
        for name, box in self.beside.items():
            box.toggled.connect(lambda on, name=name: self._on_beside(name))
        for plane, button in self.plane_buttons.items():
            button.clicked.connect(lambda checked=False, plane=plane: self.show_plane(plane))
        for title, button in self.window_buttons.items():
            button.clicked.connect(lambda checked=False, t=title: self._show(window_ppm=WINDOWS_PPM[t]))
        for box in (self.low_ppm, self.high_ppm):
            box.valueChanged.connect(
                lambda: self._show(window_ppm=(self.low_ppm.number(), self.high_ppm.number()))
            )
        self.projection.activated.connect(lambda: self._show(projection=self.projection.currentData()))
        self.slab_mm.valueChanged.connect(lambda: self._show(slab_mm=self.slab_mm.number()))
        self.outline.toggled.connect(lambda on: self._show(outline=on))
        self.cross_hair.toggled.connect(lambda on: self._show(cross_hair=on))
        self.desk.changed.connect(self.reset)

    # ------------------------------------------------------------------------ what it looks at
    def layers(self) -> list[Image]:
        """What is shown: the maps of the desk, then what is checked beside them."""
        beside = [self.desk.scan_layer(name) for name, box in self.beside.items() if box.isChecked()]
        return [*self.desk.maps, *(layer for layer in beside if layer is not None)]

    def reset(self) -> None:
        """Read the desk anew; an open comparison takes in the maps that have come."""
        if self._released:
            return
        names = [layer.name for layer in self.desk.maps]
        for place, box in enumerate((self.first, self.second, self.against)):
            _fill(box, names, min(place % 2, max(len(names) - 1, 0)))
        for name, box in self.beside.items():
            wanted = "magnitude" if name == "swi" else name
            box.setEnabled(self.desk.scan_layer(wanted) is not None)
        if self.beside["swi"].isChecked():
            self.venogram.renew()
        self.reopen()
        self._rename()
        self._refresh()

    def _rename(self) -> None:
        """Call the maps of an open comparison as they are called by now."""
        if self.comparison is not None:
            look = self.comparison.look
            named = {name for name in (*(look.pair or ()), look.against) if name}
            if named - {layer.name for layer in self.desk.maps}:
                now = self._possible(look)
                self._show(layout=now.layout, pair=now.pair, against=now.against)

    def reopen(self) -> None:
        """Let an open comparison show other layers, where there are others; all else stays as it is."""
        comparison = self.comparison
        if comparison is None or comparison.layers == self.layers():
            return
        state, magnification = comparison.state(), comparison.magnification
        self._reopening = True
        comparison.close()
        self._reopening = False
        if self.layers():
            self._open(state)
        if self.comparison is not None:  # its cells may be smaller or larger
            self.comparison.magnification = magnification
        self._refresh()

    def toggle(self) -> None:
        """Open the comparison, or close the one that is open."""
        if self.comparison is not None:
            self.comparison.close()
        else:
            self._open(None)
        self._refresh()

    def _open(self, state: Mapping[str, Any] | None) -> None:
        mask = self.desk.scan_layer("mask")
        try:
            self._look = self._possible(self._look)
            self.comparison = compare(
                self.desk.viewer, self.layers(), on_closed=self._on_closed, look=self._look, mask=mask
            )
            self.comparison.events.changed.connect(self._on_changed)
            if state is not None:
                self.comparison.look_at({**state, "look": self._look.as_dict()})
        except InputError as error:
            self._say(str(error))

    def _possible(self, look: Look) -> Look:
        """The look with maps that are there."""
        pair = (self.first.currentText(), self.second.currentText())
        against = self.against.currentText()
        few = len(self.desk.maps) < 2
        return look.but(layout=SIDE_BY_SIDE if few else look.layout, pair=pair, against=against)

    def show_plane(self, plane: str) -> None:
        """Show one plane, or "all" three as rows."""
        self._show(planes=tuple(PLANES) if plane == "all" else (plane,))
        if self.comparison is not None:
            self.comparison.fit()

    # --------------------------------------------------------------------- its state, its end
    def state(self) -> dict[str, Any]:
        """All that is looked at, for JSON."""
        shown = self.comparison.state() if self.comparison is not None else {"look": self._look.as_dict()}
        beside = [name for name, box in self.beside.items() if box.isChecked()]
        return {**shown, "is_open": self.comparison is not None, "beside": beside}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Look as :meth:`state` said, at the maps that are on the desk."""
        if self.comparison is not None:
            self.comparison.close()
        try:
            self._look = Look.from_dict(state.get("look", {}))
        except (InputError, TypeError) as error:
            self._say(str(error))
            return
        for name, box in self.beside.items():
            box.setChecked(name in state.get("beside", ()) and box.isEnabled())
        for box, name in zip(
            (self.first, self.second, self.against),
            (*(self._look.pair or ("", "")), self._look.against or ""),
            strict=True,
        ):
            box.setCurrentIndex(max(box.findText(name), 0))
        try:
            if state.get("is_open"):
                self._open(state)
        finally:
            self._refresh()

    def release(self) -> None:
        """Let go of the desk, and close the comparison."""
        self._released = True
        self.desk.changed.disconnect(self.reset)
        self.differences.release()
        self.venogram.release()
        if self.comparison is not None:
            self.comparison.close()

    # ------------------------------------------------------------------------ what it hears of
    def _show(self, **changes: Any) -> None:
        try:
            if self.comparison is not None:
                self.comparison.show(**changes)
            self._look = self._look.but(**changes)
        except InputError as error:
            self._say(str(error))
            return
        self._refresh()

    def _on_layout(self) -> None:
        self._show(
            layout=self.layout_box.currentData(),
            pair=(self.first.currentText(), self.second.currentText()),
            against=self.against.currentText(),
        )

    def _on_beside(self, name: str) -> None:
        if name == "swi":
            (self.venogram.renew if self.beside["swi"].isChecked() else self.venogram.stop)()
        self.reopen()

    def _on_venogram(self, layer: Layer) -> None:
        self.reopen()

    def _blink(self, swapped: bool) -> None:
        if self.comparison is not None:
            self.comparison.blink(swapped)

    def _on_changed(self, event: Any = None) -> None:
        self._look = self.comparison.look
        self._refresh()

    def _on_closed(self) -> None:
        self.comparison = None
        if not (self._released or self._reopening):
            self._refresh()

    # ------------------------------------------------------------------------------- its looks
    def _refresh(self) -> None:
        """Show the look in the controls, and only those that matter to it."""
        look, opened = self._look, self.comparison is not None
        self.open_button.setText("Back to the layers" if opened else "Compare")
        self.open_button.setEnabled(opened or bool(self.desk.maps))
        few = len(self.desk.maps) < 2
        layout = SIDE_BY_SIDE if few else look.layout
        self.layout_box.setEnabled(not few)
        for widget, value in (
            (self.low_ppm, look.window_ppm[0]),
            (self.high_ppm, look.window_ppm[1]),
            (self.difference_ppm, look.difference_ppm),
            (self.slab_mm, look.slab_mm),
            (self.wipe, round(look.wipe * _WIPE_STEPS)),
        ):
            _set(widget, value)
        self.layout_box.setCurrentIndex(self.layout_box.findData(layout))
        self.projection.setCurrentIndex(self.projection.findData(look.projection))
        self.slab_mm.setEnabled(bool(look.projection))
        for box, on in ((self.outline, look.outline), (self.cross_hair, look.cross_hair)):
            _set_checked(box, on)
        plane = look.planes[0] if len(look.planes) == 1 else "all"
        self.plane_buttons[plane].setChecked(True)
        known = not opened or bool(self.comparison.planes)
        for button in self.plane_buttons.values():
            button.setEnabled(known)
        for fields, layout_of in (
            ((self.first, self.second, self.wipe, self.blink_button), IN_PLACE),
            ((self.against, self.difference_ppm), DIFFERENCES),
        ):
            for field in fields:
                self._form.setRowVisible(field, layout == layout_of)
        if layout == DIFFERENCES:
            self.differences.renew(self.against.currentText())
        else:
            self._say(
                "" if known else "how the maps lie in the patient is not known; planes cannot be chosen"
            )

    def _say(self, text: str) -> None:
        self.about.setText(in_words(text) if text else "")
        self.about.setVisible(bool(text))

    def _say_differences(self, text: str) -> None:
        if self._look.layout == DIFFERENCES:
            self._say(text)


def _combo(choices: Mapping[str, str], tip: str) -> QComboBox:
    box = QComboBox()
    for name, title in choices.items():
        box.addItem(title, name)
    box.setToolTip(tip)
    keep_wheel_for_scrolling(box)
    narrow(box)
    return box


def _fill(box: QComboBox, names: list[str], default: int) -> None:
    """Offer these names; the one that is chosen stays as long as it is there, also under another name."""
    if [box.itemText(i) for i in range(box.count())] == names:
        return
    if box.currentText() in names:
        chosen = names.index(box.currentText())
    else:  # it may have got another name
        chosen = box.currentIndex() if box.count() == len(names) else default
    box.clear()
    box.addItems(names)
    box.setCurrentIndex(chosen if names else -1)


def _number(low: float, high: float, value: float, tip: str, unit: str = " ppm") -> NumberBox:
    box = NumberBox(low, high, value)
    box.setValue(value)
    box.setSuffix(unit)
    box.setToolTip(tip)
    keep_wheel_for_scrolling(box)
    return box


def _row(*widgets: QWidget) -> QWidget:
    holder = QWidget()
    row = QHBoxLayout(holder)
    row.setContentsMargins(0, 0, 0, 0)
    row.setSpacing(4)
    for widget in widgets:
        row.addWidget(widget)
    return holder


def _set(widget: Any, value: float) -> None:
    widget.blockSignals(True)
    widget.setValue(value)
    widget.blockSignals(False)


def _set_checked(box: QCheckBox, on: bool) -> None:
    box.blockSignals(True)
    box.setChecked(on)
    box.blockSignals(False)
