"""Work beside the window: a worker that can be cancelled, with progress, whose errors arrive.

A function worker, not a generator: the generator kind of napari swallows every ``RuntimeError``, and
being out of GPU memory is one.
"""

from __future__ import annotations

import atexit
import time
from collections.abc import Callable
from typing import Any

from napari.qt.threading import FunctionWorker, create_worker
from qtpy.QtCore import QObject, QThreadPool, Signal

from napari_metaqsm.errors import Cancelled, InputError, computer_fault
from napari_metaqsm.method import running

# A report costs the window a repaint; a loop may report a thousand times a second.
SHORTEST_REPORT_INTERVAL_S = 0.05


class _Progress(QObject):
    progressed = Signal(float, str)
    # Points of curves of convergence: a list of (curve, number of the point, value).
    plotted = Signal(object)


class CancellableWorker(FunctionWorker):
    """Calls a function in another thread, with ``steps``, ``announce`` and ``point`` reporting to the window.

    ``progress.progressed`` carries the fraction done and what is being done, ``progress.plotted`` the points
    of curves of convergence, several at a time, all of them before the function ends. After ``quit()`` the
    function ends at its next step with :class:`Cancelled`; then ``finished`` fires and ``returned``
    does not. Any error reaches ``errored``, then ``finished`` fires too.
    """

    def __init__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self.progress = _Progress()
        # Whether the function ended before its end; after quit() it may also have been done by then.
        self.was_stopped = False
        self._last_report = (0.0, "")
        self._points: list[tuple[str, int, float]] = []
        self._last_plot = 0.0
        super().__init__(function, *args, **kwargs)

    def start(self) -> None:
        """Start at once.

        The inherited one waits for a turn of the event loop. A window that is closed before it waits for
        no such worker, which then runs into an interpreter that ends.
        """
        self._worker_set.add(self)
        self._finished.connect(self._set_discard)
        QThreadPool.globalInstance().start(self)

    def work(self) -> Any:
        """What the function returns, or None once it is cancelled."""
        try:
            with running(self._report, lambda: self.abort_requested, self._plot):
                return super().work()
        except Cancelled:
            self.was_stopped = True
            return None
        finally:
            self._send_points()

    def _report(self, fraction: float, text: str) -> None:
        now = time.monotonic()
        if self._points and now - self._last_plot >= SHORTEST_REPORT_INTERVAL_S:
            self._send_points()
        last, last_text = self._last_report
        text_alone = text.partition(", ")[0]  # without the newest point of a curve, which always differs
        if text_alone != last_text or now - last >= SHORTEST_REPORT_INTERVAL_S:
            self._last_report = (now, text_alone)
            self.progress.progressed.emit(fraction, text)

    def _plot(self, curve: str, index: int, value: float) -> None:
        self._points.append((curve, index, value))
        if time.monotonic() - self._last_plot >= SHORTEST_REPORT_INTERVAL_S:
            self._send_points()

    def _send_points(self) -> None:
        points, self._points = self._points, []
        self._last_plot = time.monotonic()
        if points:
            self.progress.plotted.emit(points)


# A window that closes waits for its workers. Where an interpreter ends without that (no window, an error
# or exit before the event loop runs), a worker that goes on would take it down.
atexit.register(CancellableWorker.await_workers)


class _Once:
    """A call that is made once and holds nothing afterwards.

    napari keeps every worker that was started, with its function, until the window closes: a volume in its
    arguments would stay in memory for as long.
    """

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._call = [(function, args)]

    def __call__(self) -> Any:
        function, args = self._call.pop()
        return function(*args)


def start(
    function: Callable[..., Any],
    *args: Any,
    progressed: Callable[[float, str], None],
    returned: Callable[[Any], None],
    errored: Callable[[Exception], None],
    finished: Callable[[], None],
    plotted: Callable[[list[tuple[str, int, float]]], None] | None = None,
) -> CancellableWorker:
    """Start ``function(*args)`` in a worker; the callbacks run in the window's thread.

    ``plotted`` takes points of curves of convergence: the curve's name, the point's number, its value.
    ``finished`` is called last and always, after ``returned``, ``errored`` or neither (cancelled).
    """
    worker = create_worker(
        _Once(function, args),
        _worker_class=CancellableWorker,
        _ignore_errors=True,  # else napari shows the traceback as well; the caller shows the message
        _start_thread=False,
    )
    worker.progress.progressed.connect(progressed)
    if plotted is not None:
        worker.progress.plotted.connect(plotted)

    takers = [returned]

    def deliver(result: Any) -> None:
        # It may have been on its way to the window when the user stopped the work.
        if not worker.abort_requested:
            takers[0](result)

    worker.returned.connect(deliver)
    worker.errored.connect(errored)
    worker.finished.connect(finished)
    worker.finished.connect(lambda: takers.clear())  # or a worker that is kept would keep its taker
    worker.start()
    return worker


def plain_words(error: Exception) -> str:
    """What went wrong, as the window says it."""
    if isinstance(error, InputError):
        return str(error)
    unexpected = f"this step failed unexpectedly ({type(error).__name__}: {error}); hover here for details"
    return computer_fault(error) or unexpected
