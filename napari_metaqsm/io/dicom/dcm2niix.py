"""Run dcm2niix on a folder of its own: watched, stoppable, its words kept."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

from napari_metaqsm.errors import InputError
from napari_metaqsm.method import announce

# Asked so often whether the user stopped the work.
_POLL_S = 0.05
_LONGEST_S = 1800.0
# No compression, precise Philips values, no settings from the user's own file, nothing of the patient.
_OPTIONS = ("-g", "i", "-b", "y", "-ba", "y", "-z", "n", "-p", "y", "-f", "image", "-w", "2")


def run_dcm2niix(
    folder: Path, out: Path, label: str, fraction: float = 0.0, one_volume: bool = False
) -> list[Path]:
    """The NIfTI files that dcm2niix makes of a folder, each with its JSON file beside it.

    Parameters
    ----------
    folder, out : two folders with plain names
    label, fraction : reported while it runs
    one_volume : whether the slices of a series are one volume even where their echo times differ

    Raises
    ------
    InputError
        When it makes none, with its own words, or runs for half an hour.
    Cancelled
        When the user stopped the work; dcm2niix has ended then.
    """
    log = out / "dcm2niix.log"
    command = [_program(), *_OPTIONS, "-m", "y" if one_volume else "2", "-o", str(out), str(folder)]
    with log.open("wb") as words:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=words, stderr=subprocess.STDOUT)
        try:
            _wait(process, label, fraction)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    files = sorted(out.glob("*.nii"))
    if not files:
        raise InputError(f"dcm2niix made nothing of {label}: {_words(log, folder)}")
    return files


def _wait(process: subprocess.Popen, label: str, fraction: float) -> None:
    end = time.monotonic() + _LONGEST_S
    while process.poll() is None:
        announce(label, fraction)
        if time.monotonic() > end:
            raise InputError(f"dcm2niix still works on {label} after half an hour; convert it by hand")
        try:
            process.wait(_POLL_S)
        except subprocess.TimeoutExpired:
            continue


def _program() -> str:
    try:
        import dcm2niix
    except ImportError as error:
        raise InputError("dcm2niix is not installed; DICOM needs it: pip install dcm2niix") from error
    return str(dcm2niix.bin)


def _words(log: Path, folder: Path) -> str:
    """Its last warnings and errors, without the folder's name."""
    text = log.read_text(encoding="utf-8", errors="replace").replace(str(folder), "")
    lines = [re.sub(r"\s+", " ", line).strip() for line in text.splitlines()]
    telling = [line for line in lines if re.search(r"error|warning|unable|unsupported|no valid", line, re.I)]
    return " ".join((telling or lines[-2:])[-3:])[:400] or "it said nothing"
