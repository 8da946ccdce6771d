"""Curves of convergence: drawn while a method runs, and looked at again from the record of its map."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from napari.components import ViewerModel
from napari.layers import Layer
from napari.utils.theme import get_theme
from qtpy.QtCore import QEvent, QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QSizePolicy, QToolButton, QVBoxLayout, QWidget

from napari_metaqsm.plugin.editors import keep_wheel_for_scrolling, narrow
from napari_metaqsm.plugin.layers import metadata_of

Curves = Mapping[str, Sequence[float]]

HEIGHT = 84
MARGIN = 5
# Of curves after the first, which has the colour of the text; told apart also by the colour-blind.
_ON_DARK, _ON_LIGHT = ("#56b4e9", "#e69f00", "#cc79a7"), ("#0072b2", "#b35900", "#a0437a")


class ConvergencePlot(QWidget):
    """Curves of positive values from the first step to the last, on a logarithmic axis.

    The mouse over the plot chooses a step; else it is the last one whose values are told. Each curve takes
    the whole width: of nested loops, one has more points than the other.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = viewer
        self._curves: dict[str, list[float]] = {}
        self.hovered: float | None = None
        self.caption = QLabel()
        self.caption.setTextFormat(Qt.TextFormat.RichText)
        self.caption.setWordWrap(True)
        self._canvas = _Canvas(self)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(1)
        layout.addWidget(self._canvas)
        layout.addWidget(self.caption)

    @property
    def curves(self) -> dict[str, list[float]]:
        """What is drawn: the values of each curve, from the first iteration on."""
        return self._curves

    def show_curves(self, curves: Curves) -> None:
        """Draw these in place of others."""
        self._curves = {name: list(values) for name, values in curves.items()}
        self.hovered = None
        self.show_theme()

    def add(self, points: Iterable[tuple[str, int, float]]) -> None:
        """Draw further points: the curve's name, the point's number, its value."""
        for curve, _, value in points:
            self._curves.setdefault(curve, []).append(value)
        self.show_theme()

    def hover(self, place: float | None) -> None:
        """Tell of what is at ``place``, from 0 (the first points) to 1 (the last); None for the last."""
        self.hovered = None if place is None else min(max(place, 0.0), 1.0)
        self.show_theme()

    def show_theme(self) -> None:
        """Say the values in the viewer's colours, and draw anew."""
        told = []
        for number, (name, values) in enumerate(self._curves.items()):
            index = round((1.0 if self.hovered is None else self.hovered) * (len(values) - 1))
            text = f"{name} {values[index]:.3g} at {'' if number else 'step '}{index + 1}"
            told.append(f'<span style="color: {self.colour(number).name()}">{text}</span>')
        self.caption.setText(", ".join(told))
        self._canvas.update()

    def colour(self, place: int) -> QColor:
        """Of the curve in this place."""
        text = QColor(get_theme(self._viewer.theme).text.as_hex())
        others = _ON_DARK if text.lightnessF() > 0.5 else _ON_LIGHT
        return text if place == 0 else QColor(others[(place - 1) % len(others)])


class _Canvas(QWidget):
    """Where the curves are painted."""

    def __init__(self, plot: ConvergencePlot) -> None:
        super().__init__()
        self._plot = plot
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.setFixedHeight(HEIGHT)
        self.setMouseTracking(True)

    def sizeHint(self) -> QSize:
        return QSize(200, HEIGHT)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        area = self._area()
        self._plot.hover((event.pos().x() - area.left()) / max(area.width(), 1.0))

    def leaveEvent(self, event: QEvent) -> None:
        self._plot.hover(None)

    def paintEvent(self, event: QPaintEvent) -> None:
        curves = {
            name: [math.log10(v) if 0 < v < math.inf else math.nan for v in values]
            for name, values in self._plot.curves.items()
        }
        finite = [v for values in curves.values() for v in values if not math.isnan(v)]
        if not finite:
            return
        low, high = min(finite), max(finite)
        spare = max(0.05 * (high - low), 0.02)
        low, high = low - spare, high + spare
        area = self._area()

        def place(along: float, value: float) -> QPointF:
            y = area.bottom() - area.height() * (value - low) / (high - low)
            return QPointF(area.left() + area.width() * along, y)

        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setFont(self.font())
        faint = self._plot.colour(0)
        faint.setAlphaF(0.25)
        dim = self._plot.colour(0)
        dim.setAlphaF(0.75)
        for value in _ticks(low, high):
            y = place(0, math.log10(value)).y()
            painter.setPen(QPen(faint, 1))
            painter.drawLine(QPointF(area.left(), y), QPointF(area.right(), y))
            painter.setPen(dim)
            box = QRectF(0, y - 10, area.left() - 4, 20)
            painter.drawText(box, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, f"{value:g}")
        if self._plot.hovered is not None:
            x = place(self._plot.hovered, low).x()
            painter.setPen(QPen(dim, 1, Qt.PenStyle.DotLine))
            painter.drawLine(QPointF(x, area.top()), QPointF(x, area.bottom()))
        for number, values in enumerate(curves.values()):
            painter.setPen(QPen(self._plot.colour(number), 1.6))
            for stretch in _stretches(values):
                points = [place(index / max(len(values) - 1, 1), value) for index, value in stretch]
                painter.drawPolyline(QPolygonF(points))
                if len(points) == 1:
                    painter.drawEllipse(points[0], 1.5, 1.5)
        painter.end()

    def _area(self) -> QRectF:
        left = self.fontMetrics().horizontalAdvance("0.0002") + MARGIN
        return QRectF(left, MARGIN, max(self.width() - left - MARGIN, 1), self.height() - 2 * MARGIN)


