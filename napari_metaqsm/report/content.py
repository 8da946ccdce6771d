"""What a report says, before anything decides how it looks: sections of text, facts, tables and pictures."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from napari_metaqsm.evaluation.tables import Table
from napari_metaqsm.reading.findings import Finding, Severity
from napari_metaqsm.reading.regions import RegionMeasures
from napari_metaqsm.reading.spots import Spot, sentence
from napari_metaqsm.reading.study import Study
from napari_metaqsm.report.consensus import NOT_KNOWN, Fact, acquisition_facts, read_scanner
from napari_metaqsm.report.methods_text import Methods, cited, methods_of, zero_text
from napari_metaqsm.report.pictures import Picture, map_pictures, region_plot
from napari_metaqsm.report.steps import (
    Run,
    decisions_of,
    number_in,
    parameter_text,
    reference_of,
    runs_of,
    software_of,
    warnings_of,
)

DEFAULT_TITLE = "Quantitative susceptibility mapping"
# What a report may hold, by its name, as a person chooses it.
PARTS = {
    "findings": "Checks and warnings",
    "pictures": "Slices of all maps",
    "regions": "Regions",
    "spots": "Probed spots",
    "acquisition": "Acquisition",
    "pipeline": "Processing",
    "methods": "Methods and references",
}
FOOTER = "Made with napari-metaqsm: software for research, not a medical device."


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Items:
    """A list: a sign for each entry, such as "!", and its text."""

    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Facts:
    """Names and values, those that the consensus holds essential marked."""

    facts: tuple[Fact, ...]


@dataclass(frozen=True)
class Rows:
    """A table of text under column titles, with a note below it.

    ``figures`` are the columns that hold numbers, from the first, 0.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    figures: tuple[int, ...] = ()


Block = Text | Items | Facts | Rows | Picture


