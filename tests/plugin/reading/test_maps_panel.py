"""The reader checks maps and chooses their zero, as in the window."""

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import Qt

from napari_metaqsm.plugin.reading.desk import Desk
from napari_metaqsm.plugin.reading.maps import MapsPanel
from napari_metaqsm.plugin.zero import zero_record
from napari_metaqsm.scan import Acquisition

SHAPE = (20, 26, 24)
TIMES = (0.005, 0.012, 0.02)
PLACE = {"scale": (5.0, 4.0, 4.0), "units": ("mm",) * 3}


@pytest.fixture
def viewer():
    viewer = ViewerModel()
    rng = np.random.default_rng(0)
    mask = np.zeros(SHAPE, np.float32)
    mask[2:-2, 2:-2, 2:-2] = 1
    for name in ("TKD", "MEDI"):
        values = mask * rng.normal(0.05, 0.02, SHAPE).astype(np.float32)
        known = {"quantity": "susceptibility", "orientation": "IPL", "acquisition": Acquisition(TIMES, 3.0)}
        viewer.add_image(values, name=name, metadata={"metaqsm": known}, **PLACE)
    decay = np.full(SHAPE, 20.0)
    decay[8:12, 11:15, 10:14] = 2
    echoes = np.stack([np.exp(-t * decay) for t in TIMES]).astype(np.float32)
    place = {"scale": (1.0, *PLACE["scale"]), "units": ("dimensionless", *PLACE["units"])}
    viewer.add_image(echoes, name="echoes", metadata={"metaqsm": {"quantity": "magnitude"}}, **place)
    labels = np.zeros(SHAPE, np.uint8)
    labels[5:8, 5:8, 5:8], labels[5:8, 15:18, 5:8] = 1, 2
    viewer.add_labels(labels, name="drawn", **PLACE)
    return viewer


@pytest.fixture
def panel(viewer, qtbot):
    desk = Desk(viewer)
    panel = MapsPanel(desk)
    qtbot.addWidget(panel)
    qtbot.wait(5)
    yield panel
    panel.release()
    desk.release()


def choose_zero(panel, title):
    panel.zero.setCurrentText(title)
    panel.zero.activated.emit(panel.zero.currentIndex())


def test_a_map_that_is_unchecked_leaves_the_desk(panel, qtbot):
    panel.maps.item(0).setCheckState(Qt.CheckState.Unchecked)
    assert [layer.name for layer in panel.desk.maps] == ["MEDI"]
    qtbot.wait(5)
    assert panel.maps.item(0).checkState() == Qt.CheckState.Unchecked
    assert panel.maps.item(1).checkState() == Qt.CheckState.Checked


def test_a_drawn_region_becomes_the_zero_of_every_map(panel, viewer, qtbot):
    choose_zero(panel, "A region")
    panel.label.setValue(2)
    panel.apply.click()
    region = viewer.layers["drawn"].data == 2
    qtbot.waitUntil(lambda: "drawn: 2" in str(zero_record(viewer.layers["MEDI"])), timeout=30_000)
    for name in ("TKD", "MEDI"):
        assert abs(viewer.layers[name].data[region].mean()) < 1e-6
    qtbot.waitUntil(lambda: "ppm taken off" in panel.about.text(), timeout=30_000)
    assert panel.zero.currentText() == "A region"


def test_csf_is_found_shown_and_taken(panel, viewer, qtbot):
    choose_zero(panel, "CSF of the ventricles")
    qtbot.waitUntil(lambda: zero_record(viewer.layers["TKD"]) is not None, timeout=20000)
    assert viewer.layers["CSF"].data.sum() == 64
    assert zero_record(viewer.layers["TKD"])["region"] == "csf"
    assert zero_record(viewer.layers["TKD"])["voxels"] == 64


def test_csf_without_echoes_is_refused_in_words(panel, viewer, qtbot):
    viewer.layers.remove("echoes")
    choose_zero(panel, "CSF of the ventricles")
    assert "three or more echoes" in panel.about.text()


def test_an_offset_is_taken_off_and_given_back(panel, viewer, qtbot):
    before = viewer.layers["TKD"].data.copy()
    choose_zero(panel, "An offset")
    panel.offset_ppm.setValue(0.02)
    qtbot.waitUntil(lambda: "+0.0200 ppm" in panel.about.text(), timeout=30_000)
    inside = before != 0
    np.testing.assert_allclose(viewer.layers["TKD"].data[inside], before[inside] - 0.02, atol=1e-6)
    choose_zero(panel, "As the method gave it")
    qtbot.waitUntil(lambda: zero_record(viewer.layers["TKD"])["region"] == "none", timeout=30_000)
    np.testing.assert_array_equal(viewer.layers["TKD"].data, before)


def test_an_empty_region_is_refused(panel, viewer):
    choose_zero(panel, "A region")
    panel.label.setValue(7)
    panel.apply.click()
    assert "is empty" in panel.about.text()
