"""The window under faults: cancelled, closed, full disks, full devices, layers and files that go wrong."""

import functools
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import made
import nibabel as nib
import numpy as np
import pytest
import torch
from napari.components import ViewerModel
from napari.utils.notifications import ErrorNotification

from napari_metaqsm import pipeline
from napari_metaqsm.errors import InputError
from napari_metaqsm.io.nifti import read
from napari_metaqsm.method import methods
from napari_metaqsm.plugin.chain import SusceptibilityMapping
from napari_metaqsm.plugin.layers import layer_data, metadata_of
from napari_metaqsm.plugin.reading.room import ReadingRoom
from napari_metaqsm.plugin.section import State
from napari_metaqsm.scan import Acquisition

ACQUISITION = Acquisition((0.005, 0.012), 3.0, phase_pi=np.pi)
STEPS = [(entry.stage, entry.name) for entry in methods() if entry.stage != "orientations"]
# A cancel that takes longer is a hang. Loading a network, once, cannot be interrupted.
PATIENCE_MS = 30_000


@functools.cache
def space():
    """That of the DICOM which is made here."""
    with tempfile.TemporaryDirectory() as folder:
        nib.save(nib.Nifti1Image(np.zeros((20, 18, 12), np.float32), made.AXIAL), f"{folder}/x.nii")
        return read(f"{folder}/x.nii")[1]


def fill(viewer, *quantities, scale=1.0):
    """Layers of a scan, of every stage; noise is as good as anything, for it is never computed to the end."""
    magnitude, phase = made.phantom()
    rng = np.random.default_rng(1)
    inside = magnitude[0] > 0.2
    arrays = {
        "phase": phase.astype(np.float32),
        "magnitude": magnitude.astype(np.float32),
        "mask": inside,
        **{
            name: (inside * rng.normal(0, 0.05 * scale, inside.shape)).astype(np.float32)
            for name in ("total_field", "noise", "local_field", "susceptibility")
        },
        "quality": inside.astype(np.float32),
        "eroded_mask": inside,
    }
    arrays["noise"] = np.abs(arrays["noise"]) + np.float32(0.01)
    for quantity in quantities or arrays:
        values, settings, kind = layer_data(arrays[quantity], space(), quantity, quantity, ACQUISITION)
        viewer._add_layer_from_data(values, settings, kind)


def snapshot(viewer):
    return {layer.name: (layer, np.array(layer.data), dict(metadata_of(layer))) for layer in viewer.layers}


def assert_unchanged(viewer, before):
    after = snapshot(viewer)
    assert list(after) == list(before)
    for name, (layer, values, known) in before.items():
        assert after[name][0] is layer
        np.testing.assert_array_equal(after[name][1], values)
        assert set(after[name][2]) == set(known)


@pytest.fixture
def viewer():
    viewer = ViewerModel()
    fill(viewer)
    return viewer


@pytest.fixture
def dock(viewer, qtbot):
    dock = SusceptibilityMapping(viewer)
    qtbot.addWidget(dock)
    yield dock
    dock.release()
    qtbot.waitUntil(lambda: not dock.is_running, timeout=PATIENCE_MS)


@pytest.fixture
def room(viewer, qtbot):
    room = ReadingRoom(viewer)
    qtbot.addWidget(room)
    room.show()
    yield room
    room.release()
    qtbot.waitUntil(lambda: not _busy(room), timeout=2 * PATIENCE_MS)


def _busy(room):
    return any(part._latest.is_busy for part in (room, room.report, room.pacs))


