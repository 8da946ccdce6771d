"""A map follows its method's slider: in its own layer, the newest value, never beside other work."""

import threading
import time
from dataclasses import dataclass

import numpy as np
import pytest
from napari.components import ViewerModel
from torch import Tensor

from napari_metaqsm import method as registry_module
from napari_metaqsm.errors import InputError
from napari_metaqsm.method import check_parameters, method, methods, notice, parameter, remark, steps
from napari_metaqsm.plugin import following as following_module
from napari_metaqsm.plugin.chain import SusceptibilityMapping
from napari_metaqsm.plugin.section import State
from napari_metaqsm.scan import Geometry

SHAPE, SCALE = (8, 10, 9), (3.0, 1.0, 1.0)
FIELD = np.random.default_rng(0).normal(0.05, 0.02, SHAPE).astype(np.float32)
MASK = np.pad(np.ones([n - 4 for n in SHAPE], np.uint8), 2)


@dataclass(frozen=True)
class MovedParameters:
    """Of the method under the slider."""

    calm: float = parameter(0.0, low=-1, high=1, slider=("sharp", "calm"), help="How far to trust the field")
    weights: str = parameter("", file="*.safetensors", help="Weights of your own")
    factor: float = parameter(1.0, low=0.1, high=10, help="Any other parameter")

    __post_init__ = check_parameters


class Gate:
    """Holds the method in its loop while it is shut, and counts who comes in."""

    def __init__(self):
        self.open = threading.Event()
        self.open.set()
        self.inside = self.most = 0
        self.begun, self.ended = [], []

    def pass_through(self, calm):
        self.begun.append(calm)
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            for _ in steps(10**9, "Blocks"):
                if self.open.wait(0.002):
                    break
        finally:
            self.inside -= 1
        self.ended.append(calm)


@pytest.fixture
def gate(monkeypatch):
    """A method with a slider in the registry, and the gate inside it."""
    methods()
    monkeypatch.setattr(registry_module, "_REGISTRY", dict(registry_module._REGISTRY))
    gate = Gate()

    @method("inversion", title="Moved", reference="doi:10.1000/1", kind="direct")
    def moved(local_field: Tensor, mask: Tensor, geometry: Geometry, parameters: MovedParameters) -> Tensor:
        """Under test: the field, and the slider's share of it."""
        gate.pass_through(parameters.calm)
        if parameters.calm == 0.9:
            raise InputError("calm is 0.9; it must be something else")
        if parameters.calm > 0.45:
            notice("the scan is outside of what was trained on")
        remark("network", {"weights": "shipped", "sha256": "00", "level": {"noise": 1 / 3}, "steps": None})
        return local_field * (2 + parameters.calm) * parameters.factor * mask

    return gate


@pytest.fixture
def viewer():
    viewer = ViewerModel()
    known = {"quantity": "local_field", "unit": "ppm", "b0_direction": (1, 0, 0), "orientation": "IPL"}
    place = {"scale": SCALE, "units": ("mm",) * 3}
    viewer.add_image(FIELD, name="field", metadata={"metaqsm": known}, **place)
    viewer.add_labels(MASK.copy(), name="drawn", **place)
    return viewer


@pytest.fixture
def dock(gate, viewer, qtbot):
    dock = SusceptibilityMapping(viewer)
    qtbot.addWidget(dock)
    dock.inversion.choices["mask"].choose(viewer.layers["drawn"])
    for name, box in dock.inversion.boxes.items():
        box.setChecked(name in ("tkd", "moved"))
    yield dock
    gate.open.set()
    dock.release()


@pytest.fixture
def ran(dock, viewer, qtbot):
    """A dock whose methods have run; the layer that follows."""
    dock.inversion.run_button.click()
    wait(qtbot, dock)
    assert dock.inversion.state is State.DONE, dock.inversion.status.text()
    return viewer.layers["χ Moved"]


def wait(qtbot, dock):
    """Until nothing runs or is about to."""
    qtbot.waitUntil(lambda: not (dock.is_running or dock.inversion._gathering.isActive()), timeout=60_000)


def slider_of(dock):
    return dock.inversion.method_forms["moved"].form._editors["calm"].slider


