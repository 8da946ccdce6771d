"""Quantitative susceptibility mapping: phase to field, mask, local field, susceptibility.

The names below are the whole Python interface; each loads what it needs when first used, so that
importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

_DOORS = {
    "Acquisition": "scan",
    "FieldFit": "doors",
    "Geometry": "scan",
    "InputError": "errors",
    "MetaQSMWarning": "errors",
    "Result": "pipeline",
    "Scan": "scan",
    "combine_orientations": "doors",
    "default_chain": "pipeline",
    "extract_brain": "doors",
    "fit_field": "doors",
    "invert": "doors",
    "load": "io.load",
    "make_step": "pipeline",
    "methods": "method",
    "reconstruct": "pipeline",
    "reference": "referencing",
    "remove_background": "doors",
    "run_cohort": "cohort.run",
    "running": "method",
    "save": "io.load",
}
__all__ = list(_DOORS)


def __getattr__(name: str) -> Any:
    if name not in _DOORS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_DOORS[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
