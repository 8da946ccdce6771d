"""Real and imaginary parts in NIfTI files: where phase has to come from them, and what is made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.complex_parts import Polar, magnitude_and_phase
from napari_metaqsm.io.dicom import vendors
from napari_metaqsm.io.dicom.facts import Facts
from napari_metaqsm.io.pairing import COMPLEX
from napari_metaqsm.io.sidecar import Sidecar

_GO_BEFORE = ("phase", "phase_difference", "total_field", "local_field")


def parts_to_read(files: Mapping[str, Sequence[Path]], decisions: list[str]) -> tuple[str, ...]:
    """The roles of real and imaginary parts where the phase has to come from them; else none.

    Parameters
    ----------
    files : of one run, by role
    decisions : takes which files are not needed

    Raises
    ------
    InputError
        When one of the two is missing.
    """
    there = [role for role in COMPLEX if role in files]
    if any(role in files for role in _GO_BEFORE):
        if there:
            names = ", ".join(p.name for role in there for p in files[role])
            decisions.append(f"not used, for there is phase or field: {names}")
        return ()
    if len(there) == 1:
        raise InputError(
            f"{files[there[0]][0].name} is the {there[0]} part of an image whose other part is missing; "
            "without both there is no phase, give real and imaginary files"
        )
    return tuple(there)


def polar_of(
    real: np.ndarray,
    imaginary: np.ndarray,
    sidecars: Sequence[Sidecar],
    alternating: bool | None,
    decisions: list[str],
    notes: list[str],
) -> Polar:
    """Magnitude and phase of the parts, and in ``decisions`` or, where in doubt, in ``notes`` how.

    Parameters
    ----------
    real, imaginary : (i, j, k) or (echo, i, j, k)
    sidecars : of the files, which tell the vendor
    alternating : whether the sign alternates from slice to slice; None takes the vendor's rule, or tells it
        from the data
    """
    if alternating is None:
        maker = next((s.manufacturer for s in sidecars if s.manufacturer), "")
        alternating = vendors.rule_for(Facts(maker, part="real")).alternating_slices
    polar = magnitude_and_phase(real, imaginary, None, alternating)
    (notes if polar.doubtful else decisions).append(
        f"phase is computed from real and imaginary parts; {polar.words}"
    )
    return polar
