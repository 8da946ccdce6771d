"""Arrays to napari layers and back: the only place where axes are turned for display.

A layer's spatial axes are (z, y, x), running to the patient's inferior, posterior and left, which is
the radiological view in every plane. Nothing is interpolated: an oblique slab is shown straight, and
its exact place stays in ``layer.metadata["metaqsm"]``:

=============  ======================================================================
``quantity``   name of what the values are, as in the engine ("phase", "local_field")
``unit``       of the values ("rad", "ppm", ""; "as stored" where not yet known)
``space``      ``io.nifti.Space``, to write a file where the input lay; None if there was none
``acquisition``  ``scan.Acquisition`` or None
``b0_direction``  along the layer's spatial axes
``orientation``  of the layer's spatial axes, "IPL"
``record``     how the values were made, or None
=============  ======================================================================
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.nifti import Space
from napari_metaqsm.scan import Acquisition, Geometry, turn, turned

if TYPE_CHECKING:
    from napari.layers import Layer

LayerDataTuple = tuple[np.ndarray, dict[str, Any], str]

# Of a layer's spatial axes (z, y, x).
ORIENTATION = "IPL"
# What a layer of unknown origin is taken to be: a stack as scanners write it, slices upwards.
_ASSUMED_ORIENTATION = "SPL"
_UNITS = {
    "phase": "rad",
    "unwrapped_phase": "rad",
    "total_field": "ppm",
    "local_field": "ppm",
    "background_field": "ppm",
    "noise": "ppm",
    "susceptibility": "ppm",
    "r2star": "1/s",
}
_MASKS = ("mask", "eroded_mask", "region")
_SUSCEPTIBILITY_WINDOW_PPM = (-0.1, 0.1)
_RADIANS_SLACK = 1.01
# Voxels looked at for a contrast range; a percentile needs no more.
_SAMPLED = 200_000
_NO_LENGTH = ("pixel", "dimensionless")


# ------------------------------------------------------------------------------ file to layer
def layer_data(
    array: np.ndarray,
    space: Space,
    quantity: str,
    name: str,
    acquisition: Acquisition | None = None,
    record: Mapping[str, Any] | None = None,
    labels: bool = False,
    *,
    unit: str | None = None,
    geometry: Geometry | None = None,
) -> LayerDataTuple:
    """A layer of an array in its file's axes.

    Parameters
    ----------
    array : (i, j, k) or (echo, i, j, k), in the axes of ``space``
    quantity : what the values are; "mask", "eroded_mask" and "region" become Labels layers
    labels : make a Labels layer of any other quantity
    unit : None takes the quantity's own; phase that is no radians is "as stored"
    geometry : along the file's axes, where its B0 is not that of ``space``
    """
    shown = np.ascontiguousarray(_to_layer_axes(np.asarray(array), space))
    shown_geometry = _turned(geometry or space.geometry(), space)
    unit = _unit(quantity, shown) if unit is None else unit
    metadata = {
        "quantity": quantity,
        "unit": unit,
        "space": space,
        "acquisition": acquisition,
        "b0_direction": shown_geometry.b0_direction,
        "orientation": shown_geometry.orientation,
        "record": record,
    }
    place = {"scale": shown_geometry.voxel_size_mm, "units": ("mm",) * 3}
    return _layer(shown, quantity, name, place, metadata, labels)


def _turn(space: Space) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The file axis that each layer axis shows, and the layer axes that are flipped."""
    return turn(space.geometry().orientation, ORIENTATION)


def _to_layer_axes(array: np.ndarray, space: Space) -> np.ndarray:
    return turned(array, space.geometry().orientation, ORIENTATION)


def _to_file_axes(array: np.ndarray, space: Space) -> np.ndarray:
    order, flipped = _turn(space)
    first = array.ndim - 3
    array = np.flip(array, [first + axis for axis in flipped])
    return array.transpose(*range(first), *(first + order.index(axis) for axis in range(3)))


def _turned(geometry: Geometry, space: Space) -> Geometry:
    """The geometry of an array after :func:`_to_layer_axes`."""
    return dataclasses.replace(geometry, orientation=space.geometry().orientation).turned(ORIENTATION)


