"""The reading room as a whole: it leaves nothing behind, and no fault ends it."""

import gc
import json
import re
import weakref
from collections import Counter

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Layer
from psygnal import SignalGroup
from qtpy.QtCore import Qt, QThreadPool, QTimer
from qtpy.QtWidgets import QApplication

from napari_metaqsm.plugin.reading import trust, veil
from napari_metaqsm.plugin.reading.room import ReadingRoom
from napari_metaqsm.plugin.worker import CancellableWorker
from napari_metaqsm.reading.regions import measure_regions
from napari_metaqsm.report.folder import open_folder
from napari_metaqsm.report.session_folder import SESSION
from napari_metaqsm.scan import Acquisition

SHAPE = (8, 12, 10)
ACQUISITION = Acquisition((0.01, 0.02), 3.0)
SPOT = (4, 6, 5)


def add(viewer, name, quantity="susceptibility", shape=SHAPE, seed=0, add=None, **settings):
    """A layer of a scan; a map has a bright spot in its middle and is zero at its edge."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 0.01, shape).astype(np.float32)
    if quantity == "susceptibility":
        edge = np.ones(shape, bool)
        edge[1:-1, 1:-1, 1:-1] = False
        values[tuple(s // 2 for s in shape)] = 0.5
        values[edge] = 0
    metadata = {
        "quantity": quantity,
        "unit": "ppm",
        "orientation": "IPL",
        "b0_direction": (1.0, 0.0, 0.0),
        "acquisition": ACQUISITION,
    }
    scale = (1.0,) * (len(shape) - 3) + (2.0, 1.0, 1.0)
    units = ("",) * (len(shape) - 3) + ("mm",) * 3
    place = {"scale": scale, "units": units, "metadata": {"metaqsm": metadata}, "name": name}
    return viewer.add_image(values, **{**place, **settings})


def fill(viewer):
    """Two maps, the magnitude that they came from, and regions on their grid."""
    add(viewer, "one", seed=1)
    add(viewer, "two", seed=2)
    add(viewer, "echoes", "magnitude", (2, *SHAPE), seed=3)
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:4, 3:6, 3:6], labels[5, 6:9, 4:8] = 1, 2
    viewer.add_labels(labels, name="nuclei", scale=(2.0, 1, 1), units=("mm",) * 3)


def read(room, qtbot):
    """What a reader does: probe a spot, see it in the table, compare the maps, measure against one."""
    qtbot.waitUntil(lambda: len(room.regions.measures or ()) == 2, timeout=30_000)
    room.spots.probe_button.click()
    room.spots.probe(SPOT)
    qtbot.waitUntil(lambda: len(room.spots.spots) == 1, timeout=30_000)
    room.veil.how.setCurrentText("veil")
    qtbot.waitUntil(lambda: room.veil.reliability is not None, timeout=30_000)
    room.look.open_button.click()
    assert room.look.comparison is not None
    room.against.choose(room.desk.maps[0])


def listeners(viewer):
    """How many callbacks every event of the viewer and of its layers has."""
    found = Counter()

    def count(name, events):
        if isinstance(events, SignalGroup):  # of psygnal
            found.update({(name, each): len(signal) for each, signal in events.signals.items()})
            found[name, "any"] = len(events.all)
        else:  # of napari
            found.update({(name, each): len(emitter.callbacks) for each, emitter in events.emitters.items()})
            found[name, "any"] = len(events.callbacks)

    parts = {
        "viewer": viewer,
        "layers": viewer.layers,
        "selection": viewer.layers.selection,
        "dims": viewer.dims,
        "camera": viewer.scene.camera,
        "canvas": viewer.canvas,
        "grid": viewer.canvas.grid,
        "cursor": viewer.cursor,
        "tooltip": viewer.tooltip,
        "overlays": viewer.canvas.overlays,
        **{layer.name: layer for layer in viewer.layers},
        **{f"{layer.name} colorbar": layer.colorbar for layer in viewer.layers if hasattr(layer, "colorbar")},
    }
    for name, part in parts.items():
        count(name, part.events)
    found["mouse"] = sum(
        len(getattr(viewer, f"mouse_{kind}_callbacks")) for kind in ("drag", "move", "wheel", "double_click")
    )
    found["keys"] = len(viewer.keymap)
    return found


def running_timers(room):
    """Timers of a room that are still to fire."""
    timers = [t for part in (room, room.measures, room.desk) for t in part.findChildren(QTimer)]
    assert timers
    return [timer for timer in timers if timer.isActive()]


def living():
    """Objects of this plugin's classes and layers, by kind.

    Workers that are done are kept by napari itself until its window closes.
    """
    gc.collect()
    found = Counter()
    for each in gc.get_objects():
        kind = type(each)
        of_ours = str(kind.__module__).startswith("napari_metaqsm.plugin.")
        if issubclass(kind, Layer) or (of_ours and kind.__module__ != CancellableWorker.__module__):
            found[kind.__qualname__] += 1
    return found


def settle(qtbot, room, before=None):
    """What lives, by kind, when workers that were stopped have ended and a room is gone.

    Parameters
    ----------
    room : weak reference
    before : what lived earlier; waits until there is no more of it, or says what there is
    """

    def more():
        now = living() + Counter(type(widget).__name__ for widget in QApplication.allWidgets())
        # The thread of the last worker may still hold one thing of its result.
        return now, {k: n for k, n in (now - (before or now)).items() if n > 1}

    def is_settled():
        gc.collect()
        assert room() is None
        assert more()[1] == {}

    qtbot.waitUntil(lambda: QThreadPool.globalInstance().activeThreadCount() == 0, timeout=30_000)
    qtbot.waitUntil(is_settled, timeout=10_000)
    return more()[0]


@pytest.fixture
def viewer(monkeypatch):
    for module, name in ((veil, "QUIET_MS"), (trust, "PAUSE_MS")):
        monkeypatch.setattr(module, name, 0)
    viewer = ViewerModel()
    fill(viewer)
    return viewer


@pytest.fixture
def room(viewer, qtbot):
    room = ReadingRoom(viewer)
    qtbot.addWidget(room, before_close_func=lambda room: room.release())
    at_rest(room, qtbot)
    return room


def at_rest(room, qtbot):
    """Wait until everything is measured."""
    qtbot.waitUntil(
        lambda: QThreadPool.globalInstance().activeThreadCount() == 0 and not running_timers(room)
    )
    qtbot.waitUntil(lambda: not room.regions.is_measuring and not room.veil.is_measuring, timeout=30_000)


def test_fifty_rooms_leave_nothing_behind(viewer, qtbot):
    names, heard = [layer.name for layer in viewer.layers], listeners(viewer)

    def open_and_close():
        room = ReadingRoom(viewer)
        read(room, qtbot)
        assert len(viewer.layers) > len(names)
        room.release()
        assert [layer.name for layer in viewer.layers] == names
        assert listeners(viewer) == heard
        assert not running_timers(room)
        room.deleteLater()
        return weakref.ref(room)

    kept = settle(qtbot, open_and_close())
    for _ in range(50):
        last = open_and_close()
    settle(qtbot, last, kept)


def test_a_layer_that_is_none_of_the_study_calls_for_no_measuring(room, viewer, qtbot):
    told = []
    for signal in (room.regions.measured, room.veil.changed, room.trust.found, room.spots.changed):
        signal.connect(lambda *_: told.append(1))
    viewer.add_points([[1.0, 2, 3]], name="markers")
    viewer.add_shapes([[[1.0, 2, 3], [1, 4, 5]]], shape_type="line", name="line")
    viewer.layers["markers"].name = "my markers"
    room.veil.how.setCurrentText("veil")
    at_rest(room, qtbot)
    assert room.plots.line.points is not None
    assert told == []
    viewer.layers["two"].name = "second"
    qtbot.waitUntil(lambda: len(told) >= 3, timeout=30_000)


@pytest.mark.window
def test_closing_the_dock_takes_the_tables_below_along_and_leaves_nothing_behind(
    qtbot, make_napari_viewer_proxy
):
    viewer = make_napari_viewer_proxy(show=True)
    fill(viewer)
    names = [layer.name for layer in viewer.layers]

    def open_and_close():
        room = ReadingRoom(viewer)
        viewer.window.add_dock_widget(room, name="Reading room")
        qtbot.waitUntil(lambda: room.measures.isVisible(), timeout=30_000)
        assert set(viewer.window.dock_widgets) == {"Reading room", "Measure"}
        read(room, qtbot)
        viewer.window.remove_dock_widget(room)
        assert not viewer.window.dock_widgets
        assert [layer.name for layer in viewer.layers] == names
        return weakref.ref(room)

    kept = settle(qtbot, open_and_close())
    heard = listeners(viewer)  # napari itself begins to listen to a layer when it is first seen in a grid
    for _ in range(2):
        last = open_and_close()
        assert listeners(viewer) == heard
    settle(qtbot, last, kept)


# ------------------------------------------------------------------------------------- faults
def ended(room, qtbot, work, *args):
    """Do something in the room's worker; whether it went well."""
    with qtbot.waitSignal(room.ended, timeout=60_000) as done:
        work(*args)
    assert room.save_button.isEnabled()
    assert room.open_button.isEnabled()
    assert not room.progress.isVisibleTo(room)
    return done.args[0]


