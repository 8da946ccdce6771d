"""The panel says what was found of the maps on the desk, or of the scan before there are any."""

import gc
import weakref

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import Qt

from napari_metaqsm.plugin.reading.desk import Desk
from napari_metaqsm.plugin.reading.trust import TrustPanel
from napari_metaqsm.reading.findings import Severity, find_in
from napari_metaqsm.scan import Acquisition

SHAPE = (30, 50, 50)
ACQUISITION = Acquisition((0.010, 0.015), 3.0)
TURN_PPM = 1.565


def add(viewer, name, quantity, values, **place):
    echoes = values.ndim - 3
    known = {
        "quantity": quantity,
        "orientation": "IPL",
        "b0_direction": (1.0, 0.0, 0.0),
        "acquisition": ACQUISITION,
    }
    settings = {"scale": (1.0,) * echoes + (3.0, 2.0, 2.0), "units": ("",) * echoes + ("mm",) * 3, **place}
    data = values.astype(np.uint8) if quantity == "mask" else values.astype(np.float32)
    adding = viewer.add_labels if quantity == "mask" else viewer.add_image
    return adding(data, name=name, metadata={"metaqsm": known}, **settings)


def add_phase(viewer):
    return add(viewer, "phase", "phase", np.random.default_rng(0).uniform(-np.pi, np.pi, (2, *SHAPE)))


def add_maps(viewer, wrapped=True):
    mask = np.ones(SHAPE, bool)
    field = np.zeros(SHAPE)
    field[10:20, 20:30, 20:30] += TURN_PPM * wrapped
    add(viewer, "mask", "mask", mask)
    add(viewer, "field", "total_field", field)
    return add(viewer, "χ", "susceptibility", np.random.default_rng(1).normal(0, 0.05, SHAPE))


@pytest.fixture
def viewer():
    return ViewerModel()


@pytest.fixture
def panel(viewer, qtbot):
    desk = Desk(viewer)
    panel = TrustPanel(desk)
    qtbot.addWidget(panel)
    yield panel
    panel.release()
    desk.release()


def after(qtbot, panel, act):
    """What the panel found after ``act``."""
    with qtbot.waitSignal(panel.found, timeout=20_000):
        act()
    return {row.finding.name: row for row in panel.rows}


def test_without_a_scan_it_says_what_to_open(panel, qtbot):
    rows = after(qtbot, panel, lambda: None)
    assert not rows
    assert panel.status.text().startswith("Open a scan")
    assert panel.in_order.isHidden()
    assert panel.not_checked.isHidden()


def test_a_scan_is_checked_before_there_is_a_map(panel, viewer, qtbot):
    rows = after(qtbot, panel, lambda: add_phase(viewer))
    assert rows["Number of echoes"].line.text() == "!  Two echoes only"
    assert rows["Phase scaling"].finding.severity is Severity.IN_ORDER
    assert rows["Reference"].finding.severity is Severity.NOT_CHECKED
    assert rows["Reference"].line.text() == "–  Reference: needs a susceptibility map"


def test_maps_are_found_as_the_core_finds_them_the_worst_first(panel, viewer, qtbot):
    rows = after(qtbot, panel, lambda: (add_phase(viewer), add_maps(viewer)))
    assert panel.findings == find_in(panel.desk.study())
    order = list(Severity)
    severities = [order.index(row.finding.severity) for row in panel.rows]
    assert severities == sorted(severities)
    wrong = sum(s == 0 for s in severities)
    assert f"{wrong} wrong" in panel.status.text()
    assert rows["Wraps left in the field"].line.text().startswith("✗")
    assert panel.in_order.header.text() == f"In order ({severities.count(order.index(Severity.IN_ORDER))})"


