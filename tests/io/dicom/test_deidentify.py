"""Without identity where that is asked for: nothing of the patient, a date or a place is left in any byte."""

import re

import numpy as np
import pydicom
import pytest
from back import CHAIN, errors_of

from napari_metaqsm.io.dicom.export import export
from napari_metaqsm.io.dicom.files import open_unpacked

WORDS = {"PN", "LO", "SH", "ST", "LT", "UC", "UT", "AE", "UN"}
TIMES = {"DA", "TM", "DT"}
# The machine and the terms of DICOM name nobody.
OF_NO_ONE = {
    "Manufacturer", "ManufacturerModelName", "CodeMeaning", "CodeValue", "CodingSchemeDesignator",
    "DimensionDescriptionLabel",
}  # fmt: skip


def elements_of(dataset):
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from elements_of(item)
        else:
            yield element


def values_of(path, kinds):
    """Values of some kinds that stand in a file, at any depth, private ones too."""
    with open_unpacked(path) as file:
        dataset = pydicom.dcmread(file)
    found = set()
    for element in elements_of(dataset):
        if element.VR in kinds and element.keyword not in OF_NO_ONE:
            values = element.value if element.VM > 1 else [element.value]
            texts = [v.decode("latin-1") if isinstance(v, bytes) else str(v) for v in values]
            found.update(texts)
    return found


@pytest.fixture(scope="module")
def without_identity(tmp_path_factory):
    """The files of each case, written once."""
    made = {}

    def files(exported):
        if exported.folder not in made:
            made[exported.folder] = export(
                {"susceptibility_tkd": exported.chi},
                exported.space,
                exported.source,
                tmp_path_factory.mktemp("anonymous"),
                record=exported.record,
                deidentify=True,
            )
        return made[exported.folder]

    return files


@pytest.fixture
def anonymous(exported, without_identity):
    return without_identity(exported)


def test_no_word_number_or_time_of_the_source_is_left(exported, anonymous):
    paths = {original.stack.header.path for original in exported.source.originals}
    texts = {text for path in paths for text in values_of(path, WORDS)}
    words = texts | {part for text in texts for part in re.split(r"[\^=\s]", text)}
    words = {word for word in words if len(word) >= 5 and not word.isdigit()}
    uids = {
        uid
        for path in paths
        for uid in values_of(path, {"UI"})
        if uid and not uid.startswith("1.2.840.10008.")
    }
    times = {text[:8] for path in paths for text in values_of(path, TIMES) if text}
    header = exported.source.originals[0].header
    machine = f"{header.Manufacturer} {header.ManufacturerModelName}"  # named where the derivation is told
    assert str(header.PatientName) in words
    assert len(uids) > 3
    assert len(times) > 1
    for path in anonymous:
        content = path.read_bytes().decode("latin-1")
        assert [word for word in words if word in content and word not in machine] == []
        assert [uid for uid in uids if uid in content] == []
        of_time = values_of(path, TIMES)
        assert [text for text in times if any(text in other for other in of_time)] == []
        assert of_time <= {"", "None", "19000101", "000000"}


def test_the_same_maps_can_be_read_without_it(exported, anonymous):
    one, *slices = anonymous
    assert errors_of(one) == []
    assert errors_of(slices[0]) == []
    with_identity = pydicom.dcmread(exported.one)
    without = pydicom.dcmread(one)
    assert without.FloatPixelData == with_identity.FloatPixelData
    # Frames of one file stay those of one file.
    assert len(without.SourceImageSequence) == len(with_identity.SourceImageSequence)
    for path, other in zip(slices, exported.series, strict=True):
        image, known = pydicom.dcmread(path), pydicom.dcmread(other)
        np.testing.assert_array_equal(image.pixel_array, known.pixel_array)
        assert image.ImagePositionPatient == known.ImagePositionPatient
        assert image.ImageOrientationPatient == known.ImageOrientationPatient


def test_it_says_that_it_is_of_nobody_and_all_of_it_hangs_together(made, tmp_path):
    files = export(
        {"susceptibility_tkd": made.chi, "Ms Made Up, born 1.1.": made.chi},
        made.space,
        made.source,
        tmp_path,
        record={"steps": CHAIN, "reference": {"susceptibility_tkd": {"region": "Ms Made Up"}}},
        deidentify=True,
    )
    assert not any(b"Made Up" in path.read_bytes() for path in files)
    images = [pydicom.dcmread(path) for path in files]
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID"):
        (value,) = {str(image[keyword].value) for image in images}
        assert value != str(made.source.originals[0].header[keyword].value)
    assert len({image.SeriesInstanceUID for image in images}) == 4
    for image in images:
        assert image.PatientIdentityRemoved == "YES"
        assert image.LongitudinalTemporalInformationModified == "REMOVED"
        assert image.DeidentificationMethodCodeSequence[0].CodeValue == "113100"
        assert image.PatientName == image.PatientID
        assert not image.PatientSex
        assert not image.PatientBirthDate
        assert not image.StudyDate
    # A name that someone gave a map may be a patient's: the record's title stands for it, or none.
    assert {image.SeriesDescription for image in images} == {
        f"QSM {title} [{unit}]" for title in ("TKD", "map") for unit in ("ppm", "ppb")
    }
    assert not any("Made" in str(path.relative_to(tmp_path)) for path in files)
    # Frames and slices refer to the same images, under the same other numbers.
    one = next(image for image in images if "FloatPixelData" in image)
    of_frames = [
        own.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        for own in one.PerFrameFunctionalGroupsSequence
    ]
    slices = [image for image in images if image.SeriesDescription == "QSM TKD [ppb]"]
    assert of_frames == [image.SourceImageSequence[0].ReferencedSOPInstanceUID for image in slices]


def test_two_exports_have_nothing_in_common(made, tmp_path):
    both = [
        pydicom.dcmread(
            export(
                {"x": made.chi}, made.space, made.source, tmp_path / name, record={}, kind="parametric map",
                deidentify=True,
            )[0]
        )
        for name in "ab"
    ]  # fmt: skip
    for keyword in (
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "SOPInstanceUID",
        "FrameOfReferenceUID",
        "PatientID",
    ):
        assert both[0][keyword].value != both[1][keyword].value
