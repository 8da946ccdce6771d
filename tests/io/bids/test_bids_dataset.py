"""Scans found in a dataset, what is told of bad ones, and what belongs to them elsewhere."""

import json
import os
import shutil
import time

import numpy as np
import pytest
from made_bids import (
    B0_TESLA,
    ECHO_TIMES_S,
    add_field_map,
    add_real_subject,
    add_subject,
    cut_short,
    head,
    make_dataset,
    spoil_json,
    take_away,
)

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.bids.companions import find_companion
from napari_metaqsm.io.bids.dataset import find_scans, load_scan
from napari_metaqsm.io.bids.ignored import Ignored


@pytest.fixture
def root(tmp_path):
    return make_dataset(tmp_path / "raw", inherit=True)


def only(root):
    (scan,) = find_scans(root)
    return scan


def test_sessions_runs_and_acquisitions_are_scans_of_their_own(root):
    add_subject(root, "01", "1", acq="qsm", run="1")
    add_subject(root, "01", "1", acq="qsm", run="2", inherit=True)
    add_subject(root, "01", "2")
    add_subject(root, "02", suffix="T2starw")
    scans = find_scans(root)
    assert [scan.label for scan in scans] == [
        "sub-01_ses-1_acq-qsm_run-1", "sub-01_ses-1_acq-qsm_run-2", "sub-01_ses-2", "sub-02",
    ]  # fmt: skip
    assert not any(scan.trouble for scan in scans)
    first = scans[0]
    assert (first.subject, first.session, first.suffix, first.folder) == ("01", "1", "MEGRE", "sub-01/ses-1")
    assert [f.name.split("_")[4] for f in first.files["phase"]] == ["echo-1", "echo-2", "echo-3"]


def test_a_found_scan_is_read_with_what_it_inherits(root):
    add_subject(root, "01", inherit=True)
    scan, made = load_scan(only(root)), head()[0]
    np.testing.assert_array_equal(scan.phase, made.phase)
    np.testing.assert_array_equal(scan.magnitude, made.magnitude)
    assert (scan.acquisition.echo_times_s, scan.acquisition.b0_tesla) == (ECHO_TIMES_S, B0_TESLA)


def test_the_bundled_real_scan_is_read(root):
    add_real_subject(root, "philips")
    scan = load_scan(only(root))
    assert scan.phase.shape == (2, 80, 80, 53)
    assert scan.acquisition.echo_times_s == (0.0023, 0.0046)


def test_ten_echoes_are_in_the_order_of_their_numbers(root):
    for number in range(1, 11):
        for file in add_subject(root, "01", echoes=1):
            name = file.name.replace("echo-1_", f"echo-{number}_")
            if file.suffix == ".json":
                file.write_text(json.dumps({**json.loads(file.read_text()), "EchoTime": number / 1000}))
            if number > 1:
                file.rename(file.with_name(name))
    add_subject(root, "01", echoes=1)
    order = [file.name.split("_")[1] for file in only(root).files["phase"]]
    assert order == [f"echo-{number}" for number in range(1, 11)]


def test_real_and_imaginary_parts_are_a_scan_and_phase_goes_before_them(root):
    add_subject(root, "01", parts=("real", "imag"))
    assert (set(only(root).files), only(root).trouble) == ({"real", "imaginary"}, "")
    add_subject(root, "01", parts=("mag", "phase"))
    take_away(root, "sub-01/anat/*part-imag*")
    assert (set(only(root).files), only(root).trouble) == ({"magnitude", "phase"}, "")


def test_a_magnitude_may_be_named_without_its_part(root):
    for file in add_subject(root, "01"):
        file.rename(file.with_name(file.name.replace("_part-mag", "")))
    assert {role: len(files) for role, files in only(root).files.items()} == {"magnitude": 3, "phase": 3}


@pytest.mark.parametrize("two_phases", [False, True])
def test_a_field_map_is_a_scan_where_there_is_no_other(root, two_phases):
    add_field_map(root, "01", two_phases)
    scan = load_scan(only(root))
    assert only(root).trouble == ""
    times = (0.005, 0.01) if two_phases else (0.005,)
    assert scan.acquisition.echo_times_s == times
    add_subject(root, "01")
    assert only(root).suffix == "MEGRE"


def test_images_without_phase_are_named_only_where_there_is_nothing_else(root):
    add_subject(root, "01", suffix="T2starw", parts=("mag",))
    assert only(root).trouble == "there is magnitude, but no phase"
    add_subject(root, "01", acq="qsm")
    assert (only(root).label, only(root).trouble) == ("sub-01_acq-qsm", "")


def test_a_run_that_was_taken_for_its_phase_and_has_none_is_told_of(root):
    add_subject(root, "01", run="1")
    add_subject(root, "01", run="2", parts=("mag",))
    assert [scan.trouble for scan in find_scans(root)] == ["", "there is magnitude, but no phase"]