def _ticks(low: float, high: float) -> list[float]:
    """At most four round values between two powers of ten: decades, or parts of one."""
    first, last = math.floor(low), math.ceil(high)
    for factors in ((1,), (1, 2, 5), range(1, 10)):
        values = [float(f"{f}e{d}") for d in range(first, last + 1) for f in factors]
        values = [v for v in values if low <= math.log10(v) <= high]
        if len(values) >= 2:
            break
    return values[:: math.ceil(len(values) / 4)] if values else []


def _stretches(values: Sequence[float]) -> list[list[tuple[int, float]]]:
    """Runs of points that can be drawn: what is zero or not finite leaves a gap."""
    stretches: list[list[tuple[int, float]]] = [[]]
    for index, value in enumerate(values):
        if math.isnan(value):
            stretches.append([])
        else:
            stretches[-1].append((index, value))
    return [stretch for stretch in stretches if stretch]


class ConvergencePanel(QWidget):
    """The curves of the method that runs, or of a map that it made, behind an arrow.

    It is there only while there is something to draw.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._layers: list[Layer] = []
        # What the combo lists: None is what runs, or what did not come to its end.
        self._entries: list[Layer | None] = []
        self._running: Any = None
        self._title = ""
        self._live: dict[str, list[float]] = {}
        self.arrow = QToolButton()
        self.arrow.setText("Convergence")
        self.arrow.setCheckable(True)
        self.arrow.setChecked(True)
        self.arrow.setAutoRaise(True)
        self.arrow.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.arrow.toggled.connect(self._fold)
        self.choice = QComboBox()
        self.choice.setToolTip("Whose curve is drawn: the residual or objective after each iteration")
        self.choice.setAccessibleName("curve of convergence")
        keep_wheel_for_scrolling(self.choice)
        narrow(self.choice)
        self.plot = ConvergencePlot(viewer)
        row = QHBoxLayout()
        row.setSpacing(4)
        row.addWidget(self.arrow)
        row.addWidget(self.choice, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 4)
        layout.setSpacing(2)
        layout.addLayout(row)
        layout.addWidget(self.plot)
        self.choice.currentIndexChanged.connect(self._draw)
        self._fold(True)
        self.setVisible(False)

    def add(self, run: Any, title: str, points: Sequence[tuple[str, int, float]]) -> None:
        """Points of what runs now; ``title`` names it where ``run`` is another than before."""
        if run is not self._running:
            self._running, self._title, self._live = run, title, {}
            self.offer(self._layers)
            self.choice.setCurrentIndex(0)
        for curve, _, value in points:
            self._live.setdefault(curve, []).append(value)
        if self._chosen() is None:
            self.plot.add(points)

    def end(self, title: str = "") -> None:
        """Nothing runs any more; where a ``title`` is given, its curves stay under it."""
        if self._running is not None:
            self._running, self._title = None, title
            self._live = self._live if title else {}
            self.offer(self._layers)

    def offer(self, layers: Iterable[Layer], newest: Layer | None = None) -> None:
        """Let the curves of these layers be chosen, those that have any; ``newest`` is."""
        chosen = newest if newest is not None else self._chosen()
        self._layers = [layer for layer in layers if curves_of(layer)]
        live = [None] if self._running is not None or self._live else []
        self._entries = [*live, *self._layers]
        self.choice.blockSignals(True)
        self.choice.clear()
        self.choice.addItems([self._title if layer is None else layer.name for layer in self._entries])
        newest_last = 0 if live else len(self._entries) - 1
        self.choice.setCurrentIndex(self._entries.index(chosen) if chosen in self._entries else newest_last)
        self.choice.blockSignals(False)
        self.setVisible(bool(self._entries))
        self._draw()

    def show_theme(self) -> None:
        """Take the colours of the viewer's theme."""
        self.plot.show_theme()

    def _chosen(self) -> Layer | None:
        return self._entries[self.choice.currentIndex()] if self._entries else None

    def _draw(self) -> None:
        layer = self._chosen()
        self.choice.setToolTip(self.choice.currentText())
        self.plot.show_curves(self._live if layer is None else curves_of(layer))

    def _fold(self, unfolded: bool) -> None:
        self.arrow.setArrowType(Qt.ArrowType.DownArrow if unfolded else Qt.ArrowType.RightArrow)
        self.plot.setVisible(unfolded)


def curves_of(layer: Layer) -> Curves:
    """The curves in the record of the step that made a layer; empty where there are none."""
    steps = (metadata_of(layer).get("record") or {}).get("steps") or ()
    return steps[-1].get("convergence", {}) if steps else {}
