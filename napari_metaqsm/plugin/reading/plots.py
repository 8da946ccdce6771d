"""Plots of the maps on the desk: regions, two maps over against each other, a profile, the histogram."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from napari.layers import Image, Labels
from napari.utils.theme import get_theme
from qtpy.QtCore import QSignalBlocker, QTimer
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.nifti import staged
from napari_metaqsm.plugin.editors import keep_wheel_for_scrolling, narrow
from napari_metaqsm.plugin.reading.desk import Desk
from napari_metaqsm.plugin.reading.drawn_line import DrawnLine
from napari_metaqsm.plugin.reading.latest import Latest
from napari_metaqsm.plugin.reading.regions_choice import RegionsChoice, names_of
from napari_metaqsm.plugin.section import in_words
from napari_metaqsm.reading.agreement import Pair, pair, pair_of_regions
from napari_metaqsm.reading.distribution import Distribution, distribution
from napari_metaqsm.reading.plots import (
    Look,
    draw_distribution,
    draw_pair,
    draw_profile,
    draw_regions,
    say,
)
from napari_metaqsm.reading.profile import Profile, profile
from napari_metaqsm.reading.regions import RegionMeasures, measure_regions
from napari_metaqsm.reading.study import Study

REGIONS, PAIR, PROFILE, HISTOGRAM = "regions", "pair", "profile", "histogram"
_KINDS = {
    REGIONS: ("Regions", "A box for every region and map"),
    PAIR: ("Two maps", "Scatter with the fitted line, and Bland–Altman"),
    PROFILE: ("Profile", "All maps along a line that is drawn"),
    HISTOGRAM: ("Histogram", "All maps, each in its own mask"),
}
_VOXELS, _MEANS = "Voxels", "Region means"
_DRAW: Mapping[type, Callable[[Figure, Any, Look], None]] = {
    RegionMeasures: draw_regions,
    Pair: draw_pair,
    Profile: draw_profile,
    Distribution: draw_distribution,
}
# From a change to its plot: short enough to follow the hand, and once for a burst.
QUIET_MS = 40
CONTROLS_WIDTH = 230
# Below these, axes and legend leave no room for the plot.
_SMALLEST_CANVAS = (380, 150)
# Of a saved picture.
_PAPER_INCHES, _PAPER_DPI = (8.8, 3.0), 300


class _Made(NamedTuple):
    """What was computed, and for which choices."""

    choices: tuple[Any, ...]
    data: RegionMeasures | Pair | Profile | Distribution


class PlotsPanel(QWidget):
    """One plot at a time, drawn anew when the maps, the regions, the line or the theme change.

    ``shown`` is what is drawn; None while there are words in its place, which ``words`` holds.
    """

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self.desk = desk
        self.shown: RegionMeasures | Pair | Profile | Distribution | None = None
        self.words = ""
        self.figure = Figure()
        self.line = DrawnLine(desk)
        self._canvas: QWidget | None = None
        self._stale = True
        # The place of a map gives its colour; it keeps it while others come and go.
        self._places: list[Image | None] = []
        self._latest = Latest(self._on_made, self._say)
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(QUIET_MS)
        self._soon.timeout.connect(self._make)
        self.kind = _combo("plot", "What is drawn")
        for name, (title, tip) in _KINDS.items():
            self.kind.addItem(title, name)
            self.kind.setItemData(self.kind.count() - 1, tip, 3)  # as tool tip
        self.choice = RegionsChoice(desk)
        for button in (self.choice.new_region, self.choice.new_layer):  # the table of regions has them
            button.hide()
        narrow(self.choice.combo)
        self.a = _combo("map", "The map that is looked at")
        self.b = _combo("other map", "The map that it is compared with")
        self.by = _combo("points", "Every voxel that both maps know, or the mean of every region")
        self.by.addItems([_VOXELS, _MEANS])
        self.draw_button = QPushButton("Draw a line")
        self.draw_button.setToolTip(
            "Press, drag and let go over the maps. The line can be moved later with the tools of its layer; "
            "the profile follows"
        )
        self.save_button = QPushButton("Save…")
        self.save_button.setToolTip("Save the plot as SVG or PNG, black on white for print")
        self.status = QLabel()
        self.status.setWordWrap(True)
        self._lay_out()
        self.kind.currentIndexChanged.connect(self._on_choice)
        for combo in (self.a, self.b, self.by):
            combo.activated.connect(self.refresh)
        self.choice.changed.connect(self.refresh)
        self.choice.drawn.connect(self.refresh)
        self.choice.renamed.connect(self.refresh)
        self.line.changed.connect(self._on_line)
        self.draw_button.clicked.connect(self._on_draw)
        self.save_button.clicked.connect(self._on_save)
        desk.changed.connect(self._on_desk)
        desk.viewer.events.theme.connect(self.show_theme)
        self._on_desk()
        self._on_choice()

    def _lay_out(self) -> None:
        controls = QWidget()
        controls.setFixedWidth(CONTROLS_WIDTH)
        self._form = QFormLayout()
        self._form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self._form.addRow("Plot", self.kind)
        self._form.addRow("Map", self.a)
        self._form.addRow("Against", self.b)
        self._form.addRow("Points", self.by)
        self._form.addRow("Regions", self.choice)
        self._form.addRow("", self.draw_button)
        column = QVBoxLayout(controls)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(self._form)
        column.addStretch(1)
        column.addWidget(self.status)
        column.addWidget(self.save_button)
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(4, 4, 4, 4)
        self._row.addWidget(controls)

    # ------------------------------------------------------------------------------ its choices
    @property
    def look(self) -> Look:
        """The colours of the viewer's theme."""
        theme = get_theme(self.desk.viewer.theme)
        titles = tuple("" if layer is None else layer.name for layer in self._places)
        return Look(theme.text.as_hex(), theme.background.as_hex(), titles)

    def state(self) -> dict[str, str]:
        """What is chosen, as plain values."""
        combos = {"a": self.a, "b": self.b, "by": self.by}
        return {"kind": self.kind.currentData(), **{n: c.currentText() for n, c in combos.items()}}

    def restore(self, state: Mapping[str, str]) -> None:
        """Choose what :meth:`state` said, as far as it is there."""
        self._on_desk()  # which may not have told yet of the maps that were opened with the state
        for combo, name in ((self.a, "a"), (self.b, "b"), (self.by, "by")):
            combo.setCurrentIndex(max(combo.findText(state.get(name, "")), 0))
        self.kind.setCurrentIndex(max(self.kind.findData(state.get("kind")), 0))
        self.refresh()

    def _choices(self) -> tuple[Any, ...]:
        """All that decides what a plot is of; where the line runs and what is painted apart."""
        kind = self.kind.currentData()
        maps = (self.a.currentText(), self.b.currentText()) if kind == PAIR else ()
        return kind, maps, self._needs_regions, self.choice.layer if self._needs_regions else None

    @property
    def _needs_regions(self) -> bool:
        kind = self.kind.currentData()
        return kind == REGIONS or (kind == PAIR and self.by.currentText() == _MEANS)

    def _on_choice(self) -> None:
        kind = self.kind.currentData()
        for widget in (self.a, self.b, self.by):
            self._form.setRowVisible(widget, kind == PAIR)
        self._form.setRowVisible(self.draw_button, kind == PROFILE)
        self.refresh()

    def _on_desk(self) -> None:
        maps = self.desk.maps
        there = self.desk.viewer.layers
        self._places = [layer if layer in there else None for layer in self._places]
        for layer in maps:
            if layer not in self._places:
                free = self._places.index(None) if None in self._places else len(self._places)
                self._places[free : free + 1] = [layer]
        for place, combo in enumerate((self.a, self.b)):
            kept = combo.currentText()
            with QSignalBlocker(combo):
                combo.clear()
                combo.addItems([layer.name for layer in maps])
                found = combo.findText(kept)
                combo.setCurrentIndex(found if found >= 0 else min(place, len(maps) - 1))
        self.refresh()

    def _on_line(self) -> None:
        if self.kind.currentData() == PROFILE:
            self.refresh()

    def _on_draw(self) -> None:
        if self.desk.maps:
            self.line.draw()

    # --------------------------------------------------------------------------------- its work
    def refresh(self, *_: Any) -> None:
        """Draw anew, soon; what nobody sees is drawn when it is looked at."""
        self._form.setRowVisible(self.choice, self._needs_regions)
        self._stale = True
        if self.isVisible() and not self._soon.isActive():
            self._soon.start()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        if self._canvas is None:
            self._make_canvas()
        if self._stale:
            self._make()

    def _make_canvas(self) -> None:
        # Here, not above: it must find the Qt that the window has already loaded.
        from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg

        self._canvas = FigureCanvasQTAgg(self.figure)
        self._canvas.setMinimumSize(*_SMALLEST_CANVAS)
        self._canvas.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self._canvas.setAccessibleName("plot")
        self._row.addWidget(self._canvas, 1)

    def _make(self) -> None:
        self._stale = False
        self._soon.stop()
        try:
            study = self.desk.study()
            compute = self._computation(study)
        except InputError as error:
            self._latest.stop()
            self._say(str(error))
            return
        choices = self._choices()
        self._latest.ask(lambda: _Made(choices, compute()))

    def _computation(self, study: Study) -> Callable[[], Any]:
        kind, maps, regions, layer = self._choices()
        if kind == HISTOGRAM:
            return lambda: distribution(study)
        if kind == PROFILE:
            points = self.line.points
            if points is None:
                raise InputError("draw a line over the maps to see them along it")
            return lambda: profile(study, points)
        if regions and layer is None:
            raise InputError("choose a Labels layer with regions, or draw one in the table of regions")
        if kind == REGIONS:
            return lambda: measure_regions(study, _labels(layer), names_of(layer))
        if len(study.maps) < 2 or maps[0] == maps[1]:
            raise InputError("choose two different maps to compare")
        if regions:
            return lambda: pair_of_regions(study, *maps, _labels(layer), names_of(layer))
        return lambda: pair(study, *maps)

    def _on_made(self, made: _Made) -> None:
        if made.choices == self._choices():
            if isinstance(made.data, RegionMeasures) and not made.data.regions:
                self._say(f"nothing is drawn in {self.choice.layer.name!r} yet")
                return
            self.shown, self.words = made.data, ""
            self._draw()

    def _say(self, text: str) -> None:
        self.shown, self.words = None, in_words(text)
        self._draw()

    def show_theme(self, event: Any = None) -> None:
        """Take the colours of the viewer's theme."""
        self._draw()

    def _draw(self) -> None:
        self.save_button.setEnabled(self.shown is not None)
        self.status.clear()
        self._draw_into(self.figure, self.look)
        if self._canvas is not None:
            self._canvas.draw_idle()

    def _draw_into(self, figure: Figure, look: Look) -> None:
        if self.shown is None:
            say(figure, self.words, look)
        else:
            _DRAW[type(self.shown)](figure, self.shown, look)

    # ------------------------------------------------------------------------------------- files
    def _on_save(self) -> None:
        name = f"{_KINDS[self.kind.currentData()][0].lower()}.svg"
        path, _ = QFileDialog.getSaveFileName(self, "Save the plot", name, "SVG (*.svg);;PNG (*.png)")
        if path:
            self.save(Path(path))

    def save(self, path: Path) -> None:
        """Write the plot as it is shown, on white; the name's ending says whether SVG or PNG."""
        path = path if path.suffix.lower() in (".svg", ".png") else path.with_name(f"{path.name}.svg")
        figure = Figure(_PAPER_INCHES)
        self._draw_into(figure, replace(Look(), titles=self.look.titles))
        try:
            with staged(path.parent) as folder:
                figure.savefig(folder / path.name, dpi=_PAPER_DPI)
        except (InputError, OSError) as error:
            self.status.setText(in_words(f"{path.name} could not be written: {error}"))
            return
        self.status.setText(f"Saved {path.name}")

    def release(self) -> None:
        """Let go of the desk, the layers and the viewer."""
        self._soon.stop()
        self._latest.release()
        self.line.release()
        self.choice.release()
        self.desk.changed.disconnect(self._on_desk)
        self.desk.viewer.events.theme.disconnect(self.show_theme)


def _combo(name: str, tip: str) -> QComboBox:
    combo = QComboBox()
    combo.setAccessibleName(name)
    combo.setToolTip(tip)
    keep_wheel_for_scrolling(combo)
    narrow(combo)
    return combo


def _labels(layer: Labels) -> np.ndarray:
    return np.array(layer.data)  # a copy: the brush may be moving meanwhile