@pytest.fixture
def kept(room, qtbot, tmp_path):
    """The folder of a reading that was saved."""
    room.spots.probe(SPOT)
    qtbot.waitUntil(lambda: len(room.spots.spots) == 1, timeout=30_000)
    at_rest(room, qtbot)
    assert ended(room, qtbot, room.save, tmp_path / "kept"), room.status.text()
    return tmp_path / "kept"


def test_a_file_in_place_of_the_folder_is_said_and_stays(room, qtbot, tmp_path):
    (tmp_path / "mine").write_text("keep")
    assert not ended(room, qtbot, room.save, tmp_path / "mine")
    assert "mine cannot be written to" in room.status.text()
    assert (tmp_path / "mine").read_text() == "keep"
    assert ended(room, qtbot, room.save, tmp_path / "another"), room.status.text()


def spoil(change):
    def spoiled(folder):
        content = json.loads((folder / SESSION).read_text())
        change(content)
        (folder / SESSION).write_text(json.dumps(content))

    return spoiled


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / SESSION).unlink(), "holds no reading"),
        (lambda folder: next(folder.glob("*Chimap.nii.gz")).write_bytes(b"no"), "no readable NIfTI"),
        (
            lambda folder: next(folder.glob("*Chimap.nii.gz")).unlink(),
            "does not exist",
        ),
        (
            spoil(lambda content: content["layers"][0]["display"].update(contrast_limits="dark")),
            "not as it was",
        ),
        (spoil(lambda content: content["layers"][0].update(place={"scale": 3})), "not as it was"),
        (spoil(lambda content: content["layers"][0].update(acquisition={"b0_tesla": "x"})), "Field strength"),
        (spoil(lambda content: content.update(layers=7)), "not as it was"),
        (spoil(lambda content: content.pop("view")), "not as it was"),
        (spoil(lambda content: content["view"].update(zoom="near")), "not as it was"),
    ],
)
def test_a_damaged_reading_is_refused_in_words_and_adds_nothing(damage, words, room, viewer, kept, qtbot):
    damage(kept)
    before = list(viewer.layers)
    assert not ended(room, qtbot, room.open, kept)
    assert re.search(words, room.status.text()), room.status.text()
    assert list(viewer.layers) == before


