"""What the table of regions holds: a row for every region, the figures of every map side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt, Signal
from qtpy.QtGui import QColor

from napari_metaqsm.reading.regions import STATISTICS, Region, RegionMeasures, unit_factor

# Of a map: the mean beside its spread in one column, then what else is known.
SPREAD = "spread"
CHOICES = {
    SPREAD: ("Mean ± SD", "mean of the voxels counted and their standard deviation, over n − 1"),
    **{name: words for name, words in STATISTICS.items() if name not in ("mean", "sd")},
}
MARK, UNKNOWN = "⚠", "–"
NAME_COLUMN, LABEL_COLUMN = 0, 1
_RIGHT = int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
_CENTRED = int(Qt.AlignmentFlag.AlignCenter)


class _Column(NamedTuple):
    """What a column shows of a region, and what it sorts by."""

    title: str
    help: str
    text: Callable[[Region], str]
    key: Callable[[Region], Any]


class RegionsModel(QAbstractTableModel):
    """Regions as rows; sorted in place, so that new figures keep the order that the reader chose.

    Rows without a figure stand last, whichever way the others are sorted.
    """

    # A region's label and the name that the reader typed.
    renamed = Signal(int, str)

    def __init__(self, colour_of: Callable[[int], QColor | None]) -> None:
        super().__init__()
        self._colour_of = colour_of
        self._columns: list[_Column] = []
        self.regions: list[Region] = []
        self._sorted = (LABEL_COLUMN, Qt.SortOrder.AscendingOrder)

    def show_measures(self, measures: RegionMeasures | None, statistics: Sequence[str], unit: str) -> None:
        """Show these, and keep cells and selection in place where rows and columns are the same."""
        columns = _columns(measures, statistics, unit) if measures is not None else []
        before = [c.title for c in self._columns], [r.label for r in self.regions]
        regions = self._in_order(list(measures or ()), columns)
        if before == ([c.title for c in columns], [r.label for r in regions]):
            self._columns, self.regions = columns, regions
            self.refresh()
            return
        self.beginResetModel()
        self._columns, self.regions = columns, regions
        self.endResetModel()

    def refresh(self) -> None:
        """Paint every cell anew, as when the colours of the labels change."""
        if self.regions:
            last = self.index(len(self.regions) - 1, len(self._columns) - 1)
            self.dataChanged.emit(self.index(0, 0), last)

    def row_of(self, label: int) -> int | None:
        """Where the region of a label stands."""
        return next((row for row, region in enumerate(self.regions) if region.label == label), None)

    # ------------------------------------------------------------------------- as Qt asks for it
    def rowCount(self, parent: QModelIndex | None = None) -> int:
        """One for every region."""
        return 0 if parent is not None and parent.isValid() else len(self.regions)

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        """Those of the region, then those of every map."""
        return 0 if parent is not None and parent.isValid() else len(self._columns)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Text, colour of the label, and what to know before the figures are believed."""
        region, column = self.regions[index.row()], self._columns[index.column()]
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.EditRole):
            return column.text(region)
        if role == Qt.ItemDataRole.TextAlignmentRole and index.column() != NAME_COLUMN:
            return _CENTRED if column.title == "" else _RIGHT
        if role == Qt.ItemDataRole.DecorationRole and index.column() == NAME_COLUMN:
            return self._colour_of(region.label)
        if role == Qt.ItemDataRole.ToolTipRole:
            return "\n".join(region.warnings()) or None
        return None

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        """The column's title; its meaning on hovering."""
        # While the model is reset, a header asks for columns that are no more.
        if orientation == Qt.Orientation.Horizontal and section < len(self._columns):
            if role == Qt.ItemDataRole.DisplayRole:
                return self._columns[section].title
            if role == Qt.ItemDataRole.ToolTipRole:
                return self._columns[section].help
        return None

    def flags(self, index: QModelIndex) -> Qt.ItemFlag:
        """Names can be typed, figures cannot."""
        own = Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable
        return own | Qt.ItemFlag.ItemIsEditable if index.column() == NAME_COLUMN else own

    def setData(self, index: QModelIndex, value: Any, role: int = Qt.ItemDataRole.EditRole) -> bool:
        """Tell of a name that was typed."""
        region = self.regions[index.row()]
        if role != Qt.ItemDataRole.EditRole or str(value).strip() == region.name:
            return False
        self.renamed.emit(region.label, str(value).strip())
        return True

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """Sort by what the column means, numbers as numbers."""
        self._sorted = (column, order)
        self.layoutAboutToBeChanged.emit()
        before = self.regions
        self.regions = self._in_order(before, self._columns)
        row_of = {region.label: row for row, region in enumerate(self.regions)}
        for index in self.persistentIndexList():
            label = before[index.row()].label
            self.changePersistentIndex(index, self.index(row_of[label], index.column()))
        self.layoutChanged.emit()

    def _in_order(self, regions: list[Region], columns: list[_Column]) -> list[Region]:
        column, order = self._sorted
        if not 0 <= column < len(columns):
            return regions
        keyed = [(columns[column].key(region), region) for region in regions]
        known = [pair for pair in keyed if not _unknown(pair[0])]
        known.sort(key=lambda pair: pair[0], reverse=order == Qt.SortOrder.DescendingOrder)
        return [region for _, region in known + [pair for pair in keyed if _unknown(pair[0])]]


