"""How far a scan and its maps can be trusted: every check, in the order in which they are read.

Each check says what it found, why that matters, what to do, and the figure that it decided by. What cannot
be checked is listed as such, and never passes in silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from napari_metaqsm.method import running, steps
from napari_metaqsm.reading import (
    acquisition_findings,
    field_findings,
    map_findings,
    mask_findings,
    phase_findings,
    signal_findings,
)
from napari_metaqsm.reading.finding import Check, Evidence, Finding, NotChecked, Severity
from napari_metaqsm.reading.study import Study
from napari_metaqsm.scan import Acquisition, Geometry

__all__ = ["Finding", "Severity", "find", "find_in"]

CHECKS: tuple[Check, ...] = (
    *acquisition_findings.CHECKS,
    *signal_findings.CHECKS,
    *phase_findings.CHECKS,
    *field_findings.CHECKS,
    *mask_findings.CHECKS,
    *map_findings.CHECKS,
)
_WORDS = {
    "echo_times_s": "the echo times",
    "b0_tesla": "the field strength",
    "maps": "a susceptibility map",
    "mask": "a brain mask",
}


def find(
    geometry: Geometry,
    acquisition: Acquisition | None = None,
    *,
    phase: np.ndarray | None = None,
    magnitude: np.ndarray | None = None,
    total_field: np.ndarray | None = None,
    local_field: np.ndarray | None = None,
    noise: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    maps: Mapping[str, np.ndarray] | None = None,
    records: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Finding]:
    """Everything that was found, one entry a check, in the order of ``CHECKS``.

    Parameters
    ----------
    geometry : of all arrays
    phase, magnitude : (echo, i, j, k) or (i, j, k), as stored
    total_field, local_field, noise : (i, j, k), ppm
    mask : (i, j, k), the brain, zero outside
    maps : (i, j, k) susceptibility in ppm by title, zero outside their masks
    records : how each map was made, by its title
    """
    seen = Evidence(
        geometry,
        acquisition or Acquisition(),
        *(None if a is None else a.reshape(-1, *a.shape[-3:]) for a in (phase, magnitude)),
        total_field,
        local_field,
        noise,
        None if mask is None else np.asarray(mask) != 0,
        maps or None,
        records or {},
    )
    # What reading the phase has to tell is told by the findings.
    with running():
        return [_made(CHECKS[number], seen) for number in steps(len(CHECKS), "Checks")]


def find_in(study: Study) -> list[Finding]:
    """Everything that was found in what is read together; see :func:`find`."""
    names = ("phase", "magnitude", "total_field", "local_field", "noise", "mask", "maps", "records")
    return find(study.geometry, study.acquisition, **{name: getattr(study, name) for name in names})


def _made(check: Check, seen: Evidence) -> Finding:
    missing = [need for need in check.needs if _given(seen, need) is None]
    try:
        if missing:
            raise NotChecked(
                f"needs {', '.join(_WORDS.get(m, 'the ' + m.replace('_', ' ')) for m in missing)}"
            )
        return check.look(seen)
    except NotChecked as why:
        return Finding(check.name, Severity.NOT_CHECKED, str(why))


def _given(seen: Evidence, need: str) -> Any:
    return getattr(seen.acquisition if hasattr(seen.acquisition, need) else seen, need)
