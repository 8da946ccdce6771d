"""A map as a parametric map, read back by pydicom, highdicom and dcm2niix, and by a validator."""

import highdicom
import numpy as np
import pydicom
import pytest
from back import check_same_image, errors_of, on_the_map, through_dcm2niix


@pytest.fixture
def image(exported):
    return pydicom.dcmread(exported.one)


def frames(image):
    """Pixels, position and the rest of each frame."""
    (shared,) = image.SharedFunctionalGroupsSequence
    pixels = np.frombuffer(image.FloatPixelData, "<f4").reshape(
        image.NumberOfFrames, image.Rows, image.Columns
    )
    for values, own in zip(pixels, image.PerFrameFunctionalGroupsSequence, strict=True):
        yield values, own.PlanePositionSequence[0].ImagePositionPatient, own, shared


def test_every_pixel_is_the_voxel_at_its_place_to_the_last_bit(exported, image):
    for values, position, _, shared in frames(image):
        orientation = shared.PlaneOrientationSequence[0].ImageOrientationPatient
        spacing = shared.PixelMeasuresSequence[0].PixelSpacing
        expected = on_the_map(exported, position, orientation, spacing, values.shape)
        np.testing.assert_array_equal(values, expected)
    assert image.NumberOfFrames * image.Rows * image.Columns == exported.chi.size


def test_frames_stand_in_the_order_of_the_slices(image):
    (shared,) = image.SharedFunctionalGroupsSequence
    directions = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float).reshape(2, 3)
    heights = [np.array(p, float) @ np.cross(*directions) for _, p, _, _ in frames(image)]
    assert heights == sorted(heights)
    numbers = [own.FrameContentSequence[0].DimensionIndexValues for _, _, own, _ in frames(image)]
    assert numbers == list(range(1, len(heights) + 1))
    assert image.DimensionOrganizationType == "3D"


def test_each_frame_refers_to_the_magnitude_at_its_place(exported, image):
    images = exported.source_images()
    for _, position, own, _ in frames(image):
        (reference,) = own.DerivationImageSequence[0].SourceImageSequence
        source = images[reference.ReferencedSOPInstanceUID, reference.get("ReferencedFrameNumber")]
        assert source.part == "magnitude"
        np.testing.assert_allclose(source.position, [float(x) for x in position], atol=1e-9)
    (series,) = image.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == exported.source.originals[0].header.SeriesInstanceUID


def test_values_are_in_ppm_of_magnetic_susceptibility(exported, image):
    (shared,) = image.SharedFunctionalGroupsSequence
    (mapping,) = shared.RealWorldValueMappingSequence
    (unit,) = mapping.MeasurementUnitsCodeSequence
    assert (unit.CodeValue, unit.CodingSchemeDesignator) == ("[ppm]", "UCUM")
    (quantity,) = mapping.QuantityDefinitionSequence[0].ConceptCodeSequence
    assert (quantity.CodeValue, quantity.CodingSchemeDesignator) == ("126396", "DCM")
    assert (mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) == (1, 0)
    assert mapping.DoubleFloatRealWorldValueFirstValueMapped == exported.chi.min()
    assert mapping.DoubleFloatRealWorldValueLastValueMapped == exported.chi.max()
    (window,) = shared.FrameVOILUTSequence
    assert (window.WindowCenter, window.WindowWidth) == (0, 0.2)
    assert window.VOILUTFunction == "LINEAR_EXACT"  # LINEAR is of no meaning below a width of 1


def test_dcm2niix_makes_the_same_image_of_it(exported, tmp_path):
    image = through_dcm2niix(exported.one.parent, tmp_path / "out")
    check_same_image(image, exported, scale=1, tolerance_ppm=1e-7)


def test_highdicom_gives_the_volume_in_its_place(exported):
    volume = highdicom.imread(exported.one).get_volume(apply_real_world_transform=True)
    ras = np.diag([-1.0, -1, 1, 1]) @ volume.affine
    voxel = np.linalg.inv(exported.space.affine) @ ras
    index = np.indices(volume.array.shape).reshape(3, -1)
    there = np.round(voxel[:3, :3] @ index + voxel[:3, 3:]).astype(int)
    np.testing.assert_allclose(volume.array.ravel(), exported.chi[tuple(there)], rtol=1e-12)


def test_a_validator_finds_no_error(exported):
    assert errors_of(exported.one) == []


def test_it_is_a_series_of_its_own_in_the_study_of_the_source(exported, image):
    header = exported.source.originals[0].header
    shared = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyID",
              "StudyDate", "StudyTime", "FrameOfReferenceUID", "StudyDescription")  # fmt: skip
    for keyword in shared:
        assert image.get(keyword) == header.get(keyword), keyword
    assert image.SeriesInstanceUID not in {
        header.SeriesInstanceUID, *(pydicom.dcmread(p).SeriesInstanceUID for p in exported.series[:1]),
    }  # fmt: skip
    assert image.SeriesNumber == 100 * header.SeriesNumber + 1
    assert image.SeriesDescription == "QSM TKD [ppm]"
    assert image.ContentLabel == "QSM_TKD"
    assert "inversion tkd (threshold 0.2)" in image.DerivationDescription
    (equipment,) = image.ContributingEquipmentSequence
    assert equipment.Manufacturer == image.Manufacturer == "napari-metaqsm"
