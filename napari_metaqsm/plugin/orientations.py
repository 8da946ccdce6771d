"""The dock "COSMOS (several orientations)": one map from the local fields of a head that was turned."""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import napari
import numpy as np
from napari.layers import Layer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFormLayout

from napari_metaqsm.errors import InputError
from napari_metaqsm.orientations.conditioning import FEWEST_DIRECTIONS, conditioning
from napari_metaqsm.pipeline import StepResult, reconstruct_orientations
from napari_metaqsm.plugin.about import about_step
from napari_metaqsm.plugin.convergence_plot import ConvergencePlot
from napari_metaqsm.plugin.dock import WorkingDock
from napari_metaqsm.plugin.field_row import FieldRow
from napari_metaqsm.plugin.forms import MethodChooser
from napari_metaqsm.plugin.jobs import Job, show_results
from napari_metaqsm.plugin.layer_choice import MASKS, LayerChoice, fits
from napari_metaqsm.plugin.layers import direction_note, metadata_of
from napari_metaqsm.plugin.section import Section, State
from napari_metaqsm.plugin.worker import CancellableWorker, plain_words, start
from napari_metaqsm.plugin.zero import Zero, refer
from napari_metaqsm.provenance import describe_array
from napari_metaqsm.scan import Acquisition, Scan

_LAYER_EVENTS = ("inserted", "removed", "reordered", "renamed")
_ABOUT_DIRECTIONS = (
    "Condition: how much worse the worst spatial frequency is seen than the best; three fields 60 degrees "
    "apart reach 2.\nNoise: that of the closed form's map (ppm) for each ppm in a field."
)


