"""Tables of figures: the same rows as Markdown to read and as CSV to compute with."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np


class Spread(NamedTuple):
    """Mean and standard deviation of a sample, and its size; not a number where there is no sample."""

    mean: float
    deviation: float
    count: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """The spread of ``values``; of one alone the deviation is not a number."""
        values = np.asarray(list(values), float)
        mean = float(values.mean()) if values.size else math.nan
        return cls(mean, float(values.std(ddof=1)) if values.size > 1 else math.nan, values.size)


Cell = str | int | float | Spread


@dataclass(frozen=True)
class Column:
    """A column: its title, and the digits after the point that Markdown shows."""

    title: str
    digits: int = 1


@dataclass(frozen=True)
class Table:
    """Rows under columns, with a title and a note on what is counted.

    Parameters
    ----------
    name : of its CSV file, without the ending
    columns : what each row holds, in order; a title alone for text
    """

    name: str
    title: str
    columns: Sequence[Column | str]
    rows: list[tuple[Cell, ...]] = field(default_factory=list)
    note: str = ""

    def markdown(self) -> str:
        """A heading, the table, and the note below it; spreads as mean ± SD."""
        titles, rows = self.texts()
        lines = [
            f"## {self.title}",
            "",
            _line(titles),
            "|" + "---|" * len(titles),
            *map(_line, rows),
        ]
        return "\n".join([*lines, *(["", self.note] if self.note else []), ""])

    def texts(self) -> tuple[list[str], list[list[str]]]:
        """Titles and rows as they are read, rounded to each column's digits; spreads as mean ± SD."""
        columns = [Column(c) if isinstance(c, str) else c for c in self.columns]
        rows = [[_shown(x, c.digits) for x, c in zip(row, columns, strict=True)] for row in self.rows]
        return [column.title for column in columns], rows

    def csv(self) -> str:
        """All digits; a spread takes two columns, the second its standard deviation."""
        titles = [c if isinstance(c, str) else c.title for c in self.columns]
        spread = [any(isinstance(row[n], Spread) for row in self.rows) for n in range(len(titles))]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(
            [
                t
                for title, wide in zip(titles, spread, strict=True)
                for t in (title, f"{title} SD")[: 1 + wide]
            ]
        )
        for row in self.rows:
            cells: list[str] = []
            for cell, wide in zip(row, spread, strict=True):
                values = cell[:2] if isinstance(cell, Spread) else (cell, math.nan)
                cells += [_plain(v) for v in values[: 1 + wide]]
            writer.writerow(cells)
        return text.getvalue()


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


def _shown(cell: Cell, digits: int) -> str:
    if isinstance(cell, Spread):
        mean, deviation = (_shown(v, digits) for v in cell[:2])
        return f"{mean} ± {deviation}" if deviation else mean
    if isinstance(cell, float):
        return f"{cell:.{digits}f}" if math.isfinite(cell) else ""
    return str(cell)


def _plain(value: str | float) -> str:
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else ""
    return str(value)
