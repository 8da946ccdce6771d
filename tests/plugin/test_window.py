"""A real window, from a scan to two maps side by side and back; needs a display or Xvfb."""

import numpy as np
import pytest
import torch
from qtpy.QtWidgets import QScrollArea

from napari_metaqsm.operators.dipole import dipole_field
from napari_metaqsm.plugin.chain import SusceptibilityMapping
from napari_metaqsm.plugin.section import State
from napari_metaqsm.scan import Acquisition, Geometry
from napari_metaqsm.units import rad_per_ppm

pytestmark = pytest.mark.window

SHAPE, SCALE = (26, 30, 28), (2.0, 1.5, 1.5)
GEOMETRY = Geometry(SHAPE, SCALE, b0_direction=(1, 0, 0), orientation="IPL")
TIMES_S, TESLA = (0.005, 0.012), 3.0


def distance_mm():
    axes = [(np.arange(n) - n // 2) * size for n, size in zip(SHAPE, SCALE, strict=True)]
    return np.sqrt(sum(a**2 for a in np.meshgrid(*axes, indexing="ij")))


@pytest.fixture
def viewer(make_napari_viewer_proxy):
    viewer = make_napari_viewer_proxy(show=True)
    viewer.window.resize(1280, 800)
    return viewer


@pytest.fixture
def dock(viewer):
    dock = SusceptibilityMapping(viewer)
    viewer.window.add_dock_widget(dock, name="Susceptibility mapping")
    dock.mask.chooser.choose("threshold")
    for name, box in dock.inversion.boxes.items():
        box.setChecked(name in ("tkd", "l2"))
    return dock


def add_scan(viewer):
    """A ball of tissue with a paramagnetic ball inside, in a linear background field."""
    distance = distance_mm()
    chi = np.where(distance < 4, 0.3, 0).astype(np.float32)
    field = dipole_field(torch.from_numpy(chi), GEOMETRY).numpy()
    field += np.linspace(-0.2, 0.2, SHAPE[2], dtype=np.float32)
    phase = np.stack([field * rad_per_ppm(TESLA, te) for te in TIMES_S])
    magnitude = np.where(distance < 17, 100.0, 1.0).astype(np.float32) * np.ones((2, 1, 1, 1), np.float32)
    known = {"acquisition": Acquisition(TIMES_S, TESLA), "b0_direction": (1, 0, 0), "orientation": "IPL"}
    place = {"scale": (1, *SCALE), "units": ("dimensionless", "mm", "mm", "mm")}
    for quantity, unit, values in (
        ("phase", "rad", np.angle(np.exp(1j * phase)).astype(np.float32)),
        ("magnitude", "", magnitude),
    ):
        about = {"metaqsm": {"quantity": quantity, "unit": unit, "space": None, "record": None, **known}}
        viewer.add_image(values, name=quantity, metadata=about, **place)


def wait(qtbot, dock):
    qtbot.waitUntil(lambda: not dock.is_running, timeout=60_000)


def test_from_a_scan_to_two_maps_side_by_side_and_back(viewer, dock, qtbot):
    add_scan(viewer)
    dock.run_button.click()
    assert dock.progress.isVisible()
    wait(qtbot, dock)
    assert [step.state for step in dock.steps] == [State.DONE] * 4, [s.status.text() for s in dock.steps]
    maps = dock.compare.checked()
    assert sorted(m.name for m in maps) == ["χ Closed-form L2", "χ TKD"]
    ball, around = distance_mm() < 3, (distance_mm() > 6) & (maps[0].data != 0)
    for layer in maps:
        assert layer.data[ball].mean() - layer.data[around].mean() > 0.1  # 0.3 ppm, low as both methods are
    steps = maps[0].metadata["metaqsm"]["record"]["steps"]
    assert [s["stage"] for s in steps] == ["field", "mask", "background", "inversion"]

    order, visible = [x.name for x in viewer.layers], [x.visible for x in viewer.layers]
    camera, axes = viewer.scene.camera.zoom, viewer.dims.order
    dock.compare.run_button.click()
    for plane, left, top in (("sagittal", "A", "S"), ("coronal", "R", "S"), ("axial", "R", "A")):
        dock.compare.plane_buttons[plane].click()
        overlays = viewer.canvas.overlays
        assert (overlays["metaqsm_left"].text, overlays["metaqsm_top"].text.strip()) == (left, top)
        viewer.screenshot(canvas_only=True, flash=False)  # it can be drawn
    dock.compare.run_button.click()
    assert [x.name for x in viewer.layers] == order
    assert [x.visible for x in viewer.layers] == visible
    assert (viewer.scene.camera.zoom, viewer.dims.order) == (camera, axes)
    assert not viewer.canvas.grid.enabled


def test_the_dock_is_narrow_scrolls_and_follows_the_theme(viewer, dock, qtbot):
    assert dock.width() <= 400
    assert viewer.window.geometry()[3] <= 800
    area = dock.findChild(QScrollArea)
    assert area.widget().minimumSizeHint().width() <= area.viewport().width()
    add_scan(viewer)
    dock.scan.echo_times_ms.setText("5")
    dark = dock.scan.status.styleSheet()
    viewer.theme = "light"
    assert dock.scan.status.styleSheet() != dark
    assert "border-left" in dock.scan.status.styleSheet()


def test_cancel_and_an_error_leave_the_window_usable(viewer, dock, qtbot):
    add_scan(viewer)
    dock.run_button.click()
    dock.cancel_button.click()
    wait(qtbot, dock)
    assert dock.run_button.isEnabled()
    viewer.layers["magnitude"].data = np.zeros((2, *SHAPE), np.float32)
    dock.mask.run_button.click()
    wait(qtbot, dock)
    assert dock.mask.state is State.FAILED
    assert "magnitude" in dock.mask.status.text()
    assert dock.run_button.isEnabled()


def test_removing_the_dock_ends_the_comparison_and_the_work(viewer, dock, qtbot):
    add_scan(viewer)
    dock.run_button.click()
    viewer.window.remove_dock_widget(dock)
    qtbot.waitUntil(lambda: not dock.is_running, timeout=10_000)
    assert [layer.name for layer in viewer.layers] == ["phase", "magnitude"]
    viewer.layers.clear()  # nothing listens any more
    dock.deleteLater()
