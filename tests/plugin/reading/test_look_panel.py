"""The panel that opens the comparison and changes it, driven as a user does."""

import json

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_metaqsm.plugin import compare as compare_module
from napari_metaqsm.plugin.reading.desk import Desk
from napari_metaqsm.plugin.reading.look import LookPanel
from napari_metaqsm.plugin.reading.look_work import VENOGRAM
from napari_metaqsm.reading.swi import chi_weighted_swi

SHAPE = (6, 8, 10)


def add(viewer, name, quantity="susceptibility", values=None, seed=0):
    if values is None:
        values = np.random.default_rng(seed).normal(0, 0.05, SHAPE).astype(np.float32)
    known = {"quantity": quantity, "orientation": "IPL", "b0_direction": (1.0, 0.0, 0.0)}
    scale = (1.0,) * (values.ndim - 3) + (3.0, 1.0, 1.0)
    units = ("",) * (values.ndim - 3) + ("mm",) * 3
    return viewer.add_image(values, name=name, scale=scale, units=units, metadata={"metaqsm": known})


@pytest.fixture
def viewer():
    viewer = ViewerModel()
    add(viewer, "one", seed=1)
    add(viewer, "two", seed=2)
    add(viewer, "echoes", "magnitude", np.full((2, *SHAPE), 100, np.float32))
    return viewer


@pytest.fixture
def desk(viewer, qtbot):
    desk = Desk(viewer)
    yield desk
    desk.release()


@pytest.fixture
def panel(desk, qtbot):
    panel = LookPanel(desk)
    qtbot.addWidget(panel)
    yield panel
    if not panel._released:
        panel.release()
    assert not compare_module._open


def choose(box, text):
    box.setCurrentIndex(box.findText(text))
    box.activated.emit(box.currentIndex())


def shown(panel):
    return [layer.name for layer in panel.comparison.layers]


def test_the_maps_of_the_desk_are_compared_and_put_back(panel, viewer):
    before = [(layer.name, layer.visible) for layer in viewer.layers]
    panel.open_button.click()
    assert shown(panel) == ["one", "two"]
    panel.beside["magnitude"].click()
    assert shown(panel) == ["one", "two", "echoes"]
    assert not panel.beside["phase"].isEnabled()  # there is none
    panel.open_button.click()
    assert panel.comparison is None
    assert [(layer.name, layer.visible) for layer in viewer.layers] == before


def test_opening_and_closing_is_no_change_of_what_is_read(panel, desk, qtbot):
    qtbot.wait(10)  # what the layers of the test were told of
    study = desk.study()
    with qtbot.assertNotEmitted(desk.changed, wait=20):
        panel.open_button.click()
        panel.plane_buttons["all"].click()
        panel.comparison.go_to((1, 2, 3))
        panel.open_button.click()
    assert desk.study() is study


def test_a_new_map_joins_an_open_comparison_that_stays_where_it_was(panel, desk, viewer, qtbot):
    panel.open_button.click()
    panel.plane_buttons["coronal"].click()
    panel.comparison.go_to((2, 3, 4))
    panel.comparison.magnification = 2.5
    with qtbot.waitSignal(desk.changed):
        add(viewer, "three")
    assert shown(panel) == ["one", "two", "three"]
    assert panel.comparison.look.planes == ("coronal",)
    assert panel.comparison.state()["voxel"] == [2, 3, 4]
    assert panel.comparison.magnification == pytest.approx(2.5)  # of cells that are smaller now
    with qtbot.waitSignal(desk.changed):
        viewer.layers.remove("one")
    assert shown(panel) == ["two", "three"]


