"""Derivatives: what stands in them, that the validator accepts it, and that no scan is ever half there."""

import dataclasses
import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from made_bids import (
    add_field_map,
    add_real_subject,
    add_subject,
    cut_short,
    head,
    make_dataset,
    make_mask,
    take_away,
)

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.bids.dataset import find_scans, load_scan
from napari_metaqsm.io.bids.derivatives import documents_folder, record_of, write_dataset, write_derivatives
from napari_metaqsm.io.load import load
from napari_metaqsm.io.nifti import read
from napari_metaqsm.io.sidecar import all_content, sidecar_path
from napari_metaqsm.pipeline import default_chain, reconstruct
from napari_metaqsm.provenance import software_versions

SOFTWARE = software_versions()
DOCUMENTS = {"report.html": b"<html></html>", "picture.webp": b"picture"}


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Every kind of scan that is found, and some that cannot be used."""
    root = make_dataset(tmp_path_factory.mktemp("bids") / "raw", inherit=True)
    add_subject(root, "01", "1", acq="qsm", run="1", inherit=True)
    add_subject(root, "01", "1", acq="qsm", run="2", seed=1)
    add_subject(root, "01", "2", inherit=True)
    add_subject(root, "02", ce="gd", rec="norm", inherit=True)
    add_subject(root, "03", suffix="T2starw")
    add_real_subject(root, "04")
    add_field_map(root, "05")
    add_field_map(root, "06", two_phases=True)
    add_subject(root, "07", inherit=True)
    take_away(root, "sub-07/anat/*part-mag*")
    add_subject(root, "08", inherit=True)
    take_away(root, "sub-08/anat/*part-phase*")
    add_subject(root, "09", inherit=True)
    return root


@pytest.fixture(scope="module")
def scans(raw):
    return {scan.label: scan for scan in find_scans(raw)}


def computed(scan, inversion=("tkd", "tkd")):
    read_in = load_scan(scan)
    if read_in.mask is None and read_in.magnitude is None:
        read_in = read_in.with_mask(make_mask(head()[0]))
    mask = "threshold" if read_in.mask is None else "brain"
    return reconstruct(read_in, default_chain(read_in, mask=mask, background="vsharp", inversion=inversion))


@pytest.fixture(scope="module")
def results(scans):
    """The result of a scan by its label, computed once."""
    return functools.cache(lambda label: computed(scans[label]))


@pytest.fixture(scope="module")
def result(results):
    return results("sub-01_ses-1_acq-qsm_run-1")


@pytest.fixture
def scan(scans):
    return scans["sub-01_ses-1_acq-qsm_run-1"]


@pytest.fixture
def out(tmp_path, raw):
    write_dataset(tmp_path / "out", raw, SOFTWARE)
    return tmp_path / "out"


def errors_of(folder):
    """What the validator calls errors, as (code, file)."""
    validator = shutil.which("bids-validator-deno") or Path(sys.executable).with_name("bids-validator-deno")
    if not Path(validator).exists():
        pytest.skip("the BIDS validator (bids-validator-deno) is not installed")
    done = subprocess.run([validator, str(folder), "--json"], capture_output=True, text=True)
    issues = json.loads(done.stdout)["issues"]["issues"]
    return [(i["code"], i.get("subCode"), i.get("location")) for i in issues if i["severity"] == "error"]


# ------------------------------------------------------------------------------------ the validator
def test_the_made_dataset_is_one(raw):
    assert errors_of(raw) == []


@pytest.mark.parametrize("place", ["derivatives/metaqsm", "elsewhere"])
def test_the_validator_accepts_what_is_written(raw, scans, results, tmp_path, place):
    root = shutil.copytree(raw, tmp_path / "raw")
    out = tmp_path / "raw" / place if "derivatives" in place else tmp_path / place
    write_dataset(out, root, SOFTWARE)
    usable = [scan for scan in find_scans(root) if not scan.trouble or scan.needs_mask]
    assert len(usable) == 10
    for scan in usable:
        write_derivatives(results(scan.label), scan, out, DOCUMENTS)
        assert record_of(scan, out) is not None
    (out / "group.html").write_text("<html></html>")
    (out / "logs").mkdir()
    (out / "logs" / "cohort.tsv").write_text("scan\n")
    assert errors_of(out) == []
    assert len(list(out.rglob("*_Chimap.nii.gz"))) == 2 * 10
    if "derivatives" in place:
        assert errors_of(root) == []
        assert len(find_scans(root)) == len(scans)


def test_the_validator_sees_what_is_wrong(raw, tmp_path):
    """So that no error means something."""
    root = shutil.copytree(raw, tmp_path / "raw")
    cut_short(next((root / "sub-09").rglob("*echo-1_part-mag*.nii.gz")), 0)
    take_away(root, "sub-03/anat/*part-phase*.json")
    assert {code for code, _, _ in errors_of(root)} >= {"EMPTY_FILE", "SIDECAR_KEY_REQUIRED"}


# ------------------------------------------------------------------------------------ what is written
def test_maps_and_masks_come_back_where_the_scan_lies(result, scan, out):
    write_derivatives(result, scan, out)
    start = out / "sub-01/ses-1/anat/sub-01_ses-1_acq-qsm_run-1"
    space = read(scan.files["phase"][0])[1]
    for name, end in {
        "susceptibility_tkd": "desc-tkd_Chimap",
        "susceptibility_tkd-2": "desc-tkd2_Chimap",
        "mask": "desc-brain_mask",
        "eroded_mask": "desc-eroded_mask",
        "residual": "desc-field_residual",
        "quality": "desc-field_quality",
    }.items():
        values, there = read(f"{start}_{end}.nii.gz")
        np.testing.assert_array_equal(values, result.maps[name].astype(np.float32))
        np.testing.assert_array_equal(there.affine, space.affine)


def test_fields_are_in_hz_and_come_back_in_ppm(result, scan, out):
    write_derivatives(result, scan, out)
    start = out / "sub-01/ses-1/fmap/sub-01_ses-1_acq-qsm_run-1"
    total, _ = read(f"{start}_desc-total_fieldmap.nii.gz")
    np.testing.assert_allclose(total, result.maps["total_field"] * 127.731, rtol=1e-5, atol=1e-4)
    for name, desc in (("total_field", "total"), ("local_field", "local")):
        again = load(**{name: f"{start}_desc-{desc}_fieldmap.nii.gz"})
        np.testing.assert_allclose(getattr(again, name), result.maps[name], rtol=1e-5, atol=1e-7)
    noise = load(
        local_field=f"{start}_desc-local_fieldmap.nii.gz", noise=f"{start}_desc-noise_fieldmap.nii.gz"
    ).noise
    np.testing.assert_allclose(noise, result.maps["noise"], rtol=1e-5, atol=1e-7)
    magnitude, _ = read(f"{start}_magnitude.nii.gz")
    np.testing.assert_allclose(magnitude, np.linalg.norm(result.scan.magnitude, axis=0), rtol=1e-5)


def test_a_sidecar_says_what_the_map_is_and_of_what_it_was_made(result, scan, out):
    write_derivatives(result, scan, out)
    start = out / "sub-01/ses-1/anat/sub-01_ses-1_acq-qsm_run-1"
    chi = all_content(f"{start}_desc-tkd_Chimap.nii.gz")
    raw_file = "sub-01/ses-1/anat/sub-01_ses-1_acq-qsm_run-1_echo-1_part-mag_MEGRE.nii.gz"
    assert (chi["Units"], chi["SkullStripped"], chi["MagneticFieldStrength"]) == ("ppm", True, 3.0)
    assert (len(chi["Sources"]), chi["Sources"][0]) == (6, f"bids:raw:{raw_file}")
    assert (chi["EstimationAlgorithm"], chi["EstimationReference"]) == ("TKD", "doi:10.1002/mrm.22135")
    assert chi["MetaQSM"]["reference"] == result.record["reference"]["susceptibility_tkd"]
    assert chi["MetaQSM"]["record"] == "bids::sub-01/ses-1/anat/sub-01_ses-1_acq-qsm_run-1_record.json"
    assert chi["MetaQSM"]["made"] == json.loads(json.dumps(result.record))
    assert "B0_dir" not in chi
    mask = all_content(f"{start}_desc-brain_mask.nii.gz")
    assert (mask["Type"], mask["SpatialReference"]) == ("Brain", f"bids:raw:{raw_file}")
    link = json.loads((out / "dataset_description.json").read_text())["DatasetLinks"]["raw"]
    assert (out / link / raw_file).is_file()


def test_b0_is_told_where_the_header_says_another(result, scan, out):
    turned = dataclasses.replace(result.scan.geometry, b0_direction=(0, 0.6, 0.8))
    other = dataclasses.replace(result, scan=dataclasses.replace(result.scan, geometry=turned))
    files = write_derivatives(other, scan, out)
    chi = next(file for file in files if file.name.endswith("tkd_Chimap.nii.gz"))
    assert load(local_field=chi, unit="ppm").geometry.b0_direction == pytest.approx((0, 0.6, 0.8))


def test_what_may_not_stand_in_a_name_of_fmap_becomes_part_of_acq(scans, results, out):
    scan = scans["sub-02_ce-gd_rec-norm"]
    names = {file.name for file in write_derivatives(results(scan.label), scan, out)}
    assert "sub-02_ce-gd_rec-norm_desc-tkd_Chimap.nii.gz" in names
    assert "sub-02_acq-ceGdRecNorm_desc-total_fieldmap.nii.gz" in names


def test_without_a_magnitude_fields_are_no_fieldmaps_and_a_given_mask_is_kept(scans, results, out):
    scan = scans["sub-07"]
    result = results(scan.label)
    names = {file.name for file in write_derivatives(result, scan, out)}
    assert not (out / "sub-07/fmap").exists()
    assert {"sub-07_desc-total_field.nii.gz", "sub-07_desc-brain_mask.nii.gz"} <= names
    again = load(total_field=out / "sub-07/anat/sub-07_desc-total_field.nii.gz")
    np.testing.assert_array_equal(again.total_field, result.maps["total_field"])


# ------------------------------------------------------------------------------------ the record
def test_the_record_names_every_file_and_how_it_was_made(result, scan, out):
    files = write_derivatives(result, scan, out, DOCUMENTS)
    record = record_of(scan, out)
    assert files[-1].name == "sub-01_ses-1_acq-qsm_run-1_record.json"
    assert {out / path for path in record["files"]} == set(files[:-1])
    assert {p for p in out.rglob("sub-*") if p.is_file()} | {
        out / documents_folder(scan) / name for name in DOCUMENTS
    } == set(files)
    assert json.loads(json.dumps(result.record)) == {k: v for k, v in record.items() if k != "files"}


def spoilt_record(text):
    return lambda files: files[-1].write_text(text)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda files: files[-1].unlink(),
        lambda files: files[3].unlink(),
        lambda files: cut_short(files[5], 0.9),
        lambda files: cut_short(files[-1]),
        spoilt_record("{}"),
        spoilt_record("[]"),
        spoilt_record('{"files": ["a"]}'),
        spoilt_record('{"files": {"a\\u0000": 1}}'),
        lambda files: (files[-1].unlink(), files[-1].mkdir()),
    ],
)
def test_a_scan_that_is_not_whole_has_no_record(result, scan, out, spoil):
    assert record_of(scan, out) is None
    files = write_derivatives(result, scan, out)
    assert record_of(scan, out) is not None
    spoil(files)
    assert record_of(scan, out) is None


def test_another_run_replaces_all_of_the_earlier_and_nothing_else(result, results, scan, scans, out):
    write_derivatives(result, scan, out, DOCUMENTS)
    neighbour = scans["sub-01_ses-1_acq-qsm_run-2"]
    write_derivatives(results(neighbour.label), neighbour, out)
    mine = out / "sub-01/ses-1/anat/sub-01_ses-1_acq-qsm_run-1_desc-mine_mask.nii.gz"
    mine.write_bytes(b"drawn by hand")
    write_derivatives(computed(scan, ["l2"]), scan, out)
    run = "sub-01_ses-1_acq-qsm_run-1_"
    assert [f.name for f in sorted(out.rglob(f"{run}*_Chimap.nii.gz"))] == [f"{run}desc-l2_Chimap.nii.gz"]
    assert not (out / documents_folder(scan) / "report.html").exists()
    assert mine.read_bytes() == b"drawn by hand"
    assert record_of(neighbour, out) is not None


def test_a_record_that_was_tampered_with_removes_nothing_elsewhere(result, scan, out, tmp_path):
    write_derivatives(result, scan, out)
    precious = tmp_path / "precious.txt"
    precious.write_text("keep")
    record = out / "sub-01/ses-1/anat/sub-01_ses-1_acq-qsm_run-1_record.json"
    listed = {"../precious.txt": 4, str(precious): 4, "README.md": 1}
    record.write_text(json.dumps({"files": listed}))
    write_derivatives(result, scan, out)
    assert precious.exists()
    assert (out / "README.md").exists()


def test_a_failure_leaves_the_earlier_maps_and_their_record(result, scan, out):
    write_derivatives(result, scan, out)
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    bad = {**result.maps, "susceptibility_z": np.zeros((3, 3, 3), np.float32), "mask": ~result.maps["mask"]}
    with pytest.raises((InputError, ValueError)):
        write_derivatives(dataclasses.replace(result, maps=bad), scan, out)
    with pytest.raises(InputError, match=r"a document is named '\.\./x\.html'; it must be a file's name"):
        write_derivatives(result, scan, out, {"../x.html": b""})
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


# The process ends, as by kill -9, before its n-th move of a file; earlier maps of the same sizes are there.
KILLED = """
import json, os, sys
from pathlib import Path
from types import SimpleNamespace
import numpy as np
from napari_metaqsm.io.bids.dataset import find_scans
from napari_metaqsm.io.bids.derivatives import record_of, write_derivatives
from napari_metaqsm.io.nifti import read
from napari_metaqsm.scan import Acquisition, Geometry, Scan

