"""A map as a classic MR series, read back by pydicom, by dcm2niix, and by a validator."""

import dataclasses

import numpy as np
import pydicom
import pytest
from back import check_same_image, errors_of, map_on, on_the_map, through_dcm2niix

from napari_metaqsm.io.dicom.export import export


@pytest.fixture
def slices(exported):
    return [pydicom.dcmread(path) for path in exported.series]


def test_every_pixel_has_the_value_of_the_voxel_at_its_place(exported, slices):
    for image in slices:
        expected = on_the_map(
            exported,
            image.ImagePositionPatient,
            image.ImageOrientationPatient,
            image.PixelSpacing,
            (image.Rows, image.Columns),
        )
        (mapping,) = image.RealWorldValueMappingSequence
        assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == "[ppm]"
        assert mapping.QuantityDefinitionSequence[0].ConceptCodeSequence[0].CodeValue == "126396"
        ppm = image.pixel_array * mapping.RealWorldValueSlope + mapping.RealWorldValueIntercept
        np.testing.assert_allclose(ppm, expected, atol=0.50001e-3)
        np.testing.assert_array_equal(ppm[expected == 0], 0)
        # What a viewer that applies the slope shows, and one that does not.
        shown = image.pixel_array * float(image.RescaleSlope) + float(image.RescaleIntercept)
        np.testing.assert_array_equal(shown, image.pixel_array)
        np.testing.assert_allclose(shown, 1000 * ppm, rtol=1e-12)
        first, last = mapping.RealWorldValueFirstValueMapped, mapping.RealWorldValueLastValueMapped
        assert first <= image.pixel_array.min()
        assert image.pixel_array.max() <= last
    assert sum(np.prod(i.pixel_array.shape) for i in slices) == exported.chi.size


def test_dcm2niix_makes_the_same_image_of_it(exported, tmp_path):
    image = through_dcm2niix(exported.series[0].parent, tmp_path / "out")
    check_same_image(image, exported, scale=1000, tolerance_ppm=0.501e-3)


def test_a_validator_finds_no_error(exported):
    assert errors_of(exported.series[len(exported.series) // 2]) == []


def test_each_slice_refers_to_the_magnitude_at_its_place(exported, slices):
    images = exported.source_images()
    for one in slices:
        (reference,) = one.SourceImageSequence
        source = images[reference.ReferencedSOPInstanceUID, reference.get("ReferencedFrameNumber")]
        assert source.part == "magnitude"
        np.testing.assert_allclose(source.position, [float(x) for x in one.ImagePositionPatient], atol=1e-9)
        np.testing.assert_allclose(
            source.orientation, [float(x) for x in one.ImageOrientationPatient], atol=1e-9
        )


def test_it_is_a_series_of_its_own_in_the_study_of_the_source(exported, slices):
    header = exported.source.originals[0].header
    shared = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyID",
              "StudyDate", "StudyTime", "FrameOfReferenceUID", "StudyDescription", "AccessionNumber",
              "PatientWeight", "SpecificCharacterSet")  # fmt: skip
    assert header.PatientName
    for image in slices:
        for keyword in shared:
            assert image.get(keyword) == header.get(keyword), keyword
        assert image.file_meta.MediaStorageSOPInstanceUID == image.SOPInstanceUID
        assert image.file_meta.MediaStorageSOPClassUID == image.SOPClassUID == pydicom.uid.MRImageStorage
    assert {image.SeriesInstanceUID for image in slices} != {header.SeriesInstanceUID}
    assert len({image.SeriesInstanceUID for image in slices}) == 1
    assert len({image.SOPInstanceUID for image in slices}) == len(slices)
    assert [image.InstanceNumber for image in slices] == list(range(1, len(slices) + 1))
    assert {image.SeriesNumber for image in slices} == {100 * header.SeriesNumber + 2}
    heights = [float(image.SliceLocation) for image in slices]
    assert heights == sorted(heights)


def test_what_it_is_stands_in_it(made):
    image = pydicom.dcmread(made.series[0])
    assert image.SeriesDescription == "QSM TKD [ppb]"
    assert image.ImageType[:2] == ["DERIVED", "SECONDARY"]
    assert (image.WindowCenter, image.WindowWidth, image.RescaleType) == (0, 200, "PPB")
    assert image.Manufacturer == "napari-metaqsm"
    assert image.DerivationDescription.startswith("Rounded to 1 ppb. ")
    for part in ("inversion tkd (threshold 0.2)", "field nonlinear_fit (iterations 30)", "Prisma_fit"):
        assert part in image.DerivationDescription
    assert "home" not in image.DerivationDescription
    assert image.RecognizableVisualFeatures == "NO"


@pytest.mark.parametrize(("largest_ppm", "slope"), [(32.7, 1), (33.0, 10), (400.0, 100)])
def test_nothing_is_clipped_however_large(made, tmp_path, largest_ppm, slope):
    big = dataclasses.replace(made, chi=map_on(made.space, largest_ppm))
    assert np.abs(big.chi).max() > 0.99 * largest_ppm
    files = export(
        {"x": big.chi}, big.space, big.source, tmp_path, record={}, kind="mr series", window_ppm=(-1, 3)
    )
    for image in map(pydicom.dcmread, files):
        assert float(image.RescaleSlope) == slope
        assert (image.WindowCenter, image.WindowWidth) == (1000, 4000)
        assert image.DerivationDescription.startswith(f"Rounded to {slope} ppb. ")
        expected = on_the_map(
            big, image.ImagePositionPatient, image.ImageOrientationPatient, image.PixelSpacing,
            (image.Rows, image.Columns),
        )  # fmt: skip
        (mapping,) = image.RealWorldValueMappingSequence
        ppm = image.pixel_array * mapping.RealWorldValueSlope
        np.testing.assert_allclose(ppm, expected, atol=0.50001e-3 * slope)
