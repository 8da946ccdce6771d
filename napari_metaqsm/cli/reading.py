"""``metaqsm report``: maps on paper."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_metaqsm.cli.app import app, progress, tell
from napari_metaqsm.cli.options import QuietOption, numbers_in, window_in
from napari_metaqsm.errors import InputError


@app.command()
def report(
    folder: Annotated[
        Path, typer.Argument(help="What metaqsm run or cosmos wrote, or a reading saved in the window.")
    ],
    inputs: Annotated[
        list[Path] | None,
        typer.Option(help="Folder or files of the scan, for its magnitude, phase and sidecars; repeated."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="Regions to measure: a label map on the maps' grid [those of a saved reading]."),
    ] = None,
    names: Annotated[
        Path | None, typer.Option(help="Names of the labels: a table with the columns index and name.")
    ] = None,
    title: Annotated[str, typer.Option(help="Printed as typed; nothing else names a patient.")] = "",
    comment: Annotated[str, typer.Option(help="Likewise, below the title.")] = "",
    window: Annotated[
        str, typer.Option(help="Black and white of the slices in ppm, as -0.1,0.2.")
    ] = "-0.1,0.1",
    voxel: Annotated[
        list[str] | None,
        typer.Option(help="Slices through this voxel, as 40,45,30; repeated [the middle of the maps]."),
    ] = None,
    html: Annotated[bool, typer.Option("--html", help="The page alone, without the PDF.")] = False,
    pdf: Annotated[bool, typer.Option("--pdf", help="The PDF alone, without the page.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for the report [beside the maps].")] = None,
    quiet: QuietOption = False,
) -> None:
    """A reading on paper: report.html, report.pdf, the paragraph of methods and its references."""
    from napari_metaqsm.io.load import check_writable
    from napari_metaqsm.reading.findings import find_in
    from napari_metaqsm.reading.regions import measure_regions
    from napari_metaqsm.reading.reliability import reliability
    from napari_metaqsm.report.content import Wishes, make_report
    from napari_metaqsm.report.folder import FORMATS, open_folder, read_labels, read_names, write_report

    check_writable(out or folder)
    if names and not labels:
        raise InputError("there are names, but no labels; give a label map with --labels")
    wishes = Wishes(
        title, comment, window_ppm=window_in(window), voxels=[_voxel(text) for text in voxel or ()]
    )
    with progress(quiet):
        opened = open_folder(folder, inputs or ())
        drawn, named = opened.labels, opened.names
        if labels:
            drawn = opened.in_study_axes(read_labels(labels, opened.space))
            named = read_names(names) if names else {}
        regions = None
        if drawn is not None:
            regions = measure_regions(opened.study, drawn, named, reliability(opened.study).unreliable)
        findings = find_in(opened.study)
        measured = {"regions": regions, "spots": opened.spots, "findings": findings}
        made = make_report(opened.study, wishes, **measured, notes=opened.notes)
        formats = FORMATS if html == pdf else ["html" if html else "pdf"]
        files = write_report(made, out or folder, formats)
    tell(opened.notes, files, quiet)


def _voxel(text: str) -> tuple[int, int, int]:
    numbers = numbers_in("--voxel", text) or ()
    if len(numbers) != 3 or any(n != int(n) or n < 0 for n in numbers):
        raise InputError(f"--voxel is {text!r}; it must be three whole numbers, as 40,45,30")
    return tuple(int(n) for n in numbers)
