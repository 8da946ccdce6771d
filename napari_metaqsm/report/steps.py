"""The steps that made the maps, as their records tell them: whatever a record lacks is left out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from napari_metaqsm.errors import InputError
from napari_metaqsm.method import STAGES, Method, find_method, parameter_infos
from napari_metaqsm.reading.study import Study

# What a step's record says of how it was set and run; other entries tell what it found or decided.
_SETTINGS = (
    "stage", "method", "title", "reference", "parameters", "inputs", "stand_ins", "convergence",
    "device", "seconds", "warnings", "result",
)  # fmt: skip
# Of what was found: told elsewhere, or the input again.
_UNTOLD = ("erosion", "b0_directions")
# Of a hash, enough to tell files apart.
_HASH_DIGITS = 12


@dataclass(frozen=True)
class Run:
    """One step that was run.

    Parameters
    ----------
    parameters : every parameter by its name, as the method took it
    found : what the step found or decided, in words
    stand_ins : what was used in place of an input that was not there
    kept_percent, lost_mm : what became of the mask, and how much its rim lost; None where it was left
    maps : titles of the maps that this step had a part in
    """

    stage: str
    method: str
    title: str
    reference: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    found: tuple[str, ...] = ()
    stand_ins: Mapping[str, str] = field(default_factory=dict)
    kept_percent: float | None = None
    lost_mm: float | None = None
    device: str = ""
    seconds: float | None = None
    warnings: tuple[str, ...] = ()
    maps: tuple[str, ...] = ()

    @property
    def entry(self) -> Method | None:
        """The registered method; None where this installation has none of that name."""
        try:
            return find_method(self.stage, self.method)
        except InputError:
            return None


def runs_of(study: Study) -> list[Run]:
    """Every step behind the maps of ``study``, each once, in the order of the stages."""
    told: list[tuple[Mapping[str, Any], list[str]]] = []
    for title in study.maps:
        for step in _list(_mapping(study.records.get(title)).get("steps")):
            if not isinstance(step, Mapping):
                continue
            same = next((maps for other, maps in told if other == step), None)
            if same is None:
                told.append((step, [title]))
            else:
                same.append(title)
    order = list(STAGES)
    runs = [_run(step, tuple(maps)) for step, maps in told]
    return sorted(runs, key=lambda run: order.index(run.stage) if run.stage in order else len(order))


def reference_of(study: Study, title: str) -> Mapping[str, Any]:
    """What a map's zero is: ``region``, ``mean_ppm``, ``sd_ppm``, ``voxels``; empty where it is not told."""
    references = _mapping(_mapping(study.records.get(title)).get("reference"))
    if title in references:
        return _mapping(references[title])
    return _mapping(next(iter(references.values()))) if len(references) == 1 else {}


def inputs_of(study: Study, title: str) -> Mapping[str, Any]:
    """What a map was made from, by the names of the engine."""
    return _mapping(_mapping(study.records.get(title)).get("inputs"))


def software_of(study: Study) -> dict[str, str]:
    """Versions of what computed the maps, by package; several where they differ between maps."""
    versions: dict[str, list[str]] = {}
    for title in study.maps:
        for package, version in _mapping(_mapping(study.records.get(title)).get("software")).items():
            known = versions.setdefault(str(package), [])
            if str(version) not in known:
                known.append(str(version))
    return {package: " and ".join(known) for package, known in versions.items()}


def warnings_of(study: Study) -> list[str]:
    """What was said of the maps while they were made, each once."""
    texts: dict[str, None] = {}
    for title in study.maps:
        record = _mapping(study.records.get(title))
        texts.update(dict.fromkeys(_texts(record.get("warnings"))))
    for run in runs_of(study):
        texts.update(dict.fromkeys(run.warnings))
    return list(texts)


