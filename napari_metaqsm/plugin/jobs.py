"""From layers to a job that a worker can do, and from what it made back to layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Labels, Layer

from napari_metaqsm.method import STAGES
from napari_metaqsm.pipeline import Step, StepResult, run_step
from napari_metaqsm.plugin.by_hand import set_by_hand
from napari_metaqsm.plugin.layers import metadata_of, result_layer
from napari_metaqsm.provenance import describe_array, make_record
from napari_metaqsm.scan import Acquisition, Geometry
from napari_metaqsm.units import ppm_from

LAYER_NAMES = {
    "total_field": "total field",
    "noise": "field noise",
    "residual": "fit residual",
    "quality": "phase quality",
    "mask": "mask",
    "local_field": "local field",
    "eroded_mask": "eroded mask",
    "susceptibility": "χ",
}
# The input that an iterative method begins from, which is no part of what its result depends on.
START = "initial_susceptibility"


@dataclass(frozen=True)
class Origin:
    """Where an input came from, as it was when the job was made.

    ``sources`` are the series of a scanner that it is of; ``decisions`` how it was read; ``notes`` what was
    assumed or missing then, and what the user decided otherwise.
    """

    name: str
    path: str | None
    record: Mapping[str, Any] | None
    sources: Sequence[Mapping[str, Any]] = ()
    notes: Sequence[str] = ()
    decisions: Sequence[str] = ()

    def described(self, values: np.ndarray) -> dict[str, Any]:
        """What a record says of an input that was not computed: no folder, for that may name a patient."""
        file = {"file": Path(self.path).name} if self.path and not self.sources else {}
        series = {"series": list(self.sources)} if self.sources else {}
        return {"layer": self.name, **file, **series, **describe_array(values)}

    def all_notes(self) -> list[str]:
        """Its own notes, and those of its record, whose warnings are notes and those of its steps."""
        record = self.record or {}
        of_steps = [text for step in record.get("steps", ()) for text in step.get("warnings", ())]
        return [*self.notes, *(text for text in record.get("warnings", ()) if text not in of_steps)]

    def all_decisions(self) -> list[str]:
        """Its own decisions, and those of its record."""
        return [*self.decisions, *(self.record or {}).get("decisions", ())]


@dataclass(frozen=True)
class Job:
    """One computation, with everything it needs taken out of the viewer.

    ``like`` is the layer whose place the results take; ``settings`` tells results of one stage apart;
    ``target`` is an earlier result of the same inputs that this one replaces, where it follows a slider.
    """

    stage: str
    method: str
    title: str
    settings: str
    like: Layer
    geometry: Geometry
    acquisition: Acquisition
    data: Mapping[str, np.ndarray]
    origins: Mapping[str, Origin]
    compute: Callable[[Job], StepResult]
    target: Layer | None = None

    def run(self) -> StepResult:
        """Compute, in a worker; the record is that of everything since the scan."""
        outputs, own = self.compute(self)
        inputs, earlier = self._history()
        notes = dict.fromkeys(note for origin in self.origins.values() for note in origin.all_notes())
        decisions = dict.fromkeys(text for origin in self.origins.values() for text in origin.all_decisions())
        record = make_record(
            inputs,
            self.geometry,
            self.acquisition,
            [*earlier, own],
            notes=list(notes),
            decisions=list(decisions),
        )
        return StepResult(outputs, record)

    def _history(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        inputs: dict[str, Any] = {}
        steps: list[dict[str, Any]] = []
        for name, origin in self.origins.items():
            if origin.record and origin.record.get("steps"):
                inputs.update(origin.record.get("inputs", {}))
                steps += [step for step in origin.record["steps"] if step not in steps]
            else:
                inputs[name] = origin.described(self.data[name])
        order = list(STAGES)
        return inputs, sorted(steps, key=lambda step: order.index(step["stage"]))


def method_job(
    step: Step,
    settings: str,
    layers: Mapping[str, Layer],
    main: str,
    geometry: Geometry,
    acquisition: Acquisition,
    device: str,
) -> Job:
    """A job that runs a registered method on ``layers``, of which ``main`` gives the place."""

    def compute(job: Job) -> StepResult:
        return run_step(step, job.data, job.geometry, job.acquisition, device)

    about = (step.stage, step.method, step.entry.title, settings)
    return _job(about, layers, main, geometry, acquisition, compute)


def conversion_job(layer: Layer, unit: str, geometry: Geometry, acquisition: Acquisition) -> Job:
    """A job that takes a field map in ``unit`` to ppm.

    Raises
    ------
    InputError
        When the unit needs the field strength and it is not known.
    """
    ppm_from(1.0, unit, acquisition.b0_tesla)

    def compute(job: Job) -> StepResult:
        values = job.data["total_field"].astype(np.float32, copy=False)
        record = {"stage": "field", "method": "given", "title": "Field map", "parameters": {"unit": unit}}
        return StepResult({"total_field": ppm_from(values, unit, acquisition.b0_tesla)}, record)

    layers = {"total_field": layer}
    about = ("field", "given", "Field map to ppm", f"from {unit}")
    return _job(about, layers, "total_field", geometry, acquisition, compute)


def _job(
    about: tuple[str, str, str, str],
    layers: Mapping[str, Layer],
    main: str,
    geometry: Geometry,
    acquisition: Acquisition,
    compute: Callable[[Job], StepResult],
) -> Job:
    return Job(
        *about,
        layers[main],
        geometry,
        acquisition,
        # A mask may be painted on while the worker reads it; nothing else is edited in place.
        {n: np.array(v.data) if isinstance(v, Labels) else np.asarray(v.data) for n, v in layers.items()},
        {n: _origin(v, geometry, acquisition) for n, v in layers.items()},
        compute,
    )


def _origin(layer: Layer, geometry: Geometry, acquisition: Acquisition) -> Origin:
    known = metadata_of(layer)
    notes = [*known.get("notes", ()), *set_by_hand(known, geometry, acquisition)]
    return Origin(
        layer.name,
        layer.source.path,
        known.get("record"),
        known.get("sources", ()),
        notes,
        known.get("decisions", ()),
    )


def show_results(viewer: ViewerModel, job: Job, result: StepResult) -> dict[str, Layer]:
    """Put what a job made into the viewer; the stage's main result comes last, on top of the others.

    A result of exactly the same computation takes the place of the earlier one, wherever it began, and so
    does that of a job with a target. By-products are hidden.
    """
    shown = {}
    main = STAGES[job.stage][0]
    for quantity in reversed(STAGES[job.stage]):
        if quantity not in result.outputs:
            continue
        values, settings, kind = result_layer(
            result.outputs[quantity],
            job.like,
            quantity,
            layer_name(job, quantity),
            result.record,
        )
        known = settings["metadata"]["metaqsm"]
        known["acquisition"] = job.acquisition
        known["b0_direction"] = job.geometry.b0_direction
        follows = quantity == main and job.target is not None
        layer = job.target if follows else _same_result(viewer, quantity, result.record)
        if layer is None:
            settings["visible"] = quantity == main
            layer = viewer.add_layer(Layer.create(values, settings, kind))
        else:
            layer.data = values
            layer.metadata["metaqsm"] = known
        shown[quantity] = layer
    return shown


def layer_name(job: Job, quantity: str) -> str:
    """What the layer of a job's result is called."""
    return f"{LAYER_NAMES[quantity]} {job.settings}".strip()


def _same_result(viewer: ViewerModel, quantity: str, record: Mapping[str, Any]) -> Layer | None:
    wanted = _fingerprint(record)
    for layer in viewer.layers:
        known = metadata_of(layer)
        record = known.get("record")
        if record and known["quantity"] == quantity and _fingerprint(record) == wanted:
            return layer
    return None


def _fingerprint(record: Mapping[str, Any]) -> Any:
    steps = [(s["stage"], s["method"], s["parameters"]) for s in record.get("steps", ())]
    hashes = {n: about.get("sha256") for n, about in record.get("inputs", {}).items() if n != START}
    geometry = record.get("geometry", {}).get("b0_direction")
    return steps, hashes, geometry, record.get("acquisition")
