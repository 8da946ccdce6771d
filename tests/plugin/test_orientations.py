"""The dock of several orientations, as a user drives it: without a window, and in a real one."""

import dataclasses

import numpy as np
import pytest
import torch
from napari.components import ViewerModel

from napari_metaqsm.doors import combine_orientations
from napari_metaqsm.method import steps
from napari_metaqsm.operators.dipole import dipole_field
from napari_metaqsm.plugin import orientations as dock_module
from napari_metaqsm.plugin.compare_section import CompareSection
from napari_metaqsm.plugin.orientations import Orientations
from napari_metaqsm.plugin.section import State
from napari_metaqsm.scan import Geometry

SHAPE, SCALE = (10, 14, 12), (3.0, 1.0, 1.0)
GEOMETRY = Geometry(SHAPE, SCALE, orientation="IPL")
DIRECTIONS = ((1.0, 0.0, 0.1), (1.0, 0.5, 0.0), (1.0, 0.0, -0.6), (1.0, -0.6, 0.0))


@pytest.fixture
def viewer():
    return ViewerModel()


@pytest.fixture
def dock(viewer, qtbot):
    dock = Orientations(viewer)
    qtbot.addWidget(dock)
    yield dock
    dock.release()
    qtbot.waitUntil(lambda: not dock.is_running, timeout=10_000)


def ball(radius):
    axes = [(np.arange(n) - (n - 1) / 2) * size for n, size in zip(SHAPE, SCALE, strict=True)]
    return sum(a**2 for a in np.meshgrid(*axes, indexing="ij")) < radius**2


def truth():
    return np.where(ball(3), 0.2, 0).astype(np.float32) + np.where(ball(5), 0.02, 0).astype(np.float32)


def field(direction):
    geometry = dataclasses.replace(GEOMETRY, b0_direction=direction)
    return dipole_field(torch.from_numpy(truth()), geometry).numpy() * ball(5)


def add_image(viewer, values, quantity, name, direction=(1.0, 0.0, 0.0)):
    known = {"quantity": quantity, "unit": "ppm", "b0_direction": direction, "orientation": "IPL"}
    about = {"metaqsm": {**known, "acquisition": None, "space": None, "record": None}}
    return viewer.add_image(
        values.astype(np.float32), name=name, scale=SCALE, units=("mm",) * 3, metadata=about
    )


def add_fields(viewer, count=3):
    return [
        add_image(viewer, field(d), "local_field", f"field {n}", d)
        for n, d in enumerate(DIRECTIONS[:count], 1)
    ]


def add_mask(viewer, values=None, name="mask"):
    values = ball(5) if values is None else values
    return viewer.add_labels(values.astype(np.uint8), name=name, scale=SCALE, units=("mm",) * 3)


def press_run(dock, qtbot):
    ends = []
    dock.ended.connect(ends.append)
    dock.combine.run_button.click()
    qtbot.waitUntil(lambda: not dock.is_running, timeout=20_000)
    dock.ended.disconnect(ends.append)
    return ends


def test_it_says_what_is_missing_and_how_good_the_directions_are(viewer, dock):
    assert dock.fields.state is State.MISSING
    assert "3 or more local fields" in dock.fields.status.text()
    assert not dock.combine.run_button.isEnabled()
    add_fields(viewer)
    assert [row.box.isChecked() for row in dock.rows] == [True] * 3
    assert dock.rows[1].direction.text() == "0.8944, 0.4472, 0"
    assert dock.fields.state is State.DONE
    assert "3 fields, at least" in dock.fields.status.text()
    assert "Missing: mask" in dock.combine.status.text()
    mask = add_mask(viewer)
    dock.mask.choose(mask)
    assert dock.combine.state is State.READY
    assert dock.combine.run_button.isEnabled()
    dock.rows[2].box.setChecked(False)
    assert not dock.combine.run_button.isEnabled()


def test_fields_that_share_one_direction_ask_for_their_own(viewer, dock, qtbot):
    for name in "abc":
        add_image(viewer, field(DIRECTIONS[0]), "local_field", name, DIRECTIONS[0])
    assert dock.fields.state is State.FAILED
    assert "too alike" in dock.fields.status.text()
    for row, direction in zip(dock.rows, DIRECTIONS, strict=False):
        row.direction.clear()
        qtbot.keyClicks(row.direction, ", ".join(map(str, direction)))
    assert dock.fields.state is State.DONE
    dock.rows[0].direction.clear()
    qtbot.keyClicks(dock.rows[0].direction, "1, up")
    assert "B0 of 'a': '1, up' is not three numbers" in dock.fields.status.text()


def test_layers_on_other_grids_and_unknown_ones_are_told_apart(viewer, dock):
    add_fields(viewer)
    viewer.add_image(np.zeros(SHAPE, np.float32), name="anything")
    assert [row.layer.name for row in dock.checked()] == ["field 1", "field 2", "field 3"]
    dock.rows[-1].box.setChecked(True)
    assert "'anything' and 'field 1' are not on one grid" in dock.fields.status.text()
    viewer.layers.remove("anything")
    assert dock.fields.state is State.DONE
    viewer.layers["field 1"].name = "straight"
    assert dock.rows[0].box.text() == "straight"


