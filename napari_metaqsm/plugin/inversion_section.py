"""The section of the inversions: as many as are checked, and maps that follow the sliders."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from napari.components import ViewerModel
from napari.layers import Layer
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QCheckBox

from napari_metaqsm.method import STAGES, methods
from napari_metaqsm.pipeline import StepResult
from napari_metaqsm.plugin.following import FollowedMap
from napari_metaqsm.plugin.forms import MethodForm
from napari_metaqsm.plugin.jobs import Job, layer_name
from napari_metaqsm.plugin.scan_section import ScanSection
from napari_metaqsm.plugin.section import State
from napari_metaqsm.plugin.step_sections import Done, StepSection

# A hand on a slider is faster than a worker can be started.
SHORTEST_PAUSE_MS = 50


class InversionSection(StepSection):
    """Local field to susceptibility, by as many methods as are checked; maps follow the sliders."""

    # A form whose slider was moved.
    moved = Signal(object)

    def __init__(self, viewer: ViewerModel, scan: ScanSection, checked: Collection[str]) -> None:
        super().__init__(viewer, scan, "inversion", "5  Inversion", folded=False)
        self.boxes: dict[str, QCheckBox] = {}
        self.method_forms: dict[str, MethodForm] = {}
        self._maps: dict[str, FollowedMap] = {}
        self._moved: list[MethodForm] = []
        self._gathering = QTimer(self)
        self._gathering.setSingleShot(True)
        self._gathering.setInterval(SHORTEST_PAUSE_MS)
        self._gathering.timeout.connect(self._tell_moved)
        for method in methods("inversion"):
            box, form = QCheckBox(method.title), MethodForm(method)
            box.setToolTip(method.summary)
            box.setChecked(method.name in checked)
            form.setVisible(box.isChecked())
            form.layout().setContentsMargins(20, 0, 0, 6)
            box.toggled.connect(form.setVisible)
            box.toggled.connect(self._on_changed)
            form.changed.connect(self._on_changed)
            form.form.moved.connect(lambda form=form: self._on_moved(form))
            self.body.addWidget(box)
            self.body.addWidget(form)
            self.boxes[method.name], self.method_forms[method.name] = box, form
        self._on_changed()

    def forms(self) -> list[MethodForm]:
        """The forms of the checked methods."""
        return [self.method_forms[name] for name, box in self.boxes.items() if box.isChecked()]

    def missing(self, coming: Collection[str] = ()) -> list[str]:
        """The inputs without a layer, or that no method is checked."""
        return super().missing(coming) if self.forms() else ["a method: check at least one"]

    # ------------------------------------------------------------- maps that follow their sliders
    def following_job(self, form: MethodForm, device: str) -> Job | None:
        """What computes a form's map again where it is; None where it cannot, and then the status says why.

        Raises
        ------
        InputError
            When a setting cannot be used.
        """
        shown = self._maps.get(form.method.name)
        job = None if self.missing() else self._job(form, form.step(), device)
        if job is not None and shown is not None:
            changed = shown.changed_since(job, form.form.values(), form.form.sliders)
            if not changed:
                return dataclasses.replace(job, target=shown.layer)
            why = f"{shown.layer.name} stays, for {' and '.join(changed)} changed since; Run makes a new map"
        else:
            why = f"there is no {form.method.title} map yet that could follow; Run makes one"
        self.refresh()
        if self.state is State.READY:
            self.set_state(State.READY, f"{self._ready_text()}\nNote: {why}")
        return None

    def is_slow(self, job: Job) -> bool:
        """Whether a job that follows takes too long to be waited for once it is out of date."""
        return job.method in self._maps and self._maps[job.method].is_slow

    def hold(self, held: bool) -> None:
        """Whether the sliders stand still, for other work runs."""
        for form in self.method_forms.values():
            form.form.hold(held)

    def show_progress(self, job: Job, fraction: float) -> None:
        """What is done stays on show while a map follows, so that nothing moves under the hand."""
        if job.target is None:
            super().show_progress(job, fraction)
            return
        notes, details = next((d[2:] for d in self._done if d.layer == job.target), ("", ""))
        text = f"{layer_name(job, STAGES[self.stage][0])}: {fraction:.0%}"
        self._show_done(State.RUNNING, self._done_with(Done(job.target, text, notes, details)))

    def finish(self, job: Job, result: StepResult, layers: Mapping[str, Layer]) -> None:
        """A job of this section is done; a map that followed is named anew, unless by the user."""
        layer = layers[STAGES[self.stage][0]]
        if self.method_forms[job.method].form.sliders:
            if job.target is not None and layer.name == self._maps[job.method].name:
                layer.name = layer_name(job, STAGES[self.stage][0])
            own = result.record["steps"][-1]
            job = dataclasses.replace(job, target=None)
            self._maps[job.method] = FollowedMap(layer, layer.name, job, own["parameters"], own["seconds"])
        super().finish(job, result, layers)

    def _decisive(self, form: MethodForm) -> dict[str, Any]:
        """Sliders apart: their map follows them."""
        return {n: v for n, v in form.form.values().items() if n not in form.form.sliders}

    def _on_changed(self) -> None:
        # What a deleted map was made of would fill the memory.
        self._maps = {n: shown for n, shown in self._maps.items() if shown.layer in self.viewer.layers}
        super()._on_changed()

    def _on_moved(self, form: MethodForm) -> None:
        if form not in self._moved:
            self._moved.append(form)
        if not self._gathering.isActive():
            self._gathering.start()

    def _tell_moved(self) -> None:
        moved, self._moved = self._moved, []
        for form in moved:
            self.moved.emit(form)
