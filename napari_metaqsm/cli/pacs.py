"""``metaqsm dicom``: maps back to the PACS that their scan came from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_metaqsm.cli.app import app, progress, tell
from napari_metaqsm.cli.options import QuietOption, window_in
from napari_metaqsm.errors import InputError

if TYPE_CHECKING:
    import numpy as np

_KINDS = {"map": "parametric map", "series": "mr series", "both": "both"}


@app.command()
def dicom(
    folder: Annotated[
        Path, typer.Argument(help="What metaqsm run or cosmos wrote, or a reading saved in the window.")
    ],
    source: Annotated[
        list[Path],
        typer.Option(help="The DICOM files or folder that the maps were made from; repeated."),
    ],
    kind: Annotated[
        str,
        typer.Option(
            help="map, a parametric map that holds the values in ppm; series, a classic MR series in whole "
            "ppb for a PACS that shows no parametric maps; or both."
        ),
    ] = "both",
    maps: Annotated[
        str | None,
        typer.Option(
            help="Which maps, by their method, as tkd,metaqsm; of a reading also by name [all in the folder]."
        ),
    ] = None,
    window: Annotated[str, typer.Option(help="Black and white in ppm, as -0.1,0.2.")] = "-0.1,0.1",
    deidentify: Annotated[
        bool,
        typer.Option("--deidentify", help="Without patient, dates, institution; with new UIDs."),
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for the series [dicom, beside the maps].")] = None,
    quiet: QuietOption = False,
) -> None:
    """Susceptibility maps as DICOM series of the study they come from, with its patient and its place."""
    from napari_metaqsm.io.dicom.export import export_each
    from napari_metaqsm.report.folder import read_maps

    if kind not in _KINDS:
        raise InputError(f"--kind is {kind!r}; it must be one of {', '.join(_KINDS)}")
    window_ppm = window_in(window)
    with progress(quiet):
        found, space, records = read_maps(folder)
        files = export_each(
            _chosen(found, maps, records),
            space,
            source,
            out or folder / "dicom",
            records=records,
            kind=_KINDS[kind],
            window_ppm=window_ppm,
            deidentify=deidentify,
        )
    tell((), dict.fromkeys(file.parent for file in files), quiet)


def _chosen(
    found: Mapping[str, np.ndarray], maps: str | None, records: Mapping[str, Mapping[str, Any]]
) -> Mapping[str, np.ndarray]:
    """Maps as the user lists them, by the names of their methods or their own; all where he lists none."""
    if maps is None:
        return found
    names = {name.removeprefix("susceptibility_"): name for name in found}
    chosen: list[str] = []
    for word in filter(None, map(str.strip, maps.split(","))):
        of_method = [name for name in found if (records[name].get("steps") or [{}])[-1].get("method") == word]
        if word not in names and not of_method:
            raise InputError(f"--maps is {maps!r}; it must be of {', '.join(names)}")
        chosen += [names[word]] if word in names else of_method
    return {name: found[name] for name in chosen}
