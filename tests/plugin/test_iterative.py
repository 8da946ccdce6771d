"""Iterative methods in the dock: their curve while they run and after, and where a run begins."""

import threading
from dataclasses import dataclass

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt, QThreadPool
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QApplication
from torch import Tensor

from napari_metaqsm import method as registry_module
from napari_metaqsm.errors import InputError
from napari_metaqsm.method import check_parameters, method, methods, parameter, point, steps
from napari_metaqsm.plugin.about import about_map
from napari_metaqsm.plugin.chain import SusceptibilityMapping
from napari_metaqsm.plugin.section import State
from napari_metaqsm.provenance import describe_array
from napari_metaqsm.scan import Geometry

SHAPE, SCALE = (8, 10, 9), (3.0, 1.0, 1.0)
FIELD = np.random.default_rng(0).normal(0.05, 0.02, SHAPE).astype(np.float32)
MASK = np.pad(np.ones([n - 4 for n in SHAPE], np.uint8), 2)
NAME = "χ Halving"


@dataclass(frozen=True)
class HalvingParameters:
    """Of the method under test."""

    weight: float = parameter(2.0, low=0.5, high=10, help="Of the field")
    tolerance: float = parameter(1e-3, low=1e-6, high=1, help="When to stop")

    __post_init__ = check_parameters


class Watched:
    """The starts that the method was given, and a gate in its loop."""

    def __init__(self):
        self.starts = []
        self.open = threading.Event()
        self.open.set()


@pytest.fixture
def watched(monkeypatch):
    """A method that halves its distance to the answer at each step."""
    methods()
    monkeypatch.setattr(registry_module, "_REGISTRY", dict(registry_module._REGISTRY))
    watched = Watched()

    @method(
        "inversion",
        title="Halving",
        reference="doi:10.1000/1",
        kind="iterative",
        stand_ins={"initial_susceptibility": "zero"},
    )
    def halving(
        local_field: Tensor,
        mask: Tensor,
        geometry: Geometry,
        parameters: HalvingParameters,
        initial_susceptibility: Tensor | None = None,
    ) -> Tensor:
        """Iterative: good at halving."""
        watched.starts.append(initial_susceptibility)
        answer = parameters.weight * local_field * mask
        chi = 0 * answer if initial_susceptibility is None else initial_susceptibility * mask
        for index in steps(100, "Halves"):
            chi = (chi + answer) / 2
            residual = float((chi - answer).norm() / answer.norm())
            point("residual", residual)
            if parameters.weight == 9.0 and index == 3:
                raise InputError("the residual grew; halving diverges with weight 9, try a smaller one")
            if residual <= parameters.tolerance:
                break
            for _ in steps(10**9, "Waits"):
                if watched.open.wait(0.002) or index < 2:
                    break
        return chi

    return watched


@pytest.fixture
def viewer():
    viewer = ViewerModel()
    known = {"quantity": "local_field", "unit": "ppm", "b0_direction": (1, 0, 0), "orientation": "IPL"}
    place = {"scale": SCALE, "units": ("mm",) * 3}
    viewer.add_image(FIELD, name="field", metadata={"metaqsm": known}, **place)
    viewer.add_labels(MASK.copy(), name="drawn", **place)
    return viewer


@pytest.fixture
def dock(watched, viewer, qtbot):
    dock = SusceptibilityMapping(viewer)
    qtbot.addWidget(dock)
    dock.inversion.choices["mask"].choose(viewer.layers["drawn"])
    for name, box in dock.inversion.boxes.items():
        box.setChecked(name == "halving")
    yield dock
    watched.open.set()
    dock.release()
    QThreadPool.globalInstance().waitForDone(10_000)


@pytest.fixture
def run(dock, qtbot):
    def press():
        dock.inversion.run_button.click()
        qtbot.waitUntil(lambda: not dock.is_running, timeout=20_000)

    return press


def row_of(dock):
    return dock.inversion.list.rows["halving"]


def set_weight(dock, weight):
    row_of(dock).form.form.set_values(weight=weight)


def record_of(layer):
    return layer.metadata["metaqsm"]["record"]


# ---------------------------------------------------------------------------------- the curve
def test_the_curve_grows_while_the_method_runs(dock, watched, qtbot):
    panel = dock.inversion.convergence
    assert panel.isHidden()
    watched.open.clear()
    dock.inversion.run_button.click()
    qtbot.waitUntil(lambda: panel.plot.curves.get("residual", []) == [0.5, 0.25, 0.125], timeout=30_000)
    assert not panel.isHidden()
    assert panel.choice.currentText() == "Halving"
    assert "residual 0.125 at step 3" in panel.plot.caption.text()
    assert dock.progress_label.text().startswith("Halving: ")
    watched.open.set()
    qtbot.waitUntil(lambda: not dock.is_running, timeout=30_000)
    assert panel.choice.currentText() == NAME
    assert panel.plot.curves["residual"][-1] <= 1e-3


