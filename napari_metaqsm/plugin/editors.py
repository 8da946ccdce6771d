"""Editors of single parameters: magicgui's, and our own where those fall short.

Real numbers: magicgui's spin box has a fixed number of decimals, and a tolerance of 1e-6 beside a radius
of 6 needs one that has not. Sliders, whose ends have names. Files, which can be none.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from magicgui.widgets import create_widget
from qtpy.QtCore import QEvent, QLocale, QObject, Qt
from qtpy.QtGui import QValidator
from qtpy.QtWidgets import (
    QDoubleSpinBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QSizePolicy,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from napari_metaqsm.method import ParameterInfo

_LARGEST_INT = 2**31 - 1
_LARGEST_FLOAT = 1e12
# Of a range from -1 to 1, each is 0.05.
SLIDER_STEPS = 40
# Of a button with a single sign on it.
BUTTON_WIDTH = 30


class NumberBox(QDoubleSpinBox):
    """A spin box that shows 1e-06 as such and steps by a tenth of the value's own size."""

    def __init__(self, low: float | None, high: float | None, default: float) -> None:
        super().__init__()
        self._low = -_LARGEST_FLOAT if low is None else low
        self._high = _LARGEST_FLOAT if high is None else high
        self._default = default
        self.setLocale(QLocale.c())
        self.setDecimals(12)
        self.setRange(self._low, self._high)
        self.setKeyboardTracking(False)
        narrow(self)

    def number(self) -> float:
        """The value. Qt rounds to its decimals, so ends and default (2/3) are taken as declared."""
        if math.isclose(self.value(), self._default, rel_tol=1e-9, abs_tol=1e-12):
            return self._default
        return min(max(self.value(), self._low), self._high)

    def textFromValue(self, value: float) -> str:
        """The shortest text of six digits."""
        return f"{value:.6g}"

    def valueFromText(self, text: str) -> float:
        """The number in ``text``, its unit left out."""
        return float(self._bare(text))

    def validate(self, text: str, position: int) -> tuple[QValidator.State, str, int]:
        """Anything that is, or may become, a number in range."""
        try:
            inside = self._low <= float(self._bare(text)) <= self._high
        except ValueError:
            typing = set(self._bare(text)) <= set("0123456789.+-eE")
            state = QValidator.State.Intermediate if typing else QValidator.State.Invalid
            return state, text, position
        return (QValidator.State.Acceptable if inside else QValidator.State.Intermediate), text, position

    def stepBy(self, steps: int) -> None:
        """One step changes the second digit."""
        size = 10.0 ** math.floor(math.log10(abs(self.value()) or abs(self._default) or 1.0))
        self.setValue(self.value() + steps * size / 10)

    def _bare(self, text: str) -> str:
        return text.removesuffix(self.suffix()).strip()


class NumberEditor:
    """A :class:`NumberBox` with the face of magicgui's editors: ``native``, ``value``, ``changed``."""

    def __init__(self, info: ParameterInfo) -> None:
        self.native = NumberBox(info.low, info.high, info.default)
        self.native.setValue(info.default)
        if info.unit:
            self.native.setSuffix(f" {info.unit}")
        self.changed = self.native.valueChanged

    @property
    def value(self) -> float:
        """The number."""
        return self.native.number()

    @value.setter
    def value(self, value: float) -> None:
        self.native.setValue(value)


