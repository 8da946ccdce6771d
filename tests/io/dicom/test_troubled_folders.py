"""Folders as they come from scanners and archives: what the user reads, and what still works."""

import shutil
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from made import AXIAL, OBLIQUE, PARTS, SAGITTAL, classic, clutter, given_axes, phantom, without_preamble
from made_enhanced import enhanced
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from napari_metaqsm.errors import InputError
from napari_metaqsm.field.scaling import phase_in_radians
from napari_metaqsm.io.dicom.convert import convert
from napari_metaqsm.io.load import load
from napari_metaqsm.pipeline import default_chain, reconstruct
from napari_metaqsm.scan import Scan

pytest.importorskip("dcm2niix")
MAGNITUDE, PHASE = phantom((14, 12, 8))
SIGNAL = MAGNITUDE > 0.3
TIMES = (0.005, 0.012)
CORONAL = np.array([[0.8, 0, 0, -20], [0, 0, 2.0, -30], [0, -0.8, 0, 25], [0, 0, 0, 1.0]])
# half a step of 12 bits and rounded slopes; real and imaginary parts where the signal is weak
NEAR = 5e-3


def off(scan: Scan, echoes=(0, 1), slices=slice(None), affine=OBLIQUE) -> float:
    """The largest difference of the loaded phase from what was made, rad, where there is signal.

    Negated slices leave a constant pi, which is taken out.
    """
    radians, _ = phase_in_radians(scan.phase, scan.acquisition)
    worst = 0.0
    for found, echo in zip(radians, echoes, strict=True):
        found = given_axes(nibabel.Nifti1Image(found, scan.space.affine), moved(affine, slices))
        signal = SIGNAL[echo][..., slices]
        apart = np.exp(1j * (found - PHASE[echo][..., slices]))[signal]
        constant = np.pi * np.rint(np.angle(apart.mean()) / np.pi)
        worst = max(worst, float(np.abs(np.angle(apart * np.exp(-1j * constant))).max()))
    return worst


def moved(affine: np.ndarray, slices: slice) -> np.ndarray:
    """The affine of some slices of an array."""
    result = affine.copy()
    result[:, 3] = affine @ [0, 0, slices.start or 0, 1]
    return result


def told(scan: Scan, words: str) -> bool:
    return any(words in text for text in (*scan.decisions, *scan.notes))


def edit(path: Path, **values) -> None:
    """Set elements of a file, or take them out (None)."""
    image = pydicom.dcmread(path)
    for keyword, value in values.items():
        if value is None:
            delattr(image, keyword)
        else:
            setattr(image, keyword, value)
    image.save_as(path)


def make(folder: Path, **settings) -> dict[tuple[str, int, int], Path]:
    return classic(folder, MAGNITUDE, PHASE, **{"affine": OBLIQUE, **settings})


# ---------------------------------------------------------------------------------- whole folders
@pytest.mark.parametrize("vendor", ["Siemens", "Philips", "GE", "Canon", "UIH"])
@pytest.mark.parametrize("kind", [classic, enhanced])
def test_a_whole_folder_of_any_vendor_is_read(tmp_path, vendor, kind):
    kind(tmp_path, MAGNITUDE, PHASE, SAGITTAL, vendor=vendor)
    scan = load(tmp_path)
    assert off(scan, affine=SAGITTAL) < NEAR
    assert scan.acquisition.echo_times_s == pytest.approx(TIMES)
    assert scan.acquisition.b0_tesla == 3
    assert told(scan, "Manufacturer is")


@pytest.mark.parametrize("kind", [classic, enhanced])
@pytest.mark.parametrize("alternating", [True, False])
def test_ges_real_and_imaginary_parts_are_read_alternating_or_not(tmp_path, alternating, kind):
    parts = ("magnitude", "real", "imaginary")
    kind(tmp_path, MAGNITUDE, PHASE, OBLIQUE, vendor="GE", parts=parts, alternating=alternating)
    scan = load(tmp_path)
    assert off(scan) < 2 * NEAR
    assert scan.acquisition.phase_sign == -1
    assert told(scan, "GE stores phase inverted")
    assert told(scan, "change sign from slice to slice, undone" if alternating else "keep their sign")


def test_what_was_decided_can_be_overridden(tmp_path):
    make(tmp_path, vendor="GE")
    scan = load(tmp_path, phase_sign=1, phase_pi=2000.0)
    assert (scan.acquisition.phase_sign, scan.acquisition.phase_pi) == (1, 2000.0)


