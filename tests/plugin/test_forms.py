"""Forms follow the declarations: editors, ranges, units, help, defaults."""

from dataclasses import dataclass

import pytest
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QCheckBox,
    QComboBox,
    QFileDialog,
    QLabel,
    QLineEdit,
    QSlider,
)

from napari_metaqsm.errors import InputError
from napari_metaqsm.method import check_parameters, methods, parameter, parameter_infos
from napari_metaqsm.plugin.editors import NumberBox
from napari_metaqsm.plugin.forms import MethodChooser, MethodForm, ParameterForm

pytestmark = pytest.mark.usefixtures("qapp")


@dataclass(frozen=True)
class Everything:
    """A parameter of each kind."""

    radius_mm: float = parameter(6.0, low=1, high=20, unit="mm", help="Radius of the sphere")
    threshold: float = parameter(0.2, low=0.01, high=2 / 3, help="Smallest value")
    tolerance: float = parameter(1e-6, low=1e-12, help="When to stop")
    iterations: int = parameter(200, low=1, high=1000, help="At most")
    psf_correction: bool = parameter(False, help="Whether")
    weighting: str = parameter("echo", choices=("echo", "none"), help="Which")
    calm: float = parameter(0.0, low=-1, high=1, slider=("sharp", "calm"), help="How far to trust")
    weights: str = parameter("", file="*.safetensors", help="From where")

    __post_init__ = check_parameters


@pytest.fixture
def form(qtbot):
    form = ParameterForm(Everything)
    qtbot.addWidget(form)
    return form


def editor(form, name):
    return form._editors[name].native


def test_it_starts_with_the_defaults(form):
    assert Everything(**form.values()) == Everything()
    assert form.changes() == {}


def test_each_kind_has_its_editor(form):
    kinds = (NumberBox, NumberBox, NumberBox, QAbstractSpinBox, QCheckBox, QComboBox, QSlider, QLineEdit)
    for info, kind in zip(parameter_infos(Everything), kinds, strict=True):
        native = editor(form, info.name)
        assert isinstance(native.focusProxy() or native, kind)


def test_unit_range_default_and_help_are_shown(form):
    radius = editor(form, "radius_mm")
    assert radius.text() == "6 mm"
    assert radius.toolTip() == "Radius of the sphere\nFrom 1 mm to 20 mm\nDefault: 6 mm"
    assert radius.accessibleName() == "Radius"
    assert editor(form, "psf_correction").accessibleName() == "PSF correction"


def test_small_numbers_are_written_and_read_as_such(form):
    box = editor(form, "tolerance")
    assert box.text() == "1e-06"
    box.lineEdit().setText("2.5e-8")
    box.interpretText()
    assert form.values()["tolerance"] == pytest.approx(2.5e-8, rel=1e-4)


def test_ends_of_a_range_are_the_declared_ones_not_roundings(form):
    form.set_values(threshold=1.0)
    assert form.values()["threshold"] == 2 / 3
    assert Everything(**form.values()).threshold == 2 / 3


@pytest.mark.parametrize(
    ("text", "accepted"), [("21 mm", False), ("0.5", False), ("7.25 mm", True), ("x", False)]
)
def test_what_is_out_of_range_cannot_be_entered(form, text, accepted):
    box = editor(form, "radius_mm")
    box.lineEdit().setText(text)
    assert box.hasAcceptableInput() == accepted


def test_a_step_is_a_tenth_of_the_values_size(form):
    form.set_values(threshold=0.2)
    editor(form, "threshold").stepBy(1)
    assert form.values()["threshold"] == pytest.approx(0.21)


def texts_in(widget):
    return [label.text() for label in widget.findChildren(QLabel)]


def test_a_slider_names_its_ends_and_shows_its_value(form, qtbot):
    native = editor(form, "calm")
    slider = native.focusProxy()
    assert texts_in(native) == ["sharp", "0", "calm"]
    assert native.toolTip().startswith("How far to trust\nFrom -1 (sharp) to 1 (calm)\nDefault: 0\n")
    assert slider.accessibleName() == "Calm"
    with qtbot.waitSignals([form.changed, form.moved], order="strict"):
        slider.triggerAction(QSlider.SliderAction.SliderSingleStepAdd)
    assert form.values()["calm"] == 0.05
    assert texts_in(native)[1] == "0.05"
    slider.setValue(slider.minimum())
    assert form.values()["calm"] == -1.0
    assert Everything(**form.values()).calm == -1.0


