"""Opening and saving through npe2, as napari does it, and once in a real window."""

import gzip
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from napari.layers import Image, Layer
from npe2 import io_utils

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.load import load
from napari_metaqsm.io.nifti import read
from napari_metaqsm.plugin.layers import geometry_of, layer_data, metadata_of
from napari_metaqsm.plugin.readers import get_reader, read_layers, short_names
from napari_metaqsm.plugin.writers import write_layer, write_layers
from napari_metaqsm.scan import Acquisition

AFFINE = nib.affines.from_matvec([[0, 0, -3.0], [0.75, 0, 0], [0, 0.75, 0]], (1, 2, 3))
VALUES = np.random.default_rng(3).uniform(-np.pi, np.pi, (2, 4, 5, 6)).astype(np.float32)


@pytest.fixture
def folder(tmp_path):
    """Two echoes of phase and magnitude, a mask, and files that are none of ours."""
    for n in range(2):
        for suffix, values in (("_ph", VALUES[n]), ("", np.abs(VALUES[n]))):
            nib.save(nib.Nifti1Image(values, AFFINE), tmp_path / f"run_e{n + 1}{suffix}.nii.gz")
            sidecar = {"EchoTime": 0.004 * (n + 1), "MagneticFieldStrength": 3}
            (tmp_path / f"run_e{n + 1}{suffix}.json").write_text(json.dumps(sidecar))
    nib.save(nib.Nifti1Image((VALUES[0] > 0).astype(np.uint8), AFFINE), tmp_path / "mask.nii")
    (tmp_path / "notes.txt.gz").write_bytes(gzip.compress(b"text"))
    return tmp_path


