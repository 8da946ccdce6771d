"""The table of regions as it is seen and clicked; the names stay while the figures scroll."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import QItemSelectionModel, QModelIndex, Qt, Signal
from qtpy.QtGui import QKeySequence, QResizeEvent
from qtpy.QtWidgets import QAbstractItemView, QFrame, QHeaderView, QShortcut, QTableView

from napari_metaqsm.plugin.reading.regions_model import LABEL_COLUMN, NAME_COLUMN, RegionsModel
from napari_metaqsm.reading.regions import Region, RegionMeasures

_NAME_WIDTH = 150
_ROW_PADDING = 8
_TRIGGERS = QAbstractItemView.EditTrigger.DoubleClicked | QAbstractItemView.EditTrigger.EditKeyPressed


class RegionsTable(QTableView):
    """Rows are clicked to be gone to, sorted by their columns' titles, and named in place."""

    # The label of a row that the reader went to, by mouse or key.
    visited = Signal(int)
    copying = Signal()

    def __init__(self, model: RegionsModel) -> None:
        super().__init__()
        self.regions = model
        _set_up(self, model)
        self.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setAccessibleName("figures of the regions")
        self.names = _Names(self)
        copying = QShortcut(QKeySequence(QKeySequence.StandardKey.Copy), self)
        copying.setContext(Qt.ShortcutContext.WidgetShortcut)
        copying.activated.connect(self.copying)
        for view in (self, self.names):
            view.clicked.connect(self._visit)
        self.selectionModel().currentRowChanged.connect(self._on_row)

    @property
    def current(self) -> Region | None:
        """The region of the row that was gone to last."""
        row = self.currentIndex().row()
        return self.regions.regions[row] if row >= 0 else None

    @property
    def selected(self) -> list[Region]:
        """The regions of the selected rows, as they stand."""
        rows = sorted(index.row() for index in self.selectionModel().selectedRows())
        return [self.regions.regions[row] for row in rows]

    def show_measures(self, measures: RegionMeasures | None, statistics: Sequence[str], unit: str) -> None:
        """Show these; what was selected stays so, and nothing is gone to."""
        current, selected = self.current, self.selected
        columns = self.regions.columnCount()
        self.regions.show_measures(measures, statistics, unit)
        if self.regions.columnCount() != columns:
            self.resizeColumnsToContents()
            self.setColumnWidth(NAME_COLUMN, max(self.columnWidth(NAME_COLUMN), _NAME_WIDTH))
        if self.current is not None:
            return
        flags = QItemSelectionModel.SelectionFlag
        place = self._place_of(current)
        if place.isValid():
            self.selectionModel().setCurrentIndex(place, flags.NoUpdate)
        for region in selected:
            place = self._place_of(region)
            if place.isValid():
                self.selectionModel().select(place, flags.Select | flags.Rows)

    def edit(self, index: QModelIndex, trigger: Any = None, event: Any = None) -> bool | None:
        """Edit the name of a row, in the column that lies above the others."""
        if trigger is None:
            self.names.edit(index)
            return None
        if trigger == QAbstractItemView.EditTrigger.EditKeyPressed and index.isValid():
            self.names.edit(index.siblingAtColumn(NAME_COLUMN))
            return True
        return super().edit(index, trigger, event)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Keep the names in their place."""
        super().resizeEvent(event)
        self.names.place()

    def _place_of(self, region: Region | None) -> QModelIndex:
        row = None if region is None else self.regions.row_of(region.label)
        return QModelIndex() if row is None else self.regions.index(row, NAME_COLUMN)

    def _on_row(self, current: QModelIndex, previous: QModelIndex) -> None:
        # The reader's keys and clicks select the row; what only makes it the current one does not.
        if current.isValid() and self.selectionModel().isSelected(current):
            self._visit(current)

    def _visit(self, index: QModelIndex) -> None:
        self.visited.emit(self.regions.regions[index.row()].label)


class _Names(QTableView):
    """The column of names, which lies over that of the table and does not scroll sideways with it."""

    def __init__(self, table: RegionsTable) -> None:
        super().__init__(table)
        self._table = table
        _set_up(self, table.model())
        self.setSelectionModel(table.selectionModel())
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setFocusProxy(table)
        # A frame of its own would shift its rows, whether Qt draws it or the window's style.
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setStyleSheet("QTableView { border: none; margin: 0; padding: 0 }")
        for policy in (self.setHorizontalScrollBarPolicy, self.setVerticalScrollBarPolicy):
            policy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        table.viewport().stackUnder(self)
        table.model().modelReset.connect(self._hide_figures)
        mine, theirs = self.verticalScrollBar(), table.verticalScrollBar()
        mine.valueChanged.connect(theirs.setValue)
        theirs.valueChanged.connect(mine.setValue)
        own, header = self.horizontalHeader(), table.horizontalHeader()
        header.sectionResized.connect(self._on_width)
        header.geometriesChanged.connect(self.place)
        own.sectionResized.connect(self._on_own_width)
        # One table, one column that it is sorted by.
        header.sortIndicatorChanged.connect(own.setSortIndicator)
        own.sortIndicatorChanged.connect(header.setSortIndicator)
        self._hide_figures()

    def place(self) -> None:
        """Lie over the column of the table."""
        table, figures = self._table, self._table.viewport().geometry()
        if table.model() is None:  # the window is being taken down
            return
        header = table.horizontalHeader().geometry()
        self.horizontalHeader().setFixedHeight(header.height())
        width, height = table.columnWidth(NAME_COLUMN), header.height() + figures.height()
        self.setGeometry(figures.x(), header.y(), width, height)
        self.setVisible(table.model().columnCount() > 0)

    def _hide_figures(self) -> None:
        for column in range(self.model().columnCount()):
            self.setColumnHidden(column, column != NAME_COLUMN)
        self.place()

    def _on_width(self, column: int, before: int, width: int) -> None:
        if column == NAME_COLUMN:
            self.setColumnWidth(NAME_COLUMN, width)
            self.place()

    def _on_own_width(self, column: int, before: int, width: int) -> None:
        if column == NAME_COLUMN and width:
            self._table.setColumnWidth(NAME_COLUMN, width)


def _set_up(view: QTableView, model: RegionsModel) -> None:
    """What both parts of the table have alike: without it their rows would not stand on one line."""
    view.setModel(model)
    view.setSortingEnabled(True)
    view.sortByColumn(LABEL_COLUMN, Qt.SortOrder.AscendingOrder)
    view.setEditTriggers(_TRIGGERS)
    view.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
    view.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
    view.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
    view.setWordWrap(False)
    rows = view.verticalHeader()
    rows.hide()
    rows.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
    rows.setDefaultSectionSize(view.fontMetrics().height() + _ROW_PADDING)
    view.horizontalHeader().setHighlightSections(False)
