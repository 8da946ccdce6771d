"""What the user entered in place of what a layer says of its scan, in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from napari_metaqsm.scan import Acquisition, Geometry

SIGNS = {1: "+", -1: "−"}


def set_by_hand(known: Mapping[str, Any], geometry: Geometry, used: Acquisition) -> list[str]:
    """A sentence for each value that is used and is not what was read.

    Parameters
    ----------
    known : metadata of a layer, as :func:`~napari_metaqsm.plugin.layers.metadata_of` gives it
    """
    read = known.get("acquisition")
    # The magnitude of a phase difference has two echo times where its phase has one.
    if read is None or known.get("quantity") == "magnitude":
        return []
    told = []
    for name, (words, spoken) in _SPOKEN.items():
        before, now = getattr(read, name), getattr(used, name)
        if now is None or (before is None and known.get("quantity") != "phase"):
            continue
        if before is None:
            told.append(f"{words} set by hand to {spoken(now)}; the scan does not say")
        elif not _same(before, now):
            told.append(f"{words} set by hand to {spoken(now)}; read as {spoken(before)}")
    direction = known.get("b0_direction")
    if direction is not None and not np.allclose(direction, geometry.b0_direction, atol=1e-3):
        told.append(f"B0 along z, y, x set by hand to {_numbers(geometry.b0_direction)}")
    return told


def _same(before: Any, now: Any) -> bool:
    return np.shape(before) == np.shape(now) and np.allclose(before, now, rtol=1e-5, atol=0)


def _numbers(numbers: Sequence[float]) -> str:
    return ", ".join(f"{number:.4g}" for number in numbers)


_SPOKEN: dict[str, tuple[str, Callable[[Any], str]]] = {
    "phase_sign": ("phase sign", SIGNS.__getitem__),
    "phase_pi": ("stored value of π", lambda value: f"{value:g}"),
    "echo_times_s": ("echo times", lambda times: f"{_numbers([t * 1000 for t in times])} ms"),
    "b0_tesla": ("field strength", lambda tesla: f"{tesla:g} T"),
}