@dataclass(frozen=True)
class Section:
    """Blocks under a heading."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Report:
    """All that is printed, and the paragraph of methods beside it.

    Parameters
    ----------
    summary : one line on the scan and its maps
    comment : as a person typed it, line breaks kept
    """

    title: str
    summary: str
    sections: tuple[Section, ...]
    methods: Methods
    comment: str = ""
    made_on: str = ""
    footer: str = FOOTER


@dataclass(frozen=True)
class Wishes:
    """What a person wants in the report.

    Parameters
    ----------
    title, comment : printed as typed; nothing else in a report can name a patient
    parts : names from ``PARTS``
    window_ppm : what is black and what is white in the slices
    voxels : (i, j, k) that slices lead through, in the study's axes; none: the middle of the maps
    unit : "ppm" or "ppb", of the region table
    """

    title: str = ""
    comment: str = ""
    parts: Collection[str] = field(default_factory=lambda: tuple(PARTS))
    window_ppm: tuple[float, float] = (-0.1, 0.1)
    voxels: Sequence[tuple[int, int, int]] = ()
    unit: str = "ppm"


def make_report(
    study: Study,
    wishes: Wishes | None = None,
    *,
    regions: RegionMeasures | None = None,
    spots: Sequence[Spot] = (),
    findings: Sequence[Finding] | None = None,
    notes: Sequence[str] = (),
    scanner: Mapping[str, Any] | None = None,
) -> Report:
    """What is to be said of a reading.

    Parameters
    ----------
    regions, spots, findings : what was measured and checked; a part without any is left out
    notes : what the reader of a folder had to do without, in words
    scanner : see :func:`consensus.read_scanner`; None reads it beside the study's files
    """
    wishes = wishes or Wishes()
    scanner = read_scanner(study.files) if scanner is None else scanner
    methods = methods_of(study, scanner)
    blocks: dict[str, list[Block]] = {
        "findings": _findings(study, findings, notes),
        "pictures": list(map_pictures(study, wishes.window_ppm, wishes.voxels)),
        "regions": _regions(regions, wishes.unit),
        "spots": _spots(spots),
        "acquisition": [Facts(tuple(acquisition_facts(study, scanner))), *_decisions(study)],
        "pipeline": [_steps(study, methods), _zeros(study), _versions(study)],
        "methods": _methods(methods),
    }  # fmt: skip
    chosen = [name for name in PARTS if name in wishes.parts and blocks[name]]
    return Report(
        title=wishes.title.strip() or DEFAULT_TITLE,
        summary=_summary(study),
        sections=tuple(Section(PARTS[name], tuple(blocks[name])) for name in chosen),
        methods=methods,
        comment=wishes.comment.strip(),
        made_on=datetime.date.today().isoformat(),
    )


# ------------------------------------------------------------------------------------- sections
def _summary(study: Study) -> str:
    facts = {fact.name: fact.value for fact in acquisition_facts(study, {}) if not fact.missing}
    told = [facts.get("Field strength"), facts.get("Voxel size") and f"voxels {facts['Voxel size']}"]
    if study.acquisition.echo_times_s is not None:
        echoes = len(study.acquisition.echo_times_s)
        told.insert(1, f"{echoes} echo{'es' if echoes > 1 else ''}")
    return " · ".join([*filter(None, told), ", ".join(study.maps)])


def _findings(study: Study, findings: Sequence[Finding] | None, notes: Sequence[str]) -> list[Block]:
    items = []
    for wanted in (Severity.WRONG, Severity.CARE):
        for finding in findings or ():
            if finding.severity is wanted:
                parts = (finding.what, finding.why_it_matters, finding.what_to_do)
                items.append((wanted.value, " ".join(_sentence(part) for part in parts if part)))
    items += [(Severity.CARE.value, _sentence(text)) for text in [*warnings_of(study), *notes]]
    blocks: list[Block] = [Items(tuple(items))] if items else []
    if findings is not None:
        count = {kind: sum(f.severity is kind for f in findings) for kind in Severity}
        unchecked = [
            f"{f.name} ({f.what.removeprefix('Not checked: ')})"
            for f in findings
            if f.severity is Severity.NOT_CHECKED
        ]
        told = f"{count[Severity.IN_ORDER]} of {len(findings)} checks found all in order."
        if unchecked:
            told += f" Not checked: {'; '.join(unchecked)}."
        blocks.append(Text(told))
    elif not items:
        blocks.append(Text("Nothing was noted while the maps were made; no checks were asked for."))
    return blocks


def _decisions(study: Study) -> list[Block]:
    told = " ".join(_sentence(text) for text in decisions_of(study) if text.strip())
    return [Text(f"How the data were read. {told}")] if told else []


def _regions(regions: RegionMeasures | None, unit: str) -> list[Block]:
    if regions is None or not len(regions):
        return []
    blocks: list[Block] = [rows_of(regions.wide_table(unit=unit))]
    plot = region_plot(regions)
    return [*blocks, plot] if plot is not None else blocks


def _spots(spots: Sequence[Spot]) -> list[Block]:
    if not spots:
        return []
    items, rows = [], []
    for number, spot in enumerate(spots, 1):
        note = f" Note: {_sentence(spot.note)}" if spot.note else ""
        items.append((f"{number}", f"{_sentence(spot.place)} {sentence(spot)}{note}"))
        for title, values in spot.methods.items():
            figures = (values.peak, values.mean, values.contrast)
            rows.append(
                (
                    str(number),
                    title,
                    *(f"{v:+.3f}".replace("-", "−") for v in figures),
                    f"{values.sd:.3f}",
                    str(values.voxels),
                )
            )
    columns = ("Spot", "Map", "Peak ppm", "Mean ppm", "Contrast ppm", "SD ppm", "Voxels")
    note = "Contrast: the mean less that of the neighbourhood. SD: of the voxels of the spot."
    return [Items(tuple(items)), Rows(columns, tuple(rows), note, figures=(2, 3, 4, 5, 6))]


def _steps(study: Study, methods: Methods) -> Block:
    runs = runs_of(study)
    if not runs:
        return Text("How the maps were made is not recorded: algorithms and parameters are not known.")
    several = len(study.maps) > 1
    rows = []
    for run in runs:
        parameters = "; ".join(filter(None, (parameter_text(run, name) for name in run.parameters)))
        name = run.title + _numbers(run, methods)
        # A step before the inversion serves every map unless some were made otherwise.
        if several and run.stage != "inversion" and len(run.maps) < len(study.maps):
            name += f", for {', '.join(run.maps)}"
        rows.append((run.stage.capitalize(), name, parameters or "none", "; ".join(_remarks(run)) or "–"))
    return Rows(("Step", "Method", "Parameters", "Found, or assumed"), tuple(rows))


def _numbers(run: Run, methods: Methods) -> str:
    """The references of a step by their numbers in the list."""
    numbers = [
        number
        for number, work in enumerate(methods.references, 1)
        if any(work.lower().endswith(doi.lower()) for doi in cited(run))
    ]
    return f" [{', '.join(map(str, numbers))}]" if numbers else ""


def _remarks(run: Run) -> list[str]:
    told = [f"{name.replace('_', ' ')}: {text}" for name, text in run.stand_ins.items()]
    if run.kept_percent is not None and run.lost_mm is not None:
        told.append(f"{run.kept_percent:.1f} % of the mask kept, {run.lost_mm:.1f} mm lost at the rim")
    told += run.found
    if run.seconds is not None:
        told.append(f"{run.seconds:.3g} s on {run.device or 'a device not recorded'}")
    return told


def _zeros(study: Study) -> Block:
    """What the zero of every map is, with what the consensus asks to tell of it."""
    rows = []
    for title in study.maps:
        about = reference_of(study, title)
        values = np.asarray(study.maps[title][study.inside(title)], np.float64)
        brain = f"{_signed(values.mean())} ± {values.std():.4f}" if values.size else NOT_KNOWN
        sd, voxels = number_in(about, "sd_ppm"), number_in(about, "voxels")
        measured = sd is not None and voxels is not None and voxels > 0
        # The region's mean is zero now, so the brain's mean is what lies between the two.
        region = f"{_signed(-values.mean())} ± {sd:.4f}" if measured and values.size else "–"
        rows.append((title, zero_text(about), brain, region, f"{voxels:.0f}" if measured else "–"))
    columns = ("Map", "Zero", "Map, mean ± SD ppm", "Reference region, mean ± SD ppm", "Voxels of the region")
    note = "The reference region is given relative to the whole of the map, so that others can refer to that."
    return Rows(columns, tuple(rows), note, figures=(2, 3, 4))


def _signed(value: float) -> str:
    return f"{value + 0.0:+.4f}".replace("-", "−") if round(value, 4) else "0.0000"


def _versions(study: Study) -> Block:
    versions = software_of(study)
    if not versions:
        return Text(f"Software: {NOT_KNOWN}.")
    return Text("Software: " + ", ".join(f"{name} {version}" for name, version in versions.items()) + ".")


def _methods(methods: Methods) -> list[Block]:
    works = tuple((f"[{n}]", work) for n, work in enumerate(methods.references, 1))
    return [Text(methods.paragraph), *([Items(works)] if works else [])]


def rows_of(table: Table) -> Rows:
    """A table of figures as it is printed."""
    columns, rows = table.texts()
    numbers = tuple(n for n in range(len(columns)) if not any(isinstance(row[n], str) for row in table.rows))
    printed = tuple(
        tuple(cell.replace("-", "−") if n in numbers else cell for n, cell in enumerate(row)) for row in rows
    )
    return Rows(tuple(columns), printed, table.note, numbers)


def printable(text: str) -> str:
    """``text`` without what no font draws and no page may hold: control characters, halves of characters."""
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text)


def _sentence(text: str) -> str:
    """``text`` with a capital and a full stop."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text[-1:] in ".!?" else ".")
