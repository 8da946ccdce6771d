"""The reading room as a whole: it leaves nothing behind, and no fault ends it."""

import gc
from collections import Counter

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Layer
from psygnal import SignalGroup
from qtpy.QtCore import QThreadPool, QTimer
from qtpy.QtWidgets import QApplication

from napari_metaqsm.plugin.reading import trust, veil
from napari_metaqsm.plugin.reading.room import ReadingRoom
from napari_metaqsm.plugin.worker import CancellableWorker
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
    qtbot.waitUntil(lambda: len(room.regions.measures or ()) == 2)
    room.spots.probe_button.click()
    room.spots.probe(SPOT)
    qtbot.waitUntil(lambda: len(room.spots.spots) == 1)
    room.veil.how.setCurrentText("veil")
    qtbot.waitUntil(lambda: room.veil.reliability is not None)
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


def settle(qtbot):
    """Wait until workers that were stopped have ended, and what is to be deleted is."""
    qtbot.waitUntil(lambda: QThreadPool.globalInstance().activeThreadCount() == 0)
    qtbot.waitUntil(lambda: not {"ReadingRoom", "Desk", "Latest"} & set(living()), timeout=10_000)
    return living(), Counter(type(widget).__name__ for widget in QApplication.allWidgets())


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
    qtbot.waitUntil(lambda: not room.regions.is_measuring and not room.veil.is_measuring)


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

    open_and_close()
    kept = settle(qtbot)
    for _ in range(50):
        open_and_close()
    assert settle(qtbot) == kept


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
    qtbot.waitUntil(lambda: len(told) >= 3)


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
        qtbot.waitUntil(lambda: room.measures.isVisible())
        assert set(viewer.window.dock_widgets) == {"Reading room", "Measure"}
        read(room, qtbot)
        viewer.window.remove_dock_widget(room)
        assert not viewer.window.dock_widgets
        assert [layer.name for layer in viewer.layers] == names
        return listeners(viewer)

    heard = open_and_close()  # napari itself begins to listen to a layer when it is first seen in a grid
    kept = settle(qtbot)
    for _ in range(2):
        assert open_and_close() == heard
    assert settle(qtbot) == kept
