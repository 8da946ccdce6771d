"""Strip plots as SVG inside a page: a dot for every scan, a row for every map, outliers ringed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from napari_metaqsm.cohort.outliers import Outlier, Quantity, Spread
from napari_metaqsm.report.page import escape

_WIDTH, _LEFT, _RIGHT = 760, 150, 610
_ROW, _BAND, _AXIS, _TOP = 34, 20, 30, 6
_TICKS = 6
# What lies farther from the median than so many robust SD stands at the edge, as an arrow: one wild value
# would squeeze all others into a line.
_REACH = 10.0
# More names in one row would lie upon each other.
_MOST_NAMED = 4
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Strip:
    """A row: the values of one quantity, where they lie, and those of them that stand apart."""

    title: str
    quantity: Quantity
    values: Sequence[float]
    spread: Spread
    outliers: Sequence[Outlier] = ()


def strip_plot(strips: Sequence[Strip], links: Mapping[str, str]) -> str:
    """The rows on one axis.

    Parameters
    ----------
    strips : one or more, in one unit
    links : where a click on a scan that stands apart leads, by its label; escaped
    """
    low, high = _range(strips)
    height = _TOP + _ROW * len(strips) + _AXIS
    ticks = _nice(low, high)
    bottom = height - _AXIS

    def place(value: float) -> float:
        return _LEFT + (min(max(value, low), high) - low) / (high - low) * (_RIGHT - _LEFT)

    parts = [
        f'<line class="grid" x1="{place(t):.1f}" x2="{place(t):.1f}" y1="{_TOP}" y2="{bottom}"/>'
        f'<text class="tick" x="{place(t):.1f}" y="{bottom + 13}">{_tick(t, ticks)}</text>'
        for t in ticks
    ]
    parts.append(
        f'<text class="tick" x="{_RIGHT + 24}" y="{bottom + 13}">{escape(strips[0].quantity.unit)}</text>'
    )
    for number, strip in enumerate(strips):
        middle = _TOP + _ROW * (number + 0.5)
        parts.append(_row(strip, middle, place, (low, high), links))
    inside = "\n".join(parts)
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img">\n{inside}\n</svg>'


def _row(
    strip: Strip,
    middle: float,
    place: Callable[[float], float],
    ends: tuple[float, float],
    links: Mapping[str, str],
) -> str:
    spread, text = strip.spread, strip.quantity.text
    top = middle - _BAND / 2
    left, right = place(spread.median - spread.sd), place(spread.median + spread.sd)
    apart = {outlier.value for outlier in strip.outliers}
    dots = "".join(
        f"M{place(value):.1f} {middle + _BAND * ((n * _GOLDEN) % 1 - 0.5):.1f}h.01"
        for n, value in enumerate(strip.values)
        if value not in apart
    )
    shown = [
        f'<text x="0" y="{middle + 4}">{escape(strip.title)}</text>',
        f'<rect class="band" x="{left:.1f}" y="{top}" width="{right - left:.1f}" height="{_BAND}"/>',
        f'<path class="dots" d="{dots}"/>',
        f'<path class="median" d="M{place(spread.median):.1f} {top}v{_BAND}"/>',
        f'<text class="figure" x="{_WIDTH}" y="{middle + 4}">{text(spread.median)} ± {text(spread.sd)} '
        f"({spread.count})</text>",
    ]
    named = strip.outliers if len(strip.outliers) <= _MOST_NAMED else ()
    for n, outlier in enumerate(strip.outliers):
        x, beyond = place(outlier.value), not ends[0] <= outlier.value <= ends[1]
        y = middle + (6 if n % 2 else -6)
        sign = f'<circle cx="{x:.1f}" cy="{y}" r="3.5"/>'
        if beyond:
            tip = 5 if outlier.value > ends[1] else -5
            sign = f'<path d="M{x + tip:.1f} {y}l{-2 * tip} -4v8z"/>'
        name = ""
        if outlier in named:
            side, away = ("end", -8) if x > (_LEFT + _RIGHT) / 2 else ("start", 8)
            name = f'<text x="{x + away:.1f}" y="{y + 3}" text-anchor="{side}">{escape(outlier.label)}</text>'
        body = f"<title>{escape(outlier.sentence)}</title>{sign}{name}"
        link = links.get(outlier.label)
        shown.append(f'<a class="apart" href="{link}">{body}</a>' if link else f'<g class="apart">{body}</g>')
    return "".join(shown)


def _range(strips: Sequence[Strip]) -> tuple[float, float]:
    low = min(max(min(s.values), s.spread.median - _REACH * s.spread.sd) for s in strips)
    high = max(min(max(s.values), s.spread.median + _REACH * s.spread.sd) for s in strips)
    spare = 0.04 * (high - low) or max(s.spread.sd for s in strips) or 1.0
    return low - spare, high + spare


def _nice(low: float, high: float) -> list[float]:
    """Round numbers between two, about six of them."""
    rough = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
    return [n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _tick(value: float, ticks: Sequence[float]) -> str:
    step = ticks[1] - ticks[0] if len(ticks) > 1 else abs(value) or 1.0
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value + 0.0:.{digits}f}".replace("-", "−")