def test_real_and_imaginary_parts_are_read_as_magnitude_and_phase(root):
    add_subject(root, "01", parts=("real", "imag"))
    scan, made = load_scan(only(root)), head()[0]
    inside = made.magnitude > 10
    apart = np.angle(np.exp(1j * (scan.phase - made.phase)))
    np.testing.assert_allclose(apart[inside], 0, atol=1e-4)
    np.testing.assert_allclose(scan.magnitude, made.magnitude, atol=1e-3)


# ------------------------------------------------------------------------------------ trouble
def without(pattern):
    return lambda root: take_away(root, f"sub-01/anat/{pattern}")


def unsay(key):
    def spoil(root):
        for file in [*root.glob("*_MEGRE.json"), *root.rglob("sub-01*.json")]:
            content = json.loads(file.read_text())
            file.write_text(json.dumps({k: v for k, v in content.items() if k != key}))

    return spoil


def write_rubbish(root):
    spoil_json(next(root.rglob("sub-01_echo-3_part-phase*.json")))


def link_to_nothing(root):
    file = next(root.rglob("sub-01_echo-2_part-phase*.nii.gz"))
    file.unlink()
    file.symlink_to(root / ".git/annex/objects/gone")


def twice(root):
    file = next(root.rglob("sub-01_echo-2_part-phase*.nii.gz"))
    shutil.copy(file, file.with_name(file.name.removesuffix(".gz")))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (without("*part-mag*"), "there is phase, but no magnitude; it can be used with a mask only"),
        (without("*part-phase*"), "there is magnitude, but no phase"),
        (without("*echo-2_part-phase*"), "there is no phase of echo 2"),
        (without("*echo-[13]_part-mag*"), "there is no magnitude of echo 1 and 3"),
        (without("*"), "there is no gradient echo with magnitude and phase"),
        (unsay("EchoTime"), "the echo time is missing; give EchoTime in sub-01_echo-1_part-phase_MEGRE.json"),
        (unsay("MagneticFieldStrength"), "is missing; give MagneticFieldStrength in sub-01_echo-1"),
        (write_rubbish, "is no readable JSON file"),
        (link_to_nothing, "is a link to a file that is not there; fetch it first"),
        (twice, "several files are one echo of the phase: sub-01_echo-2_part-phase_MEGRE.nii, sub-01_echo-2"),
    ],
)  # fmt: skip
def test_a_bad_subject_is_told_of_in_words_and_the_others_are_found(root, spoil, words):
    add_subject(root, "01")
    add_subject(root, "02")
    spoil(root)
    bad, good = find_scans(root)
    assert words in bad.trouble
    assert (bad.label, good.label, good.trouble) == ("sub-01", "sub-02", "")
    assert bad.needs_mask is ("with a mask only" in words)
    if not bad.needs_mask:
        with pytest.raises(InputError, match="sub-01: "):
            load_scan(bad)


def test_phase_alone_is_read_with_a_mask(root):
    files = add_subject(root, "01")
    mask = root / "mask.nii.gz"
    shutil.copy(files[0], mask)
    take_away(root, "sub-01/anat/*part-mag*")
    assert load_scan(only(root), mask=mask).mask is not None


def test_an_image_that_is_cut_short_is_found_and_refused_when_it_is_read(root):
    add_subject(root, "01")
    cut_short(next(root.rglob("sub-01_echo-2_part-phase*.nii.gz")))
    with pytest.raises(InputError, match="truncated"):
        load_scan(only(root))


def test_two_kinds_of_scan_under_one_name_would_overwrite_each_other(root):
    add_subject(root, "01")
    add_subject(root, "01", suffix="T2starw")
    first, second = find_scans(root)
    assert (first.trouble, second.suffix) == ("", "T2starw")
    assert "named as a MEGRE is; give one of them an acq- label" in second.trouble


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_that_may_not_be_read_is_one_bad_subject(root):
    add_subject(root, "01")
    (root / "sub-01").chmod(0)
    try:
        assert "cannot be read (Permission denied)" in only(root).trouble
    finally:
        (root / "sub-01").chmod(0o755)


# ------------------------------------------------------------------------------------ what is asked for
def test_only_the_participants_and_sessions_that_are_asked_for(root):
    for subject in ("01", "02"):
        for session in ("a", "b"):
            add_subject(root, subject, session, echoes=1)
    assert [s.label for s in find_scans(root, ["sub-02"], ["b"])] == ["sub-02_ses-b"]
    assert [s.label for s in find_scans(root, ["02", "01"])][:2] == ["sub-02_ses-a", "sub-02_ses-b"]
    with pytest.raises(InputError, match=r"participant is '03'; it must be one of the dataset's: 01, 02"):
        find_scans(root, ["03"])
    with pytest.raises(InputError, match=r"session is 'c'; it must be one of the dataset's: a, b"):
        find_scans(root, sessions=["a", "c"])


