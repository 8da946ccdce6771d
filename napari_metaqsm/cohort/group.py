"""What came of all scans of a cohort: a page to look at, and two tables to compute with.

``group.html`` shows what failed, what stands apart, and a picture of every scan; ``group_regions.tsv`` has a
row for every region and map, ``group_qc.tsv`` one for every scan. JSON files beside them say what the
columns hold, as BIDS has it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from napari_metaqsm.cohort.group_page import Looked, group_page
from napari_metaqsm.cohort.outcomes import DONE, FOLDER, Outcome, read_outcome, scan_named
from napari_metaqsm.cohort.outliers import Acquired, Outlier, acquired_alike, find_outliers, quantities_of
from napari_metaqsm.cohort.summary import FORM, PICTURE, REPORT
from napari_metaqsm.errors import InputError
from napari_metaqsm.io.bids.derivatives import documents_folder
from napari_metaqsm.io.nifti import staged

PAGE, REGIONS, QC = "group.html", "group_regions.tsv", "group_qc.tsv"
_SUBJECT = {
    "participant_id": "Subject",
    "session_id": "Session",
    "scan": "Scan: subject, session and what else its files' names have in common",
}
_REGION_COLUMNS = {
    **_SUBJECT,
    "index": "Label of the region",
    "region": "Name of the region",
    "map": "Method of the susceptibility map",
    "voxels": "Voxels of the region",
    "volume_mm3": "Volume of the region (mm^3)",
    "counted_voxels": "Voxels of the region in the map's mask; only these count",
    "outside_mask_percent": "Share of the region outside the map's mask (%)",
    "unreliable_percent": "Share of the voxels counted that are unreliable (%)",
    "mean_ppm": "Mean susceptibility (ppm)",
    "sd_ppm": "Standard deviation of susceptibility, over n - 1 (ppm)",
    "median_ppm": "Median susceptibility (ppm)",
}
_QC_COLUMNS = {
    **_SUBJECT,
    "status": "done or failed",
    "reason": "Why it failed",
    "seconds": "Time of computing (s)",
    "vendor": "Manufacturer of the scanner",
    "model": "Model of the scanner",
    "b0_tesla": "Field strength (T)",
    "echo_times_ms": "Echo times (ms)",
    "voxel_size_mm": "Voxel size along the axes of the files (mm)",
    "mask_ml": "Volume of the brain's mask (ml)",
    "field_noise_ppm": "Median of the field's standard deviation (ppm)",
    "unreliable_percent": "Share of the maps' voxels that are unreliable (%)",
    "checks_wrong": "Checks that found something wrong, by name",
    "checks_care": "Checks that found something to be read with care, by name",
    "warnings": "Number of warnings of the reader and the steps",
    "outliers": "Values apart from scans acquired alike, with their distance from the median in robust SD",
}
_MAP_COLUMNS = {
    "mean_ppm": "Mean susceptibility in the mask of {} (ppm)",
    "sd_ppm": "Standard deviation of susceptibility in the mask of {} (ppm)",
    "volume_ml": "Volume of the mask of {} (ml)",
}


def write_group(out: str | os.PathLike) -> list[Path]:
    """Write the page and the tables of all scans whose outcomes are kept in ``out``: all files or none.

    One outcome is in memory at a time; of each, the values that are compared stay.

    Returns
    -------
    ``group.html``, ``group_regions.tsv``, ``group_qc.tsv`` and the tables' dictionaries

    Raises
    ------
    InputError
        When ``out`` holds no outcome of any scan, or cannot be written to.
    """
    out = Path(out)
    scans: list[_Scan] = []
    with staged(out) as temporary:
        with _opened(temporary / REGIONS) as table:
            _write_row(table, _REGION_COLUMNS)
            for file in sorted((out / FOLDER).glob("*.json")):
                outcome = read_outcome(file)
                if outcome is not None:
                    scans.append(_scan_of(outcome, out))
                    _write_regions(table, scans[-1].subject, outcome.measures)
        if not scans:
            raise InputError(f"{out} holds no outcome of a scan; give a folder that metaqsm bids wrote")
        groups = acquired_alike({s.label: s.looked.acquired for s in scans if s.looked.acquired is not None})
        scans = _with_outliers(scans, groups)
        dictionaries = {REGIONS: _REGION_COLUMNS, QC: _write_qc(temporary / QC, scans)}
        names = [PAGE, *dictionaries]
        for name, columns in dictionaries.items():
            names.append(name.replace(".tsv", ".json"))
            content = {column: {"Description": words} for column, words in columns.items()}
            (temporary / names[-1]).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        page = group_page([scan.looked for scan in scans], groups, dictionaries)
        (temporary / PAGE).write_text(page, encoding="utf-8", errors="backslashreplace")
    return [out / name for name in names]


@dataclass(frozen=True)
class _Scan:
    """What is kept of an outcome: cells of its row, by column, and what the page shows."""

    subject: tuple[str, str, str]
    cells: Mapping[str, Any]
    maps: tuple[str, ...]
    looked: Looked

    @property
    def label(self) -> str:
        return self.looked.label


# ------------------------------------------------------------------------------------- reading
def _scan_of(outcome: Outcome, out: Path) -> _Scan:
    done = outcome.status == DONE
    measures = outcome.measures if done and outcome.measures.get("form") == FORM else {}
    scan = scan_named(outcome.label, out)
    cells = {
        "status": outcome.status,
        "reason": outcome.reason,
        "seconds": outcome.seconds,
        "warnings": len(outcome.warnings),
    }
    looked = Looked(outcome.label, "" if done else outcome.reason or "no reason is known")
    if done and scan is not None:
        folder = documents_folder(scan)
        report, picture = (
            f"{folder}/{file}" if (out / folder / file).is_file() else "" for file in (REPORT, PICTURE)
        )
        looked = replace(looked, report=report, picture=picture)
    if done and not measures:
        looked = replace(looked, findings={"Measures": ("care", "Nothing was measured")})
    if measures:
        cells |= _cells_of(measures)
        findings = {
            f["key"]: (f["severity"], f["what"]) for f in measures["findings"] if f["severity"] != "in order"
        }
        looked = replace(
            looked,
            acquired=Acquired.of(measures),
            quantities=quantities_of(measures),
            findings=findings,
        )
        for severity, column in (("wrong", "checks_wrong"), ("care", "checks_care")):
            cells[column] = "; ".join(key for key, (s, _) in findings.items() if s == severity)
    subject, session = (outcome.label, "") if scan is None else (f"sub-{scan.subject}", scan.session)
    ids = (subject, f"ses-{session}" if session else "", outcome.label)
    return _Scan(ids, cells, tuple(measures.get("maps", ())), looked)


def _cells_of(measures: Mapping[str, Any]) -> dict[str, Any]:
    acquired = measures["acquisition"]
    cells = {key: acquired[key] for key in ("vendor", "model", "b0_tesla")}
    cells |= {key: _listed(acquired[key]) for key in ("echo_times_ms", "voxel_size_mm")}
    cells |= {key: measures[key] for key in ("mask_ml", "field_noise_ppm", "unreliable_percent")}
    for title, of in measures["maps"].items():
        cells |= {_map_column(title, key): of[key] for key in _MAP_COLUMNS}
    return cells


def _listed(values: Iterable[float] | None) -> str:
    return ", ".join(f"{value:g}" for value in values or ())


def _with_outliers(scans: Sequence[_Scan], groups: Sequence[Sequence[str]]) -> list[_Scan]:
    known = {scan.label: scan.looked.quantities for scan in scans}
    found: dict[str, list[Outlier]] = {}
    for labels in groups:
        for outlier in find_outliers({label: known[label] for label in labels}):
            found.setdefault(outlier.label, []).append(outlier)
    return [replace(s, looked=replace(s.looked, outliers=tuple(found.get(s.label, ())))) for s in scans]


# ------------------------------------------------------------------------------------- tables
def _write_regions(table: TextIO, subject: Sequence[str], measures: Mapping[str, Any]) -> None:
    for region in measures.get("regions", ()):
        before = (*subject, region["label"], region["name"])
        size = (region["voxels"], region["volume_mm3"])
        for title, of in region["maps"].items():
            figures = (of["mean_ppm"], of["sd_ppm"], of["median_ppm"])
            counted = (of["voxels"], of["outside_mask_percent"], region["unreliable_percent"])
            _write_row(table, (*before, title, *size, *counted, *figures))


def _opened(file: Path) -> TextIO:
    """A table to be written; what it tells may hold names of files, which need not be text."""
    return file.open("w", encoding="utf-8", errors="backslashreplace", newline="\n")


def _write_qc(file: Path, scans: Sequence[_Scan]) -> dict[str, str]:
    """A row for every scan; what its columns hold."""
    maps = dict.fromkeys(title for scan in scans for title in scan.maps)
    columns = dict(_QC_COLUMNS)
    for title in maps:
        columns |= {_map_column(title, key): words.format(title) for key, words in _MAP_COLUMNS.items()}
    with _opened(file) as table:
        _write_row(table, columns)
        for scan in scans:
            apart = "; ".join(_short(outlier) for outlier in scan.looked.outliers)
            cells = {**dict(zip(_SUBJECT, scan.subject, strict=True)), **scan.cells, "outliers": apart}
            _write_row(table, (cells.get(column) for column in columns))
    return columns


def _short(outlier: Outlier) -> str:
    by = f" by {outlier.quantity.map}" if outlier.quantity.map else ""
    return f"{outlier.quantity.name}{by} {outlier.score:+.1f}"


def _map_column(title: str, key: str) -> str:
    return f"{re.sub('[^a-z0-9]+', '_', title.lower()).strip('_')}_{key}"


def _write_row(table: TextIO, cells: Iterable[Any]) -> None:
    """Cells as BIDS has them: between tabs, "n/a" where there is none."""
    texts = (
        "" if cell is None else f"{cell:.6g}" if isinstance(cell, float) else str(cell) for cell in cells
    )
    table.write("\t".join(" ".join(text.split()) or "n/a" for text in texts) + "\n")
