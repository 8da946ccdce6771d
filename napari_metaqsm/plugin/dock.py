"""What the docks share: they let go of the viewer when closed, scroll, and show progress at the foot."""

from __future__ import annotations

from collections.abc import Iterable

from qtpy.QtCore import QCoreApplication, QEvent, QObject, QSize, Qt
from qtpy.QtGui import QCloseEvent, QShowEvent
from qtpy.QtWidgets import (
    QComboBox,
    QFrame,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from napari_metaqsm.device import usable_devices
from napari_metaqsm.plugin.editors import narrow


class Dock(QWidget):
    """A widget for a narrow dock, which calls :meth:`let_go` once, when the dock or the window is closed."""

    def __init__(self) -> None:
        super().__init__()
        self._was_docked = False
        self._released = False
        self._window: QWidget | None = None
        self._window_closes = False

    def release(self) -> None:
        """Let go of the viewer: stop the work, disconnect every event."""
        if not self._released:
            self._released = True
            if self._window is not None:
                self._window.removeEventFilter(self)
                self._window = None
            self.let_go()

    def let_go(self) -> None:
        """What a dock does when it is closed."""
        raise NotImplementedError

    def closeEvent(self, event: QCloseEvent) -> None:
        """Closing the dock ends its work."""
        self.release()
        super().closeEvent(event)

    def showEvent(self, event: QShowEvent) -> None:
        """Watch the window, which takes its docks along without closing them."""
        super().showEvent(event)
        window: QWidget = self
        while window.parentWidget() is not None:
            window = window.parentWidget()
        if window not in (self, self._window) and not self._released:
            self._window = window
            window.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Closing the window ends the work as well; asked to confirm it, the user may have thought better."""
        if self._window is not None and watched == self._window:
            if event.type() == QEvent.Type.Close:
                self._window_closes = True
            elif event.type() == QEvent.Type.Hide and self._window_closes:
                self.release()
        return False

    def changeEvent(self, event: QEvent) -> None:
        """napari takes a dock's widget out of its parent when the dock is closed, without closing it."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.ParentChange:
            if self.parent() is not None:
                self._was_docked = True
            elif self._was_docked:
                self.release()

    def sizeHint(self) -> QSize:
        """As wide as a form reads well; the height is the window's."""
        return QSize(385, 640)


def scrolling(parts: Iterable[QWidget]) -> QScrollArea:
    """The parts from top to bottom, scrolled where the window is too low for them."""
    column = QWidget()
    stack = QVBoxLayout(column)
    stack.setContentsMargins(4, 4, 8, 4)
    stack.setSpacing(4)
    for part in parts:
        stack.addWidget(part)
    stack.addStretch(1)
    scroll = QScrollArea()
    scroll.setWidget(column)
    scroll.setWidgetResizable(True)
    scroll.setFrameShape(QFrame.Shape.NoFrame)
    scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    return scroll


def scroll_to(widget: QWidget) -> None:
    """Bring a widget that has just changed into sight, where it stands in a scrolled column."""
    area: QWidget | None = widget
    while area is not None and not isinstance(area, QScrollArea):
        area = area.parentWidget()
    if area is not None and widget.isVisible():
        # How high it is now is known once the layouts have been made anew.
        QCoreApplication.sendPostedEvents(None, QEvent.Type.LayoutRequest)
        area.ensureWidgetVisible(widget)


def status_label() -> QLabel:
    """An empty label for sentences: they wrap, are no markup, and can be copied."""
    label = QLabel()
    label.setWordWrap(True)
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return label


class WorkingDock(Dock):
    """A dock that computes: sections, and at its foot buttons, where it is computed, and how far that is."""

    def lay_out(self, sections: Iterable[QWidget], cancel_tip: str, *buttons: QPushButton) -> None:
        """Put the sections above ``buttons``, a button to cancel, devices and progress."""
        self.scroll = scrolling(sections)
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.setToolTip(cancel_tip)
        self.cancel_button.clicked.connect(self.cancel)
        self.device = QComboBox()
        self.device.setToolTip("Where it is computed")
        for name, title in usable_devices().items():
            self.device.addItem(title, name)
        narrow(self.device)
        self.device.setVisible(self.device.count() > 2)
        self.progress_label = QLabel()
        self.progress_label.setWordWrap(True)
        self.progress = QProgressBar()
        self.progress.setRange(0, 1000)
        row = QHBoxLayout()
        for button in buttons:
            row.addWidget(button, 2)
        row.addWidget(self.cancel_button, 1)
        row.addWidget(self.device)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.addWidget(self.scroll, 1)
        layout.addLayout(row)
        layout.addWidget(self.progress_label)
        layout.addWidget(self.progress)
        self.setMinimumWidth(340)

    def cancel(self) -> None:
        """Stop what is running, at its next step."""
        raise NotImplementedError
