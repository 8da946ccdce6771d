"""The dock "Susceptibility mapping": the chain from scan to comparison, step by step or at once."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from typing import Any

import napari
from napari.layers import Layer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QPushButton

from napari_metaqsm.errors import InputError
from napari_metaqsm.method import DEFAULT_INVERSIONS
from napari_metaqsm.pipeline import StepResult
from napari_metaqsm.plugin.compare_section import CompareSection
from napari_metaqsm.plugin.dock import WorkingDock
from napari_metaqsm.plugin.forms import MethodForm
from napari_metaqsm.plugin.inversion_section import InversionSection
from napari_metaqsm.plugin.jobs import Job, show_results
from napari_metaqsm.plugin.layer_choice import LayerChoice
from napari_metaqsm.plugin.scan_section import ScanSection
from napari_metaqsm.plugin.section import Section
from napari_metaqsm.plugin.step_sections import ChooserSection, FieldSection, StepSection
from napari_metaqsm.plugin.worker import CancellableWorker, plain_words, start

_LAYER_EVENTS = ("inserted", "removed", "reordered", "renamed")


class SusceptibilityMapping(WorkingDock):
    """Scan, field, mask, background, inversion, compare: in sections from top to bottom.

    Each section runs alone on any fitting layers; what it makes is chosen in the sections below. One
    job runs at a time, in a worker; layers are read before it starts and made after it ended.
    """

    # Nothing runs any more; False where something failed or was cancelled.
    ended = Signal(bool)

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.scan = ScanSection(self.viewer)
        self.field = FieldSection(self.viewer, self.scan)
        self.mask = ChooserSection(self.viewer, self.scan, "mask", "3  Mask", "brain", "A layer, as it is")
        self.background = ChooserSection(self.viewer, self.scan, "background", "4  Background", "resharp")
        self.inversion = InversionSection(self.viewer, self.scan, DEFAULT_INVERSIONS)
        self.compare = CompareSection(self.viewer)
        self.steps: tuple[StepSection, ...] = (self.field, self.mask, self.background, self.inversion)
        self._sections: tuple[Section, ...] = (self.scan, *self.steps, self.compare)
        self._waiting: list[StepSection] = []
        self._jobs: list[Job] = []
        self._running: tuple[StepSection, Job, CancellableWorker] | None = None
        self._section: StepSection | None = None
        self._going_well = True
        self.run_button = QPushButton("Run all")
        self.run_button.setToolTip("Run every step whose inputs are there, from top to bottom")
        self.run_button.clicked.connect(self.run_all)
        self.lay_out(self._sections, "Stop the running step; what is done stays", self.run_button)
        self.device.currentIndexChanged.connect(
            lambda: self.inversion.look_ahead_on(self.device.currentData())
        )
        for step in self.steps:
            step.run_requested.connect(lambda step=step: self.run([step]))
            step.given.connect(lambda quantity, layer, step=step: self._hand_down(step, {quantity: layer}))
            step.changed.connect(self._update_buttons)
        self.inversion.moved.connect(self._follow)
        for name in _LAYER_EVENTS:
            getattr(self.viewer.layers.events, name).connect(self._on_layers)
        self.viewer.events.theme.connect(self._on_theme)
        self._update_buttons()

    # ------------------------------------------------------------------------------- running
    @property
    def is_running(self) -> bool:
        """Whether a step is being computed."""
        return self._running is not None

    @property
    def is_following(self) -> bool:
        """Whether nothing runs but a map that follows its slider."""
        return self._running is not None and self._running[1].target is not None and not self._waiting

    def run_all(self) -> None:
        """Run every step whose inputs are there or will be made by the steps before it."""
        try:
            self.run(self.plan())
        except InputError as error:
            self.inversion.fail(str(error))

    def plan(self) -> list[StepSection]:
        """The steps that :meth:`run_all` would run.

        Raises
        ------
        InputError
            When they would not lead to a map.
        """
        steps: list[StepSection] = []
        coming: set[str] = set()
        for step in self.steps:
            missing = step.missing(coming)
            if not missing:
                steps.append(step)
                coming.update(step.makes())
        if self.inversion not in steps:
            raise InputError(f"the chain cannot be run yet, it lacks: {', '.join(missing)}")
        return steps

    def run(self, steps: Sequence[StepSection]) -> None:
        """Run these steps one after the other; one in which a method failed is the last."""
        if self.is_running and not self.is_following:
            return
        if self.is_following:  # what is asked for comes first
            self._running[2].quit()
        self._waiting, self._jobs, self._going_well = list(steps), [], True
        for step in steps:
            step.begin()
        if not self.is_running:
            self._next()
        self._update_buttons()

    def cancel(self) -> None:
        """Stop what is running, at its next step; what is done stays."""
        self._waiting, self._jobs, self._going_well = [], [], False
        if self._running is not None:
            self._running[2].quit()
            self.progress_label.setText("Stopping …")

    def _follow(self, form: MethodForm) -> None:
        """Compute a map again whose slider was moved; of one map the newest value wins."""
        if self._released or (self.is_running and not self.is_following):
            return
        try:
            job = self.inversion.following_job(form, self.device.currentData())
        except InputError as error:
            self.inversion.fail(str(error))
            return
        if job is None:
            return
        self._jobs = [other for other in self._jobs if other.target != job.target] + [job]
        if not self.is_running:
            self._section, self._going_well = self.inversion, True
            self._next()
        elif self._running[1].target == job.target and self.inversion.is_slow(job):
            self._running[2].quit()

    def _next(self) -> None:
        while not self._jobs and self._waiting:
            self._section = self._waiting.pop(0)
            try:
                self._jobs = self._section.jobs(self.device.currentData())
            except InputError as error:
                self._give_up_waiting()
                self._section.fail(str(error))
            else:
                if not self._jobs:
                    self._section.refresh()
        if self._jobs:
            job = self._jobs.pop(0)
            worker = start(
                job.run,
                progressed=self._on_progress,
                returned=self._on_returned,
                errored=self._on_errored,
                finished=self._on_finished,
                plotted=self._on_plotted,
            )
            self._running = (self._section, job, worker)
            self._on_progress(0.0, "starting")
        self._update_buttons()
        if not self.is_running:
            self.ended.emit(self._going_well)

    def _give_up_waiting(self) -> None:
        """What was to run after a step that failed does not."""
        waiting, self._waiting = self._waiting, []
        self._going_well = False
        for later in waiting:
            later.refresh()

    def _on_progress(self, fraction: float, text: str) -> None:
        if self._running is None or self._released:
            return
        step, job, worker = self._running
        if worker.abort_requested:
            return
        step.show_progress(job, fraction)
        if self.is_following:
            return
        self.progress.setValue(round(1000 * fraction))
        self.progress_label.setText(text if text == job.title else f"{job.title}: {text}")

    def _on_plotted(self, points: list[tuple[str, int, float]]) -> None:
        if self._running is None or self._released:
            return
        step, job, worker = self._running
        if not worker.abort_requested:
            step.show_points(job, points)

    def _on_returned(self, result: StepResult | None) -> None:
        if self._released or result is None:
            return
        step, job, _ = self._running
        if job.target is not None:
            self._replace(step, job, result)
            return
        with self.compare.aside():
            layers = show_results(self.viewer, job, result)
            step.finish(job, result, layers)
            if "susceptibility" in layers:
                self._refer(self.compare.add, layers["susceptibility"])
        self._hand_down(step, layers)

    def _replace(self, step: StepSection, job: Job, result: StepResult) -> None:
        """Put a map that followed its slider where it was, unless it was deleted meanwhile."""
        if job.target not in self.viewer.layers:
            step.refresh()
            return
        layers = show_results(self.viewer, job, result)
        step.finish(job, result, layers)
        self._refer(self.compare.renew, job.target)

    def _refer(self, refer: Callable[[Layer], None], layer: Layer) -> None:
        try:
            refer(layer)
        except InputError as error:
            self.compare.fail(str(error))

    def _on_errored(self, error: Exception) -> None:
        if self._released:
            return
        step, job, _ = self._running
        self._give_up_waiting()  # but not the other methods of this step, nor a newer value of a slider
        step.fail_at(job, plain_words(error), "".join(traceback.format_exception(error)))

    def _on_finished(self) -> None:
        step, job, worker = self._running
        self._running = None
        if self._released:
            return
        if worker.abort_requested and (self._jobs or self._waiting):
            pass  # a newer value, or what was asked for meanwhile, is next
        elif worker.abort_requested:
            for each in self.steps:
                if each.state is each.state.RUNNING:
                    each.stop()
            self.progress_label.setText(f"{job.title} was cancelled")
        else:
            self.progress_label.clear()
        self._next()
        if not self.is_running and self._going_well and step is self.inversion and job.target is None:
            self.scroll.ensureWidgetVisible(self.compare)

    def _hand_down(self, step: StepSection, layers: dict[str, Any]) -> None:
        """Choose what a step made in the sections below it."""
        for later in self.steps[self.steps.index(step) + 1 :]:
            for name, choice in later.choices.items():
                if name == "mask" and later is self.inversion:
                    self._hand_mask(choice, layers)
                elif name in layers:
                    choice.take(layers[name])

    @staticmethod
    def _hand_mask(choice: LayerChoice, layers: dict[str, Any]) -> None:
        """The inversion works in the eroded mask; the whole one serves only where there is no other."""
        if "eroded_mask" in layers:
            choice.take(layers["eroded_mask"])
        elif "mask" in layers and choice.layer is None:
            choice.take(layers["mask"])

    # ------------------------------------------------------------------------------- its life
    def let_go(self) -> None:
        """Stop the work, close the comparison, disconnect every event."""
        self.cancel()
        self.scan.release()
        self.inversion.beforehand.release()
        if self.compare.comparison is not None:
            self.compare.comparison.close()
        for name in _LAYER_EVENTS:
            getattr(self.viewer.layers.events, name).disconnect(self._on_layers)
        self.viewer.events.theme.disconnect(self._on_theme)

    def _on_layers(self, event: Any = None) -> None:
        self.scan.offer_pairing()
        for section in (self.scan, *self.steps):
            for choice in section.choices.values():
                choice.reset()
        for step in (self.field, self.mask):
            step.own.reset()
        self.compare.reset()
        self._update_buttons()

    def _on_theme(self, event: Any = None) -> None:
        for section in self._sections:
            section.show_theme()

    def _update_buttons(self) -> None:
        running = self.is_running and not self.is_following
        self.run_button.setEnabled(not running)
        self.cancel_button.setEnabled(self.is_running)
        self.inversion.hold(running)
        self.inversion.stand_back(self.is_running)
        self.progress.setVisible(running)
        for step in self.steps:
            step.run_button.setEnabled(not running and step.can_run())
        self.progress_label.setVisible(bool(self.progress_label.text()))
