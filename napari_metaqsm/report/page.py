"""A report as one HTML page: its pictures inside, no scripts, nothing loaded; on screen and on A4."""

from __future__ import annotations

import base64
import re
from functools import singledispatch
from html import escape as escape_markup

from napari_metaqsm.report.content import Facts, Items, Report, Rows, Section, Text, printable
from napari_metaqsm.report.pictures import Picture

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 10mm 12mm; max-width: 210mm; background: #fff; color: #000;
  font: 10pt/1.4 system-ui, "Segoe UI", "DejaVu Sans", Arial, sans-serif; }
h1 { font-size: 17pt; line-height: 1.2; margin: 0; }
h2 { font-size: 11.5pt; margin: 6mm 0 2mm; padding-bottom: 1mm; border-bottom: 1px solid #000;
  break-after: avoid; }
p { margin: 1.5mm 0; }
.summary { color: #333; }
.comment { white-space: pre-line; border-left: 3px solid #888; padding-left: 3mm; margin: 3mm 0; }
table { border-collapse: collapse; width: 100%; margin: 2mm 0; font-size: 8.5pt; line-height: 1.3; }
th, td { text-align: left; vertical-align: top; padding: 1mm 2mm 1mm 0; border-bottom: 1px solid #ccc;
  overflow-wrap: break-word; }
th { border-bottom-color: #000; }
tr { break-inside: avoid; }
.figure { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
th.figure { white-space: normal; }
.facts { columns: 2; column-gap: 8mm; margin: 2mm 0; font-size: 8.5pt; }
.facts div { display: flex; gap: 3mm; justify-content: space-between; break-inside: avoid;
  border-bottom: 1px solid #ccc; padding: 0.7mm 0; }
.facts dt { flex: none; } .facts dd { margin: 0; text-align: right; }
.missing { font-weight: bold; }
ul { list-style: none; margin: 1.5mm 0; padding: 0; }
li { display: flex; gap: 2mm; margin: 0.8mm 0; break-inside: avoid; overflow-wrap: anywhere; }
li > span:first-child { flex: none; min-width: 6mm; font-weight: bold; }
figure { margin: 2mm 0; break-inside: avoid; }
figure img { display: block; max-width: 100%; max-height: 220mm; width: auto; height: auto;
  print-color-adjust: exact; }
figcaption, .note { font-size: 8.5pt; color: #333; margin: 1mm 0; white-space: pre-line; }
footer { margin-top: 6mm; padding-top: 1.5mm; border-top: 1px solid #000; font-size: 8pt; color: #333; }
a { color: inherit; }
@page { size: A4; margin: 14mm; }
@media print { body { padding: 0; max-width: none; font-size: 9pt; } }
"""
_DOI = re.compile(r"doi:(10\.\d{4,9}/[^\s<]*[^\s<.,;)])")
ESSENTIAL_NOTE = "* essential, as the consensus on QSM of the brain has it (doi:10.1002/mrm.30006)."


def html(report: Report) -> str:
    """The page."""
    comment = f'<p class="comment">{escape(report.comment)}</p>' if report.comment else ""
    body = "\n".join(_section(section) for section in report.sections)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(report.title)}</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<h1>{escape(report.title)}</h1>
<p class="summary">{escape(report.summary)}<br>Report of {escape(report.made_on)}</p>
{comment}
</header>
{body}
<footer>{escape(report.footer)}</footer>
</body>
</html>
"""


def _section(section: Section) -> str:
    blocks = "\n".join(_block(block) for block in section.blocks)
    return f"<section>\n<h2>{escape(section.title)}</h2>\n{blocks}\n</section>"


@singledispatch
def _block(block: object) -> str:
    raise TypeError(f"{type(block).__name__} is no part of a report")


@_block.register
def _(block: Text) -> str:
    return f"<p>{_linked(block.text)}</p>"


@_block.register
def _(block: Items) -> str:
    items = "".join(
        f"<li><span>{escape(sign)}</span><span>{_linked(text)}</span></li>" for sign, text in block.items
    )
    return f"<ul>{items}</ul>"


@_block.register
def _(block: Facts) -> str:
    rows = "".join(
        f"<div><dt>{escape(fact.name)}{'*' * fact.essential}</dt>"
        f"<dd{_missing(fact.missing and fact.essential)}>{escape(fact.value)}</dd></div>"
        for fact in block.facts
    )
    note = f'<p class="note">{_linked(ESSENTIAL_NOTE)}</p>' if any(f.essential for f in block.facts) else ""
    return f'<dl class="facts">{rows}</dl>{note}'


@_block.register
def _(block: Rows) -> str:
    kinds = [' class="figure"' if n in block.figures else "" for n in range(len(block.columns))]
    head = "".join(f"<th{kind}>{escape(c)}</th>" for kind, c in zip(kinds, block.columns, strict=True))
    rows = "".join(
        "<tr>" + "".join(f"<td{kind}>{escape(c)}</td>" for kind, c in zip(kinds, row, strict=True)) + "</tr>"
        for row in block.rows
    )
    note = f'<p class="note">{escape(block.note)}</p>' if block.note else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{note}"


@_block.register
def _(block: Picture) -> str:
    data = base64.b64encode(block.png).decode("ascii")
    caption = escape(block.caption)
    wide, tall = block.size
    return (
        f'<figure><img src="data:image/png;base64,{data}" width="{wide}" height="{tall}" alt="{caption}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def escape(text: str) -> str:
    """``text`` as a page may hold it."""
    return escape_markup(printable(text))


def _missing(yes: bool) -> str:
    return ' class="missing"' if yes else ""


def _linked(text: str) -> str:
    """The text, its DOIs as links; what is clicked is fetched, nothing else."""
    return _DOI.sub(r'<a href="https://doi.org/\1">doi:\1</a>', escape(text))
