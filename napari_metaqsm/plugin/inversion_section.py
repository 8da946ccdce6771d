"""The section of the inversions: as many as are checked, and maps that follow the sliders."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Layer
from qtpy.QtCore import QTimer, Signal

from napari_metaqsm.errors import InputError
from napari_metaqsm.method import STAGES, Method, methods
from napari_metaqsm.pipeline import Step, StepResult
from napari_metaqsm.plugin.beforehand import Beforehand
from napari_metaqsm.plugin.following import NewestMap
from napari_metaqsm.plugin.forms import MethodForm
from napari_metaqsm.plugin.jobs import START, Job, layer_name
from napari_metaqsm.plugin.method_list import MethodList
from napari_metaqsm.plugin.scan_section import ScanSection
from napari_metaqsm.plugin.section import State
from napari_metaqsm.plugin.step_sections import Done, StepSection
from napari_metaqsm.scan import Geometry
from napari_metaqsm.timing import BOX_SHARE, box_voxels, spoken_time

# A hand on a slider is faster than a worker can be started.
SHORTEST_PAUSE_MS = 50
_ABOUT_TIME = "For this scan on this machine, with the defaults: measured once when idle, then by every run"


class InversionSection(StepSection):
    """Local field to susceptibility, by as many methods as are checked; maps follow the sliders."""

    # A form whose slider was moved.
    moved = Signal(object)

    def __init__(self, viewer: ViewerModel, scan: ScanSection, checked: Collection[str]) -> None:
        super().__init__(viewer, scan, "inversion", "5  Inversion", folded=False)
        self.list = MethodList(viewer, methods("inversion"), checked)
        self.body.addWidget(self.list)
        self.boxes = {name: row.box for name, row in self.list.rows.items()}
        self.method_forms = {name: row.form for name, row in self.list.rows.items()}
        self.beforehand = Beforehand(self, self._is_idle)
        self.device = "auto"
        self._busy = False
        self._maps: dict[str, NewestMap] = {}
        self._told: list[str] = []
        self._box: tuple[Any, int] = (None, 0)
        self._moved: list[MethodForm] = []
        self._gathering = QTimer(self)
        self._gathering.setSingleShot(True)
        self._gathering.setInterval(SHORTEST_PAUSE_MS)
        self._gathering.timeout.connect(self._tell_moved)
        for form in self.method_forms.values():
            form.form.moved.connect(lambda form=form: self._on_moved(form))
        self.list.changed.connect(self._on_changed)
        self.beforehand.found.connect(self._on_found)
        self._on_changed()

    def forms(self) -> list[MethodForm]:
        """The forms of the checked methods."""
        return [self.method_forms[name] for name, box in self.boxes.items() if box.isChecked()]

    def missing(self, coming: Collection[str] = ()) -> list[str]:
        """The inputs without a layer, or that no method is checked."""
        return super().missing(coming) if self.forms() else ["a method: check at least one"]

    def show_theme(self) -> None:
        """Take the colours of the viewer's theme."""
        super().show_theme()
        self.list.show_theme()

    # --------------------------------------------------------------- where a method begins
    def _job(self, form: MethodForm, step: Step, device: str) -> Job:
        """The job of a form, going on from the method's last map where that is of the same inputs."""
        job = super()._job(form, step, device)
        name = form.method.name
        shown = self._maps.get(name)
        if shown is None or START not in form.method.takes or not self.list.rows[name].onward.isChecked():
            return job
        return shown.going_on(job, form.form.values())

    def _ready_text(self) -> str:
        return "\n".join([super()._ready_text(), *filter(None, map(self._begins, self.forms()))])

    def _begins(self, form: MethodForm) -> str:
        """Where a method would begin, if not afresh."""
        if form.method.name not in self._maps or self.missing():
            return ""
        try:
            job = self._job(form, form.step(), self.device)
        except InputError:
            return ""  # the run says why
        return f"{form.method.title} {_goes_on(job)}" if START in job.origins else ""

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
            if START in job.origins:
                self.set_state(State.RUNNING, f"Running {job.title}: {fraction:.0%}, {_goes_on(job)}")
            return
        notes, details = next((d[2:] for d in self._done if d.layer == job.target), ("", ""))
        text = f"{layer_name(job, STAGES[self.stage][0])}: {fraction:.0%}"
        self._show_done(State.RUNNING, self._done_with(Done(job.target, text, notes, details)))

    def finish(self, job: Job, result: StepResult, layers: Mapping[str, Layer]) -> None:
        """A job of this section is done; a map that followed is named anew, unless by the user."""
        layer = layers[STAGES[self.stage][0]]
        form = self.method_forms[job.method]
        own = result.record["steps"][-1]
        if form.form.sliders or START in form.method.takes:
            shown = self._maps.get(job.method)
            if job.target is not None and shown is not None and layer.name == shown.name:
                layer.name = layer_name(job, STAGES[self.stage][0])
            # What it began from need not be kept.
            data = {name: values for name, values in job.data.items() if name != START}
            made = dataclasses.replace(job, target=None, data=data)
            self._maps[job.method] = NewestMap(layer, layer.name, made, own["parameters"], own["seconds"])
        self._learn(job, own, form)
        super().finish(job, result, layers)

    def _decisive(self, form: MethodForm) -> dict[str, Any]:
        """Sliders apart: their map follows them."""
        return {n: v for n, v in form.form.values().items() if n not in form.form.sliders}

    def _on_changed(self) -> None:
        # What a deleted map was made of would fill the memory.
        self._maps = {n: shown for n, shown in self._maps.items() if shown.layer in self.viewer.layers}
        super()._on_changed()
        self._look_ahead()

    def _settings(self) -> Any:
        return super()._settings(), [row.onward.isChecked() for row in self.list.rows.values()]

    def _on_moved(self, form: MethodForm) -> None:
        if form not in self._moved:
            self._moved.append(form)
        if not self._gathering.isActive():
            self._gathering.start()

    def _tell_moved(self) -> None:
        moved, self._moved = self._moved, []
        for form in moved:
            self.moved.emit(form)

    # ------------------------------------------------------------- what is known before a run
    def refresh(self) -> None:
        """Say what is missing, what cannot run, or that the step is ready."""
        state, text = self._standing()
        refused = self._told = self._refused()
        if refused and state is State.READY and len(refused) == len(self.forms()):
            self.set_state(State.FAILED, "\n".join(refused))
        else:
            self.set_state(state, "\n".join([text, *refused]), noted=bool(refused))

    def look_ahead_on(self, device: str) -> None:
        """Tell of another device from now on."""
        self.device = device
        self._look_ahead()

    def stand_back(self, busy: bool) -> None:
        """Whether something is being computed, beside which nothing is found out beforehand."""
        if busy != self._busy:
            self._busy = busy
            (self.beforehand.stand_back if busy else self._look_ahead)()

    def _refused(self) -> list[str]:
        geometry = self._geometry()
        told = []
        for form in self.forms() if geometry is not None else ():
            try:
                refusal = self.beforehand.refusal(form.step(), geometry)
            except InputError as error:
                refusal = str(error)
            if refusal:
                told.append(f"{form.method.title} cannot run: {refusal}")
        return told

    def _look_ahead(self) -> None:
        """Ask what is not known yet of the methods, and say what is."""
        geometry = self._geometry()
        steps = []
        for form in self.forms():
            with suppress(InputError):  # the run says it
                steps.append(form.step())
        order = sorted(self.list.rows.values(), key=lambda row: not row.box.isChecked())
        self.beforehand.ask(steps, [row.method for row in order], geometry, self.device)
        self._show_times(geometry)

    def _show_times(self, geometry: Geometry | None) -> None:
        for row in self.list.rows.values():
            row.time.setText("" if geometry is None else self._time(row.method, geometry))
            why_not = self.beforehand.unmeasurable(row.method, geometry, self.device)
            row.time.setToolTip(why_not or _ABOUT_TIME)

    def _time(self, method: Method, geometry: Geometry) -> str:
        """How long a method would take, or why that is not known."""
        if method is self.beforehand.measured:
            return "measuring …"
        seconds = self.beforehand.seconds(method, self._voxels(geometry), self.device)
        if seconds is None and self.beforehand.unmeasurable(method, geometry, self.device):
            return "not for this scan"
        return spoken_time(seconds)

    def _on_found(self) -> None:
        self._show_times(self._geometry())
        if self.state in (State.READY, State.MISSING) and self._refused() != self._told:
            self.refresh()

    def _geometry(self) -> Geometry | None:
        """Of the scan that a run would start from, as far as it is there yet."""
        for layer in (self._layer("local_field"), self._layer("phase"), self._layer("magnitude")):
            if layer is not None:
                try:
                    return self.scan.geometry(layer)
                except InputError:
                    return None  # the layer's own line says why it cannot be used
        return None

    def _voxels(self, geometry: Geometry) -> int:
        """Of the box around the mask, or of the one that a head would take."""
        mask = self._layer("mask")
        if mask is None or np.shape(mask.data) != geometry.shape:
            return max(round(BOX_SHARE * np.prod(geometry.shape)), 1)
        if self._box[0] is not mask.data:
            self._box = (mask.data, box_voxels(np.asarray(mask.data)))
        return self._box[1]

    def _is_idle(self) -> bool:
        return not self._busy and self.isVisible()

    def _learn(self, job: Job, own: Mapping[str, Any], form: MethodForm) -> None:
        """How long a run took, if it was one as the estimates are of: from the start, with the defaults."""
        defaults = form.method.make_parameters()
        settings = {n: v for n, v in own["parameters"].items() if n not in form.form.sliders}
        usual = all(getattr(defaults, name) == value for name, value in settings.items())
        if usual and START not in job.data and "mask" in job.data:
            self.beforehand.learn(form.method, own, box_voxels(job.data["mask"]))


def _goes_on(job: Job) -> str:
    return f"goes on from {job.origins[START].name}"