def move(dock, calm):
    """Drag the slider to a value."""
    slider_of(dock).setValue(round(20 * (1 + calm)))


def expected(calm, factor=1.0):
    plain = FIELD * (2 + calm) * factor * MASK
    return plain, np.where(MASK, plain - plain[MASK > 0].mean(), 0)


def assert_shows(layer, calm, **factor):
    plain, referenced = expected(calm, **factor)
    known = layer.metadata["metaqsm"]
    np.testing.assert_allclose(layer.data, referenced, atol=1e-6)
    np.testing.assert_allclose(known["unreferenced"], plain, atol=1e-6)
    assert known["record"]["steps"][-1]["parameters"]["calm"] == calm
    (about,) = known["record"]["reference"].items()
    assert about[0] == layer.name
    assert about[1]["mean_ppm"] == pytest.approx(plain[MASK > 0].mean(), abs=1e-6)


# ------------------------------------------------------------------------------- it follows
def test_the_map_follows_in_its_own_layer(dock, viewer, qtbot, ran):
    ran.contrast_limits = (-0.03, 0.04)
    ran.opacity = 0.5
    layers = list(viewer.layers)
    move(dock, 0.4)
    wait(qtbot, dock)
    assert list(viewer.layers) == layers
    assert ran.name == "χ Moved calm 0.4"
    assert_shows(ran, 0.4)
    assert (tuple(ran.contrast_limits), ran.opacity) == ((-0.03, 0.04), 0.5)
    assert dock.inversion.state is State.DONE
    lines = dock.inversion.status.text().splitlines()
    assert [line.split(" in ")[0] for line in lines] == ["✓  Done: χ Moved calm 0.4", "χ TKD"]
    move(dock, 0.0)
    wait(qtbot, dock)
    assert ran.name == "χ Moved"
    assert_shows(ran, 0.0)


def test_running_it_again_finds_the_layer_that_followed(dock, viewer, qtbot, ran):
    move(dock, -0.5)
    wait(qtbot, dock)
    count = len(viewer.layers)
    dock.inversion.run_button.click()
    wait(qtbot, dock)
    assert len(viewer.layers) == count
    assert_shows(ran, -0.5)


def test_the_users_own_name_and_the_other_maps_stay(dock, viewer, qtbot, ran):
    ran.name = "of Tuesday"
    other = viewer.layers["χ TKD"].data.copy()
    move(dock, 0.3)
    wait(qtbot, dock)
    assert ran.name == "of Tuesday"
    assert_shows(ran, 0.3)
    np.testing.assert_array_equal(viewer.layers["χ TKD"].data, other)


def test_an_open_comparison_stays_as_it_is(dock, viewer, qtbot, ran):
    dock.compare.toggle()
    dock.compare.window_ppm.setValue(0.05)
    dock.compare.show_plane("coronal")
    viewer.scene.camera.zoom = 11.0
    comparison = dock.compare.comparison
    move(dock, 0.4)
    wait(qtbot, dock)
    assert dock.compare.comparison is comparison
    assert comparison.is_open
    assert (viewer.dims.order, viewer.scene.camera.zoom) == ((1, 0, 2), 11.0)
    assert all(tuple(layer.contrast_limits) == (-0.05, 0.05) for layer in comparison.layers)
    assert ran in comparison.layers
    assert_shows(ran, 0.4)
    items = [dock.compare.maps.item(row) for row in range(dock.compare.maps.count())]
    assert sorted(item.text() for item in items) == ["χ Moved calm 0.4", "χ TKD"]


def test_an_unchecked_map_follows_and_stays_unchecked(dock, viewer, qtbot, ran):
    row = dock.compare._layers.index(ran)
    dock.compare.maps.item(row).setCheckState(dock.compare.maps.item(row).checkState().Unchecked)
    move(dock, 0.2)
    wait(qtbot, dock)
    assert_shows(ran, 0.2)
    assert dock.compare.checked() == [viewer.layers["χ TKD"]]


