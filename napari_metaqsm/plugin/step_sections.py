"""The sections that compute, each alone on fitting layers: what they share, and field, mask, background."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from napari.components import ViewerModel
from napari.layers import Layer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QFormLayout, QLabel, QWidget

from napari_metaqsm.errors import InputError
from napari_metaqsm.method import STAGES, Method, methods
from napari_metaqsm.pipeline import Step, StepResult
from napari_metaqsm.plugin.about import about_erosion, about_step
from napari_metaqsm.plugin.convergence_plot import ConvergencePanel
from napari_metaqsm.plugin.editors import keep_wheel_for_scrolling, narrow
from napari_metaqsm.plugin.forms import MethodChooser, MethodForm
from napari_metaqsm.plugin.jobs import START, Job, conversion_job, method_job
from napari_metaqsm.plugin.layer_choice import MASKS, SERIES, LayerChoice
from napari_metaqsm.plugin.layers import metadata_of
from napari_metaqsm.plugin.scan_section import ScanSection
from napari_metaqsm.plugin.section import Section, State
from napari_metaqsm.units import FIELD_UNITS

# The input whose grid the results take, where a method has several.
_MAIN_INPUTS = ("phase", "total_field", "local_field", "magnitude", "quality", "mask")


class Done(NamedTuple):
    """What a section says of a result: that it is done, notes on lines of their own, more on hovering."""

    layer: Layer
    text: str
    notes: str
    details: str


class StepSection(Section):
    """One stage of the chain: its inputs, its methods, and how it stands.

    The inputs are those that the stage's methods ask for; phase and magnitude are the scan's.
    """

    changed = Signal()
    # A layer that the user brings as this stage's result: quantity, layer.
    given = Signal(str, object)

    def __init__(
        self, viewer: ViewerModel, scan: ScanSection, stage: str, title: str, folded: bool = True
    ) -> None:
        super().__init__(viewer, title, folded=folded)
        self.stage = stage
        self.scan = scan
        self.choices: dict[str, LayerChoice] = {}
        self._labels: dict[str, QLabel] = {}
        self._done: list[Done] = []
        self._failed: dict[str, tuple[str, str]] = {}
        self._seen: Any = None
        rows = QFormLayout()
        rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for name in _inputs(stage):
            quantities = MASKS if (stage, name) == ("inversion", "mask") else (name,)
            # A mask would change the field of a scan that is fitted again: only on request.
            choice = LayerChoice(
                viewer,
                quantities,
                automatic=(stage, name) != ("field", "mask"),
            )
            label = QLabel(name.replace("_", " ").capitalize())
            rows.addRow(label, choice)
            choice.changed.connect(self._on_changed)
            self.choices[name], self._labels[name] = choice, label
        self.convergence = ConvergencePanel(viewer)
        self.body.addWidget(self.convergence)
        self.body.addLayout(rows)
        scan.changed.connect(self._on_changed)

    # -------------------------------------------------------------- what each section fills in
    def forms(self) -> list[MethodForm]:
        """The forms of the methods that would run."""
        raise NotImplementedError

    # --------------------------------------------------------------------------- what it tells
    def missing(self, coming: Collection[str] = ()) -> list[str]:
        """The inputs without a layer, in words, those left out that an earlier step will make."""
        missing = []
        for form in self.forms():
            for name in form.method.needs:
                made = name in coming or (name == "mask" and self.stage == "inversion" and "mask" in coming)
                words = name.replace("_", " ")
                if self._layer(name) is None and not made and words not in missing:
                    missing.append(words)
        return missing

    def makes(self) -> tuple[str, ...]:
        """What a run of this section gives to those below."""
        return STAGES[self.stage]

    def jobs(self, device: str) -> list[Job]:
        """What a run has to compute now.

        Raises
        ------
        InputError
            When an input or a setting is missing or cannot be used.
        """
        missing = self.missing()
        if missing:
            raise InputError("missing: " + ", ".join(missing))
        return [self._job(form, form.step(), device) for form in self.forms()]

    def _job(self, form: MethodForm, step: Step, device: str) -> Job:
        names = (*form.method.needs, *form.method.takes)
        layers = {n: layer for n in names if n != START and (layer := self._layer(n)) is not None}
        main = next(n for n in _MAIN_INPUTS if n in layers)
        geometry = self.scan.geometry(layers[main])
        acquisition = self._acquisition(form.method.settings)
        return method_job(step, self._result_name(form), layers, main, geometry, acquisition, device)

    def _result_name(self, form: MethodForm) -> str:
        """What tells results of this stage apart in the layer list."""
        return form.result_name()

    def _acquisition(self, settings: Collection[str]) -> Any:
        return self.scan.check_complete() if "acquisition" in settings else self.scan.acquisition()

    def _needs_scan(self) -> bool:
        return any("acquisition" in form.method.settings for form in self.forms())

    def _layer(self, name: str) -> Layer | None:
        return (self.scan if name in SERIES else self).choices[name].layer

    # --------------------------------------------------------------------------- how it stands
    def refresh(self) -> None:
        """Say what is missing, or that the step is ready."""
        self.set_state(*self._standing())

    def _standing(self) -> tuple[State, str]:
        missing = self.missing()
        if missing:
            return State.MISSING, "Missing: " + ", ".join(missing)
        if self._needs_scan() and self.scan.state is not State.DONE:
            return State.MISSING, "The scan above is not complete"
        return State.READY, self._ready_text()

    def _ready_text(self) -> str:
        return "Ready: " + ", ".join(form.result_name() for form in self.forms())

    def can_run(self) -> bool:
        """Whether there is something that a run would compute."""
        return not self.missing()

    def show_theme(self) -> None:
        """Take the colours of the viewer's theme."""
        super().show_theme()
        self.convergence.show_theme()

    def begin(self) -> None:
        """A run of this section starts."""
        self._done, self._failed = [], {}
        self.set_state(State.RUNNING, "Waiting")

    def show_progress(self, job: Job, fraction: float) -> None:
        """A run of this section goes on."""
        self.set_state(State.RUNNING, f"Running {job.title}: {fraction:.0%}")

    def show_points(self, job: Job, points: Sequence[tuple[str, int, float]]) -> None:
        """Points of curves of convergence: the curve's name, the point's number, its value."""
        self.convergence.add(job, job.title, points)

    def finish(self, job: Job, result: StepResult, layers: Mapping[str, Layer]) -> None:
        """A job of this section is done."""
        own = result.record["steps"][-1]
        layer = layers[STAGES[self.stage][0]]
        seconds = f" in {own['seconds']:.1f} s" if "seconds" in own else ""
        begun = f", begun from {job.origins[START].name}" if START in job.origins else ""
        notes = "".join(f"\nNote: {text}" for text in own.get("warnings", ()))
        told = f"{layer.name}{seconds}{begun}{about_erosion(own)}"
        done = Done(layer, told, notes, "\n".join(about_step(own)))
        self._done = self._done_with(done)
        self._failed.pop(job.method, None)
        self._show_done(State.DONE, self._done)
        self.convergence.end()
        self.convergence.offer(self._results(), newest=layer)

    def stop(self) -> None:
        """A run of this section was cancelled."""
        self.convergence.end()
        self.refresh()

    def _results(self) -> list[Layer]:
        """The layers of this stage's first result."""
        main = STAGES[self.stage][0]
        return [layer for layer in self.viewer.layers if metadata_of(layer).get("quantity") == main]

    def fail_at(self, job: Job, text: str, details: str) -> None:
        """A job of this section failed; what others made is still there."""
        several = len(self.forms()) > 1
        self._failed[job.method] = (f"{job.title}: {text}" if several else text, details)
        self.convergence.end(f"{job.title}, failed")
        self._show_done(State.FAILED, self._done)
        self.header.setChecked(True)

    def _show_done(self, state: State, done: Sequence[Done]) -> None:
        lines = "\n".join(each.text + each.notes for each in done)
        about = [*(details for _, details in self._failed.values()), *(each.details for each in done)]
        if state is State.DONE or (done and self._failed):
            lines = f"Done: {lines}"
        if self._failed:
            state = State.FAILED if state is State.DONE else state
            lines = "\n".join([*(text for text, _ in self._failed.values()), lines]).strip()
        self.set_state(state, lines, "\n\n".join(about), noted=any(each.notes for each in done))

    def _done_with(self, done: Done) -> list[Done]:
        """What is done, ``done`` in its layer's place or below the others."""
        layers = [earlier.layer for earlier in self._done]
        place = layers.index(done.layer) if done.layer in layers else len(layers)
        return [*self._done[:place], done, *self._done[place + 1 :]]

    def _on_changed(self) -> None:
        for name, choice in self.choices.items():
            asked = any(name in (*f.method.needs, *f.method.takes) for f in self.forms())
            choice.setVisible(asked)
            self._labels[name].setVisible(asked)
            choice.say_nothing(_without(name, [form.method for form in self.forms()]))
        # What was done or went wrong stays on show until something of this step changes.
        seen = self._settings()
        gone = any(done.layer not in self.viewer.layers for done in self._done)
        if self.state is not State.RUNNING and (seen != self._seen or gone):
            self._done, self._failed = [], {}
            self.refresh()
        self._seen = seen
        self.convergence.offer(self._results())
        self.changed.emit()

    def _settings(self) -> Any:
        """Everything that a run of this section depends on."""
        asked = {n for f in self.forms() for n in (*f.method.needs, *f.method.takes) if n != START}
        forms = [(form.method.name, self._decisive(form)) for form in self.forms()]
        return {n: self._layer(n) for n in asked}, forms, self.scan.settings()

    def _decisive(self, form: MethodForm) -> dict[str, Any]:
        """The parameters with which another one is another run."""
        return form.form.values()


