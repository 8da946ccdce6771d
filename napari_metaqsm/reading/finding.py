"""One thing that was checked of a scan or its maps, and what all checks look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Any

import numpy as np

from napari_metaqsm.errors import InputError
from napari_metaqsm.field.scaling import PhaseScale, recognise_phase
from napari_metaqsm.scan import Acquisition, Geometry

Voxel = tuple[int, int, int]
# Voxels that tell a percentile well enough.
SAMPLED = 400_000


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
    what : was found, or why nothing was checked, in one line
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
    kept: dict[str, Any] = field(default_factory=dict, repr=False)

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """What ``make`` gives, made once for the checks that share it."""
        if name not in self.kept:
            self.kept[name] = make()
        return self.kept[name]

    @property
    def extent_mm(self) -> tuple[float, ...]:
        """Length of the volume along each axis."""
        sides = zip(self.geometry.shape, self.geometry.voxel_size_mm, strict=True)
        return tuple(n * size for n, size in sides)

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

    def radians(self, echo: int, part: tuple[slice, ...]) -> np.ndarray:
        """Phase of a part of an echo in rad, as it was stored but for the unit and the sign, float32.

        Raises
        ------
        NotChecked
            When its unit is unknown.
        """
        try:
            scale = self.phase_scale
        except InputError:
            raise NotChecked("the unit of the phase is unknown") from None
        stored = np.nan_to_num(self.phase[echo][part].astype(np.float32), posinf=0, neginf=0)
        return (stored - np.float32(scale.zero)) * np.float32(scale.sign * np.pi / scale.stored_pi)

    def signal(self, echo: int, part: tuple[slice, ...]) -> np.ndarray:
        """Complex signal of a part of an echo, complex64; without a magnitude it is one in the mask.

        The mask does not count where there is a magnitude: what tells of the scan must not change with it.
        """
        values = np.exp(1j * self.radians(echo, part))
        if self.magnitude is None:
            return values if self.mask is None else values * self.mask[part]
        strength = self.magnitude[min(echo, len(self.magnitude) - 1)][part].astype(np.float32)
        return values * np.nan_to_num(strength, posinf=0, neginf=0)

    @cached_property
    def dark(self) -> float:
        """Magnitude of the first echo below which a voxel holds air rather than tissue.

        Otsu's threshold for the square root, so that uneven coils cost less of the head.
        """
        from skimage.filters import threshold_otsu

        values = thinned(self.magnitude[0], SAMPLED).astype(np.float32)
        evened = np.sqrt(np.maximum(np.nan_to_num(values, posinf=0, neginf=0), 0))
        if evened.min() == evened.max():
            raise NotChecked("the magnitude is the same everywhere")
        return float(threshold_otsu(np.minimum(evened, np.quantile(evened, 0.99)))) ** 2

    @cached_property
    def inside(self) -> np.ndarray:
        """(i, j, k) bool: the mask; without one, what is no air."""
        if self.mask is not None:
            return self.mask
        if self.magnitude is None:
            raise NotChecked("needs a brain mask or the magnitude")
        return self.magnitude[0] > self.dark


def thinned(array: np.ndarray, count: int) -> np.ndarray:
    """Every so many voxels along each axis, so that about ``count`` are left; a view."""
    step = max(1, round((array.size / count) ** (1 / array.ndim)))
    return array[(slice(None, None, step),) * array.ndim]


@dataclass(frozen=True)
class Check:
    """A check: its name, what must be there for it, in the words of ``Evidence``, and how it is made."""

    name: str
    needs: tuple[str, ...]
    look: Callable[[Evidence], Finding]
