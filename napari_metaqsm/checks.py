"""What is asked of the data before anything is computed.

Values that are not finite are refused where they would count and set to zero where they would not
(outside the mask), which is said; they never spread through a Fourier transform.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from napari_metaqsm.errors import InputError
from napari_metaqsm.method import notice

# Air against tissue makes about ten ppm. Shim and implants take the whole field further, and bleeds and
# veins the local one nowhere near it; in Hz at 3 T most heads pass both.
LARGEST_FIELD_PPM = {"total_field": 200.0, "local_field": 20.0}


def check_mask(mask: np.ndarray) -> np.ndarray:
    """The mask as bool, nothing else changed.

    Raises
    ------
    InputError
        When it is not finite or is empty.
    """
    if not _is_finite(mask):
        raise InputError("the mask has values that are not finite; give zero outside and one inside")
    inside = mask.astype(bool)
    if not inside.any():
        raise InputError("the mask is empty; every voxel is zero")
    return inside


def check_finite(name: str, array: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """``array`` (..., i, j, k) with every value finite; ``mask`` is bool.

    Raises
    ------
    InputError
        When a value inside the mask, or anywhere if there is no mask, is NaN or infinite.
    """
    if _is_finite(array):
        return array
    bad = ~np.isfinite(array)
    counting = bad if mask is None else bad & mask
    where = "in it" if mask is None else "inside the mask"
    if counting.any():
        advice = "give a mask that leaves them out" if mask is None else "leave them out of the mask"
        raise InputError(
            f"the {spoken(name)} has {int(counting.sum())} values that are NaN or infinite {where}; {advice}"
        )
    notice(f"{int(bad.sum())} values of the {spoken(name)} outside the mask are NaN or infinite: set to zero")
    return np.where(bad, 0, array)


def check_field(name: str, field: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """A total or a local field in ppm that can be one.

    Raises
    ------
    InputError
        When it is not finite, zero everywhere, or so large that it must be in another unit.
    """
    field = check_finite(name, field, mask)
    _check_touched(name, field, mask)
    if max(-field.min(), field.max()) <= LARGEST_FIELD_PPM[name]:
        return field
    largest = float(np.abs(field if mask is None else field[mask]).max())
    if largest > LARGEST_FIELD_PPM[name]:
        raise InputError(
            f"the {spoken(name)} reaches {largest:.0f} ppm; in tissue none does, check its unit (Hz? rad/s?)"
        )
    return field


def check_magnitude(magnitude: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """A magnitude (echo, i, j, k) that can be one.

    Raises
    ------
    InputError
        When it is not finite, negative, or zero everywhere.
    """
    magnitude = check_finite("magnitude", magnitude, mask)
    if magnitude.min() < 0:
        raise InputError(f"the magnitude goes down to {magnitude.min():g}; a magnitude is never negative")
    _check_touched("magnitude", magnitude, mask)
    return magnitude


def check_orientations(
    arrays: Mapping[str, np.ndarray], shape: tuple[int, int, int], mask: np.ndarray | None
) -> dict[str, np.ndarray]:
    """The fields of several orientations, their directions, noise maps and masks, each as it can be used.

    Parameters
    ----------
    arrays : ``local_fields`` and, where given, ``noises`` and ``masks``, each (orientation, i, j, k), and
        ``b0_directions`` (orientation, 3)

    Raises
    ------
    InputError
        When one does not have that shape or a field, noise map or mask cannot be one; the message says
        which.
    """
    count = len(arrays["local_fields"])
    for name, array in arrays.items():
        wanted = (count, 3) if name == "b0_directions" else (count, *shape)
        if array.shape != wanted:
            raise InputError(f"the {spoken(name)} have the shape {array.shape}; it must be {wanted}")
    if "b0_directions" in arrays and not _is_finite(arrays["b0_directions"]):
        raise InputError("the b0 directions have values that are not finite; each must be three numbers")
    checked: dict[str, list[np.ndarray]] = {name: [] for name in arrays if name != "b0_directions"}
    for n in range(count):
        try:
            where = mask
            if "masks" in arrays:
                own = check_mask(arrays["masks"][n])
                where = own if mask is None else own & mask
                checked["masks"].append(own)
            checked["local_fields"].append(check_field("local_field", arrays["local_fields"][n], where))
            if "noises" in arrays:
                checked["noises"].append(_check_noise(arrays["noises"][n], where))
        except InputError as error:
            raise InputError(f"orientation {n + 1}: {error}") from error
    # What was in order is not copied: the fields are most of the memory there is.
    return {
        name: arrays[name]
        if name not in checked or all(np.may_share_memory(a, arrays[name]) for a in checked[name])
        else np.stack(checked[name])
        for name in arrays
    }


def _check_noise(noise: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    noise = check_finite("noise", noise, mask)
    if noise.min() < 0:
        raise InputError(f"the noise goes down to {noise.min():g}; a standard deviation is never negative")
    _check_touched("noise", noise, mask)
    return noise


def _check_touched(name: str, array: np.ndarray, mask: np.ndarray | None) -> None:
    if not array.any():
        raise InputError(f"the {spoken(name)} is zero everywhere")
    if mask is not None and not np.logical_and(array, mask).any():
        raise InputError(f"the mask touches nothing: the {spoken(name)} is zero everywhere in it")


def _is_finite(array: np.ndarray) -> bool:
    # The extremes of an array with NaN are NaN: two fast passes and no temporary.
    return bool(np.isfinite(array.min()) and np.isfinite(array.max()))


def spoken(name: str) -> str:
    """A name of the code as a user would say it."""
    return name.replace("_", " ")
