"""The samples of the File menu: a real head, and a synthetic one whose susceptibility is known."""

from __future__ import annotations

from typing import Any

from napari_metaqsm.errors import Cancelled
from napari_metaqsm.io.nifti import space_from
from napari_metaqsm.io.resources import resource
from napari_metaqsm.plugin.layers import LayerDataTuple, layer_data
from napari_metaqsm.plugin.readers import read_layers
from napari_metaqsm.plugin.waiting import wait_for
from napari_metaqsm.simulation.head import synthetic_head

REAL_HEAD = "samples/philips_2echo"


def philips_two_echoes() -> list[LayerDataTuple]:
    """Phase and magnitude of a human head, two echoes at 3 T, 3 mm voxels, slightly oblique."""
    return read_layers(str(resource(REAL_HEAD)))


def synthetic_head_layers() -> list[LayerDataTuple]:
    """Five echoes at 0.75×0.75×3 mm, and the truth: susceptibility, local field and mask. Takes seconds."""
    scan, truth = synthetic_head()
    space = space_from(scan.geometry)
    arrays: dict[str, Any] = {
        "mask": ("mask", truth["mask"]),
        "true local field": ("local_field", truth["local_field"]),
        "true χ": ("susceptibility", truth["susceptibility"]),
        "magnitude": ("magnitude", scan.magnitude),
        "phase": ("phase", scan.phase),
    }
    layers = [
        layer_data(array, space, quantity, f"{name} (synthetic)", scan.acquisition)
        for name, (quantity, array) in arrays.items()
    ]
    for _, settings, _ in layers[:3]:
        settings["visible"] = False
    return layers


def synthetic_head_sample() -> list[LayerDataTuple]:
    """The synthetic head for the File menu: made in a worker, the window staying alive meanwhile.

    napari wants the layers returned, so it is waited for; without an application they are made at once.
    """
    try:
        return wait_for(synthetic_head_layers, title="Making the synthetic head")
    except Cancelled:
        return []