def test_of_phase_and_complex_parts_the_phase_is_taken_and_said(tmp_path):
    make(tmp_path, vendor="GE", parts=PARTS, alternating=True)
    scan = load(tmp_path)
    assert off(scan) < NEAR
    assert told(scan, "its real and imaginary parts are there too, and not needed")


def test_the_index_of_a_disc_stands_for_the_disc(tmp_path):
    make(tmp_path / "DICOM")
    clutter(tmp_path)
    assert off(load(tmp_path / "DICOMDIR")) < NEAR


def test_other_sequences_and_the_clutter_of_a_disc_are_passed_over(tmp_path):
    make(tmp_path / "DICOM" / "A", clock="130000")
    few, other = MAGNITUDE[:1, ..., :3], MAGNITUDE[:1]
    classic(
        tmp_path / "DICOM" / "B", few, few, SAGITTAL, series=1, description="localizer", parts=("magnitude",)
    )
    classic(tmp_path / "DICOM" / "C", other, other, OBLIQUE, series=3, description="t1", parts=("magnitude",))
    clutter(tmp_path)
    scan = load(tmp_path)
    assert off(scan) < NEAR
    assert told(scan, "series 1 holds only 3 slices, too few for a volume; left out")
    assert told(scan, "left out, for no phase belongs to them: series 3")


# ---------------------------------------------------------------------------------- slices
def test_a_slice_missing_in_one_echo_leaves_the_others(tmp_path):
    make(tmp_path)["phase", 1, 3].unlink()
    scan = load(tmp_path)
    assert told(scan, "slice 4 is missing of the phase at 12 ms (series 9)")
    assert told(scan, "used: the echo at 5 ms")
    assert len(scan.phase) == len(scan.magnitude) == 1
    assert off(scan, echoes=(0,)) < NEAR


def test_an_outer_slice_missing_leaves_the_slices_that_all_have(tmp_path):
    make(tmp_path)["phase", 1, 0].unlink()
    scan = load(tmp_path)
    assert told(scan, "the phase at 12 ms (series 9) has 7 of 8 slices, the outer ones are missing")
    assert scan.geometry.shape[2] == 7
    assert off(scan, slices=slice(1, None)) < NEAR


def test_a_slice_missing_in_the_only_echo_is_refused_by_its_number(tmp_path):
    files = classic(tmp_path, MAGNITUDE[:1], PHASE[:1], OBLIQUE)
    files["phase", 0, 3].unlink()
    with pytest.raises(InputError, match=r"slice 4 is missing of the phase at 5 ms \(series 9\).*export it"):
        load(tmp_path)


@pytest.mark.parametrize("affine", [OBLIQUE, CORONAL])
@pytest.mark.parametrize(("number", "kept"), [(0, slice(2, None)), (3, slice(None, 6))])
def test_an_enhanced_series_that_ends_early_leaves_the_slices_that_all_have(tmp_path, affine, number, kept):
    file = enhanced(tmp_path, MAGNITUDE, PHASE, affine, vendor="Siemens")[number]
    image = pydicom.dcmread(file)
    frames = image.pixel_array[kept]
    image.NumberOfFrames = len(frames)
    image.PerFrameFunctionalGroupsSequence = image.PerFrameFunctionalGroupsSequence[kept]
    image.PixelData = frames.tobytes()
    image.save_as(file)
    scan = load(tmp_path)
    assert told(scan, "has 6 of 8 slices, the outer ones are missing; the 6 slices that all have are used")
    assert off(scan, slices=kept, affine=affine) < NEAR
    whole = tmp_path / "whole"
    enhanced(whole, MAGNITUDE[..., kept], PHASE[..., kept], moved(affine, kept), vendor="Siemens")
    assert load(whole).geometry == scan.geometry
    np.testing.assert_allclose(load(whole).space.affine, scan.space.affine, atol=1e-4)
    np.testing.assert_allclose(load(whole).phase, scan.phase, atol=1e-4)


def test_two_orientations_in_one_series_are_two_scans(tmp_path):
    make(tmp_path / "a")
    make(tmp_path / "b", affine=SAGITTAL)
    runs = convert(tmp_path, tmp_path / "out")
    assert len(runs) == 2
    words = "series 9 mixes 2 orientations or grids; each is taken as a scan of its own"
    assert all(words in run.notes for run in runs)
    affines = {tuple(nibabel.load(run.files["phase"][0]).affine.ravel().round(3)) for run in runs}
    assert len(affines) == 2
    with pytest.raises(InputError, match="there are 2 runs; series do not tell them apart; give the folder"):
        load(tmp_path / "a" / "..", series=[8, 9])


