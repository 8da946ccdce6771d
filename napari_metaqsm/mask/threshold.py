"""Mask of what gives signal, for phantoms and everything that is no human head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from napari_metaqsm.mask.finishing import check_quality, combined_echoes, finished_mask
from napari_metaqsm.method import check_parameters, method, parameter
from napari_metaqsm.scan import Geometry

# Brighter than this part of all voxels is cut to it, so that a few vessels or a coil's hot spot do
# not stretch the histogram.
BRIGHTEST = 0.99


@dataclass(frozen=True)
class ThresholdParameters:
    """Parameters of ``threshold``."""

    level: float = parameter(
        1.0, low=0.05, high=5.0, help="Times Otsu's threshold; below 1 darker voxels come in too"
    )
    min_quality: float = parameter(0.0, low=0.0, high=1.0, help="Least phase quality; 0 leaves it out")
    fill_holes: bool = parameter(True, help="Fill cavities that lie wholly inside")

    __post_init__ = check_parameters


@method(
    "mask",
    title="Magnitude threshold",
    reference="doi:10.1109/TSMC.1979.4310076",
    stand_ins={"quality": "not used"},
)
def threshold(
    magnitude: Tensor, geometry: Geometry, parameters: ThresholdParameters, quality: Tensor | None = None
) -> Tensor:
    """The largest bright object; for phantoms and body parts other than the head.

    Parameters
    ----------
    magnitude : (echo, i, j, k) float, any unit
    quality : (i, j, k) float in [0, 1], optional

    Returns
    -------
    (i, j, k) bool

    Raises
    ------
    InputError
        When no voxel is left.

    Notes
    -----
    Otsu's threshold, the one that makes the variance between dark and bright voxels largest, is found
    for the square root of the combined echoes: uneven coils then cost fewer dark voxels inside.
    """
    from skimage.filters import threshold_otsu

    check_quality(quality, parameters.min_quality)
    image = combined_echoes(magnitude)
    values = image.cpu().numpy()
    evened = np.sqrt(np.minimum(values, np.quantile(values, BRIGHTEST)))
    darkest_bright = parameters.level * float(threshold_otsu(evened)) ** 2
    return finished_mask(
        image > darkest_bright,
        quality,
        min_quality=parameters.min_quality,
        fill_holes=parameters.fill_holes,
        otherwise="no voxel is brighter than the threshold: lower level or min_quality, or give a mask",
    )
