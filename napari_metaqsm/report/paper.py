"""A report as PDF on A4: the same content as the page, its letters and pictures inside."""

from __future__ import annotations

import io
from functools import cache, partial, singledispatch
from typing import Any

from reportlab.lib.colors import HexColor, black
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    BaseDocTemplate,
    Flowable,
    Frame,
    HRFlowable,
    Image,
    KeepTogether,
    PageTemplate,
    Paragraph,
    Spacer,
    Table,
)

from napari_metaqsm.evaluation.picture import font_file
from napari_metaqsm.report.content import Facts, Items, Report, Rows, Section, Text, printable
from napari_metaqsm.report.page import ESSENTIAL_NOTE, escape
from napari_metaqsm.report.pictures import Picture

_MARGIN = 14 * mm
_WIDTH, _HEIGHT = A4[0] - 2 * _MARGIN, A4[1] - 2 * _MARGIN
# A picture is no taller, so that title, checks and slices stand together on the first page.
_TALLEST = 0.55 * _HEIGHT
_SIGN_WIDTH = 5 * mm
_REGULAR, _BOLD = "DejaVuSans", "DejaVuSans-Bold"
_GRAY = HexColor("#333333")
_RULE = HexColor("#cccccc")
# Letters beyond these do not make a column wider.
_LONGEST_TEXT = 60


def pdf(report: Report) -> bytes:
    """The file."""
    _register_fonts()
    file = io.BytesIO()
    document = BaseDocTemplate(
        file,
        pagesize=A4,
        title=printable(report.title),
        author="",
        creator="napari-metaqsm",
        initialFontName=_REGULAR,
    )
    frame = Frame(
        *(_MARGIN, _MARGIN, _WIDTH, _HEIGHT), leftPadding=0, rightPadding=0, topPadding=0, bottomPadding=0
    )
    foot = partial(_draw_foot, text=report.footer)
    document.addPageTemplates(PageTemplate(frames=[frame], onPage=foot))
    parts: list[Flowable] = [
        Paragraph(escape(report.title), _style(16, bold=True)),
        Spacer(0, 1.5 * mm),
        Paragraph(f"{escape(report.summary)}<br/>Report of {escape(report.made_on)}", _style(8, _GRAY)),
    ]
    if report.comment:
        lines = escape(report.comment).replace("\n", "<br/>")
        parts += [Spacer(0, 2 * mm), Paragraph(lines, _style(8.5, indent=3 * mm))]
    for section in report.sections:
        parts += _section(section)
    document.build(parts)
    return file.getvalue()


def _draw_foot(canvas: Canvas, document: Any, text: str) -> None:
    canvas.saveState()
    canvas.setFont(_REGULAR, 7)
    canvas.setFillColor(_GRAY)
    canvas.drawString(_MARGIN, _MARGIN - 6 * mm, text)
    canvas.drawRightString(A4[0] - _MARGIN, _MARGIN - 6 * mm, f"page {document.page}")
    canvas.restoreState()


def _section(section: Section) -> list[Flowable]:
    heading = [
        Spacer(0, 4 * mm),
        Paragraph(escape(section.title), _style(10.5, bold=True)),
        HRFlowable(width="100%", thickness=0.7, color=black, spaceBefore=1 * mm, spaceAfter=1.5 * mm),
    ]
    first, *others = section.blocks
    # A heading never stands alone at the foot of a page; a long table may break below its first rows.
    lead, rest = _block(first), []
    if not isinstance(first, Picture):
        lead, rest = lead[:1], lead[1:]
    parts: list[Flowable] = [KeepTogether([*heading, *lead]), *rest]
    for block in others:
        parts += [KeepTogether(_block(block))] if isinstance(block, Picture) else _block(block)
    return parts


@cache
def _register_fonts() -> None:
    for name in (_REGULAR, _BOLD):
        pdfmetrics.registerFont(TTFont(name, font_file(name)))


def _style(
    size: float, colour: Any = black, *, bold: bool = False, right: bool = False, indent: float = 0
) -> ParagraphStyle:
    return ParagraphStyle(
        f"{size}{colour}{bold}{right}{indent}",
        fontName=_BOLD if bold else _REGULAR,
        fontSize=size,
        leading=1.3 * size,
        textColor=colour,
        alignment=TA_RIGHT if right else 0,
        leftIndent=indent,
        splitLongWords=True,
    )


# --------------------------------------------------------------------------------------- blocks
@singledispatch
def _block(block: object) -> list[Flowable]:
    raise TypeError(f"{type(block).__name__} is no part of a report")


@_block.register
def _(block: Text) -> list[Flowable]:
    return [Paragraph(escape(block.text), _style(8)), Spacer(0, 1 * mm)]


