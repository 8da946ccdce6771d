"""``metaqsm convert``: DICOM from the scanner to NIfTI files, and what is in it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_metaqsm.cli.app import app, progress
from napari_metaqsm.cli.options import AlternatingOption, DifferenceOption, QuietOption, series_in

if TYPE_CHECKING:
    from napari_metaqsm.io.dicom.convert import Converted, Survey
    from napari_metaqsm.io.dicom.scanner_run import ScannerRun


@app.command()
def convert(
    paths: Annotated[list[Path], typer.Argument(help="DICOM files or folders, at any depth.")],
    out: Annotated[Path, typer.Option(help="Folder for the NIfTI files and their sidecars.")] = Path(
        "metaqsm-nifti"
    ),
    series: Annotated[
        str | None, typer.Option(help="Numbers of the series to use, as 8,9 [all that belong together].")
    ] = None,
    alternating_slices: AlternatingOption = None,
    phase_difference: DifferenceOption = None,
    list_: Annotated[bool, typer.Option("--list", help="Only say what is there; convert nothing.")] = False,
    quiet: QuietOption = False,
) -> None:
    """DICOM to NIfTI: which magnitude and phase belong together, how they are read, and what is missing."""
    from napari_metaqsm.io.dicom.convert import convert_runs, survey
    from napari_metaqsm.io.load import check_writable

    if not list_:
        check_writable(out)
    with progress(quiet):
        found = survey(paths, series_in(series), phase_difference)
        converted = [] if list_ else convert_runs(found, out, alternating_slices)
    for path, why in found.refused:
        print(f"not used: {path}: {why}", file=sys.stderr)
    if quiet and not list_:
        return
    _show(found, converted)


def _show(found: Survey, converted: list[Converted]) -> None:
    """Each run with its parts, what was decided, and where it lies now; then what holds for all."""
    from napari_metaqsm.io.dicom.convert import how_read

    made = {one.name: one for one in converted}
    for run in found.runs:
        print(run.name)
        _table(run)
        one = made.get(run.name)
        # The first decisions say what the table does.
        decisions = one.decisions[len(run.parts) :] if one else (*run.decisions, how_read(run))
        for text in (text for text in decisions if text not in found.decisions):
            print(f"  {text}")
        for text in dict.fromkeys((*run.notes, *(one.notes if one else ()))):
            if text not in found.notes:
                print(f"  note: {text}")
        for file in (file for files in one.files.values() for file in files) if one else ():
            print(f"  {file}")
        print()
    for text in found.decisions:
        print(text)
    for text in found.notes:
        print(f"note: {text}")


def _table(run: ScannerRun) -> None:
    """The parts of a run: a table on a terminal, plain lines elsewhere."""
    from napari_metaqsm.io.dicom.stacks import columns_of, describe

    if not sys.stdout.isatty():
        for part, stacks in run.parts.items():
            print(f"  {describe(part, stacks)}")
        return
    from rich.console import Console
    from rich.table import Table

    rows = {part: columns_of(stacks) for part, stacks in run.parts.items()}
    table = Table("", *next(iter(rows.values())))
    for part, values in rows.items():
        table.add_row(part.replace("_", " "), *values.values())
    Console().print(table)
