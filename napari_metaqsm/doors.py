"""One step at a time from Python: numpy in, numpy out, in any axis order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from napari_metaqsm.pipeline import make_step, run_step, stacked
from napari_metaqsm.scan import Acquisition, Geometry


class FieldFit(NamedTuple):
    """The field of a scan and how well it is known; what a method cannot tell is None.

    ``total_field`` and its standard deviation ``noise`` in ppm; ``residual`` of the fit relative to
    the signal; ``quality`` of the phase from 0 to 1. All (i, j, k).
    """

    total_field: np.ndarray
    noise: np.ndarray | None = None
    residual: np.ndarray | None = None
    quality: np.ndarray | None = None


def extract_brain(
    magnitude: np.ndarray,
    voxel_size_mm: Sequence[float],
    method: str = "brain",
    *,
    orientation: str = "RAS",
    device: str = "auto",
    **parameters: Any,
) -> np.ndarray:
    """Mask (i, j, k) bool of a magnitude (i, j, k) or (echo, i, j, k), by any mask method.

    Parameters
    ----------
    orientation : where the array's axes point in the patient, as in "RAS"
    """
    geometry = Geometry(magnitude.shape[-3:], voxel_size_mm, orientation=orientation)
    data = {"magnitude": magnitude}
    return run_step(make_step("mask", method, **parameters), data, geometry, device=device).outputs["mask"]


def fit_field(
    phase: np.ndarray,
    echo_times_s: Sequence[float],
    b0_tesla: float,
    magnitude: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    method: str = "nonlinear_fit",
    *,
    phase_sign: int = 1,
    phase_pi: float | None = None,
    voxel_size_mm: Sequence[float] = (1.0, 1.0, 1.0),
    device: str = "auto",
    **parameters: Any,
) -> FieldFit:
    """Total field in ppm from phase (echo, i, j, k) or (i, j, k), as stored.

    Parameters
    ----------
    echo_times_s : one per echo; of a phase difference, the difference of its echo times
    phase_sign, phase_pi : see :class:`~napari_metaqsm.scan.Acquisition`
    voxel_size_mm : says how far the phase offset is smoothed and which neighbours are far; the field
        itself does not depend on it
    """
    geometry = Geometry(phase.shape[-3:], voxel_size_mm)
    acquisition = Acquisition(echo_times_s, b0_tesla, phase_sign, phase_pi)
    data = {"phase": phase, "magnitude": magnitude, "mask": mask}
    step = make_step("field", method, **parameters)
    return FieldFit(**run_step(step, data, geometry, acquisition, device).outputs)


def remove_background(
    total_field: np.ndarray,
    mask: np.ndarray,
    voxel_size_mm: Sequence[float],
    method: str = "resharp",
    b0_direction: Sequence[float] = (0, 0, 1),
    noise: np.ndarray | None = None,
    *,
    device: str = "auto",
    **parameters: Any,
) -> tuple[np.ndarray, np.ndarray]:
    """Local field (ppm) and eroded mask from the total field (ppm), all (i, j, k)."""
    geometry = Geometry(total_field.shape, voxel_size_mm, b0_direction)
    data = {"total_field": total_field, "mask": mask, "noise": noise}
    outputs = run_step(make_step("background", method, **parameters), data, geometry, device=device).outputs
    return outputs["local_field"], outputs["eroded_mask"]


def invert(
    local_field: np.ndarray,
    mask: np.ndarray,
    voxel_size_mm: Sequence[float],
    method: str = "tkd",
    b0_direction: Sequence[float] = (0, 0, 1),
    magnitude: np.ndarray | None = None,
    noise: np.ndarray | None = None,
    *,
    acquisition: Acquisition | None = None,
    initial_susceptibility: np.ndarray | None = None,
    device: str = "auto",
    **parameters: Any,
) -> np.ndarray:
    """Susceptibility (ppm, paramagnetic positive, not referenced) from the local field (ppm).

    Parameters
    ----------
    acquisition : echo times and field strength, for the methods that weigh the phase as acquired
    initial_susceptibility : where an iterative method begins, such as its map with another weight
    """
    geometry = Geometry(local_field.shape, voxel_size_mm, b0_direction)
    data = {"local_field": local_field, "mask": mask, "magnitude": magnitude, "noise": noise}
    data["initial_susceptibility"] = initial_susceptibility
    step = make_step("inversion", method, **parameters)
    return run_step(step, data, geometry, acquisition, device).outputs["susceptibility"]


def combine_orientations(
    local_fields: Sequence[np.ndarray],
    mask: np.ndarray,
    voxel_size_mm: Sequence[float],
    b0_directions: Sequence[Sequence[float]],
    noises: Sequence[np.ndarray] | None = None,
    masks: Sequence[np.ndarray] | None = None,
    method: str = "cosmos",
    *,
    device: str = "auto",
    **parameters: Any,
) -> np.ndarray:
    """Susceptibility (ppm, not referenced) from the registered local fields (ppm) of three or more heads.

    Parameters
    ----------
    local_fields : one (i, j, k) for each orientation of the head, all registered to one of them
    mask : (i, j, k), where there are sources
    b0_directions : one for each field: B0 along the shared axes i, j, k
    noises : the standard deviation of each field, ppm, 0 where a field is not known
    masks : where each field is known, where that differs
    """
    data = {"local_fields": stacked(local_fields), "mask": mask}
    data["b0_directions"] = np.asarray(b0_directions, np.float32)
    data["noises"] = None if noises is None else stacked(noises)
    data["masks"] = None if masks is None else stacked(masks)
    step = make_step("orientations", method, **parameters)
    geometry = Geometry(data["local_fields"].shape[1:], voxel_size_mm)
    return run_step(step, data, geometry, device=device).outputs["susceptibility"]
