"""Sidecars, records, readings, tables of names, label maps and training settings from anywhere."""

import dataclasses
import json
import os
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hostile import FUZZ, child, outcome
from hypothesis import example, given
from hypothesis import strategies as st

from napari_metaqsm.io.bids.dataset import find_scans
from napari_metaqsm.io.nifti import read
from napari_metaqsm.io.sidecar import Sidecar, read_sidecar
from napari_metaqsm.report.folder import open_folder, read_labels, read_names
from napari_metaqsm.training.config import Configuration, configuration_from, read_configuration

SHAPE = (8, 9, 10)
numbers = st.one_of(st.integers(), st.floats(), st.just(10**400), st.sampled_from([0.004, 3, -1, 0]))
texts = st.one_of(st.text(max_size=20), st.sampled_from(["GE", "P", "ppm", "rad", "\ud800", "\0", "../x"]))
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)
DEEP = b"[" * 200_000
RUBBISH = [
    b"a = " + DEEP,
    b"",
    b"{",
    b"[1, 2]",
    b"7",
    b"\xff\xfe\x00{",
    b"null",
    DEEP,
    b'{"a": ' * 100_000,
    b"9" * 10_000,
]


@pytest.fixture
def grid(tmp_path):
    """A map of zeros, and one of labels, in the axes of the scanner."""
    for name, values in (("susceptibility_tkd", np.zeros(SHAPE)), ("labels", np.ones(SHAPE))):
        nib.save(nib.Nifti1Image(values.astype(np.float32), np.eye(4)), tmp_path / f"{name}.nii.gz")
    return tmp_path


def as_json(content) -> bytes:
    return json.dumps(content).encode()


KEYS = (
    "EchoTime", "EchoTime1", "EchoTime2", "MagneticFieldStrength", "Manufacturer", "B0_dir", "ImageType",
    "EchoNumber", "Units", "MetaQSM", "napari_metaqsm", "phase_sign", "phase_pi",
)  # fmt: skip


@FUZZ
@given(st.one_of(st.dictionaries(st.sampled_from(KEYS), values).map(as_json), st.binary(max_size=60)))
@example(b'{"EchoTime": [0.004, NaN]}')
@example(b'{"EchoTime": -1}')
@example(b'{"MagneticFieldStrength": Infinity}')
def test_any_sidecar_is_read_or_refused(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    found = outcome(read_sidecar, tmp_path / "x.nii.gz")
    if isinstance(found, Sidecar):
        assert all(0 < t <= 0.5 for t in found.echo_times_s)
        assert found.b0_tesla is None or 0 < found.b0_tesla < 100


@pytest.mark.parametrize("content", RUBBISH, ids=range(len(RUBBISH)))
def test_rubbish_is_refused_wherever_a_document_is_expected(grid, content):
    (grid / "x.json").write_bytes(content)
    assert isinstance(outcome(read_sidecar, grid / "x.nii.gz"), str)
    (grid / "record.json").write_bytes(content)
    assert isinstance(outcome(open_folder, grid), str)
    (grid / "session.json").write_bytes(content)
    assert isinstance(outcome(open_folder, grid), str)
    (grid / "train.toml").write_bytes(content)
    assert isinstance(outcome(read_configuration, grid / "train.toml"), str)
    (grid / "names.tsv").write_bytes(content)
    assert outcome(read_names, grid / "names.tsv") == {} or content


def test_a_setting_that_nests_without_end_is_text_that_fits_nowhere(tmp_path):
    (tmp_path / "train.toml").write_text("")
    setting = "optimisation.steps=" + "[" * 10_000
    assert "optimisation.steps is '[[[" in outcome(read_configuration, tmp_path / "train.toml", [setting])


# --------------------------------------------------------------------------------------- inheritance
def dataset(folder: Path, depth: int = 1) -> Path:
    """A BIDS dataset with a file of phase, ``depth`` folders below its root."""
    (folder / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.9.0"}')
    inside = folder.joinpath(*["sub-01"] * depth)
    inside.mkdir(parents=True)
    return inside / "sub-01_echo-1_part-phase_MEGRE.nii.gz"


@FUZZ
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", "sub-01"]),
            st.one_of(
                st.sampled_from(["MEGRE", "part-phase_MEGRE", "sub-01_MEGRE", "sub-01_echo-1_MEGRE"]),
                st.from_regex(r"(sub|echo|part|_|-|[a-zA-Z0-9é]){0,12}_MEGRE", fullmatch=True),
            ),
            st.one_of(st.dictionaries(st.sampled_from(KEYS), values).map(as_json), st.sampled_from(RUBBISH)),
        ),
        max_size=5,
    )
)
def test_any_documents_above_a_file_are_inherited_or_refused(tmp_path_factory, documents):
    folder = tmp_path_factory.mktemp("bids")
    file = dataset(folder)
    for place, name, content in documents:
        (folder / place / f"{name}.json").write_bytes(content)
    outcome(read_sidecar, file)


