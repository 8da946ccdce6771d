"""The reading room: look at maps side by side, measure them, ask how far to trust them, report.

What is chosen stands in a narrow dock on the right; what is measured, in tables and plots, in a wide one
below the canvas. All of it can be kept in a folder and opened again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import napari
from napari.layers import Layer, Shapes
from qtpy.QtCore import QSize, QTimer, Signal
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QTabWidget,
    QVBoxLayout,
)

from napari_metaqsm.errors import InputError
from napari_metaqsm.plugin.dock import Dock, scrolling
from napari_metaqsm.plugin.layers import metadata_of
from napari_metaqsm.plugin.reading.against import AgainstPanel
from napari_metaqsm.plugin.reading.cells import VIEW
from napari_metaqsm.plugin.reading.desk import Desk
from napari_metaqsm.plugin.reading.latest import Told
from napari_metaqsm.plugin.reading.look import LookPanel
from napari_metaqsm.plugin.reading.maps import MapsPanel
from napari_metaqsm.plugin.reading.pacs import PacsPanel
from napari_metaqsm.plugin.reading.plots import PlotsPanel
from napari_metaqsm.plugin.reading.regions import RegionsPanel
from napari_metaqsm.plugin.reading.report import Parts, ReportPanel
from napari_metaqsm.plugin.reading.session import Opened, gather, read_session
from napari_metaqsm.plugin.reading.spots import SpotsPanel
from napari_metaqsm.plugin.reading.trust import TrustPanel
from napari_metaqsm.plugin.reading.veil import QUANTITY as UNRELIABLE
from napari_metaqsm.plugin.reading.veil import VeilControl
from napari_metaqsm.plugin.section import in_words
from napari_metaqsm.reading.profile import profile
from napari_metaqsm.report.measurements import write_measurements

MEASURE = "Measure"


class ReadingRoom(Dock):
    """Maps of one scan, read together. Opens the tables and plots below the canvas by itself."""

    # Saved (True), opened (True), or failed (False).
    ended = Signal(bool)

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.desk = Desk(self.viewer)
        self.maps = MapsPanel(self.desk)
        self.look = LookPanel(self.desk)
        self.trust = TrustPanel(self.desk)
        self.veil = VeilControl(self.desk)
        self.regions = RegionsPanel(self.desk)
        self.against = AgainstPanel(self.desk)
        self.plots = PlotsPanel(self.desk)
        self.spots = SpotsPanel(self.desk)
        self.report = ReportPanel(self.desk, self._report_parts)
        self.pacs = PacsPanel(self.desk, lambda: self._report_parts().window_ppm)
        self.trust.body.addWidget(self.veil)
        self.veil.changed.connect(self._on_reliability)
        self._panels = (
            *(self.maps, self.look, self.trust, self.veil),
            *(self.regions, self.against, self.plots, self.spots, self.report, self.pacs),
        )
        self._went_well = False
        self._latest = Told(
            "Saving",
            self._say,
            self._on_done,
            lambda fraction, text: self.progress.setValue(round(1000 * fraction)),
            self._on_ended,
        )
        self._measure_dock: Any = None
        self._lay_out()
        if hasattr(self.viewer, "window"):
            # napari is still putting this dock in its place.
            QTimer.singleShot(0, self.show_measures)

    # ---------------------------------------------------------------------------- its two docks
    def _lay_out(self) -> None:
        self.measures = QTabWidget()
        self.measures.setDocumentMode(True)
        self.measures.addTab(self.regions, "Regions")
        self.measures.addTab(self.spots, "Spots")
        self.measures.addTab(self.against, "Against a reference")
        self.measures.addTab(self.plots, "Plots")
        self.measures.sizeHint = lambda: QSize(1100, 260)
        self.tabs = QTabWidget()
        self.tabs.setDocumentMode(True)
        tabs = {"Look": [self.look], "Trust": [self.trust], "Report": [self.report, self.pacs]}
        for title, panels in tabs.items():
            self.tabs.addTab(scrolling(panels), title)
        self.measure_button = QPushButton("Tables and plots")
        self.measure_button.setToolTip("Show or hide what is measured, below the canvas")
        self.measure_button.setCheckable(True)
        self.measure_button.setChecked(True)
        self.measure_button.clicked.connect(self._on_measure_button)
        self.save_button = QPushButton("Save everything…")
        self.save_button.setToolTip(
            "Maps, masks, regions, tables, plots, report, record and this view, in one folder"
        )
        self.save_button.clicked.connect(self._ask_where_to_save)
        self.open_button = QPushButton("Open…")
        self.open_button.setToolTip("Open a reading that was saved so, with all its layers")
        self.open_button.clicked.connect(self._ask_what_to_open)
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.setToolTip("Stop saving or opening; what was there stays as it was")
        self.cancel_button.clicked.connect(self._latest.stop)
        self.status = QLabel()
        self.status.setWordWrap(True)
        self.progress = QProgressBar()
        self.progress.setRange(0, 1000)
        row = QHBoxLayout()
        for button in (self.measure_button, self.save_button, self.open_button):
            row.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.addWidget(self.maps)
        layout.addWidget(self.tabs, 1)
        layout.addLayout(row)
        layout.addWidget(self.status)
        under_way = QHBoxLayout()
        under_way.addWidget(self.progress, 1)
        under_way.addWidget(self.cancel_button)
        layout.addLayout(under_way)
        self.setMinimumWidth(360)
        self._say("")

    def show_measures(self) -> None:
        """Show the tables and plots below the canvas."""
        if self._released:
            return
        if self._measure_dock is None:
            self._measure_dock = self.viewer.window.add_dock_widget(
                self.measures, name=MEASURE, area="bottom"
            )
            self._measure_dock.visibilityChanged.connect(self._on_measures_visible)
        self._measure_dock.setVisible(True)

    def _on_measure_button(self, wanted: bool) -> None:
        if wanted:
            self.show_measures()
        elif self._measure_dock is not None:
            self._measure_dock.setVisible(False)

    def _on_measures_visible(self, visible: bool) -> None:
        self.measure_button.setChecked(not self._measure_dock.isHidden())

    def _on_reliability(self) -> None:
        for panel in (self.regions, self.spots):
            panel.set_unreliable(self.veil.unreliable)

    def _report_parts(self) -> Parts:
        return Parts(
            self.regions.measures,
            self.spots.spots,
            self.trust.findings,
            (self.look.low_ppm.number(), self.look.high_ppm.number()),
            self.regions.unit.currentText(),
        )

    # ------------------------------------------------------------------------- keep and open
    def save(self, folder: Path) -> None:
        """Put all of the reading into a folder, in a worker."""
        try:
            session = gather(
                self.viewer,
                [layer for layer in self.viewer.layers if self._belongs(layer)],
                {
                    "maps": [layer.name for layer in self.desk.maps],
                    **{name: panel.state() for name, panel in self._with_state()},
                },
                documents=[*self.report.documents(), *self._measurements()],
            )
        except InputError as error:
            self._say(str(error))
            return
        self._work("Saving", functools.partial(session.write, folder))

    def _measurements(self) -> list[Callable[[Path], None]]:
        study, line = self.desk.study(), self.plots.line.points
        tables = [table for table in (self.against.figures,) if table is not None]

        def write(folder: Path) -> None:
            along = None if line is None else profile(study, line)
            write_measurements(folder, study, measures, tables, along)

        measures = self.regions.measures
        return [write]

    def open(self, folder: Path) -> None:
        """Open a reading: its layers are added, and the room stands as it stood."""
        self._work("Opening", functools.partial(read_session, folder))

    def _show_opened(self, opened: Opened) -> None:
        opened.show(self.viewer)
        lost = []
        for name, restore in (("maps", self._choose), *((n, p.restore) for n, p in self._with_state())):
            try:
                if name in opened.state:
                    restore(opened.state[name])
            except (LookupError, TypeError, ValueError, AttributeError):
                lost.append(name)
        without = f"; what was kept of {', '.join(lost)} cannot be read" if lost else ""
        self._say(f"opened: {len(opened.layers)} layers{without}")

    def _choose(self, names: Sequence[str]) -> None:
        here = {layer.name: layer for layer in self.viewer.layers}
        self.desk.choose([here[name] for name in names if name in here])

    def _with_state(self) -> list[tuple[str, Any]]:
        """The panels whose choices are kept, by the name under which they are."""
        return [
            ("regions", self.regions),
            ("against", self.against),
            ("spots", self.spots),
            ("plots", self.plots),
            ("report", self.report),
            ("look", self.look),
        ]

    def _belongs(self, layer: Layer) -> bool:
        """Whether a layer is kept: those that the room itself shows are made anew."""
        if metadata_of(layer).get("quantity") in (VIEW, UNRELIABLE) or self.spots.made(layer):
            return False
        return isinstance(layer, Shapes) or self.desk.is_here(layer)

    def _work(self, what: str, function: Callable[[], Any]) -> None:
        if self._latest.is_busy:
            return
        self._went_well = False
        self._latest.what, self._latest.lasting = what, what == "Saving"
        self._say(f"{what} …")
        self._latest.ask(function)
        self._update_buttons()

    def _on_done(self, done: list[Path] | Opened) -> None:
        try:
            if isinstance(done, Opened):
                self._show_opened(done)
            else:
                self._say(f"saved: {len(done)} files in {done[0].parent}")
        except InputError as error:
            self._say(str(error))
            return
        self._went_well = True

    def _on_ended(self) -> None:
        self._update_buttons()
        self.ended.emit(self._went_well)

    def _ask_where_to_save(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Save everything into a folder")
        if folder:
            self.save(Path(folder))

    def _ask_what_to_open(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Open a reading")
        if folder:
            self.open(Path(folder))

    def _update_buttons(self) -> None:
        for button in (self.save_button, self.open_button):
            button.setEnabled(not self._latest.is_busy)
        self.progress.setVisible(self._latest.is_busy)
        self.cancel_button.setVisible(self._latest.is_busy)

    def _say(self, text: str) -> None:
        self.status.setText(in_words(text))
        self.status.setVisible(bool(text))
        self._update_buttons()

    # -------------------------------------------------------------------------------- its life
    def let_go(self) -> None:
        """Stop the work, close the comparison and the tables, disconnect every event."""
        self._latest.release()
        for panel in self._panels:
            panel.release()
        self.desk.release()
        if self._measure_dock is not None:
            self._measure_dock.visibilityChanged.disconnect(self._on_measures_visible)
            self.viewer.window.remove_dock_widget(self.measures)
            self._measure_dock = None
        self.measures.deleteLater()