def decisions_of(study: Study) -> list[str]:
    """How the data were read that the maps were made from, each statement once."""
    records = (_mapping(study.records.get(title)) for title in study.maps)
    return list(dict.fromkeys(text for record in records for text in _texts(record.get("decisions"))))


# ------------------------------------------------------------------------------- parameters
def parameter_text(run: Run, name: str) -> str:
    """A parameter in words, as "radius 6 mm" or "at most 200 iterations"; empty of a file as shipped."""
    entry = run.entry
    infos = {info.name: info for info in parameter_infos(entry.parameters)} if entry else {}
    info, value = infos.get(name), run.parameters[name]
    if info is not None and info.file:
        # The path could name who was scanned; what was read stands in what the step found.
        return "weights of the user's own" if value else ""
    return _parameter(name, value, info.unit if info is not None else "")


def _parameter(name: str, value: Any, unit: str) -> str:
    spoken = _spoken(name)
    ending = f" {unit}".lower()
    if unit and spoken.lower().endswith(ending):
        spoken = spoken[: -len(ending)]
    if isinstance(value, bool):
        return f"{spoken} {'on' if value else 'off'}"
    if name == "iterations":
        return f"at most {number_text(value)} iterations"
    return f"{spoken} {number_text(value)}{f' {unit}' if unit else ''}"


def number_text(value: Any) -> str:
    """A number as it is printed: 6, 0.2, 3.2 × 10⁻⁷; anything else as its text."""
    if isinstance(value, (bool, int)) or not isinstance(value, float):
        return str(value)
    mantissa, exponent, power = f"{value:.6g}".partition("e")
    if exponent:
        raised = str(int(power)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
        mantissa = f"10{raised}" if mantissa == "1" else f"{mantissa} × 10{raised}"
    return mantissa.replace("-", "−")


# ------------------------------------------------------------------------------------ records
def _run(step: Mapping[str, Any], maps: tuple[str, ...]) -> Run:
    method = str(step.get("method") or "")
    erosion = _mapping(step.get("erosion"))
    lost = number_in(erosion, "percent_of_mask")
    return Run(
        stage=str(step.get("stage") or ""),
        method=method,
        title=str(step.get("title") or method or "a step without a name"),
        reference=str(step.get("reference") or ""),
        parameters=_mapping(step.get("parameters")),
        found=tuple(_found(step)),
        stand_ins={str(name): str(text) for name, text in _mapping(step.get("stand_ins")).items()},
        kept_percent=None if lost is None else 100 - lost,
        lost_mm=number_in(erosion, "depth_mm"),
        device=str(step.get("device") or ""),
        seconds=number_in(step, "seconds"),
        warnings=tuple(_texts(step.get("warnings"))),
        maps=maps,
    )


def _found(step: Mapping[str, Any]) -> Iterable[str]:
    for name, value in step.items():
        if name not in (*_SETTINGS, *_UNTOLD):
            yield f"{_spoken(name)}: {_value(value)}"
    for curve, points in _mapping(step.get("convergence")).items():
        if isinstance(points, Sequence) and points and not isinstance(points, str):
            yield f"{_spoken(curve)} {_value(points[-1])} after {len(points)} steps"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        told = {k: v for k, v in value.items() if v not in (None, "")}
        return ", ".join(f"{_spoken(k)} {_value(_short(k, v))}" for k, v in told.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number_text(float(f"{value:.3g}"))
    if isinstance(value, (list, tuple)):
        return ", ".join(_value(v) for v in value)
    return str(value)


def _short(name: Any, value: Any) -> Any:
    return value[:_HASH_DIGITS] if name == "sha256" and isinstance(value, str) else value


def _spoken(name: Any) -> str:
    return str(name).replace("_", " ")


def number_in(record: Mapping[str, Any], name: str) -> float | None:
    """The number of that name in a record; None where there is none, or none that is finite."""
    value = record.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else ()


def _texts(value: Any) -> list[str]:
    return [str(text) for text in _list(value)]