raw, out = map(Path, sys.argv[1:])
(scan,) = find_scans(raw, ["09"])

def result(version):
    values = np.full((4, 5, 6), version, np.float32)
    made = Scan(Geometry(values.shape, (1, 1, 1)), Acquisition(b0_tesla=3.0), magnitude=values)
    maps = {n: values for n in ("total_field", "quality", "local_field", "susceptibility_tkd")}
    return SimpleNamespace(scan=made, maps=maps, record={"version": version})

moves, rename = 0, os.replace
for number in range(1, 100):
    write_derivatives(result(1), scan, out, {"page.html": b"1"})
    child = os.fork()
    if not child:
        def replace(*paths):
            global moves
            moves += 1
            os._exit(9) if moves == number else rename(*paths)
        os.replace = replace
        write_derivatives(result(2), scan, out, {"page.html": b"2"})
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    record = record_of(scan, out)
    if record is not None:
        images = [read(out / p)[0].max() for p in record["files"] if p.endswith("Chimap.nii.gz")]
        fields = [read(out / p)[0].max() / 127.731 for p in record["files"] if p.endswith("fieldmap.nii.gz")]
        page = [float((out / p).read_bytes()) for p in record["files"] if p.endswith(".html")]
        assert np.allclose([*images, *fields, *page], record["version"]), (number, record["version"])
    print(number, code, None if record is None else record["version"])
    if code == 0:
        break
