"""The first section: which layers are the scan, how it was acquired, and what was decided of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from napari.components import ViewerModel
from napari.layers import Layer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QFileDialog, QFormLayout, QLineEdit, QMenu, QPushButton

from napari_metaqsm.errors import InputError
from napari_metaqsm.plugin.by_hand import set_by_hand
from napari_metaqsm.plugin.decided import Decided, layers_of_run, tell_anew
from napari_metaqsm.plugin.editors import keep_wheel_for_scrolling, narrow
from napari_metaqsm.plugin.layer_choice import SERIES, LayerChoice
from napari_metaqsm.plugin.layers import LayerDataTuple, direction_note, geometry_of, metadata_of
from napari_metaqsm.plugin.read_otherwise import ReadOtherwise
from napari_metaqsm.plugin.readers import OPENED_FROM, read_layers, read_run_again
from napari_metaqsm.plugin.section import Section, State
from napari_metaqsm.plugin.worker import CancellableWorker, plain_words, start
from napari_metaqsm.scan import LONGEST_ECHO_TIME_S, SHORTEST_ECHO_TIME_S, Acquisition, Geometry

_SIGNS = {1: "+  as usual", -1: "−  inverted (GE)"}
# Scanners and archives often write DICOM without an ending.
_FILES = "DICOM and NIfTI (*.dcm *.ima *.DCM *.IMA *.nii *.nii.gz);;All files (*)"
_WITHOUT_PHASE = ". Without phase, begin further down, with a field map or a local field."


class ScanSection(Section):
    """Phase, magnitude, echo times, field strength, sign, B0; filled from the layers, editable."""

    changed = Signal()

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__(viewer, "1  Scan", run_text="Open")
        # napari opens several files one by one; only together can echoes, phase and magnitude be paired.
        self.run_button.setToolTip("Open the DICOM or NIfTI files of a scan together, or a folder of them")
        menu = QMenu(self.run_button)
        menu.addAction("Files …", self._choose_files)
        menu.addAction("Folder …", self._choose_folder)
        self.run_button.setMenu(menu)
        self.phase = LayerChoice(viewer, ("phase",))
        self.magnitude = LayerChoice(viewer, ("magnitude",))
        self.choices: dict[str, LayerChoice] = {"phase": self.phase, "magnitude": self.magnitude}
        self.echo_times_ms = _line("one per echo, e.g. 4, 8, 12", "Echo times in ms, one per echo, ascending")
        self.b0_tesla = _line("e.g. 3", "Field strength in tesla")
        self.sign = QComboBox()
        for text in _SIGNS.values():
            self.sign.addItem(text)
        self.sign.setToolTip(
            "Whether the stored phase grows with a paramagnetic field. GE inverts it. If veins and deep "
            "gray matter come out dark, it is the other sign."
        )
        keep_wheel_for_scrolling(self.sign)
        self.phase_pi = _line(
            "auto", "The stored value that means π; empty recognises radians and the ranges of the vendors"
        )
        narrow(self.sign)
        self.b0_direction = _line(
            "e.g. 1, 0, 0",
            "Direction of B0 along the layers' z, y and x axes; neither length nor sense matter",
        )
        self._loose: list[Layer] = []
        self._opening: CancellableWorker | None = None
        self._released = False
        self.stop_button = QPushButton("Cancel")
        self.stop_button.setToolTip("Stop reading; the layers stay as they are")
        self.stop_button.clicked.connect(self.stop_opening)
        self.stop_button.setVisible(False)
        self.body.addWidget(self.stop_button)
        self.pair_button = QPushButton()
        self.pair_button.setToolTip("Replace layers of single echoes by one of phase and one of magnitude")
        self.pair_button.clicked.connect(self.pair)
        self.body.addWidget(self.pair_button)
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Phase", self.phase)
        form.addRow("Magnitude", self.magnitude)
        form.addRow("Echo times (ms)", self.echo_times_ms)
        form.addRow("Field strength (T)", self.b0_tesla)
        form.addRow("Phase sign", self.sign)
        form.addRow("Stored value of π", self.phase_pi)
        form.addRow("B0 along z, y, x", self.b0_direction)
        self.body.addLayout(form)
        self.otherwise = ReadOtherwise(form)
        self.otherwise.asked.connect(self.read_again)
        self.decided = Decided()
        self.decided.chosen.connect(self.choose_run)
        self.body.addWidget(self.decided)
        self._shown: Layer | None = None
        self._direction_edited = False
        for choice in self.choices.values():
            choice.changed.connect(self._on_layers)
        for line in (self.echo_times_ms, self.b0_tesla, self.phase_pi):
            line.textChanged.connect(self._on_edited)
        self.sign.currentIndexChanged.connect(self._on_edited)
        self.b0_direction.textEdited.connect(self._on_direction)
        self.offer_pairing()
        self._on_layers()

    # ------------------------------------------------------------------------------- opening
    def open(self, paths: Sequence[str], instead_of: Sequence[Layer] = ()) -> None:
        """Read files or folders in a worker, and add their layers, paired and named."""
        self._read(lambda layers: self._add(layers, instead_of), read_layers, list(paths))

    def read_again(self, given: Mapping[str, bool]) -> None:
        """Read the DICOM of the run that is used again, otherwise than was decided, in place of its layers.

        What was entered here stays, but for the echo times, which may be others now.
        """
        used = self._shown
        dicom = metadata_of(used)["dicom"]
        replaced = list(layers_of_run(self.viewer, dicom["run"], beside=used).values())

        def show(layers: Sequence[LayerDataTuple]) -> None:
            entered = self._entered(used)
            self._add(layers, replaced)
            tell_anew(self.viewer, dicom["runs"], layers[0][1]["metadata"]["metaqsm"]["dicom"]["runs"])
            self._enter(entered)

        paths = used.metadata[OPENED_FROM]
        self._read(show, read_run_again, paths, dicom["run"], dicom["runs"], given)

    def _read(
        self, take: Callable[[Sequence[LayerDataTuple]], None], read: Callable[..., Any], *args: Any
    ) -> None:
        if self._opening is not None:
            return
        self._opening_failed = ""
        self.run_button.setEnabled(False)
        self.otherwise.set_enabled(False)
        self.stop_button.setVisible(True)
        self.set_state(State.RUNNING, "Reading the scan")

        def take_unless_released(layers: Sequence[LayerDataTuple]) -> None:
            if not self._released:
                take(layers)

        self._opening = start(
            read,
            *args,
            progressed=self._on_opening,
            returned=take_unless_released,
            errored=self._on_open_error,
            finished=self._on_opened,
        )

    def _add(self, layers: Sequence[LayerDataTuple], instead_of: Sequence[Layer]) -> None:
        for layer in instead_of:  # first, for the new ones may have their names
            if layer in self.viewer.layers:
                self.viewer.layers.remove(layer)
        for layer in layers:
            self.viewer.add_layer(Layer.create(*layer))

    def stop_opening(self) -> None:
        """Stop reading, at the next step; no layer is added."""
        if self._opening is not None:
            self._opening.quit()
            self.set_state(State.RUNNING, "Stopping …")

    def release(self) -> None:
        """Stop reading for good."""
        self._released = True
        if self._opening is not None:
            self._opening.quit()

    def choose_run(self, name: str) -> None:
        """Use another run of the DICOM that the scan was opened from, and show it alone."""
        used = self.phase.layer if self.phase.layer is not None else self.magnitude.layer
        layers = layers_of_run(self.viewer, name, beside=used)
        if not layers:
            self.refresh()
            self._say_decided()
            self.fail(f"the layers of {name} were removed; open the folder again")
            return
        for quantity, choice in self.choices.items():
            before, after = choice.layer, layers.get(quantity)
            for layer, visible in ((before, False), (after, True)):
                if layer is not None:
                    layer.visible = visible
            choice.choose(after)

    def offer_pairing(self) -> None:
        """Offer to pair single echoes that were opened as layers of their own, where there are any."""
        echoes = [
            layer
            for layer in self.viewer.layers
            if metadata_of(layer).get("quantity") in SERIES and layer.ndim == 3 and layer.source.path
        ]
        quantities = [metadata_of(layer)["quantity"] for layer in echoes]
        several = any(quantities.count(quantity) > 1 for quantity in SERIES)
        self._loose = echoes if several else []
        self.pair_button.setText(f"Pair {len(echoes)} open files")
        self.pair_button.setVisible(several)

    def pair(self) -> None:
        """Read the files of single echoes again, together, in place of their layers."""
        self.open([layer.source.path for layer in self._loose], instead_of=self._loose)

    def _choose_files(self) -> None:
        paths, _ = QFileDialog.getOpenFileNames(self, "Open a scan", "", _FILES)
        if paths:
            self.open(paths)

    def _choose_folder(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Open the folder of a scan")
        if path:
            self.open([path])

    def _on_opening(self, fraction: float, text: str) -> None:
        if self._opening is not None and not self._opening.abort_requested:
            self.set_state(State.RUNNING, f"Reading the scan, {fraction:.0%}: {text}")

    def _on_open_error(self, error: Exception) -> None:
        self._opening_failed = plain_words(error)

    def _on_opened(self) -> None:
        self._opening = None
        if self._released:
            return
        self.run_button.setEnabled(True)
        self.otherwise.set_enabled(True)
        self.stop_button.setVisible(False)
        self.refresh()
        self._say_decided()
        if self._opening_failed:
            self.fail(self._opening_failed)

    # ------------------------------------------------------------------------- what it tells
    def acquisition(self) -> Acquisition:
        """The acquisition as it stands in the form; what is empty is None.

        Raises
        ------
        InputError
            When an entry cannot be meant.
        """
        times = _numbers("echo times", self.echo_times_ms.text(), "ms")
        # The engine's own message would speak of seconds, which nobody has entered here.
        if any(t > LONGEST_ECHO_TIME_S * 1000 or 0 < t < SHORTEST_ECHO_TIME_S * 1000 for t in times):
            raise InputError(f"echo times are {self.echo_times_ms.text().strip()}; give them in milliseconds")
        return Acquisition(
            tuple(t / 1000 for t in times) or None,
            _number("field strength", self.b0_tesla.text(), "tesla"),
            self._sign_chosen(),
            _number("stored value of π", self.phase_pi.text(), "the units of the phase layer"),
        )

    def _sign_chosen(self) -> int:
        return list(_SIGNS)[self.sign.currentIndex()]

    def geometry(self, layer: Layer) -> Geometry:
        """The geometry of a layer, with B0 as it was edited here, if it was."""
        geometry = geometry_of(layer)
        if not self._direction_edited:
            return geometry
        direction = _numbers("B0 along z, y, x", self.b0_direction.text(), "any unit")
        return dataclasses.replace(geometry, b0_direction=tuple(direction))

    def settings(self) -> tuple[str, ...]:
        """Everything that is entered here, layers apart."""
        lines = (self.echo_times_ms, self.b0_tesla, self.phase_pi, self.b0_direction)
        return (*(line.text() for line in lines), self.sign.currentText())

    def check_complete(self) -> Acquisition:
        """The acquisition of a scan whose phase can be read.

        Raises
        ------
        InputError
            When something is missing or does not fit; the message says exactly what.
        """
        acquisition = self.acquisition()
        missing = self._missing(acquisition)
        if missing:
            raise InputError("missing from the scan: " + ", ".join(missing))
        layer = self.phase.layer
        echoes, times = _echoes(layer), len(acquisition.echo_times_s)
        if echoes != times:
            raise InputError(f"there are {times} echo times for {echoes} echoes of phase; give one for each")
        self.geometry(layer)
        magnitude = self.magnitude.layer
        if magnitude is not None and geometry_of(magnitude).shape != geometry_of(layer).shape:
            raise InputError(
                f"{magnitude.name} is {magnitude.data.shape} voxels, but {layer.name} is {layer.data.shape}; "
                "they must match"
            )
        return acquisition

    def refresh(self) -> None:
        """Say whether the scan is complete, or exactly what it lacks."""
        try:
            missing = self._missing(self.acquisition())
            if missing:
                elsewhere = "" if self.phase.layer is not None else _WITHOUT_PHASE
                self.set_state(State.MISSING, f"Missing: {', '.join(missing)}{elsewhere}")
                return
            acquisition = self.check_complete()
        except InputError as error:
            self.set_state(State.FAILED, str(error))
            return
        echoes = len(acquisition.echo_times_s)
        text = f"Complete: {echoes} echo{'es' if echoes > 1 else ''} at {acquisition.b0_tesla:g} T"
        note = "" if self._direction_edited else direction_note(self.phase.layer)
        self.set_state(State.DONE, f"{text}. Note: {note}" if note else text)

    def _missing(self, acquisition: Acquisition) -> list[str]:
        there = {
            "phase layer": self.phase.layer is not None,
            "echo times": bool(acquisition.echo_times_s),
            "field strength": acquisition.b0_tesla is not None,
        }
        return [name for name, is_there in there.items() if not is_there]

    # --------------------------------------------------------------------------- what it does
    def fill(self, layer: Layer) -> None:
        """Put what a layer knows of its acquisition into the form."""
        acquisition = metadata_of(layer).get("acquisition") or Acquisition()
        times = acquisition.echo_times_s or ()
        self.echo_times_ms.setText(", ".join(f"{t * 1000:.6g}" for t in times))
        self.sign.setCurrentIndex(list(_SIGNS).index(acquisition.phase_sign))
        for line, text in self._texts(acquisition).items():
            line.setText(text)

    def _texts(self, acquisition: Acquisition) -> dict[QLineEdit, str]:
        """What stands in the lines of single numbers, as a layer has them."""
        numbers = {self.b0_tesla: acquisition.b0_tesla, self.phase_pi: acquisition.phase_pi}
        return {line: "" if number is None else f"{number:g}" for line, number in numbers.items()}

    def _entered(self, layer: Layer) -> dict[QLineEdit | QComboBox, Any]:
        """What the user entered in place of what a layer says, but for echo times."""
        read = metadata_of(layer).get("acquisition") or Acquisition()
        entered: dict[QLineEdit | QComboBox, Any] = {
            line: line.text() for line, text in self._texts(read).items() if line.text() != text
        }
        if self._sign_chosen() != read.phase_sign:
            entered[self.sign] = self.sign.currentIndex()
        if self._direction_edited:
            entered[self.b0_direction] = self.b0_direction.text()
        return entered

    def _enter(self, entered: Mapping[QLineEdit | QComboBox, Any]) -> None:
        for widget, value in entered.items():
            if widget is self.sign:
                self.sign.setCurrentIndex(value)
            else:
                widget.setText(value)
        if self.b0_direction in entered:
            self._on_direction()

    def show_direction(self, layer: Layer) -> None:
        """Show where B0 lies in a layer."""
        self._direction_edited = False
        try:
            direction = geometry_of(layer).b0_direction
        except InputError:
            return  # the layer's own line says why it cannot be used
        self.b0_direction.setText(", ".join(f"{round(b, 4) + 0.0:g}" for b in direction))
        self.b0_direction.setCursorPosition(0)

    def _on_layers(self) -> None:
        layer = self.phase.layer
        if layer is None:
            layer = self.magnitude.layer
        if layer is not None and layer != self._shown:
            self.fill(layer)
            self.show_direction(layer)
        self._shown = layer
        self._on_edited()

    def _on_direction(self) -> None:
        self._direction_edited = True
        self._on_edited()

    def _on_edited(self) -> None:
        self.refresh()
        self._say_decided()
        self.changed.emit()

    def _say_decided(self) -> None:
        """Show what was decided of the layers that are chosen, and what the user decided otherwise."""
        layer = self._shown
        self.otherwise.show_layer(layer)
        if layer is None:
            self.decided.show_run(None, ())
            return
        known = metadata_of(layer)
        try:
            by_hand = set_by_hand(known, self.geometry(layer), self.acquisition())
        except InputError:
            by_hand = []  # what cannot be meant is said above
        self.decided.show_run(known.get("dicom"), by_hand)


def _echoes(layer: Layer) -> int:
    return layer.data.shape[0] if layer.ndim == 4 else 1


def _line(placeholder: str, tooltip: str) -> QLineEdit:
    line = QLineEdit()
    line.setPlaceholderText(placeholder)
    line.setToolTip(tooltip)
    return line


def _numbers(name: str, text: str, unit: str) -> Sequence[float]:
    words = text.replace(",", " ").replace(";", " ").split()
    try:
        return [float(word) for word in words]
    except ValueError:
        raise InputError(f"{name}: {text!r} is not understood; write numbers in {unit}") from None


def _number(name: str, text: str, unit: str) -> float | None:
    numbers = _numbers(name, text, unit)
    if len(numbers) > 1:
        raise InputError(f"{name}: {text!r} is not understood; write one number in {unit}")
    return numbers[0] if numbers else None
