"""The lesion probe as a reader uses it: press, click, read, go from spot to spot, note, take one off."""

import gc
import json
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.utils.interactions import mouse_press_callbacks, mouse_release_callbacks
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from napari_metaqsm.errors import InputError
from napari_metaqsm.plugin.compare import compare
from napari_metaqsm.plugin.reading.desk import Desk
from napari_metaqsm.plugin.reading.spot_layers import NUMBERS, REGIONS
from napari_metaqsm.plugin.reading.spots import SpotsPanel
from napari_metaqsm.plugin.reading.spots_table import NOTE_COLUMN
from napari_metaqsm.plugin.reading.veil import HIDDEN, NAME, OUTLINE, VEIL, VeilControl
from napari_metaqsm.reading.reliability import reliability
from napari_metaqsm.reading.spots import probe

SHAPE, SIZE = (16, 40, 44), (2.0, 1.0, 0.8)
BLOOD, CALCIUM = (8, 14, 12), (9, 24, 30)


def values(seed, scale=1.0):
    chi = np.random.default_rng(seed).normal(0, 0.01, SHAPE)
    grid = np.indices(SHAPE).transpose(1, 2, 3, 0)
    for middle, value in ((BLOOD, 0.4), (CALCIUM, -0.3)):
        chi[(((grid - middle) * SIZE) ** 2).sum(-1) <= 9] += scale * value
    return chi.astype(np.float32)


def add_map(viewer, name, seed, scale=1.0):
    known = {"quantity": "susceptibility", "orientation": "IPL", "b0_direction": (1.0, 0.0, 0.0)}
    return viewer.add_image(
        values(seed, scale), name=name, scale=SIZE, units=("mm",) * 3, metadata={"metaqsm": known}
    )


@pytest.fixture
def viewer():
    viewer = ViewerModel()
    add_map(viewer, "TKD", 0)
    add_map(viewer, "TV", 1, 0.9)
    return viewer


@pytest.fixture
def desk(viewer, qapp):
    desk = Desk(viewer)
    yield desk
    desk.release()


@pytest.fixture
def panel(desk, qtbot):
    panel = SpotsPanel(desk)
    qtbot.addWidget(panel)
    panel.resize(1100, 260)
    panel.show()
    yield panel
    panel.release()
    qtbot.waitUntil(lambda: not panel.is_probing, timeout=30_000)


def settle(panel, qtbot):
    """Until nothing is measured, also what a layer that was added called for."""
    for _ in range(3):
        qtbot.wait(10)
        qtbot.waitUntil(lambda: not panel.is_probing, timeout=30_000)


def click(viewer, place, cell=(0, 0), dragged=False):
    """As the canvas tells of a press and a release at a place of the world."""
    event = SimpleNamespace(
        type="mouse_press", button=1, modifiers=(), pos=np.zeros(2), viewbox=cell, position=tuple(place)
    )
    mouse_press_callbacks(viewer, event)
    event.type = "mouse_move"
    if dragged:
        event.pos = np.array([40.0, 0.0])
        for drag in list(viewer._mouse_drag_gen.values()):
            next(drag, None)
    event.type = "mouse_release"
    mouse_release_callbacks(viewer, event)


def probe_both(panel, qtbot):
    for count, voxel in enumerate((BLOOD, CALCIUM), 1):
        panel.probe(voxel)
        qtbot.waitUntil(lambda count=count: len(panel.spots) == count, timeout=30_000)
    settle(panel, qtbot)


def texts(panel, row):
    return [panel.table.item(row, column).text() for column in range(panel.table.columnCount())]


# --------------------------------------------------------------------------------- the click
def test_a_click_measures_what_is_there_only_while_probe_is_pressed(panel, viewer, desk, qtbot):
    place = np.multiply(BLOOD, SIZE)
    click(viewer, place)
    settle(panel, qtbot)
    assert panel.spots == []
    qtbot.mouseClick(panel.probe_button, Qt.MouseButton.LeftButton)
    with qtbot.waitSignal(panel.changed):
        click(viewer, place)
    settle(panel, qtbot)
    assert panel.spots == [probe(desk.study(), BLOOD, "TKD")]
    qtbot.mouseClick(panel.probe_button, Qt.MouseButton.LeftButton)
    click(viewer, np.multiply(CALCIUM, SIZE))
    settle(panel, qtbot)
    assert len(panel.spots) == 1


