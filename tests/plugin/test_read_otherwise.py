"""DICOM in the dock, read otherwise than was decided; and the series that cannot be used."""

import made
import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import Qt

from napari_metaqsm.plugin.chain import SusceptibilityMapping
from napari_metaqsm.plugin.layers import metadata_of
from napari_metaqsm.plugin.readers import OPENED_FROM
from napari_metaqsm.plugin.section import State

ONE_ECHO = {"echo_times_s": (0.012,)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A phase of one echo, two echoes as real and imaginary parts, and what cannot be used."""
    folder = tmp_path_factory.mktemp("dicom")
    magnitude, phase = made.phantom()
    made.classic(folder, magnitude[1:], phase[1:], description="gre_one", **ONE_ECHO)
    about = {"vendor": "GE", "alternating": True, "series": 20, "description": "gre_parts"}
    made.classic(folder, magnitude, phase, made.OBLIQUE, parts=("real", "imaginary"), **about)
    alone = {"parts": ("magnitude",), "series": 30, "description": "t1_anatomy", "clock": "150000"}
    made.classic(folder, *made.phantom(shape=(14, 16, 12)), made.SAGITTAL, **alone)
    holes = made.classic(folder, magnitude, phase, series=40, description="gre_broken", clock="160000")
    for (_, _, k), file in holes.items():
        if k == 5:
            file.unlink()
    return folder


@pytest.fixture
def dock(folder, qtbot):
    dock = SusceptibilityMapping(ViewerModel())
    qtbot.addWidget(dock)
    dock.scan.open([str(folder)])
    wait(dock, qtbot)
    dock.show()
    yield dock
    dock.release()
    qtbot.waitUntil(lambda: dock.scan._opening is None, timeout=30_000)


def wait(dock, qtbot):
    qtbot.waitUntil(lambda: dock.scan.run_button.isEnabled(), timeout=30_000)


def choose_run(dock, qtbot, row):
    runs = dock.scan.decided.runs
    place = runs.visualItemRect(runs.topLevelItem(row)).center()
    qtbot.mouseClick(runs.viewport(), Qt.MouseButton.LeftButton, pos=place)


def choose(dock, qtbot, name, text):
    """Choose by the keyboard, as a user may."""
    box = dock.scan.otherwise.boxes[name]
    assert box.isVisible()
    box.setFocus()
    box.showPopup()
    box.view().setCurrentIndex(box.model().index(box.findText(text), 0))
    qtbot.keyClick(box.view(), Qt.Key.Key_Return)
    assert box.currentText() == text
    wait(dock, qtbot)


def rows(dock):
    runs = dock.scan.decided.runs
    items = [runs.topLevelItem(n) for n in range(runs.topLevelItemCount())]
    return [(item.text(0), item.text(1), item.text(2), not item.isDisabled()) for item in items]


def test_series_that_cannot_be_used_are_rows_with_the_reason(dock, qtbot):
    assert rows(dock) == [
        ("8, 9", "gre_one", "1 echo", True),
        ("20", "gre_parts", "2 echoes, complex", True),
        ("30", "t1_anatomy", "no phase", False),
        ("40, 41", "gre_broken", "incomplete", False),
    ]
    runs = dock.scan.decided.runs
    reasons = [runs.topLevelItem(n).toolTip(2) for n in (2, 3)]
    assert reasons[0] == "t1_anatomy\n• Left out, for no phase belongs to them: series 30"
    assert "slice 6 is missing" in reasons[1]
    assert runs.header().length() <= runs.viewport().width(), "no reason is hidden to the right"
    said = dock.scan.decided.text.text()
    assert "no phase belongs" not in said, "it stands in the row"
    assert "missing" not in said
    used = dock.scan.phase.layer
    assert any("missing" in note for note in metadata_of(used)["notes"]), "the record has it all the same"
    choose_run(dock, qtbot, 3)
    assert dock.scan.phase.layer == used
    assert dock.scan.state is State.DONE


def test_the_phase_may_be_taken_for_a_difference_and_back(dock, qtbot):
    assert not dock.scan.otherwise.boxes["phase_difference"].isVisible(), "there are two echoes"
    choose_run(dock, qtbot, 0)
    before = dock.scan.phase.layer
    assert dock.scan.acquisition().echo_times_s == (0.012,)
    assert not dock.scan.otherwise.boxes["alternating_slices"].isVisible(), "there are no parts"
    dock.scan.b0_tesla.setText("2.9")
    dock.scan.sign.setCurrentIndex(1)
    choose(dock, qtbot, "phase_difference", "a difference of two echoes")
    after = dock.scan.phase.layer
    assert before not in dock.viewer.layers
    assert len(dock.viewer.layers) == 4
    assert "as was given" in dock.scan.decided.text.text()
    assert "two echo times of the phase difference are not stated" in dock.scan.decided.text.text()
    assert dock.scan.echo_times_ms.text() == ""
    assert dock.scan.b0_tesla.text() == "2.9"
    assert dock.scan.acquisition().phase_sign == -1
    assert any("as was given" in text for text in metadata_of(after)["decisions"])
    np.testing.assert_array_equal(after.data, before.data)
    choose_run(dock, qtbot, 1)
    choose_run(dock, qtbot, 0)
    assert dock.scan.phase.layer == after
    assert dock.scan.otherwise.boxes["phase_difference"].currentData() is True
    choose(dock, qtbot, "phase_difference", "as the headers say")
    assert dock.scan.acquisition().echo_times_s == (0.012,)
    assert "as was given" not in dock.scan.decided.text.text()


def test_the_slice_signs_may_be_told_and_what_was_made_of_the_run_still_knows_it(dock, qtbot):
    phase = dock.scan.phase.layer
    made_of_it = dock.viewer.add_image(
        phase.data[0],
        metadata={"metaqsm": {**metadata_of(phase), "quantity": "susceptibility", "record": {"steps": []}}},
    )
    choose(dock, qtbot, "alternating_slices", "equal in all slices")
    turned = dock.scan.phase.layer
    jumps = np.angle(np.exp(1j * (turned.data - phase.data)))
    slices = np.abs(np.moveaxis(jumps, -1, 0)).max(axis=(1, 2, 3)), np.abs(jumps).max(axis=(0, 2, 3))
    assert any(
        np.allclose(np.sort(s), [0] * (len(s) // 2) + [np.pi] * (len(s) // 2), atol=1e-3) for s in slices
    )
    assert metadata_of(made_of_it)["dicom"] == metadata_of(turned)["dicom"]
    choose(dock, qtbot, "alternating_slices", "alternating (GE)")
    np.testing.assert_allclose(dock.scan.phase.layer.data, phase.data, atol=1e-6)


@pytest.mark.parametrize("end", ["gone", "cancel"])
def test_what_cannot_be_read_again_leaves_everything_as_it_was(dock, qtbot, tmp_path, end):
    before = list(dock.viewer.layers)
    box = dock.scan.otherwise.boxes["alternating_slices"]
    if end == "gone":
        dock.scan.phase.layer.metadata[OPENED_FROM] = [str(tmp_path / "unplugged")]
    box.setCurrentIndex(1)
    box.activated.emit(1)
    assert not box.isEnabled()
    if end == "cancel":
        qtbot.mouseClick(dock.scan.stop_button, Qt.MouseButton.LeftButton)
    wait(dock, qtbot)
    assert list(dock.viewer.layers) == before
    assert box.isEnabled()
    assert box.currentIndex() == 0
    assert dock.scan.state is (State.FAILED if end == "gone" else State.DONE)
    assert ("unplugged" in dock.scan.status.text()) == (end == "gone")


def test_without_the_folder_there_is_nothing_to_choose(dock):
    layer = dock.scan.phase.layer
    del layer.metadata[OPENED_FROM]
    dock.scan.otherwise.show_layer(layer)
    assert not any(box.isVisible() for box in dock.scan.otherwise.boxes.values())
