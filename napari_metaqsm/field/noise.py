"""How noisy the signal is, told from the scan itself."""

from __future__ import annotations

import numpy as np

_MEDIAN_TO_SD = 1.4826  # of the absolute value of a Gaussian variable


def magnitude_noise(magnitude: np.ndarray, inside: np.ndarray) -> float:
    """Standard deviation of the noise of one magnitude image, in its unit.

    Parameters
    ----------
    magnitude : (i, j, k)
    inside : (i, j, k) bool, where there is signal well above the noise

    Notes
    -----
    The median of the absolute second difference ``a - 2 b + c`` along each axis, whose variance is six
    times that of the noise; the smallest of the three, for anatomy adds to it where voxels are long.
    """
    found = []
    for axis in range(3):
        if magnitude.shape[axis] < 3:
            continue
        second = np.diff(magnitude, n=2, axis=axis)
        middle = tuple(slice(1, -1) if a == axis else slice(None) for a in range(3))
        values = np.abs(second[inside[middle]])
        if values.size:
            found.append(float(np.median(values)))
    return _MEDIAN_TO_SD * min(found, default=0.0) / 6**0.5