class ChooserSection(StepSection):
    """A stage of which one method runs, or whose result the user brings.

    Parameters
    ----------
    own : what the choice of bringing it is called; there is none where it is empty
    """

    def __init__(
        self, viewer: ViewerModel, scan: ScanSection, stage: str, title: str, default: str, own: str = ""
    ) -> None:
        super().__init__(viewer, scan, stage, title)
        self._default = default
        self.chooser = MethodChooser(stage, default, own)
        self.own = LayerChoice(viewer, MASKS if stage == "mask" else STAGES[stage][:1])
        self._given: Layer | None = None
        self._own = QWidget()
        self.own_rows = QFormLayout(self._own)
        self.own_rows.setContentsMargins(0, 0, 0, 0)
        self.own_rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self.own_rows.addRow("Layer", self.own)
        self.body.insertWidget(0, self.chooser)
        self.body.addWidget(self._own)
        self.own.changed.connect(self._on_changed)
        self.chooser.changed.connect(self._on_changed)
        self._on_changed()

    def forms(self) -> list[MethodForm]:
        """The chosen method's form; none where the user brings the result."""
        return [] if self.chooser.form is None else [self.chooser.form]

    def _result_name(self, form: MethodForm) -> str:
        """Nothing for the usual: "total field" and "mask" say enough."""
        name = form.result_name()
        usual = self.stage in ("field", "mask") and form.method.name == self._default
        return name.removeprefix(form.method.title).strip() if usual else name

    def makes(self) -> tuple[str, ...]:
        """All that the stage gives, or its first result alone where the user brings that."""
        return super().makes() if self.forms() else super().makes()[:1]

    def missing(self, coming: Collection[str] = ()) -> list[str]:
        """The inputs without a layer, in words."""
        if self.forms():
            return super().missing(coming)
        return [] if self.own.layer is not None else ["the layer to use"]

    def jobs(self, device: str) -> list[Job]:
        """What a run has to compute: nothing where the user brings the result as it must be."""
        jobs = super().jobs(device)
        if not self.forms():
            self._give()
        return jobs

    def refresh(self) -> None:
        """Say what is missing, that the step is ready, or that the user's layer is used."""
        super().refresh()
        if not self.forms() and self.own.layer is not None:
            self._refresh_own(self.own.layer)

    def _settings(self) -> Any:
        return super()._settings(), None if self.forms() else self.own.layer

    def _refresh_own(self, layer: Layer) -> None:
        self.set_state(State.DONE, f"Used as it is: {layer.name}")

    def can_run(self) -> bool:
        """Not where the user's layer is used as it is."""
        return super().can_run() and (bool(self.forms()) or self.state is not State.DONE)

    def _give(self) -> None:
        self._given = self.own.layer
        self.given.emit(self.makes()[0], self._given)

    def _on_changed(self) -> None:
        self._own.setVisible(not self.forms())
        super()._on_changed()
        own = None if self.forms() else self.own.layer
        if self.state is State.DONE and own is not None and own != self._given:
            self._give()
        elif own is None:
            self._given = None