def test_the_chosen_reference_is_kept(dock, viewer, qtbot, ran):
    corner = np.zeros(SHAPE, np.uint8)
    corner[3:5, 3:6] = 1
    viewer.add_labels(corner, name="ventricle", scale=SCALE, units=("mm",) * 3)
    dock.compare.reference.setCurrentText("ventricle")
    dock.compare.reference.activated.emit(dock.compare.reference.currentIndex())
    move(dock, 0.4)
    wait(qtbot, dock)
    plain, _ = expected(0.4)
    inside = (corner > 0) & (MASK > 0)
    np.testing.assert_allclose(ran.data[MASK > 0], (plain - plain[inside].mean())[MASK > 0], atol=1e-6)
    record = ran.metadata["metaqsm"]["record"]
    assert record["reference"]["χ Moved calm 0.4"]["region"] == "ventricle"


def test_notes_come_and_go_with_the_value(dock, qtbot, ran):
    move(dock, 0.5)
    wait(qtbot, dock)
    assert "\nNote: the scan is outside of what was trained on" in dock.inversion.status.text()
    assert ran.metadata["metaqsm"]["record"]["warnings"] == ["the scan is outside of what was trained on"]
    assert "border-left" in dock.inversion.status.styleSheet()
    assert "bold" not in dock.inversion.status.styleSheet()
    move(dock, 0.0)
    wait(qtbot, dock)
    assert "Note" not in dock.inversion.status.text()
    assert dock.inversion.status.styleSheet() == ""
    assert ran.metadata["metaqsm"]["record"]["warnings"] == []


def test_what_was_found_is_told_on_hovering(dock, qtbot, ran):
    move(dock, 0.5)
    wait(qtbot, dock)
    about = [
        "Moved on cpu: calm 0.5, factor 1",
        "Network: weights shipped, level (noise 0.333)",
        "Note: the scan is outside of what was trained on",
    ]
    assert dock.inversion.status.toolTip().startswith("\n".join(about))
    item = dock.compare.maps.item(dock.compare._layers.index(ran))
    assert item.toolTip().startswith("\n".join(about) + "\nReference: whole brain (mean +0.")
    assert ran.metadata["metaqsm"]["record"]["steps"][-1]["network"]["level"] == {"noise": 1 / 3}


def test_defaults_bring_the_map_back_too(dock, qtbot, ran):
    move(dock, 0.4)
    wait(qtbot, dock)
    dock.inversion.method_forms["moved"].form._reset.click()
    wait(qtbot, dock)
    assert_shows(ran, 0.0)


def test_a_file_of_ones_own_is_named_after_the_file_alone(dock):
    form = dock.inversion.method_forms["moved"]
    form.form.set_values(weights="/home/somebody/networks/seven tesla.safetensors")
    assert form.result_name() == "Moved weights seven tesla"


# --------------------------------------------------------------------------- the newest value
def test_of_a_slow_map_the_newest_value_alone_is_finished(dock, qtbot, gate, ran, monkeypatch):
    # Every computation is slow, also one that the record rounds to no time at all.
    monkeypatch.setattr(following_module, "FOLLOWS_THE_HAND_S", -1.0)
    gate.open.clear()
    gate.ended.clear()
    shown = ran.data.copy()
    for calm in (0.1, 0.2, 0.3, 0.4):
        before = len(gate.begun)
        move(dock, calm)
        qtbot.waitUntil(lambda: len(gate.begun) > before, timeout=30_000)  # noqa: B023
        assert "0%" in dock.inversion.status.text()
    np.testing.assert_array_equal(ran.data, shown)
    gate.open.set()
    wait(qtbot, dock)
    assert gate.ended == [0.4]
    assert gate.most == 1
    assert_shows(ran, 0.4)
    assert dock.inversion.state is State.DONE


def test_a_fast_map_follows_the_hand_and_ends_at_the_newest_value(dock, qtbot, gate, ran):
    gate.ended.clear()
    gate.open.clear()
    move(dock, 0.1)
    qtbot.waitUntil(lambda: gate.inside == 1, timeout=30_000)
    for calm in (0.2, 0.3, 0.4):
        move(dock, calm)
        qtbot.wait(80)
    gate.open.set()
    wait(qtbot, dock)
    assert gate.ended == [0.1, 0.4]
    assert gate.most == 1
    assert_shows(ran, 0.4)


def test_a_quick_hand_starts_one_computation(dock, qtbot, gate, ran):
    gate.begun.clear()
    for step in range(1, 17):
        slider_of(dock).setValue(20 + step)
    wait(qtbot, dock)
    assert gate.begun == [0.8]


