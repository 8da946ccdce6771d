"""How far what is read can be trusted: every check in one line, with why and what to do below it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Layer
from napari.utils.theme import get_theme
from qtpy.QtCore import QEvent, QObject, Qt, QTimer, Signal
from qtpy.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QToolButton, QVBoxLayout, QWidget

from napari_metaqsm.errors import InputError
from napari_metaqsm.plugin.layers import geometry_of, metadata_of
from napari_metaqsm.plugin.reading.desk import Desk, same_grid
from napari_metaqsm.plugin.reading.latest import Latest
from napari_metaqsm.plugin.section import in_words
from napari_metaqsm.reading.findings import Finding, Severity, find, find_in

# Layers come in bursts while a chain runs or a mask is painted.
PAUSE_MS = 300
_BEFORE_MAPS = ("phase", "magnitude", "total_field", "local_field", "noise", "mask")
_NOTHING = "Open a scan or choose a map: what can be checked of it stands here."


class TrustPanel(QWidget):
    """The findings on what lies on the desk, or on the scan in the viewer while there is no map yet.

    ``body`` is the layout below them, for the panel that shows where the maps are reliable.
    """

    found = Signal(object)

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self.desk = desk
        self.findings: list[Finding] = []
        self.rows: list[FindingRow] = []
        # What places are voxels of: None for the maps on the desk.
        self._place_layer: Layer | None = None
        self._latest = Latest(self._on_found, self._say, ended=self._on_ended)
        self._asking = QTimer(self)
        self._asking.setSingleShot(True)
        self._asking.setInterval(PAUSE_MS)
        self._asking.timeout.connect(self._ask)
        self.status = QLabel()
        self.status.setWordWrap(True)
        self.status.setTextFormat(Qt.TextFormat.PlainText)
        self._raised = _column()
        self.in_order = Fold("In order")
        self.not_checked = Fold("Not checked")
        self.body = QVBoxLayout()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.status)
        layout.addLayout(self._raised)
        layout.addWidget(self.in_order)
        layout.addWidget(self.not_checked)
        layout.addLayout(self.body)
        desk.changed.connect(self._asking.start)
        desk.relisted.connect(self._on_list)
        desk.viewer.events.theme.connect(self._show_theme)
        self._show([])
        self._asking.start()

    def release(self) -> None:
        """Let go of the desk and the viewer."""
        self._asking.stop()
        self._latest.release()
        self.desk.changed.disconnect(self._asking.start)
        self.desk.relisted.disconnect(self._on_list)
        self.desk.viewer.events.theme.disconnect(self._show_theme)

    # --------------------------------------------------------------------------- looking anew
    def _on_list(self) -> None:
        if not self.desk.maps:  # then the scan is looked at, wherever in the viewer it is
            self._asking.start()

    def _ask(self) -> None:
        try:
            self._place_layer, look = _look(self.desk)
        except InputError as error:
            self._latest.stop()
            self._show([])
            self._say(str(error))
            return
        if look is None:
            self._latest.stop()
            self._on_found([])
            return
        if not self.findings:
            self._say("checking …")
        self._latest.ask(look, stop=True)

    def _on_found(self, findings: list[Finding]) -> None:
        # Rows that say the same stay, so that nothing jumps under the reader's hand.
        if findings != self.findings or not findings:
            self._show(findings)
        self._summarise()
        self.found.emit(findings)

    def _on_ended(self) -> None:
        self._summarise() if self.findings else None

    # -------------------------------------------------------------------------------- showing
    def _show(self, findings: Sequence[Finding]) -> None:
        unfolded = {row.finding.name for row in self.rows if row.is_unfolded}
        for row in self.rows:
            row.setParent(None)
            row.deleteLater()
        self.findings, self.rows = list(findings), []
        columns = {
            Severity.WRONG: self._raised,
            Severity.CARE: self._raised,
            Severity.IN_ORDER: self.in_order.column,
            Severity.NOT_CHECKED: self.not_checked.column,
        }
        # The worst first; among equals the order of the checks.
        for severity, column in columns.items():
            for finding in findings:
                if finding.severity is severity:
                    row = FindingRow(finding, self._go_to)
                    row.unfold(finding.name in unfolded)
                    column.addWidget(row)
                    self.rows.append(row)
        for fold in (self.in_order, self.not_checked):
            fold.show_count()
        self._show_theme()

    def _summarise(self) -> None:
        counts = {s: sum(f.severity is s for f in self.findings) for s in Severity}
        wrong, care = counts[Severity.WRONG], counts[Severity.CARE]
        if not self.findings:
            text = _NOTHING
        elif wrong or care:
            said = [f"{wrong} wrong"] * bool(wrong) + [f"{care} to read with care"] * bool(care)
            text = f"{', '.join(said)}. Click for more."
        else:
            text = "Nothing found that speaks against these maps."
            if self._place_layer is not None:
                text = "Nothing found that speaks against this scan. There is no map yet."
        self._say(text)

    def _say(self, text: str) -> None:
        self.status.setText(in_words(text))

    def _show_theme(self, event: Any = None) -> None:
        theme = get_theme(self.desk.viewer.theme)
        colours = {Severity.WRONG: theme.error.as_hex(), Severity.CARE: theme.warning.as_hex()}
        for row in self.rows:
            row.colour(colours.get(row.finding.severity))

    def _go_to(self, place: tuple[int, int, int]) -> None:
        if self._place_layer is None:
            if self.desk.maps:
                self.desk.go_to(place)
            return
        layer, dims = self._place_layer, self.desk.viewer.dims
        world = layer.data_to_world((0,) * (layer.ndim - 3) + place)[-3:]
        for axis, where in enumerate(world, start=dims.ndim - 3):
            dims.set_point(axis, where)


class FindingRow(QFrame):
    """One finding: a line that unfolds, and goes to the finding's place, when it is clicked."""

    def __init__(self, finding: Finding, go_to: Callable[[tuple[int, int, int]], None]) -> None:
        super().__init__()
        self.setObjectName("finding")
        self.finding = finding
        self._go_to = go_to
        self.arrow = _arrow(f"{finding.name}: {finding.what}")
        self.arrow.setText("")
        self.arrow.toggled.connect(self.unfold)
        self.arrow.clicked.connect(self._on_clicked)
        checked = finding.severity is not Severity.NOT_CHECKED
        what = finding.what if checked else f"{finding.name}: {finding.what}"
        self.line = QLabel(f"{finding.severity.value}  {in_words(what)}")
        self.line.setWordWrap(True)
        self.line.setTextFormat(Qt.TextFormat.PlainText)
        self.line.setToolTip(finding.name)
        self.line.setCursor(Qt.CursorShape.PointingHandCursor)
        self.line.installEventFilter(self)
        self.details = QWidget()
        column = QVBoxLayout(self.details)
        column.setContentsMargins(22, 0, 4, 6)
        column.setSpacing(4)
        for title, text in (
            ("", finding.why_it_matters),
            ("What to do: ", finding.what_to_do),
            (f"{finding.name}: ", finding.figure),
        ):
            if text:
                column.addWidget(_text(title + text))
        if finding.place is not None:
            button = QPushButton("Show the place")
            button.setToolTip("Move the slices there")
            button.clicked.connect(lambda: self._go_to(finding.place))
            row = QHBoxLayout()
            row.addWidget(button)
            row.addStretch(1)
            column.addLayout(row)
        top = QHBoxLayout()
        top.setSpacing(2)
        top.addWidget(self.arrow, 0, Qt.AlignmentFlag.AlignTop)
        top.addWidget(self.line, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(2, 1, 0, 1)
        layout.setSpacing(2)
        layout.addLayout(top)
        layout.addWidget(self.details)
        # A finding without more to say has nothing to unfold.
        self.arrow.setEnabled(column.count() > 0)
        if column.count() == 0:
            self.arrow.setArrowType(Qt.ArrowType.NoArrow)
            self.line.unsetCursor()
        self.unfold(False)

    @property
    def is_unfolded(self) -> bool:
        """Whether more than the line is shown."""
        return self.arrow.isChecked()

    def unfold(self, unfolded: bool) -> None:
        """Show or hide why it matters, what to do and the figure."""
        self.arrow.setChecked(unfolded)
        if self.arrow.isEnabled():
            self.arrow.setArrowType(Qt.ArrowType.DownArrow if unfolded else Qt.ArrowType.RightArrow)
        self.details.setVisible(unfolded)

    def colour(self, colour: str | None) -> None:
        """An edge of this colour, or none."""
        # Text in the theme's red is hard to read on its dark background; an edge is not.
        edge = f"border-left: 4px solid {colour}" if colour else "border-left: 4px solid transparent"
        self.setStyleSheet(f"QFrame#finding {{ {edge}; }}")

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """A click on the line is one on its arrow."""
        if event.type() == QEvent.Type.MouseButtonRelease and event.button() == Qt.MouseButton.LeftButton:
            self.arrow.click()
            return True
        return super().eventFilter(watched, event)

    def _on_clicked(self, unfolded: bool) -> None:
        if unfolded and self.finding.place is not None:
            self._go_to(self.finding.place)


class Fold(QWidget):
    """A headline with a count, and lines that it folds away; it is not there without lines."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self._title = title
        self.header = _arrow(title)
        self.header.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.header.toggled.connect(self._fold)
        self._content = QWidget()
        self.column = _column()
        self._content.setLayout(self.column)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self.header)
        layout.addWidget(self._content)
        self._fold(False)

    def show_count(self) -> None:
        """Say how many lines there are."""
        self.header.setText(f"{self._title} ({self.column.count()})")
        self.setVisible(self.column.count() > 0)

    def _fold(self, unfolded: bool) -> None:
        self.header.setArrowType(Qt.ArrowType.DownArrow if unfolded else Qt.ArrowType.RightArrow)
        self._content.setVisible(unfolded)


def _look(desk: Desk) -> tuple[Layer | None, Callable[[], list[Finding]] | None]:
    """The layer whose voxels places are, None for the maps, and how the findings are made, if at all.

    Raises
    ------
    InputError
        When what is there cannot be read together.
    """
    if desk.maps:
        return None, functools.partial(find_in, desk.study())
    newest = {quantity: _newest(desk.viewer, quantity) for quantity in _BEFORE_MAPS}
    first = next((layer for layer in newest.values() if layer is not None), None)
    if first is None:
        return None, None
    here = {q: layer for q, layer in newest.items() if layer is not None and same_grid(layer, first)}
    known = (metadata_of(layer).get("acquisition") for layer in here.values())
    arrays = {quantity: np.asarray(layer.data) for quantity, layer in here.items()}
    return first, functools.partial(find, geometry_of(first), next(filter(None, known), None), **arrays)


def _newest(viewer: ViewerModel, quantity: str) -> Layer | None:
    return next((x for x in reversed(viewer.layers) if metadata_of(x).get("quantity") == quantity), None)


def _arrow(name: str) -> QToolButton:
    button = QToolButton()
    button.setText(name)
    button.setAccessibleName(name)
    button.setCheckable(True)
    button.setAutoRaise(True)
    button.setArrowType(Qt.ArrowType.RightArrow)
    return button


def _column() -> QVBoxLayout:
    column = QVBoxLayout()
    column.setContentsMargins(0, 0, 0, 0)
    column.setSpacing(2)
    return column


def _text(text: str) -> QLabel:
    label = QLabel(text)
    label.setWordWrap(True)
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return label
