"""Which maps may join which study, whole or not at all, whatever stands in the headers; and metaqsm dicom."""

import dataclasses
import json
import shutil

import nibabel as nib
import numpy as np
import pydicom
import pytest
from back import CHAIN, errors_of
from made import AXIAL, OBLIQUE, classic, phantom

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.dicom.export import export
from napari_metaqsm.io.dicom.source import read_source
from napari_metaqsm.io.load import load
from napari_metaqsm.io.nifti import Space, write

SHAPE = (20, 18, 12)


def space_of(affine, shape=SHAPE, known=True):
    header = nib.Nifti1Header()
    header.set_data_shape(shape)
    header.set_sform(affine, 1)
    return Space(shape, np.array(affine), header, known)


def written(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file()) if folder.exists() else []


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """A folder of classic DICOM, small and axial."""
    folder = tmp_path_factory.mktemp("scan")
    classic(folder, *phantom(), AXIAL)
    return folder


@pytest.fixture(scope="module")
def source(scan):
    return read_source(scan)


CHI = np.random.default_rng(0).uniform(-0.2, 0.2, SHAPE).astype(np.float32)


# ----------------------------------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"maps": {}}, "no map"),
        ({"maps": {"x": CHI[1:]}}, r"x is \(19, 18, 12\) voxels"),
        ({"maps": {"x": np.where(CHI > 0.199, np.nan, CHI)}}, "x has values that are not finite"),
        ({"maps": {"x": np.where(CHI > 0.199, np.inf, CHI)}}, "x has values that are not finite"),
        ({"maps": {"x": CHI * np.float64(1e300)}}, "x has values that are not finite"),
        ({"space": space_of(np.zeros((4, 4)))}, "hold no affine"),
        ({"space": space_of(np.full((4, 4), np.nan))}, "hold no affine"),
        ({"kind": "map"}, "kind is 'map'; it must be one of parametric map, mr series, both"),
        ({"window_ppm": (0.1, 0.1)}, r"window is 0\.1 to 0\.1 ppm"),
        ({"window_ppm": (0.1, float("nan"))}, "window is"),
        ({"space": space_of(AXIAL, known=False)}, "hold no affine"),
        ({"space": space_of(AXIAL + np.eye(4, k=3) * 500)}, "out of the images"),
        ({"space": space_of(AXIAL + np.eye(4, k=3) * 0.3)}, r"lie 0\.3 mm beside"),
        ({"space": space_of(OBLIQUE)}, "out of the images"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_before_anything_is_written(source, tmp_path, changes, message):
    given = {"maps": {"x": CHI}, "space": space_of(AXIAL), "record": {}, **changes}
    with pytest.raises(InputError, match=message):
        export(given.pop("maps"), given.pop("space"), source, tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()


def test_a_second_map_that_fails_takes_the_first_with_it_and_a_series_that_is_there_stays(source, tmp_path):
    given = (space_of(AXIAL), source, tmp_path)
    files = export({"old": CHI, "x": CHI}, *given, record={}, kind="parametric map")
    before = {path: path.read_bytes() for path in written(tmp_path)}
    assert list(before) == files
    with pytest.raises(InputError, match="802_QSM_X_parametric_map is there already"):
        export({"new": CHI, "x": CHI}, *given, record={}, kind="both")
    assert {path: path.read_bytes() for path in written(tmp_path)} == before


@pytest.mark.parametrize("what", [{"PatientID": "M2"}, {"StudyInstanceUID": "1.2.3"}])
def test_images_of_two_patients_or_studies_are_refused(scan, tmp_path, what):
    folder = shutil.copytree(scan, tmp_path / "mixed")
    classic(folder, *phantom(), AXIAL, series=20, copy=1)
    for path in folder.glob("copy1_*"):
        change(path, **what)
    with pytest.raises(InputError, match=r"2 (patients|studies)"):
        read_source(folder)


@pytest.mark.parametrize("what", [{"PatientID": "M2"}, {"StudyInstanceUID": "1.2.3"}])
def test_among_several_patients_or_studies_the_record_tells_which(tmp_path, what):
    """As where two folders were opened together: the map of each goes to its own."""
    maps, inputs = {}, {}
    for name, series in (("first", 8), ("second", 20)):
        folder = tmp_path / "mixed" / name
        classic(folder, *phantom(seed=series), AXIAL, series=series)
        for path in folder.iterdir() if name == "second" else ():
            change(path, **{"StudyInstanceUID": "1.2.4", **what})
        scan = load(folder)
        maps[name], inputs[name] = np.zeros(scan.space.shape, np.float32), dict(scan.sources)
    for name, series in (("first", 8), ("second", 20)):
        record = {"inputs": inputs[name]}
        source = read_source(tmp_path / "mixed", record)
        assert source.series_numbers == {series, series + 1}
        own = read_source(tmp_path / "mixed" / name).originals[0].header
        (file,) = export({"x": maps[name]}, scan.space, source, tmp_path / name, record=record,
                         kind="parametric map")  # fmt: skip
        image = pydicom.dcmread(file)
        assert (image.PatientID, image.StudyInstanceUID) == (own.PatientID, own.StudyInstanceUID)
    with pytest.raises(InputError, match=r"2 (patients|studies)"):
        read_source(tmp_path / "mixed", {"inputs": {}})
    with pytest.raises(InputError, match=r"2 (patients|studies)"):
        read_source(tmp_path / "mixed", {"inputs": {"phase": [{"series": 8, "files": 1, "sha256": "0"}]}})


def change(path, **values):
    dataset = pydicom.dcmread(path)
    for keyword, value in values.items():
        if value is None:
            dataset.pop(keyword, None)
        else:
            with pydicom.config.disable_value_validation():
                setattr(dataset, keyword, value)
    dataset.save_as(path)


@pytest.mark.parametrize("name", ["n" * 300, "/".join(["n" * 200] * 30), "file/in"])
def test_a_folder_that_cannot_be_is_refused(made, tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written to"):
        export({"x": made.chi}, made.space, made.source, tmp_path / name, record={})
    assert written(tmp_path) == [tmp_path / "file"]


def test_a_folder_without_images_is_refused(tmp_path):
    (tmp_path / "note.txt").write_text("no image")
    with pytest.raises(InputError, match="holds no MR images in DICOM"):
        read_source(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        read_source(tmp_path / "absent")


# ------------------------------------------------------------------------------- made from which files
def test_a_map_is_refused_by_a_copy_of_its_source_that_names_another_patient(made, tmp_path):
    """So what the user gave without identity never gets one, and no patient the map of another."""
    same = shutil.copytree(made.folder, tmp_path / "same")
    for number, path in enumerate(sorted(same.iterdir())):
        path.rename(same / f"renamed{number}.dcm")
    maps = {"susceptibility_tkd": made.chi}
    assert export(maps, made.space, read_source(same), tmp_path / "out", record=made.record)
    for path in same.iterdir():
        change(path, PatientName="Someone^Else", PatientID="M2")
    with pytest.raises(InputError, match="made from other DICOM files"):
        export(maps, made.space, read_source(same), tmp_path / "other", record=made.record)
    assert not (tmp_path / "other").exists()


def test_one_of_magnitude_and_phase_is_enough_to_know_the_source(made, tmp_path):
    for part, other in (("magnitude", "phase"), ("phase", "magnitude")):
        folder = tmp_path / part
        folder.mkdir()
        for original in made.source.originals:
            for image in original.stack.images if original.stack.part == part else ():
                shutil.copy(image.header.path, folder)
        files = export(
            {"x": made.chi}, made.space, read_source(folder), folder / "out", record=made.record,
            kind="parametric map",
        )  # fmt: skip
        assert len(files) == 1, other


@pytest.mark.parametrize(
    ("lost", "how"),
    [
        ([("phase", 1, 3)], {"vendor": "GE"}),  # takes its magnitude along
        ([("magnitude", 1, 3)], {}),
        ([("phase", 0, 0), ("magnitude", 1, 11)], {}),
        ([], {"copy": 1}),
        ([], {"vendor": "GE", "parts": ("magnitude", "real", "imaginary")}),
        ([], {"parts": ("real", "imaginary")}),
    ],
)
def test_a_map_is_known_by_whatever_of_its_source_was_used(tmp_path, lost, how):
    """Of a scan with missing slices, of one that was sent twice, and of real and imaginary parts."""
    folder = tmp_path / "in"
    files = classic(folder, *phantom(), AXIAL, **how)
    if "copy" in how:
        classic(folder, *phantom(), AXIAL)
    for key in lost:
        files[key].unlink()
    scan, source = load(folder), read_source(folder)
    maps = {"x": np.zeros(scan.space.shape, np.float32)}
    record = {"inputs": dict(scan.sources)}
    assert export(maps, scan.space, source, tmp_path / "out", record=record, kind="mr series")
    other = classic(tmp_path / "other", *phantom(seed=1), AXIAL, **how)
    for key in lost:
        other[key].unlink()
    with pytest.raises(InputError, match="other DICOM files"):
        read_source(tmp_path / "other").check_made(record)


def test_the_magnitude_of_the_scan_is_taken_among_all_series_of_a_study(scan, tmp_path):
    folder = shutil.copytree(scan, tmp_path / "study")
    # A localizer-like series before it, elsewhere, and a reconstruction of it after it, in the same place.
    sagittal = np.array([[0, 0, 2.0, -30], [0.8, 0, 0, -20], [0, 0.8, 0, 5], [0, 0, 0, 1.0]])
    classic(folder, *phantom((16, 14, 9)), sagittal, series=1, parts=("magnitude",), copy=1)
    classic(folder, *phantom(), AXIAL, series=30, parts=("magnitude",), copy=2)
    source = read_source(folder)
    files = export({"x": CHI}, space_of(AXIAL), source, tmp_path / "out", record={}, kind="mr series")
    assert {pydicom.dcmread(path).SeriesNumber for path in files} == {801}


def test_series_numbers_that_are_taken_are_left_out(scan, tmp_path):
    folder = shutil.copytree(scan, tmp_path / "study")
    classic(folder, *phantom(), AXIAL, series=801, parts=("magnitude",), copy=1)
    source = read_source(folder)
    files = export({"x": CHI, "y": CHI}, space_of(AXIAL), source, tmp_path / "out", record={})
    firsts = dict.fromkeys(file.parent / "0001.dcm" for file in files)
    assert [pydicom.dcmread(path).SeriesNumber for path in firsts] == [802, 803, 804, 805]


@pytest.mark.parametrize("kind", ["parametric map", "mr series"])
def test_the_number_of_an_earlier_export_is_taken(scan, tmp_path, kind):
    """Of one that lies among the source's files, whatever its kind, and of one in the same folder."""
    folder = shutil.copytree(scan, tmp_path / "study")
    for out in (folder / "dicom", tmp_path / "other"):
        given = (space_of(AXIAL), read_source(folder), out)
        first, second = (
            export({name: CHI}, *given, record={}, kind=kind)[0] for name in (f"a {out.name}", "b")
        )
        assert first.parent != second.parent
    numbers = [pydicom.dcmread(file).SeriesNumber for file in written(tmp_path) if file.name == "0001.dcm"]
    assert sorted(numbers) == [801, 802, 803, 804]
    with pytest.raises(InputError, match=r"804_QSM_B_.* is there already"):
        export({"b": CHI}, *given, record={}, kind=kind)
    # Of another study it takes none.
    for path in (tmp_path / "other").rglob("*.dcm"):
        change(path, StudyInstanceUID="1.2.9")
    (file, *_) = export({"c": CHI}, *given, record={}, kind=kind)
    assert pydicom.dcmread(file).SeriesNumber == 803


@pytest.mark.parametrize(("number", "first"), [(21_474_837, 1), (2**31 - 1, 1), (-3, 101), (None, 101)])
def test_series_numbers_stay_within_what_dicom_has(scan, tmp_path, number, first):
    folder = shutil.copytree(scan, tmp_path / "study")
    for path in folder.iterdir():
        change(path, SeriesNumber=number)
    files = export({"x": CHI}, space_of(AXIAL), read_source(folder), tmp_path / "out", record={})
    assert [pydicom.dcmread(path).SeriesNumber for path in (files[0], files[-1])] == [first, first + 1]


@pytest.mark.parametrize("deidentify", [False, True])
def test_what_was_once_compressed_with_loss_says_so_in_the_maps(scan, tmp_path, deidentify):
    folder = shutil.copytree(scan, tmp_path / "study")
    for path in folder.iterdir():
        change(
            path,
            LossyImageCompression="01",
            LossyImageCompressionRatio="10.2",
            LossyImageCompressionMethod="ISO_10918_1",
        )
    source = read_source(folder)
    files = export({"x": CHI}, space_of(AXIAL), source, tmp_path / "out", record={}, deidentify=deidentify)
    for path in (files[0], files[-1]):
        image = pydicom.dcmread(path)
        assert (image.LossyImageCompression, image.LossyImageCompressionRatio) == ("01", 10.2)
        assert image.LossyImageCompressionMethod == "ISO_10918_1"
        assert errors_of(path) == []


# --------------------------------------------------------------------------------------- any geometry
@pytest.mark.parametrize("flip", [(), (0,), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
def test_axes_of_the_file_do_not_matter(source, tmp_path, flip, order):
    reference = export({"x": CHI}, space_of(AXIAL), source, tmp_path / "a", record={}, kind="parametric map")
    image = nib.Nifti1Image(CHI, AXIAL)
    turned = image.as_reoriented([[order[n], -1 if n in flip else 1] for n in range(3)])
    space = space_of(turned.affine, turned.shape)
    chi = np.asarray(turned.dataobj)
    files = export({"x": chi}, space, source, tmp_path / "b", record={}, kind="parametric map")
    one, other = (pydicom.dcmread(f[0]) for f in (reference, files))
    assert one.FloatPixelData == other.FloatPixelData
    assert one.PerFrameFunctionalGroupsSequence == other.PerFrameFunctionalGroupsSequence


def test_a_part_of_the_map_keeps_its_place(source, tmp_path):
    affine = AXIAL.copy()
    affine[:3, 3] = (AXIAL @ [3, 4, 5, 1])[:3]
    part = CHI[3:12, 4:10, 5:9]
    files = export({"x": part}, space_of(affine, part.shape), source, tmp_path, record={}, kind="mr series")
    whole = export({"x": CHI}, space_of(AXIAL), source, tmp_path / "whole", record={}, kind="mr series")
    for path, other in zip(files, whole[5:9], strict=True):
        image, around = pydicom.dcmread(path), pydicom.dcmread(other)
        np.testing.assert_array_equal(image.pixel_array, around.pixel_array[4:10, 3:12])
        assert image.SourceImageSequence == around.SourceImageSequence


# ------------------------------------------------------------------------------------- odd headers
@pytest.mark.parametrize(
    "values",
    [
        {"SpecificCharacterSet": "ISO_IR 100", "PatientName": "Müller^Jörg"},
        {"SpecificCharacterSet": "ISO_IR 192", "PatientName": "Wang^Xiao=王^小", "StudyDescription": "頭部"},
        {"SpecificCharacterSet": ["", "ISO 2022 IR 87"], "PatientName": "Yamada^Tarou=山田^太郎"},
        {"PatientName": "single"},
        {"PatientSex": "F ", "PatientBirthDate": "1980.05.01"},
        {"PatientSex": "unknown", "StudyDate": "20210902", "StudyTime": "12:18:16"},
        {"PatientSex": None, "PatientBirthDate": None, "AccessionNumber": None, "StudyID": None},
        {"PatientIdentityRemoved": "YES", "DeidentificationMethod": "by hand", "PatientName": "Anon"},
        {"OtherPatientIDs": ["a1", "b2"], "EthnicGroup": "x", "PatientComments": "seen"},
        {"BodyPartExamined": None, "PatientPosition": None, "SliceThickness": None, "ScanningSequence": None},
        {"Manufacturer": None, "ManufacturerModelName": None, "SeriesNumber": None},
    ],
)  # fmt: skip
def test_what_stands_in_the_source_stands_in_the_maps_as_it_is(scan, tmp_path, values):
    folder = shutil.copytree(scan, tmp_path / "in")
    for path in folder.iterdir():
        change(path, **values)
    files = export({"x": CHI}, space_of(AXIAL), read_source(folder), tmp_path / "out", record={})
    for path in (files[0], files[-1]):
        with pydicom.config.disable_value_validation():
            image = pydicom.dcmread(path)
            for keyword, value in values.items():
                if value is not None:
                    given = list(value) if isinstance(value, list) else value
                    stored = image[keyword].value
                    assert (list(stored) if isinstance(value, list) else str(stored).rstrip()) == (
                        given if isinstance(value, list) else given.rstrip()
                    ), keyword
            assert image.StudyInstanceUID
            assert image.FrameOfReferenceUID


@pytest.mark.parametrize(
    ("keyword", "stored"),
    [
        ("SeriesNumber", b"12,5"),
        ("SpacingBetweenSlices", b"2,0 "),
        ("SliceThickness", b"thin"),
        ("EchoTrainLength", b"1e999 "),
        ("NumberOfTemporalPositions", b"1e999 "),
        ("AcquisitionDuration", b"abc "),
        ("PatientWeight", b"70,5"),
        ("PatientAge", b"old "),
    ],
)
def test_a_value_that_cannot_be_read_is_no_reason_to_fail(scan, tmp_path, keyword, stored):
    folder = shutil.copytree(scan, tmp_path / "in")
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        tag = pydicom.tag.Tag(keyword)
        vr = pydicom.datadict.dictionary_VR(tag)
        dataset._dict[tag] = pydicom.dataelem.RawDataElement(tag, vr, len(stored), stored, 0, False, True)
        dataset.save_as(path)
    files = export({"x": CHI}, space_of(AXIAL), read_source(folder), tmp_path / "out", record={})
    for path in (files[0], files[-1]):
        image = pydicom.dcmread(path)
        assert image.PatientID
        assert image.SeriesNumber in (101, 102, 801, 802)


def test_several_values_where_one_must_be_are_refused(scan, tmp_path):
    folder = shutil.copytree(scan, tmp_path / "in")
    for path in folder.iterdir():
        change(path, StudyInstanceUID=["1.2", "1.3"])
    with pytest.raises(InputError, match="several StudyInstanceUIDs; it must have one"):
        read_source(folder)


def test_maps_of_a_source_without_a_frame_of_reference_share_one(scan, tmp_path):
    folder = shutil.copytree(scan, tmp_path / "in")
    for path in folder.iterdir():
        change(path, FrameOfReferenceUID=None)
    files = export({"x": CHI, "y": CHI}, space_of(AXIAL), read_source(folder), tmp_path / "out", record={})
    assert len({pydicom.dcmread(path).FrameOfReferenceUID for path in files}) == 1


def test_text_is_of_a_length_and_of_letters_that_dicom_takes(source, tmp_path):
    title = "χ₋ by an ÜBER-long\\method " * 8
    parameters = {f"parameter_{n}": n * 1.5 for n in range(200)}
    step = {"stage": "inversion", "method": "m", "title": title, "parameters": parameters, "result": "x"}
    record = {"steps": [step]}
    for path in export({"x": CHI}, space_of(AXIAL), source, tmp_path, record=record):
        image = pydicom.dcmread(path)
        assert image.SeriesDescription.startswith("QSM chi- by an UBER-long/method")
        assert len(image.SeriesDescription) <= 64
        assert len(image.DerivationDescription) <= 1024
        assert image.DerivationDescription.isascii()
    assert errors_of(path) == []


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"steps": None, "reference": 3, "inputs": []},
        {"steps": ["x", {"result": "x"}], "inputs": {"phase": [1]}},
        {"steps": [{"result": "x", "parameters": 3, "title": None}], "inputs": {"phase": "1"}},
    ],
)
def test_a_record_that_says_little_is_no_reason_to_fail(source, tmp_path, record):
    (file,) = export({"x": CHI}, space_of(AXIAL), source, tmp_path, record=record, kind="parametric map")
    assert pydicom.dcmread(file).SeriesDescription == "QSM x [ppm]"


@pytest.mark.parametrize(
    ("acquisition", "said"),
    [
        (
            {"b0_tesla": 3.0, "echo_times_s": [0.00246], "phase_sign": -1, "phase_pi": 4096},
            ". 3 T, echo time 2.46 ms, phase read as falling with the field. field nonlinear_fit",
        ),
        (
            {"b0_tesla": 7, "echo_times_s": [0.004, 0.0085], "phase_sign": 1},
            ". 7 T, echo times 4, 8.5 ms, phase read as growing with the field. field nonlinear_fit",
        ),
        ({"b0_tesla": None, "echo_times_s": "ab", "phase_sign": [1]}, "Prisma_fit. field nonlinear_fit"),
        ("x", "Prisma_fit. field nonlinear_fit"),
    ],
)
def test_how_the_phase_was_read_can_be_seen_in_the_pacs(source, tmp_path, acquisition, said):
    record = {"steps": CHAIN, "acquisition": acquisition}
    maps = {"susceptibility_tkd": CHI}
    for path in export(maps, space_of(AXIAL), source, tmp_path, record=record):
        assert said in pydicom.dcmread(path).DerivationDescription
    given = {**record, "steps": CHAIN[1:]}  # from a field that was given: of its phase nothing is known
    (path,) = export(maps, space_of(AXIAL), source, tmp_path / "f", record=given, kind="parametric map")
    assert "phase" not in pydicom.dcmread(path).DerivationDescription


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"region": "whole brain", "mean_ppm": 0.1}, " Zero is the mean of: whole brain."),
        ({"region": "left thalamus", "mean_ppm": 0.1}, " Zero is the mean of: left thalamus."),
        ({"region": "region", "mean_ppm": 0.1}, " Zero is the mean of: a region that was given."),
        ({"region": "/home/x/a.nii", "mean_ppm": 0.1}, " Zero is the mean of: a region that was given."),
        ({"region": "offset", "mean_ppm": -0.02}, " -0.02 ppm was subtracted."),
        ({"region": "none", "mean_ppm": 0.0}, " Not referenced."),
        ({"region": None}, "threshold 0.2)."),
    ],
)
def test_what_is_zero_can_be_seen_in_the_pacs(source, tmp_path, about, said):
    record = {"steps": CHAIN, "reference": {"susceptibility_tkd": about}}
    maps = {"susceptibility_tkd": CHI}
    (path,) = export(maps, space_of(AXIAL), source, tmp_path, record=record, kind="parametric map")
    assert pydicom.dcmread(path).DerivationDescription.endswith(said)


