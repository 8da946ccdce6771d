"""The table of regions, driven as a reader drives it: drawn, measured, sorted, named, copied, gone to."""

import csv
import gc
import json
import math
import weakref

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QApplication, QFileDialog, QLineEdit

from napari_metaqsm.plugin.layers import geometry_of
from napari_metaqsm.plugin.reading.desk import Desk, same_grid
from napari_metaqsm.plugin.reading.regions import QUIET_MS, RegionsPanel
from napari_metaqsm.plugin.reading.regions_choice import name_region, names_of
from napari_metaqsm.plugin.reading.regions_model import MARK, UNKNOWN
from napari_metaqsm.plugin.reading.session import gather, read_session

SHAPE = (8, 20, 24)
PLACE = {"scale": (3.0, 1.0, 0.5), "units": ("mm",) * 3}
TITLES = ("TKD", "MEDI")
SD, MEDIAN = "Mean ± SD", "Median"


def add_map(viewer, name, seed):
    values = np.random.default_rng(seed).normal(0.05, 0.1, SHAPE).astype(np.float32)
    values[0] = 0  # outside the mask
    known = {"quantity": "susceptibility", "orientation": "IPL", "b0_direction": (1.0, 0.0, 0.0)}
    return viewer.add_image(values, name=name, metadata={"metaqsm": known}, **PLACE)


def drawing():
    """Label 2 the largest, 5 partly outside the mask, 7 wholly outside it, 30 of nine voxels."""
    labels = np.zeros(SHAPE, np.int32)
    labels[3:6, 2:9, 2:9] = 2
    labels[0:3, 12:16, 4:9] = 5
    labels[0, 1:5, 15:20] = 7
    labels[6, 12:15, 12:15] = 30
    return labels


@pytest.fixture
def viewer():
    viewer = ViewerModel()
    for seed, title in enumerate(TITLES):
        add_map(viewer, title, seed)
    return viewer


@pytest.fixture
def desk(viewer, qapp):
    desk = Desk(viewer)
    yield desk
    desk.release()


@pytest.fixture
def panel(desk, qtbot):
    panel = RegionsPanel(desk)
    panel.resize(1100, 260)
    panel.show()
    yield panel
    panel.release()
    qtbot.waitUntil(lambda: not panel.is_measuring, timeout=30_000)
    panel.close()
    panel.deleteLater()


@pytest.fixture
def layer(viewer, panel, qtbot):
    """Drawn regions, measured."""
    layer = viewer.add_labels(drawing(), name="drawn", **PLACE)
    qtbot.waitUntil(lambda: panel.labels_layer is layer and bool(panel.measures), timeout=30_000)
    settle(panel, qtbot)
    return layer


def settle(panel, qtbot):
    qtbot.waitUntil(lambda: not panel.is_measuring, timeout=30_000)


def cell(panel, label, title):
    """What stands in the row of a label, under a title."""
    column = titles(panel).index(title)
    return panel.model.data(panel.model.index(panel.model.row_of(label), column))


def titles(panel):
    model = panel.model
    return [model.headerData(n, Qt.Orientation.Horizontal) for n in range(model.columnCount())]


def labels_shown(panel):
    return [region.label for region in panel.model.regions]


def click(panel, qtbot, label, modifier=Qt.KeyboardModifier.NoModifier):
    place = panel.model.index(panel.model.row_of(label), 3)
    panel.table.scrollTo(place)
    where = panel.table.visualRect(place).center()
    qtbot.mouseClick(panel.table.viewport(), Qt.MouseButton.LeftButton, modifier, where)


# ------------------------------------------------------------------------------------- figures
def test_the_table_shows_numpys_figures_for_every_map(panel, layer, viewer):
    assert titles(panel) == [
        *("Region", "Label", "", "Voxels", "Volume\nmm³"),
        *(f"{t}\n{s} ppm" for t in TITLES for s in (SD, MEDIAN)),
    ]
    where = layer.data == 2
    for title in TITLES:
        values = viewer.layers[title].data[where].astype(float)
        shown = f"{values.mean():.4f} ± {values.std(ddof=1):.4f}".replace("-", "−")
        assert cell(panel, 2, f"{title}\n{SD} ppm") == shown
        assert cell(panel, 2, f"{title}\n{MEDIAN} ppm") == f"{np.median(values):.4f}".replace("-", "−")
    assert cell(panel, 2, "Voxels") == str(where.sum())
    assert cell(panel, 2, "Volume\nmm³") == f"{where.sum() * 1.5:.1f}"
    assert cell(panel, 7, f"TKD\n{SD} ppm") == UNKNOWN  # none of it is in the mask