def test_only_nifti_and_folders_of_it_are_claimed(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    for path in ("notes.txt.gz", "x.tif", "empty"):
        assert get_reader(str(folder / path)) is None
    assert get_reader([]) is None
    assert get_reader([str(folder / "mask.nii"), str(folder / "notes.txt.gz")]) is None
    for path in ("", "mask.nii", "run_e1.nii.gz", "RUN.NII.GZ"):
        assert get_reader(str(folder / path)) is not None


@pytest.mark.parametrize("opened", ["folder", "files"])
def test_a_run_opens_as_paired_layers(folder, plugin, opened):
    files = sorted(str(p) for p in folder.glob("run*.nii.gz"))
    paths = [str(folder)] if opened == "folder" else files
    layers = [Layer.create(*data) for data in io_utils.read(paths, stack=opened == "files")]
    named = {layer.name: layer for layer in layers}
    assert list(named) == ["phase run", "magnitude run"] + ["mask run"] * (opened == "folder")
    phase = named["phase run"]
    assert phase.data.shape == (2, 5, 4, 6)
    assert metadata_of(phase)["acquisition"] == Acquisition((0.004, 0.008), 3.0)
    assert {metadata_of(named[f"{q} run"])["quantity"] for q in ("phase", "magnitude")} == {
        "phase",
        "magnitude",
    }
    expected = load(files)
    assert geometry_of(phase).voxel_size_mm == pytest.approx((0.75, 0.75, 3.0))
    assert metadata_of(phase)["space"].geometry() == expected.geometry


def test_a_single_file_opens_by_its_role(folder, plugin):
    for name, quantity, kind in [("run_e2_ph.nii.gz", "phase", "image"), ("mask.nii", "mask", "labels")]:
        ((_, settings, found),) = io_utils.read([str(folder / name)], stack=False)
        assert (settings["metadata"]["metaqsm"]["quantity"], found) == (quantity, kind)
    assert not list(io_utils.PluginManager.instance().iter_compatible_readers([str(folder / "notes.txt.gz")]))


def test_fields_open_in_ppm_where_that_is_known(tmp_path):
    path = tmp_path / "local_field.nii"
    nib.save(nib.Nifti1Image(VALUES[0] * 100, AFFINE), path)
    assert read_layers(str(path))[0][1]["metadata"]["metaqsm"]["unit"] == "as stored"
    (tmp_path / "local_field.json").write_text('{"Units": "Hz"}')
    assert read_layers(str(path))[0][1]["metadata"]["metaqsm"]["unit"] == "Hz"
    (tmp_path / "local_field.json").write_text('{"Units": "Hz", "MagneticFieldStrength": 3}')
    data, settings, _ = read_layers(str(path))[0]
    assert settings["metadata"]["metaqsm"]["unit"] == "ppm"
    assert np.abs(data).max() == pytest.approx(np.abs(VALUES[0]).max() * 100 / 127.731, rel=1e-5)


def test_regions_keep_their_numbers(tmp_path):
    regions = np.arange(120).reshape(4, 5, 6).astype(np.int16)
    nib.save(nib.Nifti1Image(regions, AFFINE), tmp_path / "region_mask.nii")
    data, settings, kind = read_layers(str(tmp_path / "region_mask.nii"))[0]
    assert (kind, settings["metadata"]["metaqsm"]["quantity"]) == ("labels", "regions")
    assert sorted(data.ravel()) == list(range(120))


def test_a_broken_file_is_refused_by_name(tmp_path):
    (tmp_path / "x.nii").write_bytes(b"x" * 500)
    with pytest.raises(InputError, match=r"x\.nii is no readable NIfTI"):
        read_layers(str(tmp_path / "x.nii"))


def test_echoes_in_different_places_are_refused(folder):
    nib.save(nib.Nifti1Image(VALUES[1], np.diag([1, 1, 1, 1])), folder / "run_e2_ph.nii.gz")
    with pytest.raises(InputError, match=r"run_e1_ph\.nii\.gz and run_e2_ph\.nii\.gz are echoes of one run"):
        read_layers(str(folder))


def test_short_names_tell_runs_apart():
    assert short_names(["scan"]) == {"scan": ""}
    assert short_names(["a_b_cl", "a_b_enh"]) == {"a_b_cl": "cl", "a_b_enh": "enh"}
    assert short_names(["a", "a_b"]) == {"a": "", "a_b": "b"}
    assert len(short_names(["x" * 99])["x" * 99]) == 28


# ------------------------------------------------------------------------------------- saving
def test_what_is_saved_is_the_file_that_was_opened(folder, plugin, tmp_path):
    layers = [Layer.create(*data) for data in io_utils.read([str(folder)], stack=False)]
    phase, mask = layers[0], layers[2]
    for layer, original in ((phase, VALUES), (mask, VALUES[0] > 0)):
        out = tmp_path / f"{layer.name}.nii.gz"
        written = io_utils.write(str(out), [layer])
        assert written[0] == str(out)
        array, space = read(out)
        np.testing.assert_array_equal(array, original)
        np.testing.assert_array_equal(space.affine, AFFINE)
    again = Layer.create(*read_layers(str(tmp_path / "phase run.nii.gz"))[0])
    assert metadata_of(again)["acquisition"].echo_times_s == (0.004, 0.008)
    assert metadata_of(again)["acquisition"].b0_tesla == 3
    np.testing.assert_array_equal(again.data, phase.data)


def test_several_layers_go_into_a_folder_with_their_records(folder, plugin, tmp_path):
    _, space = read(folder / "mask.nii")
    record = {"steps": [{"method": "tkd"}]}
    tuples = [
        layer_data(VALUES[0] / 50, space, "susceptibility", n, None, record) for n in ("χ: tkd", "χ/ tkd")
    ]
    written = io_utils.write(str(tmp_path / "out"), [Layer.create(*t) for t in tuples])
    assert [Path(p).name for p in written] == [
        "χ_tkd.nii.gz", "χ_tkd.json", "χ_tkd-2.nii.gz", "χ_tkd-2.json"
    ]  # fmt: skip
    content = json.loads(Path(written[1]).read_text("utf-8"))
    assert content == {"Units": "ppm", "MetaQSM": {"quantity": "susceptibility", "record": record}}
    np.testing.assert_array_equal(nib.load(written[0]).get_fdata(dtype=np.float32), VALUES[0] / 50)
    with pytest.raises(InputError, match="give a folder"):
        write_layers(str(tmp_path / "x.nii.gz"), tuples)


def test_a_foreign_layer_is_saved_and_says_what_was_assumed(tmp_path):
    layer = Image(VALUES[0], scale=(3, 2, 1), name="foreign")
    written = write_layer(str(tmp_path / "x.nii"), *layer.as_layer_data_tuple()[:2])
    notes = json.loads(Path(written[1]).read_text())["MetaQSM"]["notes"]
    assert len(notes) == 2
    again = Layer.create(*read_layers(written[0])[0])
    assert geometry_of(again).voxel_size_mm == (3, 2, 1)
    np.testing.assert_array_equal(again.data, VALUES[0][::-1])


def test_nothing_is_left_when_one_layer_cannot_be_saved(tmp_path):
    good, flat = Image(VALUES[0]), Image(VALUES[0, 0])
    with pytest.raises(InputError, match="2 axes"):
        write_layers(str(tmp_path / "out"), [good.as_layer_data_tuple(), flat.as_layer_data_tuple()])
    assert list(tmp_path.iterdir()) == []


# -------------------------------------------------------------------------------- real scans
def test_the_real_folders_open(shared):
    scans = shared / "data" / "scans"
    names = {
        "philips_2echo/Ref": ["phase cl", "magnitude cl", "phase enh", "magnitude enh"],
        "romeo_3echo": ["phase", "magnitude", "phase with_nan"],
        "siemens_enhanced/Ref": ["phase difference 9_gre_field_mapping", "magnitude 9_gre_field_mapping"],
    }
    for folder, expected in names.items():
        assert [settings["name"] for _, settings, _ in read_layers(str(scans / folder))] == expected


@pytest.mark.window
def test_a_real_window_opens_and_saves_a_folder(make_napari_viewer_proxy, plugin, folder, tmp_path):
    viewer = make_napari_viewer_proxy()
    opened = viewer.open(str(folder), plugin="napari-metaqsm")
    assert [layer.name for layer in opened] == ["phase run", "magnitude run", "mask run"]
    assert viewer.dims.ndim == 4
    assert viewer.dims.units is not None
    viewer.layers.save(str(tmp_path / "out"), plugin="napari-metaqsm")
    saved = load(phase=tmp_path / "out" / "phase_run.nii.gz", mask=tmp_path / "out" / "mask_run.nii.gz")
    np.testing.assert_array_equal(saved.phase, VALUES)
    np.testing.assert_array_equal(saved.mask, VALUES[0] > 0)
    assert saved.acquisition == Acquisition((0.004, 0.008), 3.0, phase_pi=np.pi)


def test_real_and_imaginary_parts_open_as_phase_and_magnitude(tmp_path):
    rng = np.random.default_rng(1)
    smooth = np.exp(1j * (np.arange(6) * 0.2 + rng.uniform(-0.1, 0.1, (2, 5, 4, 1))))
    signal = smooth * rng.uniform(1, 2, (2, 5, 4, 6))
    for part, values in (("real", signal.real), ("imag", signal.imag)):
        for echo in (1, 2):
            path = tmp_path / f"gre_e{echo}_{part}.nii"
            stored = values[echo - 1] * np.where(np.arange(6) % 2, -1, 1)
            nib.save(nib.Nifti1Image(stored.astype(np.float32), np.eye(4)), path)
            said = {
                "EchoTime": 0.005 * echo,
                "MagneticFieldStrength": 3,
                "Manufacturer": "GE MEDICAL SYSTEMS",
            }
            path.with_suffix(".json").write_text(json.dumps(said))
    layers = {layer.name: layer for layer in (Layer.create(*data) for data in read_layers(str(tmp_path)))}
    assert list(layers) == ["phase gre", "magnitude gre"]
    phase, expected = layers["phase gre"], load(tmp_path)
    known = metadata_of(phase)
    assert known["acquisition"] == expected.acquisition
    assert set(known["decisions"]) == set(expected.decisions)
    assert any("change sign from slice to slice, undone" in text for text in known["decisions"])
    turned = [metadata_of(layer)["quantity"] for layer in layers.values()]
    assert turned == ["phase", "magnitude"]
    found = np.sort(np.asarray(phase.data).ravel())
    np.testing.assert_allclose(found, np.sort(expected.phase.ravel()), atol=1e-6)
    np.testing.assert_allclose(found, np.sort(np.angle(signal).ravel()), atol=1e-5)
