"""The dock without a window: states, every way into the chain, errors, cancelling, layers that go."""

import threading

import numpy as np
import pytest
import torch
from napari.components import ViewerModel
from qtpy.QtCore import Qt

from napari_metaqsm.doors import invert
from napari_metaqsm.errors import InputError
from napari_metaqsm.io.resources import resource
from napari_metaqsm.method import DEFAULT_INVERSIONS, steps
from napari_metaqsm.operators.dipole import dipole_field
from napari_metaqsm.pipeline import run_step
from napari_metaqsm.plugin import jobs as jobs_module
from napari_metaqsm.plugin.chain import SusceptibilityMapping
from napari_metaqsm.plugin.section import State
from napari_metaqsm.scan import Acquisition, Geometry

SHAPE = (10, 14, 12)
SCALE = (3.0, 1.0, 1.0)
GEOMETRY = Geometry(SHAPE, SCALE, b0_direction=(1, 0, 0.1), orientation="IPL")
TIMES_S = (0.004, 0.009)


def tick(dock, *names):
    """These inversions, whichever are ticked at first."""
    for name, box in dock.inversion.boxes.items():
        box.setChecked(name in names)


@pytest.fixture
def viewer():
    return ViewerModel()


@pytest.fixture
def dock(viewer, qtbot):
    dock = SusceptibilityMapping(viewer)
    qtbot.addWidget(dock)
    tick(dock, "tkd", "l2")
    yield dock
    dock.release()
    qtbot.waitUntil(lambda: not dock.is_running, timeout=10_000)


@pytest.fixture
def run(dock, qtbot):
    """Press a section's button, or "Run all", and wait until the work is done."""

    def press(button):
        ends = []
        dock.ended.connect(ends.append)
        button.click()
        qtbot.waitUntil(lambda: not dock.is_running, timeout=20_000)
        dock.ended.disconnect(ends.append)
        return ends

    return press


def metadata(quantity, unit="ppm", acquisition=None):
    known = {"quantity": quantity, "unit": unit, "b0_direction": GEOMETRY.b0_direction, "orientation": "IPL"}
    return {"metaqsm": {**known, "acquisition": acquisition, "space": None, "record": None}}


def add(viewer, values, quantity=None, name=None, **known):
    scale = (1.0,) * (values.ndim - 3) + SCALE
    units = ("dimensionless",) * (values.ndim - 3) + ("mm",) * 3
    return viewer.add_image(
        values,
        name=name or quantity,
        scale=scale,
        units=units,
        metadata=metadata(quantity, **known) if quantity else {},
    )


def add_mask(viewer, values, name="drawn"):
    return viewer.add_labels(values.astype(np.uint8), name=name, scale=SCALE, units=("mm",) * 3)