def test_what_is_chosen_is_what_is_shown(panel):
    panel.open_button.click()
    comparison = panel.comparison
    panel.plane_buttons["all"].click()
    assert comparison.look.planes == ("axial", "sagittal", "coronal")
    panel.window_buttons["−0.1 … 0.2"].click()
    assert comparison.look.window_ppm == (-0.1, 0.2)
    assert (panel.low_ppm.number(), panel.high_ppm.number()) == (-0.1, 0.2)
    panel.high_ppm.setValue(0.3)
    assert comparison.look.window_ppm == (-0.1, 0.3)
    panel.high_ppm.setValue(-0.2)  # below the lower end
    assert "must end above its beginning" in panel.about.text()
    assert comparison.look.window_ppm == (-0.1, 0.3)
    choose(panel.projection, "Maximum")
    panel.slab_mm.setValue(6)
    assert (comparison.look.projection, comparison.look.slab_mm) == ("maximum", 6)
    panel.outline.click()
    panel.cross_hair.click()
    assert (comparison.look.outline, comparison.look.cross_hair) == (False, False)


def test_the_controls_follow_the_mouse_in_the_picture(panel):
    panel.open_button.click()
    panel.comparison.show(window_ppm=(-0.05, 0.15))
    assert (panel.low_ppm.number(), panel.high_ppm.number()) == (-0.05, 0.15)


def test_two_maps_in_one_place_blink_while_the_button_is_down(panel):
    assert not panel.wipe.isVisibleTo(panel)
    choose(panel.layout_box, "Two in one place")
    assert panel.wipe.isVisibleTo(panel)
    panel.open_button.click()
    (cell,) = panel.comparison.cells
    assert cell.picture.title == "one"
    panel.blink_button.pressed.emit()
    assert cell.picture.title == "two"
    panel.blink_button.released.emit()
    panel.wipe.setValue(100)
    assert cell.picture.title == "one | two"
    choose(panel.second, "one")
    assert "choose two different maps" in panel.about.text()
    assert panel.comparison.look.pair == ("one", "two")


def test_the_figures_of_differences_are_those_of_numpy(panel, desk, viewer, qtbot):
    choose(panel.layout_box, "Differences")
    panel.open_button.click()
    apart = (viewer.layers["two"].data - viewer.layers["one"].data).astype(float)
    mean, sd = apart.mean(), apart.std(ddof=1)
    expected = f"two: {mean:+.4f} ± {sd:.4f} ({mean - 1.96 * sd:+.3f} … {mean + 1.96 * sd:+.3f})"
    qtbot.waitUntil(lambda: expected.replace("-", "−") in panel.about.text(), timeout=30_000)
    choose(panel.against, "two")
    qtbot.waitUntil(lambda: f"one: {-mean:+.4f}".replace("-", "−") in panel.about.text(), timeout=30_000)
    assert panel.comparison.cells[1].picture.title == "one − two"


def test_a_venogram_stands_beside_the_maps(panel, desk, viewer, qtbot):
    panel.open_button.click()
    panel.beside["swi"].click()
    qtbot.waitUntil(lambda: "SWI of one" in shown(panel), timeout=30_000)
    np.testing.assert_array_equal(desk.scan_layer(VENOGRAM).data, chi_weighted_swi(desk.study(), "one"))
    panel.beside["swi"].click()
    assert shown(panel) == ["one", "two"]


def test_the_state_of_the_panel_comes_back(panel, desk, qtbot):
    choose(panel.layout_box, "Differences")
    choose(panel.against, "two")
    panel.beside["magnitude"].click()
    panel.open_button.click()
    panel.comparison.go_to((1, 2, 3))
    state = json.loads(json.dumps(panel.state()))
    panel.release()
    again = LookPanel(desk)
    qtbot.addWidget(again)
    again.restore(state)
    assert again.state() == state
    assert again.against.currentText() == "two"
    again.release()


def test_without_maps_there_is_nothing_to_compare(qtbot):
    desk = Desk(ViewerModel())
    panel = LookPanel(desk)
    qtbot.addWidget(panel)
    assert not panel.open_button.isEnabled()
    panel.release()
    desk.release()