# ---------------------------------------------------------------------------------- twice
def test_the_same_files_under_other_names_count_once(tmp_path):
    for path in make(tmp_path).values():
        shutil.copy(path, tmp_path / f"copy of {path.name}")
    scan = load(tmp_path)
    assert told(scan, "32 files are copies of others; each image is used once")
    assert off(scan) < NEAR


def test_a_series_that_was_sent_twice_counts_once(tmp_path):
    make(tmp_path)
    make(tmp_path, copy=1)
    scan = load(tmp_path)
    assert "series 9 is there twice; its first images are used" in scan.decisions
    assert off(scan) < NEAR


def test_two_acquisitions_are_two_runs_to_choose_from(tmp_path):
    make(tmp_path / "a")
    make(tmp_path / "b", series=20, clock="130000", affine=AXIAL)
    with pytest.raises(InputError, match=r"there are 2 runs; choose one by its series \(--series 8,9\)"):
        load(tmp_path)
    assert off(load(tmp_path, series=[20, 21]), affine=AXIAL) < NEAR


def test_two_people_in_one_folder_are_never_mixed(tmp_path):
    make(tmp_path / "a")
    make(tmp_path / "b", study="2")
    runs = convert(tmp_path, tmp_path / "out")
    assert [len(run.files["phase"]) for run in runs] == [2, 2]
    assert len({run.name for run in runs}) == 2
    words = "there are 2 runs; they are of 2 studies, and series do not tell them apart; give the folder or"
    with pytest.raises(InputError, match=words):
        load(tmp_path)
    assert off(load(tmp_path / "b")) < NEAR


# ---------------------------------------------------------------------------------- parts
def test_phase_without_magnitude_is_read_and_what_cannot_be_done_is_said(tmp_path):
    make(tmp_path, parts=("phase",))
    scan = load(tmp_path)
    assert scan.magnitude is None
    assert off(scan) < NEAR
    assert told(scan, "there is no magnitude to the phase of series 8; with a mask the field can be made")


def test_magnitude_alone_is_refused_with_what_is_needed(tmp_path):
    make(tmp_path, parts=("magnitude",))
    with pytest.raises(InputError, match="it needs phase, or real and imaginary parts"):
        load(tmp_path)


@pytest.mark.parametrize("vendor", ["GE", "Siemens"])
def test_a_real_part_without_the_imaginary_one_is_refused_by_name(tmp_path, vendor):
    make(tmp_path, vendor=vendor, parts=("magnitude", "real"))
    with pytest.raises(InputError, match="there is no imaginary part to the real part of series"):
        load(tmp_path)


def test_an_echo_without_its_imaginary_part_is_left_out_with_a_word(tmp_path):
    files = make(tmp_path, vendor="GE", parts=("real", "imaginary"), alternating=True)
    for k in range(8):
        files["imaginary", 1, k].unlink()
    scan = load(tmp_path)
    assert told(scan, "there is no imaginary part of the echo at 12 ms, only the real one; left out")
    assert scan.acquisition.echo_times_s == pytest.approx((0.005,))
    assert off(scan, echoes=(0,)) < 2 * NEAR


def test_ge_without_its_private_elements_is_refused_with_what_was_lost(tmp_path):
    for path in make(tmp_path, vendor="GE").values():
        image = pydicom.dcmread(path)
        image.remove_private_tags()
        image.save_as(path)
    with pytest.raises(InputError, match=r"\(0043,102F\), which was removed from series 8; export again"):
        load(tmp_path)


@pytest.mark.parametrize("lost", [range(8), [3]])
def test_the_only_magnitude_that_is_whole_stands_for_those_of_all_echoes(tmp_path, lost):
    files = make(tmp_path)
    for k in lost:
        files["magnitude", 0, k].unlink()
    scan = load(tmp_path)
    assert told(scan, "only the echo at 12 ms has a magnitude, which stands for that of all echoes")
    assert scan.acquisition.echo_times_s == pytest.approx(TIMES)
    assert off(scan) < NEAR
    found = given_axes(nibabel.Nifti1Image(scan.magnitude[0], scan.space.affine), OBLIQUE)
    assert scan.magnitude.shape == (1, *scan.geometry.shape)
    assert np.corrcoef(found.ravel(), MAGNITUDE[1].ravel())[0, 1] > 0.9999
    (run,) = convert(tmp_path, tmp_path / "out")
    assert [file.name for file in run.files["magnitude"]] == ["acq-greqsm_run-9_echo-2_part-mag_MEGRE.nii"]
    result = reconstruct(scan, default_chain(scan, mask="phase_quality", background="pdf", inversion=["tkd"]))
    assert np.isfinite(result.maps["susceptibility_tkd"]).all()


