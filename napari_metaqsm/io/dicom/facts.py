"""What the headers of one stack of images say, as the vendors' rules and the converter read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

# The manufacturer of what this package exports.
MADE_HERE = "napari-metaqsm"


@dataclass(frozen=True)
class Facts:
    """What is known of one stack of images: one part (magnitude, phase, …), every echo.

    Parameters
    ----------
    manufacturer, model, software, description : as the header gives them; "" where it does not
    image_type : upper case
    part : "magnitude", "phase", "real", "imaginary", "phase_difference" or "other"
    echo_times_s : ascending
    enhanced : whether all images lie in one file (Enhanced MR), rather than each in its own
    rescale : slope and intercept as stored, None where there are none
    real_world : slope and intercept of the real-world value mapping, None where there is none
    slice_axis : which axis of the array (i, j, k) runs from slice to slice
    private : values of private elements, by group and element as in "2005,100e"
    """

    manufacturer: str = ""
    model: str = ""
    software: str = ""
    image_type: tuple[str, ...] = ()
    part: str = "other"
    echo_times_s: tuple[float, ...] = ()
    b0_tesla: float | None = None
    enhanced: bool = False
    series_number: int = 0
    description: str = ""
    rescale: tuple[float, float] | None = None
    real_world: tuple[float, float] | None = None
    slice_axis: int = 2
    private: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