class SliderEditor:
    """A slider between two words, its value between them; it has the face of magicgui's editors."""

    def __init__(self, info: ParameterInfo) -> None:
        self._info = info
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, SLIDER_STEPS)
        self.slider.setPageStep(SLIDER_STEPS // 8)
        self._number = QLabel()
        words = QHBoxLayout()
        words.addWidget(QLabel(info.slider[0]))
        words.addWidget(self._number, 1, Qt.AlignmentFlag.AlignHCenter)
        words.addWidget(QLabel(info.slider[1]))
        self.native = QWidget()
        self.native.setFocusProxy(self.slider)
        column = QVBoxLayout(self.native)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.slider)
        column.addLayout(words)
        self.changed = self.slider.valueChanged
        self.changed.connect(self._show)
        self.value = info.default
        self._show()

    @property
    def value(self) -> float:
        """The number; where the default lies between two steps, the nearer one stands for it."""
        step = self.slider.value()
        if step == self._step(self._info.default):
            return self._info.default
        low, high = self._info.low, self._info.high
        return round(low + (high - low) * step / SLIDER_STEPS, 10)

    @value.setter
    def value(self, value: float) -> None:
        self.slider.setValue(self._step(value))

    def _step(self, value: float) -> int:
        return round((value - self._info.low) / (self._info.high - self._info.low) * SLIDER_STEPS)

    def _show(self) -> None:
        self._number.setText(f"{self.value:g} {self._info.unit}".strip())


class FileEditor:
    """The path of a file, to choose or to type; empty is the shipped one. Faced like magicgui's editors."""

    def __init__(self, info: ParameterInfo) -> None:
        self._pattern = info.file
        self.line = QLineEdit(info.default)
        self.line.setPlaceholderText("as shipped")
        self.choose_button = QPushButton("…")
        self.choose_button.setToolTip(f"Choose a file: {info.file}")
        self.clear_button = QPushButton("×")
        self.clear_button.setToolTip("Back to the file that is shipped")
        self.native = QWidget()
        self.native.setFocusProxy(self.line)
        row = QHBoxLayout(self.native)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(2)
        row.addWidget(self.line)
        for button in (self.choose_button, self.clear_button):
            button.setFixedWidth(BUTTON_WIDTH)
            row.addWidget(button)
        self.choose_button.clicked.connect(self._choose)
        self.clear_button.clicked.connect(self.line.clear)
        self.changed = self.line.textChanged
        self.changed.connect(self._show)
        self._show()

    @property
    def value(self) -> str:
        """The path, or empty text."""
        return self.line.text().strip()

    @value.setter
    def value(self, value: str) -> None:
        self.line.setText(value)  # leaves the cursor, and so what is seen, at the file's name

    def _choose(self) -> None:
        folder = str(Path(self.value).parent) if self.value else ""
        path, _ = QFileDialog.getOpenFileName(self.native, "Choose a file", folder, f"{self._pattern}")
        if path:
            self.value = path

    def _show(self) -> None:
        self.clear_button.setEnabled(bool(self.value))
        self.line.setToolTip(self.value)


def make_editor(info: ParameterInfo) -> Any:
    """An editor for a parameter, set to its default: ``native``, ``value`` and ``changed``."""
    if info.slider:
        return SliderEditor(info)
    if info.file:
        return FileEditor(info)
    if info.type is float:
        return NumberEditor(info)
    if info.choices is not None:
        return create_widget(value=info.default, options={"choices": info.choices})
    if info.type is int:
        low = -_LARGEST_INT if info.low is None else math.ceil(info.low)
        high = _LARGEST_INT if info.high is None else math.floor(info.high)
        return create_widget(value=info.default, annotation=int, options={"min": low, "max": high})
    if info.type is bool:
        return create_widget(value=info.default, annotation=bool)
    raise TypeError(f"{info.name} is a {info.type.__name__}; the form knows bool, choices, int and float")


def narrow(editor: QWidget) -> None:
    """Let an editor be as narrow as the dock asks: Qt would make room for its longest entry."""
    editor.setMinimumWidth(60)
    editor.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)


def keep_wheel_for_scrolling(editor: QWidget) -> None:
    """Turning the wheel over an editor scrolls the dock, unless the editor was clicked."""
    editor = editor.focusProxy() or editor
    editor.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    editor.installEventFilter(_WheelFilter(editor))


class _WheelFilter(QObject):
    def eventFilter(self, editor: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Wheel and not editor.hasFocus():
            event.ignore()
            return True
        return False