def test_of_three_echoes_one_without_its_magnitude_is_left_out(tmp_path):
    times = (0.005, 0.012, 0.019)
    magnitude, phase = phantom((14, 12, 8), times)
    files = classic(tmp_path, magnitude, phase, OBLIQUE, echo_times_s=times)
    files["magnitude", 1, 3].unlink()
    scan = load(tmp_path)
    assert told(scan, "the magnitude of other echoes is missing: only those at 5, 19 ms are used")
    assert scan.acquisition.echo_times_s == pytest.approx((0.005, 0.019))
    assert len(scan.phase) == len(scan.magnitude) == 2


# ---------------------------------------------------------------------------------- headers
def test_without_echo_times_they_are_asked_for_and_taken(tmp_path):
    classic(tmp_path, MAGNITUDE[:1], PHASE[:1], OBLIQUE, echo_times_s=None)
    words = r"^the echo times of series 9 are missing; give them in seconds \(--echo-times\)$"
    with pytest.raises(InputError, match=words):
        load(tmp_path)
    scan = load(tmp_path, echo_times_s=[0.005])
    assert off(scan, echoes=(0,)) < NEAR


def test_without_a_field_strength_it_is_asked_for_and_taken(tmp_path):
    for path in make(tmp_path).values():
        edit(path, MagneticFieldStrength=None, ImagingFrequency=None)
    with pytest.raises(
        InputError, match=r"the field strength of series 9 is missing; give it in tesla \(--b0\)$"
    ):
        load(tmp_path)
    assert off(load(tmp_path, b0_tesla=3)) < NEAR


@pytest.mark.parametrize("step_ms", [2e-7, 6e-4])
def test_echo_times_that_differ_from_slice_to_slice_by_rounding_are_one(tmp_path, step_ms):
    for (_, echo, k), path in make(tmp_path, echo_times_s=(0.0049995, 0.012)).items():
        edit(path, EchoTime=f"{(4.9995, 12.0)[echo] + step_ms * ((k % 3) - 1):.9g}")
    scan = load(tmp_path)
    assert off(scan) < NEAR
    assert scan.acquisition.echo_times_s == pytest.approx((0.0049995, 0.012), abs=1e-6)
    assert not scan.notes


def test_without_a_manufacturer_the_sign_is_assumed_and_said(tmp_path):
    make(tmp_path, manufacturer="")
    scan = load(tmp_path)
    assert scan.acquisition.phase_sign == 1
    assert told(scan, "no manufacturer is stated: no rule is known for it, so phase is assumed to grow with")
    assert off(scan) < NEAR


def test_a_slice_of_the_phase_that_is_scaled_otherwise_takes_its_echo_out(tmp_path):
    edit(make(tmp_path)["phase", 1, 3], RescaleSlope=None, RescaleIntercept=None)
    scan = load(tmp_path)
    assert told(scan, "the slices of the phase at 12 ms (series 9) are scaled differently")
    assert off(scan, echoes=(0,)) < NEAR


@pytest.mark.parametrize("syntax", ["implicit", "big endian", "run length"])
def test_other_encodings_hold_the_same_values(tmp_path, syntax):
    for path in make(tmp_path).values():
        image = pydicom.dcmread(path)
        if syntax == "run length":
            image.compress(RLELossless)
            image.save_as(path)
        elif syntax == "implicit":
            image.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
            pydicom.dcmwrite(path, image, implicit_vr=True, little_endian=True)
        else:
            image.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
            image.PixelData = np.frombuffer(image.PixelData, "<i2").byteswap().tobytes()
            pydicom.dcmwrite(path, image, implicit_vr=False, little_endian=False)
    assert off(load(tmp_path)) < NEAR


# ---------------------------------------------------------------------------------- what is given
def test_what_holds_no_dicom_at_all_is_told_so(tmp_path):
    (tmp_path / "notes.txt").write_text("none of an image")
    for given in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(
            InputError, match="no file is DICOM by its first bytes; give DICOM files or a fold"
        ):
            convert(given, tmp_path / "out")


def test_one_file_of_a_series_is_no_scan_and_its_folder_is_asked_for(tmp_path):
    file = make(tmp_path)["phase", 0, 3]
    with pytest.raises(InputError, match=r"give the folder that holds all .*; series 9 holds only 1 slice,"):
        load(file)


