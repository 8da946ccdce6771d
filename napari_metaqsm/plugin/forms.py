"""Forms made from what methods declare of their parameters; no method is named here."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QCheckBox,
    QComboBox,
    QFormLayout,
    QLabel,
    QPushButton,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from napari_metaqsm.method import Method, ParameterInfo, methods, parameter_infos
from napari_metaqsm.pipeline import Step
from napari_metaqsm.plugin.editors import keep_wheel_for_scrolling, make_editor, narrow


class ParameterForm(QWidget):
    """One editor for each parameter of a parameter class.

    ``changed`` says that any value is another one; after it, ``moved`` says that it was a slider's.
    """

    changed = Signal()
    moved = Signal()

    def __init__(self, parameters: type) -> None:
        super().__init__()
        self._infos = parameter_infos(parameters)
        self.sliders = tuple(info.name for info in self._infos if info.slider)
        self._held = False
        self._editors = {info.name: self._editor(info) for info in self._infos}
        self._behind: list[QWidget] = []
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
            if not info.slider:
                self._behind += [label, self._editors[info.name].native]
        if self._infos:
            self._reset = QPushButton("Defaults")
            self._reset.setToolTip("Set every parameter of this method back to its default")
            self._reset.clicked.connect(self.reset)
            self.changed.connect(self._update_reset)
            layout.addRow("", self._reset)
            self._behind.append(self._reset)
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

    def hold(self, held: bool) -> None:
        """Whether the sliders stand still: while other work runs, no map could follow them."""
        if self.sliders:
            self._held = held
            for name in self.sliders:
                self._editors[name].native.setEnabled(not held)
            self._update_reset()

    def show_all(self, every: bool) -> None:
        """Show every parameter, or the sliders alone."""
        for widget in self._behind:
            widget.setVisible(every)

    def _update_reset(self) -> None:
        self._reset.setEnabled(bool(self.changes()) and not self._held)

    def _editor(self, info: ParameterInfo) -> Any:
        editor = make_editor(info)
        native = editor.native
        if isinstance(native, QAbstractSpinBox):
            native.setKeyboardTracking(False)
        if not isinstance(native, QCheckBox):
            narrow(native)
        native.setToolTip(tooltip(info))
        (native.focusProxy() or native).setAccessibleName(spoken_name(info))
        keep_wheel_for_scrolling(native)
        editor.changed.connect(lambda *value: self.changed.emit())
        if info.slider:
            editor.changed.connect(lambda *value: self.moved.emit())
        return editor


class MethodForm(QWidget):
    """A method's parameters; above them, unless that stands elsewhere, what it is and where it is from."""

    changed = Signal()

    def __init__(self, method: Method, about: bool = True) -> None:
        super().__init__()
        self.method = method
        self.form = ParameterForm(method.parameters)
        self.form.changed.connect(self.changed)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        if about:
            summary = QLabel(method.summary)
            summary.setWordWrap(True)
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
            f"{_spoken(info)} {_short(info, changes[info.name])} {info.unit}".strip()
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
    """A DOI that opens in the browser, in the label's own text colour.

    Parameters
    ----------
    before : what stands before the link
    word : what the link is called, in place of the DOI
    """

    def __init__(self, reference: str, before: str = "", word: str = "") -> None:
        super().__init__()
        self._reference = reference
        self._before = before
        self._word = word or reference
        self.setWordWrap(bool(before))
        self.setOpenExternalLinks(True)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextBrowserInteraction)
        self.setToolTip(f"Open the paper in the browser: {reference}")
        self._write()

    def changeEvent(self, event: Any) -> None:
        """Follow the theme: rich text takes its link colour from the text, not from the style."""
        super().changeEvent(event)
        if event.type() in (event.Type.StyleChange, event.Type.PaletteChange):
            self._write()

    def _write(self) -> None:
        colour = self.palette().color(self.foregroundRole()).name()
        address = "https://doi.org/" + self._reference.removeprefix("doi:")
        link = f'<a href="{address}" style="color: {colour}">{self._word}</a>'
        text = f"{html.escape(self._before)} {link}".strip()
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
    ends = [f" ({word})" for word in info.slider or ()] or ["", ""]
    low = "" if info.low is None else f"from {info.low:g}{unit}{ends[0]} "
    high = "" if info.high is None else f"to {info.high:g}{unit}{ends[1]}"
    limits = (low + high).strip()
    default = "the file that is shipped" if info.file else f"{_text(info.default)}{unit}"
    follows = "The map follows; to keep one, duplicate its layer" if info.slider else ""
    lines = (info.help, limits[:1].upper() + limits[1:], f"Default: {default}", follows)
    return "\n".join(line for line in lines if line)


def _short(info: ParameterInfo, value: Any) -> str:
    return Path(value).stem if info.file else _text(value)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)