def test_panning_and_painting_are_no_clicks(panel, viewer, qtbot):
    panel.probe_button.setChecked(True)
    click(viewer, np.multiply(BLOOD, SIZE), dragged=True)
    drawing = viewer.add_labels(np.zeros(SHAPE, int), scale=SIZE, units=("mm",) * 3)
    drawing.mode = "paint"
    click(viewer, np.multiply(BLOOD, SIZE))
    settle(panel, qtbot)
    assert panel.spots == []
    drawing.mode = "pan_zoom"
    click(viewer, np.multiply(BLOOD, SIZE))
    qtbot.waitUntil(lambda: len(panel.spots) == 1, timeout=30_000)
    assert viewer.layers.selection.active is drawing  # new layers do not take the brush away


def test_a_click_beside_the_maps_is_none(panel, viewer, qtbot):
    panel.probe_button.setChecked(True)
    click(viewer, (16.0, -30.0, 10.0))
    settle(panel, qtbot)
    assert panel.spots == []
    assert panel.status.text() == "Click a spot in any map"


@pytest.mark.parametrize("early", [True, False], ids=["pressed before", "pressed after"])
def test_in_a_comparison_the_voxel_is_that_of_the_clicked_cell(panel, viewer, desk, qtbot, early):
    """The second row shows the coronal plane, whose rows are not those of the viewer's world."""
    panel.probe_button.setChecked(early)
    comparison = compare(viewer, desk.maps)
    comparison.show(planes=("axial", "coronal"))
    panel.probe_button.setChecked(True)
    comparison.go_to((3, CALCIUM[1], 3))
    stage, cell = comparison._stage, comparison.cells[-1]
    axes, host = cell.axes, stage.rows[0].axes
    assert axes != host
    place = np.array(viewer.dims.point, float)
    start, steps = cell.layer.affine.affine_matrix[:3, 3], np.diag(cell.layer.affine.affine_matrix)[:3]
    for of, seen in ((axes.down, host.down), (axes.right, host.right)):
        place[seen] = start[seen] + steps[seen] * CALCIUM[of]
    index = viewer.layers.index(cell.layer)
    click(viewer, place, viewer.canvas.grid.position(index, viewer.layers))
    qtbot.waitUntil(lambda: len(panel.spots) == 1, timeout=30_000)
    assert panel.spots[0].clicked == CALCIUM
    settle(panel, qtbot)
    assert not any(viewer.layers[name].visible for name in (REGIONS, NUMBERS))  # no cell of their own
    comparison.close()
    assert all(viewer.layers[name].visible for name in (REGIONS, NUMBERS))


# ---------------------------------------------------------------------------------- the list
def test_a_row_says_what_was_found(panel, desk, qtbot):
    probe_both(panel, qtbot)
    spot = panel.spots[1]
    number, place, sign, volume, note, first, second = texts(panel, 1)
    assert (number, sign, note) == ("2", "diamagnetic, clear", "")
    letters = dict(zip(place.split()[::2], place.split()[1::2], strict=True))
    assert letters["L"] == f"{-spot.offset_mm[0]:.0f}"
    assert volume == f"{spot.volume_mm3:.0f}"
    for title, text in (("TKD", first), ("TV", second)):
        v = spot.methods[title]
        assert text.replace("−", "-") == f"{v.mean:+.3f} ({v.peak:+.3f})"
    assert "Clearly diamagnetic" in panel.details.text()
    assert "consistent with calcium" in panel.details.text()


def test_arrows_and_clicks_go_from_spot_to_spot(panel, desk, qtbot):
    probe_both(panel, qtbot)
    assert desk.voxel not in (panel.spots[0].peak, panel.spots[1].peak)  # probing moves nothing
    panel.table.setFocus()
    qtbot.keyClick(panel.table, Qt.Key.Key_Up)
    assert desk.voxel == panel.spots[0].peak
    assert "Clearly paramagnetic" in panel.details.text()
    qtbot.keyClick(panel.table, Qt.Key.Key_Down)
    assert desk.voxel == panel.spots[1].peak
    desk.go_to((0, 0, 0))
    item = panel.table.visualItemRect(panel.table.item(1, 1)).center()
    qtbot.mouseClick(panel.table.viewport(), Qt.MouseButton.LeftButton, pos=item)
    assert desk.voxel == panel.spots[1].peak  # the same row again