def test_other_figures_and_another_unit(panel, layer, viewer):
    panel.statistics["median"].setChecked(False)
    panel.statistics["p95"].setChecked(True)
    panel.unit.setCurrentText("ppb")
    assert [t for t in titles(panel) if t.startswith("TKD")] == [f"TKD\n{SD} ppb", "TKD\n95 % ppb"]
    values = viewer.layers["TKD"].data[layer.data == 2].astype(float)
    assert cell(panel, 2, "TKD\n95 % ppb") == f"{1000 * np.percentile(values, 95):.1f}"


def fill_gap(layer):
    layer.fill((4, 4, 4), 9)


def erase(layer):
    layer.selected_label = 2
    layer.mode = "erase"
    layer.paint((4, 5, 5), 0)


def undo_and_redo(layer):
    layer.paint((4, 5, 5), 11)
    layer.undo()
    layer.redo()


def in_place(layer):
    layer.data[7] = 3
    layer.refresh()


STROKES = {
    "paint": lambda layer: layer.paint((4, 15, 15), 1),
    "polygon": lambda layer: layer.paint_polygon([[4, 12, 12], [4, 12, 20], [4, 18, 20]], 1),
    "fill": fill_gap,
    "erase": erase,
    "redo": undo_and_redo,
    "another array": lambda layer: setattr(layer, "data", drawing()[::-1].copy()),
    "in place": in_place,
}


@pytest.mark.parametrize("stroke", STROKES.values(), ids=STROKES)
def test_it_follows_every_stroke(panel, layer, qtbot, stroke):
    before = layer.data.copy()
    stroke(layer)
    assert not np.array_equal(before, layer.data)

    def follows():
        found = {r.label: r.voxels for r in panel.measures}
        assert found == {n: (layer.data == n).sum() for n in np.unique(layer.data) if n}

    qtbot.waitUntil(follows, timeout=30_000)


def test_it_follows_undo_also_after_scrolling(panel, layer, viewer, qtbot):
    layer.paint((4, 15, 15), 1)
    qtbot.waitUntil(lambda: 1 in labels_shown(panel), timeout=30_000)
    viewer.dims.set_point(0, 9)
    layer.undo()
    qtbot.waitUntil(lambda: 1 not in labels_shown(panel), timeout=30_000)


def test_a_hidden_layer_that_gets_other_regions_is_measured(panel, layer, qtbot):
    layer.visible = False
    settle(panel, qtbot)
    layer.data = np.where(drawing() == 2, 4, 0)
    qtbot.waitUntil(lambda: labels_shown(panel) == [4], timeout=30_000)


def test_scrolling_measures_nothing(panel, layer, viewer, qtbot):
    told = []
    panel.measured.connect(lambda: told.append(1))
    for z in range(SHAPE[0]):
        viewer.dims.set_point(0, 3.0 * z)
    qtbot.wait(3 * QUIET_MS)
    assert not told
    layer.paint((4, 15, 15), 1)  # while a stroke is measured
    qtbot.waitUntil(lambda: bool(told), timeout=30_000)


def test_it_follows_new_values_and_new_maps(panel, layer, viewer, qtbot):
    before = panel.measures.region(2).maps["TKD"].mean
    tkd = viewer.layers["TKD"]
    tkd.data = np.where(tkd.data == 0, 0, tkd.data + 0.25)  # another reference
    qtbot.waitUntil(
        lambda: panel.measures.region(2).maps["TKD"].mean == pytest.approx(before + 0.25), timeout=30_000
    )
    add_map(viewer, "iLSQR", 9)
    qtbot.waitUntil(lambda: panel.measures.titles == (*TITLES, "iLSQR"), timeout=30_000)
    assert f"iLSQR\n{SD} ppm" in titles(panel)
    viewer.layers.remove("TKD")
    qtbot.waitUntil(lambda: panel.measures.titles == ("MEDI", "iLSQR"), timeout=30_000)


def test_the_layer_chosen_last_wins(panel, layer, viewer, qtbot):
    other = viewer.add_labels(np.full(SHAPE, 4, np.uint8), name="other", **PLACE)
    qtbot.waitUntil(lambda: panel.labels_layer is other, timeout=30_000)
    told = []
    panel.measured.connect(lambda: told.append([r.label for r in panel.measures]))
    for chosen in (layer, other) * 5:
        panel.choice.choose(chosen)
    settle(panel, qtbot)
    qtbot.waitUntil(lambda: bool(told), timeout=30_000)
    assert told[-1] == [4]
    assert panel.choice.combo.currentText() == "other"


