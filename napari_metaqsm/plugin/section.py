"""One step of the dock: a header that folds, a run button, and a line that says how it stands."""

from __future__ import annotations

from enum import Enum

from napari.components import ViewerModel
from napari.utils.theme import get_theme
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)


class State(Enum):
    """How a step stands, with the sign that it is shown by."""

    MISSING = "○"
    READY = "●"
    RUNNING = "…"
    DONE = "✓"
    FAILED = "✗"


# What the engine's messages call by their Python names, and the window does not.
_WORDS = {
    "echo_times_s is": "echo times (in seconds): ",
    "b0_tesla is": "field strength (T):",
    "b0_direction is": "B0 direction:",
    "phase_pi is": "stored value of π:",
}


def in_words(text: str) -> str:
    """A message as the window says it, beginning with a capital, unless with a file's name or a symbol."""
    for name, words in _WORDS.items():
        text = text.replace(name, words)
    first = text.partition(" ")[0]
    return text[:1].upper() + text[1:] if first.strip(":").isalpha() and first.isascii() else text


class Section(QWidget):
    """A foldable part of the dock.

    Parameters
    ----------
    run_text : of the button in the header; no button where it is empty
    """

    run_requested = Signal()

    def __init__(self, viewer: ViewerModel, title: str, run_text: str = "Run", folded: bool = False) -> None:
        super().__init__()
        self.viewer = viewer
        self.title = title
        self.state = State.MISSING
        self._noted = False
        self.header = QToolButton()
        self.header.setText(title)
        self.header.setCheckable(True)
        self.header.setAutoRaise(True)
        self.header.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.header.toggled.connect(self._fold)
        font = self.header.font()
        font.setBold(True)
        self.header.setFont(font)
        self.run_button = QPushButton(run_text)
        self.run_button.setVisible(bool(run_text))
        self.run_button.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self.run_button.setToolTip(f"Run this step alone: {title}")
        self.run_button.clicked.connect(self.run_requested)
        self.status = QLabel()
        self.status.setWordWrap(True)
        self.status.setTextFormat(Qt.TextFormat.PlainText)
        self.status.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        content = QWidget()
        self.body = QVBoxLayout(content)
        self.body.setContentsMargins(14, 2, 0, 4)
        self._content = content
        row = QHBoxLayout()
        row.addWidget(self.header)
        row.addStretch(1)
        row.addWidget(self.run_button)
        line = QFrame()
        line.setFrameShape(QFrame.Shape.HLine)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        layout.addLayout(row)
        layout.addWidget(self.status)
        layout.addWidget(content)
        layout.addWidget(line)
        self.header.setChecked(not folded)
        self._fold(not folded)

    def set_state(self, state: State, text: str, details: str = "", noted: bool = False) -> None:
        """Show how the step stands, in plain words; ``details`` appear on hovering.

        ``noted`` says that a result is to be read with care.
        """
        self.state = state
        self._noted = noted
        self.status.setText(f"{state.value}  {in_words(text)}")
        self.status.setToolTip(details)
        self._colour_status()

    def fail(self, text: str, details: str = "") -> None:
        """Show what went wrong, and unfold, so that it can be mended."""
        self.set_state(State.FAILED, text, details)
        self.header.setChecked(True)

    def show_theme(self) -> None:
        """Take the colours of the viewer's theme."""
        self._colour_status()

    def _colour_status(self) -> None:
        # Text in the theme's red is hard to read on its dark background; a red edge is not.
        theme = get_theme(self.viewer.theme)
        failed = self.state is State.FAILED
        colour = (theme.error if failed else theme.warning).as_hex()
        edge = f"border-left: 4px solid {colour}; padding-left: 6px"
        bold = "; font-weight: bold" if failed else ""
        self.status.setStyleSheet(edge + bold if failed or self._noted else "")

    def _fold(self, unfolded: bool) -> None:
        self.header.setArrowType(Qt.ArrowType.DownArrow if unfolded else Qt.ArrowType.RightArrow)
        self._content.setVisible(unfolded)
