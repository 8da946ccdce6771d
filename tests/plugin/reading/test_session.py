"""A reading that is saved and opened again is the same reading."""

import json

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Layer

from napari_metaqsm.errors import InputError
from napari_metaqsm.plugin.layers import geometry_of, metadata_of, result_layer
from napari_metaqsm.plugin.reading.regions_choice import names_of
from napari_metaqsm.plugin.reading.session import gather, read_session
from napari_metaqsm.plugin.samples import philips_two_echoes
from napari_metaqsm.plugin.zero import OFFSET, Zero, original_of, refer
from napari_metaqsm.report.session_folder import SESSION


def add(viewer, data_tuple):
    return viewer.add_layer(Layer.create(*data_tuple))


@pytest.fixture
def viewer():
    """The real head, which lies obliquely, with a map and regions of it, and layers of another reader."""
    viewer = ViewerModel()
    for layer in philips_two_echoes():
        add(viewer, layer)
    like = viewer.layers[0]
    rng = np.random.default_rng(0)
    chi = rng.normal(0, 0.05, like.data.shape[-3:]).astype(np.float32)
    chi[:10] = 0
    record = {"steps": [{"stage": "inversion", "method": "tkd"}], "warnings": ["a", "b"]}
    chi_layer = add(viewer, result_layer(chi, like, "susceptibility", "χ TKD 0.2", record))
    refer([chi_layer], Zero(OFFSET, offset_ppm=0.013))
    chi_layer.contrast_limits = (-0.2, 0.15)
    labels = np.zeros(chi.shape, np.int32)
    labels[20:22, 30:40, 10:50], labels[25, 3, 4] = 7, 70000
    add(viewer, result_layer(labels, like, "regions", "my regions", labels=True))
    viewer.add_image(
        rng.normal(size=(5, 6, 7)),
        name="from elsewhere",
        scale=(2, -1, 1.5),
        translate=(3, 4, 5),
        units=("mm",) * 3,
        colormap="viridis",
        opacity=0.4,
    )
    viewer.add_labels(
        labels,
        name="an atlas",
        scale=like.scale[-3:],
        units=("mm",) * 3,
        features={"index": [0, 7], "name": ["", "dentate"]},
        metadata={"metaqsm": {"names": {70000: "a speck"}}},
    )
    viewer.add_shapes(
        [np.array([[12.0, 5, 6], [12, 20, 22], [12, 30, 20]])],
        shape_type="path",
        name="profile",
        scale=like.scale[-3:],
        units=("mm",) * 3,
    )
    viewer.layers["my regions"].contour = 2
    viewer.dims.set_point(1, 60.0)
    viewer.dims.order = (0, 2, 1, 3)
    return viewer


def opened_again(viewer, folder):
    gather(viewer, viewer.layers, {"spots": [1, 2]}).write(folder)
    opened = read_session(folder)
    again = ViewerModel()
    opened.show(again)
    return again, opened


def test_every_layer_comes_back_where_it_was_with_all_that_is_known_of_it(viewer, tmp_path):
    again, opened = opened_again(viewer, tmp_path)
    assert opened.state["spots"] == [1, 2]
    assert {x.name for x in again.layers} == {x.name for x in viewer.layers}
    for layer in viewer.layers:
        other = again.layers[layer.name]
        if layer.name == "profile":
            np.testing.assert_allclose(other.data[0], layer.data[0])
            assert other.shape_type == layer.shape_type
            continue
        np.testing.assert_allclose(other.data, layer.data, atol=1e-6)
        corner = np.subtract(layer.data.shape, 1)
        np.testing.assert_allclose(other.data_to_world(corner), layer.data_to_world(corner), atol=1e-4)
        assert [str(u) for u in other.units] == [str(u) for u in layer.units]
        ours, theirs = (metadata_of(x) for x in (layer, other))
        for name in ("quantity", "unit", "acquisition", "record", "orientation"):
            assert theirs.get(name) == ours.get(name), (layer.name, name)
        assert geometry_of(other).b0_direction == pytest.approx(geometry_of(layer).b0_direction)


