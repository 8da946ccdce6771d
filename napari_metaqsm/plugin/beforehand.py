"""What is found out of methods before they run: whether they can take the scan, and how long they take.

Both are found in a worker while nothing else runs, one thing at a time; a run that starts comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from qtpy.QtCore import QObject, QTimer, Signal

from napari_metaqsm.errors import InputError
from napari_metaqsm.method import Method
from napari_metaqsm.pipeline import Step
from napari_metaqsm.plugin.worker import CancellableWorker, start
from napari_metaqsm.scan import Geometry
from napari_metaqsm.timing import Timed, Times, measure, times_file

# After the last change of what is asked: a check costs little, a measurement all processors for seconds.
CHECK_PAUSE_MS = 200
MEASURE_PAUSE_MS = 4000


class Beforehand(QObject):
    """Answers to what the inversion section asks, as far as they are known by now.

    Parameters
    ----------
    parent : with which it ends
    idle : whether nothing runs in the window, and the section is being looked at
    """

    # There is a further answer.
    found = Signal()

    def __init__(self, parent: QObject, idle: Callable[[], bool]) -> None:
        super().__init__(parent)
        self._released = False
        self.times = Times(times_file())
        self._idle = idle
        self._refusals: dict[tuple[Step, Geometry], str] = {}
        self._unmeasurable: dict[tuple[str, Geometry | None, str], str] = {}
        self._asked: tuple[Sequence[Step], Sequence[Method], Geometry | None, str] = ((), (), None, "auto")
        self._worker: CancellableWorker | None = None
        self._measured: Method | None = None
        self._checking = _timer(self, self._check)
        self._measuring = _timer(self, self._measure)

    # -------------------------------------------------------------------------- what is known
    def refusal(self, step: Step, geometry: Geometry) -> str:
        """Why a step cannot take such a scan; empty where it can, or where that is not known yet."""
        return self._refusals.get((step, geometry), "")

    def seconds(self, method: Method, voxels: int, device: str) -> float | None:
        """How long a method would take with its defaults; None where it has not been measured."""
        return self.times.estimate(method, voxels, device)

    def unmeasurable(self, method: Method, geometry: Geometry, device: str) -> str:
        """Why a method could not be measured on such a scan; empty where it could, or was not yet."""
        return self._unmeasurable.get((method.name, geometry, device), "")

    @property
    def measured(self) -> Method | None:
        """The method that is being measured now."""
        return self._measured

    # -------------------------------------------------------------------------- what is asked
    def ask(
        self, steps: Sequence[Step], listed: Sequence[Method], geometry: Geometry | None, device: str
    ) -> None:
        """Find out soon whether ``steps`` can run, and later how long those ``listed`` take."""
        if self._released:
            return
        asked = (tuple(steps), tuple(listed), geometry, device)
        if asked != self._asked:
            self._asked = asked
            self._refusals = {key: text for key, text in self._refusals.items() if key[0] in asked[0]}
            self._checking.start(CHECK_PAUSE_MS)
        self._measuring.start(MEASURE_PAUSE_MS)

    def learn(self, method: Method, record: Mapping[str, Any], voxels: int) -> None:
        """A run of a method with its defaults is done."""
        self.times.learn(method, Timed(voxels, record["seconds"], record["device"]))

    def stand_back(self) -> None:
        """A run starts: what is being found out waits."""
        self._checking.stop()
        self._measuring.stop()
        self._refusals.clear()
        if self._worker is not None:
            self._worker.quit()

    def release(self) -> None:
        """Nothing is asked any more."""
        self._released = True
        self.stand_back()

    def _check(self) -> None:
        steps, _, geometry, _ = self._asked
        unknown = [s for s in steps if s.entry.check is not None and (s, geometry) not in self._refusals]
        if geometry is None or not unknown:
            return
        if self._worker is not None or not self._idle():
            self._checking.start(CHECK_PAUSE_MS)
            return

        def keep(refusals: dict[tuple[Step, Geometry], str] | None) -> None:
            if refusals:
                self._refusals.update(refusals)
                self.found.emit()

        self._start(lambda: {(step, geometry): _refusal(step, geometry) for step in unknown}, keep)

    def _measure(self) -> None:
        _, listed, geometry, device = self._asked
        unknown = [
            method
            for method in listed
            if not self.unmeasurable(method, geometry, device) and self.seconds(method, 1000, device) is None
        ]
        if geometry is None or not unknown:
            return
        if self._worker is not None or not self._idle():
            self._measuring.start(MEASURE_PAUSE_MS)
            return
        method = self._measured = unknown[0]

        def keep(runs: list[Timed] | None) -> None:
            if runs:
                self.times.learn(method, *runs)

        self._start(lambda: measure(method, geometry, device), keep)
        self.found.emit()

    def _start(self, find: Callable[[], Any], keep: Callable[[Any], None]) -> None:
        self._worker = start(
            find,
            progressed=lambda fraction, text: None,
            returned=keep,
            errored=self._give_up,
            finished=self._go_on,
        )

    def _give_up(self, error: Exception) -> None:
        # Not tried again: a method for another voxel size, say, will not take any scan like this one.
        if self._measured is not None:
            _, _, geometry, device = self._asked
            self._unmeasurable[self._measured.name, geometry, device] = str(error)

    def _go_on(self) -> None:
        measured, self._measured, self._worker = self._measured, None, None
        if measured is not None and not self._released:
            self.found.emit()
            # The next one at once, unless this one was interrupted.
            self._measuring.start(CHECK_PAUSE_MS if self._idle() else MEASURE_PAUSE_MS)


def _refusal(step: Step, geometry: Geometry) -> str:
    try:
        step.entry.check(geometry, step.parameters)
    except InputError as error:
        return str(error)
    return ""


def _timer(parent: QObject, then: Callable[[], None]) -> QTimer:
    timer = QTimer(parent)
    timer.setSingleShot(True)
    timer.timeout.connect(then)
    return timer
