"""Regions that nobody has to draw: the whole of the maps, and the ventricles where they can be found."""

from __future__ import annotations

import numpy as np

from napari_metaqsm.errors import InputError
from napari_metaqsm.reading.regions import RegionMeasures, measure_regions
from napari_metaqsm.reading.study import Study
from napari_metaqsm.referencing import csf

WHOLE, CSF = "Whole mask", "Ventricles (CSF)"


def measure_undrawn(study: Study, unreliable: np.ndarray | None = None) -> RegionMeasures:
    """Every map in its whole mask and in the ventricles' cerebrospinal fluid, as regions 1 and 2.

    They overlap, as the labels of one array cannot. The ventricles are found by their slow decay, from the
    magnitude of three echoes or more; where that cannot be, they are left out.

    Parameters
    ----------
    unreliable : as for :func:`regions.measure_regions`
    """
    whole = np.logical_or.reduce([study.inside(title) for title in study.maps])
    found = {1: (whole, WHOLE)}
    mask = whole if study.mask is None else study.mask
    try:
        if study.magnitude is not None:
            found[2] = (csf(study.magnitude, mask, study.geometry, study.acquisition), CSF)
    except InputError:
        pass
    measured = [
        measure_regions(study, inside.astype(np.uint8) * label, {label: name}, unreliable)
        for label, (inside, name) in found.items()
    ]
    return RegionMeasures(tuple(study.maps), tuple(region for each in measured for region in each))
