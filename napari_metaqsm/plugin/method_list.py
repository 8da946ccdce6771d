"""The list of inversions, by kind: what each is good at, how long it would take, its form behind an arrow."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import groupby

from napari.components import ViewerModel
from napari.utils.theme import get_theme
from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QToolButton, QVBoxLayout, QWidget

from napari_metaqsm.method import KINDS, Method
from napari_metaqsm.plugin.forms import MethodForm, ReferenceLink
from napari_metaqsm.plugin.jobs import START

_KINDS = {
    "direct": "By one formula",
    "iterative": "By steps that lower an objective; how they converge is drawn while they run",
    "learned": "By what a network has learned",
}
INDENT = 20


class MethodRow(QWidget):
    """One method: whether it runs, and what there is to know before.

    A slider is there as soon as the method is checked; the other parameters are behind the arrow.
    """

    changed = Signal()

    def __init__(self, method: Method, checked: bool) -> None:
        super().__init__()
        self.method = method
        self.box = QCheckBox(method.title)
        self.box.setToolTip(method.summary)
        self.box.setChecked(checked)
        self.time = QLabel()
        self.arrow = QToolButton()
        self.arrow.setCheckable(True)
        self.arrow.setAutoRaise(True)
        self.arrow.setToolTip(f"Parameters of {method.title}")
        self.arrow.setAccessibleName(f"parameters of {method.title}")
        good_at = method.summary.removeprefix(f"{method.kind.capitalize()}: ")
        self.about = ReferenceLink(method.reference, good_at[:1].upper() + good_at[1:], "Paper")
        self.form = MethodForm(method, about=False)
        self.onward = QCheckBox("Go on from the last map")
        self.onward.setToolTip(
            "With the same inputs and other parameters, begin where the last map ended: the same answer in "
            "fewer steps. Untick to begin afresh."
        )
        self.onward.setChecked(START in method.takes)
        top = QHBoxLayout()
        top.addWidget(self.box, 1)
        top.addWidget(self.time)
        top.addWidget(self.arrow)
        below = QVBoxLayout()
        below.setContentsMargins(INDENT, 0, 0, 0)
        below.setSpacing(2)
        for widget in (self.about, self.onward, self.form):
            below.addWidget(widget)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 4)
        layout.setSpacing(0)
        layout.addLayout(top)
        layout.addLayout(below)
        for signal in (self.box.toggled, self.arrow.toggled):
            signal.connect(self._show)
        for signal in (self.box.toggled, self.onward.toggled, self.form.changed):
            signal.connect(self.changed)
        self._show()

    def _show(self) -> None:
        unfolded = self.arrow.isChecked()
        self.arrow.setArrowType(Qt.ArrowType.DownArrow if unfolded else Qt.ArrowType.RightArrow)
        self.form.form.show_all(unfolded)
        self.form.setVisible(unfolded or (self.box.isChecked() and bool(self.form.form.sliders)))
        self.onward.setVisible(unfolded and START in self.method.takes)


class MethodList(QWidget):
    """Rows of methods under the headings of their kinds."""

    changed = Signal()

    def __init__(self, viewer: ViewerModel, entries: Collection[Method], checked: Collection[str]) -> None:
        super().__init__()
        self._viewer = viewer
        self._headings: list[QLabel] = []
        self.rows: dict[str, MethodRow] = {}
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        for kind, group in by_kind(entries):
            heading = QLabel(kind.capitalize())
            heading.setToolTip(_KINDS[kind])
            self._headings.append(heading)
            layout.addWidget(heading)
            for method in group:
                row = self.rows[method.name] = MethodRow(method, method.name in checked)
                row.changed.connect(self.changed)
                layout.addWidget(row)
        self.show_theme()

    def show_theme(self) -> None:
        """Take the colours of the viewer's theme: what explains stands back behind what is chosen."""
        theme = get_theme(self._viewer.theme)
        text, back = QColor(theme.text.as_hex()), QColor(theme.background.as_hex())
        dim = QColor(*((3 * a + b) // 4 for a, b in zip(text.getRgb()[:3], back.getRgb()[:3], strict=True)))
        for row in self.rows.values():
            for label in (row.about, row.time):
                label.setStyleSheet(f"color: {dim.name()}")
        for heading in self._headings:
            heading.setStyleSheet(
                f"color: {dim.name()}; font-weight: bold; padding-top: 4px; "
                f"border-bottom: 1px solid {theme.secondary.as_hex()}"
            )


def by_kind(entries: Collection[Method]) -> Iterator[tuple[str, Iterator[Method]]]:
    """Inversions in the groups of their kinds, in the order of ``KINDS``."""
    ordered = sorted(entries, key=lambda entry: KINDS.index(entry.kind))
    return groupby(ordered, key=lambda entry: entry.kind)