# ------------------------------------------------------------------------------------ its rows
def test_a_click_goes_to_the_region_and_takes_its_label(panel, layer, desk, viewer, qtbot):
    click(panel, qtbot, 30)
    assert desk.voxel == (6, 13, 13)
    assert layer.selected_label == 30
    qtbot.keyClick(panel.table, Qt.Key.Key_Up)
    assert layer.selected_label == 7
    assert desk.voxel[0] == 0
    # New figures select the row again, but go nowhere.
    viewer.dims.set_point(0, 12)
    layer.paint((4, 15, 15), 1)
    qtbot.waitUntil(lambda: 1 in labels_shown(panel), timeout=30_000)
    assert [r.label for r in panel.table.selected] == [7]
    assert panel.table.current.label == 7
    assert desk.voxel[0] == 4
    # The same row once more: the reader has been elsewhere meanwhile.
    click(panel, qtbot, 7)
    assert desk.voxel[0] == 0


def test_columns_sort_as_numbers_and_what_is_not_known_stands_last(panel, layer, qtbot):
    header = panel.table.horizontalHeader()

    def click_on(title):
        column = titles(panel).index(title)
        place = QPoint(header.sectionViewportPosition(column) + 20, 5)
        qtbot.mouseClick(header.viewport(), Qt.MouseButton.LeftButton, pos=place)

    assert labels_shown(panel) == [2, 5, 7, 30]
    click_on("Voxels")
    assert labels_shown(panel) == [30, 7, 5, 2]  # 9 before 20
    mean = {r.label: r.maps["MEDI"].mean for r in panel.measures}
    known = sorted((n for n in mean if n != 7), key=mean.get)
    click_on(f"MEDI\n{SD} ppm")
    assert labels_shown(panel) == [*known, 7]
    click_on(f"MEDI\n{SD} ppm")
    assert labels_shown(panel) == [*reversed(known), 7]
    # A stroke keeps the order that was chosen.
    layer.paint((4, 15, 15), 1)
    qtbot.waitUntil(lambda: 1 in labels_shown(panel), timeout=30_000)
    mean = {r.label: r.maps["MEDI"].mean for r in panel.measures}
    assert labels_shown(panel) == [*sorted((n for n in mean if n != 7), key=mean.get, reverse=True), 7]


def test_what_misleads_is_marked_and_said(panel, layer, qtbot):
    assert [cell(panel, n, "") for n in (2, 5, 7, 30)] == ["", MARK, MARK, MARK]
    assert panel.status.text() == "3 of 4 regions are to be read with care"
    tip = panel.model.data(panel.model.index(1, 0), Qt.ItemDataRole.ToolTipRole)
    assert tip == "33 % of its voxels lie outside the mask of every map and do not count"
    click(panel, qtbot, 30)
    assert panel.status.text() == "Region 30: Only 9 voxels count: too few for a mean to be trusted"
    click(panel, qtbot, 2)
    assert not panel.status.text().strip()


def test_the_share_of_unreliable_voxels_has_a_column_where_it_is_known(panel, layer, qtbot):
    assert "Unreliable\n%" not in titles(panel)
    unreliable = np.zeros(SHAPE, bool)
    unreliable[3] = True
    panel.set_unreliable(unreliable)
    qtbot.waitUntil(lambda: "Unreliable\n%" in titles(panel), timeout=30_000)
    assert cell(panel, 2, "Unreliable\n%") == "33"
    assert cell(panel, 2, "") == MARK
    panel.set_unreliable(np.zeros((2, 2, 2), bool))
    qtbot.waitUntil(lambda: panel.measures is None, timeout=30_000)
    assert "unreliable voxels are (2, 2, 2) voxels" in panel.status.text()
    assert panel.model.rowCount() == 0
    assert not panel.copy_button.isEnabled()


def test_the_chip_has_the_labels_colour(panel, layer, qtbot):
    def chip():
        colour = panel.model.data(panel.model.index(0, 0), Qt.ItemDataRole.DecorationRole)
        return colour.getRgbF()[:3]

    assert chip() == pytest.approx(tuple(layer.colormap.map(2)[:3]), abs=1e-3)
    before = chip()
    layer.visible = False  # a visible one is sliced anew as well
    settle(panel, qtbot)
    with qtbot.waitSignal(panel.model.dataChanged):
        layer.new_colormap(seed=7)
    assert chip() == pytest.approx(tuple(layer.colormap.map(2)[:3]), abs=1e-3)
    assert chip() != before