def test_only_a_slider_is_moved(form, qtbot):
    with qtbot.assertNotEmitted(form.moved):
        form.set_values(threshold=0.3, weighting="none", weights="a.safetensors")


def test_a_default_between_two_steps_of_a_slider_is_kept(qtbot):
    @dataclass(frozen=True)
    class Odd:
        share: float = parameter(1 / 3, low=0, high=1, slider=("none", "all"), help="Of")

    form = ParameterForm(Odd)
    qtbot.addWidget(form)
    assert form.values()["share"] == 1 / 3
    assert form.changes() == {}
    form.set_values(share=0.5)
    form.reset()
    assert form.changes() == {}


def test_held_sliders_stand_still_and_the_rest_does_not(form):
    form.set_values(threshold=0.3)
    form.hold(True)
    assert not editor(form, "calm").focusProxy().isEnabled()
    assert not form._reset.isEnabled()
    form.set_values(threshold=0.4)
    assert not form._reset.isEnabled()
    assert editor(form, "threshold").isEnabled()
    form.hold(False)
    assert editor(form, "calm").focusProxy().isEnabled()
    assert form._reset.isEnabled()


def test_a_file_is_chosen_and_cleared(form, monkeypatch, tmp_path):
    chosen = tmp_path / "mine.safetensors"
    asked = []

    def choose(parent, caption, folder, pattern):
        asked.append((folder, pattern))
        return str(chosen), pattern

    monkeypatch.setattr(QFileDialog, "getOpenFileName", choose)
    weights = form._editors["weights"]
    assert weights.line.placeholderText() == "as shipped"
    assert not weights.clear_button.isEnabled()
    weights.choose_button.click()
    weights.choose_button.click()
    assert asked == [("", "*.safetensors"), (str(tmp_path), "*.safetensors")]
    assert form.values()["weights"] == str(chosen)
    assert weights.line.toolTip() == str(chosen)
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *args: ("", ""))
    weights.choose_button.click()  # and cancelled
    assert form.values()["weights"] == str(chosen)
    weights.clear_button.click()
    assert form.values()["weights"] == ""
    assert form.changes() == {}


def test_it_says_when_it_changed_and_goes_back_to_the_defaults(form, qtbot):
    with qtbot.waitSignal(form.changed):
        form.set_values(iterations=5)
    assert form.changes() == {"iterations": 5}
    form.reset()
    assert form.changes() == {}


@pytest.mark.parametrize("method", methods(), ids=lambda m: f"{m.stage}-{m.name}")
def test_every_method_gets_a_form_with_its_own_defaults(method, qtbot):
    form = MethodForm(method)
    qtbot.addWidget(form)
    assert form.step().parameters == method.parameters()
    assert form.result_name() == method.title


def test_results_of_other_settings_get_other_names(qtbot):
    (tkd,) = (m for m in methods("inversion") if m.name == "tkd")
    form = MethodForm(tkd)
    qtbot.addWidget(form)
    form.form.set_values(threshold=0.1, psf_correction=True)
    assert form.result_name() == "TKD threshold 0.1, PSF correction on"
    assert form.step().parameters.threshold == 0.1


def test_parameters_that_do_not_go_together_name_the_method(qtbot, monkeypatch):
    (tkd,) = (m for m in methods("inversion") if m.name == "tkd")
    form = MethodForm(tkd)
    qtbot.addWidget(form)
    monkeypatch.setattr(form.form, "values", lambda: {"threshold": 0.9})
    with pytest.raises(InputError, match=r"tkd: threshold is 0\.9"):
        form.step()


def test_the_chooser_shows_one_form_and_the_users_own_has_none(qtbot):
    chooser = MethodChooser("inversion", default="tkd", own="A map of my own")
    qtbot.addWidget(chooser)
    assert chooser.form.method.name == "tkd"
    with qtbot.waitSignal(chooser.changed):
        chooser.choose("l2")
    assert chooser.form.method.name == "l2"
    chooser.choose("")
    assert chooser.combo.currentText() == "A map of my own"
    assert chooser.form is None