# ---------------------------------------------------------------------------- layer to engine
def geometry_of(layer: Layer) -> Geometry:
    """Geometry of a layer's spatial axes (its last three): what a step that runs on it needs.

    Voxel size is measured as the world length of a step along each axis, in mm. B0 is taken from the
    metadata; without it, along the first spatial world axis, which is napari's z
    (:func:`direction_note` says so).

    Raises
    ------
    InputError
        When the layer is no 3-D volume (or several of the same) of one number per voxel.
    """
    shape = _volume_shape(layer)
    steps, _ = _world(layer)
    size = np.linalg.norm(steps, axis=0) * _mm_per_unit(layer)
    if not np.isfinite(steps).all() or size.min() <= 0:
        raise InputError(f"the layer {layer.name!r} has a scale of zero; set its voxel size")
    known = metadata_of(layer)
    direction = known.get("b0_direction") or tuple(steps[0] / np.linalg.norm(steps, axis=0))
    return Geometry(shape, tuple(size), direction, known.get("orientation") or _ASSUMED_ORIENTATION)


def metadata_of(layer: Layer) -> Mapping[str, Any]:
    """What this plugin knows of a layer; empty for layers of other readers."""
    known = layer.metadata.get("metaqsm")
    return known if isinstance(known, Mapping) else {}


def unit_note(layer: Layer) -> str:
    """What to tell the user where the layer's unit had to be guessed; else empty."""
    units = sorted({str(u) for u in layer.units[-3:]} & set(_NO_LENGTH))
    return f"the unit of {layer.name!r} is {units[0]}; its scale is taken to be in mm" if units else ""


def direction_note(layer: Layer) -> str:
    """What to tell the user where the direction of B0 had to be assumed; else empty."""
    if metadata_of(layer).get("b0_direction"):
        return ""
    return f"nothing says where B0 lies in {layer.name!r}; it is taken along the first spatial axis"


def _volume_shape(layer: Layer) -> tuple[int, int, int]:
    if getattr(layer, "multiscale", False) or getattr(layer, "rgb", False):
        raise InputError(
            f"the layer {layer.name!r} is multiscale or colour; it must have one number per voxel"
        )
    shape = np.shape(layer.data)
    if len(shape) not in (3, 4):
        raise InputError(
            f"the layer {layer.name!r} has {len(shape)} axes; it must have 3, or 4 with the echoes first"
        )
    return shape[-3:]


def _world(layer: Layer) -> tuple[np.ndarray, np.ndarray]:
    """Steps along the spatial axes in the spatial world axes (a column each), and the origin."""
    first = layer.ndim - 3
    origin = np.asarray(layer.data_to_world(np.zeros(layer.ndim)))
    steps = [np.asarray(layer.data_to_world(e)) - origin for e in np.eye(layer.ndim)[first:]]
    return np.array([s[first:] for s in steps]).T, origin[first:]


def _mm_per_unit(layer: Layer) -> np.ndarray:
    return np.array([1.0 if str(u) in _NO_LENGTH else (1 * u).to("mm").magnitude for u in layer.units[-3:]])


# ------------------------------------------------------------------------------ layer to file
def array_in_file_axes(layer: Layer, space: Space | None = None) -> np.ndarray:
    """The layer's values in the axes of its :func:`space_of`, echo first.

    Parameters
    ----------
    space : of another layer on the same grid, whose axes are taken instead
    """
    _volume_shape(layer)
    data = np.asarray(layer.data)
    space = space or own_space(layer)
    if space is not None:
        return _to_file_axes(data, space)
    return np.moveaxis(data, (-1, -2, -3), (-3, -2, -1))


def space_of(layer: Layer) -> Space:
    """Where the layer lies: that of its file, else one built from the layer's own place in the world."""
    space = own_space(layer)
    if space is not None:
        return space
    steps, origin = _world(layer)
    scale = _mm_per_unit(layer)
    # World (z, y, x) runs to S, P, L; NIfTI's (x, y, z) to R, A, S.
    to_ras = np.diag([-1.0, -1.0, 1.0]) @ np.eye(3)[::-1]
    affine = np.eye(4)
    affine[:3, :3] = (to_ras @ (steps * scale))[:, ::-1]
    affine[:3, 3] = to_ras @ (origin * scale)
    header = nib.Nifti1Header()
    shape = _volume_shape(layer)[::-1]
    header.set_data_shape(shape)
    header.set_xyzt_units("mm", "sec")
    header.set_qform(affine, code="aligned")
    header.set_sform(affine, code="aligned")
    return Space(shape, affine, header, note=direction_note(layer))


def own_space(layer: Layer) -> Space | None:
    """The space of the layer's file, unless the layer has been cropped or turned since."""
    space = metadata_of(layer).get("space")
    if not isinstance(space, Space):
        return None
    shape = tuple(space.shape[axis] for axis in _turn(space)[0])
    return space if shape == _volume_shape(layer) else None


