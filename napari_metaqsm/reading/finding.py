"""One thing that was checked of a scan or its maps, and what all checks look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Any

import numpy as np

from napari_metaqsm.field.scaling import PhaseScale, recognise_phase
from napari_metaqsm.scan import Acquisition, Geometry

Voxel = tuple[int, int, int]


class Severity(Enum):
    """How a thing stands, with the sign that it is shown by."""

    WRONG = "✗"
    CARE = "!"
    IN_ORDER = "✓"
    NOT_CHECKED = "–"


@dataclass(frozen=True)
class Finding:
    """What one check found, for people to read.

    Parameters
    ----------
    name : of the check, the same whatever it finds
    severity : wrong; to be read with care; in order; or not checked
    what : was found, or is missing, in one line
    why_it_matters, what_to_do : in plain words; empty where all is in order
    figure : what was measured, and the limit it was held against
    place : a voxel to look at
    """

    name: str
    severity: Severity
    what: str
    why_it_matters: str = ""
    what_to_do: str = ""
    figure: str = ""
    place: Voxel | None = None


class NotChecked(Exception):
    """A check cannot be made; the message says why, in a few words."""


@dataclass(frozen=True)
class Evidence:
    """What the checks look at; any of it may be missing. See :func:`findings.find` for the arrays."""

    geometry: Geometry
    acquisition: Acquisition = field(default_factory=Acquisition)
    phase: np.ndarray | None = None
    magnitude: np.ndarray | None = None
    total_field: np.ndarray | None = None
    local_field: np.ndarray | None = None
    noise: np.ndarray | None = None
    mask: np.ndarray | None = None
    maps: Mapping[str, np.ndarray] | None = None
    records: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @cached_property
    def phase_scale(self) -> PhaseScale:
        """How the stored phase reads in radians.

        Raises
        ------
        InputError
            When it is none of the known ranges.
        """
        finite = np.isfinite(self.phase) if np.issubdtype(self.phase.dtype, np.floating) else None
        return recognise_phase(self.phase, self.acquisition, finite)


@dataclass(frozen=True)
class Check:
    """A check: its name, what must be there for it, in the words of ``Evidence``, and how it is made."""

    name: str
    needs: tuple[str, ...]
    look: Callable[[Evidence], Finding]