@pytest.mark.parametrize("series", ["x", [8], 10**30])
def test_a_record_of_series_that_cannot_be_told_is_not_taken_for_this_source(source, tmp_path, series):
    record = {"inputs": {"phase": [{"series": series, "files": 1, "sha256": None}]}}
    with pytest.raises(InputError, match=r"other DICOM files \(series .* in their record\)"):
        export({"x": CHI}, space_of(AXIAL), source, tmp_path, record=record)


# --------------------------------------------------------------------------------- the command line
@pytest.fixture
def maps(made, tmp_path):
    """A folder as metaqsm run writes it."""
    folder = tmp_path / "maps"
    folder.mkdir()
    steps = [*CHAIN, {**CHAIN[-1], "method": "l2", "title": "Closed-form L2", "result": "susceptibility_l2"}]
    for name, factor in (("tkd", 1), ("l2", 0.5)):
        write(folder / f"susceptibility_{name}.nii.gz", factor * made.chi, made.space)
    (folder / "record.json").write_text(json.dumps({**made.record, "steps": steps}))
    return folder


def test_a_folder_of_maps_becomes_series(metaqsm, maps, made):
    code, out, err = metaqsm("dicom", maps, "--source", made.folder, "--window", "-0.05,0.15")
    assert (code, err) == (0, "")
    names = ["801_QSM_TKD_parametric_map", "802_QSM_CLOSED_FORM_parametric_map", "803_QSM_TKD_mr_series",
             "804_QSM_CLOSED_FORM_mr_series"]  # fmt: skip
    assert out.splitlines() == [str(maps / "dicom" / name) for name in names]
    image = pydicom.dcmread(maps / "dicom" / names[3] / "0003.dcm")
    assert (image.WindowCenter, image.WindowWidth) == (50, 200)
    assert "inversion l2" in image.DerivationDescription
    assert "tkd" not in image.DerivationDescription
    one = pydicom.dcmread(maps / "dicom" / names[0] / "0001.dcm")
    assert one.FloatPixelData == pydicom.dcmread(made.one).FloatPixelData