@pytest.mark.parametrize(
    ("part", "state"),
    [
        ("spots", [{"clicked": 3}]),
        ("spots", 7),
        ("regions", {}),
        ("look", {"is_open": True, "look": {}, "windows": {"one": "dark"}, "voxel": [1]}),
        ("report", {"parts": 3}),
        ("against", 3),
    ],
)
def test_a_part_that_cannot_be_restored_is_named_and_the_rest_is(part, state, room, viewer, kept, qtbot):
    spoil(lambda content: content.update({part: state}))(kept)
    viewer.layers.clear()
    room.report.title.setText("")
    assert ended(room, qtbot, room.open, kept)
    assert [layer.name for layer in room.desk.maps] == ["one", "two"]
    at_rest(room, qtbot)
    assert "opened" in room.status.text().lower()
    assert part in room.status.text(), room.status.text()


def test_what_is_saved_can_be_read_without_a_window(room, kept):
    opened = open_folder(kept)
    assert list(opened.study.maps) == ["one", "two"]
    np.testing.assert_array_equal(opened.labels, room.regions.labels_layer.data)
    assert opened.spots == tuple(room.spots.spots)
    measures = measure_regions(opened.study, opened.labels, opened.names)
    for region in room.regions.measures:
        assert measures.region(region.label).maps["one"].mean == pytest.approx(region.maps["one"].mean)


@pytest.mark.parametrize("name", ["one", "nuclei", "echoes"])
def test_a_layer_that_is_deleted_while_it_is_measured_is_missed_by_nobody(name, room, viewer, qtbot):
    viewer.layers["one"].data = viewer.layers["one"].data * 2
    room.spots.probe(SPOT)
    room.against.choose(room.desk.maps[1])
    del viewer.layers[name]
    at_rest(room, qtbot)
    left = [x for x in ("one", "two") if x != name]
    assert [layer.name for layer in room.desk.maps] == left
    if name == "nuclei":
        assert room.regions.measures is None
    else:
        assert list(room.regions.measures.titles) == left


@pytest.mark.parametrize("what", ["save", "measure", "open"])
def test_a_room_may_be_closed_while_it_works(what, room, viewer, qtbot, kept, tmp_path):
    if what == "save":
        room.save(tmp_path / "other")
    elif what == "open":
        room.open(kept)
    else:
        viewer.layers["one"].data = viewer.layers["one"].data * 2
        room.spots.probe(SPOT)
    before = [layer.name for layer in viewer.layers if layer.name not in ("spots", "spot numbers")]
    room.release()
    qtbot.waitUntil(lambda: QThreadPool.globalInstance().activeThreadCount() == 0, timeout=30_000)
    qtbot.wait(20)
    assert [layer.name for layer in viewer.layers] == before
    assert not [f.name for f in tmp_path.iterdir() if f.name.startswith(".")]


