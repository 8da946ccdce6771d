"""The page of a cohort: what failed, what stands apart, what the checks found, every region, every scan."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

from napari_metaqsm.cohort.outliers import FEWEST_SCANS, THRESHOLD, Acquired, Outlier, Quantity, spread_of
from napari_metaqsm.cohort.strips import Strip, strip_plot
from napari_metaqsm.report.content import FOOTER
from napari_metaqsm.report.page import STYLE, escape

_STYLE = """
body { max-width: 1500px; }
nav { margin: 3mm 0; } nav a { margin-right: 4mm; }
.counts { display: flex; flex-wrap: wrap; gap: 8mm; margin: 4mm 0; }
.counts div { min-width: 22mm; } .counts b { display: block; font-size: 20pt; line-height: 1.1; }
h3 { font-size: 10.5pt; margin: 5mm 0 1mm; } h4 { font-size: 9.5pt; margin: 3mm 0 0; }
table { max-width: 280mm; } td:first-child { white-space: nowrap; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(150mm, 1fr)); gap: 2mm 8mm; }
.plots > div { break-inside: avoid; content-visibility: auto; contain-intrinsic-size: auto 150px; }
svg { width: 100%; max-width: 200mm; height: auto; font-size: 11px; }
svg .grid { stroke: #ddd; } svg .tick { text-anchor: middle; fill: #333; }
svg .figure { text-anchor: end; } svg .band { fill: #dde6f0; }
svg .dots { stroke: #246; stroke-width: 3.2; stroke-linecap: round; opacity: 0.6; }
svg .median { stroke: #000; stroke-width: 1.5; }
svg .apart circle { fill: #fff; stroke: #c00; stroke-width: 1.8; } svg .apart path { fill: #c00; }
svg .apart text { fill: #c00; font-size: 10px; }
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(100mm, 1fr)); gap: 4mm; }
.sheet figure { margin: 0; content-visibility: auto; contain-intrinsic-size: auto 260px; }
.sheet img { width: 100%; background: #000; }
.state { display: inline-block; padding: 0 1.5mm; border: 1px solid #000; font-size: 8pt; font-weight: bold; }
.state.failed, .state.wrong { background: #c00; border-color: #c00; color: #fff; print-color-adjust: exact; }
.state.outlier { border-color: #c00; color: #c00; } .state.order { border-color: #ccc; font-weight: normal; }
@media print { .sheet { grid-template-columns: 1fr 1fr; } .plots { grid-template-columns: 1fr; } }
"""
# Longer tables are not read; the rest stands in the table of scans and in the plots.
_MOST_OUTLIERS = 200
_MOST_NAMED = 8
_MOST_GROUPS = 6
# The mean of a region that is the zero of its map.
_ZERO_PPM = 1e-6
STATES = {
    "failed": "Failed",
    "wrong": "Something wrong",
    "outlier": "Outlier",
    "care": "With care",
    "order": "In order",
}


@dataclass(frozen=True)
class Looked:
    """What the page says of one scan.

    Parameters
    ----------
    reason : why it failed; "" where it is done
    report, picture : relative to the page, with slashes; "" where there is none
    findings : severity and words of every check that found anything, by the check's name
    """

    label: str
    reason: str = ""
    report: str = ""
    picture: str = ""
    acquired: Acquired | None = None
    quantities: Mapping[Quantity, float] = field(default_factory=dict)
    findings: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    outliers: Sequence[Outlier] = ()

    @property
    def failed(self) -> bool:
        return bool(self.reason)

    @property
    def state(self) -> str:
        """The worst that is known of it, a key of ``STATES``."""
        severities = {severity for severity, _ in self.findings.values()}
        if self.failed:
            return "failed"
        if "wrong" in severities:
            return "wrong"
        return "outlier" if self.outliers else "care" if "care" in severities else "order"


def group_page(scans: Sequence[Looked], groups: Sequence[Sequence[str]], files: Iterable[str]) -> str:
    """The page.

    Parameters
    ----------
    scans : all of the cohort
    groups : labels of the scans that were acquired alike, the largest group first
    files : that stand beside the page, by name
    """
    links = {scan.label: escape(quote(scan.report)) for scan in scans if scan.report}
    parts = {
        "Failed": _failed(scans),
        "Outliers": _outliers(scans, groups, links),
        "Checks": _checks(scans, links),
        "Regions and maps": _plots(scans, groups, links),
        "All scans": _sheet(scans, links),
    }
    parts = {title: body for title, body in parts.items() if body}
    jumps = "".join(f'<a href="#{_anchor(title)}">{title}</a>' for title in parts)
    body = "\n".join(f'<section id="{_anchor(t)}">\n<h2>{t}</h2>\n{b}\n</section>' for t, b in parts.items())
    beside = ", ".join(f'<a href="{escape(quote(name))}">{escape(name)}</a>' for name in files)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Susceptibility maps of {_scans(len(scans))}</title>
<style>{STYLE}{_STYLE}</style>
</head>
<body>
<header>
<h1>Susceptibility maps of {_scans(len(scans))}</h1>
<p class="summary">Page of {datetime.date.today().isoformat()} · beside it: {beside}</p>
{_counts(scans)}
<nav>{jumps}</nav>
</header>
{body}
<footer>{escape(FOOTER)}</footer>
</body>
</html>
"""


def _counts(scans: Sequence[Looked]) -> str:
    states = Counter(scan.state for scan in scans)
    told = [(len(scans) - states["failed"], "done"), *((states[key], STATES[key].lower()) for key in STATES)]
    return '<div class="counts">' + "".join(f"<div><b>{n}</b>{words}</div>" for n, words in told) + "</div>"


def _failed(scans: Sequence[Looked]) -> str:
    rows = [(escape(scan.label), escape(scan.reason)) for scan in scans if scan.failed]
    return _table(("Scan", "Why it could not be done"), rows) if rows else ""


def _outliers(scans: Sequence[Looked], groups: Sequence[Sequence[str]], links: Mapping[str, str]) -> str:
    if not any(len(labels) >= FEWEST_SCANS for labels in groups):
        return f"<p>Not looked for: no {FEWEST_SCANS} scans were acquired alike.</p>"
    found = sorted((o for scan in scans for o in scan.outliers), key=lambda o: (-abs(o.score), o.label))
    note = (
        f'<p class="note">Farther than {THRESHOLD:g} robust SD (1.4826 times the median distance from the '
        "median) from the median of the scans with the same field strength, echo times and voxel size, where "
        f"there are {FEWEST_SCANS} or more of them. An outlier is a reason to look, not a diagnosis.</p>"
    )
    if not found:
        return "<p>None.</p>" + note
    rows = []
    for outlier in found[:_MOST_OUTLIERS]:
        q, spread = outlier.quantity, outlier.spread
        away = f"{outlier.score:+.1f}".replace("-", "−")
        rows.append(
            (
                _linked(outlier.label, links),
                escape(q.name),
                escape(q.map) or "–",
                f"{q.text(outlier.value)} {q.unit}",
                f"{q.text(spread.median)} {q.unit}",
                away,
                str(spread.count),
            )
        )
    columns = ("Scan", "What", "Map", "Here", "Median", "Robust SD away", "Scans")
    more = len(found) - len(rows)
    rest = f"<p>{more} more are marked in the plots and named in group_qc.tsv.</p>" if more else ""
    return _table(columns, rows, figures=(3, 4, 5, 6)) + rest + note


def _checks(scans: Sequence[Looked], links: Mapping[str, str]) -> str:
    counts: dict[str, Counter[str]] = {}
    named: dict[str, dict[str, list[str]]] = {}
    for scan in scans:
        for check, (severity, _) in scan.findings.items():
            counts.setdefault(check, Counter())[severity] += 1
            if severity in ("wrong", "care"):
                named.setdefault(check, {}).setdefault(severity, []).append(scan.label)
    rows = []
    for check in sorted(named, key=lambda c: (-counts[c]["wrong"], -counts[c]["care"])):
        labels = [*named[check].get("wrong", ()), *named[check].get("care", ())]
        told = ", ".join(_linked(label, links) for label in labels[:_MOST_NAMED])
        told += f" and {len(labels) - _MOST_NAMED} more" if len(labels) > _MOST_NAMED else ""
        rows.append((escape(check), *(str(counts[check][s]) for s in ("wrong", "care", "not checked")), told))
    if not rows:
        return "<p>All in order.</p>" if counts else ""
    columns = ("Check", "Wrong", "With care", "Not checked", "Scans, wrong ones first")
    return _table(columns, rows, figures=(1, 2, 3))


def _plots(scans: Sequence[Looked], groups: Sequence[Sequence[str]], links: Mapping[str, str]) -> str:
    known = {scan.label: scan for scan in scans}
    shown = [labels for labels in groups[:_MOST_GROUPS] if len(labels) > 1]
    parts = [_LEGEND] if shown else []
    for labels in shown:
        parts.append(f"<h3>{escape(known[labels[0]].acquired.words)}: {_scans(len(labels))}</h3>")
        plots = _strips([known[label] for label in labels])
        drawn = [f"<div><h4>{escape(name)}</h4>{strip_plot(rows, links)}</div>" for name, rows in plots]
        parts.append('<div class="plots">' + "\n".join(drawn) + "</div>")
    left = sum(map(len, groups)) - sum(map(len, shown))
    if left:
        parts.append(f"<p>{_scans(left)} acquired otherwise {'is' if left == 1 else 'are'} not drawn.</p>")
    return "\n".join(parts)


_LEGEND = (
    '<p class="note">A dot is a scan; the line is the median, the band a robust SD to each side, both in '
    "figures on the right with the number of scans. A red ring is an outlier, a red arrow one that lies "
    "beyond the axis; a click opens its report.</p>"
)


def _strips(scans: Sequence[Looked]) -> list[tuple[str, list[Strip]]]:
    """What is drawn of scans acquired alike, by name: regions before what tells of a scan as a whole."""
    columns: dict[Quantity, list[float]] = {}
    apart: dict[Quantity, list[Outlier]] = {}
    for scan in scans:
        for quantity, value in scan.quantities.items():
            columns.setdefault(quantity, []).append(value)
        for outlier in scan.outliers:
            apart.setdefault(outlier.quantity, []).append(outlier)
    strips: dict[str, list[Strip]] = {}
    for quantity, values in columns.items():
        if quantity.of == "size" or max(map(abs, values)) < _ZERO_PPM:
            continue  # the zero of the map in every scan, or what tells of the drawing of regions
        spread = spread_of(quantity, values)
        strip = Strip(quantity.map, quantity, values, spread, apart.get(quantity, ()))
        strips.setdefault(quantity.name, []).append(strip)
    return sorted(strips.items(), key=lambda named: named[1][0].quantity.of != "region")


def _sheet(scans: Sequence[Looked], links: Mapping[str, str]) -> str:
    order = list(STATES)
    found = sorted(
        (scan for scan in scans if not scan.failed),
        key=lambda scan: (order.index(scan.state), -len(scan.outliers), scan.label),
    )
    if not found:
        return ""
    legend = (
        '<p class="note">Those to look at first come first. Three planes of the magnitude, the local field '
        "(black −0.05, white +0.05 ppm) and every map (−0.1 to +0.1 ppm); the orange line is the rim of the "
        "brain's mask; the patient's right is on the left. A click opens the report of the scan.</p>"
    )
    return legend + '<div class="sheet">' + "\n".join(_figure(scan, links) for scan in found) + "</div>"


def _figure(scan: Looked, links: Mapping[str, str]) -> str:
    label = escape(scan.label)
    picture = '<span class="note">no picture</span>'
    if scan.picture:
        source = escape(quote(scan.picture))
        picture = (
            f'<img loading="lazy" decoding="async" src="{source}" width="760" height="380" alt="{label}">'
        )
    if scan.label in links:
        picture = f'<a href="{links[scan.label]}">{picture}</a>'
    told = [words for severity in ("wrong", "care") for s, words in scan.findings.values() if s == severity]
    words = "; ".join([*_apart(scan.outliers), *told])
    state = f'<span class="state {scan.state}">{STATES[scan.state]}</span>'
    return f"<figure>{picture}<figcaption><b>{label}</b> {state} {escape(words)}</figcaption></figure>"


def _apart(outliers: Sequence[Outlier]) -> list[str]:
    """What stands apart, once for all maps in which it does."""
    named: dict[str, list[Outlier]] = {}
    for outlier in outliers:
        named.setdefault(outlier.quantity.name, []).append(outlier)
    told = []
    for name, (first, *others) in named.items():
        q = first.quantity
        maps = [outlier.quantity.map for outlier in (first, *others) if outlier.quantity.map]
        by = f" by {', '.join(maps)}:" if maps else ""
        value, median = q.text(first.value), q.text(first.spread.median)
        told.append(f"{name}{by} {value} {q.unit}, median {median}")
    return told


# --------------------------------------------------------------------------------------- parts
def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], figures: Sequence[int] = ()) -> str:
    """Rows of escaped cells."""
    kinds = [' class="figure"' if n in figures else "" for n in range(len(columns))]
    head = "".join(f"<th{kind}>{c}</th>" for kind, c in zip(kinds, columns, strict=True))
    lines = "\n".join(
        "<tr>" + "".join(f"<td{kind}>{c}</td>" for kind, c in zip(kinds, row, strict=True)) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"


def _linked(label: str, links: Mapping[str, str]) -> str:
    return f'<a href="{links[label]}">{escape(label)}</a>' if label in links else escape(label)


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def _scans(count: int) -> str:
    return f"{count} scan{'' if count == 1 else 's'}"
