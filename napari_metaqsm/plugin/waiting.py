"""Wait for a worker where napari wants an answer at once, as of a reader; the window stays alive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QEventLoop, Qt, QThread, QTimer
from qtpy.QtWidgets import QApplication, QProgressDialog

from napari_metaqsm.errors import Cancelled
from napari_metaqsm.plugin.worker import start

# What is done within this needs no dialog, which would only flash.
PAUSE_MS = 500
_DIALOG_WIDTH = 420


def wait_for(function: Callable[..., Any], *args: Any, title: str) -> Any:
    """What ``function(*args)`` returns, computed in a worker, with a dialog of its progress and "Cancel".

    Without an application, or in another thread than the window's, it is computed at once.

    Raises
    ------
    Cancelled
        When the user cancelled it; else whatever the function raises.
    """
    application = QApplication.instance()
    if application is None or QThread.currentThread() is not application.thread():
        return function(*args)
    made: list[Any] = []
    errors: list[Exception] = []
    ended: list[bool] = []
    waiting = QEventLoop()
    dialog = _dialog(title)

    def show(fraction: float, text: str) -> None:
        dialog.setValue(round(1000 * fraction))
        dialog.setLabelText(f"{title}\n{text}")

    def end() -> None:
        ended.append(True)
        waiting.quit()

    worker = start(
        function, *args, progressed=show, returned=made.append, errored=errors.append, finished=end
    )
    dialog.canceled.connect(worker.quit)
    QTimer.singleShot(PAUSE_MS, waiting.quit)
    # Nothing may be clicked meanwhile: napari is in the middle of opening files.
    waiting.exec(QEventLoop.ProcessEventsFlag.ExcludeUserInputEvents)
    if not ended:
        dialog.show()
        waiting.exec()
    dialog.canceled.disconnect()  # closing it is no "Cancel" now
    # Closed, not hidden: where napari's window was closed meanwhile, it is the last one, which ends napari.
    dialog.close()
    dialog.deleteLater()
    if errors:
        raise errors[0]
    if not made:
        raise Cancelled
    return made[0]


def _dialog(title: str) -> QProgressDialog:
    dialog = QProgressDialog(title, "Cancel", 0, 1000, QApplication.activeWindow())
    dialog.setWindowTitle("Meta-QSM")
    dialog.setWindowModality(Qt.WindowModality.ApplicationModal)
    dialog.setMinimumWidth(_DIALOG_WIDTH)
    dialog.setMinimumDuration(10**8)  # it is shown by hand, not by Qt's guess of how long it will take
    dialog.setAutoClose(False)
    dialog.setAutoReset(False)
    dialog.canceled.disconnect(dialog.cancel)  # it would hide before the work has ended
    return dialog