def test_a_run_makes_a_map_that_can_be_compared(viewer, dock, qtbot):
    add_fields(viewer, 4)
    dock.mask.choose(add_mask(viewer))
    assert press_run(dock, qtbot) == [True]
    assert dock.combine.state is State.DONE, dock.combine.status.text()
    layer = viewer.layers[-1]
    assert layer.name == "χ COSMOS"
    assert tuple(layer.contrast_limits) == (-0.1, 0.1)
    known = layer.metadata["metaqsm"]
    expected = combine_orientations([field(d) for d in DIRECTIONS], ball(5), SCALE, DIRECTIONS, device="cpu")
    np.testing.assert_allclose(known["unreferenced"], expected, atol=1e-5)
    assert float(layer.data[ball(5)].mean()) == pytest.approx(0, abs=1e-6)
    assert known["record"]["inputs"]["local_field_4"]["layer"] == "field 4"
    assert known["record"]["reference"]["χ COSMOS"]["region"] == "whole brain"
    assert known["record"]["steps"][0]["b0_directions"][1] == pytest.approx([0.894427, 0.447214, 0], abs=1e-5)
    assert dock.plot.curves["relative residual"]
    compare = CompareSection(viewer)
    qtbot.addWidget(compare)
    assert compare.maps.item(0).text() == "χ COSMOS"

    assert press_run(dock, qtbot) == [True]  # the same again takes its place
    assert [x.name for x in viewer.layers].count("χ COSMOS") == 1
    dock.rows[0].direction.clear()
    qtbot.keyClicks(dock.rows[0].direction, "1, 0.2, 0.2")
    assert dock.combine.state is State.READY
    assert press_run(dock, qtbot) == [True]  # other directions make another map
    assert sum(x.name.startswith("χ COSMOS") for x in viewer.layers) == 2


def test_noise_and_masks_of_single_fields_are_used(viewer, dock, qtbot):
    add_fields(viewer)
    dock.mask.choose(add_mask(viewer))
    smaller = add_mask(viewer, ball(5) & (np.arange(12) > 4), "smaller")
    noise = [add_image(viewer, np.full(SHAPE, 0.01 * n), "noise", f"noise {n}") for n in (1, 2, 3)]
    dock.rows[1].mask.choose(smaller)
    dock.rows[0].noise.choose(noise[0])
    assert press_run(dock, qtbot) == [False]
    assert "noise maps for 1 of 3 fields" in dock.combine.status.text()
    for row, layer in zip(dock.rows, noise, strict=True):
        row.noise.choose(layer)
    assert press_run(dock, qtbot) == [True]
    assert "is left out" in dock.combine.status.text()
    eroded, chi = viewer.layers["eroded mask COSMOS"], viewer.layers["χ COSMOS"]
    np.testing.assert_array_equal(eroded.data != 0, smaller.data != 0)
    assert not chi.data[eroded.data == 0].any()
    step = chi.metadata["metaqsm"]["record"]["steps"][0]
    assert step["stand_ins"] == {}


def test_cancel_leaves_no_map_and_the_dock_ready(viewer, dock, qtbot, monkeypatch):
    add_fields(viewer)
    dock.mask.choose(add_mask(viewer))

    def endless(*args, **kwargs):
        for _ in steps(10**9, "waiting"):
            pass

    monkeypatch.setattr(dock_module, "reconstruct_orientations", endless)
    dock.combine.run_button.click()
    qtbot.waitUntil(lambda: "waiting" in dock.progress_label.text(), timeout=10_000)
    assert dock.combine.state is State.RUNNING
    assert not dock.combine.run_button.isEnabled()
    dock.cancel_button.click()
    qtbot.waitUntil(lambda: not dock.is_running, timeout=10_000)
    assert "cancelled" in dock.progress_label.text()
    assert dock.combine.state is State.READY
    assert dock.combine.run_button.isEnabled()
    assert len(viewer.layers) == 4


def test_an_error_is_shown_until_something_changes(viewer, dock, qtbot):
    layers = add_fields(viewer)
    dock.mask.choose(add_mask(viewer))
    good = layers[0].data
    layers[0].data = np.full(SHAPE, np.nan, np.float32)
    assert press_run(dock, qtbot) == [False]
    assert dock.combine.state is State.FAILED
    assert "rientation 1: the local field" in dock.combine.status.text()
    layers[0].data = good
    assert dock.combine.run_button.isEnabled()
    assert press_run(dock, qtbot) == [True]


@pytest.mark.window
def test_in_a_real_window_from_the_menu_to_the_map(plugin, make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1280, 800)
    _, dock = viewer.window.add_plugin_dock_widget("napari-metaqsm", "COSMOS (several orientations)")
    qtbot.waitUntil(lambda: dock.width() <= 400, timeout=30_000)
    add_fields(viewer)
    dock.mask.choose(add_mask(viewer))
    assert press_run(dock, qtbot) == [True]
    assert viewer.layers[-1].name == "χ COSMOS"
    assert dock.plot.isVisible()
    import os

    if os.environ.get("SHOT"):
        qtbot.wait(500)
        viewer.window._qt_window.grab().save(os.environ["SHOT"])
    viewer.theme = "light"
    viewer.window.remove_dock_widget(dock)
    viewer.layers.clear()  # nothing listens any more
    dock.deleteLater()
