"""Forms made from what methods declare of their parameters; no method is named here.

The editors are magicgui's, but for real numbers: its spin box has a fixed number of decimals, and a
tolerance of 1e-6 beside a radius of 6 needs one that has not.
"""

from __future__ import annotations

import math
from typing import Any

from magicgui.widgets import create_widget
from qtpy.QtCore import QEvent, QLocale, QObject, Qt, Signal
from qtpy.QtGui import QValidator
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from napari_metaqsm.method import Method, ParameterInfo, methods, parameter_infos
from napari_metaqsm.pipeline import Step

_LARGEST_INT = 2**31 - 1
_LARGEST_FLOAT = 1e12


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


def _editor(info: ParameterInfo) -> Any:
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


class ParameterForm(QWidget):
    """One editor for each parameter of a parameter class."""

    changed = Signal()

    def __init__(self, parameters: type) -> None:
        super().__init__()
        self._infos = parameter_infos(parameters)
        self._editors = {info.name: self._editor(info) for info in self._infos}
        layout = QFormLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for info in self._infos:
            # Of all editors only a number's can show the unit beside the value.
            unit = f" ({info.unit})" if info.unit and info.type is not float else ""
            label = QLabel(spoken_name(info) + unit)
            label.setToolTip(tooltip(info))
            label.setWordWrap(True)
            layout.addRow(label, self._editors[info.name].native)
        if self._infos:
            self._reset = QPushButton("Defaults")
            self._reset.setToolTip("Set every parameter of this method back to its default")
            self._reset.clicked.connect(self.reset)
            self.changed.connect(self._update_reset)
            layout.addRow("", self._reset)
            self._update_reset()

    def values(self) -> dict[str, Any]:
        """The parameters by name, each of its declared type."""
        return {info.name: self._editors[info.name].value for info in self._infos}

    def set_values(self, **values: Any) -> None:
        """Put these parameters into the form."""
        for name, value in values.items():
            self._editors[name].value = value

    def reset(self) -> None:
        """Set every parameter back to its default."""
        self.set_values(**{info.name: info.default for info in self._infos})

    def changes(self) -> dict[str, Any]:
        """The parameters that differ from their defaults."""
        values = self.values()
        return {i.name: values[i.name] for i in self._infos if values[i.name] != i.default}

    def _update_reset(self) -> None:
        self._reset.setEnabled(bool(self.changes()))

    def _editor(self, info: ParameterInfo) -> Any:
        editor = _editor(info)
        native = editor.native
        if isinstance(native, QAbstractSpinBox):
            native.setKeyboardTracking(False)
        if not isinstance(native, QCheckBox):
            narrow(native)
        native.setToolTip(tooltip(info))
        native.setAccessibleName(spoken_name(info))
        keep_wheel_for_scrolling(native)
        editor.changed.connect(lambda *value: self.changed.emit())
        return editor


