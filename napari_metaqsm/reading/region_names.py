"""What regions are called."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from napari_metaqsm.reading.freesurfer import FREESURFER

# What files of FreeSurfer's numbers are called.
_FREESURFER_FILES = ("aseg", "aparc", "synthseg", "freesurfer")


def region_names(
    called: str, listed: Iterable[tuple[Any, Any]] = (), typed: Mapping[Any, str] | None = None
) -> dict[int, str]:
    """Names of labels: as typed, else as listed, else FreeSurfer's where it says so.

    Parameters
    ----------
    called : the labels' numbering, name and file, as in "aparc+aseg.mgz"
    listed : pairs of label and name; what is no text is no name
    typed : by label, which may be text as JSON has it
    """
    names: dict[int, str] = {}
    if any(word in called.lower() for word in _FREESURFER_FILES):
        names.update(FREESURFER)
    names.update({int(label): name for label, name in listed if isinstance(name, str) and name})
    names.update({int(label): name for label, name in (typed or {}).items() if name})
    return names
