"""What is to be done: settings, the files of a scan, and what counts as done."""

import os
import time
from pathlib import Path

import made_bids
import numpy as np
import pytest

from napari_metaqsm.cohort.outcomes import (
    DONE,
    FAILED,
    Outcome,
    forgotten,
    read_outcomes,
    write_outcome,
    write_table,
)
from napari_metaqsm.cohort.plan import (
    Settings,
    find_items,
    known_stamp,
    look_at,
    same_content,
    stamp_of,
    unchanged,
)
from napari_metaqsm.cohort.work import Job, prepare, read
from napari_metaqsm.errors import InputError
from napari_metaqsm.io.bids.derivatives import write_dataset
from napari_metaqsm.io.load import describe_file
from napari_metaqsm.io.nifti import space_from, staged, write
from napari_metaqsm.provenance import software_versions

OLD_S = 1_700_000_000


@pytest.fixture
def dataset(tmp_path):
    root = made_bids.make_dataset(tmp_path / "data set")
    made_bids.add_subject(root, "01")
    for file in root.rglob("*.*"):
        os.utime(file, (OLD_S, OLD_S))
    return root


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"field": "magic"}, "there is no field method 'magic'"),
        ({"inversion": ("tkd", "magic")}, "there is no inversion method 'magic'"),
        ({"inversion": ()}, "there is no inversion"),
        ({"parameters": {"tkd": {"threshold": 7}}}, "threshold is 7.0; it must lie in"),
        ({"parameters": {"pdf": {}}}, "parameters for pdf, but the chain runs nonlinear_fit, brain, resharp"),
        ({"reference": "liver"}, "reference is 'liver'; it must be one of brain, csf, none"),
        ({"device": "tpu"}, "device is 'tpu'"),
        ({"masks": Path("nowhere")}, "masks is 'nowhere'; it must be a folder"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused_at_once(changes, message):
    with pytest.raises(InputError, match=message):
        Settings(**changes)


def test_a_mask_of_a_file_or_of_everything_takes_no_step(tmp_path):
    assert [s.stage for s in Settings().chain] == ["field", "mask", "background", "inversion", "inversion"]
    assert "mask" not in [s.stage for s in Settings(mask="none").chain]
    assert "mask" not in [s.stage for s in Settings(masks=tmp_path).chain]


def test_the_fingerprint_changes_with_all_that_decides_about_the_maps_and_nothing_else(tmp_path):
    weights = tmp_path / "own.safetensors"
    weights.write_bytes(b"1")
    own = {"inversion": ("metaqsm",), "parameters": {"metaqsm": {"weights": str(weights)}}}
    others = [
        {"inversion": ("tkd",)},
        {"inversion": ("tkd", "l2")},
        {"inversion": ("tkd",), "parameters": {"tkd": {"threshold": 0.1}}},
        {"inversion": ("tkd",), "reference": "none"},
        {"inversion": ("tkd",), "mask": "none"},
        {"inversion": ("tkd",), "masks": tmp_path},
        {"inversion": ("tkd",), "field": "weighted_mean"},
        {"inversion": ("metaqsm",)},
        own,
    ]
    prints = [Settings(**other).fingerprint for other in others]
    assert len(set(prints)) == len(others)
    assert Settings(inversion=("tkd",), device="cpu").fingerprint == prints[0]
    assert Settings(inversion=("tkd",), regions=tmp_path).fingerprint == prints[0]
    weights.write_bytes(b"2")
    assert Settings(**own).fingerprint != prints[-1]


def stamp(item, settings):
    seen = look_at(item)
    hashes = {name: describe_file(file)["sha256"] for name, file in item.files().items()}
    return seen, stamp_of(item, settings, seen, hashes)


def test_times_tell_that_nothing_changed_and_hashes_where_times_do_not(dataset):
    (item,) = find_items(dataset, Settings())
    seen, made = stamp(item, Settings())
    assert len(seen["files"]) == 6
    assert unchanged(made, seen)
    file = next(iter(item.files().values()))
    os.utime(file)
    assert not unchanged(made, look_at(item))
    assert same_content(made, item)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert not same_content(made, item)


def test_a_file_that_had_just_changed_is_not_known_by_its_time(dataset):
    (item,) = find_items(dataset, Settings())
    file = next(iter(item.files().values()))
    now = time.time()
    os.utime(file, (now, now))
    seen, made = stamp(item, Settings())
    assert not unchanged(made, seen)  # it may have changed again, within one tick of the file system
    assert same_content(made, item)


def test_a_sidecar_counts_wherever_it_stands(dataset):
    (item,) = find_items(dataset, Settings())
    before = look_at(item)["sidecars"]
    (dataset / "MEGRE.json").write_text('{"ReceiveCoilName": "head"}')
    above = look_at(item)["sidecars"]
    assert above != before
    beside = next(iter(item.files().values())).with_name("sub-01_echo-1_part-mag_MEGRE.json")
    beside.write_text(beside.read_text().replace("0.005", "0.0051"))
    assert look_at(item)["sidecars"] not in (before, above)


def test_nothing_is_known_of_a_scan_without_outcome_or_record(dataset, tmp_path):
    (item,) = find_items(dataset, Settings())
    assert known_stamp(item, Settings(), tmp_path / "out", look_at(item)) is None
    write_outcome(Outcome(item.label, DONE), tmp_path / "out")
    assert known_stamp(item, Settings(), tmp_path / "out", look_at(item)) is None


# --------------------------------------------------------------------- masks and regions of others
def put(folder, name, values, scan):
    with staged(folder) as temporary:
        write(temporary / name, values, space_from(scan.geometry))
    return folder / name


def test_a_mask_of_other_derivatives_is_used_and_counts_as_an_input(dataset, tmp_path):
    scan, _ = made_bids.head()
    others = tmp_path / "masks"
    others.mkdir()
    settings = Settings(masks=others, inversion=("tkd",), parameters={"resharp": {"radius_mm": 8}})
    (item,) = find_items(dataset, settings)
    assert "there is no sub-01/anat/*_mask.nii.gz for it in" in item.trouble
    mask = made_bids.make_mask(scan)
    file = put(others / "sub-01/anat", "sub-01_desc-brain_mask.nii.gz", mask, scan)
    (item,) = find_items(dataset, settings)
    assert item.mask == file
    assert "mask: sub-01_desc-brain_mask.nii.gz" in look_at(item)["files"]
    write_dataset(tmp_path / "out", dataset, software_versions())
    part = prepare(read(None, job := Job(item, settings, tmp_path / "out")), job, "cpu")
    np.testing.assert_array_equal(part.result.scan.mask != 0, mask)
    assert "mask" not in [step["stage"] for step in part.result.record["steps"]]


def test_regions_come_with_their_names(dataset, tmp_path):
    scan, _ = made_bids.head()
    labels = np.zeros(scan.geometry.shape, np.int16)
    labels[8:12, 8:12, 6:10] = 3
    folder = tmp_path / "regions/sub-01/anat"
    put(folder, "sub-01_dseg.nii.gz", labels, scan)
    table = folder / "sub-01_dseg.tsv"
    table.write_text("index\tname\n3\tmiddle\n")
    settings = Settings(regions=tmp_path / "regions")
    (item,) = find_items(dataset, settings)
    write_dataset(tmp_path / "out", dataset, software_versions())
    part = read(None, Job(item, settings, tmp_path / "out"))
    np.testing.assert_array_equal(part.regions, labels)
    assert part.names == {3: "middle"}
    _, made = stamp(item, settings)
    table.write_text("index\tname\n3\tcentre\n")
    assert not same_content(made, item)
    table.unlink()
    assert look_at(find_items(dataset, settings)[0])["files"].keys() < made["files"].keys()


# ------------------------------------------------------------------------------------- outcomes
def test_only_what_neither_dataset_nor_derivatives_hold_is_forgotten(tmp_path):
    labels = ("sub-01", "sub-02", "sub-02_ses-a", "sub-03")
    for label in labels:
        write_outcome(Outcome(label, DONE), tmp_path)
    (tmp_path / "sub-02/ses-a/anat").mkdir(parents=True)
    (tmp_path / "sub-02/ses-a/anat/sub-02_ses-a_record.json").write_text("{}")
    assert forgotten(["sub-01"], tmp_path) == ("sub-02", "sub-03")
    assert forgotten(labels, tmp_path) == ()


def test_outcomes_come_back_as_they_were_kept(tmp_path):
    kept = [
        Outcome("sub-02", FAILED, "no\tphase\nat all", 1.25, "here:1"),
        Outcome("sub-01", DONE, warnings=("a", "b"), measures={"x": [1, None]}),
    ]
    for outcome in kept:
        write_outcome(outcome, tmp_path)
    (tmp_path / "logs/sub-03.json").write_text("{half a fi")
    assert read_outcomes(tmp_path) == (kept[1], kept[0])
    rows = write_table(kept, tmp_path).read_text().splitlines()
    assert rows == [
        "scan\tstatus\treason\tseconds\tworker\twarnings",
        "sub-02\tfailed\tno phase at all\t1.2\there:1\tn/a",
        "sub-01\tdone\tn/a\t0.0\tn/a\ta; b",
    ]
    assert not list(tmp_path.rglob(".metaqsm-*"))
