"""Real scans, from DICOM to what the rest of the package computes on."""

import gzip
import os
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.dicom.convert import convert, survey
from napari_metaqsm.io.load import load
from napari_metaqsm.io.nifti import read
from napari_metaqsm.io.sidecar import sidecar_content, sidecar_path
from napari_metaqsm.pipeline import default_chain, reconstruct
from napari_metaqsm.scan import Scan

pytest.importorskip("dcm2niix")
# Identifying values of the three studies, as they stand in the headers.
NAMES = (
    "d2n_philips",
    "xatest",
    "phantom",
    "crlab",
    "12343",
    "indiana",
    "usc",
    "19800501",
    "1.3.46",
    "1.3.12",
)


@pytest.fixture(scope="session")
def scans(shared):
    return shared / "data" / "scans"


@pytest.fixture(scope="module")
def classic(scans, tmp_path_factory):
    """The classic Philips scan, unpacked: (part, echo, slice) to file, part "" magnitude and "_ph" phase."""
    folder = tmp_path_factory.mktemp("classic")
    for packed in (scans / "philips_2echo/In/cl").iterdir():
        (folder / packed.name[:-3]).write_bytes(gzip.decompress(packed.read_bytes()))
    return folder


@pytest.fixture(scope="module")
def few(classic, tmp_path_factory):
    """Its slices 21 to 36 alone, for all that does not ask for the whole head."""
    folder = tmp_path_factory.mktemp("few")
    return linked(classic, folder, lambda name: 20 <= ((int(name.split("_")[1][:4]) - 1) // 2) % 53 < 36)


@pytest.fixture(scope="module")
def opened(scans, classic, few):
    """Scans as they are read, each once."""
    known = {}

    def of(name):
        folder = {"classic": classic, "few": few}.get(name, scans / name)
        if name not in known:
            known[name] = load(folder)
        return known[name]

    return of


def linked(classic, folder, keep=lambda name: True):
    folder.mkdir(parents=True, exist_ok=True)
    for file in classic.iterdir():
        if keep(file.name):
            os.link(file, folder / file.name)
    return folder


def slices_of(folder, part, echo_ms):
    """Files of one part and echo, in the order of their places."""
    found = []
    for file in folder.iterdir():
        header = pydicom.dcmread(file, stop_before_pixels=True)
        if header.EchoTime == echo_ms and part in header.ImageType:
            found.append((header.ImagePositionPatient[2], file))
    return [file for _, file in sorted(found)]


# ------------------------------------------------------------------------- against another converter
@pytest.mark.parametrize(
    ("name", "phase", "magnitude"),
    [
        ("classic", "philips_2echo/Ref/*cl_e?_ph.nii.gz", "philips_2echo/Ref/*cl_e?.nii.gz"),
        ("philips_2echo/In/enh", "philips_2echo/Ref/*enh_e?_ph.nii.gz", "philips_2echo/Ref/*enh_e?.nii.gz"),
        ("siemens_enhanced/In", "siemens_enhanced/Ref/*_ph.nii", "siemens_enhanced/Ref/*_e?.nii"),
        ("siemens_classic/In", "siemens_classic/Ref/*_ph.nii", "siemens_classic/Ref/*_e?.nii"),
    ],
)
def test_arrays_places_and_times_are_those_of_another_converter(opened, scans, name, phase, magnitude):
    scan = opened(name)
    reference = load(phase=sorted(scans.glob(phase)), magnitude=sorted(scans.glob(magnitude)))
    np.testing.assert_array_equal(scan.phase, reference.phase)
    np.testing.assert_array_equal(scan.magnitude, reference.magnitude)
    np.testing.assert_allclose(scan.space.affine, reference.space.affine, atol=1e-4)
    assert scan.acquisition.echo_times_s == reference.acquisition.echo_times_s
    assert scan.acquisition.b0_tesla == reference.acquisition.b0_tesla == 3.0
    assert scan.geometry.orientation == reference.geometry.orientation


def test_classic_and_enhanced_give_the_same_map_to_the_last_bit(opened):
    two = [opened("classic"), opened("philips_2echo/In/enh")]
    assert two[0].geometry == two[1].geometry
    assert two[0].acquisition == two[1].acquisition
    np.testing.assert_array_equal(two[0].space.affine, two[1].space.affine)
    maps = []
    for scan in two:
        cut = (slice(None), slice(20, 52), slice(22, 54), slice(14, 38))
        head = Scan(
            scan.geometry.with_shape((32, 32, 24)),
            scan.acquisition,
            phase=scan.phase[cut],
            magnitude=scan.magnitude[cut],
            mask=scan.magnitude[cut][0] > scan.magnitude[cut][0].mean(),
        )
        result = reconstruct(head, default_chain(head, field="weighted_mean", inversion=["tkd"]))
        maps.append(result.maps["susceptibility_tkd"])
    assert maps[0].std() > 0.01
    np.testing.assert_array_equal(*maps)


def test_the_phase_difference_has_the_times_of_both_echoes(opened):
    scan = opened("siemens_enhanced/In")
    assert scan.acquisition.echo_times_s == (0.00246,)
    assert scan.acquisition.phase_pi == 4096
    assert (scan.phase.shape[0], scan.magnitude.shape[0]) == (1, 2)
    assert "the phase is the difference of two echoes (--no-phase-difference overrides)" in scan.decisions
    nominal = [text for text in scan.decisions if "MHz it is 2.895 T" in text]
    assert len(nominal) == 1
    assert scan.acquisition.b0_tesla == 3.0


def test_precise_philips_phase_is_radians_of_positive_sign(opened):
    scan = opened("classic")
    assert scan.acquisition.phase_pi == np.pi
    assert scan.acquisition.phase_sign == 1
    assert np.abs(scan.phase).max() <= np.pi
    assert np.ptp(scan.phase) > 6.2


# ------------------------------------------------------------------------- who is told of what
def test_files_and_records_name_nobody(scans, tmp_path):
    for number, name in enumerate(("philips_2echo/In/enh", "siemens_enhanced/In", "siemens_classic/In")):
        for run in convert(scans / name, tmp_path / str(number)):
            told = repr((run.name, run.decisions, run.notes, run.sources)).lower()
            assert not [n for n in NAMES if n in told]
    for file in tmp_path.rglob("*"):
        content = (
            file.read_bytes()[:352] if file.suffix == ".nii" else file.read_bytes() if file.is_file() else b""
        )
        assert not [n for n in NAMES if n.encode() in (file.name.encode() + content).lower()]


def test_sources_are_series_with_a_hash_that_copies_share(opened, classic, scans):
    scan = opened("classic")
    (phase,) = scan.sources["phase"]
    assert (phase["series"], phase["description"], phase["files"]) == (2001, "fcMRI Field Mapping", 106)
    assert scan.sources["magnitude"][0]["sha256"] != phase["sha256"]
    packed = load(scans / "philips_2echo/In/cl")
    assert packed.sources == scan.sources
    np.testing.assert_array_equal(packed.phase, scan.phase)


def test_what_was_decided_is_told_and_given_values_go_before_it(scans):
    scan = load(
        scans / "siemens_enhanced/In",
        phase_sign=-1,
        phase_pi=2048,
        echo_times_s=(0.01, 0.013),
        b0_tesla=2.9,
        b0_direction=(0, 0, 1),
    )
    assert scan.acquisition.phase_sign == -1
    assert scan.acquisition.phase_pi == 2048
    assert scan.acquisition.echo_times_s == (0.003,)
    assert scan.acquisition.b0_tesla == 2.9
    assert scan.geometry.b0_direction == (0, 0, 1)
    told = " | ".join((*scan.decisions, *scan.notes))
    assert "phase difference: series 9, DICOM enhanced" in told
    assert "Siemens stores phase that grows with the field" in told
    assert "syngo MR XA30" in told


def test_converted_files_are_read_as_they_are(scans, opened, tmp_path):
    (run,) = convert([scans / "philips_2echo/In/enh"], tmp_path / "out")
    assert run.name == "acq-fcmrifieldmapping_run-2001"
    assert [p.name for p in run.files["phase"]] == [
        f"acq-fcmrifieldmapping_run-2001_echo-{n}_part-phase_MEGRE.nii" for n in (1, 2)
    ]
    again, scan = load(tmp_path / "out"), opened("classic")
    np.testing.assert_array_equal(again.phase, scan.phase)
    np.testing.assert_array_equal(again.magnitude, scan.magnitude)
    assert again.acquisition == scan.acquisition
    assert again.geometry == scan.geometry
    content = sidecar_content(sidecar_path(run.files["phase"][1]))
    assert content["EchoTime"] == 0.0046
    assert content["Units"] == "rad"
    assert content["Manufacturer"] == "Philips"


# ------------------------------------------------------------------------- which series
def test_of_classic_and_enhanced_in_one_folder_one_is_used(scans, opened):
    scan = load(scans / "philips_2echo/In")
    assert "series 2001 is there as classic and as enhanced DICOM; the classic one is used" in scan.decisions
    np.testing.assert_array_equal(scan.phase, opened("classic").phase)


def test_several_runs_are_listed_with_how_to_choose(scans, few, opened, tmp_path):
    for number, folder in enumerate((few, scans / "siemens_enhanced/In", scans / "siemens_classic/In")):
        (tmp_path / str(number)).symlink_to(folder, target_is_directory=True)
    with pytest.raises(InputError, match=r"3 runs; choose one by its series \(--series 2,3\).*series 8,9 \("):
        load(tmp_path)
    chosen = load(tmp_path, series=[9, 8])
    np.testing.assert_array_equal(chosen.phase, opened("siemens_enhanced/In").phase)
    with pytest.raises(InputError, match=r"series 77 is not there; there are series 2, 3, 8, 9, 2001"):
        load(tmp_path, series=[8, 77])


def test_magnitude_alone_makes_no_field(scans):
    with pytest.raises(InputError, match=r"needs phase.*left out, for no phase belongs to them: series 8"):
        load(scans / "siemens_enhanced/In/8_gre_field_mapping")


def test_series_are_of_dicom_alone(scans):
    with pytest.raises(InputError, match="no DICOM among the files"):
        load(scans / "philips_2echo/Ref", series=[1])


# ------------------------------------------------------------------------- what is missing
def test_phase_alone_is_read_and_what_it_lacks_is_told(few, tmp_path):
    scan = load(linked(few, tmp_path / "in", lambda name: "_ph" in name))
    assert scan.magnitude is None
    assert scan.acquisition.echo_times_s == (0.0023, 0.0046)
    assert any("there is no magnitude to the phase of series 2001; with a mask" in n for n in scan.notes)


def test_an_echo_with_a_missing_slice_is_left_out(few, opened, tmp_path):
    folder = linked(few, tmp_path / "in")
    slices_of(folder, "PHASE MAP", 4.6)[9].unlink()
    scan = load(folder)
    assert "slice 10 is missing of the phase at 4.6 ms (series 2001)" in scan.notes
    assert "used: the echo at 2.3 ms" in scan.notes
    assert scan.acquisition.echo_times_s == (0.0023,)
    np.testing.assert_array_equal(scan.phase[0], opened("few").phase[0])


def test_outer_slices_that_one_part_lacks_are_left_out_of_all(few, opened, tmp_path):
    folder = linked(few, tmp_path / "in")
    for file in slices_of(folder, "PHASE MAP", 2.3)[:2]:
        file.unlink()
    slices_of(folder, "M", 4.6)[-1].unlink()
    scan = load(folder)
    assert any("has 14 of 16 slices, the outer ones are missing" in n for n in scan.notes)
    whole = opened("few")
    np.testing.assert_array_equal(scan.phase, whole.phase[..., 2:-1])
    np.testing.assert_array_equal(scan.magnitude, whole.magnitude[..., 2:-1])
    np.testing.assert_allclose(scan.space.affine[:3, 3], whole.space.affine[:3] @ [0, 0, 2, 1], atol=1e-4)


def test_slices_missing_of_every_echo_leave_nothing(few, tmp_path):
    folder = linked(few, tmp_path / "in", lambda name: "_ph" in name)
    for echo in (2.3, 4.6):
        slices_of(folder, "PHASE MAP", echo)[12].unlink()
    with pytest.raises(InputError, match=r"slice 13 is missing of the phase at 2\.3 ms.*no echo is whole"):
        load(folder)


def test_a_truncated_file_counts_as_missing(few, tmp_path):
    folder = linked(few, tmp_path / "in")
    file = slices_of(folder, "PHASE MAP", 2.3)[10]
    content = file.read_bytes()
    file.unlink()
    file.write_bytes(content[:-500])
    found = survey(folder)
    assert [path for path, _ in found.refused] == [file]
    assert "1 file cannot be read: it is truncated: 12300 of 12800 bytes of pixels are there" in found.notes
    assert any("slice 11 is missing of the phase at 2.3 ms" in n for n in found.runs[0].notes)


@pytest.mark.parametrize("cut", [300, 40_000, 800_000, 3_000_000])
def test_a_truncated_enhanced_file_is_refused_in_words(scans, tmp_path, cut):
    (packed,) = (scans / "philips_2echo/In/enh").glob("*phMag*")
    file = tmp_path / "whole.dcm"
    file.write_bytes(gzip.decompress(packed.read_bytes())[:cut])
    with pytest.raises(InputError, match=r"1 file cannot be read: (it|its header)"):
        load(tmp_path)


# ------------------------------------------------------------------------- names and places of files
def test_a_folder_copied_in_twice_is_used_once(few, opened, tmp_path):
    folder = tmp_path / "in"
    linked(few, folder / "a")
    linked(few, folder / "b")
    scan = load(folder)
    assert "64 files are copies of others; each image is used once" in scan.decisions
    assert scan.sources == opened("few").sources
    np.testing.assert_array_equal(scan.phase, opened("few").phase)


def test_spaces_unicode_long_paths_and_read_only_folders_do_not_matter(few, opened, tmp_path):
    folder = tmp_path / "Jörg & Søn 脳 (1)"
    for _ in range(4):
        folder /= "a very long name " * 8
    linked(few, folder)
    for number, file in enumerate(sorted(folder.iterdir())):
        file.rename(folder / f"IM é {number:04d}")
    folder.chmod(0o555)
    try:
        scan = load(tmp_path / "Jörg & Søn 脳 (1)")
    finally:
        folder.chmod(0o755)
    np.testing.assert_array_equal(scan.phase, opened("few").phase)


def test_links_are_followed_and_circles_end(few, opened, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "linked").symlink_to(few, target_is_directory=True)
    (folder / "again").symlink_to(folder, target_is_directory=True)
    (folder / "dangling.dcm").symlink_to(tmp_path / "nowhere")
    scan = load(folder)
    np.testing.assert_array_equal(scan.phase, opened("few").phase)


def test_other_files_beside_the_images_do_not_matter(scans, tmp_path):
    folder = tmp_path / "in"
    shutil.copytree(scans / "siemens_enhanced/In", folder)
    for copied in (folder, *folder.rglob("*")):  # the scans may lie where nobody may write
        copied.chmod(0o755)
    (raw,) = (scans / "philips_2echo/In/enh").glob("*Raw*")
    shutil.copy(raw, folder)
    (folder / "notes.txt").write_text("none of an image")
    (folder / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 400)
    (folder / "empty.dcm").touch()
    found = survey(folder)
    assert [run.series for run in found.runs] == [[8, 9]]
    assert sorted(path.name for path, _ in found.refused) == ["broken.dcm", "empty.dcm"]


# ------------------------------------------------------------------------- whole or not at all
def test_nothing_is_left_where_converting_fails(scans, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    import dcm2niix

    program = tmp_path / "dcm2niix"
    program.write_text("#!/bin/sh\necho 'Error: no luck with /some/folder'; exit 2\n")
    program.chmod(0o755)
    monkeypatch.setattr(dcm2niix, "bin", str(program))
    with pytest.raises(InputError, match=r"series 8,9 cannot be converted: dcm2niix made nothing.*no luck"):
        convert(scans / "siemens_enhanced/In", tmp_path / "out")
    assert not Path(tmp_path / "out").exists()


def test_a_file_with_other_values_is_not_taken(scans, tmp_path, monkeypatch):
    from napari_metaqsm.io.dicom import matching as module

    real = module.run_dcm2niix

    def swapped(folder, out, label, fraction=0.0, one_volume=False):
        """Exchange the echoes of one part, as a converter that confuses them would."""
        files = real(folder, out, label, fraction, one_volume)
        arrays = {f: f.read_bytes() for f in files if "_ph" not in f.name}
        for file, other in zip(arrays, reversed(list(arrays)), strict=True):
            file.write_bytes(arrays[other])
        return files

    monkeypatch.setattr(module, "run_dcm2niix", swapped)
    with pytest.raises(InputError, match="its values are not those of the DICOM images"):
        convert(scans / "philips_2echo/In/enh", tmp_path / "out")


def test_maps_lie_where_the_scan_lay(scans, opened, tmp_path):
    (run,) = convert([scans / "siemens_enhanced/In"], tmp_path / "out")
    for file in run.files["magnitude"]:
        _, space = read(file)
        np.testing.assert_array_equal(space.affine, opened("siemens_enhanced/In").space.affine)