def test_the_window_stays_alive_while_the_map_follows(dock, qtbot, gate, ran):
    gate.open.clear()
    start = time.monotonic()
    move(dock, 0.4)
    assert time.monotonic() - start < 0.05
    qtbot.waitUntil(lambda: gate.inside == 1, timeout=30_000)
    assert dock.inversion.state is State.RUNNING
    first, second = dock.inversion.status.text().splitlines()
    assert first == "…  χ Moved calm 0.4: 0%"
    assert second.startswith("χ TKD in")  # what stands below does not move under the hand
    assert dock.progress.isHidden()
    assert slider_of(dock).isEnabled()
    assert dock.cancel_button.isEnabled()
    gate.open.set()
    wait(qtbot, dock)


# -------------------------------------------------------------------------- beside other work
def test_a_run_comes_before_a_map_that_follows(dock, viewer, qtbot, gate, ran):
    gate.open.clear()
    gate.ended.clear()
    move(dock, 0.4)
    qtbot.waitUntil(lambda: gate.inside == 1, timeout=30_000)
    dock.inversion.boxes["l2"].setChecked(True)
    dock.inversion.boxes["moved"].setChecked(False)
    assert dock.inversion.run_button.isEnabled()
    dock.inversion.run_button.click()
    wait(qtbot, dock)
    assert gate.ended == []
    assert dock.inversion.state is State.DONE
    assert "χ Closed-form L2" in viewer.layers
    assert_shows(ran, 0.0)


def test_the_slider_stands_still_while_the_chain_runs(dock, qtbot, gate):
    gate.open.clear()
    assert slider_of(dock).isEnabled()
    dock.inversion.run_button.click()
    qtbot.waitUntil(lambda: gate.inside == 1, timeout=30_000)
    assert not slider_of(dock).isEnabled()
    gate.open.set()
    wait(qtbot, dock)
    assert slider_of(dock).isEnabled()


def test_cancel_leaves_the_map_and_the_next_move_is_followed(dock, viewer, qtbot, gate, ran):
    gate.open.clear()
    move(dock, 0.4)
    qtbot.waitUntil(lambda: gate.inside == 1, timeout=30_000)
    dock.cancel_button.click()
    wait(qtbot, dock)
    assert dock.inversion.state is State.READY
    assert dock.progress_label.text() == "Moved was cancelled"
    assert_shows(ran, 0.0)
    gate.open.set()
    move(dock, 0.3)
    wait(qtbot, dock)
    assert_shows(ran, 0.3)
    assert dock.inversion.state is State.DONE
    assert dock.progress_label.text() == ""


def test_an_error_is_said_and_the_map_stays(dock, qtbot, ran):
    move(dock, 0.9)
    wait(qtbot, dock)
    assert dock.inversion.state is State.FAILED
    assert "Moved: calm is 0.9; it must be something else" in dock.inversion.status.text()
    assert_shows(ran, 0.0)
    move(dock, 0.4)
    wait(qtbot, dock)
    assert_shows(ran, 0.4)
    assert dock.inversion.state is State.DONE


def test_a_dock_that_is_closed_follows_no_more(dock, qtbot, gate, ran):
    gate.open.clear()
    move(dock, 0.4)
    qtbot.waitUntil(lambda: gate.inside == 1, timeout=30_000)
    move(dock, 0.3)
    dock.close()
    wait(qtbot, dock)
    assert gate.begun == [0.0, 0.4]
    assert_shows(ran, 0.0)


# ------------------------------------------------------------------------- when it cannot follow
def test_without_a_map_moving_it_only_sets_the_parameter(dock, viewer, qtbot):
    move(dock, 0.4)
    wait(qtbot, dock)
    assert len(viewer.layers) == 2
    assert "Ready: Moved calm 0.4, TKD" in dock.inversion.status.text()
    assert "Note: there is no Moved map yet that could follow; Run makes one" in dock.inversion.status.text()