# ------------------------------------------------------------------------------------ results
def result_layer(
    values: np.ndarray,
    like_layer: Layer,
    quantity: str,
    name: str,
    record: Mapping[str, Any] | None = None,
    *,
    labels: bool = False,
    unit: str | None = None,
) -> LayerDataTuple:
    """A layer of what a step made from ``like_layer``: the same place and metadata.

    Parameters
    ----------
    values : (..., i, j, k) in the layer's own spatial axes
    """
    values = np.asarray(values)
    if values.shape[-3:] != _volume_shape(like_layer):
        raise InputError(
            f"the result is {values.shape} voxels, but {like_layer.name!r} is {like_layer.data.shape}"
        )
    steps, origin = _world(like_layer)
    units = tuple("mm" if str(u) in _NO_LENGTH else str(u) for u in like_layer.units[-3:])
    size = np.linalg.norm(steps, axis=0)
    if np.allclose(steps, np.diag(size)):
        place = {"scale": size, "translate": origin, "units": units}
    else:
        affine = np.eye(4)
        affine[:3, :3], affine[:3, 3] = steps, origin
        place = {"affine": affine, "units": units}
    metadata = {
        **metadata_of(like_layer),
        "quantity": quantity,
        "unit": _unit(quantity, values) if unit is None else unit,
        "record": record,
    }
    return _layer(values, quantity, name, place, metadata, labels)


def _layer(
    values: np.ndarray,
    quantity: str,
    name: str,
    place: Mapping[str, Any],
    metadata: dict[str, Any],
    labels: bool,
) -> LayerDataTuple:
    settings: dict[str, Any] = {"name": name, "metadata": {"metaqsm": metadata}}
    settings.update({key: value if key == "units" else np.asarray(value) for key, value in place.items()})
    settings["axis_labels"] = ("z", "y", "x")
    if values.ndim == 4:
        settings.update(_with_echo_axis(settings))
    if labels or quantity in _MASKS:
        kind = np.uint8 if values.dtype == bool or quantity in _MASKS else np.int32
        return (values != 0 if quantity in _MASKS else values).astype(kind), settings, "labels"
    settings["colormap"] = "gray"
    settings["contrast_limits"] = contrast_limits(values, quantity, metadata["unit"])
    if quantity.startswith("susceptibility"):
        settings["interpolation2d"] = "linear"  # as a reading station shows it
    return values, settings, "image"


def _with_echo_axis(settings: Mapping[str, Any]) -> dict[str, Any]:
    wider: dict[str, Any] = {
        "units": ("dimensionless", *settings["units"]),
        "axis_labels": ("echo", *settings["axis_labels"]),
    }
    if "scale" in settings:
        wider["scale"] = np.array([1.0, *settings["scale"]])
    if "translate" in settings:
        wider["translate"] = np.array([0.0, *settings["translate"]])
    if "affine" in settings:
        wider["affine"] = np.eye(5)
        wider["affine"][1:, 1:] = settings["affine"]
    return wider


# ------------------------------------------------------------------------------------- display
def contrast_limits(values: np.ndarray, quantity: str, unit: str) -> tuple[float, float]:
    """Range of gray: fixed for phase and susceptibility, symmetric for fields, from zero for the rest."""
    if quantity == "phase" and unit == "rad":
        return -math.pi, math.pi
    if quantity.startswith("susceptibility") and unit == "ppm":
        return _SUSCEPTIBILITY_WINDOW_PPM
    if quantity == "quality":
        return 0.0, 1.0
    sample = values.reshape(-1)[:: max(1, values.size // _SAMPLED)]
    sample = sample[np.isfinite(sample) & (sample != 0)]
    if sample.size == 0:
        return 0.0, 1.0
    low, high = (float(p) for p in np.percentile(sample, (1, 99)))
    if low < 0 < high:
        return -max(-low, high), max(-low, high)
    low = min(low, 0.0) if quantity in ("magnitude", "noise", "residual", "r2star") else low
    return (low, high) if low < high else (low - 0.5, low + 0.5)


def _unit(quantity: str, values: np.ndarray) -> str:
    unit = _UNITS.get("susceptibility" if quantity.startswith("susceptibility") else quantity, "")
    if quantity == "phase":
        finite = values[np.isfinite(values)]
        if finite.size and np.abs(finite).max() > math.pi * _RADIANS_SLACK:
            return "as stored"
        if finite.size and np.ptp(finite) < math.pi:
            return "as stored"
    return unit
