"""The maps of a chain as they are read: called by their methods, each with what made it alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from napari_metaqsm.pipeline import Result
from napari_metaqsm.reading.study import VOLUMES, Study

SUSCEPTIBILITY = "susceptibility"


def study_of(result: Result, files: Mapping[str, str] | None = None) -> Study:
    """What a chain gave, to be read; no array is copied.

    Parameters
    ----------
    files : where phase and magnitude were read from, by these names, for what their sidecars tell

    Raises
    ------
    InputError
        When the chain made no map.
    """
    titles = titles_of(result.record, result.susceptibilities)
    scan = result.scan
    found = {name: result.maps.get(name, getattr(scan, name, None)) for name in VOLUMES}
    return Study(
        scan.geometry,
        {title: result.maps[name] for name, title in titles.items()},
        scan.acquisition,
        scan.magnitude,
        scan.phase,
        **found,
        records={title: own_record(result.record, name, title) for name, title in titles.items()},
        files=dict(files or {}),
    )


def steps_of(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The records of the steps, as far as they are any."""
    steps = record.get("steps")
    return [step for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []


def titles_of(record: Mapping[str, Any], names: Iterable[str]) -> dict[str, str]:
    """Titles of the maps that are there, by their name, in the order made; numbered where two are alike."""
    there = set(names)
    named = {str(step["result"]): str(step.get("title")) for step in steps_of(record) if step.get("result")}
    order = [name for name in named if name in there]
    titles: dict[str, str] = {}
    for name in [*order, *sorted(there - set(order))]:
        title = named.get(name) or name.removeprefix(f"{SUSCEPTIBILITY}_")
        alike = sum(t == title or t.startswith(f"{title} (") for t in titles.values())
        titles[name] = f"{title} ({alike + 1})" if alike else title
    return titles


def own_record(record: Mapping[str, Any], name: str, title: str) -> dict[str, Any]:
    """The record of one map: without the steps that gave other maps."""
    steps = [step for step in steps_of(record) if step.get("result") in (None, name)]
    references = record.get("reference")
    about = references.get(name) if isinstance(references, dict) else None
    known = any(step.get("result") == name for step in steps)
    others = {str(w) for step in steps_of(record) if step not in steps for w in _texts(step.get("warnings"))}
    return {
        **record,
        # Nothing is known of a map that the record does not name.
        "steps": steps if known else [],
        "reference": {title: about} if about else {},
        "warnings": [w for w in _texts(record.get("warnings")) if w not in others],
    }


def _texts(value: Any) -> list[str]:
    return [str(text) for text in value] if isinstance(value, list) else []
