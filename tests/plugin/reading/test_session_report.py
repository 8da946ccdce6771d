"""What "Save everything" wrote is read by ``metaqsm report``: the same study, regions and spots."""

import json

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Layer

from napari_metaqsm import cli
from napari_metaqsm.errors import InputError
from napari_metaqsm.plugin.layers import result_layer
from napari_metaqsm.plugin.reading.desk import Desk
from napari_metaqsm.plugin.reading.regions_choice import name_region, names_of
from napari_metaqsm.plugin.reading.session import gather
from napari_metaqsm.plugin.samples import philips_two_echoes
from napari_metaqsm.plugin.zero import Zero, refer
from napari_metaqsm.reading.spots import probe
from napari_metaqsm.report.folder import open_folder, read_labels
from napari_metaqsm.report.session_folder import SESSION

RECORD = {"steps": [{"stage": "inversion", "method": "tkd", "title": "TKD"}], "warnings": ["a"]}


@pytest.fixture
def viewer():
    """The real head, which lies obliquely, with two maps of it and regions."""
    viewer = ViewerModel()
    for layer in philips_two_echoes():
        viewer.add_layer(Layer.create(*layer))
    like = viewer.layers[0]
    shape = like.data.shape[-3:]
    rng = np.random.default_rng(0)
    for name in ("χ one", "χ two"):
        chi = rng.normal(0, 0.02, shape).astype(np.float32)
        chi[:6], chi[25:27, 30:32, 30:32] = 0, 0.4
        refer(
            [viewer.add_layer(Layer.create(*result_layer(chi, like, "susceptibility", name, RECORD)))], Zero()
        )
    labels = np.zeros(shape, np.int32)
    labels[20:22, 30:40, 10:50], labels[25, 20:30, 20:30] = 7, 300
    regions = viewer.add_layer(Layer.create(*result_layer(labels, like, "regions", "drawn", labels=True)))
    name_region(regions, 7, "dentate")
    return viewer


@pytest.fixture
def desk(viewer):
    desk = Desk(viewer)
    yield desk
    desk.release()


@pytest.fixture
def folder(viewer, desk, tmp_path):
    spot = probe(desk.study(), (26, 31, 31)).with_note("a bleed?")
    state = {
        "maps": ["χ two", "χ one"],
        "regions": {"layer": "drawn"},
        "spots": [spot.to_dict()],
    }
    gather(viewer, viewer.layers, state).write(tmp_path / "kept")
    return tmp_path / "kept"


def test_the_study_is_that_of_the_window(folder, viewer, desk):
    opened, study = open_folder(folder), desk.study()
    assert list(opened.study.maps) == ["χ two", "χ one"]
    for title, values in opened.study.maps.items():
        np.testing.assert_allclose(values, study.maps[title], atol=1e-6)
        assert opened.study.records[title] == study.records[title]
    for name in ("magnitude", "phase"):
        np.testing.assert_allclose(getattr(opened.study, name), getattr(study, name), rtol=1e-5, atol=1e-5)
    geometry = opened.study.geometry
    assert geometry.orientation == study.geometry.orientation == "IPL"
    assert geometry.voxel_size_mm == pytest.approx(study.geometry.voxel_size_mm)
    assert geometry.b0_direction == pytest.approx(study.geometry.b0_direction, abs=1e-6)
    assert opened.study.acquisition == study.acquisition
    np.testing.assert_array_equal(opened.labels, viewer.layers["drawn"].data)
    assert opened.names == names_of(viewer.layers["drawn"]) == {7: "dentate"}
    assert opened.spots[0].note == "a bleed?"
    assert tuple(opened.spots[0].peak) in {(z, y, x) for z in (25, 26) for y in (30, 31) for x in (30, 31)}


def test_the_report_of_it_holds_its_regions_and_spots(folder, monkeypatch):
    monkeypatch.setattr("sys.argv", ["metaqsm", "report", str(folder), "--html", "--quiet"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code
    page = (folder / "report.html").read_text(encoding="utf-8")
    for text in ("χ one", "χ two", "dentate", "A bleed?", "TKD"):
        assert text in page


def test_other_labels_are_turned_as_the_maps_are(folder, viewer):
    opened = open_folder(folder)
    file = next(folder.glob("*desc-drawn_dseg.nii.gz"))
    labels = opened.in_study_axes(read_labels(file, opened.space))
    np.testing.assert_array_equal(labels, viewer.layers["drawn"].data)


def test_maps_of_another_reader_come_as_they_lay(tmp_path):
    viewer = ViewerModel()
    chi = np.random.default_rng(1).normal(0, 0.02, (5, 6, 7)).astype(np.float32)
    viewer.add_image(chi, name="plain", scale=(2.0, 1.0, 1.5), units=("mm",) * 3)
    desk = Desk(viewer)
    desk.choose([viewer.layers[0]])
    gather(viewer, viewer.layers, {"maps": ["plain"]}).write(tmp_path)
    opened = open_folder(tmp_path)
    np.testing.assert_array_equal(opened.study.maps["plain"], chi)
    here, there = opened.study.geometry, desk.study().geometry
    assert (here.shape, here.orientation) == (there.shape, there.orientation)
    assert here.voxel_size_mm == pytest.approx(there.voxel_size_mm)
    assert np.abs(here.b0_direction) == pytest.approx(np.abs(there.b0_direction))
    desk.release()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content.update(maps=[]), "without a map"),
        (lambda content: content.update(spots=7), "not as it was written"),
        (lambda content: content["layers"][-1].pop("orientation"), "not as it was written"),
        (lambda content: content.update(version=2), "another version"),
    ],
)
def test_a_damaged_reading_is_refused_in_words(change, words, folder):
    content = json.loads((folder / SESSION).read_text())
    change(content)
    (folder / SESSION).write_text(json.dumps(content))
    with pytest.raises(InputError, match=words):
        open_folder(folder)