def test_links_that_lead_in_circles_do_not_hold_up_a_dataset(tmp_path):
    file = dataset(tmp_path)
    (file.parent / "anat").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "sub-02").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "sub-03").symlink_to("sub-03")
    (tmp_path / "MEGRE.json").symlink_to("MEGRE.json")
    assert "MEGRE.json is no readable JSON file" in outcome(read_sidecar, file)
    (tmp_path / "MEGRE.json").unlink()
    (tmp_path / "part-phase_MEGRE.json").symlink_to("nowhere.json")
    assert "part-phase_MEGRE.json is no readable JSON file" in outcome(read_sidecar, file)
    (tmp_path / "part-phase_MEGRE.json").unlink()
    os.mkfifo(tmp_path / "sub-01_MEGRE.json")
    assert outcome(read_sidecar, file) == "sub-01_MEGRE.json is no file; remove it"
    for scan in find_scans(tmp_path):
        assert scan.label.isprintable()


def test_a_large_dataset_is_listed_once(tmp_path, monkeypatch):
    """Its root is asked for each file of a thousand subjects."""
    file = dataset(tmp_path)
    for number in range(3000):
        (tmp_path / f"sub-{number:04d}_MEGRE.json").write_text("{}")
    (tmp_path / "part-phase_MEGRE.json").write_text('{"EchoTime": 0.004}')
    for folder in (tmp_path, file.parent):  # what changed just now may do so again, unseen
        os.utime(folder, (time.time() - 60,) * 2)
    listed, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: listed.append(folder) or scandir(folder))
    for _ in range(20):
        assert read_sidecar(file).echo_times_s == (0.004,)
    assert sorted(listed) == [tmp_path, file.parent]


def test_what_lies_far_above_is_another_thing(tmp_path):
    file = dataset(tmp_path, depth=60)
    (tmp_path / "part-phase_MEGRE.json").write_text('{"EchoTime": 0.004}')
    assert read_sidecar(file) == Sidecar()


# --------------------------------------------------------------------------------------- records
RECORDS = st.fixed_dictionaries(
    {},
    optional={
        "steps": st.one_of(
            values,
            st.lists(
                st.fixed_dictionaries(
                    {},
                    optional={
                        "result": st.one_of(values, st.just("susceptibility_tkd")),
                        "title": values, "stage": values, "method": values, "parameters": values,
                        "warnings": values,
                    },
                ),
                max_size=3,
            ),
        ),
        "acquisition": st.one_of(
            values,
            st.fixed_dictionaries(
                {}, optional={"echo_times_s": values, "b0_tesla": values, "phase_sign": values}
            ),
        ),
        "geometry": st.one_of(values, st.fixed_dictionaries({"b0_direction": values})),
        "inputs": st.one_of(
            values,
            st.fixed_dictionaries(
                {"mask": st.lists(st.fixed_dictionaries({"file": values, "sha256": values}), max_size=2)}
            ),
        ),
        "reference": values,
        "warnings": values,
        "software": values,
    },
)  # fmt: skip


@FUZZ
@given(RECORDS)
def test_any_record_is_read_or_refused(tmp_path_factory, record):
    folder = tmp_path_factory.getbasetemp() / "record"
    folder.mkdir(exist_ok=True)
    if not (folder / "susceptibility_tkd.nii.gz").exists():
        array = np.zeros(SHAPE, np.float32)
        nib.save(nib.Nifti1Image(array, np.eye(4)), folder / "susceptibility_tkd.nii.gz")
    (folder / "record.json").write_bytes(as_json(record))
    opened = outcome(open_folder, folder)
    assert isinstance(opened, str) or opened.study.maps


