"""A process that ends while a worker is under way; run by test_window_faults with what ends it.

``exit`` without an event loop, or ``dialog``: its window is closed while it waits, and then the wait is
cancelled.
"""

import sys
import threading

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication, QProgressDialog, QWidget

from napari_metaqsm.errors import Cancelled
from napari_metaqsm.method import steps
from napari_metaqsm.plugin import waiting
from napari_metaqsm.plugin.worker import start

BEGAN = threading.Event()


def work() -> None:
    """Go on until it is stopped."""
    for _ in steps(10**12, "working"):
        BEGAN.set()


def leave_without_a_loop() -> None:
    """End the interpreter while the worker works."""

    def ignore(*_: object) -> None: ...

    start(work, progressed=ignore, returned=ignore, errored=ignore, finished=ignore)
    assert BEGAN.wait(60)
    sys.exit(3)


def close_while_waiting(app: QApplication) -> None:
    """Close the window below the dialog, then cancel in the dialog; no window is left then."""
    waiting.PAUSE_MS = 0
    window = QWidget()
    window.show()
    steps_taken = []

    def look() -> None:
        dialogs = [w for w in app.topLevelWidgets() if isinstance(w, QProgressDialog) and w.isVisible()]
        if window.isVisible() and dialogs:
            window.close()
            steps_taken.append("closed")
        elif dialogs and BEGAN.is_set():
            steps_taken.append("cancelled")
            dialogs[0].canceled.emit()

    def wait() -> None:
        try:
            waiting.wait_for(work, title="Opening")
        except Cancelled:
            timer.stop()

    timer = QTimer()
    timer.timeout.connect(look)
    timer.start(50)
    QTimer.singleShot(0, wait)
    app.exec()
    print(*dict.fromkeys(steps_taken))


if __name__ == "__main__":
    application = QApplication([])
    if sys.argv[1] == "exit":
        leave_without_a_loop()
    close_while_waiting(application)
