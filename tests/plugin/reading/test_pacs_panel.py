"""The maps of the reading room as DICOM: what is asked for, what is written, cancelled and said."""

import nibabel as nib
import numpy as np
import pydicom
import pytest
from napari.components import ViewerModel
from napari.layers import Layer
from qtpy.QtCore import Qt
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QFileDialog, QLabel

from napari_metaqsm.io.dicom.export import joined_records
from napari_metaqsm.io.dicom.fingerprint import series_of
from napari_metaqsm.io.dicom.source import read_source
from napari_metaqsm.plugin.dock import scrolling
from napari_metaqsm.plugin.readers import OPENED_FROM, read_layers
from napari_metaqsm.plugin.reading.desk import Desk
from napari_metaqsm.plugin.reading.pacs import PacsPanel

AFFINE = np.diag([0.8, 0.8, 2.0, 1.0])
SHAPE = (12, 10, 6)
PATIENT = "Doe^Jane"


@pytest.fixture
def scan(tmp_path):
    """A magnitude series of one patient, classic DICOM."""
    folder = tmp_path / "scan"
    folder.mkdir()
    for k in range(SHAPE[2]):
        image = pydicom.Dataset()
        image.file_meta = pydicom.dataset.FileMetaDataset()
        image.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = pydicom.uid.MRImageStorage
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID = f"1.2.3.4.{k + 1}"
        image.StudyInstanceUID, image.SeriesInstanceUID = "1.2.3", "1.2.3.4"
        image.FrameOfReferenceUID = "1.2.3.5"
        image.PatientName, image.PatientID, image.PatientBirthDate, image.PatientSex = PATIENT, "77", "", "F"
        image.StudyID, image.StudyDate, image.StudyTime, image.AccessionNumber = "1", "20240101", "120000", ""
        image.ReferringPhysicianName, image.Modality, image.Manufacturer = "", "MR", "SIEMENS"
        image.SeriesNumber, image.InstanceNumber = 4, k + 1
        image.ImageType = ["ORIGINAL", "PRIMARY", "M"]
        image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        image.ImagePositionPatient = [-0.0, -0.0, 2.0 * k]
        image.PixelSpacing, image.SliceThickness = [0.8, 0.8], 2.0
        image.EchoTime, image.MagneticFieldStrength = 10, 3
        image.Rows, image.Columns = SHAPE[1], SHAPE[0]
        image.BitsAllocated = image.BitsStored = 16
        image.HighBit, image.PixelRepresentation, image.SamplesPerPixel = 15, 0, 1
        image.PhotometricInterpretation = "MONOCHROME2"
        image.PixelData = np.full((SHAPE[1], SHAPE[0]), 100, np.uint16).tobytes()
        image.save_as(folder / f"{k:02d}.dcm", enforce_file_format=True)
    return folder


def add_map(viewer, tmp_path, name, value, scan=None):
    """A map on the scan's grid, as the chain makes it of layers that were opened from DICOM."""
    chi = np.zeros(SHAPE, np.float32)
    chi[2:-2, 2:-2, 1:-1] = value
    # DICOM rows run to the left and columns to the back; NIfTI's axes to the right and the front.
    affine = np.diag([-0.8, -0.8, 2.0, 1.0])
    nib.save(nib.Nifti1Image(chi, affine), tmp_path / "chi.nii")
    values, settings, kind = read_layers(str(tmp_path / "chi.nii"))[0]
    known = settings["metadata"]["metaqsm"]
    steps = [
        {"stage": "field", "method": "romeo", "title": "ROMEO", "parameters": {}},
        {"stage": "inversion", "method": "tkd", "title": "TKD", "parameters": {"threshold": value}},
    ]
    known["record"] = {"steps": steps, "reference": {name: {"region": "brain", "mean_ppm": 0.0}}}
    known["dicom"] = {"run": "acq-gre_run-4", "runs": []}
    layer = viewer.add_layer(Layer.create(values, {**settings, "name": name}, kind))
    if scan is not None:
        layer.metadata[OPENED_FROM] = [str(scan)]
    return layer


