"""What another pipeline's derivatives hold of a scan: its mask, its regions."""

from __future__ import annotations

import os
from pathlib import Path

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.bids.dataset import BidsScan
from napari_metaqsm.io.bids.names import BidsName, parse_name
from napari_metaqsm.io.nifti import is_nifti

# Entities that tell of a derived image what it is, and not of which scan.
_OWN = ("desc", "space", "res", "label", "seg", "atlas", "scale", "hemi", "part", "echo")
# The grid of the scan itself; any other is that of another image or of a template.
_SAME_SPACE = ("orig", "MEGRE", "T2starw", "GRE")


def find_companion(
    scan: BidsScan, folder: str | os.PathLike, suffix: str, desc: str | None = None
) -> Path | None:
    """The image of a dataset of derivatives that belongs to a scan; None where there is none.

    It is of the same subject, and of the same session and run where its name says one. Of several that
    fit, the one whose name says most is meant. Images in the space of another one are left out.

    Parameters
    ----------
    folder : a dataset of derivatives, of any pipeline
    suffix : as "mask" or "dseg"
    desc : its label; None takes any, but "brain" first

    Raises
    ------
    InputError
        When ``folder`` is none, or several images fit equally well.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; give a dataset of derivatives")
    found: dict[Path, tuple[int, bool]] = {}
    for place in dict.fromkeys((scan.folder, f"sub-{scan.subject}")):
        for file in sorted((folder / place / "anat").glob(f"sub-{scan.subject}_*{suffix}.nii*")):
            name = parse_name(file.name) if is_nifti(file) else None
            if name is not None and name.suffix == suffix and _fits(name, scan, desc):
                said = len(set(name.entities) - set(_OWN))
                found[file] = (said, name.entities.get("desc") == "brain")
    best = [file for file, rank in found.items() if rank == max(found.values())]
    if len(best) > 1:
        names = ", ".join(file.name for file in best)
        raise InputError(
            f"several files in {folder} could be the {suffix} of {scan.label}: {names}; keep one"
        )
    return best[0] if best else None


def _fits(name: BidsName, scan: BidsScan, desc: str | None) -> bool:
    entities = {e: label for e, label in name.entities.items() if e not in _OWN}
    return (
        entities.get("sub") == scan.subject
        and entities.items() <= scan.entities.items()
        and name.entities.get("space", "orig") in _SAME_SPACE
        and desc in (None, name.entities.get("desc"))
    )