def ball(radius=4.0):
    axes = [(np.arange(n) - (n - 1) / 2) * size for n, size in zip(SHAPE, SCALE, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    return z**2 + (2 * y) ** 2 + (2 * x) ** 2 < (3 * radius) ** 2


def local_field():
    chi = torch.from_numpy(0.2 * ball(2.0).astype(np.float32))
    return dipole_field(chi, GEOMETRY).numpy()


@pytest.fixture
def entered_late(viewer, dock):
    """A dock whose user has a local field and a mask, and no phase."""
    field = add(viewer, local_field() * ball(), "local_field")
    mask = add_mask(viewer, ball())
    dock.inversion.choices["mask"].choose(mask)
    return field, mask


def add_scan(viewer, acquisition):
    phase = np.stack([np.full(SHAPE, 0.1, np.float32), np.full(SHAPE, 0.2, np.float32)])
    add(viewer, phase, "phase", unit="rad", acquisition=acquisition)
    add(viewer, np.ones((2, *SHAPE), np.float32), "magnitude", unit="")


def test_the_methods_that_run_where_none_is_named_are_ticked(viewer, qtbot):
    dock = SusceptibilityMapping(viewer)
    qtbot.addWidget(dock)
    ticked = {name for name, box in dock.inversion.boxes.items() if box.isChecked()}
    assert ticked == set(DEFAULT_INVERSIONS)
    dock.release()


# ------------------------------------------------------------------------------------- the scan
def test_files_opened_together_are_paired_and_fill_the_scan(viewer, dock, qtbot):
    files = sorted(str(file) for file in resource("samples/philips_2echo").glob("*.nii.gz"))
    assert len(files) == 4
    dock.scan.open(files)
    qtbot.waitUntil(lambda: dock.scan.state is State.DONE, timeout=20_000)
    assert [layer.data.shape for layer in viewer.layers] == [(2, 53, 80, 80)] * 2
    assert dock.scan.phase.layer.name.startswith("phase")
    assert dock.scan.acquisition().echo_times_s == (0.0023, 0.0046)


def test_echoes_that_napari_opened_one_by_one_can_be_paired(viewer, dock, qtbot, plugin):
    files = sorted(str(file) for file in resource("samples/philips_2echo").glob("*.nii.gz"))
    assert dock.scan.pair_button.isHidden()
    viewer.open(files, plugin="napari-metaqsm")
    assert len(viewer.layers) == 4
    assert dock.scan.pair_button.text() == "Pair 4 open files"
    dock.scan.pair_button.click()
    qtbot.waitUntil(lambda: any(layer.ndim == 4 for layer in viewer.layers), timeout=20_000)
    qtbot.waitUntil(lambda: dock.scan.state is State.DONE, timeout=5_000)
    assert [layer.data.shape for layer in viewer.layers] == [(2, 53, 80, 80)] * 2
    assert not [layer.name for layer in viewer.layers if "[" in layer.name]
    assert dock.scan.pair_button.isHidden()


def test_a_file_that_cannot_be_opened_is_named_in_the_window(viewer, dock, qtbot, tmp_path):
    broken = tmp_path / "broken_phase.nii.gz"
    broken.write_bytes(b"no image at all")
    dock.scan.open([str(broken)])
    qtbot.waitUntil(lambda: dock.scan.state is State.FAILED, timeout=20_000)
    assert " broken_phase.nii.gz" in dock.scan.status.text()  # as the file is written
    assert not viewer.layers
    assert dock.scan.run_button.isEnabled()


def test_the_scan_is_filled_from_the_layers(viewer, dock):
    acquisition = Acquisition(TIMES_S, 3.0, phase_sign=-1, phase_pi=4096)
    add_scan(viewer, acquisition)
    assert dock.scan.state is State.DONE
    assert "Complete: 2 echoes at 3 T" in dock.scan.status.text()
    assert dock.scan.acquisition() == acquisition
    geometry = dock.scan.geometry(viewer.layers["phase"])
    assert geometry.voxel_size_mm == SCALE
    assert geometry.b0_direction == pytest.approx(GEOMETRY.b0_direction)
    assert "3×1×1 mm" in dock.scan.phase._grid.text()
    assert dock.field.state is State.READY


def test_the_scan_says_exactly_what_is_missing(viewer, dock):
    assert "Missing: phase layer, echo times, field strength" in dock.scan.status.text()
    add_scan(viewer, Acquisition(b0_tesla=7.0))
    assert dock.scan.status.text().endswith("Missing: echo times")
    assert dock.scan.state is State.MISSING


@pytest.mark.parametrize(
    ("times", "tesla", "says"),
    [
        ("4, 9", "0", "Field strength (T): 0; the field strength must lie in (0, 25] T"),
        ("4", "3", "There are 1 echo times for 2 echoes of phase; give one for each"),
        ("9, 4", "3", "they must ascend"),
        ("0, 4", "3", "each must be greater than 0"),
        ("0.004, 0.009", "3", "Echo times are 0.004, 0.009; give them in milliseconds"),
        ("4000, 9000", "3", "Echo times are 4000, 9000; give them in milliseconds"),
        ("four", "3", "Echo times: 'four' is not understood; write numbers in ms"),
        ("4, 9", "3 1", "Field strength: '3 1' is not understood; write one number in tesla"),
    ],
)
def test_entries_that_cannot_be_meant_are_named(viewer, dock, run, times, tesla, says):
    add_scan(viewer, Acquisition())
    dock.scan.echo_times_ms.setText(times)
    dock.scan.b0_tesla.setText(tesla)
    assert says in dock.scan.status.text()
    assert dock.scan.state is State.FAILED
    assert "The scan above is not complete" in dock.field.status.text()
    run(dock.field.run_button)
    assert says in dock.field.status.text()
    assert [layer.name for layer in viewer.layers] == ["phase", "magnitude"]


def test_b0_can_be_edited(viewer, dock, qtbot):
    add_scan(viewer, Acquisition(TIMES_S, 3.0))
    dock.scan.b0_direction.clear()
    qtbot.keyClicks(dock.scan.b0_direction, "0, 0, 2")
    assert dock.scan.geometry(viewer.layers["phase"]).b0_direction == (0, 0, 1)
    dock.scan.b0_direction.clear()
    qtbot.keyClicks(dock.scan.b0_direction, "0, 1")
    assert "must be three" in dock.scan.status.text()


# ---------------------------------------------------------------------------- ways into the chain
def test_a_local_field_and_a_mask_give_two_referenced_maps(viewer, dock, run, entered_late):
    field, mask = entered_late
    run(dock.inversion.run_button)
    maps = [viewer.layers["χ TKD"], viewer.layers["χ Closed-form L2"]]
    assert dock.inversion.state is State.DONE
    assert dock.compare.checked() == maps or dock.compare.checked() == maps[::-1]
    inside = mask.data > 0
    plain = invert(field.data, mask.data, SCALE, "tkd", GEOMETRY.b0_direction)
    np.testing.assert_allclose(maps[0].data[inside], (plain - plain[inside].mean())[inside], atol=1e-6)
    assert not maps[0].data[~inside].any()
    for layer in maps:
        known = layer.metadata["metaqsm"]
        assert known["quantity"] == "susceptibility"
        assert known["orientation"] == "IPL"
        assert known["b0_direction"] == pytest.approx(GEOMETRY.b0_direction)
        assert tuple(layer.scale) == SCALE
    record = maps[0].metadata["metaqsm"]["record"]
    assert [step["method"] for step in record["steps"]] == ["tkd"]
    assert record["inputs"]["local_field"]["layer"] == "local_field"
    assert record["reference"]["χ TKD"]["voxels"] == np.count_nonzero(plain)


def test_run_all_runs_what_the_layers_allow(viewer, dock, entered_late):
    assert dock.plan() == [dock.inversion]
    add(viewer, local_field(), "total_field")
    dock.background.choices["mask"].choose(entered_late[1])
    assert dock.plan() == [dock.background, dock.inversion]
    add_scan(viewer, Acquisition(TIMES_S, 3.0))
    assert dock.plan() == [dock.field, dock.mask, dock.background, dock.inversion]


def test_run_all_says_what_the_chain_lacks(viewer, dock, run):
    run(dock.run_button)
    assert "The chain cannot be run yet, it lacks: local field, mask" in dock.inversion.status.text()
    assert dock.inversion.state is State.FAILED


def test_a_field_map_in_hz_becomes_ppm(viewer, dock, run):
    layer = add(viewer, np.full(SHAPE, 127.731, np.float32), name="from elsewhere")
    dock.field.chooser.choose("")
    dock.field.own.choose(layer)
    dock.field.unit.setCurrentText("Hz")
    run(dock.field.run_button)
    assert "needs the field strength in tesla" in dock.field.status.text()
    dock.scan.b0_tesla.setText("3")
    run(dock.field.run_button)
    made = viewer.layers["total field from Hz"]
    np.testing.assert_allclose(made.data, 1.0, rtol=1e-5)
    assert made.metadata["metaqsm"]["unit"] == "ppm"
    assert dock.background.choices["total_field"].layer == made


def test_a_field_map_in_ppm_is_used_as_it_is(viewer, dock):
    layer = add(viewer, local_field(), name="from elsewhere")
    dock.field.chooser.choose("")
    dock.field.own.choose(layer)
    assert dock.field.state is State.DONE
    assert "Used as it is: from elsewhere" in dock.field.status.text()
    assert dock.background.choices["total_field"].layer == layer


def test_the_users_mask_is_used_verbatim(viewer, dock, run, monkeypatch):
    add(viewer, local_field(), "total_field")
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[2:8, 3:10, 3:9] = 3  # any label counts
    drawn[4, 6, 6] = 0  # a hole is meant
    layer = add_mask(viewer, drawn)
    dock.mask.chooser.choose("")
    dock.mask.own.choose(layer)
    assert dock.background.choices["mask"].layer == layer
    seen = {}

    def spy(step, data, *args):
        seen.update(data)
        raise InputError("seen")

    monkeypatch.setattr(jobs_module, "run_step", spy)
    run(dock.background.run_button)
    np.testing.assert_array_equal(seen["mask"], drawn)


def test_the_background_section_says_what_became_of_the_mask(viewer, dock, run, entered_late):
    dock.background.chooser.choose("lbv")
    add(viewer, local_field(), "total_field")
    dock.background.choices["mask"].choose(entered_late[1])
    assert run(dock.background.run_button) == [True]
    inside, left = ball() != 0, viewer.layers["eroded mask LBV"].data != 0
    kept = f"{100 * left.sum() / inside.sum():.1f} % of the mask kept, "
    assert kept in dock.background.status.text()
    assert dock.background.status.text().endswith(" mm lost at the rim")
    assert "Erosion: depth mm " in dock.background.status.toolTip()


def test_an_edited_mask_of_a_running_step_does_not_reach_it(viewer, dock, entered_late):
    (job, _) = dock.inversion.jobs("cpu")
    entered_late[1].data[:] = 0
    assert job.data["mask"].any()


# ------------------------------------------------------------------------------------- results
def test_the_same_again_replaces_and_other_settings_add(viewer, dock, run, entered_late):
    dock.inversion.boxes["l2"].setChecked(False)
    run(dock.inversion.run_button)
    first = viewer.layers["χ TKD"]
    run(dock.inversion.run_button)
    dock.inversion.method_forms["tkd"].form.set_values(threshold=0.1)
    assert dock.inversion.state is State.READY
    run(dock.inversion.run_button)
    maps = [layer.name for layer in viewer.layers if layer.name.startswith("χ")]
    assert maps == ["χ TKD", "χ TKD threshold 0.1"]
    assert viewer.layers["χ TKD"] is first


def test_the_reference_changes_without_computing(viewer, dock, run, entered_late, monkeypatch):
    run(dock.inversion.run_button)
    layer = viewer.layers["χ TKD"]
    plain = invert(*(x.data for x in entered_late), SCALE, "tkd", GEOMETRY.b0_direction)
    inside = plain != 0
    corner = np.zeros(SHAPE, bool)
    corner[:5] = True
    add_mask(viewer, corner, "region")
    monkeypatch.setattr(jobs_module, "run_step", None)

    def choose(text):
        dock.compare.reference.setCurrentText(text)
        dock.compare.reference.activated.emit(dock.compare.reference.currentIndex())

    choose("none")
    np.testing.assert_array_equal(layer.data, plain)
    choose("region")
    np.testing.assert_allclose(layer.data[inside & corner].mean(), 0, atol=1e-6)
    np.testing.assert_allclose(
        layer.data[inside], (plain - plain[inside & corner].mean())[inside], rtol=0, atol=1e-6
    )
    assert layer.metadata["metaqsm"]["record"]["reference"]["χ TKD"]["region"] == "region"
    choose("whole brain")
    np.testing.assert_allclose(layer.data[inside].mean(), 0, atol=1e-6)
    viewer.layers["region"].data = np.zeros(SHAPE, np.uint8)
    choose("region")
    assert "has no voxel in the map's mask" in dock.compare.status.text()


def test_a_loaded_map_is_not_touched_until_it_is_checked_and_referenced(viewer, dock):
    values = local_field()
    add(viewer, values.copy(), "susceptibility", name="loaded")
    assert dock.compare.checked() == []
    np.testing.assert_array_equal(viewer.layers["loaded"].data, values)


def test_compare_opens_and_closes(viewer, dock, run, entered_late):
    run(dock.inversion.run_button)
    assert not dock.compare.plane_buttons["coronal"].isEnabled()
    dock.compare.run_button.click()
    assert viewer.canvas.grid.enabled
    assert dock.compare.run_button.text() == "Close"
    dock.compare.plane_buttons["coronal"].click()
    assert viewer.dims.order == (1, 0, 2)
    dock.compare.window_ppm.setValue(0.05)
    assert tuple(viewer.layers["χ TKD"].contrast_limits) == (-0.05, 0.05)
    dock.compare.run_button.click()
    assert not viewer.canvas.grid.enabled
    assert viewer.dims.order == (0, 1, 2)
    assert tuple(viewer.layers["χ TKD"].contrast_limits) == (-0.1, 0.1)
    assert dock.compare.run_button.text() == "Compare"


def test_an_open_comparison_takes_in_new_maps_and_stays_where_it_was(viewer, dock, run, entered_late):
    dock.inversion.boxes["l2"].setChecked(False)
    run(dock.inversion.run_button)
    dock.compare.run_button.click()
    dock.compare.plane_buttons["sagittal"].click()
    viewer.scene.camera.zoom = 17.5
    dock.inversion.method_forms["tkd"].form.set_values(threshold=0.3)
    run(dock.inversion.run_button)
    assert [layer.name for layer in dock.compare.comparison.layers] == ["χ TKD", "χ TKD threshold 0.3"]
    assert viewer.canvas.grid.actual_shape(viewer.layers) == (1, 2)
    assert (viewer.dims.order, viewer.scene.camera.zoom) == ((2, 0, 1), 17.5)
    dock.compare.maps.item(0).setCheckState(Qt.CheckState.Unchecked)
    assert [layer.name for layer in dock.compare.comparison.layers] == ["χ TKD threshold 0.3"]
    dock.compare.maps.item(1).setCheckState(Qt.CheckState.Unchecked)
    assert not viewer.canvas.grid.enabled
    assert viewer.layers["local_field"].visible


# ------------------------------------------------------------------------------ what goes wrong
def test_an_error_ends_the_run_and_frees_the_steps_after_it(viewer, dock, run, entered_late):
    add(viewer, np.full(SHAPE, np.inf, np.float32), "total_field")
    dock.background.choices["mask"].choose(entered_late[1])
    ends = run(dock.run_button)
    assert ends == [False]
    assert dock.background.state is State.FAILED
    assert dock.inversion.state is State.READY
    assert not any(layer.name.startswith("χ") for layer in viewer.layers)


def test_bad_data_are_named_and_the_chain_stays_usable(viewer, dock, run, entered_late):
    field, _ = entered_late
    good = field.data.copy()
    field.data = np.where(ball(1.0), np.nan, good).astype(np.float32)
    run(dock.inversion.run_button)
    assert dock.inversion.state is State.FAILED
    assert "NaN or infinite" in dock.inversion.status.text()
    assert len(viewer.layers) == 2
    field.data = good
    assert dock.inversion.run_button.isEnabled()
    run(dock.inversion.run_button)
    assert dock.inversion.state is State.DONE


def test_layers_of_different_shapes_are_named(viewer, dock, run, entered_late):
    mask = add_mask(viewer, np.ones((4, 5, 6)), "other")
    dock.inversion.choices["mask"].choose(mask)
    run(dock.inversion.run_button)
    assert "4×5×6" in dock.inversion.status.text()
    assert "they must match" in dock.inversion.status.text()


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (torch.OutOfMemoryError("CUDA"), "TKD: there is not enough memory for this step"),
        (KeyError("x"), "TKD: this step failed unexpectedly (KeyError: 'x')"),
    ],
)
def test_errors_come_in_plain_words(dock, run, entered_late, monkeypatch, error, says):
    def fail(*args):
        raise error

    monkeypatch.setattr(jobs_module, "run_step", fail)
    run(dock.inversion.run_button)
    assert says in dock.inversion.status.text()
    assert "Traceback" in dock.inversion.status.toolTip()
    assert dock.run_button.isEnabled()