# ----------------------------------------------------------------------------------- its names
def type_name(panel, qtbot, label, name):
    place = panel.model.index(panel.model.row_of(label), 0)
    panel.table.setCurrentIndex(place)
    panel.table.edit(place)
    editor = panel.table.names.findChild(QLineEdit)
    editor.selectAll()
    qtbot.keyClicks(editor, name) if name else editor.clear()
    qtbot.keyClick(editor, Qt.Key.Key_Return)


def test_a_typed_name_stays_with_the_layer(panel, layer, viewer, qtbot):
    with qtbot.waitSignal(panel.measured):
        type_name(panel, qtbot, 5, "red nucleus")
    assert panel.measures.region(5).name == "red nucleus"
    assert names_of(layer) == {5: "red nucleus"}
    layer.paint((4, 15, 15), 1)
    qtbot.waitUntil(lambda: 1 in labels_shown(panel), timeout=30_000)
    assert cell(panel, 5, "Region") == "red nucleus"
    with qtbot.waitSignal(panel.measured):
        type_name(panel, qtbot, 5, "")
    assert cell(panel, 5, "Region") == "region 5"
    index = panel.model.index(0, 3)
    assert not panel.model.flags(index) & Qt.ItemFlag.ItemIsEditable


def test_names_come_from_features_and_from_freesurfer_where_the_layer_says_so(panel, layer, qtbot):
    assert cell(panel, 5, "Region") == "region 5"
    layer.name = "sub-01_aseg"
    qtbot.waitUntil(lambda: cell(panel, 5, "Region") == "left inferior lateral ventricle", timeout=30_000)
    layer.features = {"index": [2, 5], "name": ["core", ""]}
    qtbot.waitUntil(lambda: cell(panel, 2, "Region") == "core", timeout=30_000)
    assert cell(panel, 5, "Region") == "left inferior lateral ventricle"


# --------------------------------------------------------------------------- what is taken away
def test_copying_takes_figures_and_titles_to_a_spreadsheet(panel, layer, qtbot):
    panel.unit.setCurrentText("ppb")
    panel.copy_button.click()
    rows = [line.split("\t") for line in QApplication.clipboard().text().split("\n")]
    assert rows[0][:5] == ["Region", "Voxels", "Volume mm³", "TKD, Mean ppb", "TKD, SD ppb"]
    assert [row[0] for row in rows[1:]] == ["region 2", "region 5", "region 7", "region 30"]
    assert len({len(row) for row in rows}) == 1
    measure = panel.measures.region(2).maps["TKD"]
    assert float(rows[1][3]) == pytest.approx(1000 * measure.mean, rel=1e-5)
    assert float(rows[1][4]) == pytest.approx(1000 * measure.sd, rel=1e-5)

    click(panel, qtbot, 30)
    click(panel, qtbot, 5, Qt.KeyboardModifier.ControlModifier)
    panel.table.setFocus()
    panel.activateWindow()
    qtbot.waitUntil(panel.table.hasFocus, timeout=30_000)
    qtbot.keyClick(panel.table, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    rows = QApplication.clipboard().text().split("\n")
    assert [row.split("\t")[0] for row in rows] == ["Region", "region 5", "region 30"]


def test_the_csv_has_a_row_for_every_region_and_map(panel, layer, tmp_path, monkeypatch):
    file = tmp_path / "regions.csv"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *args: (str(file), ""))
    panel.unit.setCurrentText("ppb")  # on screen only
    panel.export_button.click()
    rows = list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))
    assert [(r["label"], r["map"]) for r in rows] == [(n, t) for n in ("2", "5", "7", "30") for t in TITLES]
    assert float(rows[0]["p95_ppm"]) == pytest.approx(panel.measures.region(2).maps["TKD"].p95, rel=1e-5)
    assert panel.status.text() == "Written: regions.csv, 4 regions in 2 maps"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *args: (str(file / "x.csv"), ""))
    panel.export_button.click()
    assert panel.status.text().startswith("x.csv could not be written: ")
    assert "Not a directory" in panel.status.text()


