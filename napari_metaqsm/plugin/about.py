"""What the window says of a map on hovering: how it was made, what was found on the way, and its zero."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from napari.layers import Layer

from napari_metaqsm.plugin.layers import metadata_of

# Of a step's record, what says how it was set, and curves; the other tables say what it found or decided.
_NO_FINDINGS = ("parameters", "stand_ins", "convergence")


def about_map(layer: Layer) -> str:
    """The last step that made a layer, in lines, and what it is referenced to."""
    record = metadata_of(layer).get("record") or {}
    steps = record.get("steps") or ()
    return "\n".join([*(about_step(steps[-1]) if steps else ()), _about_reference(record)])


def about_step(step: Mapping[str, Any]) -> list[str]:
    """The record of a step, in lines."""
    where = f" on {step['device']}" if "device" in step else ""
    found = [(name, table) for name, table in step.items() if isinstance(table, Mapping)]
    return [
        f"{step['title']}{where}: {_listed(step['parameters']) or 'no parameters'}",
        *(f"{_spoken(name)}: {_listed(table)}" for name, table in found if name not in _NO_FINDINGS),
        *(f"Convergence: {name} {_value(c[-1])} after {len(c)}" for name, c in _curves(step).items()),
        *(f"Note: {text}" for text in step.get("warnings", ())),
    ]


def about_erosion(step: Mapping[str, Any]) -> str:
    """What became of the mask, as the end of a line; empty where the step leaves masks alone."""
    erosion = step.get("erosion")
    if not erosion:
        return ""
    kept = 100 - erosion["percent_of_mask"]
    return f", {kept:.1f} % of the mask kept, {erosion['depth_mm']:.1f} mm lost at the rim"


def _curves(step: Mapping[str, Any]) -> Mapping[str, list[float]]:
    return step.get("convergence", {})


def _listed(table: Mapping[str, Any]) -> str:
    """The entries of a table; those without a value, and what only machines compare, left out."""
    return ", ".join(
        f"{name.replace('_', ' ')} {_value(value)}"
        for name, value in table.items()
        if value not in (None, "") and name != "sha256"
    )


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"({_listed(value)})"
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _spoken(name: str) -> str:
    text = name.replace("_", " ")
    return text[:1].upper() + text[1:]


def _about_reference(record: Mapping[str, Any]) -> str:
    about = next(iter(record.get("reference", {}).values()), None)
    if not about:
        return "Reference: as it was loaded"
    mean = f"mean {about['mean_ppm']:+.4f} ppm taken off, {about['voxels']} voxels"
    return f"Reference: {about['region']} ({mean})"