def test_what_is_no_dataset_is_refused(tmp_path):
    with pytest.raises(InputError, match="is no folder"):
        find_scans(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"has no dataset_description\.json"):
        find_scans(tmp_path)
    make_dataset(tmp_path)
    with pytest.raises(InputError, match="holds no subject"):
        find_scans(tmp_path)


def test_derivatives_sourcedata_and_what_is_ignored_are_left_out(root):
    add_subject(root, "01")
    for folder in ("derivatives/other", "sourcedata"):
        shutil.copytree(root / "sub-01", root / folder / "sub-02")
    add_subject(root, "01", acq="pilot")
    (root / ".bidsignore").write_text("# a remark\n*acq-pilot*\n")
    assert only(root).label == "sub-01"


@pytest.mark.parametrize(
    ("patterns", "ignored", "kept"),
    [
        ("*_a.nii", "sub-1/anat/sub-1_a.nii", "sub-1/anat/sub-1_a.nii.gz"),
        ("sub-1/", "sub-1/anat/x", "sub-11/anat/x"),
        ("/sub-?/anat/*.nii", "sub-1/anat/x.nii", "y/sub-1/anat/x.nii"),
        ("sub-*/**/x*", "sub-1/ses-1/anat/xy", "sub-1/ses-1/anat/yx"),
        ("**/anat", "sub-1/anat/x", "sub-1/anatomy/x"),
        ("run-[13]*", "a/run-1_x", "a/run-2_x"),
        ("run-[!13]*", "a/run-2_x", "a/run-1_x"),
        ("*.nii\n!b.nii", "a.nii", "b.nii"),
        ("a.b", "a.b", "acb"),
    ],
)
def test_patterns_mean_what_they_mean_in_gitignore(tmp_path, patterns, ignored, kept):
    (tmp_path / ".bidsignore").write_text(patterns)
    assert Ignored(tmp_path)(ignored)
    assert not Ignored(tmp_path)(kept)


def test_many_subjects_are_found_without_opening_an_image(root):
    first = add_subject(root, "000", inherit=True)
    for file in first:
        if file.suffix == ".gz":
            file.write_bytes(b"")
    for number in range(1, 200):
        folder = root / f"sub-{number:03d}/anat"
        folder.mkdir(parents=True)
        for file in first:
            os.link(file, folder / file.name.replace("sub-000", f"sub-{number:03d}"))
    started = time.process_time()
    scans = find_scans(root)
    assert len(scans) == 200
    assert not any(scan.trouble for scan in scans)
    assert time.process_time() - started < 2  # a quarter of a second on an idle computer


# ------------------------------------------------------------------------------------ companions
def companion(folder, *names):
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def test_a_mask_is_found_by_subject_session_and_run(root, tmp_path):
    add_subject(root, "01", "1", acq="qsm", run="1")
    scan = only(root)
    assert find_companion(scan, tmp_path, "mask") is None
    for name in [
        "sub-01/anat/sub-01_desc-brain_mask.nii.gz",
        "sub-01/ses-1/anat/sub-01_ses-1_desc-brain_mask.nii",
        "sub-01/ses-1/anat/sub-01_ses-1_run-1_desc-csf_mask.nii.gz",
        "sub-01/ses-1/anat/sub-01_ses-1_run-1_desc-brain_mask.nii.gz",
    ]:
        companion(tmp_path, name)
        assert find_companion(scan, tmp_path, "mask") == tmp_path / name
    assert find_companion(scan, tmp_path, "mask", "csf").name == "sub-01_ses-1_run-1_desc-csf_mask.nii.gz"
    companion(
        tmp_path,
        "sub-01/ses-1/anat/sub-01_ses-1_acq-qsm_run-2_desc-brain_mask.nii.gz",
        "sub-01/ses-1/anat/sub-01_ses-1_acq-qsm_run-1_space-MNI152_desc-brain_mask.nii.gz",
        "sub-01/ses-1/anat/sub-01_ses-1_acq-qsm_run-1_desc-brain_dseg.nii.gz",
        "sub-01/ses-1/anat/sub-01_ses-1_acq-qsm_run-1_desc-brain_mask.json",
    )
    assert find_companion(scan, tmp_path, "mask").name == "sub-01_ses-1_run-1_desc-brain_mask.nii.gz"


def test_of_two_that_fit_alike_neither_is_taken(root, tmp_path):
    add_subject(root, "01")
    companion(tmp_path, "sub-01/anat/sub-01_desc-a_dseg.nii.gz", "sub-01/anat/sub-01_desc-b_dseg.nii.gz")
    with pytest.raises(
        InputError, match=r"sub-01_desc-a_dseg\.nii\.gz, sub-01_desc-b_dseg\.nii\.gz; keep one"
    ):
        find_companion(only(root), tmp_path, "dseg")
    assert find_companion(only(root), tmp_path, "dseg", "b").name == "sub-01_desc-b_dseg.nii.gz"
    with pytest.raises(InputError, match="is no folder"):
        find_companion(only(root), tmp_path / "nowhere", "dseg")