@pytest.fixture
def viewer(tmp_path, scan):
    viewer = ViewerModel()
    add_map(viewer, tmp_path, "χ TKD", 0.05, scan)
    add_map(viewer, tmp_path, "χ TKD 0.1", 0.1)
    return viewer


@pytest.fixture
def panel(viewer, qtbot):
    desk = Desk(viewer)
    panel = PacsPanel(desk, lambda: (-0.2, 0.3))
    qtbot.addWidget(panel)
    panel.show()
    yield panel
    panel.release()
    desk.release()
    qtbot.waitUntil(lambda: not panel._latest.is_busy, timeout=10_000)


def press(panel, qtbot):
    qtbot.mouseClick(panel.export_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not panel._latest.is_busy, timeout=20_000)


def test_the_scans_own_folder_is_filled_in_and_the_chosen_maps_are_written(panel, qtbot, tmp_path, scan):
    assert panel.source.text() == str(scan)
    panel.out.setText(str(tmp_path / "out"))
    press(panel, qtbot)
    assert panel.status.text().startswith("Written: 4 series into")
    files = sorted((tmp_path / "out").rglob("*.dcm"))
    assert len(files) == 2 * (1 + SHAPE[2])
    headers = [pydicom.dcmread(file) for file in files]
    assert {str(h.PatientName) for h in headers} == {PATIENT}
    assert {h.StudyInstanceUID for h in headers} == {"1.2.3"}
    assert len({int(h.SeriesNumber) for h in headers}) == 4
    floats = [h for h in headers if "FloatPixelData" in h]
    highest = sorted(np.frombuffer(h.FloatPixelData, np.float32).max() for h in floats)
    np.testing.assert_allclose(highest, [0.05, 0.1], rtol=1e-6)
    # Each says of itself how it was made, and of no other.
    told = sorted(str(h.get("DerivationDescription", "")) for h in headers if h not in floats)
    assert [("0.05" in t, "0.1)" in t) for t in (told[0], told[-1])] == [(True, False), (False, True)]
    assert all("TKD" in h.SeriesDescription for h in headers)


def test_what_was_written_can_be_opened(panel, qtbot, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: opened.append(url.toLocalFile()))
    assert not panel.folder_button.isVisible()
    panel.out.setText(str(tmp_path / "out"))
    press(panel, qtbot)
    qtbot.mouseClick(panel.folder_button, Qt.MouseButton.LeftButton)
    assert opened == [str(tmp_path / "out")]


def test_what_is_told_of_an_export_comes_into_sight(panel, qtbot, tmp_path):
    column = scrolling([QLabel("above\n" * 40), panel])
    qtbot.addWidget(column)
    column.resize(400, 300)
    column.show()
    panel.out.setText(str(tmp_path / "out"))
    column.verticalScrollBar().setValue(0)
    assert panel.status.visibleRegion().isEmpty()
    panel.export_button.click()
    assert panel.status.visibleRegion().boundingRect() == panel.status.rect()
    column.verticalScrollBar().setValue(0)
    qtbot.waitUntil(lambda: not panel._latest.is_busy, timeout=30_000)
    assert panel.folder_button.visibleRegion().boundingRect() == panel.folder_button.rect()
    panel.setParent(None)


def test_what_lacks_is_asked_for_and_giving_none_writes_nothing(panel, qtbot, tmp_path, monkeypatch):
    answers = [str(tmp_path / "elsewhere"), ""]
    asked = []
    monkeypatch.setattr(
        QFileDialog, "getExistingDirectory", lambda parent, title, *a: asked.append(title) or answers.pop()
    )
    press(panel, qtbot)
    assert (len(asked), panel.status.text()) == (1, "")
    press(panel, qtbot)
    assert panel.out.text() == str(tmp_path / "elsewhere")
    assert len(list((tmp_path / "elsewhere").iterdir())) == 4


@pytest.mark.parametrize(("kind", "series"), [("parametric map", 2), ("mr series", 2)])
def test_the_kind_can_be_chosen_and_the_patient_left_out(panel, qtbot, tmp_path, kind, series):
    panel.out.setText(str(tmp_path / "out"))
    panel.kind.setCurrentIndex(panel.kind.findData(kind))
    panel.deidentify.click()
    press(panel, qtbot)
    folders = list((tmp_path / "out").iterdir())
    assert len(folders) == series
    for file in (tmp_path / "out").rglob("*.dcm"):
        assert b"Doe" not in file.read_bytes()
        assert pydicom.dcmread(file).StudyInstanceUID != "1.2.3"