def test_the_loop_says_the_residual_beside_its_label(dock, watched, qtbot):
    heard = []
    shown = dock.progress_label.setText
    dock.progress_label.setText = lambda text: (heard.append(text), shown(text))
    watched.open.clear()
    dock.inversion.run_button.click()
    qtbot.waitUntil(lambda: bool(dock.inversion.convergence.plot.curves), timeout=30_000)
    qtbot.waitUntil(lambda: any("residual 0." in text for text in heard), timeout=30_000)


def test_curves_of_finished_maps_can_be_looked_at_again(dock, viewer, run):
    run()
    set_weight(dock, 4.0)
    row_of(dock).onward.setChecked(False)
    row_of(dock).form.form.set_values(tolerance=0.1)
    run()
    panel = dock.inversion.convergence
    assert [panel.choice.itemText(i) for i in range(2)] == [NAME, f"{NAME} weight 4, tolerance 0.1"]
    assert (
        panel.plot.curves
        == record_of(viewer.layers[f"{NAME} weight 4, tolerance 0.1"])["steps"][-1]["convergence"]
    )
    panel.choice.setCurrentIndex(0)
    assert panel.plot.curves["residual"] == pytest.approx([0.5**n for n in range(1, 11)], rel=0.01)
    assert about_map(viewer.layers[NAME]).splitlines()[1] == "Convergence: residual 0.000977 after 10"
    viewer.layers[NAME].name = "first"
    assert panel.choice.itemText(0) == "first"
    viewer.layers.remove("first")
    assert panel.choice.currentText() == f"{NAME} weight 4, tolerance 0.1"
    viewer.layers.clear()
    assert panel.isHidden()


def test_a_map_that_was_made_before_the_dock_has_its_curve_too(dock, viewer, run, qtbot):
    run()
    other = SusceptibilityMapping(viewer)
    qtbot.addWidget(other)
    assert other.inversion.convergence.choice.currentText() == NAME
    assert len(other.inversion.convergence.plot.curves["residual"]) == 10
    other.release()


def test_what_went_wrong_leaves_its_curve(dock, viewer, run):
    set_weight(dock, 9.0)
    run()
    panel = dock.inversion.convergence
    assert dock.inversion.state is State.FAILED
    assert "halving diverges with weight 9" in dock.inversion.status.text()
    assert panel.choice.currentText() == "Halving, failed"
    assert len(panel.plot.curves["residual"]) == 4
    set_weight(dock, 2.0)
    run()
    assert [panel.choice.itemText(i) for i in range(panel.choice.count())] == [NAME]


def test_a_cancelled_run_leaves_no_curve(dock, watched, qtbot):
    watched.open.clear()
    dock.inversion.run_button.click()
    qtbot.waitUntil(lambda: bool(dock.inversion.convergence.plot.curves), timeout=30_000)
    dock.cancel_button.click()
    qtbot.waitUntil(lambda: not dock.is_running, timeout=30_000)
    assert dock.inversion.convergence.isHidden()


def test_direct_methods_show_no_plot(dock, run):
    dock.inversion.boxes["halving"].setChecked(False)
    dock.inversion.boxes["tkd"].setChecked(True)
    run()
    assert dock.inversion.convergence.isHidden()


def test_the_plot_is_drawn_and_the_mouse_chooses_a_step(dock, viewer, run):
    run()
    panel = dock.inversion.convergence
    panel.arrow.click()
    assert panel.plot.isHidden()
    panel.arrow.click()
    canvas = panel.plot._canvas
    canvas.resize(300, canvas.height())
    panel.plot.show_curves(
        {"residual": [1.0, 0.1, 0.0, float("nan"), 0.01], "objective": [5.0, 3.0], "none": [0.0]}
    )
    hover(canvas, 299)
    assert "residual 0.01 at step 5" in panel.plot.caption.text()
    hover(canvas, 0)
    assert "residual 1 at step 1" in panel.plot.caption.text()
    assert "objective 5 at 1" in panel.plot.caption.text()
    dark = picture(canvas)
    colours = {tuple(pixel) for pixel in dark.reshape(-1, 4)}
    assert len(colours) > 20
    viewer.theme = "light"
    assert (picture(canvas) != dark).any()
    QApplication.sendEvent(canvas, QEvent(QEvent.Type.Leave))
    assert "objective 3 at 2" in panel.plot.caption.text()


def hover(widget, x):
    place = QPointF(x, 20)
    nothing = Qt.MouseButton.NoButton
    moved = QMouseEvent(QEvent.Type.MouseMove, place, place, nothing, nothing, Qt.KeyboardModifier.NoModifier)
    QApplication.sendEvent(widget, moved)