class FieldSection(ChooserSection):
    """Phase to total field, or a field map in any unit to ppm."""

    def __init__(self, viewer: ViewerModel, scan: ScanSection) -> None:
        self.unit = QComboBox()
        self.unit.addItems(FIELD_UNITS)
        self.unit.setToolTip("Unit of the field map; Hz and rad/s need the field strength of the scan above")
        keep_wheel_for_scrolling(self.unit)
        narrow(self.unit)
        super().__init__(viewer, scan, "field", "2  Field", "nonlinear_fit", "A field map from elsewhere")
        self.own_rows.addRow("Unit", self.unit)
        self.own.changed.connect(self._fill_unit)
        self.unit.currentTextChanged.connect(self._on_changed)
        self._fill_unit()

    def jobs(self, device: str) -> list[Job]:
        """The fit, or the conversion of a field map that is not in ppm."""
        jobs = super().jobs(device)
        layer = self.own.layer
        if self.forms() or self.unit.currentText() == "ppm":
            return jobs
        acquisition = self.scan.acquisition()
        return [conversion_job(layer, self.unit.currentText(), self.scan.geometry(layer), acquisition)]

    def _give(self) -> None:
        if self.unit.currentText() == "ppm":
            super()._give()

    def _refresh_own(self, layer: Layer) -> None:
        if self.unit.currentText() == "ppm":
            super()._refresh_own(layer)
        else:
            self.set_state(State.READY, f"Ready: {layer.name} from {self.unit.currentText()} to ppm")

    def _settings(self) -> Any:
        return super()._settings(), self.unit.currentText()

    def _fill_unit(self) -> None:
        unit = metadata_of(self.own.layer).get("unit") if self.own.layer is not None else None
        if unit in FIELD_UNITS:
            self.unit.setCurrentText(unit)


def _inputs(stage: str) -> list[str]:
    """What the methods of a stage ask for beside the scan.

    Where an iterative method begins is no choice: it is the method's own last map, or nothing.
    """
    names = [name for method in methods(stage) for name in (*method.needs, *method.takes)]
    return [name for name in dict.fromkeys(names) if name not in (*SERIES, START)]


def _without(name: str, chosen: Sequence[Method]) -> str:
    """What is done without a layer for an input: nothing, or what the chosen methods put in its place."""
    if any(name in method.needs for method in chosen):
        return "choose a layer"
    stand_ins: dict[str, str] = {}
    for method in chosen:
        if name in method.takes:
            stand_ins.setdefault(method.takes[name].removeprefix("none: "), method.title)
    if len(stand_ins) > 1:
        return "none: " + "; ".join(f"{title}: {text}" for text, title in stand_ins.items())
    return f"none: {next(iter(stand_ins))}" if stand_ins else "choose a layer"
