"""What a sidecar inherits from the folders above it, inside a dataset and nowhere else."""

import json
import os

import numpy as np
import pytest

from napari_metaqsm.errors import InputError
from napari_metaqsm.io import sidecar
from napari_metaqsm.io.load import load
from napari_metaqsm.io.nifti import space_from, write
from napari_metaqsm.io.sidecar import all_content, read_sidecar, sidecar_files
from napari_metaqsm.scan import Geometry

IMAGE = "sub-01/ses-1/anat/sub-01_ses-1_run-1_echo-2_part-phase_MEGRE.nii.gz"


@pytest.fixture
def dataset(tmp_path):
    (tmp_path / "sub-01/ses-1/anat").mkdir(parents=True)
    (tmp_path / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.10.0"}')
    return tmp_path


def tell(dataset, path, **content):
    (dataset / path).write_text(json.dumps(content))


def test_the_nearer_wins_key_by_key(dataset):
    tell(dataset, "MEGRE.json", EchoTime=0.001, MagneticFieldStrength=3, Manufacturer="root", Units="Hz")
    tell(dataset, "sub-01/sub-01_echo-2_MEGRE.json", EchoTime=0.002, Manufacturer="subject")
    tell(dataset, "sub-01/ses-1/sub-01_ses-1_part-phase_MEGRE.json", Manufacturer="session")
    tell(dataset, IMAGE.replace(".nii.gz", ".json"), Units="rad")
    found = read_sidecar(dataset / IMAGE)
    assert (found.echo_times_s, found.b0_tesla, found.manufacturer, found.units) == (
        (0.002,),
        3,
        "session",
        "rad",
    )
    assert found.file.split(", ")[0] == os.path.basename(IMAGE).replace(".nii.gz", ".json")
    assert all_content(dataset / IMAGE)["Units"] == "rad"


@pytest.mark.parametrize(
    "path",
    [
        "T2starw.json",
        "echo-1_MEGRE.json",
        "part-mag_MEGRE.json",
        "acq-qsm_MEGRE.json",
        "sub-02_MEGRE.json",
        "sub-01/ses-1/anat/sub-01_ses-1_run-2_MEGRE.json",
        "MEGRE_notes.json",
        "sub-01/ses-1/MEGRE.txt",
    ],
)
def test_what_is_said_of_other_images_is_not_meant(dataset, path):
    tell(dataset, path, EchoTime=0.001)
    assert sidecar_files(dataset / IMAGE) == ()


def test_of_several_in_one_folder_the_one_that_says_more_of_the_name_wins(dataset):
    tell(dataset, "echo-2_part-phase_MEGRE.json", EchoTime=0.002)
    tell(dataset, "MEGRE.json", EchoTime=0.001, MagneticFieldStrength=3)
    assert read_sidecar(dataset / IMAGE).echo_times_s == (0.002,)


def test_beside_its_own_file_no_other_of_the_same_folder_is_meant(dataset):
    tell(dataset, "sub-01/ses-1/anat/sub-01_ses-1_MEGRE.json", MagneticFieldStrength=7)
    assert read_sidecar(dataset / IMAGE).b0_tesla == 7
    tell(dataset, IMAGE.replace(".nii.gz", ".json"), EchoTime=0.002)
    assert read_sidecar(dataset / IMAGE).b0_tesla is None


def test_nothing_is_inherited_outside_of_a_dataset(dataset):
    tell(dataset, "MEGRE.json", EchoTime=0.001)
    assert read_sidecar(dataset / IMAGE).echo_times_s == (0.001,)
    (dataset / "dataset_description.json").unlink()
    assert sidecar_files(dataset / IMAGE) == ()


def test_nothing_is_inherited_from_beyond_the_nearest_dataset(dataset):
    tell(dataset, "MEGRE.json", EchoTime=0.001)
    tell(dataset, "sub-01/dataset_description.json", Name="inner")
    assert sidecar_files(dataset / IMAGE) == ()


@pytest.mark.parametrize(("depth", "inherits"), [(5, True), (6, False)])
def test_a_root_is_looked_for_six_folders_up_at_most(dataset, depth, inherits):
    folder = dataset.joinpath(*"abcdef"[:depth])
    folder.mkdir(parents=True)
    tell(dataset, "MEGRE.json", EchoTime=0.001)
    assert bool(sidecar_files(folder / "sub-01_MEGRE.nii.gz")) is inherits


def test_a_name_that_is_none_of_bids_has_its_own_file_alone(dataset):
    tell(dataset, "MEGRE.json", EchoTime=0.001)
    tell(dataset, "sub-01/my scan_MEGRE.json", EchoTime=0.004)
    assert read_sidecar(dataset / "sub-01/my scan_MEGRE.nii.gz").echo_times_s == (0.004,)


def test_an_unreadable_file_above_is_named(dataset):
    (dataset / "MEGRE.json").write_text("{")
    with pytest.raises(InputError, match=r"MEGRE\.json is no readable JSON"):
        read_sidecar(dataset / IMAGE)


def test_a_value_that_cannot_be_meant_names_the_files(dataset):
    tell(dataset, "MEGRE.json", EchoTime=20)
    tell(dataset, IMAGE.replace(".nii.gz", ".json"), Units="rad")
    with pytest.raises(InputError, match=r"part-phase_MEGRE\.json, MEGRE\.json: EchoTime is 20"):
        read_sidecar(dataset / IMAGE)


def test_a_file_that_comes_later_counts_although_the_folder_was_listed(dataset, monkeypatch):
    monkeypatch.setattr(sidecar, "_SETTLED_S", 0.0)
    os.utime(dataset, ns=(1, 1))
    assert sidecar_files(dataset / IMAGE) == ()
    tell(dataset, "MEGRE.json", EchoTime=0.001)
    assert len(sidecar_files(dataset / IMAGE)) == 1


def test_loading_a_file_of_a_dataset_takes_what_stands_above(dataset):
    geometry = Geometry((4, 5, 6), (1, 1, 1))
    write(dataset / IMAGE, np.random.default_rng(0).uniform(-3, 3, geometry.shape), space_from(geometry))
    tell(dataset, "MEGRE.json", EchoTime=0.004, MagneticFieldStrength=7)
    scan = load(dataset / IMAGE)
    assert (scan.acquisition.echo_times_s, scan.acquisition.b0_tesla) == ((0.004,), 7)