def test_one_map_of_one_kind_without_identity(metaqsm, maps, made, tmp_path):
    code, out, _ = metaqsm(
        "dicom",
        maps,
        "--source",
        made.folder,
        "--maps",
        "l2",
        "--kind",
        "map",
        "--deidentify",
        "--out",
        "out",
    )
    assert code == 0
    (file,) = written(tmp_path / "out")
    assert out.strip() == str(file.parent.relative_to(tmp_path))
    image = pydicom.dcmread(file)
    assert image.PatientIdentityRemoved == "YES"
    assert "Made" not in str(image.PatientName)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--kind", "maps"], "--kind is 'maps'; it must be one of map, series, both"),
        (["--maps", "medi"], "--maps is 'medi'; it must be of tkd, l2"),
        (["--maps", " ,"], "there is no map to export"),
        (["--window", "0.1"], "--window is '0.1'"),
        (["--window", "0.2,0.1"], "--window is '0.2,0.1'"),
        (["--source", "absent"], "absent does not exist"),
        (["--source", "maps"], "holds no MR images"),
    ],
)
def test_the_command_refuses_in_one_line(metaqsm, maps, made, tmp_path, arguments, message):
    given = [] if "--source" in arguments else ["--source", made.folder]
    code, out, err = metaqsm("dicom", maps, *given, *arguments, "--out", "out")
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_grid_of_another_scan_is_refused_by_its_place(made, source, tmp_path):
    with pytest.raises(InputError, match="give the series that it was made from"):
        export({"x": made.chi}, made.space, source, tmp_path, record={})
    moved = dataclasses.replace(made.space, affine=made.space.affine + np.eye(4, k=3) * 0.5)
    with pytest.raises(InputError, match="beside those of"):
        export({"x": made.chi}, moved, made.source, tmp_path, record={})