# --------------------------------------------------------------------------------------- names, labels
@FUZZ
@given(st.one_of(st.binary(max_size=80), st.binary(max_size=80).map(lambda rows: b"index\tname\n" + rows)))
@example(b"index\tname\n" + b"9" * 5000 + b"\tx")
@example(b"name\tindex\nx")
@example(b"index\tname\n1")
@example(b'index\tname\n1\t"' + b"x" * 200_000)
@example(b"index\tname\n\0\t\0")
def test_any_table_of_names_is_read_or_refused(tmp_path, content):
    (tmp_path / "names.tsv").write_bytes(content)
    names = outcome(read_names, tmp_path / "names.tsv")
    assert isinstance(names, (str, dict))


@pytest.mark.parametrize("value", [1e30, -1e30, np.nan, np.inf, 0.5, 2.0**25])
def test_numbers_that_are_no_labels_are_refused(grid, value):
    labels = np.ones(SHAPE, np.float32)
    labels[2, 2, 2] = value
    nib.save(nib.Nifti1Image(labels, np.eye(4)), grid / "labels.nii.gz")
    space = read(grid / "susceptibility_tkd.nii.gz")[1]
    assert "labels.nii.gz holds" in outcome(read_labels, grid / "labels.nii.gz", space)


# --------------------------------------------------------------------------------------- settings
TABLES = {
    table.name: [setting.name for setting in dataclasses.fields(table.default_factory)]
    for table in dataclasses.fields(Configuration)
}


def table_of(settings):
    return st.one_of(values, st.dictionaries(st.sampled_from(settings), values, max_size=4))


@FUZZ
@given(st.fixed_dictionaries({}, optional={name: table_of(names) for name, names in TABLES.items()}))
def test_any_settings_of_training_are_taken_or_refused(content):
    assert isinstance(outcome(configuration_from, content), (str, Configuration))


@FUZZ
@given(st.one_of(st.binary(max_size=60), st.text(max_size=60).map(lambda t: t.encode("utf-8", "replace"))))
def test_any_file_of_settings_is_taken_or_refused(tmp_path, content):
    (tmp_path / "train.toml").write_bytes(content)
    assert isinstance(outcome(read_configuration, tmp_path / "train.toml"), (str, Configuration))


# --------------------------------------------------------------------------------------- pipes
PIPES = """
from pathlib import Path
from napari_metaqsm.errors import InputError
from napari_metaqsm.io.load import load
from napari_metaqsm.io.dicom.files import is_dicom
from napari_metaqsm.io.dicom.headers import read_headers
from napari_metaqsm.network.checkpoint import read_weights
from napari_metaqsm.report.folder import open_folder, read_names
from napari_metaqsm.training.config import read_configuration

folder, said = Path(sys.argv[1]), {}
for name, read in {
    "load": lambda p: load(local_field=p),
    "load of a folder": lambda p: load(p.parent),
    "is_dicom": is_dicom,
    "is_dicom of a folder": lambda p: is_dicom(p.parent),
    "headers": lambda p: read_headers([p]),
    "headers of a folder": lambda p: read_headers([p.parent]),
    "weights": read_weights,
    "names": read_names,
    "settings": read_configuration,
    "folder": open_folder,
}.items():
    for path in (folder / "pipe.nii", Path("/dev/zero")):
        if name.endswith("folder") and path == Path("/dev/zero"):
            continue  # nobody means all devices
        try:
            said[f"{name} {path.name}"] = bool(read(path))
        except InputError as error:
            said[f"{name} {path.name}"] = str(error)
print(json.dumps(said))
"""


def test_pipes_and_devices_are_refused_and_never_waited_for(tmp_path):
    for name in ("pipe.nii", "pipe.nii.gz", "pipe.json", "pipe.dcm", "IM0001", "record.json", "session.json"):
        os.mkfifo(tmp_path / name)
    ended = child(PIPES, tmp_path)
    assert ended.code == 0, ended.err
    for name, text in ended.value.items():
        assert text is False or isinstance(text, str) or name.startswith("headers"), (name, text)
    assert "is no file" in ended.value["load pipe.nii"]
    assert "is no file" in ended.value["names zero"]
