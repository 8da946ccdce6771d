"""From the stacks of a run to NIfTI files: run by run, checked against the headers, stoppable."""

import json
import os
import sys
import time

import nibabel
import numpy as np
import pytest
from made import AXIAL, OBLIQUE, SAGITTAL, classic, given_axes, phantom

from napari_metaqsm.errors import Cancelled, InputError
from napari_metaqsm.io.dicom.convert import convert, survey
from napari_metaqsm.io.dicom.dcm2niix import run_dcm2niix
from napari_metaqsm.io.dicom.headers import read_headers
from napari_metaqsm.io.dicom.matching import check_place
from napari_metaqsm.io.dicom.series import find_runs
from napari_metaqsm.io.load import load
from napari_metaqsm.io.nifti import read
from napari_metaqsm.method import running

dcm2niix = pytest.importorskip("dcm2niix")
MAGNITUDE, PHASE = phantom((14, 12, 8))


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Puts a shell script in dcm2niix's place."""

    def place(script):
        file = tmp_path / "program"
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)
        monkeypatch.setattr(dcm2niix, "bin", str(file))

    return place


def sidecar(path):
    return json.loads(path.with_suffix(".json").read_text())


# ---------------------------------------------------------------------------------- what is written
def test_each_part_and_echo_is_a_file_with_what_is_needed_to_read_it(tmp_path):
    classic(tmp_path / "in", MAGNITUDE, PHASE, OBLIQUE, vendor="GE")
    (run,) = convert(tmp_path / "in", tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(
        f"acq-greqsm_run-8_echo-{echo}_part-{part}_MEGRE.{end}"
        for echo in (1, 2)
        for part in ("mag", "phase")
        for end in ("nii", "json")
    )
    content = sidecar(run.files["phase"][1])
    assert (content["EchoTime"], content["EchoNumber"], content["MagneticFieldStrength"]) == (0.012, 2, 3.0)
    assert content["MetaQSM"]["phase_sign"] == -1
    assert "MetaQSM" not in sidecar(run.files["magnitude"][0])
    assert set(content) == {
        *("EchoTime", "EchoNumber", "MagneticFieldStrength", "ImagingFrequency", "Manufacturer"),
        *("ManufacturersModelName", "SoftwareVersions", "SeriesNumber", "Units", "MetaQSM"),
    }


def test_a_description_that_names_a_role_confuses_nobody(tmp_path):
    classic(tmp_path / "in", MAGNITUDE, PHASE, description="phase_mask fieldmap e2 mag")
    (run,) = convert(tmp_path / "in", tmp_path / "out")
    scan = load(tmp_path / "out")
    assert scan.mask is None
    assert scan.phase.shape == scan.magnitude.shape == (2, 14, 12, 8)
    assert scan.acquisition.echo_times_s == (0.005, 0.012)
    assert run.name == "acq-phasemaskfieldmape2mag_run-9"


def test_a_run_that_cannot_be_converted_does_not_stop_the_others(tmp_path, monkeypatch):
    classic(tmp_path / "in/a", MAGNITUDE, PHASE)
    classic(tmp_path / "in/b", MAGNITUDE, PHASE, series=20, clock="130000")
    from napari_metaqsm.io.dicom import matching as module

    def fails(folder, out, label, fraction=0.0, one_volume=False):
        if "8" in label:
            raise InputError("dcm2niix made nothing of series 8: no luck")
        return run_dcm2niix(folder, out, label, fraction, one_volume)

    monkeypatch.setattr(module, "run_dcm2niix", fails)
    (run,) = convert(tmp_path / "in", tmp_path / "out")
    assert {n for stack in run.sources.values() for n in (s["series"] for s in stack)} == {20, 21}
    assert "series 8,9 cannot be converted: dcm2niix made nothing of series 8: no luck" in run.notes
    assert len(list((tmp_path / "out").iterdir())) == 8


def test_a_phase_difference_alone_has_the_times_that_dcm2niix_finds(shared):
    scan = load(shared / "data/scans/siemens_enhanced/In/9_gre_field_mapping")
    assert scan.acquisition.echo_times_s == (0.00246,)
    assert scan.magnitude is None


def test_where_links_are_not_allowed_files_are_copied(tmp_path, monkeypatch):
    classic(tmp_path / "in", MAGNITUDE, PHASE)
    whole = load(tmp_path / "in").phase

    def refuse(*_):
        raise OSError("symbolic link privilege not held")

    monkeypatch.setattr("pathlib.Path.symlink_to", refuse)
    np.testing.assert_array_equal(load(tmp_path / "in").phase, whole)


# ---------------------------------------------------------------------------------- checks
@pytest.mark.parametrize("affine", [AXIAL, OBLIQUE, SAGITTAL])
def test_the_affine_is_that_of_the_headers(tmp_path, affine):
    classic(tmp_path / "in", MAGNITUDE, PHASE, affine)
    (run,) = convert(tmp_path / "in", tmp_path / "out")
    file = nibabel.load(run.files["magnitude"][0])
    at = np.linalg.inv(file.affine) @ affine
    np.testing.assert_allclose(at, np.rint(at), atol=1e-4)
    np.testing.assert_allclose(file.get_qform(), file.affine, atol=1e-4)
    seen = given_axes(file, affine)
    assert np.corrcoef(seen.ravel(), MAGNITUDE[0].ravel())[0, 1] > 0.999


def test_a_converted_file_in_another_place_is_refused(tmp_path):
    classic(tmp_path / "in", MAGNITUDE, PHASE, OBLIQUE)
    (run,) = convert(tmp_path / "in", tmp_path / "out")
    _, space = read(run.files["phase"][0])
    (found,) = find_runs(read_headers([tmp_path / "in"])).runs
    stack = found.parts["phase"][0]
    assert check_place(stack, space).shape == (4, 3)
    space.affine[0, 3] += 0.1
    with pytest.raises(InputError, match="its affine puts the voxels elsewhere"):
        check_place(stack, space)
    space.affine[0, 3] -= 0.1
    space.affine[:3, 2] *= 1.02
    with pytest.raises(InputError, match="its affine puts the voxels elsewhere"):
        check_place(stack, space)
    fewer = stack.only(stack.heights_mm[:-1])
    with pytest.raises(InputError, match=r"voxels, but the headers 14×12×7"):
        check_place(fewer, read(run.files["phase"][0])[1])


def test_other_series_of_the_folder_are_not_even_shown_to_dcm2niix(tmp_path, program):
    classic(tmp_path / "in", MAGNITUDE, PHASE)
    classic(tmp_path / "in", MAGNITUDE, PHASE, series=20, clock="130000")
    program(f'for last; do :; done; ls "$last" | wc -l >> {tmp_path}/counts; exit 1')
    with pytest.raises(InputError, match="cannot be converted"):
        convert(tmp_path / "in", tmp_path / "out", series=[8, 9])
    assert (tmp_path / "counts").read_text().split() == ["8"]


# ---------------------------------------------------------------------------------- dcm2niix itself
def test_a_user_who_stops_waits_for_nothing(tmp_path, program):
    program(f"echo $$ > {tmp_path}/pid; exec sleep 60")
    folder, out = tmp_path / "a", tmp_path / "b"
    folder.mkdir()
    out.mkdir()
    stopped_at = []

    def stopped():
        if (tmp_path / "pid").exists():
            stopped_at.append(time.monotonic())
        return bool(stopped_at)

    with running(stopped=stopped), pytest.raises(Cancelled):
        run_dcm2niix(folder, out, "series 8")
    assert time.monotonic() - stopped_at[0] < 20  # at once on an idle computer; the program sleeps for 60

    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_one_that_never_ends_is_ended(tmp_path, program, monkeypatch):
    monkeypatch.setattr("napari_metaqsm.io.dicom.dcm2niix._LONGEST_S", 0.3)
    program("exec sleep 60")
    with pytest.raises(InputError, match="still works on series 8 after"):
        run_dcm2niix(tmp_path, tmp_path, "series 8")


def test_its_own_words_are_told_without_folders(tmp_path, program):
    folder = tmp_path / "the folder"
    folder.mkdir()
    program('for last; do :; done; echo "Found 3 files"; echo "Error: unable to read $last/1.dcm"; exit 3')
    with pytest.raises(InputError, match=r"made nothing of series 8: Error: unable to read /1\.dcm$"):
        run_dcm2niix(folder, tmp_path, "series 8")


def test_without_the_program_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "dcm2niix", None)
    with pytest.raises(InputError, match="dcm2niix is not installed; DICOM needs it"):
        run_dcm2niix(tmp_path, tmp_path, "series 8")


def test_a_survey_converts_nothing(tmp_path, program):
    program("exit 9")
    classic(tmp_path / "in", MAGNITUDE, PHASE)
    (run,) = survey([tmp_path / "in"]).runs
    assert run.series == [8, 9]