class MethodForm(QWidget):
    """What a method is, where it is from, and its parameters."""

    changed = Signal()

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method
        self.form = ParameterForm(method.parameters)
        self.form.changed.connect(self.changed)
        summary = QLabel(method.summary)
        summary.setWordWrap(True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(summary)
        layout.addWidget(ReferenceLink(method.reference))
        layout.addWidget(self.form)

    def step(self) -> Step:
        """The step as it is set in the form.

        Raises
        ------
        InputError
            When the parameters do not go together; the message names the method.
        """
        parameters = self.method.make_parameters(**self.form.values())
        return Step(self.method.stage, self.method.name, parameters)

    def result_name(self) -> str:
        """The method and whatever is not at its default, to tell results apart: "TKD threshold 0.1"."""
        changes = self.form.changes()
        settings = (
            f"{_spoken(info)} {_text(changes[info.name])} {info.unit}".strip()
            for info in parameter_infos(self.method.parameters)
            if info.name in changes
        )
        return f"{self.method.title} {', '.join(settings)}".strip()


class MethodChooser(QWidget):
    """The methods of one stage, one of which is chosen, with its form below.

    Parameters
    ----------
    own : what the last entry is called, with which no method is run; none where it is empty
    """

    changed = Signal()

    def __init__(self, stage: str, default: str, own: str = "") -> None:
        super().__init__()
        self.combo = QComboBox()
        self.combo.setAccessibleName(f"{stage} method")
        keep_wheel_for_scrolling(self.combo)
        narrow(self.combo)
        self._forms = QStackedWidget()
        for method in methods(stage):
            form = MethodForm(method)
            form.changed.connect(self.changed)
            self.combo.addItem(method.title, method.name)
            self.combo.setItemData(self.combo.count() - 1, method.summary, Qt.ItemDataRole.ToolTipRole)
            self._forms.addWidget(form)
        if own:
            self.combo.addItem(own, "")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.combo)
        layout.addWidget(self._forms)
        self.combo.currentIndexChanged.connect(self._show)
        self.choose(default)
        self._show()

    @property
    def form(self) -> MethodForm | None:
        """The form of the chosen method; None where the user brings the result."""
        return self._forms.widget(self.combo.currentIndex())

    def choose(self, name: str) -> None:
        """Choose the method called ``name``; "" is the user's own."""
        self.combo.setCurrentIndex(max(self.combo.findData(name), 0))

    def _show(self) -> None:
        form = self.form
        self._forms.setVisible(form is not None)
        if form is not None:
            self._forms.setCurrentWidget(form)
        for index in range(self._forms.count()):  # a stack is as tall as its tallest page, shown or not
            policy = self._forms.widget(index).sizePolicy()
            shown = self._forms.widget(index) is form
            policy.setVerticalPolicy(policy.Policy.Preferred if shown else policy.Policy.Ignored)
            self._forms.widget(index).setSizePolicy(policy)
        self.changed.emit()


class ReferenceLink(QLabel):
    """A DOI that opens in the browser, in the theme's own text colour."""

    def __init__(self, reference: str) -> None:
        super().__init__()
        self._reference = reference
        self.setOpenExternalLinks(True)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextBrowserInteraction)
        self.setToolTip("Open the paper in the browser")
        self._write()

    def changeEvent(self, event: Any) -> None:
        """Follow the theme: rich text takes its link colour from the text, not from the style."""
        super().changeEvent(event)
        if event.type() in (event.Type.StyleChange, event.Type.PaletteChange):
            self._write()

    def _write(self) -> None:
        colour = self.palette().color(self.foregroundRole()).name()
        address = "https://doi.org/" + self._reference.removeprefix("doi:")
        text = f'<a href="{address}" style="color: {colour}">{self._reference}</a>'
        if text != self.text():
            self.setText(text)


def spoken_name(info: ParameterInfo) -> str:
    """The label "Radius" of ``radius_mm``: the unit stands beside the value."""
    text = _spoken(info)
    return text[0].upper() + text[1:]


def _spoken(info: ParameterInfo) -> str:
    words = info.name.removesuffix(f"_{info.unit}").split("_")
    # A word without a vowel is an abbreviation: PSF, CG.
    return " ".join(word if set(word) & set("aeiouy") else word.upper() for word in words)


def tooltip(info: ParameterInfo) -> str:
    """Help, range and default in one text."""
    unit = f" {info.unit}" if info.unit else ""
    low = "" if info.low is None else f"from {info.low:g}{unit} "
    high = "" if info.high is None else f"to {info.high:g}{unit}"
    limits = (low + high).strip()
    lines = (info.help, limits[:1].upper() + limits[1:], f"Default: {_text(info.default)}{unit}")
    return "\n".join(line for line in lines if line)


def narrow(editor: QWidget) -> None:
    """Let an editor be as narrow as the dock asks: Qt would make room for its longest entry."""
    editor.setMinimumWidth(60)
    editor.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)


def keep_wheel_for_scrolling(editor: QWidget) -> None:
    """Turning the wheel over an editor scrolls the dock, unless the editor was clicked."""
    editor.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    editor.installEventFilter(_WheelFilter(editor))


class _WheelFilter(QObject):
    def eventFilter(self, editor: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Wheel and not editor.hasFocus():
            event.ignore()
            return True
        return False


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)