def picture(widget):
    image = widget.grab().toImage()
    image = image.convertToFormat(image.Format.Format_RGBA8888)
    bits = image.constBits()
    bits.setsize(image.sizeInBytes())
    return np.frombuffer(bits, np.uint8).reshape(image.height(), image.width(), 4).copy()


# ------------------------------------------------------------------------------ where it begins
def test_another_weight_goes_on_from_the_last_map(dock, viewer, run, watched):
    run()
    first = viewer.layers[NAME]
    unreferenced = first.metadata["metaqsm"]["unreferenced"]
    assert watched.starts == [None]
    set_weight(dock, 2.1)
    assert f"\nHalving goes on from {NAME}" in dock.inversion.status.text()
    run()
    np.testing.assert_array_equal(watched.starts[1], unreferenced)
    assert f"{NAME} weight 2.1 in " in dock.inversion.status.text()
    assert dock.inversion.status.text().endswith(f", begun from {NAME}")
    second = viewer.layers[f"{NAME} weight 2.1"]
    record = record_of(second)
    about = record["inputs"]["initial_susceptibility"]
    assert about == {"layer": NAME, **describe_array(unreferenced)}
    assert "initial_susceptibility" in record["steps"][-1]["inputs"]
    curve = record["steps"][-1]["convergence"]["residual"]
    assert len(curve) < len(record_of(first)["steps"][-1]["convergence"]["residual"])
    np.testing.assert_allclose(second.metadata["metaqsm"]["unreferenced"], 2.1 * FIELD * MASK, rtol=3e-3)


def test_running_says_where_it_began(dock, run, watched, qtbot):
    run()
    set_weight(dock, 2.1)
    watched.open.clear()
    row_of(dock).form.form.set_values(tolerance=1e-6)
    dock.inversion.run_button.click()
    qtbot.waitUntil(lambda: "%, goes on from" in dock.inversion.status.text(), timeout=30_000)
    watched.open.set()


def test_the_same_again_begins_afresh(dock, viewer, run, watched):
    run()
    assert dock.inversion.state is State.DONE
    run()
    assert watched.starts == [None, None]
    assert [layer.name for layer in viewer.layers] == ["field", "drawn", NAME]


def test_going_back_to_a_weight_replaces_its_map_wherever_it_began(dock, viewer, run, watched):
    run()
    set_weight(dock, 4.0)
    run()
    set_weight(dock, 2.0)
    run()
    assert watched.starts[2] is not None
    assert [layer.name for layer in viewer.layers] == ["field", "drawn", NAME, f"{NAME} weight 4"]
    assert record_of(viewer.layers[NAME])["inputs"]["initial_susceptibility"]["layer"] == f"{NAME} weight 4"


def test_it_can_be_told_to_begin_afresh(dock, run, watched, qtbot):
    run()
    set_weight(dock, 4.0)
    row_of(dock).arrow.click()
    assert not row_of(dock).onward.isHidden()
    qtbot.mouseClick(
        row_of(dock).onward, Qt.MouseButton.LeftButton, pos=QPoint(8, row_of(dock).onward.height() // 2)
    )
    assert not row_of(dock).onward.isChecked()
    assert "goes on from" not in dock.inversion.status.text()
    run()
    assert watched.starts == [None, None]


@pytest.mark.parametrize("change", ["field", "mask", "geometry", "deleted"])
def test_other_inputs_begin_afresh(dock, viewer, run, watched, change):
    run()
    if change == "field":
        viewer.layers["field"].data = 1.01 * FIELD
    elif change == "mask":
        viewer.layers["drawn"].data_setitem((np.array([3]), np.array([3]), np.array([3])), 0)
    elif change == "geometry":
        dock.scan.b0_direction.setText("0, 0, 1")
        dock.scan.b0_direction.textEdited.emit("0, 0, 1")
    else:
        viewer.layers.remove(NAME)
    set_weight(dock, 4.0)
    assert "goes on from" not in dock.inversion.status.text()
    run()
    assert watched.starts == [None, None]


def test_another_reference_does_not_change_where_it_begins(dock, viewer, run, watched):
    run()
    plain = viewer.layers[NAME].metadata["metaqsm"]["unreferenced"].copy()
    dock.compare.reference.setCurrentText("none")
    dock.compare.reference.activated.emit(dock.compare.reference.currentIndex())
    set_weight(dock, 4.0)
    run()
    np.testing.assert_array_equal(watched.starts[1], plain)


def test_a_run_that_failed_is_not_gone_on_from(dock, run, watched):
    set_weight(dock, 9.0)
    run()
    set_weight(dock, 2.0)
    run()
    assert watched.starts == [None, None]


def test_methods_that_cannot_go_on_offer_no_tick(dock):
    row = dock.inversion.list.rows["tkd"]
    row.arrow.click()
    assert row.onward.isHidden()
    assert "initial_susceptibility" not in dock.inversion.choices