left = [p.name for p in out.rglob(".metaqsm-*")]
assert not left, left
"""


@pytest.mark.skipif(not hasattr(sys, "getdlopenflags"), reason="only Unix forks")
def test_whenever_it_is_killed_a_record_stands_only_for_its_own_maps(raw, out):
    done = subprocess.run([sys.executable, "-c", KILLED, raw, out], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert len(rows) > 10
    assert {row[2] for row in rows[:-1]} == {"None"}
    assert rows[-1][1:] == ["0", "2"]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="only Linux tells which file is synced")
def test_all_is_on_disk_before_the_record_moves(result, scan, out, monkeypatch):
    events = []
    fsync, replace = os.fsync, os.replace

    def spy_disk(descriptor):
        events.append(("disk", Path(os.readlink(f"/proc/self/fd/{descriptor}"))))
        fsync(descriptor)

    def spy_move(source, target):
        events.append(("move", Path(target)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", spy_disk)
    monkeypatch.setattr(os, "replace", spy_move)
    *others, record = write_derivatives(result, scan, out, DOCUMENTS)
    before = events[: events.index(("move", record))]
    synced = [path.name for kind, path in before if kind == "disk"]
    for file in others:
        assert synced.count(file.name) == 1
        moved = before.index(("move", file))
        assert any(kind == "disk" and path.name == file.name for kind, path in before[:moved])
        assert ("disk", file.parent) in before[moved:]
    assert record.name in synced


# ------------------------------------------------------------------------------------ the dataset
def test_the_dataset_says_what_made_it_and_of_what(raw, out):
    about = json.loads((out / "dataset_description.json").read_text())
    assert (about["Name"], about["DatasetType"]) == ("Susceptibility maps of Made", "derivative")
    made_by = about["GeneratedBy"][0]
    assert (made_by["Name"], made_by["Version"]) == ("napari-metaqsm", SOFTWARE["napari-metaqsm"])
    assert f"torch {SOFTWARE['torch']}" in made_by["Description"]
    assert (out / about["SourceDatasets"][0]["URL"]).resolve() == raw.resolve()


def test_a_dataset_of_ours_is_gone_on_with_and_keeps_what_others_wrote_into_it(raw, out):
    (out / "README.md").write_text("my own words")
    (out / ".bidsignore").write_text("mine/\n")
    write_dataset(out, raw, SOFTWARE)
    write_dataset(out, raw, SOFTWARE)
    assert (out / "README.md").read_text() == "my own words"
    lines = (out / ".bidsignore").read_text().splitlines()
    assert lines[0] == "mine/"
    assert len(lines) == len(set(lines)) > 5


def described(folder, **about):
    folder.mkdir(parents=True)
    (folder / "dataset_description.json").write_text(
        json.dumps({"Name": "x", "BIDSVersion": "1.10.0", **about})
    )


def of_another_pipeline(raw, tmp_path):
    described(tmp_path / "o", GeneratedBy=[{"Name": "fMRIPrep"}])
    return tmp_path / "o"


def raw_elsewhere(raw, tmp_path):
    described(tmp_path / "o")
    return tmp_path / "o"


def unreadable(raw, tmp_path):
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "dataset_description.json").write_text("{")
    return tmp_path / "o"


def subjects_without_words(raw, tmp_path):
    (tmp_path / "o" / "sub-01").mkdir(parents=True)
    return tmp_path / "o"


def of_another_dataset(raw, tmp_path):
    write_dataset(tmp_path / "o", make_dataset(tmp_path / "other"), SOFTWARE)
    return tmp_path / "o"


def link_to_raw(raw, tmp_path):
    (tmp_path / "o").symlink_to(raw)
    return tmp_path / "o" / "sub-01"


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (lambda raw, tmp_path: raw, "lies among the raw data"),
        (lambda raw, tmp_path: raw / "sub-01" / "out", "lies among the raw data"),
        (lambda raw, tmp_path: raw / "derivatives", "lies among the raw data"),
        (lambda raw, tmp_path: raw / "derivatives" / ".." / "out", "lies among the raw data"),
        (link_to_raw, "lies among the raw data"),
        (of_another_pipeline, "is a dataset made by fMRIPrep; give another folder"),
        (raw_elsewhere, "is a dataset made by nothing that it names"),
        (unreadable, "is no readable JSON file"),
        (subjects_without_words, "holds subjects, but no dataset_description.json of ours"),
        (of_another_dataset, "holds maps of the dataset .*other; give another folder"),
    ],
)
def test_what_is_not_ours_is_not_written_into(raw, tmp_path, place, words):
    out = place(raw, tmp_path)
    before = sorted(p for p in [*raw.rglob("*"), *tmp_path.rglob("*")])
    with pytest.raises(InputError, match=words):
        write_dataset(out, raw, SOFTWARE)
    assert sorted(p for p in [*raw.rglob("*"), *tmp_path.rglob("*")]) == before


def test_a_source_that_has_moved_is_no_other_dataset(raw, out, tmp_path):
    moved = shutil.copytree(raw, tmp_path / "moved")
    with pytest.raises(InputError, match="holds maps of the dataset"):
        write_dataset(out, moved, SOFTWARE)
    about = json.loads((out / "dataset_description.json").read_text())
    about["DatasetLinks"]["raw"] = "../gone"
    (out / "dataset_description.json").write_text(json.dumps(about))
    write_dataset(out, moved, SOFTWARE)
    assert (out / json.loads((out / "dataset_description.json").read_text())["DatasetLinks"]["raw"]).samefile(
        moved
    )


def test_sidecars_lie_beside_their_images(result, scan, out):
    files = write_derivatives(result, scan, out)
    images = [file for file in files if file.name.endswith(".nii.gz")]
    assert len(images) == 10
    assert all(sidecar_path(image).is_file() for image in images)