def test_the_names_stay_while_the_figures_scroll_and_share_their_rows(panel, layer, viewer, qtbot):
    for action in panel.statistics.values():
        action.setChecked(True)
    bar = panel.table.horizontalScrollBar()
    qtbot.waitUntil(lambda: bar.maximum() > 0, timeout=30_000)
    names = panel.table.names

    def place():
        rectangle = names.visualRect(panel.model.index(1, 0))
        return names.viewport().mapTo(panel, rectangle.topLeft()), rectangle.height()

    before = place()
    row = panel.table.visualRect(panel.model.index(1, 3))
    beside = panel.table.viewport().mapTo(panel, row.topLeft())
    assert (beside.y(), row.height()) == (before[0].y(), before[1])
    bar.setValue(bar.maximum())
    assert place() == before
    # A click on a name goes there as well, and F2 edits it from any column.
    where = names.visualRect(panel.model.index(3, 0)).center()
    qtbot.mouseClick(names.viewport(), Qt.MouseButton.LeftButton, pos=where)
    assert layer.selected_label == 30
    click(panel, qtbot, 5)
    qtbot.keyClick(panel.table, Qt.Key.Key_F2)
    assert names.findChild(QLineEdit).text() == "region 5"


# ------------------------------------------------------------------------------- which regions
def test_a_drawing_begins_with_one_button(panel, viewer, qtbot):
    viewer.dims.ndisplay = 3
    panel.choice.new_region.click()
    layer = panel.labels_layer
    assert isinstance(layer, Labels)
    assert same_grid(layer, viewer.layers["TKD"])
    assert geometry_of(layer).voxel_size_mm == pytest.approx(PLACE["scale"])
    assert viewer.layers.selection.active is layer
    assert (layer.mode, layer.selected_label, viewer.dims.ndisplay) == ("paint", 1, 2)
    qtbot.waitUntil(lambda: panel.measures is not None, timeout=30_000)
    assert panel.status.text() == "Nothing is drawn in 'Regions' yet: paint in the picture"
    layer.paint((4, 5, 5), 1)
    qtbot.waitUntil(lambda: labels_shown(panel) == [1], timeout=30_000)
    panel.choice.new_region.click()
    assert panel.labels_layer is layer
    assert layer.selected_label == 2
    panel.choice.new_layer.click()
    assert panel.labels_layer is not layer
    qtbot.waitUntil(lambda: panel.choice.combo.currentText() == panel.labels_layer.name, timeout=30_000)


def test_the_newest_drawing_is_taken_until_the_reader_chooses(panel, layer, viewer, qtbot):
    known = {"metadata": {"metaqsm": {"quantity": "mask"}}}
    second = viewer.add_labels(drawing(), name="second", **PLACE)
    viewer.add_labels(np.ones(SHAPE, np.uint8), name="mask", **known, **PLACE)
    combo = panel.choice.combo
    qtbot.waitUntil(lambda: combo.count() == 4, timeout=30_000)
    assert panel.labels_layer is second  # and not the mask, which is newer
    assert [combo.itemText(n) for n in range(1, combo.count())] == ["drawn", "second", "mask"]
    combo.setCurrentIndex(3)
    combo.activated.emit(3)
    qtbot.waitUntil(lambda: labels_shown(panel) == [1], timeout=30_000)
    assert panel.measures.region(1).voxels == second.data.size
    viewer.add_labels(drawing(), name="third", **PLACE)
    qtbot.waitUntil(lambda: combo.count() == 5, timeout=30_000)
    assert panel.labels_layer.name == "mask"
    viewer.layers.remove("mask")
    qtbot.waitUntil(
        lambda: panel.labels_layer is not None and panel.labels_layer.name == "third", timeout=30_000
    )


def test_every_state_is_said_in_words(panel, viewer, desk, qtbot):
    assert panel.measures is None
    assert panel.status.text() == "Draw a region, or choose a Labels layer"
    viewer.add_labels(np.ones((3, 3, 3), np.uint8), name="atlas")
    qtbot.waitUntil(
        lambda: "'atlas' lies on another grid than the maps" in panel.status.text(), timeout=30_000
    )
    layer = viewer.add_labels(drawing(), name="drawn", **PLACE)
    qtbot.waitUntil(lambda: bool(panel.measures), timeout=30_000)
    viewer.layers.remove(layer)
    qtbot.waitUntil(lambda: panel.measures is None, timeout=30_000)
    desk.choose([])
    qtbot.waitUntil(lambda: "No map is chosen" in panel.status.text(), timeout=30_000)
    assert not panel.choice.new_layer.isEnabled()