@_block.register
def _(block: Items) -> list[Flowable]:
    rows = [
        [Paragraph(escape(sign), _style(7.5, bold=True)), Paragraph(escape(text), _style(7.5))]
        for sign, text in block.items
    ]
    longest = max(pdfmetrics.stringWidth(sign, _BOLD, 7.5) for sign, _ in block.items)
    wide = max(longest + 2.5 * mm, _SIGN_WIDTH)
    table = Table(rows, colWidths=[wide, _WIDTH - wide], splitInRow=1)
    table.setStyle(_bare(0.4 * mm))
    return [table, Spacer(0, 1 * mm)]


@_block.register
def _(block: Facts) -> list[Flowable]:
    cells = [
        (
            Paragraph(escape(fact.name + "*" * fact.essential), _style(7.5)),
            Paragraph(escape(fact.value), _style(7.5, bold=fact.missing and fact.essential, right=True)),
        )
        for fact in block.facts
    ]
    half = -(-len(cells) // 2)
    cells += [(Paragraph("", _style(7.5)),) * 2] * (2 * half - len(cells))
    rows = [[*cells[n], "", *cells[n + half]] for n in range(half)]
    gap = 7 * mm
    side = (_WIDTH - gap) / 2
    table = Table(rows, colWidths=[0.42 * side, 0.58 * side, gap, 0.42 * side, 0.58 * side])
    table.setStyle(
        [
            *_bare(0.5 * mm),
            ("LINEBELOW", (0, 0), (1, -1), 0.4, _RULE),
            ("LINEBELOW", (3, 0), (4, len(block.facts) - half - 1), 0.4, _RULE),
        ]
    )
    parts: list[Flowable] = [table]
    if any(fact.essential for fact in block.facts):
        parts += [Spacer(0, 1 * mm), Paragraph(escape(ESSENTIAL_NOTE), _style(7, _GRAY))]
    return parts


@_block.register
def _(block: Rows) -> list[Flowable]:
    def cell(n: int, text: str, bold: bool = False) -> Paragraph:
        return Paragraph(escape(text), _style(7.5, bold=bold, right=n in block.figures))

    rows = [[cell(n, text, True) for n, text in enumerate(block.columns)]]
    rows += [[cell(n, text) for n, text in enumerate(row)] for row in block.rows]
    table = Table(rows, colWidths=_widths(block), repeatRows=1, splitInRow=1)
    lines = [("LINEBELOW", (0, 0), (-1, 0), 0.7, black), ("LINEBELOW", (0, 1), (-1, -1), 0.4, _RULE)]
    table.setStyle([*_bare(0.7 * mm), *lines])
    parts: list[Flowable] = [table, Spacer(0, 1 * mm)]
    if block.note:
        parts.append(Paragraph(escape(block.note).replace("\n", "<br/>"), _style(7, _GRAY)))
    return [*parts, Spacer(0, 1 * mm)]


@_block.register
def _(block: Picture) -> list[Flowable]:
    wide, tall = block.size
    width = min(_WIDTH * block.of_width, _TALLEST * wide / tall)
    picture = Image(io.BytesIO(block.png), width=width, height=width * tall / wide)
    picture.hAlign = "LEFT"
    caption = Paragraph(escape(block.caption), _style(7, _GRAY))
    return [picture, Spacer(0, 1 * mm), caption, Spacer(0, 2 * mm)]


def _bare(padding: float) -> list[tuple[Any, ...]]:
    """A table without lines, its text at the very left of each column and of the page."""
    everywhere = ((0, 0), (-1, -1))
    return [
        ("VALIGN", *everywhere, "TOP"),
        ("LEFTPADDING", *everywhere, 0),
        ("RIGHTPADDING", *everywhere, 2 * mm),
        ("TOPPADDING", *everywhere, padding),
        ("BOTTOMPADDING", *everywhere, padding),
    ]


def _widths(block: Rows) -> list[float]:
    """Of the columns: by the length of what they hold, and no word of a title is broken."""
    font, size = _BOLD, 7.5
    texts = list(zip(block.columns, *block.rows, strict=True))
    words = [
        max(pdfmetrics.stringWidth(word, font, size) for text in column for word in (*text.split(), ""))
        for column in texts
    ]
    least = [min(word, _WIDTH / 4) + 2.5 * mm for word in words]
    shares = [min(max(map(len, column)), _LONGEST_TEXT) for column in texts]
    room = _WIDTH - sum(least)
    if room <= 0:
        return [_WIDTH * width / sum(least) for width in least]
    return [width + room * share / sum(shares) for width, share in zip(least, shares, strict=True)]
