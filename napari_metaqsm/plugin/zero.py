"""The zero of the maps in the viewer: a layer keeps its values as the method gave them, so that any
other zero can be taken at any time without computing anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.layers import Image

from napari_metaqsm.errors import InputError
from napari_metaqsm.plugin.layers import metadata_of
from napari_metaqsm.referencing import reference, shift

BRAIN, NONE, CSF, OFFSET = "whole brain", "none", "csf", "offset"


@dataclass(frozen=True)
class Zero:
    """What becomes zero.

    Parameters
    ----------
    name : the whole brain, none (as the method gave it), an offset, or that of a region
    region : (i, j, k) of a region's voxels, in the maps' axes
    offset_ppm : of an offset
    """

    name: str = BRAIN
    region: np.ndarray | None = None
    offset_ppm: float = 0.0


Referenced = list[tuple[np.ndarray, np.ndarray, dict[str, Any]]]


def referenced(originals: Sequence[np.ndarray], zero: Zero) -> Referenced:
    """For each map as its method gave it: itself, the map with its zero, and the record of it.

    Raises
    ------
    InputError
        When the region has no voxel in one of the maps; none is changed then.
    """
    found = []
    for original in originals:
        # Every method gives exactly zero outside its mask.
        mask = original != 0
        if zero.name == OFFSET:
            values, record = shift(original, zero.offset_ppm, mask)
        else:
            where = None if zero.name == NONE else mask if zero.name == BRAIN else zero.region
            values, record = reference(original, where, mask, zero.name)
        found.append((original, values, record))
    return found


def original_of(layer: Image) -> np.ndarray:
    """The map as its method gave it, or as it was opened."""
    return metadata_of(layer).get("unreferenced", layer.data)


def put(layer: Image, zero: Zero, original: np.ndarray, values: np.ndarray, record: dict[str, Any]) -> None:
    """Show a map with its zero, and say in its record what was taken off."""
    known = layer.metadata.setdefault("metaqsm", {})
    known["unreferenced"] = original
    known["zero"] = zero
    known["record"] = {**(known.get("record") or {}), "reference": {layer.name: record}}
    layer.data = values


def refer(layers: Sequence[Image], zero: Zero) -> None:
    """Give all these maps their zero, at once."""
    for layer, found in zip(layers, referenced([original_of(x) for x in layers], zero), strict=True):
        put(layer, zero, *found)


def zero_record(layer: Image) -> dict[str, Any] | None:
    """What the record says of a map's zero: region, mean and SD in ppm, voxels; None for a map as opened."""
    record = metadata_of(layer).get("record") or {}
    return next(iter((record.get("reference") or {}).values()), None)


def zero_of(layers: Sequence[Image]) -> Zero | None:
    """The zero that all these maps were given, for one that joins them; None where there is none such."""
    zeros = [metadata_of(layer).get("zero") for layer in layers]
    return zeros[0] if zeros and all(zero is zeros[0] for zero in zeros) else None


def zero_name(layers: Sequence[Image]) -> str | None:
    """The name of the zero that all these maps have by their records, or None."""
    names = {(zero_record(layer) or {}).get("region") for layer in layers}
    return names.pop() if len(names) == 1 else None


def check_region(region: np.ndarray, name: str) -> None:
    """Whether a region has voxels at all, said before anything is computed."""
    if not np.any(region):
        raise InputError(f"the region {name!r} is empty; draw it first, or choose another")