def test_a_folder_without_dicom_is_said_and_the_button_stays_alive(panel, qtbot, tmp_path):
    (tmp_path / "empty").mkdir()
    panel.source.clear()
    qtbot.keyClicks(panel.source, str(tmp_path / "empty"))
    panel.out.setText(str(tmp_path / "out"))
    press(panel, qtbot)
    assert "no MR images in DICOM" in panel.status.text()
    assert panel.export_button.isEnabled()
    assert not (tmp_path / "out").exists()


def test_a_map_of_another_scan_is_refused_although_the_one_beside_it_fits(
    panel, viewer, qtbot, tmp_path, scan
):
    own = series_of([read_source(scan).originals[0].stack])
    other = [{**own[0], "sha256": "0" * 64}]
    of_own, of_other = list(panel.desk.maps)[:2]
    for layer, series in ((of_own, own), (of_other, other)):
        layer.metadata["metaqsm"]["record"]["inputs"] = {"magnitude": {"layer": "m", "series": series}}
    panel.out.setText(str(tmp_path / "out"))
    press(panel, qtbot)
    assert "made from other DICOM files" in panel.status.text()
    assert not (tmp_path / "out").exists()
    of_other.metadata["metaqsm"]["record"]["inputs"] = {"magnitude": {"layer": "m", "series": own}}
    press(panel, qtbot)
    assert panel.status.text().startswith("Written")


def test_a_second_export_into_the_same_folder_is_refused_and_leaves_the_first(panel, qtbot, tmp_path):
    panel.out.setText(str(tmp_path / "out"))
    press(panel, qtbot)
    before = {file: file.read_bytes() for file in (tmp_path / "out").rglob("*.dcm")}
    press(panel, qtbot)
    assert "is there already" in panel.status.text()
    assert not panel.folder_button.isVisible()
    assert {file: file.read_bytes() for file in (tmp_path / "out").rglob("*.dcm")} == before


def test_without_a_map_nothing_can_be_exported(panel, viewer, qtbot):
    viewer.layers.clear()
    qtbot.waitUntil(lambda: not panel.export_button.isEnabled(), timeout=30_000)
    assert panel.source.text() == ""


def test_what_the_user_typed_stays(panel, viewer, qtbot):
    panel.source.clear()
    qtbot.keyClicks(panel.source, "/of/another")
    del viewer.layers["χ TKD 0.1"]
    qtbot.wait(50)
    assert panel.source.text() == "/of/another"


def test_a_map_that_came_from_no_file_is_refused(qtbot, tmp_path, scan):
    viewer = ViewerModel()
    metadata = {"metaqsm": {"quantity": "susceptibility", "orientation": "IPL"}}
    viewer.add_image(np.zeros(SHAPE[::-1], np.float32), name="χ", metadata=metadata)
    desk = Desk(viewer)
    panel = PacsPanel(desk, lambda: (-0.1, 0.1))
    qtbot.addWidget(panel)
    panel.source.setText(str(scan))
    panel.source.setModified(True)
    panel.out.setText(str(tmp_path / "out"))
    press(panel, qtbot)
    assert "is not known; they came from no file" in panel.status.text()
    panel.release()
    desk.release()


def test_records_are_joined_by_map():
    one = {"steps": [{"method": "a"}], "reference": {"x": {"region": "brain"}}}
    joined = joined_records({"first": one, "second": {"steps": [{"method": "b"}]}})
    assert joined["steps"] == [{"method": "a", "result": "first"}, {"method": "b", "result": "second"}]
    assert joined["reference"] == {"first": {"region": "brain"}}
    assert joined["acquisition"] is None
    same = {"acquisition": {"phase_sign": -1}}
    assert joined_records({"first": same, "second": dict(same)})["acquisition"] == {"phase_sign": -1}
    assert joined_records({"first": same, "second": {"acquisition": {}}})["acquisition"] is None