def test_methods_beside_one_that_fails_give_their_maps(viewer, dock, run, entered_late, monkeypatch):
    def fail_l2(step, *args):
        if step.method == "l2":
            raise InputError("there are no weights for it")
        return run_step(step, *args)

    monkeypatch.setattr(jobs_module, "run_step", fail_l2)
    assert run(dock.inversion.run_button) == [False]
    assert dock.inversion.state is State.FAILED
    first, second = dock.inversion.status.text().splitlines()
    assert first == "✗  Closed-form L2: there are no weights for it"
    assert second.startswith("Done: χ TKD in ")
    assert [layer.name for layer in viewer.layers] == ["local_field", "drawn", "χ TKD"]
    dock.inversion.boxes["l2"].setChecked(False)
    assert dock.inversion.state is State.READY


@pytest.fixture
def held(monkeypatch):
    """Steps that wait, ever reporting, until they are let go or cancelled."""
    begun, go = threading.Event(), threading.Event()

    def wait(*args):
        for _ in steps(10**9, "waiting"):
            begun.set()
            if go.wait(0.005):
                break
        return run_step(*args)

    monkeypatch.setattr(jobs_module, "run_step", wait)
    yield begun, go
    go.set()


def test_cancel_leaves_everything_as_it_was(viewer, dock, qtbot, run, entered_late, held):
    begun, go = held
    dock.run_button.click()
    qtbot.waitUntil(begun.is_set, timeout=30_000)
    qtbot.waitUntil(lambda: dock.progress_label.text() == "Closed-form L2: waiting", timeout=30_000)
    assert "Running Closed-form L2: 0%" in dock.inversion.status.text()
    assert dock.inversion.state is State.RUNNING
    assert not dock.run_button.isEnabled()
    add(viewer, np.zeros(SHAPE, np.float32), "local_field", name="meanwhile")
    assert dock.inversion.state is State.RUNNING
    viewer.layers.remove("meanwhile")
    dock.cancel_button.click()
    qtbot.waitUntil(lambda: not dock.is_running, timeout=30_000)
    assert len(viewer.layers) == 2
    assert dock.inversion.state is State.READY
    assert dock.progress_label.text() == "Closed-form L2 was cancelled"
    go.set()
    assert run(dock.run_button) == [True]
    assert dock.inversion.state is State.DONE