def test_a_click_unfolds_a_line_and_goes_to_its_place(panel, viewer, qtbot):
    row = after(qtbot, panel, lambda: add_maps(viewer))["Wraps left in the field"]
    panel.show()
    assert not row.details.isVisible()
    place = row.finding.place
    assert panel.desk.voxel != place
    qtbot.mouseClick(row.line, Qt.MouseButton.LeftButton)
    assert row.details.isVisible()
    assert panel.desk.voxel == place
    jumps = [abs(np.diff(viewer.layers["field"].data, axis=a)[place]) for a in range(3)]
    assert max(jumps) == pytest.approx(TURN_PPM)
    qtbot.mouseClick(row.line, Qt.MouseButton.LeftButton)
    assert not row.details.isVisible()


def test_a_place_of_a_scan_without_maps_is_gone_to_as_well(panel, viewer, qtbot):
    magnitude = np.ones((2, *SHAPE))
    magnitude[:, :, :10] = 0.1
    magnitude[:, 5, 20, 30] = np.nan
    row = after(qtbot, panel, lambda: add(viewer, "magnitude", "magnitude", magnitude))["Values"]
    row.arrow.click()
    assert tuple(viewer.dims.current_step[-3:]) == row.finding.place == (5, 20, 30)


def test_what_is_in_order_and_not_checked_is_folded_until_wanted(panel, viewer, qtbot):
    rows = after(qtbot, panel, lambda: add_maps(viewer))
    panel.show()
    assert not rows["Obliquity"].isVisible()
    panel.in_order.header.click()
    assert rows["Obliquity"].isVisible()
    assert not rows["Phase scaling"].isVisible()
    panel.not_checked.header.click()
    assert rows["Phase scaling"].isVisible()
    assert not rows["Phase scaling"].arrow.isEnabled()
    # Not the arrow's name in place of an arrow.
    assert rows["Phase scaling"].arrow.width() == rows["Obliquity"].arrow.width()
    assert rows["Phase scaling"].line.width() > 0.8 * panel.width()


def test_new_values_are_looked_at_anew_and_what_was_unfolded_stays(panel, viewer, qtbot):
    rows = after(qtbot, panel, lambda: add_maps(viewer))
    rows["Wraps left in the field"].arrow.click()
    rows["Voxel size"].arrow.click()
    field = viewer.layers["field"]
    rows = after(qtbot, panel, lambda: setattr(field, "data", np.zeros_like(field.data)))
    assert rows["Wraps left in the field"].finding.severity is Severity.IN_ORDER
    assert rows["Voxel size"].is_unfolded
    assert not rows["Obliquity"].is_unfolded


def test_findings_that_are_the_same_leave_their_lines_where_they_are(panel, viewer, qtbot):
    after(qtbot, panel, lambda: add_maps(viewer))
    before = list(panel.rows)
    field = viewer.layers["field"]
    after(qtbot, panel, lambda: setattr(field, "data", field.data.copy()))
    assert panel.rows == before


def test_without_its_layers_nothing_is_left(panel, viewer, qtbot):
    after(qtbot, panel, lambda: add_maps(viewer))
    assert not after(qtbot, panel, viewer.layers.clear)
    assert panel.status.text().startswith("Open a scan")


def test_the_edges_follow_the_theme(panel, viewer, qtbot):
    row = after(qtbot, panel, lambda: add_maps(viewer))["Wraps left in the field"]
    dark = row.styleSheet()
    viewer.theme = "light"
    assert row.styleSheet() != dark


def test_fifty_panels_leave_nothing_behind(viewer, qtbot):
    add_maps(viewer)
    desk = Desk(viewer)
    listening = len(viewer.events.theme.callbacks)
    gone = []
    for _ in range(50):
        panel = TrustPanel(desk)
        qtbot.addWidget(panel)
        panel.release()
        gone.append(weakref.ref(panel))
        panel.close()
        panel.deleteLater()
    assert len(viewer.events.theme.callbacks) == listening
    del panel
    qtbot.wait(10)
    gc.collect()
    assert sum(ref() is not None for ref in gone) == 0
    desk.release()


def test_a_panel_that_was_let_go_says_nothing_more(viewer, qtbot):
    desk = Desk(viewer)
    panel = TrustPanel(desk)
    qtbot.addWidget(panel)
    panel.release()
    with qtbot.assertNotEmitted(panel.found, wait=600):
        add_maps(viewer)
    desk.release()
