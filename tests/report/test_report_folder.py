"""A folder of maps read again, with its inputs where they are the same files; the report written whole."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest

from napari_metaqsm.errors import InputError
from napari_metaqsm.report.content import Wishes, make_report
from napari_metaqsm.report.folder import (
    open_folder,
    read_labels,
    read_names,
    write_report,
)

FILES = ["methods.txt", "references.bib", "report.html", "report.pdf"]


@pytest.fixture
def folder(maps_folder, tmp_path):
    """A copy to spoil."""
    return shutil.copytree(maps_folder, tmp_path / "maps")


def change(folder, **values):
    file = folder / "record.json"
    record = json.loads(file.read_text())
    file.write_text(json.dumps({**record, **values}))
    return record


def stored(path):
    return nib.load(path).get_fdata(dtype=np.float32)


def test_maps_come_back_by_their_methods_with_their_own_records(maps_folder, study):
    assert list(study.maps) == ["TKD", "Closed-form L2"]
    np.testing.assert_array_equal(study.maps["TKD"], stored(maps_folder / "susceptibility_tkd.nii.gz"))
    titles = {title: [s["title"] for s in record["steps"]] for title, record in study.records.items()}
    assert titles["TKD"][-1] == "TKD"
    assert "Closed-form L2" not in titles["TKD"]
    assert titles["Closed-form L2"][:-1] == titles["TKD"][:-1]
    assert list(study.records["TKD"]["reference"]) == ["TKD"]
    np.testing.assert_array_equal(study.local_field, stored(maps_folder / "local_field.nii.gz"))
    assert study.acquisition.echo_times_s == (0.006, 0.012, 0.018)
    record = json.loads((maps_folder / "record.json").read_text())
    assert study.geometry.b0_direction == pytest.approx(record["geometry"]["b0_direction"])


def test_magnitude_and_phase_are_those_of_the_scan(study, scan_folder):
    assert study.magnitude.shape == (3, *study.geometry.shape)
    whole = np.moveaxis(stored(scan_folder / "part-phase.nii.gz"), -1, 0)
    np.testing.assert_array_equal(study.phase, whole)


def test_inputs_beside_the_maps_or_above_them_are_found_by_themselves(folder, scan_folder):
    shutil.copy(scan_folder / "part-mag.nii.gz", folder)
    shutil.copy(scan_folder / "part-phase.nii.gz", folder.parent)
    opened = open_folder(folder)
    assert opened.study.magnitude is not None
    assert opened.study.phase is not None
    assert opened.notes == ()


def test_inputs_that_changed_or_went_are_done_without_and_said(folder, scan_folder, tmp_path):
    shutil.copy(scan_folder / "part-phase.nii.gz", tmp_path / "part-mag.nii.gz")  # another file of that name
    opened = open_folder(folder, [tmp_path])
    assert opened.study.magnitude is None
    assert opened.study.phase is None
    assert len(opened.notes) == 2
    assert (
        "the magnitude that the maps were made from is not there any more, or has changed" in opened.notes[0]
    )


def test_of_inputs_in_dicom_it_is_not_said_that_they_went(folder):
    inputs = {
        "magnitude": [{"series": 2, "files": 72, "sha256": "0"}],
        "phase": [{"series": [3], "sha256": "1"}, {"series": 2, "sha256": "2"}],
    }
    change(folder, inputs=inputs)
    there = "that the maps were made from is in DICOM (series"
    assert open_folder(folder).notes == (
        f"the magnitude {there} 2), which was not among the inputs (--inputs): left out",
        f"the phase {there} 2), which was not among the inputs (--inputs): left out",
    )


def test_a_map_that_the_record_does_not_name_is_read_without_a_history(folder):
    shutil.copy(folder / "susceptibility_tkd.nii.gz", folder / "susceptibility_other.nii.gz")
    study = open_folder(folder).study
    assert list(study.maps) == ["TKD", "Closed-form L2", "other"]
    assert study.records["other"]["steps"] == []


def test_a_method_that_ran_twice_is_numbered(folder):
    record = change(folder)
    again = {**record["steps"][-1], "result": "susceptibility_l2-2"}
    change(folder, steps=[*record["steps"], again])
    shutil.copy(folder / "susceptibility_l2.nii.gz", folder / "susceptibility_l2-2.nii.gz")
    assert list(open_folder(folder).study.maps) == ["TKD", "Closed-form L2", "Closed-form L2 (2)"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in ("acquisition", "geometry", "steps", "inputs", "reference", "warnings")
          for value in (None, 3, "text", [1], {"echo_times_s": "x", "b0_direction": [0]})),
    ],
)  # fmt: skip
def test_whatever_a_record_lacks_the_maps_are_read_and_reported(folder, name, value):
    change(folder, **{name: value})
    opened = open_folder(folder)
    assert len(opened.study.maps) == 2
    report = make_report(opened.study, Wishes(parts=["findings", "acquisition", "pipeline", "methods"]))
    assert report.methods.paragraph


@pytest.mark.parametrize("content", ["", "[]", "{", '"text"'])
def test_a_record_that_cannot_be_read_is_refused(folder, content):
    (folder / "record.json").write_text(content)
    with pytest.raises(InputError, match=r"record\.json"):
        open_folder(folder)


def test_folders_without_a_record_or_a_map_are_refused(folder, tmp_path):
    with pytest.raises(InputError, match=r"has no record\.json; give a folder that metaqsm run wrote"):
        open_folder(tmp_path / "nowhere")
    for file in folder.glob("susceptibility*"):
        file.unlink()
    with pytest.raises(InputError, match="holds no susceptibility map"):
        open_folder(folder)


def test_labels_must_be_whole_numbers_on_the_grid_of_the_maps(folder, tmp_path):
    opened = open_folder(folder)
    affine = opened.space.affine
    labels = np.arange(np.prod(opened.study.geometry.shape)).reshape(opened.study.geometry.shape) % 7
    nib.save(nib.Nifti1Image(labels.astype(np.float32), affine), tmp_path / "good.nii.gz")
    np.testing.assert_array_equal(read_labels(tmp_path / "good.nii.gz", opened.space), labels)
    nib.save(nib.Nifti1Image(labels.astype(np.float32) / 2, affine), tmp_path / "half.nii.gz")
    with pytest.raises(InputError, match="holds other than whole numbers"):
        read_labels(tmp_path / "half.nii.gz", opened.space)
    moved = affine + np.array([[0, 0, 0, 5.0], *[[0, 0, 0, 0]] * 3])
    nib.save(nib.Nifti1Image(labels.astype(np.float32), moved), tmp_path / "moved.nii.gz")
    with pytest.raises(InputError, match="lie in different places"):
        read_labels(tmp_path / "moved.nii.gz", opened.space)


def test_names_are_read_from_a_table(tmp_path):
    (tmp_path / "names.tsv").write_text("index\tname\n1\tleft putamen\n12\tpons\n")
    assert read_names(tmp_path / "names.tsv") == {1: "left putamen", 12: "pons"}
    (tmp_path / "names.csv").write_text("index,name,colour\n3,thalamus,red\n")
    assert read_names(tmp_path / "names.csv") == {3: "thalamus"}
    (tmp_path / "bad.tsv").write_text("number\tname\n1\tx\n")
    with pytest.raises(InputError, match="it must have the columns index and name"):
        read_names(tmp_path / "bad.tsv")


def test_all_files_are_written_or_none(study, tmp_path, monkeypatch):
    report = make_report(study, Wishes(parts=["methods"]))
    with pytest.raises(InputError, match="format is 'doc'; it must be one of html, pdf"):
        write_report(report, tmp_path / "out", ["html", "doc"])
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("in the way")
    with pytest.raises((InputError, OSError)):
        write_report(report, tmp_path / "file")
    files = write_report(report, tmp_path / "out", ["pdf"])
    assert [f.name for f in files] == ["report.pdf", "methods.txt", "references.bib"]
    assert (tmp_path / "out/methods.txt").read_text(encoding="utf-8") == report.methods.text
    assert (tmp_path / "out/references.bib").read_text(encoding="utf-8") == report.methods.bibtex


# ------------------------------------------------------------------------------- command line
def test_the_command_writes_a_report_with_regions(metaqsm, folder, scan_folder, tmp_path):
    labels = np.zeros(stored(folder / "mask.nii.gz").shape, np.float32)
    labels[7:9, 8:11, 6:8] = 5
    nib.save(nib.Nifti1Image(labels, nib.load(folder / "mask.nii.gz").affine), tmp_path / "labels.nii.gz")
    (tmp_path / "names.tsv").write_text("index\tname\n5\tthe nucleus\n")
    code, out, err = metaqsm(
        "report", folder, "--inputs", scan_folder, "--labels", tmp_path / "labels.nii.gz", "--names",
        tmp_path / "names.tsv", "--title", "A title", "--voxel", "8,9,7", "--out", tmp_path / "out",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == FILES
    assert "report.pdf" in out
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    for text in ("A title", "the nucleus", "Prisma", "Slices of all maps"):
        assert text in page
    assert "Somebody" not in page


def test_the_command_says_what_it_did_without(metaqsm, folder):
    code, _, err = metaqsm("report", folder, "--html")
    assert code == 0
    assert "note: the magnitude that the maps were made from is not there any more" in err
    assert sorted(p.name for p in folder.iterdir() if p.suffix in (".html", ".pdf")) == ["report.html"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--window", "0.1"], "--window is '0.1'; it must be two numbers"),
        (["--window", "0.2,-0.1"], "the smaller first"),
        (["--voxel", "1,2"], "--voxel is '1,2'; it must be three whole numbers"),
        (["--voxel", "1,2,99"], "it must lie in maps of"),
        (["--names", "names.tsv"], "there are names, but no labels"),
    ],
)
def test_the_command_refuses_what_it_cannot_do(metaqsm, folder, arguments, told):
    code, _, err = metaqsm("report", folder, *arguments)
    assert code == 2
    assert told in err
    assert not (folder / "report.html").exists()