def test_the_same_spot_is_not_listed_twice(panel, qtbot):
    probe_both(panel, qtbot)
    panel.probe((BLOOD[0], BLOOD[1] + 1, BLOOD[2]))
    settle(panel, qtbot)
    assert len(panel.spots) == 2
    assert panel.table.currentRow() == 0


def test_clicks_in_quick_succession_are_all_measured(panel, qtbot):
    panel.probe(BLOOD)
    panel.probe(CALCIUM)
    qtbot.waitUntil(lambda: len(panel.spots) == 2, timeout=30_000)
    assert [spot.sign for spot in panel.spots] == [1, -1]


def test_a_note_is_kept_and_a_spot_can_be_taken_off(panel, desk, viewer, qtbot):
    probe_both(panel, qtbot)
    with qtbot.waitSignal(panel.changed):
        panel.table.item(1, NOTE_COLUMN).setText("seen on CT")
    desk.changed.emit()
    settle(panel, qtbot)
    assert [spot.note for spot in panel.spots] == ["", "seen on CT"]
    panel.table.setCurrentCell(0, 0)
    with qtbot.waitSignal(panel.changed):
        qtbot.mouseClick(panel.remove_button, Qt.MouseButton.LeftButton)
    assert [spot.note for spot in panel.spots] == ["seen on CT"]
    assert texts(panel, 0)[NOTE_COLUMN] == "seen on CT"
    assert np.unique(viewer.layers[REGIONS].data).tolist() == [0, 1]
    qtbot.mouseClick(panel.remove_button, Qt.MouseButton.LeftButton)
    assert not {REGIONS, NUMBERS} & {layer.name for layer in viewer.layers}


def test_a_note_in_a_row_that_is_not_selected_is_that_rows(panel, qtbot):
    probe_both(panel, qtbot)
    assert panel.table.currentRow() == 1
    panel.table.item(0, NOTE_COLUMN).setText("first")
    assert [spot.note for spot in panel.spots] == ["first", ""]


def test_spots_are_seen_in_the_viewer(panel, viewer, qtbot):
    probe_both(panel, qtbot)
    regions, numbers = viewer.layers[REGIONS], viewer.layers[NUMBERS]
    for number, spot in enumerate(panel.spots, 1):
        expected = np.zeros(SHAPE, bool)
        expected[tuple(spot.region.T)] = True
        np.testing.assert_array_equal(regions.data == number, expected)
        place = numbers.data_to_world(numbers.data[number - 1])
        np.testing.assert_allclose(place, np.multiply(spot.peak, SIZE))
    assert numbers.text.values.tolist() == ["1", "2"]
    assert panel.made(regions)
    # The sliders step through the slices as they did without the rings.
    assert [step for _, _, step in viewer.dims.range] == pytest.approx(SIZE)
    assert panel.made(numbers)
    assert not panel.made(viewer.layers["TKD"])


# --------------------------------------------------------------------------- what it follows
def test_other_values_are_measured_anew(panel, desk, viewer, qtbot):
    probe_both(panel, qtbot)
    before = panel.spots
    layer = viewer.layers["TV"]
    with qtbot.waitSignal(panel.changed):
        layer.data = layer.data + np.float32(0.05)
    settle(panel, qtbot)
    for old, new in zip(before, panel.spots, strict=True):
        assert new.methods["TV"].mean == pytest.approx(old.methods["TV"].mean + 0.05, abs=1e-6)
        assert new.methods["TKD"] == old.methods["TKD"]
    add_map(viewer, "MEDI", 5)
    qtbot.waitUntil(lambda: all("MEDI" in spot.methods for spot in panel.spots), timeout=30_000)


def test_where_the_lead_map_is_gone_another_one_leads(panel, viewer, qtbot):
    panel.lead.setCurrentText("TV")
    panel.probe(BLOOD)
    qtbot.waitUntil(lambda: len(panel.spots) == 1, timeout=30_000)
    assert panel.spots[0].lead == "TV"
    viewer.layers.remove("TV")
    qtbot.waitUntil(lambda: list(panel.spots[0].methods) == ["TKD"], timeout=30_000)
    assert panel.spots[0].lead == "TKD"