@pytest.mark.parametrize("name", ["χ TKD 0.2", "from elsewhere"])
def test_a_map_can_be_given_another_zero_after_opening(name, viewer, tmp_path):
    refer([viewer.layers[name]], Zero(OFFSET, offset_ppm=0.02))
    before = original_of(viewer.layers[name])
    again, _ = opened_again(viewer, tmp_path)
    np.testing.assert_allclose(original_of(again.layers[name]), before, atol=1e-6)


def test_names_of_regions_come_back_wherever_they_stood(viewer, tmp_path):
    again, _ = opened_again(viewer, tmp_path)
    assert names_of(again.layers["an atlas"]) == {7: "dentate", 70000: "a speck"}
    assert metadata_of(again.layers["an atlas"]).get("quantity") is None


def test_looks_and_view_come_back(viewer, tmp_path):
    again, _ = opened_again(viewer, tmp_path)
    assert again.layers["χ TKD 0.2"].contrast_limits == [-0.2, 0.15]
    assert again.layers["from elsewhere"].colormap.name == "viridis"
    assert again.layers["from elsewhere"].opacity == 0.4
    assert again.layers["my regions"].contour == 2
    assert again.dims.order == (0, 2, 1, 3)
    assert again.dims.point == pytest.approx(viewer.dims.point)


def test_names_are_those_of_bids_and_hold_nothing_of_the_input_files(viewer, tmp_path):
    files = gather(viewer, viewer.layers, {}, subject="07").write(tmp_path)
    names = [file.name for file in files]
    assert "sub-07_desc-χTkd02_Chimap.nii.gz" not in names  # letters and digits alone
    assert "sub-07_desc-tkd02_Chimap.nii.gz" in names
    assert "sub-07_part-phase_MEGRE.nii.gz" in names
    assert "sub-07_desc-myRegions_dseg.json" in names
    described = json.loads((tmp_path / "dataset_description.json").read_text())
    assert described["DatasetType"] == "derivative"
    assert all(file.is_file() for file in files)


def test_a_reading_whose_files_have_the_names_of_an_earlier_version_opens(viewer, tmp_path):
    gather(viewer, viewer.layers, {}).write(tmp_path)
    content = json.loads((tmp_path / SESSION).read_text())
    entry = next(entry for entry in content["layers"] if entry["name"] == "χ TKD 0.2")
    (tmp_path / entry["file"]).rename(tmp_path / "sub-scan_desc-old_fieldmap.nii.gz")
    entry["file"] = "sub-scan_desc-old_fieldmap.nii.gz"
    (tmp_path / SESSION).write_text(json.dumps(content))
    again = ViewerModel()
    read_session(tmp_path).show(again)
    np.testing.assert_allclose(again.layers["χ TKD 0.2"].data, viewer.layers["χ TKD 0.2"].data, atol=1e-6)


def test_layers_of_one_name_do_not_take_each_others_file(viewer, tmp_path):
    like = viewer.layers[0]
    for value in (1, 2):
        chi = np.full(like.data.shape[-3:], value, np.float32)
        add(viewer, result_layer(chi, like, "susceptibility", "χ" if value == 1 else "χ!"))
    files = gather(viewer, viewer.layers, {}).write(tmp_path)
    assert {"sub-scan_desc-map_Chimap.nii.gz", "sub-scan_run-2_desc-map_Chimap.nii.gz"} <= {
        file.name for file in files
    }


def test_a_failure_leaves_the_folder_as_it_was(viewer, tmp_path):
    def fail(folder):
        raise OSError("no space left on device")

    (tmp_path / "mine.txt").write_text("keep")
    session = gather(viewer, viewer.layers, {}, documents=[fail])
    with pytest.raises(OSError, match="no space"):
        session.write(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "holds no reading"),
        ("{", "cannot be read"),
        ('{"version": 99}', "another version"),
        ('{"version": 1, "layers": [{"file": "../../etc/passwd"}], "shapes": []}', "in the folder itself"),
        ('{"version": 1, "layers": [{"name": 3}], "shapes": []}', "not as it was written"),
    ],
)
def test_what_is_no_reading_is_refused_in_words(content, words, tmp_path):
    if content is not None:
        (tmp_path / SESSION).write_text(content)
    with pytest.raises(InputError, match=words):
        read_session(tmp_path)


def test_a_subject_that_bids_would_not_take_is_refused(viewer):
    with pytest.raises(InputError, match="letters and digits"):
        gather(viewer, viewer.layers, {}, subject="Jane Doe")