def _columns(measures: RegionMeasures, statistics: Sequence[str], unit: str) -> list[_Column]:
    columns = [
        _Column("Region", "Double-click a name to change it", lambda r: r.name, lambda r: r.name.lower()),
        _Column("Label", "Number of the label in its layer", lambda r: str(r.label), lambda r: r.label),
        _Column(
            "",
            "Regions whose figures are to be read with care; hover over the mark for why",
            lambda r: MARK if r.warnings() else "",
            lambda r: len(r.warnings()),
        ),
        _Column(
            "Voxels",
            "Voxels of the whole region, whether they lie in a map's mask or not",
            lambda r: str(r.voxels),
            lambda r: r.voxels,
        ),
        _Column(
            "Volume\nmm³",
            "Of the whole region, by the layer's voxel size",
            lambda r: _figure(r.volume_mm3, 1),
            lambda r: r.volume_mm3,
        ),
    ]
    if any(region.unreliable_percent is not None for region in measures):
        columns.append(
            _Column(
                "Unreliable\n%",
                "Share of the voxels counted where the maps are not to be trusted",
                lambda r: _figure(r.unreliable_percent, 0),
                lambda r: math.nan if r.unreliable_percent is None else r.unreliable_percent,
            )
        )
    for title in measures.titles:
        columns += [_map_column(title, statistic, unit) for statistic in CHOICES if statistic in statistics]
    return columns


def _map_column(title: str, statistic: str, unit: str) -> _Column:
    factor, digits = unit_factor(unit)
    words, meaning = CHOICES[statistic]
    about = f"{title}: {meaning}"
    if statistic == "voxels":
        return _Column(
            f"{title}\n{words}",
            about,
            lambda r: str(r.maps[title].voxels),
            lambda r: r.maps[title].voxels,
        )
    if statistic == SPREAD:

        def text(region: Region) -> str:
            measure = region.maps[title]
            mean, sd = _figure(measure.mean * factor, digits), _figure(measure.sd * factor, digits)
            return mean if sd == UNKNOWN else f"{mean} ± {sd}"

        return _Column(f"{title}\n{words} {unit}", about, text, lambda r: r.maps[title].mean)
    return _Column(
        f"{title}\n{words} {unit}",
        about,
        lambda r: _figure(getattr(r.maps[title], statistic) * factor, digits),
        lambda r: getattr(r.maps[title], statistic),
    )


def _figure(value: float | None, digits: int) -> str:
    """A number with a true minus sign; a dash where it is not known."""
    if value is None or math.isnan(value):
        return UNKNOWN
    return f"{value:.{digits}f}".replace("-", "−")


def _unknown(key: Any) -> bool:
    return isinstance(key, float) and math.isnan(key)