def test_a_mask_beside_the_images_hides_them_from_nobody(tmp_path):
    make(tmp_path)
    mask = tmp_path / "mask.nii"
    nibabel.save(nibabel.Nifti1Image(np.ones((14, 12, 8), np.uint8), OBLIQUE), mask)
    with pytest.raises(InputError, match=r"holds DICOM and beside it NIfTI files without a phase.*mask\.nii"):
        load(tmp_path)
    mask.rename(tmp_path.parent / "mask.nii")
    assert load(tmp_path, mask=tmp_path.parent / "mask.nii").mask.all()


# ---------------------------------------------------------------------------------- broken files
@pytest.mark.parametrize(
    ("kept_bytes", "why"),
    [
        (-100, "it is truncated: 236 of 336 bytes of pixels are there"),
        (-336, "truncated"),
        (-340, "its header ends too early; the file is truncated"),
        (-900, "truncated"),
        (400, "its header ends too early; the file is truncated"),
        (200, "its header ends too early; the file is truncated"),
        (100, "it is no DICOM file"),
    ],
)
def test_a_truncated_file_is_told_of_and_its_echo_left_out(tmp_path, kept_bytes, why):
    path = make(tmp_path)["phase", 1, 3]
    path.write_bytes(path.read_bytes()[:kept_bytes])
    (run,) = convert(tmp_path, tmp_path / "out")
    assert any(note.startswith("1 file cannot be read: ") and why in note for note in run.notes)
    assert "slice 4 is missing of the phase at 12 ms (series 9)" in run.notes
    assert len(run.files["phase"]) == 1


def test_a_truncated_enhanced_file_leaves_the_other_echo(tmp_path):
    files = enhanced(tmp_path, MAGNITUDE, PHASE, OBLIQUE, vendor="Siemens")
    path = files[3]  # the phase of the second echo
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    scan = load(tmp_path)
    assert told(scan, "1 file cannot be read: ")
    assert off(scan, echoes=(0,)) < NEAR


def test_empty_files_and_text_that_is_called_dicom_are_counted_and_passed_over(tmp_path):
    make(tmp_path)
    (tmp_path / "empty.dcm").write_bytes(b"")
    (tmp_path / "notes.dcm").write_text("the patient moved in the last series\n")
    scan = load(tmp_path)
    assert told(scan, "2 files cannot be read: 2 as it is no DICOM file")
    assert off(scan) < NEAR


def test_a_folder_of_such_files_alone_is_refused(tmp_path):
    (tmp_path / "notes.dcm").write_text("the patient moved in the last series\n")
    with pytest.raises(InputError, match="cannot be read: it is no DICOM file"):
        convert(tmp_path, tmp_path / "out")
    with pytest.raises(InputError, match="holds neither NIfTI files"):
        load(tmp_path)


def private_syntax(path: Path) -> None:
    """Say that the pixels are compressed in GE's own way."""
    stored = path.read_bytes()
    changed = stored.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.113619.5.2\0\0", 1)
    assert changed != stored
    path.write_bytes(changed)


def test_pixels_of_a_private_compression_are_refused_with_what_helps(tmp_path):
    for path in make(tmp_path).values():
        private_syntax(path)
    words = r"series 9 is compressed in a way that cannot be read \(transfer syntax 1\.2\.840\.113619\.5\.2\)"
    with pytest.raises(InputError, match=words + "; export it uncompressed"):
        load(tmp_path)


def test_deflated_files_are_refused_for_what_they_are(tmp_path):
    for path in make(tmp_path).values():
        image = pydicom.dcmread(path)
        image.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        image.save_as(path)
    with pytest.raises(InputError, match=r"series 8 is compressed in a way that cannot be .*1\.2\.1\.99"):
        load(tmp_path)


def test_one_series_of_a_private_compression_does_not_stop_the_others(tmp_path):
    make(tmp_path / "a")
    for path in make(tmp_path / "b", series=20, clock="130000").values():
        private_syntax(path)
    scan = load(tmp_path)
    assert told(scan, "series 21 is compressed in a way that cannot be read")
    assert off(scan) < NEAR


def test_nothing_is_left_in_the_folder_that_was_opened(tmp_path):
    make(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    load(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_names_of_the_patient_are_nowhere_in_what_was_converted(tmp_path):
    make(tmp_path / "in", description="Made Up gre")
    (run,) = convert(tmp_path / "in", tmp_path / "out")
    text = "".join(str(path) + path.read_text() for path in (tmp_path / "out").glob("*.json"))
    text += str(run)
    assert "Made" not in text.replace(str(tmp_path), "")


@pytest.mark.parametrize("implicit", [True, False])
def test_old_files_without_preamble_are_read_and_converted(tmp_path, implicit):
    for path in make(tmp_path).values():
        without_preamble(path, implicit)
    assert off(load(tmp_path)) < NEAR