def test_what_cannot_be_probed_is_said(panel, desk, viewer, qtbot):
    for title in ("TKD", "TV"):
        viewer.layers[title].data = values(0) * (np.indices(SHAPE)[1] > 8)
    panel.probe((8, 1, 1))
    qtbot.waitUntil(lambda: "TKD is not known within 3 mm" in panel.status.text(), timeout=30_000)
    assert panel.spots == []
    desk.choose([])
    qtbot.waitUntil(lambda: not panel.probe_button.isEnabled(), timeout=30_000)
    assert panel.status.text().startswith("No map is chosen")


def test_a_reading_comes_back(panel, desk, qtbot):
    probe_both(panel, qtbot)
    panel.table.item(0, NOTE_COLUMN).setText("old")
    state = json.loads(json.dumps(panel.state()))
    before = panel.spots
    panel.restore([])
    assert panel.spots == []
    panel.restore(state)
    assert panel.spots == before
    settle(panel, qtbot)
    assert panel.spots == before
    with pytest.raises(InputError, match="no probed spot"):
        panel.restore([{"voxel": 3}])
    assert panel.spots == before


def test_what_is_unreliable_lowers_the_confidence(panel, qtbot):
    probe_both(panel, qtbot)
    panel.set_unreliable(np.ones(SHAPE, bool))
    qtbot.waitUntil(lambda: panel.spots[0].unreliable == 1, timeout=30_000)
    assert "100 % of it being unreliable" in panel.details.text()
    panel.set_unreliable(np.ones((2, 2, 2), bool))  # of other maps
    qtbot.waitUntil(lambda: panel.spots[0].unreliable is None, timeout=30_000)


def test_nothing_is_left_after_fifty_rounds(viewer, desk, qtbot):
    heard = [viewer.layers.events.inserted, viewer.layers.events.removed]
    before = [len(e.callbacks) for e in heard], len(viewer.mouse_drag_callbacks), len(viewer.layers)
    left = []
    for _ in range(50):
        panel, veil = SpotsPanel(desk), VeilControl(desk)
        panel.probe_button.setChecked(True)
        panel.release()
        veil.release()
        left += [weakref.ref(panel), weakref.ref(veil)]
        panel.deleteLater()
        veil.deleteLater()
        del panel, veil
    assert ([len(e.callbacks) for e in heard], len(viewer.mouse_drag_callbacks), len(viewer.layers)) == before
    QApplication.sendPostedEvents(None, 0)
    qtbot.wait(1)
    gc.collect()
    assert sum(ref() is not None for ref in left) <= 2


# ----------------------------------------------------------------------------------- the veil
def test_the_veil_lies_over_what_is_unreliable_and_tells_why(desk, viewer, qtbot):
    veil = VeilControl(desk)
    qtbot.addWidget(veil)
    with qtbot.waitSignal(veil.changed):
        qtbot.waitUntil(lambda: not veil.is_measuring, timeout=30_000)
    expected = reliability(desk.study())
    np.testing.assert_array_equal(veil.unreliable, expected.unreliable)
    assert f"{100 * expected.share:.1f} % of the voxels are unreliable" in veil.status.text()
    assert "There is no noise map" in veil.status.text()
    assert NAME not in viewer.layers
    veil.how.setCurrentText(VEIL)
    layer = viewer.layers[NAME]
    np.testing.assert_array_equal(layer.data != 0, expected.unreliable)
    assert (layer.contour, viewer.layers.selection.active.name) == (0, "TV")
    veil.how.setCurrentText(OUTLINE)
    assert viewer.layers[NAME] is layer
    assert layer.contour == 1
    viewer.layers["TV"].data = values(1, 2.0)
    qtbot.waitUntil(lambda: not np.array_equal(layer.data != 0, expected.unreliable), timeout=30_000)
    comparison = compare(viewer, desk.maps)
    assert not layer.visible
    comparison.close()
    assert layer.visible
    veil.how.setCurrentText(HIDDEN)
    assert NAME not in viewer.layers
    veil.how.setCurrentText(VEIL)
    desk.choose([])
    qtbot.waitUntil(lambda: veil.unreliable is None, timeout=30_000)
    assert NAME not in viewer.layers
    veil.release()