class Orientations(WorkingDock):
    """Registered local fields, each with its B0 direction, to one susceptibility map.

    The computation runs in a worker; layers are read before it starts and the map's is made after it ended.
    """

    # Nothing runs any more; False where it failed or was cancelled.
    ended = Signal(bool)

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.rows: list[FieldRow] = []
        self.fields = Section(self.viewer, "1  Local fields", run_text="")
        self.combine = Section(self.viewer, "2  One map", run_text="Run")
        self.mask = LayerChoice(self.viewer, MASKS)
        self.chooser = MethodChooser("orientations", "cosmos")
        self.plot = ConvergencePlot(self.viewer)
        self._running: tuple[Job, CancellableWorker] | None = None
        self._seen: Any = None
        self._shown: Layer | None = None
        self._went_well = False
        self._fill_sections()
        self.combine.run_requested.connect(self.run)
        self.mask.changed.connect(self.refresh)
        self.chooser.changed.connect(self.refresh)
        for name in _LAYER_EVENTS:
            getattr(self.viewer.layers.events, name).connect(self._on_layers)
        self.viewer.events.theme.connect(self._on_theme)
        self._on_layers()

    # --------------------------------------------------------------------------- what it tells
    @property
    def is_running(self) -> bool:
        """Whether a map is being computed."""
        return self._running is not None

    def checked(self) -> list[FieldRow]:
        """The rows of the fields that take part."""
        return [row for row in self.rows if row.box.isChecked()]

    def refresh(self) -> None:
        """Say what is missing, or how well the directions tell the map.

        What was done or went wrong stays on show until something changes that a run depends on.
        """
        if self.is_running:
            return
        ready = self._refresh_fields()
        lacking = "" if ready else "The fields above are not complete"
        if ready and self.mask.layer is None and any(row.mask.layer is None for row in self.checked()):
            lacking = "Missing: mask"
        seen = self._settings()
        if seen != self._seen or self._shown not in (None, *self.viewer.layers):
            self._seen, self._shown = seen, None
            ready_text = f"Ready: {self.chooser.form.result_name()}"
            self.combine.set_state(State.MISSING if lacking else State.READY, lacking or ready_text)
        self._update_buttons(not lacking)

    def _settings(self) -> Any:
        rows = [(row.layer, row.direction.text(), row.noise.layer, row.mask.layer) for row in self.checked()]
        form = self.chooser.form
        return rows, self.mask.layer, form.method.name, form.form.values()

    def _refresh_fields(self) -> bool:
        """Say how the checked fields go together; whether they do."""
        checked = self.checked()
        if len(checked) < FEWEST_DIRECTIONS:
            text = f"Missing: {FEWEST_DIRECTIONS} or more local fields, registered to one another"
            self.fields.set_state(State.MISSING, text)
            return False
        try:
            self._show_directions(checked)
        except InputError as error:
            self.fields.set_state(State.FAILED, str(error))
            return False
        return True

    def _show_directions(self, rows: Sequence[FieldRow]) -> None:
        geometries = [row.geometry() for row in rows]
        first = geometries[0]
        for row, geometry in zip(rows[1:], geometries[1:], strict=True):
            same = np.allclose(geometry.voxel_size_mm, first.voxel_size_mm, rtol=1e-3)
            if geometry.shape != first.shape or not same or geometry.orientation != first.orientation:
                names = f"{row.layer.name!r} and {rows[0].layer.name!r}"
                raise InputError(f"the fields {names} are not on one grid; register all to one")
        found = conditioning([geometry.b0_direction for geometry in geometries])
        notes = [direction_note(row.layer) for row in rows if not row.direction.isModified()]
        text = (
            f"{len(rows)} fields, at least {found.smallest_angle_degrees:.0f}° apart, condition "
            f"{found.condition:.3g}, noise × {found.noise_gain:.2g}"
        )
        notes = [f"Note: {note}" for note in (*notes, found.warning) if note]
        self.fields.set_state(State.DONE, "\n".join([text, *notes]), _ABOUT_DIRECTIONS, noted=bool(notes))

    # ------------------------------------------------------------------------------- running
    def run(self) -> None:
        """Compute the map of the checked fields."""
        if self.is_running:
            return
        try:
            job = self._job()
        except InputError as error:
            self.combine.fail(str(error))
            return
        self.plot.show_curves({})
        self._went_well = False
        worker = start(
            job.run,
            progressed=self._on_progress,
            returned=self._on_returned,
            errored=self._on_errored,
            finished=self._on_finished,
            plotted=self._on_plotted,
        )
        self._running = (job, worker)
        self.combine.set_state(State.RUNNING, f"Running {job.title}")
        self._on_progress(0.0, "starting")
        self._update_buttons(False)

    def cancel(self) -> None:
        """Stop at the next step."""
        if self._running is not None:
            self._running[1].quit()
            self.progress_label.setText("Stopping …")

    def _job(self) -> _SeveralFields:
        rows, form, device = self.checked(), self.chooser.form, self.device.currentData()
        step = form.step()
        masks = [row.mask.layer if row.mask.layer is not None else self.mask.layer for row in rows]
        if len(set(masks)) == 1:
            masks[1:] = [None] * (len(rows) - 1)  # those without have the first one's
        given = [
            {
                "local_field": (row.layer, np.asarray(row.layer.data)),
                # A mask may be painted on while it is read; nothing else is edited in place.
                "mask": (mask, None if mask is None else np.array(mask.data)),
                "noise": (
                    row.noise.layer,
                    None if row.noise.layer is None else np.asarray(row.noise.layer.data),
                ),
            }
            for row, mask in zip(rows, masks, strict=True)
        ]
        known = [metadata_of(row.layer).get("acquisition") or Acquisition() for row in rows]
        scans = [
            Scan(row.geometry(), acquisition, **{name: values for name, (_, values) in arrays.items()})
            for row, acquisition, arrays in zip(rows, known, given, strict=True)
        ]
        origins = [
            {name: (layer.name, layer.source.path, metadata_of(layer).get("record"))
             for name, (layer, _) in arrays.items() if layer is not None}
            for arrays in given
        ]  # fmt: skip

        def compute(job: Job) -> StepResult:
            described = [_with_sources(scan, about) for scan, about in zip(scans, origins, strict=True)]
            result = reconstruct_orientations(described, step, device=device, reference="none")
            maps = dict(result.maps)
            return StepResult(
                {"susceptibility": maps.pop(f"susceptibility_{step.method}"), **maps}, result.record
            )

        about = (step.stage, step.method, step.entry.title, form.result_name())
        return _SeveralFields(*about, rows[0].layer, scans[0].geometry, known[0], {}, {}, compute)

    def _on_progress(self, fraction: float, text: str) -> None:
        if self._running is None or self._released or self._running[1].abort_requested:
            return
        self.progress.setValue(round(1000 * fraction))
        self.progress_label.setText(text)

    def _on_plotted(self, points: list[tuple[str, int, float]]) -> None:
        if not self._released:
            self.plot.add(points)
            self.plot.setVisible(True)

    def _on_returned(self, result: StepResult | None) -> None:
        if self._released or result is None:
            return
        job, _ = self._running
        layers = show_results(self.viewer, job, result)
        layer = layers["susceptibility"]
        refer([layer], Zero())
        own = result.record["steps"][-1]
        notes = "".join(f"\nNote: {text}" for text in own["warnings"])
        text = f"Done: {layer.name} in {own['seconds']:.1f} s{notes}"
        self.combine.set_state(State.DONE, text, "\n".join(about_step(own)), noted=bool(notes))
        self._seen, self._shown, self._went_well = self._settings(), layer, True

    def _on_errored(self, error: Exception) -> None:
        if not self._released:
            self.combine.fail(plain_words(error), "".join(traceback.format_exception(error)))

    def _on_finished(self) -> None:
        job, worker = self._running
        self._running = None
        if self._released:
            return
        self.progress_label.setText(f"{job.title} was cancelled" if worker.abort_requested else "")
        if worker.abort_requested:
            self._seen = None
        self.refresh()
        self.ended.emit(self._went_well)

    # ------------------------------------------------------------------------------- its life
    def let_go(self) -> None:
        """Stop the work, disconnect every event."""
        self.cancel()
        for name in _LAYER_EVENTS:
            getattr(self.viewer.layers.events, name).disconnect(self._on_layers)
        self.viewer.events.theme.disconnect(self._on_theme)

    def _on_layers(self, event: Any = None) -> None:
        there = [layer for layer in self.viewer.layers if fits(layer, ("local_field",))]
        for row in [row for row in self.rows if row.layer not in there]:
            self.rows.remove(row)
            row.setParent(None)
            row.deleteLater()
        known = [row.layer for row in self.rows]
        for layer in there:
            if layer not in known:
                row = FieldRow(self.viewer, layer)
                row.changed.connect(self.refresh)
                self.rows.append(row)
                self.fields.body.addWidget(row)
        for row in self.rows:
            row.reset()
        self.mask.reset()
        self.refresh()

    def _on_theme(self, event: Any = None) -> None:
        for section in (self.fields, self.combine):
            section.show_theme()
        self.plot.show_theme()

    # ------------------------------------------------------------------------------ its looks
    def _fill_sections(self) -> None:
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Mask of all", self.mask)
        self.combine.body.addLayout(form)
        self.combine.body.addWidget(self.chooser)
        self.combine.body.addWidget(self.plot)
        self.plot.setVisible(False)
        self.lay_out([self.fields, self.combine], "Stop the computation; the layers stay as they are")

    def _update_buttons(self, ready: bool) -> None:
        self.combine.run_button.setEnabled(ready and not self.is_running)
        self.cancel_button.setEnabled(self.is_running)
        self.progress.setVisible(self.is_running)
        self.progress_label.setVisible(self.is_running or bool(self.progress_label.text()))


class _SeveralFields(Job):
    """A job whose record the engine writes whole: the fields have histories of their own."""

    def run(self) -> StepResult:
        """Compute, in a worker."""
        return self.compute(self)


def _with_sources(scan: Scan, origins: Mapping[str, tuple[str, str | None, Any]]) -> Scan:
    """The scan, saying of which layers its arrays are, and how those were made."""
    sources = {}
    for name, (layer, path, record) in origins.items():
        file = {"file": path} if path else {}
        made = {"record": record} if record else {}
        sources[name] = {"layer": layer, **file, **describe_array(getattr(scan, name)), **made}
    return dataclasses.replace(scan, sources=sources)
