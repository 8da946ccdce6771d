"""The values of all maps along a drawn line."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.ndimage import map_coordinates

from napari_metaqsm.errors import InputError
from napari_metaqsm.reading.study import Study
from napari_metaqsm.scan import Geometry

# From where to where an axis runs, by the letter of its orientation.
_COURSES = {
    **{"R": ("left", "right"), "L": ("right", "left")},
    **{"A": ("posterior", "anterior"), "P": ("anterior", "posterior")},
    **{"S": ("inferior", "superior"), "I": ("superior", "inferior")},
}


class Profile(NamedTuple):
    """Values along a line.

    ``distances_mm`` is (n,), from 0 at the line's first point to its length; ``values`` holds by map (n,)
    in ppm, not a number where the line runs outside the map's mask; ``corners_mm`` are the distances of the
    points between the ends; ``course`` says from where to where in the patient it runs, ("right", "left").
    """

    distances_mm: np.ndarray
    values: dict[str, np.ndarray]
    corners_mm: tuple[float, ...]
    course: tuple[str, str]


def profile(study: Study, points_voxel: np.ndarray, step_mm: float | None = None) -> Profile:
    """All maps along the straight pieces from point to point.

    Parameters
    ----------
    points_voxel : (points, 3), in voxels of the study's grid; 0 is the middle of the first voxel
    step_mm : the longest distance of two samples; None is half the smallest voxel side

    Returns
    -------
    Trilinear between the eight voxels around each sample, where the map is known in all of them that
    count; nothing is made up from voxels outside its mask.

    Raises
    ------
    InputError
        When there are not two different points, or the step is not positive.
    """
    points = np.asarray(points_voxel, float)
    if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
        raise InputError(f"the line is {points.shape} numbers; it must be points of three coordinates each")
    size = np.array(study.geometry.voxel_size_mm)
    step = float(size.min()) / 2 if step_mm is None else step_mm
    if not (math.isfinite(step) and step > 0):
        raise InputError(f"step_mm is {step}; it must be greater than 0")
    lengths = np.linalg.norm(np.diff(points, axis=0) * size, axis=1)
    reached = np.concatenate([[0.0], np.cumsum(lengths)])
    if reached[-1] == 0:
        raise InputError("the line has no length; draw it from one point to another")
    distances = np.linspace(0, reached[-1], math.ceil(reached[-1] / step - 1e-9) + 1)
    places = np.stack([np.interp(distances, reached, axis) for axis in points.T])
    values = {title: _sampled(study.maps[title], places) for title in study.maps}
    return Profile(distances, values, tuple(float(r) for r in reached[1:-1]), _course(points, study.geometry))


def _course(points: np.ndarray, geometry: Geometry) -> tuple[str, str]:
    """The two sides of the patient that the line's ends lie furthest apart in."""
    apart = (points[-1] - points[0]) * geometry.voxel_size_mm
    axis = int(np.abs(apart).argmax())
    course = _COURSES[geometry.orientation[axis]]
    return course if apart[axis] >= 0 else course[::-1]


def _sampled(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Trilinear values at ``places`` (3, n), not a number where a voxel that counts is outside."""
    # Only the box around the line, so that a line that is moved is followed on any grid.
    low = np.clip(np.floor(places.min(axis=1)).astype(int), 0, np.array(values.shape) - 1)
    high = np.clip(np.ceil(places.max(axis=1)).astype(int) + 1, low + 1, values.shape)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    crop = values[box]
    known = (crop != 0) & np.isfinite(crop)  # as Study.inside
    crop = np.where(known, crop, 0).astype(np.float64)
    places = places - low[:, None]
    weight = map_coordinates(known.astype(np.float64), places, order=1)
    return np.where(weight > 1 - 1e-9, map_coordinates(crop, places, order=1), np.nan)
