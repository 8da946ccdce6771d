"""DICOM in the window: opened, what was decided shown and overridden, a run chosen, opening cancelled."""

import json
import threading

import made
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Layer
from npe2 import io_utils
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QApplication, QProgressDialog

from napari_metaqsm.errors import Cancelled, InputError
from napari_metaqsm.method import steps
from napari_metaqsm.plugin import readers, scan_section, waiting
from napari_metaqsm.plugin.chain import SusceptibilityMapping
from napari_metaqsm.plugin.layers import metadata_of
from napari_metaqsm.plugin.readers import OPENED_FROM, get_reader, read_layers
from napari_metaqsm.plugin.section import State
from napari_metaqsm.plugin.waiting import wait_for

TIMES_S = (0.005, 0.012)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Two Siemens runs of one study, in a folder that is named after the patient."""
    folder = tmp_path_factory.mktemp("DOE^JANE")
    for series, description, affine in ((8, "gre_qsm", made.AXIAL), (20, "gre_again", made.OBLIQUE)):
        (folder / description).mkdir()
        about = {"series": series, "description": description}
        made.classic(folder / description, *made.phantom(seed=series), affine, **about)
    return folder


@pytest.fixture(scope="module")
def ge(tmp_path_factory):
    """A GE run, whose phase is inverted."""
    folder = tmp_path_factory.mktemp("ge")
    made.classic(folder, *made.phantom(), vendor="GE", parts=("magnitude", "phase"))
    return folder


@pytest.fixture
def viewer():
    return ViewerModel()


@pytest.fixture
def dock(viewer, qtbot):
    dock = SusceptibilityMapping(viewer)
    qtbot.addWidget(dock)
    dock.mask.chooser.choose("threshold")
    for name, box in dock.inversion.boxes.items():
        box.setChecked(name == "tkd")
    yield dock
    dock.release()
    qtbot.waitUntil(lambda: not dock.is_running, timeout=10_000)


def open_in(dock, qtbot, *paths):
    dock.scan.open([str(path) for path in paths])
    qtbot.waitUntil(lambda: dock.scan.run_button.isEnabled(), timeout=30_000)


# ------------------------------------------------------------------------------------- the reader
def test_folders_and_files_of_dicom_are_claimed_and_nifti_goes_first(study, tmp_path):
    file = next((study / "gre_qsm").iterdir())
    for path in (study, study / "gre_qsm", file):
        assert get_reader(str(path)) is not None
    assert get_reader([str(f) for f in (study / "gre_qsm").iterdir()]) is not None
    (tmp_path / "x.dcm").write_bytes(b"text")
    assert get_reader(str(tmp_path / "x.dcm")) is None
    (tmp_path / "copy.dcm").write_bytes(file.read_bytes())
    (tmp_path / "scan_ph.nii").write_bytes(b"x" * 500)
    with pytest.raises(InputError, match="scan_ph"):  # read as NIfTI, in which it is broken
        read_layers(str(tmp_path))


def test_a_folder_of_very_much_else_is_not_searched_to_its_end(study, tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "_LOOKED_AT", 3)
    for n in range(3):
        (tmp_path / f"{n}.chunk").write_bytes(b"0")
    (tmp_path / "2x.dcm").write_bytes(next((study / "gre_qsm").iterdir()).read_bytes())
    assert get_reader(str(tmp_path)) is None
    (tmp_path / "0.chunk").unlink()
    assert get_reader(str(tmp_path)) is not None


def test_napari_opens_a_folder_as_paired_layers(study, plugin, qapp):
    layers = [Layer.create(*data) for data in io_utils.read([str(study / "gre_qsm")], stack=False)]
    named = {layer.name: layer for layer in layers}
    assert set(named) == {"phase, series 9", "magnitude, series 8"}
    phase = named["phase, series 9"]
    known = metadata_of(phase)
    assert known["acquisition"].echo_times_s == TIMES_S
    assert known["acquisition"].b0_tesla == 3
    assert phase.data.shape == (2, 12, 18, 20)
    expected = made.phantom(seed=8)[1]
    stored = known["space"]
    radians = phase.data * np.pi / known["acquisition"].phase_pi
    turned = np.sort(radians.ravel())
    np.testing.assert_allclose(turned, np.sort(expected.ravel()), atol=2e-3)
    assert stored.known


def test_what_is_kept_with_a_layer_holds_no_folder(study):
    for _, settings, _ in read_layers(str(study)):
        assert settings["metadata"][OPENED_FROM] == [str(study)]
        known = {k: v for k, v in settings["metadata"]["metaqsm"].items() if k != "space"}
        assert "DOE" not in json.dumps(known, default=str)


def test_the_first_run_and_the_last_are_told_apart(study):
    layers = {settings["name"]: settings for _, settings, _ in read_layers(str(study))}
    visible = {name for name, settings in layers.items() if settings["visible"]}
    assert visible == {"phase, series 21", "magnitude, series 20"}
    told = layers["phase, series 9"]["metadata"]["metaqsm"]["dicom"]["runs"]
    assert [(run["series"], run["description"], run["holds"]) for run in told] == [
        ("8, 9", "gre_qsm", "2 echoes"), ("20, 21", "gre_again", "2 echoes")
    ]  # fmt: skip


def test_a_study_without_phase_says_so_in_one_sentence(tmp_path, viewer, dock, qtbot):
    made.classic(tmp_path, *made.phantom(), parts=("magnitude",))
    open_in(dock, qtbot, tmp_path)
    assert dock.scan.state is State.FAILED
    assert "phase" in dock.scan.status.text()
    assert len(viewer.layers) == 0


# ------------------------------------------------------------------------- waiting for the reader
def slow(held):
    for _ in steps(10**9, "converting"):
        held.set()
    return []


def test_the_window_lives_while_napari_waits_and_cancel_ends_it(study, qtbot, monkeypatch):
    monkeypatch.setattr(waiting, "PAUSE_MS", 20)
    held, beats, clicked = threading.Event(), [], []

    def look():
        beats.append(1)
        for dialog in QApplication.topLevelWidgets():
            if isinstance(dialog, QProgressDialog) and dialog.isVisible() and held.is_set():
                assert "converting" in dialog.labelText() or not clicked
                clicked.append(dialog)
                dialog.canceled.emit()

    timer = QTimer()
    timer.timeout.connect(look)
    timer.start(20)
    monkeypatch.setattr(readers, "read_layers", lambda path: slow(held))
    assert get_reader(str(study))(str(study)) == [(None,)]
    timer.stop()
    assert clicked
    assert len(beats) > 1


def test_what_is_waited_for_is_returned_or_raised(qtbot, monkeypatch):
    assert wait_for(lambda a: a + 1, 2, title="Adding") == 3
    with pytest.raises(InputError, match="no such scan"):
        wait_for(_fail, title="Failing")
    monkeypatch.setattr(waiting, "PAUSE_MS", 0)  # with the dialog: closing it is no "Cancel"
    assert wait_for(lambda: [threading.Event().wait(0.1)], title="Waiting") == [False]


def _fail():
    raise InputError("no such scan")


# ------------------------------------------------------------------------------------- the dock
def test_what_was_decided_is_said_and_can_be_overridden(viewer, dock, qtbot, ge):
    open_in(dock, qtbot, ge)
    assert dock.scan.state is State.DONE
    said = dock.scan.decided.text.text()
    assert "series" in said
    assert "GE stores phase inverted" in said
    assert "--" not in said, "nothing can be typed here"
    assert dock.scan.acquisition().phase_sign == -1
    assert not dock.scan.decided.runs.isVisibleTo(dock)
    dock.scan.sign.setCurrentIndex(0)
    dock.scan.phase_pi.setText("4096")
    dock.scan.echo_times_ms.setText("5, 13")
    dock.scan.b0_tesla.setText("2.9")
    said = dock.scan.decided.text.text()
    assert "• Phase sign set by hand to +; read as −" in said
    assert "• Echo times set by hand to 5, 13 ms; read as 5, 12 ms" in said
    assert "• Field strength set by hand to 2.9 T; read as 3 T" in said
    assert "• Stored value of π set by hand to 4096; the scan does not say" in said


def test_decisions_and_what_was_set_by_hand_stand_in_the_record_of_the_map(viewer, dock, qtbot, study):
    open_in(dock, qtbot, study / "gre_qsm")
    dock.scan.b0_tesla.setText("2.9")
    dock.background.chooser.form.form.set_values(radius_mm=2.0)
    dock.run_button.click()
    qtbot.waitUntil(lambda: not dock.is_running, timeout=60_000)
    record = metadata_of(viewer.layers["χ TKD"])["record"]
    assert any("series 9" in text for text in record["decisions"])
    assert "field strength set by hand to 2.9 T; read as 3 T" in record["warnings"]
    for told in (record["warnings"], record["decisions"]):
        assert len(set(told)) == len(told)
    assert not set(record["warnings"]) & set(record["decisions"])
    assert [s["series"] for s in record["inputs"]["phase"]["series"]] == [9]
    assert "DOE" not in json.dumps(record)


def test_the_run_can_be_chosen_and_is_shown_alone(viewer, dock, qtbot, study):
    open_in(dock, qtbot, study)
    dock.show()
    runs = dock.scan.decided.runs
    assert runs.isVisibleTo(dock)
    assert dock.scan.phase.layer.name == "phase, series 21"
    assert runs.currentItem().text(0) == "20, 21"
    place = runs.visualItemRect(runs.topLevelItem(0)).center()
    qtbot.mouseClick(runs.viewport(), Qt.MouseButton.LeftButton, pos=place)
    assert dock.scan.phase.layer.name == "phase, series 9"
    assert dock.scan.magnitude.layer.name == "magnitude, series 8"
    assert {layer.name for layer in viewer.layers if layer.visible} == {
        "phase, series 9", "magnitude, series 8"
    }  # fmt: skip
    assert runs.currentItem().text(0) == "8, 9"
    assert "series 9" in dock.scan.decided.text.text()
    for name in ("phase, series 21", "magnitude, series 20"):
        del viewer.layers[name]
    place = runs.visualItemRect(runs.topLevelItem(1)).center()
    qtbot.mouseClick(runs.viewport(), Qt.MouseButton.LeftButton, pos=place)
    assert dock.scan.state is State.FAILED
    assert "were removed; open the folder again" in dock.scan.status.text()
    assert dock.scan.phase.layer.name == "phase, series 9"


@pytest.mark.parametrize("end", ["cancel", "close"])
def test_opening_can_be_cancelled_and_the_dock_closed_meanwhile(viewer, dock, qtbot, study, monkeypatch, end):
    held = threading.Event()
    monkeypatch.setattr(scan_section, "read_layers", lambda paths: slow(held))
    dock.show()
    dock.scan.open([str(study)])
    qtbot.waitUntil(held.is_set, timeout=30_000)
    qtbot.waitUntil(lambda: "converting" in dock.scan.status.text(), timeout=30_000)
    assert not dock.scan.run_button.isEnabled()
    if end == "close":
        dock.close()
        qtbot.waitUntil(lambda: dock.scan._opening is None, timeout=30_000)
    else:
        qtbot.mouseClick(dock.scan.stop_button, Qt.MouseButton.LeftButton)
        qtbot.waitUntil(dock.scan.run_button.isEnabled, timeout=30_000)
        assert not dock.scan.stop_button.isVisible()
        assert dock.scan.state is State.MISSING
    assert len(viewer.layers) == 0


def test_the_sections_below_follow_what_was_opened(viewer, dock, qtbot, study):
    open_in(dock, qtbot, study / "gre_qsm")
    open_in(dock, qtbot, study / "gre_again")
    assert dock.field.state is State.READY
    assert dock.scan.phase.layer.name == "phase, series 21"


@pytest.mark.window
def test_a_real_window_opens_a_dropped_folder(make_napari_viewer_proxy, plugin, study):
    viewer = make_napari_viewer_proxy()
    viewer.open(str(study), plugin="napari-metaqsm")
    assert len(viewer.layers) == 4
    assert viewer.dims.ndim == 4


def test_a_cancelled_wait_is_told_apart_from_an_error(qtbot, monkeypatch):
    monkeypatch.setattr(waiting, "PAUSE_MS", 0)
    QTimer.singleShot(100, lambda: [d.canceled.emit() for d in _dialogs()])
    with pytest.raises(Cancelled):
        wait_for(lambda: slow(threading.Event()), title="Opening DICOM")


def _dialogs():
    return [w for w in QApplication.topLevelWidgets() if isinstance(w, QProgressDialog) and w.isVisible()]


def test_real_scans_open_in_the_dock(shared, viewer, dock, qtbot):
    scans = shared / "data" / "scans"
    open_in(dock, qtbot, scans / "siemens_enhanced" / "In")
    assert dock.scan.state is State.DONE
    assert dock.scan.acquisition().echo_times_s == (0.00246,)
    assert "difference of two echoes" in dock.scan.decided.text.text()