def test_layers_deleted_while_they_are_computed_with(viewer, dock, qtbot, entered_late, held):
    begun, go = held
    dock.inversion.boxes["l2"].setChecked(False)
    dock.run_button.click()
    qtbot.waitUntil(begun.is_set, timeout=30_000)
    viewer.layers.clear()
    go.set()
    qtbot.waitUntil(lambda: not dock.is_running, timeout=30_000)
    assert [layer.name for layer in viewer.layers] == ["χ TKD"]
    assert dock.inversion.choices["local_field"].layer is None
    viewer.layers.clear()
    assert dock.inversion.state is State.MISSING
    assert not dock.inversion.run_button.isEnabled()


def test_names_follow_and_choices_stay(viewer, dock, entered_late):
    field, _ = entered_late
    combo = dock.inversion.choices["local_field"]
    field.name = "renamed"
    assert combo._combo.currentText() == "renamed"
    other = add(viewer, local_field(), "local_field", name="newer")
    assert combo.layer == other  # followed, for nobody chose
    combo.choose(field)
    add(viewer, local_field(), "local_field", name="newest")
    viewer.layers.move(0, 2)
    assert combo.layer == field
    viewer.layers.remove(field)
    assert combo.layer.name == "newest"


def test_choosing_no_layer_is_a_choice_too(viewer, dock):
    dock.mask.chooser.choose("phase_quality")
    add(viewer, np.ones(SHAPE), "quality", name="first")
    choice = dock.mask.choices["quality"]
    choice._combo.setCurrentIndex(0)
    choice._combo.activated.emit(0)
    add(viewer, np.ones(SHAPE), "quality", name="second")
    assert choice.layer is None
    assert dock.mask.state is State.MISSING


