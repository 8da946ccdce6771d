"""DICOM as a scan: converted into a temporary folder, and loaded from there."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.dicom.convert import Survey, convert_runs, survey
from napari_metaqsm.io.dicom.scanner_run import ScannerRun
from napari_metaqsm.io.nifti_scan import scan_from
from napari_metaqsm.io.pairing import told_difference
from napari_metaqsm.scan import Scan


def open_dicom(
    paths: str | os.PathLike | Iterable[str | os.PathLike],
    *,
    series: Sequence[int] | None = None,
    given: Mapping[str, Sequence[Path]] | None = None,
    alternating_slices: bool | None = None,
    phase_difference: bool | None = None,
    **stated: Any,
) -> Scan:
    """The scan in DICOM files or folders.

    Parameters
    ----------
    paths : files and folders, classic or enhanced
    series : numbers of the series to use, where there are several runs
    given : NIfTI files by role, which replace what is in the DICOM
    alternating_slices, phase_difference, stated : the keywords of
        :func:`~napari_metaqsm.io.nifti_scan.scan_from`; they go before what was decided

    Returns
    -------
    Scan; ``sources`` are the DICOM series, ``decisions`` how they were read, ``notes`` what was assumed
    and what is missing

    Raises
    ------
    InputError
        When there is nothing to make a field from, or there are several runs.
    """
    given = given or {}
    own_phase = "phase" not in given  # one that is given is told of when it is read
    found = survey(paths, series, phase_difference if own_phase else None)
    if len(found.runs) > 1:
        raise InputError(f"there are {len(found.runs)} runs; {_how_to_choose(found)}: {_listed(found)}")
    with tempfile.TemporaryDirectory(prefix="metaqsm-") as folder:
        (run,) = convert_runs(found, folder, alternating_slices)
        difference = None if own_phase else phase_difference
        phase = _phase_in_words(found.runs[0]) if own_phase else ""
        scan = scan_from([Path(folder)], given, phase_difference=difference, converted=phase, **stated)
    sources = dict(scan.sources)
    for role, series_of in run.sources.items():
        name = "phase" if role == "phase_difference" else role
        if name not in given and name in sources:
            sources[name] = series_of
    told = told_difference(True, None) if own_phase else ()
    decisions = dict.fromkeys((*run.decisions, *(text for text in scan.decisions if text not in told)))
    notes = dict.fromkeys((*run.notes, *scan.notes))
    return dataclasses.replace(scan, sources=sources, decisions=tuple(decisions), notes=tuple(notes))


def _phase_in_words(run: ScannerRun) -> str:
    numbers = {s.series_number for part, some in run.parts.items() if part != "magnitude" for s in some}
    return f"series {', '.join(map(str, sorted(numbers)))}"


def _how_to_choose(found: Survey) -> str:
    """By series, or by folder where the first run is not told from another by that."""
    first = found.runs[0]
    if any(set(first.series) >= set(run.series) for run in found.runs[1:]):
        studies = len({run.stacks[0].header.study_uid for run in found.runs})
        of = f"they are of {studies} studies, and " if studies > 1 else ""
        return f"{of}series do not tell them apart; give the folder or the files of one"
    return f"choose one by its series (--series {','.join(map(str, first.series))})"


def _listed(found: Survey) -> str:
    return "; ".join(f"series {','.join(map(str, run.series))} ({run.name})" for run in found.runs)
