"""The list of probed spots, and all that is known of one, as the reader sees them."""

from __future__ import annotations

import html
from collections.abc import Sequence

from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtWidgets import QAbstractItemView, QTableWidget, QTableWidgetItem

from napari_metaqsm.plugin.section import in_words
from napari_metaqsm.reading.spots import UNTOLD, Spot, sentence

_FIRST = ("", "Place, mm", "Sign", "mm³", "Note")
_VOLUME_COLUMN, NOTE_COLUMN = 3, 4
_NOTE_WIDTH = 120


class SpotsTable(QTableWidget):
    """A row for every spot, its note editable."""

    def __init__(self) -> None:
        super().__init__()
        self.setAccessibleName("probed spots")
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setShowGrid(False)
        self.verticalHeader().hide()
        self.fill([])

    def select(self, row: int) -> None:
        """Make a row the current one, without going there."""
        with QSignalBlocker(self):
            self.setCurrentCell(row, 0)

    def fill(self, spots: Sequence[Spot]) -> None:
        """Show these; widths are fitted to them; nothing is gone to."""
        with QSignalBlocker(self):
            self._fill(spots)

    def _fill(self, spots: Sequence[Spot]) -> None:
        titles = list(dict.fromkeys(title for spot in spots for title in spot.methods))
        self.setColumnCount(len(_FIRST) + len(titles))
        self.setHorizontalHeaderLabels([*_FIRST, *(f"{title}\nmean (peak), ppm" for title in titles)])
        self.horizontalHeaderItem(1).setToolTip("From the middle of the brain, in mm")
        self.setRowCount(len(spots))
        for row, spot in enumerate(spots):
            texts = [
                f"{row + 1}",
                _letters(spot),
                f"{spot.kind}{_how(spot)}",
                f"{spot.volume_mm3:.0f}",
                spot.note,
            ]
            for column, text in enumerate([*texts, *(_figures(spot, title) for title in titles)]):
                item = QTableWidgetItem(text)
                if column == NOTE_COLUMN:
                    item.setToolTip("Double click to write a note")
                else:
                    item.setFlags(item.flags() & ~Qt.ItemFlag.ItemIsEditable)
                if column == _VOLUME_COLUMN or column > NOTE_COLUMN:
                    item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
                self.setItem(row, column, item)
        self.horizontalHeader().setMinimumSectionSize(24)
        self.resizeColumnsToContents()
        self.setColumnWidth(NOTE_COLUMN, max(self.columnWidth(NOTE_COLUMN), _NOTE_WIDTH))


def _letters(spot: Spot) -> str:
    """Where it lies, as in "R 21  A 8  S 15"."""
    pairs = zip(("RL", "AP", "SI"), spot.offset_mm, strict=True)
    return "  ".join(f"{pair[mm < 0]} {abs(mm):.0f}" for pair, mm in pairs)


def _how(spot: Spot) -> str:
    return "" if spot.confidence == UNTOLD else f", {spot.confidence}"


def _ppm(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def _figures(spot: Spot, title: str) -> str:
    values = spot.methods.get(title)
    return "" if values is None else f"{_ppm(values.mean)} ({_ppm(values.peak)})"


def details(spot: Spot) -> str:
    """The spot's sentence, and what else is known of it, as HTML."""
    rows = ["<tr><th></th><th>Mean ± SD</th><th>Peak</th><th>Around it</th><th>CNR</th></tr>"]
    for title, v in spot.methods.items():
        cells = [
            html.escape(title),
            f"{_ppm(v.mean)} ± {v.sd:.3f}",
            _ppm(v.peak),
            f"{_ppm(v.around_mean)} ± {v.around_sd:.3f}",
            f"{abs(v.cnr):.1f}",
        ]
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    known = [f"region grown in {html.escape(spot.lead)}"]
    if spot.local_field_ppm is not None:
        known.append(f"local field {_ppm(spot.local_field_ppm)} ppm")
    if spot.phase_rad is not None:
        known.append(
            f"phase at the peak {', '.join(f'{p:+.2f}'.replace('-', '−') for p in spot.phase_rad)} rad"
        )
    if spot.magnitude is not None:
        parts = ", ".join(f"{100 * m:.0f} %" for m in spot.magnitude)
        known.append(f"magnitude {parts} of that around it")
    return (
        f"<p>{html.escape(sentence(spot))}</p>"
        f"<table cellspacing='0' cellpadding='2'>{''.join(rows)}</table>"
        f"<p>{in_words('; '.join(known))}.</p>"
    )