@pytest.mark.parametrize("layout", ["side by side", "in place", "differences"])
def test_a_map_may_be_renamed_or_deleted_while_it_is_compared(layout, room, viewer, qtbot):
    add(viewer, "three", seed=7)
    at_rest(room, qtbot)
    room.look.open_button.click()
    index = ["side by side", "in place", "differences"].index(layout)
    room.look.layout_box.setCurrentIndex(index)
    room.look.layout_box.activated.emit(index)
    viewer.layers["one"].name = "first"
    at_rest(room, qtbot)
    assert list(room.regions.measures.titles) == ["first", "two", "three"]
    room.look.plane_buttons["sagittal"].click()
    room.look.window_buttons["±0.2"].click()
    assert room.look.comparison.look.window_ppm == (-0.2, 0.2)
    for name in ("first", "two", "three"):
        viewer.layers.remove(name)
        at_rest(room, qtbot)
    assert room.look.comparison is None
    assert not viewer.canvas.grid.enabled
    assert room.regions.measures is None
    assert "No map is chosen" in room.regions.status.text()
    assert not room.report.report_button.isEnabled()
    room.save(None)
    assert "No map is chosen" in room.status.text()
    assert room.save_button.isEnabled()


def test_maps_of_another_grid_are_not_read_with_these(room, viewer, qtbot):
    add(viewer, "coarse", shape=(4, 6, 5), scale=(4.0, 2, 2))
    at_rest(room, qtbot)
    assert [layer.name for layer in room.desk.maps] == ["one", "two"]
    item = room.maps.maps.item(room.maps.maps.count() - 1)
    assert item.text() == "coarse"
    item.setCheckState(Qt.CheckState.Checked)
    assert "Coarse lies on another grid" in room.maps.about.text()
    for name in ("one", "two"):
        viewer.layers.remove(name)
    at_rest(room, qtbot)
    assert room.desk.maps == []
    room.maps.maps.item(0).setCheckState(Qt.CheckState.Checked)
    at_rest(room, qtbot)
    assert [layer.name for layer in room.desk.maps] == ["coarse"]
    assert "'nuclei' lies on another grid" in room.regions.status.text()


def test_a_room_without_any_layer_says_what_to_do(qtbot, monkeypatch):
    monkeypatch.setattr(trust, "PAUSE_MS", 0)
    room = ReadingRoom(ViewerModel())
    qtbot.addWidget(room, before_close_func=lambda room: room.release())
    at_rest(room, qtbot)
    for label in (
        room.maps.about,
        room.trust.status,
        room.regions.status,
        room.spots.status,
        room.report.status,
    ):
        assert label.text().strip(), label
    for button in (room.look.open_button, room.regions.choice.new_layer, room.spots.probe_button):
        assert not button.isEnabled()
    room.spots.probe(SPOT)
    room.plots.draw_button.click()
    room.regions.copy_button.click()
    room.against.copy_button.click()
    for kind in range(room.plots.kind.count()):
        room.plots.kind.setCurrentIndex(kind)
    for index in range(room.maps.zero.count()):
        room.maps.zero.setCurrentIndex(index)
        room.maps.zero.activated.emit(index)
    at_rest(room, qtbot)


def test_the_theme_may_change_to_light_and_back(room, viewer, qtbot):
    room.look.open_button.click()
    dark = room.plots.look.foreground
    viewer.theme = "light"
    assert room.plots.look.foreground != dark
    viewer.theme = "dark"
    assert room.plots.look.foreground == dark


def test_a_map_that_is_computed_anew_is_followed_everywhere(room, viewer, qtbot):
    room.spots.probe(SPOT)
    qtbot.waitUntil(lambda: len(room.spots.spots) == 1, timeout=30_000)
    before = room.regions.measures.region(1).maps["one"].mean
    peak = room.spots.spots[0].methods["one"].peak
    layer = viewer.layers["one"]
    layer.data = np.where(layer.data != 0, layer.data + np.float32(0.1), 0)
    qtbot.waitUntil(
        lambda: room.regions.measures.region(1).maps["one"].mean == pytest.approx(before + 0.1),
        timeout=30_000,
    )
    qtbot.waitUntil(
        lambda: room.spots.spots[0].methods["one"].peak == pytest.approx(peak + 0.1), timeout=30_000
    )
