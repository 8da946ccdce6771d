"""What "Save everything" wrote is taken by ``metaqsm dicom``: the same maps, at the same place."""

import json

import made
import numpy as np
import pydicom
import pytest
from napari.components import ViewerModel
from napari.layers import Layer

from napari_metaqsm.io.load import load
from napari_metaqsm.plugin.layers import array_in_file_axes, own_space, result_layer
from napari_metaqsm.plugin.readers import read_layers
from napari_metaqsm.plugin.reading.session import gather
from napari_metaqsm.report.session_folder import SESSION

METHODS = {"χ one": "tkd", "χ two, again": "l2"}


@pytest.fixture
def study(tmp_path):
    """An oblique scan, whose axes the window turns."""
    made.classic(tmp_path / "study", *made.phantom(), made.OBLIQUE)
    return tmp_path / "study"


@pytest.fixture
def viewer(study):
    """Two maps of the scan, as the chain makes them."""
    viewer = ViewerModel()
    for layer in read_layers(str(study)):
        viewer.add_layer(Layer.create(*layer))
    like = viewer.layers[0]
    inputs = dict(load(study).sources)
    for n, (name, method) in enumerate(METHODS.items()):
        chi = np.random.default_rng(n).uniform(-0.2, 0.2, like.data.shape[-3:]).astype(np.float32)
        step = {"stage": "inversion", "method": method, "title": method.upper()}
        record = {"inputs": inputs, "steps": [step]}
        viewer.add_layer(Layer.create(*result_layer(chi, like, "susceptibility", name, record)))
    return viewer


@pytest.fixture
def folder(viewer, tmp_path):
    gather(viewer, viewer.layers, {"maps": list(METHODS)}).write(tmp_path / "kept")
    return tmp_path / "kept"


def test_a_saved_reading_becomes_series(metaqsm, folder, viewer, study):
    code, out, err = metaqsm("dicom", folder, "--source", study, "--kind", "map")
    assert (code, err) == (0, "")
    names = ["801_QSM_TKD_parametric_map", "802_QSM_L2_parametric_map"]
    assert out.splitlines() == [str(folder / "dicom" / name) for name in names]
    for name, title in zip(names, METHODS, strict=True):
        image = pydicom.dcmread(folder / "dicom" / name / "0001.dcm")
        assert METHODS[title] in image.DerivationDescription
        layer = viewer.layers[title]
        chi, affine = array_in_file_axes(layer), own_space(layer).affine
        frames = np.frombuffer(image.FloatPixelData, "<f4").reshape(-1, image.Rows, image.Columns)
        shared = image.SharedFunctionalGroupsSequence[0]
        orientation = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
        along = orientation.reshape(2, 3) * np.array(shared.PixelMeasuresSequence[0].PixelSpacing)[::-1, None]
        for pixels, frame in zip(frames, image.PerFrameFunctionalGroupsSequence, strict=True):
            position = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
            row, column = np.indices(pixels.shape)
            place = position + column[..., None] * along[0] + row[..., None] * along[1]
            voxel = np.linalg.solve(affine[:3, :3], (place * [-1, -1, 1] - affine[:3, 3])[..., None])[..., 0]
            assert np.abs(voxel - voxel.round()).max() < 1e-3
            np.testing.assert_array_equal(pixels, chi[tuple(np.moveaxis(voxel.round().astype(int), -1, 0))])


@pytest.mark.parametrize("word", ["l2", "χ one, l2"])
def test_maps_are_chosen_by_method_or_name(metaqsm, folder, study, word):
    code, out, _ = metaqsm(
        "dicom", folder, "--source", study, "--kind", "map", "--maps", word, "--out", "out"
    )
    assert (code, len(out.splitlines())) == (0, len(word.split(",")))
    assert "QSM_L2" in out
    code, _, err = metaqsm("dicom", folder, "--source", study, "--maps", "medi")
    assert code == 2
    assert "must be of χ one, χ two, again" in err


def test_maps_of_other_files_or_of_no_known_place_are_refused(metaqsm, folder, viewer, study, tmp_path):
    made.classic(tmp_path / "other", *made.phantom(seed=1), made.OBLIQUE)
    code, _, err = metaqsm("dicom", folder, "--source", tmp_path / "other")
    assert code == 2
    assert "made from other DICOM files" in err
    content = json.loads((folder / SESSION).read_text())
    for entry in content["layers"]:
        entry["place"] = {}
    (folder / SESSION).write_text(json.dumps(content))
    code, _, err = metaqsm("dicom", folder, "--source", study)
    assert code == 2
    assert "hold no affine" in err
    assert not (folder / "dicom").exists()