def test_only_fitting_layers_are_offered(viewer, dock):
    viewer.add_points(np.zeros((1, 3)))
    viewer.add_image(np.zeros((8, 8)), name="flat")
    viewer.add_image(np.zeros((*SHAPE, 3)), rgb=True, name="colour")
    add(viewer, np.zeros(SHAPE), name="unknown")
    add(viewer, np.zeros(SHAPE), "noise")
    names = [layer.name for layer in dock.inversion.choices["local_field"]._layers[1:]]
    assert names == ["unknown"]
    assert dock.inversion.choices["local_field"].layer is None  # offered, not assumed


def test_a_dock_that_is_closed_lets_go_of_the_viewer(viewer, dock, run, qtbot, entered_late, held):
    begun, _ = held
    dock.run_button.click()
    qtbot.waitUntil(begun.is_set, timeout=30_000)
    worker = dock._running[2]
    dock.close()
    assert worker.abort_requested
    finished = len(viewer.layers)
    qtbot.waitUntil(lambda: not dock.is_running, timeout=30_000)
    for name in ("inserted", "removed", "reordered", "renamed"):
        callbacks = getattr(viewer.layers.events, name).callbacks
        assert not any("SusceptibilityMapping" in repr(callback) for callback in callbacks)
    add(viewer, np.zeros(SHAPE), name="after")
    assert len(viewer.layers) == finished + 1