# ---------------------------------------------------------------------------------- its life
def test_nothing_is_left_after_fifty_rounds(viewer, desk, qtbot):
    layer = viewer.add_labels(drawing(), name="drawn", **PLACE)
    heard = [layer.events.labels_update, layer.events.set_data, layer.events.features, layer.events.colormap]
    before = [len(e.callbacks) for e in heard]
    left = []
    for _ in range(50):
        panel = RegionsPanel(desk)
        assert panel.labels_layer is layer
        panel.release()
        qtbot.waitUntil(lambda panel=panel: not panel.is_measuring, timeout=30_000)
        left.append(weakref.ref(panel))
        panel.deleteLater()
        del panel
    assert [len(e.callbacks) for e in heard] == before
    QApplication.sendPostedEvents(None, 0)
    qtbot.wait(1)
    gc.collect()
    assert sum(ref() is not None for ref in left) <= 1
    layer.paint((4, 5, 5), 1)
    desk.choose(desk.maps)
    qtbot.wait(2 * QUIET_MS)  # nothing listens, nothing fails


def test_a_panel_released_while_it_measures_shows_nothing_more(desk, viewer, qtbot):
    viewer.add_labels(drawing(), name="drawn", **PLACE)
    panel = RegionsPanel(desk)
    told = []
    panel.measured.connect(lambda: told.append(1))
    panel.release()
    qtbot.waitUntil(lambda: not panel.is_measuring, timeout=30_000)
    assert not told
    assert panel.measures is None
    panel.deleteLater()


def test_the_choices_come_back(panel, layer, viewer, qtbot):
    other = viewer.add_labels(drawing(), name="other", **PLACE)
    qtbot.waitUntil(lambda: panel.labels_layer is other, timeout=30_000)
    panel.choice.choose(layer)
    panel.unit.setCurrentText("ppb")
    panel.statistics["p95"].setChecked(True)
    panel.statistics["median"].setChecked(False)
    kept = json.loads(json.dumps(panel.state()))
    again = RegionsPanel(panel.desk)
    again.restore(kept)
    assert again.labels_layer is layer
    assert again.state() == panel.state()
    qtbot.waitUntil(lambda: titles(again) == titles(panel), timeout=30_000)
    again.restore({**kept, "layer": "gone by now"})
    assert again.labels_layer is layer
    again.release()
    qtbot.waitUntil(lambda: not again.is_measuring, timeout=30_000)
    again.deleteLater()


def test_names_and_regions_come_back_with_a_saved_reading(panel, layer, desk, viewer, qtbot, tmp_path):
    with qtbot.waitSignal(panel.measured):
        type_name(panel, qtbot, 5, "red nucleus")
    gather(viewer, viewer.layers, {}).write(tmp_path / "reading")
    opened = ViewerModel()
    read_session(tmp_path / "reading").show(opened)
    assert names_of(opened.layers["drawn"]) == {5: "red nucleus"}
    np.testing.assert_array_equal(opened.layers["drawn"].data, layer.data)
    name_region(opened.layers["drawn"], 5, "")  # typed anew over what was text in the file
    assert names_of(opened.layers["drawn"]) == {}


@pytest.mark.window
def test_it_fits_a_low_dock_of_a_real_window(make_napari_viewer_proxy, qtbot):
    viewer = make_napari_viewer_proxy(show=True)
    viewer.window.resize(1500, 900)
    for seed, title in enumerate(TITLES):
        add_map(viewer, title, seed)
    desk = Desk(viewer)
    panel = RegionsPanel(desk)
    viewer.window.add_dock_widget(panel, area="bottom", name="Measure")
    assert panel.minimumSizeHint().width() <= 1100
    assert panel.minimumSizeHint().height() <= 260
    panel.choice.new_region.click()
    panel.labels_layer.paint((4, 5, 5), 1)
    qtbot.waitUntil(lambda: labels_shown(panel) == [1], timeout=30_000)
    assert panel.measures.region(1).voxels == (panel.labels_layer.data == 1).sum()
    assert not math.isnan(panel.measures.region(1).maps["TKD"].mean)
    # In the window's own style the names stand on the lines of their figures.
    table, index = panel.table, panel.model.index(0, 3)
    name = table.names.viewport().mapTo(table, table.names.visualRect(index.siblingAtColumn(0)).topLeft())
    figure = table.viewport().mapTo(table, table.visualRect(index).topLeft())
    assert name.y() == figure.y()
    assert name.x() == table.viewport().x()
    panel.release()
    desk.release()
