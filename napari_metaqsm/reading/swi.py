"""χ-weighted SWI: the magnitude darkened where the susceptibility is that of veins."""

from __future__ import annotations

import numpy as np

from napari_metaqsm.errors import InputError
from napari_metaqsm.reading.study import Study


def chi_weighted_swi(
    study: Study,
    title: str,
    lower_ppm: float = 0.0,
    upper_ppm: float = 0.45,
    power: float = 2.0,
    echo: int | None = None,
) -> np.ndarray:
    """Magnitude times a mask made of the susceptibility: "true" SWI, for venograms.

    Parameters
    ----------
    study : with a magnitude
    title : of the map that makes the mask, as it is referenced
    lower_ppm : up to this susceptibility the magnitude stays as it is
    upper_ppm : from this susceptibility on it becomes 0; where it lies below ``lower_ppm`` the mask runs
        the other way and darkens what is diamagnetic, as calcium is
    power : how often the mask is multiplied on
    echo : of the magnitude, from 1; None takes the mean of all echoes

    Returns
    -------
    (i, j, k) float32, in the magnitude's unit; the magnitude itself where the map is not known

    Raises
    ------
    InputError
        When there is no magnitude, no such map or echo, or a setting cannot be meant.

    Notes
    -----
    ``S W^n`` with ``W = 1 - (chi - chi_1) / (chi_2 - chi_1)`` held between 0 and 1, by default from 0 to
    0.45 ppm, about that of venous blood, and n = 2. Unlike the phase, whose sign around a vein
    depends on how the vein lies in the field, the mask is the same for veins of every direction. Voxels
    that a vein fills in part have less; ``upper_ppm`` 0.2 brings thin veins out in slices of 2 to 3 mm.

    References
    ----------
    Liu et al. 2014, doi:10.1002/jmri.24413
    """
    if study.magnitude is None:
        raise InputError("there is no magnitude; SWI needs one beside the map")
    if title not in study.maps:
        raise InputError(f"title is {title!r}; it must be one of {', '.join(study.maps)}")
    if not (np.isfinite([lower_ppm, upper_ppm]).all() and lower_ppm != upper_ppm):
        raise InputError(
            f"lower_ppm is {lower_ppm:g} and upper_ppm {upper_ppm:g}; they must be two different numbers"
        )
    if not (np.isfinite(power) and power > 0):
        raise InputError(f"power is {power:g}; it must be greater than 0")
    echoes = len(study.magnitude)
    if echo is not None and not 1 <= echo <= echoes:
        raise InputError(f"echo is {echo}; it must lie in [1, {echoes}]")
    series = study.magnitude
    magnitude = np.mean(series, axis=0, dtype=np.float32) if echo is None else series[echo - 1]
    # W = 1 - (chi - chi_1) / (chi_2 - chi_1), in place: a volume may have 30 million voxels.
    weight = np.subtract(upper_ppm, study.maps[title], dtype=np.float32)
    weight /= np.float32(upper_ppm - lower_ppm)
    np.clip(weight, 0, 1, out=weight)
    np.power(weight, np.float32(power), out=weight)
    weight[~study.inside(title)] = 1
    weight *= magnitude
    return weight