def test_a_map_that_was_deleted_does_not_come_back(dock, viewer, qtbot, ran):
    viewer.layers.remove(ran)
    move(dock, 0.4)
    wait(qtbot, dock)
    assert [layer.name for layer in viewer.layers] == ["field", "drawn", "χ TKD"]
    assert "there is no Moved map yet that could follow" in dock.inversion.status.text()
    dock.inversion.run_button.click()
    wait(qtbot, dock)
    move(dock, 0.3)
    wait(qtbot, dock)
    assert_shows(viewer.layers["χ Moved calm 0.3"], 0.3)


def test_a_map_deleted_while_it_follows_is_dropped(dock, viewer, qtbot, gate, ran):
    gate.open.clear()
    move(dock, 0.4)
    qtbot.waitUntil(lambda: gate.inside == 1, timeout=30_000)
    viewer.layers.remove(ran)
    gate.open.set()
    wait(qtbot, dock)
    assert [layer.name for layer in viewer.layers] == ["field", "drawn", "χ TKD"]
    assert dock.inversion.state is State.READY


def test_a_mask_painted_on_since_is_not_put_into_the_old_map(dock, viewer, qtbot, ran):
    viewer.layers["drawn"].data_setitem((np.array([3]), np.array([3]), np.array([3])), 0)
    move(dock, 0.4)
    wait(qtbot, dock)
    assert_shows(ran, 0.0)
    assert dock.inversion.state is State.READY
    says = "Note: χ Moved stays, for the mask changed since; Run makes a new map"
    assert says in dock.inversion.status.text()
    dock.inversion.run_button.click()
    wait(qtbot, dock)
    (new,) = (layer for layer in viewer.layers if layer.name == "χ Moved calm 0.4")
    move(dock, 0.2)
    wait(qtbot, dock)
    assert new.name == "χ Moved calm 0.2"
    assert not new.data[3, 3, 3]
    assert_shows(ran, 0.0)


def test_other_settings_make_a_new_map_and_those_of_other_methods_do_not(dock, viewer, qtbot, ran):
    dock.inversion.method_forms["tkd"].form.set_values(threshold=0.1)
    assert dock.inversion.state is State.READY
    move(dock, 0.2)
    wait(qtbot, dock)
    assert_shows(ran, 0.2)
    dock.inversion.method_forms["moved"].form.set_values(factor=2.0)
    move(dock, 0.4)
    wait(qtbot, dock)
    assert_shows(ran, 0.2)
    assert "χ Moved calm 0.2 stays, for another parameter changed since" in dock.inversion.status.text()


def test_another_field_is_another_map(dock, viewer, qtbot, ran):
    viewer.layers["field"].data = 2 * FIELD
    dock.scan.b0_direction.setText("0, 0, 1")
    dock.scan.b0_direction.textEdited.emit("0, 0, 1")
    move(dock, 0.4)
    wait(qtbot, dock)
    assert_shows(ran, 0.0)
    says = "the local field and the scan's description changed since"
    assert says in dock.inversion.status.text()


# ------------------------------------------------------------------------------- the real one
def test_meta_qsm_follows_and_tells_its_level(dock, viewer, qtbot):
    for name, box in dock.inversion.boxes.items():
        box.setChecked(name == "metaqsm")
    dock.inversion.run_button.click()
    wait(qtbot, dock)
    layer = viewer.layers["χ Meta-QSM"]
    dock.inversion.method_forms["metaqsm"].form.set_values(calm=0.5)
    wait(qtbot, dock)
    assert layer.name == "χ Meta-QSM calm 0.5"
    step = layer.metadata["metaqsm"]["record"]["steps"][-1]
    assert step["parameters"]["calm"] == 0.5
    assert step["network"]["level_used"] != step["network"]["level_measured"]
    assert "level measured (mismatch " in dock.inversion.status.toolTip()


def test_weights_that_cannot_be_read_are_named_and_the_other_map_is_made(dock, viewer, qtbot, tmp_path):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no weights at all")
    for name, box in dock.inversion.boxes.items():
        box.setChecked(name in ("metaqsm", "tkd"))
    dock.inversion.method_forms["metaqsm"].form.set_values(weights=str(broken))
    dock.inversion.run_button.click()
    wait(qtbot, dock)
    assert dock.inversion.state is State.FAILED
    first, second = dock.inversion.status.text().splitlines()
    assert first.startswith("✗  Meta-QSM: ")
    assert "broken.safetensors" in first
    assert second.startswith("Done: χ TKD in")