@pytest.fixture(scope="module")
def dicom(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dicom")
    made.classic(folder, *made.phantom(), made.AXIAL)
    return folder


# -------------------------------------------------------------------------------------- cancel
@pytest.mark.parametrize(("stage", "name"), STEPS, ids=[f"{stage}-{name}" for stage, name in STEPS])
def test_every_step_can_be_cancelled(viewer, dock, qtbot, stage, name):
    section = {step.stage: step for step in dock.steps}[stage]
    if stage == "inversion":
        for each, box in dock.inversion.boxes.items():
            box.setChecked(each == name)
    else:
        section.chooser.choose(name)
    before = snapshot(viewer)
    section.run_button.click()
    assert dock.is_running, section.status.text()
    dock.cancel_button.click()
    qtbot.waitUntil(lambda: not dock.is_running, timeout=PATIENCE_MS)
    assert_unchanged(viewer, before)
    assert "was cancelled" in dock.progress_label.text()
    assert section.state is not State.RUNNING
    assert section.run_button.isEnabled()
    assert dock.run_button.isEnabled()
    assert not dock.cancel_button.isEnabled()


@pytest.mark.parametrize("what", ["report", "save", "open", "export"])
def test_everything_in_the_room_can_be_cancelled(viewer, room, qtbot, tmp_path, dicom, what):
    kept, out = tmp_path / "kept", tmp_path / "out"
    if what == "open":
        room.save(kept)
        qtbot.waitUntil(lambda: not _busy(room), timeout=20_000)
    before = snapshot(viewer)
    panel = {"report": room.report, "export": room.pacs}.get(what, room)
    {
        "report": lambda: room.report.write(out),
        "save": lambda: room.save(out),
        "open": lambda: room.open(kept),
        "export": lambda: start_export(room, dicom, out),
    }[what]()
    assert _busy(room)
    panel.cancel_button.click()
    qtbot.waitUntil(lambda: not _busy(room), timeout=PATIENCE_MS)
    assert panel.status.text().endswith("cancelled"), panel.status.text()
    assert not out.exists()
    assert_unchanged(viewer, before)
    assert getattr(panel, f"{what}_button").isEnabled()
    assert not panel.cancel_button.isVisible()


def start_export(room, dicom, out):
    room.pacs.source.setText(str(dicom))
    room.pacs.source.setModified(True)
    room.pacs.out.setText(str(out))
    room.pacs.export_button.click()


def test_a_venogram_that_is_not_wanted_any_more_is_not_made(viewer, room, qtbot):
    box = room.look.beside["swi"]
    assert box.isEnabled()
    box.click()
    box.click()
    qtbot.waitUntil(lambda: not room.look.venogram._latest.is_busy, timeout=PATIENCE_MS)
    assert not [layer for layer in viewer.layers if metadata_of(layer).get("quantity") == "swi"]
    box.click()
    qtbot.waitUntil(lambda: any(layer.name.startswith("SWI") for layer in viewer.layers), timeout=20_000)


# ------------------------------------------------------------------------------ closing the window
@pytest.mark.window
def test_closing_the_window_ends_all_work_in_silence_and_leaves_no_half_file(dicom, tmp_path):
    script = Path(__file__).with_name("closing_window.py")
    done = subprocess.run(
        [sys.executable, script, dicom, tmp_path], capture_output=True, text=True, timeout=120, check=False
    )
    told = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    assert done.returncode == 0, done.stderr
    assert told["busy"] == " ".join(["True"] * 5)
    assert "Traceback" not in done.stdout + done.stderr
    assert "Error" not in done.stdout + done.stderr
    assert float(told["ended"]) - float(told["closed"]) < 20
    assert list(tmp_path.iterdir()) == []


@pytest.mark.window
@pytest.mark.parametrize(("how", "code", "told"), [("exit", 3, ""), ("dialog", 0, "closed cancelled")])
def test_a_process_ends_although_a_worker_is_under_way(how, code, told):
    script = Path(__file__).with_name("leaving.py")
    done = subprocess.run(
        [sys.executable, script, how], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (code, told, "")


# ------------------------------------------------------------------------------------ full disks
@pytest.fixture
def full_disk(tmp_path):
    """A disk of half a megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    made_disk = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", folder], check=False)
    if made_disk.returncode:
        pytest.skip("no disk can be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def contents(folder):
    return {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_full_disk_is_said_and_the_earlier_reading_stays_whole(qtbot, full_disk):
    viewer = ViewerModel()
    fill(viewer, "susceptibility")
    room = ReadingRoom(viewer)
    qtbot.addWidget(room)
    for box in room.report.included.values():
        box.setChecked(False)
    room.save(full_disk)
    qtbot.waitUntil(lambda: not _busy(room), timeout=30_000)
    assert room.status.text().startswith("Saved"), room.status.text()
    before = contents(full_disk)
    left = os.statvfs(full_disk)
    (full_disk / "ballast").write_bytes(bytes(max(left.f_bavail * left.f_frsize - 8192, 1)))
    for start, panel in ((room.save, room), (room.report.write, room.report)):
        start(full_disk)
        qtbot.waitUntil(lambda: not _busy(room), timeout=30_000)
        assert "No space left on device" in panel.status.text()
    assert room.save_button.isEnabled()
    assert room.report.report_button.isEnabled()
    after = contents(full_disk)
    after.pop(Path("ballast"))
    assert after == before
    (full_disk / "ballast").unlink()
    room.release()


def test_a_full_disk_ends_an_export_in_words(room, qtbot, full_disk, dicom):
    (full_disk / "ballast").write_bytes(bytes(500 * 1024))
    start_export(room, dicom, full_disk)
    qtbot.waitUntil(lambda: not _busy(room), timeout=30_000)
    assert "No space left on device" in room.pacs.status.text()
    assert [file.name for file in full_disk.iterdir()] == ["ballast"]
    assert room.pacs.export_button.isEnabled()


# --------------------------------------------------------------------------------- full devices
def test_a_device_that_is_out_of_memory_is_said_with_the_map(viewer, dock, qtbot, monkeypatch):
    call = pipeline._call

    def full(entry, parameters, arrays, geometry, acquisition, where):
        if where.type == "meta":
            raise torch.OutOfMemoryError("full")
        return call(entry, parameters, arrays, geometry, acquisition, where)

    monkeypatch.setattr(pipeline, "choose_device", lambda name: torch.device("meta"))
    monkeypatch.setattr(pipeline, "_call", full)
    for name, box in dock.inversion.boxes.items():
        box.setChecked(name == "tkd")
    dock.inversion.run_button.click()
    qtbot.waitUntil(lambda: not dock.is_running, timeout=20_000)
    assert dock.inversion.state is State.DONE
    assert "Note: meta ran out of memory; computed on the CPU instead" in dock.inversion.status.text()
    assert "χ TKD" in viewer.layers


# ----------------------------------------------------------------------- layers and files that go
@pytest.mark.parametrize("what", ["step", "save", "export"])
def test_layers_may_be_removed_while_they_are_worked_on(viewer, dock, room, qtbot, tmp_path, dicom, what):
    if what == "step":
        for name, box in dock.inversion.boxes.items():
            box.setChecked(name == "tkd")
        dock.inversion.run_button.click()
    elif what == "save":
        room.save(tmp_path / "out")
    else:
        start_export(room, dicom, tmp_path / "out")
    viewer.layers.clear()
    qtbot.waitUntil(lambda: not dock.is_running and not _busy(room), timeout=30_000)
    if what == "step":
        assert [layer.name for layer in viewer.layers] == ["χ TKD"]
    else:
        assert (tmp_path / "out").is_dir()
    assert dock.run_button.isEnabled()


@pytest.mark.window
@pytest.mark.parametrize("name", ["broken.nii", "cut.nii.gz", "empty_folder.dcm"])
def test_a_corrupt_file_gives_one_sentence(make_napari_viewer_proxy, plugin, tmp_path, name):
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6), np.float32), np.eye(4)), tmp_path / "good.nii.gz")
    content = {
        "broken.nii": b"x" * 500,
        "cut.nii.gz": (tmp_path / "good.nii.gz").read_bytes()[:60],
        "empty_folder.dcm": bytes(128) + b"DICM" + b"\x00" * 40,
    }[name]
    (tmp_path / name).write_bytes(content)
    viewer = make_napari_viewer_proxy()
    with pytest.raises(InputError) as caught:
        viewer.open(str(tmp_path / name), plugin="napari-metaqsm")
    shown = ErrorNotification(caught.value).message
    assert "\n" not in shown
    assert "Traceback" not in shown
    assert len(viewer.layers) == 0
